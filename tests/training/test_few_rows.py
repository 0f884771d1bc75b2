"""Few rows at full precision as a solver: right, repeatable, and possible whatever the rows are."""

from __future__ import annotations

import numpy as np
import pytest

from zipml_pynq._engine import lib
from zipml_pynq.data.rows import pointer
from zipml_pynq.training.few_rows import FewRows, few_rows

RNG = np.random.default_rng(0)


def residual(values, l2, ridge, gradient, change):
    """Of the equation that a change is to solve, over the gradient's size."""
    exact = values.astype(float)
    moment = exact.T @ exact / len(values) + np.diag(np.broadcast_to(l2, len(gradient)))
    moment += ridge * moment.diagonal().mean() * np.eye(len(gradient))
    return np.abs(moment @ change + gradient).max() / np.abs(gradient).max()


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 64, 131, 300])
def test_the_factor_solves(size):
    rows = RNG.normal(size=(size + 3, size))
    matrix = rows.T @ rows + 0.1 * np.eye(size)
    factor, right = matrix.copy(), RNG.normal(size=size)
    factor[np.tril_indices(size, -1)] = np.nan  # is not read
    assert lib.zipml_cholesky_factor(pointer("double *", factor), size) == 0
    np.testing.assert_allclose(np.triu(factor), np.linalg.cholesky(matrix).T, atol=1e-10)
    found = right.copy()
    lib.zipml_cholesky_solve(pointer("double *", factor), size, pointer("double *", found))
    np.testing.assert_allclose(matrix @ found, right, atol=1e-9)


def test_what_is_not_positive_definite_is_told():
    for matrix in (np.zeros((2, 2)), np.array([[1.0, 2.0], [2.0, 1.0]]), np.full((1, 1), np.nan)):
        assert lib.zipml_cholesky_factor(pointer("double *", matrix), len(matrix)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (9, 3), (60, 30), (400, 131), (300, 260)])
@pytest.mark.parametrize("l2", [0.0, "each"])
def test_changes_solve_with_the_rows_second_moment(shape, l2):
    values = RNG.uniform(-1, 1, shape).astype(np.float32)
    l2 = np.linspace(0, 0.1, shape[1]) if l2 == "each" else l2
    gradient = RNG.normal(size=shape[1])
    change = FewRows(values, l2)(gradient)
    # the moment is that of float32 sums
    assert residual(values, l2, 1e-4, gradient, change) < 1e-3
    np.testing.assert_array_equal(change, FewRows(values.copy(), l2)(gradient))


@pytest.mark.parametrize("rows", [np.zeros((5, 4)), np.ones((40, 1)) * np.ones(900)])
def test_rows_without_curvature_still_solve(rows):
    gradient = RNG.normal(size=rows.shape[1])
    change = FewRows(rows.astype(np.float32), 0.0)(gradient)
    assert np.isfinite(change).all()
    assert gradient @ change < 0


def test_the_same_rows_every_time():
    found = few_rows(1000, 28)
    assert found.shape == (28,)
    assert (np.diff(found) > 0).all()
    assert found.min() >= 0
    assert found.max() < 1000
    np.testing.assert_array_equal(found, few_rows(1000, 28))
    np.testing.assert_array_equal(few_rows(20, 28), np.arange(20))
