"""The emulated board over the wire: the real pynq client, the real gRPC, on loopback."""
# ruff: noqa: E402 (what pynq 3.1 lacks is imported after the check for it)

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pynq
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

pytest.importorskip("pynq.remote.gpio_pb2", reason="pynq 3.1 has a part of PYNQ.remote only")

from pynq.pl_server import global_state, remote_device
from pynq.pl_server.remote_device import FIRMWARE, RemoteDevice, RemoteGPIO
from pynq.ps import Clocks
from pynq.remote import (
    buffer_pb2,
    gpio_pb2,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)
from pynq.remote.selftest.context import Context
from pynq.remote.selftest.results import Results
from pynq.remote.selftest.steps import STEPS

from tests import ROOT
from tests.cases import CASES, check_same, check_side_by_side, memory_for, random_case
from zipml_pynq.accelerator import interface
from zipml_pynq.accelerator.driver import SgdDriver
from zipml_pynq.devices import design, emulated_bitstream, hwh
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.devices.served.server import BoardServer, connected_ports, is_loopback
from zipml_pynq.errors import (
    ArgumentError,
    DeviceConnectionError,
    DeviceError,
    KernelTimeoutError,
    OutOfDeviceMemoryError,
    ZipmlWarning,
)

# pynq's own, on pydantic 2
pytestmark = pytest.mark.filterwarnings("ignore:The `:DeprecationWarning:pynq")
PAGE = 4096


def overlay_path(word_bits: int = 64, value_format: str = "bitplanes") -> str:
    return str(hwh.OVERLAYS / f"{design.overlay_name(word_bits, value_format)}.bit")


@pytest.fixture
def private_state(tmp_path, monkeypatch):
    """pynq keeps what is loaded in its own folder: tests that run side by side must not share."""
    monkeypatch.setattr(global_state, "STATE_DIR", str(tmp_path))
    for module in (remote_device, pynq.pl_server.embedded_device):
        monkeypatch.setattr(module, "__file__", str(tmp_path / "module.py"))


@pytest.fixture
def serve():
    """Start servers at free ports; at the end they stop, and no buffer may be left."""
    servers = []

    def start(memory_bytes=1 << 22, **options):
        server = BoardServer(port=0, memory_bytes=memory_bytes, **options).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        boards = list(server.boards.values())
        server.stop(grace=0)
        for board in boards:
            assert not board.buffers
            assert board.device.free_bytes == board.device.memory_bytes


@pytest.fixture
def connect(monkeypatch, private_state):
    """Make clients; each has a connection of its own, as if it were another process."""
    channel = functools.partial(
        grpc.insecure_channel, options=[("grpc.use_local_subchannel_pool", 1)]
    )
    monkeypatch.setattr(grpc, "insecure_channel", channel)
    devices = []

    def make(port):
        device = RemoteDevice(len(devices), "127.0.0.1", port=port)
        devices.append(device)
        # pynq programs ports' widths on its active device, and clocks on the first one it saw
        monkeypatch.setattr(pynq.Device, "_active_device", device, raising=False)
        monkeypatch.delattr(Clocks, "_real_instance", raising=False)
        return device

    yield make
    for device in devices:
        device.client.channel.close()


@pytest.fixture
def remote(serve, connect):
    """A served board with an overlay on it: (overlay, driver), and the server."""

    def load(word_bits=64, value_format="bitplanes", **options):
        server = serve(**options)
        device = connect(server.port)
        return load_overlay(overlay_path(word_bits, value_format), device=device), server

    return load


def only_board(server):
    (board,) = server.boards.values()
    return board


def until(condition, seconds=5.0):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# ---- Training --------------------------------------------------------------------------------


@pytest.mark.parametrize("word_bits", [64, 128, 512])
def test_training_over_the_wire_gives_the_references_bits(serve, connect, word_bits):
    """All on one connection, each format's overlay loaded over the one before."""
    device = connect(serve().port)
    for options in CASES:
        case = random_case(7, word_bits=word_bits, l2=0.1, samples=75, **options)
        path = overlay_path(word_bits, case.packed.layout.value_format)
        overlay, driver = load_overlay(path, device=device)
        assert type(driver) is SgdDriver
        assert driver is overlay.zipml_sgd_0
        check_same(driver.train(case.packed, case.plan, model=case.model), case)


