"""The reference: training written from the formulas of docs/arithmetic.md, in NumPy integers.

It shares no code with kernel and engine; planes are unpacked by :mod:`zipml_pynq.data.values`,
without compiled code, so that equal bits mean that packing, arithmetic and schedule of all three
agree. It is slow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import CONFIG
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.values import (
    IntArray,
    float_values,
    kernel_values,
    rows_of_words,
    value_fraction_bits,
)
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.result import LARGEST, TrainResult, fixed_model
from zipml_pynq.training.schedule import (
    block_order,
    epoch_schedule,
    fixed_cycles,
    full_bytes,
    streamed_planes,
)


def round_shift(value: IntArray, shift: int) -> IntArray:
    """``floor(value / 2**shift + 1/2)``."""
    return (value + (1 << (shift - 1))) >> shift


def round_scaled(value: IntArray, shift: int, up: IntArray) -> IntArray:
    """``floor(value * 2**up / 2**shift + 1/2)``, where ``value * 2**up`` may not fit 64 bits."""
    down = shift - up
    half = np.where(down > 0, 1 << np.maximum(down - 1, 0), 0)
    return (value + half >> np.maximum(down, 0)) << np.maximum(-down, 0)


class _Saturation:
    """Clamps to ``+-(2**31 - 1)`` and counts what it clamped."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, value: IntArray) -> IntArray:
        self.count += int(np.count_nonzero(np.abs(value) > LARGEST))
        return np.clip(value, -LARGEST, LARGEST)


def fixed_from_float(values: NDArray[np.float32]) -> IntArray:
    """float32 as fixed point, clamped to [-1, 1], rounded half away from zero."""
    one = 2.0**CONFIG.float_fraction_bits
    wide = np.asarray(values, dtype=np.float64)
    magnitude = np.where(np.abs(wide) <= 1.0, np.abs(wide), 1.0) * one  # NaN is 1 too
    rounded = np.floor(magnitude + 0.5).astype(np.int64)
    return rounded * np.where(np.signbit(wide), -1, 1)


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
            self.full = fixed_from_float(rows_of_words(rows, layout.samples, layout.features))
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
        shift = self.gradient_bits - CONFIG.model_fraction_bits
        up = np.zeros_like(x)
        if self.plan.feature_shifts is not None:
            up = self.plan.feature_shifts.astype(np.int64)
        change = gradient + shrink
        if self.plan.correction is not None:
            more = self.gradient_bits - CONFIG.correction_fraction_bits
            change = change + (self.plan.correction.astype(np.int64) << more)
        return self.saturate(x - round_scaled(change, shift, up))

    def seen(self, x: IntArray, update: int, before: IntArray | None = None) -> IntArray:
        """The model as dot products see it after an update; ``before`` if it is frozen."""
        if self.plan.frozen and before is not None:
            return before
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
                    seen = run.seen(x, update, seen)
                    update += 1
                rows = slice(first, min(first + plan.batch, end))
                pending.append((rows, run.batch(rows, seen, epoch)))
            fetched.append(run.refetched - before)
        for rows, c in pending:
            x = run.updated(x, run.gradient(rows, c), epoch, update)
            seen = run.seen(x, update, seen)
            update += 1
        history[epoch] = x
        times = epoch_schedule(layout, plan, weighted=weighted, order=order, refetched=fetched)
        cycles += times.cycles
    cycles += times.once + fixed_cycles(
        layout,
        plan,
        derivatives=len(plan.derivative.numbers),
        vectors=len(plan.vectors_behind),
    )
    planes = streamed_planes(layout, plan.bits, plan.sampling, plan.degree)
    return TrainResult.from_fixed(
        x.astype(np.int32),
        history,
        words=plan.epochs * layout.blocks * planes * layout.block_samples * layout.chunks,
        modelled_cycles=cycles,
        saturations=run.saturate.count,
        outside=run.outside,
        clipped=run.clipped,
        refetched=run.refetched,
        word_bits=layout.word_bits,
        fetched_bytes=run.refetched * full_bytes(layout),
    )
