"""Refinement of all classes' models together, to the optimum of the multinomial logistic loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.accelerator.each import Each, in_turn
from zipml_pynq.accelerator.refine import (
    Run,
    Trained,
    _count_pass,
    _Course,
    _courses_of,
    _joined,
)
from zipml_pynq.training.exact_rows import ExactRows
from zipml_pynq.training.refinement import Progress, Refine, curved
from zipml_pynq.training.result import TrainResult
from zipml_pynq.training.softmax import FloatArray, Softmax, penalty

#: Curvature that is brought to 1 where a class has less: the penalty, which is not brought along,
#: has to stay a small part of it.
_LEAST_CURVATURE = 2.0**-6


def refined_softmax(
    run: Run,
    trained: Sequence[Trained],
    numbers: NDArray[np.intp],
    weights: FloatArray,
    refine: Refine,
    each: Each = in_turn,
) -> list[TrainResult]:
    """Refine models of classes, trained one against the rest, to their common optimum.

    A round asks the draw for a change of every class, by its own curvatures p (1 - p), and goes
    along all of them together and along the step before: conjugate gradients, where rounds are the
    preconditioner. Whatever all models have alike is taken out, for it changes the penalty alone.

    Parameters
    ----------
    run : callable
        Trains on the device by a plan, from a model in fixed point, and judges nothing.
    trained : sequence
        Of :class:`zipml_pynq.accelerator.refine.Trained`, one a class, with the same l2 and the
        same ``enough``, which is of all of them together.
    numbers : ndarray of intp, shape (samples,)
        Of the samples' classes, in the order of the packed samples.
    weights : ndarray of float64, shape (samples,)
    refine : Refine
        With raw rows.
    each : callable
        Calls a function with each of some things.

    Returns
    -------
    list of TrainResult
        As :func:`zipml_pynq.accelerator.refine.refined_together` has them; what was left to gain
        and the objective are of all models together.
    """
    rows = refine.rows
    assert isinstance(rows, ExactRows)
    courses = _courses_of(_Course, run, trained, refine)
    progress = Progress(refine.tol, trained[0].enough)
    for one in courses:
        one.progress = progress
    _rounds(courses, rows, Softmax(numbers, weights, each), progress, refine.rounds, each)
    return [_joined(one) for one in courses]


def _rounds(
    courses: list[_Course],
    rows: ExactRows,
    loss: Softmax,
    progress: Progress,
    rounds: int,
    each: Each,
) -> None:
    l2 = courses[0].l2
    models = _centred(np.stack([one.model for one in courses]))
    margins = rows.dots(models, each)
    _count_pass(courses, rows)
    objective = loss.value(margins) + penalty(models, l2)
    # the first step is from nothing: trained apart, models may be too small or large together
    step, along = models, margins.copy()
    for _ in range(rounds):
        slopes, curvatures = loss.slopes(margins)
        gradients = rows.sums(slopes, each) + l2 * models
        _count_pass(courses, rows)
        del slopes  # as large as the margins are

        asked = list(zip(courses, curvatures, gradients, strict=True))
        changes = np.stack(each(lambda of: _change(*of), asked))
        left = -float(np.vdot(gradients, changes)) / 2
        changes = _centred(changes)
        if not changes.any():
            progress.converged = not gradients.any()
            break
        if progress.ends(left, objective):
            break
        changes /= np.linalg.norm(changes)
        dots = rows.dots(changes, each)
        _count_pass(courses, rows)
        share, value = loss.best(margins, (dots, along), models, (changes, step), l2)
        step = share[0] * changes + share[1] * step
        along *= share[1]
        dots *= share[0]
        along += dots
        models, margins = models + step, np.add(margins, along, out=margins)
        progress.gains.append(objective - value)
        objective = value
        for one, model in zip(courses, models, strict=True):
            one.model = model
            one.models.append(model)
    for one in courses:
        one.objective = objective


def _change(one: _Course, curvatures: NDArray[np.float32], gradient: FloatArray) -> FloatArray:
    """What the draw has for a class' gradient."""
    if not gradient.any():
        return np.zeros_like(gradient)
    # weights of up to 1, for which the step is chosen: with those as they are it is a fraction of
    # what is stable
    unit = max(float(curvatures.max()), _LEAST_CURVATURE)
    weights = curvatures.astype(np.float64) / unit
    one.rounds.weigh(weights, curved(weights))
    found = one.rounds(gradient / unit)
    one.rounds.packed = one.rounds.whole  # samples of one class at a time
    return found


def _centred(models: FloatArray) -> FloatArray:
    """Less what all models have alike."""
    return np.asarray(models - models.mean(axis=0))