@pytest.mark.parametrize("value_format", interface.VLNV)
def test_segments_on_a_small_board(remote, value_format):
    case = random_case(
        8, samples=150, batch=2, blocks=8, delay=3, epochs=3, value_format=value_format
    )
    memory = memory_for(case, slots=2, capacity=3)
    (_, driver), server = remote(value_format=value_format, memory_bytes=memory)
    epochs = []
    result = driver.train(
        case.packed, case.plan, model=case.model, progress=lambda *at: epochs.append(at)
    )
    check_same(result, case, blocks=3)
    assert epochs == [(1, 3), (2, 3), (3, 3)]
    assert result.words > 0
    assert only_board(server).device.free_bytes == memory


def test_non_coherent_memory(remote):
    case = random_case(9)
    (_, driver), _ = remote(coherent=False)
    check_same(driver.train(case.packed, case.plan, model=case.model), case)


def test_clients_do_not_disturb_each_other(serve, connect):
    server = serve()
    cases = [random_case(10, epochs=20), random_case(11, epochs=20, value_format="float32")]
    drivers = [
        load_overlay(
            overlay_path(64, case.packed.layout.value_format), device=connect(server.port)
        ).driver
        for case in cases
    ]
    assert len(server.boards) == 2
    check_side_by_side(drivers, cases, times=3)


def test_pynqs_own_selftest(serve, connect):
    """All of it but what needs an AXI GPIO or RF converters in the overlay."""
    port = serve().port
    connect(port).client.channel.close()  # the device that pynq takes for active is of no use here
    context = Context("127.0.0.1", port, overlay_path())
    results = Results()
    for _, module in STEPS[:-2]:
        module.run(context, results)
    context.dev.client.channel.close()
    assert (results.failed, results.passed) == (0, 10)


# ---- As a user starts it  --------------------------------------------------------------------

#: A client that knows nothing of this package's server. It tells what it does on its output.
CLIENT = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import pynq.pl_server.global_state, pynq.pl_server.remote_device, pynq.pl_server.embedded_device
folder = sys.argv[1]
pynq.pl_server.global_state.STATE_DIR = folder  # see private_state
pynq.pl_server.remote_device.__file__ = pynq.pl_server.embedded_device.__file__ = folder + "/m.py"
from tests.cases import random_case
from zipml_pynq.devices.overlay import load_overlay
case = random_case(7, epochs=int(sys.argv[3]))
overlay, driver = load_overlay(sys.argv[2])
print(type(overlay.device).__name__, flush=True)
result = driver.train(case.packed, case.plan, model=case.model)
np.save(folder + "/model.npy", result.history_fixed)
"""


def start_client(folder, address, epochs=2):
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(folder), overlay_path(), str(epochs)],
        cwd=ROOT,
        env={**os.environ, "PYNQ_REMOTE_DEVICES": address},
        stdout=subprocess.PIPE,
        text=True,
    )


def start_board(*arguments):
    """The command in a process of its own; the process and its port."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "zipml_pynq", "board", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    words = process.stdout.readline().split()
    assert words[:3] == ["emulated", "board", "at"], words
    return process, int(words[3].rpartition(":")[2])


@pytest.fixture
def processes():
    """Processes to be ended, whatever happens."""
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_an_unmodified_client_finds_the_board_by_its_address(tmp_path, processes):
    # pynq knows one port only, but all of 127/8 is loopback: an address of this process's own
    address = f"127.{os.getpid() >> 16 & 0x7F | 1}.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}"
    server, port = start_board("--host", address)
    processes.append(server)
    assert port == 7967
    client = start_client(tmp_path, address)
    processes.append(client)
    assert client.stdout.readline() == "RemoteDevice\n"
    assert client.wait(20) == 0
    case = random_case(7)
    here = load_overlay("emulated").driver.train(case.packed, case.plan, model=case.model)
    np.testing.assert_array_equal(np.load(tmp_path / "model.npy"), here.history_fixed)
    server.send_signal(signal.SIGTERM)
    assert server.wait(10) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, port), timeout=5)


