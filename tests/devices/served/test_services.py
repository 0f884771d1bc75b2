"""Calls of the protocol that pynq does not make, and calls that make no sense."""
# ruff: noqa: E402 (what pynq 3.1 lacks is imported after the check for it)

from __future__ import annotations

import grpc
import numpy as np
import pynq
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

pytest.importorskip("pynq.remote.gpio_pb2", reason="pynq 3.1 has a part of PYNQ.remote only")

from pynq.remote import buffer_pb2, gpio_pb2, mmio_pb2, mmio_pb2_grpc, remote_device_pb2

from tests.devices.served.clients import only_board, overlay_path
from zipml_pynq.devices import emulated_bitstream
from zipml_pynq.devices.overlay import load_overlay

# pynq's own, on pydantic 2
pytestmark = pytest.mark.filterwarnings("ignore:The `:DeprecationWarning:pynq")


def test_accesses_that_no_mapping_allows(serve, connect):
    device = connect(serve().port)
    stub = mmio_pb2_grpc.MmioStub(device.client.channel)
    for name, offset, data, what in (
        ("", 0, b"1234", "no mapping"),
        ("ff5e0000", 0, b"1234", "no mapping"),
        ("ff5e0000+40000000", 0, b"1234", "not words of"),
        ("ff5e0000+100", 0x100, b"1234", "not words of"),
        ("ff5e0000+100", 2, b"1234", "not words of"),
        ("ff5e0000+100", 0, b"123", "whole words"),
    ):
        answer = stub.write(mmio_pb2.WriteRequest(mmio_id=name, offset=offset, data=data))
        assert what in answer.msg
    with pytest.raises(RuntimeError, match="length was 8"):
        device.mmap(0xFF5E_0000, 0x100).read(0, length=8)


def test_calls_that_pynq_does_not_make(serve, connect):
    """They are in the protocol, so they work."""
    server = serve()
    stub = connect(server.port)._stub["device"]
    data = pynq.pl_server.embedded_device.bit2bin(emulated_bitstream.bitstream(128, "levels"))
    chunks = [remote_device_pb2.DownloadRequest(buffer=data[i : i + 16]) for i in range(0, 90, 16)]
    assert stub.download(iter(chunks)).status
    assert only_board(server).device.word_bits == 128
    assert stub.set_pl_clk(remote_device_pb2.SetPlClkRequest(i=0, div0=5, div1=1)).status
    assert stub.shutdown(remote_device_pb2.ShutdownRequest()).status
    with pytest.raises(grpc.RpcError, match="partial"):
        stub.set_bitstream_attrs(remote_device_pb2.SetBitstreamAttrsRequest(partial=True))


def test_nonsense_is_refused_or_harmless(serve, connect):
    """Whatever is asked, the answer is one that was meant, and the next call works."""
    server = serve()
    device = connect(server.port)
    load_overlay(overlay_path(), device=device)
    rng = np.random.default_rng(5)
    refused = []
    values = {
        FieldDescriptor.TYPE_STRING: [
            "",
            "1",
            "338",
            "/tmp/x",
            "a0000000+1000",
            "ff5e0000+-4",
            "é",
        ],
        FieldDescriptor.TYPE_BYTES: [b"", b"1", b"12345678", bytes(1000)],
        FieldDescriptor.TYPE_BOOL: [False, True],
        FieldDescriptor.TYPE_INT32: [0, 1, -1, 100, 338, 2**31 - 1, -(2**31)],
        FieldDescriptor.TYPE_UINT64: [0, 4, 0xA000_0000, 0xFF5E_0000, 2**32, 2**64 - 1],
    }
    allowed = {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    for module, name in (
        (remote_device_pb2, "RemoteDevice"),
        (mmio_pb2, "Mmio"),
        (buffer_pb2, "RemoteBuffer"),
        (gpio_pb2, "Gpio"),
    ):
        service = module.DESCRIPTOR.services_by_name[name]
        for method in service.methods:
            request = message_factory.GetMessageClass(method.input_type)
            answer = message_factory.GetMessageClass(method.output_type)
            kinds = ("stream", "unary"), ("unary", "stream")
            kind = f"{kinds[0][not method.client_streaming]}_{kinds[1][method.server_streaming]}"
            call = getattr(device.client.channel, kind)(
                f"/{service.full_name}/{method.name}", request.SerializeToString, answer.FromString
            )
            for _ in range(30):
                fields = {
                    field.name: values[field.type][rng.integers(len(values[field.type]))]
                    for field in method.input_type.fields
                }
                message = request(**fields)
                try:
                    found = call(iter([message] * 2) if method.client_streaming else message)
                    if method.server_streaming:
                        list(found)
                except grpc.RpcError as error:
                    refused.append((error.code(), method.name, fields, error.details()))
    assert len(refused) > 50
    assert [what for what in refused if what[0] not in allowed] == []
    board = only_board(server)
    for name in list(board.buffers):
        board.free(name)
    driver = load_overlay(overlay_path(), device=device).driver
    assert driver.capability.word_bits == 64
