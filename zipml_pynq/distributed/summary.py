"""The first pass over raw chunks: what is known of columns, labels and weights.

Sums of columns are integers, so that means and ranges do not depend on how rows are cut or where
they lie (:mod:`zipml_pynq.data.columns`). Means by weights are merged in the order of chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.checks import check_array, check_data, check_finite_labels
from zipml_pynq.data.columns import Columns
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.errors import ArgumentError

#: Rows of a chunk, their labels, and their weights, if there are any.
Chunk = tuple[Any, NDArray, NDArray[np.float64] | None]


def raw(X: Any, y: Any, w: Any = None) -> Chunk:
    """A chunk's rows, sparse in CSR, with labels and weights as arrays, without rows of weight 0.

    Raises
    ------
    ArgumentError
        Other than one label, or one weight, a row; or a weight that is negative or not finite.
    """
    X, y, w = (v.to_numpy() if hasattr(v, "to_numpy") else v for v in (X, y, w))
    X = X.tocsr() if hasattr(X, "tocsr") else np.asarray(X)
    y = np.asarray(y)
    if len(y) != X.shape[0]:
        raise ArgumentError(
            f"y had {len(y)} label(s), X {X.shape[0]} row(s) in one chunk; one a row is needed"
        )
    if w is None:
        return X, y, None
    w = np.asarray(w)
    w = w[:, 0] if w.ndim == 2 and w.shape[1] == 1 else w
    if w.shape != y.shape[:1]:
        raise ArgumentError(
            f"sample_weight had shape {w.shape} in one chunk, X {X.shape[0]} row(s); allowed is "
            "one a row"
        )
    if len(w) == 0:
        return X, y, w.astype(np.float64)
    w = check_array("sample_weight", w, 1).astype(np.float64)
    if not (np.isfinite(w) & (w >= 0)).all():
        row = int((~(np.isfinite(w) & (w >= 0))).argmax())
        raise ArgumentError(
            f"sample_weight was {w[row]} in row {row} of one chunk; allowed are finite numbers "
            "from 0 up"
        )
    if w.all():
        return X, y, w
    counting = np.flatnonzero(w)
    return X[counting], y[counting], w[counting]


@dataclass
class Summary:
    """What is known of the rows of chunks.

    Parameters
    ----------
    columns : Columns
    least, most : ndarray, shape () or (targets,)
        Of labels that are numbers.
    classes : dict
        Rows, and sum of weights, of each class, where labels are classes; else empty.
    rows : list of int
        Of each chunk, in order.
    weight : float
        Sum of the weights.
    means : ndarray or None
        Of columns, by weights; None where rows have none.
    """

    columns: Columns
    least: NDArray[np.float64]
    most: NDArray[np.float64]
    classes: dict[Any, tuple[int, float]]
    rows: list[int]
    weight: float
    means: NDArray[np.float64] | None

    @classmethod
    def of(cls, X: Any, y: Any, w: Any, classes: bool) -> Summary | None:
        """That of one chunk; None where it has no rows that count."""
        a, labels, weights = raw(X, y, w)
        if a.shape[0] == 0:
            return None
        found: dict[Any, tuple[int, float]] = {}
        least = most = np.zeros(())
        if classes:
            labels = one_column(labels)
            names, at, counts = np.unique(labels, return_inverse=True, return_counts=True)
            sums = counts if weights is None else np.bincount(at, weights)
            pairs = zip(counts.tolist(), sums.astype(np.float64).tolist(), strict=True)
            found = dict(zip(names.tolist(), pairs, strict=True))
        else:
            labels = check_array("y", labels, 2 if labels.ndim == 2 else 1)
            check_finite_labels(labels.ravel())
            least, most = (f(axis=0).astype(np.float64) for f in (labels.min, labels.max))
        a, _ = check_data(a, np.zeros(len(labels)), convert=False)
        columns = Columns.of("X", a, 1)
        if weights is None:
            return cls(columns, least, most, found, [len(labels)], float(len(labels)), None)
        means = columns.weighted_means(a, weights)
        return cls(columns, least, most, found, [len(labels)], float(weights.sum()), means)

    def merge(self, other: Summary) -> None:
        """Take the chunks that follow in."""
        if other.columns.low.size != self.columns.low.size:
            raise ArgumentError(
                f"X had {other.columns.low.size} columns in one chunk, {self.columns.low.size} in "
                "those before"
            )
        if other.least.shape != self.least.shape:
            raise ArgumentError(
                f"y had {other.least.size} column(s) in one chunk, {self.least.size} in those "
                "before"
            )
        self.columns.merge(other.columns)
        self.least = np.minimum(self.least, other.least)
        self.most = np.maximum(self.most, other.most)
        for name, (count, weight) in other.classes.items():
            before = self.classes.get(name, (0, 0.0))
            self.classes[name] = (before[0] + count, before[1] + weight)
        self.rows += other.rows
        self.weight += other.weight
        if self.means is not None and other.means is not None:
            self.means = self.means + (other.means - self.means) * (other.weight / self.weight)

    @property
    def samples(self) -> int:
        """Rows that count."""
        return sum(self.rows)

    def ranges(self) -> NDArray[np.float64] | None:
        """Middle and half of the range of each target, (targets, 2), where labels have columns."""
        if self.least.ndim == 0:
            return None
        # halves first: the difference of two large numbers may be too large
        half = self.most / 2 - self.least / 2
        return np.stack([self.most / 2 + self.least / 2, np.where(half > 0, half, 1.0)], axis=1)

    def normalization(self, intercept: bool) -> Normalization:
        """What maps columns, and labels that are numbers, to [-1, 1]."""
        columns = self.columns
        signs = bool(self.classes) or self.least.ndim > 0
        least, most = (-1.0, 1.0) if signs else (float(self.least), float(self.most))
        means = columns.means()
        if self.means is not None:
            means = np.clip(self.means, columns.low, columns.high)
        return Normalization.of(means, columns.low, columns.high, least, most, intercept)


def one_column(y: NDArray) -> NDArray:
    """Classes of samples, (samples,).

    Raises
    ------
    ArgumentError
        There are several columns.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim != 1:
        raise ArgumentError(f"y had shape {y.shape} in one chunk; allowed is one class a row")
    return y
