"""The driver on the emulated board, through the real pynq: the reference's bits, and errors."""

import asyncio
import math
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pynq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynq.pl_server.remote_device import RemoteBuffer
from pynq.remote import buffer_pb2

from tests.cases import random_case
from zipml_pynq.accelerator import run, segments
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.accelerator.interface import INTERFACES
from zipml_pynq.accelerator.segments import carried_blocks, segments, streamed_layout
from zipml_pynq.constants import CONFIG
from zipml_pynq.data.pack import pack
from zipml_pynq.devices import hwh
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.memory import PAGE
from zipml_pynq.devices.overlay import find_driver, load_overlay
from zipml_pynq.errors import (
    ArgumentError,
    DeviceBufferError,
    DeviceError,
    DivergenceError,
    KernelStatusError,
    KernelTimeoutError,
    OutOfDeviceMemoryError,
    OverlayMismatchError,
    ZipmlWarning,
)
from zipml_pynq.training import reference
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.schedule import run_cycles


def engines():
    try:
        load_build("kernel")
    except ArgumentError:
        return ["engine"]
    return ["engine", "kernel"]


ENGINES = engines()
#: Memory that each of these takes beside the samples: model, history, schedule.
VECTOR_PAGES = 3


def board_for(board, case, **options):
    layout = case.packed.layout
    return board(word_bits=layout.word_bits, value_format=layout.value_format, **options)


def check_same(result, case, *, blocks=None):
    """The result is the reference's, bit for bit, and so are the counters of an unsegmented run."""
    expected = reference.train(case.packed, case.plan, case.model)
    np.testing.assert_array_equal(result.history_fixed, expected.history_fixed)
    np.testing.assert_array_equal(result.model_fixed, expected.model_fixed)
    np.testing.assert_array_equal(result.model, expected.model)
    for name in ("saturations", "outside", "clipped", "refetched"):
        assert getattr(result, name) == getattr(expected, name)
    if blocks is None:
        layout = streamed_layout(case.packed.layout, case.plan)
        assert result.words == expected.words
        assert result.bytes_streamed == expected.bytes_streamed
        if expected.refetched:
            assert result.cycles == expected.cycles
        else:
            assert result.cycles == run_cycles(
                layout, case.plan, case.plan.epochs, **run_options(case)
            )


