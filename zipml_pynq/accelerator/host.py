"""The engine of this process, called directly: the kernel's bits without device and pynq.

A training is what the driver's is, from the same plan and the same registers, but the engine reads
a data set where it lies, and many epochs are one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.accelerator.builds import ARGUMENTS, RESULTS, run_engine
from zipml_pynq.accelerator.capability import Capability
from zipml_pynq.accelerator.contract import (
    Totals,
    check_redrawn,
    check_results,
    checked,
    report,
)
from zipml_pynq.accelerator.interface import check_build
from zipml_pynq.accelerator.refine import refined
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.layout import FORMAT_CODES
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.rows import pointer
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.divergence import judged
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.refinement import checked_refine
from zipml_pynq.training.result import TrainResult, fixed_model
from zipml_pynq.training.schedule import full_bytes

#: Planes of epochs with draws of their own that are held at a time, in bytes.
KEPT_BYTES = 64 << 20


@dataclass(frozen=True)
class HostDriver:
    """Trains by the engine, in this process.

    Parameters
    ----------
    word_bits : int
        Width of the words that data sets are packed in: 64, 128 or 512.
    value_format : str
        Of data sets.
    threads : int
        Of the engine; 0 for as many as pay. The bits do not depend on it.

    Raises
    ------
    ArgumentError
        No kernel has this width and format.
    """

    word_bits: int = 64
    value_format: str = "bitplanes"
    threads: int = 1

    def __post_init__(self) -> None:
        check_build(self.word_bits, self.value_format)

    @property
    def capability(self) -> Capability:
        """What a kernel of this width and format tells of itself."""
        return Capability.expected(self.word_bits, self.value_format)

    def train(
        self,
        packed: PackedDataset,
        plan: Plan | None = None,
        *,
        model: ArrayLike | None = None,
        progress: Any = None,
        redraw: Callable[[int], PackedDataset] | None = None,
        until: Callable[[NDArray[np.float64]], bool] | None = None,
        allow_divergence: bool = False,
        judge: bool = True,
        refine: Any = None,
        **options: Any,
    ) -> TrainResult:
        """Train a linear model; see :meth:`zipml_pynq.accelerator.driver.SgdDriver.train`.

        Model, history and what was clamped and streamed are those of the driver to the bit. Cycles
        are modelled for the calls that were made, which may be fewer.
        """
        plan = checked(
            packed,
            plan,
            self.capability,
            progress=progress,
            redraw=redraw,
            until=until,
            options=options,
        )
        more = checked_refine(refine, packed, plan)
        start = fixed_model(model, packed.layout.features)
        run = _HostRun(self, packed, plan, start)
        alone = progress is not None or until is not None
        most = 1
        if not alone:
            most = plan.epochs
            if redraw is not None:
                most = max(1, KEPT_BYTES // packed.planes.nbytes)

        def drawn(epoch: int) -> _Streamed:
            assert redraw is not None
            again = redraw(epoch)
            check_redrawn(again, packed, epoch)
            return _Streamed.of(again)

        epoch, own = 0, _Streamed.of(packed)
        while epoch < plan.epochs:
            count = min(most, plan.epochs - epoch)
            streamed = [own]
            if redraw is not None:
                streamed = [own if e == 0 else drawn(e) for e in range(epoch, epoch + count)]
            run.call(streamed, epoch, count)
            epoch += count
            if alone:
                report(progress, epoch, plan.epochs)
            if until is not None and until(run.history[epoch - 1] / MODEL_ONE):
                break
        result = run.result(epoch)
        if more is not None:
            result = refined(partial(self.train, judge=False), packed, plan, result, more)
        return judged(result, packed, plan, start, allow_divergence) if judge else result

    def train_drawn(
        self,
        packed: PackedDataset,
        plan: Plan,
        draws: Sequence[Draw],
        model: NDArray[np.int32] | None = None,
    ) -> TrainResult:
        """What ``train(packed, plan, model=model, redraw=.., judge=False)`` does, in one call.

        Nothing is made or compared for single epochs, so that short ones cost what training costs.

        Parameters
        ----------
        draws : sequence of Draw, one an epoch
            Of the samples of ``packed``, whose labels and weights follow their orders.
        model : ndarray of int32, shape (features,), optional
            Start in fixed point; 0 by default.

        Raises
        ------
        ArgumentError
            Not one draw an epoch, or one of another layout.
        """
        nothing = dict.fromkeys(("progress", "redraw", "until"))
        plan = checked(packed, plan, self.capability, **nothing, options={})
        rows = len(packed.labels)
        if len(draws) != plan.epochs:
            raise ArgumentError(f"draws had {len(draws)} entries; allowed is {plan.epochs}")
        for draw in draws:
            if draw.planes.shape != packed.planes.shape or draw.order.shape != (rows,):
                raise ArgumentError(
                    f"a draw had planes {draw.planes.shape} and order {draw.order.shape}; this "
                    f"data set has {packed.planes.shape} and ({rows},)"
                )
        labels = _with_weights(packed)[np.stack([draw.order for draw in draws])]
        streamed = [
            _Streamed(draw.planes, own, draw.full) for draw, own in zip(draws, labels, strict=True)
        ]
        run = _HostRun(self, packed, plan, fixed_model(model, packed.layout.features))
        run.call(streamed, 0, plan.epochs)
        return run.result(plan.epochs)


@dataclass(frozen=True, eq=False)
class Draw:
    """Samples of a data set in another order, each value with another draw.

    Parameters
    ----------
    planes : ndarray, as of a PackedDataset
    order : ndarray of int, shape (blocks * block_samples,)
        The number that each sample has in the data set; the padding's behind them.
    full : ndarray, as of a PackedDataset, optional
    """

    planes: NDArray[np.uint64]
    order: NDArray[np.intp]
    full: NDArray[np.uint64] | None = None


@dataclass(frozen=True, eq=False)
class _Streamed:
    """What one epoch reads."""

    planes: NDArray[np.uint64]
    labels: NDArray[np.int32]
    full: NDArray[np.uint64] | None

    @classmethod
    def of(cls, packed: PackedDataset) -> _Streamed:
        return cls(packed.planes, _with_weights(packed), packed.full)


def _with_weights(packed: PackedDataset) -> NDArray[np.int32]:
    """Labels as the engine reads them, a row a sample: with its weight behind it, if there are."""
    if packed.weights is None:
        return packed.labels
    return np.stack([packed.labels, packed.weights], axis=1)


def _address(array: NDArray | None) -> int:
    return 0 if array is None or array.size == 0 else int(pointer("uintptr_t", array))


class _HostRun:
    """One training: its memory, and what its calls counted."""

    def __init__(
        self, driver: HostDriver, packed: PackedDataset, plan: Plan, start: NDArray[np.int32]
    ) -> None:
        layout = packed.layout
        self.driver, self.plan, self.layout = driver, plan, layout
        self.entries = layout.chunks * layout.lanes
        behind = plan.vectors_behind
        self.model = np.zeros((1 + len(behind)) * self.entries, dtype=np.int32)
        self.model[: layout.features] = start
        for number, vector in enumerate(behind, 1):
            self.model[number * self.entries :][: layout.features] = vector
        self.padded = np.empty((plan.epochs, self.entries), dtype=np.int32)
        self.schedule = plan.schedule_table()
        # kept here for as long as the engine may read them
        self.levels = None if packed.levels is None else packed.levels.astype(np.int32)
        self.start = np.zeros(1, ARGUMENTS)
        self.registers = plan.registers(layout)
        if packed.weights is not None:
            self.registers["flags"] |= CONFIG.flag_weights
        for name, value in self.registers.items():
            self.start[name] = value
        self.start["model"] = _address(self.model)
        self.start["levels"] = _address(self.levels)
        self.start["derivative"] = _address(plan.derivative.numbers)
        self.totals = Totals()

    @property
    def history(self) -> NDArray[np.int32]:
        """The model at the end of every epoch, shape (epochs, features)."""
        return self.padded[:, : self.layout.features]

    def call(self, streamed: Sequence[_Streamed], epoch: int, epochs: int) -> None:
        """Train epochs from ``epoch`` on, each on its own samples, or all on the same ones."""
        plan = self.plan
        # a start has one order and one draw
        one = len(streamed) == 1 and (plan.orders is None or epochs == 1 or plan.one_order)
        at = np.arange(epoch, epoch + (1 if one else epochs))
        starts = np.repeat(self.start, len(at))
        for name in ("planes", "labels", "full"):
            starts[name] = [_address(getattr(own, name)) for own in streamed]
        for name, rows in (("history", self.padded), ("schedule", self.schedule)):
            starts[name] = _address(rows) + at * rows.strides[0]
        starts["epochs"] = epochs if one else 1
        batches = -(-self.layout.samples // plan.batch)
        starts["first_update"] = (plan.first_epoch + at) * batches % (1 << 32)
        if plan.orders is not None:
            starts["first_block"], starts["block_step"] = plan.orders[at].T
        results = run_engine(
            self.driver.word_bits,
            FORMAT_CODES[self.layout.value_format],
            starts,
            self.driver.threads,
        )
        # plain numbers: of few starts NumPy's sums of every field would take longer than these
        columns = dict(zip(RESULTS.names or (), zip(*results.tolist(), strict=True), strict=True))
        for number, status in enumerate(columns["status"]):
            if status != CONFIG.status_ok:
                registers = {name: int(starts[name][number]) for name in self.registers}
                check_results({"status": status}, registers)
        sums = {name: sum(column) for name, column in columns.items()}
        self.totals.add({**sums, "counted": int(set(columns["counted"]) == {1})})

    def result(self, epochs: int) -> TrainResult:
        """What the epochs so far came to."""
        totals = self.totals.outcome()
        return TrainResult.from_fixed(
            self.model[: self.layout.features].copy(),
            self.history[:epochs].copy(),
            word_bits=self.layout.word_bits,
            fetched_bytes=totals["refetched"] * full_bytes(self.layout),
            **totals,
        )
