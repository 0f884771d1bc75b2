"""How much noise quantization adds: to values, to gradients; and the bits that keep it small.

The formulas are derived in docs/levels.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import MAX_BITS
from zipml_pynq.data.checks import check_array, check_bits, check_choice, check_data, check_positive
from zipml_pynq.data.grid import sample_variance
from zipml_pynq.data.levels import fit_levels
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import LEVEL_CHOICES
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.values import block_values
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.baseline import float_sgd
from zipml_pynq.training.step import moments, stable_step

#: Values that a proposal looks at, about, and epochs of full precision that give its model.
PROPOSAL_VALUES = 1 << 19
PROPOSAL_EPOCHS = 10
_BATCH = 16
#: Blocks that are decoded at a time.
_CHUNK_VALUES = 1 << 20


def quantization_variance(packed: PackedDataset, bits: int | None = None) -> NDArray[np.float64]:
    """Mean variance of one stochastic sample of a value, feature by feature.

    ``E[(Q1 - Q2)^2] / 2`` over the samples: an unbiased estimate from the draws that the data set
    stores, of the mean of ``(hi - v)(v - lo)`` (:func:`zipml_pynq.data.grid.sample_variance`).

    Parameters
    ----------
    packed : PackedDataset
        Double sampled.
    bits : int, optional
        A stored precision; by default the largest.

    Returns
    -------
    ndarray of float64, shape (features,)
        In squared normalized units. Its mean is the objective of
        :func:`zipml_pynq.data.levels.optimal_levels`.

    Raises
    ------
    ArgumentError
        The data set stores one dither a value, or none, or not this precision.
    """
    layout = packed.layout
    if layout.sampling != "double":
        raise ArgumentError(
            f"packed was of {layout.sampling!r} sampling, format '{layout.value_format}'; allowed "
            "are double sampled data sets, whose two draws tell the variance"
        )
    if bits is None:
        bits = layout.bits[-1]
    layout.planes(bits)  # checks them
    total = np.zeros(layout.features)
    step = max(1, _CHUNK_VALUES // (layout.block_samples * layout.features))
    for first in range(0, layout.blocks, step):
        blocks = np.arange(first, min(first + step, layout.blocks))
        q1, q2 = block_values(packed, bits, "symmetric", blocks)
        rows = min(len(q1), layout.samples - first * layout.block_samples)
        total += ((q1[:rows].astype(np.float64) - q2[:rows]) ** 2).sum(axis=0)
    return total / (2 * layout.samples)


def gradient_variance(
    values: ArrayLike,
    labels: ArrayLike,
    model: ArrayLike,
    variances: ArrayLike,
    sampling: str = "symmetric",
) -> NDArray[np.float64]:
    """Variance that double sampling adds to the gradient of each sample.

    With residual r, and D the variances of a sample's values, s = sum D x^2 (docs/levels.md):
    plain ``r^2 tr D + |a|^2 s + s tr D``; symmetric half of that, and
    ``r sum a D x + sum D^2 x^2 / 2``.

    Parameters
    ----------
    values : array_like, shape (samples, features)
        Exact values in normalized units.
    labels : array_like, shape (samples,)
    model : array_like, shape (features,)
    variances : array_like, shape (samples, features)
        Of one stochastic sample of every value.
    sampling : str
        "symmetric" or "plain".

    Returns
    -------
    ndarray of float64, shape (samples,)
        The expected squared distance to the exact gradient, summed over features.
    """
    check_choice("sampling", sampling, ("symmetric", "plain"))
    a = np.asarray(values, dtype=np.float64)
    x = np.asarray(model, dtype=np.float64)
    d = np.asarray(variances, dtype=np.float64)
    if a.ndim != 2 or d.shape != a.shape or x.shape != a.shape[1:]:
        raise ArgumentError(
            f"values, model and variances had shapes {a.shape}, {x.shape} and {d.shape}; allowed "
            "are (samples, features), (features,) and (samples, features)"
        )
    r = a @ x - np.asarray(labels, dtype=np.float64)
    trace = d.sum(axis=1)
    s = d @ x**2
    plain = np.asarray(r**2 * trace + (a**2).sum(axis=1) * s + s * trace)
    if sampling == "plain":
        return plain
    return np.asarray(plain / 2 + r * ((a * d) @ x) + d**2 @ x**2 / 2)


@dataclass(frozen=True)
class Candidate:
    """One way to quantize a data set, and the noise that it adds.

    Parameters
    ----------
    bits : int
        Bits of one sample of a value.
    levels : str
        As :func:`zipml_pynq.data.pack.pack` takes it.
    variance : float
        Mean variance of one sample of a value, squared normalized units.
    noise : float
        Relative gradient noise, see :func:`propose_quantization`.
    """

    bits: int
    levels: str
    variance: float
    noise: float


@dataclass(frozen=True)
class Proposal:
    """What :func:`propose_quantization` recommends.

    Parameters
    ----------
    bits, levels : int, str
        For :func:`zipml_pynq.data.pack.pack`.
    noise : float
        Their relative gradient noise.
    reached : bool
        Whether that is at most what was asked for; if not, it is the best there is.
    candidates : tuple of Candidate
        Everything that was looked at, by bits.
    """

    bits: int
    levels: str
    noise: float
    reached: bool
    candidates: tuple[Candidate, ...]


def propose_quantization(
    X: ArrayLike,
    y: ArrayLike,
    target: float = 0.3,
    *,
    intercept: bool = True,
    model: ArrayLike | None = None,
    bits: Sequence[int] = tuple(range(1, MAX_BITS + 1)),
    levels: Sequence[str] = LEVEL_CHOICES,
) -> Proposal:
    """The fewest bits, and the levels, that keep the noise of quantization small.

    The relative gradient noise is the root of ``E |g_Q - g|^2 / E |g|^2`` over samples and draws,
    g the exact gradient of a sample at ``model`` and g_Q the symmetric double-sampled one. Near the
    solution ``E |g|^2`` is the noise that SGD has anyway, so quantization multiplies it by
    ``1 + noise^2``: 0.3 adds 9 %.

    Parameters
    ----------
    X : array_like, shape (samples, columns)
        Raw samples; up to about half a million values are looked at.
    y : array_like, shape (samples,)
        Raw labels.
    target : float
        Largest relative gradient noise, positive.
    intercept : bool
        As for :func:`zipml_pynq.data.pack.pack`.
    model : array_like, shape (features,), optional
        Where gradients are taken, in normalized units; by default what a short full-precision run
        finds.
    bits : sequence of int
        Precisions to look at.
    levels : sequence of str
        Kinds of levels to look at; of two that do with equal bits, the first one is proposed.

    Returns
    -------
    Proposal

    Raises
    ------
    ArgumentError
        Data that cannot be packed, a target that is not positive, unknown bits or levels.
    """
    check_positive("target", target)
    precisions = sorted({check_bits(b) for b in bits})
    kinds = [check_choice("levels", kind, LEVEL_CHOICES) for kind in levels]
    if not precisions or not kinds:
        raise ArgumentError("bits and levels must name at least one each")
    a, b = check_data(X, y)
    normalization = Normalization.fit(a, b, intercept)
    rows = np.unique(
        np.linspace(0, len(a) - 1, max(64, PROPOSAL_VALUES // a.shape[1])).astype(np.intp)
    )
    some = np.ascontiguousarray(a[rows])
    values = normalization.transform(some)
    labels = normalization.transform_labels(b[rows])
    if model is None:
        x = _short_run(values, labels)
    else:
        x = check_array("model", model, 1).astype(np.float64)
        if x.size != values.shape[1]:
            raise ArgumentError(f"model had {x.size} entries; allowed are {values.shape[1]}")
    wide = values.astype(np.float64)
    residual = wide @ x - labels
    signal = float((residual**2 * (wide**2).sum(axis=1)).mean())
    candidates = []
    for precision in precisions:
        for kind in kinds:
            table = None
            if kind != "uniform":
                table = fit_levels(some, normalization, precision, per_column=kind == "optimal")
            variances = sample_variance(values, precision, levels=table)
            added = float(gradient_variance(wide, labels, x, variances).mean())
            noise = math.sqrt(added / signal) if signal > 0 else math.inf if added else 0.0
            candidates.append(Candidate(precision, kind, float(variances.mean()), noise))
    good = [c for c in candidates if c.noise <= target]
    best = good[0] if good else min(candidates, key=lambda c: c.noise)
    return Proposal(best.bits, best.levels, best.noise, bool(good), tuple(candidates))


def _short_run(values: NDArray[np.float32], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Model of a short full-precision run."""
    factors = 1.0 / (1.0 + np.arange(PROPOSAL_EPOCHS))
    step = stable_step(moments(values, window=_BATCH), samples=len(values), batch=_BATCH)
    history = float_sgd(values, labels, (step * factors).astype(np.float32), batch=_BATCH)
    return history[-1].astype(np.float64)
