"""The default step size: its limits and what they hold; derived in docs/step.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import CONFIG
from zipml_pynq.data.layout import Layout
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.values import block_values
from zipml_pynq.errors import ArgumentError

FloatArray = NDArray[np.float32]
#: Share of the step at which a window of batches may stop contracting.
SAFETY = 0.8
#: Exponent to which an error may grow, over a run, along a direction in which one draw of the data
#: set may be far from convex; chosen by the runs in docs/step.md.
RUNAWAY = 0.7
#: Values that the moments are taken from, about; and features up to which the smallest eigenvalue
#: is computed (0 is assumed beyond).
MOMENT_VALUES = 1 << 22
DENSE_FEATURES = 1024
#: Values that second moments are summed up over at a time.
_PART_VALUES = 1 << 18
#: Rows of matrices whose eigenvalues are computed, not approached by iteration.
_SMALL_MATRIX = 128
#: Such matrices at a time, and by how much their norms may be too small in float32.
_AT_A_TIME, _ROUNDING = 16, 1e-4
_POWER_ITERATIONS = 30
#: What every plan asks of a data set, which does not change: second moments by bits and sampling;
#: :class:`Moments` of rows by bits, sampling, window and steps of features, without and with the
#: smallest eigenvalue.
_known: WeakKeyDictionary[PackedDataset, dict[tuple[Any, ...], Any]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Moments:
    """What the stable step depends on, taken from some rows of both samples Q1 and Q2.

    Parameters
    ----------
    curvature : float
        Largest eigenvalue of the second moment of ``(Q1 + Q2) / 2`` over any window of consecutive
        rows.
    variance : float
        Sum over features of the squared mean quantization variance.
    smallest : float
        Estimate of the smallest eigenvalue of the values' second moment.
    """

    curvature: float
    variance: float = 0.0
    smallest: float = 0.0


def _largest_eigenvalue(windows: FloatArray) -> float:
    """Largest eigenvalue of ``Z^T Z / len(Z)`` over the windows Z; of large ones by iteration."""
    count, rows, features = windows.shape
    if min(rows, features) <= _SMALL_MATRIX:
        turned = windows.transpose(0, 2, 1)
        # both products have the same eigenvalues but for zeros
        square = windows @ turned if rows < features else turned @ windows
        # none has an eigenvalue above its norm: largest norms first, and no more than may matter
        norms = np.linalg.norm(square, axis=(1, 2)) * (1 + _ROUNDING)
        order, largest = np.argsort(-norms), 0.0
        for some in np.array_split(order, -(-count // _AT_A_TIME)):
            if norms[some[0]] <= largest:
                break
            largest = max(largest, float(np.linalg.eigvalsh(square[some])[:, -1].max()))
        return largest / rows
    v = np.random.default_rng(0).standard_normal((count, features, 1)).astype(np.float32)
    norms = np.zeros((count, 1, 1), dtype=np.float32)
    for _ in range(_POWER_ITERATIONS):
        v /= np.maximum(np.linalg.norm(v, axis=1, keepdims=True), np.float32(1e-30))
        v = windows.transpose(0, 2, 1) @ (windows @ v)
        norms = np.linalg.norm(v, axis=1, keepdims=True)
    return float(norms.max()) / rows


def noise_radius(variance: float, rows: int) -> float:
    """How far quantization noise spreads the spectrum of a second moment over so many rows.

    ``Q1 Q2^T`` averaged over the rows differs from the values' second moment by a matrix of
    independent entries, ``variance / rows`` in sum of squares per row of it; the eigenvalues of its
    symmetric part fill an interval of ``sqrt(2)`` times the root to both sides (Wigner).
    """
    return math.sqrt(2 * variance / rows)


def moments(
    q1: ArrayLike,
    q2: ArrayLike | None = None,
    *,
    window: int = 16,
    stretches: Sequence[int] | None = None,
    smallest: bool = True,
) -> Moments:
    """Moments of rows in normalized units.

    Parameters
    ----------
    q1, q2 : array_like, shape (rows, features)
        The two samples of every value. Without ``q2`` values are exact, or, with single sampling,
        what the model is fitted to.
    window : int
        Rows of consecutive batches whose updates the model may lag: ``batch * (delay + 1)``.
    stretches : sequence of int, optional
        Lengths of the stretches of consecutive rows; by default all rows are one.
    smallest : bool
        Whether to estimate the smallest eigenvalue, which takes longest; else it is 0.
    """
    a = np.asarray(q1, dtype=np.float32)
    b = a if q2 is None else np.asarray(q2, dtype=np.float32)
    if a.ndim != 2 or a.shape != b.shape or 0 in a.shape:
        raise ArgumentError(
            f"q1 and q2 had shapes {a.shape} and {b.shape}; allowed are equal shapes (rows, "
            "features), not empty"
        )
    rows, features = a.shape
    middle = a if b is a else (a + b) / 2
    curvature = _largest_eigenvalue(middle[window_rows(stretches or [rows], window)])
    if b is a:
        return Moments(curvature)
    d = ((a - b) ** 2).mean(axis=0, dtype=np.float64) / 2
    variance = float(d @ d)
    return Moments(curvature, variance, _smallest_eigenvalue(a, b, variance) if smallest else 0.0)


def _smallest_eigenvalue(a: FloatArray, b: FloatArray, variance: float) -> float:
    """An estimate of that of the values' second moment."""
    rows, features = a.shape
    if features > DENSE_FEATURES:
        return 0.0
    cross = a.T @ b
    spectrum = np.linalg.eigvalsh((cross + cross.T) / (2 * rows))
    return max(0.0, float(spectrum[0]) + noise_radius(variance, rows))


