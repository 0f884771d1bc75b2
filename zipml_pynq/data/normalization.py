"""From raw columns and labels to [-1, 1] and back: docs/data.md, "Normalization"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse

from zipml_pynq._engine import ffi, lib
from zipml_pynq.data.checks import check_array, check_data, check_finite_labels
from zipml_pynq.data.columns import Columns, column_range
from zipml_pynq.data.grid import _level_positions, positions
from zipml_pynq.data.rows import (
    chunks,
    compiled_samples,
    dense,
    float_rows,
    in_threads,
    ordered_rows,
    pointer,
)
from zipml_pynq.errors import ArgumentError


def _middle(low: Any, high: Any) -> Any:
    """Middle of a range, without overflow."""
    low = np.asarray(low, dtype=np.float64)
    with np.errstate(over="ignore"):
        total = low + high
    return np.where(np.isfinite(total), total / 2, low / 2 + high / 2)


def _reach(centre: Any, low: Any, high: Any) -> Any:
    """The larger of the distances to both ends: values in between come to lie within [-1, 1]."""
    with np.errstate(over="ignore"):
        return np.maximum(high - centre, centre - low)


def _centred(means: NDArray, low: NDArray, high: NDArray) -> tuple[NDArray, NDArray]:
    """Centres and reaches of columns; of one that is too wide for its mean, those of its middle."""
    fits = np.isfinite(_reach(means, low, high))
    centre = np.where(fits, means, _middle(low, high))
    return centre, _reach(centre, low, high)


def _divisor(half: NDArray) -> NDArray:
    """What a column's distance from the middle is divided by: a constant column becomes 0."""
    return np.where(half > 0, half, np.inf)


def _spread(mid: ArrayLike, half: ArrayLike, v: NDArray[np.floating]) -> NDArray[np.float64]:
    """``mid + half * v``; rounding must not turn the largest float64 into infinity."""
    largest = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        return np.clip(np.asarray(mid) + np.asarray(half) * v.astype(np.float64), -largest, largest)


def _label_range(low: float, high: float) -> tuple[float, float]:
    """Middle and half width of the range of labels."""
    mid = float(_middle(low, high))
    return mid, float(_reach(mid, low, high))


