"""How a training run is to go, checked against the data set and the limits of the kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.constants import CONFIG, LIMITS, SAMPLING_CODES
from zipml_pynq.errors import ArgumentError
from zipml_pynq.losses import LOSSES, Derivative, derivative_of
from zipml_pynq.pack import Layout, PackedDataset
from zipml_pynq.quantize import check_int, philox
from zipml_pynq.ranges import auto_ranges
from zipml_pynq.schedule import batch_cells, choose_delay, fits_ring, passes
from zipml_pynq.step import auto_step

#: Samplings that a data set can be trained with, by the dither planes that it stores; the first is
#: the default.
SAMPLINGS: dict[str, tuple[str, ...]] = {
    "independent": ("independent", "symmetric", "plain", "single"),
    "double": ("symmetric", "plain", "single"),
    "single": ("single",),
    "nearest": ("nearest",),
}
#: Second half of the key that orders of blocks are drawn with.
_ORDER_KEY = 0x4F524452
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
    loss : str
        A key of :data:`zipml_pynq.losses.LOSSES`.
    derivative : Derivative
        How the accelerator gets the loss's derivative.
    negative_steps : ndarray of uint32, shape (epochs,), optional
        ``steps`` for samples with negative labels; by default the same.
    model_bits, gradient_bits : int
        Bits of the quantized model and gradient; 0 for none.
    model_shift : int
        Log2 of the unit of a quantized model entry, in ``2^-CONFIG.model_fraction_bits``.
    gradient_shifts : ndarray of uint32, shape (epochs,), optional
        Log2 of the unit of a quantized gradient in every epoch, in ``2^-(29 + f)``, f the fraction
        bits of a value; 0 by default.
    seed : int
        Of the random numbers on chip, 0..2^32 - 1.
    orders : ndarray of uint32, shape (epochs, 2), optional
        First block and block step of every epoch; by default blocks come in their order.
    first_epoch : int
        Epochs that were trained before, see :meth:`part`: the random numbers on chip go on from
        there.
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
    loss: str = "least_squares"
    derivative: Derivative = field(default_factory=lambda: derivative_of("least_squares"))
    negative_steps: NDArray[np.uint32] | None = None
    model_bits: int = 0
    model_shift: int = 0
    gradient_bits: int = 0
    gradient_shifts: NDArray[np.uint32] | None = None
    seed: int = 0
    orders: NDArray[np.uint32] | None = None
    first_epoch: int = 0

    def part(self, first: int, stop: int) -> Plan:
        """The epochs ``first`` to ``stop - 1`` of this plan, as a plan.

        Training by the parts of a plan one after the other, each from the model that the one
        before ended with, gives the bits of the whole.
        """
        check_int("first", first, 0, self.epochs - 1)
        check_int("stop", stop, first + 1, self.epochs)
        names = ("steps", "decays", "step", "negative_steps", "gradient_shifts", "orders")
        columns = {name: getattr(self, name) for name in names}
        return replace(
            self,
            epochs=stop - first,
            first_epoch=self.first_epoch + first,
            **{name: a[first:stop] for name, a in columns.items() if a is not None},
        )

    @property
    def degree(self) -> int:
        """Degree of the derivative's polynomial; 0 where there is none."""
        return self.derivative.degree

    def epoch_order(self, epoch: int) -> tuple[int, int]:
        """First block and block step of an epoch."""
        if self.orders is None:
            return 0, 1
        return int(self.orders[epoch, 0]), int(self.orders[epoch, 1])

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
        self._check_loss(layout)
        over = passes(layout, self.bits, self.sampling, self.degree)
        words = over * layout.block_samples * layout.chunks
        if words > limits.block_words:
            raise ArgumentError(
                f"bits was {self.bits} with {self.sampling} sampling: a block of "
                f"{layout.block_samples} samples is {words} words; allowed are "
                f"{limits.block_words}: pack with a smaller block_samples"
            )
        if not fits_ring(layout, self.bits, self.sampling, batch, self.delay, self.degree):
            cells = batch_cells(layout, self.bits, self.sampling, batch, self.degree)
            raise ArgumentError(
                f"delay was {self.delay}: batches of {cells} words exceed the {limits.ring_words} "
                "kept on chip; allowed is a smaller delay or batch"
            )
        for name in ("steps", "decays", "negative_steps", "gradient_shifts"):
            column = getattr(self, name)
            if column is not None and column.shape != (epochs,):
                raise ArgumentError(f"{name} had shape {column.shape}; allowed is ({epochs},)")
        self._check_orders(layout)

    def _check_loss(self, layout: Layout) -> None:
        polynomial = self.degree > 0
        if polynomial != (self.sampling == "independent"):
            raise ArgumentError(
                f"sampling was {self.sampling!r}; a polynomial derivative (approximation "
                "'chebyshev') goes with 'independent', and nothing else does"
            )
        if polynomial and layout.dithers < self.degree + 1:
            raise ArgumentError(
                f"degree was {self.degree}; the data set stores {layout.dithers} samples of a "
                f"value, and {self.degree + 1} are needed: pack with sampling='independent', "
                f"dithers={self.degree + 1}"
            )
        if polynomial and self.batch * layout.chunks < CONFIG.polynomial_distance:
            raise ArgumentError(
                f"batch was {self.batch}; with {layout.chunks} word(s) a sample a polynomial "
                f"derivative needs batches of at least "
                f"{-(-CONFIG.polynomial_distance // layout.chunks)}"
            )
        if layout.value_format == "refetch" and self.loss != "hinge":
            raise ArgumentError(
                f"loss was {self.loss!r}; a data set packed for refetching is for the hinge"
            )
        for name in ("model_bits", "gradient_bits"):
            bits = getattr(self, name)
            if bits != 0:
                check_int(name, bits, CONFIG.min_quantized_bits, CONFIG.max_quantized_bits)
        check_int("model_shift", self.model_shift, 0, 31)
        check_int("seed", self.seed, 0, (1 << 32) - 1)

    def _check_orders(self, layout: Layout) -> None:
        if self.orders is None:
            return
        if self.orders.shape != (self.epochs, 2):
            raise ArgumentError(
                f"orders had shape {self.orders.shape}; allowed is ({self.epochs}, 2)"
            )
        for first, step in self.orders.tolist():
            if not (first < layout.blocks and 1 <= step <= layout.blocks) or (
                math.gcd(step, layout.blocks) != 1
            ):
                raise ArgumentError(
                    f"orders held first block {first} and step {step}; allowed are a block of the "
                    f"{layout.blocks}, and a step without a common factor with that number"
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
            "loss": self.derivative.code,
            "degree": self.degree,
            "range_log2": self.derivative.range_log2,
            "model_bits": self.model_bits,
            "model_shift": self.model_shift,
            "gradient_bits": self.gradient_bits,
            "seed": self.seed,
            "first_update": 0,
            "first_block": self.epoch_order(0)[0],
            "block_step": self.epoch_order(0)[1],
        }
        if layout.level_tables:
            registers["level_tables"] = layout.level_tables
        return registers

    @property
    def one_order(self) -> bool:
        """Whether all epochs take their blocks in the same order, which one call can run."""
        return self.orders is None or bool((self.orders == self.orders[0]).all())

    def schedule_table(self) -> NDArray[np.uint32]:
        """What the ``schedule`` port reads: uint32, shape (epochs, 4).

        Rows of step, step of negative labels, decay, and the gradient's shift.
        """
        negative = self.steps if self.negative_steps is None else self.negative_steps
        shifts = np.zeros_like(self.steps) if self.gradient_shifts is None else self.gradient_shifts
        return np.ascontiguousarray(
            np.stack([self.steps, negative, self.decays, shifts], axis=1), dtype=np.uint32
        )


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