def stable_step(
    m: Moments,
    *,
    samples: int,
    batch: int,
    delay: int = 0,
    sampling: str = "symmetric",
    l2: float = 0.0,
    factors: Sequence[float] | NDArray[np.float64] = (1.0,),
    fresh: bool = False,
    curvature: float = 1.0,
    flat: bool = False,
) -> float:
    """The first epoch's step that the moments allow (docs/step.md).

    Parameters
    ----------
    m : Moments
        Of the data over windows of ``batch * (delay + 1)`` rows.
    samples : int
        Samples of an epoch.
    batch, delay : int
        Of the plan, in samples and batches.
    sampling : str
        Of the plan.
    l2 : float
        Of the plan.
    factors : sequence of float, shape (epochs,)
        Each epoch's step as a multiple of the first one's.
    fresh : bool
        Whether every epoch gets a draw of its own.
    curvature : float
        Largest second derivative of the loss, times its largest cost: 1 for least squares.
    flat : bool
        Whether the loss may have none at all where samples lie, as losses of the margin: then
        nothing is sure to pull back what noise drives apart.
    """
    f = np.asarray(factors, dtype=np.float64)
    bend = max(curvature * m.curvature + l2, 1e-12)
    # the window's updates stay a contraction although each is computed from an old model
    step = SAFETY * (1.5 + 0.5 / (delay + 1)) / ((delay + 1) * bend)
    if m.variance > 0:
        # quantization noise does not multiply: a new draw in every batch ..
        power = (0.5 if sampling == "symmetric" else 1.0) * m.variance * curvature**2
        step = min(step, batch / math.sqrt(samples * float(f @ f) * power))
        # .. and the same draw in every epoch
        restoring = 0.0 if flat else m.smallest / 2
        negative = curvature * (noise_radius(m.variance, samples) - restoring) - l2
        if negative > 0 and not fresh:
            step = min(step, RUNAWAY * batch / (samples * float(f.sum()) * negative))
    if l2 > 0:  # what the decay register holds
        step = min(step, 0.9 * 2.0 ** (CONFIG.decay_bits - CONFIG.decay_fraction_bits) / l2)
    return min(step, batch * 2.0 ** (31 - CONFIG.step_fraction_bits))


