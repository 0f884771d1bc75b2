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

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.constants import CONFIG
from zipml_pynq.data.checks import check_int, check_positive
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.losses import LOSSES
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.step import auto_step

FloatArray = NDArray[np.float64]

#: Share of the default step that a round takes: what it leaves unsolved is small anyway, and what a
#: large step makes of the second moment is not its inverse (docs/refinement.md).
STEP_SHARE = 0.4
#: Curvatures below this share of the largest are noise of the sums.
_NOISE = 1e-10
#: Iterations of the search along changes of a loss of the margin, and latest changes of these.
_NEWTON, LATEST = 20, 5
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
    """

    rows: Any = None
    bits: int | None = None
    rounds: int = 50
    epochs: int = 1
    tol: float = 1e-5

    def __post_init__(self) -> None:
        check_int("rounds", self.rounds, 1, CONFIG.max_epochs)
        check_int("epochs", self.epochs, 1, CONFIG.max_epochs)
        check_positive("tol", self.tol, zero=True)

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


def round_plan(packed: PackedDataset, plan: Plan, epochs: int, model_range: float) -> Plan:
    """The plan of a round: least squares at a constant step, a share of the default one.

    A quantized model is the change alone, whose bits are spread over ``model_range``: bit
    centering. A gradient is not quantized. Bits, batch, delay, sampling, l2, steps of features and
    seed are those of ``plan``.
    """
    options: dict[str, Any] = {
        "bits": plan.bits,
        "sampling": "symmetric" if plan.sampling == "independent" else plan.sampling,
        "batch": plan.batch,
        "delay": plan.delay,
        "l2": plan.l2,
    }
    step = STEP_SHARE * auto_step(
        packed, factors=np.ones(epochs), shifts=plan.feature_shifts, **options
    )
    largest = plan.batch * 2.0 ** (31 - CONFIG.step_fraction_bits)
    return make_plan(
        packed,
        epochs=epochs,
        step=min(step, largest),
        schedule="constant",
        seed=plan.seed,
        feature_shifts=plan.feature_shifts,
        model_bits=plan.model_bits,
        model_range=model_range,
        small_l2=True,  # the true gradient has it all
        **options,
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
    """

    tol: float
    left: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    quiet: int = 0
    converged: bool = False

    def ends(self, left: float, objective: float) -> bool:
        """Take in what the draw estimates to be left."""
        self.left.append(left)
        allowed = self.tol * max(objective, 0.0)
        small = 0 <= left <= allowed and self._to_come() <= allowed
        self.quiet = self.quiet + 1 if small else 0
        self.converged = self.quiet == (2 if self.gains else 1)
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

    def add(self, change: FloatArray, image: FloatArray) -> float:
        """Go to the least objective that the changes reach; returns the gain.

        ``image`` is the true second derivative times the change.
        """
        size = np.linalg.norm(change)
        self.changes = np.vstack([self.changes, change / size])
        self.images = np.vstack([self.images, image / size])
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
    """Labels of a loss of the margin, and what the objective is along a line of predictions."""

    loss: str
    labels: FloatArray
    weights: FloatArray

    def value(self, z: FloatArray) -> float:
        sign = np.where(self.labels < 0, -1.0, 1.0)
        return float((self.weights * LOSSES[self.loss].value(sign * z)).mean())

    def slopes(self, z: FloatArray) -> FloatArray:
        return np.asarray(self.weights * LOSSES[self.loss].derivative(z, self.labels))

    def curvatures(self, z: FloatArray) -> FloatArray:
        """Second derivatives."""
        if self.loss == "logistic":
            p = np.exp(-np.logaddexp(0, -z))
            return np.asarray(self.weights * p * (1 - p))
        margin = np.where(self.labels < 0, -z, z)
        return np.asarray(self.weights * (margin < 1))

    def best(
        self, z: FloatArray, along: FloatArray, model: FloatArray, changes: FloatArray, l2: float
    ) -> FloatArray:
        """How much of each change has the least objective together: Newton's method in few numbers.

        Parameters
        ----------
        z : ndarray, shape (samples,)
            Predictions of the model.
        along : ndarray, shape (changes, samples)
            And of the changes, (changes, features).
        """
        steps = np.zeros(len(changes))

        def at(steps: FloatArray) -> tuple[FloatArray, float]:
            there, x = z + steps @ along, model + steps @ changes
            return there, self.value(there) + l2 / 2 * float(x @ x)

        there, value = at(steps)
        for _ in range(_NEWTON):
            slope = along @ self.slopes(there) / len(z) + l2 * changes @ (model + steps @ changes)
            moment = (along * self.curvatures(there)) @ along.T / len(z) + l2 * changes @ changes.T
            way = -np.linalg.lstsq(moment, slope, rcond=_NOISE)[0]
            share = 1.0
            while share > _NOISE:
                new, lower = at(steps + share * way)
                if lower < value:
                    break
                share /= 2
            if not lower < value:
                break
            gained = value - lower
            steps, there, value = steps + share * way, new, lower
            if gained <= _NOISE * value:
                break
        return steps


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