def test_the_served_board_is_a_source_of_its_own(serve, connect):
    with pytest.raises(ArgumentError, match="PYNQ_REMOTE_DEVICES names no board"):
        load_overlay("served")
    for word_bits, value_format in ((64, "bitplanes"), (128, "levels")):
        device = connect(serve().port)
        overlay, driver = load_overlay(
            "served", device=device, word_bits=word_bits, value_format=value_format
        )
        assert overlay.device is device
        assert driver.capability.word_bits == word_bits
        assert driver.capability.value_format == value_format
    with pytest.raises(ArgumentError, match="value_format was 'float16'"):
        load_overlay("served", device=device, value_format="float16")


# ---- Runs that are cut  ----------------------------------------------------------------------


def test_a_server_that_is_killed(processes, connect):
    server, port = start_board("--port", "0", "--clock-mhz", "0.001")
    processes.append(server)
    device = connect(port)
    driver = load_overlay(overlay_path(), device=device).driver
    case = random_case(7)
    threading.Timer(0.5, server.kill).start()
    began = time.monotonic()
    with pytest.raises(DeviceConnectionError, match=f"127.0.0.1:{port} does not answer") as error:
        driver.train(case.packed, case.plan, model=case.model, timeout=60)
    assert isinstance(error.value, ConnectionError)
    assert 0.3 < time.monotonic() - began < 10
    for call in (
        lambda: driver.read(0),
        lambda: driver.write(0x10, 0),
        lambda: driver.allocate(8, "u4"),
        lambda: driver.train(case.packed, case.plan),
        lambda: load_overlay(overlay_path(), device=device),
    ):
        with pytest.raises(DeviceConnectionError):
            call()
    # with a server there again, loading the overlay is all that is needed
    server, _ = start_board("--port", str(port), "--memory-mib", "4")
    processes.append(server)
    until(lambda: answers(driver), 20)
    with pytest.raises(DeviceError, match="no overlay is loaded"):
        driver.read(0)
    driver = load_overlay(overlay_path(), device=device).driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case)
    server.send_signal(signal.SIGINT)
    assert server.wait(10) == 0


def answers(driver):
    try:
        driver.read(0)
    except DeviceConnectionError:
        return False
    except DeviceError:
        return True
    return True


def test_a_server_that_falls_silent(processes, connect, monkeypatch):
    """pynq's calls have no time limit of their own."""
    monkeypatch.setattr("zipml_pynq.accelerator.remote.CALL_TIMEOUT", 0.5)
    server, port = start_board("--port", "0", "--clock-mhz", "0.001")
    processes.append(server)
    driver = load_overlay(overlay_path(), device=connect(port)).driver
    case = random_case(7)
    threading.Timer(0.3, server.send_signal, [signal.SIGSTOP]).start()
    began = time.monotonic()
    with pytest.raises(DeviceConnectionError, match="Deadline Exceeded"):
        driver.train(case.packed, case.plan, model=case.model, timeout=60)
    assert time.monotonic() - began < 5


