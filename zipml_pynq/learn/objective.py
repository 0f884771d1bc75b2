"""The objective over epochs: the rows that it is taken on, and the rule that ends training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.values import block_values
from zipml_pynq.training.losses import LOSSES

#: Values that an objective is taken on after every epoch, about.
OBJECTIVE_VALUES = 1 << 21


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that an objective is taken on, in normalized units.

    Where both draws of a packed data set are known, least squares takes the product of their
    errors, which is unbiased, and other losses the mean over both.

    Parameters
    ----------
    index : ndarray of int, shape (rows,)
        Their numbers among the targets.
    q1, q2 : ndarray of float32, shape (rows, features)
    """

    index: NDArray[np.intp]
    q1: NDArray[np.float32]
    q2: NDArray[np.float32]

    @classmethod
    def exact(cls, X: Any, rows: NDArray[np.intp], normalization: Normalization) -> Rows:
        """Some of the rows of raw samples."""
        index = spread(rows, OBJECTIVE_VALUES // normalization.features)
        values = normalization.transform(X[index])
        return cls(index, values, values)

    @classmethod
    def drawn(cls, packed: PackedDataset, bits: int, sampling: str, first: int, stop: int) -> Rows:
        """Rows of some of the blocks ``first`` to ``stop - 1`` of a packed data set."""
        size, samples = packed.layout.block_samples, packed.layout.samples
        wanted = OBJECTIVE_VALUES // (2 * size * packed.layout.features)
        blocks = spread(np.arange(first, stop), wanted)
        q1, q2 = block_values(packed, bits, sampling, blocks)
        index = (blocks[:, None] * size + np.arange(size)).ravel()
        real = index < samples
        return cls(index[real], q1[real], q2[real])

    def objectives(
        self,
        models: NDArray[np.float64],
        labels: NDArray[np.float64],
        weights: NDArray[np.float64] | None,
        loss: str,
        l2: float,
    ) -> NDArray[np.float64]:
        """Mean weighted loss and ``l2 / 2 |x|^2`` of every model, shape (models,)."""
        y = labels[self.index, None]
        found = LOSSES[loss]
        x = models.T.astype(np.float32)
        z1 = (self.q1 @ x).astype(np.float64)
        z2 = z1 if self.q2 is self.q1 else (self.q2 @ x).astype(np.float64)
        if found.margin:
            sign = np.where(y < 0, -1.0, 1.0)
            losses = (found.value(sign * z1) + found.value(sign * z2)) / 2
        else:
            losses = (z1 - y) * (z2 - y) / 2
        if weights is not None:
            losses = losses * weights[self.index, None]
        return np.asarray(losses.mean(axis=0) + l2 / 2 * (models**2).sum(axis=1))


def spread(rows: NDArray[np.intp], wanted: int) -> NDArray[np.intp]:
    """About so many of ``rows``, evenly spread; at least one."""
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), max(1, wanted)))
    return np.asarray(rows[np.unique(chosen.astype(np.intp))])


@dataclass
class Stopper:
    """True once the objective has not fallen by ``tol`` times its size for ``patience`` epochs."""

    objective: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    tol: float
    patience: int
    best: float = math.inf
    idle: int = 0

    def __call__(self, model: NDArray[np.float64]) -> bool:
        value = float(self.objective(model[None, :])[0])
        if value > self.best - self.tol * abs(value):
            self.idle += 1
        else:
            self.idle = 0
        self.best = min(self.best, value)
        return self.stopped

    @property
    def stopped(self) -> bool:
        """Whether training is to end."""
        return self.idle >= self.patience
