"""Estimators for Dask's arrays and data frames, and for lists of packed files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zipml_pynq.distributed.chunks import is_collection
from zipml_pynq.distributed.fitting import Distributed
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.classifier import ZipMLClassifier as PlainClassifier
from zipml_pynq.learn.classifier import _has_probabilities
from zipml_pynq.learn.regressor import ZipMLRegressor as PlainRegressor
from zipml_pynq.learn.sklearn import available_if, compute_class_weight

PARAMETERS = """\
    bits, sampling, approximation, degree, refetch
        As of the estimators of ``zipml_pynq``; ``bits="auto"`` is 4.
    model_bits, gradient_bits, model_range, gradient_range
        The same; ranges that are "auto" follow shard 0.
    penalty, alpha, l1_ratio, fit_intercept, max_iter, batch_size, eta0, feature_steps
        The same; what these choose from the samples follows all shards.
    tol, n_iter_no_change, learning_rate, average, random_state, verbose
        The same, but where training stops by ``tol``, the step stays constant, and the model is the
        mean of those after the later half of the rounds.
    levels : {"auto", "uniform", "optimal", "global"}, default="auto"
        The same, from histograms; "auto" is "uniform" for more than 1,024 columns.
    shuffle : bool or "epochs", default=True
        Rows are packed in random order within shards, and each round takes the blocks in another;
        "epochs" is that, too.
    redraw, refine, early_stopping, validation_fraction, warm_start, n_jobs, device
        There, so that one estimator may stand for the other, and refused where they are not at
        their defaults, or False.
    shards : int or "auto", default="auto"
        Parts of the data that are trained on side by side. The model depends on it, and not on the
        number of workers; "auto" is as many as there are accelerators now, and at most as many as
        chunks.
    round_epochs, change_bits, momentum, checkpoint, checkpoint_rounds, timeout
        See :func:`zipml_pynq.distributed.cluster.train`.
    client : distributed.Client, optional
        By default the current one.
"""
ATTRIBUTES = """\
    n_iter_ : int
        Epochs.
    loss_curve_ : ndarray, one entry a round
        Objective after every round, in normalized units, on rows of all shards.
    outcome_ : Outcome
        Rounds, bytes sent and received, slow workers.
    alpha_, normalization_, model_, n_features_in_, feature_names_in_
        As of the estimators of ``zipml_pynq``.
    bytes_streamed_, refetched_, saturated_
        The same.
