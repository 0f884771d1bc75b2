"""A client of a served board that asks for a token, or encrypts: pynq's own knows neither."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc
import pynq
from pynq.pl_server.remote_device import PYNQ_PORT, RemoteDevice
from pynq.remote import (
    buffer_pb2_grpc,
    gpio_pb2_grpc,
    mmio_pb2_grpc,
    remote_device_pb2_grpc,
)

from zipml_pynq.errors import DeviceConnectionError

#: Seconds until a board that does not answer is given up.
CONNECT_SECONDS = 5.0


class _Client(NamedTuple):
    """What pynq's device keeps of a connection."""

    channel: Any


class _Call(NamedTuple):
    """Details of a call, as gRPC's interceptors hand them on."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Shows(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """Puts the token into every call's metadata."""

    def __init__(self, token: str) -> None:
        self._pair = ("authorization", f"Bearer {token}")

    def _shown(self, continuation: Any, details: Any, request: Any) -> Any:
        call = _Call(
            details.method,
            details.timeout,
            [*(details.metadata or ()), self._pair],
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        return continuation(call, request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = _shown


class ServedDevice(RemoteDevice):
    """A ``RemoteDevice`` on a connection of its own making.

    Parameters
    ----------
    host : str
    port : int
    token : str, optional
        What ``zipml board --token-file`` was given.
    credentials : grpc.ChannelCredentials, optional
        Encrypt the connection, as ``grpc.ssl_channel_credentials`` says.

    Raises
    ------
    DeviceConnectionError
        Nothing answers, or the token is not the board's.
    """

    def __init__(
        self,
        host: str,
        port: int = PYNQ_PORT,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        pynq.Device.__init__(self, f"served-{host}:{port}")
        self.ip_addr, self.port = host, port
        address = f"{host}:{port}"
        if credentials is None:
            channel = grpc.insecure_channel(address)
        else:
            channel = grpc.secure_channel(address, credentials)
        try:
            grpc.channel_ready_future(channel).result(timeout=CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            channel.close()
            raise DeviceConnectionError(f"{address} does not answer") from None
        calls = channel if token is None else grpc.intercept_channel(channel, _Shows(token))
        self.client = _Client(calls)
        self._stub = {
            "device": remote_device_pb2_grpc.RemoteDeviceStub(calls),
            "mmio": mmio_pb2_grpc.MmioStub(calls),
            "buffer": buffer_pb2_grpc.RemoteBufferStub(calls),
            "gpio": gpio_pb2_grpc.GpioStub(calls),
        }
        try:
            self.arch = self.get_arch()
            self.name = self.get_board_name()
        except grpc.RpcError as error:
            channel.close()
            raise DeviceConnectionError(f"{address} refuses: {error.details()}") from error
        self.capabilities = {"REMOTE": True}