@dataclass(frozen=True, eq=False)
class Normalization:
    """The affine maps that take columns and labels to [-1, 1] and back.

    Attributes
    ----------
    mid, half : ndarray, float64, (columns,)
        Centre of each column, its mean, and the largest distance from it; ``half`` is 0 where the
        column is constant. (0 is a level of the grid from 2 bits on, and columns without a mean
        make training well-conditioned.)
    label_mid, label_half : float
        Middle and half width of the range of the labels, so that two classes become -1 and 1.
    intercept : bool
        Whether samples get one more feature, the last, that is always 1.
    """

    mid: NDArray[np.float64]
    half: NDArray[np.float64]
    label_mid: float
    label_half: float
    intercept: bool = True

    def __post_init__(self) -> None:
        for name in ("mid", "half"):
            a = np.array(getattr(self, name), dtype=np.float64)
            if a.ndim != 1 or a.size == 0 or not np.isfinite(a).all():
                raise ArgumentError(
                    f"{name} had shape {a.shape}; it must hold one finite number a column"
                )
            a.flags.writeable = False
            object.__setattr__(self, name, a)
        if self.mid.shape != self.half.shape:
            raise ArgumentError(
                f"half had shape {self.half.shape}, mid {self.mid.shape}; one a column"
            )
        object.__setattr__(self, "label_mid", float(self.label_mid))
        object.__setattr__(self, "label_half", float(self.label_half))
        if (self.half < 0).any() or self.label_half < 0:
            raise ArgumentError("half and label_half must not be negative")
        if not np.isfinite([self.label_mid, self.label_half]).all():
            raise ArgumentError("label_mid and label_half must be finite")
        if not isinstance(self.intercept, bool | np.bool_):
            raise ArgumentError(f"intercept was {self.intercept!r}; allowed are True and False")
        object.__setattr__(self, "intercept", bool(self.intercept))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Normalization):
            return NotImplemented
        return (
            np.array_equal(self.mid, other.mid)
            and np.array_equal(self.half, other.half)
            and (self.label_mid, self.label_half) == (other.label_mid, other.label_half)
            and self.intercept == other.intercept
        )

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def fit(
        cls,
        X: ArrayLike,
        y: ArrayLike,
        intercept: bool = True,
        threads: int | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Normalization:
        """The normalization that maps each column of ``X`` (N, columns) and ``y`` (N,) to [-1, 1].

        Parameters
        ----------
        threads : int, optional
            By default one for each available core.
        sample_weight : array_like, (N,), optional
            Rows of weight 0 do not count, and means are weighted.

        Raises
        ------
        ArgumentError
            ``X`` or ``y`` is empty, not numeric, of a wrong shape or not finite, or no weight is
            positive.
        """
        a, labels = check_data(X, y, convert=False)
        if sample_weight is None:
            ranges = Ranges(threads)
            ranges.update(a, labels)
            return ranges.normalization(intercept)
        weights = check_array("sample_weight", sample_weight, 1).astype(np.float64)
        check_finite_labels(labels)
        column_range("X", a, threads)  # also of rows that do not count
        counting = np.flatnonzero(weights > 0)
        if weights.size != a.shape[0] or counting.size == 0:
            raise ArgumentError(
                f"sample_weight had {weights.size} entries, {counting.size} of them positive; "
                f"allowed are {a.shape[0]}, one of them positive"
            )
        if counting.size < weights.size:
            a, labels, weights = a[counting], labels[counting], weights[counting]
        columns = Columns.of("X", a, threads)
        means = columns.weighted_means(a, weights)
        return cls.of(means, columns.low, columns.high, labels.min(), labels.max(), intercept)

    @classmethod
    def of(
        cls,
        means: NDArray[np.float64],
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        least: float,
        most: float,
        intercept: bool = True,
    ) -> Normalization:
        """That of columns of these means and ranges, and of labels of that range."""
        centred = _centred(means, low, high)
        return cls(*centred, *_label_range(least + 0.0, most + 0.0), intercept)

    def carried_over(self, model: ArrayLike, to: Normalization) -> NDArray[np.float64]:
        """The model of another normalization that predicts what ``model`` predicts with this one.

        Parameters
        ----------
        model : array_like, (features,)
            In units of this normalization.
        to : Normalization
            Of as many columns. Without an intercept its centres have to be these.

        Returns
        -------
        ndarray, float64, (features,)
            Equal up to rounding of float64. Columns that were constant here have no weight there.
        """
        m = self._check_model(model)
        slopes = m[: self.columns] / self.divisor
        ratio = self.label_half / (to.label_half or 1.0)
        values = ratio * slopes * to.half
        if not self.intercept:
            return values
        moved = m[-1] + slopes @ (to.mid - self.mid)
        constant = ratio * moved + (self.label_mid - to.label_mid) / (to.label_half or 1.0)
        return np.append(values, constant)

    def with_labels(self, y: ArrayLike) -> Normalization:
        """The same columns with the range of other labels ``y`` (N,)."""
        labels = check_array("y", y, 1)
        check_finite_labels(labels)
        label_range = _label_range(labels.min(), labels.max())
        return Normalization(self.mid, self.half, *label_range, self.intercept)

    @property
    def columns(self) -> int:
        """Width of the raw samples."""
        return int(self.mid.size)

    @property
    def features(self) -> int:
        """Length of the model: columns, plus one for the intercept."""
        return self.columns + int(self.intercept)

    @property
    def divisor(self) -> NDArray[np.float64]:
        """``half``, and infinity where it is 0."""
        return _divisor(self.half)

    def check(self, X: ArrayLike) -> NDArray:
        """``X`` as :func:`check_array` passes it, unconverted, if it has this many columns."""
        a = check_array("X", X, 2, convert=False)
        if a.shape[1] != self.columns:
            raise ArgumentError(
                f"X had {a.shape[1]} column(s); this normalization was fitted to {self.columns}"
            )
        return a

    def transform(self, X: ArrayLike, order: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """Values of raw samples, the intercept's column included.

        float32 of ``(x - mid) / half`` computed in float64. Values outside the fitted range leave
        [-1, 1]; they are clipped only where they are quantized.

        Parameters
        ----------
        X : array_like, (N, columns)
        order : ndarray of intp, (N,), optional
            Numbers of the rows, for those of ``X[order]``.

        Returns
        -------
        ndarray, float32, (N, features)

        Raises
        ------
        ArgumentError
            ``X`` is empty, not numeric, of a wrong shape or not finite.
        """
        a = self.check(X)
        column_range("X", a)
        return self._normalize(a, self.features, None, order)

    def _normalize(
        self,
        a: NDArray,
        features: int,
        threads: int | None = 1,
        order: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float32]:
        """Values of checked rows; behind the columns a 1 where ``features`` is one more."""
        values = np.empty((a.shape[0], features), dtype=np.float32)
        mid, divisor = np.ascontiguousarray(self.mid), self.divisor

        def work(first: int, last: int) -> None:
            for start, count, rows, numbers in ordered_rows(a, first, last, 1, order):
                lib.zipml_normalize(
                    compiled_samples(rows, count),
                    ffi.NULL if numbers is None else pointer("int64_t *", numbers),
                    pointer("double *", mid),
                    pointer("double *", divisor),
                    features,
                    pointer("float *", values[start:]),
                )

        in_threads(work, a.shape[0], a.size, threads)
        return values

    def inverse(self, V: ArrayLike) -> NDArray[np.float64]:
        """Raw samples (N, columns) of values (N, features); constant columns get their constant."""
        v = check_array("V", V, 2)
        if v.shape[1] != self.features:
            raise ArgumentError(
                f"V had {v.shape[1]} column(s); it must have {self.features} features"
            )
        column_range("V", v)
        return _spread(self.mid, self.half, v[:, : self.columns])

    def out_of_range(
        self,
        X: ArrayLike,
        levels: NDArray[np.int16] | None = None,
        threads: int | None = None,
    ) -> int:
        """How many values of ``X`` (N, columns) lie outside the fitted range of their column.

        With ``levels`` (see :func:`interval`), also those between the ends of the range and those
        of their table; an intercept that its table does not reach counts once a sample.
        """
        a = self.check(X)
        # all that is compared grows with x: if the extremes of a column are within, all of it is
        if not self._outside(np.stack(column_range("X", a, threads)), levels):
            return 0
        if levels is not None:
            return sum(self._outside(dense(a[rows]), levels) for rows in chunks(a))

        def work(first: int, last: int) -> int:
            limits = pointer("double *", self.mid), pointer("double *", self.half)
            outside = 0
            for _, rows in float_rows(a, first, last):
                count = lib.zipml_count_outside(compiled_samples(rows), *limits)
                if count < 0:
                    raise MemoryError("no memory to count values in")
                outside += count
            return outside

        return sum(in_threads(work, a.shape[0], a.size, threads))

    def _outside(self, a: NDArray, levels: NDArray[np.int16] | None) -> int:
        with np.errstate(over="ignore"):
            outside = np.abs(a.astype(np.float64) - self.mid) > self.half
        if levels is None:
            return int(outside.sum())
        u = positions(self._normalize(a, self.features))
        ends = _level_positions(levels[:, [0, -1]])
        clipped = (u < ends[:, 0]) | (u > ends[:, 1])
        clipped[:, : self.columns] |= outside
        return int(clipped.sum())

    def transform_labels(self, y: ArrayLike) -> NDArray[np.float64]:
        """Labels (N,) normalized like the columns; constant labels become 0."""
        a = check_array("y", y, 1)
        check_finite_labels(a)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (a.astype(np.float64) - self.label_mid) / _divisor(np.array(self.label_half))
        scaled[np.isnan(scaled)] = 0
        return scaled

    def inverse_labels(self, z: ArrayLike) -> NDArray[np.float64]:
        """Raw labels (N,) of normalized ones."""
        return _spread(self.label_mid, self.label_half, check_array("z", z, 1))

    def _check_model(self, model: ArrayLike) -> NDArray[np.float64]:
        m = check_array("model", model, 1).astype(np.float64)
        if m.size != self.features:
            raise ArgumentError(f"model had {m.size} entries; it must have {self.features}")
        return m

    def to_raw_model(self, model: ArrayLike) -> tuple[NDArray[np.float64], float]:
        """Coefficients (columns,) and intercept, in raw units, of a model of normalized samples.

        ``X @ coefficients + intercept`` is what :meth:`predict` returns, up to rounding; columns
        that are narrow against their distance from 0 make that rounding worse.
        """
        m = self._check_model(model)
        slopes = m[: self.columns] / self.divisor
        constant = (m[-1] if self.intercept else 0.0) - slopes @ self.mid
        return self.label_half * slopes, float(self.label_mid + self.label_half * constant)

    def predict(self, X: ArrayLike, model: ArrayLike) -> NDArray[np.float64]:
        """Labels (N,), in raw units, that ``model`` (features,) predicts for raw ``X``."""
        m = self._check_model(model)
        a = self.check(X)
        column_range("X", a)
        z = np.empty(a.shape[0])
        for rows in chunks(a):
            z[rows] = (
                (dense(a[rows]).astype(np.float64) - self.mid) / self.divisor @ m[: self.columns]
            )
        if self.intercept:
            z += m[-1]
        return self.inverse_labels(z)


class Ranges:
    """Columns and labels over rows that come in parts, for a normalization.

    Attributes
    ----------
    rows : int
        So far.
    columns : Columns or None
        Where parts are sparse, a column that one does not reach is 0 in it.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self.rows = 0
        self.columns: Columns | None = None
        self._labels = (np.inf, -np.inf)

    def update(self, X: ArrayLike, y: ArrayLike) -> None:
        """Take the next rows in.

        Parameters
        ----------
        X : array_like or sparse matrix, (N, columns)
        y : array_like, (N,)

        Raises
        ------
        ArgumentError
            Empty, not numeric, not finite, or of another number of columns, unless sparse.
        """
        a, labels = check_data(X, y, convert=False)
        if self.columns and not issparse(a) and a.shape[1] != self.columns.low.size:
            raise ArgumentError(
                f"X had {a.shape[1]} columns from row {self.rows} on; before, "
                f"{self.columns.low.size}"
            )
        found = Columns.of("X", a, self.threads, self.rows)
        check_finite_labels(labels, self.rows)
        if self.columns is None:
            self.columns = found
        else:
            self.columns.merge(found)
        least, most = self._labels
        self._labels = min(least, float(labels.min())), max(most, float(labels.max()))
        self.rows += a.shape[0]

    def normalization(self, intercept: bool = True) -> Normalization:
        """What maps these columns and labels to [-1, 1]."""
        assert self.columns is not None
        least, most = self._labels
        return Normalization.of(
            self.columns.means(), self.columns.low, self.columns.high, least, most, intercept
        )
