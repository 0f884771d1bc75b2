"""Learning from a stream of rows: ranges that grow, a model that is carried over, steps by samples.

What ``partial_fit`` keeps from call to call; docs/estimators.md, "Streams".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.columns import Columns
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.rows import chunks, dense

#: How much wider than its values a range becomes once it has to grow, so that it seldom has to.
SPARE = 1.25
#: Growth of the rows seen at which columns are centred anew.
RECENTRE = 2.0
#: A step times the mean squared size of a sample; averaged SGD allows all below 1 (Bach and
#: Moulines, "Non-strongly-convex smooth stochastic approximation", NeurIPS 2013).
STEP_SHARE = 0.5


class Stream:
    """What is known of the rows so far.

    Parameters
    ----------
    base : Normalization, optional
        Of a model that was there before: columns keep its centres.

    Attributes
    ----------
    rows : int
        Rows of positive weight that were seen.
    """

    def __init__(self, base: Normalization | None = None) -> None:
        self.rows = 0
        self._base = base
        self._columns: Columns | None = None
        self._labels = (np.inf, -np.inf)
        self._mean = self._squares = np.empty(0)
        self._centred = 0

    def take(self, X: Any, labels: NDArray[np.float64]) -> None:
        """Take rows of positive weight and their raw labels in."""
        found = Columns.of("X", X, 1)
        if self._columns is None:
            self._columns = found
            self._mean = self._squares = np.zeros(found.low.size)
        else:
            self._columns.merge(found)
        for part in chunks(X):
            rows = dense(X[part]).astype(np.float64)
            before, self.rows = self.rows, self.rows + len(rows)
            mean = rows.mean(axis=0)
            apart = mean - self._mean
            # mean and sum of squares of two sets together (Chan, Golub and LeVeque, 1979)
            self._mean = self._mean + apart * (len(rows) / self.rows)
            self._squares = self._squares + ((rows - mean) ** 2).sum(axis=0)
            self._squares += apart**2 * (before * len(rows) / self.rows)
        least, most = self._labels
        self._labels = min(least, float(labels.min())), max(most, float(labels.max()))

    def normalization(
        self, now: Normalization | None, intercept: bool, signs: bool
    ) -> Normalization:
        """What holds all rows so far: ``now``, where it still does.

        Parameters
        ----------
        signs : bool
            Whether labels are the signs of classes, whose range is what it is.
        """
        assert self._columns is not None
        low, high = self._columns.low, self._columns.high
        least, most = (-1.0, 1.0) if signs else self._labels
        if now is None:
            self._centred = self.rows
            return Normalization.of(self._columns.means(), low, high, least, most, intercept)
        inside = np.maximum(high - now.mid, now.mid - low) <= now.half
        label_inside = max(most - now.label_mid, now.label_mid - least) <= now.label_half
        recentre = self._base is None and intercept and self.rows >= RECENTRE * self._centred
        if inside.all() and label_inside and not recentre:
            return now
        mid = now.mid
        if recentre:
            mid, self._centred = self._columns.means(), self.rows
        reach = np.maximum(high - mid, mid - low)
        half = np.where(inside & (reach <= now.half), now.half, SPARE * reach)
        label_half = now.label_half
        if not label_inside:
            label_half = SPARE * max(most - now.label_mid, now.label_mid - least)
        return Normalization(mid, half, now.label_mid, label_half, intercept)

    def squared_size(self, normalization: Normalization) -> NDArray[np.float64]:
        """Mean squared value of every feature in normalized units, shape (features,)."""
        variance = self._squares / self.rows + (self._mean - normalization.mid) ** 2
        values = variance / normalization.divisor**2
        return np.append(values, np.ones(int(normalization.intercept)))
