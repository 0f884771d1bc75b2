"""What regressor and classifier share: training, and what is fitted by it.

docs/estimators.md says how the parameters map to packing, plan and driver.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.accelerator.each import Each, in_turn, threads
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.checks import check_int
from zipml_pynq.data.layout import FLOAT32
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import DivergenceError, ZipmlWarning
from zipml_pynq.learn.distance import left_to_gain
from zipml_pynq.learn.multinomial import Multinomial
from zipml_pynq.learn.objective import (
    BEFORE_ROUNDS,
    Course,
    Rows,
    Stopper,
    Weight,
    constant_objective,
    penalties_of,
    stretches,
)
from zipml_pynq.learn.problem import Data, Ended, Problem, Run, is_packed, mean_curve
from zipml_pynq.learn.refining import Refining
from zipml_pynq.learn.side_by_side import Trainee
from zipml_pynq.learn.sklearn import (
    ClassifierMixin,
    ConvergenceWarning,
    check_is_fitted,
    check_random_state,
    effective_n_jobs,
    safe_sparse_dot,
    validate_data,
)
from zipml_pynq.training.defaults import FEATURE_SHIFTS, latest_cooling
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.plan import Plan

#: Batches that the model lags behind: with more, rows of few words would stream faster, in steps
#: that are smaller by as much.
DELAY = 1
#: Objective, as a multiple of the best constant model's, from which a training diverged.
DIVERGED = 2.0
#: Models times samples up to which models are trained together where data are drawn once.
TOGETHER = 1 << 21
#: Distance to the optimum, in multiples of ``tol`` times the objective of the best constant model,
#: that is worth a warning.
FAR = 10.0
#: Epochs that the default of a constant step reckons with, and at which it ends for data that are
#: drawn once (docs/step.md).
HORIZON = 100


class ZipMLEstimator(Refining):
    """What regressor and classifier share: parameters, data, training."""

    _losses: ClassVar[tuple[str, ...]]

    def _plan(self, packed: PackedDataset, bits: int, **options: Any) -> Plan:
        """A plan with the parameters of this estimator; ``options`` are those of one training."""
        own = self._plan_options(bits)
        return make_plan(packed, batch=self._batch(packed), **own, **options)

    def _plan_options(self, bits: int) -> dict[str, Any]:
        """What :func:`make_plan` is told whatever the samples."""
        return {
            "bits": bits,
            "sampling": self._sampling()[1],
            "delay": DELAY,
            "loss": self.loss,
            "approximation": self.approximation,
            "degree": self.degree,
            "small_l2": self.alpha == "auto",
            "model_bits": self.model_bits,
            "gradient_bits": self.gradient_bits,
            "model_range": self.model_range,
            "gradient_range": self.gradient_range,
        }

    def _problem_plans(
        self, packed: PackedDataset, data: Data, epochs: int, seed: int, first: int
    ) -> dict[int, Plan]:
        """A plan of all epochs for each precision that is used from the epoch ``first`` on."""
        l2, l1 = self._penalties(self._alpha(data))

        def plan(bits: int, epochs: int, step: Any) -> Plan:
            return self._plan(
                packed,
                bits,
                epochs=epochs,
                l2=l2,
                l1=l1,
                step=step,
                schedule=self._schedule,
                fresh=fresh,
                shuffle=shuffle,
                seed=seed,
                feature_shifts=FEATURE_SHIFTS if self.feature_steps else None,
            )

        fresh, shuffle = data.draws.fresh, self._shuffles_blocks(data)
        plans = {}
        last = max(first + 1, min(epochs, len(self._stored_bits())))
        for bits in sorted({self._bits_of(e) for e in range(first, last)}):
            step = self.eta0
            if step == "auto" and self._schedule == "constant" and epochs > HORIZON:
                # most trainings end long before the last epoch that they may have
                step = float(plan(bits, HORIZON, step).step[0])
            plans[bits] = plan(bits, epochs, step)
        return plans

    def _trainee(
        self,
        data: Data,
        problem: Problem,
        like: Normalization | None,
        start: NDArray[np.int32] | None,
        course: Course,
        plans: dict[int, Plan] | None,
        epochs: range,
        seed: int,
    ) -> Trainee:
        """One linear model before it is trained; without ``plans`` they are made."""
        packed = data.packed
        weights = problem.weights
        if problem.labels is not None:
            rows = data.rows[: packed.layout.samples]
            own = None if weights is None else weights[rows]
            packed = packed.relabel(problem.labels[rows], own, like)
            labels = packed.normalization.transform_labels(problem.labels)
        else:
            labels = data.whole.labels[: data.whole.layout.samples] / MODEL_ONE

        l2, l1 = self._objective_penalties(data)
        of = (labels, weights, self.loss, l2)

        def objectives(rows: Rows, models: NDArray[np.float64]) -> NDArray[np.float64]:
            return rows.objectives(models, *of, l1)

        def left(rows: Rows, model: NDArray[np.float64]) -> float | None:
            # what tells it needs a gradient
            return None if l1 else left_to_gain(rows, model, *of)

        stopper = None
        size = constant_objective(labels, weights, self.loss)
        if self.tol is not None and len(epochs) > 1:
            watched = data.validation or data.train
            stopper = Stopper(
                lambda models: objectives(watched, models),
                size,
                self.tol,
                self.n_iter_no_change,
                times=1 if self._cools else 2,
            )
        if plans is None:
            plans = self._problem_plans(packed, data, epochs.stop, seed, epochs.start)
        model = start if len(course) == 0 else course.history[-1][-1]
        # rounds of refinement need no step that falls before them
        cools = stopper is not None and self._cools and not self._refines(data)
        return Trainee(packed, plans, objectives, left, size, course, model, stopper, cools)

    def _train(
        self,
        trainees: list[Trainee],
        data: Data,
        epochs: range,
        progress: Any,
        each: Each = in_turn,
        together: Multinomial | None = None,
    ) -> list[Run]:
        """Train models side by side until the last epoch, or until little is left to gain.

        ``together``: then refine them as one, which is one run.
        """
        layout = data.packed.layout
        drivers = self._drivers(layout.value_format, layout.word_bits)
        named = epochs[1 : max(1, len(self._stored_bits()) - epochs.start)]
        changes = [e for e in named if self._bits_of(e) != self._bits_of(e - 1)]
        active = trainees
        latest = None
        if any(one.cools for one in trainees):
            latest = max(latest_cooling(epochs.stop), *changes, epochs.start + 1)
            latest = latest if latest < epochs.stop else None
        for first, stop in stretches(epochs.start, epochs.stop, changes, latest):
            if first in changes:
                for one in active:
                    one.course.precision_changes()
            stop = min(stop, max(one.end or stop for one in active))
            bits = self._bits_of(first)
            for begin, end in data.draws.pieces(first, stop):
                data.draws.make(begin, end, each)
                train = partial(
                    Trainee.train,
                    drivers=drivers,
                    draws=data.draws,
                    bits=bits,
                    first=begin,
                    stop=end,
                    progress=progress,
                )
                each(train, [one for one in active if one.end is None or one.end > begin])
            if not any(c >= stop for c in changes):
                ends = partial(Trainee.ends, done=stop, latest=latest, last=epochs.stop)
                ended = each(ends, active)
                active = [one for one, end in zip(active, ended, strict=True) if not end]
            if not active:
                break
        if together is not None:
            return [self._refined_classes(trainees, together, data, each)]
        ended = each(lambda one: self._ended(one, data), trainees)
        if self._refines(data):
            ended = self._refined(trainees, ended, data, each)

        def run_of(both: tuple[Trainee, Ended]) -> Run:
            return self._run_of(*both, data)

        return each(run_of, list(zip(trainees, ended, strict=True)))

    def _ended(self, one: Trainee, data: Data) -> Ended:
        """What training one model came to."""
        models = one.course.models(range(one.before + 1, len(one.course) + 1)) / MODEL_ONE
        curve = one.objectives(data.train, models)
        held = None
        best = len(models) - 1
        if data.validation is not None:
            held = one.objectives(data.validation, models)
            best = int(np.argmin(held))
        model = np.rint(models[best] * MODEL_ONE).astype(np.int32)
        stopped = one.stopper is None or one.stopper.stopped
        return Ended(model, curve, float(curve[best]), held, stopped)

    def _run_of(self, one: Trainee, ended: Ended, data: Data) -> Run:
        """The same with what is known of its distance to the optimum."""
        left = ended.left
        told = one.stopper is not None or (self.tol is not None and self._refines(data))
        if left is None and told and ended.held is None and data.train.exact:
            left = one.left(data.train, ended.model / MODEL_ONE)
        zero = np.zeros((1, len(ended.model)))
        return Run(
            ended.model,
            one.packed.normalization,
            ended.curve,
            ended.held,
            ended.stopped,
            one.results,
            [one.course] if self.warm_start else [],
            one.size,
            left,
            ended.objective,
            max(one.size, float(one.objectives(data.train, zero)[0])),
        )

    def _ends_at_horizon(self, data: Data, epochs: range) -> bool:
        """Whether noise that every epoch has alike would add up beyond what the step allows."""
        once = data.packed.layout.value_format != FLOAT32 and not data.draws.fresh
        chosen = self.eta0 == "auto" and self._schedule == "constant"
        return once and chosen and epochs.start < HORIZON

    def _judge(self, run: Run, l2: Weight, l1: float) -> None:
        """Raise where training ended far from any use; tell where results were clamped."""
        saturations = sum(result.saturations for result in run.results)
        models = np.atleast_2d(run.model) / MODEL_ONE
        loss = run.objective - float(penalties_of(models, l2, l1).sum())
        if not loss <= DIVERGED * run.useless:
            error = DivergenceError(
                f"training diverged: the loss ended at {loss:g}, a model that is 0 "
                f"has {run.useless:g}; a smaller step (eta0), more bits or redraw=True help"
            )
            error.result = run.results[-1]
            raise error
        if saturations:
            warnings.warn(
                f"{saturations} results were clamped: predictions of some samples, or entries of "
                "the model, are beyond 128 in normalized units; alpha keeps them smaller",
                ZipmlWarning,
                stacklevel=4,
            )

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        epochs: int,
        go_on: bool,
    ) -> Any:
        """Train all models, from those that are there if ``go_on``."""
        self.__dict__.pop("_stream", None)
        X, y = self._read(X, y, reset=not go_on)
        raw = not is_packed(X)
        weights = self._weights(sample_weight, X, scale=not raw)
        y = self._targets(X, y, go_on, None)
        if weights is not None and raw:
            if weights.any() and not weights.all():
                # what does not count is not there: for ranges and means, validation and stopping
                counting = np.flatnonzero(weights)
                X, y, weights = X[counting], y[counting], weights[counting]
            weights = self._scaled(weights)
        problems, like = self._problems(X, y, weights, sample_weight is None, False)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        done = self.t_ if go_on else 0
        check_int("max_iter", done + epochs, 1, CONFIG.max_epochs)
        normalization = self.normalization_ if go_on else None
        if normalization is not None:
            like = normalization
        data = self._prepare(
            X,
            problems[0].labels,
            weights,
            normalization,
            seed,
            bool(self.early_stopping),
            y if isinstance(self, ClassifierMixin) else None,
        )
        span = range(done, done + epochs)
        if self._refines(data):
            before = max(BEFORE_ROUNDS, len(self._stored_bits()))
            span = range(done, min(span.stop, done + before))
        elif self._ends_at_horizon(data, span):
            span = range(done, min(span.stop, HORIZON))
        together = self._together(data, y, weights)
        runs = self._train_all(data, problems, like, span, seed, go_on, together)
        penalties = self._objective_penalties(data)
        for run in runs:
            self._judge(run, *penalties)
        if self.tol is not None:
            self._tell_distance(runs, epochs, self.tol, self._refines(data))
        self._keep(runs, done, self._alpha(data))
        return self

    def _train_all(
        self,
        data: Data,
        problems: Sequence[Problem],
        like: Normalization | None,
        epochs: range,
        seed: int,
        go_on: bool,
        together: Multinomial | None,
    ) -> list[Run]:
        """Train the models of all problems, from those that are there if ``go_on``."""
        plans: dict[int, Plan] | None = None

        def trainee(number: int) -> Trainee:
            course = Course(self._averages)
            if go_on:
                course = self.__dict__.get("_courses", {}).get(number, course)
            start = self.model_[number] if go_on else None
            return self._trainee(data, problems[number], like, start, course, plans, epochs, seed)

        first = trainee(0)
        if all(problem.weights is problems[0].weights for problem in problems):
            plans = first.plans

        def later(number: int) -> Trainee:
            return trainee(number) if number else first

        numbers = range(len(problems))
        with (
            self._bar(len(epochs) * len(problems)) as bar,
            self._threads(data, len(problems)) as each,
        ):
            if data.draws.changes:
                return self._train(each(later, numbers), data, epochs, bar, each, together)
            # without draws to share, what belongs to a model is there for as long as it trains
            size = max(1, TOGETHER // data.packed.layout.samples)
            if together is not None:
                size = len(problems)
            groups = [numbers[i : i + size] for i in range(0, len(numbers), size)]

            def group(some: Sequence[int], each: Each = in_turn) -> list[Run]:
                return self._train(each(later, some), data, epochs, bar, each, together)

            runs = [group(some, each) for some in groups] if size > 1 else each(group, groups)
            return [run for some in runs for run in some]

    def _threads(self, data: Data, models: int) -> Any:
        """What calls functions with models: on a thread for each kernel of the device, and where
        that is this process' engine on ``n_jobs``."""
        layout = data.packed.layout
        drivers = self._drivers(layout.value_format, layout.word_bits)
        host = isinstance(drivers[0], HostDriver)
        return threads(effective_n_jobs(self.n_jobs) if host else len(drivers), models)

    def _tell_distance(self, runs: list[Run], epochs: int, tol: float, refined: bool) -> None:
        """Warn of a model that is far from the optimum, or may be where that cannot be measured."""
        measured = [run for run in runs if run.left is not None]
        ran = max((len(run.curve) for run in runs if not run.stopped), default=0)
        if measured:
            size = sum(run.size for run in measured)  # 0 where all labels are alike
            share = sum(run.left or 0.0 for run in measured) / size if size > 0 else 0.0
            far = FAR * tol
            how = (
                f"with an objective that lies at least {share:.1%} of the best constant model's "
                f"above the optimum, and tol was {tol:g}"
            )
        else:
            far, share = 0.0, float(ran > 0)
            how = "with the objective still falling by more than tol"
        if share <= far:
            return
        if ran == 0:
            end, more = "when it gained little any more", "more bits or a smaller eta0 help"
        elif ran < epochs and refined:
            end = f"after {ran} epochs and rounds of refinement, the most that there are,"
            more = "more bits or redraw=True help"
        elif ran < epochs:
            end = f"after {ran} epochs, the most that data drawn once allow,"
            more = "fit raw samples, with redraw or refine, or choose eta0 or more bits"
        else:
            end, more = f"after max_iter={epochs} epochs", "raise max_iter, eta0, bits or tol"
        warnings.warn(
            f"training ended {end} {how}; {more}, or set tol=None",
            ConvergenceWarning,
            stacklevel=4,
        )

    def _targets(self, X: Any, y: Any, go_on: bool, classes: ArrayLike | None) -> Any:
        """Labels as :meth:`_problems` takes them."""
        raise NotImplementedError

    def _problems(
        self, X: Any, y: Any, weights: NDArray[np.float64] | None, own: bool, partial: bool
    ) -> tuple[list[Problem], Normalization | None]:
        """The linear models to train, and what the range of their labels is taken from.

        ``own``: the weights, if there are any, are those that a packed data set carries.
        """
        raise NotImplementedError

    def _together(
        self, data: Data, y: Any, weights: NDArray[np.float64] | None
    ) -> Multinomial | None:
        """All models as one problem, where they are to be refined as one."""
        return None

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Any:
        """Train.

        Parameters
        ----------
        X : array_like, frame or sparse matrix, (n_samples, n_features); PackedDataset; path
            Raw samples, packed ones, or a file of these, which is mapped and not read whole.
        y : array_like, shape (n_samples,)
            Labels; a packed data set's own if left out.
        sample_weight : array_like, shape (n_samples,), optional
            Weights of the samples' losses; brought to a mean of 1.

        Returns
        -------
        self

        Raises
        ------
        ArgumentError
            A parameter, or what was packed, does not go with the rest.
        DivergenceError
            See :meth:`zipml_pynq.accelerator.driver.SgdDriver.train`.
        """
        self._check_parameters()
        go_on = bool(self.warm_start) and hasattr(self, "model_")
        return self._fit(X, y, sample_weight, epochs=self.max_iter, go_on=go_on)

    def _bar(self, total: int) -> Any:
        if not self.verbose:
            from contextlib import nullcontext

            return nullcontext()
        from tqdm.auto import tqdm

        return tqdm(total=total, desc=type(self).__name__, unit="epoch")

    def _keep(self, runs: list[Run], done: int, alpha: float) -> None:
        """Fitted attributes."""
        self.alpha_ = alpha
        results = [result for run in runs for result in run.results]
        # a warm start goes on from where training was, and not from its mean
        self._courses = {}
        if self.warm_start:
            self._courses = dict(enumerate(course for run in runs for course in run.courses))
        self.normalization_ = runs[0].normalization
        self.model_ = np.concatenate([np.atleast_2d(run.model) for run in runs])
        self.n_iter_ = max(len(run.curve) for run in runs)
        self.t_ = done + self.n_iter_
        self.loss_curve_ = mean_curve([run.curve for run in runs])
        self.__dict__.pop("validation_curve_", None)
        held = [run.validation_curve for run in runs if run.validation_curve is not None]
        if held:
            self.validation_curve_ = mean_curve(held)
        self.bytes_streamed_ = sum(result.bytes_streamed for result in results)
        self.refetched_ = sum(result.refetched for result in results)
        self.saturated_ = sum(result.saturations for result in results)
        raw = [self.normalization_.to_raw_model(model / MODEL_ONE) for model in self.model_]
        self.coef_ = np.stack([coefficients for coefficients, _ in raw])
        self.intercept_ = np.array([intercept for _, intercept in raw])

    def _linear(self, X: Any) -> NDArray[np.float64]:
        """``X @ coef + intercept``, shape (samples, models)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])
        coefficients = np.atleast_2d(self.coef_)
        return np.asarray(safe_sparse_dot(X, coefficients.T, dense_output=True) + self.intercept_)
