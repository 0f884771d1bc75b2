"""partial_fit: rows that come in any parts, ranges that grow, and models that are carried over."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler

from zipml_pynq import pack
from zipml_pynq.data.datasets import synthetic_classification, synthetic_regression
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor
from zipml_pynq.learn.stream import Stream

REGRESSION = synthetic_regression(12, 600, 300)
TWO = synthetic_classification(12, 1500, 600, flips=0.05)
SCALE, SHIFT = np.logspace(-2, 2, 12), np.linspace(-50, 50, 12)


def of_many_sizes(X: np.ndarray) -> np.ndarray:
    return np.asarray(X.astype(float) * SCALE + SHIFT * SCALE)


def streamed(model, X, y, size, **options):
    for start in range(0, len(X), size):
        model.partial_fit(X[start : start + size], y[start : start + size], **options)
    return model


def test_one_row_a_call_learns_from_the_first_on():
    X, y = of_many_sizes(TWO.X_train)[:300], TWO.y_train[:300]
    X_test = of_many_sizes(TWO.X_test)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = streamed(
            ZipMLClassifier("logistic", random_state=0), X, y, 1, classes=np.unique(TWO.y_train)
        )
    assert len(told) <= 1, [str(w.message) for w in told]
    assert (model.t_, model.n_iter_) == (300, 1)
    scaler = StandardScaler().fit(X)
    peer = SGDClassifier("log_loss", alpha=1e-4, random_state=0)
    streamed(peer, scaler.transform(X), y, 1, classes=np.unique(y))
    score = peer.score(scaler.transform(X_test), TWO.y_test)
    assert model.score(X_test, TWO.y_test) > score - 0.02


@pytest.mark.parametrize("size", [16, 64, 300])
def test_parts_of_any_size_learn(size):
    X = of_many_sizes(TWO.X_train)
    model = streamed(
        ZipMLClassifier("logistic", random_state=0), X, TWO.y_train, size, classes=(-1, 1)
    )
    assert model.score(of_many_sizes(TWO.X_test), TWO.y_test) > 0.9


def test_columns_that_vary_late_and_labels_that_grow():
    X, y = REGRESSION.X_train.astype(float), REGRESSION.y_train.astype(float)
    late = X.copy()
    late[:200, :6] = 3.0  # constant, and as if they were not there
    weights = np.linalg.lstsq(np.c_[X, np.ones(600)], y, rcond=None)[0]
    labels = late @ weights[:-1] + weights[-1]
    model = ZipMLRegressor(random_state=0)
    for _ in range(6):
        streamed(model, late, labels, 50)
    assert model.score(late[200:], labels[200:]) > 0.9
    assert np.abs(late - model.normalization_.mid <= model.normalization_.half).all()


def test_classes_in_turn():
    X, y = of_many_sizes(TWO.X_train), TWO.y_train
    order = np.argsort(y[:512].reshape(-1, 32), axis=1, kind="stable")
    order = (order + 32 * np.arange(16)[:, None]).ravel()
    model = streamed(
        ZipMLClassifier("logistic", random_state=0), X[order], y[order], 8, classes=(-1, 1)
    )
    assert model.score(of_many_sizes(TWO.X_test), TWO.y_test) > 0.85


def test_what_was_learnt_of_a_packed_fit_goes_on():
    X, y = REGRESSION.X_train, REGRESSION.y_train
    model = ZipMLRegressor(random_state=0, max_iter=20, tol=None).fit(X, y)
    before, mid = model.score(X, y), model.normalization_.mid
    model.partial_fit(2 * X[:100], y[:100] * 2)  # twice as wide
    assert model.score(X, y) > before - 0.3  # one pass over few rows, at a constant step
    assert np.array_equal(model.normalization_.mid, mid)
    with pytest.raises(ArgumentError, match="X was packed; partial_fit takes raw samples"):
        model.partial_fit(pack(X, y))


def test_rows_of_weight_0_do_not_widen_ranges():
    X, y = REGRESSION.X_train.astype(float), REGRESSION.y_train.astype(float)
    weights = np.ones(len(X))
    weights[::5] = 0
    wild, labels = X.copy(), y.copy()
    wild[::5], labels[::5] = 1e6, -1e6
    kept = weights > 0
    model = ZipMLRegressor(random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows that do not count, some are clipped
        for _ in range(5):
            model.partial_fit(wild, labels, weights)
    fitted = Normalization.fit(X[kept], y[kept])
    assert (model.normalization_.half <= 1.3 * fitted.half).all()
    assert model.score(X[kept], y[kept]) > 0.8
    with pytest.raises(ValueError, match="[Ss]ample.weight"):
        ZipMLRegressor().partial_fit(X[:5], y[:5], np.zeros(5))


def test_a_stream_that_was_pickled_goes_on():
    X, y = REGRESSION.X_train, REGRESSION.y_train
    whole = streamed(ZipMLRegressor(random_state=0), X, y, 50)
    half = streamed(ZipMLRegressor(random_state=0), X[:300], y[:300], 50)
    half = streamed(pickle.loads(pickle.dumps(half)), X[300:], y[300:], 50)
    assert np.array_equal(half.model_, whole.model_)
    # and a fit begins anew
    one = ZipMLRegressor(random_state=0, max_iter=3, tol=None)
    assert np.array_equal(
        whole.set_params(**one.get_params()).fit(X, y).model_, one.fit(X, y).model_
    )


finite = st.floats(-1e6, 1e6)


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(*(st.lists(finite, min_size=n, max_size=n) for _ in range(7)))
    ),
    st.tuples(finite, st.floats(1e-3, 1e6), finite, st.floats(1e-3, 1e6)),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_model_that_is_carried_over_predicts_the_same(columns, labels, intercept):
    mid, half, to_mid, to_half, slopes, *rows = map(np.array, columns)
    half = np.where(np.abs(half) < 1, 0.0, np.abs(half))  # some columns are constant
    to_half = half + np.where(np.abs(to_half) < 1, 0.0, np.abs(to_half))  # nor narrower ranges
    to_mid = to_mid if intercept else mid
    one = Normalization(mid, half, *labels[:2], intercept=intercept)
    # without an intercept the labels' middle stays, too
    to_label = labels[2] if intercept else labels[0]
    other = Normalization(to_mid, to_half, to_label, labels[3], intercept=intercept)
    model = np.append(slopes, 0.5) / 1e6 if intercept else slopes / 1e6
    carried = one.carried_over(model, other)
    X = np.array(rows)
    expected, found = one.predict(X, model), other.predict(X, carried)
    distances = np.abs(X) + np.abs(mid) + np.abs(to_mid)
    terms = labels[1] * np.abs(model[: len(mid)]) / one.divisor * distances
    size = terms.sum(axis=1) + sum(map(abs, labels))
    assert (np.abs(found - expected) <= 1e-13 * size).all()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_a_stream_knows_its_rows(sizes, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(3, 1, (sum(sizes), 4)) * np.logspace(-3, 3, 4)
    X[:, 2] = 7.0
    y = rng.normal(size=len(X))
    stream, now = Stream(), None
    start = 0
    for size in sizes:
        stream.take(X[start : start + size], y[start : start + size])
        start += size
        now = stream.normalization(now, True, False)
        # every row so far is within, and seldom by much too far
        assert (np.abs(X[:start] - now.mid) <= now.half).all()
        assert (np.abs(y[:start] - now.label_mid) <= now.label_half).all()
        assert now.half[2] == 0
    assert stream.rows == len(X)
    values = now.transform(X).astype(float)
    np.testing.assert_allclose(
        stream.squared_size(now), (values**2).mean(axis=0), rtol=1e-5, atol=1e-12
    )
