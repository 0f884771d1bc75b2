"""The emulated board, through the real pynq: protocol, memory, metadata, interrupts, faults."""

import asyncio
import gc
import itertools
import threading
import time
from types import SimpleNamespace

import numpy as np
import pynq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipml_pynq.accelerator import capability, interface, regions
from zipml_pynq.accelerator.driver import SgdDriver
from zipml_pynq.constants import CONFIG, WORD_BITS
from zipml_pynq.devices import design, hwh
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.memory import PAGE, Heap
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.devices.register_file import RegisterFile
from zipml_pynq.errors import ArgumentError, DeviceError, OutOfDeviceMemoryError

START, DONE, IDLE, READY = (
    interface.AP_START,
    interface.AP_DONE,
    interface.AP_IDLE,
    interface.AP_READY,
)

# ---- Memory ------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20 * PAGE)), max_size=40))
def test_heap_never_overlaps_and_coalesces(steps):
    heap = Heap(64 * PAGE)
    live = []
    for give_back, size in steps:
        if give_back and live:
            offset, _ = live.pop(size % len(live))
            heap.free(offset)
            continue
        before = heap.largest_hole
        try:
            offset = heap.allocate(size)
        except OutOfDeviceMemoryError:
            assert size > before
            continue
        live.append((offset, max(size, 1)))
        assert offset % PAGE == 0
        assert offset + size <= heap.size
    spans = sorted((start, start + size) for start, size in live)
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(spans))
    assert all(heap.holds(start, stop - start) for start, stop in spans)
    for offset, _ in live:
        heap.free(offset)
    assert heap.largest_hole == heap.free_bytes == heap.size


def test_heap_is_first_fit():
    heap = Heap(4 * PAGE)
    first, second = heap.allocate(1), heap.allocate(PAGE)
    heap.allocate(2 * PAGE)
    heap.free(first)
    heap.free(second)
    assert heap.allocate(2 * PAGE) == first
    with pytest.raises(DeviceError, match="not allocated"):
        heap.free(second)


def test_out_of_memory_says_how_much_there_is(board):
    driver = board(memory_bytes=10 * PAGE).driver
    kept = [driver.allocate(4 * PAGE, "u1"), driver.allocate(2 * PAGE, "u1")]
    kept.pop(0).freebuffer()
    with pytest.raises(OutOfDeviceMemoryError) as error:
        driver.allocate((5, PAGE), "u1")
    for number in (5 * PAGE, 8 * PAGE, 10 * PAGE, 4 * PAGE):  # asked, free, all, largest
        assert f"{number}" in str(error.value)
    assert isinstance(error.value, MemoryError)
    kept[0].freebuffer()


def test_buffers_are_given_back_on_every_way(board):
    device = board(memory_bytes=16 * PAGE).overlay.device
    buffer = pynq.allocate((100,), "f8", target=device)
    assert device.free_bytes == 15 * PAGE
    buffer.freebuffer()
    buffer.freebuffer()
    assert device.free_bytes == 16 * PAGE
    del buffer
    with pynq.allocate((PAGE, 2), "u1", target=device):
        assert device.free_bytes == 14 * PAGE
    assert device.free_bytes == 16 * PAGE
    buffer = pynq.allocate(7, "u4", target=device)
    view = buffer[2:]
    del buffer
    assert device.free_bytes == 15 * PAGE  # the view needs it
    assert view.physical_address % PAGE == 8
    del view
    gc.collect()
    assert device.free_bytes == 16 * PAGE


def test_non_coherent_memory_needs_flush_and_invalidate():
    device = EmulatedDevice(memory_bytes=4 * PAGE, coherent=False)
    with pynq.allocate(4, "u1", target=device) as buffer:
        at = buffer.device_address - design.MEMORY_ADDRESS
        buffer[:] = [1, 2, 3, 4]
        assert device.memory[at] == 0
        buffer[2:].flush()
        assert device.memory[at : at + 4].tolist() == [0, 0, 3, 4]
        device.memory[at] = 9
        assert buffer[0] == 1
        buffer.invalidate()
        assert buffer.tolist() == [9, 0, 3, 4]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"word_bits": 32}, "word_bits was 32"),
        ({"value_format": "int8"}, "value_format was 'int8'"),
        ({"engine": "rtl"}, "engine was 'rtl'"),
        ({"memory_bytes": 100}, "memory_bytes was 100"),
        ({"memory_bytes": 0}, "memory_bytes was 0"),
        ({"memory_bytes": 1 << 40}, "memory_bytes was"),
        ({"clock_mhz": 0.0}, "clock_mhz was 0.0"),
    ],
)
def test_parameters_are_checked(options, what):
    with pytest.raises(ArgumentError, match=what):
        EmulatedDevice(**options)


