"""Planes: compiled packing against NumPy, bit by bit."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.packing import PAIRS, SEED, check_against_numpy, data, random_tables
from zipml_pynq._engine import ffi, lib
from zipml_pynq.constants import CONFIG, MODEL_ONE, WORD_BITS
from zipml_pynq.data import draws, grid
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.errors import ArgumentError


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("sampling", draws.SAMPLINGS)
@pytest.mark.parametrize("columns", [1, 63, 64, 65, 90, 1000])
def test_compiled_packing_is_numpy_bit_for_bit(word_bits, sampling, columns):
    for dtype in (np.float32, np.float64):
        X, y = data(37, columns, dtype)
        for bits in (range(1, 9), 1, (3, 12), 16):
            for intercept in (True, False):
                options = {"word_bits": word_bits, "batch": 4, "seed": SEED, "draw": 7}
                if sampling == "independent":
                    options["dithers"] = 2 + columns % 7 if columns < 1000 else 3
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
                        assert got.dtype == (np.int16 if b < 16 else np.int32)
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


@given(
    samples=st.integers(1, 80),
    columns=st.integers(1, 140),
    batch=st.integers(1, 20),
    bits=st.sets(st.integers(1, 16), min_size=1, max_size=5),
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


def test_edges_constants_and_values_out_of_range():
    fitted = Normalization.fit([[-1, 4, -1e308], [1, 4, 1e308]], [0, 1])
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
    fitted = Normalization.fit([[-1.5e308, 0], [-1.5e308, 1]], [0, 1])
    new = np.array([[1.5e308, 0.5], [-1.5e308, 0.0]])
    for value_format in ("bitplanes", "float32"):
        with pytest.warns(RuntimeWarning, match="1 value"):
            packed = pack(new, [0, 1], normalization=fitted, value_format=value_format)
        check_against_numpy(packed, new)


@pytest.mark.parametrize(
    ("bits", "most"), [*((b, 8) for b in range(1, 9)), (4, 16), (9, 16), (16, 16)]
)
def test_planes_add_up_to_the_value_as_the_kernel_weighs_them(bits, most):
    X, y = data(20, 70)
    packed = pack(X, y, bits={bits, most}, batch=4)
    layout = packed.layout
    size = layout.block_samples * layout.chunks
    signs = (
        2 * np.unpackbits(packed.planes.view(np.uint8), axis=1, bitorder="little").astype(int) - 1
    )
    signs = signs.reshape(layout.blocks, -1, layout.block_samples, layout.chunks * layout.lanes)
    dither = layout.dither_offset(bits) // size
    for extra, values in enumerate(packed.values(bits)):
        total = sum(signs[:, p] << (most - 2 - p) for p in range(bits - 1))
        total = total + (signs[:, dither + extra] << (most - bits))
        total = total.reshape(-1, layout.chunks * layout.lanes)[:20, :71]
        assert np.array_equal(total / 2.0 ** (most - 1), values)


def test_largest_model_of_each_width():
    for word_bits in WORD_BITS:
        columns = CONFIG.max_chunks * word_bits
        assert columns <= CONFIG.max_features
        X, y = data(3, columns)
        packed = pack(X, y, bits=1, batch=2, word_bits=word_bits, intercept=False)
        check_against_numpy(packed, X)
        with pytest.raises(ArgumentError, match=f"X had {columns} columns; .* most {columns - 1} "):
            pack(X, y, bits=1, batch=2, word_bits=word_bits)


def test_bits_are_the_same_on_every_machine():
    """The file is a contract: what it holds today must be what it holds tomorrow."""
    X = (np.arange(60, dtype=np.float32) ** 2 % 17).reshape(12, 5)
    packed = pack(X, np.arange(12), bits=range(1, 9), batch=4, seed=2017, draw=1)
    check_against_numpy(packed, X)
    assert hashlib.sha256(packed.planes.tobytes()).hexdigest() == (
        "a50b4a59daac659bbea6be77e5a147be85f4bfeb40b606a2e8c84953f7bf0bdf"
    )


def test_bits_with_levels_are_the_same_on_every_machine():
    X = (np.arange(60, dtype=np.float32) ** 2 % 17).reshape(12, 5)
    table = [[-16384, -9000, -9000, 1, 16384]]
    packed = pack(X, np.arange(12), bits=3, batch=4, seed=2017, draw=1, levels=table)
    check_against_numpy(packed, X)
    assert hashlib.sha256(packed.planes.tobytes()).hexdigest() == (
        "2d680e5e4fed1cf4fdc65155b6c9c92e8174f3c5f1efbd19940ce43d9a084c3f"
    )


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
