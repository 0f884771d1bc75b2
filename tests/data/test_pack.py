"""Packing in memory: what goes in, what is refused, what it costs."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import sparse

from tests.data.packing import data
from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data import grid, rows
from zipml_pynq.data.checks import check_array
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.errors import ArgumentError


def test_tables_that_are_fitted(monkeypatch):
    """What ``pack`` asks of fit_levels, without what fit_levels does."""
    calls = []

    def fit_levels(X, normalization, bits, per_column=True, method="auto", threads=None):
        calls.append((X, bits, per_column, threads))
        return np.tile(
            grid.check_levels([grid.uniform_levels(bits)], bits, 1), (13 if per_column else 1, 1)
        )

    monkeypatch.setattr("zipml_pynq.data.pack.fit_levels", fit_levels)
    X, y = data(100, 12)
    optimal = pack(X, y, bits=3, levels="optimal", threads=1)
    pooled = pack(X, y, levels="global", value_format="levels")
    assert (optimal.layout.level_tables, pooled.layout.level_tables) == (13, 1)
    assert [call[1:] for call in calls] == [(3, True, 1), (4, False, None)]
    assert np.array_equal(calls[0][0], X)


def test_values_outside_the_ends_of_a_table_are_clipped_and_counted():
    fitted = Normalization.fit([[-1], [1]], [0, 1])
    X = np.array([[-3], [-1], [-0.75], [-0.5], [0], [0.5], [0.75], [3]])
    with pytest.warns(RuntimeWarning, match="5 value"):
        packed = pack(X, X[:, 0], bits=2, levels=[[-0.5, 0, 0.5], [0, 0, 1]], normalization=fitted)
    assert packed.clipped == 5
    expected = [-0.5, -0.5, -0.5, -0.5, 0, 0.5, 0.5, 0.5]
    assert packed.values()[0][:, 0].tolist() == expected
    assert (packed.values()[1][:, 1] == 1).all()
    with pytest.warns(RuntimeWarning, match="13 value"):  # and the intercept of every sample
        pack(X, X[:, 0], bits=2, levels=[[-0.5, 0, 0.5], [0, 0, 0.5]], normalization=fitted)


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
    monkeypatch.setattr(rows, "_CHUNK_VALUES", 1000)  # many parts
    rng = np.random.default_rng(3)
    X = rng.integers(0, 2 if dtype == np.bool_ else 200, (700, 20)).astype(dtype)
    converted = check_array("X", X, 2)
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


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, np.asfortranarray])
@pytest.mark.parametrize(
    "options",
    [{}, {"levels": "optimal"}, {"value_format": "float32"}, {"value_format": "refetch"}],
)
def test_samples_in_another_order(make, options, monkeypatch):
    monkeypatch.setattr(rows, "_CHUNK_VALUES", 500)  # several parts
    X, y = data(300, 7)
    order, weights = np.random.default_rng(1).permutation(300), np.arange(300) / 100
    found = pack(make(X), y, order=order, sample_weight=weights, **options)
    own = Normalization.fit(X, y, sample_weight=weights)  # weighted means are of an order
    assert found.normalization == own
    options = {**options, "normalization": own}
    expected = pack(X[order], y[order], sample_weight=weights[order], **options)
    for name in ("planes", "labels", "weights", "full", "levels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_another_order_takes_no_copy_of_the_samples():
    samples, columns = 100_000, 180
    X = np.random.default_rng(0).integers(0, 256, (samples, columns), dtype=np.uint8)
    tracemalloc.start()
    try:
        packed = pack(X, np.arange(samples), bits=2, order=np.arange(samples)[::-1])
        allocated = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert allocated < packed.planes.nbytes + 8e6 < X.size


def test_labels_beyond_fixed_point_saturate():
    fitted = Normalization.fit([[0], [1]], [-1, 1])
    with pytest.warns(RuntimeWarning, match="2 value"):
        packed = pack([[0], [1], [0]], [3, 1e6, -1e6], normalization=fitted)
    assert packed.labels[:3].tolist() == [3 * MODEL_ONE, 2**31 - 1, 1 - 2**31]


def test_within_range_nothing_warns():
    X, y = data(50, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pack(X, y).clipped == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, r"bits was 0; allowed is 1\.\.16"),
        ({"bits": []}, r"bits was empty; it must name at least one of 1\.\.16"),
        ({"bits": [4, 17]}, r"bits was 17; allowed is 1\.\.16"),
        ({"bits": 9, "value_format": "refetch"}, r"bits was 9; allowed is 1\.\.8"),
        ({"bits": 9, "levels": "optimal"}, "levels was 'optimal'; value_format 'wide' has a uni"),
        ({"bits": 4.0}, r"bits was 4\.0; it must be an integer in 1\.\.16 or several"),
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
        ({"order": np.arange(19)}, r"order had shape \(19,\) .*; allowed are the numbers 0 to 19"),
        ({"order": np.arange(20.0)}, "order had shape .* dtype float64; allowed are"),
        ({"order": [0, *range(19)]}, "order had shape .*; allowed are .*, each of them once"),
        ({"order": np.arange(20) - 1}, "order had shape .*; allowed are the numbers 0 to 19"),
        ({"order": np.arange(20) + 1}, "order had shape .*; allowed are the numbers 0 to 19"),
        ({"normalization": 3}, "normalization was int; it must be a Normalization"),
        ({"normalization": Normalization([0], [1], 0, 1)}, r"X had 6 column\(s\); .*to 1"),
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


def test_pack_checks_the_data():
    X, y = data(20, 6)
    with pytest.raises(ArgumentError, match=r"y had 19 label\(s\), X 20 row\(s\)"):
        pack(X, y[1:])
    bad = X.copy()
    bad[7, 3] = np.inf
    with pytest.raises(ArgumentError, match="X was inf in row 7, column 3"):
        pack(bad, y)
    with pytest.raises(ArgumentError, match="X was inf in row 7, column 3"):
        pack(bad, y, normalization=Normalization.fit(X, y))
    with pytest.raises(ArgumentError, match="y was nan in row 0"):
        pack(X, y * np.nan)
    with pytest.raises(ArgumentError, match="y was nan in row 0"):
        pack(X, y * np.nan, normalization=Normalization.fit(X, y))


def test_masked_entries_are_refused():
    X, y = data(20, 3)
    masked = np.ma.masked_array(X, mask=X.max() - 0.1 < X)
    with pytest.raises(ArgumentError, match="X had masked entries"):
        pack(masked, y)
    pack(np.ma.masked_array(X), y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dithers": 3}, "dithers was 3 with sampling 'double'"),
        ({"sampling": "independent", "dithers": 17}, "dithers was 17; allowed is 2..16"),
        ({"sampling": "independent", "levels": "global"}, "'independent' with tables of levels"),
    ],
)
def test_independent_samples_that_are_refused(options, message):
    X, y = data(37, 20)
    with pytest.raises(ArgumentError, match=message):
        pack(X, y, **options)