def check_side_by_side(drivers, cases, *, times=1):
    """Every driver trains its case in a thread of its own, with the bits that it has alone."""
    results = {}

    def train(i):
        for _ in range(times):
            results[i] = drivers[i].train(cases[i].packed, cases[i].plan, model=cases[i].model)

    threads = [threading.Thread(target=train, args=(i,)) for i in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for i, case in enumerate(cases):
        check_same(results[i], case)


def run_options(case):
    """What run_cycles is to know of a case beside its plan."""
    return {
        "weighted": case.packed.weights is not None,
        "derivatives": len(case.plan.derivative.numbers),
        "feature_steps": case.plan.feature_shifts is not None,
    }


def memory_for(case, slots, capacity):
    """Bytes of a board that just holds so many slots of so many blocks."""
    layout = streamed_layout(case.packed.layout, case.plan)
    packed, rows = case.packed, capacity * layout.block_samples
    segment = [
        capacity * layout.block_stride * layout.word_bits // 8,
        rows * (4 if packed.weights is None else 8),
        0 if packed.full is None else rows * packed.full.shape[1] * 8,
    ]
    tables = [0 if packed.levels is None else packed.levels.size * 4]
    tables += [case.plan.derivative.numbers.nbytes]

    def pages(sizes):
        return sum(-(-size // PAGE) for size in sizes)

    return (VECTOR_PAGES + pages(tables) + slots * pages(segment)) * PAGE


# ---- Training  ---------------------------------------------------------------------------------

CASES = [
    {"sampling": sampling, "bits": bits, "delay": delay}
    for sampling, bits, delay in [
        ("symmetric", 1, 0),
        ("symmetric", 4, 1),
        ("plain", 2, 2),
        ("single", 8, 3),
        ("nearest", 3, 7),
    ]
]
CASES += [{"value_format": "float32", "delay": delay} for delay in (0, 2)]
CASES += [
    {"value_format": "levels", "sampling": "symmetric", "bits": 3, "delay": 2},
    {"value_format": "levels", "sampling": "plain", "bits": 4, "delay": 0, "own_tables": False},
    {"value_format": "levels", "sampling": "nearest", "bits": 8, "delay": 5},
    {"value_format": "refetch", "sampling": "symmetric", "bits": 5, "delay": 2},
    {"value_format": "refetch", "sampling": "single", "bits": 3, "delay": 0, "weighted": True},
    {"options": {"loss": "logistic"}, "weighted": True, "delay": 3},
    {"options": {"loss": "squared_hinge", "class_costs": (0.5, 2.0)}, "sampling": "plain"},
    {"options": {"model_bits": 8, "gradient_bits": 8, "seed": 5}, "delay": 1},
    {"largest_shift": 2, "bits": 4, "delay": 3},
    {"largest_shift": 2, "value_format": "levels", "delay": 1, "weighted": True},
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("word_bits", [64, 128, 512])
@pytest.mark.parametrize("options", CASES, ids=str)
def test_training_gives_the_references_bits(board, engine, word_bits, options):
    case = random_case(7, word_bits=word_bits, l2=0.1, samples=75, **options)
    driver = board_for(board, case, engine=engine).driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case)


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_streamed_planes_go_to_the_device(board, engine):
    case = random_case(1, bits=4, stored_bits=(2, 4, 8), samples=200, blocks=5)
    layout = case.packed.layout
    assert layout.stored_planes == 13
    device_layout = streamed_layout(layout, case.plan)
    assert device_layout.stored_planes == 5
    # the stored planes would not fit
    memory = memory_for(case, 1, layout.blocks) + PAGE
    assert layout.blocks * layout.block_stride * 8 > memory - VECTOR_PAGES * PAGE
    driver = board_for(board, case, engine=engine, memory_bytes=memory).driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case)


def test_a_double_sampled_data_set_trained_with_single_sampling(board):
    case = random_case(2, bits=3)
    layout = case.packed.layout
    plan = replace(case.plan, sampling="single")
    assert streamed_layout(layout, plan).dither_planes() == 1
    case = replace(case, plan=plan)
    driver = board_for(board, case).driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case)


def test_a_plan_is_made_from_options(board):
    case = random_case(3)
    driver = board_for(board, case).driver
    result = driver.train(case.packed, epochs=3, step=0.02, bits=4, sampling="plain", delay=2)
    assert result.history_fixed.shape == (3, case.packed.layout.features)
    with pytest.raises(ArgumentError, match=r"both a plan and epochs"):
        driver.train(case.packed, case.plan, epochs=3)


def test_start_model_in_normalized_units(board):
    case = random_case(4)
    model = case.model / 2.0**24
    driver = board_for(board, case).driver
    check_same(driver.train(case.packed, case.plan, model=model), case)


def test_results_are_copies(board):
    case = random_case(5)
    loaded = board_for(board, case)
    result = loaded.driver.train(case.packed, case.plan)
    before = result.model_fixed.copy(), result.history_fixed.copy()
    loaded.overlay.device.memory[:] = 0
    np.testing.assert_array_equal(result.model_fixed, before[0])
    np.testing.assert_array_equal(result.history_fixed, before[1])
    assert type(result.model_fixed) is type(result.history_fixed) is np.ndarray


def test_non_coherent_memory(board):
    case = random_case(6, delay=2, epochs=3)
    for memory in (1 << 20, memory_for(case, 2, 2)):
        driver = board_for(board, case, coherent=False, memory_bytes=memory).driver
        check_same(driver.train(case.packed, case.plan, model=case.model), case, blocks=2)


def test_a_device_trains_again_and_again(board):
    loaded = board(word_bits=64)
    for seed in range(3):
        case = random_case(seed, features=30 + 50 * seed, bits=seed + 1)
        check_same(loaded.driver.train(case.packed, case.plan, model=case.model), case)


def test_many_epochs_come_in_groups(board, monkeypatch):
    case = random_case(8, epochs=7)
    row = streamed_layout(case.packed.layout, case.plan)
    monkeypatch.setattr(driver_module, "HISTORY_BYTES", 3 * 4 * row.chunks * row.lanes)
    driver = board_for(board, case).driver
    starts = count_starts(driver, monkeypatch)
    result = driver.train(case.packed, case.plan, model=case.model)
    check_same(result, case, blocks=row.blocks)
    assert len(starts) == 3


def count_starts(driver, monkeypatch):
    starts = []
    start = driver.start
    monkeypatch.setattr(driver, "start", lambda: starts.append(1) or start())
    return starts


# ---- Segments  ---------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    samples=st.integers(1, 400),
    batch=st.integers(1, 9),
    per_block=st.integers(1, 5),
    delay=st.integers(0, 7),
    extra=st.integers(1, 6),
)
def test_segments_do_every_batch_once(samples, batch, per_block, delay, extra):
    size = batch * per_block
    blocks, batches = -(-samples // size), -(-samples // batch)
    capacity = carried_blocks(delay, size, batch) + extra
    dotted, updated = [], []
    for segment in segments(samples, size, batch, delay, capacity):
        assert 0 < segment.stop - segment.first <= capacity
        assert segment.samples == min(segment.stop * size, samples) - segment.first * size
        first = segment.first * per_block + segment.skip
        stop = min(segment.stop * per_block, batches)
        held = min(delay, stop - first) if segment.hold else 0
        dotted += range(first + segment.pending, stop)
        updated += range(first, stop - held)
        # the kernel's rules for such a call
        assert segment.pending <= delay
        assert segment.skip < per_block
        assert (segment.skip + segment.pending) * batch < segment.samples
        assert segment.hold == (segment.stop < blocks)
    assert dotted == updated == list(range(batches))


def test_segments_need_room_for_pending_batches():
    with pytest.raises(ArgumentError, match="capacity was 2 blocks"):
        segments(100, 4, 2, 4, 2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("samples", [75, 80])
def test_segments_give_the_bits_of_one_piece(board, engine, options, samples):
    case = random_case(9, samples=samples, batch=2, blocks=20, epochs=3, **options)
    layout = case.packed.layout
    smallest = carried_blocks(case.plan.delay, layout.block_samples, 2) + 1
    driver = board_for(board, case, engine=engine).driver
    with pytest.MonkeyPatch.context() as patch:
        # memory comes in pages, which hold several blocks of such a small case
        patch.setattr(run.Training, "_allocate_slot", limited(smallest))
        starts = count_starts(driver, patch)
        result = driver.train(case.packed, case.plan, model=case.model)
    check_same(result, case, blocks=smallest)
    pieces = segments(samples, layout.block_samples, 2, case.plan.delay, smallest)
    assert len(pieces) > 5
    assert len(starts) == 3 * len(pieces)
    # words and cycles count what two segments share twice
    device_layout = streamed_layout(layout, case.plan)
    streamed = device_layout.planes() * layout.block_samples * layout.chunks
    assert result.words == 3 * streamed * sum(p.stop - p.first for p in pieces)
    if result.refetched:
        return  # which a run's cycles depend on
    assert result.cycles == 3 * sum(
        run_cycles(
            replace(device_layout, samples=p.samples),
            case.plan,
            1,
            skip=p.skip,
            pending=p.pending,
            hold=p.hold,
            **run_options(case),
        )
        for p in pieces
    )


def limited(capacity):
    """_allocate_slot of a device whose memory holds slots of at most ``capacity`` blocks."""
    allocate = run.Training._allocate_slot

    def allocate_slot(training, size):
        if size > capacity:
            raise OutOfDeviceMemoryError(f"{size} blocks do not fit")
        return allocate(training, size)

    return allocate_slot


def test_segments_on_a_small_device(board):
    # nothing patched: 40 blocks of a page on a board with memory for 11 of them
    case = random_case(10, samples=32 * 40, features=64 * 4, bits=3, batch=32, blocks=40, delay=3)
    layout = case.packed.layout
    assert layout.blocks == 40
    assert layout.block_stride * 8 == PAGE
    driver = board_for(board, case, memory_bytes=(VECTOR_PAGES + 2 + 11) * PAGE).driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case, blocks=5)


def test_segments_are_copied_while_the_kernel_runs(board, monkeypatch):
    case = random_case(11, samples=32 * 40, features=64 * 4, bits=3, batch=32, blocks=40, epochs=1)
    driver = board_for(board, case, memory_bytes=(VECTOR_PAGES + 2 + 24) * PAGE).driver
    busy = []
    fill = run.Slot.fill

    def watched(slot, *arguments):
        busy.append(not driver._is_idle())
        return fill(slot, *arguments)

    monkeypatch.setattr(run.Slot, "fill", watched)
    driver.device.clock_mhz = 1.0  # slow enough to be seen running
    check_same(driver.train(case.packed, case.plan, model=case.model), case, blocks=10)
    assert busy == [False] + [True] * (len(busy) - 1)
    assert len(busy) > 3


def test_two_segments_stay_on_the_device(board, monkeypatch):
    case = random_case(12, samples=100, batch=2, blocks=4, epochs=4, delay=1)
    driver = board_for(board, case).driver
    copied = []
    monkeypatch.setattr(run.Training, "_allocate_slot", limited(3))
    fill = run.Slot.fill

    def counted(slot, packed, plan, segment):
        before = slot.content
        fill(slot, packed, plan, segment)
        copied.append(slot.content != before)

    monkeypatch.setattr(run.Slot, "fill", counted)
    check_same(driver.train(case.packed, case.plan, model=case.model), case, blocks=3)
    assert sum(copied) == 2 < len(copied)


def test_a_data_set_that_cannot_be_cut_smaller_is_refused(board):
    case = random_case(13, samples=64, features=64 * 32, bits=4, batch=8, blocks=2)
    driver = board_for(board, case, memory_bytes=16 * PAGE).driver
    with pytest.raises(OutOfDeviceMemoryError, match=r"training needs at least 1 x 2 blocks of"):
        driver.train(case.packed, case.plan)
    assert driver.device.free_bytes == 16 * PAGE


# ---- Progress and redraw  ----------------------------------------------------------------------


def test_progress_is_told_every_epoch(board):
    case = random_case(14, epochs=4)
    driver = board_for(board, case).driver
    told = []
    result = driver.train(
        case.packed, case.plan, model=case.model, progress=lambda *a: told.append(a)
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    check_same(result, case, blocks=1)
    bar = SimpleNamespace(n=0)
    bar.update = lambda n: setattr(bar, "n", bar.n + n)
    driver.train(case.packed, case.plan, progress=bar)
    assert bar.n == 4


@pytest.mark.parametrize("capacity", [100, 6])
def test_redraw_trains_every_epoch_on_other_draws(board, monkeypatch, capacity):
    case = random_case(15, samples=60, batch=2, blocks=10, epochs=4, delay=3, l2=0.1)
    draws = {0: case.packed} | {
        epoch: replace(
            case.packed,
            planes=random_case(100 + epoch, samples=60, batch=2, blocks=10).packed.planes,
        )
        for epoch in (1, 2, 3)
    }
    asked = []

    def redraw(epoch):
        asked.append(epoch)
        # a new object every time, as fresh packing gives
        return replace(draws[epoch], labels=draws[epoch].labels.copy())

    monkeypatch.setattr(run.Training, "_allocate_slot", limited(capacity))
    driver = board_for(board, case).driver
    result = driver.train(case.packed, case.plan, model=case.model, redraw=redraw)
    assert asked == [1, 2, 3]
    model = case.model
    for epoch in range(4):
        plan = replace(
            case.plan,
            epochs=1,
            steps=case.plan.steps[epoch : epoch + 1],
            negative_steps=case.plan.negative_steps[epoch : epoch + 1],
            gradient_shifts=case.plan.gradient_shifts[epoch : epoch + 1],
            decays=case.plan.decays[epoch : epoch + 1],
        )
        model = reference.train(draws[epoch], plan, model).model_fixed
        np.testing.assert_array_equal(result.history_fixed[epoch], model)


def test_redraw_of_another_layout_is_refused(board):
    case = random_case(16, epochs=3)
    driver = board_for(board, case).driver
    other = random_case(16, samples=41).packed
    with pytest.raises(ArgumentError, match=r"redraw\(1\) returned the layout"):
        driver.train(case.packed, case.plan, redraw=lambda epoch: other)


# ---- Lower level  ------------------------------------------------------------------------------


def prepared(driver, case):
    """Buffers for a run of ``case``, filled and bound, and the registers written."""
    layout = streamed_layout(case.packed.layout, case.plan)
    row = layout.chunks * layout.lanes
    buffers = {
        "planes": driver.allocate(case.packed.planes.shape, "u8"),
        "labels": driver.allocate(case.packed.labels.shape, "i4"),
        "model": driver.allocate(row, "i4"),
        "history": driver.allocate((case.plan.epochs, row), "i4"),
        "schedule": driver.allocate((case.plan.epochs, 4), "u4"),
    }
    buffers["planes"][:] = case.packed.planes
    buffers["labels"][:] = case.packed.labels
    buffers["model"][:] = 0
    buffers["model"][: layout.features] = case.model
    buffers["schedule"][:] = case.plan.schedule_table()
    driver.write_registers({**buffers, **case.plan.registers(case.packed.layout)})
    return buffers


def release(buffers):
    for buffer in buffers.values():
        buffer.freebuffer()


def test_a_run_by_hand(board):
    case = random_case(17)
    driver = board_for(board, case).driver
    buffers = prepared(driver, case)
    driver.start()
    driver.wait(5)
    results = driver.read_results()
    expected = reference.train(case.packed, case.plan, case.model)
    assert results["status"] == CONFIG.status_ok
    assert results["words"] == expected.words
    features = case.packed.layout.features
    np.testing.assert_array_equal(buffers["model"][:features], expected.model_fixed)
    release(buffers)


def test_waiting_in_an_event_loop(board):
    case = random_case(18)
    driver = board_for(board, case).driver
    buffers = prepared(driver, case)
    driver.device.clock_mhz = 0.05
    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.002)

    async def run():
        other = asyncio.ensure_future(tick())
        driver.start()
        await driver.wait_async(5)
        other.cancel()

    asyncio.run(run())
    assert len(ticks) > 3  # the loop went on meanwhile
    assert driver.read_results()["status"] == CONFIG.status_ok
    release(buffers)


def test_a_wait_that_ended_before_it_began(board):
    case = random_case(19)
    driver = board_for(board, case).driver
    buffers = prepared(driver, case)
    driver.start()
    deadline = time.monotonic() + 5
    while not driver._is_idle() and time.monotonic() < deadline:
        time.sleep(0.001)
    # somebody looks at CTRL, which clears done
    assert driver.register_map.CTRL.AP_DONE == 0
    driver.wait(1)
    asyncio.run(driver.wait_async(1))
    release(buffers)


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
        patch.setattr(run.Training, "_allocate_slot", limited(3))
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


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"sample": 1}, "'sample'.*samples"),
        ({"status": 1}, "no input register is called 'status'"),
        ({"samples": 1 << 32}, r"samples was 4294967296; allowed are 0 to 2\^32 - 1"),
        ({"samples": -1}, "samples was -1"),
        ({"samples": 1.5}, "samples was 1.5; allowed are integers"),
        ({"planes": 1 << 64}, r"2\^64 - 1"),
    ],
)
def test_registers_are_checked(board, values, why):
    driver = board().driver
    with pytest.raises(ArgumentError, match=why):
        driver.write_registers(values)


