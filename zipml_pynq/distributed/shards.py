"""Shards as workers hold them: packed samples, or the path of a packed file, and their models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dask.sizeof import sizeof

from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class Shard:
    """The samples of a shard, with the labels of each model that is trained on them.

    Parameters
    ----------
    models : sequence of PackedDataset
        One a model; all share their planes.
    """

    models: Sequence[PackedDataset]


@lru_cache(maxsize=64)
def _mapped(path: str, _modified: int, _size: int) -> PackedDataset:
    """A file, mapped, its checksum compared, once a process for as long as it is what it was."""
    return PackedDataset.load(path)


def opened(source: Any) -> Sequence[PackedDataset]:
    """The data sets of a shard, one a model.

    Parameters
    ----------
    source : Shard, PackedDataset, or path of a packed file
        A file has to be there, the same, on every worker.
    """
    if isinstance(source, Shard):
        return source.models
    if isinstance(source, PackedDataset):
        return [source]
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        found = os.stat(path) if os.path.exists(path) else None
        if found is None:
            return [PackedDataset.load(path)]  # whose error says it
        return [_mapped(path, found.st_mtime_ns, found.st_size)]
    raise ArgumentError(
        f"a shard was {type(source).__name__}; allowed are PackedDataset, the path of a packed "
        "file, and a Future or Delayed of these"
    )


def check_source(source: Any) -> None:
    """Refuse what no worker can open."""
    from dask.delayed import Delayed
    from distributed import Future

    if not isinstance(source, Shard | PackedDataset | str | os.PathLike | Delayed | Future):
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
    return _packed_bytes(shard.models[0]) + labels
