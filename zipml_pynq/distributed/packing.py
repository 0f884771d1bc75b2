"""Packing of raw chunks into shards: chunk by chunk, so that no worker holds a shard's raw rows.

A value's draw depends on its sample's number in the shard, not on the chunk that it came in, and
the order of the samples is drawn once they are packed: a shard is the same however rows are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.sizeof import sizeof
from numpy.typing import NDArray

from zipml_pynq.data.alignment import empty_aligned
from zipml_pynq.data.checks import check_array
from zipml_pynq.data.labels import fixed_labels
from zipml_pynq.data.layout import BITPLANES, REFETCH, Layout
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import Request, level_source
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.planes import pack_full, pack_planes
from zipml_pynq.data.rows import dense
from zipml_pynq.distributed.averaging import shard_seed
from zipml_pynq.distributed.shards import Shard
from zipml_pynq.distributed.summary import one_column, raw
from zipml_pynq.distributed.targets import Targets
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.objective import OBJECTIVE_VALUES, Rows, spread


@dataclass(frozen=True, eq=False)
class Part:
    """The samples of one chunk, packed, in the order of the chunk.

    Parameters
    ----------
    planes : ndarray of uint64, (blocks, words of a block)
        The first of its blocks begins with samples of the chunk before.
    full : ndarray of uint64, (samples, words), or None
        See :class:`zipml_pynq.data.packed.PackedDataset`.
    y, w : ndarray
        Raw labels, and weights or None.
    numbers : ndarray of int
        Samples of the shard that objectives are taken on.
    values : ndarray of float32, (numbers, features)
        Normalized.
    """

    planes: NDArray[np.uint64]
    full: NDArray[np.uint64] | None
    y: NDArray
    w: NDArray[np.float64] | None
    numbers: NDArray[np.intp]
    values: NDArray[np.float32]


@sizeof.register(Part)
def _part_bytes(part: Part) -> int:
    """What the scheduler reckons with."""
    arrays = (part.planes, part.full, part.y, part.w, part.values)
    return sum(a.nbytes for a in arrays if a is not None)


@dataclass(frozen=True, eq=False)
class Packing:
    """How raw chunks become a shard.

    Parameters
    ----------
    normalization : Normalization
    options : dict
        Of :func:`zipml_pynq.data.pack.pack`.
    seed : int
        0..2^32 - 1; each shard has its own of it.
    shuffle : bool
        Whether samples come in random order.
    targets : Targets
    shards : int
    """

    normalization: Normalization
    options: dict[str, Any]
    seed: int
    shuffle: bool
    targets: Targets
    shards: int

    def nbytes(self, samples: int) -> int:
        """Bytes of the planes of a shard of so many samples."""
        layout = self._layout(samples, None)[0]
        return layout.blocks * layout.block_stride * layout.word_bits // 8

    def part(
        self, number: int, samples: int, first: int, levels: Any, chunk: Sequence[Any], rows: int
    ) -> Part:
        """One chunk of the shard of that number, which has so many samples: from ``first`` on.

        Raises
        ------
        ArgumentError
            The chunk is not what it was in the pass before.
        """
        a, y, w = raw(*chunk)
        a = check_array("X", a, 2, convert=False)
        layout, _, table = self._layout(samples, levels)
        if len(y) != rows or self.normalization.out_of_range(a, table, 1):
            raise ArgumentError(
                f"X had {len(y)} rows, or other values, in a chunk that had {rows} rows in the "
                "pass before; allowed is what gives the same rows whenever it is computed"
            )
        chosen = self._chosen(samples)
        chosen = chosen[(chosen >= first) & (chosen < first + rows)]
        planes = self._planes(a, layout, number, table, first)
        full = None
        if layout.value_format == REFETCH:
            full = pack_full(a, self.normalization, layout, 1)[:rows]
        values = self.normalization.transform(a[chosen - first])
        return Part(planes, full, y, w, chosen, values)

    def _planes(
        self, a: Any, layout: Layout, number: int, table: Any, first: int
    ) -> NDArray[np.uint64]:
        """Planes of the blocks that a chunk's rows reach into."""
        seed, size = shard_seed(self.seed, number), layout.block_samples
        before = first % size
        head = min(a.shape[0], size - before) if before else 0
        pieces = []
        if head:
            # as many rows of nothing as the chunk before has in this block
            padded = np.zeros((before + head, a.shape[1]), dtype=a.dtype)
            padded[before:] = dense(a[:head])
            pieces.append((padded, first // size))
        if head < a.shape[0]:
            pieces.append((a[head:] if head else a, -(-first // size)))
        planes = [
            pack_planes(rows, self.normalization, layout, seed, 0, table, 1, block)
            for rows, block in pieces
        ]
        return planes[0] if len(planes) == 1 else np.concatenate(planes)

    def shard(self, number: int, samples: int, levels: Any, parts: list[Part]) -> Shard:
        """The shard of that number, of the parts of its chunks in their order."""
        layout, batch, table = self._layout(samples, levels)
        order = np.arange(samples)
        if self.shuffle:
            order = np.random.default_rng((self.seed, number)).permutation(samples)
        places = np.empty(samples, dtype=np.intp)
        places[order] = np.arange(samples)
        planes = _in_places(parts, places, layout)
        full = None
        if layout.value_format == REFETCH:
            rows = np.concatenate([part.full for part in parts if part.full is not None])
            full = np.zeros((layout.blocks * layout.block_samples, rows.shape[1]), dtype=np.uint64)
            full[places] = rows
        y = np.concatenate([part.y for part in parts])[order]
        y = one_column(y) if self.targets.classes is not None else y
        w = None
        if parts[0].w is not None:
            w = np.concatenate([part.w for part in parts if part.w is not None])[order]
        labels = self.targets.labels(y)
        own = self.normalization
        first = PackedDataset(
            planes,
            fixed_labels(labels[0], own, layout)[0],
            layout,
            own,
            shard_seed(self.seed, number),
            0,
            batch,
            levels=table,
            full=full,
        )
        models = [
            first.relabel(of, self.targets.weights(model, of, w), own)
            for model, of in enumerate(labels)
        ]
        numbers = places[np.concatenate([part.numbers for part in parts])]
        values = np.concatenate([part.values for part in parts])
        return Shard(models, Rows(numbers, values, values, len(numbers) == samples))

    def _layout(self, samples: int, levels: Any) -> tuple[Layout, int, NDArray[np.int16] | None]:
        """Layout, batch and table of levels of a shard of so many samples."""
        options = dict(self.options)
        options.pop("intercept")
        named = options.pop("levels")
        request = Request.of(
            options.pop("value_format", BITPLANES),
            options.pop("bits", None),
            options.pop("sampling", None),
            options.pop("dithers", None),
            options.pop("word_bits"),
            options.pop("batch"),
            None,
            self.seed,
            0,
        )
        features = self.normalization.features
        source = level_source(
            named if levels is None else levels, request.value_format, request.bits, features
        )
        layout, batch = request.layout(samples, features, source)
        return layout, batch, None if isinstance(source, str) else source

    def _chosen(self, samples: int) -> NDArray[np.intp]:
        """Samples that objectives are taken on, evenly spread before they are shuffled."""
        wanted = OBJECTIVE_VALUES // (self.normalization.features * self.shards)
        return spread(np.arange(samples), wanted)


def _in_places(
    parts: Sequence[Part], places: NDArray[np.intp], layout: Layout
) -> NDArray[np.uint64]:
    """Planes with every sample of the parts in its place."""
    size, words = layout.block_samples, layout.chunks * layout.word_bits // 64

    def by_sample(planes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The same memory, (blocks, samples, planes, words)."""
        shape = (len(planes), layout.stored_planes, size, words)
        return planes.reshape(shape).transpose(0, 2, 1, 3)

    block_words = layout.block_stride * layout.word_bits // 64
    planes = empty_aligned((layout.blocks, block_words), np.uint64)
    target = by_sample(planes)
    planes[-1] = 0  # what fills the last block up
    first = 0
    for part in parts:
        own = np.arange(first % size, first % size + len(part.y))
        to = places[first : first + len(part.y)]
        target[to // size, to % size] = by_sample(part.planes)[own // size, own % size]
        first += len(part.y)
    return planes