def test_numpy_integers_are_registers(board):
    driver = board().driver
    driver.write_registers({"samples": np.int64(7), "features": np.uint32(0xFFFFFFFF)})
    assert driver.device.registers.value("samples") == 7
    assert driver.device.registers.value("features") == 0xFFFFFFFF


# ---- Time-outs and interruptions  --------------------------------------------------------------


def test_a_hang_times_out_and_the_buffers_are_kept_back(board):
    case = random_case(23)
    loaded = board_for(board, case, memory_bytes=64 * PAGE)
    driver, device = loaded.driver, loaded.overlay.device
    _ = driver.capability
    device.inject_hang = True
    with (
        pytest.warns(ZipmlWarning, match="bytes of device memory are kept back"),
        pytest.raises(KernelTimeoutError, match=r"within 0\.2 s .* load the overlay again"),
    ):
        driver.train(case.packed, case.plan, timeout=0.2)
    # nobody else may get that memory
    assert device.free_bytes < device.memory_bytes
    assert driver.reclaim() > 0
    with pytest.raises(DeviceError, match="still runs an earlier call"):
        driver.train(case.packed, case.plan)
    device.inject_hang = False
    loaded.overlay.download()
    check_same(driver.train(case.packed, case.plan, model=case.model), case)
    assert driver.reclaim() == 0


