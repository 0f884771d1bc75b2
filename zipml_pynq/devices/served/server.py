"""The emulated board behind a wire: a gRPC server that speaks PYNQ.remote.

The command ``zipml board`` (docs/command_line.md), or :func:`serve`, serves; the client is the
unmodified pynq with ``PYNQ_REMOTE_DEVICES=127.0.0.1``. What answers is an
:class:`~zipml_pynq.devices.emulated.EmulatedDevice`, the same as in process. docs/remote.md tells
what is emulated and what is not.

Every client, that is every connection, has a board of its own: memory, programmable logic and
files. So clients cannot disturb each other, and whatever one held is gone with its connection
(``connections.py``).
"""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from pynq.pl_server.remote_device import PYNQ_PORT
from pynq.remote import buffer_pb2_grpc, gpio_pb2_grpc, mmio_pb2_grpc, remote_device_pb2_grpc

from zipml_pynq.devices.served.board import Board
from zipml_pynq.devices.served.connections import Connection, Front
from zipml_pynq.devices.served.interceptors import MessageInterceptor, TokenInterceptor
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
#: Calls of one client that are worked on at a time, and that are under way, each of which may hold
#: a message; further ones wait at the client.
CALLS, STREAMS = 8, 32
#: Clients that are served at a time, by default.
CLIENTS = 4
#: Shortest token.
TOKEN_LENGTH = 16
_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", STREAMS),
    # what is received ahead of time does not grow with the speed of the connection
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
    # a machine that is switched off does not say so: ask now and then
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


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
    token : str, optional
        What clients have to show (:func:`zipml_pynq.devices.served.client.connect`). Needed for
        an address that other machines reach.
    credentials : grpc.ServerCredentials, optional
        Encrypt connections, as ``grpc.ssl_server_credentials`` says.
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
        The boards by client. One whose client has gone stays until its run has ended.

    Raises
    ------
    ArgumentError
        A bad parameter, or an address beyond loopback without a token.
    DeviceError
        The port is taken.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PYNQ_PORT,
        *,
        token: str | None = None,
        credentials: grpc.ServerCredentials | None = None,
        clients: int = CLIENTS,
        **options: Any,
    ) -> None:
        if token is not None and (len(token) < TOKEN_LENGTH or not token.isascii()):
            raise ArgumentError(
                f"token had {len(token)} characters; allowed are {TOKEN_LENGTH} or more, in ASCII"
            )
        if not is_loopback(host):
            if token is None:
                raise ArgumentError(
                    f"host was {host!r}; other machines reach that: allowed is loopback, or a "
                    "token that clients have to show (--token-file)"
                )
            log.warning(
                "listening at %s: whoever knows the token can use the emulated board%s",
                host,
                "" if credentials is not None else ", and whoever sees a connection knows it",
            )
        if clients < 1:
            raise ArgumentError(f"clients was {clients}; at least 1 is served")
        Board(**options)  # wrong options are told now and not to the first client
        self._options = options
        self._clients = clients
        asked = [] if token is None else [TokenInterceptor(token)]
        self._interceptors = [*asked, MessageInterceptor()]
        self._credentials = credentials
        self.boards: dict[str, Board] = {}
        self._lock = threading.Lock()
        self.host = host
        listener = _listener(host, port)
        self.port = int(listener.getsockname()[1])
        self._front = Front(
            listener,
            4 * clients + 16,
            self._server_of,
            self._add_port,
            self._ended,
            credentials is None,
        )

    def _server_of(self, connection: Connection) -> grpc.Server:
        """What answers one connection."""
        server = grpc.server(
            ThreadPoolExecutor(CALLS), options=_OPTIONS, interceptors=self._interceptors
        )

        def board(context: grpc.ServicerContext) -> Board:
            return self._board(connection, context)

        for add, service in (
            (remote_device_pb2_grpc.add_RemoteDeviceServicer_to_server, DeviceService),
            (mmio_pb2_grpc.add_MmioServicer_to_server, MmioService),
            (buffer_pb2_grpc.add_RemoteBufferServicer_to_server, BufferService),
            (gpio_pb2_grpc.add_GpioServicer_to_server, GpioService),
        ):
            add(service(board), server)
        return server

    def _add_port(self, server: grpc.Server, address: str) -> None:
        if self._credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, self._credentials)

    def _board(self, connection: Connection, context: grpc.ServicerContext) -> Board:
        """The board of the client that calls, made at its first call."""
        connection.began_call(context)
        with self._lock:
            board = self.boards.get(connection.name)
            if board is None:
                if connection.ended:
                    raise DeviceError("the connection has ended")
                if len(self.boards) >= self._clients:
                    raise OutOfDeviceMemoryError(
                        f"{self._clients} clients are connected, and no more are served"
                    )
                board = self.boards[connection.name] = Board(**self._options)
                connection.served = True
                log.info("%s: connected", connection.name)
        return board

    def _ended(self, connection: Connection) -> None:
        """End what a client left behind; its place is free when that has ended."""
        with self._lock:
            connection.ended = True
            board = self.boards.get(connection.name)

        def end() -> None:
            if board is not None:
                board.device.power_off()
            with self._lock:
                self.boards.pop(connection.name, None)
            log.info("%s: gone", connection.name)

        if board is not None:
            # a run of the kernel cannot be stopped, and must not hold the others up
            threading.Thread(target=end, daemon=True).start()

    def start(self) -> BoardServer:
        """Begin to serve."""
        self._front.start()
        return self

    def stop(self, grace: float = 1.0) -> None:
        """Stop serving: clients have ``grace`` seconds to go, then they are cut off."""
        self._front.stop(grace)

    def __enter__(self) -> BoardServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _listener(host: str, port: int) -> socket.socket:
    """A socket bound to an address."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise DeviceError(
            f"cannot listen at {host}:{port}: {error.strerror}; is a board served there?"
        ) from error
    return listener


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
