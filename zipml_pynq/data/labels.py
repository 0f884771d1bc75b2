"""Labels and weights of samples in fixed point, padded to whole blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.checks import check_array, check_finite_labels
from zipml_pynq.data.layout import Layout, ceil_divide
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.errors import ArgumentError

#: Labels that are worked on at a time, so that intermediate arrays stay in the cache.
_LABELS = 1 << 14


def fixed_labels(
    labels: NDArray, normalization: Normalization, layout: Layout
) -> tuple[NDArray[np.int32], int]:
    """Labels in fixed point, padded to whole blocks, and how many had to be clipped."""
    check_finite_labels(labels)
    blocks = ceil_divide(labels.size, layout.block_samples)
    padded = np.zeros(blocks * layout.block_samples, dtype=np.int32)
    limit = float((1 << 31) - 1)
    clipped = 0
    for start in range(0, labels.size, _LABELS):
        rows = slice(start, start + _LABELS)
        fixed = np.rint(normalization.transform_labels(labels[rows]) * MODEL_ONE)
        clipped += int((np.abs(fixed) > limit).sum())
        padded[: labels.size][rows] = np.clip(fixed, -limit, limit)
    return padded, clipped


def fixed_weights(weights: ArrayLike | None, layout: Layout) -> NDArray[np.int32] | None:
    """Weights of samples in fixed point, padded to whole blocks."""
    if weights is None:
        return None
    a = check_array("sample_weight", weights, 1).astype(np.float64)
    limit = 2.0 ** (31 - CONFIG.weight_fraction_bits)
    if a.size != layout.samples:
        raise ArgumentError(
            f"sample_weight had {a.size} entries; allowed is one a sample, {layout.samples}"
        )
    bad = ~((a >= 0) & (a < limit))
    if bad.any():
        row = int(bad.argmax())
        raise ArgumentError(
            f"sample_weight was {a[row]} in row {row}; allowed are 0 to below {limit:g}"
        )
    padded = np.zeros(layout.blocks * layout.block_samples, dtype=np.int32)
    fixed = np.rint(a * 2.0**CONFIG.weight_fraction_bits)
    padded[: layout.samples] = np.minimum(fixed, 2.0**31 - 1)
    return padded
