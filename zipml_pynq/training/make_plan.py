"""Making a plan: defaults chosen, numbers turned into what the registers hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import CONFIG
from zipml_pynq.data.checks import check_int, check_positive
from zipml_pynq.data.draws import philox
from zipml_pynq.data.layout import Layout
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.values import value_fraction_bits
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.defaults import penalty_of
from zipml_pynq.training.losses import LOSSES, derivative_of
from zipml_pynq.training.plan import Plan, choice, samplings
from zipml_pynq.training.ranges import auto_ranges
from zipml_pynq.training.schedule import choose_delay
from zipml_pynq.training.step import auto_shifts, auto_step, second_moments

#: Second half of the key that orders of blocks are drawn with.
_ORDER_KEY = 0x4F524452
#: Factor of the step from one epoch to the next in the schedule "decay".
DECAY_FACTOR = 0.9
#: Step schedules by name: factor of the step in an epoch, counted from 0, of so many.
SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "inverse": lambda epoch, epochs: 1.0 / (1.0 + epoch),
    "constant": lambda epoch, epochs: 1.0,
    "linear": lambda epoch, epochs: 1.0 - epoch / epochs,
    "decay": lambda epoch, epochs: DECAY_FACTOR**epoch,
}


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
        "inverse" (step / (1 + epoch)), "constant", "linear" (by as much after each epoch, so that
        one more would have none), "decay" (geometric, 0.9 an epoch), or a function of the epoch,
        counted from 0, that gives the factor of the step.
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
            named = SCHEDULES[choice("schedule", schedule, list(SCHEDULES), "allowed are")]
            factors = [named(e, epochs) for e in range(epochs)]
        elif callable(schedule):
            factors = [schedule(e) for e in range(epochs)]
        else:
            raise ArgumentError(f"schedule was {schedule!r}; allowed are a name or a function")
        sizes = step * np.array(factors, dtype=np.float64)
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


def _decay_registers(step: NDArray[np.float64], l2: float, small: bool) -> NDArray[np.uint32]:
    one = 2.0**CONFIG.decay_fraction_bits
    exact = np.rint(step * l2 * one)
    limit = 2.0**CONFIG.decay_bits
    if np.any(exact >= limit):
        raise ArgumentError(
            f"l2 was {l2:g} at step {step.max():g}; allowed is step * l2 < {limit / one:g}: "
            f"l2 < {limit / one / step.max():g} at this step, or step < {limit / one / l2:g}"
        )
    if l2 > 0 and exact[0] < 1 and not small:
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
    l2: float | str = 0.0,
    l1: float = 0.0,
    delay: int | str = "auto",
    fresh: bool = False,
    loss: str = "least_squares",
    approximation: str = "direct",
    degree: int | None = None,
    range_log2: int | None = None,
    gap: float | None = None,
    class_costs: tuple[float, float] = (1.0, 1.0),
    model_bits: int = 0,
    model_range: float | str = "auto",
    gradient_bits: int = 0,
    gradient_range: float | str = "auto",
    shuffle: bool = False,
    seed: int = 0,
    feature_shifts: ArrayLike | str | None = None,
    small_l2: bool = False,
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
        Step of the first epoch, or of every epoch; "auto" is
        :func:`zipml_pynq.training.step.auto_step`.
    schedule : str or callable
        See :func:`step_sizes`.
    l2 : float or "auto"
        Weight of ``l2 / 2 * ||x||^2`` in the objective; "auto" is
        :func:`zipml_pynq.training.defaults.penalty_of` the columns.
    l1 : float
        Weight of ``l1 * |x|_1``, of the intercept's entry too: closed by a proximal step.
    delay : "auto" or int
        Batches by which the model lags; "auto" is
        :func:`zipml_pynq.training.schedule.choose_delay`.
    fresh : bool
        Whether every epoch will get a draw of its own (``train(redraw=..)``): then ``step="auto"``
        need not fear that the noise of one draw adds up.
    loss : str
        "least_squares" (the LS-SVM with labels of two classes), "hinge", "squared_hinge" or
        "logistic".
    approximation, degree, range_log2, gap
        See :func:`zipml_pynq.training.losses.derivative_of`; "chebyshev" needs independent samples.
    class_costs : tuple of float
        Factors of the loss of samples with negative labels, and of the others.
    model_bits, gradient_bits : int
        Bits to which the model is quantized on its way to the compute units, and the gradient on
        its way back, stochastically; 0 for none.
    model_range, gradient_range : "auto" or float
        Largest size of a model entry, and of an entry of a batch's mean gradient, that the bits are
        spread over, in normalized units; what is larger is clipped and counted. "auto" asks a short
        float run, :func:`zipml_pynq.training.ranges.auto_ranges`.
    shuffle : bool
        Take the blocks in another order in every epoch; same samples in a block. Needs the whole
        data set in the device's memory.
    seed : int
        Of the random numbers on chip and of the orders, 0..2^32 - 1.
    feature_shifts : "auto" or array_like of int, shape (features,), optional
        Log2 of the step of each feature over ``step``, 0..13; by default all have the same. "auto"
        is :func:`zipml_pynq.training.step.auto_shifts`.
    small_l2 : bool
        Whether an ``l2`` that is so small that the accelerator holds it as 0 is no error; that of
        "auto" never is.

    Raises
    ------
    ArgumentError
        Anything that the data set does not store or the accelerator cannot do.
    """
    layout = packed if isinstance(packed, Layout) else packed.layout
    if bits is None:
        bits = max(layout.bits)
    choice("bits", bits, layout.bits, "the data set stores")
    derivative = derivative_of(loss, approximation, degree, range_log2, gap)
    if sampling is None:
        sampling = "independent" if derivative.degree else _default_sampling(layout)
    if batch is None:
        batch = getattr(packed, "batch", math.gcd(16, layout.block_samples))
    check_int("seed", seed, 0, (1 << 32) - 1)
    nothing = np.zeros(check_int("epochs", epochs, 1, CONFIG.max_epochs))
    if isinstance(l2, str):
        choice("l2", l2, ("auto",), "allowed are a number or")
        l2, small_l2 = _penalty(packed, bits, sampling, loss), True
    plan = Plan(
        bits=int(bits),
        sampling=sampling,
        batch=check_int("batch", batch, 1, CONFIG.max_batch),
        epochs=int(epochs),
        delay=0 if isinstance(delay, str) else delay,
        steps=nothing.astype(np.uint32),
        decays=nothing.astype(np.uint32),
        step=nothing,
        l2=check_positive("l2", l2, zero=True),
        l1=check_positive("l1", l1, zero=True),
        loss=loss,
        derivative=derivative,
        model_bits=model_bits,
        gradient_bits=gradient_bits,
        seed=int(seed),
        orders=block_orders(layout.blocks, int(epochs), int(seed)) if shuffle else None,
    )
    plan.check(layout)
    plan = _with_delay(plan, layout, delay)
    if feature_shifts is not None:
        plan = _with_shifts(plan, packed, feature_shifts, fresh)
    costs = _costs(class_costs, loss)
    if isinstance(step, str) and step == "auto":
        step = _first_step(packed, plan, step_sizes(1.0, schedule, epochs), fresh, max(costs))
    sizes = step_sizes(step, schedule, epochs)  # type: ignore[arg-type]
    widest, ranges = _ranges(packed, plan, sizes, costs, model_range, gradient_range)
    return replace(
        plan,
        steps=_step_registers(sizes, costs[1], plan.batch),
        negative_steps=_step_registers(sizes, costs[0], plan.batch),
        decays=_decay_registers(sizes, plan.l2, small_l2),
        thresholds=_threshold_registers(sizes, plan.l1) if plan.l1 else None,
        step=sizes,
        model_shift=_model_shift(model_bits, widest),
        gradient_shifts=_gradient_shifts(layout, gradient_bits, ranges, sizes),
    )


