"""What estimators do to refine: when, to which objective, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.accelerator.each import Each
from zipml_pynq.accelerator.refine import Run as Trains
from zipml_pynq.accelerator.refine import Trained, refined_together
from zipml_pynq.accelerator.refine_softmax import refined_softmax
from zipml_pynq.accelerator.sharing import on_a_free_one
from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.model_files import ModelFiles
from zipml_pynq.learn.multinomial import Multinomial
from zipml_pynq.learn.objective import BEFORE_ROUNDS, Weight
from zipml_pynq.learn.problem import Data, Ended, Run
from zipml_pynq.learn.side_by_side import Trainee
from zipml_pynq.training.defaults import penalties_of_columns, penalty_of
from zipml_pynq.training.refinement import Refine, checked_refine
from zipml_pynq.training.result import TrainResult

#: Shares of the tolerance that refinement ends at. Of least squares a tenth costs a round or two.
#: Losses of the margin, whose rounds change the problem, take many for it, and end at the
#: tolerance; classes together later, for what they estimate to be left is too little where some of
#: them move alike.
LEAST_SQUARES, MARGIN, MULTINOMIAL = 0.1, 1.0, 0.3


class Refining(ModelFiles):
    """Refinement of models that were trained, each by itself or classes together."""

    def _refines(self, data: Data) -> bool:
        """Whether training goes on to the optimum of the values themselves."""
        if self.refine is False:
            return False
        layout, raw = data.packed.layout, data.draws.X is not None
        if self.refine == "auto":
            return self._refines_by_default(layout, raw) and not data.draws.fresh
        if not self._can_refine(layout, raw):
            raise ArgumentError(
                f"refine was True with loss {self.loss!r}, penalty {self.penalty!r} and "
                f"{layout.value_format} of {layout.bits} bits; allowed is a loss with a second "
                "derivative and penalty 'l2', of raw samples, or least squares of packed ones that "
                "hold more bits than are trained with"
            )
        return True

    def _objective_penalties(self, data: Data) -> tuple[Weight, float]:
        """Weights of half the square and of the absolute value, as the objective has them.

        Where a model is refined, "auto" is each column's own.
        """
        if self.alpha == "auto" and self._refines(data):
            moments = data.train.second_moments.copy()
            moments[len(moments) - int(self.fit_intercept) :] = 0.0
            return penalties_of_columns(moments, data.packed.layout.samples, self.loss), 0.0
        return self._penalties(self._alpha(data))

    def _alpha(self, data: Data) -> float:
        """Weight of the squared model in the objective of this data."""
        return self._alpha_of(data.train.second_moments, data.packed.layout.samples)

    def _alpha_of(self, second_moments: NDArray[np.float64], samples: int) -> float:
        """The same from the features' second moments, and the samples that count."""
        if self.alpha != "auto":
            return float(self.alpha)
        columns = second_moments[: len(second_moments) - int(self.fit_intercept)]
        return penalty_of(columns, samples, self.loss)

    def _to_refine(
        self,
        trainees: list[Trainee],
        models: Sequence[NDArray[np.int32]],
        data: Data,
        sizes: Sequence[float],
    ) -> tuple[Trains, list[Trained], Refine]:
        """What rounds are run by, what is refined, and how; ``sizes``: what tol is a share of."""
        layout = data.packed.layout
        drivers = self._drivers(layout.value_format, layout.word_bits)

        def run(*training: Any, **start: Any) -> TrainResult:
            return on_a_free_one(drivers, methodcaller("train", *training, **start, judge=False))

        tol = 0.0 if self.tol is None else self.tol
        l2, _ = self._objective_penalties(data)
        each_l2 = None if isinstance(l2, float) else l2
        found = []
        for one, model, size in zip(trainees, models, sizes, strict=True):
            nothing = TrainResult.from_fixed(
                model,
                np.empty((0, len(model)), np.int32),
                words=0,
                modelled_cycles=0,
                saturations=0,
                word_bits=layout.word_bits,
            )
            plan = one.plans[self._bits_of(len(one.course) - 1)]
            found.append(Trained(one.packed, plan, nothing, tol * size, each_l2))
        rounds = min(Refine.rounds, max(1, self.max_iter - BEFORE_ROUNDS))
        options = checked_refine(
            Refine(rows=data.exact, rounds=rounds), found[0].packed, found[0].plan
        )
        assert options is not None
        return run, found, options

    def _refined(
        self, trainees: list[Trainee], ended: list[Ended], data: Data, each: Each
    ) -> list[Ended]:
        """What rounds of refinement made of models that were trained."""
        share = LEAST_SQUARES if self.loss == "least_squares" else MARGIN
        sizes = [share * one.size for one in trainees]
        run, models, options = self._to_refine(trainees, [e.model for e in ended], data, sizes)
        results = refined_together(run, models, options, tell=False, each=each)

        def after(both: tuple[Trainee, Ended, TrainResult]) -> Ended:
            one, end, result = both
            one.take_in(result)
            done = result.refinement
            assert done is not None
            curve = end.curve
            if len(result.history):
                curve = np.append(curve, one.objectives(data.train, result.history))
            # true gradients have told it
            left = None
            if done.converged and data.exact is not None:
                left = max([0.0, *done.left[-1:].tolist()])
            return Ended(result.model_fixed, curve, float(curve[-1]), None, done.converged, left)

        return each(after, list(zip(trainees, ended, results, strict=True)))

    def _refined_classes(
        self, trainees: list[Trainee], together: Multinomial, data: Data, each: Each
    ) -> Run:
        """What rounds of refinement made of all classes' models together."""
        epochs = range(trainees[0].before + 1, len(trainees[0].course) + 1)
        trained = np.stack([one.course.models(epochs) for one in trainees], axis=1)
        curve = together.objectives(data.train, trained / MODEL_ONE)
        starts = list(np.rint(trained[-1]).astype(np.int32))
        sizes = [MULTINOMIAL * together.size] * len(trainees)
        run, models, options = self._to_refine(trainees, starts, data, sizes)
        rows = data.rows[: data.packed.layout.samples]
        of_rows = together.numbers[rows], together.weights[rows]
        results = refined_softmax(run, models, *of_rows, options, each)
        for one, result in zip(trainees, results, strict=True):
            one.take_in(result)
        history = np.stack([result.history for result in results], axis=1)
        curve = np.append(curve, together.objectives(data.train, history))
        model = np.stack([result.model_fixed for result in results])
        done = results[0].refinement
        assert done is not None
        left = None
        if done.converged:
            left = max([0.0, *done.left[-1:].tolist()])
        elif self.tol is not None:
            left = together.left(data.train, model / MODEL_ONE)
        zero = float(together.objectives(data.train, np.zeros((1, *model.shape)))[0])
        return Run(
            model,
            trainees[0].packed.normalization,
            curve,
            None,
            done.converged,
            [result for one in trainees for result in one.results],
            [one.course for one in trainees] if self.warm_start else [],
            together.size,
            left,
            float(curve[-1]),
            max(together.size, zero),
        )
