"""Samples to planes: the compiled half of packing, ``sw_emu/pack.cpp``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

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
from zipml_pynq.data.rows import in_threads, ordered_rows, pointer

#: Samples of so many values are packed in one piece by one thread.
SMALL_VALUES = 1 << 18


def pack_planes(
    X: NDArray,
    normalization: Normalization,
    layout: Layout,
    seed: int,
    draw: int,
    level_table: NDArray[np.int16] | None,
    threads: int | None,
    first_block: int = 0,
    order: NDArray[np.intp] | None = None,
) -> NDArray[np.uint64]:
    """Planes (blocks, uint64 words of a block) of checked raw samples, from a block's first on, or
    of ``X[order]``."""
    blocks = ceil_divide(X.shape[0], layout.block_samples)
    planes = empty_aligned((blocks, layout.block_stride * layout.word_bits // 64), np.uint64)
    grid = BITPLANES if layout.value_format == REFETCH else layout.value_format
    _pack_into(
        planes, X, normalization, layout, grid, seed, draw, level_table, threads, first_block, order
    )
    return planes


def pack_full(
    X: NDArray,
    normalization: Normalization,
    layout: Layout,
    threads: int | None,
    order: NDArray[np.intp] | None = None,
) -> NDArray[np.uint64]:
    """float32 values (blocks * block_samples, uint64 of a row) of checked raw samples."""
    words = full_words(layout)
    blocks = ceil_divide(X.shape[0], layout.block_samples)
    rows = empty_aligned((blocks, layout.block_samples * words), np.uint64)
    _pack_into(rows, X, normalization, layout, FLOAT32, 0, 0, None, threads, order=order)
    return rows.reshape(-1, words)


class Redraws:
    """Packs the same samples again and again: what stays the same is made once.

    Parameters
    ----------
    X : array or sparse matrix
        Checked raw samples.
    normalization, layout, seed, level_table
        As of :func:`pack_planes`.
    """

    def __init__(
        self,
        X: Any,
        normalization: Normalization,
        layout: Layout,
        seed: int,
        level_table: NDArray[np.int16] | None,
    ) -> None:
        self.X, self.layout = X, layout
        self.given = (normalization, layout, seed, level_table)
        grid = BITPLANES if layout.value_format == REFETCH else layout.value_format
        self.kept = _fields(normalization, layout, grid, seed, 0, level_table)
        # small samples are one call of compiled code, which takes no other types
        ready = not issparse(X) and X.dtype in (np.float32, np.float64)
        self.small = ready and X.size <= SMALL_VALUES

    def draw(self, order: NDArray[np.intp], draw: int) -> NDArray[np.uint64]:
        """Planes of the samples in an order, with a draw, as of :func:`pack_planes`."""
        rows = self.X[order]
        if not self.small:
            normalization, layout, seed, level_table = self.given
            return pack_planes(rows, normalization, layout, seed, draw, level_table, None)
        rows = np.ascontiguousarray(rows)
        layout = self.layout
        planes = empty_aligned(
            (layout.blocks, layout.block_stride * layout.word_bits // 64), np.uint64
        )
        packing = ffi.new("ZipmlPacking *", self.kept)
        packing.draw, packing.samples = draw, len(rows)
        packing.row_stride, packing.x_bytes = rows.shape[1], rows.itemsize
        lib.zipml_pack(
            packing,
            ffi.from_buffer(rows),
            0,
            layout.blocks,
            ffi.from_buffer("uint64_t[]", planes),
        )
        return planes


def _fields(
    normalization: Normalization,
    layout: Layout,
    value_format: str,
    seed: int,
    draw: int,
    level_table: NDArray[np.int16] | None,
) -> dict[str, Any]:
    """A ZipmlPacking but for the samples."""
    stored = () if value_format == FLOAT32 else layout.bits
    lanes = None  # tables transposed: neighbouring features lie side by side
    if level_table is not None:
        lanes = np.ascontiguousarray(
            np.broadcast_to(level_table.T, (layout.level_count, layout.features))
        )

    def address(kind: str, array: NDArray) -> Any:
        # which keeps the array alive as long as it is there itself
        return ffi.from_buffer(kind, np.ascontiguousarray(array))

    return {
        "mid": address("double[]", normalization.mid),
        "divisor": address("double[]", normalization.divisor),
        "seed": seed,
        "draw": draw,
        "columns": normalization.columns,
        "features": layout.features,
        "block_samples": layout.block_samples,
        "word_bits": layout.word_bits,
        "format": FORMAT_CODES[value_format],
        "precisions": sum(1 << bits for bits in stored),
        "dither_planes": layout.dither_planes(),
        "nearest": layout.sampling == "nearest",
        "levels": ffi.NULL if lanes is None else address("int16_t[]", lanes),
    }


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
    order: NDArray[np.intp] | None = None,
) -> None:
    """Fills rows of blocks with planes or values, as ``value_format`` says.

    ``X``, or ``X[order]``, are the samples from the first one of ``first_block`` on.
    """
    fields = _fields(normalization, layout, value_format, seed, draw, level_table)
    # the last ones of a part that is not the end fill their block
    fields["samples"] = first_block * layout.block_samples + X.shape[0]
    size = layout.block_samples

    def work(first: int, last: int) -> None:
        end = min(last * size, X.shape[0])
        for start, count, rows, numbers in ordered_rows(X, first * size, end, size, order):
            layout_of_rows = {
                "row_stride": rows.strides[0] // rows.itemsize,
                "x_bytes": rows.itemsize,
                "order": ffi.NULL if numbers is None else pointer("int64_t *", numbers),
            }
            lib.zipml_pack(
                ffi.new("ZipmlPacking *", {**fields, **layout_of_rows}),
                pointer("const void *", rows),
                first_block + start // size,
                first_block + ceil_divide(start + count, size),
                pointer("uint64_t *", planes[start // size :]),
            )

    in_threads(work, len(planes), X.shape[0] * X.shape[1], threads)
