"""The scikit-learn regressor: linear regression by least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.learn.parameters import ATTRIBUTES, PARAMETERS
from zipml_pynq.learn.problem import Problem, Run, own_labels
from zipml_pynq.learn.sklearn import RegressorMixin
from zipml_pynq.learn.streaming import StreamingEstimator


class ZipMLRegressor(RegressorMixin, StreamingEstimator):
    __doc__ = f"""Linear regression by least squares, trained from data at 1 to 8 bits a value.

    Parameters
    ----------
    loss : {{"least_squares"}}, default="least_squares"
{PARAMETERS}
    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
        In raw units.
    intercept_ : ndarray, shape (1,)
{ATTRIBUTES}
    Examples
    --------
    >>> from zipml_pynq.learn.regressor import ZipMLRegressor
    >>> model = ZipMLRegressor(bits=4, random_state=0).fit(X, y)  # doctest: +SKIP
    >>> model.score(X_test, y_test), model.bytes_streamed_  # doctest: +SKIP
    """

    _losses = ("least_squares",)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Any:
        """Learn from the next rows of a stream, from the model so far.

        Ranges and means of the columns are those of all rows so far; where they change, the model
        is carried over. Weights are taken as they are. See :meth:`fit` for the parameters.
        """
        return self._partial_fit(X, y, sample_weight)

    def _targets(self, X: Any, y: Any, go_on: bool, classes: ArrayLike | None) -> Any:
        if y is not None and isinstance(X, PackedDataset):
            y = np.asarray(y, dtype=np.float64)
        if y is None and go_on and X.normalization != self.normalization_:
            y = own_labels(X)
        return y

    def _problems(
        self, X: Any, y: Any, weights: NDArray[np.float64] | None, own: bool, partial: bool
    ) -> tuple[list[Problem], Normalization | None]:
        if y is None and not own:
            y = own_labels(X)
        return [Problem(y, weights)], None

    def _keep(self, runs: list[Run], done: int) -> None:
        super()._keep(runs, done)
        self.coef_ = self.coef_[0]

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Labels in raw units, shape (n_samples,), of raw samples."""
        return self._linear(X)[:, 0]
