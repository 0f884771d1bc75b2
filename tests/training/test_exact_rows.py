"""Sums over raw rows at full precision: right to float32, and the same bits whatever goes along."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import sparse

from zipml_pynq.data.normalization import Normalization
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training import exact_rows
from zipml_pynq.training.exact_rows import ExactRows, row_products, row_sums

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (64, 8), (131, 77), (200, 785)])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_products_and_sums_are_those_of_float32(shape, count):
    values = RNG.uniform(-1, 1, shape).astype(np.float32)
    vectors, factors = RNG.normal(size=(count, shape[1])), RNG.normal(size=(count, shape[0]))
    products, sums = row_products(values, vectors), row_sums(values, factors)
    # a sum of n terms below 1 in lanes: far below n roundings of its largest partial sum
    for found, exact, terms in (
        (products, vectors @ values.astype(float).T, np.abs(vectors).sum(axis=1)),
        (sums, factors @ values.astype(float), np.abs(factors).sum(axis=1)),
    ):
        assert found.shape == exact.shape
        assert (np.abs(found - exact) <= 1e-5 * terms[:, None]).all()
    for k in range(count):
        assert np.array_equal(row_products(values, vectors[k : k + 1])[0], products[k])
        assert np.array_equal(row_sums(values, factors[k : k + 1])[0], sums[k])


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, np.asfortranarray])
def test_passes_over_raw_rows(kept, ordered, make, monkeypatch):
    X = RNG.normal(size=(90, 6)) * (RNG.uniform(size=(90, 6)) < 0.5)
    normalization = Normalization.fit(X, RNG.normal(size=90))
    # blocks of 16 rows, of which the last one has fewer
    monkeypatch.setattr(exact_rows, "_AT_A_TIME", 16 * normalization.features)
    monkeypatch.setattr(exact_rows, "_KEPT_SHARE", 0.25 if kept else 0.0)
    order = RNG.permutation(90) if ordered else None
    rows = ExactRows(make(X), normalization, 90, order)
    values = normalization.transform(X)[slice(None) if order is None else order].astype(float)
    index = np.array([88, 3, 3])
    np.testing.assert_array_equal(rows.some(index), values[index])
    models, factors = RNG.normal(size=(2, values.shape[1])), RNG.normal(size=(2, 90))
    labels, weights = RNG.normal(size=(2, 90)), RNG.uniform(size=(2, 90))
    assert rows.nbytes == 4 * values.size
    np.testing.assert_allclose(rows.dots(models), models @ values.T, atol=1e-5)
    np.testing.assert_allclose(rows.sums(factors), factors @ values / 90, atol=1e-5)
    for y, w in ((labels, weights), (None, None)):
        residual = models @ values.T - (0 if y is None else y)
        weighted = residual if w is None else w * residual
        sums, losses = rows.moment(models, y, w)
        np.testing.assert_allclose(sums, weighted @ values / 90, atol=1e-5)
        np.testing.assert_allclose(losses, (weighted * residual).sum(axis=1) / 180, rtol=1e-5)


def test_other_rows_are_refused():
    X = RNG.normal(size=(9, 2))
    with pytest.raises(ArgumentError, match=r"refine had 9 row\(s\); this data set has 8"):
        ExactRows(X, Normalization.fit(X, X[:, 0]), 8)


@pytest.mark.parametrize("kept", [True, False])
def test_threads_change_no_bit(kept, monkeypatch):
    X = RNG.normal(size=(500, 6)).astype(np.float32)
    normalization = Normalization.fit(X, X[:, 0])
    # 32 blocks, more than are added up at a time
    monkeypatch.setattr(exact_rows, "_AT_A_TIME", 16 * normalization.features)
    monkeypatch.setattr(exact_rows, "_KEPT_SHARE", 0.25 if kept else 0.0)
    models, factors = RNG.normal(size=(3, 7)), RNG.normal(size=(3, 500))

    def found(each):
        rows = ExactRows(X, normalization, 500)
        sums, losses = rows.moment(models, factors, np.abs(factors), each)
        return rows.dots(models, each), rows.sums(factors, each), sums, losses

    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(found(map), found(pool.map), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rows", [1, 2, 70])
def test_factors_and_products_lie_anyhow(rows):
    """Columns of other arrays, of one number too, whose strides NumPy leaves as they come."""
    values = RNG.normal(size=(rows, 5)).astype(np.float32)
    factors = RNG.normal(size=(rows, 3)).astype(np.float32)
    expected = row_sums(values, np.array(factors.T, order="C"))
    np.testing.assert_array_equal(row_sums(values, factors.T), expected)
    wide = np.zeros((3, rows + 4), np.float32)
    wide[:, 2 : 2 + rows] = factors.T
    np.testing.assert_array_equal(row_sums(values, wide[:, 2 : 2 + rows]), expected)
    vectors = RNG.normal(size=(3, 5))
    room = np.full((3, rows + 4), 7, np.float32)
    row_products(values, vectors, room[:, 2 : 2 + rows])
    np.testing.assert_array_equal(room[:, 2 : 2 + rows], row_products(values, vectors))
    assert (np.delete(room, range(2, 2 + rows), axis=1) == 7).all()
