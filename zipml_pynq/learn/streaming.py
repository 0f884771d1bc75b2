"""Estimators that learn from a stream, call by call: what is behind ``partial_fit``."""

from __future__ import annotations

from functools import partial
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.accelerator.each import in_turn
from zipml_pynq.accelerator.sharing import on_a_free_one
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.layout import DEFAULT_BATCH, FLOAT32
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.estimator import DELAY, ZipMLEstimator
from zipml_pynq.learn.objective import Rows
from zipml_pynq.learn.problem import Draws, Problem, Run, is_packed
from zipml_pynq.learn.sklearn import ClassifierMixin, check_random_state
from zipml_pynq.learn.stream import STEP_SHARE, Stream
from zipml_pynq.training.losses import LOSSES
from zipml_pynq.training.make_plan import step_sizes
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.step import Moments, moments, shifts_of, stable_step

#: Most passes over the rows of a call, each with a draw and an order of its own.
PASSES = 4
#: Largest entry that a model is carried over with, in normalized units; 128 are held.
LARGEST = 100.0


class StreamingEstimator(ZipMLEstimator):
    """An estimator with ``partial_fit``."""

    def _partial_fit(
        self, X: Any, y: Any, sample_weight: Any, classes: ArrayLike | None = None
    ) -> Any:
        """Train all models on the next rows of a stream."""
        self._check_parameters()
        if is_packed(X):
            raise ArgumentError("X was packed; partial_fit takes raw samples, whose range may grow")
        go_on = hasattr(self, "model_")
        X, y = self._read(X, y, reset=not go_on)
        weights = self._weights(sample_weight, X, scale=False)
        y = self._targets(X, y, go_on, classes)
        problems, _ = self._problems(X, y, weights, sample_weight is None, True)
        before = self.normalization_ if go_on else None
        stream = self._taken_in(X, problems, weights, before)
        signs = isinstance(self, ClassifierMixin)
        normalization = stream.normalization(before, bool(self.fit_intercept), signs)
        last, means = self._carried_over(before, normalization)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        calls = self.t_ if go_on else 0
        # a batch is one step: a call of many rows is gone over as often as it has batches
        passes = min(PASSES, -(-X.shape[0] // (self._wanted_batch or DEFAULT_BATCH)))
        packed = self._pack(
            X, _labels(problems[0]), None, normalization, seed, calls * PASSES, grows=True
        )
        draws = Draws(packed, X, changes=passes > 1)
        draws.make(0, passes, in_turn)
        layout = packed.layout
        drivers = self._drivers(layout.value_format, layout.word_bits)
        # the mean of all models counts the later ones more, each by the rows of its call
        share = min(1.0, 2 * X.shape[0] / stream.rows) if self.average else 1.0
        rows = Rows.of_values(X, np.arange(X.shape[0]), normalization)
        alpha = self._alpha_of(stream.squared_size(normalization), stream.rows)
        runs, ends = [], []
        for number, problem in enumerate(problems):
            own = packed.relabel(_labels(problem), problem.weights, normalization)
            plan = self._stream_plan(own, stream, rows, seed, calls, passes, alpha)
            options = {
                "model": None if last is None else last[number],
                "redraw": partial(draws.of, own) if passes > 1 else None,
                "judge": False,
            }
            result = on_a_free_one(drivers, methodcaller("train", own, plan, **options))
            ends.append(result.model)
            model = result.model if means is None else means[number]
            model = model + share * (result.model - model)
            fixed = np.rint(model * MODEL_ONE).astype(np.int32)
            z = normalization.transform_labels(_labels(problem))
            penalties = self._penalties(alpha)
            curve = rows.objectives(model[None], z, problem.weights, self.loss, *penalties)
            runs.append(Run(fixed, normalization, curve, None, True, [result]))
        self._keep(runs, calls, alpha)
        self._last = np.stack(ends)
        return self

    def _taken_in(
        self,
        X: Any,
        problems: list[Problem],
        weights: NDArray[np.float64] | None,
        before: Normalization | None,
    ) -> Stream:
        """The stream with the rows of this call in it."""
        stream: Stream = self.__dict__.setdefault("_stream", Stream(before))
        labels = _labels(problems[0])
        if weights is not None:
            counting = np.flatnonzero(weights > 0)
            X, labels = X[counting], labels[counting]
        if labels.size:
            stream.take(X, labels)
        elif stream.rows == 0:
            raise ArgumentError("sample_weight was 0 for all samples so far; one must be positive")
        return stream

    def _carried_over(
        self, before: Normalization | None, now: Normalization
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Where training stands, and the models so far, in units of a normalization."""
        if before is None:
            return None, None
        means = self.model_ / MODEL_ONE
        last = self.__dict__.get("_last", means)
        if now is before:
            return last, means
        # an entry grows with the range of its column, and the accelerator holds so much
        carried = [
            np.clip([before.carried_over(model, now) for model in models], -LARGEST, LARGEST)
            for models in (last, means)
        ]
        return carried[0], carried[1]

    def _stream_plan(
        self,
        packed: PackedDataset,
        stream: Stream,
        rows: Rows,
        seed: int,
        calls: int,
        passes: int,
        alpha: float,
    ) -> Plan:
        """Passes over rows of a stream, at a step that follows from all rows so far.

        And at most at what keeps this call's batches a contraction, as of rows that all lie on one
        side of the means so far: where columns begin to vary.
        """
        bits, batch = self._bits_of(calls), self._batch(packed)
        l2, l1 = self._penalties(alpha)
        sizes = stream.squared_size(packed.normalization)
        shifts = shifts_of(np.where(sizes > 0, sizes + l2, 0.0))
        if not self.feature_steps:
            shifts[:] = 0
        step: Any = self.eta0
        if step == "auto":
            # the variance of values that lie anywhere between two levels
            noise = 0.0 if packed.layout.value_format == FLOAT32 else 4.0 ** (2 - bits) / 6
            size = float((np.exp2(shifts) * (sizes + noise + l2)).sum())
            largest = 1.0
            if packed.weights is not None:
                largest = max(1.0, packed.weights.max() / 2.0**CONFIG.weight_fraction_bits)
            bend = LOSSES[self.loss].curvature * largest
            window = batch * (DELAY + 1)
            own = np.clip(rows.q1, -1, 1) * np.exp2(shifts / np.float32(2), dtype=np.float32)
            # of fewer rows than a window, each still counts as one of a window
            curvature = moments(own, window=window).curvature * min(1.0, len(own) / window)
            stable = stable_step(
                Moments(curvature),
                samples=len(own),
                batch=batch,
                delay=DELAY,
                l2=l2 * 2.0 ** int(shifts.max()),
                curvature=bend,
            )
            step = min(batch * STEP_SHARE / (bend * size), stable)
        polynomial = self.approximation == "chebyshev"
        if self.learning_rate != "auto" or polynomial:  # a stream has no end to fall to
            step = step_sizes(step, self._schedule, calls + 1)[-1]
        return self._plan(
            packed,
            bits,
            epochs=passes,
            l2=l2,
            l1=l1,
            step=float(step),
            schedule="constant",
            fresh=True,
            seed=seed,
            feature_shifts=shifts,
        )


def _labels(problem: Problem) -> NDArray[np.float64]:
    """Those of raw samples, which always have some."""
    assert problem.labels is not None
    return np.asarray(problem.labels, dtype=np.float64)