# ---- Protocol ----------------------------------------------------------------------------------

REGISTERS = interface.INTERFACES["bitplanes"]
OUTPUTS = dict.fromkeys(REGISTERS.outputs, 0) | {"status": 1, "words": 0x1_0000_0002}


class Kernel:
    """A kernel that a test ends by hand."""

    def __init__(self):
        self.starts = []
        self.registers = RegisterFile(REGISTERS, lambda _, inputs: self.starts.append(inputs))


def test_start_stays_until_done_and_reading_clears_done():
    kernel = Kernel()
    r = kernel.registers
    assert r.read(0) == IDLE
    r.write(REGISTERS.offsets["planes"], 0x1000)
    r.write(REGISTERS.offsets["planes"] + 4, 0x8)
    r.write(REGISTERS.offsets["samples"], 5)
    r.write(0, START)
    assert kernel.starts[0]["planes"] == 0x8_0000_1000
    assert kernel.starts[0]["samples"] == 5
    assert r.read(0) == r.read(0) == START
    r.write(0, START)
    r.write(0, 0)
    assert len(kernel.starts) == 1  # it runs already, and nothing stops it
    r.finish(OUTPUTS)
    assert r.read(0) == DONE | IDLE | READY
    assert r.read(0) == IDLE


def test_valid_bits_are_cleared_by_reading():
    r = Kernel().registers
    r.write(0, START)
    valid = REGISTERS.valid_offsets["words"]
    assert r.read(valid) == 0
    r.finish(OUTPUTS)
    assert (r.read(valid), r.read(valid)) == (1, 0)
    assert r.value("words") == 0x1_0000_0002
    assert r.read(REGISTERS.offsets["words"]) == 2
    assert r.read(REGISTERS.offsets["words"] + 4) == 1


def test_read_only_and_reserved_words_ignore_writes():
    r = Kernel().registers
    inputs = {REGISTERS.offsets[name] for name in REGISTERS.pointers + REGISTERS.scalars}
    inputs |= {REGISTERS.offsets[name] + 4 for name in REGISTERS.pointers}
    for offset in range(0x10, 1 << REGISTERS.address_bits, 4):
        r.write(offset, 0x12345678)
        assert r.read(offset) == (0x12345678 if offset in inputs else 0)


def test_addresses_wrap_at_the_ports_width():
    r = Kernel().registers
    r.write(REGISTERS.offsets["bits"] + (1 << REGISTERS.address_bits), 3)
    assert r.value("bits") == 3


def test_auto_restart():
    kernel = Kernel()
    r = kernel.registers
    r.write(0, START | interface.AUTO_RESTART)
    r.finish(OUTPUTS)
    assert len(kernel.starts) == 2
    assert r.read(0) == START | DONE | READY | interface.AUTO_RESTART
    r.write(0, 0)
    r.finish(OUTPUTS)
    assert len(kernel.starts) == 2
    assert r.read(0) & IDLE


def test_interrupt_status_toggles():
    r = Kernel().registers
    r.write(0, START)
    r.finish(OUTPUTS)
    assert r.read(interface.ISR) == 0  # not enabled
    r.write(interface.IER, 0b01)
    r.write(0, START)
    r.finish(OUTPUTS)
    assert r.read(interface.ISR) == r.read(interface.ISR) == 0b01
    assert not r.interrupt
    r.write(interface.GIER, 1)
    assert r.interrupt
    assert r.read(0) & interface.INTERRUPT
    r.write(interface.ISR, 0b01)
    assert not r.interrupt
    r.write(interface.ISR, 0b10)  # toggles, whether it came or not
    assert r.read(interface.ISR) == 0b10


