"""The objective over epochs: the rows that it is taken on, and the rule that ends training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.values import block_values
from zipml_pynq.training.losses import LOSSES

#: Of half a square: one for all features, or one for each.
Weight = float | NDArray[np.float64]
#: Epochs before the rule that ends training looks for the first time.
FIRST_STRETCH = 4
#: Epochs before rounds of refinement, which gain more than an epoch does: with two, rounds are as
#: many (docs/refinement.md).
BEFORE_ROUNDS = 1
#: Products that objectives of several models are taken in at a time.
_PRODUCTS = 1 << 22
#: The least mean loss of the margin that one prediction has, by the shares of both signs. That of
#: the logistic loss is their entropy, at the logarithm of their ratio; the squared hinge's is at
#: their difference.
_OF_SHARES: dict[str, Callable[[float, float], float]] = {
    "hinge": lambda p, q: 2 * min(p, q),
    "squared_hinge": lambda p, q: 2 * p * q,
    "logistic": lambda p, q: float(entr(p) + entr(q)),
}
#: Values that an objective is taken on, about.
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
    whole : bool
        Whether these are all rows that there are.
    """

    index: NDArray[np.intp]
    q1: NDArray[np.float32]
    q2: NDArray[np.float32]
    whole: bool = False

    @property
    def exact(self) -> bool:
        """Whether they are values, and not draws of them."""
        return self.q2 is self.q1

    @cached_property
    def second_moments(self) -> NDArray[np.float64]:
        """Of every feature, shape (features,); of draws, the mean product of both."""
        squares = np.einsum("ij,ij->j", self.q1, self.q2, dtype=np.float64)
        return np.asarray(squares / len(self.index))

    @classmethod
    def of_values(cls, X: Any, rows: NDArray[np.intp], normalization: Normalization) -> Rows:
        """Some of the rows of raw samples."""
        index = spread(rows, OBJECTIVE_VALUES // normalization.features)
        values = normalization.transform(X[index])
        return cls(index, values, values, len(index) == len(rows))

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
        l2: Weight,
        l1: float = 0.0,
    ) -> NDArray[np.float64]:
        """Mean weighted loss, ``l2 / 2 |x|^2`` and ``l1 |x|_1`` of every model, (models,)."""
        step = max(1, _PRODUCTS // len(self.index))
        parts = (models[i : i + step] for i in range(0, len(models), step))
        found = [self._some(part, labels, weights, loss) for part in parts]
        return np.concatenate(found) + penalties_of(models, l2, l1)

    def _some(
        self,
        models: NDArray[np.float64],
        labels: NDArray[np.float64],
        weights: NDArray[np.float64] | None,
        loss: str,
    ) -> NDArray[np.float64]:
        y = labels[self.index, None]
        found = LOSSES[loss]
        x = models.T.astype(np.float32)
        z1 = (self.q1 @ x).astype(np.float64)
        z2 = z1 if self.exact else (self.q2 @ x).astype(np.float64)
        if found.margin:
            sign = np.where(y < 0, -1.0, 1.0)
            losses = found.value(sign * z1)
            if not self.exact:
                losses = (losses + found.value(sign * z2)) / 2
        else:
            losses = (z1 - y) * (z2 - y) / 2
        if weights is not None:
            losses = losses * weights[self.index, None]
        return np.asarray(losses.mean(axis=0))


def penalties_of(models: NDArray[np.float64], l2: Weight, l1: float) -> NDArray[np.float64]:
    """``l2 / 2 |x|^2 + l1 |x|_1`` of every row, shape (models,)."""
    return np.asarray((l2 / 2 * models**2).sum(axis=1) + l1 * np.abs(models).sum(axis=1))


def spread(rows: NDArray[np.intp], wanted: int) -> NDArray[np.intp]:
    """About so many of ``rows``, evenly spread; at least one."""
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), max(1, wanted)))
    return np.asarray(rows[np.unique(chosen.astype(np.intp))])


