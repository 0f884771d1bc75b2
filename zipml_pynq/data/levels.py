"""Variance-optimal quantization levels: ZipML (arXiv 1611.05402), section 3; docs/levels.md.

A value v between the levels lo and hi is rounded to one of them at random, without bias; that has
variance ``(hi - v)(v - lo)``. The levels chosen here make its mean over given values small.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq._engine import ffi, lib
from zipml_pynq.constants import CONFIG
from zipml_pynq.data.checks import check_array, check_bits, check_choice, check_int
from zipml_pynq.data.columns import column_range
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.rows import worthwhile_threads
from zipml_pynq.errors import ArgumentError

METHODS: tuple[str, ...] = ("exact", "histogram", "greedy", "greedy-exact")
FIT_METHODS: tuple[str, ...] = ("auto", "exact", "histogram")
#: Bins of a histogram by default.
BINS = 8192
#: Values of a column up to which "auto" sorts them.
EXACT_VALUES = 1 << 15
MAX_LEVELS = 1 << 24
#: Bins of a column's histogram in :func:`fit_levels`: a quarter of what its fixed point resolves.
_FIT_BINS = 4096
_MAX_VALUES = (1 << 32) - 1
#: Values, or sums of histograms, that are worked on at a time: 64 MB of float64.
_PIECE = 1 << 23
_SMALL_PIECE = 1 << 16


def _buffer(kind: str, array: NDArray[Any] | None) -> Any:
    return ffi.NULL if array is None else ffi.from_buffer(kind, array)


def _check_status(status: int) -> None:
    if status != 0:
        raise MemoryError("no memory for the search of levels")


def _check_values(values: ArrayLike) -> NDArray[np.floating]:
    a = np.ascontiguousarray(check_array("values", values, 1))
    if a.size > _MAX_VALUES:
        raise ArgumentError(f"values had {a.size} entries; allowed are at most {_MAX_VALUES}")
    if not np.isfinite(a).all():
        i = int(np.flatnonzero(~np.isfinite(a))[0])
        raise ArgumentError(f"values was {a[i]} at {i}; every value must be finite")
    return a


def _check_weights(weights: ArrayLike | None, size: int) -> NDArray[np.float64] | None:
    if weights is None:
        return None
    w = np.ascontiguousarray(check_array("weights", weights, 1), dtype=np.float64)
    if w.size != size:
        raise ArgumentError(f"weights had {w.size} entries; one a value, {size}, are needed")
    bad = ~((w >= 0) & np.isfinite(w))
    if bad.any():
        i = int(bad.argmax())
        raise ArgumentError(f"weights was {w[i]} at {i}; it must be finite and not negative")
    return w


def optimal_levels(
    values: ArrayLike, k: int, method: str = "exact", weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """``k`` levels that make the mean rounding variance of ``values`` small.

    The first and the last level are the smallest and the largest value, whatever their weight.
    Inner values of weight 0 count as absent. Where no more than k different values are left, the
    levels are these, the largest one repeated, and the variance is 0.

    Parameters
    ----------
    values : array_like, (N,)
        In any order; sorted values save the sort.
    k : int
        2..2^24.
    method : str
        "exact": no choice of k levels has a smaller variance, up to rounding (a relative 1e-9).
        "histogram": the best among the edges of :data:`BINS` equal bins, in one pass over the
        values; see :class:`LevelHistogram`. "exact" where the range is beyond float64.
        "greedy": merging of neighbours (ZipML's ADAPTIVEQUANT): at most twice the variance of the
        best ``(k - 2) // 4 + 2`` levels.
        "greedy-exact": merging to ``4 (k - 1)`` intervals, then the best k of the levels that are
        left (ZipML's dynamic program behind ADAPTIVEQUANT): at most 4/3 of the variance of the best
        ``k // 2 + 1`` levels.
    weights : array_like, (N,), optional
        Not negative; 1 each by default.

    Returns
    -------
    ndarray, float64, (k,)
        Ascending.

    Raises
    ------
    ArgumentError
        ``values`` or ``weights`` is empty, not finite or of a wrong shape, a weight is negative, k
        or the method is not allowed.
    """
    a = _check_values(values)
    w = _check_weights(weights, a.size)
    check_int("k", k, 2, MAX_LEVELS)
    check_choice("method", method, METHODS)
    if method == "histogram":
        low, high = float(a.min()), float(a.max())
        if low == high or k == 2:
            return np.array([low] + [high] * (k - 1))
        if _fits_histogram(low, high, BINS):
            histogram = LevelHistogram(low, high)
            histogram._add(a, w)
            return histogram.levels(k)
        method = "exact"
    v = a.astype(np.float64, copy=False)
    if (v[1:] < v[:-1]).any():
        if w is None:
            v = np.sort(v)
        else:
            order = np.argsort(v, kind="stable")
            v, w = v[order], w[order]
    levels = np.empty(k)
    solve = {
        "exact": lib.zipml_levels_exact,
        "greedy": lib.zipml_levels_greedy,
        "greedy-exact": lib.zipml_levels_greedy_exact,
    }[method]
    _check_status(
        solve(
            _buffer("double[]", v),
            _buffer("double[]", w),
            v.size,
            k,
            ffi.from_buffer("double[]", levels, require_writable=True),
        )
    )
    return levels


def rounding_variance(
    values: ArrayLike, levels: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Mean of ``(hi - v)(v - lo)``, lo and hi being the levels next to v: what is minimized.

    Parameters
    ----------
    values : array_like, (N,)
    levels : array_like, (k,)
        Ascending, ties allowed.
    weights : array_like, (N,), optional
        Not negative. The result is 0 if all of them are.

    Raises
    ------
    ArgumentError
        A value lies outside the levels, the levels do not ascend, or an argument is not finite,
        empty or of a wrong shape.
    """
    a = _check_values(values)
    w = _check_weights(weights, a.size)
    q = check_array("levels", levels, 1).astype(np.float64, copy=False)
    if not np.isfinite(q).all() or (q[1:] < q[:-1]).any():
        raise ArgumentError("levels did not ascend; finite levels in ascending order are needed")
    outside = (a < q[0]) | (a > q[-1])
    if outside.any():
        i = int(outside.argmax())
        raise ArgumentError(f"values was {a[i]} at {i}; the levels span {q[0]}..{q[-1]}")
    if q.size == 1:
        return 0.0
    total = 0.0
    weight = float(a.size) if w is None else float(w.sum())
    for start in range(0, a.size, _SMALL_PIECE):
        v = a[start : start + _SMALL_PIECE].astype(np.float64, copy=False)
        upper = np.clip(np.searchsorted(q, v, side="right"), 1, q.size - 1)
        variance = (q[upper] - v) * (v - q[upper - 1])
        if w is None:
            total += float(variance.sum())
        else:
            total += float(variance @ w[start : start + _SMALL_PIECE])
    return total / weight if weight > 0 else 0.0


def _fits_histogram(low: float, high: float, bins: int) -> bool:
    return low < high and bool(np.isfinite(high - low)) and bins / (high - low) < np.inf


class LevelHistogram:
    """Levels for values that come in pieces, or from several machines: one pass, constant memory.

    Each of ``bins`` equal bins keeps the moments that make the variance of levels on the bins'
    edges exact. :meth:`levels` returns the best among the edges; docs/levels.md bounds what that
    restriction costs.

    Parameters
    ----------
    low, high : float
        Finite, low < high: the first and the last level; every value lies between them.
    bins : int
        1..2^24.

    Attributes
    ----------
    sums : ndarray, float64, (bins, 4)
        Of each bin: weight w, sums of w t and w t (1 - t), t being the distance from the bin's
        lower edge in bins, and 0.

    Raises
    ------
    ArgumentError
        An argument is outside what is allowed.
    """

    def __init__(self, low: float, high: float, bins: int = BINS) -> None:
        self.low, self.high = float(low), float(high)
        self.bins = check_int("bins", bins, 1, 1 << 24)
        if not _fits_histogram(self.low, self.high, self.bins):
            raise ArgumentError(
                f"low was {low}, high {high}; finite low < high are needed, and a range that "
                "float64 holds and divides by"
            )
        self.sums = np.zeros((self.bins, 4))

    def add(self, values: ArrayLike, weights: ArrayLike | None = None) -> None:
        """Count ``values`` (N,), with ``weights`` (N,).

        Raises
        ------
        ArgumentError
            A value lies outside low..high (then nothing is counted), or an argument is not finite,
            empty or of a wrong shape.
        """
        a = _check_values(values)
        w = _check_weights(weights, a.size)
        outside = (a < self.low) | (a > self.high)
        if outside.any():
            i = int(outside.argmax())
            raise ArgumentError(
                f"values was {a[i]} at {i}; this histogram holds {self.low}..{self.high}"
            )
        self._add(a, w)

    def _add(self, a: NDArray[np.floating], w: NDArray[np.float64] | None) -> None:
        lib.zipml_histogram_add(
            ffi.from_buffer(a),
            a.itemsize,
            _buffer("double[]", w),
            a.size,
            self.low,
            self.high,
            self.bins,
            ffi.from_buffer("double[]", self.sums, require_writable=True),
        )

    def merge(self, other: LevelHistogram) -> LevelHistogram:
        """Add what ``other`` counted; returns self. Sums are those of one pass up to rounding.

        Raises
        ------
        ArgumentError
            ``other`` has another range or number of bins.
        """
        if (self.low, self.high, self.bins) != (other.low, other.high, other.bins):
            raise ArgumentError(
                f"other had range {other.low}..{other.high} and {other.bins} bins; it must have "
                f"{self.low}..{self.high} and {self.bins}"
            )
        self.sums += other.sums
        return self

    def levels(self, k: int) -> NDArray[np.float64]:
        """The best ``k`` (2..2^24) levels among the edges: float64 (k,), ascending, ends included.

        With more levels than edges, the last one is repeated.
        """
        check_int("k", k, 2, MAX_LEVELS)
        edges = _best_edges(self.sums, k)
        share = edges / self.bins
        levels = self.low * (1.0 - share) + self.high * share
        levels[edges == 0], levels[edges == self.bins] = self.low, self.high
        return levels


def _best_edges(sums: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    edges = np.empty(k, dtype=np.int64)
    _check_status(
        lib.zipml_histogram_levels(
            ffi.from_buffer("double[]", sums),
            sums.shape[0],
            k,
            ffi.from_buffer("int64_t[]", edges, require_writable=True),
        )
    )
    return edges


def _normalized(
    X: NDArray[np.floating], normalization: Normalization, columns: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Values (columns, rows) of some columns of ``X``, clipped to [-1, 1]."""
    part = Normalization(normalization.mid[columns], normalization.half[columns], 0.0, 0.0, False)
    chosen = X[:, columns[0] : columns[-1] + 1]
    if columns.size < chosen.shape[1]:
        chosen = chosen[:, columns - columns[0]]
    values = part._normalize(chosen, columns.size)
    np.clip(values, -1.0, 1.0, out=values)
    return np.ascontiguousarray(values.T)


def _ends(low: float, high: float) -> tuple[float, float]:
    """The multiples of a level's unit next to a range, which hold it; a unit apart at least."""
    one = 1 << CONFIG.level_fraction_bits
    first = min(math.floor(low * one), one - 1)
    return first / one, max(math.ceil(high * one), first + 1) / one


def _to_fixed(levels: NDArray[np.float64]) -> NDArray[np.int16]:
    return np.rint(levels * (1 << CONFIG.level_fraction_bits)).astype(np.int16)


def _exact_row(values: NDArray[np.float32], k: int, ends: tuple[float, float]) -> NDArray[np.int16]:
    """Fixed-point levels of normalized values between two ends, which get weights of 0."""
    v = np.empty(values.size + 2)
    v[0], v[1:-1], v[-1] = ends[0], np.sort(values), ends[1]
    w = np.ones(v.size)
    w[0] = w[-1] = 0.0
    return _to_fixed(optimal_levels(v, k, weights=w))


def _run(work: Any, pieces: list[Any], threads: int) -> list[Any]:
    if threads == 1 or len(pieces) < 2:
        return [work(piece) for piece in pieces]
    with ThreadPoolExecutor(min(threads, len(pieces))) as pool:
        return list(pool.map(work, pieces))


def fit_levels(
    X: ArrayLike,
    normalization: Normalization,
    bits: int,
    per_column: bool = True,
    method: str = "auto",
    threads: int | None = None,
) -> NDArray[np.int16]:
    """Levels of a data set in fixed point, ``CONFIG.level_fraction_bits`` fraction bits.

    Parameters
    ----------
    X : array_like, (N, columns)
        Raw samples; read in pieces, a memory map too.
    normalization : Normalization
        What the samples will be packed with: levels are chosen for normalized, clipped values.
    bits : int
        1..8.
    per_column : bool
        A row of levels for each feature, or one row for the values of all columns that are not
        constant, together.
    method : str
        "exact", "histogram" or "auto": exact for each column of up to :data:`EXACT_VALUES` values,
        else histogram. "exact" for all columns together holds all values in memory, as float32.
    threads : int, optional
        By default one for each available core, as far as that is worth it. The result does not
        depend on it.

    Returns
    -------
    ndarray, int16, (features or 1, 2**(bits-1) + 1)
        Each row ascends, ties allowed, from the smallest to the largest value of its column, in
        levels' units outwards, or with one row for all from -1 to 1; the row of a constant column
        is 0, that of the intercept, the last, 1.

    Raises
    ------
    ArgumentError
        ``X`` is not finite or not what ``normalization`` was fitted to, or an argument is not
        allowed.
    """
    if not isinstance(normalization, Normalization):
        raise ArgumentError(
            f"normalization was {type(normalization).__name__}; allowed is Normalization"
        )
    a = normalization.check(X)
    k = (1 << (check_bits(bits) - 1)) + 1
    check_choice("method", method, FIT_METHODS)
    if not isinstance(per_column, bool | np.bool_):
        raise ArgumentError(f"per_column was {per_column!r}; allowed are True and False")
    if threads is None:
        threads = worthwhile_threads(a.size)
    threads = check_int("threads", threads, 1, 1024)
    low, high = column_range("X", a, threads)  # every value is finite
    if method == "auto":
        method = "exact" if per_column and a.shape[0] <= EXACT_VALUES else "histogram"
    varying = np.flatnonzero(normalization.half > 0)
    one = 1 << CONFIG.level_fraction_bits
    if not per_column:
        return _pooled(a, normalization, varying, k, method, threads)[None, :]
    table = np.zeros((normalization.features, k), dtype=np.int16)
    if normalization.intercept:
        table[-1] = one
    per_strip = _PIECE // 4 // a.shape[0] if method == "exact" else _PIECE // 4 // (_FIT_BINS * 4)
    strips = [varying[i : i + max(1, per_strip)] for i in range(0, varying.size, max(1, per_strip))]

    def fit(columns: NDArray[np.intp]) -> None:
        if method == "exact":
            values = _normalized(a, normalization, columns)
            for column, row in zip(columns, values, strict=True):
                table[column] = _exact_row(row, k, _ends(float(row.min()), float(row.max())))
            return
        extremes = np.stack([low, high]).astype(a.dtype)
        for column, histogram in zip(
            columns, column_histograms(a, normalization, columns, extremes), strict=True
        ):
            table[column] = _to_fixed(histogram.levels(k))

    _run(fit, strips, threads)
    return table


def column_histograms(
    a: NDArray[np.floating],
    normalization: Normalization,
    columns: NDArray[np.intp],
    extremes: NDArray[np.floating],
) -> list[LevelHistogram]:
    """A histogram of the normalized values of each of some columns that vary.

    ``extremes`` (2, all columns) are the ends of their ranges, in rows that ``a`` may be a part of.
    """
    ranges = _normalized(extremes, normalization, columns)
    histograms = [LevelHistogram(*_ends(*row), _FIT_BINS) for row in ranges.tolist()]
    rows = max(1, _PIECE // 16 // columns.size)
    for start in range(0, a.shape[0], rows):
        values = _normalized(a[start : start + rows], normalization, columns)
        for histogram, row in zip(histograms, values, strict=True):
            histogram._add(row, None)
    return histograms


def levels_table(
    histograms: list[LevelHistogram], normalization: Normalization, bits: int
) -> NDArray[np.int16]:
    """The table of :func:`fit_levels` from :func:`column_histograms` of all columns that vary."""
    k = (1 << (check_bits(bits) - 1)) + 1
    varying = np.flatnonzero(normalization.half > 0)
    table = np.zeros((normalization.features, k), dtype=np.int16)
    if normalization.intercept:
        table[-1] = 1 << CONFIG.level_fraction_bits
    for column, histogram in zip(varying, histograms, strict=True):
        table[column] = _to_fixed(histogram.levels(k))
    return table


def _pooled(
    a: NDArray[np.floating],
    normalization: Normalization,
    varying: NDArray[np.intp],
    k: int,
    method: str,
    threads: int,
) -> NDArray[np.int16]:
    """Fixed-point levels (k,) for the values of all varying columns together."""
    if varying.size == 0:
        return _to_fixed(np.linspace(-1.0, 1.0, k))
    rows = max(1, _PIECE // 16 // varying.size)
    pieces = [slice(start, start + rows) for start in range(0, a.shape[0], rows)]

    def values(piece: slice) -> NDArray[np.float32]:
        return _normalized(a[piece], normalization, varying).ravel()

    if method == "exact":
        return _exact_row(np.concatenate(_run(values, pieces, threads)), k, (-1.0, 1.0))

    def count(piece: slice) -> LevelHistogram:
        return pooled_histogram(a[piece], normalization, varying)

    total = LevelHistogram(-1.0, 1.0)
    # threads' pieces at a time, merged in order: one result for any number of threads
    for start in range(0, len(pieces), threads):
        for histogram in _run(count, pieces[start : start + threads], threads):
            total.merge(histogram)
    return _to_fixed(total.levels(k))


def pooled_histogram(
    a: NDArray[np.floating], normalization: Normalization, columns: NDArray[np.intp]
) -> LevelHistogram:
    """A histogram of the normalized values of some columns that vary, together."""
    histogram = LevelHistogram(-1.0, 1.0)
    rows = max(1, _PIECE // 16 // max(1, columns.size))
    for start in range(0, a.shape[0] if columns.size else 0, rows):
        values = _normalized(a[start : start + rows], normalization, columns)
        histogram._add(values.ravel(), None)
    return histogram


def pooled_table(histogram: LevelHistogram, bits: int) -> NDArray[np.int16]:
    """The one row of :func:`fit_levels` from a :func:`pooled_histogram`."""
    k = (1 << (check_bits(bits) - 1)) + 1
    counted = histogram.sums[:, 0].any()
    levels = histogram.levels(k) if counted else np.linspace(-1.0, 1.0, k)
    return _to_fixed(levels)[None, :]
