"""The multinomial logistic loss: derivatives, blocks, and the least along some ways."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from zipml_pynq.accelerator.each import in_turn, threads
from zipml_pynq.training import softmax
from zipml_pynq.training.softmax import Softmax, penalty

CLASSES, SAMPLES, FEATURES = 5, 301, 7


def problem(seed: int = 0) -> tuple[np.random.Generator, Softmax, np.ndarray]:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, CLASSES, SAMPLES)
    loss = Softmax(numbers, rng.uniform(0, 2, SAMPLES), in_turn)
    return rng, loss, rng.normal(size=(CLASSES, SAMPLES)) * 3


def expected(loss: Softmax, margins: np.ndarray) -> float:
    log = log_softmax(margins, axis=0)[loss.numbers, np.arange(SAMPLES)]
    return float(-(loss.weights * log).mean())


@pytest.mark.parametrize("block", [1, 64, 1 << 16])
def test_value_and_derivatives(monkeypatch, block):
    monkeypatch.setattr(softmax, "_AT_A_TIME", block)
    rng, loss, margins = problem()
    before = margins.copy()
    assert np.isclose(loss.value(margins), expected(loss, margins), rtol=1e-13)
    slopes, curvatures = loss.slopes(margins)
    assert np.array_equal(margins, before)
    np.testing.assert_allclose(slopes.sum(axis=0), 0, atol=1e-14)
    h = 1e-4
    for k, i in zip(rng.integers(0, CLASSES, 20), rng.integers(0, SAMPLES, 20), strict=True):
        way = np.zeros_like(margins)
        way[k, i] = h
        values = [expected(loss, margins + s * way) * SAMPLES for s in (-1, 0, 1)]
        assert np.isclose(slopes[k, i], (values[2] - values[0]) / (2 * h), atol=1e-6)
        second = (values[2] - 2 * values[1] + values[0]) / h**2
        assert np.isclose(curvatures[k, i], second, atol=1e-4)


@pytest.mark.parametrize("certain", [0.1, 1, 10, 30])
def test_classes_one_by_one_see_curvature_to_a_factor_of_two(certain):
    """Of the pencil of diag(p) - p p^T and its diagonal one eigenvalue is 0, the rest 1 to 2."""
    rng = np.random.default_rng(4)
    for classes in (3, 5, 20):
        for _ in range(20):
            p = np.exp(log_softmax(certain * rng.normal(size=classes)))
            # far below 1e-16 nothing is left of p (1 - p) in the sums
            p = np.maximum(p, 1e-10) / np.maximum(p, 1e-10).sum()
            root = np.sqrt(p * (1 - p))
            values = np.linalg.eigvalsh((np.diag(p) - np.outer(p, p)) / np.outer(root, root))
            assert abs(values[0]) < 1e-5
            assert values[1] > 1 - 1e-5
            assert values[-1] < 2 + 1e-5


def test_margins_however_large_are_exact():
    _, loss, margins = problem()
    far = 1e3 * margins + 1e4
    assert np.isclose(loss.value(far), expected(loss, far), rtol=1e-12)
    slopes, curvatures = loss.slopes(far)
    assert np.isfinite(slopes).all()
    assert np.isfinite(curvatures).all()


@pytest.mark.parametrize("l2", [0.01, np.linspace(0, 0.1, FEATURES)], ids=["one", "each"])
@pytest.mark.parametrize("ways", [1, 2])
def test_the_best_along_ways_is_the_least(l2, ways):
    rng, loss, _ = problem(1)
    X = rng.normal(size=(SAMPLES, FEATURES))
    models, *changes = rng.normal(size=(1 + ways, CLASSES, FEATURES))
    steps, value = loss.best(models @ X.T, [c @ X.T for c in changes], models, changes, l2)

    def objective(t: np.ndarray) -> float:
        x = models + np.tensordot(t, changes, 1)
        return expected(loss, x @ X.T) + float((l2 / 2 * x**2).sum())

    assert np.isclose(value, objective(steps), rtol=1e-12)
    least = minimize(objective, np.zeros(ways), method="BFGS", options={"gtol": 1e-9}).fun
    gained = objective(np.zeros(ways)) - least
    # it ends where little more than what it has gained is left
    assert least - 1e-9 <= value <= least + 2e-3 * gained
    assert np.isclose(penalty(models, l2), (l2 / 2 * models**2).sum())


def test_a_way_that_is_none_does_no_harm():
    rng, loss, margins = problem(2)
    way = rng.normal(size=margins.shape)
    models, change = rng.normal(size=(2, CLASSES, FEATURES))
    one, value = loss.best(margins, [way], models, [change], 0.1)
    both, same = loss.best(
        margins, [way, np.zeros_like(way)], models, [change, np.zeros_like(change)], 0.1
    )
    assert np.isclose(both[0], one[0])
    assert np.isclose(value, same)


def test_threads_change_no_bit(monkeypatch):
    monkeypatch.setattr(softmax, "_AT_A_TIME", 200)
    _, loss, margins = problem(3)
    with threads(3, 3) as each:
        other = Softmax(loss.numbers, loss.weights, each)
        assert other.value(margins) == loss.value(margins)
        for own, found in zip(loss.slopes(margins), other.slopes(margins), strict=True):
            assert np.array_equal(own, found)
        models = np.ones((CLASSES, FEATURES))
        ways = [margins[::-1], margins**2]
        args = (margins, ways, models, [models, models * 2], 0.1)
        assert np.array_equal(loss.best(*args)[0], other.best(*args)[0])
