"""The schedule's arithmetic: against worked examples, a simulation of the pipeline, the limits."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import random_case, run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG, LIMITS, WORD_BITS, distances
from zipml_pynq.data.layout import Layout, plan_layout
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.schedule import (
    BOARDS,
    LINE_RATE,
    Board,
    EpochSchedule,
    Mode,
    choose_delay,
    epoch_schedule,
    fits_ring,
    modelled_seconds,
    overlap,
    run_cycles,
    slot_cycles,
    timeline,
)


def layout(**change: object) -> Layout:
    """90 features in 16-sample batches at 4 bits, 64-bit words: 2 chunks."""
    base = Layout(
        samples=10_000,
        features=90,
        word_bits=64,
        block_samples=400,
        bits=(4,),
        sampling="double",
        value_format="bitplanes",
    )
    return replace(base, **change)


def hazards(
    planes: int, batch: int, chunks: int, delay: int, turns: int, word_bits: int, cycles: int
) -> list[str]:
    """Walks through slots word by word and names each result that is used before it is ready.

    Slot k's dot products of batch k come plane by plane, in each plane sample by sample, in each
    sample chunk by chunk. The update of batch k - lag runs in the same cycles: chunk by chunk, in
    each chunk sample by sample, in each sample plane by plane, and no chunk faster than the turns
    that give the one before its new entries.
    """
    o, latency = overlap(delay), distances(word_bits)
    dot = {
        (p, s, c): (p * batch + s) * chunks + c
        for p in range(planes)
        for s in range(batch)
        for c in range(chunks)
    }
    update = {
        (p, s, c): c * max(planes * batch, turns) + s * planes + p
        for p in range(planes)
        for s in range(batch)
        for c in range(chunks)
    }
    faults = []
    for s in range(batch):
        ready = dot[planes - 1, s, chunks - 1] + latency.residual
        if o.lag * cycles + update[0, s, 0] < ready:
            faults.append(f"coefficient of sample {s}")
    summed = [update[planes - 1, batch - 1, c] for c in range(chunks)]
    for c in range(chunks):
        # turns follow the last word, one a cycle
        ready = summed[c] + turns + latency.update
        if o.versions * cycles + dot[0, 0, c] < ready:
            faults.append(f"model chunk {c} for the dot product")
        # the same turn of the next batch reads what this one wrote
        if cycles < latency.update:
            faults.append(f"model chunk {c} for the update")
        following = summed[c + 1] if c + 1 < chunks else cycles + summed[0]
        if following < summed[c] + turns:
            faults.append(f"turns of chunk {c}")
    if cycles < planes * batch * chunks:
        faults.append("words")
    return faults


@given(
    planes=st.integers(1, 9),
    batch=st.integers(1, 24),
    chunks=st.integers(1, 16),
    delay=st.integers(1, CONFIG.max_delay),
    turns=st.sampled_from(sorted({limits.close_turns for limits in LIMITS.values()})),
    word_bits=st.sampled_from(WORD_BITS),
)
@settings(max_examples=200, deadline=None)
def test_slot_is_as_long_as_it_must_be(
    planes: int, batch: int, chunks: int, delay: int, turns: int, word_bits: int
) -> None:
    shape = (planes, batch, chunks, delay, turns, word_bits)
    cycles = slot_cycles(*shape)
    assert hazards(*shape, cycles) == []
    assert hazards(*shape, cycles - 1) != []


def test_boards_of_a_word_have_its_distances() -> None:
    """The schedule knows the word alone; a build is told the board's clock, too."""

    def all_of(found: Any) -> tuple[int, int, int]:
        return found.residual, found.update, found.pipeline

    for board in BOARDS.values():
        built = distances(board.word_bits, int(board.clock / 1e6))
        assert all_of(built) == all_of(distances(board.word_bits))
    assert all_of(distances(64)) == (32, 24, 64)
    # more lanes, or a faster clock
    assert all_of(distances(128)) == all_of(distances(64, 250)) == (64, 24, 96)


