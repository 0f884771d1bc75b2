"""Refinement: from a model of data in few bits to the true optimum, by the true gradient.

Training on one draw of every value ends at the solution of that draw. A round of refinement asks
the draw for less: with labels of 0 and the *true* gradient g added to every update, training on it
solves ``H_q c = -g``, H_q the draw's second moment, and the model changes by c. That is iterative
refinement, with few-bit SGD in the place of the solver, and SVRG where only the full gradient is of
full precision (Johnson and Zhang, NIPS 2013; HALP's bit centering, De Sa et al., arXiv 1803.03383).
Noise of quantization is multiplied with c, so it vanishes with g: no floor is left.

Changes are not taken as they come. Of all of them so far the combination is taken that is best for
the true objective, as in conjugate gradients, which costs nothing: the gradient after a change says
what the true second moment makes of it. docs/refinement.md has when this converges, and how fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq._engine import ffi, lib
from zipml_pynq.constants import CONFIG
from zipml_pynq.data.checks import check_int, check_positive
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.rows import pointer
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.make_plan import make_plan, restepped
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.step import step_rule

FloatArray = NDArray[np.float64]

#: Share of the default step that a round takes: what it leaves unsolved is small anyway, and what a
#: large step makes of the second moment is not its inverse (docs/refinement.md).
STEP_SHARE = 0.4
#: Curvatures below this share of the largest are noise of the sums.
_NOISE = 1e-10
#: Share of the curvature that a round may leave out, and of the samples that then are few.
_FLAT, _FEW = 0.05, 0.5
#: Steps of an octave that numbers of samples are rounded to, for plans.
_STEPS = 8
#: Iterations of the search along changes of a loss of the margin, and latest changes of these.
_NEWTON, LATEST = 20, 5
#: That search ends when a step is expected to gain less than this share of what was gained, or was
#: shortened to less than this share.
_ENOUGH, _SHORTEST = 1e-3, 2.0**-10
#: Compiled code's name of each loss.
_CODES = {"squared_hinge": lib.ZIPML_SQUARED_HINGE, "logistic": lib.ZIPML_LOGISTIC}
_NULL = ffi.NULL
#: The first gain over what is taken to come behind it, and the slowest fall of gains.
_FIRST, _SLOWEST = 10.0, 0.99


@dataclass(frozen=True, eq=False)
class Refine:
    """How a trained model is refined.

    Parameters
    ----------
    rows : array_like or sparse matrix, (samples, columns), or ExactRows, optional
        The raw samples that the data set was packed from: the true gradient is theirs. By default
        the accelerator takes it, from the planes of ``bits`` bits.
    bits : int, optional
        Bits of the true gradient without ``rows``; by default the most that are stored.
    rounds : int
        Most rounds.
    epochs : int
        Of few bits in a round.
    tol : float
        Ends when what is left to gain is at most this share of the objective.
    rows_a_feature : int
        Of least squares in up to 1024 features: rows at full precision, as a multiple of the
        features, that a second change of a round is solved from; 0 for none.
    """

    rows: Any = None
    bits: int | None = None
    rounds: int = 50
    epochs: int = 1
    tol: float = 1e-5
    rows_a_feature: int = 4

    def __post_init__(self) -> None:
        check_int("rounds", self.rounds, 1, CONFIG.max_epochs)
        check_int("epochs", self.epochs, 1, CONFIG.max_epochs)
        check_positive("tol", self.tol, zero=True)
        check_int("rows_a_feature", self.rows_a_feature, 0, 1 << 16)

    @classmethod
    def of(cls, given: Any) -> Refine:
        """What ``train(refine=..)`` takes: True, raw samples, or one of these."""
        if isinstance(given, cls):
            return given
        if given is True:
            return cls()
        if isinstance(given, str | int | float):
            raise ArgumentError(f"refine was {given!r}; allowed are True, raw samples and a Refine")
        return cls(rows=given)


class RoundPlans:
    """Plans of rounds: least squares at a constant step, a share of the default one.

    A quantized model is the change alone, whose bits are spread over ``model_range``: bit
    centering. A gradient is not quantized. Bits, batch, delay, sampling, l2, steps of features and
    seed are those of ``plan``.
    """

    def __init__(self, packed: PackedDataset, plan: Plan, model_range: float) -> None:
        self.samples, self.of, self.model_range = packed.layout.samples, plan, model_range
        self.options: dict[str, Any] = {
            "bits": plan.bits,
            "sampling": "symmetric" if plan.sampling == "independent" else plan.sampling,
            "batch": plan.batch,
            "delay": plan.delay,
        }
        self.step = step_rule(packed, shifts=plan.feature_shifts, **self.options)
        self.made: dict[tuple[int, int], Plan] = {}

    def __call__(self, packed: PackedDataset, epochs: int) -> Plan:
        """That of a round of so many epochs on all samples, or on some that stand for all.

        Some are taken for a number near theirs, for which there may be a plan.
        """
        samples = packed.layout.samples
        if samples < self.samples:
            samples = round(2 ** (round(math.log2(samples) * _STEPS) / _STEPS))
        key = (samples, epochs)
        if key not in self.made:
            self.made[key] = self._make(packed, samples, epochs)
        return self.made[key]

    def _make(self, packed: PackedDataset, samples: int, epochs: int) -> Plan:
        plan = self.of
        l2 = plan.l2 * self.samples / samples
        step = STEP_SHARE * self.step(np.ones(epochs), samples, l2)
        step = min(step, plan.batch * 2.0 ** (31 - CONFIG.step_fraction_bits))
        if self.made:  # all that the others differ by
            return restepped(next(iter(self.made.values())), step, epochs, l2)
        return make_plan(
            packed,
            epochs=epochs,
            step=step,
            schedule="constant",
            seed=plan.seed,
            l2=l2,
            small_l2=True,  # the true gradient has it all
            feature_shifts=plan.feature_shifts,
            model_bits=plan.model_bits,
            model_range=self.model_range,
            **self.options,
        )


def class_costs(plan: Plan) -> tuple[float, float]:
    """Factors of the loss of samples with negative labels, and of the others."""
    unit = plan.batch / 2.0**CONFIG.step_fraction_bits / plan.step[0]
    negative = plan.steps if plan.negative_steps is None else plan.negative_steps
    return float(negative[0] * unit), float(plan.steps[0] * unit)


#: Solves, with the draw, for the change that a gradient asks for.
Solve = Callable[[FloatArray], FloatArray]


@dataclass
class Progress:
    """Rounds so far, and whether little is left.

    What the draw estimates to be left, half of the gradient times its change, misses what it has
    solved badly. So the gains have to have become small, too: going on as the latest two fell, they
    would come to no more than the tolerance. Both twice, for either may be small by chance.

    Parameters
    ----------
    tol : float
        Share of the objective.
    enough : float, optional
        In its place, what may be left.
    """

    tol: float
    enough: float | None = None
    left: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    quiet: int = 0
    converged: bool = False

    def ends(self, left: float, objective: float) -> bool:
        """Take in what the draw estimates to be left."""
        self.left.append(left)
        allowed = self.tol * max(objective, 0.0) if self.enough is None else self.enough
        small = 0 <= left <= allowed and self._to_come() <= allowed
        self.quiet = self.quiet + 1 if small else 0
        self.converged = self.quiet == 2
        return self.converged

    def _to_come(self) -> float:
        if len(self.gains) < 2:
            return self.gains[0] / _FIRST if self.gains else 0.0
        before, now = self.gains[-2:]
        ratio = min(now / before, _SLOWEST) if before > 0 else _SLOWEST
        return now * ratio / (1 - ratio)


class Quadratic:
    """A model of least squares while it is refined: the true objective along all changes so far.

    Parameters
    ----------
    model, gradient : ndarray of float64, shape (features,)
        The model and the true gradient there.
    """

    def __init__(self, model: FloatArray, gradient: FloatArray) -> None:
        self.model, self.gradient = model, gradient
        self.changes = np.empty((0, len(model)))
        self.images = np.empty((0, len(model)))

    def add(self, changes: FloatArray, images: FloatArray) -> float:
        """Go to the least objective that these changes and those before reach; returns the gain.

        ``images`` are the true second derivative times each change, of shape (changes, features).
        """
        sizes = np.linalg.norm(changes, axis=1, keepdims=True)
        self.changes = np.vstack([self.changes, changes / sizes])
        self.images = np.vstack([self.images, images / sizes])
        moment = self.changes @ self.images.T
        values, vectors = np.linalg.eigh((moment + moment.T) / 2)
        real = values > _NOISE * values.max()
        slopes = vectors[:, real].T @ (self.changes @ self.gradient)
        steps = -vectors[:, real] @ (slopes / values[real])
        self.model = self.model + steps @ self.changes
        self.gradient = self.gradient + steps @ self.images
        return float((slopes**2 / values[real]).sum() / 2)


@dataclass(frozen=True, eq=False)
class Margins:
    """A loss of the margin over samples, and where it is least along some changes.

    Parameters
    ----------
    loss : str
    signs : ndarray of float64, shape (samples,)
        -1 or 1: a margin is the prediction times that.
    weights : ndarray of float64, shape (samples,)
    """

    loss: str
    signs: FloatArray
    weights: FloatArray

    def value(self, margins: FloatArray) -> float:
        return float(lib.zipml_margin_losses(self._at(margins), _NULL, _NULL)) / len(margins)

    def derivatives(self, margins: FloatArray) -> tuple[FloatArray, FloatArray]:
        """First derivatives by the predictions, and second ones."""
        sizes, curvatures = np.empty((2, len(margins)))
        given = self._at(margins)
        lib.zipml_margin_losses(given, pointer("double *", sizes), pointer("double *", curvatures))
        return -self.signs * sizes, curvatures

    def curved(self, curvatures: FloatArray) -> NDArray[np.intp] | None:
        """The samples that have nearly all of the curvature, where that is few of them."""
        return curved(curvatures, _FLAT if self.loss == "logistic" else 0.0)

    def best(
        self,
        margins: FloatArray,
        along: FloatArray,
        model: FloatArray,
        changes: FloatArray,
        l2: FloatArray | float,
    ) -> tuple[FloatArray, FloatArray, float]:
        """How much of each change has the least objective together: Newton's method in few numbers.

        It ends where little more than what it has gained is left: there will be another round.
        Returned with the margins there, and with what :meth:`value` is of these.

        Parameters
        ----------
        margins : ndarray, shape (samples,)
            Of the model.
        along : ndarray, shape (changes, samples)
            And of the changes, (changes, features).
        l2 : float or ndarray of float64, shape (features,)
        """
        slopes = changes @ (l2 * model)
        moment = np.ascontiguousarray((changes * l2) @ changes.T)
        search = ffi.new(
            "ZipmlSearch *",
            {
                "value": float((l2 / 2 * model) @ model),
                "slopes": pointer("double *", slopes),
                "moment": pointer("double *", moment),
                "iterations": _NEWTON,
                "enough": _ENOUGH,
                "shortest": _SHORTEST,
                "noise": _NOISE,
            },
        )
        steps, moved = np.empty(len(changes)), np.empty(len(margins))
        losses = lib.zipml_margin_search(
            self._at(margins, along), search, pointer("double *", steps), pointer("double *", moved)
        )
        return steps, moved, losses / len(margins)

    def _at(self, margins: FloatArray, along: FloatArray | None = None) -> Any:
        """What compiled code takes; arrays as they lie, contiguous ones."""
        given = {
            "loss": _CODES[self.loss],
            "samples": len(margins),
            "weights": pointer("double *", self.weights),
            "margins": pointer("double *", margins),
        }
        if along is not None:
            assert along.flags.c_contiguous
            assert len(along) <= lib.ZIPML_MOST_CHANGES
            given["along"] = pointer("double *", along)
            given["changes"], given["stride"] = along.shape
        return ffi.new("ZipmlMargins *", given)


def curved(
    curvatures: FloatArray | NDArray[np.float32], flat: float = _FLAT
) -> NDArray[np.intp] | None:
    """The samples that have all of the curvature but the share ``flat``, where they are few."""
    least = 0.0
    if flat and curvatures.dtype == np.float32:
        own = pointer("float *", curvatures)
        least = lib.zipml_flat_below_single(own, len(curvatures), flat)
    elif flat:
        own = pointer("double *", curvatures)
        least = lib.zipml_flat_below(own, len(curvatures), flat)
    found = np.flatnonzero(curvatures > least)
    return found if 0 < found.size <= _FEW * curvatures.size else None


def checked_refine(given: Any, packed: PackedDataset, plan: Plan) -> Refine | None:
    """What ``train(refine=..)`` asks for, None for nothing, once it is possible.

    Raises
    ------
    ArgumentError
        Nothing to refine, no curvature to do it by, or no true gradient: no raw rows and no planes
        of more bits.
    """
    if given is None or given is False:
        return None
    refine = Refine.of(given)
    if packed.layout.value_format == "float32":
        raise ArgumentError(
            "refine was given for float32 samples, which are exact; leave it out, or pack bits"
        )
    if plan.l1:
        raise ArgumentError(
            f"refine was given with l1 {plan.l1:g}, and what is left to gain is told by gradients; "
            "allowed is 0"
        )
    if plan.loss == "hinge":
        raise ArgumentError(
            "refine was given with loss 'hinge', which has no second derivative to refine by; "
            "allowed are 'least_squares', 'squared_hinge' and 'logistic'"
        )
    if refine.rows is not None:
        return refine
    if plan.loss != "least_squares":
        raise ArgumentError(
            f"refine was without raw rows, with loss {plan.loss!r}; allowed are raw rows, for "
            "their curvatures are needed"
        )
    stored = packed.layout.bits
    bits = max(stored) if refine.bits is None else refine.bits
    if bits <= plan.bits or bits not in stored:
        raise ArgumentError(
            f"refine was without raw rows, at {bits} bits of the stored {stored} and "
            f"training at {plan.bits}; allowed are raw rows, and a stored precision above that"
        )
    return replace(refine, bits=bits)


def frozen_plan(packed: PackedDataset, plan: Plan, bits: int, step: float) -> Plan:
    """The plan of a true gradient by the accelerator, from the planes of ``bits`` bits."""
    # the delay does not tell, and more bits may leave room for less of it
    made = make_plan(packed, bits=bits, batch=plan.batch, epochs=1, step=step, schedule="constant")
    return replace(made, frozen=True)
