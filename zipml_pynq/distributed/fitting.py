"""What the twins of the estimators share: ``fit`` on a cluster, predictions chunk by chunk."""

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
from zipml_pynq.data.layout import DEFAULT_BATCH, FLOAT32
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
from zipml_pynq.distributed.rounds import Rounds, Stage, check_length
from zipml_pynq.errors import ArgumentError, ZipmlWarning
from zipml_pynq.learn.estimator import HORIZON, ZipMLEstimator
from zipml_pynq.learn.objective import Course, Stopper, stretches
from zipml_pynq.learn.problem import Run
from zipml_pynq.learn.sklearn import (
    ClassifierMixin,
    ConvergenceWarning,
    accuracy_score,
    check_is_fitted,
    check_random_state,
    r2_score,
)
from zipml_pynq.training.defaults import FEATURE_SHIFTS

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
#: Parameters that only those of one machine follow: what is allowed here, and why.
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "redraw": (("auto", False), "shards are packed once, and raw rows not kept"),
    "refine": (("auto", False), "shards are packed once, and raw rows not kept"),
    "early_stopping": ((False,), "no rows are held out of shards"),
    "warm_start": ((False,), "checkpoint= goes on from where a training was"),
    "n_jobs": ((None,), "as many shards are trained at a time as the workers have accelerators"),
    "device": (("host",), "each worker has the accelerators that zipml.devices names there"),
}


