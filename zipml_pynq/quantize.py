"""From raw data to the level grid: normalization, positions, codes and their randomness.

The NumPy half of docs/data.md, written from its formulas. ``sw_emu/pack.cpp`` computes the same
bits in compiled code; this module is what it is tested against.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, issparse

from zipml_pynq._engine import ffi, lib
from zipml_pynq.constants import CONFIG, MAX_BITS
from zipml_pynq.errors import ArgumentError

#: What is drawn for each value: two independent dithers, one, none (round to nearest), or several.
SAMPLINGS: tuple[str, ...] = ("double", "single", "nearest", "independent")
#: A position is 0 at -1 and 2^31 at +1.
POSITION_BITS = 31
#: Fraction bits of a level in a table.
LEVEL_FRACTION_BITS: int = CONFIG.level_fraction_bits
#: Rows that are worked on at a time, so that intermediate arrays stay in the cache.
_CHUNK_VALUES = 1 << 16
#: Values below which threads cost more than they save.
_THREAD_VALUES = 1 << 18

T = TypeVar("T")


def check_int(name: str, value: object, low: int, high: int) -> int:
    """``value`` as an int of ``low``..``high``; raises :class:`ArgumentError` naming ``name``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ArgumentError(f"{name} was {value!r}; it must be an integer in {low}..{high}")
    if not low <= value <= high:
        raise ArgumentError(f"{name} was {value}; allowed is {low}..{high}")
    return int(value)


def check_bits(bits: object) -> int:
    """``bits`` as an int of 1..8."""
    return check_int("bits", bits, 1, MAX_BITS)


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """``value`` if it is one of ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        raise ArgumentError(f"{name} was {value!r}; allowed are {', '.join(map(repr, allowed))}")
    return value


def check_array(
    name: str, array: ArrayLike, ndim: int, convert: bool = True
) -> NDArray[np.floating]:
    """``array`` as native float32 or float64 of ``ndim`` dimensions, copied only to convert it.

    Values are not looked at. float16 becomes float32; integers and booleans become float64.

    Parameters
    ----------
    convert : bool
        False: check only; what works on parts of the array converts each part by itself. SciPy's
        sparse matrices pass, too, in CSR.

    Raises
    ------
    ArgumentError
        Not numeric, complex, another number of dimensions, or empty.
    """
    if np.ma.isMaskedArray(array) and np.ma.getmaskarray(array).any():
        raise ArgumentError(f"{name} had masked entries; allowed are arrays without")
    # rows of a sparse matrix are made dense where they are worked on
    a: Any = csr_matrix(array) if not convert and issparse(array) else np.asarray(array)
    if a.dtype.kind not in "biuf":
        raise ArgumentError(
            f"{name} had dtype {a.dtype}; it must be a dense array of real numbers "
            "(float32 and float64 are taken as they are)"
        )
    if a.ndim != ndim:
        raise ArgumentError(f"{name} had shape {a.shape}; it must have {ndim} dimension(s)")
    if 0 in a.shape:
        raise ArgumentError(f"{name} had shape {a.shape}; it must not be empty")
    if not convert:
        return a
    if a.dtype.kind == "f" and a.dtype.itemsize <= 4:
        return a.astype(np.float32, copy=False)
    with np.errstate(over="ignore"):  # what long double holds beyond float64 is found as infinity
        return a.astype(np.float64, copy=False)


def available_bytes() -> int:
    """Memory that can still be had without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def dense(a: Any) -> NDArray:
    """Rows of a matrix, sparse or not, as an array."""
    return a.toarray() if issparse(a) else a


