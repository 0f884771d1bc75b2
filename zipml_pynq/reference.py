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
from zipml_pynq.losses import LOSSES
from zipml_pynq.quantize import check_choice
from zipml_pynq.result import TrainResult
from zipml_pynq.schedule import (
    block_order,
    epoch_schedule,
    fixed_cycles,
    full_bytes,
    streamed_dithers,
    streamed_planes,
)

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


def kernel_values(
    packed: PackedDataset, bits: int, sampling: str, degree: int = 0
) -> tuple[IntArray, ...]:
    """What the samples of every value stand for, with :func:`value_fraction_bits`.

    Parameters
    ----------
    packed : PackedDataset
        Any format but "float32".
    bits : int
        A stored precision.
    sampling : str
        A plan's sampling.
    degree : int
        With "independent", one less than the number of samples of a value.

    Returns
    -------
    tuple of ndarray of int64, shape (samples, features)
        One for each dither that is streamed.
    """
    layout = packed.layout
    base = np.zeros((layout.blocks, layout.block_samples, layout.features), dtype=np.int64)
    for plane in range(bits - 1):
        base = 2 * base + unpack_planes(packed, slice(plane, plane + 1))[:, 0]
    first = layout.dither_offset(bits) // (layout.block_samples * layout.chunks)
    count = streamed_dithers(sampling, degree)
    dithers = unpack_planes(packed, slice(first, first + count))
    codes = [base + dithers[:, d] for d in range(count)]
    if layout.value_format == "levels":
        assert packed.levels is not None
        tables = np.broadcast_to(packed.levels, (layout.features, packed.levels.shape[1]))
        q = [tables[np.arange(layout.features), code].astype(np.int64) for code in codes]
    else:
        # level 0 of the grid is -1, level 2^(b-1) is +1
        one = 1 << CONFIG.grid_bits
        level = one >> (bits - 2) if bits > 1 else 2 * one
        q = [code * level - one for code in codes]
    return tuple(v.reshape(-1, layout.features)[: layout.samples] for v in q)


def fixed_from_float(values: NDArray[np.float32]) -> IntArray:
    """float32 as fixed point, clamped to [-1, 1], rounded half away from zero."""
    one = 2.0**CONFIG.float_fraction_bits
    wide = np.asarray(values, dtype=np.float64)
    magnitude = np.where(np.abs(wide) <= 1.0, np.abs(wide), 1.0) * one  # NaN is 1 too
    rounded = np.floor(magnitude + 0.5).astype(np.int64)
    return rounded * np.where(np.signbit(wide), -1, 1)


def float_rows(words: NDArray[np.uint64], samples: int, features: int) -> NDArray[np.float32]:
    """Rows of float32 values, padded to whole words, shape (samples, features).

    Parameters
    ----------
    words : ndarray of uint64, shape (rows, uint64 of a row)
    """
    rows = np.ascontiguousarray(words).astype("<u8", copy=False).view("<f4")
    return rows[:samples, :features].astype(np.float32)


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
    # of independent samples any two will do
    two = "symmetric" if sampling == "independent" else sampling
    q = [values.astype(np.float32) / one for values in kernel_values(some, bits, two)]
    return q[0], q[-1]


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


def threefry(
    counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: tuple[int, int, int, int]
) -> tuple[NDArray[np.uint32], ...]:
    """Threefry4x32-20 (Salmon et al., SC 2011): four words for each counter.

    Parameters
    ----------
    counter : four array_like of uint32
        Broadcast against each other.
    key : four int
        Of 32 bits each.
    """
    rotations = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
    k = [np.uint32(word) for word in key]
    k.append(np.uint32(0x1BD11BDA) ^ k[0] ^ k[1] ^ k[2] ^ k[3])

    def turned(word: NDArray[np.uint32], by: int) -> NDArray[np.uint32]:
        return word << np.uint32(by) | word >> np.uint32(32 - by)

    with np.errstate(over="ignore"):
        words = np.broadcast_arrays(*(np.asarray(c, dtype=np.uint32) for c in counter))
        x = [word + k[i] for i, word in enumerate(words)]
        for number in range(20):
            first, second = (1, 3) if number % 2 == 0 else (3, 1)
            for target, other, by in zip(
                (0, 2), (first, second), rotations[number % 8], strict=True
            ):
                x[target] = x[target] + x[other]
                x[other] = turned(x[other], by) ^ x[target]
            if number % 4 == 3:
                turn = number // 4 + 1
                x = [word + k[(turn + i) % 5] for i, word in enumerate(x)]
                x[3] = x[3] + np.uint32(turn)
    return tuple(np.asarray(word, dtype=np.uint32) for word in x)


