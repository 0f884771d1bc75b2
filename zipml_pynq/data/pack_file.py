"""Packing of data sets larger than memory: rows in blocks, written to a file block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, issparse, vstack

from zipml_pynq.data.checks import check_data
from zipml_pynq.data.files import check_target
from zipml_pynq.data.labels import fixed_labels
from zipml_pynq.data.layout import BITPLANES, REFETCH, Layout, check_columns
from zipml_pynq.data.names import Names
from zipml_pynq.data.normalization import Normalization, Ranges
from zipml_pynq.data.pack import Request, check_normalization, level_source, warn_of_clipped
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.packed_file import FILE_KIND, metadata_of, normalization_tensors, shapes_of
from zipml_pynq.data.planes import pack_full, pack_planes
from zipml_pynq.data.tensor_file import TensorWriter
from zipml_pynq.errors import ArgumentError

#: Values that are packed at a time where rows come in blocks.
_STREAMED_VALUES = 1 << 20
#: Rows of samples, dense or sparse, and their labels, again and again from the first on.
RowBlocks = Callable[[], Iterable[tuple[Any, Any]]]


def pack_file(
    blocks: RowBlocks,
    path: str | os.PathLike[str],
    *,
    bits: int | Iterable[int] | None = None,
    sampling: str | None = None,
    word_bits: int | None = 64,
    batch: int | None = 16,
    block_samples: int | None = None,
    seed: int = 0,
    draw: int = 0,
    intercept: bool = True,
    normalization: Normalization | None = None,
    value_format: str = BITPLANES,
    levels: ArrayLike | None = None,
    dithers: int | None = None,
    names: Names | None = None,
    threads: int | None = None,
) -> PackedDataset:
    """:func:`pack` of rows that come in blocks, written to a file block by block.

    The file is the one that ``pack(..).save(path)`` writes of all rows together, to the bit,
    however they are cut into blocks. Memory holds a few blocks, never the data set; the rows are
    asked for twice, once for their number and the ranges of their columns, once to be packed; a
    third time in between where a normalization or table is given, to count what these clip.

    Parameters
    ----------
    blocks : callable
        Returns an iterable of pairs ``X``, ``y`` of some rows, the same in every call. Sparse
        blocks may have fewer columns than others: 0 in those that they do not reach.
    path : path-like
        Where to write; nothing is there before everything is.
    levels : array_like, optional
        A table, as in :func:`pack`; fitting one takes all rows at hand.
    bits, sampling, word_bits, batch, block_samples, seed, draw
        As in :func:`pack`.
    intercept, normalization, value_format, dithers, names, threads
        As in :func:`pack`.

    Returns
    -------
    PackedDataset
        A map of the file.

    Raises
    ------
    ArgumentError
        As :func:`pack`; or the blocks were not the same a second time.
    PackedFileError
        The file cannot be written.
    """
    request = Request.of(
        value_format, bits, sampling, dithers, word_bits, batch, block_samples, seed, draw
    )
    value_format = request.value_format
    if isinstance(levels, str) and levels != "uniform":
        raise ArgumentError(f"levels was {levels!r}; allowed are a table and 'uniform' here")
    check_target(path)
    names = names or Names()
    ranges = Ranges(threads)
    has_one = intercept if normalization is None else getattr(normalization, "intercept", False)
    for X, y in blocks():
        check_columns(np.shape(X)[-1], bool(has_one), value_format, word_bits)
        ranges.update(X, y)
    if ranges.rows == 0:
        raise ArgumentError("blocks were none; allowed is at least one row")
    fitted = normalization is None
    if normalization is None:
        normalization = ranges.normalization(intercept)
    check_normalization(normalization)
    columns = normalization.columns
    source = level_source(levels, value_format, request.bits, normalization.features)
    table = None if isinstance(source, str) else source
    layout, batch = request.layout(ranges.rows, normalization.features, source)
    size = layout.block_samples
    clipped = 0
    if not (fitted and table is None):
        # the file's header tells it, so it is counted first
        for a, labels in _whole_blocks(blocks(), size, columns):
            clipped += normalization.out_of_range(a, table, threads)
            clipped += fixed_labels(labels, normalization, layout)[1]
    described = normalization_tensors(normalization)
    if table is not None:
        described["levels"] = table
    shapes = shapes_of(layout) | {name: tensor.shape for name, tensor in described.items()}
    metadata = metadata_of(
        layout,
        normalization,
        names,
        weighted=False,
        seed=int(seed),
        draw=int(draw),
        batch=batch,
        clipped=clipped,
    )
    with TensorWriter(path, FILE_KIND, shapes, metadata) as writer:
        for name, tensor in described.items():
            writer.write(name, tensor)
        parts = _whole_blocks(blocks(), size, columns)
        _write_rows(writer, parts, normalization, layout, seed, draw, table, threads)
        writer.finish()
        packed = PackedDataset.load(writer.target.final or writer.target.work, verify=False)
    warn_of_clipped(clipped)
    return packed


def _write_rows(
    writer: TensorWriter,
    parts: Iterable[tuple[Any, NDArray]],
    normalization: Normalization,
    layout: Layout,
    seed: int,
    draw: int,
    table: NDArray[np.int16] | None,
    threads: int | None,
) -> None:
    """Pack parts of whole blocks, one after the other, into a file that was begun."""
    size = layout.block_samples
    done = 0
    for X, y in parts:
        a, labels = check_data(X, y, convert=False)
        if done + len(labels) > layout.samples or done % size:
            raise ArgumentError("blocks had more rows the second time than the first")
        first = done // size
        writer.write("labels", fixed_labels(labels, normalization, layout)[0], done)
        planes = pack_planes(a, normalization, layout, seed, draw, table, threads, first)
        writer.write("planes", planes, first)
        if layout.value_format == REFETCH:
            writer.write("full", pack_full(a, normalization, layout, threads), done)
        done += len(labels)
    if done != layout.samples:
        raise ArgumentError(f"blocks had {done} rows the second time, {layout.samples} the first")


def _whole_blocks(
    parts: Iterable[tuple[Any, Any]], size: int, columns: int
) -> Iterator[tuple[Any, NDArray]]:
    """The same rows in parts of whole blocks of ``size`` samples, but for the last."""
    wanted = max(1, _STREAMED_VALUES // (size * columns)) * size
    kept: list[tuple[Any, NDArray]] = []
    rows = 0
    for X, y in parts:
        a = X
        if issparse(X):
            a = csr_matrix(X)
            if a.shape[1] > columns:
                raise ArgumentError(f"X had {a.shape[1]} columns; allowed are {columns}")
            a.resize(a.shape[0], columns)
        else:
            a = np.asarray(a)
            if a.ndim != 2 or a.shape[1] != columns:
                raise ArgumentError(f"X had shape {a.shape}; allowed are rows of {columns} columns")
        y = np.asarray(y)
        start = 0
        while rows + len(y) - start >= wanted:
            stop = start + wanted - rows
            kept.append((a[start:stop], y[start:stop]))
            yield _joined(kept)
            kept, rows, start = [], 0, stop
        if start < len(y):
            kept.append((a[start:], y[start:]))
            rows += len(y) - start
    if kept:
        yield _joined(kept)


def _joined(parts: list[tuple[Any, NDArray]]) -> tuple[Any, NDArray]:
    samples = [a for a, _ in parts]
    labels = np.concatenate([y for _, y in parts])
    if len(samples) == 1:
        return samples[0], labels
    return (vstack(samples, "csr") if issparse(samples[0]) else np.concatenate(samples)), labels
