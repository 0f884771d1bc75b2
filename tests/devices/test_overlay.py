"""Overlays and their handoffs: which kernel the driver finds there."""

import shutil

import pynq
import pytest

from tests.cases import check_same, random_case
from zipml_pynq.accelerator.interface import INTERFACES
from zipml_pynq.devices import hwh
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.overlay import find_driver, load_overlay
from zipml_pynq.errors import ArgumentError, OverlayMismatchError


def mixed(tmp_path, bitstream, handoff):
    """An overlay out of two builds, loaded."""
    path = shutil.copy(hwh.OVERLAYS / f"{bitstream}.bit", tmp_path / "mixed.bit")
    shutil.copy(hwh.OVERLAYS / f"{handoff}.hwh", tmp_path / "mixed.hwh")
    return find_driver(pynq.Overlay(str(path), device=EmulatedDevice()))


def test_a_bitstream_of_another_width_than_its_handoff(tmp_path):
    driver = mixed(tmp_path, "zipml_sgd_128", "zipml_sgd_64")
    with pytest.raises(OverlayMismatchError, match=r"words of 128 bits, its \.hwh describes 64"):
        _ = driver.capability


def test_a_bitstream_of_another_format_than_its_handoff(tmp_path):
    driver = mixed(tmp_path, "zipml_sgd_f32_64", "zipml_sgd_64")
    with pytest.raises(OverlayMismatchError, match=r"float32, its \.hwh describes bitplanes"):
        _ = driver.capability


def other_handoff(tmp_path, old, new):
    text = hwh.hwh(64, "bitplanes")
    assert old in text
    (tmp_path / "other.hwh").write_text(text.replace(old, new))
    (tmp_path / "other.bit").write_bytes(b"")
    return str(tmp_path / "other.bit")


def test_a_handoff_without_the_kernel(tmp_path):
    path = other_handoff(tmp_path, "zipml:hls:zipml_sgd:1.0", "xilinx.com:hls:fir:1.0")
    with pytest.raises(OverlayMismatchError, match=r"needed is .*zipml:hls:zipml_sgd:1\.0.*fir"):
        load_overlay(path, device=EmulatedDevice())


def test_a_handoff_with_another_version_of_the_kernel(tmp_path):
    path = other_handoff(tmp_path, "zipml:hls:zipml_sgd:1.0", "zipml:hls:zipml_sgd:2.0")
    with (
        pytest.warns(UserWarning, match="ignore_version"),
        pytest.raises(OverlayMismatchError, match=r"zipml:hls:zipml_sgd:2\.0"),
    ):
        load_overlay(path, device=EmulatedDevice())


def test_a_handoff_that_lacks_a_register(tmp_path):
    path = other_handoff(tmp_path, 'NAME="dither_offset"', 'NAME="spare"')
    with pytest.raises(OverlayMismatchError, match="no register 'dither_offset'"):
        load_overlay(path, device=EmulatedDevice())


SATURATIONS = INTERFACES["bitplanes"].offsets["saturations"]


def test_offsets_are_the_handoffs(tmp_path):
    path = other_handoff(
        tmp_path,
        f'NAME="ADDRESS_OFFSET" VALUE="{SATURATIONS}"',
        f'NAME="ADDRESS_OFFSET" VALUE="{SATURATIONS + 4}"',
    )
    driver = load_overlay(path, device=EmulatedDevice()).driver
    assert driver._offsets["saturations"] == SATURATIONS + 4


def test_a_missing_name_is_told(board):
    overlay, driver = board()
    assert find_driver(overlay, "zipml_sgd_0") is driver
    with pytest.raises(OverlayMismatchError, match="not 'sgd'"):
        find_driver(overlay, "sgd")


def test_options_of_the_emulated_board_only():
    with pytest.raises(ArgumentError, match="word_bits goes with 'emulated' and 'served'"):
        load_overlay("/some.bit", word_bits=64)
    with pytest.raises(ArgumentError, match="word_bits were given with a device"):
        load_overlay("emulated", device=EmulatedDevice(), word_bits=64)


def test_an_overlay_is_a_context():
    case = random_case(29)
    with load_overlay("emulated", word_bits=64) as loaded:
        check_same(loaded.driver.train(case.packed, case.plan, model=case.model), case)