class Distributed(ZipMLEstimator):
    """What the two twins share."""

    shards: Any
    round_epochs: Any
    change_bits: int
    momentum: Any
    checkpoint: Any
    checkpoint_rounds: int
    timeout: float | None
    client: Any
    outcome_: Outcome
    _plain: ClassVar[Any]
    _keeps_rows = False

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
        own = (*OWN, "device")
        return {n: v for n, v in self.get_params(deep=False).items() if n not in own}

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
        for name, (allowed, why) in REFUSED.items():
            value = getattr(self, name)
            if not any(
                value is one or (isinstance(value, str) and value == one) for one in allowed
            ):
                raise ArgumentError(
                    f"{name} was {value!r}; allowed on a cluster is "
                    f"{' or '.join(map(repr, allowed))}: {why}"
                )
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

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Train on the cluster.

        Parameters
        ----------
        X : array or data frame of Dask's, (n_samples, n_features); or a list of paths
            Chunks of rows, dense or sparse (SciPy's matrices), or files that were packed with the
            same normalization, which every worker finds at these paths; each file is a shard.
        y : array, series or frame of Dask's, shape (n_samples,)
            Labels, in chunks of the same rows; of a regression also (n_samples, n_targets). Of
            packed files left out.
        sample_weight : array or series of Dask's, shape (n_samples,), optional
            Weights of the samples' losses, in chunks of the same rows; brought to a mean of 1. Of
            packed files left out: these carry their own.

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
        client = current_client(self.client)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.__dict__.pop("feature_names_in_", None)
        classify = isinstance(self, ClassifierMixin)
        if is_packed_list(X):
            for name, value in (("y", y), ("sample_weight", sample_weight)):
                if value is not None:
                    raise ArgumentError(
                        f"{name} came with packed files, which carry their own; leave it out"
                    )
            found = prepare_packed(client, X, classify, bool(self.fit_intercept))
        else:
            found = prepare_chunks(client, X, y, sample_weight, classify, self, seed)
        if found.names is not None:
            self.feature_names_in_ = np.array(found.names, dtype=object)
        self.n_features_in_ = found.normalization.columns
        if classify:
            self.classes_ = np.array(found.targets.classes)
        self.__dict__.pop("label_ranges_", None)
        if found.targets.ranges is not None:
            self.label_ranges_ = found.targets.ranges
        cluster = Cluster(client, found.sources, self.change_bits, self.timeout)
        self._train_on(cluster, found, seed)
        return self

    def _costs(self, classes: dict[Any, tuple[int, float]]) -> list[tuple[float, float]] | None:
        """Weights of samples outside and inside of each model's class, of each one's rows and sum
        of weights."""
        return None

    def _train_on(self, cluster: Cluster, found: Prepared, seed: int) -> None:
        """Train the shards' models in rounds, and keep what came out."""
        models = cluster.facts[0].models
        layout = cluster.facts[0].layout
        epochs, horizon = self.max_iter, self.max_iter
        if self.eta0 == "auto" and self._schedule == "constant":
            horizon = min(epochs, HORIZON)
            if layout.value_format != FLOAT32:
                # what every epoch draws alike would add up beyond what the step allows
                epochs = horizon
        alpha = self._alpha_of(*row_moments(cluster))
        l2, l1 = self._penalties(alpha)
        options = {
            "l2": l2,
            "l1": l1,
            "batch": self._wanted_batch or math.gcd(layout.block_samples, DEFAULT_BATCH),
            "epochs": epochs,
            "step": self.eta0,
            "schedule": self._schedule,
            "shuffle": bool(self.shuffle),
            "seed": seed,
            "feature_shifts": FEATURE_SHIFTS if self.feature_steps else None,
        }
        alike = found.targets.costs is None
        firsts = [0, *(e for e in range(1, epochs) if self._bits_of(e) != self._bits_of(e - 1))]
        plans = {
            bits: common_plans(
                cluster,
                [0] if alike else range(models),
                {**self._plan_options(bits), **options},
                horizon,
            )
            for bits in sorted({self._bits_of(first) for first in firsts})
        }
        cluster.stages = [
            Stage(first, plans[self._bits_of(first)] * (models if alike else 1)) for first in firsts
        ]
        start = np.zeros((models, layout.features), dtype=np.int32)
        length = self.round_epochs
        if length == "auto":
            length = cluster.length(start, epochs)
        rounds = Rounds(epochs, float(length), changes=tuple(firsts[1:]))
        objectives = objectives_of(cluster, self.loss, l2, l1)
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
                [],
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

    @property
    def _several(self) -> int | None:
        """Columns of a prediction: one a target, or one a class; None where it is one number."""
        if isinstance(self, ClassifierMixin):
            return len(self.classes_) if len(self.classes_) > 2 else None
        return len(self.label_ranges_) if hasattr(self, "label_ranges_") else None

    def _lazily(self, method: str, X: Any, columns: int | None, dtype: Any) -> Any:
        check_is_fitted(self)
        with warnings.catch_warnings():
            # what a model file would not hold is of no matter here
            warnings.simplefilter("ignore", ZipmlWarning)
            model = self.to_model()
        return by_chunk(getattr(model, method), X, dtype, columns)

    def predict(self, X: Any) -> Any:
        """Labels or classes of raw samples, (n_samples,) or (n_samples, n_targets); of Dask's
        collections lazily."""
        if is_collection(X):
            check_is_fitted(self)
            if isinstance(self, ClassifierMixin):
                return self._lazily("predict", X, None, self.classes_.dtype)
            return self._lazily("predict", X, self._several, np.float64)
        return super().predict(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R^2, or accuracy; labels and predictions are brought here, samples are not."""
        if not is_collection(X):
            return float(super().score(X, y, sample_weight))
        import dask

        # one by one: arrays and frames have graphs of different kinds
        labels, predictions, sample_weight = (
            dask.compute(value)[0] for value in (y, self.predict(X), sample_weight)
        )
        measure = accuracy_score if isinstance(self, ClassifierMixin) else r2_score
        return float(measure(labels, predictions, sample_weight=sample_weight))


class _Watch:
    """Ends training when little is left to gain, of every model: called after every round."""

    def __init__(
        self,
        estimator: Distributed,
        models: int,
        rounds: Rounds,
        objectives: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        sizes: NDArray[np.float64],
    ) -> None:
        self._averages = estimator._averages
        self._changes = rounds.turns
        self._ends = {stop for _, stop in stretches(0, len(rounds), self._changes)}
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
        changes = [turn for turn in self._changes if turn < len(history)]
        return Course(self._averages, history=[history[:, number]], changes=changes)

    def __call__(self, history: NDArray[np.int32]) -> bool:
        ahead = any(turn >= len(history) for turn in self._changes)
        if ahead or len(history) not in self._ends:
            return False
        quiet = [
            stopper.stopped or stopper(self.course(history, number))
            for number, stopper in enumerate(self._stoppers)
        ]
        self.stopped = all(quiet)
        return self.stopped
