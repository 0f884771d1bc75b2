"""Raw samples as what training on draws of them is to end at: sums over all of them, exact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.normalization import Normalization
from zipml_pynq.errors import ArgumentError

#: Values that are normalized at a time, and values up to which they stay so between passes.
_AT_A_TIME, _KEPT = 1 << 20, 1 << 26
#: Values that all models are multiplied with before the next ones: a megabyte, which stays in a
#: core's cache. One model after the other, for then each has the same sums alone and among others.
_IN_CACHE = 1 << 18

FloatArray = NDArray[np.float64]


class ExactRows:
    """The rows of a data set at full precision, for products with all of them.

    Parameters
    ----------
    X : array_like or sparse matrix, (samples, columns)
        Raw samples, in the order of the data set's.
    normalization : Normalization
        The data set's.
    samples : int
        How many the data set has.

    Raises
    ------
    ArgumentError
        Other columns or another number of rows than the data set's.
    """

    def __init__(self, X: Any, normalization: Normalization, samples: int) -> None:
        self.X = normalization.check(X)
        if self.X.shape[0] != samples:
            raise ArgumentError(
                f"refine had {self.X.shape[0]} row(s); this data set has {samples} samples"
            )
        self.normalization = normalization
        self.samples, self.features = samples, normalization.features
        self._values: NDArray[np.float32] | None = None

    def _blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        keep = self._values is None and self.samples * self.features <= _KEPT
        if keep:
            self._values = self.normalization.transform(self.X)
        step, own = (max(1, size // self.features) for size in (_AT_A_TIME, _IN_CACHE))
        for first in range(0, self.samples, step):
            stop = min(first + step, self.samples)
            if self._values is not None:
                values = self._values[first:stop]
            else:
                values = self.normalization.transform(self.X[first:stop])
            for begin in range(first, stop, own):
                rows = slice(begin, min(begin + own, stop))
                yield rows, values[begin - first : rows.stop - first]

    @property
    def nbytes(self) -> int:
        """What a pass reads: four bytes a value, the intercept's included."""
        return 4 * self.samples * self.features

    def dots(self, models: FloatArray) -> FloatArray:
        """Every row times each of some models, float64 of shape (models, samples): a pass."""
        x = models.astype(np.float32)
        found = np.empty((len(x), self.samples))
        for rows, values in self._blocks():
            for own, model in zip(found, x, strict=True):
                own[rows] = values @ model
        return found

    def sums(self, factors: FloatArray) -> FloatArray:
        """The mean over all rows, each times its factor, for each row of factors: a pass.

        ``factors`` are (models, samples), the means float64 of shape (models, features).
        """
        found = np.zeros((len(factors), self.features))
        for rows, values in self._blocks():
            for own, each in zip(found, factors, strict=True):
                own += each[rows].astype(np.float32) @ values
        return found / self.samples

    def moment(
        self, models: FloatArray, labels: FloatArray | None, weights: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """Mean of weight times row times (row times model - label), and half of that of its square.

        The gradients of least squares, shape (models, features), and the losses of some models; of
        labels of 0, which None stands for, the second moment times vectors: one pass. ``labels``
        and ``weights``, which are 1 for None, have shape (models, samples).
        """
        x = models.astype(np.float32)
        found, losses = np.zeros((len(x), self.features)), np.zeros(len(x))
        for rows, values in self._blocks():
            for i, model in enumerate(x):
                residual = (values @ model).astype(np.float64)
                if labels is not None:
                    residual -= labels[i, rows]
                weighted = residual if weights is None else weights[i, rows] * residual
                found[i] += weighted.astype(np.float32) @ values
                losses[i] += weighted @ residual
        return found / self.samples, losses / (2 * self.samples)