def test_time_out_in_an_event_loop(board):
    driver = board().driver
    _ = driver.capability
    driver.device.inject_hang = True
    driver.start()
    with pytest.raises(KernelTimeoutError):
        asyncio.run(driver.wait_async(0.05))


def test_a_late_kernel_gives_its_buffers_back(board, monkeypatch):
    case = random_case(24)
    driver = board_for(board, case).driver
    _ = driver.capability
    driver.device.clock_mhz = 0.01
    monkeypatch.setattr(driver_module, "GRACE", 0.0)
    with pytest.warns(ZipmlWarning), pytest.raises(KernelTimeoutError):
        driver.train(case.packed, case.plan, timeout=0.01)
    driver.device._worker.join()
    assert driver.reclaim() == 0
    assert driver.device.free_bytes == driver.device.memory_bytes


def test_an_address_outside_of_memory_times_out_with_its_reason(board):
    case = random_case(25)
    loaded = board_for(board, case)
    buffers = prepared(loaded.driver, case)
    loaded.driver.write_registers({"labels": 0x1000})
    loaded.driver.start()
    with pytest.raises(KernelTimeoutError, match=r"at 0x1000 \(labels\).*inside one live buffer"):
        loaded.driver.wait(0.05)
    loaded.overlay.download()
    release(buffers)


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan])
def test_a_time_out_must_be_positive(board, timeout):
    driver = board().driver
    with pytest.raises(ArgumentError, match="timeout was"):
        driver.wait(timeout)


