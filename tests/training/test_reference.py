"""The reference against exact arithmetic and the compiled pack; the float32 baseline."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import Case, random_case
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data import values
from zipml_pynq.data.pack import pack
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training import baseline, reference, result
from zipml_pynq.training.make_plan import step_sizes


def half_up(value: Fraction) -> int:
    """The nearest integer, halves up."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def clamp(value: int) -> tuple[int, int]:
    """Clamped value, and whether it was clamped."""
    limit = 2**31 - 1
    return max(-limit, min(limit, value)), int(abs(value) > limit)


def exact_training(case: Case) -> tuple[list[int], int]:
    """One epoch without delay in fractions, plane by plane: model and saturations."""
    packed, plan = case.packed, case.plan
    layout = packed.layout
    one = Fraction(MODEL_ONE)
    rows = [w.tobytes() for w in packed.planes.astype("<u8")]

    def bit(plane: int, sample: int, feature: int) -> int:
        block, s = divmod(sample, layout.block_samples)
        word = (plane * layout.block_samples + s) * layout.chunks + feature // layout.lanes
        position = word * layout.word_bits + feature % layout.lanes
        return rows[block][position // 8] >> (position % 8) & 1

    base_planes = plan.bits - 1
    first = layout.dither_offset(plan.bits) // (layout.block_samples * layout.chunks)

    def value(sample: int, feature: int, dither: int) -> Fraction:
        level = sum(bit(p, sample, feature) << (base_planes - 1 - p) for p in range(base_planes))
        level += bit(first + dither, sample, feature)
        if packed.levels is not None:
            table = packed.levels[feature % len(packed.levels)]
            return Fraction(int(table[level]), 2**CONFIG.level_fraction_bits)
        return Fraction(2 * level, 2**base_planes) - 1

    x = [int(v) for v in case.model]
    saturations = 0
    step = Fraction(int(plan.steps[0]), 2**CONFIG.step_fraction_bits)
    decay = Fraction(int(plan.decays[0]), 2**CONFIG.decay_fraction_bits)
    fraction = 2**CONFIG.coefficient_fraction_bits
    value_bits = {"levels": 14, "wide": 15}.get(packed.layout.value_format, 7)
    for start in range(0, layout.samples, plan.batch):
        gradient = [Fraction(0)] * layout.features
        for i in range(start, min(start + plan.batch, layout.samples)):
            q = [[value(i, j, d) for j in range(layout.features)] for d in (0, 1)]
            c = []
            for row in q:
                dot = sum((v * xj for v, xj in zip(row, x, strict=True)), Fraction(0))
                residual, clamped = clamp(half_up(dot - int(packed.labels[i])))
                saturations += clamped
                coefficient, clamped = clamp(half_up(residual / one * step * fraction))
                saturations += clamped
                c.append(Fraction(coefficient, fraction))
            for j in range(layout.features):
                gradient[j] += (q[0][j] * c[1] + q[1][j] * c[0]) / 2
        for j in range(layout.features):
            unit = 2 * fraction * 2**value_bits
            shrink = half_up(x[j] / one * decay * unit)
            factor = 1 if plan.feature_shifts is None else 2 ** int(plan.feature_shifts[j])
            moved = half_up(factor * (gradient[j] * unit + shrink) / unit * one)
            x[j], clamped = clamp(x[j] - moved)
            saturations += clamped
            if plan.thresholds is not None:
                nearer = max(abs(x[j]) - factor * int(plan.thresholds[0]), 0)
                x[j] = nearer if x[j] > 0 else -nearer
    return x, saturations


@pytest.mark.parametrize("scale", [0.5, 120.0])
@pytest.mark.parametrize(
    ("value_format", "bits"),
    [
        *itertools.product(("bitplanes", "levels"), range(1, 9)),
        ("wide", 3),
        ("wide", 12),
        ("wide", 16),
    ],
)
@pytest.mark.parametrize("largest_shift", [0, CONFIG.max_feature_shift])
def test_training_is_the_formulas_in_fractions(
    bits: int, scale: float, value_format: str, largest_shift: int
) -> None:
    case = random_case(
        bits,
        value_format=value_format,
        bits=bits,
        features=7,
        samples=11,
        batch=4,
        epochs=1,
        delay=0,
        l2=0.3,
        step=0.1,
        model_scale=scale,
        label_scale=scale,
        options={"l1": 0.01 * (bits % 2)},
        largest_shift=largest_shift,
    )
    result = reference.train(case.packed, case.plan, case.model)
    model, saturations = exact_training(case)
    assert result.model_fixed.tolist() == model
    assert result.saturations == saturations
    assert (saturations > 0) == (scale > 1) or largest_shift > 0


@pytest.mark.parametrize("bits", [*range(1, 9), 12, 16])
@pytest.mark.parametrize("word_bits", [64, 128, 512])
def test_unpacked_values_are_those_that_pack_stored(bits: int, word_bits: int) -> None:
    rng = np.random.default_rng(bits)
    X, y = rng.normal(size=(50, 70)), rng.normal(size=50)
    packed = pack(X, y, bits=(bits, bits % 8 + 1), word_bits=word_bits, batch=8)
    expected = packed.values(bits, "symmetric")
    found = values.kernel_values(packed, bits, "symmetric")
    one = 2.0 ** values.value_fraction_bits(packed.layout.value_format)
    for d in (0, 1):
        np.testing.assert_array_equal(found[d] / one, expected[d])


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("levels", ["optimal", "global"])
def test_values_of_levels_are_those_that_pack_stored(bits: int, levels: str) -> None:
    rng = np.random.default_rng(bits)
    X, y = rng.lognormal(size=(50, 20)), rng.normal(size=50)
    packed = pack(X, y, bits=bits, levels=levels, batch=8)
    expected = packed.values(bits, "symmetric")
    found = values.kernel_values(packed, bits, "symmetric")
    one = 2.0**CONFIG.level_fraction_bits
    for d in (0, 1):
        np.testing.assert_array_equal(found[d] / one, expected[d])


def test_float32_values_are_those_that_pack_stored() -> None:
    rng = np.random.default_rng(0)
    packed = pack(rng.normal(size=(50, 70)), rng.normal(size=50), value_format="float32")
    np.testing.assert_array_equal(values.float_values(packed), packed.values())


@given(st.floats(-1, 1, width=32))
def test_fixed_from_float_rounds_half_away_from_zero(value: float) -> None:
    exact = Fraction(value) * 2**CONFIG.float_fraction_bits
    nearest = half_up(abs(exact)) * (1 if exact >= 0 else -1)
    assert reference.fixed_from_float(np.array([value], dtype=np.float32))[0] == nearest


def test_fixed_from_float_clamps() -> None:
    values = np.array([1.5, -3, np.inf, -np.inf, np.nan], dtype=np.float32)
    one = 2**CONFIG.float_fraction_bits
    np.testing.assert_array_equal(np.abs(reference.fixed_from_float(values)), one)


def test_start_model_is_fixed_point_or_normalized_units() -> None:
    np.testing.assert_array_equal(result.fixed_model(None, 2), [0, 0])
    np.testing.assert_array_equal(result.fixed_model([0.5, -1.0], 2), [2**23, -(2**24)])
    np.testing.assert_array_equal(result.fixed_model(np.array([3, -4]), 2), [3, -4])
    for wrong in ([1.0], [200.0, 0.0], [np.nan, 0.0], [-(2**31), 0]):
        with pytest.raises(ArgumentError, match="model had"):
            result.fixed_model(wrong, 2)


def test_result_says_what_was_streamed() -> None:
    case = random_case(1, word_bits=128, epochs=3)
    result = reference.train(case.packed, case.plan, case.model)
    layout = case.packed.layout
    assert result.words == 3 * layout.streamed_words(4, "symmetric")
    assert result.bytes_streamed == 3 * layout.bytes_per_epoch(4, "symmetric")
    np.testing.assert_array_equal(result.history[-1], result.model)
    np.testing.assert_array_equal(result.model * MODEL_ONE, result.model_fixed)


# ---- Full precision ---------------------------------------------------------------------------


def problem(samples: int = 203, features: int = 70) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(samples)
    V = rng.uniform(-1, 1, (samples, features)).astype(np.float32)
    return V, (V @ rng.normal(size=features) / 8).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3, 16, 300])
