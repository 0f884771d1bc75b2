"""Many samples of a value for log2 k bits: how many of them lie on the upper level.

k independent samples of one value lie on two neighbouring levels, so that all that they say, apart
from their order, is how many lie above (ZipML, arXiv 1611.05402, section 2.2). A counted data set
keeps the base and that count, k.bit_length() bits a value in place of k. Which of the samples lie
above is drawn when they are used: all orders are equally likely, so the samples have the joint
distribution of k independent ones, and every product of different ones is unbiased (docs/data.md,
"Counts"). What comes out is an ordinary data set of independent samples; it is expanded on the
host, for the kernel's adder tree takes a cycle a sample wherever its bits come from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import CONFIG
from zipml_pynq.data.checks import check_int
from zipml_pynq.data.draws import philox
from zipml_pynq.data.layout import Layout
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError

#: Third word of the counters of orders; those of dithers have the number of a draw there, and below
#: this in the fourth one, which tells precision and pair.
_ORDER_STREAM = 1 << 16


def count_bits(samples: int) -> int:
    """Bits of a count of 0 to ``samples``: 4 for 15 samples, 5 for 16."""
    return check_int("samples", samples, 2, CONFIG.max_dithers).bit_length()


def order_dithers(
    counts: NDArray[np.uint8], samples: int, seed: int, order: int, first_sample: int = 0
) -> NDArray[np.uint8]:
    """Dithers whose sums are ``counts``, all orders equally likely.

    The first sample lies above with probability count / k. What is left of the count is shared
    among the k - 1 others in the same way. The random number of a value depends on nothing but
    seed, order, its sample, its feature and the number of the draw.

    Parameters
    ----------
    counts : ndarray of uint8, shape (N, n)
        Of each value, 0..samples.
    samples : int
        k.
    seed : int
        0..2^64 - 1.
    order : int
        0..2^32 - 1; numbers the orders of one data set.
    first_sample : int
        Index of the first row in its data set.

    Returns
    -------
    ndarray of uint8, shape (samples, N, n)
        Within 2^-28 of the probabilities.
    """
    rows, features = counts.shape
    sample = np.arange(first_sample, first_sample + rows, dtype=np.uint64)[:, None]
    feature = np.arange(features, dtype=np.uint64)[None, :]
    key = (seed & 0xFFFFFFFF, seed >> 32)
    left = counts.astype(np.uint64)
    drawn = np.empty((samples, rows, features), dtype=np.uint8)
    for first in range(0, samples, 4):
        words = philox((sample, feature, order, _ORDER_STREAM + first), key)
        for k in range(first, min(first + 4, samples)):
            place = words[k - first].astype(np.uint64) * np.uint64(samples - k) >> np.uint64(32)
            drawn[k] = place < left
            left -= drawn[k]
    return drawn


@dataclass(frozen=True, eq=False)
class CountedDataset:
    """Base and counts of a data set, and what makes samples of them. Immutable.

    Attributes
    ----------
    planes : ndarray of uint64, shape (blocks, words)
        Of each block, as in a packed data set, the base planes and then the counts' planes, the
        most significant one first.
    packed : PackedDataset
        All else: layout of the samples, labels, normalization. Its planes are those of order 0.
    """

    planes: NDArray[np.uint64]
    packed: PackedDataset

    @property
    def samples(self) -> int:
        """Samples of a value, k."""
        return self.packed.layout.independent

    @property
    def bits_a_value(self) -> int:
        """Bits that are kept of a value: base and count."""
        return self.packed.layout.base_planes + count_bits(self.samples)

    def counts(self, block: int) -> NDArray[np.uint8]:
        """Count of each value of a block, uint8, shape (block_samples, features)."""
        layout = self.packed.layout
        check_int("block", block, 0, layout.blocks - 1)
        words = self.planes[block].reshape(self.bits_a_value, -1)[layout.base_planes :]
        total = np.zeros((layout.block_samples, layout.features), dtype=np.uint8)
        for plane in _bits(words, layout):
            total = total << 1 | plane
        return total

    def ordered(self, order: int = 0) -> PackedDataset:
        """The k samples of every value, as the accelerator takes them.

        Parameters
        ----------
        order : int
            0..2^32 - 1: same counts, independent orders.

        Returns
        -------
        PackedDataset
            Of the sampling "independent".

        Raises
        ------
        ArgumentError
            ``order`` is out of range.
        """
        check_int("order", order, 0, (1 << 32) - 1)
        packed, layout = self.packed, self.packed.layout
        planes = np.array(packed.planes)
        view = planes.reshape(layout.blocks, layout.stored_planes, -1)
        for block in range(layout.blocks):
            first = block * layout.block_samples
            drawn = order_dithers(self.counts(block), self.samples, packed.seed, order, first)
            view[block, layout.base_planes :] = _words(drawn, layout)
        return replace(packed, planes=planes)


def _bits(words: NDArray[np.uint64], layout: Layout) -> NDArray[np.uint8]:
    """Planes of a block, (count, words), as bits, (count, block_samples, features)."""
    little = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    bits = np.unpackbits(little, axis=-1, bitorder="little")
    rows = bits.reshape(len(words), layout.block_samples, -1)
    return rows[..., : layout.features]


def _words(bits: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint64]:
    """The inverse of :func:`_bits`; lanes behind the last feature are 0."""
    padded = np.zeros((*bits.shape[:2], layout.chunks * layout.lanes), dtype=np.uint8)
    padded[..., : layout.features] = bits
    little = np.packbits(padded, axis=-1, bitorder="little").reshape(len(bits), -1)
    return little.view("<u8").astype(np.uint64, copy=False)


def pack_counts(
    X: ArrayLike, y: ArrayLike, *, bits: int = 4, samples: int = 15, **options: Any
) -> CountedDataset:
    """Normalize, quantize and count.

    Parameters
    ----------
    X, y, options
        As for :func:`zipml_pynq.data.pack.pack`.
    bits : int
        Of one sample, 1..8.
    samples : int
        k, 2..16: 15 take 4 bits, as 3 take 2 and 7 take 3.

    Raises
    ------
    ArgumentError
        As pack raises it, or for tables of levels, of which no more than two samples are kept.
    """
    for name in ("sampling", "dithers", "value_format"):
        if name in options:
            raise ArgumentError(
                f"{name} was {options[name]!r}; counts are of the sampling 'independent' on the "
                "uniform grid: leave it out"
            )
    check_int("bits", bits, 1, CONFIG.max_bits)
    count = count_bits(samples)
    drawn = pack(X, y, bits=bits, sampling="independent", dithers=samples, **options)
    layout = drawn.layout
    stored = drawn.planes.reshape(layout.blocks, layout.stored_planes, -1)
    kept = np.empty((layout.blocks, layout.base_planes + count, stored.shape[2]), dtype=np.uint64)
    kept[:, : layout.base_planes] = stored[:, : layout.base_planes]
    for block in range(layout.blocks):
        total = _bits(stored[block, layout.base_planes :], layout).sum(axis=0, dtype=np.uint8)
        planes = np.stack([total >> bit & 1 for bit in range(count - 1, -1, -1)])
        kept[block, layout.base_planes :] = _words(planes, layout)
    planes = kept.reshape(layout.blocks, -1)
    planes.flags.writeable = False
    return CountedDataset(planes, CountedDataset(planes, drawn).ordered(0))
