"""Packed data sets: read back, drawn again, labelled again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.data.packing import assert_same, data, random_tables
from zipml_pynq.constants import WORD_BITS
from zipml_pynq.data import grid
from zipml_pynq.data.layout import READABLE
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError


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


def test_a_part_shares_what_it_is_a_part_of():
    X, y = data(100, 5)
    packed = pack(X, y, batch=8, block_samples=16, sample_weight=np.linspace(0.5, 1.5, 100))
    part = packed.part(2, 5)
    blocks, samples = slice(2, 5), slice(32, 80)
    for name, rows in (("planes", blocks), ("labels", samples), ("weights", samples)):
        whole = getattr(packed, name)
        assert np.shares_memory(getattr(part, name), whole)
        assert np.array_equal(getattr(part, name), whole[rows])
    assert (part.layout.samples, packed.part(6, 7).layout.samples) == (48, 4)
    assert packed.part(0, 7) is packed
    with pytest.raises(ArgumentError, match=r"stop was 8; allowed is 1\.\.7"):
        packed.part(0, 8)
    with pytest.raises(ArgumentError, match=r"first was 7; allowed is 0\.\.6"):
        packed.part(7, 8)


def test_packed_data_are_read_only():
    X, y = data(10, 5)
    packed = pack(X, y)
    for array in (packed.planes, packed.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        packed.seed = 1


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
    ("changes", "message"),
    [
        ({"planes": np.zeros((1, 3), np.uint64)}, r"planes was .*needs uint64 \(1, "),
        ({"planes": None}, "planes was NoneType"),
        ({"labels": np.zeros(16)}, r"labels was .*float64.*needs int32 \(16,\)"),
        ({"batch": 5}, "batch was 5; it must divide block_samples, 16"),
        ({"seed": -1}, "seed was -1"),
        ({"normalization": Normalization([0], [1], 0, 1)}, "normalization was for 2 features"),
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


@pytest.mark.parametrize("value_format", ["bitplanes", "levels", "refetch", "float32"])
def test_some_samples_have_the_values_that_they_had(value_format):
    X, y = data(100, 5)
    options = {"levels": {"levels": "optimal", "bits": 3}, "bitplanes": {"bits": [2, 4]}}
    options |= {"refetch": {"value_format": "refetch"}, "float32": {"value_format": "float32"}}
    weights = np.linspace(0.5, 2, 100)
    packed = pack(X, y, sample_weight=weights, block_samples=16, **options[value_format])
    index = np.random.default_rng(0).permutation(100)[:37]
    some = packed.taken(index)
    assert some.layout == replace(packed.layout, samples=37)
    # every word of every row, and zeros behind the last sample
    words = packed.layout.chunks * packed.layout.word_bits // 64
    rows = [
        one.planes.reshape(-1, one.layout.stored_planes, 16, words).transpose(0, 2, 1, 3)
        for one in (packed, some)
    ]
    before, after = (r.reshape(-1, packed.layout.stored_planes, words) for r in rows)
    assert np.array_equal(after[:37], before[index])
    for a in (after, some.labels, some.weights, some.full):
        if a is not None:
            assert not a[37:].any()
    for name in ("labels", "weights", "full"):
        if getattr(packed, name) is not None:
            assert np.array_equal(getattr(some, name)[:37], getattr(packed, name)[index])


@pytest.mark.parametrize("index", [[], [100], [-1], [0.5], [[0]]])
def test_samples_that_are_not_there_are_refused(index):
    packed = pack(*data(100, 5), bits=2)
    with pytest.raises(ArgumentError, match="index had shape"):
        packed.taken(index)


@pytest.mark.parametrize("block_samples", [1, 7, 16])
@pytest.mark.parametrize("count", [1, 7, 16, 33])
@pytest.mark.parametrize("columns", [70, 511, 700])
def test_taken_blocks_of_any_size_are_filled(block_samples, count, columns):
    """Rows of fewer words than are copied at once, of as many, and of some more."""
    X, y = data(64, columns)
    packed = pack(X, y, bits=[2, 4], batch=1, block_samples=block_samples)
    index = np.random.default_rng(1).integers(0, 64, count)  # some of them twice
    some = packed.taken(index)
    size = some.layout.blocks * block_samples
    assert some.planes.shape == (some.layout.blocks, packed.planes.shape[1])
    for bits in (2, 4):
        for before, after in zip(packed.unpack(bits), some.unpack(bits), strict=True):
            np.testing.assert_array_equal(after, before[index])
    rest = some.planes.reshape(some.layout.blocks, some.layout.stored_planes, block_samples, -1)
    assert not rest.transpose(0, 2, 1, 3).reshape(size, -1)[count:].any()


def test_a_changed_data_set_is_read_only_and_leaves_the_first_as_it_was():
    packed = pack(*data(20, 3), bits=2)
    labels = np.arange(packed.labels.size, dtype=np.int32)
    other = packed.changed(labels=labels)
    assert other.planes is packed.planes
    assert other.layout == packed.layout
    np.testing.assert_array_equal(other.labels, np.arange(packed.labels.size))
    assert not np.array_equal(packed.labels, other.labels)
    for one in (other, packed.taken([3, 1]), packed.relabel(np.ones(20))):
        for name in ("planes", "labels"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(one, name)[0] = 0
