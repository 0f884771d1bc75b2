"""Counts: log2 k bits for k samples, and the orders that are drawn for them.

Statistical tests have fixed seeds, so a test passes always or never; ALARM is the chance that a
correct program meets a seed that fails.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.cases import ALARM, run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.data.counts import CountedDataset, count_bits, order_dithers, pack_counts
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training import reference
from zipml_pynq.training.make_plan import make_plan


def counted(bits: int = 3, samples: int = 15, count: int = 300, **options: Any) -> CountedDataset:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(count, 5)), np.where(rng.random(count) < 0.5, -1.0, 1.0)
    return pack_counts(X, y, bits=bits, samples=samples, **options)


def test_any_product_of_different_samples_is_unbiased() -> None:
    """Exactly: a count is binomial, and j given samples are all up with C(m, j) / C(k, j)."""
    for k, j in product((2, 3, 7, 15), (1, 2, 3, 7)):
        if j > k:
            continue
        for p in (Fraction(0), Fraction(1, 3), Fraction(5, 7), Fraction(1)):
            mean = sum(
                comb(k, m) * p**m * (1 - p) ** (k - m) * Fraction(comb(m, j), comb(k, j))
                for m in range(k + 1)
            )
            assert mean == p**j


@pytest.mark.parametrize("k", [3, 4])
def test_all_orders_of_a_count_are_equally_likely(k: int) -> None:
    rows = 20_000
    for m in range(k + 1):
        drawn = order_dithers(np.full((rows, 1), m, np.uint8), k, seed=5, order=1)[..., 0]
        assert (drawn.sum(axis=0) == m).all()
        codes, found = np.unique(drawn.T @ (1 << np.arange(k)), return_counts=True)
        assert len(codes) == comb(k, m)
        if len(codes) > 1:
            assert stats.chisquare(found).pvalue > ALARM


def test_orders_of_different_values_are_independent() -> None:
    """One sample of two neighbours in a row, in a column, and in two orders: four cells each."""
    same = np.full((40_000, 2), 2, np.uint8)
    first, again = (order_dithers(same, 4, seed=9, order=order) for order in (0, 1))
    one = first[1, :, 0]
    for other in (first[2, :, 1], np.roll(first[2, :, 0], 1), again[1, :, 0]):
        table = np.histogram2d(one, other, bins=2)[0]
        assert stats.chi2_contingency(table).pvalue > ALARM


@pytest.mark.parametrize("samples", [2, 7, 15, 16])
@pytest.mark.parametrize("bits", [1, 4])
def test_counts_are_those_of_the_independent_samples(bits: int, samples: int) -> None:
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(90, 70)), rng.normal(size=90)
    options: dict[str, Any] = {"bits": bits, "batch": 8, "seed": 3}
    found = pack_counts(X, y, samples=samples, **options)
    drawn = pack(X, y, sampling="independent", dithers=samples, **options)
    ordered = found.ordered(4)
    codes, same = (np.stack(p.unpack(), dtype=np.int64) for p in (drawn, ordered))
    np.testing.assert_array_equal(codes.sum(axis=0), same.sum(axis=0))
    assert (codes != same).any()
    assert found.bits_a_value == bits - 1 + count_bits(samples)
    assert found.planes.nbytes * ordered.layout.stored_planes == (
        ordered.planes.nbytes * found.bits_a_value
    )
    np.testing.assert_array_equal(found.ordered(0).planes, found.packed.planes)


def test_mean_of_products_over_draws_and_orders() -> None:
    """E[Q_1 Q_2 Q_3] of two features, one of them twice: what a polynomial's third term is."""
    rng = np.random.default_rng(2)
    values = rng.uniform(-1, 1, 4)
    X = np.tile(values, (60_000, 1))
    plain = Normalization(np.zeros(4), np.ones(4), 0.0, 1.0, False)
    found = pack_counts(X, np.zeros(len(X)), bits=2, samples=7, normalization=plain).packed
    V = plain.transform(X)[0]
    q = np.stack(found.unpack(), dtype=np.float64) - 1
    drawn = q[0, :, 0] * q[3, :, 1] * q[6, :, 0]
    error = drawn.std(ddof=1) / np.sqrt(drawn.size)
    expected = float(V[0]) ** 2 * float(V[1])
    assert abs(drawn.mean() - expected) < stats.norm.isf(ALARM / 2) * error
    # the same sample twice is not: the test has power
    biased = q[0, :, 0] ** 2 * q[3, :, 1]
    assert abs(biased.mean() - expected) > stats.norm.isf(ALARM / 2) * error


@pytest.mark.parametrize("build", ["engine", "kernel"])
def test_builds_train_on_ordered_samples_alike(build: str) -> None:
    packed = counted(bits=5, batch=16).packed
    plan = make_plan(
        packed, loss="logistic", approximation="chebyshev", degree=14, epochs=2, step=0.5
    )
    np.testing.assert_array_equal(
        run_build(load_build(build), packed, plan).model, reference.train(packed, plan).model_fixed
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"samples": 17}, "samples was 17"),
        ({"samples": 1}, "samples was 1"),
        ({"bits": 9}, "bits was 9"),
        ({"sampling": "double"}, "sampling was 'double'"),
        ({"levels": "optimal"}, "tables of levels"),
    ],
)
def test_what_cannot_be_counted_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        counted(**change)
    with pytest.raises(ArgumentError, match="order was -1"):
        counted().ordered(-1)