"""


class ZipMLRegressor(Distributed, PlainRegressor):
    __doc__ = f"""Linear regression by least squares on a Dask cluster.

    Parameters
    ----------
    loss : {{"least_squares"}}, default="least_squares"
{PARAMETERS}
    Attributes
    ----------
    coef_ : ndarray, shape (n_features,), or (n_targets, n_features)
    intercept_ : ndarray, shape (1 or n_targets,)
        In raw units; with a row a target if y had a column a target.
    label_ranges_ : ndarray, shape (n_targets, 2)
        As of ``zipml_pynq.learn.regressor.ZipMLRegressor``.
{ATTRIBUTES}
    Examples
    --------
    >>> from zipml_pynq.distributed import ZipMLRegressor
    >>> model = ZipMLRegressor(shards=4, random_state=0).fit(X, y)  # doctest: +SKIP
    >>> model.predict(X).compute()  # doctest: +SKIP
    """

    _plain = PlainRegressor

    def __init__(
        self,
        loss: str = "least_squares",
        *,
        bits: int | Sequence[int] | str = 4,
        sampling: str = "auto",
        levels: str = "auto",
        approximation: str = "direct",
        degree: int | None = None,
        refetch: bool = False,
        model_bits: int = 0,
        gradient_bits: int = 0,
        model_range: float | str = "auto",
        gradient_range: float | str = "auto",
        penalty: str = "l2",
        alpha: float | str = "auto",
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        batch_size: int | str = "auto",
        eta0: float | str = "auto",
        learning_rate: str | Callable[[int], float] = "auto",
        feature_steps: bool = True,
        average: bool | str = "auto",
        redraw: bool | str = "auto",
        refine: bool | str = "auto",
        shuffle: bool | str = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        n_jobs: int | None = None,
        random_state: Any = None,
        device: Any = "host",
        verbose: int = 0,
        shards: int | str = "auto",
        round_epochs: float | str = "auto",
        change_bits: int = 8,
        momentum: float | str = "auto",
        checkpoint: Any = None,
        checkpoint_rounds: int = 10,
        timeout: float | None = None,
        client: Any = None,
    ) -> None:
        self._set(locals())


class ZipMLClassifier(Distributed, PlainClassifier):
    __doc__ = f"""Linear classification on a Dask cluster, several classes one against the rest.

    Parameters
    ----------
    loss : {{"squared_hinge", "hinge", "logistic", "least_squares"}}, default="squared_hinge"
{PARAMETERS}    class_weight : dict, "balanced" or None, default=None
        Factors of the losses of classes; of several classes, of each one against the rest.
    multi_class : {{"auto", "ovr"}}, default="auto"
        Both are one class against the rest, for nothing is refined here.

    Attributes
    ----------
    classes_ : ndarray
    multinomial_ : bool
        False.
    coef_ : ndarray, shape (1 or n_classes, n_features)
    intercept_ : ndarray, shape (1 or n_classes,)
        In raw units.
{ATTRIBUTES}
    Examples
    --------
    >>> from zipml_pynq.distributed import ZipMLClassifier
    >>> model = ZipMLClassifier("logistic", shards=4).fit(X, y)  # doctest: +SKIP
    >>> model.predict_proba(X).compute()  # doctest: +SKIP
    """

    _plain = PlainClassifier

    def __init__(
        self,
        loss: str = "squared_hinge",
        *,
        bits: int | Sequence[int] | str = 4,
        sampling: str = "auto",
        levels: str = "auto",
        approximation: str = "direct",
        degree: int | None = None,
        refetch: bool = False,
        model_bits: int = 0,
        gradient_bits: int = 0,
        model_range: float | str = "auto",
        gradient_range: float | str = "auto",
        penalty: str = "l2",
        alpha: float | str = "auto",
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        batch_size: int | str = "auto",
        eta0: float | str = "auto",
        learning_rate: str | Callable[[int], float] = "auto",
        feature_steps: bool = True,
        average: bool | str = "auto",
        redraw: bool | str = "auto",
        refine: bool | str = "auto",
        shuffle: bool | str = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        class_weight: Any = None,
        multi_class: str = "auto",
        n_jobs: int | None = None,
        random_state: Any = None,
        device: Any = "host",
        verbose: int = 0,
        shards: int | str = "auto",
        round_epochs: float | str = "auto",
        change_bits: int = 8,
        momentum: float | str = "auto",
        checkpoint: Any = None,
        checkpoint_rounds: int = 10,
        timeout: float | None = None,
        client: Any = None,
    ) -> None:
        self._set(locals())

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.multi_class == "multinomial":
            raise ArgumentError(
                "multi_class was 'multinomial'; allowed on a cluster is 'auto' or 'ovr': nothing "
                "is refined there, and so several classes are taken one against the rest"
            )

    def _costs(self, classes: dict[Any, tuple[int, float]]) -> list[tuple[float, float]] | None:
        if self.class_weight is None:
            return None
        names = np.array(list(classes))
        counts, sums = np.array(list(classes.values())).T
        if self.class_weight == "balanced":
            factors = counts.sum() / (len(names) * counts)
        else:
            factors = compute_class_weight(self.class_weight, classes=names, y=names)
        costs = []
        for number in [1] if len(names) == 2 else range(len(names)):
            outside = factors[0] if len(names) == 2 else 1.0
            share = sums[number] / sums.sum()
            mean = share * factors[number] + (1 - share) * outside
            costs.append((float(outside / mean), float(factors[number] / mean)))
        return costs

    def decision_function(self, X: Any) -> Any:
        """Distances to the separating planes, (n_samples,) or (n_samples, n_classes); of Dask's
        collections lazily."""
        if is_collection(X):
            return self._lazily("decision_function", X, self._several, np.float64)
        return super().decision_function(X)

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the classes, (n_samples, n_classes); of Dask's collections lazily."""
        if is_collection(X):
            return self._lazily("predict_proba", X, len(self.classes_), np.float64)
        return super().predict_proba(X)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of :meth:`predict_proba`."""
        return np.log(self.predict_proba(X))
