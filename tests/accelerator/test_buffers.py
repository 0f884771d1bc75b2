"""Buffers of the device: which are taken for a run, and which are not."""

import numpy as np
import pytest
from pynq.pl_server.remote_device import RemoteBuffer
from pynq.remote import buffer_pb2

from tests.accelerator.runs import board_for, limited, prepared, release
from tests.cases import check_same, random_case
from zipml_pynq.accelerator.run import Training
from zipml_pynq.devices.design import PAGE
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.errors import DeviceBufferError


def test_slices_of_buffers_are_buffers(board):
    driver = board(memory_bytes=16 * PAGE).driver
    buffer = driver.allocate((4, 10), "i4")
    driver.write_registers({"model": buffer[2]})
    address = driver.read(0x28) | driver.read(0x2C) << 32
    assert address == buffer.device_address + 2 * 40
    driver.write_registers({"model": buffer.reshape(-1)[3:7]})
    buffer.freebuffer()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda b: np.asarray(b), "without device memory"),
        (lambda b: np.zeros(8, "i4"), "without device memory"),
        (lambda b: b.copy(), "without device memory"),
        (lambda b: b * 2, "without device memory"),
        (lambda b: (b + 1)[2:], "without device memory"),
        (lambda b: b[::2], "not contiguous"),
        (lambda b: b.view("u4"), "dtype uint32; allowed is int32"),
        (lambda b: [1, 2], "list without device memory"),
    ],
)
def test_what_is_no_buffer_is_refused(board, wrong, why):
    driver = board(memory_bytes=16 * PAGE).driver
    buffer = driver.allocate(8, "i4")
    buffer[:] = 0
    with pytest.raises(DeviceBufferError, match=f"labels .*{why}"):
        driver.write_registers({"labels": wrong(buffer)})
    buffer.freebuffer()


def test_a_freed_buffer_is_refused(board):
    driver = board(memory_bytes=16 * PAGE).driver
    buffer = driver.allocate(8, "i4")
    buffer.freebuffer()
    with pytest.raises(DeviceBufferError, match="labels was a buffer that is freed"):
        driver.write_registers({"labels": buffer})


def test_a_buffer_of_another_device_is_refused(board):
    driver, other = board().driver, board().driver
    with other.allocate(8, "i4") as buffer, pytest.raises(DeviceBufferError) as error:
        driver.write_registers({"labels": buffer})
    assert other.device.tag in str(error.value)
    assert driver.device.tag in str(error.value)


@pytest.mark.parametrize("name", ["planes", "labels", "model", "history", "schedule"])
def test_a_short_buffer_is_refused(board, name):
    case = random_case(20)
    driver = board_for(board, case).driver
    buffers = prepared(driver, case)
    short = buffers[name].reshape(-1)[:-1]
    driver.write_registers({name: short})
    with pytest.raises(
        DeviceBufferError, match=rf"{name} has {short.nbytes} bytes; this run touch"
    ):
        driver.start()
    del short
    release(buffers)


class RemoteMemory(EmulatedDevice):
    """An emulated board whose buffers are those of pynq's remote client, the wire left out."""

    def allocate(self, shape, dtype="u4", **_):
        remote = super().allocate(shape, dtype)
        return RemoteBuffer(shape, np.dtype(dtype), RemoteService(remote), "1", device=self)


class RemoteService:
    """The buffer service of a remote board for one buffer; see pynq's buffer.proto."""

    def __init__(self, buffer):
        self.buffer = buffer

    def write(self, requests):
        data = b"".join(request.data for request in requests)
        self.buffer.view(np.ndarray).reshape(-1).view("u1")[: len(data)] = np.frombuffer(data, "u1")
        return buffer_pb2.BufferWriteResponse()

    def read(self, request):
        yield buffer_pb2.BufferReadResponse(data=self.buffer.tobytes())

    def flush(self, request):
        return buffer_pb2.FlushResponse()

    def invalidate(self, request):
        return buffer_pb2.InvalidateResponse()

    def freebuffer(self, request):
        self.buffer.freebuffer()
        return buffer_pb2.FreeBufferResponse()

    def physical_address(self, request):
        return buffer_pb2.AddressResponse(address=self.buffer.device_address)


def test_buffers_of_a_remote_board():
    case = random_case(34, samples=100, batch=2, blocks=8, delay=3, epochs=3)
    device = RemoteMemory(memory_bytes=1 << 20)
    driver = load_overlay("emulated", device=device).driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_allocate_slot", limited(3))
        check_same(driver.train(case.packed, case.plan, model=case.model), case, blocks=3)
    assert device.free_bytes == device.memory_bytes
    buffer = driver.allocate(8, "i4")
    driver.write_registers({"labels": buffer})
    with pytest.raises(DeviceBufferError, match="slice of a remote buffer"):
        driver.write_registers({"labels": buffer[2:]})
    with pytest.raises(DeviceBufferError, match="without device memory"):
        driver.write_registers({"labels": buffer.copy()})
    buffer.freebuffer()


def test_a_buffer_that_went_away_is_refused(board):
    case = random_case(21)
    driver = board_for(board, case).driver
    buffers = prepared(driver, case)
    buffers["labels"].freebuffer()
    with pytest.raises(DeviceBufferError, match="given for labels is freed"):
        driver.start()
    buffers.pop("planes")
    with pytest.raises(DeviceBufferError, match="given for planes is freed"):
        driver.start()
    release(buffers)


def test_bound_buffers_live_until_the_kernel_is_done(board):
    case = random_case(22)
    driver = board_for(board, case).driver
    free = driver.device.free_bytes
    buffers = prepared(driver, case)
    driver.device.clock_mhz = 0.05
    driver.start()
    buffers.clear()
    assert driver.device.free_bytes < free
    driver.wait(5)
    assert driver.device.free_bytes == free
