"""The scikit-learn regressor: linear regression by least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.parameters import ATTRIBUTES, PARAMETERS
from zipml_pynq.learn.problem import SIGNS, Problem, Run, own_labels
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
    coef_ : ndarray, shape (n_features,), or (n_targets, n_features)
        In raw units; with a row a target if y had a column a target.
    intercept_ : ndarray, shape (1 or n_targets,)
    label_ranges_ : ndarray, shape (n_targets, 2)
        Where y had a column a target: middle and half of the range of each, in raw units. In these
        each model is held, and ``normalization_`` tells of none.
{ATTRIBUTES}
    Examples
    --------
    >>> from zipml_pynq.learn.regressor import ZipMLRegressor
    >>> model = ZipMLRegressor(bits=4, random_state=0).fit(X, y)  # doctest: +SKIP
    >>> model.score(X_test, y_test), model.bytes_streamed_  # doctest: +SKIP
    """

    _losses = ("least_squares",)
    label_ranges_: NDArray[np.float64]

    def partial_fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Any:
        """Learn from the next rows of a stream, from the model so far.

        Ranges and means of the columns are those of all rows so far; where they change, the model
        is carried over. Weights are taken as they are. See :meth:`fit` for the parameters.
        """
        columns = np.shape(y)[1:]
        if columns not in ((), (1,)) or hasattr(self, "label_ranges_"):
            raise ArgumentError(
                f"y had shape {np.shape(y)} in partial_fit; allowed is one target, (n_samples,), "
                "of an estimator that was fitted to one"
            )
        return self._partial_fit(X, np.ravel(y) if columns else y, sample_weight)

    def _targets(self, X: Any, y: Any, go_on: bool, classes: ArrayLike | None) -> Any:
        if y is not None and isinstance(X, PackedDataset):
            y = np.asarray(y, dtype=np.float64)
        if y is None and X.names.classes is not None:
            raise ArgumentError(
                f"the labels were the classes {', '.join(X.names.classes[:5])}, which a regression "
                "cannot have; a classifier (--classify, or --loss hinge or logistic) can"
            )
        if y is None and go_on and X.normalization != self.normalization_:
            y = own_labels(X)
        several = np.ndim(y) == 2
        if go_on:
            known = len(self.label_ranges_) if hasattr(self, "label_ranges_") else None
            found = y.shape[1] if several else None
            if known != found:
                raise ArgumentError(
                    f"y had shape {np.shape(y)}; this estimator was fitted to "
                    f"{'one target' if known is None else f'{known} targets, a column each'}"
                )
            return y
        self.__dict__.pop("label_ranges_", None)
        if several:
            low, high = y.min(axis=0), y.max(axis=0)
            # halves first: the difference of two large numbers may be too large
            half = np.asarray(high / 2 - low / 2, dtype=np.float64)
            middle = np.asarray(high / 2 + low / 2, dtype=np.float64)
            self.label_ranges_ = np.stack([middle, np.where(half > 0, half, 1.0)], axis=1)
        return y

    def _problems(
        self, X: Any, y: Any, weights: NDArray[np.float64] | None, own: bool, partial: bool
    ) -> tuple[list[Problem], Normalization | None]:
        if y is None and not own:
            y = own_labels(X)
        if np.ndim(y) != 2:
            return [Problem(y, weights)], None
        targets = ((y - self.label_ranges_[:, 0]) / self.label_ranges_[:, 1]).T
        return [Problem(target, weights) for target in targets], SIGNS

    def _keep(self, runs: list[Run], done: int, alpha: float) -> None:
        super()._keep(runs, done, alpha)
        if hasattr(self, "label_ranges_"):
            middle, half = self.label_ranges_.T
            self.coef_ = self.coef_ * half[:, None]
            self.intercept_ = self.intercept_ * half + middle
        else:
            self.coef_ = self.coef_[0]

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Labels in raw units, shape (n_samples,) or (n_samples, n_targets), of raw samples."""
        z = self._linear(X)
        return z if self.coef_.ndim == 2 else z[:, 0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
