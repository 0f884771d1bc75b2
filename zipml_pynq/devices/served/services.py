"""The services of PYNQ.remote on emulated boards: files, registers, memory, pins."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
import numpy as np
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

from zipml_pynq.devices.served.board import GPIO_BASE, GPIO_PINS, PL_CLOCKS, Board
from zipml_pynq.errors import (
    ArgumentError,
    DeviceError,
    OutOfDeviceMemoryError,
    OverlayMismatchError,
    ZipmlError,
)

#: Size of the chunks that are sent.
CHUNK_BYTES = 2 << 20
#: Registers that one mapping may span.
MAPPING_BYTES = 1 << 20
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
            yield remote_device_pb2.ReadFileResponse(data=bytes(data[i : i + CHUNK_BYTES]))

    @told()
    def writefile(self, requests: Iterator[Any], board: Board) -> Any:
        parts = ((request.file_path, request.data) for request in requests)
        with gathered(parts, board) as (path, data):
            if path:  # an empty file comes as no message at all
                board.write_file(path, data)
        return remote_device_pb2.WriteFileResponse()

    @told()
    def set_bitstream_attrs(self, request: Any, board: Board) -> Any:
        if request.partial:
            raise DeviceError("an emulated board has no partial bitstreams")
        return remote_device_pb2.SetBitstreamAttrsResponse(status=True)

    @told()
    def download(self, requests: Iterator[Any], board: Board) -> Any:
        with gathered((("", request.buffer) for request in requests), board) as (_, data):
            board.configure(data)
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


@contextmanager
def gathered(parts: Iterator[tuple[str, bytes]], board: Board) -> Iterator[tuple[str, bytearray]]:
    """The name in the first part of a stream, and the data of all, which count while they come."""
    data = bytearray()
    held, name = 0, ""
    try:
        for given, chunk in parts:
            name = name or given
            board.arrives(name, len(chunk))
            held += len(chunk)
            data += chunk
        board.arrives(name, -held)
        held = 0
        yield name, data
    finally:
        board.arrives(name, -held)


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
