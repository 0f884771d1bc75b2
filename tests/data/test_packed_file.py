"""Files of packed data sets: whole, damaged, of another kind."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import safetensors.numpy

from tests.data.packing import SEED, assert_same, data, random_tables
from zipml_pynq.constants import WORD_BITS
from zipml_pynq.data import draws
from zipml_pynq.data.alignment import CACHE_LINE
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError, PackedFileError


@pytest.fixture
def packed() -> PackedDataset:
    X, y = data(50, 12, np.float64)
    return pack(X, y, bits=(3, 5), batch=8, block_samples=16, seed=SEED, draw=4)


@pytest.fixture
def path(packed, tmp_path):
    packed.save(tmp_path / "set.safetensors")
    return tmp_path / "set.safetensors"


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
