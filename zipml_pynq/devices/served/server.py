"""The emulated board behind a wire: a gRPC server that speaks PYNQ.remote.

The command ``zipml board`` (docs/command_line.md), or :func:`serve`, serves; the client is the
unmodified pynq with ``PYNQ_REMOTE_DEVICES=127.0.0.1``. What answers is an
:class:`~zipml_pynq.devices.emulated.EmulatedDevice`, the same as in process. docs/remote.md tells
what is emulated and what is not.

Every client, that is every connection, has a board of its own: memory, programmable logic and
files. So clients cannot disturb each other, and whatever one held is gone with its connection.
"""

from __future__ import annotations

import ipaddress
import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from pynq.pl_server.remote_device import PYNQ_PORT
from pynq.remote import buffer_pb2_grpc, gpio_pb2_grpc, mmio_pb2_grpc, remote_device_pb2_grpc

from zipml_pynq.devices.served.board import Board
from zipml_pynq.devices.served.services import (
    BufferService,
    DeviceService,
    GpioService,
    MmioService,
)
from zipml_pynq.errors import ArgumentError, DeviceError, OutOfDeviceMemoryError

log = logging.getLogger(__name__)
#: Largest message; pynq sends chunks of 2 MiB, and takes messages of up to 4.
MESSAGE_BYTES = 4 << 20
#: Clients that are served at a time, by default.
CLIENTS = 4
#: Seconds between two looks for clients that have gone.
REAP_INTERVAL = 0.5


def connected_ports(port: int) -> set[int] | None:
    """Ports of the clients with a connection to the local ``port``; None if nobody can tell.

    gRPC for Python does not tell when a client goes. Linux does: /proc/net/tcp lists connections
    as ``number: local:port remote:port state ..``, hexadecimal, state 1 for an open one.
    """
    found = set()
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    for table in tables:
        for line in table.read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if state == "01" and int(local.rpartition(":")[2], 16) == port:
                found.add(int(remote.rpartition(":")[2], 16))
    return found if tables else None


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own and nobody else's."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class BoardServer:
    """Serves emulated boards, one a client; a context manager.

    Parameters
    ----------
    host : str
        Address to listen at.
    port : int
        pynq asks at 7967 and nowhere else; 0 takes a free one.
    allow_remote : bool
        Allow an address that other machines reach. There is no authentication and no encryption.
    clients : int
        At most so many are served at a time. With ``memory_bytes`` it bounds the memory.
    **options
        Of each client's :class:`~zipml_pynq.devices.emulated.EmulatedDevice`: engine, memory_bytes,
        coherent, clock_mhz, inject_hang.

    Attributes
    ----------
    port : int
        Where it listens.
    boards : dict
        The boards by client, as gRPC calls it.

    Raises
    ------
    ArgumentError
        A bad parameter, or an address beyond loopback without ``allow_remote``.
    DeviceError
        The port is taken.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PYNQ_PORT,
        *,
        allow_remote: bool = False,
        clients: int = CLIENTS,
        **options: Any,
    ) -> None:
        if not is_loopback(host):
            if not allow_remote:
                raise ArgumentError(
                    f"host was {host!r}; other machines reach that, and nobody is asked for a "
                    "password: allowed is loopback, or allow_remote (--allow-remote)"
                )
            log.warning(
                "listening at %s without authentication or encryption: whoever reaches it can use "
                "the emulated board",
                host,
            )
        if clients < 1:
            raise ArgumentError(f"clients was {clients}; at least 1 is served")
        Board(**options)  # wrong options are told now and not to the first client
        self._options = options
        self._clients = clients
        self.boards: dict[str, Board] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=2 * clients + 2),
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
                # a second server at the same port is an error, not a share of the clients
                ("grpc.so_reuseport", 0),
                # a machine that is switched off does not say so: ask now and then
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.max_pings_without_data", 0),
            ],
        )
        for add, service in (
            (remote_device_pb2_grpc.add_RemoteDeviceServicer_to_server, DeviceService),
            (mmio_pb2_grpc.add_MmioServicer_to_server, MmioService),
            (buffer_pb2_grpc.add_RemoteBufferServicer_to_server, BufferService),
            (gpio_pb2_grpc.add_GpioServicer_to_server, GpioService),
        ):
            add(service(self._board), self._server)
        self.host = host
        try:
            address = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
            self.port = self._server.add_insecure_port(f"{address}:{port}")
        except RuntimeError as error:
            raise DeviceError(
                f"cannot listen at {host}:{port}; is a board served there?"
            ) from error
        self._reaper = threading.Thread(target=self._reap_until_stopped, daemon=True)

    def _board(self, context: grpc.ServicerContext) -> Board:
        """The board of the client that calls, made at its first call."""
        peer = context.peer()
        board = self.boards.get(peer)
        if board is None:
            self.reap()
            with self._lock:
                if len(self.boards) >= self._clients:
                    raise OutOfDeviceMemoryError(
                        f"{self._clients} clients are connected, and no more are served"
                    )
                board = self.boards.setdefault(peer, Board(**self._options))
            log.info("%s: connected", peer)
        return board

    def reap(self) -> None:
        """Drop the boards of clients that have gone, with all that was on them.

        A run that such a client left behind keeps what it works on until it has ended.
        """
        alive = connected_ports(self.port)
        if alive is None:
            return
        with self._lock:
            for peer in list(self.boards):
                if int(peer.rpartition(":")[2]) not in alive:
                    del self.boards[peer]
                    log.info("%s: gone", peer)

    def _reap_until_stopped(self) -> None:
        while not self._stopping.wait(REAP_INTERVAL):
            self.reap()

    def start(self) -> BoardServer:
        """Begin to serve."""
        self._server.start()
        self._reaper.start()
        return self

    def stop(self, grace: float = 1.0) -> None:
        """Stop serving: calls under way have ``grace`` seconds, then they are cut off."""
        self._stopping.set()
        self._server.stop(grace).wait()
        if self._reaper.is_alive():
            self._reaper.join()
        self.boards.clear()

    def __enter__(self) -> BoardServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(host: str = "127.0.0.1", port: int = PYNQ_PORT, **options: Any) -> None:
    """Serve boards until SIGINT or SIGTERM: what the command ``zipml board`` does.

    The address is printed when connections are taken. Parameters and errors are those of
    :class:`BoardServer`.
    """
    server = BoardServer(host, port, **options)
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    with server:
        print(f"emulated board at {server.host}:{server.port}", flush=True)
        asked.wait()
