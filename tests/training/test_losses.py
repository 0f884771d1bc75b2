"""Losses: values, derivatives, and the tables and polynomials of these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from tests.cases import MARGIN_LOSSES
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training import reference
from zipml_pynq.training.losses import (
    LOSSES,
    chebyshev,
    derivative_of,
    objective,
    stepped,
    tabulated,
)

Array = NDArray[np.float64]


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
    previous, latest = np.full_like(m, MODEL_ONE), t
    total = np.full_like(m, int(numbers[0]))
    for k, p in enumerate(numbers[1:].astype(np.int64)):
        if k > 0:
            doubled = reference.round_shift(latest * t, CONFIG.model_fraction_bits - 1)
            previous, latest = latest, doubled - previous
        total = total + reference.round_shift(p * latest, CONFIG.derivative_fraction_bits)
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
    # what a term is rounded by grows with the terms behind it, by at most as many times (U_k)
    slack = (degree + 1) ** 2 * (1 + np.abs(found.numbers / MODEL_ONE).sum()) / MODEL_ONE
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
    size = LOSSES["hinge"].size
    assert size is not None
    for degree in range(1, CONFIG.max_degree + 1):
        for range_log2 in (1, 2, 3):
            assert chebyshev(size, degree, range_log2).error >= 0.499


@pytest.mark.parametrize("degree", [1, 4, 9, 15])
@pytest.mark.parametrize(("range_log2", "gap"), [(0, 0.3), (2, 0.25), (3, 0.5)])
def test_polynomial_of_a_step_with_a_gap_is_the_best(
    degree: int, range_log2: int, gap: float
) -> None:
    """Its error alternates in degree + 2 points, which proves that no other has a smaller one."""
    found = derivative_of("hinge", "chebyshev", degree, range_log2, gap)
    assert (found.degree, found.gap) == (degree, gap)
    edge = 2.0**range_log2
    m = np.concatenate(
        [np.linspace(-edge, 1 - gap, 20_001)]
        + ([np.linspace(1 + gap, edge, 20_001)] if edge > 1 + gap else [])
    )
    p = found.numbers / 2.0**CONFIG.derivative_fraction_bits
    error = np.polynomial.chebyshev.chebval(m / edge, p) - (m < 1)
    largest = np.abs(error).max()
    assert found.error == pytest.approx(largest, rel=0.01, abs=1e-5)
    extreme = np.flatnonzero(np.abs(error) > 0.98 * largest - 1e-6)
    signs = np.sign(error[extreme])
    alternations = 1 + np.count_nonzero(signs[1:] != signs[:-1])
    if edge > 1 + gap:
        assert alternations >= degree + 2
        inside = np.polynomial.chebyshev.chebval(np.linspace(1 - gap, 1 + gap, 999) / edge, p)
        assert inside.min() > -1.02 * largest
        assert inside.max() < 1 + 1.02 * largest
    else:  # all that remains is constant
        assert largest < 1e-6


def test_error_of_a_step_falls_with_degree_and_gap() -> None:
    """By about exp(-degree gap / R): degree R / gap log(1 / error) is what the paper asks for."""
    errors = [derivative_of("hinge", "chebyshev", d, 2, 0.5).error for d in range(1, 16, 2)]
    assert errors == sorted(errors, reverse=True)
    slope = np.polyfit(range(1, 16, 2), np.log(errors), 1)[0]
    assert -1.6 < slope * 4 / 0.5 < -0.8
    for gap in (0.0, 5.0, np.nan):
        with pytest.raises(ArgumentError, match="gap was"):
            derivative_of("hinge", "chebyshev", 5, 2, gap)
    with pytest.raises(ArgumentError, match="degree was 16"):
        stepped(lambda m: m < 1, 1.0, 16, 2, 0.5)


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
        ({"loss": "logistic", "approximation": "chebyshev", "degree": 16}, "degree was 16"),
        ({"loss": "logistic", "approximation": "chebyshev", "gap": 0.5}, "gap was 0.5"),
        ({"loss": "hinge", "gap": 0.5}, "gap was 0.5"),
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
