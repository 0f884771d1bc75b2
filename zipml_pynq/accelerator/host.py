"""The engine of this process, called directly: the kernel's bits without device and pynq.

A training is what the driver's is, from the same plan and the same registers, but the engine reads
a data set where it lies, and many epochs are one call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.accelerator.capability import Capability
from zipml_pynq.accelerator.contract import (
    Totals,
    check_redrawn,
    check_results,
    checked,
    report,
)
from zipml_pynq.accelerator.interface import INTERFACES, check_build
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.layout import FORMAT_CODES
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.training.divergence import judged
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.result import TrainResult, fixed_model
from zipml_pynq.training.schedule import full_bytes


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
        start = fixed_model(model, packed.layout.features)
        run = _HostRun(self, packed, plan, start)
        one_call = progress is None and redraw is None and until is None and plan.one_order
        step = plan.epochs if one_call else 1
        epoch, drawn = 0, packed
        while epoch < plan.epochs:
            if redraw is not None and epoch > 0:
                drawn = redraw(epoch)
                check_redrawn(drawn, packed, epoch)
            run.call(drawn, epoch, step)
            epoch += step
            report(progress, epoch, plan.epochs)
            if until is not None and until(run.history[epoch - 1] / MODEL_ONE):
                break
        result = run.result(epoch)
        return judged(result, packed, plan, start, allow_divergence) if judge else result


class _HostRun:
    """One training: its memory, and what its calls counted."""

    def __init__(
        self, driver: HostDriver, packed: PackedDataset, plan: Plan, start: NDArray[np.int32]
    ) -> None:
        layout = packed.layout
        self.driver, self.plan, self.layout = driver, plan, layout
        self.build = load_build("engine")
        self.entries = layout.chunks * layout.lanes
        shifts = 0 if plan.feature_shifts is None else self.entries
        self.model = np.zeros(self.entries + shifts, dtype=np.int32)
        self.model[: layout.features] = start
        if plan.feature_shifts is not None:
            self.model[self.entries : self.entries + layout.features] = plan.feature_shifts
        self.padded = np.empty((plan.epochs, self.entries), dtype=np.int32)
        self.schedule = plan.schedule_table()
        levels = None if packed.levels is None else packed.levels.astype(np.int32)
        # kept here for as long as the engine may read them
        self.arrays = {
            "model": self.model,
            "levels": levels,
            "derivative": plan.derivative.numbers if plan.derivative.numbers.size else None,
        }
        self.registers = plan.registers(layout)
        if packed.weights is not None:
            self.registers["flags"] |= CONFIG.flag_weights
        self.totals = Totals()

    @property
    def history(self) -> NDArray[np.int32]:
        """The model at the end of every epoch, shape (epochs, features)."""
        return self.padded[:, : self.layout.features]

    def call(self, packed: PackedDataset, epoch: int, epochs: int) -> None:
        """Train epochs from ``epoch`` on, on this draw."""
        first_block, block_step = self.plan.epoch_order(epoch)
        batches = -(-self.layout.samples // self.plan.batch)
        scalars = {
            **self.registers,
            "epochs": epochs,
            "first_update": (self.plan.first_epoch + epoch) * batches % (1 << 32),
            "first_block": first_block,
            "block_step": block_step,
        }
        labels = packed.labels
        if packed.weights is not None:
            labels = np.stack([labels, packed.weights], axis=1)
        arrays: dict[str, Any] = {
            **self.arrays,
            "labels": labels,
            "planes": packed.planes,
            "full": packed.full,
            "history": self.padded[epoch:],
            "schedule": self.schedule[epoch:],
        }
        names = INTERFACES[self.layout.value_format].pointers
        pointers = {name: 0 if arrays[name] is None else arrays[name].ctypes.data for name in names}
        results = self.build.run(
            self.driver.word_bits,
            FORMAT_CODES[self.layout.value_format],
            pointers,
            scalars,
            self.driver.threads,
        )
        check_results(results, scalars)
        self.totals.add(results)

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
