"""Changes from few rows at full precision, beside those from few bits of all rows.

The second moment of a draw in few bits is off by as much in every direction, so of directions of
small curvature it knows nothing. That of few rows is off by a share of the curvature, whatever that
is. Solving with it is the sketched Newton method (Pilanci and Wainwright, SIAM J. Optim. 27, 2017)
with rows as the sketch; docs/refinement.md has what the two do together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zipml_pynq._engine import lib
from zipml_pynq.data.rows import pointer
from zipml_pynq.training.exact_rows import FloatArray, row_sums

#: Features up to which the moment's factor is cheap.
MOST_FEATURES = 1024
#: The same of losses of the margin, whose every round has a second moment of its own, and the
#: fewest rows that are taken there.
MOST_CURVED, LEAST_CURVED = 128, 1024
#: Weight of the identity that is added to the second moment, in mean squares of a feature, and its
#: growth where that is not positive definite.
_RIDGE, _MORE = 1e-4, 10.0
#: Features of which rows of the second moment are made at a time, above its diagonal alone.
_AT_A_TIME = 128


def few_rows(samples: int, wanted: int) -> NDArray[np.intp]:
    """Numbers of the rows that are taken, in ascending order: the same ones every time."""
    if wanted >= samples:
        return np.arange(samples)
    random = np.random.Generator(np.random.Philox(0))
    return np.sort(random.choice(samples, wanted, replace=False))


class FewRows:
    """Solves with the second moment of few rows.

    Parameters
    ----------
    values : ndarray of float32, shape (rows, features)
        In normalized units, times the roots of the rows' weights.
    l2 : float or ndarray of float64, shape (features,)
        Added to the diagonal.
    """

    def __init__(self, values: NDArray[np.float32], l2: FloatArray | float) -> None:
        rows, features = values.shape
        moment = np.zeros((features, features))
        for first in range(0, features, _AT_A_TIME):
            some = values[:, first : first + _AT_A_TIME].T
            moment[first : first + len(some), first:] = row_sums(values[:, first:], some) / rows
        diagonal = moment.diagonal() + l2
        ridge = _RIDGE * (float(diagonal.mean()) or 1.0)
        while not self._factored(moment, diagonal + ridge):
            ridge *= _MORE

    def _factored(self, moment: FloatArray, diagonal: FloatArray) -> bool:
        self.factor = moment.copy()
        np.fill_diagonal(self.factor, diagonal)
        return lib.zipml_cholesky_factor(pointer("double *", self.factor), len(moment)) == 0

    def __call__(self, gradient: FloatArray) -> FloatArray:
        """The change that the rows have for a gradient."""
        change = -np.ascontiguousarray(gradient, np.float64)
        lib.zipml_cholesky_solve(
            pointer("double *", self.factor), len(change), pointer("double *", change)
        )
        return change