def test_default_time_out_covers_the_modelled_time(board):
    case = random_case(26, samples=500, delay=3, l2=0.1)
    driver = board_for(board, case).driver
    result = driver.train(case.packed, case.plan)
    assert driver._modelled >= result.cycles / driver.TIMEOUT_CLOCK


@pytest.mark.parametrize("where", ["progress", "redraw", "wait"])
def test_an_interruption_gives_the_buffers_back(board, monkeypatch, where):
    case = random_case(27, epochs=3)
    driver = board_for(board, case).driver

    def interrupt(*_):
        raise KeyboardInterrupt

    options = {}
    if where == "wait":
        monkeypatch.setattr(driver, "wait", interrupt)
        driver._known = board_for(board, case).driver.capability
    else:
        options = {where: interrupt}
    driver.device.clock_mhz = 1.0
    with pytest.raises(KeyboardInterrupt):
        driver.train(case.packed, case.plan, **options)
    assert driver.device.free_bytes == driver.device.memory_bytes


def test_threads_use_devices_of_their_own(board):
    cases = [random_case(seed, samples=300) for seed in range(4)]
    drivers = [board_for(board, case).driver for case in cases]
    check_side_by_side(drivers, cases)


# ---- What does not belong together  ------------------------------------------------------------


def test_data_packed_for_another_kernel_is_refused(board):
    driver = board(word_bits=64).driver
    wide = random_case(28, word_bits=128)
    with pytest.raises(ArgumentError, match=r"bitplanes in words of 128 bits.*bitplanes in 64"):
        driver.train(wide.packed, wide.plan)
    floats = random_case(28, value_format="float32")
    with pytest.raises(ArgumentError, match=r"float32 in words of 64 bits.*bitplanes in 64"):
        driver.train(floats.packed, floats.plan)


