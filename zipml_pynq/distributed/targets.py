"""Labels and weights of the models: of one target, of several, of classes one against the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Targets:
    """How the labels of rows become those of each model.

    Parameters
    ----------
    classes : sequence or None
        Of labels; with more than two, a model each.
    costs : sequence of (float, float) or None
        Of each model: weights of samples outside and inside of its class.
    ranges : ndarray, shape (targets, 2), or None
        Where labels have a column a target: middle and half of the range of each.
    weight : float
        What weights of samples are multiplied with, so that all of them have a mean of 1.
    """

    classes: Sequence[Any] | None = None
    costs: Sequence[tuple[float, float]] | None = None
    ranges: NDArray[np.float64] | None = None
    weight: float = 1.0

    def labels(self, y: NDArray) -> list[NDArray[np.float64]]:
        """Labels of each model, of raw ones, (samples,) or (samples, targets)."""
        if self.classes is not None:
            positive = [self.classes[1]] if len(self.classes) == 2 else self.classes
            return [np.where(y == one, 1.0, -1.0) for one in positive]
        if self.ranges is not None:
            return list(((y - self.ranges[:, 0]) / self.ranges[:, 1]).T)
        return [np.asarray(y, dtype=np.float64)]

    def weights(
        self, number: int, labels: NDArray[np.float64], w: NDArray[np.float64] | None
    ) -> NDArray[np.float64] | None:
        """Weights of the samples of the model of that number: their own, and their class'."""
        own = None if w is None else w * self.weight
        if self.costs is None:
            return own
        outside, inside = self.costs[number]
        costs = np.where(labels > 0, inside, outside)
        return costs if own is None else costs * own
