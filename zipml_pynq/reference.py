"""The reference: training written from the formulas of docs/arithmetic.md, in NumPy integers.

It shares no code with kernel and engine and unpacks the planes by itself, so that equal bits mean
that packing, arithmetic and schedule of all three agree. It is slow. Beside it stands the
full-precision baseline: float32 mini-batch SGD on the same batches and steps.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq._engine import ffi, lib
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.errors import ArgumentError
from zipml_pynq.result import TrainResult
from zipml_pynq.schedule import run_cycles, streamed_planes

if TYPE_CHECKING:
    from zipml_pynq.pack import PackedDataset
    from zipml_pynq.plan import Plan

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

_LARGEST = 2**31 - 1


def round_shift(value: IntArray, shift: int) -> IntArray:
    """``floor(value / 2**shift + 1/2)``."""
    return (value + (1 << (shift - 1))) >> shift


class _Saturation:
    """Clamps to ``+-(2**31 - 1)`` and counts what it clamped."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, value: IntArray) -> IntArray:
        self.count += int(np.count_nonzero(np.abs(value) > _LARGEST))
        return np.clip(value, -_LARGEST, _LARGEST)


def unpack_planes(packed: PackedDataset, planes: slice) -> NDArray[np.uint8]:
    """Bits of stored planes, uint8, shape (blocks, planes, block_samples, features)."""
    layout = packed.layout
    blocks, samples = layout.blocks, layout.block_samples
    words = np.asarray(packed.planes).astype("<u8", copy=False).reshape(blocks, -1)
    words = words.reshape(blocks, layout.stored_planes, -1)[:, planes]
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    bits = bits.reshape(blocks, bits.shape[1], samples, layout.chunks * layout.lanes)
    return bits[..., : layout.features]


def value_fraction_bits(value_format: str) -> int:
    """Fraction bits of the values that training sums are computed from (docs/arithmetic.md)."""
    return int(CONFIG.level_fraction_bits if value_format == "levels" else CONFIG.grid_bits)


def kernel_values(packed: PackedDataset, bits: int, sampling: str) -> tuple[IntArray, IntArray]:
    """What Q1 and Q2 stand for in kernel and engine, with :func:`value_fraction_bits`.

    Parameters
    ----------
    packed : PackedDataset
        Format "bitplanes" or "levels".
    bits : int
        A stored precision.
    sampling : str
        A plan's sampling; Q2 is Q1 where only one dither is streamed.

    Returns
    -------
    tuple of ndarray of int64, shape (samples, features)
    """
    layout = packed.layout
    base = np.zeros((layout.blocks, layout.block_samples, layout.features), dtype=np.int64)
    for plane in range(bits - 1):
        base = 2 * base + unpack_planes(packed, slice(plane, plane + 1))[:, 0]
    first = layout.dither_offset(bits) // (layout.block_samples * layout.chunks)
    count = 1 if sampling in ("single", "nearest") else 2
    dithers = unpack_planes(packed, slice(first, first + count))
    codes = [base + dithers[:, d] for d in (0, count - 1)]
    if layout.value_format == "levels":
        assert packed.levels is not None
        tables = np.broadcast_to(packed.levels, (layout.features, packed.levels.shape[1]))
        q = [tables[np.arange(layout.features), code].astype(np.int64) for code in codes]
    else:
        # level 0 of the grid is -1, level 2^(b-1) is +1
        one = 1 << CONFIG.grid_bits
        level = one >> (bits - 2) if bits > 1 else 2 * one
        q = [code * level - one for code in codes]
    samples = [v.reshape(-1, layout.features)[: layout.samples] for v in q]
    return samples[0], samples[1]


