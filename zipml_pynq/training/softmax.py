"""The logistic loss of several classes together: softmax over samples, and its least along changes.

Every class has a model, and a sample as many margins, its products with them. The second
derivative by these is ``diag(p) - p p^T``: at most twice its diagonal, so that classes may be asked
for changes one by one, and nothing along (1, .., 1), for what all models have alike changes no
probability. docs/refinement.md has what follows from that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zipml_pynq._engine import ffi, lib
from zipml_pynq.data.compiled import check_memory
from zipml_pynq.data.rows import pointer

T = TypeVar("T")
FloatArray = NDArray[np.float64]
SingleArray = NDArray[np.float32]
#: Margins that a call of compiled code works on: some tenths of a millisecond. It takes so many
#: samples at once.
_AT_A_TIME, _TOGETHER = 1 << 18, 64
#: Iterations of the search along some ways, and shares as in :mod:`zipml_pynq.training.refinement`.
_NEWTON, _ENOUGH, _SHORTEST, _NOISE = 20, 1e-3, 2.0**-10, 1e-10


@dataclass(frozen=True, eq=False)
class Softmax:
    """The mean weighted logistic loss of samples of several classes.

    Arrays are contiguous, as compiled code takes them (``sw_emu/softmax.cpp``).

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

    @cached_property
    def _extent(self) -> tuple[int, int]:
        """The smallest and the largest number: looked for once, and not in every pass."""
        return int(self.numbers.min()), int(self.numbers.max())

    def _each_block(
        self, call: Callable[[Any, int, int], T], margins: FloatArray, along: Sequence[SingleArray]
    ) -> list[T]:
        """What a call of compiled code makes of each block: of what it is given, first and count of
        the samples."""
        classes, samples = margins.shape
        assert len(along) <= lib.ZIPML_MOST_CHANGES
        assert all(a.flags.c_contiguous and a.dtype == np.float32 for a in along)
        assert margins.flags.c_contiguous
        numbers = np.ascontiguousarray(self.numbers, np.int64)
        assert self._extent[0] >= 0
        assert self._extent[1] < classes
        ways = ffi.new("float *[]", [pointer("float *", own) for own in along])
        given = ffi.new(
            "ZipmlSoftmax *",
            {
                "classes": classes,
                "ways": len(along),
                "stride": samples,
                "numbers": pointer("int64_t *", numbers),
                "weights": pointer("double *", self.weights),
                "margins": pointer("double *", margins),
                "along": ways,
            },
        )
        step = max(1, _AT_A_TIME // classes // _TOGETHER) * _TOGETHER
        return self.each(
            lambda first: call(given, first, min(step, samples - first)), range(0, samples, step)
        )

    def value(self, margins: FloatArray) -> float:
        """Of margins, shape (classes, samples)."""
        return self._along(np.empty(0), margins, ())[0]

    def slopes(
        self, margins: FloatArray, out: SingleArray | None = None
    ) -> tuple[SingleArray, SingleArray]:
        """Derivatives by the margins, and the second ones of each class alone.

        ``out``, float32 of shape (2, classes, samples), is where they are to go.
        """
        slopes, curvatures = np.empty((2, *margins.shape), np.float32) if out is None else out
        to = pointer("float *", slopes), pointer("float *", curvatures)

        def part(*where: Any) -> None:
            check_memory(lib.zipml_softmax_slopes(*where, *to))

        self._each_block(part, margins, ())
        return slopes, curvatures

    def move(self, steps: FloatArray, margins: FloatArray, along: Sequence[SingleArray]) -> None:
        """Take steps along some ways: margins move, and the last way becomes all that they do."""
        taken = pointer("double *", steps)
        self._each_block(lambda *at: lib.zipml_softmax_move(*at, taken), margins, along)

    def _along(
        self, steps: FloatArray, margins: FloatArray, along: Sequence[SingleArray]
    ) -> tuple[float, FloatArray, FloatArray]:
        """Loss after steps along some ways, and its derivatives by them."""
        ways, taken = len(along), pointer("double *", steps)

        def part(*where: Any) -> FloatArray:
            sums = np.empty(1 + ways + ways**2)
            check_memory(lib.zipml_softmax_sums(*where, taken, pointer("double *", sums)))
            return sums

        parts = self._each_block(part, margins, along)
        means = sum(parts, np.zeros(1 + ways + ways**2)) / len(self.numbers)
        return float(means[0]), means[1 : 1 + ways], means[1 + ways :].reshape(ways, ways)

    def best(
        self,
        margins: FloatArray,
        along: Sequence[SingleArray],
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
        along : sequence of ndarray of float32, (classes, samples)
            Of each of the changes.
        models : ndarray, shape (classes, features)
        changes : sequence of ndarray, (classes, features)
        l2 : float or ndarray of float64, shape (features,)
        """
        # not by BLAS, whose threads wait for each other beside ours
        pulled = np.array([(l2 * models * a).sum() for a in changes])
        penalties = np.array([[(l2 * a * b).sum() for b in changes] for a in changes])
        here = penalty(models, l2)

        def at(steps: FloatArray) -> tuple[float, FloatArray, FloatArray]:
            value, slope, moment = self._along(steps, margins, along)
            more = penalties @ steps
            value += here + float(steps @ (pulled + more / 2))
            return value, slope + pulled + more, moment + penalties

        steps = np.zeros(len(changes))
        value, slope, moment = at(steps)
        first = value
        for _ in range(_NEWTON):
            way = np.empty(len(steps))
            own = [pointer("double *", a) for a in (moment, slope, way)]
            expected = lib.zipml_newton_step(len(way), *own[:2], _NOISE, own[2])
            if not expected > max(_ENOUGH * (first - value), _NOISE * value):
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
    return float((l2 / 2 * models * models).sum())
