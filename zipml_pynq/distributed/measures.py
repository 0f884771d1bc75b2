"""What shards tell of themselves beside training, and what it adds up to: moments, objectives.

Floating-point sums are taken in the order of shards, so that they do not depend on workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.distributed.cluster import Cluster
from zipml_pynq.distributed.shards import Shard, opened
from zipml_pynq.learn.objective import Rows, constant_objective
from zipml_pynq.training.losses import LOSSES
from zipml_pynq.training.make_plan import make_plan, step_sizes
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.step import auto_shifts, second_moments

# ---- On a shard's worker -----------------------------------------------------------------------


def _moments(source: Any, model: int, bits: int, sampling: str) -> Any:
    packed = opened(source)[model]
    return packed.layout.samples, *second_moments(packed, bits=bits, sampling=sampling)


def _plan(source: Any, model: int, options: dict[str, Any]) -> Plan:
    return make_plan(opened(source)[model], **options)


def _labels(packed: Any) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Normalized labels and weights."""
    samples = packed.layout.samples
    labels = packed.labels[:samples] / MODEL_ONE
    if packed.weights is None:
        return labels, None
    return labels, packed.weights[:samples] / float(1 << CONFIG.weight_fraction_bits)


def _label_sums(source: Any) -> NDArray[np.float64]:
    """Of each model: sums of weights w, of w z, w z^2, and of w where z < 0, (models, 4)."""
    sums = []
    for packed in opened(source):
        z, w = _labels(packed)
        w = np.ones(len(z)) if w is None else w
        sums.append([w.sum(), w @ z, w @ z**2, w @ (z < 0)])
    return np.array(sums)


def _rows(source: Any) -> Rows:
    """Rows of a shard that objectives are taken on: values, or of packed files draws of them."""
    if isinstance(source, Shard) and source.rows is not None:
        return source.rows
    packed = opened(source)[0]
    bits, sampling = max(packed.layout.bits), packed.layout.sampling
    sampling = "symmetric" if sampling == "double" else sampling
    return Rows.drawn(packed, bits, sampling, 0, packed.layout.blocks)


def _row_moments(source: Any) -> tuple[int, NDArray[np.float64]]:
    return opened(source)[0].layout.samples, _rows(source).second_moments


def _objectives(
    source: Any, models: NDArray[np.float64], loss: str, l2: float, l1: float
) -> tuple[int, NDArray[np.float64]]:
    """Samples, and the objective on rows of a shard of each of (count, models, features)."""
    sets = opened(source)
    rows = _rows(source)
    found = [
        rows.objectives(models[:, number], *_labels(packed), loss, l2, l1)
        for number, packed in enumerate(sets)
    ]
    return sets[0].layout.samples, np.stack(found, axis=1)


# ---- What it adds up to ------------------------------------------------------------------------


def common_plans(
    cluster: Cluster, models: Sequence[int], options: dict[str, Any], horizon: int
) -> list[Plan]:
    """A plan for each of some models that goes for all shards.

    ``feature_shifts="auto"`` follows second moments over all shards, ``step="auto"`` is the least
    of the shards' own ones, chosen for ``horizon`` epochs at most; what is left to be chosen, shard
    0 chooses.
    """
    plans = []
    for model in models:
        own = dict(options)
        if own.get("feature_shifts") == "auto":
            found = cluster.each(_moments, model, own["bits"], own["sampling"])
            samples = np.array([count for count, _, _ in found], dtype=np.float64)
            seen, noisy = (
                np.tensordot(samples / samples.sum(), np.stack(own_of), 1)
                for own_of in ([s for _, s, _ in found], [n for _, _, n in found])
            )
            own["feature_shifts"] = auto_shifts(seen, noisy, l2=own["l2"])
        if own["step"] == "auto":
            trial = {**own, "epochs": min(horizon, own["epochs"])}
            found = [float(plan.step[0]) for plan in cluster.each(_plan, model, trial)]
            # a schedule may begin with another factor than 1
            own["step"] = min(found) / step_sizes(1.0, own["schedule"], 1)[0]
        plans.append(cluster.first(_plan, model, own))
    return plans


def row_moments(cluster: Cluster) -> tuple[NDArray[np.float64], int]:
    """Second moments of the features' values over all shards, and the samples."""
    found = cluster.each(_row_moments)
    samples = np.array([count for count, _ in found])
    shares = samples / samples.sum()
    return np.tensordot(shares, np.stack([own for _, own in found]), 1), int(samples.sum())


def objectives_of(
    cluster: Cluster, loss: str, l2: float, l1: float
) -> Callable[..., NDArray[np.float64]]:
    """A function of models (count, models, features), in normalized units, that gives the objective
    of each over all shards, (count, models)."""

    def objectives(models: NDArray[np.float64]) -> NDArray[np.float64]:
        found = cluster.each(_objectives, models, loss, l2, l1)
        samples = np.array([count for count, _ in found], dtype=np.float64)
        return np.tensordot(samples / samples.sum(), np.stack([o for _, o in found]), 1)

    return objectives


def constant_objectives(cluster: Cluster, loss: str) -> NDArray[np.float64]:
    """The least objective that one prediction for all samples has, of each model."""
    sums = np.sum(cluster.each(_label_sums), axis=0)
    sizes = []
    for weight, first, second, negative in sums:
        if LOSSES[loss].margin:
            shares = np.array([negative, weight - negative])
            sizes.append(constant_objective(np.array([-1.0, 1.0]), shares, loss))
        else:
            sizes.append(max(0.0, second / weight - (first / weight) ** 2) / 2)
    return np.array(sizes)
