"""Packed data sets: compiled packing against NumPy bit by bit, layout arithmetic, files."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tracemalloc
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from zipml_pynq._engine import ffi, lib
from zipml_pynq.constants import CONFIG, MODEL_ONE, WORD_BITS
from zipml_pynq.data import checks, draws, grid, normalization
from zipml_pynq.data.alignment import CACHE_LINE
from zipml_pynq.data.layout import READABLE, Layout
from zipml_pynq.data.pack import pack
from zipml_pynq.data.pack_file import pack_file
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError, PackedFileError

#: The name of the module is that of the function.
pack_module = sys.modules[pack.__module__]
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


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("sampling", draws.SAMPLINGS)
@pytest.mark.parametrize("columns", [1, 63, 64, 65, 90, 1000])
def test_compiled_packing_is_numpy_bit_for_bit(word_bits, sampling, columns):
    for dtype in (np.float32, np.float64):
        X, y = data(37, columns, dtype)
        for bits in (range(1, 9), 1, 3, 8):
            for intercept in (True, False):
                options = {"word_bits": word_bits, "batch": 4, "seed": SEED, "draw": 7}
                if sampling == "independent":
                    options["dithers"] = 2 + columns % 7
                packed = pack(X, y, bits=bits, sampling=sampling, intercept=intercept, **options)
                check_against_numpy(packed, X)
                V = packed.normalization.transform(X)
                for b in packed.layout.bits:
                    codes = packed.unpack(b)
                    codes = codes if isinstance(codes, tuple) else (codes,)
                    count = options.get("dithers", 2)
                    reference = draws.quantize(V, b, sampling, SEED, 7, count=count)
                    assert len(codes) == len(reference)
                    for got, expected in zip(codes, reference, strict=True):
                        assert got.dtype == np.int16
                        assert np.array_equal(got, expected)


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("columns", [1, 15, 16, 63, 90, 127])
def test_float32_format(word_bits, columns):
    X, y = data(37, columns, np.float64)
    packed = pack(X, y, word_bits=word_bits, batch=4, value_format="float32")
    assert packed.layout.bits == (32,)
    assert packed.layout.sampling == "single"
    check_against_numpy(packed, X)
    assert np.array_equal(packed.values(), packed.normalization.transform(X))
    assert packed.layout.bytes_per_epoch() == packed.planes.nbytes


@pytest.mark.filterwarnings("ignore:.*were clipped")
@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("sampling", PAIRS)
@pytest.mark.parametrize("columns", [1, 14, 63, 64, 65, 90, 200])
def test_compiled_packing_with_levels_is_numpy_bit_for_bit(word_bits, sampling, columns):
    for dtype in (np.float32, np.float64):
        X, y = data(37, columns, dtype)
        for bits in (1, 2, 3, 4, 8):
            for rows in (1, columns + 1, columns):
                intercept = rows != columns
                tables = random_tables(rows, bits, seed=bits)
                packed = pack(
                    *(X, y),
                    **{"word_bits": word_bits, "batch": 4, "seed": SEED, "draw": 7},
                    **{"bits": bits, "sampling": sampling, "intercept": intercept},
                    levels=tables,
                )
                assert packed.layout.value_format == "levels"
                assert packed.layout.level_tables == rows
                assert np.array_equal(packed.levels, tables)
                check_against_numpy(packed, X)
                V = packed.normalization.transform(X)
                reference = draws.quantize(V, bits, sampling, SEED, 7, levels=tables)
                codes, values = packed.unpack(), packed.values()
                if sampling != "double":
                    codes, values = (codes,), (values,)
                feature = np.arange(packed.layout.features) if rows > 1 else 0
                for got, code, expected in zip(values, codes, reference, strict=True):
                    assert np.array_equal(code, expected)
                    assert got.dtype == np.float32
                    assert np.array_equal(got, tables[feature, expected] / 2.0**14)


@pytest.mark.filterwarnings("ignore:.*were clipped")
@given(
    samples=st.integers(1, 60),
    columns=st.integers(1, 140),
    bits=st.integers(1, 8),
    sampling=st.sampled_from(PAIRS),
    word_bits=st.sampled_from(WORD_BITS),
    dtype=st.sampled_from([np.float32, np.float64]),
    pooled=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
    threads=st.integers(1, 3),
)
@settings(max_examples=100, deadline=None)
def test_any_tables(samples, columns, bits, sampling, word_bits, dtype, pooled, seed, threads):
    X, y = data(samples, columns, dtype, seed=samples)
    options = {"bits": bits, "sampling": sampling, "word_bits": word_bits, "threads": threads}
    tables = random_tables(1 if pooled else columns + 1, bits, seed % 1000)
    packed = pack(X, y, **options, batch=2, seed=seed, levels=tables)
    check_against_numpy(packed, X)
    V = packed.normalization.transform(X)
    assert packed.clipped == ((tables[:, 0] / 2.0**14 > V) | (tables[:, -1] / 2.0**14 < V)).sum()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("sampling", PAIRS)
def test_tables_of_the_uniform_grid_are_the_uniform_format(bits, sampling):
    X, y = data(100, 70)
    uniform = pack(X, y, bits=bits, sampling=sampling, block_samples=32)
    for rows in (1, 71):
        tables = np.tile(grid.uniform_levels(bits), (rows, 1))
        packed = pack(X, y, bits=bits, sampling=sampling, block_samples=32, levels=tables)
        assert packed.clipped == 0
        assert np.array_equal(packed.planes, uniform.planes)
        assert np.array_equal(packed.values(), uniform.values())


def test_levels_are_reused_and_stored(tmp_path):
    X, y = data(100, 12)
    tables = random_tables(13, 3)
    tables[:, 0], tables[:, -1] = -(1 << 14), 1 << 14  # every value is between them
    packed = pack(X, y, bits=3, levels=tables, seed=3)
    again = packed.redraw(X, 8)
    assert np.array_equal(again.levels, tables)
    assert np.array_equal(again.planes, pack(X, y, bits=3, levels=tables, seed=3, draw=8).planes)
    assert not np.array_equal(again.planes, packed.planes)
    new = pack(X[:20], y[:20], bits=3, levels=packed.levels, normalization=packed.normalization)
    assert np.array_equal(new.levels, tables)
    assert pack(X, y, levels=pack(X, y).levels).levels is None
    with pytest.raises(ValueError, match="read-only"):
        packed.levels[0, 0] = 1
    for original in (packed, pack(X, y, bits=3, levels=tables[:1])):
        original.save(tmp_path / "set")
        for mmap in (True, False):
            loaded = PackedDataset.load(tmp_path / "set", mmap=mmap)
            assert_same(loaded, original)
            assert np.array_equal(loaded.values(), original.values())
            assert np.array_equal(loaded.redraw(X, 8).levels, original.levels)


def test_tables_that_are_fitted(monkeypatch):
    """What ``pack`` asks of fit_levels, without what fit_levels does."""
    calls = []

    def fit_levels(X, normalization, bits, per_column=True, method="auto", threads=None):
        calls.append((X, bits, per_column, threads))
        return np.tile(
            grid.check_levels([grid.uniform_levels(bits)], bits, 1), (13 if per_column else 1, 1)
        )

    module = types.ModuleType("zipml_pynq.data.levels")
    module.fit_levels = fit_levels
    monkeypatch.setitem(sys.modules, "zipml_pynq.data.levels", module)
    X, y = data(100, 12)
    optimal = pack(X, y, bits=3, levels="optimal", threads=1)
    pooled = pack(X, y, levels="global", value_format="levels")
    assert (optimal.layout.level_tables, pooled.layout.level_tables) == (13, 1)
    assert [call[1:] for call in calls] == [(3, True, 1), (4, False, None)]
    assert np.array_equal(calls[0][0], X)


def test_values_outside_the_ends_of_a_table_are_clipped_and_counted():
    fitted = normalization.Normalization.fit([[-1], [1]], [0, 1])
    X = np.array([[-3], [-1], [-0.75], [-0.5], [0], [0.5], [0.75], [3]])
    with pytest.warns(RuntimeWarning, match="5 value"):
        packed = pack(X, X[:, 0], bits=2, levels=[[-0.5, 0, 0.5], [0, 0, 1]], normalization=fitted)
    assert packed.clipped == 5
    expected = [-0.5, -0.5, -0.5, -0.5, 0, 0.5, 0.5, 0.5]
    assert packed.values()[0][:, 0].tolist() == expected
    assert (packed.values()[1][:, 1] == 1).all()
    with pytest.warns(RuntimeWarning, match="13 value"):  # and the intercept of every sample
        pack(X, X[:, 0], bits=2, levels=[[-0.5, 0, 0.5], [0, 0, 0.5]], normalization=fitted)


def test_what_tables_take_of_the_accelerator():
    layout = Layout(1000, 65, 64, 32, (4,), "double", "levels", 65)
    assert (layout.lanes, layout.chunks, layout.level_count) == (64, 2, 9)
    assert (layout.base_planes, layout.stored_planes, layout.planes(4, "single")) == (3, 5, 4)
    assert layout.dither_offset() == 3 * 64
    assert layout.block_stride == layout.planes() * 64
    assert layout.block_words() == layout.block_words(4, "single") == 64
    assert layout.max_block_samples == CONFIG.level_block_words // 2
    several = Layout(1000, 65, 64, 32, (1, 4), "double")
    assert [several.block_words(b) for b in (1, 4)] == [2 * 64, 5 * 64]
    assert several.block_words(4, "single") == 4 * 64
    assert several.level_count == 0
    # one memory a lane of a quarter of a word; whole tables lie behind each other
    for word_bits in WORD_BITS:
        most = CONFIG.level_table // 129 * word_bits // CONFIG.level_parts
        assert Layout(9, most, word_bits, 8, (8,), "double", "levels", most).level_tables == most
        with pytest.raises(ArgumentError, match=rf"levels had one table a feature: {most + 1} tab"):
            Layout(9, most + 1, word_bits, 8, (8,), "double", "levels", most + 1)
        Layout(9, most + 1, word_bits, 8, (8,), "double", "levels", 1)


@given(
    samples=st.integers(1, 80),
    columns=st.integers(1, 140),
    batch=st.integers(1, 20),
    bits=st.sets(st.integers(1, 8), min_size=1),
    sampling=st.sampled_from(draws.SAMPLINGS),
    word_bits=st.sampled_from(WORD_BITS),
    dtype=st.sampled_from([np.float32, np.float64]),
    intercept=st.booleans(),
    batches=st.integers(1, 5),
    seed=st.integers(0, 2**64 - 1),
    draw=st.integers(0, 2**32 - 1),
    threads=st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_any_shape(
    samples,
    columns,
    batch,
    bits,
    sampling,
    word_bits,
    dtype,
    intercept,
    batches,
    seed,
    draw,
    threads,
):
    X, y = data(samples, columns, dtype, seed=samples)
    packed = pack(
        X,
        y,
        bits=bits,
        sampling=sampling,
        word_bits=word_bits,
        batch=batch,
        block_samples=batch * batches,
        seed=seed,
        draw=draw,
        intercept=intercept,
        threads=threads,
    )
    check_against_numpy(packed, X)
    labels = np.rint(packed.normalization.transform_labels(y) * MODEL_ONE)
    assert np.array_equal(packed.labels[:samples], labels)
    assert not packed.labels[samples:].any()


def test_work_split_does_not_change_a_bit():
    X, y = data(1000, 90)
    whole = pack(X, y, bits=[2, 4], batch=8, block_samples=24, seed=5, threads=1)
    for threads in (2, 3, 7, 64):
        split = pack(X, y, bits=[2, 4], batch=8, block_samples=24, seed=5, threads=threads)
        assert np.array_equal(split.planes, whole.planes)
    # streamed: only the rows of the blocks in hand, into a buffer of their own
    layout, normalization = whole.layout, whole.normalization
    divisor = normalization.divisor
    packing = ffi.new(
        "ZipmlPacking *",
        {
            "mid": ffi.cast("double *", normalization.mid.ctypes.data),
            "divisor": ffi.cast("double *", divisor.ctypes.data),
            "row_stride": 90,
            "seed": 5,
            "x_bytes": 4,
            "columns": 90,
            "features": 91,
            "samples": 1000,
            "block_samples": 24,
            "word_bits": 64,
            "format": CONFIG.format_bit_planes,
            "precisions": 1 << 2 | 1 << 4,
            "dither_planes": 2,
        },
    )
    for first, last in ((0, 5), (5, 6), (6, layout.blocks)):
        rows = X[first * 24 : last * 24].copy()
        words = layout.block_stride
        buffer = np.full((last - first) * words + 1, 0xABCD, dtype=np.uint64)
        lib.zipml_pack(
            packing,
            ffi.cast("void *", rows.ctypes.data),
            first,
            last,
            ffi.cast("uint64_t *", buffer.ctypes.data),
        )
        assert np.array_equal(buffer[:-1].reshape(-1, words), whole.planes[first:last])
        assert buffer[-1] == 0xABCD


def test_any_memory_order_of_the_samples():
    X, y = data(200, 33)
    expected = pack(X, y, threads=1).planes
    wide = np.zeros((400, 80), dtype=np.float32)
    wide[::2, 5:38] = X
    reverse = np.ascontiguousarray(X[::-1])
    spaced = np.repeat(X, 2, axis=1)
    record = np.zeros(200, dtype=[("tag", "u1"), ("x", "f4", (33,))])
    record["x"] = X
    for variant in (wide[::2, 5:38], reverse[::-1], np.asfortranarray(X), spaced[:, ::2]):
        assert np.array_equal(variant, X)
        assert np.array_equal(pack(variant, y).planes, expected)
    assert np.array_equal(pack(record["x"], y).planes, expected)
    assert np.array_equal(pack(X.astype(">f4"), y).planes, expected)
    column, labels = data(50, 1)
    assert np.array_equal(
        pack(np.repeat(column, 3, axis=1)[:, :1], labels).planes,
        pack(column, labels).planes,
    )
    same = np.broadcast_to(X[3], (200, 33))
    assert not pack(same, y).unpack()[0][:, :-1].var()


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.uint8, np.int16, np.uint32, np.int64, np.float16, ">f8", np.longdouble]
)
def test_other_types_are_packed_as_their_conversion_is(dtype, monkeypatch):
    monkeypatch.setattr(q, "_CHUNK_VALUES", 1000)  # many parts
    rng = np.random.default_rng(3)
    X = rng.integers(0, 2 if dtype == np.bool_ else 200, (700, 20)).astype(dtype)
    converted = checks.check_array("X", X, 2)
    assert converted.dtype == (np.float32 if dtype == np.float16 else np.float64)
    y = X[:, 0]
    for threads in (1, 3):
        packed = pack(X, y, block_samples=64, threads=threads)
        expected = pack(converted, y, block_samples=64)
        assert packed.normalization == expected.normalization
        assert np.array_equal(packed.planes, expected.planes)
        assert np.array_equal(packed.labels, expected.labels)
    assert np.array_equal(packed.redraw(X, 3).planes, expected.redraw(converted, 3).planes)


@pytest.mark.parametrize("kind", ["raw", "npy", "uint8", "every other row and column"])
def test_no_second_copy_of_the_samples(kind, tmp_path):
    """What is allocated at any time is the packed data set and a few megabytes."""
    samples, columns = 100_000, 100
    X = np.random.default_rng(0).integers(0, 256, (samples, columns), dtype=np.uint8)
    path = tmp_path / "samples"
    stored = X if kind == "uint8" else X.astype(np.float32)
    if kind == "npy":
        np.save(path.with_suffix(".npy"), stored)
        mapped = np.load(path.with_suffix(".npy"), mmap_mode="r")
    else:
        if kind.startswith("every"):
            stored = np.repeat(np.repeat(stored, 2, axis=0), 2, axis=1)
        stored.tofile(path)
        mapped = np.memmap(path, stored.dtype, "r", shape=stored.shape)
        if kind.startswith("every"):
            mapped = mapped[::2, ::2]
    del stored
    y = np.arange(samples, dtype=np.float32)
    expected = pack(X, y, bits=2)
    tracemalloc.start()
    try:
        packed = pack(mapped, y, bits=2)
        allocated = tracemalloc.get_traced_memory()[1]
        again = pack(mapped, y, bits=2, normalization=packed.normalization)
        twice = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(packed.planes, expected.planes)
    assert np.array_equal(again.planes, expected.planes)
    output = packed.planes.nbytes + packed.labels.nbytes
    assert allocated < output + 4e6 < X.size
    assert twice < 2 * output + 4e6


def test_edges_constants_and_values_out_of_range():
    fitted = normalization.Normalization.fit([[-1, 4, -1e308], [1, 4, 1e308]], [0, 1])
    X = np.array([[-1, 4, -1e308], [1, 4, 1e308], [0, 4, 0], [5, 9, 1.7e308], [-5, -9, -1.7e308]])
    with pytest.warns(RuntimeWarning, match="6 value"):
        packed = pack(X, [0, 1, 0, 1, 0], bits=range(1, 9), normalization=fitted, batch=1)
    assert packed.clipped == 6
    check_against_numpy(packed, X)
    for bits in range(2, 9):
        top = 1 << (bits - 1)
        for codes in packed.unpack(bits):
            # levels, ends included, are kept at every draw: a constant column is the level 0
            expected = [[0, 0, 0], [2, 2, 2], [1, 1, 1], [2, 1, 2], [0, 1, 0]]
            columns = np.array(expected) * top // 2
            columns[:, 1] = top // 2
            assert np.array_equal(codes[:, :3], columns)
            assert (codes[:, 3] == top).all()
    # 1 bit has no level for 0: a constant column is drawn
    assert {0, 1} >= set(packed.unpack(1)[0][:, 1].tolist())
    with pytest.warns(RuntimeWarning, match="6 value"):
        plain = pack(X, [0, 1, 0, 1, 0], value_format="float32", normalization=fitted, batch=1)
    check_against_numpy(plain, X)
    assert plain.values()[3].tolist() == [1, 0, 1, 1]


def test_a_difference_that_overflows_stays_in_a_constant_column():
    fitted = normalization.Normalization.fit([[-1.5e308, 0], [-1.5e308, 1]], [0, 1])
    new = np.array([[1.5e308, 0.5], [-1.5e308, 0.0]])
    for value_format in ("bitplanes", "float32"):
        with pytest.warns(RuntimeWarning, match="1 value"):
            packed = pack(new, [0, 1], normalization=fitted, value_format=value_format)
        check_against_numpy(packed, new)


def test_labels_beyond_fixed_point_saturate():
    fitted = normalization.Normalization.fit([[0], [1]], [-1, 1])
    with pytest.warns(RuntimeWarning, match="2 value"):
        packed = pack([[0], [1], [0]], [3, 1e6, -1e6], normalization=fitted)
    assert packed.labels[:3].tolist() == [3 * MODEL_ONE, 2**31 - 1, 1 - 2**31]


def test_within_range_nothing_warns():
    X, y = data(50, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pack(X, y).clipped == 0


@pytest.mark.parametrize("bits", range(1, 9))
def test_planes_add_up_to_the_value_as_the_kernel_weighs_them(bits):
    X, y = data(20, 70)
    packed = pack(X, y, bits={bits, 8}, batch=4)
    layout = packed.layout
    size = layout.block_samples * layout.chunks
    signs = (
        2 * np.unpackbits(packed.planes.view(np.uint8), axis=1, bitorder="little").astype(int) - 1
    )
    signs = signs.reshape(layout.blocks, -1, layout.block_samples, layout.chunks * layout.lanes)
    dither = layout.dither_offset(bits) // size
    for extra, values in enumerate(packed.values(bits)):
        total = sum(signs[:, p] << (6 - p) for p in range(bits - 1))
        total = total + (signs[:, dither + extra] << (8 - bits))
        total = total.reshape(-1, layout.chunks * layout.lanes)[:20, :71]
        assert np.array_equal(total / 128.0, values)


def test_one_stored_set_reads_at_any_sampling():
    X, y = data(30, 10)
    double = pack(X, y, bits=(2, 5), seed=9)
    single = pack(X, y, bits=5, sampling="single", seed=9)
    first, second = double.unpack(5)
    assert np.array_equal(double.unpack(5, "single"), first)
    assert np.array_equal(single.unpack(), first)
    for sampling in ("plain", "symmetric", "double", None):
        assert np.array_equal(double.unpack(5, sampling)[1], second)
    assert np.array_equal(double.unpack()[0], first)
    assert np.array_equal(
        double.values(2, "single"), grid.uniform_levels(2)[double.unpack(2, "single")]
    )
    assert double.values(2)[1].dtype == np.float32


def test_redraw_keeps_base_planes_and_draws_new_dithers():
    X, y = data(300, 20)
    packed = pack(X, y, bits=(1, 4), seed=3)
    again = packed.redraw(X, 8)
    assert again.draw == 8
    assert np.array_equal(again.planes, pack(X, y, bits=(1, 4), seed=3, draw=8).planes)
    assert np.array_equal(packed.redraw(X, 0).planes, packed.planes)
    words = packed.layout.base_planes * packed.layout.block_samples * packed.layout.chunks
    assert np.array_equal(again.planes[:, :words], packed.planes[:, :words])
    assert not np.array_equal(again.planes[:, words:], packed.planes[:, words:])
    other = X.copy()
    other[:, 2] = other[::-1, 2]
    with pytest.raises(ArgumentError, match=r"X was not what .* rows 0\.\.299 have other base"):
        packed.redraw(other, 1)
    with pytest.raises(ArgumentError, match=r"X had 299 row\(s\); this data set has 300"):
        packed.redraw(X[1:], 1)
    with pytest.raises(ArgumentError, match="draw was -1"):
        packed.redraw(X, -1)
    with pytest.raises(ArgumentError, match="X was nan in row 0"):
        packed.redraw(np.full_like(X, np.nan), 1)
    plain = pack(X, y, value_format="float32")
    assert np.array_equal(plain.redraw(X, 1).planes, plain.planes)
    with pytest.raises(ArgumentError, match="X was not what"):
        plain.redraw(other, 1)


def test_block_range_gives_views():
    X, y = data(100, 5)
    packed = pack(X, y, batch=8, block_samples=16)
    planes, labels = packed.block_range(2, 5)
    assert planes.base is not None
    assert np.shares_memory(planes, packed.planes)
    assert np.shares_memory(labels, packed.labels)
    assert np.array_equal(planes, packed.planes[2:5])
    assert np.array_equal(labels, packed.labels[32:80])
    with pytest.raises(ArgumentError, match=r"last was 8; allowed is 1\.\.7"):
        packed.block_range(0, 8)
    with pytest.raises(ArgumentError, match=r"first was 7; allowed is 0\.\.6"):
        packed.block_range(7, 8)


def test_packed_data_are_read_only():
    X, y = data(10, 5)
    packed = pack(X, y)
    for array in (packed.planes, packed.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        packed.seed = 1


# ---- layout ------------------------------------------------------------------------------------


def test_layout_of_several_precisions():
    layout = Layout(1000, 65, 64, 32, (1, 4, 8), "double")
    assert (layout.lanes, layout.chunks, layout.blocks) == (64, 2, 32)
    assert (layout.base_planes, layout.stored_planes) == (7, 13)
    assert layout.block_stride == 13 * 32 * 2
    assert [layout.dither_offset(b) for b in (8, 4, 1)] == [7 * 64, 9 * 64, 11 * 64]
    assert [layout.planes(b) for b in (1, 4, 8)] == [2, 5, 9]
    assert layout.planes() == 9
    assert layout.planes(4, "single") == 4
    assert layout.dither_planes() == 2
    assert layout.streamed_words(4) == 5 * 64 * 32
    assert layout.bytes_per_epoch(4, "symmetric") == 5 * 64 * 32 * 8


def test_default_blocks_fill_the_accelerator_and_waste_little():
    for samples in (1, 16, 100, 10_000, 463_715):
        for features in (9, 91, 1001, 2000):
            X = np.broadcast_to(np.zeros(features - 1, dtype=np.float32), (2, features - 1))
            layout = pack(X, [0, 1], batch=16, bits=4).layout
            largest = min(8192 // (5 * layout.chunks), 4096) // 16 * 16
            assert layout.block_samples <= largest
        X = np.broadcast_to(np.float32(1), (samples, 90))
        layout = pack(X, np.zeros(samples), batch=16, bits=4).layout
        largest = 8192 // (5 * 2) // 16 * 16
        assert layout.blocks == -(-samples // largest)
        padding = layout.blocks * layout.block_samples - samples
        assert 0 <= padding < 16 * (layout.blocks + 1)
        assert layout.planes() * layout.block_samples * layout.chunks <= CONFIG.block_words


def test_largest_model_of_each_width():
    for word_bits in WORD_BITS:
        columns = CONFIG.max_chunks * word_bits
        assert columns <= CONFIG.max_features
        X, y = data(3, columns)
        packed = pack(X, y, bits=1, batch=2, word_bits=word_bits, intercept=False)
        check_against_numpy(packed, X)
        with pytest.raises(ArgumentError, match=rf"features was {columns + 1}; .*1\.\.{columns} "):
            pack(X, y, bits=1, batch=2, word_bits=word_bits)


LAYOUT = {
    "samples": 10,
    "features": 5,
    "word_bits": 64,
    "block_samples": 8,
    "bits": (4,),
    "sampling": "double",
}
FLOATS = {"value_format": "float32", "bits": (32,), "sampling": "single"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, r"samples was 0; allowed is 1\.\.2147483648"),
        ({"features": 0}, r"features was 0; allowed is 1\.\.4096"),
        (
            {"features": 4097},
            r"features was 4097; allowed is 1\.\.4096 \(words of 64 bits",
        ),
        (
            {"features": 4097, **FLOATS},
            r"features was 4097; .*1\.\.4096 .*float32",
        ),
        ({"word_bits": 32}, r"word_bits was 32; allowed are \(64, 128, 512\)"),
        ({"word_bits": 64.0}, r"word_bits was 64.0; allowed are \(64, 128, 512\)"),
        ({"block_samples": 0}, r"block_samples was 0; allowed is 1\.\.4096"),
        ({"block_samples": 4096}, "block_samples was 4096; .* 20480 words.*8192: at most 1638 "),
        ({"bits": (4, 2)}, r"bits was \(4, 2\); it must ascend"),
        ({"bits": ()}, "bits was empty"),
        ({"bits": (9,)}, r"bits was 9; allowed is 1\.\.8"),
        ({"bits": "4"}, "bits was '4'; it must be an integer"),
        ({"sampling": "plain"}, "sampling was 'plain'; allowed are 'double', 'single', 'nearest'"),
        ({"value_format": "int8"}, "value_format was 'int8'; allowed are 'bitplanes', 'float32'"),
        ({"level_tables": 1}, "level_tables was 1; the format 'bitplanes' with 5 features has 0"),
        ({"value_format": "levels"}, "level_tables was 0; the format 'levels' .* has 1 or 5"),
        ({"value_format": "levels", "level_tables": 4}, "level_tables was 4; .* has 1 or 5"),
        ({"value_format": "levels", "bits": (2, 4), "level_tables": 1}, "has one precision"),
        (
            {"value_format": "levels", "level_tables": 1, "block_samples": 1025},
            "block_samples was 1025; a block of each plane .* 1025 words.*1024: at most 1024 sam",
        ),
        ({"value_format": "float32"}, r"the format 'float32' has bits \(32,\) and sampling"),
    ],
)
def test_layout_errors(changes, message):
    with pytest.raises(ArgumentError, match=message):
        Layout(**{**LAYOUT, **changes})


def test_reading_errors():
    X, y = data(10, 5)
    packed = pack(X, y, bits=(2, 4))
    with pytest.raises(ArgumentError, match="bits was 3; this data set stores 2, 4"):
        packed.unpack(3)
    with pytest.raises(ArgumentError, match="bits was 3; this data set stores 2, 4"):
        packed.layout.dither_offset(3)
    with pytest.raises(
        ArgumentError, match="sampling was 'nearest'; allowed are 'double', 'plain'"
    ):
        packed.values(2, "nearest")
    with pytest.raises(ArgumentError, match="value_format was 'float32', which has no codes"):
        pack(X, y, value_format="float32").unpack()
    for stored, names in READABLE.items():
        layout = pack(X, y, sampling=stored).layout
        for name in names:
            assert layout.planes(4, name) == 3 + layout.dither_planes(name)
    with pytest.raises(ArgumentError, match="sampling was 'double'; allowed are 'single'"):
        pack(X, y, sampling="single").layout.planes(4, "double")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, r"bits was 0; allowed is 1\.\.8"),
        ({"bits": []}, r"bits was empty; it must name at least one of 1\.\.8"),
        ({"bits": [4, 9]}, r"bits was 9; allowed is 1\.\.8"),
        ({"bits": 4.0}, r"bits was 4\.0; it must be an integer in 1\.\.8 or several"),
        ({"bits": None, "sampling": "all"}, "sampling was 'all'; allowed are"),
        ({"word_bits": 256}, "word_bits was 256"),
        ({"word_bits": "64"}, "word_bits was '64'"),
        ({"batch": 0}, r"batch was 0; allowed is 1\.\.256"),
        ({"batch": 257}, r"batch was 257; allowed is 1\.\.256"),
        ({"block_samples": 24}, "block_samples was 24; it must be a multiple of batch, 16"),
        ({"block_samples": 0}, "block_samples was 0"),
        ({"block_samples": 1648}, "block_samples was 1648; .*at most 1638 samples"),
        ({"seed": -1}, "seed was -1"),
        ({"seed": 2**64}, "seed was 18446744073709551616"),
        ({"seed": 1.5}, "seed was 1.5; it must be an integer"),
        ({"draw": 2**32}, "draw was 4294967296"),
        ({"threads": 0}, "threads was 0"),
        ({"normalization": 3}, "normalization was int; it must be a Normalization"),
        (
            {"normalization": normalization.Normalization([0], [1], 0, 1)},
            r"X had 6 column\(s\); .*to 1",
        ),
        ({"value_format": "int4"}, "value_format was 'int4'"),
        ({"value_format": "float32", "bits": 8}, "bits and sampling were 8 and None; .*leave them"),
        ({"value_format": "float32", "sampling": "double"}, "None and 'double'; .*leave them out"),
    ],
)
def test_pack_errors(options, message):
    X, y = data(20, 6)
    with pytest.raises(ArgumentError, match=message):
        pack(X, y, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": "best"}, "levels was 'best'; allowed are 'uniform', 'optimal', 'global'"),
        ({"levels": "optimal", "bits": (2, 4)}, r"bits was \(2, 4\); .*one precision: levels of"),
        ({"levels": "uniform", "value_format": "levels"}, "levels was 'uniform'; value_format"),
        ({"levels": "global", "value_format": "float32"}, "levels was 'global'; value_format"),
        ({"levels": [[0]], "value_format": "float32"}, "levels was 'an array'; value_format"),
        ({"levels": [0, 1]}, r"levels had shape \(2,\); allowed are \(1, 9\) and \(7, 9\)"),
        ({"levels": np.zeros((6, 9))}, r"levels had shape \(6, 9\); allowed are \(1, 9\)"),
        ({"levels": np.zeros((7, 8))}, r"levels had shape \(7, 8\); .*: 9 levels at 4 bit"),
        ({"levels": [["x"] * 9]}, "levels had dtype <U1"),
        ({"levels": np.ones((1, 9), bool)}, "levels had dtype bool"),
        ({"levels": [[np.nan] * 9]}, r"levels was nan in row 0, level 0; allowed is -1\.\.1"),
        ({"levels": [[0.0] * 8 + [1.1]]}, r"levels was 1.1 in row 0, level 8; allowed is -1\.\.1"),
        ({"levels": [[-16385] * 9]}, r"levels was -16385 in .*; allowed is -16384\.\.16384"),
        ({"levels": [[0, 5, 4] + [9] * 6]}, "levels went from 5 down to 4 in row 0; each row"),
        ({"levels": "optimal", "sampling": "plain"}, "sampling was 'plain'"),
        ({"levels": "global", "block_samples": 1040}, "block_samples was 1040"),
    ],
)
def test_wrong_levels(options, message):
    X, y = data(20, 6)
    with pytest.raises(ArgumentError, match=message):
        pack(X, y, **options)


def test_too_many_tables_are_refused_before_they_are_fitted():
    X, y = data(3, 300)
    message = "301 tables of 129 levels are 2451 in each of 16 memories, .* 2048; .*levels='global'"
    with pytest.raises(ArgumentError, match=message):
        pack(X, y, bits=8, levels="optimal")


def test_pack_checks_the_data():
    X, y = data(20, 6)
    with pytest.raises(ArgumentError, match=r"y had 19 label\(s\), X 20 row\(s\)"):
        pack(X, y[1:])
    bad = X.copy()
    bad[7, 3] = np.inf
    with pytest.raises(ArgumentError, match="X was inf in row 7, column 3"):
        pack(bad, y)
    with pytest.raises(ArgumentError, match="X was inf in row 7, column 3"):
        pack(bad, y, normalization=normalization.Normalization.fit(X, y))
    with pytest.raises(ArgumentError, match="y was nan in row 0"):
        pack(X, y * np.nan)
    with pytest.raises(ArgumentError, match="y was nan in row 0"):
        pack(X, y * np.nan, normalization=normalization.Normalization.fit(X, y))


def test_a_batch_that_cannot_fit_is_named_with_the_largest_that_would():
    X, y = data(3, 4000)
    message = "batch was 16; with 4001 features, words of 64 bits and 9 plane.* at most 14$"
    with pytest.raises(ArgumentError, match=message):
        pack(X, y, bits=8)
    assert pack(X, y, bits=8, batch=14).layout.block_samples == 14


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planes": np.zeros((1, 3), np.uint64)}, r"planes was .*needs uint64 \(1, "),
        ({"planes": None}, "planes was NoneType"),
        ({"labels": np.zeros(16)}, r"labels was .*float64.*needs int32 \(16,\)"),
        ({"batch": 5}, "batch was 5; it must divide block_samples, 16"),
        ({"seed": -1}, "seed was -1"),
        (
            {"normalization": normalization.Normalization([0], [1], 0, 1)},
            "normalization was for 2 features",
        ),
        ({"levels": np.zeros((1, 9), np.int16)}, "levels was ndarray; the format 'bitplanes' has"),
    ],
)
def test_a_data_set_that_does_not_fit_its_layout(changes, message):
    X, y = data(10, 5)
    packed = pack(X, y)
    fields = {
        name: getattr(packed, name)
        for name in ("planes", "labels", "layout", "normalization", "seed", "draw", "batch")
    }
    with pytest.raises(ArgumentError, match=message):
        PackedDataset(**{**fields, **changes})


@pytest.mark.filterwarnings("ignore:.*were clipped")
def test_tables_that_do_not_fit_their_layout():
    X, y = data(10, 5)
    packed = pack(X, y, levels=random_tables(6, 4))
    for levels, message in (
        (None, "levels was NoneType"),
        (packed.levels.astype(np.int32), "levels was .*int32.*needs int16"),
        (packed.levels[:1], r"levels was .*\(1, 9\)\); this layout needs int16 \(6, 9\)"),
        (packed.levels[:, ::-1], "levels went from .* each row must ascend"),
    ):
        with pytest.raises(ArgumentError, match=message):
            replace(packed, levels=levels)


# ---- files -------------------------------------------------------------------------------------


@pytest.fixture
def packed() -> PackedDataset:
    X, y = data(50, 12, np.float64)
    return pack(X, y, bits=(3, 5), batch=8, block_samples=16, seed=SEED, draw=4)


@pytest.fixture
def path(packed, tmp_path):
    packed.save(tmp_path / "set.safetensors")
    return tmp_path / "set.safetensors"


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


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("verify", [True, False])
def test_files_come_back(packed, path, mmap, verify):
    loaded = PackedDataset.load(path, mmap=mmap, verify=verify)
    assert_same(loaded, packed)
    assert isinstance(loaded.planes, np.memmap) == mmap
    assert not loaded.planes.flags.writeable
    X, _ = data(50, 12, np.float64)
    assert np.array_equal(loaded.redraw(X, 5).planes, packed.redraw(X, 5).planes)
    for got, expected in zip(loaded.unpack(3), packed.unpack(3), strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("sampling", draws.SAMPLINGS)
@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("intercept", [True, False])
def test_every_kind_of_data_set_comes_back(tmp_path, sampling, word_bits, intercept):
    X, y = data(30, 17)
    file = tmp_path / "set"
    for original in (
        pack(X, y, sampling=sampling, word_bits=word_bits, intercept=intercept),
        pack(X, y, value_format="float32", word_bits=word_bits, intercept=intercept),
    ):
        original.save(file)
        assert_same(PackedDataset.load(str(file)), original)


def test_planes_are_a_map_of_the_file_itself(packed, path):
    loaded = PackedDataset.load(path)
    flat = packed.planes.reshape(-1)
    offset = path.read_bytes().index(flat[:4].tobytes())
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write((~flat[0]).tobytes())
    assert loaded.planes[0, 0] == ~flat[0]
    assert offset % CACHE_LINE == 0
    assert loaded.planes.ctypes.data % CACHE_LINE == 0


def test_planes_begin_at_a_cache_line(packed, path):
    assert packed.planes.ctypes.data % CACHE_LINE == 0
    read = PackedDataset.load(path, mmap=False)
    assert read.planes.ctypes.data % CACHE_LINE == 0
    assert_same(read, packed)


def test_other_readers_of_safetensors_see_the_tensors(packed, path):
    with safetensors.safe_open(path, framework="numpy") as file:
        assert set(file.keys()) == {"planes", "labels", "mid", "half", "label_range"}
        assert np.array_equal(file.get_tensor("planes"), packed.planes)
        assert file.metadata()["bits"] == "3 5"


def test_saving_replaces_a_file_that_is_mapped(packed, path):
    loaded = PackedDataset.load(path)
    X, y = data(20, 3)
    other = pack(X, y)
    other.save(path)
    assert_same(PackedDataset.load(path), other)
    assert_same(loaded, packed)
    loaded.save(path)
    assert_same(PackedDataset.load(path), packed)
    assert os.listdir(path.parent) == [path.name]


def test_equal_data_sets_have_equal_files(packed, path, tmp_path):
    packed.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_failed_save_leaves_the_old_file(packed, path, full_disk):
    before = path.read_bytes()
    with pytest.raises(PackedFileError, match="cannot be written: .*No space left"):
        packed.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_save_needs_a_folder(packed, tmp_path):
    with pytest.raises(
        ArgumentError, match=r"path was '.*'; the folder '.*missing' does not exist"
    ):
        packed.save(tmp_path / "missing" / "set")
    with pytest.raises(ArgumentError, match=r"path was '.*', a folder; it must name a file"):
        packed.save(tmp_path)


def test_truncated_at_any_length(path, tmp_path):
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    short = tmp_path / "short"
    lengths = {*range(12), header - 1, header, header + 1, len(whole) - 1}
    lengths |= set(range(0, len(whole), 97))
    for length in sorted(lengths):
        short.write_bytes(whole[:length])
        with pytest.raises(PackedFileError, match="truncated"):
            PackedDataset.load(short, verify=False)


def test_longer_than_its_header_tells(path):
    with open(path, "ab") as file:
        file.write(b"\0")
    with pytest.raises(PackedFileError, match="altered: it has"):
        PackedDataset.load(path)


def test_one_flipped_byte_anywhere_is_noticed(path, tmp_path):
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    flipped = tmp_path / "flipped"
    # every byte of the header, and some of every tensor: these are 200 to 5,000 bytes long
    for place in [*range(header), *range(header, len(whole), 61), len(whole) - 1]:
        for mask in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[place] ^= mask
            flipped.write_bytes(damaged)
            with pytest.raises(PackedFileError):
                PackedDataset.load(flipped)


def test_a_flipped_byte_of_each_tensor_is_called_altered(path):
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    for name in ("planes", "labels", "mid", "half", "label_range"):
        damaged = bytearray(whole)
        damaged[start + header[name]["data_offsets"][0]] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(PackedFileError, match="altered: its checksum does not match"):
            PackedDataset.load(path)
        PackedDataset.load(path, verify=False)


def rewrite(path, change) -> None:
    """Write the file again with its header changed, and a right length before it."""
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[start:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["__metadata__"].update(version="1"), "format version 1; .* reads version 2"),
        (lambda h: h["__metadata__"].update(format="pt"), "no packed data set: it is a 'pt'"),
        (lambda h: h.pop("__metadata__"), "no packed data set: its metadata"),
        (lambda h: h["__metadata__"].update(seed="1"), "altered: its checksum"),
        (lambda h: h["__metadata__"].pop("sha256"), "altered: its checksum"),
        (lambda h: h["labels"].update(dtype="U32"), "altered: no tensor 'labels' of int32"),
        (lambda h: h.update(Mid=h.pop("mid")), "altered: no tensor 'mid' of float64"),
        (lambda h: h["planes"].update(shape=[1, 2]), "altered: "),
        (lambda h: h["planes"].pop("data_offsets"), "no packed data set: it is no safetensors"),
    ],
)
def test_changed_headers(path, change, message):
    rewrite(path, change)
    with pytest.raises(PackedFileError, match=message):
        PackedDataset.load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("samples", "51000"),
        ("features", "14"),
        ("word_bits", "63"),
        ("bits", "3 5 6"),
        ("bits", "five"),
        ("sampling", "triple"),
        ("intercept", "0"),
        ("seed", "-1"),
        ("batch", "7"),
        ("seed", None),
    ],
)
def test_what_does_not_fit_together_is_refused_without_checksum_too(path, key, value):
    def change(header):
        if value is None:
            del header["__metadata__"][key]
        else:
            header["__metadata__"][key] = value

    rewrite(path, change)
    with pytest.raises(PackedFileError, match="altered: "):
        PackedDataset.load(path, verify=False)


@pytest.mark.filterwarnings("ignore:.*were clipped")
def test_tables_of_levels_are_covered_by_every_check(tmp_path):
    X, y = data(50, 12)
    path = tmp_path / "set"
    pack(X, y, bits=3, levels=random_tables(13, 3)).save(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.get_slice("levels").get_dtype() == "I16"
        assert file.metadata()["level_tables"] == "13"
        assert file.metadata()["value_format"] == "levels"
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    place = start + json.loads(whole[8:start])["levels"]["data_offsets"][0]
    damaged = bytearray(whole)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(PackedFileError, match="altered: its checksum"):
        PackedDataset.load(path)
    for change in (
        lambda h: h["__metadata__"].update(level_tables="0"),
        lambda h: h["__metadata__"].update(level_tables="1"),
        lambda h: h["__metadata__"].update(value_format="bitplanes"),
        lambda h: h["levels"].update(dtype="U16"),
        lambda h: h["__metadata__"].pop("level_tables"),
    ):
        path.write_bytes(whole)
        rewrite(path, change)
        with pytest.raises(PackedFileError, match="altered: "):
            PackedDataset.load(path, verify=False)


def test_a_foreign_tensor_is_refused(path):
    rewrite(path, lambda h: h.update(more={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}))
    with pytest.raises(PackedFileError, match="altered"):
        PackedDataset.load(path)


def cut(X, y, at):
    """Rows in parts that end at ``at``."""
    return lambda: zip(np.split(X, at), np.split(y, at), strict=True)


@pytest.mark.parametrize("at", [[], [1, 2, 47], list(range(1, 150))])
@pytest.mark.parametrize(
    "options",
    [
        {"bits": (1, 3, 8), "seed": 5, "draw": 2},
        {"bits": 4, "sampling": "single", "word_bits": 128, "intercept": False},
        {"bits": 2, "sampling": "independent", "dithers": 3, "block_samples": 16},
        {"value_format": "float32", "batch": 7},
        {"bits": 4, "value_format": "refetch"},
    ],
)
def test_blocks_make_the_file_of_the_whole(tmp_path, monkeypatch, at, options):
    monkeypatch.setattr(pack_module, "_STREAMED_VALUES", 300)
    X, y = data(150, 9, np.float64)
    whole = pack(X, y, **options)
    whole.save(tmp_path / "whole")
    packed = pack_file(cut(X, y, at), tmp_path / "blocks", **options)
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()
    assert_same(packed, whole)
    assert sorted(os.listdir(tmp_path)) == ["blocks", "whole"]


@pytest.mark.filterwarnings("ignore:.*were clipped")
def test_blocks_with_a_given_normalization_and_table(tmp_path, monkeypatch):
    monkeypatch.setattr(pack_module, "_STREAMED_VALUES", 100)
    X, y = data(80, 9, np.float64)
    half = normalization.Normalization.fit(X[:30], y[:30])
    for options in (
        {"normalization": half, "bits": (2, 5)},
        {"levels": random_tables(10, 3), "bits": 3},
        {"normalization": half, "levels": random_tables(10, 3), "bits": 3},
    ):
        whole = pack(X, y, **options)
        assert whole.clipped > 0
        whole.save(tmp_path / "whole")
        pack_file(cut(X, y, [11, 12, 70]), tmp_path / "blocks", **options)
        assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()


def test_sparse_blocks_of_growing_width(tmp_path):
    X, y = data(60, 12, np.float64)
    X[np.random.default_rng(0).random(X.shape) < 0.6] = 0
    X[:20, 8:] = 0
    X[:, 3] = np.abs(X[:, 3]) + 1  # a column whose zeros are implicit alone
    X[20:, 3] = 0
    pack(X, y).save(tmp_path / "whole")

    def blocks():
        yield csr_matrix(X[:20, :8]), y[:20]
        yield csr_matrix(X[20:]), y[20:]

    pack_file(blocks, tmp_path / "blocks")
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()


def test_bad_blocks_leave_nothing(tmp_path):
    X, y = data(40, 5)
    bad = X.copy()
    bad[33, 2] = np.nan
    with pytest.raises(ArgumentError, match="X was nan in row 33, column 2"):
        pack_file(cut(bad, y, [20]), tmp_path / "set")
    with pytest.raises(ArgumentError, match=r"X had 4 columns from row 20 on; before, 5"):
        pack_file(lambda: [(X[:20], y[:20]), (X[20:, :4], y[20:])], tmp_path / "set")
    with pytest.raises(ArgumentError, match="blocks were none"):
        pack_file(list, tmp_path / "set")
    with pytest.raises(ArgumentError, match="levels was 'optimal'"):
        pack_file(cut(X, y, []), tmp_path / "set", levels="optimal")
    for second in (39, 41):
        sizes = iter((40, second))

        def blocks(sizes=sizes):
            rows = next(sizes)
            yield np.resize(X, (rows, 5)), np.resize(y, rows)

        with pytest.raises(ArgumentError, match="rows the second time"):
            pack_file(blocks, tmp_path / "set")
    assert os.listdir(tmp_path) == []


def test_files_of_another_kind(tmp_path):
    file = tmp_path / "file"
    with pytest.raises(PackedFileError, match="cannot be read: No such file"):
        PackedDataset.load(file)
    with pytest.raises(PackedFileError, match="cannot be read: Is a directory"):
        PackedDataset.load(tmp_path)
    for content in (b"x" * 500, b"\0" * 500, b"{" * 500, (20).to_bytes(8, "little") + b"{" * 20):
        file.write_bytes(content)
        with pytest.raises(PackedFileError, match="no packed data set: it is no safetensors file"):
            PackedDataset.load(file)
    safetensors.numpy.save_file({"weights": np.ones(3)}, file)
    with pytest.raises(PackedFileError, match="no packed data set: its metadata do not say so"):
        PackedDataset.load(file)


def test_bits_are_the_same_on_every_machine():
    """The file is a contract: what it holds today must be what it holds tomorrow."""
    X = (np.arange(60, dtype=np.float32) ** 2 % 17).reshape(12, 5)
    packed = pack(X, np.arange(12), bits=range(1, 9), batch=4, seed=2017, draw=1)
    assert hashlib.sha256(packed.planes.tobytes()).hexdigest() == (
        "712628bc67a5177c4056be3a11a5d1699f0cfb48f04718cc01530b694ecc03ff"
    )


def test_masked_entries_are_refused():
    X, y = data(20, 3)
    masked = np.ma.masked_array(X, mask=X.max() - 0.1 < X)
    with pytest.raises(ArgumentError, match="X had masked entries"):
        pack(masked, y)
    pack(np.ma.masked_array(X), y)


def test_bits_with_levels_are_the_same_on_every_machine():
    X = (np.arange(60, dtype=np.float32) ** 2 % 17).reshape(12, 5)
    table = [[-16384, -9000, -9000, 1, 16384]]
    packed = pack(X, np.arange(12), bits=3, batch=4, seed=2017, draw=1, levels=table)
    assert hashlib.sha256(packed.planes.tobytes()).hexdigest() == (
        "006d5605f5926657356ded4b832d49e0f1f35090b11aa80a19f273145961213b"
    )


# ---- Labels, weights and full precision --------------------------------------------------------


def test_other_labels_share_the_planes():
    X, y = data(40, 9)
    packed = pack(X, y, bits=3, batch=4)
    digits = np.arange(40) % 3
    other = packed.relabel(digits == 1, sample_weight=np.linspace(0, 2, 40))
    assert np.shares_memory(other.planes, packed.planes)
    assert np.array_equal(other.labels[:40], np.where(digits == 1, 1, -1) << 24)
    assert np.array_equal(other.weights[:40], np.rint(np.linspace(0, 2, 40) * 65536))
    assert (other.normalization.label_mid, other.normalization.label_half) == (0.5, 0.5)
    assert np.array_equal(other.normalization.mid, packed.normalization.mid)
    assert packed.relabel(y).weights is None
    assert np.array_equal(packed.relabel(y).labels, packed.labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(3)}, "y had 3 label"),
        ({"y": np.full(40, np.nan)}, "y was nan in row 0"),
        ({"sample_weight": np.ones(3)}, "sample_weight had 3 entries"),
        ({"sample_weight": np.full(40, -1.0)}, "sample_weight was -1.0 in row 0"),
        ({"sample_weight": np.full(40, np.nan)}, "sample_weight was nan in row 0"),
        ({"sample_weight": np.full(40, 32768.0)}, "from 0|0 to below 32768"),
    ],
)
def test_labels_and_weights_that_are_refused(change, message):
    X, y = data(40, 9)
    packed = pack(X, y)
    with pytest.raises(ArgumentError, match=message):
        packed.relabel(**{"y": y, **change})


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("columns", [1, 15, 90])
def test_samples_to_fetch_again_are_the_values(tmp_path, word_bits, columns):
    X, y = data(37, columns)
    packed = pack(X, y, bits=2, word_bits=word_bits, batch=4, value_format="refetch")
    plain = pack(X, y, bits=2, word_bits=word_bits, batch=4)
    assert np.array_equal(packed.planes, plain.planes)
    rows = packed.full.view(np.float32)
    assert rows.shape[1] * 32 % word_bits == 0
    V = packed.normalization.transform(X)
    assert np.array_equal(rows[:37, : columns + 1], V)
    assert not rows[37:].any()
    assert not rows[:, columns + 1 :].any()
    weighted = packed.relabel(y, sample_weight=np.ones(37))
    weighted.save(tmp_path / "set")
    loaded = PackedDataset.load(tmp_path / "set")
    for name in ("planes", "labels", "full", "weights"):
        assert np.array_equal(getattr(loaded, name), getattr(weighted, name))
    assert loaded.layout == weighted.layout


def test_independent_samples_begin_with_those_of_double_sampling():
    X, y = data(37, 20)
    double = pack(X, y, bits=(2, 3), seed=5)
    more = pack(X, y, bits=(2, 3), seed=5, sampling="independent", dithers=5)
    for bits in (2, 3):
        for got, expected in zip(more.unpack(bits)[:2], double.unpack(bits), strict=True):
            assert np.array_equal(got, expected)
        assert len(more.unpack(bits)) == 5
        assert len(more.unpack(bits, "double")) == 2
    assert more.layout.stored_planes == 2 + 2 * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dithers": 3}, "dithers was 3 with sampling 'double'"),
        ({"sampling": "independent", "dithers": 9}, "dithers was 9; allowed is 2..8"),
        ({"sampling": "independent", "levels": "global"}, "'independent' with tables of levels"),
    ],
)
def test_independent_samples_that_are_refused(options, message):
    X, y = data(37, 20)
    with pytest.raises(ArgumentError, match=message):
        pack(X, y, **options)
