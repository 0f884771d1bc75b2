"""Refinement on a device: rounds of few bits, and true gradients by the host or the accelerator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.accelerator.each import Each, in_turn
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ZipmlWarning
from zipml_pynq.training.divergence import row_losses
from zipml_pynq.training.exact_rows import ExactRows
from zipml_pynq.training.few_rows import (
    LEAST_CURVED,
    MOST_CURVED,
    MOST_FEATURES,
    FewRows,
    few_rows,
)
from zipml_pynq.training.losses import LOSSES
from zipml_pynq.training.plan import LARGEST_CORRECTION, Plan
from zipml_pynq.training.refinement import (
    LATEST,
    FloatArray,
    Margins,
    Progress,
    Quadratic,
    Refine,
    RoundPlans,
    class_costs,
    frozen_plan,
)
from zipml_pynq.training.result import Refinement, TrainResult

#: Size in normalized units that the largest entry of a change, or of the sums of a true gradient,
#: is brought to, and shares of it that are tried when results clamp.
SIZE, SMALLER = 16.0, 1 / 16
#: Size that predictions of a change would have, all of whose entries are as large.
PREDICTED = 128.0
#: Share of its bound that the largest entry of a change is taken to come to, for a quantized model.
EXPECTED = 1 / 8
#: Most epochs for each one where few samples stand for all.
MOST_TURNS = 8
#: Times that a run is tried with smaller numbers.
_TRIES = 4
#: Rounds of few bits alone, before few rows are looked at; one was slow if these see more than this
#: share of its gain left.
ALONE, _SLOW = 2, 0.3

#: Runs a plan on a data set from a ``model``: a driver's ``train``.
Run = Callable[..., TrainResult]


def _fixed(model: FloatArray) -> NDArray[np.int32]:
    limit = 2.0**31 - 1
    return np.clip(np.rint(model * MODEL_ONE), -limit, limit).astype(np.int32)


def _size(packed: PackedDataset) -> float:
    """What the largest entry of a change is brought to."""
    return min(SIZE, PREDICTED / math.sqrt(packed.layout.features))


class RefinementRounds:
    """Solves for changes with few-bit training: labels of 0, the gradient in every update.

    The change is as many times larger as the gradient, so both are brought to a size at which fixed
    point has all its bits, however small the gradient has become, and no result clamps.
    """

    def __init__(self, run: Run, packed: PackedDataset, plans: RoundPlans, epochs: int = 1) -> None:
        self.run = run
        self.whole = self.packed = without_labels(packed)
        self.plans = plans
        self.epochs, self.turns = epochs, 1
        self.size = _size(packed)
        self.results: list[TrainResult] = []

    @staticmethod
    def plans_of(packed: PackedDataset, plan: Plan) -> RoundPlans:
        """Those of rounds for what was trained by ``plan``."""
        # of what bounds a change, as much as one is expected to come to
        return RoundPlans(packed, plan, EXPECTED * _size(packed))

    def weigh(
        self, curvatures: NDArray[np.floating], few: NDArray[np.intp] | None, unit: float = 1.0
    ) -> None:
        """Go on with the samples' curvatures, over a unit, as weights, and with the few that have
        them all.

        These are streamed as often as it takes to stream as much as all are.
        """
        self.packed, self.turns = self.whole.changed(weights=None), 1
        if few is not None:
            self.packed = self.packed.taken(few)
            self.turns = min(MOST_TURNS, round(curvatures.size / few.size))
            curvatures = curvatures[few]
        one = (1 << CONFIG.weight_fraction_bits) / unit
        weights = np.zeros(self.packed.labels.size, np.int32)
        found = np.rint(np.multiply(curvatures, one, dtype=np.float64))
        weights[: curvatures.size] = np.minimum(found, 2.0**31 - 1)
        self.packed = self.packed.changed(weights=weights)

    def __call__(self, gradient: FloatArray) -> FloatArray:
        """The change that the draw has for a gradient, the mean over all samples."""
        samples = self.packed.layout.samples
        gradient = gradient * (self.whole.layout.samples / samples)
        plan = self.plans(self.packed, self.epochs * self.turns)
        # no entry moves farther than by its steps alone
        factors = 1.0 if plan.feature_steps is None else plan.feature_steps
        batches = -(-samples // plan.batch) * plan.epochs
        reach = float(np.abs(gradient * factors).max()) * plan.step[0] * batches
        one = 2.0**CONFIG.correction_fraction_bits
        most = LARGEST_CORRECTION / one / (float(np.abs(gradient).max()) * plan.step[0])
        scale = min(self.size / reach, most / 2)
        for _ in range(_TRIES):
            result = self.run(self.packed, plan.corrected(gradient * scale))
            self.results.append(result)
            if result.saturations == 0:
                break
            scale *= SMALLER
            self.size = scale * reach  # in later rounds, too
        return result.model / scale


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model that is to be refined.

    Parameters
    ----------
    packed : PackedDataset
        With its labels and weights.
    plan : Plan
        That it was trained by.
    result : TrainResult
    enough : float, optional
        What may be left to gain, in place of a share of the objective.
    l2 : ndarray of float64, shape (features,), optional
        Of each feature, in place of the plan's.
    """

    packed: PackedDataset
    plan: Plan
    result: TrainResult
    enough: float | None = None
    l2: FloatArray | None = None