#: Features that share a draw, and what its words are for, two each (docs/end_to_end.md).
DRAW_FEATURES = 64
MODEL_STREAM, GRADIENT_STREAM = 0, 1


def lane_random(seed: int, update: int, features: int, stream: int) -> NDArray[np.uint32]:
    """The random number of every feature: ``slope * lane + offset`` over GF(2^32).

    Parameters
    ----------
    seed : int
    update : int
        Number of the update since training began; -1 for the start model.
    features : int
    stream : int
        :data:`MODEL_STREAM` or :data:`GRADIENT_STREAM`.

    Returns
    -------
    ndarray of uint32, shape (features,)
    """
    group, lane = np.divmod(np.arange(features, dtype=np.int64), DRAW_FEATURES)
    words = threefry((group, update % 2**32, 0, 0), (seed, 0, 0, 0))
    slope, offset = words[2 * stream : 2 * stream + 2]
    power, total = slope.astype(np.uint64), offset.astype(np.uint64)
    for bit in range(6):
        total = np.where(lane >> bit & 1 == 1, total ^ power, total)
        # times x, modulo x^32 + x^7 + x^3 + x^2 + 1
        power = power << np.uint64(1)
        power = np.where(power >> np.uint64(32) == 1, power ^ np.uint64(0x1_0000_008D), power)
    return total.astype(np.uint32)


def stochastic_round(
    value: IntArray, shift: int, bits: int, random: NDArray[np.uint32]
) -> tuple[IntArray, int]:
    """Multiples of ``2^shift`` that ``bits`` bits hold, and how many had to be clipped."""
    below = (random.astype(np.uint64) << np.uint64(32)) >> np.uint64(64 - shift) if shift else 0
    level = (value + np.asarray(below).astype(np.int64)) >> shift
    top = (1 << (bits - 1)) - 1
    return np.clip(level, -top, top) << shift, int(np.count_nonzero(np.abs(level) > top))


