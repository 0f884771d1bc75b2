"""Losses: their approximations, what these do to gradients, and training with them.

Statistical tests have fixed seeds, so a test passes always or never; ALARM is the chance that a
correct program meets a seed that fails.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from tests.cases import run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data import values
from zipml_pynq.data.grid import sample_variance
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training import baseline, reference, result
from zipml_pynq.training.losses import LOSSES, chebyshev, derivative_of, objective, tabulated
from zipml_pynq.training.make_plan import make_plan

ENGINE = load_build("engine")
#: Chance of a false alarm of one test of a mean or a count.
ALARM = 1e-4
MARGIN_LOSSES = [name for name, loss in LOSSES.items() if loss.margin]
Array = NDArray[np.float64]

# ---- Values and derivatives -------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_derivative_is_that_of_the_value(name: str) -> None:
    """Central differences, away from the kinks."""
    loss = LOSSES[name]
    z, step = np.linspace(-4, 4, 97) + 0.003, 1e-5
    for label in (-0.7, 0.0, 0.3, 1.0):
        y = np.full_like(z, label)
        sign = np.where(y < 0, -1.0, 1.0)

        def value(at: Array, sign: Array = sign, y: Array = y) -> Array:
            return loss.value(sign * at if loss.margin else at - y)

        slope = (value(z + step) - value(z - step)) / (2 * step)
        np.testing.assert_allclose(loss.derivative(z, y), slope, atol=1e-8)
    if loss.size is not None and name != "hinge":  # its largest slope is the curvature
        m = np.linspace(-8, 8, 4001)
        steepest = np.abs(np.diff(loss.size(m)) / np.diff(m)).max()
        assert steepest == pytest.approx(loss.curvature, rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_objective_is_what_scikit_learn_computes(name: str) -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    V, x = rng.uniform(-1, 1, (50, 6)), rng.normal(0, 2, 6)
    labels = np.where(rng.random(50) < 0.4, -1.0, 1.0)
    weights = rng.uniform(0, 3, 50)
    z = V @ x
    expected = {
        "least_squares": lambda w: metrics.mean_squared_error(labels, z, sample_weight=w) / 2,
        "hinge": lambda w: metrics.hinge_loss(labels, z, sample_weight=w),
        "squared_hinge": lambda w: np.average(np.maximum(0, 1 - labels * z) ** 2 / 2, weights=w),
        "logistic": lambda w: metrics.log_loss(labels, expit(z), sample_weight=w),
    }[name]
    assert objective(name, V, labels, x) == pytest.approx(expected(None))
    with_l2 = objective(name, V, labels, x, l2=0.3)
    assert with_l2 == pytest.approx(expected(None) + 0.15 * (x @ x))
    # a mean over samples, where scikit-learn's is over weights
    weighted = objective(name, V, labels, x, weights=weights)
    assert weighted == pytest.approx(expected(weights) * weights.mean())


def test_objective_takes_a_label_of_zero_as_positive() -> None:
    assert objective("hinge", [[1.0]], [0.0], [0.25]) == 0.75


# ---- Tables and polynomials -------------------------------------------------------------------


@pytest.mark.parametrize("range_log2", range(CONFIG.max_range_log2 + 1))
def test_error_of_a_table_is_within_its_bound(range_log2: int) -> None:
    """``h^2 / 8 max |f''|``, and half a unit for what an entry is rounded by."""
    found = derivative_of("logistic", range_log2=range_log2)
    edge = 2.0**range_log2
    m = np.random.default_rng(0).uniform(-edge, edge, 20_000)
    grid = np.linspace(-edge, edge, CONFIG.derivative_table + 1)
    values = np.interp(m, grid, found.numbers / 2.0**CONFIG.derivative_fraction_bits)
    width = 2 * edge / CONFIG.derivative_table
    bend = 1 / (6 * np.sqrt(3))  # max |s''| of the sigmoid s
    unit = 2.0**-CONFIG.derivative_fraction_bits / 2
    bound = width**2 / 8 * bend + unit
    assert np.abs(values - expit(-m)).max() <= bound
    assert 0 < found.error <= bound
    if 1 <= range_log2 <= 4:  # tight, where the steepest bend lies inside and above rounding
        assert found.error > 0.5 * (bound - unit)


def integer_polynomial(numbers: NDArray[np.int32], margins: Array, range_log2: int) -> Array:
    """What the kernel makes of a polynomial and equal exact samples, from its formulas."""
    m = np.rint(margins * MODEL_ONE).astype(np.int64)
    t = reference.round_shift(2 * m, range_log2 + 1)
    product, total = np.full_like(m, MODEL_ONE), np.full_like(m, int(numbers[0]))
    for p in numbers[1:].astype(np.int64):
        product = reference.round_shift(product * t, CONFIG.model_fraction_bits)
        total = total + reference.round_shift(p * product, CONFIG.derivative_fraction_bits)
    return total / MODEL_ONE


@pytest.mark.parametrize("degree", range(1, CONFIG.max_degree + 1))
@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_polynomial_meets_the_derivative_in_the_chebyshev_points(name: str, degree: int) -> None:
    size = LOSSES[name].size
    assert size is not None
    range_log2, edge = 1, 2.0
    found = chebyshev(size, degree, range_log2)
    assert (found.code, found.degree, len(found.numbers)) == (
        CONFIG.loss_polynomial,
        degree,
        degree + 1,
    )
    nodes = np.cos((2 * np.arange(degree + 1) + 1) * np.pi / (2 * degree + 2))
    # each power's rounding adds half a unit or so: coefficients, t, products
    slack = (degree + 1) * (1 + np.abs(found.numbers / MODEL_ONE).sum()) / MODEL_ONE
    at_nodes = integer_polynomial(found.numbers, edge * nodes, range_log2)
    np.testing.assert_allclose(at_nodes, size(edge * nodes), atol=slack)
    # the error by another way: Lagrange's form on the nodes
    from scipy.interpolate import BarycentricInterpolator

    t = np.linspace(-1, 1, 8 * CONFIG.derivative_table + 1)
    lagrange = BarycentricInterpolator(nodes, size(edge * nodes))(t)
    expected = np.abs(lagrange - size(edge * t)).max()
    assert found.error == pytest.approx(expected, abs=slack)


def test_polynomial_of_the_sigmoid_is_within_its_bound() -> None:
    """Bernstein: the sigmoid's nearest pole is i pi, so the error falls like rho^-degree.

    With |f| <= M on the ellipse rho, interpolation errs by at most ``4 M rho^-d / (rho - 1)``.
    """
    for range_log2 in (0, 1, 2, 3):
        edge = 2.0**range_log2
        rho = 0.9 * (np.pi / edge + np.hypot(np.pi / edge, 1))
        around = np.exp(1j * np.linspace(0, 2 * np.pi, 2001))
        ellipse = edge * (rho * around + 1 / (rho * around)) / 2
        largest = np.abs(1 / (1 + np.exp(ellipse))).max()
        for degree in range(1, CONFIG.max_degree + 1):
            error = derivative_of("logistic", "chebyshev", degree, range_log2).error
            assert error <= 4 * largest * rho**-degree / (rho - 1) + 1e-6


def test_a_step_is_no_polynomial() -> None:
    """Of the hinge's derivative no polynomial comes nearer than 1/2: that is its jump."""
    for degree in range(1, CONFIG.max_degree + 1):
        for range_log2 in (1, 2, 3):
            assert derivative_of("hinge", "chebyshev", degree, range_log2).error >= 0.499


