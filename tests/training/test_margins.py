"""Compiled losses of the margin: against NumPy's formulas, at extremes, and of any sizes."""

from __future__ import annotations

import numpy as np
import pytest

from zipml_pynq._engine import ffi, lib
from zipml_pynq.data.rows import pointer
from zipml_pynq.training.losses import LOSSES, objective
from zipml_pynq.training.refinement import Margins

#: Roundings of float64 that a loss or a derivative may be off by, relative to itself.
CLOSE = 4 * 2.0**-52
#: Fewer samples than a block of the compiled loops, one more than it, and some blocks and a rest.
COUNTS = [1, 7, 63, 64, 65, 128, 1000]


def exact(loss, margins):
    """Loss, minus its derivative and its second derivative in more digits than float64."""
    m = margins.astype(np.longdouble)
    if loss == "squared_hinge":
        size = np.maximum(0, 1 - m)
        return size**2 / 2, size, (m < 1).astype(np.longdouble)
    e = np.exp(-np.abs(m))
    size = np.where(m < 0, 1 / (1 + e), e / (1 + e))
    return np.log1p(e) + np.maximum(-m, 0), size, e / (1 + e) ** 2


def margins_of(rng, count):
    return rng.normal(size=count) * rng.choice([1e-6, 0.1, 1, 5, 30], count)


def problem(loss, count, changes=3, features=6, seed=0):
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    weights = rng.uniform(0, 2, count) * (rng.random(count) < 0.9)
    values = rng.normal(size=(count, features))
    model, way = rng.normal(size=features), rng.normal(size=(changes, features))
    return Margins(loss, signs, weights), values, model, way


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
@pytest.mark.parametrize("count", COUNTS)
def test_losses_and_derivatives_are_those_of_the_formulas(loss, count):
    rng = np.random.default_rng(count)
    of, *_ = problem(loss, count)
    margins = margins_of(rng, count)
    value, size, curvature = exact(loss, margins)
    slopes, curvatures = of.derivatives(margins)
    np.testing.assert_allclose(slopes, (-of.signs * of.weights * size).astype(float), CLOSE)
    np.testing.assert_allclose(curvatures, (of.weights * curvature).astype(float), CLOSE)
    expected = float(of.weights @ value) / count
    assert of.value(margins) == pytest.approx(expected, rel=CLOSE + count * 2.0**-53)


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
def test_every_single_loss_is_right_to_a_few_units(loss):
    """Those of one sample each, through all magnitudes and up to what no exponential survives."""
    rng = np.random.default_rng(1)
    sizes = 10.0 ** rng.uniform(-300, 2.84, 2000)
    margins = np.concatenate([sizes, -sizes, rng.normal(size=2000) * 4, [0.0, -0.0, 1.0, -1.0]])
    one = Margins(loss, np.ones(1), np.ones(1))
    values, slopes, curvatures = np.array(
        [(one.value(m), *(d[0] for d in one.derivatives(m))) for m in margins[:, None]]
    ).T
    for found, expected in zip((values, -slopes, curvatures), exact(loss, margins), strict=True):
        np.testing.assert_allclose(found, expected.astype(float), CLOSE)


def test_extremes_of_the_logistic_loss():
    margins = np.array([1e3, -1e3, 709.0, -709.0, np.inf, -np.inf])
    one = Margins("logistic", np.ones(6), np.ones(6))
    slopes, curvatures = one.derivatives(margins)
    assert slopes.tolist() == [0, -1, 0, -1, 0, -1]
    assert curvatures.tolist() == [0.0] * 6
    assert one.value(np.array([1e3] * 6)) == 0
    assert one.value(np.array([-1e3] * 6)) == 1e3
    assert one.value(margins) == np.inf
    assert np.isnan(one.value(np.array([np.nan] * 6)))


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
def test_samples_without_weight_count_for_nothing(loss):
    nothing = Margins(loss, np.ones(70), np.zeros(70))
    slopes, curvatures = nothing.derivatives(np.linspace(-5, 5, 70))
    assert not slopes.any()
    assert not curvatures.any()
    assert nothing.value(np.linspace(-5, 5, 70)) == 0
    assert nothing.curved(curvatures) is None


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
@pytest.mark.parametrize("count", [6, 63, 64, 200, 3000])
@pytest.mark.parametrize("changes", [1, 2, 5, 8])
def test_the_search_finds_the_least_objective_along_the_changes(loss, count, changes):
    of, values, model, way = problem(loss, count, changes, features=9, seed=count)
    l2 = np.random.default_rng(2).uniform(0.01, 0.1, 9)
    dots, along = of.signs * (values @ model), of.signs * (way @ values.T)

    def at(steps):
        x = model + steps @ way
        signed = values * of.signs[:, None]
        return objective(loss, signed, np.ones(count), x, weights=of.weights) + l2 / 2 * x @ x

    steps, moved, value = of.best(dots, along, model, way, l2)
    np.testing.assert_allclose(moved, dots + steps @ along, rtol=1e-12, atol=1e-12)
    assert value == of.value(moved)
    found = at(steps)
    assert found <= at(np.zeros(changes))
    # no slope left along any change but what the rule lets stand: a share of what was gained
    slopes, curvatures = of.derivatives(moved)
    slope = way @ (l2 * (model + steps @ way)) + along @ (of.signs * slopes) / count
    moment = (along * curvatures) @ along.T / count + (way * l2) @ way.T
    left = slope @ np.linalg.lstsq(moment, slope, rcond=1e-10)[0] / 2
    assert left <= 2e-3 * (at(np.zeros(changes)) - found) + 1e-9 * found


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
def test_changes_that_say_the_same_are_one(loss):
    of, values, model, way = problem(loss, 500, changes=2)
    dots = of.signs * (values @ model)
    twice = np.concatenate([way, way[:1]])
    objectives = []
    for changes in (way, twice):
        along = of.signs * (changes @ values.T)
        steps, _, value = of.best(dots, along, model, changes, 0.01)
        x = model + steps @ changes
        objectives.append(value + 0.005 * x @ x)
    assert objectives[1] == pytest.approx(objectives[0], rel=1e-6)
    assert np.abs(steps).max() < 100


