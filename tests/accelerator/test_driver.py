"""The driver on the emulated board, through the real pynq: registers, waiting, errors."""

import asyncio
import math
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from tests import ROOT
from tests.accelerator.runs import board_for, prepared, release
from tests.cases import check_same, check_side_by_side, random_case
from zipml_pynq.accelerator.driver import TIMEOUT_CLOCK
from zipml_pynq.constants import CONFIG
from zipml_pynq.devices.design import PAGE
from zipml_pynq.errors import (
    ArgumentError,
    DeviceError,
    KernelTimeoutError,
    OverlayMismatchError,
    ZipmlWarning,
)
from zipml_pynq.training import reference


def test_a_run_by_hand(board):
    case = random_case(17)
    driver = board_for(board, case).driver
    buffers = prepared(driver, case)
    driver.start()
    driver.wait(5)
    results = driver.read_results()
    expected = reference.train(case.packed, case.plan, case.model)
    assert results["status"] == CONFIG.status_ok
    assert results["words"] == expected.words
    features = case.packed.layout.features
    np.testing.assert_array_equal(buffers["model"][:features], expected.model_fixed)
    release(buffers)


def test_waiting_in_an_event_loop(board):
    case = random_case(18)
    driver = board_for(board, case).driver
    buffers = prepared(driver, case)
    driver.device.clock_mhz = 0.05
    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.002)

    async def run():
        other = asyncio.ensure_future(tick())
        driver.start()
        await driver.wait_async(5)
        other.cancel()

    asyncio.run(run())
    assert len(ticks) > 3  # the loop went on meanwhile
    assert driver.read_results()["status"] == CONFIG.status_ok
    release(buffers)


def test_a_wait_that_ended_before_it_began(board):
    case = random_case(19)
    driver = board_for(board, case).driver
    buffers = prepared(driver, case)
    driver.start()
    deadline = time.monotonic() + 5
    while not driver._is_idle() and time.monotonic() < deadline:
        time.sleep(0.001)
    # somebody looks at CTRL, which clears done
    assert driver.register_map.CTRL.AP_DONE == 0
    driver.wait(1)
    asyncio.run(driver.wait_async(1))
    release(buffers)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"sample": 1}, "'sample'.*samples"),
        ({"status": 1}, "no input register is called 'status'"),
        ({"samples": 1 << 32}, r"samples was 4294967296; allowed are 0 to 2\^32 - 1"),
        ({"samples": -1}, "samples was -1"),
        ({"samples": 1.5}, "samples was 1.5; allowed are integers"),
        ({"planes": 1 << 64}, r"2\^64 - 1"),
    ],
)
def test_registers_are_checked(board, values, why):
    driver = board().driver
    with pytest.raises(ArgumentError, match=why):
        driver.write_registers(values)


def test_numpy_integers_are_registers(board):
    driver = board().driver
    driver.write_registers({"samples": np.int64(7), "features": np.uint32(0xFFFFFFFF)})
    assert driver.device.registers.value("samples") == 7
    assert driver.device.registers.value("features") == 0xFFFFFFFF


def test_a_hang_times_out_and_the_buffers_are_kept_back(board):
    case = random_case(23)
    loaded = board_for(board, case, memory_bytes=64 * PAGE)
    driver, device = loaded.driver, loaded.overlay.device
    _ = driver.capability
    device.inject_hang = True
    with (
        pytest.warns(ZipmlWarning, match="bytes of device memory are kept back"),
        pytest.raises(KernelTimeoutError, match=r"within 0\.2 s .* load the overlay again"),
    ):
        driver.train(case.packed, case.plan, timeout=0.2)
    # nobody else may get that memory
    assert device.free_bytes < device.memory_bytes
    assert driver.reclaim() > 0
    with pytest.raises(DeviceError, match="still runs an earlier call"):
        driver.train(case.packed, case.plan)
    device.inject_hang = False
    loaded.overlay.download()
    check_same(driver.train(case.packed, case.plan, model=case.model), case)
    assert driver.reclaim() == 0


def test_time_out_in_an_event_loop(board):
    driver = board().driver
    _ = driver.capability
    driver.device.inject_hang = True
    driver.start()
    with pytest.raises(KernelTimeoutError):
        asyncio.run(driver.wait_async(0.05))


def test_a_late_kernel_gives_its_buffers_back(board, monkeypatch):
    case = random_case(24)
    driver = board_for(board, case).driver
    _ = driver.capability
    driver.device.clock_mhz = 0.01
    monkeypatch.setattr("zipml_pynq.accelerator.driver.GRACE", 0.0)
    with pytest.warns(ZipmlWarning), pytest.raises(KernelTimeoutError):
        driver.train(case.packed, case.plan, timeout=0.01)
    driver.device._workers[0].join()
    assert driver.reclaim() == 0
    assert driver.device.free_bytes == driver.device.memory_bytes


