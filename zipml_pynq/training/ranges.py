"""Default ranges of a quantized model and gradient: how large they get in a short float run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.values import block_values
from zipml_pynq.training.baseline import float_sgd_loss
from zipml_pynq.training.losses import LOSSES
from zipml_pynq.training.plan import Plan

#: Batches and values of the short run, about, and its updates at most.
BATCHES, VALUES, UPDATES = 512, 1 << 20, 8_192
#: Room that a model gets above the largest entry of the short run.
ROOM = 1.25
#: Share of the batches whose gradients are to fit.
FITTING = 0.99
#: Smallest and largest range: one unit of a model entry, and what it holds.
_LIMITS = (1 / MODEL_ONE, 128.0)


def auto_ranges(
    packed: PackedDataset,
    plan: Plan,
    sizes: NDArray[np.float64],
    costs: tuple[float, float] = (1.0, 1.0),
) -> tuple[float, NDArray[np.float64]]:
    """Ranges of the model and, for every epoch, of the gradient (docs/end_to_end.md).

    A float run with the plan's loss, batch and steps on some blocks tells: the model's range is its
    largest entry, and some room; the gradient's range in an epoch is what 99 % of the batches stay
    within at the model that the epoch begins with. Weights of samples count.

    Parameters
    ----------
    packed : PackedDataset
    plan : Plan
        Its bits, sampling, batch, loss, l2 and steps of features count.
    sizes : ndarray of float64, shape (epochs,)
        The step of every epoch.
    costs : tuple of float
        Of negative labels and of the others.

    Returns
    -------
    model : float
    gradients : ndarray of float64, shape (epochs,)
        Of the mean over a batch, costs and weights in it.
    """
    layout = packed.layout
    size, batch = layout.block_samples, plan.batch
    rows = min(max(BATCHES * batch, 2048), max(1, VALUES // layout.features))
    blocks = np.unique(np.linspace(0, layout.blocks - 1, max(1, rows // size)).astype(np.intp))
    q1, q2 = block_values(packed, plan.bits, plan.sampling, blocks)
    index = (blocks[:, None] * size + np.arange(size)).ravel()
    real = index < layout.samples
    index = index[real]
    values, others = q1[real].astype(np.float64), q2[real].astype(np.float64)
    labels = packed.labels[index] / MODEL_ONE
    factors = np.where(labels < 0, *costs)
    if packed.weights is not None:
        factors = factors * (packed.weights[index] / 2.0**CONFIG.weight_fraction_bits)

    passes = -(-len(values) // batch)
    epochs = min(len(sizes), max(1, UPDATES // passes))
    # as many updates as the whole data set gives, where time allows
    repeats = max(1, min(-(-layout.samples // len(values)), UPDATES // (passes * epochs)))
    with np.errstate(over="ignore", invalid="ignore"):
        history = float_sgd_loss(
            values,
            labels,
            np.repeat(sizes[:epochs], repeats),
            plan.loss,
            batch=batch,
            l2=plan.l2,
            weights=factors,
            second=others,
            feature_steps=plan.feature_steps,
        )
        starts = np.concatenate([np.zeros_like(history[:1]), history[repeats - 1 :: repeats]])
        gradients = []
        for model in starts[:epochs]:
            c = LOSSES[plan.loss].derivative(values @ model, labels) * factors
            sums = np.add.reduceat(c[:, None] * others, np.arange(0, len(values), batch))
            gradients.append(np.quantile(np.abs(sums).max(axis=1) / batch, FITTING))
        largest = ROOM * np.abs(history).max()
    found = np.nan_to_num([largest, *gradients], nan=_LIMITS[1])
    found = np.clip(found, *_LIMITS)
    later = np.full(len(sizes) - epochs, found[-1])
    return float(found[0]), np.concatenate([found[1:], later])
