"""Shards as workers hold them: packed samples, or the path of a packed file, and their models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from dask.sizeof import sizeof

from zipml_pynq.constants import CONFIG
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.objective import Rows
from zipml_pynq.learn.problem import SIGNS, own_labels


@dataclass(frozen=True, eq=False)
class Shard:
    """The samples of a shard, with the labels of each model that is trained on them.

    Parameters
    ----------
    models : sequence of PackedDataset
        One a model; all share their planes.
    rows : Rows, optional
        Some of the samples, that objectives are taken on.
    """

    models: Sequence[PackedDataset]
    rows: Rows | None = None


@dataclass(frozen=True)
class PackedClasses:
    """A packed file whose labels are numbers of classes.

    Parameters
    ----------
    path : str
    classes : tuple of int
        With more than two, a model each.
    """

    path: str
    classes: tuple[int, ...]


@lru_cache(maxsize=64)
def _mapped(
    path: str, classes: tuple[int, ...] | None, _modified: int, _size: int
) -> Sequence[PackedDataset]:
    """A file, mapped, its checksum compared, once a process for as long as it is what it was."""
    packed = PackedDataset.load(path)
    if classes is None:
        return [packed]
    numbers = np.rint(own_labels(packed)).astype(np.int64)
    weights = None
    if packed.weights is not None:
        weights = packed.weights[: packed.layout.samples] / float(1 << CONFIG.weight_fraction_bits)
    wanted = classes[1:] if len(classes) == 2 else classes
    return [
        packed.relabel(np.where(numbers == number, 1.0, -1.0), weights, SIGNS) for number in wanted
    ]


def opened(source: Any) -> Sequence[PackedDataset]:
    """The data sets of a shard, one a model.

    Parameters
    ----------
    source : Shard, PackedDataset, PackedClasses, or path of a packed file
        A file has to be there, the same, on every worker.
    """
    if isinstance(source, Shard):
        return source.models
    if isinstance(source, PackedDataset):
        return [source]
    if isinstance(source, str | os.PathLike):
        return _file(os.fspath(source), None)
    if isinstance(source, PackedClasses):
        return _file(source.path, source.classes)
    raise ArgumentError(
        f"a shard was {type(source).__name__}; allowed are PackedDataset, the path of a packed "
        "file, and a Future or Delayed of these"
    )


def _file(path: str, classes: tuple[int, ...] | None) -> Sequence[PackedDataset]:
    if not os.path.exists(path):
        return [PackedDataset.load(path)]  # whose error says it
    found = os.stat(path)
    return _mapped(path, classes, found.st_mtime_ns, found.st_size)


def check_source(source: Any) -> None:
    """Refuse what no worker can open."""
    from dask.delayed import Delayed
    from distributed import Future

    known = Shard | PackedDataset | PackedClasses | str | os.PathLike | Delayed | Future
    if not isinstance(source, known):
        opened(source)


@sizeof.register(PackedDataset)
def _packed_bytes(packed: PackedDataset) -> int:
    """What the scheduler reckons with, where it might move data."""
    return sum(
        array.nbytes
        for array in (packed.planes, packed.labels, packed.full, packed.weights)
        if array is not None
    )


@sizeof.register(Shard)
def _shard_bytes(shard: Shard) -> int:
    labels = sum(model.labels.nbytes for model in shard.models[1:])
    rows = 0 if shard.rows is None else shard.rows.q1.nbytes
    return _packed_bytes(shard.models[0]) + labels + rows
