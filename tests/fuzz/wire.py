"""The served board among hostile messages and connections, beside a client that trains on it."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from pynq.remote import buffer_pb2, gpio_pb2, mmio_pb2, remote_device_pb2

from tests.cases import check_same, random_case
from tests.devices.served.clients import (
    becomes_active,
    keeps_state_in,
    overlay_path,
    start_board,
    until,
)
from tests.devices.served.test_hostile import Process, open_channel, send_and_leave
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.devices.served.client import ServedDevice
from zipml_pynq.devices.served.connections import PREFACE

SERVICES = (
    (remote_device_pb2, "RemoteDevice"),
    (mmio_pb2, "Mmio"),
    (buffer_pb2, "RemoteBuffer"),
    (gpio_pb2, "Gpio"),
)
#: What a call may end with; anything else is a mistake of the server's.
ALLOWED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}
WORDS = ["", "1", "2", "338", "/tmp/x", "a0000000+1000", "ff5e0000+-4", "é", "/" * 4000, "../x"]


def _value(rng: np.random.Generator, field: Any) -> Any:
    """A value of a field, mostly an odd one."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return WORDS[rng.integers(len(WORDS))]
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.bytes(int(rng.choice([0, 1, 4, 8, 1000, 100_000])))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return bool(rng.integers(2))
    if field.type == FieldDescriptor.TYPE_INT32:
        return int(rng.choice([0, 1, -1, 4, 100, 338, 2**31 - 1, -(2**31)]))
    edge = [0, 1, 4, 4096, 0xA000_0000, 0xFF5E_0000, 2**32, 2**64 - 1]
    return edge[rng.integers(len(edge))]


def _method(rng: np.random.Generator) -> tuple[str, Any]:
    module, name = SERVICES[rng.integers(len(SERVICES))]
    service = module.DESCRIPTOR.services_by_name[name]
    method = service.methods[rng.integers(len(service.methods))]
    return f"/{service.full_name}/{method.name}", method


def hostile_call(rng: np.random.Generator, channel: grpc.Channel) -> str:
    """One call with nonsense in it, or with bytes that are no message; how it ended."""
    path, method = _method(rng)
    kind = f"{'stream' if method.client_streaming else 'unary'}_"
    kind += "stream" if method.server_streaming else "unary"
    if rng.integers(4) == 0:
        sent = [rng.bytes(int(rng.integers(0, 300))) for _ in range(rng.integers(1, 4))]
    else:
        request = message_factory.GetMessageClass(method.input_type)
        fields = method.input_type.fields
        sent = [
            request(**{field.name: _value(rng, field) for field in fields}).SerializeToString()
            for _ in range(rng.integers(1, 4))
        ]
    call = getattr(channel, kind)(path)  # bytes in, bytes out
    try:
        found = call(iter(sent) if method.client_streaming else sent[0], timeout=20)
        if method.server_streaming:
            list(found)
    except grpc.RpcError as error:
        if error.code() in ALLOWED:
            return error.code().name
        raise AssertionError(f"{path} of {sent} ended with {error.code()}") from error
    return "OK"


def wire(messages: int, connections: int, seed: int, folder: Path) -> dict[str, Any]:
    """Hostile messages and connections beside a client whose model keeps its bits.

    Figures of the server's process are those before, the most that was seen, and those after.
    """
    rng = np.random.default_rng(seed)
    server, port = start_board("--port", "0", "--clients", "3", "--memory-mib", "16")
    try:
        process = Process(server.pid)
        with contextlib.closing(open_channel(port)) as channel:
            hostile_call(rng, channel)
        device = ServedDevice("127.0.0.1", port)
        with pytest.MonkeyPatch.context() as patch:
            keeps_state_in(folder, patch)
            becomes_active(device, patch)
            driver = load_overlay(overlay_path(), device=device).driver
        case = random_case(7)
        check_same(driver.train(case.packed, case.plan, model=case.model), case)
        time.sleep(1)
        before = (process.descriptors, process.threads, process.resident)
        most = [before]
        stop = threading.Event()
        trained, failed = [0], []

        def innocent() -> None:
            try:
                while not stop.is_set():
                    result = driver.train(case.packed, case.plan, model=case.model)
                    check_same(result, case)
                    trained[0] += 1
                    most.append((process.descriptors, process.threads, process.resident))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=innocent)
        thread.start()
        ends: dict[str, int] = {}
        per_client = max(1, min(200, messages // 4))
        done = 0
        while done < messages and not failed:
            with contextlib.closing(open_channel(port)) as channel:
                for _ in range(min(per_client, messages - done)):
                    end = hostile_call(rng, channel)
                    ends[end] = ends.get(end, 0) + 1
                    done += 1
        for number in range(connections):
            begin = (b"", PREFACE, PREFACE[: number % 24])[number % 3]
            send_and_leave(port, begin + rng.bytes(int(rng.integers(1, 400))))
        stop.set()
        thread.join()
        if failed:
            raise failed[0]
        until(lambda: process.descriptors <= before[0] + 4 and process.threads <= before[1] + 4, 30)
        after = (process.descriptors, process.threads, process.resident)
        device.client.channel.close()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    names = ("descriptors", "threads", "MiB")
    figures = {
        when: {n: v >> 20 if n == "MiB" else v for n, v in zip(names, values, strict=True)}
        for when, values in (
            ("before", before),
            ("most", [max(column) for column in zip(*most, strict=True)]),
            ("after", after),
        )
    }
    return {
        "messages": done,
        "connections": connections,
        "ends": ends,
        "trainings beside them": trained[0],
        **figures,
    }