def test_a_bitstream_of_another_width_than_its_handoff():
    device = EmulatedDevice(word_bits=128)
    driver = find_driver(pynq.Overlay(str(hwh.OVERLAYS / "zipml_sgd_64.bit"), device=device))
    with pytest.raises(OverlayMismatchError, match=r"words of 128 bits, its \.hwh describes 64"):
        _ = driver.capability


def test_a_bitstream_of_another_format_than_its_handoff():
    device = EmulatedDevice(word_bits=64, value_format="float32")
    driver = find_driver(pynq.Overlay(str(hwh.OVERLAYS / "zipml_sgd_64.bit"), device=device))
    with pytest.raises(OverlayMismatchError, match=r"float32, its \.hwh describes bitplanes"):
        _ = driver.capability


@pytest.mark.parametrize("word", [0, 0xFFFFFFFF])
def test_a_bus_without_a_kernel(board, monkeypatch, word):
    driver = board().driver
    monkeypatch.setattr(
        driver.device, "read_registers", lambda address, length: word.to_bytes(4, "little")
    )
    with pytest.raises(DeviceError, match=rf"CTRL reads {word:#x}.*no kernel answers"):
        _ = driver.capability


@pytest.mark.parametrize(
    ("register", "value", "why"),
    [
        ("version", 0x5A4D0001, "0x5a4d0001, this package 0x5a4d0003"),
        ("version", 0, "0x00000000"),
        ("capability", 0x01_07_0C_0D_0D_07_06_06, "max_batch 128, this package needs 256"),
        ("capability", 0x01_03_0C_0D_0D_08_06_06, "max_delay 3, this package needs 7"),
    ],
)
def test_a_kernel_of_another_build(board, register, value, why):
    driver = board().driver
    run = driver.device._build.run
    driver.device._build = SimpleNamespace(
        name="old", run=lambda *arguments: run(*arguments) | {register: value}
    )
    with pytest.raises(OverlayMismatchError, match=why):
        _ = driver.capability


