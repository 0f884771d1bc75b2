"""Draws on the grid: dithers by counters, and the codes that they make of values.

Written from the formulas of docs/data.md, "Randomness", as :mod:`zipml_pynq.data.grid` is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import CONFIG
from zipml_pynq.data.checks import check_choice, check_int
from zipml_pynq.data.grid import base, code_type, interval, positions
from zipml_pynq.errors import ArgumentError

#: What is drawn for each value: two independent dithers, one, none (round to nearest), or several.
SAMPLINGS: tuple[str, ...] = ("double", "single", "nearest", "independent")


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
        1..16, with ``levels`` 1..8.
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
        Of "independent": how many, 2 to 16; the first two are those of "double".

    Returns
    -------
    tuple of ndarray, uint32, (N, n)
    """
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
) -> tuple[NDArray[np.signedinteger], ...]:
    """Codes of values: level indices 0..2^(bits-1), Q1 and, for "double", an independent Q2.

    Parameters are those of :func:`dithers`; ``V`` is (N, n), clipped to [-1, 1] and to the ends of
    ``levels``. The sampled value is the code's level: of :func:`levels`, or :func:`decode` of the
    table.

    Returns
    -------
    tuple of ndarray, int16 (at 16 bits int32), (N, n)
    """
    u = positions(V)
    floor = base(u, bits, levels)
    drawn = dithers(u, bits, seed, draw, sampling, first_sample, levels, count)
    return tuple((floor + d).astype(code_type(bits)) for d in drawn)
