"""The values that planes stand for.

What training computes with: unpacked in NumPy and without compiled code for the reference, and by
compiled code for the choice of the step and for all that looks at a packed data set again.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq._engine import lib
from zipml_pynq.constants import CONFIG
from zipml_pynq.data.grid import decode
from zipml_pynq.data.layout import LEVELS, most_bits, streamed_dithers
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.rows import pointer

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]


def unpack_planes(packed: PackedDataset, planes: slice) -> NDArray[np.uint8]:
    """Bits of stored planes, uint8, shape (blocks, planes, block_samples, features)."""
    layout = packed.layout
    blocks, samples = layout.blocks, layout.block_samples
    words = np.asarray(packed.planes).astype("<u8", copy=False).reshape(blocks, -1)
    words = words.reshape(blocks, layout.stored_planes, -1)[:, planes]
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    bits = bits.reshape(blocks, bits.shape[1], samples, layout.chunks * layout.lanes)
    return bits[..., : layout.features]


def value_fraction_bits(value_format: str) -> int:
    """Fraction bits of the values that training sums are computed from (docs/arithmetic.md)."""
    return int(
        CONFIG.level_fraction_bits if value_format == LEVELS else most_bits(value_format) - 1
    )


def kernel_values(
    packed: PackedDataset, bits: int, sampling: str, degree: int = 0
) -> tuple[IntArray, ...]:
    """What the samples of every value stand for, with :func:`value_fraction_bits`.

    Parameters
    ----------
    packed : PackedDataset
        Any format but "float32".
    bits : int
        A stored precision.
    sampling : str
        A plan's sampling.
    degree : int
        With "independent", one less than the number of samples of a value.

    Returns
    -------
    tuple of ndarray of int64, shape (samples, features)
        One for each dither that is streamed.
    """
    layout = packed.layout
    base = np.zeros((layout.blocks, layout.block_samples, layout.features), dtype=np.int64)
    for plane in range(bits - 1):
        base = 2 * base + unpack_planes(packed, slice(plane, plane + 1))[:, 0]
    first = layout.dither_offset(bits) // (layout.block_samples * layout.chunks)
    count = streamed_dithers(sampling, degree)
    dithers = unpack_planes(packed, slice(first, first + count))
    codes = [base + dithers[:, d] for d in range(count)]
    if layout.value_format == "levels":
        assert packed.levels is not None
        tables = np.broadcast_to(packed.levels, (layout.features, packed.levels.shape[1]))
        q = [tables[np.arange(layout.features), code].astype(np.int64) for code in codes]
    else:
        # level 0 of the grid is -1, level 2^(b-1) is +1
        one = 1 << value_fraction_bits(layout.value_format)
        level = one >> (bits - 2) if bits > 1 else 2 * one
        q = [code * level - one for code in codes]
    return tuple(v.reshape(-1, layout.features)[: layout.samples] for v in q)


def rows_of_words(words: NDArray[np.uint64], samples: int, features: int) -> NDArray[np.float32]:
    """Rows of float32 values, padded to whole words, shape (samples, features).

    Parameters
    ----------
    words : ndarray of uint64, shape (rows, uint64 of a row)
    """
    rows = np.ascontiguousarray(words).astype("<u8", copy=False).view("<f4")
    return rows[:samples, :features].astype(np.float32)


def float_values(packed: PackedDataset) -> NDArray[np.float32]:
    """Samples of a data set of format "float32", shape (samples, features)."""
    layout = packed.layout
    words = np.ascontiguousarray(packed.planes).astype("<u8", copy=False).view("<f4")
    rows = words.reshape(-1, layout.chunks * layout.lanes)
    return rows[: layout.samples, : layout.features].astype(np.float32)


def block_values(
    packed: PackedDataset, bits: int, sampling: str, blocks: NDArray[np.intp]
) -> tuple[FloatArray, FloatArray]:
    """Q1 and Q2 of some blocks in normalized units, padded samples included.

    Returns
    -------
    tuple of ndarray of float32, shape (len(blocks) * block_samples, features)
        Exact; the same array twice where only one sample of a value is streamed.
    """
    layout = replace(packed.layout, samples=len(blocks) * packed.layout.block_samples)
    some: Any = SimpleNamespace(planes=packed.planes[blocks], layout=layout, levels=packed.levels)
    if layout.value_format == "float32":
        values = float_values(some)
        return values, values
    # of independent samples any two will do
    count = min(2, streamed_dithers(sampling, 1))
    q = [_drawn_values(some, bits, dither) for dither in range(count)]
    return q[0], q[-1]


def _drawn_values(some: Any, bits: int, dither: int) -> FloatArray:
    """One sample of every value, by compiled code: what :func:`kernel_values` finds, as float32."""
    layout = some.layout
    codes = np.empty((layout.samples, layout.features), dtype=np.uint16)
    lib.zipml_unpack(
        pointer("const uint64_t *", some.planes),
        layout.word_bits,
        layout.features,
        layout.block_samples,
        layout.block_stride,
        layout.dither_offset(bits) + dither * layout.block_samples * layout.chunks,
        bits,
        layout.samples,
        pointer("uint16_t *", codes),
    )
    if some.levels is not None:
        one = np.float32(1 << value_fraction_bits(layout.value_format))
        return decode(some.levels.astype(np.float32) / one, codes)
    values = codes.astype(np.float32)
    values *= np.float32(2.0 ** (2 - bits))
    values -= np.float32(1)
    return values
