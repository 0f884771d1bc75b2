"""What follows the first pass over raw chunks: which of them make a shard, and levels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from zipml_pynq.data.levels import (
    LevelHistogram,
    column_histograms,
    levels_table,
    pooled_histogram,
    pooled_table,
)
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.distributed.summary import raw


def chunks_of_shards(rows: Sequence[int], shards: int) -> list[slice]:
    """Chunks, in their order, dealt out to shards of about as many rows each."""
    ends = np.cumsum(rows)
    targets = ends[-1] * np.arange(1, shards) / shards
    cuts = np.searchsorted(ends - np.asarray(rows) / 2, targets)
    bounds = np.unique([0, *cuts.tolist(), len(rows)])
    return [slice(a, b) for a, b in pairwise(bounds.tolist())]


def histograms(
    chunk: Sequence[Any],
    normalization: Normalization,
    extremes: NDArray[np.float64],
    per_column: bool,
) -> list[LevelHistogram]:
    """Of a chunk's values: one of every column that varies over all chunks, or one of them all.

    Merged in one order, for they are sums of floating-point numbers.
    """
    a, _, _ = raw(*chunk)
    varying = np.flatnonzero(normalization.half > 0)
    if not issparse(a):
        a = np.ascontiguousarray(a, dtype=a.dtype if a.dtype == np.float32 else np.float64)
    if not per_column:
        return [pooled_histogram(a, normalization, varying)]
    return column_histograms(a, normalization, varying, extremes.astype(a.dtype))


def merged(one: list[LevelHistogram], other: list[LevelHistogram]) -> list[LevelHistogram]:
    """Those of two sets of chunks together; neither is changed, for tasks may run again."""
    both = []
    for a, b in zip(one, other, strict=True):
        sum_of = LevelHistogram(a.low, a.high, a.bins)
        both.append(sum_of.merge(a).merge(b))
    return both


def table(
    found: list[LevelHistogram], normalization: Normalization, bits: int, per_column: bool
) -> NDArray[np.int16]:
    """See :func:`zipml_pynq.data.levels.fit_levels`."""
    if per_column:
        return levels_table(found, normalization, bits)
    return pooled_table(found[0], bits)
