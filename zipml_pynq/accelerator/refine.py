"""Refinement on a device: rounds of few bits, and true gradients by the host or the accelerator."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ZipmlWarning
from zipml_pynq.training.divergence import row_losses
from zipml_pynq.training.exact_rows import ExactRows
from zipml_pynq.training.plan import LARGEST_CORRECTION, Plan
from zipml_pynq.training.refinement import (
    LATEST,
    FloatArray,
    Margins,
    Progress,
    Quadratic,
    Refine,
    class_costs,
    frozen_plan,
    round_plan,
)
from zipml_pynq.training.result import Refinement, TrainResult

#: Size in normalized units that the largest entry of a change, or of the sums of a true gradient,
#: is brought to, and shares of it that are tried when results clamp.
SIZE, SMALLER = 16.0, 1 / 16
#: Share of its bound that the largest entry of a change is taken to come to, for a quantized model.
EXPECTED = 1 / 8
#: Times that a run is tried with smaller numbers.
_TRIES = 4

#: Runs a plan on a data set from a ``model``: a driver's ``train``.
Run = Callable[..., TrainResult]


def _fixed(model: FloatArray) -> NDArray[np.int32]:
    limit = 2.0**31 - 1
    return np.clip(np.rint(model * MODEL_ONE), -limit, limit).astype(np.int32)


class RefinementRounds:
    """Solves for changes with few-bit training: labels of 0, the gradient in every update.

    The change is as many times larger as the gradient, so both are brought to a size at which fixed
    point has all its bits, however small the gradient has become.
    """

    def __init__(self, run: Run, packed: PackedDataset, plan: Plan, refine: Refine) -> None:
        self.run = run
        self.packed = replace(packed, labels=np.zeros_like(packed.labels))
        # of what bounds a change, as much as one is expected to come to
        self.plan = round_plan(packed, plan, refine.epochs, EXPECTED * SIZE)
        self.results: list[TrainResult] = []

    def __call__(self, gradient: FloatArray) -> FloatArray:
        """The change that the draw has for a gradient."""
        plan = self.plan
        # no entry moves farther than by its steps alone
        factors = 1.0 if plan.feature_steps is None else plan.feature_steps
        batches = -(-self.packed.layout.samples // plan.batch) * plan.epochs
        reach = float(np.abs(gradient * factors).max()) * plan.step[0] * batches
        one = 2.0**CONFIG.correction_fraction_bits
        most = LARGEST_CORRECTION / one / (float(np.abs(gradient).max()) * plan.step[0])
        scale = min(SIZE / reach, most / 2)
        for _ in range(_TRIES):
            result = self.run(self.packed, plan.corrected(gradient * scale))
            self.results.append(result)
            if result.saturations == 0:
                break
            scale *= SMALLER
        return result.model / scale


class Truth(Protocol):
    """True sums over a data set, for least squares."""

    @property
    def bytes_read(self) -> int:
        """Bytes of samples so far."""

    def gradient(self, model: FloatArray) -> tuple[FloatArray, float]:
        """The loss's gradient at a model, and the loss."""

    def image(self, change: FloatArray) -> FloatArray:
        """The second derivative times a vector."""


class ByHost:
    """From raw rows, in floating point."""

    def __init__(self, rows: ExactRows, labels: FloatArray, weights: FloatArray | float) -> None:
        self.rows, self.labels, self.weights = rows, labels, weights

    @property
    def bytes_read(self) -> int:
        return self.rows.bytes_read

    def gradient(self, model: FloatArray) -> tuple[FloatArray, float]:
        return self.rows.moment(model, self.labels, self.weights)

    def image(self, change: FloatArray) -> FloatArray:
        return self.rows.moment(change, 0.0, self.weights)[0]