def fixed_from_float(values: NDArray[np.float32]) -> IntArray:
    """float32 as fixed point, clamped to [-1, 1], rounded half away from zero."""
    one = 2.0**CONFIG.float_fraction_bits
    wide = np.asarray(values, dtype=np.float64)
    magnitude = np.where(np.abs(wide) <= 1.0, np.abs(wide), 1.0) * one  # NaN is 1 too
    rounded = np.floor(magnitude + 0.5).astype(np.int64)
    return rounded * np.where(np.signbit(wide), -1, 1)


def float_values(packed: PackedDataset) -> NDArray[np.float32]:
    """Samples of a data set of format "float32", shape (samples, features)."""
    layout = packed.layout
    words = np.ascontiguousarray(packed.planes).astype("<u8", copy=False).view("<f4")
    rows = words.reshape(-1, layout.chunks * layout.lanes)
    return rows[: layout.samples, : layout.features].astype(np.float32)


def block_values(
    packed: PackedDataset, bits: int, sampling: str, blocks: NDArray[np.intp]
) -> tuple[FloatArray, FloatArray]:
    """Q1 and Q2 of some blocks in normalized units, padded samples included.

    Returns
    -------
    tuple of ndarray of float32, shape (len(blocks) * block_samples, features)
        Exact; the same array twice where only one sample of a value is streamed.
    """
    layout = replace(packed.layout, samples=len(blocks) * packed.layout.block_samples)
    some: Any = SimpleNamespace(planes=packed.planes[blocks], layout=layout, levels=packed.levels)
    if layout.value_format == "float32":
        values = float_values(some)
        return values, values
    one = np.float32(1 << value_fraction_bits(layout.value_format))
    q1, q2 = kernel_values(some, bits, sampling)
    first = q1.astype(np.float32) / one
    return first, first if sampling in ("single", "nearest") else q2.astype(np.float32) / one


def fixed_model(model: ArrayLike | None, features: int) -> NDArray[np.int32]:
    """A start model in fixed point.

    Parameters
    ----------
    model : array_like or None, shape (features,)
        None is 0. Integers are taken as fixed point, floats as normalized units.
    features : int
        Length of the model.
    """
    if model is None:
        return np.zeros(features, dtype=np.int32)
    array = np.asarray(model)
    if array.shape != (features,):
        raise ArgumentError(f"model had shape {array.shape}; allowed is ({features},)")
    wide = array if array.dtype.kind in "iu" else np.rint(array * MODEL_ONE)
    if not np.all(np.abs(wide) <= _LARGEST):
        raise ArgumentError(
            f"model had entries outside +-{_LARGEST / MODEL_ONE:g} or not finite; allowed are "
            "numbers inside"
        )
    return wide.astype(np.int32)


class _Values:
    """Samples of either format: their dot products and gradients, in exact integers."""

    def __init__(self, packed: PackedDataset, plan: Plan) -> None:
        self.sampling = plan.sampling
        self.floats = packed.layout.value_format == "float32"
        if self.floats:
            self.q1 = fixed_from_float(float_values(packed))
            self.q2 = self.q1
        else:
            self.q1, self.q2 = kernel_values(packed, plan.bits, plan.sampling)

    def dots(self, rows: slice, x: IntArray) -> list[IntArray]:
        """The dot products that the estimator needs; a value's fraction bits more than x's."""
        if self.floats:
            shift = CONFIG.float_fraction_bits - CONFIG.grid_bits
            return [round_shift(self.q1[rows] * x, shift).sum(axis=1)]
        if self.sampling == "symmetric":
            return [self.q1[rows] @ x, self.q2[rows] @ x]
        return [self.q2[rows] @ x]

    def gradient(self, rows: slice, c: list[IntArray]) -> IntArray:
        """Twice the gradient: ``Q1 c(Q2) + Q2 c(Q1)``, or ``2 Q1 c``."""
        if self.floats:
            shift = CONFIG.float_fraction_bits - CONFIG.grid_bits
            return round_shift(self.q1[rows] * (2 * c[0])[:, None], shift).sum(axis=0)
        if self.sampling == "symmetric":
            return np.add(c[1] @ self.q1[rows], c[0] @ self.q2[rows])
        return 2 * (c[0] @ self.q1[rows])


