"""Refetching by a sketch of signs with a seed that both sides share (ZipML, appendix G.3).

Beside the planes, r bits of every sample are kept: the signs of ``g_i^T e``, e = a - Q1 being what
quantization left out and g_1 .. g_r normal vectors drawn from a seed, and the length of e. With
``v_i = g_i^T x`` of the model, computed once an update,

``|e| sqrt(pi / 2) mean_i sign(g_i^T e) v_i`` estimates ``e^T x`` without bias. Its error exceeds
``|e| |x| sqrt(pi log(2 / delta) / r)`` with probability delta at most (docs/losses.md, "Refetching
by a sketch"), so only samples whose corrected margin is nearer to the hinge than that are fetched
again. It runs on the host: the kernel would need r dot products of the model an update, as much
work as r samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.data.checks import check_array, check_int
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.host import Gradient

Array = NDArray[np.float64]
#: Bits that the length of what was left out is kept in, rounded up.
LENGTH_BITS = 16


@dataclass(frozen=True, eq=False)
class Sketch:
    """Signs and lengths of what quantization left out of each sample. Immutable.

    Attributes
    ----------
    signs : ndarray of uint8, shape (samples, ceil(rows / 8))
        A bit a row, the first one the lowest; 1 where ``g_i^T e >= 0``.
    lengths : ndarray of float64, shape (samples,)
        ``|e|``, rounded up to :data:`LENGTH_BITS` bits below the largest.
    rows : int
        r.
    seed : int
    features : int
    """

    signs: NDArray[np.uint8] = field(repr=False)
    lengths: Array = field(repr=False)
    rows: int
    seed: int
    features: int

    @classmethod
    def of(cls, exact: ArrayLike, quantized: ArrayLike, rows: int, seed: int = 0) -> Sketch:
        """The sketch of ``exact - quantized``, both of shape (samples, features).

        Raises
        ------
        ArgumentError
            Shapes differ, or ``rows`` (1..65,536) or ``seed`` (0..2^64 - 1) are out of range.
        """
        a, q = (np.asarray(v, dtype=np.float64) for v in (exact, quantized))
        check_array("exact", a, 2)
        if q.shape != a.shape:
            raise ArgumentError(f"quantized had shape {q.shape}; allowed is exact's, {a.shape}")
        check_int("rows", rows, 1, 1 << 16)
        check_int("seed", seed, 0, (1 << 64) - 1)
        left = a - q
        signs = np.packbits(
            left @ directions(a.shape[1], rows, seed) >= 0, axis=1, bitorder="little"
        )
        lengths = np.linalg.norm(left, axis=1)
        unit = lengths.max() / ((1 << LENGTH_BITS) - 1)
        return cls(
            signs, np.ceil(lengths / unit) * unit if unit else lengths, rows, seed, a.shape[1]
        )

    @property
    def bits_a_sample(self) -> int:
        """Bits that are kept of a sample."""
        return self.rows + LENGTH_BITS

    def estimate(self, rows: slice, model: Array) -> Array:
        """Estimates of ``e^T x`` for some samples, shape (samples,)."""
        v = model @ directions(self.features, self.rows, self.seed)
        bits = np.unpackbits(self.signs[rows], axis=1, count=self.rows, bitorder="little")
        return self._estimate(bits, rows, v)

    def _estimate(self, bits: NDArray[np.uint8], rows: slice, v: Array) -> Array:
        mean = (2.0 * (bits @ v) - v.sum()) / self.rows
        return np.asarray(self.lengths[rows] * math.sqrt(math.pi / 2) * mean)

    def reach(self, delta: float) -> float:
        """Error over ``|e| |x|`` that is exceeded with probability ``delta`` at most.

        Without a sketch it is 1, by Cauchy and Schwarz; a sketch of few rows does no better.

        Raises
        ------
        ArgumentError
            ``delta`` is not between 0 and 1.
        """
        if not 0 < delta < 1:
            raise ArgumentError(f"delta was {delta!r}; allowed is between 0 and 1")
        return math.sqrt(math.pi * math.log(2 / delta) / self.rows)


def directions(features: int, rows: int, seed: int) -> Array:
    """The normal vectors that both sides draw from the seed, shape (features, rows)."""
    return np.random.Generator(np.random.Philox(seed)).standard_normal((features, rows))


@dataclass
class Refetcher:
    """Hinge gradients from quantized samples, and full ones where a side is in doubt.

    Of a sample that is not fetched again, the corrected margin of Q1 decides, and the gradient is
    the mean of Q1 and Q2: as the decision is that of the exact values, but for a share of delta,
    neither sample's draw has a part in it.

    Parameters
    ----------
    exact, first, second : ndarray of float64, shape (samples, features)
    labels : ndarray, shape (samples,)
        Their signs count.
    sketch : Sketch or None
        None: the bound of Cauchy and Schwarz on the length of what was left out.
    delta : float
        Chance of a wrong side, for each sample and use.
    l2 : float

    Attributes
    ----------
    fetched, seen, missed : int
        Samples fetched again, samples used, and samples that were not fetched and have their exact
        margin on the other side.
    """

    exact: Array
    first: Array
    second: Array
    labels: NDArray[np.floating]
    sketch: Sketch | None = None
    delta: float = 1e-3
    l2: float = 0.0
    fetched: int = 0
    seen: int = 0
    missed: int = 0

    def gradient(self) -> Gradient:
        """The function that :func:`zipml_pynq.training.host.sgd` takes."""
        a, q1, q2 = (np.asarray(v, dtype=np.float64) for v in (self.exact, self.first, self.second))
        sign = np.where(np.asarray(self.labels) < 0, -1.0, 1.0)
        sketch = self.sketch
        if sketch is None:
            lengths, reach = np.linalg.norm(a - q1, axis=1), 1.0
            shared = np.zeros((a.shape[1], 0))
            bits = np.zeros((len(a), 0), dtype=np.uint8)
        else:
            lengths, reach = sketch.lengths, sketch.reach(self.delta)
            shared = directions(sketch.features, sketch.rows, sketch.seed)
            bits = np.unpackbits(sketch.signs, axis=1, count=sketch.rows, bitorder="little")

        def gradient(rows: slice, x: Array) -> Array:
            z = q1[rows] @ x
            if sketch is not None:
                z = z + sketch._estimate(bits[rows], rows, x @ shared)
            margins = sign[rows] * z
            doubt = np.abs(1 - margins) <= reach * lengths[rows] * np.linalg.norm(x)
            exact = sign[rows] * (a[rows] @ x)
            active = np.where(doubt, exact, margins) < 1
            self.fetched += int(doubt.sum())
            self.seen += doubt.size
            self.missed += int(((exact < 1) != active).sum())
            outer = np.where(doubt[:, None], a[rows], (q1[rows] + q2[rows]) / 2)
            return np.asarray(-(sign[rows] * active) @ outer / doubt.size + self.l2 * x)

        return gradient
