"""Rows to pack, tables of levels, and the planes that NumPy alone makes of them."""

from __future__ import annotations

import numpy as np

from zipml_pynq.data import draws, grid
from zipml_pynq.data.layout import Layout
from zipml_pynq.data.packed import PackedDataset

SEED = (1 << 63) + 12345


def data(samples: int, columns: int, dtype=np.float32, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(3, 2, (samples, columns))
    X[0] = X[-1]  # so that the extremes lie elsewhere too
    return X.astype(dtype), rng.normal(size=samples)


def bits_into_words(lanes_first: np.ndarray) -> np.ndarray:
    """uint64 words of 0/1 lanes: lane j of the last axis is bit j % 64 of word j // 64."""
    packed = np.packbits(lanes_first.astype(np.uint8), axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8")


def random_tables(rows: int, bits: int, seed: int = 0) -> np.ndarray:
    """int16 (rows, levels): some reach -1 and 1, some do not; some have ties, some are constant."""
    rng = np.random.default_rng(seed)
    one, count = 1 << 14, (1 << (bits - 1)) + 1
    tables = np.sort(rng.integers(-one, one + 1, (rows, count)), axis=1)
    tables[::2, 0], tables[::2, -1] = -one, one
    tables[::3] = np.sort(rng.choice(tables[::3, ::2].ravel(), tables[::3].shape), axis=1)
    tables[::7] = rng.integers(-one, one + 1)
    return tables.astype(np.int16)


#: Samplings of tables of levels, of which no more than two samples are drawn.
PAIRS = tuple(sampling for sampling in draws.SAMPLINGS if sampling != "independent")


def expected_planes(V: np.ndarray, layout: Layout, seed: int, draw: int, levels) -> np.ndarray:
    """All words of a data set of values ``V``, from the layout's definition."""
    shape = (layout.blocks * layout.block_samples, layout.chunks * layout.lanes)
    if layout.value_format == "float32":
        rows = np.zeros(shape, dtype=np.float32)
        rows[: len(V), : V.shape[1]] = np.clip(V, -1, 1)
        return rows.view("<u8").reshape(layout.blocks, -1)
    u = grid.positions(V)
    top = max(layout.bits)
    base = grid.base(u, top, levels)
    planes = [base >> (top - 2 - p) & 1 for p in range(top - 1)]
    for bits in sorted(layout.bits, reverse=True):
        count = max(layout.independent, 2)
        planes.extend(
            draws.dithers(u, bits, seed, draw, layout.sampling, levels=levels, count=count)
        )
    lanes = np.zeros((len(planes), *shape), dtype=np.uint8)
    for plane, bit in zip(lanes, planes, strict=True):
        plane[: len(V), : V.shape[1]] = bit
    words = bits_into_words(lanes).reshape(len(planes), layout.blocks, -1)
    return words.transpose(1, 0, 2).reshape(layout.blocks, -1)


def check_against_numpy(packed: PackedDataset, X: np.ndarray) -> None:
    V = packed.normalization.transform(X)
    expected = expected_planes(V, packed.layout, packed.seed, packed.draw, packed.levels)
    assert np.array_equal(packed.planes, expected)


def assert_same(a: PackedDataset, b: PackedDataset) -> None:
    assert a.layout == b.layout
    assert a.normalization == b.normalization
    assert (a.seed, a.draw, a.batch, a.clipped) == (b.seed, b.draw, b.batch, b.clipped)
    assert (a.levels is None) == (b.levels is None)
    pairs = [(a.planes, b.planes), (a.labels, b.labels)]
    if a.levels is not None:
        pairs.append((a.levels, b.levels))
    for left, right in pairs:
        assert left.dtype == right.dtype
        assert np.array_equal(left, right)
