"""Passes over raw chunks: what is known of columns and labels, levels, and packing into shards.

Sums of columns are integers, so that means and ranges do not depend on how rows are cut or where
they lie (:mod:`zipml_pynq.data.columns`); histograms of levels are merged in one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.checks import check_data, check_finite_labels
from zipml_pynq.data.columns import Columns
from zipml_pynq.data.levels import LevelHistogram, column_histograms, levels_table
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.distributed.averaging import shard_seed
from zipml_pynq.distributed.shards import Shard
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.objective import OBJECTIVE_VALUES, Rows
from zipml_pynq.learn.problem import SIGNS


def raw(X: Any, y: Any) -> tuple[NDArray, NDArray]:
    """A chunk's rows and labels as arrays."""
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    y = np.asarray(y)
    return np.asarray(X), y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


@dataclass
class Summary:
    """What is known of the rows of chunks.

    Parameters
    ----------
    columns : Columns
    least, most : float
        Of labels that are numbers.
    classes : dict
        Rows of each class, where labels are classes; else empty.
    rows : list of int
        Of each chunk, in order.
    """

    columns: Columns
    least: float
    most: float
    classes: dict[Any, int]
    rows: list[int]

    @classmethod
    def of(cls, X: Any, y: Any, classes: bool) -> Summary | None:
        """That of one chunk; None where it has no rows."""
        a, labels = raw(X, y)
        if len(a) == 0:
            return None
        counts: dict[Any, int] = {}
        least = most = 0.0
        if classes:
            found, numbers = np.unique(labels, return_counts=True)
            counts = dict(zip(found.tolist(), numbers.tolist(), strict=True))
            a, _ = check_data(a, np.zeros(len(labels)), convert=False)
        else:
            a, labels = check_data(a, labels, convert=False)
            check_finite_labels(labels)
            least, most = float(labels.min()), float(labels.max())
        return cls(Columns.of("X", a, 1), least, most, counts, [len(a)])

    def merge(self, other: Summary) -> None:
        """Take the chunks that follow in."""
        if other.columns.low.size != self.columns.low.size:
            raise ArgumentError(
                f"X had {other.columns.low.size} columns in one chunk, {self.columns.low.size} in "
                "those before"
            )
        self.columns.merge(other.columns)
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        for name, count in other.classes.items():
            self.classes[name] = self.classes.get(name, 0) + count
        self.rows += other.rows

    def normalization(self, intercept: bool) -> Normalization:
        """What maps columns, and labels that are numbers, to [-1, 1]."""
        columns = self.columns
        signs = bool(self.classes)
        least, most = (-1.0, 1.0) if signs else (self.least, self.most)
        return Normalization.of(columns.means(), columns.low, columns.high, least, most, intercept)


def chunks_of_shards(rows: Sequence[int], shards: int) -> list[slice]:
    """Chunks, in their order, dealt out to shards of about as many rows each."""
    ends = np.cumsum(rows)
    targets = ends[-1] * np.arange(1, shards) / shards
    cuts = np.searchsorted(ends - np.asarray(rows) / 2, targets)
    bounds = np.unique([0, *cuts.tolist(), len(rows)])
    return [slice(a, b) for a, b in pairwise(bounds.tolist())]


# ---- Levels ------------------------------------------------------------------------------------


def histograms(
    X: Any, normalization: Normalization, extremes: NDArray[np.float64]
) -> list[LevelHistogram]:
    """Of every column of a chunk that varies over all of them."""
    a, _ = raw(X, ())
    varying = np.flatnonzero(normalization.half > 0)
    a = np.ascontiguousarray(a, dtype=a.dtype if a.dtype == np.float32 else np.float64)
    return column_histograms(a, normalization, varying, extremes.astype(a.dtype))


def merged(one: list[LevelHistogram], other: list[LevelHistogram]) -> list[LevelHistogram]:
    """Those of two sets of chunks together; neither is changed, for tasks may run again."""
    both = []
    for a, b in zip(one, other, strict=True):
        sum_of = LevelHistogram(a.low, a.high, a.bins)
        both.append(sum_of.merge(a).merge(b))
    return both


def table(
    found: list[LevelHistogram], normalization: Normalization, bits: int
) -> NDArray[np.int16]:
    """See :func:`zipml_pynq.data.levels.levels_table`."""
    return levels_table(found, normalization, bits)


# ---- Packing -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Packing:
    """How raw chunks become a shard.

    Parameters
    ----------
    normalization : Normalization
    options : dict
        Of :func:`zipml_pynq.data.pack.pack`.
    seed : int
        0..2^32 - 1; each shard has its own of it.
    shuffle : bool
        Whether rows come in random order.
    classes : list or None
        Of labels; with more than two, a model each.
    costs : list of (float, float) or None
        Of each model: weights of samples outside and inside of its class.
    shards : int
    """

    normalization: Normalization
    options: dict[str, Any]
    seed: int
    shuffle: bool
    classes: list[Any] | None
    costs: list[tuple[float, float]] | None
    shards: int

    def __call__(
        self, number: int, levels: NDArray[np.int16] | None, Xs: list[Any], ys: list[Any]
    ) -> Shard:
        """The shard of that number, of the rows of chunks."""
        both = [raw(X, y) for X, y in zip(Xs, ys, strict=True)]
        X = np.concatenate([a for a, _ in both])
        y = np.concatenate([labels for _, labels in both])
        if self.shuffle:
            order = np.random.default_rng((self.seed, number)).permutation(len(X))
            X, y = X[order], y[order]
        targets = self._targets(y)
        options = dict(self.options)
        if levels is not None:
            options["levels"] = levels
        packed = pack(
            X,
            targets[0],
            seed=shard_seed(self.seed, number),
            normalization=self.normalization,
            threads=1,
            **options,
        )
        models = []
        for model, labels in enumerate(targets):
            weights = None
            if self.costs is not None:
                outside, inside = self.costs[model]
                weights = np.where(labels > 0, inside, outside)
            like = self.normalization if self.classes is None else SIGNS
            models.append(packed.relabel(labels, weights, like))
        some = Rows.of_values(
            X, _some(len(X), self.normalization.features, self.shards), self.normalization
        )
        return Shard(models, some)

    def _targets(self, y: NDArray) -> list[NDArray[np.float64]]:
        """Labels of each model."""
        if self.classes is None:
            return [y.astype(np.float64)]
        positive = [self.classes[1]] if len(self.classes) == 2 else self.classes
        return [np.where(y == one, 1.0, -1.0) for one in positive]


def _some(rows: int, features: int, shards: int) -> NDArray[np.intp]:
    """Rows of a shard that objectives are taken on, evenly spread."""
    wanted = max(1, min(rows, OBJECTIVE_VALUES // (features * shards)))
    return np.unique(np.linspace(0, rows - 1, wanted).astype(np.intp))