def constant_objective(
    labels: NDArray[np.float64], weights: NDArray[np.float64] | None, loss: str
) -> float:
    """The least mean weighted loss that one prediction for all samples has."""
    found = LOSSES[loss]
    if not found.margin:
        centre = np.average(labels, weights=weights)
        return float(np.average((labels - centre) ** 2, weights=weights) / 2)
    negative = float(np.average(labels < 0, weights=weights))
    return _OF_SHARES[loss](negative, 1 - negative)


@dataclass
class Course:
    """The models of a training, epoch by epoch, and what they average to.

    The model after t epochs is the mean of the models at the ends of the later half of them, since
    the last change of precision; the paper's Theorem 1 is about such a mean. With a constant step
    each of them wanders about the optimum, and their mean does not. While the step falls to nothing
    at the end, it is the last one.

    Parameters
    ----------
    averages : bool
        False: the model is that of the last epoch.
    cooling : int, optional
        The epoch from which on the step falls.
    """

    averages: bool = True
    cooling: int | None = None
    history: list[NDArray[np.int32]] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.history))

    def add(self, history: NDArray[np.int32]) -> None:
        """Take the models of more epochs in, (epochs, features)."""
        self.history.append(history)

    def precision_changes(self) -> None:
        """Epochs so far were of another precision than those to come."""
        self.changes.append(len(self))

    def models(self, epochs: Sequence[int] | None = None) -> NDArray[np.float64]:
        """What the model is after so many epochs, each; by default after every one.

        Returns
        -------
        ndarray of float64, shape (epochs, features)
            In the accelerator's fixed point.
        """
        every = np.concatenate(self.history)
        ends = np.arange(1, len(every) + 1) if epochs is None else np.asarray(epochs)
        begins = ends - 1
        if self.averages:
            begins = ends // 2
            for change in self.changes:
                begins = np.where(ends > change, np.maximum(begins, change), begins)
            if self.cooling is not None:
                begins = np.where(ends > self.cooling, ends - 1, begins)
        sums = np.concatenate([np.zeros((1, every.shape[1])), every.cumsum(axis=0, dtype=np.int64)])
        return np.asarray((sums[ends] - sums[begins]) / (ends - begins)[:, None])


@dataclass
class Stopper:
    """Ends a training when what is left to gain is small.

    The distance to the optimum is estimated by what the later half of the epochs gained: where the
    objective of the mean falls like 1 / epochs or faster, as it does (docs/step.md), no more than
    that is left. It is small when it is at most ``tol`` times the objective of the best constant
    model: of least squares, that is ``tol`` of R^2.

    Parameters
    ----------
    objective : callable
        Of models (models, features) in normalized units.
    size : float
        The objective of the best constant model, see :func:`constant_objective`.
    tol : float
    patience : int
        Fewest epochs of the later half.
    times : int
        How often it is to be seen: twice where that is the end, for what noise gained or lost.
    """

    objective: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    size: float
    tol: float
    patience: int
    times: int = 2
    quiet: int = 0

    @property
    def stopped(self) -> bool:
        """Whether little is left to gain."""
        return self.quiet >= self.times

    def __call__(self, course: Course) -> bool:
        epochs = len(course)
        since = course.changes[-1] if course.changes else 0
        half = since + (epochs - since) // 2
        if epochs - half < self.patience or half == since:
            return False
        before, now = self.objective(course.models([half, epochs]) / MODEL_ONE)
        self.quiet = self.quiet + 1 if before - now <= self.tol * self.size else 0
        return self.stopped


def stretches(
    first: int, stop: int, changes: Sequence[int], latest: int | None = None
) -> Iterator[tuple[int, int]]:
    """Epochs ``first`` to ``stop - 1`` in stretches that grow.

    They end where precision changes, and at the epoch ``latest``.
    """
    ends = [stop, *changes, *([] if latest is None else [latest])]
    begin = since = first
    while begin < stop:
        # each time half as many again as there were
        end = max(since + FIRST_STRETCH, begin + (begin - since + 1) // 2)
        end = min(end, *(other for other in ends if other > begin))
        yield begin, end
        if end in changes:
            since = end
        begin = end
