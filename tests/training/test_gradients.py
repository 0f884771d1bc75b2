"""What quantized samples, polynomials and refetching do to the gradients of a loss.

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

from tests.cases import ALARM, MARGIN_LOSSES, run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data import values
from zipml_pynq.data.grid import sample_variance
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.training import reference, result
from zipml_pynq.training.losses import LOSSES, derivative_of
from zipml_pynq.training.make_plan import make_plan

ENGINE = load_build("engine")
Array = NDArray[np.float64]
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


def recurrence(p: Array, t: Array) -> Array:
    """Sum of p_k T_k, with a new t in every T_k = 2 t_k T_{k-1} - T_{k-2}."""
    previous, latest = np.ones_like(t[0]), t[0]
    total = p[0] + p[1] * latest
    for coefficient, factor in zip(p[2:], t[1:], strict=True):
        previous, latest = latest, 2 * factor * latest - previous
        total = total + coefficient * latest
    return total


def second_moment(p: Array, u: Array, v: Array) -> Array:
    """E (sum p_k T_k)^2, for factors of mean u and variance v (docs/losses.md).

    The state (T_k, T_{k-1}, sum) is a linear map of the one before, with a coefficient that is
    random and new: so is the mean of its products of two.
    """
    result = []
    for mean, variance in zip(u, v, strict=True):
        state = np.array([mean, 1.0, p[0] + p[1] * mean])
        noise = np.array([1.0, 0.0, p[1]])
        moments = np.outer(state, state) + variance * np.outer(noise, noise)
        for coefficient in p[2:]:
            steady = np.array(
                [[2 * mean, -1, 0], [1, 0, 0], [2 * mean * coefficient, -coefficient, 1]]
            )
            random = np.array([[2, 0, 0], [0, 0, 0], [2 * coefficient, 0, 0]])
            moments = steady @ moments @ steady.T + variance * random @ moments @ random.T
        result.append(moments[2, 2])
    return np.array(result)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("name", ["hinge", "logistic"])
def test_polynomial_gradient_is_unbiased(name: str, bits: int) -> None:
    """... for the polynomial at the exact values; and of the predicted variance."""
    V, y, q = copies(bits)
    x = model_of_margins(V, y, MARGINS)
    found = derivative_of(name, "chebyshev", DEGREE, 1)
    p = found.numbers / 2.0**CONFIG.derivative_fraction_bits
    t = y * (q[:DEGREE] @ x) / 2  # (degree, copies, samples)
    sizes = recurrence(p, t)
    exact = np.polynomial.chebyshev.chebval(y * (V @ x) / 2, p)
    draws = gradient(q[DEGREE], sizes, y)
    assert not mean_differs(draws, gradient(V, exact, y))
    if bits >= 3:  # the test has power
        assert mean_differs(draws, gradient(V, 1.02 * exact, y))
    u = y * (V @ x) / 2
    square = second_moment(p, u, sample_variance(V, bits) @ x**2 / 4)
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
    sizes = recurrence(p, t)
    expected = -((labels * sizes) @ q[DEGREE]) / len(labels)
    np.testing.assert_allclose(moved, expected, atol=5e-6)


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
