"""How far a trained model is from the optimum: measured, not what training says of itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from zipml_pynq.learn.objective import Rows, Weight
from zipml_pynq.training.losses import LOSSES

#: Steps that are taken from the model: enough to tell a few percent, few enough to cost less than
#: a training.
STEPS = 10
#: Corrections that these steps remember.
_MEMORY = 10
#: Features up to which the optimum of least squares is computed.
_SOLVED_FEATURES = 1024


def left_to_gain(
    rows: Rows,
    model: NDArray[np.float64],
    labels: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    loss: str,
    l2: Weight,
) -> float:
    """What is known to be left to gain: by how much another model's objective is lower.

    The other model is the exact one for least squares, else where some steps of L-BFGS at full
    precision lead from the given one. Where the rows are some of many, it is found on half of them
    and measured on the other half, for what fits some rows alone is no gain.

    Parameters
    ----------
    rows : Rows
        Exact ones.
    model : ndarray of float64, shape (features,)
        In normalized units.
    labels, weights : ndarray of float64
        Of all samples, as ``rows`` counts them, in normalized units.
    loss : str
    l2 : float or ndarray of float64, shape (features,)
        Weight of ``l2 / 2 |x|^2``.

    Returns
    -------
    float
        Not negative. The objective is above its optimum by at least as much, up to what chance
        does to a measure on some of the rows.
    """
    w = np.ones(len(labels)) if weights is None else weights
    y, w = labels[rows.index], w[rows.index]

    def of(part: slice) -> Objective:
        return Objective(rows.q1[part], y[part], w[part], loss, l2)

    return left_by(of, rows.whole, model)


def left_by(of: Callable[[slice], Objective], whole: bool, model: NDArray[np.float64]) -> float:
    """The same by the objectives of parts of the rows, which are all that there are or some."""
    if whole:
        every = of(slice(None))
        better = every.better(model)
        return max(0.0, every.at(model) - every.at(better))
    halves = [of(part) for part in (slice(0, None, 2), slice(1, None, 2))]
    better = halves[0].lower(model)
    return max(0.0, halves[1].at(model) - halves[1].at(better))


class Objective:
    """Mean weighted loss of rows and ``l2 / 2 |x|^2``, for columns scaled to a second moment of 1.

    As steps of features have them.
    """

    def __init__(
        self,
        values: NDArray[np.float32],
        y: NDArray[np.float64],
        w: NDArray[np.float64],
        loss: str,
        l2: Weight,
    ) -> None:
        self.values, self.y, self.w, self.l2 = values, y, w, l2
        self.loss = LOSSES[loss]
        self.solved = loss == "least_squares" and values.shape[1] <= _SOLVED_FEATURES
        squares = np.einsum("ij,ij->j", values, values, dtype=np.float64)
        self.scale = np.sqrt(squares / len(y))
        self.scale[self.scale == 0] = 1.0

    def _with_slope(self, scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        x = scaled / self.scale
        z = (self.values @ x.astype(np.float32)).astype(np.float64)
        margin = self.loss.margin
        of_each = self.loss.value(np.where(self.y < 0, -z, z) if margin else z - self.y)
        slope = (self.w * self.loss.derivative(z, self.y)).astype(np.float32) @ self.values
        gradient = (slope / len(self.y) + self.l2 * x) / self.scale
        value = float(self.w @ of_each / len(self.y) + (self.l2 / 2 * x) @ x)
        return value, gradient.astype(np.float64)

    def at(self, model: NDArray[np.float64]) -> float:
        return self._with_slope(model * self.scale)[0]

    def better(self, model: NDArray[np.float64]) -> NDArray[np.float64]:
        """A model that is nearer to the optimum than a given one."""
        return self.solution() if self.solved else self.lower(model)

    def lower(self, model: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where some steps lead from a model."""
        options = {"maxiter": STEPS, "maxcor": _MEMORY}
        start = model * self.scale
        end = minimize(self._with_slope, start, jac=True, method="L-BFGS-B", options=options)
        return np.asarray(end.x / self.scale)

    def solution(self) -> NDArray[np.float64]:
        """The exact model of least squares; 0 where columns tell nothing new."""
        scaled = self.values / self.scale
        weighted = scaled * self.w[:, None]
        moment = weighted.T @ scaled / len(self.y) + np.diag(self.l2 / self.scale**2)
        slope = weighted.T @ self.y / len(self.y)
        return np.asarray(np.linalg.lstsq(moment, slope, rcond=1e-10)[0] / self.scale)