def train(packed: PackedDataset, plan: Plan, model: ArrayLike | None = None) -> TrainResult:
    """Train as the accelerator does, bit for bit.

    Parameters
    ----------
    packed : PackedDataset
        The data set, either format.
    plan : Plan
        The run.
    model : array_like, shape (features,), optional
        Start, see :func:`fixed_model`.

    Returns
    -------
    TrainResult
        Cycles are the schedule's (:func:`zipml_pynq.schedule.run_cycles`).
    """
    layout = packed.layout
    plan.check(layout)
    values = _Values(packed, plan)
    labels = np.asarray(packed.labels).astype(np.int64)
    x = fixed_model(model, layout.features).astype(np.int64)
    saturate = _Saturation()
    coefficient_shift = (
        CONFIG.model_fraction_bits + CONFIG.step_fraction_bits - CONFIG.coefficient_fraction_bits
    )
    value_bits = value_fraction_bits(layout.value_format)
    # one more than the product's, for twice the gradient
    gradient_bits = CONFIG.coefficient_fraction_bits + value_bits + 1
    decay_shift = CONFIG.model_fraction_bits + CONFIG.decay_fraction_bits - gradient_bits
    gradient_shift = gradient_bits - CONFIG.model_fraction_bits

    def coefficients(dot: IntArray, rows: slice, step: int) -> IntArray:
        exact = dot - (labels[rows] << value_bits)
        residual = saturate(round_shift(exact, value_bits))
        return saturate(round_shift(residual * step, coefficient_shift))

    def updated(x: IntArray, gradient: IntArray, decay: int) -> IntArray:
        shrink = round_shift(x * decay, decay_shift)
        return saturate(x - round_shift(gradient + shrink, gradient_shift))

    history = np.empty((plan.epochs, layout.features), dtype=np.int32)
    batches = [
        slice(start, min(start + plan.batch, layout.samples))
        for start in range(0, layout.samples, plan.batch)
    ]
    for epoch in range(plan.epochs):
        step, decay = int(plan.steps[epoch]), int(plan.decays[epoch])
        pending: list[tuple[slice, list[IntArray]]] = []
        for rows in batches:
            if len(pending) > plan.delay:
                x = updated(x, values.gradient(*pending.pop(0)), decay)
            pending.append((rows, [coefficients(d, rows, step) for d in values.dots(rows, x)]))
        for late in pending:
            x = updated(x, values.gradient(*late), decay)
        history[epoch] = x
    planes = streamed_planes(layout, plan.bits, plan.sampling)
    return TrainResult.from_fixed(
        x.astype(np.int32),
        history,
        words=plan.epochs * layout.blocks * planes * layout.block_samples * layout.chunks,
        cycles=run_cycles(layout, plan, plan.epochs),
        saturations=saturate.count,
        word_bits=layout.word_bits,
    )


# ---- Full precision ---------------------------------------------------------------------------


