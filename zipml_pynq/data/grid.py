"""The level grid: positions of values, levels, the interval between two levels that a value is in.

The NumPy half of docs/data.md, written from its formulas. ``sw_emu/pack.cpp`` computes the same
bits in compiled code; this module and :mod:`zipml_pynq.data.draws` are what it is tested against.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import CONFIG, MAX_BITS, WIDE_MAX_BITS
from zipml_pynq.data.checks import check_bits
from zipml_pynq.errors import ArgumentError

#: A position is 0 at -1 and 2^31 at +1.
POSITION_BITS = 31
#: Fraction bits of a level in a table.
LEVEL_FRACTION_BITS: int = CONFIG.level_fraction_bits


def uniform_levels(bits: int) -> NDArray[np.float64]:
    """The grid: ``2^(bits-1) + 1`` levels from -1 to +1, one for each code."""
    intervals = 1 << (check_bits(bits, WIDE_MAX_BITS) - 1)
    return np.arange(intervals + 1) * (2.0 / intervals) - 1.0


def code_type(bits: int) -> np.dtype[np.signedinteger]:
    """The least type that holds the codes 0..2^(bits-1): int16, but at 16 bits."""
    return np.dtype(np.int16 if bits < WIDE_MAX_BITS else np.int32)


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
        1..16, with ``levels`` 1..8.
    levels : ndarray, int16, (1 or features, 2^(bits-1) + 1), optional
        As :func:`check_levels` returns it; by default the uniform grid. Positions outside a
        table's ends are clipped to them.

    Returns
    -------
    base, fraction, width : ndarray, uint32, of the shape of ``u``
        Index of the level at or below each position, 0..2^(bits-1) - 1; distance from it,
        0..width inclusive; and the interval's width, in steps of positions.
    """
    check_bits(bits, WIDE_MAX_BITS if levels is None else MAX_BITS)
    if levels is None:
        top = np.uint32((1 << (WIDE_MAX_BITS - 1)) - 1)
        finest = np.minimum(u >> np.uint32(POSITION_BITS - WIDE_MAX_BITS + 1), top)
        below = finest >> np.uint32(WIDE_MAX_BITS - bits)
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
