"""Estimators for Dask's arrays and data frames, and for lists of packed files."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data.checks import check_int, check_positive
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.distributed.averaging import check_change_bits, check_momentum
from zipml_pynq.distributed.chunks import by_chunk, is_collection, is_packed_list
from zipml_pynq.distributed.cluster import Cluster, current_client, run_cluster
from zipml_pynq.distributed.measures import (
    common_plans,
    constant_objectives,
    objectives_of,
    row_moments,
)
from zipml_pynq.distributed.prepare import Prepared, prepare_chunks, prepare_packed
from zipml_pynq.distributed.result import Outcome
from zipml_pynq.distributed.rounds import Rounds, check_length
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.classifier import ZipMLClassifier as PlainClassifier
from zipml_pynq.learn.classifier import _has_probabilities
from zipml_pynq.learn.estimator import HORIZON, ZipMLEstimator
from zipml_pynq.learn.objective import Course, Stopper, stretches
from zipml_pynq.learn.problem import Run
from zipml_pynq.learn.regressor import ZipMLRegressor as PlainRegressor
from zipml_pynq.learn.sklearn import (
    ClassifierMixin,
    ConvergenceWarning,
    accuracy_score,
    available_if,
    check_is_fitted,
    check_random_state,
    compute_class_weight,
    r2_score,
)
from zipml_pynq.training.defaults import FEATURE_SHIFTS

PARAMETERS = """\
    bits, sampling, levels, alpha, fit_intercept, max_iter, tol, batch_size, eta0, learning_rate
        As of the estimators of ``zipml_pynq``; ``bits`` is one number, ``levels`` "auto",
        "uniform" or "optimal", from histograms.
    feature_steps, average, shuffle, n_iter_no_change, random_state, verbose
        The same. ``shuffle`` is within shards; where training stops by ``tol``, the step stays
        constant, and the model is the mean of those after the later half of the rounds.
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
    alpha_, normalization_, model_, n_features_in_, feature_names_in_, bytes_streamed_, saturated_
        As of the estimators of ``zipml_pynq``.
