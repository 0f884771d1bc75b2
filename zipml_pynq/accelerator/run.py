"""A training run on the device: its buffers, its calls of the kernel, its counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from zipml_pynq.accelerator.buffers import DTYPES, free_buffers, from_device, to_device
from zipml_pynq.accelerator.contract import Totals, check_redrawn, check_results, report
from zipml_pynq.accelerator.segments import Segment, carried_blocks, segments, streamed_layout
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError, OutOfDeviceMemoryError
from zipml_pynq.training.plan import SCHEDULE_COLUMNS, Plan
from zipml_pynq.training.result import LARGEST, TrainResult
from zipml_pynq.training.schedule import full_bytes

#: A call keeps at most so many bytes of history on the device (but at least one epoch).
HISTORY_BYTES = 4 << 20


@dataclass
class Slot:
    """Buffers for the planes, labels and float32 rows of one segment, and what lies in them."""

    planes: Any
    labels: Any
    full: Any = None
    content: tuple[PackedDataset, int, int] | None = None

    def fill(self, packed: PackedDataset, plan: Plan, segment: Segment) -> None:
        """Copy a segment in, unless it is there already."""
        here = self.content
        if here and here[0] is packed and here[1:] == (segment.first, segment.stop):
            return
        self.content = None  # in case the copy is interrupted
        blocks = segment.stop - segment.first
        source = packed.planes[segment.first : segment.stop]
        target = self.planes.view(np.ndarray)
        layout = packed.layout
        if layout.value_format == "float32":
            target[:blocks] = source
        else:
            plane = layout.block_samples * layout.chunks * (layout.word_bits // 64)
            base = (plan.bits - 1) * plane
            dithers = layout.dither_offset(plan.bits) * (layout.word_bits // 64)
            width = target.shape[1] - base
            target[:blocks, :base] = source[:, :base]
            target[:blocks, base:] = source[:, dithers : dithers + width]
        size = layout.block_samples
        rows = slice(segment.first * size, segment.stop * size)
        labels = self.labels.view(np.ndarray).reshape(-1, 1 if packed.weights is None else 2)
        labels[: blocks * size, 0] = packed.labels[rows]
        if packed.weights is not None:
            labels[: blocks * size, 1] = packed.weights[rows]
        if packed.full is not None:
            self.full.view(np.ndarray)[: blocks * size] = packed.full[rows]
            to_device(self.full)
        to_device(self.planes, self.labels)
        self.content = (packed, segment.first, segment.stop)


@dataclass(frozen=True)
class Call:
    """One kernel call: ``epochs`` epochs from ``epoch`` on over one segment."""

    packed: PackedDataset
    segment: Segment
    epoch: int
    epochs: int


class Kernel(Protocol):
    """What a run needs of the driver (:class:`zipml_pynq.accelerator.driver.SgdDriver`)."""

    @property
    def scalars(self) -> Mapping[str, int]:
        """The scalar registers as they were written last."""

    def allocate(
        self, shape: int | tuple[int, ...], dtype: DTypeLike, pointer: str | None = None
    ) -> Any:
        """A buffer in device memory."""

    def write_registers(self, values: Mapping[str, Any]) -> None:
        """Write input registers by name."""

    def start(self) -> None:
        """Start the kernel."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is done."""

    def read_results(self) -> dict[str, int]:
        """The output registers by name."""


