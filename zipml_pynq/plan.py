"""How a training run is to go, checked against the data set and the limits of the kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.constants import CONFIG, LIMITS, SAMPLING_CODES
from zipml_pynq.errors import ArgumentError
from zipml_pynq.pack import Layout, PackedDataset
from zipml_pynq.quantize import check_int
from zipml_pynq.schedule import batch_cells, choose_delay, fits_ring
from zipml_pynq.step import auto_step

#: Samplings that a data set can be trained with, by the dither planes that it stores; the first is
#: the default.
SAMPLINGS: dict[str, tuple[str, ...]] = {
    "double": ("symmetric", "plain", "single"),
    "single": ("single",),
    "nearest": ("nearest",),
}
#: Factor of the step from one epoch to the next in the schedule "decay".
DECAY_FACTOR = 0.9
#: Step schedules by name: factor of the step in an epoch, counted from 0.
SCHEDULES: dict[str, Callable[[int], float]] = {
    "inverse": lambda epoch: 1.0 / (1.0 + epoch),
    "constant": lambda epoch: 1.0,
    "decay": lambda epoch: DECAY_FACTOR**epoch,
}


@dataclass(frozen=True, eq=False)
class Plan:
    """One training run; :func:`make_plan` makes and checks it.

    Parameters
    ----------
    bits : int
        Bits of one sample of a value, 1 to 8 (32 for float32 data).
    sampling : str
        "symmetric", "plain", "single" or "nearest".
    batch : int
        Samples a batch.
    epochs : int
        Passes over the data.
    delay : int
        Batches by which the model lags: a dot product of batch k sees the updates up to batch
        ``k - 1 - delay``.
    steps : ndarray of uint32, shape (epochs,)
        ``step / batch`` with ``CONFIG.step_fraction_bits`` fraction bits.
    decays : ndarray of uint32, shape (epochs,)
        ``step * l2`` with ``CONFIG.decay_fraction_bits`` fraction bits.
    step : ndarray of float64, shape (epochs,)
        The step of every epoch.
    l2 : float
        Weight of ``l2 / 2 * ||x||^2`` in the objective.
    """

    bits: int
    sampling: str
    batch: int
    epochs: int
    delay: int
    steps: NDArray[np.uint32]
    decays: NDArray[np.uint32]
    step: NDArray[np.float64]
    l2: float

    def check(self, layout: Layout) -> None:
        """Raise ArgumentError if a data set of ``layout`` cannot be trained by this plan."""
        _choice("bits", self.bits, layout.bits, "the data set stores")
        _choice(
            "sampling",
            self.sampling,
            samplings(layout),
            f"a data set of {layout.sampling!r} sampling allows",
        )
        batch, epochs = self.batch, self.epochs
        check_int("batch", batch, 1, CONFIG.max_batch)
        if layout.block_samples % batch != 0:
            raise ArgumentError(
                f"batch was {batch}; allowed are divisors of the data set's block of "
                f"{layout.block_samples} samples"
            )
        check_int("epochs", epochs, 1, CONFIG.max_epochs)
        check_int("delay", self.delay, 0, CONFIG.max_delay)
        limits = LIMITS[layout.value_format]
        words = layout.block_words(self.bits, self.sampling)
        if words > limits.block_words:
            raise ArgumentError(
                f"bits was {self.bits} with {self.sampling} sampling: a block of "
                f"{layout.block_samples} samples is {words} words; allowed are "
                f"{limits.block_words}: pack with a smaller block_samples"
            )
        if not fits_ring(layout, self.bits, self.sampling, batch, self.delay):
            cells = batch_cells(layout, self.bits, self.sampling, batch)
            raise ArgumentError(
                f"delay was {self.delay}: batches of {cells} words exceed the {limits.ring_words} "
                "kept on chip; allowed is a smaller delay or batch"
            )
        for name in ("steps", "decays"):
            if getattr(self, name).shape != (epochs,):
                raise ArgumentError(
                    f"{name} had shape {getattr(self, name).shape}; allowed is ({epochs},)"
                )

    def registers(self, layout: Layout) -> dict[str, int]:
        """The scalar registers of a run over the whole of ``layout``."""
        floats = layout.value_format == "float32"
        registers = {
            "samples": layout.samples,
            "features": layout.features,
            "batch": self.batch,
            "block_samples": layout.block_samples,
            "block_stride": layout.block_stride,
            "dither_offset": 0 if floats else layout.dither_offset(self.bits),
            "bits": self.bits,
            "sampling": SAMPLING_CODES[self.sampling],
            "epochs": self.epochs,
            "delay": self.delay,
            "skip": 0,
            "pending": 0,
            "flags": 0,
        }
        if layout.level_tables:
            registers["level_tables"] = layout.level_tables
        return registers

    def schedule_table(self) -> NDArray[np.uint32]:
        """What the ``schedule`` port reads: uint32, shape (epochs, 2), rows (step, decay)."""
        return np.ascontiguousarray(np.stack([self.steps, self.decays], axis=1))


def _choice(name: str, value: Any, allowed: Sequence[Any], why: str) -> Any:
    if value not in allowed:
        raise ArgumentError(f"{name} was {value!r}; {why} {', '.join(map(repr, allowed))}")
    return value


def step_sizes(
    step: float | Sequence[float],
    schedule: str | Callable[[int], float] = "inverse",
    epochs: int = 10,
) -> NDArray[np.float64]:
    """The step of every epoch, float64, shape (epochs,).

    Parameters
    ----------
    step : float or sequence of float
        The first epoch's step, or the step of every epoch (then ``schedule`` is not used).
    schedule : str or callable
        "inverse" (step / (1 + epoch)), "constant", "decay" (geometric, 0.9 an epoch), or a function
        of the epoch, counted from 0, that gives the factor of the step.
    epochs : int
        Passes over the data.

    Raises
    ------
    ArgumentError
        Steps that are no positive finite numbers, too many or too few, or an unknown schedule.
    """
    if isinstance(step, str):
        raise ArgumentError(f"step was {step!r}; allowed are 'auto', a number or one an epoch")
    if isinstance(step, float | int | np.number):
        if isinstance(schedule, str):
            factor = SCHEDULES[_choice("schedule", schedule, list(SCHEDULES), "allowed are")]
        elif callable(schedule):
            factor = schedule
        else:
            raise ArgumentError(f"schedule was {schedule!r}; allowed are a name or a function")
        sizes = np.array([step * factor(e) for e in range(epochs)], dtype=np.float64)
    else:
        sizes = np.asarray(step, dtype=np.float64)
        if sizes.shape != (epochs,):
            raise ArgumentError(
                f"step had shape {sizes.shape}; allowed are a number or one an epoch ({epochs},)"
            )
    if not np.all(np.isfinite(sizes)) or np.any(sizes <= 0):
        raise ArgumentError(
            f"step was {step!r} with schedule {schedule!r}; allowed are steps that are finite and "
            "positive in every epoch"
        )
    return sizes


def _weight(l2: Any) -> float:
    if isinstance(l2, bool) or not isinstance(l2, int | float | np.number):
        raise ArgumentError(f"l2 was {l2!r}; allowed are finite numbers from 0 up")
    if not math.isfinite(l2) or l2 < 0:
        raise ArgumentError(f"l2 was {l2!r}; allowed are finite numbers from 0 up")
    return float(l2)


def samplings(layout: Layout) -> tuple[str, ...]:
    """Samplings that a data set can be trained with; the first is the default."""
    return ("single",) if layout.value_format == "float32" else SAMPLINGS[layout.sampling]


def _step_registers(step: NDArray[np.float64], batch: int) -> NDArray[np.uint32]:
    exact = np.rint(step / batch * 2.0**CONFIG.step_fraction_bits)
    limit = 2.0**32 / 2.0**CONFIG.step_fraction_bits
    if np.any(exact >= 2.0**32):
        raise ArgumentError(
            f"step was {step.max():g} at batch {batch}; allowed is step / batch < {limit:g}, "
            f"that is step < {limit * batch:g}"
        )
    if np.any(exact < 1):
        raise ArgumentError(
            f"step was {step.min():g} at batch {batch}; allowed is step / batch of at least "
            f"2^-{CONFIG.step_fraction_bits + 1}, below which the accelerator holds it as 0"
        )
    return exact.astype(np.uint32)


def _decay_registers(step: NDArray[np.float64], l2: float) -> NDArray[np.uint32]:
    one = 2.0**CONFIG.decay_fraction_bits
    exact = np.rint(step * l2 * one)
    limit = 2.0**CONFIG.decay_bits
    if np.any(exact >= limit):
        raise ArgumentError(
            f"l2 was {l2:g} at step {step.max():g}; allowed is step * l2 < {limit / one:g}: "
            f"l2 < {limit / one / step.max():g} at this step, or step < {limit / one / l2:g}"
        )
    if l2 > 0 and exact[0] < 1:
        raise ArgumentError(
            f"l2 was {l2:g} at step {step[0]:g}; allowed are 0 and "
            f"l2 >= {0.5 / one / step[0]:g} at this step, below which the accelerator holds "
            "step * l2 as 0"
        )
    return exact.astype(np.uint32)


def make_plan(
    packed: PackedDataset | Layout,
    *,
    bits: int | None = None,
    sampling: str | None = None,
    batch: int | None = None,
    epochs: int = 10,
    step: float | str | Sequence[float] = "auto",
    schedule: str | Callable[[int], float] = "inverse",
    l2: float = 0.0,
    delay: int | str = "auto",
    fresh: bool = False,
) -> Plan:
    """A plan to train on ``packed``, checked completely.

    Parameters
    ----------
    packed : PackedDataset or Layout
        The data set to train on. With a layout alone, ``step="auto"`` is not possible.
    bits : int, optional
        A stored precision; by default the highest.
    sampling : str, optional
        "symmetric" (default where two dither planes are stored), "plain", "single" or "nearest".
    batch : int, optional
        Samples a batch, a divisor of the layout's ``block_samples``; by default what the data set
        was packed for.
    epochs : int
        Passes over the data.
    step : "auto", float or sequence of float
        Step of the first epoch, or of every epoch; "auto" is :func:`zipml_pynq.step.auto_step`.
    schedule : str or callable
        See :func:`step_sizes`.
    l2 : float
        Weight of ``l2 / 2 * ||x||^2`` in the objective.
    delay : "auto" or int
        Batches by which the model lags; "auto" is :func:`zipml_pynq.schedule.choose_delay`.
    fresh : bool
        Whether every epoch will get a draw of its own (``train(redraw=..)``): then ``step="auto"``
        need not fear that the noise of one draw adds up.

    Raises
    ------
    ArgumentError
        Anything that the data set does not store or the accelerator cannot do.
    """
    layout = packed if isinstance(packed, Layout) else packed.layout
    if bits is None:
        bits = max(layout.bits)
    _choice("bits", bits, layout.bits, "the data set stores")
    if sampling is None:
        sampling = samplings(layout)[0]
    if batch is None:
        batch = getattr(packed, "batch", math.gcd(16, layout.block_samples))
    nothing = np.zeros(check_int("epochs", epochs, 1, CONFIG.max_epochs))
    plan = Plan(
        bits=int(bits),
        sampling=sampling,
        batch=check_int("batch", batch, 1, CONFIG.max_batch),
        epochs=int(epochs),
        delay=0 if isinstance(delay, str) else delay,
        steps=nothing.astype(np.uint32),
        decays=nothing.astype(np.uint32),
        step=nothing,
        l2=_weight(l2),
    )
    plan.check(layout)
    if isinstance(delay, str):
        _choice("delay", delay, ("auto",), "allowed are an integer or")
        plan = replace(plan, delay=choose_delay(layout, plan.bits, plan.sampling, plan.batch))
    if isinstance(step, str) and step == "auto":
        if isinstance(packed, Layout):
            raise ArgumentError("step was 'auto' with a layout alone; allowed is a number")
        step = auto_step(
            packed,
            bits=plan.bits,
            sampling=plan.sampling,
            batch=plan.batch,
            delay=plan.delay,
            l2=plan.l2,
            factors=step_sizes(1.0, schedule, epochs),
            fresh=fresh,
        )
    sizes = step_sizes(step, schedule, epochs)  # type: ignore[arg-type]
    return replace(
        plan,
        steps=_step_registers(sizes, plan.batch),
        decays=_decay_registers(sizes, plan.l2),
        step=sizes,
    )