def other_handoff(tmp_path, old, new):
    text = hwh.hwh(64, "bitplanes")
    assert old in text
    (tmp_path / "other.hwh").write_text(text.replace(old, new))
    (tmp_path / "other.bit").write_bytes(b"")
    return str(tmp_path / "other.bit")


def test_a_handoff_without_the_kernel(tmp_path):
    path = other_handoff(tmp_path, "zipml:hls:zipml_sgd:1.0", "xilinx.com:hls:fir:1.0")
    with pytest.raises(OverlayMismatchError, match=r"needed is .*zipml:hls:zipml_sgd:1\.0.*fir"):
        load_overlay(path, device=EmulatedDevice())


def test_a_handoff_with_another_version_of_the_kernel(tmp_path):
    path = other_handoff(tmp_path, "zipml:hls:zipml_sgd:1.0", "zipml:hls:zipml_sgd:2.0")
    with (
        pytest.warns(UserWarning, match="ignore_version"),
        pytest.raises(OverlayMismatchError, match=r"zipml:hls:zipml_sgd:2\.0"),
    ):
        load_overlay(path, device=EmulatedDevice())


def test_a_handoff_that_lacks_a_register(tmp_path):
    path = other_handoff(tmp_path, 'NAME="dither_offset"', 'NAME="spare"')
    with pytest.raises(OverlayMismatchError, match="no register 'dither_offset'"):
        load_overlay(path, device=EmulatedDevice())


SATURATIONS = INTERFACES["bitplanes"].offsets["saturations"]


def test_offsets_are_the_handoffs(tmp_path):
    path = other_handoff(
        tmp_path,
        f'NAME="ADDRESS_OFFSET" VALUE="{SATURATIONS}"',
        f'NAME="ADDRESS_OFFSET" VALUE="{SATURATIONS + 4}"',
    )
    driver = load_overlay(path, device=EmulatedDevice()).driver
    assert driver._offsets["saturations"] == SATURATIONS + 4


def test_a_missing_name_is_told(board):
    overlay, driver = board()
    assert find_driver(overlay, "zipml_sgd_0") is driver
    with pytest.raises(OverlayMismatchError, match="not 'sgd'"):
        find_driver(overlay, "sgd")


def test_options_of_the_emulated_board_only():
    with pytest.raises(ArgumentError, match="word_bits goes with 'emulated' and 'served'"):
        load_overlay("/some.bit", word_bits=64)
    with pytest.raises(ArgumentError, match="word_bits were given with a device"):
        load_overlay("emulated", device=EmulatedDevice(), word_bits=64)


def test_an_overlay_is_a_context():
    case = random_case(29)
    with load_overlay("emulated", word_bits=64) as loaded:
        check_same(loaded.driver.train(case.packed, case.plan, model=case.model), case)


# ---- Results that tell of trouble  -------------------------------------------------------------


def test_a_refused_register_is_named(board, monkeypatch):
    case = random_case(30, samples=30, batch=4, blocks=1)
    driver = board_for(board, case).driver
    plan = replace(case.plan, delay=0, batch=3)  # what no plan that is checked would say
    monkeypatch.setattr(Plan, "check", lambda self, layout: None)
    whole = [segments.Segment(0, 1, 30, 0, 0, hold=False)]
    monkeypatch.setattr(driver_module, "segments", lambda *_: whole)
    with pytest.raises(KernelStatusError, match=r"block_samples = \d+.*multiple of the batch"):
        driver.train(case.packed, plan)


def test_divergence_is_an_error_with_the_result(board):
    case = random_case(31, step=15.0, epochs=4, delay=0)
    driver = board_for(board, case).driver
    with pytest.raises(DivergenceError, match=r"diverged: \d+ results were clamped") as error:
        driver.train(case.packed, case.plan, model=case.model)
    check_same(error.value.result, case)
    with pytest.warns(ZipmlWarning, match="step is too large"):
        result = driver.train(case.packed, case.plan, model=case.model, allow_divergence=True)
    check_same(result, case)