def test_coefficients_have_a_limit() -> None:
    assert chebyshev(lambda m: 100 * np.ones_like(m), 1, 0).numbers[0] == 100 * MODEL_ONE
    with pytest.raises(ArgumentError, match="coefficient of 128"):
        chebyshev(lambda m: 128 * np.ones_like(m), 1, 0)
    with pytest.raises(ArgumentError, match="stay below 128"):
        tabulated(lambda m: 1e4 * m, 0)
    # every loss's own polynomials stay inside
    for name in MARGIN_LOSSES:
        for degree in range(1, CONFIG.max_degree + 1):
            for range_log2 in range(3):
                derivative_of(name, "chebyshev", degree, range_log2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"loss": "huber"}, "loss was 'huber'"),
        ({"loss": "logistic", "approximation": "taylor"}, "approximation was 'taylor'"),
        ({"loss": "least_squares", "approximation": "chebyshev"}, "linear"),
        ({"loss": "hinge", "degree": 3}, "degree was 3"),
        ({"loss": "hinge", "range_log2": 3}, "range_log2 was 3"),
        ({"loss": "logistic", "range_log2": 7}, "range_log2 was 7"),
        ({"loss": "logistic", "range_log2": -1}, "range_log2 was -1"),
        ({"loss": "logistic", "approximation": "chebyshev", "degree": 0}, "degree was 0"),
        ({"loss": "logistic", "approximation": "chebyshev", "degree": 8}, "degree was 8"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        derivative_of(**arguments)


def test_defaults_of_derivatives() -> None:
    assert derivative_of("logistic").range_log2 == 4
    polynomial = derivative_of("logistic", "chebyshev")
    assert (polynomial.degree, polynomial.range_log2) == (5, 2)
    for name in ("least_squares", "hinge", "squared_hinge"):
        exact = derivative_of(name)
        assert (exact.error, exact.degree, len(exact.numbers)) == (0, 0, 0)


# ---- Gradients: unbiased or biased as predicted -----------------------------------------------

COPIES = 12_000
SAMPLES = 5
DEGREE = 5


def few_samples() -> tuple[Array, Array, Normalization]:
    """Raw samples and labels of two classes, and a normalization fitted to them."""
    rng = np.random.default_rng(2)
    X, y = rng.uniform(-1, 1, (SAMPLES, 8)), np.array([-1.0, 1.0, -1.0, 1.0, 1.0])
    return X, y, Normalization(np.zeros(8), np.ones(8), 0.0, 1.0, False)


def repeated(count: int, **options: Any) -> PackedDataset:
    """The few samples, packed so many times in a row."""
    X, y, normalization = few_samples()
    return pack(np.tile(X, (count, 1)), np.tile(y, count), normalization=normalization, **options)


def model_of_margins(V: Array, y: Array, margins: Array) -> Array:
    """The least model that gives these margins."""
    return np.linalg.lstsq(V, margins * y, rcond=None)[0]


#: Where derivatives are taken: margins near the hinge, and some away from it.
MARGINS = np.array([0.9, 1.05, -0.8, 1.8, 0.3])


@cache
def copies(bits: int) -> tuple[Array, Array, Array]:
    """V (samples, n), signs of labels, and draws (dithers, copies, samples, n)."""
    X, y, normalization = few_samples()
    packed = repeated(COPIES, bits=bits, seed=bits, sampling="independent", dithers=DEGREE + 1)
    q = np.stack(values.kernel_values(packed, bits, "independent", DEGREE))
    shape = (DEGREE + 1, COPIES, SAMPLES, normalization.features)
    V = normalization.transform(X).astype(np.float64)
    return V, y, q.reshape(shape) / (1 << CONFIG.grid_bits)


def mean_differs(samples: Array, mean: Array) -> bool:
    """Hotelling's test, chi-square with this many draws; false alarms at the rate ALARM."""
    covariance = np.cov(samples, rowvar=False)
    error = samples.mean(axis=0) - mean
    statistic = len(samples) * error @ np.linalg.solve(covariance, error)
    return bool(statistic > stats.chi2.isf(ALARM, samples.shape[1]))


def gradient(outer: Array, sizes: Array, y: Array) -> Array:
    """Mean over the samples of ``-y size Q``."""
    return -np.einsum("...sj,...s->...j", outer, y * sizes) / SAMPLES


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("name", ["hinge", "logistic"])
def test_polynomial_gradient_is_unbiased(name: str, bits: int) -> None:
    """... for the polynomial at the exact values; and of the predicted variance."""
    V, y, q = copies(bits)
    x = model_of_margins(V, y, MARGINS)
    found = derivative_of(name, "chebyshev", DEGREE, 1)
    p = found.numbers / 2.0**CONFIG.derivative_fraction_bits
    t = y * (q[:DEGREE] @ x) / 2  # (degree, copies, samples)
    powers = np.concatenate([np.ones_like(t[:1]), np.cumprod(t, axis=0)])
    sizes = np.einsum("k,kcs->cs", p, powers)
    exact = np.polynomial.polynomial.polyval(y * (V @ x) / 2, p)
    draws = gradient(q[DEGREE], sizes, y)
    assert not mean_differs(draws, gradient(V, exact, y))
    if bits >= 3:  # the test has power
        assert mean_differs(draws, gradient(V, 1.02 * exact, y))
    # E[prod_j prod_k] = (t^2 + v)^min t^|j - k|, v the variance of one factor
    u = y * (V @ x) / 2
    second = u**2 + sample_variance(V, bits) @ x**2 / 4
    k = np.arange(DEGREE + 1)
    least, apart = np.minimum.outer(k, k), np.abs(np.subtract.outer(k, k))
    square = np.einsum(
        "j,k,sjk->s", p, p, second[:, None, None] ** least * u[:, None, None] ** apart
    )
    squares = sizes**2
    error = squares.std(axis=0, ddof=1) / np.sqrt(COPIES)
    z = (squares.mean(axis=0) - square) / error
    assert np.abs(z).max() < stats.norm.isf(ALARM / 2 / SAMPLES)


def outcomes(V: Array, bits: int, x: Array, y: Array) -> tuple[Array, Array]:
    """All margins that the samples' draws can have, and their probabilities."""
    one = 1 << (bits - 1)
    place = (V + 1) / 2 * one
    base = np.minimum(np.floor(place), one - 1)
    up = np.array(np.meshgrid(*[[0, 1]] * V.shape[1], indexing="ij")).reshape(V.shape[1], -1)
    chance = np.where(up[None], (place - base)[..., None], 1 - (place - base)[..., None])
    q = 2 * (base[..., None] + up[None]) / one - 1
    return y[:, None] * np.einsum("sjo,j->so", q, x), chance.prod(axis=1)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_direct_gradient_misses_by_the_predicted_bias(name: str, bits: int) -> None:
    """E f(m + e) by all outcomes; of the logistic loss that is f + f'' Var / 2, nearly."""
    V, y, q = copies(bits)
    x = model_of_margins(V, y, MARGINS)
    size = LOSSES[name].size
    assert size is not None
    margins, chances = outcomes(V, bits, x, y)
    expected = (size(margins) * chances).sum(axis=1)
    exact = size(y * (V @ x))
    drawn = (gradient(q[0], size(y * (q[1] @ x)), y) + gradient(q[1], size(y * (q[0] @ x)), y)) / 2
    assert not mean_differs(drawn, gradient(V, expected, y))
    if bits <= 3 or (bits == 4 and name != "logistic"):
        assert mean_differs(drawn, gradient(V, exact, y))
    if name == "logistic":
        m = y * (V @ x)
        f = expit(-m)
        bend = f * (1 - f) * (1 - 2 * f)  # f''
        variance = sample_variance(V, bits) @ x**2
        e = margins - m[:, None]
        np.testing.assert_allclose((e**2 * chances).sum(axis=1), variance, atol=1e-12)
        # Taylor's remainder: |f'''| <= 1/8, |f''''| <= 0.13
        third = np.abs((e**3 * chances).sum(axis=1)) / 8 / 6
        fourth = (e**4 * chances).sum(axis=1) * 0.13 / 24
        assert (np.abs(expected - exact - bend * variance / 2) <= third + fourth + 1e-12).all()


@pytest.mark.parametrize("name", ["hinge", "logistic"])
def test_engine_steps_along_the_polynomial_gradient(name: str) -> None:
    """One batch, delay 0, step 1: the step is the mean gradient of the batch's draws."""
    X, y, normalization = few_samples()
    count = 50
    packed = repeated(
        count, bits=3, batch=count * SAMPLES, sampling="independent", dithers=DEGREE + 1
    )
    V = normalization.transform(X).astype(np.float64)
    plan = make_plan(
        packed, epochs=1, step=1.0, delay=0, loss=name, approximation="chebyshev", range_log2=1
    )
    start = result.fixed_model(model_of_margins(V, y, MARGINS), normalization.features)
    moved = (start.astype(np.int64) - run_build(ENGINE, packed, plan, start).model) / MODEL_ONE
    q = np.stack(values.kernel_values(packed, 3, "independent", DEGREE)) / 128
    labels = np.tile(y, count)
    t = labels * (q[:DEGREE] @ (start / MODEL_ONE)) / 2
    p = plan.derivative.numbers / MODEL_ONE
    sizes = p[0] + np.einsum("k,kr->r", p[1:], np.cumprod(t, axis=0))
    expected = -((labels * sizes) @ q[DEGREE]) / len(labels)
    np.testing.assert_allclose(moved, expected, atol=5e-6)


# ---- Random numbers on chip -------------------------------------------------------------------


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


# ---- Refetching -------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [3, 70])
@pytest.mark.parametrize("sampling", ["single", "plain", "symmetric"])
def test_no_sample_on_the_other_side_is_missed(sampling: str, features: int) -> None:
    """Who is not refetched has the side of the hinge that its exact values have."""
    rng = np.random.default_rng(features)
    X = rng.choice([-1.0, 1.0, 0.3, -0.77], (2_000, features)) * rng.uniform(0.9, 1, features)
    y = np.where(rng.random(2_000) < 0.5, -1.0, 1.0)
    V = Normalization.fit(X, y).transform(X).astype(np.float64)
    x = rng.normal(size=V.shape[1])
    x *= 2 / np.abs(V @ x).std()  # margins near 1, where it is a close thing
    fixed = result.fixed_model(x, len(x)).astype(np.int64)
    exact = y * (V @ (fixed / MODEL_ONE)) < 1
    shares = []
    for bits in range(1, 9):
        packed = pack(X, y, bits=bits, value_format="refetch", seed=bits)
        plan = make_plan(packed, loss="hinge", sampling=sampling, step=1.0, epochs=1)
        run = reference._Run(packed, plan)
        labels = np.asarray(packed.labels[:2_000]).astype(np.int64)
        which = {"symmetric": [0, 1], "plain": [1], "single": [0]}[sampling]
        rows = slice(0, 2_000)
        dots = [run.dot(run.q[i], rows, fixed, False) for i in which]
        doubt = run.in_doubt(dots, labels, fixed)
        for dot in dots:
            active = run.derivatives(dot, labels) != 0
            assert (active[~doubt] == exact[~doubt]).all()
            if bits <= 4:  # the test has power: some would be on the wrong side
                assert (active != exact).any()
        shares.append(doubt.mean())
        # the bound is no larger than it must be: who is refetched is near
        reach = 2.0 ** (2 - bits) * np.abs(fixed / MODEL_ONE).sum() + 1e-6
        away = np.abs(1 - y * (V @ (fixed / MODEL_ONE)))
        assert (away[doubt] <= 2 * reach).all()
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < shares[0] / 4


def test_refetched_gradient_is_the_exact_decision() -> None:
    """One batch, step 1: a mean of (Q1 + Q2) / 2 over those who are exactly inside the hinge."""
    X, y, normalization = few_samples()
    count = 50
    together = count * SAMPLES
    packed = repeated(count, bits=3, batch=together, block_samples=together, value_format="refetch")
    V = normalization.transform(X).astype(np.float64)
    plan = make_plan(packed, epochs=1, step=1.0, delay=0, loss="hinge")
    start = result.fixed_model(model_of_margins(V, y, MARGINS), normalization.features)
    outcome = run_build(ENGINE, packed, plan, start)
    moved = (start.astype(np.int64) - outcome.model) / MODEL_ONE
    q1, q2 = (q.astype(np.float64) for q in packed.values())
    sizes = np.tile(MARGINS < 1, count)
    expected = -((np.tile(y, count) * sizes) @ (q1 + q2)) / 2 / len(sizes)
    np.testing.assert_allclose(moved, expected, atol=2e-6)
    assert outcome.registers["refetched"] > 0


# ---- Training ---------------------------------------------------------------------------------

EPOCHS = 20
L2 = 0.002


@cache
def two_classes() -> tuple[Array, Array]:
    """2,000 raw samples of 20 features, labels with noise."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2_000, 20))
    scores = X @ rng.standard_normal(20)
    noisy = scores + 0.5 * scores.std() * rng.standard_normal(len(X))
    return X, np.where(noisy > 0, 1.0, -1.0)


def trained(name: str, bits: int, **options: Any) -> dict[str, Any]:
    """Objectives at the start, of float SGD and of the engine; and margins, variances of these."""
    X, y = two_classes()
    stored: dict[str, Any] = {}
    if options.get("approximation") == "chebyshev":
        stored = {"sampling": "independent", "dithers": options["degree"] + 1}
    elif options.pop("refetch", False):
        stored = {"value_format": "refetch"}
    packed = pack(X, y, bits=bits, **stored)
    plan = make_plan(packed, epochs=EPOCHS, loss=name, l2=L2, delay=1, **options)
    outcome = run_build(ENGINE, packed, plan)
    assert outcome.registers["status"] == CONFIG.status_ok
    assert outcome.registers["saturations"] == 0
    V = packed.normalization.transform(X).astype(np.float64)
    x = outcome.model / MODEL_ONE
    exact = baseline.float_sgd_loss(V, y, plan.step, name, l2=L2, delay=1)[-1]
    variances = sample_variance(V, bits) @ x**2
    return {
        "start": objective(name, V, y, np.zeros_like(x)),
        "exact": objective(name, V, y, exact, l2=L2),
        "found": objective(name, V, y, x, l2=L2),
        "variances": variances,
        "apart": np.abs(V @ (x - exact)).mean(),
        "plan": plan,
        "registers": outcome.registers,
    }


def direct_bound(name: str, variances: Array) -> float:
    """How far above the least objective the direct way may end (docs/losses.md)."""
    if name == "hinge":
        return float(np.sqrt(variances).mean() / 2)
    return float(LOSSES[name].curvature * variances.mean() / 2)


#: SGD's own noise and that of one draw, as a share of the objective.
SLACK = 0.004


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_direct_training_ends_within_its_bound(name: str, bits: int) -> None:
    run = trained(name, bits)
    assert run["found"] < 0.6 * run["start"]
    allowed = direct_bound(name, run["variances"])
    assert run["found"] < run["exact"] + allowed + SLACK * run["exact"]
    # what was measured: under 0.01 % at 8 bits, 0.3 to 1.3 % at 4
    assert run["found"] < (1.001 if bits == 8 else 1.03) * run["exact"]


def test_least_squares_on_two_classes_needs_no_bound() -> None:
    """LS-SVM: linear derivative, double sampling, nothing is biased."""
    for bits, within in ((8, 0.002), (4, 0.01)):
        run = trained("least_squares", bits)
        assert run["found"] < (1 + within) * run["exact"]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", ["logistic", "squared_hinge"])
def test_polynomial_training_ends_within_its_bound(name: str, bits: int) -> None:
    """Error of the derivative, times how far apart the two models' margins are."""
    run = trained(name, bits, approximation="chebyshev", degree=5, range_log2=3)
    assert run["registers"]["outside"] == 0
    assert run["found"] < 0.7 * run["start"]
    allowed = run["plan"].derivative.error * run["apart"]
    assert run["found"] < run["exact"] + allowed + SLACK * run["exact"]
    # what was measured: 0.2 and 0.4 %, 7.8 and 8.0 %
    assert run["found"] < (1.008 if name == "logistic" else 1.12) * run["exact"]


@pytest.mark.parametrize("bits", [8, 4])
def test_refetching_trains_as_float_does(bits: int) -> None:
    """At 4 bits nearly all samples are refetched, at 8 bits a quarter."""
    run = trained("hinge", bits, refetch=True)
    assert run["found"] < 1.002 * run["exact"]
    share = run["registers"]["refetched"] / (2_000 * EPOCHS)
    assert 0 < share < 0.6 or bits == 4
    if bits == 4:
        assert trained("hinge", 4)["found"] > run["found"]


def test_float_sgd_of_any_loss_is_float_sgd_on_least_squares() -> None:
    X, y = two_classes()
    V = Normalization.fit(X, y).transform(X)
    for delay in (0, 2):
        steps = np.array([0.3, 0.2])
        options = {"batch": 7, "l2": 0.01, "delay": delay}
        np.testing.assert_allclose(
            baseline.float_sgd_loss(V, y, steps, **options),
            baseline.float_sgd(V, y, steps, **options),
            atol=1e-5,
        )


@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_float_sgd_of_any_loss_is_the_accelerator_at_exact_values(name: str) -> None:
    """Values on the grid, so that nothing is rounded but the arithmetic: costs, weights, all."""
    rng = np.random.default_rng(5)
    X = rng.integers(-64, 65, (300, 9)) / 64
    y = np.where(rng.random(300) < 0.3, -1.0, 1.0)
    weights = rng.uniform(0, 2, 300)
    normalization = Normalization(np.zeros(9), np.ones(9), 0.0, 1.0, False)
    packed = pack(
        X, y, bits=8, sampling="nearest", sample_weight=weights, normalization=normalization
    )
    costs = (0.5, 1.5)
    plan = make_plan(packed, epochs=4, loss=name, step=0.4, l2=0.01, delay=2, class_costs=costs)
    exact = baseline.float_sgd_loss(
        X, y, plan.step, name, l2=0.01, delay=2, class_costs=costs, weights=weights
    )
    found = run_build(ENGINE, packed, plan).history / MODEL_ONE
    np.testing.assert_allclose(found, exact, atol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_float_sgd_of_two_samples_is_the_accelerator(name: str) -> None:
    """At 3 bits, where Q1 and Q2 differ by much."""
    X, y = two_classes()
    packed = pack(X[:300], y[:300], bits=3)
    plan = make_plan(packed, epochs=3, loss=name, step=0.3, delay=0)
    q1, q2 = packed.values()
    exact = baseline.float_sgd_loss(q1, y[:300], plan.step, name, second=q2)
    found = run_build(ENGINE, packed, plan).history / MODEL_ONE
    np.testing.assert_allclose(found, exact, atol=1e-4)
    with pytest.raises(ArgumentError, match="second had shape"):
        baseline.float_sgd_loss(q1, y[:300], plan.step, name, second=q2[:1])


@pytest.mark.parametrize("schedule", ["inverse", "constant"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_default_step_is_stable_at_few_bits(name: str, bits: int, schedule: str) -> None:
    """Where noise drives the model outwards, and the loss is flat (docs/losses.md)."""
    X, y = two_classes()
    packed = pack(X, y, bits=bits)
    V = packed.normalization.transform(X)
    plan = make_plan(packed, epochs=EPOCHS, loss=name, l2=L2, schedule=schedule, delay=0)
    outcome = run_build(ENGINE, packed, plan)
    start = objective(name, V, y, np.zeros(V.shape[1]))
    assert outcome.registers["saturations"] == 0
    assert (
        objective(name, V, y, outcome.model / MODEL_ONE, l2=L2) < (0.9 if bits < 3 else 0.7) * start
    )


def test_default_step_with_costs_fits_its_register() -> None:
    """Small values and a flat loss allow steps that no register holds."""
    rng = np.random.default_rng(6)
    X, y = rng.uniform(-0.2, 0.2, (200, 3)), np.where(rng.random(200) < 0.5, -1.0, 1.0)
    normalization = Normalization(np.zeros(3), np.ones(3), 0.0, 1.0, False)
    packed = pack(X, y, bits=8, batch=1, normalization=normalization)
    for costs in ((1.0, 1.0), (3.0, 1.0), (0.5, 40.0)):
        plan = make_plan(packed, loss="logistic", class_costs=costs, delay=0)
        assert 1.9 < max(costs) * plan.step[0] < 4


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (8.0, r"step was 8 with class cost 1000 at batch 16; .* that is step < "),
        # the last of ten epochs takes a tenth
        (1e-10, r"step was 1e-11 at batch 16; allowed is step / batch of at least"),
    ],
)
def test_a_step_outside_its_register_is_told_with_its_cost(step: float, told: str) -> None:
    packed = pack(*two_classes(), bits=4)
    with pytest.raises(ArgumentError, match=told):
        make_plan(packed, loss="hinge", step=step, class_costs=(1.0, 1000.0))
