"""The emulated board behind a wire: a gRPC server that speaks PYNQ.remote.

The command ``zipml board`` (docs/command_line.md), or :func:`serve`, serves; the client is the
unmodified pynq with ``PYNQ_REMOTE_DEVICES=127.0.0.1``. What answers is an
:class:`~zipml_pynq.devices.EmulatedDevice`, the same as in process. docs/remote.md tells what is
emulated and what is not.

Every client, that is every connection, has a board of its own: memory, programmable logic and
files. So clients cannot disturb each other, and whatever one held is gone with its connection.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import logging
import posixpath
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
import numpy as np
from numpy.typing import NDArray
from pynq.pl_server.remote_device import BS_FPGA_MAN, BS_FPGA_MAN_FLAGS, FIRMWARE, PYNQ_PORT

try:
    from pynq.remote import (
        buffer_pb2,
        buffer_pb2_grpc,
        gpio_pb2,
        gpio_pb2_grpc,
        mmio_pb2,
        mmio_pb2_grpc,
        remote_device_pb2,
        remote_device_pb2_grpc,
    )
except ImportError as error:
    raise ImportError(
        f"serving a board needs pynq 4.0, which has all of PYNQ.remote: {error}"
    ) from error

from zipml_pynq import hwh
from zipml_pynq.devices import EmulatedBuffer, EmulatedDevice
from zipml_pynq.errors import (
    ArgumentError,
    DeviceError,
    OutOfDeviceMemoryError,
    OverlayMismatchError,
    ZipmlError,
)

log = logging.getLogger(__name__)

#: Largest message; pynq sends chunks of 2 MiB, and takes messages of up to 4.
MESSAGE_BYTES = 4 << 20
#: Size of the chunks that are sent.
CHUNK_BYTES = 2 << 20
#: All files of one client together: more than the largest bitstream.
FILE_BYTES = 128 << 20
#: Registers that one mapping may span.
MAPPING_BYTES = 1 << 20
#: Clients that are served at a time, by default.
CLIENTS = 4
#: Seconds between two looks for clients that have gone.
REAP_INTERVAL = 0.5

#: Blocks of the processing system that pynq programs when it loads an overlay, 64 KiB each: ports'
#: widths and clocks. They keep what is written to them; nothing depends on it.
SYSTEM_BLOCKS = {
    *range(0xFD36_0000, 0xFD3C_0000, 0x1_0000),  # AFIFM0 to 5
    0xFF9B_0000,  # AFIFM6
    0xFD61_0000,  # FPD_SLCR
    0xFF41_0000,  # LPD_SLCR
    0xFD1A_0000,  # CRF_APB
    0xFF5E_0000,  # CRL_APB
}
#: Their words after boot that are not 0: phase-locked loops at 1500 MHz, clocks at a fifteenth.
_PLL = 90 << 8 | 1 << 16
_DIVISORS = 15 << 8 | 1 << 16
PL_CLOCKS = tuple(0xFF5E_00C0 + 4 * i for i in range(4))
SYSTEM_WORDS = {
    **dict.fromkeys((0xFF5E_0020, 0xFF5E_0030), _PLL),
    **dict.fromkeys((0xFD1A_0020, 0xFD1A_002C, 0xFD1A_0038), _PLL),
    **dict.fromkeys((0xFD1A_0060, *PL_CLOCKS), _DIVISORS),
}
#: The GPIO controller of a Zynq UltraScale+.
GPIO_BASE, GPIO_PINS = 338, 174
#: What a client reads to learn what it is connected to, and the FPGA manager.
SYSTEM_FILES = {
    "/proc/version": b"Linux version 6.6.0 (emulated) aarch64\n",
    "/proc/device-tree/chosen/pynq_board": b"zipml_emulated\0",
    "/sys/class/fpga_manager/fpga0/state": b"unknown\n",
    BS_FPGA_MAN_FLAGS: b"0\n",
    BS_FPGA_MAN: b"\n",
}


# ---- One client's board ----------------------------------------------------------------------


class Board:
    """The board of one client: an emulated device, its files, and the processing system's part.

    Parameters
    ----------
    **options
        Of :class:`~zipml_pynq.devices.EmulatedDevice`.
    """

    def __init__(self, **options: Any) -> None:
        self.device = EmulatedDevice(**options)
        self.buffers: dict[str, EmulatedBuffer] = {}
        self.files: dict[str, bytes] = dict(SYSTEM_FILES)
        self.pins: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._system: dict[int, int] = dict(SYSTEM_WORDS)
        self._loaded = False
        #: Calls of one client may come at the same time.
        self.lock = threading.RLock()

    # ---- registers ----------------------------------------------------------------------------

    def _in_logic(self, address: int) -> bool:
        """Whether an address is one of the programmable logic, which must be there then."""
        if not 0 <= address - hwh.BASE_ADDRESS < 2 * hwh.ADDRESS_RANGE:
            return False
        if not self._loaded:
            raise DeviceError(
                "no overlay is loaded on this board; a client that was disconnected gets a new "
                "board and has to load its overlay again"
            )
        return True

    def _check_system(self, address: int) -> None:
        if address & ~0xFFFF not in SYSTEM_BLOCKS or address % 4:
            raise DeviceError(f"no register is at address {address:#x}")

    def read(self, address: int) -> int:
        """One word at a physical address."""
        with self.lock:
            if self._in_logic(address):
                return int.from_bytes(self.device.read_registers(address, 4), "little")
            self._check_system(address)
            return self._system.get(address, 0)

    def write(self, address: int, data: bytes) -> None:
        """Words from a physical address on."""
        with self.lock:
            if self._in_logic(address):
                self.device.write_registers(address, data)
                return
            for i in range(0, len(data), 4):
                self._check_system(address + i)
                self._system[address + i] = int.from_bytes(data[i : i + 4], "little")

    # ---- memory -------------------------------------------------------------------------------

    def allocate(self, size: int) -> str:
        """Name of a new buffer."""
        if size < 0:
            raise ArgumentError(f"size was {size}; it must not be negative")
        buffer = self.device.allocate(size, "u1")
        with self.lock:
            name = str(next(self._numbers))
            self.buffers[name] = buffer
        return name

    def buffer(self, name: str) -> EmulatedBuffer:
        """A buffer by name."""
        try:
            return self.buffers[name]
        except KeyError:
            raise DeviceError(
                f"no buffer is called {name!r}: it was freed, with its client's connection perhaps"
            ) from None

    def bytes_of(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes ``start`` to ``stop - 1`` of a buffer."""
        view = self.buffer(name).view(np.ndarray)
        if not 0 <= start <= stop <= len(view):
            raise ArgumentError(f"bytes {start} to {stop} are not in a buffer of {len(view)}")
        return view[start:stop]

    def free(self, name: str) -> None:
        """Free a buffer."""
        buffer = self.buffer(name)
        with self.lock:
            self.buffers.pop(name, None)
        buffer.freebuffer()

    # ---- files --------------------------------------------------------------------------------

    def write_file(self, path: str, data: bytes) -> None:
        """Write a file; where it is the FPGA manager's, load the bitstream that it names.

        Raises
        ------
        ArgumentError
            A path that is not absolute or leads upwards, a file of the system, or too much.
        OverlayMismatchError
            The bitstream is none for an emulated board.
        """
        path = checked_path(path)
        if path.startswith(("/proc/", "/sys/", "/dev/")) and path not in (
            BS_FPGA_MAN,
            BS_FPGA_MAN_FLAGS,
        ):
            raise ArgumentError(f"{path} is not a file that can be written")
        with self.lock:
            others = sum(len(text) for name, text in self.files.items() if name != path)
            if others + len(data) > FILE_BYTES:
                raise ArgumentError(
                    f"{path} would have {len(data)} bytes; all files together have at most "
                    f"{FILE_BYTES}"
                )
            if path == BS_FPGA_MAN:
                self.load(data.decode("utf-8", "replace").strip())
            self.files[path] = data

    def read_file(self, path: str) -> bytes:
        """Contents of a file."""
        path = checked_path(path)
        if path not in self.files:
            raise ArgumentError(f"{path} does not exist on this board")
        return self.files[path]

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder.

        Firmware is denied: pynq does not upload a bitstream whose name is there already, so one
        that was built anew would never arrive.
        """
        path = checked_path(path)
        if path.startswith(FIRMWARE):
            return False
        return path in self.files or any(name.startswith(f"{path}/") for name in self.files)

    def load(self, name: str) -> None:
        """Configure the programmable logic with the firmware file ``name``."""
        self.configure(self.read_file(FIRMWARE + name))

    def configure(self, data: bytes) -> None:
        """Configure the programmable logic with a bitstream."""
        word_bits, value_format = hwh.read_configuration(data)
        with self.lock:
            self.device.configure(word_bits, value_format)
            self._loaded = True
            self.files["/sys/class/fpga_manager/fpga0/state"] = b"operating\n"

    # ---- pins ---------------------------------------------------------------------------------

    def export(self, index: int) -> str:
        """Name of a GPIO pin, from now on exported."""
        if not GPIO_BASE <= index < GPIO_BASE + GPIO_PINS:
            raise ArgumentError(
                f"GPIO {index} does not exist; there are {GPIO_BASE} to {GPIO_BASE + GPIO_PINS - 1}"
            )
        self.pins.setdefault(str(index), 0)
        return str(index)

    def pin(self, name: str) -> int:
        """Level of an exported pin."""
        if name not in self.pins:
            raise ArgumentError(f"GPIO {name!r} is not exported")
        return self.pins[name]


def checked_path(path: str) -> str:
    """An absolute path, normalized.

    Files live in memory under a root that holds nothing else, so no path leads to the host's;
    one that tries is refused all the same, and told.
    """
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path or len(path) > 4096:
        raise ArgumentError(f"the path was {path[:100]!r}; allowed are absolute ones without '..'")
    return "/" + posixpath.normpath(path).lstrip("/")


# ---- The services ----------------------------------------------------------------------------

#: Status of a call that failed, the first class that fits.
STATUS = (
    (OutOfDeviceMemoryError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (OverlayMismatchError, grpc.StatusCode.FAILED_PRECONDITION),
    (ArgumentError, grpc.StatusCode.INVALID_ARGUMENT),
    (ZipmlError, grpc.StatusCode.FAILED_PRECONDITION),
)


def refuse(context: grpc.ServicerContext, error: ZipmlError) -> NoReturn:
    """End a call with an error's message."""
    code = next(code for kind, code in STATUS if isinstance(error, kind))
    context.abort(code, str(error))
    raise AssertionError("abort raises")


