"""How far a trained model is from the optimum: measured, not what training says of itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from zipml_pynq.learn.objective import Rows
from zipml_pynq.training.losses import LOSSES

#: Steps that are taken from the model: enough to tell a few percent, few enough to cost less than
#: a training.
STEPS = 10
#: Corrections that these steps remember.
_MEMORY = 10


def left_to_gain(
    rows: Rows,
    model: NDArray[np.float64],
    labels: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    loss: str,
    l2: float,
) -> float:
    """By how much some steps of L-BFGS at full precision from a model lower its objective.

    The objective is above its optimum by at least as much.

    Parameters
    ----------
    rows : Rows
        Exact ones.
    model : ndarray of float64, shape (features,)
        In normalized units.
    labels, weights : ndarray of float64
        Of all samples, as ``rows`` counts them, in normalized units.
    loss : str
    l2 : float
        Weight of ``l2 / 2 |x|^2``.

    Returns
    -------
    float
        Not negative.
    """
    values = rows.q1
    y = labels[rows.index]
    w = np.ones(len(y)) if weights is None else weights[rows.index]
    found = LOSSES[loss]
    # columns of unit second moment, as steps of features have them
    scale = np.sqrt(np.einsum("ij,ij->j", values, values, dtype=np.float64) / len(y))
    scale[scale == 0] = 1.0

    def objective(scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        x = scaled / scale
        z = (values @ x.astype(np.float32)).astype(np.float64)
        of_each = found.value(np.where(y < 0, -z, z) if found.margin else z - y)
        slope = (w * found.derivative(z, y)).astype(np.float32) @ values
        gradient = (slope / len(y) + l2 * x) / scale
        return float(w @ of_each / len(y) + l2 / 2 * (x @ x)), gradient.astype(np.float64)

    start = model * scale
    options = {"maxiter": STEPS, "maxcor": _MEMORY}
    end = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    return max(0.0, objective(start)[0] - float(end.fun))
