"""The objective of several classes together: the multinomial logistic loss, as fits know it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.accelerator.each import in_turn
from zipml_pynq.learn.distance import Objective, left_by
from zipml_pynq.learn.objective import Rows, Weight, penalties_of
from zipml_pynq.training.softmax import Softmax

#: Margins, classes times samples, up to which classes are refined together: twenty bytes of each
#: are in memory at a time.
MOST_MARGINS = 1 << 25


@dataclass(frozen=True, eq=False)
class Multinomial:
    """Several classes as one problem, whose objective is that of all their models together.

    Parameters
    ----------
    numbers : ndarray of intp, shape (samples,)
        Of the samples' classes.
    weights : ndarray of float64, shape (samples,)
        Of mean 1.
    classes : int
    l2 : float or ndarray of float64, shape (features,)
    """

    numbers: NDArray[np.intp]
    weights: NDArray[np.float64]
    classes: int
    l2: Weight

    @cached_property
    def size(self) -> float:
        """The objective of the best constant model: the entropy of the classes' shares."""
        shares = np.bincount(self.numbers, self.weights, self.classes) / self.weights.sum()
        shares = shares[shares > 0]
        return float(-(shares * np.log(shares)).sum())

    def objectives(self, rows: Rows, models: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean weighted loss and penalty of exact rows, (n,), of models (n, classes, features)."""
        loss = Softmax(self.numbers[rows.index], self.weights[rows.index], in_turn)
        found = [
            loss.value((own.astype(np.float32) @ rows.q1.T).astype(np.float64)) for own in models
        ]
        return np.array(found) + np.array([penalties_of(own, self.l2, 0.0).sum() for own in models])

    def left(self, rows: Rows, model: NDArray[np.float64]) -> float:
        """What is known to be left to gain of a model (classes, features), as
        :func:`zipml_pynq.learn.distance.left_to_gain` has it."""

        def of(part: slice) -> Objective:
            index = rows.index[part]
            return _Together(self, rows.q1[part], self.numbers[index], self.weights[index])

        return left_by(of, rows.whole, model.ravel())


class _Together(Objective):
    """The objective of rows, of all models' entries one after the other."""

    def __init__(
        self,
        of: Multinomial,
        values: NDArray[np.float32],
        numbers: NDArray[np.intp],
        weights: NDArray[np.float64],
    ) -> None:
        super().__init__(values, numbers.astype(np.float64), weights, "logistic", of.l2)
        self.softmax, self.classes = Softmax(numbers, weights, in_turn), of.classes
        self.scale = np.tile(self.scale, of.classes)

    def _with_slope(self, scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        x = (scaled / self.scale).reshape(self.classes, -1)
        margins = (x.astype(np.float32) @ self.values.T).astype(np.float64)
        value, slopes = self.softmax.value(margins), self.softmax.slopes(margins)[0]
        gradient = slopes @ self.values / len(self.y) + self.l2 * x
        value += float(penalties_of(x, self.l2, 0.0).sum())
        return value, gradient.astype(np.float64).ravel() / self.scale