class RefinementCourse:
    """A model while it is refined.

    Parameters
    ----------
    of : Trained
    rounds : RefinementRounds
        Asks the draw for its changes.
    refine : Refine
    """

    def __init__(self, of: Trained, rounds: RefinementRounds, refine: Refine) -> None:
        self.of = of
        self.rounds = rounds
        self.progress = Progress(refine.tol, of.enough)
        self.model = of.result.model_fixed / MODEL_ONE
        self.models: list[FloatArray] = []
        self.objective = 0.0
        #: Runs beside those of the rounds.
        self.others: list[TrainResult] = []
        #: Bytes of samples that true gradients took.
        self.bytes_read = 0.0
        #: Solves with few rows, once they are there.
        self.few: FewRows | None = None
        #: Whether a round takes both changes; else, whether the latest one took that of few rows.
        self.both = self.turned = False

    @property
    def l2(self) -> FloatArray | float:
        return self.of.plan.l2 if self.of.l2 is None else self.of.l2

    @property
    def penalty(self) -> float:
        return float((self.l2 / 2 * self.model) @ self.model)

    def solved(self, gradient: FloatArray) -> FloatArray:
        """Changes of a round for a gradient, shape (1 or 2, features)."""
        if self.few is None:
            return self.rounds(gradient)[None]
        if self.both:
            return np.stack([self.rounds(gradient), self.few(gradient)])
        change = self.few(gradient)
        left = -float(change @ gradient) / 2
        self.turned = not self.turned and left > _SLOW * self.progress.gains[-1]
        return (change if self.turned else self.rounds(gradient))[None]


_C = TypeVar("_C", bound=RefinementCourse)


class Truth(Protocol):
    """True sums over a data set, for least squares of some models."""

    #: Whether two changes of a model cost about as much as one.
    together: bool

    def gradients(self, of: Sequence[RefinementCourse]) -> tuple[FloatArray, FloatArray]:
        """The loss's gradients at models, shape (models, features), and the losses."""

    def images(self, of: Sequence[RefinementCourse], changes: FloatArray) -> FloatArray:
        """The second derivative of each times its change, (models, features)."""

    def some(self, one: RefinementCourse, index: NDArray[np.intp]) -> NDArray[np.float32]:
        """A model's rows of these numbers."""


class ByHost:
    """From raw rows, in floating point: a pass for all models."""

    together = True

    def __init__(self, rows: ExactRows, each: Each) -> None:
        self.rows, self.each = rows, each

    def gradients(self, of: Sequence[RefinementCourse]) -> tuple[FloatArray, FloatArray]:
        models = np.stack([one.model for one in of])
        labels = np.stack([labels_of(one.of.packed) for one in of])
        found = self.rows.moment(models, labels, self._weights(of), self.each)
        count_pass(of, self.rows)
        return found

    def images(self, of: Sequence[RefinementCourse], changes: FloatArray) -> FloatArray:
        found, _ = self.rows.moment(changes, None, self._weights(of), self.each)
        count_pass(of, self.rows)
        return found

    def some(self, one: RefinementCourse, index: NDArray[np.intp]) -> NDArray[np.float32]:
        found = self.rows.some(index)
        one.bytes_read += found.nbytes
        return found

    def _weights(self, of: Sequence[RefinementCourse]) -> FloatArray | None:
        if all(one.of.packed.weights is None for one in of):
            return None
        return np.stack([weights_of(one.of.packed) for one in of])


