"""The server as a user starts it: who may connect, and what is left when somebody goes."""
# ruff: noqa: E402 (what pynq 3.1 lacks is imported after the check for it)

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest

pytest.importorskip("pynq.remote.gpio_pb2", reason="pynq 3.1 has a part of PYNQ.remote only")

from pynq.pl_server.remote_device import FIRMWARE
from pynq.remote import remote_device_pb2, remote_device_pb2_grpc

from tests import ROOT
from tests.cases import check_same, random_case
from tests.devices.served.clients import (
    CLIENT,
    LOAD_AT,
    only_board,
    overlay_path,
    start_board,
    start_client,
    until,
)
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.devices.served.server import BoardServer, is_loopback
from zipml_pynq.errors import (
    ArgumentError,
    DeviceConnectionError,
    DeviceError,
    KernelTimeoutError,
    ZipmlWarning,
)

# pynq's own, on pydantic 2
pytestmark = pytest.mark.filterwarnings("ignore:The `:DeprecationWarning:pynq")


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
    worker = board.device._workers[0]
    client.kill()
    until(lambda: not server.boards)
    # the run has ended with its client, and the next one has its place
    assert not worker.is_alive()
    for name in list(board.buffers):
        board.free(name)


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


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "192.168.2.99", "board.example"])
def test_other_machines_are_served_only_if_asked_for(host):
    assert not is_loopback(host)
    with pytest.raises(ArgumentError, match=r"other machines reach that: .*\(--token-file\)"):
        BoardServer(host, 0)


def test_serving_other_machines_warns(caplog):
    with caplog.at_level(logging.WARNING), BoardServer("0.0.0.0", 0, token="t" * 20) as server:
        assert server.port > 0
    assert "whoever knows the token can use the emulated board, and whoever sees" in caplog.text
    assert all(map(is_loopback, ("localhost", "127.3.2.1", "::1", "[::1]")))


def test_addresses_of_version_6():
    try:
        server = BoardServer("::1", 0)
    except DeviceError:
        pytest.skip("no IPv6 here")
    with server, grpc.insecure_channel(f"[::1]:{server.port}") as channel:
        stub = remote_device_pb2_grpc.RemoteDeviceStub(channel)
        assert stub.existsfile(remote_device_pb2.ExistsFileRequest(file_path="/proc")).exists
        assert len(server.boards) == 1


def test_a_port_that_is_taken(serve):
    with pytest.raises(DeviceError, match="cannot listen at 127.0.0.1"):
        BoardServer(port=serve().port)


@pytest.mark.parametrize("options", [{"clients": 0}, {"memory_bytes": 1}, {"engine": "rtl"}])
def test_options_are_checked(options):
    with pytest.raises(ArgumentError):
        BoardServer(port=0, **options)


def test_the_server_is_imported_by_nobody():
    code = (
        "import sys, zipml_pynq, zipml_pynq.training.plan; print('grpc' in sys.modules);"
        "import zipml_pynq.devices.overlay;"
        "print('zipml_pynq.devices.served.server' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert run.stdout == "False\nFalse\n"


def test_firmware_lies_where_pynq_puts_it():
    assert FIRMWARE == "/lib/firmware/"
