"""Runs in segments: the arithmetic of cutting, and the bits of one piece."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.accelerator.runs import ENGINES, board_for, count_starts, limited
from tests.cases import CASES, VECTOR_PAGES, check_same, random_case, run_options
from zipml_pynq.accelerator.run import Slot, Training
from zipml_pynq.accelerator.segments import carried_blocks, segments, streamed_layout
from zipml_pynq.devices.memory import PAGE
from zipml_pynq.errors import ArgumentError, OutOfDeviceMemoryError
from zipml_pynq.training.schedule import run_cycles


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
        patch.setattr(Training, "_allocate_slot", limited(smallest))
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
    assert result.modelled_cycles == 3 * sum(
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
    fill = Slot.fill

    def watched(slot, *arguments):
        busy.append(not driver._is_idle())
        return fill(slot, *arguments)

    monkeypatch.setattr(Slot, "fill", watched)
    driver.device.clock_mhz = 1.0  # slow enough to be seen running
    check_same(driver.train(case.packed, case.plan, model=case.model), case, blocks=10)
    assert busy == [False] + [True] * (len(busy) - 1)
    assert len(busy) > 3


def test_two_segments_stay_on_the_device(board, monkeypatch):
    case = random_case(12, samples=100, batch=2, blocks=4, epochs=4, delay=1)
    driver = board_for(board, case).driver
    copied = []
    monkeypatch.setattr(Training, "_allocate_slot", limited(3))
    fill = Slot.fill

    def counted(slot, packed, plan, segment):
        before = slot.content
        fill(slot, packed, plan, segment)
        copied.append(slot.content != before)

    monkeypatch.setattr(Slot, "fill", counted)
    check_same(driver.train(case.packed, case.plan, model=case.model), case, blocks=3)
    assert sum(copied) == 2 < len(copied)


def test_a_data_set_that_cannot_be_cut_smaller_is_refused(board):
    case = random_case(13, samples=64, features=64 * 32, bits=4, batch=8, blocks=2)
    driver = board_for(board, case, memory_bytes=16 * PAGE).driver
    with pytest.raises(OutOfDeviceMemoryError, match=r"training needs at least 1 x 2 blocks of"):
        driver.train(case.packed, case.plan)
    assert driver.device.free_bytes == 16 * PAGE