def _float_arguments(
    values: ArrayLike, labels: ArrayLike, model: ArrayLike | None, step: ArrayLike, delay: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    v = np.ascontiguousarray(values, dtype=np.float32)
    y = np.ascontiguousarray(labels, dtype=np.float32)
    if v.ndim != 2 or 0 in v.shape:
        raise ArgumentError(
            f"values had shape {v.shape}; allowed is (samples, features), not empty"
        )
    if y.shape != v.shape[:1]:
        raise ArgumentError(f"labels had shape {y.shape}; allowed is {v.shape[:1]}")
    steps = np.ascontiguousarray(step, dtype=np.float32)
    if steps.ndim != 1 or steps.size == 0:
        raise ArgumentError(f"step had shape {steps.shape}; allowed is one step an epoch (epochs,)")
    if delay < 0:
        raise ArgumentError(f"delay was {delay}; allowed are integers from 0 up")
    x = np.zeros(v.shape[1], dtype=np.float32)
    if model is not None:
        if np.shape(model) != x.shape:
            raise ArgumentError(f"model had shape {np.shape(model)}; allowed is {x.shape}")
        x[:] = model
    return v, y, x, steps


def float_sgd(
    values: ArrayLike,
    labels: ArrayLike,
    step: ArrayLike,
    *,
    batch: int = 16,
    l2: float = 0.0,
    delay: int = 0,
    model: ArrayLike | None = None,
) -> FloatArray:
    """Full-precision mini-batch SGD, compiled: the batches and updates of the accelerator.

    Parameters
    ----------
    values : array_like of float32, shape (samples, features)
        Normalized values, intercept column included.
    labels : array_like of float32, shape (samples,)
        Normalized labels.
    step : array_like of float32, shape (epochs,)
        The step of every epoch (``plan.step``).
    batch, delay : int
        As in the plan.
    l2 : float
        Weight of ``l2 / 2 * ||x||^2``.
    model : array_like, shape (features,), optional
        Start; 0 by default.

    Returns
    -------
    ndarray of float32, shape (epochs, features)
        The model after every epoch; the last row is the result.

    Raises
    ------
    ArgumentError
        Shapes that do not fit together.
    """
    v, y, x, steps = _float_arguments(values, labels, model, step, delay)
    if batch < 1:
        raise ArgumentError(f"batch was {batch}; allowed are integers from 1 up")
    history = np.empty((steps.size, x.size), dtype=np.float32)
    decays = (steps * np.float32(l2)).astype(np.float32)

    def pointer(array: FloatArray) -> Any:
        return ffi.cast("float *", ffi.from_buffer(array))

    lib.zipml_float_sgd(
        pointer(v),
        pointer(y),
        pointer(x),
        pointer(history),
        v.shape[0],
        v.shape[1],
        batch,
        steps.size,
        delay,
        pointer(steps),
        pointer(decays),
    )
    return history


def float_sgd_numpy(
    values: ArrayLike,
    labels: ArrayLike,
    step: ArrayLike,
    *,
    batch: int = 16,
    l2: float = 0.0,
    delay: int = 0,
    model: ArrayLike | None = None,
) -> FloatArray:
    """:func:`float_sgd` in NumPy, float32 throughout; sums may round in another order."""
    v, y, x, steps = _float_arguments(values, labels, model, step, delay)
    history = np.empty((steps.size, x.size), dtype=np.float32)
    for epoch, gamma in enumerate(steps):
        scale, decay = gamma / np.float32(batch), gamma * np.float32(l2)
        pending: list[tuple[FloatArray, FloatArray]] = []
        for start in range(0, len(v), batch):
            if len(pending) > delay:
                rows, c = pending.pop(0)
                x = x - (c @ rows + decay * x)
            rows = v[start : start + batch]
            pending.append((rows, scale * (rows @ x - y[start : start + batch])))
        for rows, c in pending:
            x = x - (c @ rows + decay * x)
        history[epoch] = x
    return history


def loss(values: ArrayLike, labels: ArrayLike, model: ArrayLike) -> float:
    """Half the mean squared error, ``mean((V x - y)**2) / 2``, in normalized units (float64)."""
    residual = np.asarray(values) @ np.asarray(model, dtype=np.float64) - np.asarray(labels)
    return float(residual @ residual / (2 * residual.size))


def full_precision_gradient(
    values: ArrayLike, labels: ArrayLike, model: ArrayLike
) -> NDArray[np.float64]:
    """Gradient of :func:`loss`: ``V^T (V x - y) / samples``, float64, shape (features,)."""
    v = np.asarray(values, dtype=np.float64)
    residual = v @ np.asarray(model, dtype=np.float64) - np.asarray(labels, dtype=np.float64)
    return v.T @ residual / len(v)
