"""Methods of the paper that run on the host: their statistics, their bounds, and where they end.

Statistical tests have fixed seeds, so a test passes always or never; ALARM is the chance that a
correct program meets a seed that fails.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from sklearn.linear_model import ElasticNet

from tests.cases import ALARM
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training import baseline, host, proximal
from zipml_pynq.training.row_scaling import intervals, row_scaled
from zipml_pynq.training.sketch import Refetcher, Sketch


def problem(samples: int = 640, features: int = 12, seed: int = 0):
    rng = np.random.default_rng(seed)
    V = rng.uniform(-1, 1, (samples, features))
    x = rng.normal(size=features) * (rng.random(features) < 0.5)
    return V, V @ x + 0.1 * rng.normal(size=samples)


def rounded(V, bits, rng):
    """A stochastic sample on the grid."""
    half = 2 ** (bits - 2)
    return np.floor((V + 1) * half + rng.random(V.shape)) / half - 1


def test_host_sgd_is_the_float_baseline() -> None:
    V, y = problem(samples=630)  # whole batches: the baseline divides a ragged one by the full size
    other, steps = V + 0.01, [0.3, 0.2, 0.1]
    for loss in ("least_squares", "logistic"):
        gradient = host.double_sampled(V, other, y, loss, l2=0.01)
        found = host.sgd(gradient, *V.shape, steps, batch=7)
        expected = baseline.float_sgd_loss(V, y, steps, loss, batch=7, l2=0.01, second=other)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "max"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_row_scaling_is_unbiased_and_within_its_bound(bits: int, norm: str) -> None:
    rng = np.random.default_rng(bits)
    v = rng.normal(size=20) * np.exp(rng.normal(size=20))
    v[3] = 0
    draws = np.array([row_scaled(v, bits, rng, norm) for _ in range(20_000)])
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    z = (draws.mean(axis=0) - v) / np.maximum(error, 1e-300)
    moved = error > 1e-12 * np.abs(v)  # the largest entry is kept as it is
    assert moved.sum() > 10
    assert np.abs(z[moved]).max() < stats.norm.isf(ALARM / 2 / 20)
    s, n = intervals(bits), v.size
    square = ((draws - v) ** 2).sum(axis=1)
    upper = square.mean() + stats.norm.isf(ALARM) * square.std() / np.sqrt(len(square))
    if norm == "l2":
        assert upper < min(n / (4 * s**2), np.sqrt(n) / s) * (v @ v)
    else:
        assert upper < n * np.abs(v).max() ** 2 / (4 * s**2)
    size = np.linalg.norm(v) if norm == "l2" else np.abs(v).max()
    levels = draws / size * s
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-9)


def test_row_scaling_refuses_and_keeps_zero() -> None:
    rng = np.random.default_rng(0)
    assert row_scaled(np.zeros(3), 4, rng).tolist() == [0, 0, 0]
    for change, told in (({"bits": 1}, "bits was 1"), ({"norm": "l1"}, "norm was 'l1'")):
        with pytest.raises(ArgumentError, match=told):
            row_scaled(**{"v": [1.0], "bits": 4, "rng": rng, **change})


def test_end_to_end_with_row_scaling_ends_near_full_precision() -> None:
    V, y = problem()
    rng = np.random.default_rng(3)
    q1, q2 = rounded(V, 6, rng), rounded(V, 6, rng)
    steps = 0.5 / np.arange(1, 21)
    loss = lambda x: np.mean((V @ x - y) ** 2)  # noqa: E731
    exact = host.sgd(host.double_sampled(V, V, y, "least_squares"), *V.shape, steps)[-1]
    low = host.quantized(
        host.double_sampled(q1, q2, y, "least_squares"),
        lambda x: row_scaled(x, 8, rng),
        lambda g: row_scaled(g, 8, rng),
    )
    assert loss(host.sgd(low, *V.shape, steps)[-1]) < 1.05 * loss(exact)


def test_proximal_steps_minimize_what_they_say() -> None:
    rng = np.random.default_rng(0)
    z, step, l1, l2 = rng.normal(0, 2, 6), 0.3, 2.0, 0.7
    found = proximal.elastic_net(l1, l2)(z, step)
    for entry, start in zip(found, z, strict=True):
        best = minimize_scalar(
            lambda x, start=start: step * (l1 * abs(x) + l2 / 2 * x**2) + (x - start) ** 2 / 2,
            bounds=(-10, 10),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert entry == pytest.approx(best.x, abs=1e-6)
    assert (found == 0).any()
    assert np.abs(proximal.box(0.5)(z, step)).max() == 0.5
    inside = proximal.ball(0.5)(z, step)
    np.testing.assert_allclose(inside, z * 0.5 / np.linalg.norm(z))
    np.testing.assert_array_equal(proximal.ball(100.0)(z, step), z)
    for made, told in (
        (lambda: proximal.elastic_net(-1.0), "l1 was -1.0"),
        (lambda: proximal.box(0.0), "bound was 0.0"),
        (lambda: proximal.ball(-2.0), "radius was -2.0"),
    ):
        with pytest.raises(ArgumentError, match=told):
            made()


def test_proximal_double_sampling_ends_at_scikit_learns_elastic_net() -> None:
    """Least squares with l1 and l2, on 6-bit samples with a fresh draw an epoch."""
    V, y = problem(samples=4_800)
    l1, l2 = 0.02, 0.01
    ratio = l1 / (l1 + l2)
    exact = (
        ElasticNet(alpha=l1 + l2, l1_ratio=ratio, fit_intercept=False, tol=1e-10).fit(V, y).coef_
    )
    rng = np.random.default_rng(1)
    x = np.zeros(V.shape[1])
    for epoch in range(40):
        gradient = host.double_sampled(rounded(V, 6, rng), rounded(V, 6, rng), y, "least_squares")
        x = host.sgd(
            gradient,
            *V.shape,
            [0.5 / (1 + epoch)],
            batch=32,
            proximal=proximal.elastic_net(l1, l2),
            model=x,
        )[-1]
    np.testing.assert_allclose(x, exact, atol=0.02)
    assert set(np.flatnonzero(x == 0)) <= set(np.flatnonzero(np.abs(exact) < 0.02))
    assert (x == 0).sum() >= 2


@pytest.mark.parametrize("rows", [64, 512])
def test_sketch_estimates_without_bias_and_within_its_reach(rows: int) -> None:
    """Over seeds of the directions: mean, and how often the error exceeds the reach."""
    rng = np.random.default_rng(4)
    a = rng.uniform(-1, 1, (40, 30))
    q, x = rounded(a, 3, rng), rng.normal(size=30)
    truth, delta = (a - q) @ x, 0.05
    found = []
    for seed in range(400):
        sketch = Sketch.of(a, q, rows, seed)
        found.append(sketch.estimate(slice(None), x) - truth)
    errors = np.array(found)
    z = errors.mean(axis=0) / (errors.std(axis=0, ddof=1) / np.sqrt(len(errors)))
    assert np.abs(z).max() < stats.norm.isf(ALARM / 2 / 40)
    bound = sketch.reach(delta) * sketch.lengths * np.linalg.norm(x)
    beyond = (np.abs(errors) > bound).mean(axis=0)
    assert beyond.max() < stats.binom.isf(ALARM / 40, len(errors), delta) / len(errors)
    # no looser than it must be: errors reach half of it
    assert (np.abs(errors) > bound / 2).any()
    assert sketch.bits_a_sample == rows + 16
    assert (sketch.lengths >= np.linalg.norm(a - q, axis=1)).all()


def test_refetching_by_sketch_fetches_less_and_decides_right() -> None:
    V, _ = problem(samples=1_600, features=40, seed=2)
    rng = np.random.default_rng(5)
    x = rng.normal(size=40)
    y = np.where(V @ x + 0.3 * rng.normal(size=1_600) > 0, 1.0, -1.0)
    q1, q2 = rounded(V, 5, rng), rounded(V, 5, rng)
    steps = 2 / (1 + 0.5 * np.arange(8))
    exact = host.sgd(host.double_sampled(V, V, y, "hinge", l2=1e-3), *V.shape, steps)[-1]

    def hinge(model):
        return np.maximum(0, 1 - y * (V @ model)).mean() + 1e-3 / 2 * (model @ model)

    shares = {}
    for rows in (None, 1_024):
        sketch = None if rows is None else Sketch.of(V, q1, rows, seed=7)
        refetcher = Refetcher(V, q1, q2, y, sketch, delta=1e-3, l2=1e-3)
        model = host.sgd(refetcher.gradient(), *V.shape, steps)[-1]
        shares[rows] = refetcher.fetched / refetcher.seen
        # missed ones are at most a binomial's share of those seen
        assert refetcher.missed <= stats.binom.isf(ALARM, refetcher.seen, 1e-3)
        if rows is None:
            assert refetcher.missed == 0
        assert hinge(model) < 1.01 * hinge(exact)
    assert shares[1_024] < shares[None] / 3
    for change, told in (
        ({"rows": 0}, "rows was 0"),
        ({"quantized": V[:, 1:]}, "quantized had shape"),
    ):
        with pytest.raises(ArgumentError, match=told):
            Sketch.of(**{"exact": V, "quantized": q1, "rows": 8, **change})
    with pytest.raises(ArgumentError, match="delta was 1"):
        Sketch.of(V, q1, 8).reach(1.0)