def restepped(plan: Plan, step: float, epochs: int, l2: float) -> Plan:
    """Least squares as by a plan without l1 and orders, at another constant step.

    Parameters
    ----------
    plan : Plan
    step : float
    epochs : int
    l2 : float
        Small ones may be held as 0.
    """
    sizes = step_sizes(step, "constant", epochs)
    registers = _step_registers(sizes, 1.0, plan.batch)
    return replace(
        plan,
        epochs=epochs,
        l2=l2,
        step=sizes,
        steps=registers,
        negative_steps=registers,
        decays=_decay_registers(sizes, l2, True),
        gradient_shifts=np.zeros(epochs, dtype=np.uint32),
    )


def _with_delay(plan: Plan, layout: Layout, delay: int | str) -> Plan:
    """A plan with the delay that "auto" is."""
    if not isinstance(delay, str):
        return plan
    choice("delay", delay, ("auto",), "allowed are an integer or")
    chosen = choose_delay(layout, plan.bits, plan.sampling, plan.batch, plan.degree)
    return replace(plan, delay=chosen)


def _threshold_registers(step: NDArray[np.float64], l1: float) -> NDArray[np.uint32]:
    one = 2.0**CONFIG.model_fraction_bits
    exact = np.rint(step * l1 * one)
    limit = 2.0**CONFIG.threshold_bits
    if np.any(exact >= limit):
        raise ArgumentError(
            f"l1 was {l1:g} at step {step.max():g}; allowed is step * l1 < {limit / one:g}: "
            f"l1 < {limit / one / step.max():g} at this step, or step < {limit / one / l1:g}"
        )
    if exact[0] < 1:
        raise ArgumentError(
            f"l1 was {l1:g} at step {step[0]:g}; allowed are 0 and l1 >= {0.5 / one / step[0]:g} "
            "at this step, below which the accelerator holds step * l1 as 0"
        )
    return exact.astype(np.uint32)


