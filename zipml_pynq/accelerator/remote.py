"""Calls to remote boards: their errors as errors of this package, and limits of their time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zipml_pynq.errors import DeviceConnectionError, DeviceError, OutOfDeviceMemoryError

try:
    import grpc
except ModuleNotFoundError:  # pynq 3.0 knows no boards in the network
    grpc = None

#: Seconds after which a call to a remote board that does not answer fails: an access or allocation;
#: the transfer of a buffer.
CALL_TIMEOUT, TRANSFER_TIMEOUT = 30.0, 600.0
#: What pynq raises for a call to a device that failed: over a wire, and there or otherwise.
WIRE_ERRORS: tuple[type[Exception], ...] = () if grpc is None else (grpc.RpcError,)
DEVICE_ERRORS: tuple[type[Exception], ...] = (*WIRE_ERRORS, RuntimeError)


def device_error(error: Exception, device: Any) -> DeviceError:
    """One of ``DEVICE_ERRORS`` as an error of this package."""
    if grpc is None or not isinstance(error, grpc.RpcError):
        return DeviceError(str(error))
    code, details = error.code(), error.details()
    board = f"the board at {device.ip_addr}:{device.port}" if device is not None else "the board"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return OutOfDeviceMemoryError(f"{board}: {details}")
    if code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ):
        return DeviceConnectionError(
            f"{board} does not answer ({details}); what was on it is lost: when it is there again, "
            "load the overlay again"
        )
    return DeviceError(f"{board} refused ({code.name}): {details}")


@contextmanager
def device_errors(device: Any) -> Iterator[None]:
    """Turn errors of accesses to ``device`` into errors of this package."""
    try:
        yield
    except DeviceError:
        raise
    except DEVICE_ERRORS as error:
        raise device_error(error, device) from error


def _time_limit() -> Any:
    """An interceptor that limits the time of every call that has no limit of its own."""

    class TimeLimit(
        grpc.UnaryUnaryClientInterceptor,
        grpc.StreamUnaryClientInterceptor,
        grpc.UnaryStreamClientInterceptor,
    ):
        def intercept_unary_unary(self, call: Any, details: Any, request: Any) -> Any:
            return call(details._replace(timeout=details.timeout or CALL_TIMEOUT), request)

        def intercept_stream_unary(self, call: Any, details: Any, requests: Any) -> Any:
            return call(details._replace(timeout=details.timeout or TRANSFER_TIMEOUT), requests)

        intercept_unary_stream = intercept_stream_unary

    return TimeLimit()


def limit_calls(device: Any) -> None:
    """Let no call to a remote board last for ever, as pynq's do; other devices are left alone."""
    if device.has_capability("REMOTE") and not hasattr(device, "_zipml_limited"):
        channel = grpc.intercept_channel(device.client.channel, _time_limit())
        device._stub = {name: type(stub)(channel) for name, stub in device._stub.items()}
        device._zipml_limited = True