def test_worked_example() -> None:
    # docs/schedule.md: 5 planes x 16 samples x 2 chunks = 160 words a batch; delay 2
    schedule = epoch_schedule(layout(), Mode(4, "symmetric", 16, 2))
    assert schedule.slot_cycles == 161
    assert schedule.slots == 625 + 1
    assert schedule.words == 100_000
    assert schedule.bubbles == 626 * 161 - 100_000
    train = 25 * 161 + 64 + 8
    assert schedule.cycles == 25 * train + 161 + (128 + 64)
    assert schedule.once == 4000
    assert schedule.waits == 0
    assert schedule.line_rate == pytest.approx(0.973, abs=0.001)
    assert run_cycles(layout(), Mode(4, "symmetric", 16, 2), 20) == 2_060_200


def test_without_delay_a_batch_takes_two_slots() -> None:
    schedule = epoch_schedule(layout(), Mode(4, "symmetric", 16, 0))
    assert schedule.slots == 2 * 625
    assert schedule.line_rate < 0.5


def test_memory_bounds_the_epoch_where_training_is_faster() -> None:
    # the dithers of 2 bits lie behind those of 3: two bursts a block
    two = layout(bits=(2, 3), block_samples=16)
    mode = Mode(2, "single", 16, 1)
    schedule = epoch_schedule(two, mode)
    read = 2 * 16 * 2 + 2 * CONFIG.memory_latency
    assert schedule.slot_cycles + distances(64).pipeline < read
    assert schedule.cycles >= 625 * read


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize(("skip", "hold"), [(0, True), (1, True), (1, False)])
@pytest.mark.parametrize("own_steps", [False, True])
def test_cycles_of_a_segment_are_the_engines(
    delay: int, skip: int, hold: bool, own_steps: bool
) -> None:
    case = random_case(
        1, delay=delay, batch=4, blocks=2, samples=39, epochs=1, largest_shift=int(own_steps)
    )
    outcome = run_build(
        load_build("engine"), case.packed, case.plan, case.model, skip=skip, hold=hold
    )
    expected = run_cycles(
        case.packed.layout, case.plan, 1, skip=skip, hold=hold, vectors=int(own_steps)
    )
    assert outcome.registers["modelled_cycles"] == expected


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("stored", [(4,), (1, 2, 4)])  # a read longer and shorter than training
@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("own_steps", [False, True])
def test_timeline_ends_with_the_engine(
    delay: int, stored: tuple[int, ...], epochs: int, own_steps: bool
) -> None:
    case = random_case(
        1,
        delay=delay,
        bits=stored[0],
        stored_bits=stored,
        batch=4,
        blocks=3,
        epochs=epochs,
        largest_shift=int(own_steps),
    )
    spans = timeline(case.packed.layout, case.plan, epochs, vectors=int(own_steps))
    outcome = run_build(load_build("engine"), case.packed, case.plan, case.model)
    assert spans[-1].end == outcome.registers["modelled_cycles"]
    reads = [span for span in spans if span.what == "read"]
    trains = [span for span in spans if span.what == "train"]
    assert [span.block for span in reads] == [span.block for span in trains]
    assert len(trains) == epochs * case.packed.layout.blocks
    for read, train in zip(reads, trains, strict=True):
        assert read.end <= train.begin  # on chip before it is needed
    for one in (reads, trains):
        assert all(a.end <= b.begin for a, b in pairwise(one))
    # nothing waits for both: each block's training begins where the later of two things ended
    for read, before, train in zip(reads[1:], trains, trains[1:], strict=False):
        assert train.begin == max(read.end, before.end)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("features", [90, 785, 4000])
@pytest.mark.parametrize("batch", [1, 16, 64])
def test_chosen_delay_is_the_smallest_at_line_rate(bits: int, features: int, batch: int) -> None:
    at = layout(features=features, bits=(bits,), block_samples=1)
    planes = bits + 1
    words = planes * batch * at.chunks

    def rate(delay: int) -> float:
        turns = LIMITS["bitplanes"].close_turns
        return words / slot_cycles(planes, batch, at.chunks, delay, turns, 64)

    fitting = [
        d for d in range(1, CONFIG.max_delay + 1) if fits_ring(at, bits, "symmetric", batch, d)
    ]
    chosen = choose_delay(at, bits, "symmetric", batch)
    fast = [d for d in fitting if rate(d) >= LINE_RATE]
    if fast:
        assert chosen == fast[0]
    elif fitting:
        assert rate(chosen) == max(map(rate, fitting))
    else:
        assert chosen == 0


