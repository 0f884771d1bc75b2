"""What goes wrong on a board's first day is named: the handoff, pynq's device, the clock."""

from __future__ import annotations

import json
import shutil
import warnings

import pynq
import pytest

from zipml_pynq.accelerator.driver import TIMEOUT_CLOCK
from zipml_pynq.devices import clocks, hwh
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.errors import DeviceError, OverlayMismatchError, ZipmlWarning


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        (None, "", r"zipml\.hwh is missing.*copy it from the build"),
        ("zipml.HWH", "text", r"there is zipml\.HWH, whose name differs in case: rename it"),
        ("Zipml.hwh", "text", r"there is Zipml\.hwh"),
        ("zipml.hwh", "", r"zipml\.hwh is empty"),
    ],
)
def test_a_handoff_that_pynq_would_not_read(name, contents, message, tmp_path):
    path = shutil.copy(hwh.OVERLAYS / "zipml_sgd_64.bit", tmp_path / "zipml.bit")
    if name:
        (tmp_path / name).write_text(contents)
    with pytest.raises(OverlayMismatchError, match=message):
        load_overlay(str(path), device=EmulatedDevice())


@pytest.mark.parametrize("xrt", [False, True])
def test_no_device_says_what_is_missing(xrt, monkeypatch):
    monkeypatch.delenv("XILINX_XRT", raising=False)
    if xrt:
        monkeypatch.setenv("XILINX_XRT", "/usr")
    monkeypatch.setattr(pynq.pl_server.device.DeviceMeta, "_devices", [], raising=False)
    monkeypatch.delattr(pynq.pl_server.device.DeviceMeta, "_active_device", raising=False)
    message = "seems to be no board" if xrt else "XILINX_XRT is not set.*sudo -i"
    with pytest.raises(DeviceError, match=message):
        load_overlay(str(hwh.OVERLAYS / "zipml_sgd_64.bit"))


class Clocks:
    """pynq's clocks, which read the processing system's registers."""

    fclk0_mhz = 99.999


def stamped(tmp_path, clock):
    for suffix in (".bit", ".hwh"):
        shutil.copy(hwh.OVERLAYS / f"zipml_sgd_64{suffix}", tmp_path / f"zipml{suffix}")
    (tmp_path / "zipml.json").write_text(json.dumps({"clock_mhz": clock}))
    return str(tmp_path / "zipml.bit")


@pytest.mark.parametrize(
    ("clock", "message"),
    [
        (100.0, None),
        (125.0, "runs at 99.999 MHz.*125 MHz, so"),
        (90.0, "built for 90 MHz, and may"),
    ],
)
def test_the_running_clock_is_compared_with_the_stamp(clock, message, monkeypatch, tmp_path):
    device = EmulatedDevice()
    monkeypatch.setattr(clocks.pynq, "Clocks", Clocks)
    device.capabilities["MEMORY_MAPPED"] = True
    path = stamped(tmp_path, clock)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ZipmlWarning)
        measured = clocks.settled(path, device)
    assert measured == 99.999
    told = [str(w.message) for w in found if w.category is ZipmlWarning]
    assert bool(told) == (message is not None)
    if message:
        with pytest.warns(ZipmlWarning, match=message):
            clocks.settled(path, device)


def test_runs_are_modelled_at_the_kernels_clock(tmp_path):
    with load_overlay(stamped(tmp_path, 50.0), device=EmulatedDevice()) as (_, driver):
        assert driver.clock_mhz == 50.0
        assert driver._clock == 50e6
    with load_overlay("emulated") as (_, driver):
        assert driver.clock_mhz is None
        assert driver._clock == TIMEOUT_CLOCK
