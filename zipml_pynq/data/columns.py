"""What is known of columns: their ranges and means, over rows that come in any parts.

A mean is that of integers, so neither the order of rows nor how they are cut or spread over threads
changes a bit of it: docs/data.md, "Normalization".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zipml_pynq._engine import lib
from zipml_pynq.data.compiled import check_memory
from zipml_pynq.data.rows import (
    chunks,
    compiled_samples,
    dense,
    float_rows,
    in_threads,
    pointer,
)
from zipml_pynq.errors import ArgumentError

#: Log2 of how far the units lie apart that sums of a column are counted in.
_PART = 30
#: The largest scale is 2^1000: columns of smaller numbers than 2^-1000 are summed up as zeros.
_LEAST_EXPONENT = -990
#: Values that are looked at twice, for their range and their sum, while they are in the cache.
_SUMMED_VALUES = 1 << 18


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
        low, high = np.full(a.shape[1], np.inf), np.full(a.shape[1], -np.inf)
        for start, rows in float_rows(a, first, last):
            _widen(name, rows, first_row + start, low, high)
        return low, high

    lows, highs = zip(*in_threads(work, a.shape[0], a.size, threads), strict=True)
    # of the two zeros, always the same: which one a minimum gives depends on the order
    return np.min(lows, axis=0) + 0.0, np.max(highs, axis=0) + 0.0


def _widen(
    name: str, rows: NDArray[np.floating], first_row: int, low: NDArray, high: NDArray
) -> None:
    """Take the range of some rows into ``low`` and ``high``."""
    part_low, part_high = np.empty_like(low), np.empty_like(high)
    unordered = lib.zipml_column_range(
        compiled_samples(rows), pointer("double *", part_low), pointer("double *", part_high)
    )
    check_memory(unordered)
    if unordered or not (np.isfinite(part_low) & np.isfinite(part_high)).all():
        for part in chunks(rows):
            finite = np.isfinite(rows[part])
            if not finite.all():
                row, column = np.argwhere(~finite)[0]
                raise ArgumentError(
                    f"{name} was {rows[part][row, column]} in row "
                    f"{first_row + part.start + row}, column {column}; every value must be finite"
                )
    np.minimum(low, part_low, out=low)
    np.maximum(high, part_high, out=high)


class Columns:
    """Ranges and sums of columns over rows.

    Attributes
    ----------
    rows : int
        So far.
    low, high : ndarray, float64, (columns,)
        Of each column.

    Notes
    -----
    A value counts as ``rint(x / u)`` in a unit u that follows from the column's largest size alone:
    its sum is kept in two integers, of ``rint(x / 2^E)`` and of what that leaves in units of
    ``2^(E-30)``, E the least multiple of 30 with ``|x| < 2^(E+29)`` for all of them. Where a larger
    value comes, the first integer is what the second one would have been.
    """

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self.low, self.high = np.full(columns, np.inf), np.full(columns, -np.inf)
        self._exponent = np.full(columns, _LEAST_EXPONENT)
        self._whole, self._rest = np.zeros((2, columns), dtype=np.int64)

    @classmethod
    def of(cls, name: str, a: NDArray, threads: int | None = None, first_row: int = 0) -> Columns:
        """Those of the rows of ``a``; parameters and errors as for :func:`column_range`."""

        step = max(1, _SUMMED_VALUES // a.shape[1])

        def work(first: int, last: int) -> Columns:
            found = cls(a.shape[1])
            for start, rows in float_rows(a, first, last):
                for at in range(0, len(rows), step):
                    found._add(name, rows[at : at + step], first_row + start + at)
            return found

        found, *others = in_threads(work, a.shape[0], a.size, threads)
        for other in others:
            found.merge(other)
        return found

    def _add(self, name: str, rows: NDArray[np.floating], first_row: int) -> None:
        _widen(name, rows, first_row, self.low, self.high)
        self._rise(self._needed())
        whole, rest = np.empty((2, self.low.size), dtype=np.int64)
        scale = np.ldexp(1.0, -self._exponent)
        status = lib.zipml_column_sums(
            compiled_samples(rows),
            pointer("const double *", scale),
            pointer("int64_t *", whole),
            pointer("int64_t *", rest),
        )
        check_memory(status)
        self._whole += whole
        self._rest += rest
        self.rows += len(rows)

    def _needed(self) -> NDArray[np.intp]:
        """E for the ranges of now."""
        bits = np.frexp(np.maximum(np.abs(self.low), np.abs(self.high)))[1]
        return np.maximum(-(-(bits - _PART + 1) // _PART) * _PART, _LEAST_EXPONENT)

    def _rise(self, exponent: NDArray[np.intp]) -> None:
        """Count in the units of larger values."""
        once = exponent == self._exponent + _PART
        more = exponent > self._exponent + _PART
        self._rest = np.where(once, self._whole, np.where(more, 0, self._rest))
        self._whole[once | more] = 0
        self._exponent = exponent

    def merge(self, other: Columns) -> None:
        """Take other rows in. Columns that one of both does not have are 0 in it."""
        if other.low.size > self.low.size:
            self._pad(other.low.size)
        elif other.low.size < self.low.size:
            other._pad(self.low.size)
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        exponent = self._needed()
        self._rise(exponent)
        other._rise(exponent)
        self._whole += other._whole
        self._rest += other._rest
        self.rows += other.rows

    def _pad(self, columns: int) -> None:
        more = columns - self.low.size
        ends = (0.0, 0.0) if self.rows else (np.inf, -np.inf)
        self.low = np.pad(self.low, (0, more), constant_values=ends[0])
        self.high = np.pad(self.high, (0, more), constant_values=ends[1])
        self._exponent = np.pad(self._exponent, (0, more), constant_values=_LEAST_EXPONENT)
        self._whole, self._rest = np.pad(self._whole, (0, more)), np.pad(self._rest, (0, more))

    def means(self) -> NDArray[np.float64]:
        """The mean of each column, float64 (columns,), within its range."""
        sums = self._whole + self._rest / float(1 << _PART)
        return self._within(sums / self.rows)

    def _within(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means in units of ``2^E`` in those of the values, within their range whatever rounds."""
        with np.errstate(over="ignore"):
            return np.clip(np.ldexp(means, self._exponent), self.low, self.high) + 0.0

    def weighted_means(self, a: NDArray, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The means of the rows of ``a``, which these are the columns of, by weights (N,)."""
        total = np.zeros(a.shape[1])
        for rows in chunks(a):
            scaled = np.ldexp(dense(a[rows]).astype(np.float64), -self._exponent)
            total += weights[rows] @ scaled
        return self._within(total / weights.sum())
