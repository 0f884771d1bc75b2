"""Random numbers on chip, and the rounding of model and gradient by them.

Statistical tests have fixed seeds, so a test passes always or never; ALARM is the chance that a
correct program meets a seed that fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.cases import ALARM, run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.training import reference, result
from zipml_pynq.training.make_plan import make_plan

ENGINE = load_build("engine")
Array = NDArray[np.float64]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 " * 4, "00000000 " * 4, "9c6ca96a e17eae66 fc10ecd4 5256a7d8"),
        ("ffffffff " * 4, "ffffffff " * 4, "2a881696 57012287 f6c7446e a16a6732"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0 082efa98 ec4e6c89",
            "59cd1dbb b8879579 86b5d00c ac8b6d84",
        ),
    ],
)
def test_threefry_gives_the_known_answers(counter: str, key: str, expected: str) -> None:
    """The vectors of Random123."""

    def words(text: str) -> tuple[int, ...]:
        return tuple(int(word, 16) for word in text.split())

    found = reference.threefry(words(counter), words(key))  # type: ignore[arg-type]
    assert tuple(int(word) for word in found) == words(expected)


def times(a: int, b: int) -> int:
    """Product in GF(2^32) modulo x^32 + x^7 + x^3 + x^2 + 1."""
    product = 0
    for bit in range(32):
        product ^= (a << bit) * (b >> bit & 1)
    for bit in range(62, 31, -1):
        product ^= (0x1_0000_008D << (bit - 32)) * (product >> bit & 1)
    return product


@pytest.mark.parametrize("stream", [reference.MODEL_STREAM, reference.GRADIENT_STREAM])
def test_lanes_are_slope_times_lane_and_offset(stream: int) -> None:
    found = reference.lane_random(7, 3, 130, stream)
    for feature in range(130):
        group, lane = divmod(feature, 64)
        words = reference.threefry((group, 3, 0, 0), (7, 0, 0, 0))
        slope, offset = words[:2] if stream == reference.MODEL_STREAM else words[2:]
        assert int(found[feature]) == times(int(slope), lane) ^ int(offset)


def test_reduction_polynomial_is_irreducible() -> None:
    """So slope -> slope (i xor j) is a bijection, and two lanes are independent (Rabin's test).

    x^(2^32) = x, and x^(2^16) - x has no common factor with the polynomial, 32 having 2 as its only
    prime factor.
    """

    def after(squarings: int) -> int:
        power = 2
        for _ in range(squarings):
            power = times(power, power)
        return power

    def degree(a: int) -> int:
        return a.bit_length() - 1

    assert after(32) == 2
    a, b = 0x1_0000_008D, after(16) ^ 2
    while b:
        while degree(a) >= degree(b):
            a ^= b << (degree(a) - degree(b))
        a, b = b, a
    assert a == 1


def many_randoms(features: int, count: int) -> NDArray[np.uint32]:
    """Numbers of so many updates, (count, features)."""
    updates: Any = np.arange(count)[:, None]
    return reference.lane_random(11, updates, features, reference.MODEL_STREAM)


def no_two_correlate(draws: Array) -> bool:
    """Whether all correlations of columns are within chance, false alarms at the rate ALARM."""
    count, columns = draws.shape
    r = np.corrcoef(draws, rowvar=False)[np.triu_indices(columns, 1)]
    return bool(np.abs(r).max() * np.sqrt(count) < stats.norm.isf(ALARM / 2 / r.size))


def test_numbers_on_chip_are_uniform_and_pairwise_uncorrelated() -> None:
    """Lanes of two groups; numbers, their highest and their lowest byte."""
    count = 20_000
    random = many_randoms(100, count)
    for part in (random >> np.uint32(24), random & np.uint32(255)):
        counts = np.apply_along_axis(np.bincount, 0, part, minlength=256)
        statistic = ((counts - count / 256) ** 2 / (count / 256)).sum(axis=0)
        assert statistic.max() < stats.chi2.isf(ALARM / part.shape[1], 255)
        assert no_two_correlate(part.astype(np.float64))
    assert no_two_correlate(random.astype(np.float64))


@pytest.mark.parametrize("shift", [1, 5, 24, 40])
def test_stochastic_rounding_is_unbiased_with_the_predicted_variance(shift: int) -> None:
    count, features = 20_000, 64
    rng = np.random.default_rng(3)
    value = rng.integers(-20 << shift, 20 << shift, features)
    random = many_randoms(features, count)
    rounded = np.stack([reference.stochastic_round(value, shift, 6, r)[0] for r in random])
    unit = 1 << shift
    up = (value % unit) / unit
    below = value // unit
    draws = rounded / unit - below
    assert set(np.unique(draws)) <= {0, 1}
    middle = up > 0
    assert (draws[:, ~middle] == 0).all()
    # a Bernoulli variable of the mean `up`: its variance up (1 - up) is (hi - v)(v - lo)
    z = (draws.mean(axis=0) - up)[middle] / np.sqrt(up * (1 - up) / count)[middle]
    assert np.abs(z).max() < stats.norm.isf(ALARM / 2 / z.size)
    some = (up > 0.05) & (up < 0.95)
    assert no_two_correlate(draws[:, some])


def test_stochastic_rounding_clips_and_counts() -> None:
    value = np.array([-(1 << 20), -7 << 4, 0, 7 << 4, 8 << 4])
    rounded, clipped = reference.stochastic_round(value, 4, 4, np.zeros(5, dtype=np.uint32))
    assert (rounded >> 4).tolist() == [-7, -7, 0, 7, 7]
    assert clipped == 2


def test_engine_rounds_gradients_without_bias() -> None:
    """Far below the hinge the gradient is always the same: the model's steps are its roundings."""
    rng = np.random.default_rng(4)
    X = rng.integers(-127, 128, (2, 70)) / 128
    count, step = 4_000, 2.0**-10
    normalization = Normalization(np.zeros(70), np.ones(70), 0.0, 1.0, False)
    packed = pack(X, [1.0, 1.0], bits=8, sampling="nearest", batch=2, normalization=normalization)
    plan = make_plan(
        packed,
        epochs=count,
        step=step,
        schedule="constant",
        delay=0,
        loss="hinge",
        gradient_bits=4,
        gradient_range=1.0,
        seed=5,
    )
    exact = -packed.values().mean(axis=0).astype(np.float64) * step
    unit = 2.0 ** (int(plan.gradient_shifts[0]) - 36)
    assert 7 * unit >= step > 7 * unit / 2
    start = result.fixed_model(6 * exact / step, 70)
    outcome = run_build(ENGINE, packed, plan, start)
    assert outcome.registers["saturations"] == outcome.registers["clipped"] == 0
    models = np.concatenate([start[None], outcome.history]).astype(np.int64) / MODEL_ONE
    draws = -np.diff(models, axis=0) / unit
    up = exact / unit - np.floor(exact / unit)
    draws -= np.floor(exact / unit)
    assert set(np.unique(draws)) == {0, 1}
    some = (up > 0.05) & (up < 0.95)
    z = (draws.mean(axis=0) - up)[some] / np.sqrt(up * (1 - up) / count)[some]
    assert np.abs(z).max() < stats.norm.isf(ALARM / 2 / z.size)
    assert no_two_correlate(draws[:, some])


def test_engine_rounds_the_model_without_bias() -> None:
    """Samples that are unit vectors, labels 0: the model's steps are its roundings, scaled."""
    features, count = 70, 4_000
    normalization = Normalization(np.zeros(features), np.ones(features), 0.0, 1.0, False)
    packed = pack(
        np.eye(features),
        np.zeros(features),
        bits=8,
        sampling="nearest",
        batch=features,
        normalization=normalization,
    )
    plan = make_plan(
        packed,
        epochs=count,
        step=features / 4096,
        schedule="constant",
        delay=0,
        model_bits=4,
        model_range=4.0,
    )
    start = result.fixed_model(np.random.default_rng(6).uniform(-4, 4, features), features)
    outcome = run_build(ENGINE, packed, plan, start)
    assert outcome.registers["saturations"] == outcome.registers["clipped"] == 0
    models = np.concatenate([start[None], outcome.history]).astype(np.int64) / MODEL_ONE
    seen = -np.diff(models, axis=0) * 4096  # the unit is 1
    np.testing.assert_allclose(seen, np.rint(seen), atol=2e-3)
    before = models[:-1]
    draws = np.rint(seen) - np.floor(before)
    assert set(np.unique(draws)) <= {0, 1}
    up = before - np.floor(before)
    # differences of a martingale: their sum is nearly normal, of the sum of their variances
    z = (draws - up).sum(axis=0) / np.sqrt((up * (1 - up)).sum(axis=0))
    assert np.abs(z).max() < stats.norm.isf(ALARM / 2 / features)
    assert no_two_correlate(draws - up)