class _Run:
    """One run: samples of either format, and the arithmetic on them in exact integers."""

    def __init__(self, packed: PackedDataset, plan: Plan) -> None:
        layout = packed.layout
        self.plan = plan
        self.layout = layout
        self.floats = layout.value_format == "float32"
        self.refetches = layout.value_format == "refetch"
        self.saturate = _Saturation()
        self.outside = self.clipped = self.refetched = 0
        if self.floats:
            self.q: tuple[IntArray, ...] = (fixed_from_float(float_values(packed)),)
        else:
            self.q = kernel_values(packed, plan.bits, plan.sampling, plan.degree)
        if self.refetches:
            assert packed.full is not None
            rows = packed.full.reshape(layout.blocks * layout.block_samples, -1)
            self.full = fixed_from_float(float_rows(rows, layout.samples, layout.features))
        self.labels = np.asarray(packed.labels).astype(np.int64)
        one = 1 << CONFIG.weight_fraction_bits
        self.weights = np.full(len(self.labels), one, dtype=np.int64)
        if packed.weights is not None:
            self.weights = np.asarray(packed.weights).astype(np.int64)
        self.value_bits = value_fraction_bits(layout.value_format)
        # one more than the product's, for twice the gradient
        self.gradient_bits = CONFIG.coefficient_fraction_bits + self.value_bits + 1
        self.one = 1 << CONFIG.model_fraction_bits

    def dot(self, q: IntArray, rows: slice, x: IntArray, floats: bool) -> IntArray:
        """Dot products, a value's fraction bits more than x's."""
        if floats:
            shift = CONFIG.float_fraction_bits - CONFIG.grid_bits
            return round_shift(q[rows] * x, shift).sum(axis=1)
        return q[rows] @ x

    def margins(self, dot: IntArray, labels: IntArray) -> IntArray:
        z = self.saturate(round_shift(dot, self.value_bits))
        return np.where(labels < 0, -z, z)

    def count_outside(self, margins: IntArray) -> None:
        edge = self.one << self.plan.derivative.range_log2
        self.outside += int(np.count_nonzero(np.abs(margins) > edge))

    def derivatives(self, dot: IntArray, labels: IntArray) -> IntArray:
        """Derivatives of the loss at some dot products."""
        code = self.plan.derivative.code
        if code == CONFIG.loss_least_squares:
            exact = dot - (labels << self.value_bits)
            return self.saturate(round_shift(exact, self.value_bits))
        m = self.margins(dot, labels)
        if code == CONFIG.loss_hinge:
            size = np.where(m < self.one, self.one, 0)
        elif code == CONFIG.loss_squared_hinge:
            size = np.where(m < self.one, self.saturate(np.maximum(self.one - m, 0)), 0)
        else:
            self.count_outside(m)
            table = self.plan.derivative.numbers.astype(np.int64)
            range_log2 = self.plan.derivative.range_log2
            edge = self.one << range_log2
            place = np.clip(m, -edge, edge) + edge
            shift = CONFIG.model_fraction_bits + range_log2 + 1 - 10
            index = np.minimum(place >> shift, CONFIG.derivative_table - 1)
            slope = table[index + 1] - table[index]
            size = table[index] + round_shift(slope * (place - (index << shift)), shift)
        return np.where(labels < 0, size, -size)

    def polynomials(self, rows: slice, x: IntArray, labels: IntArray) -> IntArray:
        """Derivatives as polynomials of independent samples."""
        p = self.plan.derivative.numbers.astype(np.int64)
        product, total = np.zeros_like(labels), np.full_like(labels, p[0])
        for k in range(1, self.plan.degree + 1):
            m = self.margins(self.dot(self.q[k - 1], rows, x, False), labels)
            self.count_outside(m)
            t = round_shift(2 * m, self.plan.derivative.range_log2 + 1)
            fraction = CONFIG.model_fraction_bits
            product = t if k == 1 else self.saturate(round_shift(product * t, fraction))
            added = round_shift(p[k] * product, CONFIG.derivative_fraction_bits)
            total = self.saturate(total + added)
        return np.where(labels < 0, total, -total)

    def coefficients(self, derivatives: IntArray, rows: slice, epoch: int) -> IntArray:
        step, negative, _, _ = (int(v) for v in self.plan.schedule_table()[epoch])
        exact = derivatives * self.weights[rows]
        weighted = self.saturate(round_shift(exact, CONFIG.weight_fraction_bits))
        shift = (
            CONFIG.model_fraction_bits
            + CONFIG.step_fraction_bits
            - CONFIG.coefficient_fraction_bits
        )
        steps = np.where(self.labels[rows] < 0, negative, step)
        return self.saturate(round_shift(weighted * steps, shift))

    def in_doubt(self, dots: list[IntArray], labels: IntArray, x: IntArray) -> NDArray[np.bool_]:
        """Samples whose margin quantization may have moved across the hinge."""
        bound = (2 * int(np.abs(x).sum()) >> (self.plan.bits - 1)) + 1
        doubt = np.zeros(len(labels), dtype=bool)
        for dot in dots:
            z = round_shift(dot, self.value_bits)
            doubt |= np.abs(self.one - np.where(labels < 0, -z, z)) <= bound
        return doubt

    def batch(self, rows: slice, x: IntArray, epoch: int) -> list[IntArray]:
        """Coefficients of a batch, one for each sample that its gradient takes."""
        labels = self.labels[rows]
        if self.plan.sampling == "independent":
            return [self.coefficients(self.polynomials(rows, x, labels), rows, epoch)]
        which = {"symmetric": [0, 1], "plain": [1]}.get(self.plan.sampling, [0])
        dots = [self.dot(self.q[i], rows, x, self.floats) for i in which]
        if not self.refetches:
            return [self.coefficients(self.derivatives(d, labels), rows, epoch) for d in dots]
        # those in doubt are not evaluated twice, so that nothing is counted twice
        doubt = self.in_doubt(dots, labels, x)
        exact = self.dot(self.full, rows, x, True)
        self.refetched += int(doubt.sum())
        chosen = [np.where(doubt, exact, dot) for dot in dots]
        return [self.coefficients(self.derivatives(d, labels), rows, epoch) for d in chosen]

    def gradient(self, rows: slice, c: list[IntArray]) -> IntArray:
        """Twice the gradient: ``Q1 c(Q2) + Q2 c(Q1)``, or ``2 Q c``, Q the outer sample."""
        if self.floats:
            shift = CONFIG.float_fraction_bits - CONFIG.grid_bits
            return round_shift(self.q[0][rows] * (2 * c[0])[:, None], shift).sum(axis=0)
        if self.plan.sampling == "symmetric":
            return np.add(c[1] @ self.q[0][rows], c[0] @ self.q[1][rows])
        outer = self.q[-1] if self.plan.sampling == "independent" else self.q[0]
        return 2 * (c[0] @ outer[rows])

    def updated(self, x: IntArray, gradient: IntArray, epoch: int, update: int) -> IntArray:
        _, _, decay, unit = (int(v) for v in self.plan.schedule_table()[epoch])
        bits = self.plan.gradient_bits
        if bits:
            random = lane_random(self.plan.seed, update, len(x), GRADIENT_STREAM)
            shift = min(unit, 56 - bits)
            gradient, clipped = stochastic_round(gradient, shift, bits, random)
            self.clipped += clipped
        decay_shift = CONFIG.model_fraction_bits + CONFIG.decay_fraction_bits - self.gradient_bits
        shrink = round_shift(x * decay, decay_shift)
        moved = round_shift(gradient + shrink, self.gradient_bits - CONFIG.model_fraction_bits)
        return self.saturate(x - moved)

    def seen(self, x: IntArray, update: int) -> IntArray:
        """The model as dot products see it after an update."""
        bits = self.plan.model_bits
        if bits == 0:
            return x
        random = lane_random(self.plan.seed, update, len(x), MODEL_STREAM)
        shift = min(self.plan.model_shift, 32 - bits)
        quantized, clipped = stochastic_round(x, shift, bits, random)
        self.clipped += clipped
        return quantized


