"""Models that are trained side by side, from the same packed samples and the same draws of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.accelerator.sharing import on_a_free_one
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.learn.objective import Course, Rows, Stopper
from zipml_pynq.learn.problem import Draws
from zipml_pynq.training.defaults import cooling_of
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.result import TrainResult


@dataclass(eq=False)
class Trainee:
    """A linear model while it is trained.

    Parameters
    ----------
    packed : PackedDataset
        The samples of epoch 0 with this model's labels.
    plans : dict of int to Plan
        Of all epochs, for each precision.
    objectives : callable
        Of rows and models (models, features) in normalized units: the objective of each.
    left : callable
        Of rows and a model: what is known to be left to gain.
    size : float
        The objective of the best constant model.
    course : Course
        The models so far.
    model : ndarray of int32, optional
        Where training goes on.
    stopper : Stopper, optional
        The rule that ends it.
    cools : bool
        Whether its step then falls to nothing, in some more epochs.
    """

    packed: PackedDataset
    plans: dict[int, Plan]
    objectives: Callable[[Rows, NDArray[np.float64]], NDArray[np.float64]]
    left: Callable[[Rows, NDArray[np.float64]], float | None]
    size: float
    course: Course
    model: NDArray[np.int32] | None
    stopper: Stopper | None
    cools: bool = False
    results: list[TrainResult] = field(default_factory=list)
    before: int = field(init=False)
    end: int | None = None

    def __post_init__(self) -> None:
        self.before = len(self.course)

    def train(
        self,
        drivers: Sequence[Any],
        draws: Draws,
        bits: int,
        first: int,
        stop: int,
        progress: Any,
    ) -> None:
        """Go on with the epochs ``first`` to ``stop - 1``, whose draws are made, on a free one of
        the drivers."""
        stop = min(stop, self.end or stop)
        plan = self.plans[bits].part(first, stop)

        def on(driver: Any) -> TrainResult:
            if isinstance(driver, HostDriver) and draws.changes and progress is None:
                made = [draws.made(epoch) for epoch in range(first, stop)]
                return driver.train_drawn(self.packed, plan, made, self.model)
            return driver.train(
                draws.of(self.packed, first),
                plan,
                model=self.model,
                progress=progress,
                redraw=(lambda e: draws.of(self.packed, first + e)) if draws.changes else None,
                judge=False,
            )

        result = on_a_free_one(drivers, on)
        self.results.append(result)
        self.model = result.model_fixed
        self.course.add(result.history_fixed)

    def take_in(self, refined: TrainResult) -> None:
        """Go on with what refinement made of the model."""
        self.results.append(refined)
        if len(refined.history):
            self.course.precision_changes()
            self.course.add(refined.history_fixed)

    def ends(self, done: int, latest: int | None, last: int) -> bool:
        """Whether a training is at its end, after so many epochs, of ``last`` at most.

        Where little is left to gain, or at the epoch ``latest``, the step begins to fall.
        """
        if self.end is not None:
            return done >= self.end
        quiet = self.stopper is not None and self.stopper(self.course)
        if not self.cools:
            return quiet
        if quiet or (latest is not None and done >= latest):
            self.end = min(done + cooling_of(done), last)
            self.course.cooling = len(self.course)
            self.plans = {b: plan.cooled(done, self.end) for b, plan in self.plans.items()}
        return False