def test_a_client_that_is_killed(tmp_path, processes, serve):
    server = serve(clock_mhz=0.001, clients=1)
    client = subprocess.Popen(
        [
            sys.executable,
            "-c",
            CLIENT.replace("load_overlay(sys.argv[2])", LOAD_AT.format(server.port)),
            str(tmp_path),
            overlay_path(),
            "50",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    processes.append(client)
    client.stdout.readline()
    board = only_board(server)
    until(lambda: board.device.registers.value("samples") and board.device.registers._running)
    assert board.buffers
    worker = board.device._worker
    client.kill()
    until(lambda: not server.boards)
    # what the run works on is still there; the rest is gone, and the next client has its place
    assert worker.is_alive()
    board.device._removed.set()
    worker.join(10)
    for name in list(board.buffers):
        board.free(name)


#: Makes the same client connect to a port that pynq does not know.
LOAD_AT = (
    "(setattr(pynq.Device, 'active_device', "
    "pynq.pl_server.remote_device.RemoteDevice(0, '127.0.0.1', port={}))"
    " or load_overlay(sys.argv[2]))"
)


def test_a_run_that_hangs_times_out(remote):
    (overlay, driver), server = remote()
    case = random_case(7)
    assert driver.capability.word_bits == 64
    device = only_board(server).device
    device.inject_hang = True
    with (
        pytest.warns(ZipmlWarning, match="kept back"),
        pytest.raises(KernelTimeoutError, match="did not finish within 0.3 s"),
    ):
        driver.train(case.packed, case.plan, timeout=0.3)
    assert device.free_bytes < device.memory_bytes
    device.inject_hang = False
    overlay.download()
    assert driver.reclaim() == 0
    assert device.free_bytes == device.memory_bytes
    check_same(driver.train(case.packed, case.plan, model=case.model), case)


def test_a_connection_that_ends_takes_its_board_along(serve, connect):
    server = serve(clients=1)
    first = connect(server.port)
    buffer = first.allocate(100, "u1")
    with pytest.raises(grpc.RpcError, match="1 clients are connected"):
        connect(server.port)
    first.client.channel.close()
    until(lambda: not server.boards)
    buffer.freed = True
    second = connect(server.port)  # the place is free again
    assert second.name == "zipml_emulated"
    assert len(server.boards) == 1


# ---- No leaks  -------------------------------------------------------------------------------


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


# ---- Registers  ------------------------------------------------------------------------------


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


def test_accesses_that_no_mapping_allows(serve, connect):
    device = connect(serve().port)
    stub = mmio_pb2_grpc.MmioStub(device.client.channel)
    for name, offset, data, what in (
        ("", 0, b"1234", "no mapping"),
        ("ff5e0000", 0, b"1234", "no mapping"),
        ("ff5e0000+40000000", 0, b"1234", "not words of"),
        ("ff5e0000+100", 0x100, b"1234", "not words of"),
        ("ff5e0000+100", 2, b"1234", "not words of"),
        ("ff5e0000+100", 0, b"123", "whole words"),
    ):
        answer = stub.write(mmio_pb2.WriteRequest(mmio_id=name, offset=offset, data=data))
        assert what in answer.msg
    with pytest.raises(RuntimeError, match="length was 8"):
        device.mmap(0xFF5E_0000, 0x100).read(0, length=8)


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


# ---- Files  ----------------------------------------------------------------------------------


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
    monkeypatch.setattr(board_module, "FILE_BYTES", 1 << 20)
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


def test_calls_that_pynq_does_not_make(serve, connect):
    """They are in the protocol, so they work."""
    server = serve()
    stub = connect(server.port)._stub["device"]
    data = pynq.pl_server.embedded_device.bit2bin(emulated_bitstream.bitstream(128, "levels"))
    chunks = [remote_device_pb2.DownloadRequest(buffer=data[i : i + 16]) for i in range(0, 90, 16)]
    assert stub.download(iter(chunks)).status
    assert only_board(server).device.word_bits == 128
    assert stub.set_pl_clk(remote_device_pb2.SetPlClkRequest(i=0, div0=5, div1=1)).status
    assert stub.shutdown(remote_device_pb2.ShutdownRequest()).status
    with pytest.raises(grpc.RpcError, match="partial"):
        stub.set_bitstream_attrs(remote_device_pb2.SetBitstreamAttrsRequest(partial=True))


def test_nonsense_is_refused_or_harmless(serve, connect):
    """Whatever is asked, the answer is one that was meant, and the next call works."""
    server = serve()
    device = connect(server.port)
    load_overlay(overlay_path(), device=device)
    rng = np.random.default_rng(5)
    refused = []
    values = {
        FieldDescriptor.TYPE_STRING: [
            "",
            "1",
            "338",
            "/tmp/x",
            "a0000000+1000",
            "ff5e0000+-4",
            "é",
        ],
        FieldDescriptor.TYPE_BYTES: [b"", b"1", b"12345678", bytes(1000)],
        FieldDescriptor.TYPE_BOOL: [False, True],
        FieldDescriptor.TYPE_INT32: [0, 1, -1, 100, 338, 2**31 - 1, -(2**31)],
        FieldDescriptor.TYPE_UINT64: [0, 4, 0xA000_0000, 0xFF5E_0000, 2**32, 2**64 - 1],
    }
    allowed = {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    for module, name in (
        (remote_device_pb2, "RemoteDevice"),
        (mmio_pb2, "Mmio"),
        (buffer_pb2, "RemoteBuffer"),
        (gpio_pb2, "Gpio"),
    ):
        service = module.DESCRIPTOR.services_by_name[name]
        for method in service.methods:
            request = message_factory.GetMessageClass(method.input_type)
            answer = message_factory.GetMessageClass(method.output_type)
            kinds = ("stream", "unary"), ("unary", "stream")
            kind = f"{kinds[0][not method.client_streaming]}_{kinds[1][method.server_streaming]}"
            call = getattr(device.client.channel, kind)(
                f"/{service.full_name}/{method.name}", request.SerializeToString, answer.FromString
            )
            for _ in range(30):
                fields = {
                    field.name: values[field.type][rng.integers(len(values[field.type]))]
                    for field in method.input_type.fields
                }
                message = request(**fields)
                try:
                    found = call(iter([message] * 2) if method.client_streaming else message)
                    if method.server_streaming:
                        list(found)
                except grpc.RpcError as error:
                    refused.append((error.code(), method.name, fields, error.details()))
    assert len(refused) > 50
    assert [what for what in refused if what[0] not in allowed] == []
    board = only_board(server)
    for name in list(board.buffers):
        board.free(name)
    driver = load_overlay(overlay_path(), device=device).driver
    assert driver.capability.word_bits == 64


# ---- The server  -----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "192.168.2.99", "board.example"])
def test_other_machines_are_served_only_if_asked_for(host):
    assert not is_loopback(host)
    with pytest.raises(ArgumentError, match=r"nobody is asked for a password.*allow_remote"):
        BoardServer(host, 0)


def test_serving_other_machines_warns(caplog):
    with caplog.at_level(logging.WARNING), BoardServer("0.0.0.0", 0, allow_remote=True) as server:
        assert server.port > 0
    assert "without authentication or encryption" in caplog.text
    assert all(map(is_loopback, ("localhost", "127.3.2.1", "::1", "[::1]")))


def test_addresses_of_version_6():
    try:
        server = BoardServer("::1", 0)
    except DeviceError:
        pytest.skip("no IPv6 here")
    with server, grpc.insecure_channel(f"[::1]:{server.port}") as channel:
        stub = remote_device_pb2_grpc.RemoteDeviceStub(channel)
        assert stub.existsfile(remote_device_pb2.ExistsFileRequest(file_path="/proc")).exists
        server.reap()
        assert len(server.boards) == 1


def test_a_port_that_is_taken(serve):
    with pytest.raises(DeviceError, match="cannot listen at 127.0.0.1"):
        BoardServer(port=serve().port)


@pytest.mark.parametrize("options", [{"clients": 0}, {"memory_bytes": 1}, {"engine": "rtl"}])
def test_options_are_checked(options):
    with pytest.raises(ArgumentError):
        BoardServer(port=0, **options)


def test_connections_are_found(serve):
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        until(lambda: client.getsockname()[1] in connected_ports(server.port))


def test_the_server_is_imported_by_nobody():
    code = (
        "import sys, zipml_pynq, zipml_pynq.plan; print('grpc' in sys.modules);"
        "import zipml_pynq.devices; print('zipml_pynq.board' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert run.stdout == "False\nFalse\n"


def test_firmware_lies_where_pynq_puts_it():
    assert FIRMWARE == "/lib/firmware/"
