"""What a fit trains on, and what came out: packed samples, one-against-rest problems, runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.accelerator.host import KEPT_BYTES, Draw
from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.planes import Redraws
from zipml_pynq.learn.objective import Course, Rows
from zipml_pynq.training.exact_rows import ExactRows
from zipml_pynq.training.result import TrainResult

#: What labels between -1 and 1 are normalized by.
SIGNS = Normalization(np.zeros(1), np.ones(1), 0.0, 1.0)


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
    rows : ndarray of intp, optional
        In which order it was: numbers of rows of ``X``.
    """

    def __init__(
        self,
        packed: PackedDataset,
        X: Any = None,
        changes: bool = True,
        rows: NDArray[np.intp] | None = None,
    ) -> None:
        self.packed = packed
        self.X = X
        self.changes = changes
        self.rows = rows
        self._made: dict[int, Draw] = {}
        if self.fresh:
            self._redraws = Redraws(
                X, packed.normalization, packed.layout, packed.seed, packed.levels
            )

    @property
    def fresh(self) -> bool:
        """Whether every epoch has a draw of its own."""
        return self.changes and self.X is not None

    def pieces(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Epochs ``first`` to ``stop - 1``, as many at a time as have their draws in memory."""
        size = max(1, KEPT_BYTES // self.packed.planes.nbytes) if self.changes else stop - first
        for begin in range(first, stop, size):
            yield begin, min(begin + size, stop)

    def make(self, first: int, stop: int, each: Callable[..., Any]) -> None:
        """Make the draws of epochs ``first`` to ``stop - 1``, in place of those before."""
        self._made = {}
        if self.changes:
            epochs = range(first, stop)
            self._made = dict(zip(epochs, each(self._make, epochs), strict=True))

    def made(self, epoch: int) -> Draw:
        """One of the draws that :meth:`make` made."""
        return self._made[epoch]

    def _make(self, epoch: int) -> Draw:
        own = self.packed
        samples = own.layout.samples
        order = np.arange(len(own.labels))
        if epoch == 0:
            return Draw(own.planes, order, own.full)
        order[:samples] = np.random.default_rng((own.seed, epoch)).permutation(samples)
        if self.X is None:
            again = own.reordered(order[:samples])
            return Draw(again.planes, order, again.full)
        at = order[:samples]
        planes = self._redraws.draw(at if self.rows is None else self.rows[at], own.draw + epoch)
        return Draw(planes, order, None if own.full is None else own.full[order])

    def of(self, packed: PackedDataset, epoch: int) -> PackedDataset:
        """The samples of ``packed``, whose labels may be others, as an epoch has them."""
        if not self.changes or epoch == 0:
            return packed
        made = self._made.get(epoch) or self._make(epoch)
        return replace(
            packed,
            planes=made.planes,
            draw=packed.draw if self.X is None else self.packed.draw + epoch,
            labels=packed.labels[made.order],
            weights=None if packed.weights is None else packed.weights[made.order],
            full=made.full,
        )


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

    @cached_property
    def exact(self) -> ExactRows | None:
        """The samples to train on at full precision, where raw ones are there."""
        if self.draws.X is None:
            return None
        own = self.packed
        return ExactRows(self.draws.X, own.normalization, own.layout.samples, self.draws.rows)


@dataclass
class Ended:
    """A model at the end of its training.

    ``objective`` is the model's, one of the ``curve``; ``held`` is the curve of the validation set,
    ``left`` what rounds of refinement have told to be left to gain.
    """

    model: NDArray[np.int32]
    curve: NDArray[np.float64]
    objective: float
    held: NDArray[np.float64] | None
    stopped: bool
    left: float | None = None


@dataclass
class Run:
    """A trained model, or those of classes that were refined together, and what training did.

    ``model`` has shape (features,), of classes together (classes, features).
    ``size`` is the objective of the best constant model, ``left`` what is known to be left to gain;
    None where nothing is known.
    ``objective`` is that of the model, ``useless`` of those that any training should better.
    """

    model: NDArray[np.int32]
    normalization: Normalization
    curve: NDArray[np.float64]
    validation_curve: NDArray[np.float64] | None
    stopped: bool
    results: list[TrainResult] = field(default_factory=list)
    courses: list[Course] = field(default_factory=list)
    size: float = 0.0
    left: float | None = None
    objective: float = 0.0
    useless: float = 0.0


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