def told(response: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Decorate a call so that errors of this package reach the client.

    Parameters
    ----------
    response : message type, optional
        One whose ``msg`` pynq raises; by default the call fails, which pynq raises, too.
    """

    def decorate(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def checked(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return call(self, request, self.board(context))
            except ZipmlError as error:
                if response is None:
                    refuse(context, error)
                return response(msg=str(error))

        return checked

    return decorate


class _Service:
    """What the services share: ``board(context)`` is the board of the client that calls."""

    def __init__(self, board: Callable[[grpc.ServicerContext], Board]) -> None:
        self.board = board


class DeviceService(_Service, remote_device_pb2_grpc.RemoteDeviceServicer):
    """Files, and through them bitstreams."""

    @told()
    def existsfile(self, request: Any, board: Board) -> Any:
        return remote_device_pb2.ExistsFileResponse(exists=board.exists(request.file_path))

    def readfile(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            data = self.board(context).read_file(request.file_path)
        except ZipmlError as error:
            refuse(context, error)
        for i in range(0, len(data), CHUNK_BYTES):
            yield remote_device_pb2.ReadFileResponse(data=data[i : i + CHUNK_BYTES])

    @told()
    def writefile(self, requests: Iterator[Any], board: Board) -> Any:
        path, chunks = gather((request.file_path, request.data) for request in requests)
        if path:  # an empty file comes as no message at all
            board.write_file(path, chunks)
        return remote_device_pb2.WriteFileResponse()

    @told()
    def set_bitstream_attrs(self, request: Any, board: Board) -> Any:
        if request.partial:
            raise DeviceError("an emulated board has no partial bitstreams")
        return remote_device_pb2.SetBitstreamAttrsResponse(status=True)

    @told()
    def download(self, requests: Iterator[Any], board: Board) -> Any:
        board.configure(gather(("", request.buffer) for request in requests)[1])
        return remote_device_pb2.DownloadResponse(status=True)

    @told()
    def set_pl_clk(self, request: Any, board: Board) -> Any:
        if not 0 <= request.i < len(PL_CLOCKS):
            raise ArgumentError(f"clock {request.i} does not exist; there are 0 to 3")
        divisors = (request.div1 & 0x3F) << 16 | (request.div0 & 0x3F) << 8
        board.write(PL_CLOCKS[request.i], divisors.to_bytes(4, "little"))
        return remote_device_pb2.SetPlClkResponse(status=True)

    @told()
    def shutdown(self, request: Any, board: Board) -> Any:
        return remote_device_pb2.ShutdownResponse(status=True)


def gather(parts: Iterator[tuple[str, bytes]]) -> tuple[str, bytes]:
    """The name in the first part of a stream, and the data of all."""
    data = bytearray()
    name = ""
    for given, chunk in parts:
        name = name or given
        data += chunk
        if len(data) > FILE_BYTES:
            raise ArgumentError(f"more than {FILE_BYTES} bytes were sent")
    return name, bytes(data)


class MmioService(_Service, mmio_pb2_grpc.MmioServicer):
    """Registers. The name of a mapping says what it maps, so the board keeps none."""

    @staticmethod
    def _address(name: str, offset: int, size: int) -> int:
        try:
            base, length = (int(part, 16) for part in name.split("+"))
        except ValueError:
            raise ArgumentError(f"no mapping is called {name!r}") from None
        if offset % 4 or offset + size > length or length > MAPPING_BYTES:
            raise ArgumentError(f"{size} bytes at {offset:#x} are not words of {length:#x} bytes")
        return base + offset

    @told(mmio_pb2.GetMmioResponse)
    def get_mmio(self, request: Any, board: Board) -> Any:
        if not 0 < request.length <= MAPPING_BYTES or request.base_addr % 4:
            raise ArgumentError(
                f"{request.length} bytes at {request.base_addr:#x} cannot be mapped; allowed are "
                f"1 to {MAPPING_BYTES} from a word on"
            )
        name = f"{request.base_addr:x}+{request.length:x}"
        return mmio_pb2.GetMmioResponse(status=True, mmio_id=name)

    @told(mmio_pb2.ReadResponse)
    def read(self, request: Any, board: Board) -> Any:
        if request.length not in (1, 2, 4):  # the protocol's answer has 32 bits
            raise ArgumentError(f"length was {request.length}; allowed are 1, 2 and 4 bytes")
        word = board.read(self._address(request.mmio_id, request.offset, request.length))
        data = word & ((1 << 8 * request.length) - 1)
        return mmio_pb2.ReadResponse(status=True, data=data)

    @told(mmio_pb2.WriteResponse)
    def write(self, request: Any, board: Board) -> Any:
        if len(request.data) % 4:
            raise ArgumentError(f"{len(request.data)} bytes were sent; allowed are whole words")
        address = self._address(request.mmio_id, request.offset, len(request.data))
        board.write(address, request.data)
        return mmio_pb2.WriteResponse(status=True)


class BufferService(_Service, buffer_pb2_grpc.RemoteBufferServicer):
    """Memory."""

    @told()  # pynq does not look at this one's msg
    def allocate(self, request: Any, board: Board) -> Any:
        return buffer_pb2.AllocateResponse(buffer_id=board.allocate(request.size))

    @told(buffer_pb2.BufferWriteResponse)
    def write(self, requests: Iterator[Any], board: Board) -> Any:
        position = 0
        for request in requests:
            start = request.start or position
            position = start + len(request.data)
            target = board.bytes_of(request.buffer_id, start, position)
            target[:] = np.frombuffer(request.data, np.uint8)
        return buffer_pb2.BufferWriteResponse()

    def read(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            board = self.board(context)
            stop = request.end or board.buffer(request.buffer_id).nbytes
            data = board.bytes_of(request.buffer_id, request.start, stop)
        except ZipmlError as error:
            refuse(context, error)
        for i in range(0, len(data), CHUNK_BYTES):
            yield buffer_pb2.BufferReadResponse(data=data[i : i + CHUNK_BYTES].tobytes())

    @told(buffer_pb2.FreeBufferResponse)
    def freebuffer(self, request: Any, board: Board) -> Any:
        board.free(request.buffer_id)
        return buffer_pb2.FreeBufferResponse()

    @told(buffer_pb2.FlushResponse)
    def flush(self, request: Any, board: Board) -> Any:
        board.buffer(request.buffer_id).flush()
        return buffer_pb2.FlushResponse()

    @told(buffer_pb2.InvalidateResponse)
    def invalidate(self, request: Any, board: Board) -> Any:
        board.buffer(request.buffer_id).invalidate()
        return buffer_pb2.InvalidateResponse()

    @told(buffer_pb2.AddressResponse)
    def physical_address(self, request: Any, board: Board) -> Any:
        address = board.buffer(request.buffer_id).device_address
        return buffer_pb2.AddressResponse(address=address)

    # where the buffer lies in this process is nobody's business
    virtual_address = physical_address

    @told(buffer_pb2.CacheableResponse)
    def cacheable(self, request: Any, board: Board) -> Any:
        return buffer_pb2.CacheableResponse(cacheable=board.buffer(request.buffer_id).cacheable)


class GpioService(_Service, gpio_pb2_grpc.GpioServicer):
    """Pins that keep their level; nothing is connected to them."""

    @told()
    def get_gpio(self, request: Any, board: Board) -> Any:
        return gpio_pb2.GetGpioResponse(gpio_id=board.export(request.index))

    @told()
    def read(self, request: Any, board: Board) -> Any:
        return gpio_pb2.GpioReadResponse(value=board.pin(request.gpio_id))

    @told()
    def write(self, request: Any, board: Board) -> Any:
        board.pin(request.gpio_id)
        board.pins[request.gpio_id] = int(bool(request.value))
        return gpio_pb2.GpioWriteResponse()

    @told()
    def unexport(self, request: Any, board: Board) -> Any:
        board.pins.pop(request.gpio_id, None)
        return gpio_pb2.GpioUnexportResponse()

    @told()
    def is_exported(self, request: Any, board: Board) -> Any:
        return gpio_pb2.GpioIsExportedResponse(is_exported=request.gpio_id in board.pins)

    @told()
    def get_gpio_base_path(self, request: Any, board: Board) -> Any:
        path = f"/sys/class/gpio/gpiochip{GPIO_BASE}"
        return gpio_pb2.GetGpioBasePathResponse(base_path=path)

    @told()
    def get_gpio_npins(self, request: Any, board: Board) -> Any:
        return gpio_pb2.GetGpioNPinsResponse(npins=GPIO_PINS)


# ---- The server ------------------------------------------------------------------------------


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
        Of each client's :class:`~zipml_pynq.devices.EmulatedDevice`: engine, memory_bytes,
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
