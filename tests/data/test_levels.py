"""Variance-optimal levels against dynamic programming, their bounds, and levels of data sets."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipml_pynq.constants import CONFIG
from zipml_pynq.data import levels as lv
from zipml_pynq.data.levels import LevelHistogram, fit_levels, optimal_levels, rounding_variance
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.errors import ArgumentError

ONE = 1 << CONFIG.level_fraction_bits
#: Relative error allowed: what rounding may do, in the code under test and in these sums.
RELATIVE = 1e-9


def smallest_variance(values, k, weights=None):
    """The objective's minimum: O(k N^2), intervals' costs summed from their definition."""
    v = np.asarray(values, dtype=np.float64)
    w = np.ones(v.size) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(v)
    v, w = v[order], w[order]
    low, high, inner = v[:, None, None], v[None, :, None], v[None, None, :]
    with np.errstate(under="ignore"):
        cost = (np.maximum(high - inner, 0) * np.maximum(inner - low, 0)) @ w
    cost[np.tril_indices(v.size, -1)] = np.inf
    best = cost[0]
    for _ in range(k - 2):
        best = (best[:, None] + cost).min(axis=0)
    return best[-1] / w.sum() if w.sum() > 0 else 0.0


def integer_minimum(values, k):
    """The same for many integers, from prefix sums, which are exact."""
    v = np.sort(np.asarray(values, dtype=np.int64))
    count = np.arange(v.size + 1)
    first = np.concatenate([[0], np.cumsum(v)])
    second = np.concatenate([[0], np.cumsum(v * v)])
    n = np.arange(v.size)
    low, high = n[:, None], n[None, :]
    cost = (
        (v[low] + v[high]) * (first[high] - first[low])
        - (second[high] - second[low])
        - v[low] * v[high] * (count[high] - count[low])
    ).astype(np.float64)
    cost[np.tril_indices(v.size, -1)] = np.inf
    best = cost[0]
    for _ in range(k - 2):
        best = (best[:, None] + cost).min(axis=0)
    return best[-1] / v.size


def check_optimal(values, k, weights=None):
    levels = optimal_levels(values, k, weights=weights)
    assert levels.dtype == np.float64
    assert levels.shape == (k,)
    assert (np.diff(levels) >= 0).all()
    assert (levels[0], levels[-1]) == (np.min(values), np.max(values))
    assert np.isin(levels, values).all()
    optimum = smallest_variance(values, k, weights)
    variance = rounding_variance(values, levels, weights)
    assert variance == pytest.approx(optimum, rel=RELATIVE, abs=5e-324)


MAKERS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "integers": lambda rng, n: rng.integers(0, 12, n).astype(float),
    "grid": lambda rng, n: np.arange(n) * 1.0,
    "grid with rounding": lambda rng, n: np.arange(n) * 0.1,
    "heavy tails": lambda rng, n: rng.standard_cauchy(n) ** 3,
    "repeated": lambda rng, n: np.repeat(rng.normal(size=(n + 2) // 3), 3)[:n],
    "offset": lambda rng, n: 1e6 + 1e-3 * rng.normal(size=n),
    "powers": lambda rng, n: 2.0 ** rng.integers(-40, 40, n),
    "far apart": lambda rng, n: rng.normal(size=n) + 1e9 * rng.integers(0, 2, n),
    "blocks": lambda rng, n: (np.arange(n) // 4) * 100.0 + np.arange(n) % 4,
    "tiny": lambda rng, n: 1e-150 * rng.normal(size=n),
    "huge": lambda rng, n: 1e150 * rng.normal(size=n),
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("weighted", [False, True])
def test_exact_is_optimal(kind, weighted):
    rng = np.random.default_rng(len(kind))
    for _ in range(100):
        n = int(rng.integers(1, 40))
        values = rng.permutation(MAKERS[kind](rng, n))
        weights = rng.integers(0, 4, n) * rng.random(n) if weighted else None
        check_optimal(values, int(rng.integers(2, 14)), weights)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(-5, 5).map(float), st.floats(-1e100, 1e100, width=64)),
            st.sampled_from([0.0, 1.0, 2.0, 0.1]),
        ),
        min_size=1,
        max_size=16,
    ),
    st.integers(2, 10),
)
@settings(max_examples=300, deadline=None)
def test_exact_is_optimal_for_anything(pairs, k):
    values, weights = map(np.array, zip(*pairs, strict=True))
    check_optimal(values, k, weights)


@pytest.mark.parametrize("spread", [30, 1000, 10**6])
@pytest.mark.parametrize("k", [3, 4, 9, 17, 65, 129, 400])
def test_exact_on_many_integers(spread, k):
    rng = np.random.default_rng(spread)
    values = np.rint(rng.normal(size=700) * spread).astype(np.int64)
    variance = rounding_variance(values, optimal_levels(values, k))
    assert variance == pytest.approx(integer_minimum(values, k), rel=RELATIVE)


@pytest.mark.parametrize("k", [5, 8, 100, 129, 300])
def test_exact_on_plateaus(k):
    """On a grid many numbers of levels share a multiplier: intervals of two lengths are best."""
    values = np.arange(901)
    short, more = divmod(900, k - 1)
    variance = (k - 1 - more) * (short**3 - short) / 6 + more * ((short + 1) ** 3 - short - 1) / 6
    found = rounding_variance(values, optimal_levels(values, k))
    assert found == pytest.approx(variance / 901, rel=RELATIVE)


@pytest.mark.parametrize("kind", ["normal", "heavy", "lognormal", "clusters"])
def test_exact_on_large_data_is_stationary_and_better_than_the_rest(kind):
    """More than the coarse search holds: each level is best between its neighbours."""
    rng = np.random.default_rng(3)
    n = 1 << 17
    values = np.sort(
        {
            "normal": lambda: rng.normal(size=n),
            "heavy": lambda: rng.standard_cauchy(n),
            "lognormal": lambda: np.exp(3 * rng.normal(size=n)),
            "clusters": lambda: np.rint(3 * rng.normal(size=n)) + 1e-6 * rng.normal(size=n),
        }[kind]()
    )
    before = np.inf
    for k in (2, 3, 4, 5, 16, 33):
        levels = optimal_levels(values, k)
        assert np.unique(levels).size == k
        variance = rounding_variance(values, levels)
        assert variance < before
        before = variance
        for method in ("greedy", "greedy-exact", "histogram"):
            other = rounding_variance(values, optimal_levels(values, k, method))
            assert variance <= other * (1 + RELATIVE)
        at = np.searchsorted(values, levels)
        for low, here, high in zip(at, at[1:], at[2:], strict=False):
            part, ends = values[low : high + 1], [values[low], values[high]]
            assert here > low
            local = rounding_variance(part, [ends[0], values[here], ends[1]])
            for near in (here - 1, here + 1):
                assert local <= rounding_variance(part, [ends[0], values[near], ends[1]]) * (
                    1 + RELATIVE
                )


def test_exact_equals_a_full_dynamic_program_on_large_data():
    """The coarse start, against O(k N^2) on data with 3,000 different values."""
    rng = np.random.default_rng(8)
    values = np.rint(rng.normal(size=20000) * 1000)
    distinct, counts = np.unique(values, return_counts=True)
    zero = np.zeros(1)
    c0 = np.concatenate([zero, np.cumsum(counts)])
    c1 = np.concatenate([zero, np.cumsum(counts * distinct)])
    c2 = np.concatenate([zero, np.cumsum(counts * distinct**2)])
    m = distinct.size
    best = None
    for k in range(2, 7):
        new = np.empty(m)
        for j in range(m):
            i = np.arange(j + 1) if best is not None else np.zeros(1, dtype=int)
            cost = (
                (distinct[i] + distinct[j]) * (c1[j] - c1[i])
                - (c2[j] - c2[i])
                - distinct[i] * distinct[j] * (c0[j] - c0[i])
            )
            new[j] = (cost if best is None else best[i] + cost).min()
        best = new
        found = rounding_variance(values, optimal_levels(values, k))
        assert found == pytest.approx(best[-1] / values.size, rel=RELATIVE)


def test_objective_falls_with_more_levels_by_less_and_less():
    values = np.random.default_rng(4).normal(size=500)
    variances = [rounding_variance(values, optimal_levels(values, k)) for k in range(2, 120)]
    steps = -np.diff(variances)
    assert (steps > 0).all()
    assert (np.diff(steps) <= RELATIVE * variances[0]).all()


@pytest.mark.parametrize("method", lv.METHODS)
def test_degenerate_data(method):
    assert optimal_levels([3.0], 4, method).tolist() == [3.0] * 4
    assert optimal_levels([3.0] * 9, 3, method).tolist() == [3.0] * 3
    assert optimal_levels([2.0, 1.0, 5.0], 2, method).tolist() == [1.0, 5.0]
    assert optimal_levels(np.float32([1, 7]), 4, method)[[0, -1]].tolist() == [1.0, 7.0]
    some = optimal_levels([1.0, 2.0, 3.0], 3, method, weights=[0, 0, 0])
    assert (some.size, some[0], some[-1]) == (3, 1.0, 3.0)
    wide = optimal_levels([-1.7e308, 0.0, 1.7e308], 3, method)
    assert wide.tolist() == [-1.7e308, 0.0, 1.7e308]
    narrow = optimal_levels([0.0, 5e-324, 1e-323], 3, method)
    assert narrow.tolist() == [0.0, 5e-324, 1e-323]


@pytest.mark.parametrize("method", ["exact", "greedy", "greedy-exact"])
def test_fewer_values_than_levels(method):
    assert optimal_levels([2, 1, 2, 3], 6, method).tolist() == [1, 2, 3, 3, 3, 3]
    found = optimal_levels([1, 2, 3, 4], 4, method, weights=[0, 0, 1, 0])
    assert found.tolist() == [1, 3, 4, 4]


def test_order_and_type_of_values_do_not_matter():
    values = np.random.default_rng(5).normal(size=1000).astype(np.float32)
    weights = np.arange(1000)
    order = np.argsort(values)
    for method in ("exact", "greedy", "greedy-exact"):
        a = optimal_levels(values, 9, method, weights)
        b = optimal_levels(values[order].astype(float), 9, method, weights[order])
        assert np.array_equal(a, b)


def test_weights_count_values():
    rng = np.random.default_rng(6)
    values, counts = rng.normal(size=60), rng.integers(0, 5, 60)
    counts[[values.argmin(), values.argmax()]] = 1
    many = np.repeat(values, counts)
    for k in (3, 7, 20):
        a = rounding_variance(many, optimal_levels(values, k, weights=counts))
        assert a == pytest.approx(rounding_variance(many, optimal_levels(many, k)), rel=RELATIVE)
    huge = optimal_levels(values, 7, weights=counts * 1e300)
    assert np.array_equal(huge, optimal_levels(values, 7, weights=counts))


@pytest.mark.parametrize("kind", MAKERS)
def test_greedy_guarantee(kind):
    rng = np.random.default_rng(7)
    for _ in range(30):
        n, k = int(rng.integers(2, 40)), int(rng.integers(2, 24))
        values = MAKERS[kind](rng, n)
        levels = optimal_levels(values, k, "greedy")
        assert levels.shape == (k,)
        found = rounding_variance(values, levels)
        kept = (k - 2) // 2
        for breaks in range(kept):
            ratio = 1 + breaks / (kept - breaks)
            limit = ratio * smallest_variance(values, breaks + 2)
            assert found <= limit * (1 + RELATIVE) + 5e-324
        assert found <= 2 * smallest_variance(values, (k - 2) // 4 + 2) * (1 + RELATIVE)


@pytest.mark.parametrize("kind", MAKERS)
def test_greedy_then_exact_guarantee(kind):
    """Against every optimum with at most half as many inner levels, and against merging alone."""
    rng = np.random.default_rng(11)
    above = []
    for _ in range(30):
        k = int(rng.integers(2, 8))
        values = MAKERS[kind](rng, int(rng.integers(5 * k, 12 * k)))
        levels = optimal_levels(values, k, "greedy-exact")
        assert levels.shape == (k,)
        assert np.isin(levels, values).all()
        found, kept = rounding_variance(values, levels), 2 * k - 3
        for breaks in range((k - 2) // 2 + 1):
            limit = (1 + breaks / (kept - breaks)) * smallest_variance(values, breaks + 2)
            assert found <= limit * (1 + RELATIVE) + 5e-324
        best = rounding_variance(values, optimal_levels(values, k))
        merged = rounding_variance(values, optimal_levels(values, k, "greedy"))
        assert best <= found * (1 + RELATIVE)
        above.append([found / best if best else 1.0, merged / best if best else 1.0])
    near, far = np.mean(above, axis=0)
    assert near <= 1 + (far - 1) / 2  # what the second search is for


def test_greedy_then_exact_has_the_ends_of_merged_intervals_for_candidates():
    """The same choice by merging in Python and brute force over what it leaves."""
    rng = np.random.default_rng(12)
    for _ in range(20):
        values, k = np.sort(rng.normal(size=int(rng.integers(30, 60)))), int(rng.integers(3, 5))
        intervals = list(pairwise(range(values.size)))
        kept = (4 * (k - 1) - 1) // 2
        while len(intervals) > 4 * (k - 1):
            pairs = [
                (intervals[2 * i][0], intervals[2 * i + 1][1]) for i in range(len(intervals) // 2)
            ]
            odd = intervals[2 * len(pairs) :]
            costs = [
                ((values[j] - values[i : j + 1]) * (values[i : j + 1] - values[i])).sum()
                for i, j in pairs
            ]
            merges = min(len(pairs) - kept, len(intervals) - 4 * (k - 1))
            merged = set(np.argsort(costs, kind="stable")[:merges].tolist())
            halves = [
                [pair] if i in merged else intervals[2 * i : 2 * i + 2]
                for i, pair in enumerate(pairs)
            ]
            intervals = [interval for half in halves for interval in half] + odd
        left = values[[low for low, _ in intervals] + [values.size - 1]]
        best = min(
            rounding_variance(values, [left[0], *inner, left[-1]])
            for inner in combinations(left[1:-1], k - 2)
        )
        found = rounding_variance(values, optimal_levels(values, k, "greedy-exact"))
        assert found == pytest.approx(best, rel=RELATIVE)


def histogram_bound(values, k, bins):
    """docs/levels.md: the optimum, plus what moving its levels to edges costs at most."""
    optimum = optimal_levels(values, k)
    low, width = values.min(), np.ptp(values) / bins
    level_bins = np.clip(((optimum - low) / width).astype(int), 0, bins - 1)
    value_bins = np.clip(((values - low) / width).astype(int), 0, bins - 1)
    mass = np.bincount(value_bins, minlength=bins) / values.size
    bound = rounding_variance(values, optimum)
    for b in np.unique(level_bins[1:-1]):
        inside = np.flatnonzero(level_bins[1:-1] == b) + 1
        if inside.size == 1:
            i = inside[0]
            bound += mass[b] * width * (optimum[i + 1] - optimum[i - 1]) / 4
        else:
            bound += mass[b] * width**2 / 4
    return bound


@pytest.mark.parametrize("bins", [7, 64, 1000])
@pytest.mark.parametrize("kind", ["normal", "integers", "heavy tails", "repeated", "powers"])
def test_histogram_bound(kind, bins):
    rng = np.random.default_rng(9)
    for k in (3, 4, 6, 12):
        values = MAKERS[kind](rng, 3000)
        histogram = LevelHistogram(values.min(), values.max(), bins)
        histogram.add(values)
        levels = histogram.levels(k)
        edges = (levels - values.min()) / np.ptp(values) * bins
        assert np.abs(edges - np.rint(edges)).max() < 1e-6
        found = rounding_variance(values, levels)
        assert found <= histogram_bound(values, k, bins) * (1 + 1e-6)


def test_histogram_levels_are_the_best_edges():
    rng = np.random.default_rng(10)
    values = rng.beta(2, 5, size=400)
    values[:2] = 0, 1
    histogram = LevelHistogram(0, 1, 20)
    histogram.add(values)
    edges = np.linspace(0, 1, 21)
    for k in (3, 4, 5):
        best = smallest_over_edges(values, edges, k)
        assert rounding_variance(values, histogram.levels(k)) == pytest.approx(best, rel=RELATIVE)


def smallest_over_edges(values, edges, k):
    cost = np.full((edges.size, edges.size), np.inf)
    for i, low in enumerate(edges):
        for j, high in enumerate(edges[i + 1 :], i + 1):
            inside = values[(values >= low) & (values <= high)]
            cost[i, j] = ((high - inside) * (inside - low)).sum()
    best = cost[0]
    for _ in range(k - 2):
        best = (best[:, None] + cost).min(axis=0)
    return best[-1] / values.size


def test_histogram_is_near_the_optimum():
    values = np.random.default_rng(11).normal(size=1 << 16)
    for k, excess in ((4, 1e-5), (16, 1e-4), (129, 2e-3)):
        found = rounding_variance(values, optimal_levels(values, k, "histogram"))
        assert found <= rounding_variance(values, optimal_levels(values, k)) * (1 + excess)


def test_histograms_merge():
    rng = np.random.default_rng(12)
    values, weights = rng.uniform(-2, 3, 5000), rng.random(5000)
    whole, first, second = (LevelHistogram(-2, 3, 128) for _ in range(3))
    whole.add(values, weights)
    first.add(values[:1234], weights[:1234])
    second.add(values[1234:], weights[1234:])
    assert first.merge(second) is first
    np.testing.assert_allclose(first.sums, whole.sums, rtol=1e-12)
    assert np.array_equal(first.levels(9), whole.levels(9))
    pieces = LevelHistogram(-2, 3, 128)
    for start in range(0, 5000, 777):
        pieces.add(values[start : start + 777], weights[start : start + 777])
    assert np.array_equal(pieces.sums, whole.sums)
    counts = LevelHistogram(-2, 3, 128)
    counts.add(values.astype(np.float32))
    assert counts.sums[:, 0].sum() == 5000


def test_histogram_with_few_edges():
    histogram = LevelHistogram(0, 1, 2)
    assert histogram.levels(5).tolist() == [0, 0.5, 1, 1, 1]
    histogram.add([0.0, 0.25, 1.0])
    assert histogram.levels(2).tolist() == [0, 1]


def test_rounding_variance_by_hand():
    assert rounding_variance([0.25, 0.5, 1.0], [0, 1]) == pytest.approx((0.1875 + 0.25) / 3)
    assert rounding_variance([0.25, 0.5], [0, 1], weights=[3, 1]) == pytest.approx(0.203125)
    assert rounding_variance([1.0], [0, 2], weights=[0]) == 0
    assert rounding_variance([1.0, 1.0], [1.0]) == 0
    assert rounding_variance([0.0, 1.0], [0.0, 0.0, 1.0, 1.0]) == 0
    values = np.random.default_rng(13).random(200_000)
    assert rounding_variance(values, [0, 1]) == pytest.approx((values * (1 - values)).mean())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_levels([], 3), "values had shape"),
        (lambda: optimal_levels([[1.0]], 3), "values had shape"),
        (lambda: optimal_levels(["a"], 3), "values had dtype"),
        (lambda: optimal_levels([1.0, np.nan], 3), "values was nan at 1; every value"),
        (lambda: optimal_levels([np.inf], 3), "values was inf at 0"),
        (lambda: optimal_levels([1.0], 1), "k was 1; allowed is 2"),
        (lambda: optimal_levels([1.0], 2.5), "k was 2.5"),
        (lambda: optimal_levels([1.0], 3, "best"), "method was 'best'; allowed are 'exact'"),
        (lambda: optimal_levels([1.0], 3, weights=[1.0, 2.0]), "weights had 2 entries"),
        (lambda: optimal_levels([1.0], 3, weights=[-1.0]), r"weights was -1.0 at 0; it must be"),
        (lambda: optimal_levels([1.0], 3, weights=[np.nan]), "weights was nan at 0"),
        (lambda: rounding_variance([2.0], [0.0, 1.0]), "values was 2.0 at 0; the levels span"),
        (lambda: rounding_variance([0.0], [1.0, 0.0]), "levels did not ascend"),
        (lambda: rounding_variance([0.0], [0.0, np.nan]), "levels did not ascend"),
        (lambda: LevelHistogram(1, 1), "low was 1, high 1"),
        (lambda: LevelHistogram(0, np.inf), "low was 0, high inf"),
        (lambda: LevelHistogram(-1.7e308, 1.7e308), "low was"),
        (lambda: LevelHistogram(0, 1, 0), "bins was 0"),
        (lambda: LevelHistogram(0, 1).add([0.5, 1.5]), "values was 1.5 at 1; this histogram"),
        (lambda: LevelHistogram(0, 1).merge(LevelHistogram(0, 2)), "other had range"),
        (lambda: LevelHistogram(0, 1).levels(1), "k was 1"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(14)
    X = rng.normal(size=(3000, 7)).astype(np.float32)
    X[:, 2] = 4.5
    X[:, 4] = rng.integers(0, 3, 3000)
    X[:, 5] = np.exp(2 * X[:, 5])
    return X, Normalization.fit(X, X[:, 0])


@pytest.mark.parametrize("method", lv.FIT_METHODS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_fit_levels_of_columns(samples, method, bits):
    X, normalization = samples
    k = 2 ** (bits - 1) + 1
    table = fit_levels(X, normalization, bits, method=method)
    assert (table.dtype, table.shape) == (np.int16, (8, k))
    assert (np.diff(table.astype(int), axis=1) >= 0).all()
    assert (table[2] == 0).all()
    assert (table[-1] == ONE).all()
    values = np.clip(normalization.transform(X), -1, 1)
    for column in (0, 1, 3, 4, 5, 6):
        # no level is spent beyond the column's values, and none of these lies outside
        low, high = values[:, column].min(), values[:, column].max()
        assert (table[column, 0], table[column, -1]) == (np.floor(low * ONE), np.ceil(high * ONE))
        best = rounding_variance(values[:, column], optimal_levels(values[:, column], k))
        found = rounding_variance(values[:, column], table[column] / ONE)
        # each end of an interval of width below 2 moves by half a step at most
        assert found <= best * (1 if method != "histogram" else 1.02) + 2.0 / ONE


def test_fit_levels_of_the_whole(samples):
    X, normalization = samples
    values = np.clip(normalization.transform(X)[:, [0, 1, 3, 4, 5, 6]], -1, 1).ravel()
    exact = fit_levels(X, normalization, 4, per_column=False, method="exact")
    assert exact.shape == (1, 9)
    assert np.array_equal(exact[0], np.rint(optimal_levels(values, 9) * ONE))
    pooled = fit_levels(X, normalization, 4, per_column=False)
    histogram = LevelHistogram(-1, 1)
    histogram.add(values)
    assert np.abs(pooled[0] - np.rint(histogram.levels(9) * ONE)).max() <= 1
    assert rounding_variance(values, pooled[0] / ONE) <= rounding_variance(
        values, exact[0] / ONE
    ) * (1 + 1e-3)


@pytest.mark.parametrize("per_column", [True, False])
@pytest.mark.parametrize("method", ["exact", "histogram"])
def test_threads_and_pieces_do_not_change_levels(samples, monkeypatch, per_column, method):
    X, normalization = samples
    expected = fit_levels(X, normalization, 5, per_column, method, threads=1)
    assert np.array_equal(fit_levels(X, normalization, 5, per_column, method, threads=3), expected)
    monkeypatch.setattr(lv, "_PIECE", 1 << 15)
    found = [fit_levels(X, normalization, 5, per_column, method, threads=t) for t in (1, 2, 5)]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    if per_column or method == "exact":
        assert np.array_equal(found[0], expected)


def test_fit_levels_clips_and_reads_memory_maps(samples, tmp_path):
    X, _ = samples
    narrow = Normalization.fit(X[:50], X[:50, 0], intercept=False)
    path = tmp_path / "x.npy"
    np.save(path, X)
    mapped = np.load(path, mmap_mode="r")
    table = fit_levels(mapped, narrow, 3)
    assert table.shape == (7, 5)
    assert np.array_equal(table, fit_levels(X.astype(np.float64), narrow, 3))
    assert np.array_equal(table, fit_levels(np.asfortranarray(X), narrow, 3))
    wide = Normalization(narrow.mid, narrow.half * 100, 0.0, 1.0)
    assert np.abs(fit_levels(X, wide, 3)[:-1].astype(int)).max() < ONE / 4


@pytest.mark.parametrize("method", lv.FIT_METHODS)
def test_fit_levels_of_columns_that_a_given_normalization_makes_one_value(method):
    X = np.random.default_rng(0).normal(size=(100, 2))
    normalization = Normalization.fit(X, X[:, 0])
    # beyond the range, so that all are clipped to its end, and all at the middle
    Y = np.tile(normalization.mid + [10, 0] * normalization.half, (50, 1))
    table = fit_levels(Y, normalization, 3, method=method)
    assert ONE in table[0]
    assert 0 in table[1]
    assert (np.ptp(table[:2], axis=1) <= 1).all()


def test_fit_levels_of_constant_data():
    X = np.ones((5, 2))
    normalization = Normalization.fit(X, np.arange(5.0))
    assert fit_levels(X, normalization, 2).tolist() == [[0] * 3, [0] * 3, [ONE] * 3]
    assert fit_levels(X, normalization, 2, per_column=False).tolist() == [[-ONE, 0, ONE]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((3, 2))}, "X had 2 column"),
        ({"X": np.full((3, 7), np.nan)}, "X was nan in row 0, column 0"),
        ({"normalization": None}, "normalization was NoneType"),
        ({"bits": 9}, "bits was 9"),
        ({"per_column": 1}, "per_column was 1"),
        ({"method": "greedy"}, "method was 'greedy'; allowed are 'auto'"),
        ({"threads": 0}, "threads was 0"),
    ],
)
def test_wrong_arguments_of_fit_levels(samples, change, message):
    arguments = {"X": samples[0], "normalization": samples[1], "bits": 3, **change}
    with pytest.raises(ArgumentError, match=message):
        fit_levels(**arguments)
