"""What every call passes before a service has it: the token, and a reading that does not fail."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from zipml_pynq.errors import ArgumentError

_NONE = object()
_UNREADABLE = "the bytes that were sent are no message of this call"


class TokenInterceptor(grpc.ServerInterceptor):
    """Lets calls pass that carry ``authorization: Bearer TOKEN`` in their metadata."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

        def refuse(_: Any, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is missing or wrong")

        self._refusal = grpc.unary_unary_rpc_method_handler(refuse)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Called by gRPC."""
        given = dict(details.invocation_metadata).get("authorization", "")
        given = given if isinstance(given, bytes) else given.encode()
        if not hmac.compare_digest(given, self._expected):
            return self._refusal
        return continuation(details)


class MessageInterceptor(grpc.ServerInterceptor):
    """Refuses bytes that are no message as what they are.

    Where reading fails inside of gRPC, it keeps the call for as long as its connection lasts.
    """

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Called by gRPC."""
        handler = continuation(details)
        if handler is None:
            return None
        read = handler.request_deserializer
        changed: dict[str, Any] = {"request_deserializer": lambda data: _read(read, data)}
        for kind in ("unary_unary", "unary_stream"):
            if getattr(handler, kind) is not None:
                changed[kind] = _with_message(getattr(handler, kind))
        for kind in ("stream_unary", "stream_stream"):
            if getattr(handler, kind) is not None:
                changed[kind] = _with_messages(getattr(handler, kind))
        return handler._replace(**changed)


def _read(read: Callable[[bytes], Any], data: bytes) -> Any:
    """A message, or what stands for one that is none: for gRPC, None would be a failure."""
    try:
        return read(data)
    except DecodeError:
        return _NONE


def _with_message(call: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def checked(request: Any, context: grpc.ServicerContext) -> Any:
        if request is _NONE:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, _UNREADABLE)
        return call(request, context)

    return checked


def _with_messages(call: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def messages(requests: Iterator[Any]) -> Iterator[Any]:
        for request in requests:
            if request is _NONE:
                raise ArgumentError(_UNREADABLE)  # which the services tell their clients
            yield request

    return lambda requests, context: call(messages(requests), context)