class Training:
    """One call of ``SgdDriver.train``: its buffers, its kernel calls, its counters."""

    def __init__(
        self,
        driver: Kernel,
        packed: PackedDataset,
        plan: Plan,
        redraw: Callable[[int], PackedDataset] | None,
        progress: Any,
        timeout: float | None,
        buffers: list[Any],
    ) -> None:
        self.driver = driver
        self.packed = packed
        self.plan = plan
        self.redraw = redraw
        self.progress = progress
        self.timeout = timeout
        self.buffers = buffers
        self.layout = streamed_layout(packed.layout, plan)
        self.entries = self.layout.chunks * self.layout.lanes
        behind = len(plan.vectors_behind) * self.entries + 2 * plan.delay * plan.batch
        self.model = self._allocate(self.entries + behind, "model")
        group = max(1, min(plan.epochs, HISTORY_BYTES // (4 * self.entries)))
        self.history = self._allocate((group, self.entries), "history")
        self.schedule = self._allocate((group, SCHEDULE_COLUMNS), "schedule")
        # what all calls of the kernel share
        self.constants: dict[str, Any] = {
            "model": self.model,
            "history": self.history,
            "schedule": self.schedule,
            **plan.registers(self.layout),
        }
        if packed.levels is not None:
            levels = self._allocate(packed.levels.size, "levels")
            levels.view(np.ndarray)[:] = packed.levels.ravel()
            to_device(levels)
            self.constants["levels"] = levels
        numbers = plan.derivative.numbers
        if numbers.size:
            derivative = self._allocate(numbers.size, "derivative")
            derivative.view(np.ndarray)[:] = numbers
            to_device(derivative)
            self.constants["derivative"] = derivative
        self.slots, capacity = self._allocate_slots()
        # whatever the batches before it do, a batch finds a frozen model as it was
        delay = 0 if plan.frozen else plan.delay
        self.segments = segments(
            self.layout.samples, self.layout.block_samples, plan.batch, delay, capacity
        )
        self._check_segments()
        if redraw is not None or progress is not None or len(self.segments) > 1:
            group = 1
        self.most = group
        self.take(plan)

    def take(self, plan: Plan) -> None:
        """Go on with a plan of the same precision, sampling, batch, delay and loss; counters
        begin at 0."""
        self.plan = plan
        self.constants.update(plan.registers(self.layout))
        # epochs of a call: one order each
        self.group = self.most if plan.one_order else 1
        self.totals = Totals()
        self.changed: Any = 0  # of a frozen model, by the segments so far
        self.segments_done = 0

    def _check_segments(self) -> None:
        """What a data set that is trained in segments rules out."""
        if len(self.segments) == 1:
            return
        if self.plan.orders is not None:
            raise ArgumentError(
                f"shuffle was true; the device's free memory holds {self.segments[0].stop} of "
                f"{self.layout.blocks} blocks at a time, and only a data set that fits whole can "
                "be taken in another order"
            )
        if self.plan.model_bits and self.plan.delay > 1:
            raise ArgumentError(
                f"model_bits was {self.plan.model_bits} at a delay of {self.plan.delay}; a data "
                "set that does not fit the device's free memory whole allows a delay of 0 or 1"
            )

    def _allocate(self, shape: int | tuple[int, ...], name: str) -> Any:
        buffer = self.driver.allocate(shape, DTYPES[name], name)
        self.buffers.append(buffer)
        return buffer

    def _allocate_slots(self) -> tuple[list[Slot], int]:
        """One slot for the whole data set, else two for 2, 4, 8 .. segments, whichever fit."""
        layout, plan = self.layout, self.plan
        carried = carried_blocks(plan.delay, layout.block_samples, plan.batch)
        # data that changes every epoch is copied into one slot while the other is trained on
        attempts = [(1 if self.redraw is None else 2, layout.blocks)]
        number = 2
        while attempts[-1][1] > carried + 1:
            size = max(carried + 1, -(-(layout.blocks + (number - 1) * carried) // number))
            if size == attempts[-1][1]:
                size -= 1
            attempts.append((2, size))
            number *= 2
        for number, capacity in attempts:
            mark = len(self.buffers)
            try:
                return [self._allocate_slot(capacity) for _ in range(number)], capacity
            except OutOfDeviceMemoryError as error:
                failure = error
                free_buffers(self.buffers, mark)
        number, capacity = attempts[-1]
        block = layout.block_stride * (layout.word_bits // 8) + 4 * layout.block_samples
        raise OutOfDeviceMemoryError(
            f"training needs at least {number} x {capacity} blocks of {block} bytes in device "
            f"memory beside model and history: {failure}"
        ) from failure

    def _allocate_slot(self, capacity: int) -> Slot:
        words = self.layout.block_stride * (self.layout.word_bits // 64)
        rows = capacity * self.layout.block_samples
        planes = self._allocate((capacity, words), "planes")
        columns = 1 if self.packed.weights is None else 2
        labels = self._allocate(rows * columns, "labels")
        full = None
        if self.packed.full is not None:
            full = self._allocate((rows, self.packed.full.shape[1]), "full")
        return Slot(planes, labels, full)

    def _calls(self) -> Iterator[Call]:
        for epoch in range(0, self.plan.epochs, self.group):
            packed = self.packed
            if self.redraw is not None and epoch > 0:
                packed = self.redraw(epoch)
                check_redrawn(packed, self.packed, epoch)
            epochs = min(self.group, self.plan.epochs - epoch)
            for segment in self.segments:
                yield Call(packed, segment, epoch, epochs)

    def _next(self, calls: Iterator[Call], number: int) -> Call | None:
        """The next call with its samples on the device."""
        call = next(calls, None)
        if call is not None:
            self.slots[number % len(self.slots)].fill(call.packed, self.plan, call.segment)
        return call

    def _start(self, call: Call, slot: Slot) -> None:
        flags = self.constants["flags"]
        if call.segment.hold and not self.plan.frozen:
            flags |= CONFIG.flag_hold
        if self.packed.weights is not None:
            flags |= CONFIG.flag_weights
        first_block, block_step = self.plan.epoch_order(call.epoch)
        rows = self.plan.schedule_table()[call.epoch : call.epoch + call.epochs]
        self.schedule.view(np.ndarray)[: call.epochs] = rows
        to_device(self.schedule)
        self.driver.write_registers(
            {
                "planes": slot.planes,
                "labels": slot.labels,
                **self.constants,
                **({} if slot.full is None else {"full": slot.full}),
                "samples": call.segment.samples,
                "epochs": call.epochs,
                "skip": call.segment.skip,
                "pending": call.segment.pending,
                "flags": flags,
                "first_update": self._first_update(call),
                "first_block": first_block,
                "block_step": block_step,
            }
        )
        self.driver.start()

    def _first_update(self, call: Call) -> int:
        """Number of a call's first update since training began, modulo the register's width."""
        batches = -(-self.layout.samples // self.plan.batch)
        per_block = self.layout.block_samples // self.plan.batch
        oldest = call.segment.first * per_block + call.segment.skip
        return ((self.plan.first_epoch + call.epoch) * batches + oldest) % (1 << 32)

    def run(
        self,
        start: NDArray[np.int32],
        until: Callable[[NDArray[np.float64]], bool] | None = None,
    ) -> TrainResult:
        if until is not None:
            self.group = 1
        features = self.layout.features
        model = self.model.view(np.ndarray)
        model[:] = 0
        model[:features] = start
        for number, vector in enumerate(self.plan.vectors_behind, 1):
            model[number * self.entries :][:features] = vector
        to_device(self.model)
        history = np.empty((self.plan.epochs, features), np.int32)
        calls = self._calls()
        number = 0
        call = self._next(calls, number)
        while call is not None:
            self._start(call, self.slots[number % len(self.slots)])
            # a single slot holds the whole data set, so there is nothing to fill but the second
            upcoming = self._next(calls, number + 1)
            self.driver.wait(self.timeout)
            self._account()
            if self.plan.frozen and len(self.segments) > 1:
                self._add_up(start)
            if not call.segment.hold:
                from_device(self.history)
                rows = self.history.view(np.ndarray)[: call.epochs, :features]
                if self.plan.frozen:
                    rows = model[None, :features]
                history[call.epoch : call.epoch + call.epochs] = rows
                report(self.progress, call.epoch + call.epochs, self.plan.epochs)
                if until is not None and until(rows[0] / MODEL_ONE):
                    history = history[: call.epoch + 1].copy()
                    break
            call = upcoming
            number += 1
        from_device(self.model)
        totals = self.totals.outcome()
        return TrainResult.from_fixed(
            model[:features].copy(),
            history,
            word_bits=self.layout.word_bits,
            fetched_bytes=totals["refetched"] * full_bytes(self.layout),
            **totals,
        )

    def _add_up(self, start: NDArray[np.int32]) -> None:
        """Put what the segments so far changed a frozen model by behind the last one, else back."""
        from_device(self.model)
        model = self.model.view(np.ndarray)[: len(start)]
        self.changed += model.astype(np.int64) - start
        self.segments_done += 1
        done = self.segments_done == len(self.segments)
        model[:] = np.clip(start + self.changed, -LARGEST, LARGEST) if done else start
        to_device(self.model)

    def _account(self) -> None:
        results = self.driver.read_results()
        check_results(results, self.driver.scalars)
        self.totals.add(results)
