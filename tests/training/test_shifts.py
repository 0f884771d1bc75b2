"""Steps of features: powers of two that follow second moments, and the step with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.cases import run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training import step as step_module
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.step import (
    auto_shifts,
    auto_step,
    moments,
    sample_rows,
    second_moments,
    shifts_of,
)

ENGINE = load_build("engine")


def spread_rows(samples: int = 500, columns: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Columns whose largest distance from the mean is anywhere from 1 to 300 deviations."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(samples, columns))
    X[7] *= np.logspace(0, 2.5, columns)
    X[:, 3] = 4.0
    return X, X @ rng.normal(size=columns)


@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("value_format", ["bitplanes", "float32"])
@pytest.mark.parametrize("part", [1, 1 << 18])
def test_shifts_have_the_plain_formula(monkeypatch, l2, weighted, value_format, part):
    monkeypatch.setattr(step_module, "_PART_VALUES", part)
    X, y = spread_rows()
    weights = np.random.default_rng(1).uniform(0, 2, len(X)) if weighted else None
    bits, sampling = (32, "single") if value_format == "float32" else (6, "symmetric")
    options = {} if value_format == "float32" else {"bits": 6}
    packed = pack(X, y, value_format=value_format, sample_weight=weights, **options)
    q = packed.values()
    q1, q2 = (q, q) if value_format == "float32" else q
    w = (
        1.0
        if weights is None
        else packed.weights[: len(X), None] / 2.0**CONFIG.weight_fraction_bits
    )
    second = (w * q1.astype(float) * q2).mean(axis=0)
    expected = np.zeros(len(second))
    live = second > 0
    second = second + l2
    expected[live] = np.rint(np.log2(second[live].max() / second[live]))
    expected = np.clip(expected, 0, CONFIG.max_feature_shift)
    found = auto_shifts(*second_moments(packed, bits=bits, sampling=sampling), l2=l2, fresh=True)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)
    assert found[3] == found[-1] == 0  # constant, and the intercept, whose moment is the largest
    assert (found > 0).sum() > 10


def test_shifts_of_nothing_and_of_equals_are_0():
    assert shifts_of(np.zeros(3)).tolist() == [0, 0, 0]
    assert shifts_of(np.full(3, 1e-9)).tolist() == [0, 0, 0]
    largest = CONFIG.max_feature_shift
    assert shifts_of(np.array([1.0, 0.26, 0.0, 1e-300])).tolist() == [0, 2, 0, largest]


def test_a_layout_alone_has_no_moments():
    X, y = spread_rows()
    packed = pack(X, y, bits=4)
    with pytest.raises(ArgumentError, match="feature_shifts was 'auto' with a layout alone"):
        make_plan(packed.layout, batch=16, step=0.1, feature_shifts="auto")
    with pytest.raises(ArgumentError, match="feature_shifts was 'best'"):
        make_plan(packed, feature_shifts="best")
    plan = make_plan(packed, feature_shifts="auto", l2=0.01)
    expected = auto_shifts(*second_moments(packed, bits=4, sampling="symmetric"), l2=0.01)
    assert np.array_equal(plan.feature_shifts, expected)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("delay", [0, 1, 3])
def test_the_step_keeps_windows_contracting(bits, delay):
    """Of columns that are 2^(shift / 2) times as large, as the step of a run is without shifts."""
    X, y = spread_rows()
    packed = pack(X, y, bits=bits)
    shifts = auto_shifts(*second_moments(packed, bits=bits, sampling="symmetric"))
    options = {"bits": bits, "sampling": "symmetric", "batch": 16, "delay": delay}
    window = 16 * (delay + 1)
    (q1, q2), _ = sample_rows(packed, bits, "symmetric", window)
    roots = np.exp2(shifts / 2.0)
    curvature = moments(q1 * roots, q2 * roots, window=window).curvature
    for l2 in (0.0, 0.05):
        step = auto_step(packed, **options, l2=l2, shifts=shifts)
        bend = curvature + l2 * 2.0 ** int(shifts.max())
        assert step * (delay + 1) * bend <= 0.8 * (1.5 + 0.5 / (delay + 1)) * 1.001
    none = auto_step(packed, **options, shifts=np.zeros_like(shifts))
    assert none == auto_step(packed, **options)


def test_what_was_seen_of_a_data_set_is_that_ones_alone():
    """Rows are looked at once a data set: the same samples with other weights are another one."""
    X, y = spread_rows()
    options = {"bits": 4, "sampling": "symmetric", "batch": 16}
    packed = pack(X, y, bits=4)
    weighted = packed.relabel(y, sample_weight=np.full(len(y), 2.0))
    for first, other in ((packed, weighted), (weighted, packed)):
        steps = [auto_step(one, **options) for one in (first, first, other)]
        assert steps[0] == steps[1] == auto_step(replace(first), **options)
        assert steps[2] != steps[0]
    shifts = np.arange(packed.layout.features, dtype=np.uint8) % 3
    of_shifts = auto_step(packed, **options, shifts=shifts)
    assert of_shifts == auto_step(replace(packed), **options, shifts=shifts)
    assert len({of_shifts, *(auto_step(packed, **{**options, "batch": b}) for b in (8, 16))}) == 3
    seen, _ = second_moments(packed, bits=4, sampling="symmetric")
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 1.0


def test_steps_of_features_converge_sooner():
    """Columns that fill a hundredth to all of a range."""
    rng = np.random.default_rng(2)
    scales = np.logspace(-2, 0, 12)
    X = rng.uniform(-1, 1, (2000, 12)) * scales
    y = X @ (rng.normal(size=12) / scales)
    fitted = Normalization.fit(X, y)
    wide = Normalization(np.zeros(12), np.ones(12), fitted.label_mid, fitted.label_half)
    packed = pack(X, y, value_format="float32", normalization=wide)
    errors = []
    for shifts in (None, "auto"):
        plan = make_plan(packed, epochs=20, schedule="constant", feature_shifts=shifts)
        outcome = run_build(ENGINE, packed, plan)
        assert outcome.registers["saturations"] == 0
        errors.append(((wide.predict(X, outcome.model / MODEL_ONE) - y) ** 2).mean() / y.var())
    assert errors[0] > 0.1
    assert errors[1] < 1e-3
