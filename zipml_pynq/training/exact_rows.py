"""Raw samples as what training on draws of them is to end at: sums over all of them, exact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.normalization import Normalization
from zipml_pynq.errors import ArgumentError

#: Values that are taken at a time, and values up to which they stay normalized between passes.
_AT_A_TIME, _KEPT = 1 << 20, 1 << 26

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

    Attributes
    ----------
    bytes_read : int
        What the passes so far read: four bytes a value, the intercept's included.

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
        self.bytes_read = 0
        self._values: NDArray[np.float32] | None = None

    def _blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        self.bytes_read += 4 * self.samples * self.features
        step = max(1, _AT_A_TIME // self.features)
        keep = self._values is None and self.samples * self.features <= _KEPT
        if keep:
            self._values = self.normalization.transform(self.X)
        for first in range(0, self.samples, step):
            rows = slice(first, min(first + step, self.samples))
            if self._values is not None:
                yield rows, self._values[rows]
            else:
                yield rows, self.normalization.transform(self.X[rows])

    def dots(self, model: FloatArray) -> FloatArray:
        """Every row times a model, float64 of shape (samples,): a pass."""
        x = model.astype(np.float32)
        found = np.empty(self.samples)
        for rows, values in self._blocks():
            found[rows] = values @ x
        return found

    def sums(self, factors: FloatArray) -> FloatArray:
        """The mean over all rows, each times its factor, float64 of shape (features,): a pass."""
        found = np.zeros(self.features)
        for rows, values in self._blocks():
            found += factors[rows].astype(np.float32) @ values
        return found / self.samples

    def moment(
        self, model: FloatArray, labels: FloatArray | float, weights: FloatArray | float
    ) -> tuple[FloatArray, float]:
        """Mean of weight times row times (row times model - label), and half of that of its square.

        The gradient of least squares and its loss, or with labels of 0 the second moment times a
        vector: one pass.
        """
        x = model.astype(np.float32)
        y, w = np.broadcast_to(labels, self.samples), np.broadcast_to(weights, self.samples)
        found, loss = np.zeros(self.features), 0.0
        for rows, values in self._blocks():
            residual = (values @ x).astype(np.float64) - y[rows]
            weighted = w[rows] * residual
            found += weighted.astype(np.float32) @ values
            loss += float(weighted @ residual)
        return found / self.samples, loss / (2 * self.samples)
