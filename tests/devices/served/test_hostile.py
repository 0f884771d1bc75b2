"""A server among hostile clients: memory, threads and descriptors return to where they were.

The server is a process of its own, so that what it has can be counted from outside.
"""
# ruff: noqa: E402 (what pynq 3.1 lacks is imported after the check for it)

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

pytest.importorskip("pynq.remote.gpio_pb2", reason="pynq 3.1 has a part of PYNQ.remote only")

from pynq.remote import (
    buffer_pb2,
    buffer_pb2_grpc,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)

from tests.cases import check_same, random_case
from tests.devices.served.clients import (
    becomes_active,
    only_board,
    overlay_path,
    start_board,
    until,
)
from zipml_pynq.accelerator import interface
from zipml_pynq.devices import design
from zipml_pynq.devices.emulated_bitstream import bitstream
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.devices.served.client import ServedDevice
from zipml_pynq.devices.served.connections import PREFACE
from zipml_pynq.errors import DeviceConnectionError

# pynq's own, on pydantic 2
pytestmark = pytest.mark.filterwarnings("ignore:The `:DeprecationWarning:pynq")
MIB = 1 << 20


class Process:
    """What a process has."""

    def __init__(self, pid: int) -> None:
        self.folder = Path("/proc", str(pid))

    @property
    def descriptors(self) -> int:
        return len(list((self.folder / "fd").iterdir()))

    @property
    def threads(self) -> int:
        return len(list((self.folder / "task").iterdir()))

    @property
    def resident(self) -> int:
        return int((self.folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def seconds(self) -> float:
        fields = (self.folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_channel(port: int) -> grpc.Channel:
    """A connection that nobody else uses."""
    return grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
    )


class Client:
    """A client without pynq."""

    def __init__(self, port: int) -> None:
        self.channel = open_channel(port)
        self.files = remote_device_pb2_grpc.RemoteDeviceStub(self.channel)
        self.mmio = mmio_pb2_grpc.MmioStub(self.channel)
        self.buffers = buffer_pb2_grpc.RemoteBufferStub(self.channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def calls(self) -> None:
        self.files.existsfile(remote_device_pb2.ExistsFileRequest(file_path="/"), timeout=10)

    def begins_upload(self, chunks: int, going_on: threading.Event):
        def requests():
            for _ in range(chunks):
                yield remote_device_pb2.WriteFileRequest(file_path="/tmp/x", data=bytes(2 * MIB))
            going_on.wait(60)

        return self.files.writefile.future(requests())

    def write(self, offset: int, word: int) -> None:
        name = f"{design.BASE_ADDRESS:x}+{design.ADDRESS_RANGE:x}"
        data = word.to_bytes(4, "little")
        answer = self.mmio.write(mmio_pb2.WriteRequest(mmio_id=name, offset=offset, data=data))
        assert not answer.msg

    def starts(self, epochs: int, control: int = interface.AP_START) -> None:
        """Start a run as a driver would, on a buffer of zeros."""
        data = bitstream(64, "bitplanes")
        self.files.download(iter([remote_device_pb2.DownloadRequest(buffer=_bin(data))]))
        case = random_case(7, samples=4000, features=60, epochs=epochs)
        registers = case.plan.registers(case.packed.layout)
        size = 8 * MIB
        name = self.buffers.allocate(buffer_pb2.AllocateRequest(size=size)).buffer_id
        address = self.buffers.physical_address(buffer_pb2.AddressRequest(buffer_id=name)).address
        kernel = interface.INTERFACES["bitplanes"]
        for pointer in kernel.pointers:
            self.write(kernel.offsets[pointer], address & 0xFFFFFFFF)
            self.write(kernel.offsets[pointer] + 4, address >> 32)
        for scalar in kernel.scalars:
            self.write(kernel.offsets[scalar], registers.get(scalar, 0) & 0xFFFFFFFF)
        self.write(interface.CTRL, control)


def _bin(data: bytes) -> bytes:
    import pynq.pl_server.embedded_device

    return pynq.pl_server.embedded_device.bit2bin(data)


@pytest.fixture
def board(processes):
    """A served board of two clients with 64 MiB: its port, and its process."""
    server, port = start_board("--port", "0", "--clients", "2", "--memory-mib", "64")
    processes.append(server)
    with Client(port) as client:
        client.calls()
    process = Process(server.pid)
    time.sleep(0.3)
    return port, process


def settles(process: Process, descriptors: int, threads: int, seconds: float = 20) -> None:
    """Wait until a process has what it had, and no more than the few that gRPC keeps for itself."""
    until(
        lambda: process.descriptors <= descriptors + 4 and process.threads <= threads + 4, seconds
    )


def test_uploads_under_way_and_waiting_requests_are_bounded(board):
    port, process = board
    descriptors, threads, resident = process.descriptors, process.threads, process.resident
    going_on = threading.Event()
    with Client(port) as hostile, Client(port) as innocent:
        innocent.calls()
        uploads = [hostile.begins_upload(80, going_on) for _ in range(10)]
        waiting = [
            hostile.files.writefile.future(
                iter([remote_device_pb2.WriteFileRequest(file_path="/y", data=bytes(4 * MIB - 99))])
            )
            for _ in range(300)
        ]
        most = 0
        end = time.monotonic() + 5
        while time.monotonic() < end:
            most = max(most, process.resident)
            began = time.monotonic()
            innocent.calls()  # one client's calls do not hold another's up
            assert time.monotonic() - began < 2
        going_on.set()
        assert any(upload.done() and upload.exception() for upload in uploads)
        for call in (*uploads, *waiting):
            call.cancel()
    # files, once more while one is replaced, and messages that are on their way
    assert most - resident < 400 * MIB
    settles(process, descriptors, threads)
    assert process.resident - resident < 300 * MIB


def test_runs_end_with_their_clients(board):
    port, process = board
    descriptors, threads = process.descriptors, process.threads
    for control in (interface.AP_START, interface.AP_START | interface.AUTO_RESTART):
        for _ in range(10):
            client = Client(port)
            until(lambda c=client: _answers(c))
            client.starts(65_000 if control == interface.AP_START else 1, control)
            client.channel.close()
    settles(process, descriptors, threads)
    before = process.seconds
    time.sleep(1)
    assert process.seconds - before < 0.2
    with Client(port) as client:
        client.calls()


def _answers(client: Client) -> bool:
    try:
        client.calls()
    except grpc.RpcError:
        return False  # there are two others still
    return True


def send_and_leave(port: int, content: bytes) -> None:
    connection = socket.create_connection(("127.0.0.1", port))
    with connection, contextlib.suppress(OSError):  # it may be closed at any time
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)


def test_nothing_is_left_of_malformed_messages_and_many_connections(board):
    port, process = board
    descriptors, threads = process.descriptors, process.threads
    rng = np.random.default_rng(0)
    with Client(port) as innocent:
        innocent.calls()
        for number in range(300):
            begin = (b"", PREFACE, PREFACE[: number % 24])[number % 3]
            send_and_leave(port, begin + rng.bytes(int(rng.integers(1, 200))))
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        innocent.calls()
        with Client(port) as other:
            other.calls()  # the oldest idle one gave its place
        for connection in idle:
            connection.close()
        innocent.calls()
    settles(process, descriptors, threads)


def test_a_client_from_the_same_port_gets_a_board_of_its_own(serve):
    """Two clients behind one port, one right after the other: as behind a router."""
    server = serve()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        source = found.getsockname()
    names = set()
    for number in range(2):
        with Relay(server.port, source) as relay, Client(relay.port) as client:
            exists = remote_device_pb2.ExistsFileRequest(file_path="/tmp/secret")
            assert not client.files.existsfile(exists, timeout=10).exists
            if number == 0:
                request = remote_device_pb2.WriteFileRequest(file_path="/tmp/secret", data=b"x")
                client.files.writefile(iter([request]))
                assert client.files.existsfile(exists).exists
            names |= set(server.boards)
    assert len(names) == 2


class Relay:
    """Hands one connection on from a port of one's own choice."""

    def __init__(self, port: int, source: tuple[str, int]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._to, self._source = port, source
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def _run(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # the port is free at once when it is closed, without the usual wait
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.bind(self._source)
        server.connect(("127.0.0.1", self._to))
        self._sockets = [client, server]
        threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
        self._pump(server, client)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(1 << 16):
                target.sendall(piece)
        except OSError:
            pass

    def __exit__(self, *_: object) -> None:
        for connection in self._sockets:
            with contextlib.suppress(OSError):  # the other end may have been first
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._listener.close()


def test_names_of_files_count(serve, monkeypatch):
    monkeypatch.setattr("zipml_pynq.devices.served.board.FILE_BYTES", 1 << 16)
    server = serve()
    with Client(server.port) as client:

        def write(path: str, data: bytes = b"") -> None:
            request = remote_device_pb2.WriteFileRequest(file_path=path, data=data)
            client.files.writefile(iter([request]))

        for number in range(10):
            write(f"/{number}" + "x" * 4000)
        with pytest.raises(grpc.RpcError, match="all files together have at most 65536"):
            write("/" + "y" * 4000, bytes(30_000))
        for number in range(10, 20):
            with contextlib.suppress(grpc.RpcError):
                write(f"/{number}" + "x" * 4000)
        assert len(only_board(server).files) < 22
        # one in place of another is no more than it
        write("/0" + "x" * 4000, bytes(100))


def test_stalled_calls_end_with_their_connection(serve, monkeypatch):
    monkeypatch.setattr("zipml_pynq.devices.served.connections.CALL_SECONDS", 0.5)
    server = serve()
    with Client(server.port) as client:
        client.calls()
        upload = client.begins_upload(1, threading.Event())
        until(lambda: upload.done(), 10)
        assert upload.exception() is not None
    until(lambda: not server.boards)


def test_connections_without_a_call_are_closed(serve, monkeypatch):
    monkeypatch.setattr("zipml_pynq.devices.served.connections.FIRST_CALL_SECONDS", 0.5)
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as silent, Client(server.port) as c:
        c.calls()
        silent.settimeout(10)
        assert silent.recv(1) == b""
        time.sleep(1)
        c.calls()  # who was answered stays
        assert len(server.boards) == 1


def test_connections_are_encrypted_if_asked_for(serve, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost".split()
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run([*make, *names], check=True, capture_output=True)
    pair = key.read_bytes(), certificate.read_bytes()
    server = serve(credentials=grpc.ssl_server_credentials([pair]), token="t" * 20)
    known = grpc.ssl_channel_credentials(pair[1])
    device = ServedDevice("127.0.0.1", server.port, "t" * 20, known)
    assert device.name == "zipml_emulated"
    with pytest.raises(DeviceConnectionError, match="does not answer"):
        ServedDevice("127.0.0.1", server.port, "t" * 20)
    device.client.channel.close()


def test_a_token_is_asked_for(serve, private_state, monkeypatch):
    token = "a token of some length"
    server = serve(token=token)
    with Client(server.port) as client, pytest.raises(grpc.RpcError, match="token is missing or"):
        client.calls()
    with pytest.raises(DeviceConnectionError, match="refuses: the token is missing or wrong"):
        ServedDevice("127.0.0.1", server.port, token[:-1])
    assert not server.boards
    device = ServedDevice("127.0.0.1", server.port, token)
    becomes_active(device, monkeypatch)
    case = random_case(7)
    driver = load_overlay(overlay_path(), device=device).driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case)
    device.client.channel.close()
