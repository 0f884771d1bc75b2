"""Missing numbers, which are NaN in blocks of rows: means of columns in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse


class Means:
    """Means of columns over the numbers that are there, of rows that come in blocks."""

    def __init__(self) -> None:
        self._sums = np.zeros(0)
        self._missing = np.zeros(0, np.int64)
        self._rows = 0

    def update(self, X: Any) -> None:
        """Take the next rows (N, columns) in; of sparse ones what is absent is 0."""
        more = X.shape[1] - self._sums.size
        if more > 0:
            self._sums = np.pad(self._sums, (0, more))
            self._missing = np.pad(self._missing, (0, more))
        width = X.shape[1]
        self._rows += X.shape[0]
        if issparse(X):
            gone = np.isnan(X.data)
            self._missing[:width] += np.bincount(X.indices[gone], minlength=width)
            weights = np.where(gone, 0.0, X.data)
            self._sums[:width] += np.bincount(X.indices, weights=weights, minlength=width)
            return
        self._missing[:width] += np.isnan(X).sum(axis=0)
        self._sums[:width] += np.nansum(X, axis=0, dtype=np.float64)

    def means(self) -> NDArray[np.float64]:
        """The means, float64 (columns,); NaN of a column that has no number."""
        there = self._rows - self._missing
        return np.divide(self._sums, there, out=np.full(self._sums.size, np.nan), where=there > 0)


def filled(X: Any, means: NDArray[np.float64]) -> Any:
    """Rows (N, columns) with their column's mean in place of NaN; what has none is not copied."""
    if X.dtype.kind != "f":
        return X
    if issparse(X):
        gone = np.isnan(X.data)
        if gone.any():
            X = X.copy()
            X.data[gone] = means[X.indices[gone]]
        return X
    gone = np.isnan(X)
    return np.where(gone, means[: X.shape[1]], X) if gone.any() else X