def test_modelled_seconds_are_the_slower_of_clock_and_memory() -> None:
    schedule = EpochSchedule(
        words=1000, slots=1, slot_cycles=1000, bubbles=0, cycles=2000, once=0, bytes=8000
    )
    assert modelled_seconds(schedule, Board("a", 64, 1e6, 1e9)) == pytest.approx(2e-3)
    assert modelled_seconds(schedule, Board("b", 64, 1e9, 1e6)) == pytest.approx(8e-3)
    for board in BOARDS.values():
        assert board.word_bits in (64, 128, 512)
        # one word a cycle asks for no more than the memory gives, or memory is the bound
        assert modelled_seconds(schedule, board) >= 8000 / board.bandwidth


def test_delay_outside_the_limits_is_refused() -> None:
    for delay in (-1, CONFIG.max_delay + 1):
        with pytest.raises(ArgumentError, match="delay was"):
            overlap(delay)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("samples", "features"), [(10_000, 101), (60_000, 785), (463_715, 91)])
def test_epochs_of_the_papers_sizes_stream_at_line_rate(
    samples: int, features: int, bits: int
) -> None:
    """At least 95 % of the cycles stream a word, at 64-bit words."""
    at = plan_layout(samples, features, bits=(bits,), sampling="double")
    delay = choose_delay(at, bits, "symmetric", 16)
    assert epoch_schedule(at, Mode(bits, "symmetric", 16, delay)).line_rate >= 0.95


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("batch", [8, 16, 64])
@pytest.mark.parametrize("features", [64, 90, 785])
@pytest.mark.parametrize("word_bits", [64, 128, 512])
def test_default_mode_streams_at_line_rate(
    word_bits: int, features: int, batch: int, bits: int
) -> None:
    """Double sampled, from 64 features and 32 words a batch on, where two batches fit the ring."""
    at = plan_layout(
        100_000, features, bits=(bits,), sampling="double", batch=batch, word_bits=word_bits
    )
    delay = choose_delay(at, bits, "symmetric", batch)
    if delay == 0:
        assert not fits_ring(at, bits, "symmetric", batch, 1)
    elif (bits + 1) * batch * at.chunks >= 32:
        assert epoch_schedule(at, Mode(bits, "symmetric", batch, delay)).line_rate >= 0.95


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("batch", range(1, 8))
def test_small_batches_wait_for_the_turns(batch: int, bits: int) -> None:
    """A cell's words, at least as many as turns, say how near a slot comes to the line rate."""
    at = layout(features=785, bits=(bits,), block_samples=batch)
    delay = choose_delay(at, bits, "symmetric", batch)
    cell, turns = (bits + 1) * batch, LIMITS["bitplanes"].close_turns
    rate = cell * at.chunks / slot_cycles(bits + 1, batch, at.chunks, delay, turns, 64)
    assert rate == pytest.approx(min(1, cell / turns), abs=0.02)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("samples", "features"), [(10_000, 101), (60_000, 785), (463_715, 91)])
@pytest.mark.parametrize("word_bits", [64, 128])
def test_tables_of_levels_stream_at_line_rate_from_3_bits_on(
    samples: int, features: int, bits: int, word_bits: int
) -> None:
    """Four cycles train on what b + 1 words hold; the reads of short blocks cost the rest."""
    at = plan_layout(
        samples,
        features,
        bits=(bits,),
        sampling="double",
        word_bits=word_bits,
        value_format="levels",
        level_tables=1,
    )
    delay = choose_delay(at, bits, "symmetric", 16)
    rate = epoch_schedule(at, Mode(bits, "symmetric", 16, delay)).line_rate
    assert rate >= 0.95 * min(1, (bits + 1) / CONFIG.level_parts)


def test_worked_example_with_tables_of_levels() -> None:
    # 90 features are 6 quarters of a word: 96 cells a batch; 5 planes of 2 words a sample
    at = layout(value_format="levels", level_tables=90, block_samples=400)
    assert choose_delay(at, 4, "symmetric", 16) == 1
    schedule = epoch_schedule(at, Mode(4, "symmetric", 16, 1))
    assert (
        schedule.slot_cycles == 96 - 6 + 8 + 24
    )  # the last cell's new entries, before they are read
    assert schedule.slot_cycles < 160  # so that reading sets the pace
    read = 4000 + 64
    # the last block's history keeps no word from memory, but from being taken in
    assert schedule.cycles == 24 * read + 4000 + 64 + (128 + 64)
    assert schedule.words == 100_000
