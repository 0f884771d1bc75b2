"""Regions of memory that a run touches."""

from tests.accelerator.runs import VALID, VALID_LEVELS
from zipml_pynq.accelerator.regions import regions


def test_regions_of_a_run():
    # 40 samples are 5 batches in 3 blocks of 2; planes 3 base + 2 dither; 100 features are 2 chunks
    sizes = regions({**VALID, "skip": 0, "pending": 0, "flags": 0}, 64, "bitplanes")
    assert sizes == {
        "planes": 3 * 160 * 8,
        "labels": 3 * 16 * 4,
        "model": 128 * 4,
        "history": 128 * 4,
        "schedule": 16,
        "derivative": 0,
    }


def test_regions_with_planes_of_other_precisions_between():
    values = {**VALID, "block_stride": 1000, "dither_offset": 500, "skip": 0, "pending": 0}
    sizes = regions({**values, "flags": 0}, 64, "bitplanes")
    assert sizes["planes"] == (2 * 1000 + 500 + 2 * 32) * 8


def test_regions_of_a_segment():
    sizes = regions(VALID, 64, "bitplanes")
    assert sizes["history"] == 0  # held: no epoch ends
    assert sizes["model"] == (128 + 2 * 2 * 8) * 4  # 2 pending batches of pairs are written


def test_regions_with_steps_of_features():
    sizes = regions({**VALID, "flags": 4, "skip": 0, "pending": 0}, 64, "bitplanes")
    assert sizes["model"] == 2 * 128 * 4
    held = regions({**VALID, "flags": 5}, 64, "bitplanes")
    assert held["model"] == (2 * 128 + 2 * 2 * 8) * 4


def test_regions_with_corrections():
    sizes = regions({**VALID, "flags": 8, "skip": 0, "pending": 0}, 64, "bitplanes")
    assert sizes["model"] == 2 * 128 * 4
    held = regions({**VALID, "flags": 13}, 64, "bitplanes")
    assert held["model"] == (3 * 128 + 2 * 2 * 8) * 4


def test_regions_of_float32():
    values = {**VALID, "bits": 32, "sampling": 0, "skip": 0, "pending": 0, "flags": 0}
    values |= {"block_stride": 16 * 25, "dither_offset": 0}
    sizes = regions(values, 128, "float32")
    assert sizes["planes"] == 3 * 16 * 25 * 16
    assert sizes["model"] == 100 * 4


def test_regions_of_tables():
    sizes = regions({**VALID_LEVELS, "skip": 0, "flags": 0}, 64, "levels")
    assert sizes["levels"] == 100 * 9 * 4
    one = regions({**VALID_LEVELS, "level_tables": 1, "bits": 1}, 64, "levels")
    assert one["levels"] == 2 * 4


def test_regions_of_losses_and_refetching():
    values = {**VALID, "skip": 0, "pending": 0, "flags": 2}
    table = regions({**values, "loss": 3}, 64, "bitplanes")
    assert (table["derivative"], table["labels"]) == (1025 * 4, 3 * 16 * 8)
    polynomial = regions({**values, "loss": 4, "sampling": 3, "degree": 5}, 64, "bitplanes")
    assert polynomial["derivative"] == 6 * 4
    assert polynomial["planes"] == (2 * 160 + 96 + 6 * 32) * 8  # blocks are 160 words apart here
    full = regions({**values, "loss": 1}, 64, "refetch")["full"]
    assert full == 3 * 16 * 50 * 8  # 100 float32 are 50 words