@pytest.mark.parametrize("delay", [0, 1, 4])
@pytest.mark.parametrize("features", [1, 31, 33, 70, 600])
@pytest.mark.parametrize("own_steps", [False, True])
def test_compiled_float_sgd_is_the_numpy_one(
    batch: int, delay: int, features: int, own_steps: bool
) -> None:
    V, y = problem(203, features)
    steps = step_sizes(0.3 / features, "inverse", 3)
    start = np.linspace(-1, 1, features)
    factors = np.exp2(np.arange(features) % 3 - 2) if own_steps else None
    given = {"batch": batch, "delay": delay, "l2": 0.2, "model": start, "feature_steps": factors}
    compiled = baseline.float_sgd(V, y, steps, **given)
    plain = baseline.float_sgd_numpy(V, y, steps, **given)
    np.testing.assert_allclose(compiled, plain, rtol=2e-4, atol=2e-5)
    exact = baseline.float_sgd_loss(V, y, steps, **given)
    np.testing.assert_allclose(plain, exact, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("shifts", [None, np.arange(60) % 4])
def test_float_sgd_is_the_accelerator_at_full_precision(shifts: np.ndarray | None) -> None:
    # the float32 kernel on the same values, steps, delay and l2
    given = {"samples": 100, "features": 60, "batch": 8, "delay": 2, "l2": 0.5, "epochs": 4}
    options = {"feature_shifts": shifts}
    case = random_case(3, value_format="float32", options=options, **given)
    packed = case.packed
    V = values.float_values(packed)
    y = packed.labels[:100] / MODEL_ONE
    history = baseline.float_sgd(
        V,
        y,
        case.plan.step,
        batch=8,
        delay=2,
        l2=0.5,
        model=case.model / MODEL_ONE,
        feature_steps=case.plan.feature_steps,
    )
    fixed = reference.train(packed, case.plan, case.model)
    np.testing.assert_allclose(history, fixed.history, atol=2e-5)


def test_float_sgd_converges_to_least_squares() -> None:
    V, y = problem(2000, 20)
    history = baseline.float_sgd(V, y, step_sizes(0.5, "inverse", 30))
    losses = [baseline.loss(V, y, x) for x in history]
    assert losses[-1] < 1e-6 < baseline.loss(V, y, np.zeros(20))
    gradient = baseline.full_precision_gradient(V, y, history[-1])
    assert np.abs(gradient).max() < 1e-4


def test_gradient_is_the_slope_of_the_loss() -> None:
    V, y = problem(50, 5)
    x, e = np.linspace(-1, 1, 5), 1e-5
    gradient = baseline.full_precision_gradient(V, y, x)
    for j, d in enumerate(np.eye(5) * e):
        slope = (baseline.loss(V, y, x + d) - baseline.loss(V, y, x - d)) / (2 * e)
        assert gradient[j] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros(3)}, "values had shape"),
        ({"values": np.zeros((0, 3))}, "values had shape"),
        ({"labels": np.zeros(4)}, "labels had shape"),
        ({"step": []}, "step had shape"),
        ({"delay": -1}, "delay was"),
        ({"batch": 0}, "batch was"),
        ({"model": [1.0]}, "model had shape"),
        ({"feature_steps": [1.0]}, "feature_steps had shape"),
    ],
)
def test_float_sgd_refuses_what_does_not_fit(change: dict, message: str) -> None:
    arguments = {"values": np.zeros((3, 2)), "labels": np.zeros(3), "step": [0.1], **change}
    with pytest.raises(ArgumentError, match=message):
        baseline.float_sgd(**arguments)