def window_rows(stretches: Sequence[int], window: int) -> NDArray[np.intp]:
    """Rows of windows that cover stretches of consecutive rows, shape (windows, window).

    Windows overlap by half, and the last one of a stretch ends with it, so that no row is left out,
    wherever a burst of large ones lies.
    """
    window = min(window, *stretches)
    starts = []
    begin = 0
    for length in stretches:
        own = np.arange(0, length - window + 1, max(1, window // 2))
        starts.append(begin + np.unique(np.append(own, length - window)))
        begin += length
    return np.concatenate(starts)[:, None] + np.arange(window)


def sample_rows(
    packed: PackedDataset, bits: int, sampling: str, window: int
) -> tuple[tuple[FloatArray, ...], list[int]]:
    """Stretches of rows that lie one behind the other in the data set.

    All rows if they are at most :data:`MOMENT_VALUES` values, else stretches that hold a window
    each, spread over the data set, its end among them.

    Returns
    -------
    rows : tuple of one or two ndarrays of float32, shape (rows, features)
        Q1 and, with double sampling, Q2 in normalized units, times the root of the sample's weight.
    stretches : list of int
        Rows of each stretch.
    """
    blocks, stretches = _sampled(packed.layout, window)
    return _drawn(packed, bits, sampling, blocks, sum(stretches)), stretches


def _sampled(layout: Layout, window: int) -> tuple[NDArray[np.intp], list[int]]:
    """Blocks, and the rows of each stretch of them, see :func:`sample_rows`."""
    size = layout.block_samples
    run = min(layout.blocks, -(-window // size) + 1)  # blocks of a stretch
    wanted = max(2, -(-MOMENT_VALUES // (layout.features * size * run)))
    if wanted * run >= layout.blocks:
        blocks, stretches = np.arange(layout.blocks), [layout.samples]
    else:
        first = np.linspace(0, layout.blocks - run, wanted).astype(np.intp)
        blocks = (first[:, None] + np.arange(run)).ravel()
        stretches = [run * size] * (wanted - 1) + [layout.samples - int(first[-1]) * size]
    return blocks, stretches


def _drawn(
    packed: PackedDataset, bits: int, sampling: str, blocks: NDArray[np.intp], rows: int
) -> tuple[FloatArray, ...]:
    """So many rows of blocks, without the padding at the end, see :func:`sample_rows`."""
    layout = packed.layout
    q1, q2 = (q[:rows] for q in block_values(packed, bits, sampling, blocks))
    if packed.weights is not None:
        weights = packed.weights.reshape(layout.blocks, layout.block_samples)[blocks]
        weights = weights.ravel()[:rows, None]
        root = np.sqrt(weights / np.float32(1 << CONFIG.weight_fraction_bits), dtype=np.float32)
        q1, q2 = q1 * root, q2 * root
    return (q1, q2) if sampling in ("plain", "symmetric", "independent") else (q1,)


def second_moments(
    packed: PackedDataset, *, bits: int, sampling: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Second moments of the features, float64, shape (features,), from rows of the planes.

    Those of the values, estimated without the noise of quantization where there are two draws (the
    mean of their product, which may be below 0), and those of the draws.
    """
    known = _known.setdefault(packed, {})
    if (bits, sampling) not in known:
        known[bits, sampling] = _second_moments(packed, bits, sampling)
    return known[bits, sampling]


def _second_moments(
    packed: PackedDataset, bits: int, sampling: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    layout = packed.layout
    blocks, stretches = _sampled(layout, 1)
    rows = sum(stretches)
    seen, noisy = np.zeros(layout.features), np.zeros(layout.features)
    step = max(1, _PART_VALUES // (layout.features * layout.block_samples))
    for i in range(0, len(blocks), step):
        left = rows - i * layout.block_samples
        q = _drawn(packed, bits, sampling, blocks[i : i + step], left)
        # of two draws the product has no noise in its mean
        seen += np.einsum("ij,ij->j", q[0], q[-1], dtype=np.float64)
        for draw in q:
            noisy += np.einsum("ij,ij->j", draw, draw, dtype=np.float64) / len(q)
    seen, noisy = seen / rows, noisy / rows
    seen.flags.writeable = noisy.flags.writeable = False  # kept for who asks again
    return seen, noisy


def auto_shifts(
    seen: NDArray[np.float64], noisy: NDArray[np.float64], *, l2: float = 0.0, fresh: bool = False
) -> NDArray[np.uint8]:
    """Steps of features that follow the inverse of their second moments, as powers of two.

    The feature with the largest second moment has the run's step, others so many times a doubled
    one that their second moments, times the step, come nearest to that one's: what standardized
    columns would do, up to a factor of the root of two (docs/step.md). Features that are 0 in all
    rows keep the run's step.

    Parameters
    ----------
    seen, noisy : ndarray of float64, shape (features,)
        From :func:`second_moments`, or the means of several sets'.
    l2 : float
        Of the plan; it adds to every second moment, which is what it does to the objective's.
    fresh : bool
        Whether every epoch gets a draw of its own: then moments are those of the values, estimated
        without the noise of quantization. Else noise counts: what every epoch has alike must not
        be magnified where it outweighs a column's values.

    Returns
    -------
    ndarray of uint8, shape (features,)
        0..``CONFIG.max_feature_shift``.
    """
    if fresh:
        return shifts_of(np.where(seen > 0, seen + l2, 0.0))
    # noise that every epoch has alike: a step that falls by the share of it
    share = np.clip(np.divide(seen, noisy, out=np.ones_like(seen), where=noisy > 0), 2.0**-13, 1)
    return shifts_of(np.where(noisy > 0, noisy + l2, 0.0), share)


def shifts_of(
    moments: NDArray[np.float64], share: NDArray[np.float64] | float = 1.0
) -> NDArray[np.uint8]:
    """Steps of features from their second moments, see :func:`auto_shifts`; 0 for a moment of 0.

    ``share`` is a factor of each feature's step.
    """
    shifts = np.zeros(len(moments))
    live = moments > 0
    if live.any():
        steps = share * moments.max() / np.where(live, moments, 1.0)
        shifts[live] = np.rint(np.log2(steps[live]))
    return np.clip(shifts, 0, CONFIG.max_feature_shift).astype(np.uint8)


def _shifted_rows(
    packed: PackedDataset,
    bits: int,
    sampling: str,
    window: int,
    shifts: NDArray[np.uint8] | None,
) -> tuple[tuple[FloatArray, ...], list[int]]:
    """:func:`sample_rows`, of columns as much larger as the steps of features say."""
    rows, stretches = sample_rows(packed, bits, sampling, window)
    if shifts is not None:
        roots = np.exp2(shifts / np.float32(2), dtype=np.float32)
        rows = tuple(q * roots for q in rows)
    return rows, stretches


def step_rule(
    packed: PackedDataset,
    *,
    bits: int,
    sampling: str,
    batch: int,
    delay: int = 0,
    l2: float = 0.0,
    fresh: bool = False,
    curvature: float = 1.0,
    flat: bool = False,
    shifts: NDArray[np.uint8] | None = None,
) -> Callable[..., float]:
    """:func:`auto_step` of ``factors``, and of another number of samples like these or another l2.

    The rows, which take long to look at, are looked at once, as long as the data set is there.
    """
    window = batch * (delay + 1)
    own = None if shifts is None else shifts.tobytes()
    made = _known.setdefault(packed, {})
    first, exact = ((bits, sampling, window, own, smallest) for smallest in (False, True))
    rows: tuple[FloatArray, ...] = ()
    if first not in made:
        rows, stretches = _shifted_rows(packed, bits, sampling, window, shifts)
        made[first] = moments(*rows, window=window, stretches=stretches, smallest=False)
    larger = 1.0 if shifts is None else 2.0 ** int(shifts.max())

    def rule(
        factors: Sequence[float] | NDArray[np.float64],
        samples: int = packed.layout.samples,
        l2: float = l2,
    ) -> float:
        options: dict[str, Any] = {
            "samples": samples,
            "batch": batch,
            "delay": delay,
            "sampling": sampling,
            "l2": l2 * larger,
            "factors": factors,
            "fresh": fresh,
            "curvature": curvature,
            "flat": flat,
        }
        known = made.get(exact, made[first])
        step = stable_step(known, **options)
        # the smallest eigenvalue, which takes longest, lifts nothing but a limit that is in the way
        if exact not in made and step < stable_step(replace(known, smallest=math.inf), **options):
            q = rows or _shifted_rows(packed, bits, sampling, window, shifts)[0]
            made[exact] = replace(known, smallest=_smallest_eigenvalue(q[0], q[-1], known.variance))
            step = stable_step(made[exact], **options)
        return step

    return rule


def auto_step(
    packed: PackedDataset,
    *,
    factors: Sequence[float] | NDArray[np.float64] = (1.0,),
    **options: Any,
) -> float:
    """The first epoch's step for a packed data set, from the planes that training will stream.

    See :func:`stable_step` for the arguments, :func:`step_rule` for which there are; ``shifts`` are
    the plan's steps of features. A step of 2^s times the run's is training on a column that is
    2^(s/2) times as large.
    """
    return step_rule(packed, **options)(factors)
