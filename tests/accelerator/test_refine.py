"""Refinement: few bits to the true optimum, on drivers, for every loss that has a curvature."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.accelerator.refine import ALONE, RefinementRounds, Trained, refined_together
from zipml_pynq.data.datasets import synthetic_classification, synthetic_regression
from zipml_pynq.data.pack import pack
from zipml_pynq.data.values import kernel_values
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.errors import ArgumentError, ZipmlWarning
from zipml_pynq.training.losses import LOSSES
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.refinement import Quadratic, Refine, checked_refine

L2 = 1e-3


def regression(bits, samples=1500, features=12, **options):
    data = synthetic_regression(n_features=features, n_train=samples, n_test=1, seed=3)
    return data.X_train, data.y_train, pack(data.X_train, data.y_train, bits=bits, **options)


def host(packed):
    return HostDriver(packed.layout.word_bits, packed.layout.value_format)


def objective(X, packed, loss="least_squares", l2=0.0):
    """The true objective of a model, and its least value."""
    values = packed.normalization.transform(X).astype(float)
    labels = packed.labels[: len(values)] / 2.0**24
    weights = np.ones(len(values))
    if packed.weights is not None:
        weights = packed.weights[: len(values)] / 2.0**16
    sign = np.where(labels < 0, -1.0, 1.0)

    def at(x):
        z = values @ x
        each = LOSSES[loss].value(sign * z if LOSSES[loss].margin else z - labels)
        slope = (weights * LOSSES[loss].derivative(z, labels)) @ values / len(values)
        return (weights * each).mean() + l2 / 2 * x @ x, slope + l2 * x

    options = {"maxiter": 10_000, "ftol": 1e-15, "gtol": 1e-10}
    found = minimize(at, np.zeros(values.shape[1]), jac=True, method="L-BFGS-B", options=options)
    return lambda x: at(x)[0], found.fun


def test_models_share_the_bytes_of_what_is_read_for_all():
    X, _, packed = regression([2])
    plan = make_plan(packed, epochs=1, l2=L2, feature_shifts="auto")
    driver = host(packed)
    trained = Trained(packed, plan, driver.train(packed, plan, judge=False))
    refine = checked_refine(Refine(X, tol=0.0, rounds=ALONE + 2), packed, plan)
    run = partial(driver.train, judge=False)
    (alone,) = refined_together(run, [trained], refine, tell=False)
    assert len(alone.refinement.left) > ALONE + 1  # few rows were read
    both = refined_together(run, [trained, trained], refine, tell=False)
    for one in both:
        np.testing.assert_array_equal(one.model, alone.model)
        assert one.refinement.gradient_bytes == pytest.approx(alone.refinement.gradient_bytes / 2)


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("by_rows", [True, False])
def test_few_bits_reach_the_optimum(bits, by_rows):
    X, _, packed = regression([bits, 8])
    loss, least = objective(X, packed, l2=L2)
    options = {"bits": bits, "l2": L2, "feature_shifts": "auto", "judge": False}
    once = host(packed).train(packed, epochs=20, **options)
    assert loss(once.model) > {1: 1.3, 2: 1.1, 3: 1.02}[bits] * least
    result = host(packed).train(packed, epochs=1, refine=X if by_rows else True, **options)
    # draws of 8 bits have an optimum of their own, so near that of the values
    assert loss(result.model) < (1 + (1e-4 if by_rows else 1e-3)) * least
    done = result.refinement
    assert done.converged
    assert len(done.left) <= 15
    assert done.objective == pytest.approx(loss(result.model), rel=1e-5 if by_rows else 0.1)
    assert len(result.history) == 1 + len(done.left) - 1  # the last round only looks
    np.testing.assert_array_equal(result.history[-1], result.model)
    values = X.shape[0] * packed.layout.features
    if by_rows:
        few = min(X.shape[0], Refine.rows_a_feature * packed.layout.features)
        few *= packed.layout.features if len(done.left) > ALONE else 0
        assert done.gradient_bytes == 4 * (values * len(done.left) + few)
    else:
        assert 0 < done.gradient_bytes < result.bytes_streamed


@pytest.mark.parametrize("value_format", ["levels", "bitplanes"])
@pytest.mark.parametrize("sampling", ["symmetric", "nearest"])
def test_other_draws_and_weights_reach_it_too(value_format, sampling):
    rng = np.random.default_rng(1)
    weights = rng.uniform(0, 3, 1500)
    stored = "nearest" if sampling == "nearest" else "double"
    levels = {"levels": "optimal"} if value_format == "levels" else {}
    X, _, packed = regression(2, sampling=stored, sample_weight=weights, batch=8, **levels)
    loss, least = objective(X, packed)
    result = host(packed).train(packed, epochs=1, refine=X, delay=2, judge=False)
    assert loss(result.model) < (1 + 1e-4) * least


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize("rows", [0, 4])
def test_losses_of_the_margin_reach_their_optimum(loss, bits, rows):
    data = synthetic_classification(n_features=10, n_train=1500, n_test=1, seed=2)
    X = data.X_train
    packed = pack(X, data.y_train, bits=bits)
    of, least = objective(X, packed, loss, L2)
    result = host(packed).train(
        packed,
        epochs=1,
        loss=loss,
        l2=L2,
        refine=Refine(rows=X, tol=1e-6, rows_a_feature=rows),
        judge=False,
    )
    assert of(result.model) < (1 + 1e-4) * least
    assert result.refinement.objective == pytest.approx(of(result.model), rel=1e-5)


@pytest.mark.parametrize("model_bits", [4, 8])
def test_a_quantized_change_reaches_it_where_a_quantized_model_does_not(model_bits):
    """Bit centering: the bits are those of the change, whose noise vanishes with it."""
    X, _, packed = regression(8)
    loss, least = objective(X, packed)
    options = {"model_bits": model_bits, "feature_shifts": "auto", "judge": False}
    plain = host(packed).train(packed, epochs=20, **options)
    assert loss(plain.model) > {4: 1.001, 8: 1.0001}[model_bits] * least
    result = host(packed).train(packed, epochs=1, refine=X, **options)
    assert loss(result.model) < (1 + 1e-5) * least


def test_the_emulated_board_gives_the_hosts_bits():
    X, _, packed = regression([2, 8], samples=300)
    driver = load_overlay("emulated", word_bits=packed.layout.word_bits).driver
    options = {"epochs": 1, "bits": 2, "judge": False}
    for refine in (True, X):
        expected = host(packed).train(packed, refine=refine, **options)
        result = driver.train(packed, refine=refine, **options)
        np.testing.assert_array_equal(result.history_fixed, expected.history_fixed)
        assert result.words == expected.words
        assert result.modelled_cycles == expected.modelled_cycles


def test_a_round_solves_the_draws_problem():
    """What docs/refinement.md derives: a change is -H_q^-1 g, so errors go times 1 - H_q^-1 H."""
    X, _, packed = regression(2, features=4, batch=125)
    plan = make_plan(packed, epochs=1, step=0.1, feature_shifts="auto")
    run = partial(host(packed).train, judge=False)
    rounds = RefinementRounds(run, packed, RefinementRounds.plans_of(packed, plan), epochs=60)
    q1, q2 = (q / 128 for q in kernel_values(packed, 2, "symmetric", 0))
    drawn = (q1.T @ q2 + q2.T @ q1) / (2 * len(q1))
    values = packed.normalization.transform(X).astype(float)
    true = values.T @ values / len(values)
    error = np.random.default_rng(0).normal(size=5)
    change = rounds(true @ error)
    after = error + change
    np.testing.assert_allclose(after, error - np.linalg.solve(drawn, true @ error), atol=0.03)
    contraction = np.eye(5) - np.linalg.solve(drawn, true)
    assert np.abs(np.linalg.eigvals(contraction)).max() < 0.5
    assert after @ true @ after < 0.5 * error @ true @ error


def test_a_size_that_clamps_is_not_tried_again(monkeypatch):
    X, _, packed = regression(4, features=200)
    plan = make_plan(packed, epochs=1, step=0.002)
    values = packed.normalization.transform(X).astype(float)
    gradient = values.T @ values @ np.random.default_rng(0).normal(size=201) / len(values)

    def changed():
        rounds = RefinementRounds(
            partial(host(packed).train, judge=False),
            packed,
            RefinementRounds.plans_of(packed, plan),
            epochs=60,
        )
        # changes are as much larger than gradients
        rounds.weigh(np.full(1500, 0.02), None)
        changes = [rounds(gradient) for _ in range(2)]
        return changes, [result.saturations > 0 for result in rounds.results]

    expected, clamped = changed()
    assert clamped == [False, False]
    monkeypatch.setattr("zipml_pynq.accelerator.refine.SIZE", 1e5)
    monkeypatch.setattr("zipml_pynq.accelerator.refine.PREDICTED", np.inf)
    found, clamped = changed()
    assert clamped in ([True, False, False], [True, True, False, False])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3 * np.abs(other).max())


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("unit", [1.0, 0.3])
def test_a_round_weighs_samples_by_their_curvature(kind, unit):
    """Whatever weights they have of their own: all of them, or the few that have it all."""
    *_, packed = regression(2, sample_weight=np.linspace(0, 2, 1500))
    rounds = RefinementRounds(None, packed, None)
    curvatures = np.random.default_rng(0).uniform(0, unit, 1500).astype(kind)
    weights = np.rint(curvatures.astype(float) * (2.0**16 / unit))
    few = np.flatnonzero(curvatures > 0.8 * unit)
    for some, turns in ((None, 1), (few, round(1500 / few.size))):
        rounds.weigh(curvatures, some, unit)
        index = np.arange(1500) if some is None else some
        now = rounds.packed
        assert now.layout.samples == index.size
        assert rounds.turns == turns
        assert not now.labels.any()
        np.testing.assert_array_equal(now.weights[: index.size], weights[index])
        assert not now.weights[index.size :].any()
        for after, before in zip(now.unpack(2), packed.unpack(2), strict=True):
            np.testing.assert_array_equal(after, before[index])
    np.testing.assert_array_equal(rounds.whole.weights, packed.weights)


def test_the_best_combination_converges_where_changes_alone_do_not():
    """A solver that is wrong by more than half: errors grow, and the combinations end exactly."""
    rng = np.random.default_rng(0)
    n = 8
    turned, _ = np.linalg.qr(rng.normal(size=(n, n)))
    true = turned @ np.diag(np.logspace(-3, 0, n)) @ turned.T
    drawn = true + 2e-2 * (lambda a: a + a.T)(rng.normal(size=(n, n))) / np.sqrt(n)
    assert np.abs(np.linalg.eigvals(np.eye(n) - np.linalg.solve(drawn, true))).max() > 1
    model = rng.normal(size=n)
    course = Quadratic(model, true @ model)
    left = model @ true @ model / 2
    for _ in range(n):
        change = np.linalg.solve(drawn, -course.gradient)
        gain = course.add(change[None], (true @ change)[None])
        now = course.model @ true @ course.model / 2
        assert gain >= 0
        assert left - now == pytest.approx(gain, abs=1e-9)
        np.testing.assert_allclose(course.gradient, true @ course.model, atol=1e-7)
        left = now
    assert left < 1e-9


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.filterwarnings("ignore:refinement ended")
def test_few_rows_know_what_few_bits_do_not(by_rows, weighted):
    """Columns that are nearly alike: their differences drown in the noise of few bits."""
    rng = np.random.default_rng(4)
    common = rng.normal(size=(2000, 6))
    X = (common @ rng.normal(size=(6, 40)) + 0.03 * rng.normal(size=(2000, 40))).astype(np.float32)
    y = X @ rng.normal(size=40) + 0.05 * rng.normal(size=2000)
    weights = rng.uniform(0.1, 3, 2000) if weighted else None
    packed = pack(X, y, bits=[2, 8], sample_weight=weights)
    loss, least = objective(X, packed, l2=1e-5)
    options = {"bits": 2, "epochs": 1, "l2": 1e-5, "feature_shifts": "auto", "judge": False}
    refine = Refine(X if by_rows else None, rounds=6, tol=0.0)
    alone, both = (
        host(packed).train(packed, refine=replace(refine, rows_a_feature=rows), **options)
        for rows in (0, 4)
    )
    # one round of few rows, behind those of few bits alone, does what more of these do not
    above = [loss(model) / least - 1 for model in (alone.history[5], both.history[ALONE + 2])]
    assert above[1] < above[0] / 4
    np.testing.assert_array_equal(alone.history[: ALONE + 1], both.history[: ALONE + 1])


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
@pytest.mark.filterwarnings("ignore:refinement ended")
def test_few_rows_know_what_few_bits_do_not_of_margins(loss):
    rng = np.random.default_rng(5)
    common = rng.normal(size=(3000, 4))
    X = (common @ rng.normal(size=(4, 20)) + 0.05 * rng.normal(size=(3000, 20))).astype(np.float32)
    y = np.where(X @ rng.normal(size=20) + 0.2 * rng.normal(size=3000) > 0, 1, -1)
    packed = pack(X, y, bits=2)
    of, least = objective(X, packed, loss, 1e-4)
    options = {"epochs": 1, "loss": loss, "l2": 1e-4, "judge": False}
    alone, both = (
        host(packed).train(
            packed, refine=Refine(X, rounds=5, tol=0.0, rows_a_feature=rows), **options
        )
        for rows in (0, 4)
    )
    # rows of the curvature of each round, 1024 of them
    assert of(both.model) / least - 1 < (of(alone.model) / least - 1) / 10
    passes = 1 + 2 * 5
    values = 4 * X.shape[0] * packed.layout.features
    assert alone.refinement.gradient_bytes == passes * values
    assert 0 < both.refinement.gradient_bytes - passes * values <= 5 * values


@pytest.mark.filterwarnings("ignore:refinement ended")
def test_the_accelerator_takes_few_rows_in_turns_with_few_bits():
    _, _, packed = regression([1, 8])
    kinds = []

    class Logging(HostDriver):
        def train(self, packed, plan=None, **options):
            kinds.append("true" if plan.frozen else "few bits")
            return super().train(packed, plan, **options)

    plan = make_plan(packed, bits=1, epochs=1, feature_shifts="auto")
    driver = Logging(packed.layout.word_bits)
    refine = Refine(rounds=8, tol=0.0)
    assert not driver.train(packed, plan, refine=refine, judge=False).refinement.converged
    # a true gradient at the start and behind each round, which has no run at few bits for few rows
    assert kinds[0] == "few bits"
    assert kinds.count("true") == 1 + 8
    rounds = " ".join(kinds[2:]).split("true")[:-1]
    assert [one.strip() for one in rounds[:ALONE]] == ["few bits"] * ALONE
    few_rows = [not one.strip() for one in rounds]
    assert any(few_rows)
    assert not any(a and b for a, b in pairwise(few_rows))


def test_what_does_not_converge_in_its_rounds_is_told():
    X, _, packed = regression([1, 8])
    with pytest.warns(ZipmlWarning, match="refinement ended after 1 rounds with .* left to gain"):
        host(packed).train(
            packed, epochs=1, bits=1, refine=Refine(rows=X, rounds=1, tol=0.0), judge=False
        )


@pytest.mark.parametrize(
    ("options", "refine", "message"),
    [
        ({}, 3, "refine was 3; allowed are True, raw samples and a Refine"),
        ({}, np.zeros((3, 12)), r"refine had 3 row\(s\); this data set has 200 samples"),
        ({"bits": 8}, True, "refine was without raw rows, at 8 bits"),
        ({}, Refine(bits=4), "refine was without raw rows, at 4 bits"),
        ({"loss": "hinge"}, True, "'hinge', which has no second derivative"),
        ({"loss": "logistic"}, True, "without raw rows, with loss 'logistic'"),
    ],
)
def test_what_cannot_be_refined(options, refine, message):
    _, _, packed = regression([2, 8], samples=200)
    with pytest.raises(ArgumentError, match=message):
        host(packed).train(packed, refine=refine, **{"bits": 2, "epochs": 1, **options})


def test_float32_has_nothing_to_refine():
    X, _, packed = regression(2, samples=200)
    floats = pack(X, packed.labels[:200], value_format="float32")
    with pytest.raises(ArgumentError, match="refine was given for float32 samples"):
        host(floats).train(floats, epochs=1, refine=X)


@pytest.mark.parametrize("name", ["rounds", "epochs"])
def test_options_are_checked(name):
    with pytest.raises(ArgumentError, match=f"{name} was 0"):
        Refine(**{name: 0})
    with pytest.raises(ArgumentError, match="rows_a_feature was -1"):
        Refine(rows_a_feature=-1)
    with pytest.raises(ArgumentError, match="tol was -1"):
        replace(Refine(), tol=-1.0)


def test_what_cannot_be_refined_is_told_before_training():
    _, _, packed = regression([2, 8], samples=200)

    def trained(*_):
        raise AssertionError("it was trained")

    for refine in (True, "all"):
        with pytest.raises(ArgumentError, match="refine was"):
            host(packed).train(packed, bits=8, epochs=2, refine=refine, progress=trained)