def _first_step(
    packed: PackedDataset | Layout,
    plan: Plan,
    factors: NDArray[np.float64],
    fresh: bool,
    cost: float,
) -> float:
    """What "auto" is, with the largest class cost."""
    if isinstance(packed, Layout):
        raise ArgumentError("step was 'auto' with a layout alone; allowed is a number")
    step = auto_step(
        packed,
        bits=plan.bits,
        sampling=plan.sampling,
        batch=plan.batch,
        delay=plan.delay,
        l2=plan.l2,
        factors=factors,
        fresh=fresh,
        curvature=LOSSES[plan.loss].curvature * cost,
        flat=LOSSES[plan.loss].margin,
        shifts=plan.feature_shifts,
    )
    # what the registers hold, costs included
    return min(step, plan.batch * 2.0 ** (31 - CONFIG.step_fraction_bits) / cost)


def _penalty(packed: PackedDataset | Layout, bits: int, sampling: str, loss: str) -> float:
    if isinstance(packed, Layout):
        raise ArgumentError("l2 was 'auto' with a layout alone; allowed is a number")
    values, _ = second_moments(packed, bits=bits, sampling=sampling)
    intercept = packed.normalization is not None and packed.normalization.intercept
    return penalty_of(values[: len(values) - int(intercept)], packed.layout.samples, loss)


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


def _with_shifts(
    plan: Plan,
    packed: PackedDataset | Layout,
    given: ArrayLike | str,
    fresh: bool,
) -> Plan:
    """With steps of features, chosen or given."""
    if isinstance(given, str):
        choice("feature_shifts", given, ("auto",), "allowed are integers, None or")
        if isinstance(packed, Layout):
            raise ArgumentError(
                "feature_shifts was 'auto' with a layout alone; allowed are integers"
            )
        seen = second_moments(packed, bits=plan.bits, sampling=plan.sampling)
        shifts = auto_shifts(*seen, l2=plan.l2, fresh=fresh)
    else:
        shifts = np.asarray(given)
        inside = shifts.dtype.kind in "iu" and np.all((shifts >= 0) & (shifts < 256))
        if not inside:
            raise ArgumentError(
                f"feature_shifts was {given!r}; allowed are integers of "
                f"0..{CONFIG.max_feature_shift}"
            )
    made = replace(plan, feature_shifts=shifts.astype(np.uint8))
    made.check(packed if isinstance(packed, Layout) else packed.layout)
    return made


def block_orders(blocks: int, epochs: int, seed: int) -> NDArray[np.uint32]:
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
        choice(name, given[name][0], ("auto",), "allowed are a positive number or")
    if names:
        if isinstance(packed, Layout):
            raise ArgumentError(f"{names[0]} was 'auto' with a layout alone; allowed is a number")
        found, founds = auto_ranges(packed, plan, sizes, costs)
    if not isinstance(model, str):
        found = check_positive("model_range", model)
    if not isinstance(gradient, str):
        founds = np.full(len(sizes), max(costs) * check_positive("gradient_range", gradient))
    return found, founds


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
    # twice the gradient: docs/arithmetic.md
    fraction = CONFIG.coefficient_fraction_bits + value_fraction_bits(layout.value_format) + 1
    exact = [
        fraction + _log2_unit(largest * size, bits)
        for largest, size in zip(ranges, sizes, strict=True)
    ]
    return np.clip(exact, 0, 56 - bits).astype(np.uint32)