def _step_registers(step: NDArray[np.float64], cost: float, batch: int) -> NDArray[np.uint32]:
    exact = np.rint(step * cost / batch * 2.0**CONFIG.step_fraction_bits)
    what, at = ("step", "") if cost == 1 else ("step * class cost", f" with class cost {cost:g}")
    limit = 2.0**32 / 2.0**CONFIG.step_fraction_bits
    if np.any(exact >= 2.0**32):
        raise ArgumentError(
            f"step was {step.max():g}{at} at batch {batch}; allowed is {what} / batch < {limit:g}, "
            f"that is step < {limit * batch / cost:g}"
        )
    if np.any(exact < 1):
        raise ArgumentError(
            f"step was {step.min():g}{at} at batch {batch}; allowed is {what} / batch of at least "
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
    loss: str = "least_squares",
    approximation: str = "direct",
    degree: int | None = None,
    range_log2: int | None = None,
    class_costs: tuple[float, float] = (1.0, 1.0),
    model_bits: int = 0,
    model_range: float | str = "auto",
    gradient_bits: int = 0,
    gradient_range: float | str = "auto",
    shuffle: bool = False,
    seed: int = 0,
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
    loss : str
        "least_squares" (the LS-SVM with labels of two classes), "hinge", "squared_hinge" or
        "logistic".
    approximation, degree, range_log2
        See :func:`zipml_pynq.losses.derivative_of`; "chebyshev" needs independent samples.
    class_costs : tuple of float
        Factors of the loss of samples with negative labels, and of the others.
    model_bits, gradient_bits : int
        Bits to which the model is quantized on its way to the compute units, and the gradient on
        its way back, stochastically; 0 for none.
    model_range, gradient_range : "auto" or float
        Largest size of a model entry, and of an entry of a batch's mean gradient, that the bits are
        spread over, in normalized units; what is larger is clipped and counted. "auto" asks a short
        float run, :func:`zipml_pynq.ranges.auto_ranges`.
    shuffle : bool
        Take the blocks in another order in every epoch; same samples in a block. Needs the whole
        data set in the device's memory.
    seed : int
        Of the random numbers on chip and of the orders, 0..2^32 - 1.

    Raises
    ------
    ArgumentError
        Anything that the data set does not store or the accelerator cannot do.
    """
    layout = packed if isinstance(packed, Layout) else packed.layout
    if bits is None:
        bits = max(layout.bits)
    _choice("bits", bits, layout.bits, "the data set stores")
    derivative = derivative_of(loss, approximation, degree, range_log2)
    if sampling is None:
        sampling = "independent" if derivative.degree else _default_sampling(layout)
    if batch is None:
        batch = getattr(packed, "batch", math.gcd(16, layout.block_samples))
    check_int("seed", seed, 0, (1 << 32) - 1)
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
        loss=loss,
        derivative=derivative,
        model_bits=model_bits,
        gradient_bits=gradient_bits,
        seed=int(seed),
        orders=_orders(layout.blocks, int(epochs), int(seed)) if shuffle else None,
    )
    plan.check(layout)
    if isinstance(delay, str):
        _choice("delay", delay, ("auto",), "allowed are an integer or")
        chosen = choose_delay(layout, plan.bits, plan.sampling, plan.batch, plan.degree)
        plan = replace(plan, delay=chosen)
    costs = _costs(class_costs, loss)
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
            curvature=LOSSES[loss].curvature * max(costs),
            flat=LOSSES[loss].margin,
        )
        # what the registers hold, costs included
        step = min(step, plan.batch * 2.0 ** (31 - CONFIG.step_fraction_bits) / max(costs))
    sizes = step_sizes(step, schedule, epochs)  # type: ignore[arg-type]
    widest, ranges = _ranges(packed, plan, sizes, costs, model_range, gradient_range)
    return replace(
        plan,
        steps=_step_registers(sizes, costs[1], plan.batch),
        negative_steps=_step_registers(sizes, costs[0], plan.batch),
        decays=_decay_registers(sizes, plan.l2),
        step=sizes,
        model_shift=_model_shift(model_bits, widest),
        gradient_shifts=_gradient_shifts(layout, gradient_bits, ranges, sizes),
    )


def _default_sampling(layout: Layout) -> str:
    return next(name for name in samplings(layout) if name != "independent")


def _costs(class_costs: Any, loss: str) -> tuple[float, float]:
    try:
        negative, positive = (float(cost) for cost in class_costs)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"class_costs was {class_costs!r}; allowed are two positive numbers, of samples with "
            "negative labels and of the others"
        ) from None
    if not (math.isfinite(negative) and math.isfinite(positive) and min(negative, positive) > 0):
        raise ArgumentError(f"class_costs was {class_costs!r}; both must be positive and finite")
    if not LOSSES[loss].margin and (negative, positive) != (1.0, 1.0):
        raise ArgumentError(
            f"class_costs was {class_costs!r}; loss {loss!r} has no classes: leave it out, or use "
            "sample weights"
        )
    return negative, positive


def _orders(blocks: int, epochs: int, seed: int) -> NDArray[np.uint32]:
    """First block and step of every epoch, drawn by counters: (seed, epoch)."""
    steps = [step for step in range(1, blocks + 1) if math.gcd(step, blocks) == 1]
    orders = np.empty((epochs, 2), dtype=np.uint32)
    for epoch in range(epochs):
        random = philox((0, 0, epoch, 0), (seed, _ORDER_KEY))
        orders[epoch] = int(random[0]) % blocks, steps[int(random[1]) % len(steps)]
    return orders


def _ranges(
    packed: PackedDataset | Layout,
    plan: Plan,
    sizes: NDArray[np.float64],
    costs: tuple[float, float],
    model: float | str,
    gradient: float | str,
) -> tuple[float, NDArray[np.float64]]:
    """Range of the model, and of the gradient in every epoch, costs included."""
    found, founds = 1.0, np.ones(len(sizes))
    given = {
        "model_range": (model, plan.model_bits),
        "gradient_range": (gradient, plan.gradient_bits),
    }
    names = [name for name, (value, bits) in given.items() if bits and isinstance(value, str)]
    for name in names:
        _choice(name, given[name][0], ("auto",), "allowed are a positive number or")
    if names:
        if isinstance(packed, Layout):
            raise ArgumentError(f"{names[0]} was 'auto' with a layout alone; allowed is a number")
        found, founds = auto_ranges(packed, plan, sizes, costs)
    if not isinstance(model, str):
        found = _positive("model_range", model)
    if not isinstance(gradient, str):
        founds = np.full(len(sizes), max(costs) * _positive("gradient_range", gradient))
    return found, founds


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ArgumentError(f"{name} was {value!r}; it must be a positive number")
    if not (math.isfinite(value) and value > 0):
        raise ArgumentError(f"{name} was {value!r}; it must be positive and finite")
    return float(value)


def _log2_unit(largest: float, bits: int) -> int:
    """Log2 of the unit with which ``bits`` bits reach ``largest``."""
    return math.ceil(math.log2(largest / ((1 << (bits - 1)) - 1)))


def _model_shift(bits: int, largest: float) -> int:
    if bits == 0:
        return 0
    shift = CONFIG.model_fraction_bits + _log2_unit(largest, bits)
    return max(0, min(shift, 32 - bits))


def _gradient_shifts(
    layout: Layout, bits: int, ranges: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.uint32]:
    """The gradient that is rounded has the step in it, so its unit follows the step."""
    if bits == 0:
        return np.zeros(len(sizes), dtype=np.uint32)
    value_bits = CONFIG.level_fraction_bits if layout.value_format == "levels" else CONFIG.grid_bits
    # twice the gradient: docs/arithmetic.md
    fraction = CONFIG.coefficient_fraction_bits + value_bits + 1
    exact = [
        fraction + _log2_unit(largest * size, bits)
        for largest, size in zip(ranges, sizes, strict=True)
    ]
    return np.clip(exact, 0, 56 - bits).astype(np.uint32)
