"""Normalization: ranges, there and back, values that leave the range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_matrix

from zipml_pynq.data import grid, rows
from zipml_pynq.data.normalization import Normalization, column_range
from zipml_pynq.errors import ArgumentError

matrices = st.sampled_from([np.float32, np.float64]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.floats(
            allow_nan=False, allow_infinity=False, width=32 if dtype == np.float32 else 64
        ),
    )
)


@given(matrices)
@settings(max_examples=120, deadline=None)
def test_fitted_data_fill_the_range_and_never_leave_it(X):
    n = Normalization.fit(X, np.zeros(len(X)))
    V = n.transform(X)
    assert V.dtype == np.float32
    assert V.shape == (X.shape[0], X.shape[1] + 1)
    assert (V[:, -1] == 1).all()
    values = V[:, :-1]
    assert np.abs(values).max() <= 1
    constant = X.min(axis=0) == X.max(axis=0)
    assert (values[:, constant] == 0).all()
    assert (np.abs(values[:, ~constant]).max(axis=0) == 1).all()
    assert n.out_of_range(X) == 0
    back = n.inverse(V)
    assert np.array_equal(back[:, constant], X[:, constant].astype(np.float64))
    # float32 values: half a unit in the last place of 1, and the rounding of mid and of the result
    slack = n.half * 2.0**-23 + np.abs(n.mid) * 2.0**-52 + 5e-324
    assert (np.abs(back - X) <= slack).all()


def test_ordinary_columns_have_the_plain_formula():
    X = np.array([[0, -3], [5, 5], [1, 1], [-2, 1]], dtype=np.float32)
    n = Normalization.fit(X, [10, 20, 11, 11], intercept=False)
    # columns on their mean, labels on the middle of their range
    assert n.mid.tolist() == [1, 1]
    assert n.half.tolist() == [4, 4]
    assert (n.label_mid, n.label_half) == (15, 5)
    assert n.transform(X).tolist() == [[-0.25, -1], [1, 1], [0, 0], [-0.75, 0]]
    assert n.transform_labels([10, 20, 15]).tolist() == [-1, 1, 0]
    assert n.inverse_labels([-1, 1, 0]).tolist() == [10, 20, 15]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-1.7e308, 1.7e308),
        (1.0e308, 1.7e308),
        (-np.finfo(np.float64).max, 1.03235139e298),
        (0.0, 5e-324),
        (1.0, 1.0 + 2.0**-52),
        (np.float64(np.finfo(np.float32).min), np.float64(np.finfo(np.float32).max)),
    ],
)
def test_extreme_ranges(low, high):
    X = np.array([[low], [high]])
    n = Normalization.fit(X, [low, high])
    values = n.transform(X)[:, 0]
    assert np.abs(values).max() == 1
    assert values[0] < values[1]
    labels = n.transform_labels([low, high])
    assert np.isfinite(labels).all()
    assert labels[0] < labels[1]
    back = n.inverse(n.transform(X))[:, 0]
    # where the mean had to be rounded, the nearer end is a float32 below 1
    np.testing.assert_allclose(back, [low, high], rtol=0, atol=n.half[0] * 2.0**-23)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.float16])
@pytest.mark.parametrize("columns", [1, 7, 8, 33])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("lay", [np.asarray, np.asfortranarray, lambda X: X[::2], csr_matrix])
def test_values_are_float32_of_the_formula_in_float64(dtype, columns, intercept, lay):
    rng = np.random.default_rng(columns)
    X = (rng.normal(size=(50, columns)) * 100).astype(dtype)
    if lay is csr_matrix and dtype == np.float16:
        pytest.skip("sparse matrices have no float16")
    n = Normalization.fit(X[:20], np.arange(20), intercept=intercept)
    found = n.transform(lay(X))
    rows = lay(X).toarray() if lay is csr_matrix else lay(X)
    expected = ((rows.astype(np.float64) - n.mid) / n.divisor).astype(np.float32)
    assert np.abs(expected).max() > 1  # nothing is clipped
    assert np.array_equal(found[:, :columns], expected)
    assert np.array_equal(found[:, columns:], np.ones((len(expected), int(intercept))))


def test_a_constant_column_stays_0_where_a_difference_overflows():
    X = np.array([[1.7e308, 1.0], [1.7e308, 2.0]])
    n = Normalization.fit(X, [0, 1], intercept=False)
    assert n.transform([[-1.7e308, 1e300]]).tolist() == [[0.0, np.inf]]


def test_constant_labels_come_back():
    n = Normalization.fit(np.eye(3), np.full(3, 7.25))
    assert n.transform_labels([7.25, 7.25, 9.0]).tolist() == [0, 0, 0]
    assert n.predict(np.eye(3), [1, 2, 3, 4]).tolist() == [7.25] * 3


@pytest.mark.parametrize("intercept", [True, False])
def test_raw_model_and_predict_agree_with_normalized_arithmetic(intercept):
    rng = np.random.default_rng(4)
    X = rng.normal(3, 5, (500, 6))
    X[:, 2] = 8.5
    y = rng.normal(-20, 3, 500)
    n = Normalization.fit(X, y, intercept)
    model = rng.normal(size=n.features)
    expected = n.label_mid + n.label_half * (n.transform(X).astype(np.float64) @ model)
    coefficients, constant = n.to_raw_model(model)
    np.testing.assert_allclose(n.predict(X, model), expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(X @ coefficients + constant, n.predict(X, model), rtol=1e-12)
    assert coefficients[2] == 0


def test_new_data_leave_the_range_and_are_counted():
    X = np.array([[0.0, 5.0], [2.0, 5.0]])
    n = Normalization.fit(X, [0, 1])
    new = np.array([[3.0, 5.0], [1.0, 6.0], [-1e300, 5.0]])
    assert n.out_of_range(new) == 3
    assert n.transform(new)[0].tolist() == [2, 0, 1]
    assert n.transform(new)[1].tolist() == [0, 0, 1]
    assert grid.positions([2.0, -2.0]).tolist() == [2**31, 0]


@given(
    matrices.map(lambda a: np.tile(a, (7, 1))),
    st.integers(1, 30),
    st.integers(1, 9),
    st.integers(1, 3),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_compiled_ranges_are_those_of_numpy(X, rows, columns, threads, gaps):
    X = np.resize(X, (rows, columns + 1))
    X = X[:, :-1] if gaps else np.ascontiguousarray(X[:, :-1])
    low, high = column_range("X", X, threads)
    assert low.dtype == high.dtype == np.float64
    assert np.array_equal(low, X.min(axis=0))
    assert np.array_equal(high, X.max(axis=0))
    assert not np.signbit(low[low == 0]).any()
    n = Normalization(X[0], np.abs(X[-1] / 2), 0, 1)
    with np.errstate(over="ignore"):
        outside = np.abs(X.astype(np.float64) - n.mid) > n.half
    assert n.out_of_range(X, threads=threads) == outside.sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("columns", [1, 3, 13, 64, 255, 256, 300])
def test_every_value_is_looked_at(columns, dtype):
    """Wherever it lies in the blocks of the compiled pass, and on its own side of zero."""
    rng = np.random.default_rng(columns)
    X = rng.normal(size=(2100 // columns + 40, columns)).astype(dtype)
    wide = np.zeros((len(X), columns + 3), dtype)
    for a in (X, wide[:, 1:-2]):
        a[:] = X
        for row in (0, 1, len(X) // 2, len(X) - 2, len(X) - 1):
            for column in {0, columns // 2, columns - 1}:
                for value in (np.nan, np.inf, -np.inf, 50, -50):
                    kept, a[row, column] = a[row, column], value
                    if np.isfinite(value):
                        low, high = column_range("X", a, 1)
                        assert (low[column] if value < 0 else high[column]) == value
                    else:
                        message = rf"X was {value} in row {row}, column {column}; every"
                        with pytest.raises(ArgumentError, match=message):
                            column_range("X", a, 1)
                    a[row, column] = kept


def test_many_rows_are_worked_on_in_parts():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(3 * rows._CHUNK_VALUES // 4, 5)).astype(np.float32)
    n = Normalization.fit(X, np.zeros(len(X)))
    np.testing.assert_allclose(n.mid, X.mean(axis=0, dtype=float), rtol=0, atol=2.0**-28)
    half = np.maximum(X.max(axis=0) - n.mid, n.mid - X.min(axis=0))
    assert np.array_equal(n.half, half)
    expected = ((X.astype(float) - n.mid) / half).astype(np.float32)
    assert np.array_equal(n.transform(X)[:, :-1], expected)
    X[-2, 3] = np.nan
    with pytest.raises(ArgumentError, match=rf"X was nan in row {len(X) - 2}, column 3;"):
        n.transform(X)


def test_integers_booleans_and_halves_are_converted():
    for dtype in (np.int8, np.uint64, np.bool_, np.float16, ">f4", ">f8", np.longdouble):
        X = np.array([[0, 1], [1, 0], [1, 1], [0, 0]]).astype(dtype)
        n = Normalization.fit(X, np.array([0, 1, 1, 0]).astype(dtype))
        assert n.transform(X)[:, 0].tolist() == [-1, 1, 1, -1]


def test_normalization_is_immutable_and_compares_by_value():
    n = Normalization.fit(np.eye(3), [0, 1, 2])
    assert n == Normalization(n.mid, n.half, n.label_mid, n.label_half)
    assert n != Normalization(n.mid, n.half * 2, n.label_mid, n.label_half)
    assert n != Normalization(n.mid, n.half, n.label_mid, n.label_half, intercept=False)
    assert n != 3
    with pytest.raises(ValueError, match="read-only"):
        n.mid[0] = 1


ONE = np.ones((2, 2))

FITTED = Normalization.fit(ONE, ONE[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Normalization.fit([[np.nan, 1]], [0]), "X was nan in row 0, column 0; every"),
        (
            lambda: Normalization.fit([[1, 2], [1, np.inf]], [0, 1]),
            "X was inf in row 1, col",
        ),
        (lambda: Normalization.fit(ONE, [0, -np.inf]), "y was -inf in row 1; every label"),
        (
            lambda: Normalization.fit(np.empty((0, 3)), []),
            r"X had shape \(0, 3\); it must",
        ),
        (
            lambda: Normalization.fit(np.empty((3, 0)), ONE[0]),
            r"X had shape \(3, 0\); it must",
        ),
        (lambda: Normalization.fit([1, 2], [1, 2]), r"X had shape \(2,\); it must have 2"),
        (lambda: Normalization.fit(ONE, ONE), r"y had shape \(2, 2\); it must have 1"),
        (lambda: Normalization.fit(ONE, [1, 2, 3]), r"y had 3 label\(s\), X 2 row\(s\)"),
        (lambda: Normalization.fit([["a", "b"]], [1]), "X had dtype <U1; it must be a dense"),
        (lambda: Normalization.fit(ONE * 1j, [1, 2]), "X had dtype complex128"),
        (lambda: Normalization.fit(ONE, [None, 1]), "y had dtype object"),
        (
            lambda: FITTED.transform(np.ones((2, 3))),
            r"X had 3 column\(s\)",
        ),
        (
            lambda: FITTED.predict(ONE, [1, 2]),
            "model had 2 entries; .* 3",
        ),
        (lambda: FITTED.to_raw_model([[1]]), r"model had shape \(1, 1\)"),
        (
            lambda: FITTED.inverse(ONE),
            r"V had 2 column\(s\); .* 3 features",
        ),
        (lambda: FITTED.transform_labels([np.nan]), "y was nan in row 0"),
        (lambda: Normalization([], [], 0, 1), r"mid had shape \(0,\)"),
        (lambda: Normalization([0], [1, 2], 0, 1), r"half had shape \(2,\), mid \(1,\)"),
        (lambda: Normalization([0], [-1], 0, 1), "must not be negative"),
        (lambda: Normalization([0], [1], np.nan, 1), "label_mid and label_half must be finite"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