"""
#: Parameters that the estimators of one machine do not have.
OWN = (
    "shards",
    "round_epochs",
    "change_bits",
    "momentum",
    "checkpoint",
    "checkpoint_rounds",
    "timeout",
    "client",
)


class _Distributed(ZipMLEstimator):
    """What the two twins share."""

    #: Parameters of the estimators of one machine that these do not have.
    approximation: Any = "direct"
    degree: Any = None
    refetch: Any = False
    model_bits: Any = 0
    gradient_bits: Any = 0
    model_range: Any = "auto"
    gradient_range: Any = "auto"
    redraw: Any = False
    refine: Any = False
    penalty: Any = "l2"
    l1_ratio: Any = 0.15
    early_stopping: Any = False
    validation_fraction: Any = 0.1
    warm_start: Any = False
    n_jobs: Any = None
    device: Any = "host"
    outcome_: Outcome
    _plain: ClassVar[Any]

    def _set(self, given: dict[str, Any]) -> None:
        """Parameters as attributes, from what ``locals()`` was in ``__init__``."""
        for name, value in given.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def __getstate__(self) -> Any:
        # a connection is of one process
        return {**super().__getstate__(), "client": None}

    def _kept_parameters(self) -> dict[str, Any]:
        """Those that the estimators of one machine, which load model files, have too."""
        return {n: v for n, v in self.get_params(deep=False).items() if n not in OWN}

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: Any = "host") -> Any:
        """The fitted estimator of a model file, for arrays that memory holds: that of
        ``zipml_pynq`` itself. See its ``load`` for errors."""
        return cls._plain.load(path, device)

    def partial_fit(self, *_: Any, **__: Any) -> Any:
        """Not of these estimators.

        Raises
        ------
        AttributeError
        """
        raise AttributeError("partial_fit is of the estimators of zipml_pynq itself")

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if len(self._stored_bits()) != 1:
            raise ArgumentError(f"bits was {self.bits!r}; allowed is one precision here")
        if self.levels == "global":
            raise ArgumentError(
                "levels was 'global'; allowed here are 'auto', 'uniform', 'optimal'"
            )
        if self.sampling == "independent":
            raise ArgumentError("sampling was 'independent', which goes with a polynomial")
        check_change_bits(self.change_bits)
        check_momentum(self.momentum, 1)
        if self.round_epochs != "auto":
            check_length(self.round_epochs)
        if self.shards != "auto":
            check_int("shards", self.shards, 1, 1 << 20)
        check_int("checkpoint_rounds", self.checkpoint_rounds, 1, 1 << 31)
        if self.timeout is not None:
            check_positive("timeout", self.timeout)

    # ---- fit

    def fit(self, X: Any, y: Any = None, sample_weight: None = None) -> Any:  # type: ignore[override]
        """Train on the cluster.

        Parameters
        ----------
        X : array or data frame of Dask's, (n_samples, n_features); or a list of paths
            Chunks of rows, or files that were packed with the same normalization, which every
            worker finds at these paths; each file is a shard.
        y : array or series of Dask's, shape (n_samples,)
            Labels, in chunks of the same rows; of packed files left out.
        sample_weight : None
            Of packed files, what they carry.

        Returns
        -------
        self

        Raises
        ------
        ArgumentError
            A parameter, or what was packed, does not go with the rest.
        WorkersLostError, CheckpointError
            See :func:`zipml_pynq.distributed.cluster.train`.
        DivergenceError
            See :meth:`zipml_pynq.accelerator.driver.SgdDriver.train`.
        """
        self._check_parameters()
        if sample_weight is not None:
            raise ArgumentError(
                "sample_weight came with Dask's collections; allowed are weights in packed files, "
                "and class_weight"
            )
        client = current_client(self.client)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.__dict__.pop("feature_names_in_", None)
        classify = isinstance(self, ClassifierMixin)
        if is_packed_list(X):
            if y is not None:
                raise ArgumentError("y came with packed files, which have labels; leave it out")
            found = prepare_packed(client, X, classify, bool(self.fit_intercept))
        else:
            found = prepare_chunks(client, X, y, classify, self, seed)
        if found.names is not None:
            self.feature_names_in_ = np.array(found.names, dtype=object)
        self.n_features_in_ = found.normalization.columns
        if classify:
            self.classes_ = np.array(found.classes)
        cluster = Cluster(client, found.sources, self.change_bits, self.timeout)
        self._train_on(cluster, found, seed)
        return self

    def _costs(self, classes: dict[Any, int]) -> list[tuple[float, float]] | None:
        """Weights of samples outside and inside of each model's class."""
        return None

    def _train_on(self, cluster: Cluster, found: Prepared, seed: int) -> None:
        """Train the shards' models in rounds, and keep what came out."""
        models = cluster.facts[0].models
        epochs = self.max_iter
        if self.eta0 == "auto" and self._schedule == "constant":
            # what every epoch draws alike would add up beyond what the step allows
            epochs = min(epochs, HORIZON)
        layout = cluster.facts[0].layout
        batch = self._wanted_batch or math.gcd(layout.block_samples, 16)
        alpha = self._alpha_of(*row_moments(cluster, self._stored_bits()[0]))
        options = {
            **self._plan_options(self._stored_bits()[0]),
            "l2": alpha,
            "batch": batch,
            "epochs": epochs,
            "step": self.eta0,
            "schedule": self._schedule,
            "shuffle": bool(self.shuffle),
            "seed": seed,
            "feature_shifts": FEATURE_SHIFTS if self.feature_steps else None,
        }
        apart = range(models) if found.weighted else [0]
        plans = common_plans(cluster, apart, options, HORIZON)
        cluster.plans = plans if found.weighted else plans * models
        start = np.zeros((models, layout.features), dtype=np.int32)
        length = self.round_epochs
        if length == "auto":
            length = cluster.length(start, epochs)
        rounds = Rounds(epochs, float(length))
        objectives = objectives_of(cluster, cluster.plans[0])
        sizes = constant_objectives(cluster, self.loss)
        watch = _Watch(self, models, rounds, objectives, sizes)
        with self._bar(len(rounds)) as bar:
            outcome = run_cluster(
                cluster,
                start,
                rounds.length,
                momentum=self.momentum,
                checkpoint=self.checkpoint,
                checkpoint_rounds=self.checkpoint_rounds,
                progress=bar,
                until=watch if self.tol is not None else None,
            )
        self._take(outcome, rounds, watch, objectives, sizes, found.normalization, alpha)

    def _take(
        self,
        outcome: Outcome,
        rounds: Rounds,
        watch: _Watch,
        objectives: Any,
        sizes: NDArray[np.float64],
        normalization: Normalization,
        alpha: float,
    ) -> None:
        """Judge what came out, and set fitted attributes."""
        history = outcome.history
        courses = [watch.course(history, number) for number in range(history.shape[1])]
        means = np.stack([course.models() for course in courses], axis=1) / MODEL_ONE
        curves = objectives(np.concatenate([np.zeros_like(means[:1]), means]))
        result = outcome.result()
        runs = [
            Run(
                np.rint(means[-1, number] * MODEL_ONE).astype(np.int32),
                normalization,
                curves[1:, number],
                None,
                self.tol is None or watch.stopped,
                [result],
                None,
                float(sizes[number]),
                None,
                float(curves[-1, number]),
                float(max(sizes[number], curves[0, number])),
            )
            for number in range(len(courses))
        ]
        for run in runs:
            self._judge(run, *self._penalties(alpha))
            run.results = [result] if run is runs[0] else []
        done = rounds.at(len(history) - 1).stop
        if self.tol is not None and not watch.stopped:
            warnings.warn(
                f"training ended after {done} epochs with the objective still falling by more than "
                f"tol, {self.tol:g}: raise max_iter (at most {HORIZON} epochs with eta0='auto' and "
                "data that are drawn once), eta0, bits or tol, or set tol=None",
                ConvergenceWarning,
                stacklevel=4,
            )
        self._keep(runs, 0, alpha)
        self.n_iter_ = self.t_ = done
        self.outcome_ = outcome

    def _bar(self, total: int) -> Any:
        bar = super()._bar(total)
        if self.verbose:
            bar.unit = "round"
        return bar

    # ---- predictions

    def _lazily(self, method: str, X: Any, columns: int | None, dtype: Any) -> Any:
        check_is_fitted(self)
        return by_chunk(getattr(self.to_model(), method), X, dtype, columns)

    def predict(self, X: Any) -> Any:
        """Labels or classes of raw samples, (n_samples,); of Dask's collections lazily."""
        if is_collection(X):
            classes = getattr(self, "classes_", None)
            dtype = np.float64 if classes is None else classes.dtype
            return self._lazily("predict", X, None, dtype)
        return super().predict(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R^2, or accuracy; labels and predictions are brought here, samples are not."""
        if not is_collection(X):
            return float(super().score(X, y, sample_weight))
        import dask

        # one by one: arrays and frames have graphs of different kinds
        (labels,), (predictions,) = dask.compute(y), dask.compute(self.predict(X))
        measure = accuracy_score if isinstance(self, ClassifierMixin) else r2_score
        return float(measure(labels, predictions, sample_weight=sample_weight))


class _Watch:
    """Ends training when little is left to gain, of every model: called after every round."""

    def __init__(
        self,
        estimator: _Distributed,
        models: int,
        rounds: Rounds,
        objectives: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        sizes: NDArray[np.float64],
    ) -> None:
        self._averages = estimator._averages
        self._ends = {stop for _, stop in stretches(0, len(rounds), [])}
        self.stopped = False

        def of(number: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
            def objective(own: NDArray[np.float64]) -> NDArray[np.float64]:
                # others' places hold the same model, whose values nobody looks at
                return objectives(np.repeat(own[:, None], models, axis=1))[:, number]

            return objective

        tol = 0.0 if estimator.tol is None else estimator.tol
        patience = max(1, round(estimator.n_iter_no_change / rounds.length))
        self._stoppers = [
            Stopper(of(number), float(size), tol, patience) for number, size in enumerate(sizes)
        ]

    def course(self, history: NDArray[np.int32], number: int) -> Course:
        """Of one model."""
        return Course(self._averages, history=[history[:, number]])

    def __call__(self, history: NDArray[np.int32]) -> bool:
        if len(history) not in self._ends:
            return False
        quiet = [
            stopper.stopped or stopper(self.course(history, number))
            for number, stopper in enumerate(self._stoppers)
        ]
        self.stopped = all(quiet)
        return self.stopped


class ZipMLRegressor(_Distributed, PlainRegressor):
    __doc__ = f"""Linear regression by least squares on a Dask cluster.

    Parameters
    ----------
    loss : {{"least_squares"}}, default="least_squares"
{PARAMETERS}
    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
    intercept_ : ndarray, shape (1,)
        In raw units.
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
        bits: int = 4,
        sampling: str = "auto",
        levels: str = "auto",
        alpha: float | str = "auto",
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        batch_size: int | str = "auto",
        eta0: float | str = "auto",
        learning_rate: str | Callable[[int], float] = "auto",
        feature_steps: bool = True,
        average: bool | str = "auto",
        shuffle: bool = True,
        n_iter_no_change: int = 5,
        random_state: Any = None,
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


class ZipMLClassifier(_Distributed, PlainClassifier):
    __doc__ = f"""Linear classification on a Dask cluster, several classes one against the rest.

    Parameters
    ----------
    loss : {{"squared_hinge", "hinge", "logistic", "least_squares"}}, default="squared_hinge"
{PARAMETERS}    class_weight : dict, "balanced" or None, default=None
        Factors of the losses of classes; of several classes, of each one against the rest.

    Attributes
    ----------
    classes_ : ndarray
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
        bits: int = 4,
        sampling: str = "auto",
        levels: str = "auto",
        alpha: float | str = "auto",
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        batch_size: int | str = "auto",
        eta0: float | str = "auto",
        learning_rate: str | Callable[[int], float] = "auto",
        feature_steps: bool = True,
        average: bool | str = "auto",
        shuffle: bool = True,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
        random_state: Any = None,
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

    def _costs(self, classes: dict[Any, int]) -> list[tuple[float, float]] | None:
        if self.class_weight is None:
            return None
        names, counts = np.array(list(classes)), np.array(list(classes.values()))
        if self.class_weight == "balanced":
            factors = counts.sum() / (len(names) * counts)
        else:
            factors = compute_class_weight(self.class_weight, classes=names, y=names)
        costs = []
        for number in [1] if len(names) == 2 else range(len(names)):
            outside = factors[0] if len(names) == 2 else 1.0
            share = counts[number] / counts.sum()
            mean = share * factors[number] + (1 - share) * outside
            costs.append((float(outside / mean), float(factors[number] / mean)))
        return costs

    def decision_function(self, X: Any) -> Any:
        """Distances to the separating planes, (n_samples,) or (n_samples, n_classes); of Dask's
        collections lazily."""
        if is_collection(X):
            several = len(self.classes_) if len(self.classes_) > 2 else None
            return self._lazily("decision_function", X, several, np.float64)
        return super().decision_function(X)

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the classes, (n_samples, n_classes); of Dask's collections lazily."""
        if is_collection(X):
            return self._lazily("predict_proba", X, len(self.classes_), np.float64)
        return super().predict_proba(X)
