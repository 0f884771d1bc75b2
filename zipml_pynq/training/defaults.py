"""What a training does where nobody says otherwise: estimators, command line and driver alike.

The step follows each feature's second moment and falls linearly to nothing, and the penalty is
scikit-learn's (docs/step.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Steps of features, see :func:`zipml_pynq.training.step.auto_shifts`.
FEATURE_SHIFTS = "auto"
#: Where how many epochs it takes is not known, the step is constant until little is left to gain
#: but noise, and then falls linearly in so many epochs for each one before, and at least so many.
COOLING = 0.5
LEAST_COOLING = 3


def schedule_of(approximation: str) -> str:
    """The schedule of the step where the number of epochs is known.

    Polynomials grow beyond their range, so their step falls at once.
    """
    return "inverse" if approximation == "chebyshev" else "linear"


#: Shares of the penalty for losses that are shares of scikit-learn's: its squared hinge is not
#: halved.
_SHARES = {"squared_hinge": 0.5}


def penalty_of(second_moments: NDArray[np.float64], samples: int, loss: str) -> float:
    """Weight of ``|x|^2 / 2`` that is that of scikit-learn's defaults on standardized columns.

    ``Ridge(alpha=1)``, ``LogisticRegression(C=1)`` and ``LinearSVC(C=1)`` of the hinge have 1 over
    the number of samples there, ``LinearSVC``'s squared hinge half of that. Of a normalized column,
    which is smaller by the root of its second moment m, the weight w counts as w / m, and the mean
    of that over the columns is to be the same: so m's harmonic mean over that number. A column of
    zeros, or of draws whose product is none, does not count.

    Parameters
    ----------
    second_moments : ndarray of float64
        Of the columns, without the intercept, in normalized units.
    samples : int
    loss : str
    """
    live = second_moments[second_moments > 0]
    if not live.size:
        return 0.0
    return _SHARES.get(loss, 1.0) / (float(np.mean(1 / live)) * samples)


def penalties_of_columns(
    second_moments: NDArray[np.float64], samples: int, loss: str
) -> NDArray[np.float64]:
    """The same for each column, as it is on standardized ones, in normalized units.

    For the true objective of refinement, which the host has; the accelerator's decay is one for
    all columns.
    """
    return _SHARES.get(loss, 1.0) * np.maximum(second_moments, 0.0) / samples


def options_of_training(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a plan that is made for a training; ``options`` are those that were given."""
    schedule = schedule_of(options.get("approximation", "direct"))
    return {"schedule": schedule, "l2": "auto", "feature_shifts": FEATURE_SHIFTS, **options}


def cooling_of(epochs: int) -> int:
    """Epochs in which the step falls to nothing at the end of a training, after so many."""
    return max(LEAST_COOLING, round(COOLING * epochs))


def latest_cooling(epochs: int) -> int:
    """The epoch at which a training of so many at most is to begin to cool down."""
    return max(1, min(round(epochs / (1 + COOLING)), epochs - LEAST_COOLING))
