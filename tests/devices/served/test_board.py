"""A client's board over the wire: memory, registers, pins and files."""
# ruff: noqa: E402 (what pynq 3.1 lacks is imported after the check for it)

from __future__ import annotations

import os
from pathlib import Path

import grpc
import numpy as np
import pytest

pytest.importorskip("pynq.remote.gpio_pb2", reason="pynq 3.1 has a part of PYNQ.remote only")

from pynq.pl_server import remote_device
from pynq.pl_server.remote_device import RemoteGPIO
from pynq.ps import Clocks
from pynq.remote import remote_device_pb2

from tests.cases import random_case
from tests.devices.served.clients import PAGE, only_board
from zipml_pynq.accelerator import interface
from zipml_pynq.devices import design, emulated_bitstream, hwh
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.errors import DeviceError, OutOfDeviceMemoryError

# pynq's own, on pydantic 2
pytestmark = pytest.mark.filterwarnings("ignore:The `:DeprecationWarning:pynq")


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_register_accesses_and_a_gigabyte_of_buffers(remote):
    """Client and server are this process: neither may grow."""
    (_, driver), server = remote(memory_bytes=40 << 20)
    offset = interface.INTERFACES["bitplanes"].offsets["samples"]
    size = 16 << 20
    pattern = np.random.default_rng(0).integers(0, 256, size, np.uint8)

    def accesses(number):
        for i in range(number // 2):
            driver.write(offset, i)
            assert driver.read(offset) == i

    def buffers(number):
        for i in range(number):
            with driver.allocate(size, "u1") as buffer:
                buffer[:] = pattern
                buffer[0] = i
                buffer.sync_to_device()
                if i % 8 == 0:
                    buffer[:] = 0
                    buffer.sync_from_device()
                    assert buffer[0] == i
                    assert (buffer[1:] == pattern[1:]).all()

    accesses(1000)
    before = resident_bytes()
    accesses(10_000)
    assert resident_bytes() - before < 16 << 20
    buffers(9)
    before = resident_bytes()
    buffers(64)
    # a leak would be a gigabyte, on either side; the allocators of libc and gRPC keep some of what
    # comes and goes for the next message
    assert resident_bytes() - before < 512 << 20
    board = only_board(server)
    assert not board.buffers
    assert board.device.free_bytes == board.device.memory_bytes


def test_memory_is_limited(remote):
    (_, driver), server = remote(memory_bytes=16 * PAGE)
    with pytest.raises(OutOfDeviceMemoryError, match=f"{17 * PAGE} bytes of device memory"):
        driver.allocate(17 * PAGE, "u1")
    with driver.allocate(16 * PAGE, "u1"), pytest.raises(OutOfDeviceMemoryError):
        driver.allocate(1, "u1")
    case = random_case(12, samples=4000, features=300, blocks=2)
    with pytest.raises(OutOfDeviceMemoryError, match="training needs at least"):
        driver.train(case.packed, case.plan)
    assert only_board(server).device.free_bytes == 16 * PAGE


def test_an_answer_that_pynq_ignores_is_out_of_memory(remote, monkeypatch):
    """Real boards may answer with a message instead of a status, at which pynq does not look."""
    (_, driver), _ = remote()
    allocate = driver.device.allocate

    def failed(shape, dtype):
        buffer = allocate(shape, dtype)
        buffer.freebuffer()
        buffer.buffer_id = ""
        return buffer

    monkeypatch.setattr(driver.device, "allocate", failed)
    with pytest.raises(OutOfDeviceMemoryError, match="32 bytes of device memory were asked for"):
        driver.allocate(8, "u4")


def test_register_map_and_clocks(remote):
    (_, driver), server = remote()
    driver.register_map.samples = 77
    assert int(driver.register_map.samples) == 77
    assert only_board(server).device.registers.value("samples") == 77
    assert driver.register_map.CTRL.AP_IDLE == 1
    assert driver.mmio.read(interface.CTRL, length=1) == interface.AP_IDLE
    assert pytest.approx(100, rel=0.01) == Clocks.fclk0_mhz
    Clocks.fclk1_mhz = 250
    assert pytest.approx(250, rel=0.01) == Clocks.fclk1_mhz


def test_addresses_without_registers(serve, connect):
    device = connect(serve().port)
    for address, length, what in (
        (0x43C0_0000, 4, "no register is at address 0x43c00000"),
        (design.BASE_ADDRESS, 4, "no overlay is loaded"),
        (0xFF5E_0002, 4, "cannot be mapped"),
        (0xFF5E_0000, 1 << 30, "cannot be mapped"),
        (0xFF5E_0000, 0, "cannot be mapped"),
    ):
        with pytest.raises(RuntimeError, match=what):
            device.mmap(address, length).read(0)
        with pytest.raises(RuntimeError, match=what):
            device.mmap(address, length).write(0, 1)


def test_pins(serve, connect):
    device = connect(serve().port)
    pin = RemoteGPIO(RemoteGPIO.get_gpio_pin(0, device=device), "out", device=device)
    pin.write(1)
    assert RemoteGPIO(pin.index, "in", device=device).read() == 1
    assert pin.is_exported()
    pin.release()
    assert not pin.is_exported()
    assert RemoteGPIO.get_gpio_npins(device=device) == 174
    with pytest.raises(grpc.RpcError, match="GPIO 5 does not exist"):
        RemoteGPIO(5, "out", device=device)


def test_files_come_back_as_they_were_sent(serve, connect):
    device = connect(serve().port)
    data = np.random.default_rng(1).bytes(5 << 20)  # three chunks
    device.write_file("/home/xilinx//a/./b.bin", data)
    assert device.read_file("/home/xilinx/a/b.bin") == data
    assert device.exists_file("/home/xilinx/a").exists
    assert not device.exists_file("/home/xilinx/b").exists
    assert not Path("/home/xilinx/a/b.bin").exists()  # nothing is written here
    with pytest.raises(grpc.RpcError, match="does not exist on this board"):
        device.read_file("/etc/passwd")  # nor read


def test_paths_that_lead_elsewhere_are_refused(serve, connect):
    device = connect(serve().port)
    paths = [
        "/../etc/passwd",
        "/lib/firmware/../../etc/x",
        "etc/x",
        "/a/..",
        "",
        "/a\0b",
        "/" * 9999,
    ]
    for path in paths:
        for call in (
            device.exists_file,
            device.read_file,
            lambda name: device.write_file(name or "../x", b"data"),
        ):
            with pytest.raises(grpc.RpcError) as error:
                call(path)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_files_are_limited(serve, connect, monkeypatch):
    monkeypatch.setattr("zipml_pynq.devices.served.board.FILE_BYTES", 1 << 20)
    device = connect(serve().port)
    device.write_file("/tmp/a", bytes(900_000))
    device.write_file("/tmp/a", bytes(1_000_000))  # in its place
    for path, size in (("/tmp/b", 100_000), ("/tmp/a", 3 << 20)):
        with pytest.raises(grpc.RpcError, match="1048576"):
            device.write_file(path, bytes(size))
    for path in ("/proc/version", "/sys/class/fpga_manager/fpga0/state", "/dev/mem"):
        with pytest.raises(grpc.RpcError, match="not a file that can be written"):
            device.write_file(path, b"x")
    requests = [remote_device_pb2.WriteFileRequest(file_path="/tmp/c", data=bytes(5 << 20))]
    with pytest.raises(grpc.RpcError) as error:  # larger than any message that pynq sends
        device._stub["device"].writefile(iter(requests))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_bitstreams_of_hardware_are_refused(serve, connect, tmp_path):
    device = connect(serve().port)
    (tmp_path / "real.hwh").write_text(hwh.hwh(64, "bitplanes"))
    text = emulated_bitstream.bitstream(64, "bitplanes")
    (tmp_path / "real.bit").write_bytes(text.replace(b"zipml emulated", b"ZIPML EMULATED"))
    with pytest.raises(DeviceError, match="none for an emulated board"):
        load_overlay(str(tmp_path / "real.bit"), device=device)
    with pytest.raises(grpc.RpcError, match="does not exist on this board"):
        device.write_file(remote_device.BS_FPGA_MAN, b"missing.bin")


def test_a_bitstream_of_the_same_name_is_taken_anew(serve, connect, tmp_path):
    device = connect(serve().port)
    for word_bits in (64, 128):
        (tmp_path / "zipml.hwh").write_text(hwh.hwh(word_bits, "bitplanes"))
        (tmp_path / "zipml.bit").write_bytes(emulated_bitstream.bitstream(word_bits, "bitplanes"))
        driver = load_overlay(str(tmp_path / "zipml.bit"), device=device).driver
        assert driver.capability.word_bits == word_bits