def count_pass(of: Sequence[RefinementCourse], rows: ExactRows) -> None:
    """Count a pass over the raw rows, which all of them share."""
    for one in of:
        one.bytes_read += rows.nbytes / len(of)


class ByAccelerator:
    """From planes of many bits, by runs whose dot products read the same model throughout."""

    together = False

    def __init__(self, run: Run, bits: int) -> None:
        self.run, self.bits = run, bits
        self.steps: dict[RefinementCourse, float] = {}

    def _sums(
        self, one: RefinementCourse, packed: PackedDataset, model: NDArray[np.int32]
    ) -> FloatArray:
        plan, samples = one.of.plan, packed.layout.samples
        batch = plan.batch
        for _ in range(_TRIES):
            step = min(self.steps.setdefault(one, SIZE / -(-samples // batch)), batch)
            result = self.run(packed, frozen_plan(packed, plan, self.bits, step), model=model)
            one.others.append(result)
            one.bytes_read += result.bytes_streamed
            if result.saturations == 0:
                break
            self.steps[one] *= SMALLER
        changed = (model.astype(np.int64) - result.model_fixed) / MODEL_ONE
        return np.asarray(changed * batch / (step * samples))

    def gradients(self, of: Sequence[RefinementCourse]) -> tuple[FloatArray, FloatArray]:
        sums, losses = [], []
        for one in of:
            packed = one.of.packed
            # the step does not tell
            plan = frozen_plan(packed, one.of.plan, self.bits, 1.0)
            losses.append(float(row_losses(packed, plan, [one.model])[0].mean()) / 2)
            sums.append(self._sums(one, packed, _fixed(one.model)))
        return np.stack(sums), np.array(losses)

    def images(self, of: Sequence[RefinementCourse], changes: FloatArray) -> FloatArray:
        found = []
        for one, change in zip(of, changes, strict=True):
            scale = 2.0 / np.abs(change).sum()
            sums = self._sums(one, without_labels(one.of.packed), _fixed(change * scale))
            found.append(sums / scale)
        return np.stack(found)

    def some(self, one: RefinementCourse, index: NDArray[np.intp]) -> NDArray[np.float32]:
        draws = one.of.packed.taken(index).values(self.bits)
        one.bytes_read += index.size * len(one.model) * (self.bits + 1) / 8
        return np.asarray(np.mean(draws, axis=0) if isinstance(draws, tuple) else draws)


def without_labels(packed: PackedDataset) -> PackedDataset:
    """The same samples with labels of 0."""
    return replace(packed, labels=np.zeros_like(packed.labels))


def labels_of(packed: PackedDataset) -> FloatArray:
    """Labels in normalized units, shape (samples,)."""
    return np.asarray(packed.labels[: packed.layout.samples] / MODEL_ONE)


def weights_of(packed: PackedDataset) -> FloatArray:
    """Weights of the samples, shape (samples,)."""
    if packed.weights is None:
        return np.ones(packed.layout.samples)
    one = 1 << CONFIG.weight_fraction_bits
    return np.asarray(packed.weights[: packed.layout.samples] / one)


def _asked(
    active: list[_C], gradients: Sequence[FloatArray], each: Each
) -> tuple[list[_C], FloatArray]:
    """Those that are not at their end, and changes for gradients, (models, 1 or 2, features)."""

    def change(turn: int) -> FloatArray | None:
        one, gradient = active[turn], gradients[turn]
        if not gradient.any():
            one.progress.converged = True
            return None
        found = one.solved(gradient)
        ends = one.progress.ends(-float((found @ gradient).min()) / 2, one.objective)
        return None if ends or not found.any() else found

    found = each(change, range(len(active)))
    going = [(one, c) for one, c in zip(active, found, strict=True) if c is not None]
    return [one for one, _ in going], np.array([c for _, c in going])


def _take_few_rows(active: list[RefinementCourse], truth: Truth, rows_a_feature: int) -> None:
    """Have rounds solve with few rows as well; one factor for models of the same weights and l2."""
    alike: dict[tuple[bytes, bytes], list[RefinementCourse]] = {}
    layout = active[0].of.packed.layout
    index = few_rows(layout.samples, rows_a_feature * layout.features)
    for one in active:
        key = weights_of(one.of.packed)[index].tobytes(), np.asarray(one.l2).tobytes()
        alike.setdefault(key, []).append(one)
    for first, *others in alike.values():
        before = first.bytes_read
        own = weights_of(first.of.packed)[index, None]
        few = FewRows(truth.some(first, index) * np.sqrt(own, dtype=np.float32), first.l2)
        each = (first.bytes_read - before) / (1 + len(others))  # all have what was read
        first.bytes_read = before
        for one in (first, *others):
            one.bytes_read += each
            one.few, one.both = few, truth.together


def curved_rows(
    one: RefinementCourse,
    rows: ExactRows,
    curvatures: NDArray[np.floating],
    rows_a_feature: int,
    l2: FloatArray | float,
) -> FewRows | None:
    """What solves with few of the rows that have curvature, which stand for all of them."""
    curved = np.flatnonzero(curvatures)
    if not curved.size:
        return None
    index = curved[few_rows(curved.size, max(rows_a_feature * rows.features, LEAST_CURVED))]
    one.bytes_read += rows.nbytes * index.size / rows.samples
    weights = curvatures[index, None] * (curved.size / rows.samples)
    return FewRows(rows.some(index) * np.sqrt(weights, dtype=np.float32), l2)


def _least_squares(
    active: list[RefinementCourse], truth: Truth, refine: Refine, each: Each
) -> None:
    """Rounds of least squares."""
    quadratics: dict[RefinementCourse, Quadratic] = {}
    for one, gradient, loss in zip(active, *truth.gradients(active), strict=True):
        quadratics[one] = Quadratic(one.model, gradient + one.l2 * one.model)
        one.objective = float(loss) + one.penalty
    few = refine.rows_a_feature > 0 and len(active[0].model) <= MOST_FEATURES
    for turn in range(refine.rounds):
        if few and turn == ALONE:
            _take_few_rows(active, truth, refine.rows_a_feature)
        active, changes = _asked(active, [quadratics[one].gradient for one in active], each)
        if not active:
            break
        of = [one for one in active for _ in range(changes.shape[1])]
        images = truth.images(of, np.concatenate(changes)).reshape(changes.shape)
        for one, change, image in zip(active, changes, images, strict=True):
            gain = quadratics[one].add(change, image + one.l2 * change)
            one.progress.gains.append(gain)
            one.objective -= gain
            one.model = quadratics[one].model
            one.models.append(one.model)


class _MarginCourse(RefinementCourse):
    """The same of a loss of the margin, with margins of the model and of its latest changes."""

    loss: Margins
    margins: FloatArray
    curvatures: FloatArray
    changes: FloatArray
    along: FloatArray

    def begin(self, dots: FloatArray) -> None:
        """Take in the rows times the model."""
        labels = labels_of(self.of.packed)
        costs = np.where(labels < 0, *class_costs(self.of.plan)) * weights_of(self.of.packed)
        self.loss = Margins(self.of.plan.loss, np.where(labels < 0, -1.0, 1.0), costs)
        self.margins = self.loss.signs * dots
        self.changes = np.empty((0, len(self.model)))
        self.along = np.empty((0, len(dots)))
        self.objective = self.loss.value(self.margins) + self.penalty

    def slopes(self) -> FloatArray:
        """Those of the samples; their curvatures become the weights of the next round."""
        slopes, self.curvatures = self.loss.derivatives(self.margins)
        self.rounds.weigh(self.curvatures, self.loss.curved(self.curvatures))
        return slopes

    def take_few_rows(self, rows: ExactRows, rows_a_feature: int) -> None:
        """Have this round solve with few of the rows that have curvature as well."""
        self.few = curved_rows(self, rows, self.curvatures, rows_a_feature, self.l2)
        self.both = True

    def follow(self, changes: FloatArray, dots: FloatArray) -> None:
        """Go to the least objective that these and the latest changes reach."""
        self.changes = np.vstack([self.changes, changes])[-LATEST:]
        self.along = np.vstack([self.along, self.loss.signs * dots])[-LATEST:]
        before = self.objective
        steps, self.margins, loss = self.loss.best(
            self.margins, self.along, self.model, self.changes, self.l2
        )
        self.model = self.model + steps @ self.changes
        self.objective = loss + self.penalty
        self.progress.gains.append(before - self.objective)
        self.models.append(self.model)


def _margins(active: list[_MarginCourse], rows: ExactRows, refine: Refine, each: Each) -> None:
    """Rounds of a loss of the margin: Newton steps whose curvatures are the samples' weights."""
    dots = rows.dots(np.stack([one.model for one in active]), each)
    count_pass(active, rows)
    for one, own in zip(active, dots, strict=True):
        one.begin(own)
    few = refine.rows_a_feature > 0 and rows.features <= MOST_CURVED
    for _ in range(refine.rounds):
        sums = rows.sums(np.stack(each(_MarginCourse.slopes, active)), each)
        count_pass(active, rows)
        gradients = [g + one.l2 * one.model for one, g in zip(active, sums, strict=True)]
        if few:
            each(lambda one: one.take_few_rows(rows, refine.rows_a_feature), active)
        active, changes = _asked(active, gradients, each)
        if not active:
            break
        changes /= np.linalg.norm(changes, axis=2, keepdims=True)
        dots = rows.dots(np.concatenate(changes), each).reshape(*changes.shape[:2], -1)
        count_pass(active, rows)
        each(lambda way: way[0].follow(*way[1:]), list(zip(active, changes, dots, strict=True)))


def refined(
    run: Run,
    packed: PackedDataset,
    plan: Plan,
    result: TrainResult,
    refine: Refine,
    tell: bool = True,
) -> TrainResult:
    """Refine a trained model: :func:`refined_together` of it alone."""
    return refined_together(run, [Trained(packed, plan, result)], refine, tell)[0]


def refined_together(
    run: Run,
    trained: Sequence[Trained],
    refine: Refine,
    tell: bool = True,
    each: Each = in_turn,
) -> list[TrainResult]:
    """Refine models of the same samples; see :class:`zipml_pynq.training.refinement.Refine`.

    Their rounds go side by side, so that a pass over the raw rows is one for all.

    Parameters
    ----------
    run : callable
        Trains on the device by a plan, from a model in fixed point, and judges nothing.
    trained : sequence of Trained
        All of one loss.
    refine : Refine
        From :func:`zipml_pynq.training.refinement.checked_refine`.
    tell : bool
        Warn of an end before the tolerance.
    each : callable
        Calls a function with each of some things.

    Returns
    -------
    list of TrainResult
        With the refined model, a row of history a round, counters of everything, and what
        refinement did; of a pass for several models each counts its share.
    """
    kind = _MarginCourse if LOSSES[trained[0].plan.loss].margin else RefinementCourse
    courses = courses_of(kind, run, trained, refine)
    if refine.rows is None:
        assert refine.bits is not None  # see checked_refine
        _least_squares(courses, ByAccelerator(run, refine.bits), refine, each)
    else:
        rows = refine.rows
        if not isinstance(rows, ExactRows):
            packed = trained[0].packed
            rows = ExactRows(rows, packed.normalization, packed.layout.samples)
        if kind is RefinementCourse:
            _least_squares(courses, ByHost(rows, each), refine, each)
        else:
            _margins(cast("list[_MarginCourse]", courses), rows, refine, each)
    for course in courses:
        progress = course.progress
        if tell and not progress.converged:
            warnings.warn(
                f"refinement ended after {len(progress.left)} rounds with {progress.left[-1]:.2g} "
                f"left to gain, by its own estimate, of an objective of {course.objective:.6g}; "
                "more bits, rounds or epochs a round help",
                ZipmlWarning,
                stacklevel=4,
            )
    return [joined(course) for course in courses]


def courses_of(kind: type[_C], run: Run, trained: Sequence[Trained], refine: Refine) -> list[_C]:
    """Models before they are refined; those of one plan have the same plans of rounds."""
    plans: dict[int, RoundPlans] = {}
    for one in trained:
        if id(one.plan) not in plans:
            plans[id(one.plan)] = RefinementRounds.plans_of(one.packed, one.plan)
    return [
        kind(one, RefinementRounds(run, one.packed, plans[id(one.plan)], refine.epochs), refine)
        for one in trained
    ]


def joined(one: RefinementCourse) -> TrainResult:
    """One result of everything that ran."""
    first = one.of.result
    others = [*one.rounds.results, *one.others]
    rows = np.array([_fixed(model) for model in one.models], np.int32)
    history = np.concatenate([first.history_fixed, rows.reshape(-1, len(first.model))])
    model = history[-1] if one.models else first.model_fixed
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
        refinement=Refinement(
            np.array(one.progress.left),
            one.objective,
            round(one.bytes_read),
            one.progress.converged,
        ),
        **sums,
        **clocked,
    )