# ---- Through pynq ------------------------------------------------------------------------------


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("value_format", interface.VLNV)
def test_overlay_binds_the_driver(board, word_bits, value_format):
    overlay, driver = board(word_bits=word_bits, value_format=value_format)
    assert isinstance(overlay, pynq.Overlay)
    assert overlay.is_loaded()
    assert driver is overlay.zipml_sgd_0
    assert type(driver) is SgdDriver
    assert overlay.ip_dict["zipml_sgd_0"]["type"] == interface.VLNV[value_format]
    width = overlay.ip_dict["zipml_sgd_0"]["parameters"]["C_M_AXI_GMEM_PLANES_DATA_WIDTH"]
    assert int(width) == word_bits
    assert driver.capability == capability.Capability.expected(word_bits, value_format)


def test_register_map_reads_and_writes(board):
    driver = board().driver
    _ = driver.capability
    registers = driver.register_map
    assert int(registers.version) == CONFIG.interface_version
    registers.samples = 123
    assert int(registers.samples) == 123
    assert driver.mmio.read(REGISTERS.offsets["samples"]) == 123
    assert registers.CTRL.AP_IDLE == 1
    description = driver._registers
    for name, register in description.items():
        assert register["size"] == 32, name
    for argument in REGISTERS.arguments:
        for i, name in enumerate(interface.word_names(argument)):
            assert description[name]["address_offset"] == REGISTERS.offsets[argument.name] + 4 * i


def test_registers_outside_of_the_design_are_errors():
    device = EmulatedDevice()
    with pytest.raises(DeviceError, match="0x43c00000"):
        device.read_registers(0x43C0_0000, 4)
    with pytest.raises(DeviceError, match="0xa0000002"):
        device.write_registers(design.BASE_ADDRESS + 2, b"\0\0\0\0")


def test_missing_handoff_is_told(tmp_path):
    (tmp_path / "a.bit").write_bytes(b"")
    with pytest.raises(DeviceError, match=r"a\.hwh is missing"):
        pynq.Overlay(str(tmp_path / "a.bit"), device=EmulatedDevice())


def test_a_start_runs_in_the_background(board):
    # 64 model entries and 2 history rows at 1 kHz: some tenths of a second
    driver = board(clock_mhz=0.001 * 4).driver
    registers = dict.fromkeys(REGISTERS.scalars, 0)
    registers |= {"samples": 1, "features": 1, "batch": 1, "block_samples": 1, "bits": 1}
    registers |= {"block_stride": 1, "epochs": 1, "block_step": 1}
    sizes = regions.regions(registers, 64, "bitplanes")
    types = {"planes": "u8", "schedule": "u4"}
    buffers = {
        name: driver.allocate(
            size // np.dtype(types.get(name, "i4")).itemsize, types.get(name, "i4")
        )
        for name, size in sizes.items()
        if size
    }
    for buffer in buffers.values():
        buffer[:] = 0
    driver.write_registers({**buffers, **registers})
    began = time.monotonic()
    driver.start()
    assert time.monotonic() - began < 0.05
    assert driver.read(0) == START
    with pytest.raises(DeviceError, match="still runs an earlier call"):
        driver.start()
    driver.wait()
    results = driver.read_results()
    assert time.monotonic() - began >= results["modelled_cycles"] / 4e3
    assert results["status"] == CONFIG.status_ok
    for buffer in buffers.values():
        buffer.freebuffer()


# ---- Interrupts --------------------------------------------------------------------------------


@pytest.fixture
def interrupting(tmp_path, monkeypatch):
    """A board whose interrupt goes through a controller, and its driver."""
    device = EmulatedDevice(memory_bytes=16 * PAGE)
    (tmp_path / "zipml.hwh").write_text(hwh.hwh(64, "bitplanes", interrupt_controller=True))
    (tmp_path / "zipml.bit").write_bytes(b"")
    # pynq's interrupts belong to the active device
    monkeypatch.setattr(pynq.Device, "_active_device", device, raising=False)
    overlay = load_overlay(str(tmp_path / "zipml.bit"), device=device)
    assert isinstance(overlay.driver.interrupt, pynq.Interrupt)
    return device, overlay.driver


