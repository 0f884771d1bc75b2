"""Means of columns: exact sums of integers, whatever the order, the cuts and the threads."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from zipml_pynq.data import columns as columns_module
from zipml_pynq.data.columns import Columns
from zipml_pynq.data.normalization import Normalization, Ranges

LARGEST = np.finfo(np.float64).max
LEAST_EXPONENT = -990

#: Magnitudes over all binades, denormals and the largest float64 among them.
values = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1, 1).flatmap(
        lambda x: st.integers(-1080, 1023).map(lambda e: float(np.ldexp(x, e)))
    ),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e308, -1e308, LARGEST, -LARGEST, 2.0**29]),
)
columns = st.lists(values, min_size=1, max_size=24)


def exponent_of(column: list[float]) -> int:
    """E: the least multiple of 30, from -990 up, with all sizes below 2^(E+29)."""
    largest = max(Fraction(abs(x)) for x in column)
    e = LEAST_EXPONENT
    while largest >= Fraction(2) ** (e + 29):
        e += 30
    return e


def mean_of(column: list[float]) -> float:
    """The mean as the docstring of Columns defines it, with integers of any size."""
    e = exponent_of(column)
    whole = rest = 0
    for x in column:
        v = Fraction(x) / Fraction(2) ** e
        h = round(v)  # half to even
        whole, rest = whole + h, rest + round((v - h) * 2**30)
    mean = (float(whole) + float(rest) / 2.0**30) / len(column)
    try:
        scaled = math.ldexp(mean, e)
    except OverflowError:
        scaled = math.copysign(math.inf, mean)
    return min(max(scaled, min(column)), max(column)) + 0.0


@given(st.lists(columns, min_size=1, max_size=5), st.booleans(), st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_means_are_those_of_integers(parts, single, threads):
    rows = min(map(len, parts))
    X = np.array([part[:rows] for part in parts]).T
    if single:
        with np.errstate(over="ignore"):
            X = np.clip(X, -3e38, 3e38).astype(np.float32)
    found = Columns.of("X", X, threads)
    for column, mean in zip(X.T.astype(float).tolist(), found.means().tolist(), strict=True):
        assert mean == mean_of(column)
        # of the exact mean, half a unit and what float64 rounds
        exact = sum(map(Fraction, column)) / len(column)
        unit = Fraction(2) ** (exponent_of(column) - 30)
        assert abs(Fraction(mean) - exact) <= unit / 2 + abs(exact) / 2**51 + Fraction(5e-324)
    assert not np.signbit(found.means()[found.means() == 0]).any()


@given(columns, st.randoms(use_true_random=False), st.lists(st.integers(1, 23)), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_no_order_and_no_cut_changes_a_bit(column, random, cuts, threads):
    X = np.array([column, column[::-1], [column[0]] * len(column)]).T
    whole = Columns.of("X", X)
    order = list(range(len(X)))
    random.shuffle(order)
    parts = [part for part in np.split(X[order], sorted(set(cuts))) if len(part)]
    random.shuffle(parts)
    merged = Columns.of("X", parts[0], threads)
    for part in parts[1:]:
        merged.merge(Columns.of("X", part, threads))
    assert merged.rows == whole.rows == len(X)
    for name in ("low", "high"):
        assert np.array_equal(getattr(merged, name), getattr(whole, name))
    assert merged.means().tobytes() == whole.means().tobytes()
    assert whole.means()[2] == column[0]  # of a constant column, itself


def test_magnitudes_that_grow_over_many_binades(monkeypatch):
    """In one call and in many: later rows are so much larger that earlier ones count anew."""
    monkeypatch.setattr(columns_module, "_SUMMED_VALUES", 7)
    rng = np.random.default_rng(0)
    sizes = np.repeat(np.arange(-1070, 1020, 29), 3)
    X = np.ldexp(rng.uniform(-1, 1, (len(sizes), 2)), sizes[:, None])
    X[:, 1] = X[::-1, 0]
    one = Columns.of("X", X, 1).means()
    assert one[0] == one[1] == mean_of(X[:, 0].tolist())
    many = Columns.of("X", X[:1], 1)
    for row in X[1:]:
        many.merge(Columns.of("X", row[None], 1))
    assert many.means().tobytes() == one.tobytes()


@pytest.mark.parametrize("dtype", ["?", "i2", "u8", "f2", ">f4", "f4", "f8", np.longdouble])
@pytest.mark.parametrize("layout", ["C", "F", "gaps"])
def test_every_dtype_and_layout(dtype, layout):
    X = np.random.default_rng(1).integers(0, 2 if dtype == "?" else 300, (50, 4)).astype(dtype)
    a = np.asfortranarray(X) if layout == "F" else X
    if layout == "gaps":
        a = np.repeat(X, 2, axis=1)[:, ::2]
    expected = X.astype(float).sum(axis=0) / 50
    np.testing.assert_allclose(Columns.of("X", a, 2).means(), expected, rtol=0, atol=1e-6)
    assert (
        Columns.of("X", a, 2).means().tobytes()
        == Columns.of("X", X.astype(float)).means().tobytes()
    )


def test_columns_that_a_sparse_part_does_not_reach_are_0():
    rng = np.random.default_rng(2)
    X = np.where(rng.random((40, 9)) < 0.3, rng.normal(5, 1, (40, 9)), 0)
    X[:15, 6:] = 0
    y = np.arange(40.0)
    whole = Ranges()
    whole.update(X, y)
    for order in ((0, 1), (1, 0)):
        parts = [(csr_matrix(X[:15, :6]), y[:15]), (csr_matrix(X[15:]), y[15:])]
        ranges = Ranges(2)
        for i in order:
            ranges.update(*parts[i])
        assert ranges.normalization() == whole.normalization() == Normalization.fit(X, y)


def test_many_rows_of_one_large_value():
    """Sums near the largest integers that one call counts in float64."""
    value = 2.0**29 - 2.0**-24
    X = np.full((1 << 20, 1), value)
    assert Columns.of("X", X, 1).means()[0] == value
    X[::2] = -value
    assert Columns.of("X", X, 2).means()[0] == 0


def test_rows_of_weight_0_do_not_count_and_means_are_weighted():
    rng = np.random.default_rng(3)
    X, y = rng.lognormal(0, 1, (60, 4)), rng.normal(size=60)
    weights = rng.uniform(0.5, 2, 60)
    weights[::4] = 0
    counting = weights > 0
    n = Normalization.fit(X, y, sample_weight=weights)
    assert n == Normalization.fit(X[counting], y[counting], sample_weight=weights[counting])
    np.testing.assert_allclose(n.mid, np.average(X, axis=0, weights=weights), rtol=1e-12)
    X[::4], y[::4] = 1e300, -1e300
    assert n == Normalization.fit(X, y, sample_weight=weights)
    # a weight of 2 is the row twice
    twice = Normalization.fit(np.vstack([X[counting]] * 2), np.tile(y[counting], 2))
    same = Normalization.fit(X[counting], y[counting], sample_weight=np.full(45, 2.0))
    np.testing.assert_allclose(same.mid, twice.mid, rtol=2.0**-28)