def _chunks(a: NDArray) -> list[slice]:
    rows = max(1, _CHUNK_VALUES // a.shape[1])
    return [slice(start, start + rows) for start in range(0, a.shape[0], rows)]


def float_rows(
    a: NDArray, first: int, last: int, multiple: int = 1
) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """The rows ``first`` .. ``last - 1`` of ``a`` as compiled code takes them, in parts.

    float32 and float64 with contiguous, aligned rows are one part, without a copy. All else,
    sparse matrices too, is copied a few rows at a time: to float32 if that is exact, so that what
    is computed in float64 from there is the same, and to float64 if not.

    Parameters
    ----------
    multiple : int
        Each part but the last has a multiple of so many rows.

    Yields
    ------
    start, rows : int and ndarray, float32 or float64
        ``a[start : start + len(rows)]``.
    """
    size = a.dtype.itemsize
    direct = (
        not issparse(a)
        and a.dtype in (np.float32, np.float64)
        and a.flags.aligned
        and a.strides[0] % size == 0
        and a.strides[1] in ((size,) if a.shape[1] > 1 else a.strides)
    )
    step = -(-_CHUNK_VALUES // a.shape[1] // multiple) * multiple
    if direct:
        yield first, a[first:last]
        return
    dtype = np.float32 if np.can_cast(a.dtype, np.float32) else np.float64
    for start in range(first, last, step):
        with np.errstate(over="ignore"):  # of long double, as in check_array
            yield start, np.ascontiguousarray(dense(a[start : min(start + step, last)]), dtype)


def pointer(kind: str, array: NDArray) -> Any:
    """The data of ``array`` for compiled code; the caller keeps the array alive."""
    return ffi.cast(kind, array.ctypes.data)


def in_threads(
    work: Callable[[int, int], T], items: int, values: int, threads: int | None
) -> list[T]:
    """Results of ``work(first, last)`` over ranges that make up ``items``, one a thread.

    ``threads`` None: one for each available core, but no more than ``values`` are worth.
    """
    if threads is None:
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        threads = min(available, -(-values // _THREAD_VALUES))
    threads = min(check_int("threads", threads, 1, 1024), items)
    if threads == 1:
        return [work(0, items)]
    bounds = [items * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, bounds[:-1], bounds[1:]))


def _samples(rows: NDArray[np.floating]) -> Any:
    return ffi.new(
        "ZipmlSamples *",
        {
            "x": pointer("const void *", rows),
            "row_stride": rows.strides[0] // rows.itemsize,
            "rows": rows.shape[0],
            "columns": rows.shape[1],
            "x_bytes": rows.itemsize,
        },
    )


def column_range(
    name: str, a: NDArray, threads: int | None = None, first_row: int = 0
) -> tuple[NDArray, NDArray]:
    """Smallest and largest value of each column of ``a`` (N, m), both float64 (m,).

    ``a.min(axis=0)`` and ``a.max(axis=0)``, compiled, in one pass. ``first_row`` is what an error
    calls the first row.

    Raises
    ------
    ArgumentError
        A value is NaN or infinite; names its row and column.
    """

    def work(first: int, last: int) -> tuple[NDArray, NDArray]:
        low = np.full(a.shape[1], np.inf)
        high = np.full(a.shape[1], -np.inf)
        part_low, part_high = np.empty_like(low), np.empty_like(high)
        for start, rows in float_rows(a, first, last):
            unordered = lib.zipml_column_range(
                _samples(rows), pointer("double *", part_low), pointer("double *", part_high)
            )
            if unordered or not (np.isfinite(part_low) & np.isfinite(part_high)).all():
                for part in _chunks(rows):
                    finite = np.isfinite(rows[part])
                    if not finite.all():
                        row, column = np.argwhere(~finite)[0]
                        raise ArgumentError(
                            f"{name} was {rows[part][row, column]} in row "
                            f"{first_row + start + part.start + row}, column {column}; "
                            "every value must be finite"
                        )
            np.minimum(low, part_low, out=low)
            np.maximum(high, part_high, out=high)
        return low, high

    lows, highs = zip(*in_threads(work, a.shape[0], a.size, threads), strict=True)
    # of the two zeros, always the same: which one a minimum gives depends on the order
    return np.min(lows, axis=0) + 0.0, np.max(highs, axis=0) + 0.0


def check_finite_labels(y: NDArray[np.floating], first_row: int = 0) -> None:
    """Raises :class:`ArgumentError`, with the row, if one of the labels is NaN or infinite."""
    bad = ~np.isfinite(y)
    if bad.any():
        row = int(bad.argmax())
        raise ArgumentError(f"y was {y[row]} in row {first_row + row}; every label must be finite")


def _centre(low: NDArray, high: NDArray) -> tuple[NDArray, NDArray]:
    """Middle and half width of [low, high]: no overflow, and half covers both ends exactly.

    (high - low) / 2 in exact arithmetic. Where the middle had to be rounded, the larger of the two
    distances to the ends keeps every value in between within [-1, 1].
    """
    with np.errstate(over="ignore"):
        total = low + high
    mid = np.where(np.isfinite(total), total / 2, low / 2 + high / 2)
    return mid, np.maximum(high - mid, mid - low)


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
    mid, half = _centre(np.array([low], np.float64), np.array([high], np.float64))
    return float(mid[0]), float(half[0])


@dataclass(frozen=True, eq=False)
class Normalization:
    """The affine maps that take columns and labels to [-1, 1] and back.

    Attributes
    ----------
    mid, half : ndarray, float64, (columns,)
        Middle and half width of the range of each column; ``half`` is 0 where it is constant.
    label_mid, label_half : float
        The same for the labels.
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
        cls, X: ArrayLike, y: ArrayLike, intercept: bool = True, threads: int | None = None
    ) -> Normalization:
        """The normalization that maps each column of ``X`` (N, columns) and ``y`` (N,) to [-1, 1].

        ``threads``: by default one for each available core.

        Raises
        ------
        ArgumentError
            ``X`` or ``y`` is empty, not numeric, of a wrong shape or not finite.
        """
        ranges = Ranges(threads)
        ranges.update(X, y)
        return ranges.normalization(intercept)

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

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Values of raw samples, the intercept's column included.

        float32 of ``(x - mid) / half`` computed in float64. Values outside the fitted range leave
        [-1, 1]; they are clipped only where they are quantized.

        Parameters
        ----------
        X : array_like, (N, columns)

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
        values = np.empty((a.shape[0], self.features), dtype=np.float32)
        for rows in _chunks(a):
            values[rows] = self._with_intercept(self._normalize(dense(a[rows])))
        return values

    def _with_intercept(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.pad(values, ((0, 0), (0, int(self.intercept))), constant_values=1)

    def _normalize(self, a: NDArray) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            values = ((a.astype(np.float64) - self.mid) / self.divisor).astype(np.float32)
        # a constant column stays 0 even if the difference overflowed, infinity over infinity
        values[np.isnan(values)] = 0
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
            return sum(self._outside(dense(a[rows]), levels) for rows in _chunks(a))

        def work(first: int, last: int) -> int:
            limits = pointer("double *", self.mid), pointer("double *", self.half)
            return sum(
                lib.zipml_count_outside(_samples(rows), *limits)
                for _, rows in float_rows(a, first, last)
            )

        return sum(in_threads(work, a.shape[0], a.size, threads))

    def _outside(self, a: NDArray, levels: NDArray[np.int16] | None) -> int:
        with np.errstate(over="ignore"):
            outside = np.abs(a.astype(np.float64) - self.mid) > self.half
        if levels is None:
            return int(outside.sum())
        u = positions(self._with_intercept(self._normalize(a)))
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
        for rows in _chunks(a):
            z[rows] = (
                (dense(a[rows]).astype(np.float64) - self.mid) / self.divisor @ m[: self.columns]
            )
        if self.intercept:
            z += m[-1]
        return self.inverse_labels(z)


class Ranges:
    """Ranges of columns and labels over rows that come in parts.

    Attributes
    ----------
    rows : int
        So far.
    low, high : ndarray, float64, (columns,)
        Of each column. Where parts are sparse, a column that one does not reach is 0 in it.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self.rows = 0
        self.low = self.high = np.empty(0)
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
        if self.rows and not issparse(a) and a.shape[1] != self.low.size:
            raise ArgumentError(
                f"X had {a.shape[1]} columns from row {self.rows} on; before, {self.low.size}"
            )
        low, high = column_range("X", a, self.threads, self.rows)
        check_finite_labels(labels, self.rows)
        if self.rows == 0:
            self.low, self.high = low, high
        else:
            columns = max(self.low.size, low.size)
            ends = [np.pad(e, (0, columns - e.size)) for e in (self.low, low, self.high, high)]
            self.low, self.high = np.minimum(*ends[:2]), np.maximum(*ends[2:])
        # of the two zeros, always the same
        self.low, self.high = self.low + 0.0, self.high + 0.0
        least, most = self._labels
        self._labels = min(least, float(labels.min())), max(most, float(labels.max()))
        self.rows += a.shape[0]

    def normalization(self, intercept: bool = True) -> Normalization:
        """What maps these ranges to [-1, 1]."""
        least, most = self._labels
        labels = _label_range(least + 0.0, most + 0.0)
        return Normalization(*_centre(self.low, self.high), *labels, intercept)


def check_data(
    X: ArrayLike, y: ArrayLike, convert: bool = True
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """``X`` (N, columns) and ``y`` (N,) as :func:`check_array` returns them, of equal length.

    ``convert`` is that of ``X``; ``y`` is always converted.
    """
    a, b = check_array("X", X, 2, convert), check_array("y", y, 1)
    if a.shape[0] != b.shape[0]:
        raise ArgumentError(
            f"y had {b.shape[0]} label(s), X {a.shape[0]} row(s); one a row is needed"
        )
    return a, b


def levels(bits: int) -> NDArray[np.float64]:
    """The grid: ``2^(bits-1) + 1`` levels from -1 to +1, one for each code."""
    intervals = 1 << (check_bits(bits) - 1)
    return np.arange(intervals + 1) * (2.0 / intervals) - 1.0


def positions(V: ArrayLike) -> NDArray[np.uint32]:
    """Position ``rint((v + 1) * 2^30)`` of each value, 0 at -1 and 2^31 at +1; clips to [-1, 1].

    Raises
    ------
    ArgumentError
        ``V`` is not numeric or not finite.
    """
    v = np.asarray(V)
    if v.dtype.kind not in "biuf":
        raise ArgumentError(f"V had dtype {v.dtype}; it must hold real numbers")
    v = v.astype(np.float64)
    if not np.isfinite(v).all():
        raise ArgumentError("V held NaN or infinity; every value must be finite")
    half = float(1 << (POSITION_BITS - 1))
    return np.rint((np.clip(v, -1.0, 1.0) + 1.0) * half).astype(np.uint32)


def check_levels(levels: ArrayLike, bits: int, features: int) -> NDArray[np.int16]:
    """A table of levels as int16 (rows, 2^(bits-1) + 1), in units of 2^-``LEVEL_FRACTION_BITS``.

    Parameters
    ----------
    levels : array_like, (rows, 2^(bits-1) + 1)
        One row for all features, or one a feature, each ascending (ties are allowed). Integers are
        in those units; floats are in [-1, 1], rounded to them.
    bits : int
        1..8.
    features : int
        Features of the data, the intercept included.

    Raises
    ------
    ArgumentError
        Not numeric, not finite, of another shape, outside [-1, 1] or not ascending.
    """
    count = (1 << (check_bits(bits) - 1)) + 1
    table = np.asarray(levels)
    if table.dtype.kind not in "iuf":
        raise ArgumentError(
            f"levels had dtype {table.dtype}; it must hold integers (of 2^-{LEVEL_FRACTION_BITS}) "
            "or floats in [-1, 1]"
        )
    if table.ndim != 2 or table.shape[0] not in (1, features) or table.shape[1] != count:
        raise ArgumentError(
            f"levels had shape {table.shape}; allowed are (1, {count}) and ({features}, {count}): "
            f"{count} levels at {bits} bit(s), one row for all features or one a feature"
        )
    one = 1 << LEVEL_FRACTION_BITS if table.dtype.kind in "iu" else 1
    outside = ~((table >= -one) & (table <= one))  # true of NaN, too
    if outside.any():
        row, index = np.argwhere(outside)[0]
        raise ArgumentError(
            f"levels was {table[row, index]} in row {row}, level {index}; allowed is -{one}..{one}"
        )
    if table.dtype.kind == "f":
        table = np.rint(table.astype(np.float64) * (1 << LEVEL_FRACTION_BITS))
    table = table.astype(np.int16)
    descending = table[:, 1:] < table[:, :-1]
    if descending.any():
        row, index = np.argwhere(descending)[0]
        raise ArgumentError(
            f"levels went from {table[row, index]} down to {table[row, index + 1]} in row {row}; "
            "each row must ascend"
        )
    return table


def decode(levels: NDArray, codes: NDArray[np.integer]) -> NDArray:
    """``levels[row, code]`` of codes (..., features): row 0, or the feature's own."""
    return levels[np.arange(len(levels)), codes]


def _level_positions(levels: NDArray[np.int16]) -> NDArray[np.uint32]:
    """Positions of a table's levels: multiples of 2^16, 0 at -1 and 2^31 at +1."""
    one = np.int32(1 << LEVEL_FRACTION_BITS)
    shift = np.uint32(POSITION_BITS - 1 - LEVEL_FRACTION_BITS)
    return (levels.astype(np.int32) + one).astype(np.uint32) << shift


def interval(
    u: NDArray[np.uint32], bits: int, levels: NDArray[np.int16] | None = None
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    """The interval between two levels that each position lies in.

    Parameters
    ----------
    u : ndarray, uint32, (..., features)
        Positions.
    bits : int
        1..8.
    levels : ndarray, int16, (1 or features, 2^(bits-1) + 1), optional
        As :func:`check_levels` returns it; by default the uniform grid. Positions outside a
        table's ends are clipped to them.

    Returns
    -------
    base, fraction, width : ndarray, uint32, of the shape of ``u``
        Index of the level at or below each position, 0..2^(bits-1) - 1; distance from it,
        0..width inclusive; and the interval's width, in steps of positions.
    """
    check_bits(bits)
    if levels is None:
        top = np.uint32((1 << CONFIG.grid_bits) - 1)
        finest = np.minimum(u >> np.uint32(POSITION_BITS - CONFIG.grid_bits), top)
        below = finest >> np.uint32(MAX_BITS - bits)
        fractions = u - (below << np.uint32(32 - bits))
        return below, fractions, np.full_like(u, 1 << (32 - bits))
    ends = _level_positions(levels)
    inside = np.clip(u, ends[:, 0], ends[:, -1])
    below = np.zeros(u.shape, dtype=np.uint32)
    for index in range(1, ends.shape[1] - 1):
        below += ends[:, index] <= inside
    low = decode(ends, below)
    return below, inside - low, decode(ends, below + np.uint32(1)) - low


def base(
    u: NDArray[np.uint32], bits: int, levels: NDArray[np.int16] | None = None
) -> NDArray[np.uint32]:
    """The first of :func:`interval`: index of the level at or below each position."""
    return interval(u, bits, levels)[0]


def fraction(
    u: NDArray[np.uint32], bits: int, levels: NDArray[np.int16] | None = None
) -> NDArray[np.uint32]:
    """The second of :func:`interval`: distance of each position from its base."""
    return interval(u, bits, levels)[1]


def philox(
    counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: tuple[int, int]
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    """Philox4x32-10 (Salmon et al., SC 2011): four words for each counter.

    Parameters
    ----------
    counter : four array_like of uint32
        Broadcast against each other.
    key : two int
        Of 32 bits each.
    """
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, dtype=np.uint64) for c in counter))
    k0, k1 = key
    for _ in range(10):
        product0 = c0 * np.uint64(0xD2511F53)
        product1 = c2 * np.uint64(0xCD9E8D57)
        c0 = (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0)
        c1 = product1 & low
        c2 = (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1)
        c3 = product0 & low
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    c0, c1, c2, c3 = (c.astype(np.uint32) for c in (c0, c1, c2, c3))
    return c0, c1, c2, c3


def dithers(
    u: NDArray[np.uint32],
    bits: int,
    seed: int = 0,
    draw: int = 0,
    sampling: str = "double",
    first_sample: int = 0,
    levels: NDArray[np.int16] | None = None,
    count: int = 2,
) -> tuple[NDArray[np.uint32], ...]:
    """The dither bits of positions: one array, or two or more independent ones.

    ``1 iff floor(R * width / 2^32) < fraction``, R uniform on 0..2^32 - 1, so that base + dither is
    an unbiased sample of the value: exactly on the uniform grid, within 2^-32 of the interval with
    ``levels``. R depends on nothing but seed, draw, bits and the indices of sample and feature: any
    split of the work gives the same bits. "nearest" rounds to the closer level, halves up.

    Parameters
    ----------
    u : ndarray, uint32, (N, n)
        Positions of the samples ``first_sample``...
    bits : int
        1..8.
    seed : int
        0..2^64 - 1.
    draw : int
        0..2^32 - 1: numbers the independent draws of one data set.
    sampling : str
        "double", "single" (the first of the two of "double"), "nearest" or "independent".
    first_sample : int
        Index of the first row in its data set.
    levels : ndarray, int16, optional
        See :func:`interval`.
    count : int
        Of "independent": how many, 2 to 8; the first two are those of "double".

    Returns
    -------
    tuple of ndarray, uint32, (N, n)
    """
    check_bits(bits)
    check_choice("sampling", sampling, SAMPLINGS)
    check_int("count", count, 2, CONFIG.max_dithers)
    check_int("seed", seed, 0, (1 << 64) - 1)
    check_int("draw", draw, 0, (1 << 32) - 1)
    if u.ndim != 2:
        raise ArgumentError(f"u had shape {u.shape}; it must be (samples, features)")
    check_int("first_sample", first_sample, 0, (1 << 32) - u.shape[0])
    _, fractions, width = interval(u, bits, levels)
    if sampling == "nearest":
        return ((fractions >= width - fractions).astype(np.uint32),)
    sample = np.arange(first_sample, first_sample + u.shape[0], dtype=np.uint64)[:, None]
    pair = np.arange((u.shape[1] + 1) // 2, dtype=np.uint64)[None, :]
    wanted = {"single": 1, "double": 2}.get(sampling, count)
    drawn = []
    for two in range(0, wanted, 2):
        stream = bits + 256 * (two // 2)
        key = (seed & 0xFFFFFFFF, seed >> 32)
        even1, even2, odd1, odd2 = philox((sample, pair, draw, stream), key)
        drawn += [(even1, odd1), (even2, odd2)]
    result = []
    for halves in drawn[:wanted]:
        random = np.stack(halves, axis=-1).reshape(u.shape[0], -1)[:, : u.shape[1]]
        scaled = random.astype(np.uint64) * width >> np.uint64(32)
        result.append((scaled < fractions).astype(np.uint32))
    return tuple(result)


def quantize(
    V: ArrayLike,
    bits: int,
    sampling: str = "double",
    seed: int = 0,
    draw: int = 0,
    first_sample: int = 0,
    levels: NDArray[np.int16] | None = None,
    count: int = 2,
) -> tuple[NDArray[np.int16], ...]:
    """Codes of values: level indices 0..2^(bits-1), Q1 and, for "double", an independent Q2.

    Parameters are those of :func:`dithers`; ``V`` is (N, n), clipped to [-1, 1] and to the ends of
    ``levels``. The sampled value is the code's level: of :func:`levels`, or :func:`decode` of the
    table.

    Returns
    -------
    tuple of ndarray, int16, (N, n)
    """
    u = positions(V)
    floor = base(u, bits, levels)
    drawn = dithers(u, bits, seed, draw, sampling, first_sample, levels, count)
    return tuple((floor + d).astype(np.int16) for d in drawn)


def sample_variance(
    V: ArrayLike, bits: int, levels: NDArray[np.int16] | None = None
) -> NDArray[np.float64]:
    """Variance of one stochastic sample of each value: its distances from both levels, multiplied.

    That is f (1 - f) h^2 at fraction f of an interval of width h: 0 on the levels themselves,
    h^2 / 4 in the middle between two. ``levels`` as in :func:`interval`.
    """
    _, fractions, width = interval(positions(V), bits, levels)
    one = float(1 << (POSITION_BITS - 1))
    return fractions / one * ((width - fractions) / one)
