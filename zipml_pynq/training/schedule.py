"""The schedule of a training run as arithmetic: words, slots, bubbles, cycles, seconds.

docs/schedule.md derives it. The kernel and the engine count by ``hls/include/zipml/schedule.hpp``;
this module says the same a second time, so that a test can hold the two against each other.
Everything here is modelled, nothing is measured on a board.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from zipml_pynq.constants import CONFIG, LIMITS, distances
from zipml_pynq.data.layout import Layout, streamed_dithers
from zipml_pynq.errors import ArgumentError

#: Share of a slot's cycles that must stream a word for a delay to count as "at line rate".
LINE_RATE = 0.98


class Streaming(Protocol):
    """What of a plan the schedule depends on."""

    @property
    def bits(self) -> int: ...
    @property
    def sampling(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def delay(self) -> int: ...
    @property
    def degree(self) -> int: ...


@dataclass(frozen=True)
class Mode:
    """A :class:`Streaming` without the rest of a plan."""

    bits: int
    sampling: str
    batch: int
    delay: int
    degree: int = 0


@dataclass(frozen=True)
class Overlap:
    """How a delay of so many batches is spread over the pipeline.

    Slot k runs the dot products of batch k and the update of batch ``k - lag``; a dot product
    reads the model of ``versions`` slots ago, so ``delay = lag + versions - 1``. Without delay the
    two phases of a batch take a slot each.
    """

    lag: int
    versions: int
    slots_per_batch: int
    ring_batches: int


def overlap(delay: int) -> Overlap:
    """The overlap of a delay of 0 to ``CONFIG.max_delay`` batches."""
    if not 0 <= delay <= CONFIG.max_delay:
        raise ArgumentError(f"delay was {delay}; allowed are 0 to {CONFIG.max_delay}")
    if delay == 0:
        return Overlap(lag=1, versions=1, slots_per_batch=2, ring_batches=1)
    versions = min(delay, 2)
    lag = delay + 1 - versions
    return Overlap(lag=lag, versions=versions, slots_per_batch=1, ring_batches=lag + 1)


def streamed_planes(layout: Layout, bits: int, sampling: str, degree: int = 0) -> int:
    """Planes streamed at a precision: the base planes and the dither planes."""
    if layout.value_format == "float32":
        return 1
    return bits - 1 + streamed_dithers(sampling, degree)


def passes(layout: Layout, bits: int, sampling: str, degree: int = 0) -> int:
    """Passes over the cells of a batch: one for each plane, or one where cells hold all of them."""
    if layout.value_format == "levels":
        return 1
    return streamed_planes(layout, bits, sampling, degree)


def row_cells(layout: Layout) -> int:
    """Cells of a sample; see :attr:`Layout.row_cells`."""
    return layout.row_cells


def batch_cells(layout: Layout, bits: int, sampling: str, batch: int, degree: int = 0) -> int:
    """Cells of all passes over one batch."""
    return passes(layout, bits, sampling, degree) * batch * row_cells(layout)


def slot_cycles(passes: int, batch: int, cells: int, delay: int, turns: int, word_bits: int) -> int:
    """Cycles of one slot: its cells, or more where a result would be used before it is ready.

    Parameters
    ----------
    turns : int
        In which a cell gets its new model entries (``LIMITS[..].close_turns``).
    word_bits : int
        Bits of a word, by which results take longer or shorter (:func:`distances`).
    """
    o, latency = overlap(delay), distances(word_bits)
    work = passes * batch * cells
    # a cell is updated in the cycles of its words, and no less than the one before it has turns
    cell = max(passes * batch, turns)
    # Dot products come pass by pass and sample by sample; the update runs cell by cell, its
    # samples inside, so its first cell needs the first sample, its b-th group of passes the b-th.
    first_coefficient = work - batch * cells + cells - 1 + latency.residual
    last_coefficient = work - 1 + latency.residual - (batch - 1) * passes
    new_model = (cells - 1) * cell + passes * batch + turns + latency.update - cells
    return max(
        cells * cell,
        latency.update,
        -(-max(first_coefficient, last_coefficient) // o.lag),
        -(-new_model // o.versions),
    )


@dataclass(frozen=True)
class EpochSchedule:
    """One epoch.

    Parameters
    ----------
    words : int
        Words of planes streamed.
    slots : int
        Slots of the training pipeline, the drain's included.
    slot_cycles : int
        Cycles of one slot.
    bubbles : int
        Cycles of slots beyond the one that each trained batch's cells take.
    cycles : int
        Cycles of the epoch: slots, latencies, and where memory is slower than training, memory. Its
        first block comes in while the epoch before it ends.
    waits : int
        Of these those in which training waits for the next block's words.
    once : int
        Cycles that a run has beside its epochs: the very first block's way in, which nothing hides,
        less what its last block would wait for a next one.
    bytes : int
        Bytes of planes, labels and history row moved.
    take_cycles : int
        Cycles in which a block's words are taken in, one a cycle, its memory ahead of it.
    train_cycles : tuple of int
        Cycles in which each block trains, in their order.
    next_cycles : tuple of int
        Cycles in which the block behind each of these comes in, counted from the same moment.
    """

    words: int
    slots: int
    slot_cycles: int
    bubbles: int
    cycles: int
    once: int
    bytes: int
    waits: int = 0
    take_cycles: int = 0
    train_cycles: tuple[int, ...] = ()
    next_cycles: tuple[int, ...] = ()

    @property
    def line_rate(self) -> float:
        """Words per cycle: 1.0 is a memory port that never waits."""
        return self.words / self.cycles


def block_order(blocks: int, first: int = 0, step: int = 1) -> list[int]:
    """The order in which an epoch takes its blocks: ``first + i * step`` modulo their number."""
    return [(first + i * step) % blocks for i in range(blocks)]


def full_words(layout: Layout) -> int:
    """Words of one sample at full precision."""
    return -(-layout.features // (layout.word_bits // 32))


def full_bytes(layout: Layout) -> int:
    """Bytes of one sample at full precision, padding included."""
    return full_words(layout) * layout.word_bits // 8


def refetch_cycles(layout: Layout) -> int:
    """Cycles of one sample that is read again at full precision."""
    residual = distances(layout.word_bits).residual
    return int(full_words(layout) + CONFIG.memory_latency + residual)


def epoch_schedule(
    layout: Layout,
    plan: Streaming,
    *,
    skip: int = 0,
    hold: bool = False,
    weighted: bool = False,
    order: Sequence[int] | None = None,
    refetched: Sequence[int] | None = None,
) -> EpochSchedule:
    """The schedule of one epoch over the samples of ``layout``.

    Parameters
    ----------
    layout : Layout
        The data set, or the segment of it that lies in one buffer.
    plan : Plan or Mode
        Bits, sampling, batch (samples) and delay (batches).
    skip : int
        Batches of the first block that an earlier segment has done.
    hold : bool
        Whether the last updates are left to the next segment.
    weighted : bool
        Whether labels come in pairs with weights.
    order : sequence of int, optional
        The blocks as they come; by default from the first to the last.
    refetched : sequence of int, optional
        Samples of each of these blocks that are read again; none by default.
    """
    o = overlap(plan.delay)
    planes = streamed_planes(layout, plan.bits, plan.sampling, plan.degree)
    over = passes(layout, plan.bits, plan.sampling, plan.degree)
    turns = LIMITS[layout.value_format].close_turns
    width = layout.word_bits
    cycles_a_slot = slot_cycles(over, plan.batch, row_cells(layout), plan.delay, turns, width)

    block_words = planes * layout.block_samples * layout.chunks
    base_words = (plan.bits - 1) * layout.block_samples * layout.chunks
    one_burst = (
        layout.value_format == "float32"
        or plan.bits == 1
        or layout.dither_offset(plan.bits) == base_words
    )
    label_words = (2 if weighted else 1) * layout.block_samples
    take = max(block_words, label_words)
    read = max(
        block_words + (1 if one_burst else 2) * CONFIG.memory_latency,
        label_words + CONFIG.memory_latency,
    )

    batches = -(-layout.samples // plan.batch)
    per_block = layout.block_samples // plan.batch
    blocks = -(-layout.samples // layout.block_samples)
    row = layout.chunks * layout.lanes
    slots = waits = 0
    trained, following = [], []
    order = range(blocks) if order is None else order
    for i, block in enumerate(order):
        real = min((block + 1) * per_block, batches) - block * per_block
        if block == 0:
            real -= skip
        taken = o.slots_per_batch * real
        if i + 1 == blocks and plan.delay > 0 and not hold:
            taken += o.lag  # updates still to come
        # where samples may be read again, every slot fills and drains the pipeline for itself
        drains = taken if layout.value_format == "refetch" else 1
        # passes of the training loop take a word of the next block each; beside them none comes in
        loops = taken * cycles_a_slot + drains * turns
        others = drains * distances(width).pipeline
        if refetched is not None:
            others += refetched[i] * refetch_cycles(layout)
        if i + 1 == blocks and not hold:
            others += row + CONFIG.memory_latency  # history
        slots += taken
        trained.append(loops + others)
        following.append(max(read, max(loops, take) + others))
        waits += max(0, following[-1] - trained[-1])
    return EpochSchedule(
        words=blocks * block_words,
        slots=slots,
        slot_cycles=cycles_a_slot,
        bubbles=slots * cycles_a_slot - (batches - skip) * over * plan.batch * row_cells(layout),
        cycles=sum(trained) + waits,
        waits=waits,
        once=take - max(0, following[-1] - trained[-1]),
        bytes=blocks * block_words * layout.word_bits // 8
        + (8 if weighted else 4) * blocks * layout.block_samples
        + (0 if hold else 4 * row),
        take_cycles=take,
        train_cycles=tuple(trained),
        next_cycles=tuple(following),
    )


def fixed_cycles(
    layout: Layout,
    plan: Streaming,
    *,
    derivatives: int = 0,
    pending: int = 0,
    held: int = 0,
    vectors: int = 0,
) -> int:
    """Cycles of a run beside its epochs: the model's way in and out, tables, pending coefficients.

    Parameters
    ----------
    derivatives : int
        Numbers of the loss's table or polynomial.
    pending, held : int
        Batches whose coefficients are read and written.
    vectors : int
        Vectors of as many entries as the model's that lie behind it (``Plan.vectors_behind``).
    """
    entries = layout.chunks * layout.lanes
    cycles = 2 * (entries + CONFIG.memory_latency)
    # what the first dot products see is made of it, a draw for so many features
    cycles += -(-entries // CONFIG.draw_features) * (CONFIG.draw_features + CONFIG.draw_latency)
    if layout.level_tables:
        cycles += layout.level_tables * layout.level_count + CONFIG.memory_latency
    if derivatives:
        cycles += derivatives + CONFIG.memory_latency
    cycles += vectors * (entries + CONFIG.memory_latency)
    for batches in (pending, held):
        if batches:
            cycles += 2 * batches * plan.batch + CONFIG.memory_latency
    return int(cycles)


def run_cycles(
    layout: Layout,
    plan: Streaming,
    epochs: int,
    *,
    skip: int = 0,
    pending: int = 0,
    hold: bool = False,
    weighted: bool = False,
    derivatives: int = 0,
    vectors: int = 0,
) -> int:
    """Cycles of a whole run that fetches nothing again and takes its blocks in order."""
    epoch = epoch_schedule(layout, plan, skip=skip, hold=hold, weighted=weighted)
    held = min(plan.delay, -(-layout.samples // plan.batch) - skip) if hold else 0
    fixed = fixed_cycles(
        layout,
        plan,
        derivatives=derivatives,
        pending=pending,
        held=held,
        vectors=vectors,
    )
    return epochs * epoch.cycles + epoch.once + fixed


class Span(NamedTuple):
    """Something that a run does from one cycle on, for some cycles.

    ``what`` is "model" (its way in, with tables, steps and corrections of features and what
    the first dot products see, and its way out), "read" or "train"; ``block`` counts the blocks of
    all epochs, -1 for the model.
    """

    what: str
    block: int
    begin: int
    cycles: int

    @property
    def end(self) -> int:
        """The cycle behind the last one."""
        return self.begin + self.cycles


def timeline(
    layout: Layout,
    plan: Streaming,
    epochs: int = 1,
    *,
    weighted: bool = False,
    derivatives: int = 0,
    vectors: int = 0,
) -> list[Span]:
    """When a run reads and trains each block: what :func:`run_cycles` adds up, laid out in time.

    Parameters are those of :func:`run_cycles`. The last span ends with the run. A block is read
    while the one before it trains, across the ends of epochs too.
    """
    epoch = epoch_schedule(layout, plan, weighted=weighted)
    way_out = layout.chunks * layout.lanes + CONFIG.memory_latency
    fixed = fixed_cycles(layout, plan, derivatives=derivatives, vectors=vectors)
    now = fixed - way_out
    spans = [Span("model", -1, 0, now), Span("read", 0, now, epoch.take_cycles)]
    now += epoch.take_cycles
    trained, following = epoch.train_cycles * epochs, epoch.next_cycles * epochs
    for block, (train, following_one) in enumerate(zip(trained, following, strict=True)):
        spans.append(Span("train", block, now, train))
        if block + 1 < len(trained):
            spans.append(Span("read", block + 1, now, following_one))
            train = max(train, following_one)
        now += train
    spans.append(Span("model", -1, now, way_out))
    return spans


def fits_ring(
    layout: Layout, bits: int, sampling: str, batch: int, delay: int, degree: int = 0
) -> bool:
    """Whether the batches in flight fit the cells that the kernel keeps on chip."""
    cells = batch_cells(layout, bits, sampling, batch, degree)
    return overlap(delay).ring_batches * cells <= LIMITS[layout.value_format].ring_words


def choose_delay(layout: Layout, bits: int, sampling: str, batch: int, degree: int = 0) -> int:
    """The smallest delay from 1 up that streams at line rate, else the fastest that fits.

    Line rate means that at least 98 % of a slot's cycles stream a word. If not even a delay of 1
    fits on chip the answer is 0.
    """
    words = streamed_planes(layout, bits, sampling, degree) * batch * layout.chunks
    over, cells = passes(layout, bits, sampling, degree), row_cells(layout)
    turns, width = LIMITS[layout.value_format].close_turns, layout.word_bits
    best, best_rate = 0, 0.0
    for delay in range(1, CONFIG.max_delay + 1):
        if not fits_ring(layout, bits, sampling, batch, delay, degree):
            break
        # where training takes fewer cycles than reading, reading alone sets the pace
        rate = words / max(words, slot_cycles(over, batch, cells, delay, turns, width))
        if rate > best_rate:
            best, best_rate = delay, rate
        if rate >= LINE_RATE:
            break
    return best


@dataclass(frozen=True)
class Board:
    """A board as the model of time sees it.

    Parameters
    ----------
    name : str
        The board.
    word_bits : int
        Bits of one word, that is of one memory port's beat.
    clock : float
        Clock of the kernel in Hz.
    bandwidth : float
        Peak bandwidth of the memory in bytes per second.
    """

    name: str
    word_bits: int
    clock: float
    bandwidth: float


#: Peak figures of data sheets and assumed clocks; docs/schedule.md says where from.
BOARDS: dict[str, Board] = {
    "PYNQ-Z2": Board("PYNQ-Z2", 64, 1e9 / 7, 2.1e9),
    "KV260": Board("KV260", 128, 250e6, 19.2e9),
    "Alveo U50": Board("Alveo U50", 512, 300e6, 14.4e9),
    "PYNQ-Z1": Board("PYNQ-Z1", 64, 1e9 / 7, 2.1e9),
    "KR260": Board("KR260", 128, 250e6, 19.2e9),
    "ZCU104": Board("ZCU104", 128, 250e6, 19.2e9),
}


def modelled_seconds(schedule: EpochSchedule, board: Board) -> float:
    """Seconds of one epoch on ``board``: the slower of its clock and its memory's peak rate."""
    return max(schedule.cycles / board.clock, schedule.bytes / board.bandwidth)
