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
from zipml_pynq.data.planes import pack_planes
from zipml_pynq.learn.objective import Course, Rows
from zipml_pynq.training.result import TrainResult

#: Draws that are kept for the models to come, in bytes.
KEPT_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Problem:
    """One linear model to train: its labels and weights, one a sample, or the data set's own."""

    labels: NDArray[np.float64] | None
    weights: NDArray[np.float64] | None


class Draws:
    """Packed samples in a new order for every epoch, and where raw ones are there with new draws.

    In one order the models at the ends of epochs would all lean to the same last batches, and their
    mean with them.

    Parameters
    ----------
    packed : PackedDataset
        That of epoch 0.
    X : array or sparse matrix, optional
        The raw samples that it was packed from.
    changes : bool
        False: every epoch has the same.
    """

    def __init__(self, packed: PackedDataset, X: Any = None, changes: bool = True) -> None:
        self.packed = packed
        self.X = X
        self.changes = changes
        self._kept: dict[int, NDArray[np.uint64]] = {}

    @property
    def fresh(self) -> bool:
        """Whether every epoch has a draw of its own."""
        return self.changes and self.X is not None

    def of(self, packed: PackedDataset, epoch: int) -> PackedDataset:
        """The samples of ``packed``, whose labels may be others, as an epoch has them."""
        if not self.changes or epoch == 0:
            return packed
        own = self.packed
        order = np.random.default_rng((own.seed, epoch)).permutation(packed.layout.samples)
        if self.X is None:
            return packed.reordered(order)
        planes = self._kept.get(epoch)
        if planes is None:
            planes = pack_planes(
                self.X[order],
                own.normalization,
                own.layout,
                own.seed,
                own.draw + epoch,
                own.levels,
                None,
            )
            # several models take the same draws one after the other
            if (len(self._kept) + 1) * planes.nbytes <= KEPT_BYTES:
                self._kept[epoch] = planes
        return replace(
            packed,
            planes=planes,
            draw=own.draw + epoch,
            labels=_reordered(packed.labels, order),
            weights=None if packed.weights is None else _reordered(packed.weights, order),
            full=None if packed.full is None else _reordered(packed.full, order),
        )


def _reordered(a: NDArray, order: NDArray[np.intp]) -> NDArray:
    """Samples in another order, the padding behind them."""
    return np.concatenate([a[order], a[len(order) :]])


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
    draws : Draws
        Of the samples to train on, one an epoch.
    """

    whole: PackedDataset
    packed: PackedDataset
    rows: NDArray[np.intp]
    train: Rows
    draws: Draws
    validation: Rows | None = None


@dataclass
class Run:
    """A trained model and what its training did.

    ``size`` is the objective of the best constant model, ``left`` what is known to be left to gain;
    None where nothing is known.
    """

    model: NDArray[np.int32]
    normalization: Normalization
    curve: NDArray[np.float64]
    validation_curve: NDArray[np.float64] | None
    stopped: bool
    results: list[TrainResult] = field(default_factory=list)
    course: Course | None = None
    size: float = 0.0
    left: float | None = None


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