def train(packed: PackedDataset, plan: Plan, model: ArrayLike | None = None) -> TrainResult:
    """Train as the accelerator does, bit for bit.

    Parameters
    ----------
    packed : PackedDataset
        The data set, any format.
    plan : Plan
        The run.
    model : array_like, shape (features,), optional
        Start, see :func:`fixed_model`.

    Returns
    -------
    TrainResult
        Cycles are the schedule's.
    """
    layout = packed.layout
    plan.check(layout)
    run = _Run(packed, plan)
    x = fixed_model(model, layout.features).astype(np.int64)
    update = plan.first_epoch * -(-layout.samples // plan.batch)
    seen = run.seen(x, update - 1)
    history = np.empty((plan.epochs, layout.features), dtype=np.int32)
    weighted = packed.weights is not None
    cycles = 0
    for epoch in range(plan.epochs):
        pending: list[tuple[slice, list[IntArray]]] = []
        order = block_order(layout.blocks, *plan.epoch_order(epoch))
        fetched = []
        for block in order:
            before = run.refetched
            start = block * layout.block_samples
            end = min(start + layout.block_samples, layout.samples)
            for first in range(start, end, plan.batch):
                if len(pending) > plan.delay:
                    rows, c = pending.pop(0)
                    x = run.updated(x, run.gradient(rows, c), epoch, update)
                    seen = run.seen(x, update)
                    update += 1
                rows = slice(first, min(first + plan.batch, end))
                pending.append((rows, run.batch(rows, seen, epoch)))
            fetched.append(run.refetched - before)
        for rows, c in pending:
            x = run.updated(x, run.gradient(rows, c), epoch, update)
            seen = run.seen(x, update)
            update += 1
        history[epoch] = x
        times = epoch_schedule(layout, plan, weighted=weighted, order=order, refetched=fetched)
        cycles += times.cycles
    cycles += times.once + fixed_cycles(layout, plan, derivatives=len(plan.derivative.numbers))
    planes = streamed_planes(layout, plan.bits, plan.sampling, plan.degree)
    return TrainResult.from_fixed(
        x.astype(np.int32),
        history,
        words=plan.epochs * layout.blocks * planes * layout.block_samples * layout.chunks,
        cycles=cycles,
        saturations=run.saturate.count,
        outside=run.outside,
        clipped=run.clipped,
        refetched=run.refetched,
        word_bits=layout.word_bits,
        fetched_bytes=run.refetched * full_bytes(layout),
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
    threads: int = 1,
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
    threads : int
        Each trains a share of the features; sums round in an order that depends on it.

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
    if threads < 1:
        raise ArgumentError(f"threads was {threads}; allowed are integers from 1 up")
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
        threads,
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


def float_sgd_loss(
    values: ArrayLike,
    labels: ArrayLike,
    step: ArrayLike,
    loss: str = "least_squares",
    *,
    batch: int = 16,
    l2: float = 0.0,
    delay: int = 0,
    class_costs: tuple[float, float] = (1.0, 1.0),
    weights: ArrayLike | None = None,
    second: ArrayLike | None = None,
    model: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Mini-batch SGD on any loss with its exact derivative, in NumPy, float64 inside.

    The batches and updates are the accelerator's. Arguments beside those of :func:`float_sgd`:

    Parameters
    ----------
    loss : str
        A key of :data:`zipml_pynq.losses.LOSSES`.
    class_costs : tuple of float
        Factors of the loss of samples with negative labels, and of the others.
    weights : array_like, shape (samples,), optional
        Of the samples' losses.
    second : array_like, shape (samples, features), optional
        Second samples of the values: then gradients are those of symmetric double sampling.

    Returns
    -------
    ndarray of float64, shape (epochs, features)
        The model after every epoch; the last row is the result.
    """
    found = LOSSES[check_choice("loss", loss, tuple(LOSSES))]
    v, y, x, steps = (
        a.astype(np.float64) for a in _float_arguments(values, labels, model, step, delay)
    )
    other = v if second is None else np.asarray(second, dtype=np.float64)
    if other.shape != v.shape:
        raise ArgumentError(f"second had shape {other.shape}; allowed is {v.shape}")
    pairs = ((v, other), (other, v)) if second is not None else ((v, v),)
    factors = np.where(y < 0, *class_costs) * (1.0 if weights is None else np.asarray(weights))
    history = np.empty((steps.size, x.size))
    for epoch, gamma in enumerate(steps):
        pending: list[NDArray[np.float64]] = []
        for start in range(0, len(v), batch):
            if len(pending) > delay:
                x = x - gamma * (pending.pop(0) + l2 * x)
            rows = slice(start, start + batch)
            gradient = np.zeros_like(x)
            for inner, outer in pairs:
                c = found.derivative(inner[rows] @ x, y[rows]) * factors[rows]
                gradient += c @ outer[rows]
            pending.append(gradient / (batch * len(pairs)))
        for gradient in pending:
            x = x - gamma * (gradient + l2 * x)
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
