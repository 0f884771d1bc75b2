"""The logistic loss of several classes together: softmax over samples, and its least along changes.

Every class has a model, and a sample as many margins, its products with them. The second
derivative by these is ``diag(p) - p p^T``: at most twice its diagonal, so that classes may be asked
for changes one by one, and nothing along (1, .., 1), for what all models have alike changes no
probability. docs/refinement.md has what follows from that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
#: Margins that are worked on at a time, so that they stay in the cache.
_AT_A_TIME = 1 << 16
#: Iterations of the search along two ways, and shares as in :mod:`zipml_pynq.training.refinement`.
_NEWTON, _ENOUGH, _SHORTEST, _NOISE = 20, 1e-3, 2.0**-10, 1e-10


@dataclass(frozen=True, eq=False)
class Softmax:
    """The mean weighted logistic loss of samples of several classes.

    Parameters
    ----------
    numbers : ndarray of intp, shape (samples,)
        Of the samples' classes.
    weights : ndarray of float64, shape (samples,)
    each : callable
        Calls a function with each of some blocks of samples and returns what it returned, in their
        order: in turn or on threads, with the same bits.
    """

    numbers: NDArray[np.intp]
    weights: FloatArray
    each: Callable[..., list[Any]]

    def _blocks(self, classes: int) -> list[slice]:
        step = max(1, _AT_A_TIME // classes)
        return [slice(i, i + step) for i in range(0, len(self.numbers), step)]

    def _part(self, own: slice, margins: FloatArray) -> tuple[float, FloatArray]:
        """Loss of a block's margins, which become probabilities less what they should be."""
        y, w = self.numbers[own], self.weights[own]
        true = np.arange(len(y))
        margins -= margins.max(axis=0)
        at = margins[y, true]
        p = np.exp(margins, out=margins)
        total = p.sum(axis=0)
        p /= total
        value = float(w @ (np.log(total) - at))
        return value, p

    def value(self, margins: FloatArray) -> float:
        """Of margins, shape (classes, samples)."""

        def part(own: slice) -> float:
            return self._part(own, margins[:, own].copy())[0]

        return sum(self.each(part, self._blocks(len(margins)))) / len(self.numbers)

    def slopes(self, margins: FloatArray) -> tuple[FloatArray, NDArray[np.float32]]:
        """Derivatives by the margins, and the second ones of each class alone."""
        slopes, curvatures = np.empty_like(margins), np.empty(margins.shape, np.float32)

        def part(own: slice) -> None:
            w = self.weights[own]
            p = self._part(own, margins[:, own].copy())[1]
            curvatures[:, own] = w * p * (1 - p)
            p[self.numbers[own], np.arange(len(w))] -= 1
            slopes[:, own] = w * p

        self.each(part, self._blocks(len(margins)))
        return slopes, curvatures

    def _along(
        self, steps: FloatArray, margins: FloatArray, along: Sequence[FloatArray]
    ) -> tuple[float, FloatArray, FloatArray]:
        """Loss after steps along some ways, and its derivatives by them."""
        ways = len(along)

        def part(own: slice) -> tuple[float, FloatArray, FloatArray]:
            y, w = self.numbers[own], self.weights[own]
            some = [a[:, own] for a in along]
            z = margins[:, own].copy()
            for step, a in zip(steps, some, strict=True):
                z += step * a
            value, p = self._part(own, z)
            mean = np.array([np.einsum("kn,kn->n", p, a) for a in some])
            true = np.array([a[y, np.arange(len(y))] for a in some])
            moment = -(mean * w) @ mean.T
            p *= w
            for i in range(ways):
                weighted = p * some[i]
                for j in range(i + 1):
                    moment[i, j] += np.vdot(weighted, some[j])
                    moment[j, i] = moment[i, j]
            return value, (mean - true) @ w, moment

        parts = self.each(part, self._blocks(len(margins)))
        value, slope, moment = (sum(p[n] for p in parts) / len(self.numbers) for n in range(3))
        return value, slope, moment

    def best(
        self,
        margins: FloatArray,
        along: Sequence[FloatArray],
        models: FloatArray,
        changes: Sequence[FloatArray],
        l2: FloatArray | float,
    ) -> tuple[FloatArray, float]:
        """How much of each change has the least objective together, and that objective.

        Newton's method in few numbers, which ends where little more than what it has gained is
        left: there will be another round.

        Parameters
        ----------
        margins : ndarray, shape (classes, samples)
            Of the models.
        along : sequence of ndarray, (classes, samples)
            Of each of the changes.
        models : ndarray, shape (classes, features)
        changes : sequence of ndarray, (classes, features)
        l2 : float or ndarray of float64, shape (features,)
        """
        penalties = np.array([[np.vdot(l2 * a, b) for b in changes] for a in changes])

        def at(steps: FloatArray) -> tuple[float, FloatArray, FloatArray]:
            value, slope, moment = self._along(steps, margins, along)
            x = models + np.tensordot(steps, changes, 1)
            own = np.array([np.vdot(l2 * x, a) for a in changes])
            return value + penalty(x, l2), slope + own, moment + penalties

        steps = np.zeros(len(changes))
        value, slope, moment = at(steps)
        first = value
        for _ in range(_NEWTON):
            way = -np.linalg.lstsq(moment, slope, rcond=_NOISE)[0]
            expected = -float(slope @ way) / 2
            if expected <= max(_ENOUGH * (first - value), _NOISE * value):
                break
            share = 1.0
            while share >= _SHORTEST:
                found = at(steps + share * way)
                if found[0] < value:
                    break
                share /= 2
            else:
                break
            steps = steps + share * way
            value, slope, moment = found
        return steps, value


def penalty(models: FloatArray, l2: FloatArray | float) -> float:
    """``l2 / 2 |x|^2`` over all models."""
    return float(np.vdot(l2 / 2 * models, models))
