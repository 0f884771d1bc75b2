"""A driver whose overlay is not on the device any more says so, and names what is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.accelerator.runs import board_for, prepared, release
from tests.cases import check_same, random_case
from zipml_pynq.accelerator import loaded as loaded_module
from zipml_pynq.devices.hwh import overlay_path
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.errors import OverlayReplacedError

CASE = random_case(31, word_bits=64, epochs=4)


@pytest.mark.parametrize("other", [(128, "bitplanes"), (64, "float32")])
def test_another_overlay_is_named_before_anything_is_written(board, other):
    loaded = board_for(board, CASE)
    check_same(loaded.driver.train(CASE.packed, CASE.plan, model=CASE.model), CASE)
    device = loaded.driver.device
    load_overlay(str(overlay_path(*other)), device=device)
    written = []
    device.write_registers = lambda address, data: written.append(address)
    for call in (
        lambda: loaded.driver.train(CASE.packed, CASE.plan, model=CASE.model),
        lambda: loaded.driver.write_registers({"samples": 1}),
        lambda: loaded.driver.start(),
        lambda: loaded.driver.read_results(),
    ):
        with pytest.raises(OverlayReplacedError, match=r"sgd_64\.bit of this driver is not") as e:
            call()
        assert f"{overlay_path(*other)} was loaded after it" in str(e.value)
    assert written == []
    del device.write_registers
    loaded.overlay.download()
    check_same(loaded.driver.train(CASE.packed, CASE.plan, model=CASE.model), CASE)


@pytest.mark.parametrize("other", [64, 128])
def test_an_overlay_that_is_loaded_between_segments(board, other):
    """Before the next segment another file is an error; the same one again loses nothing."""
    loaded = board_for(board, CASE)

    def progress(epochs, _):
        if epochs == 2:
            load_overlay(str(overlay_path(other, "bitplanes")), device=loaded.driver.device)

    def train():
        return loaded.driver.train(CASE.packed, CASE.plan, model=CASE.model, progress=progress)

    if other == 64:
        whole = loaded.driver.train(CASE.packed, CASE.plan, model=CASE.model)
        np.testing.assert_array_equal(train().history_fixed, whole.history_fixed)
    else:
        with pytest.raises(OverlayReplacedError, match=r"zipml_sgd_128\.bit was loaded after it"):
            train()


@pytest.mark.parametrize(("other", "why"), [(64, "was loaded again while"), (128, "sgd_128.bit")])
def test_an_overlay_that_is_loaded_while_the_kernel_runs(board, other, why):
    loaded = board_for(board, CASE)
    driver, device = loaded.driver, loaded.driver.device
    start = type(driver).start

    def start_and_replace(self):
        start(self)
        load_overlay(str(overlay_path(other, "bitplanes")), device=device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(driver), "start", start_and_replace)
        with pytest.raises(OverlayReplacedError, match=why):
            driver.train(CASE.packed, CASE.plan, model=CASE.model)
    assert device.free_bytes == device.memory_bytes  # nothing is left that could write to it
    loaded.overlay.download()
    check_same(driver.train(CASE.packed, CASE.plan, model=CASE.model), CASE)


def test_a_kernel_that_was_loaded_again_unseen(board):
    """As by another client of a board in the network: pynq here knows nothing of it."""
    loaded = board_for(board, CASE)
    buffers = prepared(loaded.driver, CASE)
    loaded.driver.start()
    loaded.driver.device.configure(64, "bitplanes")
    loaded.driver.wait()
    with pytest.raises(OverlayReplacedError, match="has no results of the run that was started"):
        loaded.driver.read_results()
    release(buffers)


def test_an_overlay_that_another_process_loads(board, monkeypatch, tmp_path):
    """On the board itself pynq keeps a file of what is loaded; here a process writes it."""
    loaded = board_for(board, CASE)
    driver, device = loaded.driver, loaded.driver.device
    monkeypatch.setattr(loaded_module, "EmbeddedDevice", type(device))
    monkeypatch.setattr(loaded_module.global_state, "STATE_DIR", str(tmp_path))
    other = shutil.copy(overlay_path(128, "bitplanes"), tmp_path / "other.bit")
    code = (
        "from pynq.pl_server import global_state as g; import sys; "
        "g.STATE_DIR = sys.argv[1]; "
        "g.save_global_state(g.GlobalState(bitfile_name=sys.argv[2], active_name='',"
        " timestamp=sys.argv[3], bitfile_hash=g.bitstream_hash(sys.argv[2])))"
    )

    def load(path: Path, when: str) -> None:
        command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path), str(path), when]
        subprocess.run(command, check=True)

    load(overlay_path(64, "bitplanes"), "1")
    driver._loaded = loaded_module.Loaded.on(device)
    check_same(driver.train(CASE.packed, CASE.plan, model=CASE.model), CASE)
    load(other, "2")
    with pytest.raises(OverlayReplacedError, match=r"other\.bit \(by another process\) was loaded"):
        driver.train(CASE.packed, CASE.plan, model=CASE.model)
    load(overlay_path(64, "bitplanes"), "3")
    check_same(driver.train(CASE.packed, CASE.plan, model=CASE.model), CASE)