def test_a_search_has_the_same_bits_wherever_its_rows_lie():
    """Rows of a larger array, aligned or not, as models beside each other have them."""
    of, values, model, way = problem("logistic", 333)
    dots, along = of.signs * (values @ model), of.signs * (way @ values.T)
    alone = of.best(dots, along, model, way, 0.01)
    room = np.empty(333 * 4 + 1)
    for offset in (0, 1):
        apart = room[offset:][: 333 * 4].reshape(4, 333)
        apart[0], apart[1:] = dots, along
        again = of.best(apart[0], apart[1:], model, way, 0.01)
        for found, expected in zip(again, alone, strict=True):
            np.testing.assert_array_equal(found, expected)


def flat(values, share):
    if values.dtype == np.float32:
        return lib.zipml_flat_below_single(pointer("float *", values), len(values), share)
    return lib.zipml_flat_below(pointer("double *", values), len(values), share)


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.25]),
        np.array([0.0, 0.0, 1.0]),
        np.full(100, 0.125),
        np.arange(50) / 64.0,
        np.random.default_rng(0).integers(0, 1 << 20, 5000) / 2.0**20,
        np.random.default_rng(1).integers(0, 8, 5000) / 8.0,
        2.0 ** np.random.default_rng(2).integers(-25, 1, 300),
        np.array([1e-300, 1e-200, 5e-324, 1.0]),
        np.array([1e-45, 1e-38, 3e-39, 1.0]),
    ],
)
@pytest.mark.parametrize("share", [2.0**-5, 0.5])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_is_flat_is_told_without_sorting(values, share, kind):
    """Sums of these are exact in any order, so that the sorted ones' threshold is the same."""
    values = values.astype(kind)
    ordered = np.sort(values)
    assert (
        flat(values, share)
        == ordered[
            np.searchsorted(ordered.cumsum(dtype=np.float64), share * ordered.sum(dtype=np.float64))
        ]
    )
    assert flat(values[::-1].copy(), share) == flat(values, share)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nothing_is_flat_where_nothing_is_curved(kind):
    assert flat(np.zeros(9, kind), 0.05) == 0
    for none in (lib.zipml_flat_below, lib.zipml_flat_below_single):
        assert none(ffi.NULL, 0, 0.05) == 0


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_few_samples_have_nearly_all_of_the_curvature(kind):
    rng = np.random.default_rng(0)
    of = Margins("logistic", np.ones(4000), np.ones(4000))
    curvatures = of.derivatives(rng.normal(size=4000) * 40)[1].astype(kind)
    few = of.curved(curvatures)
    assert few is not None
    left_out = 1 - curvatures[few].sum() / curvatures.sum()
    assert 0 < left_out <= 0.05 + 1 / few.size
    assert curvatures[few].min() > np.delete(curvatures, few).max()
    _, curvatures = of.derivatives(rng.normal(size=4000))
    assert of.curved(curvatures) is None


def test_the_formulas_of_training_are_the_same():
    """Two homes of a loss: where it is looked up by name, and the compiled one."""
    margins = np.linspace(-9, 9, 101)
    for loss in ("squared_hinge", "logistic"):
        of = Margins(loss, np.ones(101), np.ones(101))
        np.testing.assert_allclose(-of.derivatives(margins)[0], LOSSES[loss].size(margins), 1e-14)
        assert of.value(margins) == pytest.approx(LOSSES[loss].value(margins).mean(), rel=1e-14)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("rank", [1, 2, 8])
def test_a_step_of_newton_solves_what_there_is_to_solve(size, rank):
    """Where the moment says nothing, a step along it would be one by noise: there is none."""
    rng = np.random.default_rng(10 * size + rank)
    ways = rng.normal(size=(size, min(size, rank)))
    moment, slope = ways @ ways.T, ways @ rng.normal(size=ways.shape[1])
    way = np.empty(size)
    gain = lib.zipml_newton_step(
        size,
        pointer("double *", moment),
        pointer("double *", slope),
        1e-10,
        pointer("double *", way),
    )
    expected = -np.linalg.lstsq(moment, slope, rcond=1e-10)[0]
    np.testing.assert_allclose(way, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
    assert gain == pytest.approx(-slope @ way / 2, rel=1e-12)