def test_an_address_outside_of_memory_times_out_with_its_reason(board):
    case = random_case(25)
    loaded = board_for(board, case)
    buffers = prepared(loaded.driver, case)
    loaded.driver.write_registers({"labels": 0x1000})
    loaded.driver.start()
    with pytest.raises(KernelTimeoutError, match=r"at 0x1000 \(labels\).*inside one live buffer"):
        loaded.driver.wait(0.05)
    loaded.overlay.download()
    release(buffers)


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan])
def test_a_time_out_must_be_positive(board, timeout):
    driver = board().driver
    with pytest.raises(ArgumentError, match="timeout was"):
        driver.wait(timeout)


def test_default_time_out_covers_the_modelled_time(board):
    case = random_case(26, samples=500, delay=3, l2=0.1)
    driver = board_for(board, case).driver
    result = driver.train(case.packed, case.plan)
    assert driver._modelled >= result.modelled_cycles / TIMEOUT_CLOCK


@pytest.mark.parametrize(
    ("measured", "waited", "warned"), [(1.0, 0.1, False), (1.04, 0.1, False), (2.0, 0.9, True)]
)
def test_a_clock_that_contradicts_the_schedule_is_told(board, measured, waited, warned):
    """A board's kernel counts; here the emulated one is made to say that it did."""
    case = random_case(31, samples=200)
    driver = board_for(board, case).driver
    emulated = driver.train(case.packed, case.plan)
    assert (emulated.measured_cycles, emulated.waited_cycles) == (None, None)
    run = driver.device._build.run

    def clocked(*arguments):
        results = run(*arguments)
        cycles = results["modelled_cycles"]
        counts = {"measured_cycles": int(cycles * measured), "waited_cycles": int(cycles * waited)}
        return {**results, **counts, "counted": 1}

    driver.device._build = SimpleNamespace(name="clocked", run=clocked)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = driver.train(case.packed, case.plan)
    assert result.modelled_cycles == emulated.modelled_cycles
    assert result.measured_cycles == int(result.modelled_cycles * measured)
    assert result.waited_cycles == int(result.modelled_cycles * waited)
    assert [str(w.message) for w in told if "waited for words" in str(w.message)] == (
        [
            f"the kernel took {result.measured_cycles:,} cycles, 2.00 times the "
            f"{result.modelled_cycles:,} of the schedule, and waited for words in "
            f"{result.waited_cycles:,} of them: those are the memory's, others the kernel's own"
        ]
        if warned
        else []
    )


@pytest.mark.parametrize("where", ["progress", "redraw", "wait"])
def test_an_interruption_gives_the_buffers_back(board, monkeypatch, where):
    case = random_case(27, epochs=3)
    driver = board_for(board, case).driver

    def interrupt(*_):
        raise KeyboardInterrupt

    options = {}
    if where == "wait":
        monkeypatch.setattr(driver, "wait", interrupt)
        driver._known = board_for(board, case).driver.capability
    else:
        options = {where: interrupt}
    driver.device.clock_mhz = 1.0
    with pytest.raises(KeyboardInterrupt):
        driver.train(case.packed, case.plan, **options)
    assert driver.device.free_bytes == driver.device.memory_bytes


def test_threads_use_devices_of_their_own(board):
    cases = [random_case(seed, samples=300) for seed in range(4)]
    drivers = [board_for(board, case).driver for case in cases]
    check_side_by_side(drivers, cases)


def test_data_packed_for_another_kernel_is_refused(board):
    driver = board(word_bits=64).driver
    wide = random_case(28, word_bits=128)
    with pytest.raises(ArgumentError, match=r"bitplanes in words of 128 bits.*bitplanes in 64"):
        driver.train(wide.packed, wide.plan)
    floats = random_case(28, value_format="float32")
    with pytest.raises(ArgumentError, match=r"float32 in words of 64 bits.*bitplanes in 64"):
        driver.train(floats.packed, floats.plan)


@pytest.mark.parametrize("word", [0, 0xFFFFFFFF])
def test_a_bus_without_a_kernel(board, monkeypatch, word):
    driver = board().driver
    monkeypatch.setattr(
        driver.device, "read_registers", lambda address, length: word.to_bytes(4, "little")
    )
    with pytest.raises(DeviceError, match=rf"CTRL reads {word:#x}.*no kernel answers"):
        _ = driver.capability


@pytest.mark.parametrize(
    ("register", "value", "why"),
    [
        ("version", 0x5A4D0001, "0x5a4d0001, this package 0x5a4d0005"),
        ("version", 0, "0x00000000"),
        ("capability", 0x01_07_0C_0D_0D_07_06_06, "max_batch 128, this package needs 256"),
        ("capability", 0x01_03_0C_0D_0D_08_06_06, "max_delay 3, this package needs 7"),
    ],
)
def test_a_kernel_of_another_build(board, register, value, why):
    driver = board().driver
    run = driver.device._build.run
    driver.device._build = SimpleNamespace(
        name="old", run=lambda *arguments: run(*arguments) | {register: value}
    )
    with pytest.raises(OverlayMismatchError, match=why):
        _ = driver.capability


@pytest.mark.parametrize(
    "module", ["accelerator.interface", "accelerator.builds", "devices.hwh", "training.result"]
)
def test_pynq_is_imported_by_devices_and_driver_alone(module):
    code = f"import sys, zipml_pynq.{module}; sys.exit('pynq' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