class ByAccelerator:
    """From planes of many bits, by runs whose dot products read the same model throughout."""

    def __init__(self, run: Run, packed: PackedDataset, plan: Plan, bits: int) -> None:
        self.run, self.packed, self.plan, self.bits = run, packed, plan, bits
        self.without_labels = replace(packed, labels=np.zeros_like(packed.labels))
        self.results: list[TrainResult] = []
        self.step = SIZE / -(-packed.layout.samples // plan.batch)

    @property
    def bytes_read(self) -> int:
        return sum(result.bytes_streamed for result in self.results)

    def _sums(self, packed: PackedDataset, model: NDArray[np.int32]) -> FloatArray:
        for _ in range(_TRIES):
            step = min(self.step, self.plan.batch)
            result = self.run(packed, frozen_plan(packed, self.plan, self.bits, step), model=model)
            self.results.append(result)
            if result.saturations == 0:
                break
            self.step *= SMALLER
        changed = (model.astype(np.int64) - result.model_fixed) / MODEL_ONE
        return np.asarray(changed * self.plan.batch / (step * packed.layout.samples))

    def gradient(self, model: FloatArray) -> tuple[FloatArray, float]:
        plan = frozen_plan(self.packed, self.plan, self.bits, self.step)
        loss = float(row_losses(self.packed, plan, [model])[0].mean()) / 2
        return self._sums(self.packed, _fixed(model)), loss

    def image(self, change: FloatArray) -> FloatArray:
        scale = 2.0 / np.abs(change).sum()
        return self._sums(self.without_labels, _fixed(change * scale)) / scale


def _labels_and_weights(packed: PackedDataset) -> tuple[FloatArray, FloatArray | float]:
    samples = packed.layout.samples
    labels = packed.labels[:samples] / MODEL_ONE
    if packed.weights is None:
        return labels, 1.0
    return labels, packed.weights[:samples] / float(1 << CONFIG.weight_fraction_bits)


def _exact(refine: Refine, packed: PackedDataset) -> ExactRows:
    if isinstance(refine.rows, ExactRows):
        return refine.rows
    return ExactRows(refine.rows, packed.normalization, packed.layout.samples)


def _truth(run: Run, packed: PackedDataset, plan: Plan, refine: Refine) -> Truth:
    if refine.rows is not None:
        rows = _exact(refine, packed)
        return ByHost(rows, *_labels_and_weights(packed))
    assert refine.bits is not None  # see checked_refine
    return ByAccelerator(run, packed, plan, refine.bits)


def _least_squares(
    model: FloatArray, truth: Truth, rounds: RefinementRounds, plan: Plan, refine: Refine
) -> tuple[list[FloatArray], Progress, float]:
    """Rounds of least squares: the model after each, and the objective at the end."""
    gradient, loss = truth.gradient(model)
    objective = loss + plan.l2 / 2 * float(model @ model)
    course = Quadratic(model, gradient + plan.l2 * model)
    progress, models = Progress(refine.tol), []
    for _ in range(refine.rounds):
        if not course.gradient.any():
            progress.converged = True
            break
        change = rounds(course.gradient)
        slope = float(course.gradient @ change)
        if progress.ends(-slope / 2, objective) or not change.any():
            break
        image = truth.image(change) + plan.l2 * change
        progress.gains.append(course.add(change, image))
        objective -= progress.gains[-1]
        models.append(course.model)
    return models, progress, objective


def _margins(
    model: FloatArray,
    rows: ExactRows,
    of: Margins,
    rounds: RefinementRounds,
    plan: Plan,
    refine: Refine,
) -> tuple[list[FloatArray], Progress, float]:
    """Rounds of a loss of the margin: Newton steps whose curvatures are the samples' weights."""
    z = rows.dots(model)
    progress, models = Progress(refine.tol), []
    padded = rounds.packed.labels.size
    changes, along = np.empty((0, len(model))), np.empty((0, len(z)))
    for _ in range(refine.rounds):
        objective = of.value(z) + plan.l2 / 2 * float(model @ model)
        gradient = rows.sums(of.slopes(z)) + plan.l2 * model
        curvatures = of.curvatures(z)
        one = 1 << CONFIG.weight_fraction_bits
        weights = np.zeros(padded, np.int32)
        weights[: len(z)] = np.minimum(np.rint(curvatures * one), 2.0**31 - 1)
        rounds.packed = replace(rounds.packed, weights=weights)
        change = rounds(gradient)
        if progress.ends(-float(gradient @ change) / 2, objective) or not change.any():
            break
        size = np.linalg.norm(change)
        changes = np.vstack([changes, change / size])[-LATEST:]
        along = np.vstack([along, rows.dots(change / size)])[-LATEST:]
        steps = of.best(z, along, model, changes, plan.l2)
        model, z = model + steps @ changes, z + steps @ along
        after = of.value(z) + plan.l2 / 2 * float(model @ model)
        progress.gains.append(objective - after)
        models.append(model)
    return models, progress, of.value(z) + plan.l2 / 2 * float(model @ model)


def refined(
    run: Run,
    packed: PackedDataset,
    plan: Plan,
    result: TrainResult,
    refine: Refine,
    tell: bool = True,
) -> TrainResult:
    """Refine a trained model; see :class:`zipml_pynq.training.refinement.Refine`.

    Parameters
    ----------
    run : callable
        Trains on the device by a plan, from a model in fixed point, and judges nothing.
    refine : Refine
        From :func:`zipml_pynq.training.refinement.checked_refine`.
    tell : bool
        Warn of an end before the tolerance.

    Returns
    -------
    TrainResult
        With the refined model, a row of history a round, counters of everything, and what
        refinement did.
    """
    rounds = RefinementRounds(run, packed, plan, refine)
    start = result.model_fixed / MODEL_ONE
    if plan.loss == "least_squares":
        truth = _truth(run, packed, plan, refine)
        models, progress, objective = _least_squares(start, truth, rounds, plan, refine)
        read = truth.bytes_read
        others = truth.results if isinstance(truth, ByAccelerator) else []
    else:
        rows = _exact(refine, packed)
        labels, weights = _labels_and_weights(packed)
        costs = np.where(labels < 0, *class_costs(plan)) * weights
        of = Margins(plan.loss, labels, costs)
        models, progress, objective = _margins(start, rows, of, rounds, plan, refine)
        read, others = rows.bytes_read, []
    if tell and not progress.converged:
        left = progress.left[-1]
        warnings.warn(
            f"refinement ended after {len(progress.left)} rounds with {left:.2g} left to "
            f"gain, by its own estimate, of an objective of {objective:.6g}; more bits, rounds or "
            "epochs a round help",
            ZipmlWarning,
            stacklevel=3,
        )
    record = Refinement(
        np.array(progress.left),
        objective,
        read,
        progress.converged,
    )
    return _joined(result, [*rounds.results, *others], models, record)


def _joined(
    first: TrainResult, others: list[TrainResult], models: list[FloatArray], record: Refinement
) -> TrainResult:
    """One result of everything that ran."""
    rows = np.array([_fixed(model) for model in models], np.int32)
    history = np.concatenate([first.history_fixed, rows.reshape(-1, len(first.model))])
    model = history[-1] if models else first.model_fixed
    names = ("words", "modelled_cycles", "bytes_streamed", "outside", "clipped", "refetched")
    sums = {name: sum(getattr(r, name) for r in (first, *others)) for name in names}
    clocked: dict[str, Any] = {}
    for name in ("measured_cycles", "waited_cycles"):
        counts = [getattr(r, name) for r in (first, *others)]
        clocked[name] = None if None in counts else sum(counts)
    return replace(
        first,
        model=model / MODEL_ONE,
        model_fixed=model.copy(),
        history_fixed=history,
        refinement=record,
        **sums,
        **clocked,
    )
