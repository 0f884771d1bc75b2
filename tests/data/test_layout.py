"""Layout arithmetic, and the layouts that the accelerator does not take."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.packing import data
from zipml_pynq.constants import CONFIG, WORD_BITS
from zipml_pynq.data.layout import Layout
from zipml_pynq.data.pack import pack
from zipml_pynq.errors import ArgumentError


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


def test_too_many_tables_are_refused_before_they_are_fitted():
    X, y = data(3, 300)
    message = "301 tables of 129 levels are 2451 in each of 16 memories, .* 2048; .*levels='global'"
    with pytest.raises(ArgumentError, match=message):
        pack(X, y, bits=8, levels="optimal")


def test_a_batch_that_cannot_fit_is_named_with_the_largest_that_would():
    X, y = data(3, 4000)
    message = "batch was 16; with 4001 features, words of 64 bits and 9 plane.* at most 14$"
    with pytest.raises(ArgumentError, match=message):
        pack(X, y, bits=8)
    assert pack(X, y, bits=8, batch=14).layout.block_samples == 14
