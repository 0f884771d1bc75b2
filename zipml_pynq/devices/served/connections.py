"""Connections to the served board: each has a gRPC server of its own behind it.

gRPC for Python does not tell a server which connection a call came on, nor when one ends. So
connections are taken here, and the bytes of each go on, through a socket that nobody else reaches,
to a gRPC server that serves it alone: what belongs to a client is known by its connection, what a
client sends wrong hurts its own server, and all of it ends with the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

log = logging.getLogger(__name__)
#: What a connection of HTTP/2, and so of gRPC, begins with.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Seconds that a connection may have without a call that is answered.
FIRST_CALL_SECONDS = 10.0
#: Seconds that a call may take: pynq's longest, the transfer of a buffer, take a few.
CALL_SECONDS = 600.0
#: Seconds between two looks for connections that last too long.
LOOK_SECONDS = 1.0
_PIECE = 1 << 16


class Connection:
    """One connection, and the server behind it.

    Attributes
    ----------
    name : str
        What the log calls it, unlike any other.
    served : bool
        It has made a call that was answered.
    ended : bool
        No call is answered any more.
    """

    def __init__(self, name: str, client: socket.socket) -> None:
        self.name = name
        self.client = client
        self.served = self.ended = False
        self.began = time.monotonic()
        self.task: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._calls: dict[int, float] = {}
        self._numbers = itertools.count()

    def close(self, _: object = None) -> None:
        """Close the client's side."""
        self.client.close()

    def began_call(self, context: grpc.ServicerContext) -> None:
        """Take down that a call is under way, until it ends."""
        number = next(self._numbers)
        with self._lock:
            self._calls[number] = time.monotonic()
        if not context.add_callback(lambda: self._calls.pop(number, None)):
            self._calls.pop(number, None)

    def lasts_too_long(self, now: float) -> bool:
        """Whether it says nothing that is answered, or one of its calls does not end."""
        if not self.served and now - self.began > FIRST_CALL_SECONDS:
            return True
        with self._lock:
            return any(now - began > CALL_SECONDS for began in self._calls.values())


class Front:
    """Listens, and hands each connection to a server of its own.

    Parameters
    ----------
    listener : socket
        Bound.
    most : int
        Connections at a time. Beyond it the oldest one that was not served yet is closed.
    server_of : callable
        Makes the gRPC server of a connection, without a port.
    add_port : callable
        Adds a port to a server: ``add_port(server, address)``.
    ended : callable
        Called with a connection that has ended.
    plain : bool
        Connections are not encrypted, so that their first bytes can be looked at.
    """

    def __init__(
        self,
        listener: socket.socket,
        most: int,
        server_of: Callable[[Connection], grpc.Server],
        add_port: Callable[[grpc.Server, str], Any],
        ended: Callable[[Connection], None],
        plain: bool,
    ) -> None:
        self._listener = listener
        self._most = most
        self._server_of, self._add_port, self._ended = server_of, add_port, ended
        self._plain = plain
        self._connections: set[Connection] = set()
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._grace: float | None = 0.0
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        # only this user can reach what is in it
        self._folder = tempfile.TemporaryDirectory(prefix="zipml-board-")

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    def start(self) -> None:
        """Begin to take connections."""
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Take no more; calls under way have ``grace`` seconds."""
        if self._thread.is_alive():
            self._grace = grace
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._listener.close()
        self._folder.cleanup()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        works = [asyncio.ensure_future(work()) for work in (self._accept, self._look)]
        await self._stopping.wait()
        for work in works:
            work.cancel()
        tasks = [c.task for c in self._connections if c.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self._grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*works, *tasks, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                client, address = await self._loop.sock_accept(self._listener)
            except OSError as error:  # no descriptor is left, for one
                log.warning("no connection could be taken: %s", error.strerror)
                await asyncio.sleep(0.1)
                continue
            client.setblocking(False)
            with contextlib.suppress(OSError):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self._connections) >= self._most:
                waiting = [c for c in self._connections if not c.served]
                if not waiting:
                    client.close()
                    continue
                self._close(min(waiting, key=lambda c: c.began))
            name = f"{address[0]}:{address[1]}#{next(self._numbers)}"
            connection = Connection(name, client)
            self._connections.add(connection)
            connection.task = asyncio.ensure_future(self._serve(connection))
            # also of a task that is cancelled before it begins
            connection.task.add_done_callback(connection.close)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for connection in list(self._connections):
                if connection.lasts_too_long(now):
                    log.info("%s: took too long", connection.name)
                    self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection.task is not None:
            connection.task.cancel()

    async def _serve(self, connection: Connection) -> None:
        server: grpc.Server | None = None
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        inner.setblocking(False)
        path = Path(self._folder.name, connection.name.rpartition("#")[2])
        try:
            first = await self._first_bytes(connection.client)
            if first is None:
                return
            server = self._server_of(connection)
            self._add_port(server, f"unix:{path}")
            server.start()
            await self._loop.sock_connect(inner, str(path))
            await self._loop.sock_sendall(inner, first)
            ways = [
                asyncio.ensure_future(self._pump(connection.client, inner)),
                asyncio.ensure_future(self._pump(inner, connection.client)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, RuntimeError) as error:
            log.info("%s: %s", connection.name, error)
        finally:
            self._connections.discard(connection)
            inner.close()
            if server is not None:
                server.stop(0)
            path.unlink(missing_ok=True)
            self._ended(connection)

    async def _first_bytes(self, client: socket.socket) -> bytes | None:
        """What a connection begins with; None if that is not gRPC."""
        first = b""
        while self._plain and len(first) < len(PREFACE):
            more = await self._loop.sock_recv(client, len(PREFACE) - len(first))
            first += more
            if not more or not PREFACE.startswith(first):
                return None
        return first

    async def _pump(self, source: socket.socket, target: socket.socket) -> None:
        """Send on what comes, no more of it in memory than one piece."""
        piece = bytearray(_PIECE)
        with contextlib.suppress(OSError):
            while size := await self._loop.sock_recv_into(source, piece):
                await self._loop.sock_sendall(target, memoryview(piece)[:size])
