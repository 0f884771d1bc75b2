"""Whether a finished run diverged: judged on the data that it trained on, and told."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.values import block_values
from zipml_pynq.errors import DivergenceError, ZipmlWarning
from zipml_pynq.training.losses import LOSSES
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.result import TrainResult

#: Entries of a model in normalized units that a healthy run does not reach while results clamp:
#: a coefficient is clamped at this size.
FAR = 8.0
#: Final loss over the start's from which a run is worth a warning, and from which it diverged.
WORSE, DIVERGED = 1.1, 2.0
#: Standard errors by which a ratio must be exceeded: noise of the rows looked at is no alarm.
SIGNIFICANCE = 4.0
#: Scatter of the errors (see :func:`scatter`) from which a run diverged.
SCATTERED = 10.0
#: Values that are looked at, about; at least one block.
VALUES = 1 << 18


def row_losses(
    packed: PackedDataset, plan: Plan, models: list[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """Losses of some rows, spread over the data set, for each model.

    Of least squares, twice the loss: with double sampling the product of the errors of Q1 and Q2,
    whose mean is the squared error of the exact values; else the squared error of Q1. Of the other
    losses, which have no such estimate, twice that of (Q1 + Q2) / 2, whose noise is the least. All
    times the sample's weight.

    Returns
    -------
    list of ndarray of float64, shape (rows,)
        In the order of ``models``; the same rows for each.
    """
    layout = packed.layout
    size = layout.block_samples
    wanted = max(1, VALUES // (size * layout.features))
    blocks = np.unique(np.linspace(0, layout.blocks - 1, wanted).astype(np.intp))
    q1, q2 = block_values(packed, plan.bits, plan.sampling, blocks)
    real = (blocks[:, None] * size + np.arange(size)).ravel() < layout.samples
    labels = packed.labels.reshape(layout.blocks, size)[blocks].ravel() / MODEL_ONE
    q1, q2, labels = q1[real], q2[real], labels[real]
    weights = np.ones(len(labels))
    if packed.weights is not None:
        fixed = packed.weights.reshape(layout.blocks, size)[blocks].ravel()[real]
        weights = fixed / float(1 << CONFIG.weight_fraction_bits)
    loss = LOSSES[plan.loss]
    if loss.margin:
        sign = np.where(labels < 0, -1.0, 1.0)
        middle = (q1 + q2) / 2
        return [np.asarray(2 * weights * loss.value(sign * (middle @ x))) for x in models]
    return [np.asarray(weights * (q1 @ x - labels) * (q2 @ x - labels)) for x in models]


def grew(before: NDArray[np.float64], after: NDArray[np.float64], ratio: float) -> bool:
    """Whether the mean of ``after`` exceeds ``ratio`` times that of ``before``, beyond chance."""
    excess = after - ratio * before
    error = excess.std() / np.sqrt(len(excess))
    return bool(excess.mean() > SIGNIFICANCE * error and after.mean() > ratio * before.mean())


def scatter(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """How much more the errors scatter than they should: above 1 no mean tells how large they are.

    A model that ran away on one draw was fitted to that draw: the product of the errors of Q1 and
    Q2 is no unbiased estimate then, and may be negative. Its standard error shows it, here as a
    multiple of the start's loss or of three times the start's standard error.
    """
    error_before = before.std() / np.sqrt(len(before))
    error_after = after.std() / np.sqrt(len(after))
    allowed = max(before.mean(), 3 * error_before)
    return float(error_after / allowed) if allowed > 0 else 0.0


def judged(
    result: TrainResult,
    packed: PackedDataset,
    plan: Plan,
    start: NDArray[np.int32],
    allow_divergence: bool,
) -> TrainResult:
    """Hand the result on, or tell that the run diverged.

    A run diverged if its loss ended at more than twice the start's, if the errors of its samples
    scatter far more than at the start, or if results were clamped and the model ended far out.
    (Coefficients are clamped at 8, so a run that diverges need not grow without bound: it wanders
    about at tens. One whose first steps were too large comes back.)

    Raises
    ------
    DivergenceError
        It diverged, and ``allow_divergence`` is false; the error's ``result`` is the run.

    Warns
    -----
    ZipmlWarning
        Results were clamped, the loss ended at more than 1.1 times the start's, or errors scatter
        more than the start's loss.
    """
    before, after = row_losses(packed, plan, [start / MODEL_ONE, result.model])
    judge_losses(result, before, after, allow_divergence, stacklevel=4)
    return result


def judge_losses(
    result: TrainResult,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    allow_divergence: bool,
    stacklevel: int = 3,
) -> None:
    """:func:`judged` by the losses of some rows (:func:`row_losses`) at the start and the end."""
    faults = []
    if result.saturations:
        faults.append(f"{result.saturations} results were clamped")
    if grew(before, after, WORSE):
        faults.append(
            f"the loss ended at {after.mean() / 2:g}, the start's was {before.mean() / 2:g}"
        )
    lost = scatter(before, after)
    if lost > 1:
        faults.append("the errors of quantized samples scatter far more than at the start")
    if not faults:
        return
    far = bool(np.abs(result.model).max() >= FAR)
    message = (
        f"{' and '.join(faults)}: the step is too large for this data set, precision and delay; "
        "a smaller step, more bits or fresh draws (redraw=) help"
    )
    diverged = lost > SCATTERED or (result.saturations and far) or grew(before, after, DIVERGED)
    if diverged and not allow_divergence:
        error = DivergenceError(f"training diverged: {message}")
        error.result = result
        raise error
    warnings.warn(message, ZipmlWarning, stacklevel=stacklevel)
