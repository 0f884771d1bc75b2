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


@pytest.mark.parametrize("block", [1, 64, 1 << 18])
def test_value_and_derivatives(monkeypatch, block):
    monkeypatch.setattr(softmax, "_AT_A_TIME", block)
    rng, loss, margins = problem()
    before = margins.copy()
    assert np.isclose(loss.value(margins), expected(loss, margins), rtol=1e-13)
    slopes, curvatures = loss.slopes(margins)
    assert np.array_equal(margins, before)
    np.testing.assert_allclose(slopes.sum(axis=0), 0, atol=4 * 2.0**-24)
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
    along = [(c @ X.T).astype(np.float32) for c in changes]
    margins = models @ X.T
    steps, value = loss.best(margins, along, models, changes, l2)

    def objective(t: np.ndarray) -> float:
        x = models + np.tensordot(t, changes, 1)
        moved = margins + np.tensordot(t, np.array(along, np.float64), 1)
        return expected(loss, moved) + float((l2 / 2 * x**2).sum())

    assert np.isclose(value, objective(steps), rtol=1e-12)
    least = minimize(objective, np.zeros(ways), method="BFGS", options={"gtol": 1e-9}).fun
    gained = objective(np.zeros(ways)) - least
    # it ends where little more than what it has gained is left
    assert least - 1e-9 <= value <= least + 2e-3 * gained
    assert np.isclose(penalty(models, l2), (l2 / 2 * models**2).sum())


def test_a_way_that_is_none_does_no_harm():
    rng, loss, margins = problem(2)
    way = rng.normal(size=margins.shape).astype(np.float32)
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
        ways = [np.ascontiguousarray(m, np.float32) for m in (margins[::-1], margins**2)]
        args = (margins, ways, models, [models, models * 2], 0.1)
        assert np.array_equal(loss.best(*args)[0], other.best(*args)[0])
        moved = margins.copy(), margins.copy()
        for one, own in zip((loss, other), moved, strict=True):
            one.move(np.array([0.3, 2.0]), own, [way.copy() for way in ways])
        assert np.array_equal(*moved)


#: Fewer samples than a block of the compiled loops, one more than it, and some blocks and a rest.
COUNTS = [1, 7, 63, 64, 65, 300]


def exact(numbers, weights, margins, along):
    """Loss, derivatives by steps along ways, and those by the margins, in more digits."""
    z, ways = margins.astype(np.longdouble), np.array(along, np.longdouble)
    e = np.exp(z - z.max(axis=0))
    p, w, true = e / e.sum(axis=0), weights.astype(np.longdouble), np.arange(len(numbers))
    hit = np.zeros_like(p)
    hit[numbers, true] = 1
    loss = w @ (np.log(e.sum(axis=0)) - (z - z.max(axis=0))[numbers, true])
    slope = np.einsum("n,kn,wkn->w", w, p - hit, ways)
    means = np.einsum("kn,wkn->wn", p, ways)
    moment = np.einsum("n,kn,wkn,vkn->wv", w, p, ways, ways) - np.einsum(
        "n,wn,vn->wv", w, means, means
    )
    others = np.einsum("kn->n", p) - p
    return loss, slope, moment, w * (p - hit), w * p * others


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 9])
@pytest.mark.parametrize("count", COUNTS)
def test_sums_and_slopes_are_those_of_the_formulas(classes, count):
    rng = np.random.default_rng(classes * count)
    numbers, weights = rng.integers(0, classes, count), rng.uniform(0, 2, count)
    loss = Softmax(numbers, weights, in_turn)
    margins = rng.normal(size=(classes, count)) * rng.choice([1e-3, 1, 20], count)
    along = rng.normal(size=(3, classes, count)).astype(np.float32)
    steps = rng.normal(size=3)
    found = loss._along(steps, margins, along)
    moved = margins + np.einsum("w,wkn->kn", steps, along.astype(np.float64))
    *expected, slopes, curvatures = exact(numbers, weights, moved, along)
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own * count, other.astype(float), rtol=1e-11, atol=1e-12)
    assert loss.value(moved) == pytest.approx(found[0], rel=1e-13)
    for own, other in zip(loss.slopes(moved), (slopes, curvatures), strict=True):
        assert own.dtype == np.float32
        # what is rounded is right to a few units of float64, of a loss of 1 where p is next to 1
        np.testing.assert_allclose(own, other.astype(float), rtol=2.0**-23, atol=1e-14)


def test_every_single_loss_is_right_to_a_few_units():
    """Of two classes the loss is the logistic one of their distance; of many equal ones log n."""
    for distance in 10.0 ** np.linspace(-9, 2.5, 60):
        for own in (0, 1):
            loss = Softmax(np.array([own]), np.ones(1), in_turn)
            margins = np.array([[0.0], [-distance]])
            expected = float(np.log1p(np.exp(-np.longdouble(distance))) + own * distance)
            assert loss.value(margins) == pytest.approx(expected, rel=1e-15, abs=2.0**-52)
    for classes in (2, 3, 7, 8, 100, 1023, 1025):
        loss = Softmax(np.zeros(1, np.intp), np.ones(1), in_turn)
        value = loss.value(np.full((classes, 1), 3.5))
        assert value == pytest.approx(np.log(classes), rel=3 * 2.0**-53)


def test_margins_that_are_no_numbers_are_seen():
    _, loss, margins = problem()
    margins[2, 5] = np.nan
    assert np.isnan(loss.value(margins))
    slopes, curvatures = loss.slopes(margins)
    assert np.isnan(slopes[:, 5]).all()
    assert np.isfinite(np.delete(slopes, 5, axis=1)).all()
    assert np.isnan(curvatures[:, 5]).all()


@pytest.mark.parametrize("ways", [1, 2, 3])
def test_a_move_is_that_of_the_steps(ways):
    rng, loss, margins = problem(6)
    along = rng.normal(size=(ways, *margins.shape)).astype(np.float32)
    steps, before, others = rng.normal(size=ways), margins.copy(), along[:-1].copy()
    expected = before + np.einsum("w,wkn->kn", steps, along.astype(np.float64))
    value = loss._along(steps, margins, along)[0]
    loss.move(steps, margins, along)
    np.testing.assert_allclose(margins, expected, rtol=1e-14, atol=1e-13)
    np.testing.assert_allclose(along[-1], expected - before, rtol=2.0**-23)
    assert np.array_equal(along[:-1], others)
    assert loss.value(margins) == value


def test_a_sample_has_its_bits_wherever_it_lies():
    """Slopes are each sample's own; a sum over whole blocks is that of the blocks."""
    rng, loss, margins = problem(7)
    slopes, curvatures = loss.slopes(margins)
    for first, count in ((0, 1), (3, 70), (65, 200)):
        own = slice(first, first + count)
        part = Softmax(loss.numbers[own], loss.weights[own], in_turn)
        for a, b in zip(part.slopes(margins[:, own].copy()), (slopes, curvatures), strict=True):
            assert np.array_equal(a, b[:, own])
