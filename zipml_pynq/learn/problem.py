"""What a fit trains on, and what came out: packed samples, one-against-rest problems, runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.learn.objective import Rows
from zipml_pynq.training.result import TrainResult


@dataclass(frozen=True, eq=False)
class Problem:
    """One linear model to train: its labels and weights, one a sample, or the data set's own."""

    labels: NDArray[np.float64] | None
    weights: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class Data:
    """Packed samples, and the rows that objectives are taken on.

    Parameters
    ----------
    whole, packed : PackedDataset
        All packed samples, and those to train on.
    rows : ndarray of int
        Numbers of the samples of ``whole`` among the targets.
    train, validation : Rows
    """

    whole: PackedDataset
    packed: PackedDataset
    rows: NDArray[np.intp]
    train: Rows
    validation: Rows | None = None


@dataclass
class Run:
    """A trained model and what its training did."""

    model: NDArray[np.int32]
    normalization: Normalization
    curve: NDArray[np.float64]
    validation_curve: NDArray[np.float64] | None
    stopped: bool
    results: list[TrainResult] = field(default_factory=list)


def head(packed: PackedDataset, blocks: int) -> PackedDataset:
    """The first blocks of a data set; everything is shared."""
    if blocks == packed.layout.blocks:
        return packed
    samples = blocks * packed.layout.block_samples
    return replace(
        packed,
        planes=packed.planes[:blocks],
        labels=packed.labels[:samples],
        layout=replace(packed.layout, samples=samples),
        full=None if packed.full is None else packed.full[:samples],
        weights=None if packed.weights is None else packed.weights[:samples],
    )


def is_packed(X: Any) -> bool:
    return isinstance(X, PackedDataset | str | os.PathLike)


def own_labels(packed: PackedDataset) -> NDArray[np.float64]:
    """Raw labels of a packed data set, as its fixed point holds them."""
    fixed = packed.labels[: packed.layout.samples]
    return packed.normalization.inverse_labels(fixed / MODEL_ONE)


def mean_curve(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over models; one that has stopped counts with its last value."""
    length = max(map(len, curves))
    return np.mean([np.pad(c, (0, length - len(c)), mode="edge") for c in curves], axis=0)
