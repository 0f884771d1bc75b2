"""Samples to planes: the compiled half of packing, ``sw_emu/pack.cpp``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zipml_pynq._engine import ffi, lib
from zipml_pynq.data.alignment import empty_aligned
from zipml_pynq.data.layout import (
    BITPLANES,
    FLOAT32,
    FORMAT_CODES,
    REFETCH,
    Layout,
    ceil_divide,
    full_words,
)
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.rows import float_rows, in_threads, pointer


def pack_planes(
    X: NDArray,
    normalization: Normalization,
    layout: Layout,
    seed: int,
    draw: int,
    level_table: NDArray[np.int16] | None,
    threads: int | None,
    first_block: int = 0,
) -> NDArray[np.uint64]:
    """Planes (blocks, uint64 words of a block) of checked raw samples, from a block's first on."""
    blocks = ceil_divide(X.shape[0], layout.block_samples)
    planes = empty_aligned((blocks, layout.block_stride * layout.word_bits // 64), np.uint64)
    grid = BITPLANES if layout.value_format == REFETCH else layout.value_format
    _pack_into(
        planes, X, normalization, layout, grid, seed, draw, level_table, threads, first_block
    )
    return planes


def pack_full(
    X: NDArray, normalization: Normalization, layout: Layout, threads: int | None
) -> NDArray[np.uint64]:
    """float32 values (blocks * block_samples, uint64 of a row) of checked raw samples."""
    words = full_words(layout)
    blocks = ceil_divide(X.shape[0], layout.block_samples)
    rows = empty_aligned((blocks, layout.block_samples * words), np.uint64)
    _pack_into(rows, X, normalization, layout, FLOAT32, 0, 0, None, threads)
    return rows.reshape(-1, words)


def _pack_into(
    planes: NDArray[np.uint64],
    X: NDArray,
    normalization: Normalization,
    layout: Layout,
    value_format: str,
    seed: int,
    draw: int,
    level_table: NDArray[np.int16] | None,
    threads: int | None,
    first_block: int = 0,
) -> None:
    """Fills rows of blocks with planes or values, as ``value_format`` says.

    ``X`` are the samples from the first one of ``first_block`` on.
    """
    mid, divisor = normalization.mid, normalization.divisor
    stored = () if value_format == FLOAT32 else layout.bits
    lanes = None  # tables transposed: neighbouring features lie side by side
    if level_table is not None:
        lanes = np.ascontiguousarray(
            np.broadcast_to(level_table.T, (layout.level_count, layout.features))
        )
    fields = {
        "mid": pointer("const double *", mid),
        "divisor": pointer("const double *", divisor),
        "seed": seed,
        "draw": draw,
        "columns": normalization.columns,
        "features": layout.features,
        # the last ones of a part that is not the end fill their block
        "samples": first_block * layout.block_samples + X.shape[0],
        "block_samples": layout.block_samples,
        "word_bits": layout.word_bits,
        "format": FORMAT_CODES[value_format],
        "precisions": sum(1 << bits for bits in stored),
        "dither_planes": layout.dither_planes(),
        "nearest": layout.sampling == "nearest",
        "levels": ffi.NULL if lanes is None else pointer("const int16_t *", lanes),
    }

    size = layout.block_samples

    def work(first: int, last: int) -> None:
        end = min(last * size, X.shape[0])
        for start, rows in float_rows(X, first * size, end, multiple=size):
            layout_of_rows = {
                "row_stride": rows.strides[0] // rows.itemsize,
                "x_bytes": rows.itemsize,
            }
            lib.zipml_pack(
                ffi.new("ZipmlPacking *", {**fields, **layout_of_rows}),
                pointer("const void *", rows),
                first_block + start // size,
                first_block + ceil_divide(start + len(rows), size),
                pointer("uint64_t *", planes[start // size :]),
            )

    in_threads(work, len(planes), X.shape[0] * X.shape[1], threads)
