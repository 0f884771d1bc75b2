"""Refinement of all classes' models together, to the optimum of the multinomial logistic loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.accelerator.each import Each, in_turn
from zipml_pynq.accelerator.refine import (
    RefinementCourse,
    Run,
    Trained,
    count_pass,
    courses_of,
    curved_rows,
    joined,
)
from zipml_pynq.training.exact_rows import ExactRows
from zipml_pynq.training.few_rows import MOST_CURVED
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
    courses = courses_of(RefinementCourse, run, trained, refine)
    progress = Progress(refine.tol, trained[0].enough)
    for one in courses:
        one.progress = progress
    _rounds(courses, rows, Softmax(numbers, weights, each), progress, refine, each)
    return [joined(one) for one in courses]


def _rounds(
    courses: list[RefinementCourse],
    rows: ExactRows,
    loss: Softmax,
    progress: Progress,
    refine: Refine,
    each: Each,
) -> None:
    few = refine.rows_a_feature if rows.features <= MOST_CURVED else 0
    l2 = courses[0].l2
    models = _centred(np.stack([one.model for one in courses]))
    along = rows.dots(models, each)
    margins = along.astype(np.float64)
    count_pass(courses, rows)
    objective = loss.value(margins) + penalty(models, l2)
    # the first step is from nothing: trained apart, models may be too small or large together
    step = models
    # slopes and curvatures, and once these are used, what changes make of the rows
    room = np.empty((2, *margins.shape), np.float32)
    for _ in range(refine.rounds):
        slopes, curvatures = loss.slopes(margins, room)
        gradients = rows.sums(slopes, each) + l2 * models
        count_pass(courses, rows)

        asked = list(zip(courses, curvatures, gradients, strict=True))
        found = np.stack(each(partial(_changes, rows=rows, few=few), asked), axis=1)
        left = -float(np.einsum("wkf,kf->w", found, gradients).min()) / 2
        changes = _centred(found)
        if not changes.any():
            progress.converged = not gradients.any()
            break
        if progress.ends(left, objective):
            break
        changes /= np.linalg.norm(changes, axis=(1, 2), keepdims=True)
        dots = room[: len(changes)]
        rows.dots(np.concatenate(changes), each, dots.reshape(-1, rows.samples))
        count_pass(courses, rows)
        shares, value = loss.best(margins, (*dots, along), models, (*changes, step), l2)
        step = shares[-1] * step + np.einsum("w,wkf->kf", shares[:-1], changes)
        loss.move(shares, margins, (*dots, along))
        models = models + step
        progress.gains.append(objective - value)
        objective = value
        for one, model in zip(courses, models, strict=True):
            one.model = model
            one.models.append(model)
    for one in courses:
        one.objective = objective


def _changes(
    of: tuple[RefinementCourse, NDArray[np.float32], FloatArray], rows: ExactRows, few: int
) -> FloatArray:
    """What the draw has for a class' gradient, and few rows, shape (1 or 2, features)."""
    one, curvatures, gradient = of
    found = np.zeros((1 + (few > 0), len(gradient)))
    if not gradient.any():
        return found
    # weights of up to 1, for which the step is chosen: with those as they are it is a fraction of
    # what is stable
    unit = max(float(curvatures.max()), _LEAST_CURVATURE)
    one.rounds.weigh(curvatures, curved(curvatures), unit)
    found[0] = one.rounds(gradient / unit)
    one.rounds.packed = one.rounds.whole  # samples of one class at a time
    solve = curved_rows(one, rows, curvatures, few, one.l2) if few else None
    if solve is not None:
        found[1] = solve(gradient)
    return found


def _centred(models: FloatArray) -> FloatArray:
    """Less what all models have alike."""
    return np.asarray(models - models.mean(axis=-2, keepdims=True))