def test_a_plan_for_another_data_set_is_refused(board):
    """It would train on the wrong planes, or never end."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 12))
    y = X[:, 0]
    driver = board().driver
    double = pack(X, y, bits=(4, 5), batch=16)
    odd = pack(X, y, bits=5, batch=7)
    nearest = pack(X, y, bits=5, sampling="nearest", batch=16)
    for other, plan, message in (
        (odd, make_plan(double, bits=5), "batch was 16; allowed are divisors of"),
        (nearest, make_plan(double, bits=5), "sampling was 'symmetric'"),
        (double, make_plan(nearest), "sampling was 'nearest'"),
        (odd, make_plan(double, bits=4), "bits was 4"),
    ):
        with pytest.raises(ArgumentError, match=message):
            driver.train(other, plan)
        with pytest.raises(ArgumentError, match=message):
            reference.train(other, plan)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"packed": None}, "packed was None"),
        ({"redraw": 5}, "redraw was 5"),
        ({"progress": 5}, "progress was 5"),
        ({"l2": None}, "l2 was None"),
        ({"l2": "a"}, "l2 was 'a'"),
        ({"l2": float("nan")}, "l2 was nan"),
    ],
)
def test_wrong_arguments_are_named(board, arguments, message):
    packed = pack(np.eye(40, 3), np.arange(40.0), bits=4)
    with pytest.raises(ArgumentError, match=message):
        board().driver.train(**{"packed": packed, "epochs": 1, **arguments})


def test_a_loss_that_grew_is_told_without_any_clamping(board):
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, size=(3000, 1))
    packed = pack(X, X[:, 0] + 0.1 * rng.normal(size=3000), bits=8, batch=16)
    driver = board().driver
    with pytest.raises(DivergenceError, match="the loss ended at") as error:
        driver.train(packed, step=0.3, schedule="constant", delay=7, epochs=1)
    result = error.value.result
    assert result.saturations == 0
    # a good start is no reason for an alarm
    good = driver.train(packed, epochs=20)
    driver.train(packed, epochs=5, model=good.model)


def test_a_run_that_fits_its_draw_and_runs_away_is_told(board):
    """The product of the two errors, on the draw trained on, is negative here: scatter tells."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(3000, 100))
    packed = pack(X, X @ rng.normal(size=100), bits=1, batch=128)
    with pytest.raises(DivergenceError, match="scatter"):
        board(memory_bytes=1 << 23).driver.train(
            packed, step=1.0, schedule="constant", delay=0, epochs=5
        )


@pytest.mark.parametrize("what", ["normalization", "levels", "labels"])
def test_redraw_of_other_data_is_refused(board, what):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 5))
    y = X[:, 0]
    table = np.linspace(-1, 1, 9)[None, :]
    packed = pack(X, y, bits=4, levels=table)
    other = {
        "normalization": lambda: pack(2 * X, y, bits=4, levels=table),
        "levels": lambda: pack(X, y, bits=4, levels=table**3),
        "labels": lambda: pack(X, y[::-1], bits=4, levels=table),
    }[what]()
    with pytest.raises(ArgumentError, match="another normalization, other levels or"):
        board(value_format="levels").driver.train(packed, epochs=2, redraw=lambda epoch: other)


def test_a_run_that_comes_back_is_a_warning(board):
    case = random_case(31, step=0.5, epochs=12, samples=400, delay=0)
    driver = board_for(board, case).driver
    with pytest.warns(ZipmlWarning, match="results were clamped"):
        result = driver.train(case.packed, case.plan, model=case.model)
    check_same(result, case)
    assert np.abs(result.history[0]).max() > 8 > np.abs(result.model).max()


def test_clamped_residuals_are_a_warning(board):
    # labels up to the limit of the format: residuals are clamped, the model hardly moves
    case = random_case(32, step=1e-4, label_scale=200.0, samples=200)
    driver = board_for(board, case).driver
    with pytest.warns(ZipmlWarning, match="results were clamped"):
        check_same(driver.train(case.packed, case.plan, model=case.model), case)


def test_a_healthy_run_warns_of_nothing(board):
    case = random_case(33)
    driver = board_for(board, case).driver
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        driver.train(case.packed, case.plan, model=case.model)


# ---- Imports  ----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["interface", "hwh", "native", "result"])
def test_pynq_is_imported_by_devices_and_driver_alone(module):
    code = f"import sys, zipml_pynq.{module}; sys.exit('pynq' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=hwh.OVERLAYS.parent.parent)