def test_interrupt_wakes_pynq(interrupting):
    device, driver = interrupting
    driver.write(interface.IER, 1)
    driver.write(interface.GIER, 1)

    async def interrupted():
        waiting = asyncio.ensure_future(driver.interrupt.wait())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        driver.write(0, START)  # refused at once: samples is 0
        await asyncio.wait_for(waiting, 2)

    asyncio.run(interrupted())
    assert device.registers.interrupt
    driver.write(interface.ISR, 1)
    assert not device.registers.interrupt


def test_wait_async_uses_the_interrupt(interrupting, monkeypatch):
    device, driver = interrupting
    _ = driver.capability
    waits = []
    wait = pynq.Interrupt.wait
    monkeypatch.setattr(pynq.Interrupt, "wait", lambda self: waits.append(1) or wait(self))
    monkeypatch.setattr("zipml_pynq.accelerator.driver.INTERRUPT_CHECK", 10.0)
    device.inject_hang = True  # the kernel is ended by hand, to be sure that it is waited for
    registers = device.registers

    async def run():
        driver.start()
        threading.Timer(0.05, registers.finish, [OUTPUTS]).start()
        await driver.wait_async(5)

    async def run_twice():
        for _ in range(2):
            await run()
            assert not registers.interrupt
            assert registers.read(interface.ISR) == 0

    began = time.monotonic()
    asyncio.run(run_twice())
    # pynq acknowledges while the kernel's level is still high, so the second run wakes up twice
    assert len(waits) == 3
    # pynq's interrupt cannot be waited for in a second event loop: that polls
    asyncio.run(run())
    assert registers.read(interface.ISR) == 0
    assert time.monotonic() - began < 2


# ---- Faults ------------------------------------------------------------------------------------


def test_a_bus_error_hangs_until_the_overlay_is_loaded_again(board):
    overlay, driver = board()
    registers = dict.fromkeys(REGISTERS.scalars, 0)
    registers |= {"samples": 1, "features": 1, "batch": 1, "block_samples": 1, "bits": 1}
    driver.write_registers({**registers, "epochs": 1, "block_step": 1, "labels": 0xDEAD_0000})
    driver.start()
    time.sleep(0.05)
    assert driver.read(0) == START
    assert "planes" in overlay.device.bus_error
    overlay.download()
    assert overlay.device.bus_error is None
    assert driver.read(0) == IDLE


def test_a_region_must_lie_in_one_buffer(board):
    overlay, driver = board(memory_bytes=16 * PAGE)
    registers = dict.fromkeys(REGISTERS.scalars, 0)
    registers |= {"samples": 1024, "features": 1, "batch": 1, "block_samples": 1024, "bits": 1}
    registers |= {"block_stride": 1024, "epochs": 1, "block_step": 1}  # planes: two pages
    pages = [driver.allocate(PAGE, "u1") for _ in range(2)]
    assert pages[1].device_address == pages[0].device_address + PAGE
    driver.write_registers({**registers, "planes": pages[0].device_address})
    driver.start()
    time.sleep(0.02)
    assert "8192 bytes" in overlay.device.bus_error
    for page in pages:
        page.freebuffer()


def test_a_hang_is_ended_by_loading_the_overlay(board):
    overlay, driver = board()
    _ = driver.capability
    overlay.device.inject_hang = True
    driver.write(0, START)
    time.sleep(0.02)
    assert driver.read(0) == START
    overlay.device.inject_hang = False
    overlay.download()
    driver.write(0, START)
    driver.wait(2)


def test_a_kernel_that_is_replaced_writes_no_more(board):
    overlay, driver = board()
    _ = driver.capability
    run = overlay.device._build.run
    ended = threading.Event()

    def slow(*arguments):
        time.sleep(0.1)
        ended.set()
        return run(*arguments)

    overlay.device._build = SimpleNamespace(name="slow", run=slow)
    driver.start()
    overlay.download()
    assert ended.is_set()
    assert driver.read(0) == IDLE
