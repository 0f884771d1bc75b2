"""A step size that is stable at every precision; derived in docs/step.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import CONFIG
from zipml_pynq.errors import ArgumentError, DivergenceError
from zipml_pynq.reference import float_values, kernel_values
from zipml_pynq.result import TrainResult

if TYPE_CHECKING:
    from zipml_pynq.pack import PackedDataset

FloatArray = NDArray[np.float32]

#: Share of the step at which a window of batches may stop contracting.
SAFETY = 0.8
#: Values that the moments are taken from, about; and features up to which the smallest eigenvalue
#: is computed (0 is assumed beyond).
MOMENT_VALUES = 1 << 22
DENSE_FEATURES = 1024
_POWER_ITERATIONS = 30


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
    """Largest eigenvalue of ``Z^T Z / len(Z)`` over the windows Z, by power iteration."""
    count, rows, features = windows.shape
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


def moments(q1: ArrayLike, q2: ArrayLike | None = None, *, window: int = 16) -> Moments:
    """Moments of rows in normalized units.

    Parameters
    ----------
    q1, q2 : array_like, shape (rows, features)
        The two samples of every value. Without ``q2`` values are exact, or, with single sampling,
        what the model is fitted to.
    window : int
        Rows of consecutive batches whose updates the model may lag: ``batch * (delay + 1)``.
    """
    a = np.asarray(q1, dtype=np.float32)
    b = a if q2 is None else np.asarray(q2, dtype=np.float32)
    if a.ndim != 2 or a.shape != b.shape or 0 in a.shape:
        raise ArgumentError(
            f"q1 and q2 had shapes {a.shape} and {b.shape}; allowed are equal shapes (rows, "
            "features), not empty"
        )
    rows, features = a.shape
    window = min(window, rows)
    middle = a if b is a else (a + b) / 2
    windows = middle[: rows // window * window].reshape(-1, window, features)
    curvature = _largest_eigenvalue(windows)
    if b is a:
        return Moments(curvature)
    d = ((a - b) ** 2).mean(axis=0, dtype=np.float64) / 2
    variance = float(d @ d)
    smallest = 0.0
    if features <= DENSE_FEATURES:
        cross = a.T @ b
        spectrum = np.linalg.eigvalsh((cross + cross.T) / (2 * rows))
        smallest = max(0.0, float(spectrum[0]) + noise_radius(variance, rows))
    return Moments(curvature, variance, smallest)


def stable_step(
    m: Moments,
    *,
    samples: int,
    batch: int,
    delay: int = 0,
    sampling: str = "symmetric",
    l2: float = 0.0,
    factors: Sequence[float] | NDArray[np.float64] = (1.0,),
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
    """
    f = np.asarray(factors, dtype=np.float64)
    curvature = max(m.curvature + l2, 1e-12)
    # the window's updates stay a contraction although each is computed from an old model
    step = SAFETY * (1.5 + 0.5 / (delay + 1)) / ((delay + 1) * curvature)
    if m.variance > 0:
        # quantization noise does not multiply: a new draw in every batch ..
        power = (0.5 if sampling == "symmetric" else 1.0) * m.variance
        step = min(step, batch / math.sqrt(samples * float(f @ f) * power))
        # .. and the same draw in every epoch
        negative = noise_radius(m.variance, samples) - m.smallest - l2
        if negative > 0:
            step = min(step, batch / (samples * float(f.sum()) * negative))
    if l2 > 0:  # what the decay register holds
        step = min(step, 0.9 * 2.0 ** (CONFIG.decay_bits - CONFIG.decay_fraction_bits) / l2)
    return min(step, batch * 2.0 ** (31 - CONFIG.step_fraction_bits))


def sample_rows(
    packed: PackedDataset, bits: int, sampling: str, window: int
) -> tuple[FloatArray, ...]:
    """Q1 and, with double sampling, Q2 of windows of rows spread over the data set.

    Returns one or two float32 arrays (rows, features) in normalized units; consecutive rows of a
    window are consecutive in the data set.
    """
    layout = packed.layout
    size = layout.block_samples
    run = -(-window // size)  # blocks that hold a window
    whole = layout.samples // size  # blocks without padding
    if whole < run:
        blocks, samples = np.arange(layout.blocks), layout.samples
    else:
        wanted = -(-MOMENT_VALUES // layout.features)
        runs = min(whole // run, -(-wanted // (run * size)))
        first = np.linspace(0, whole - run, runs).astype(np.intp)
        blocks, samples = (first[:, None] + np.arange(run)).ravel(), runs * run * size
    some: Any = SimpleNamespace(
        planes=packed.planes[blocks], layout=replace(layout, samples=samples)
    )
    if layout.value_format == "float32":
        rows: tuple[FloatArray, ...] = (float_values(some),)
    else:
        one = np.float32(1 << CONFIG.grid_bits)
        q1, q2 = (q.astype(np.float32) / one for q in kernel_values(some, bits, sampling))
        rows = (q1,) if sampling in ("single", "nearest") else (q1, q2)
    if whole >= run:  # windows must not reach from one run into the next
        kept = run * size // window * window
        rows = tuple(
            q.reshape(runs, run * size, -1)[:, :kept].reshape(runs * kept, -1) for q in rows
        )
    return rows


def auto_step(
    packed: PackedDataset,
    *,
    bits: int,
    sampling: str,
    batch: int,
    delay: int = 0,
    l2: float = 0.0,
    factors: Sequence[float] | NDArray[np.float64] = (1.0,),
) -> float:
    """The first epoch's step for a packed data set, from the planes that training will stream.

    See :func:`stable_step` for the arguments.
    """
    window = batch * (delay + 1)
    return stable_step(
        moments(*sample_rows(packed, bits, sampling, window), window=window),
        samples=packed.layout.samples,
        batch=batch,
        delay=delay,
        sampling=sampling,
        l2=l2,
        factors=factors,
    )


def check_divergence(result: TrainResult, losses: Sequence[float] | None = None) -> None:
    """Raise if a run diverged.

    Parameters
    ----------
    result : TrainResult
        The run; any saturation counts as divergence.
    losses : sequence of float, optional
        The start's loss, then the loss after each epoch: growth beyond the start counts too.

    Raises
    ------
    DivergenceError
        The run diverged.
    """
    if result.saturations:
        raise DivergenceError(
            f"training diverged: {result.saturations} results saturated; a smaller step may help"
        )
    if losses is not None and not losses[-1] <= losses[0]:
        raise DivergenceError(
            f"training diverged: the loss grew from {losses[0]:g} to {losses[-1]:g}; a smaller "
            "step may help"
        )
