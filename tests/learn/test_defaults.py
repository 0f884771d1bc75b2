"""What an estimator that nobody tuned comes to: exact solvers, hard columns, weights, devices."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zipml_pynq import pack
from zipml_pynq.data.datasets import synthetic_classification, synthetic_regression
from zipml_pynq.errors import ZipmlWarning
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor

REGRESSION = synthetic_regression(12, 600, 300)
TWO = synthetic_classification(12, 600, 300, flips=0.05)
X, Y = REGRESSION.X_train, REGRESSION.y_train
THREE = np.array(["low", "middle", "up"])[np.digitize(Y, np.quantile(Y, [0.33, 0.66]))]


def least_squares(X: np.ndarray, y: np.ndarray) -> float:
    """Mean squared error of the exact solution."""
    scaled = np.c_[(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(X))]
    return float(((scaled @ np.linalg.lstsq(scaled, y, rcond=None)[0] - y) ** 2).mean())


def offset_columns() -> tuple[np.ndarray, np.ndarray]:
    """Counts and rates of a machine: columns far from 0, skewed, dependent on each other."""
    rng = np.random.default_rng(0)
    load = rng.gamma(2.0, 1.0, (4000, 1))
    X = load * rng.uniform(0.2, 1, 12) + rng.gamma(1.0, 0.5, (4000, 12))
    X = 1000 + X * np.logspace(0, 3, 12)
    z = ((X - X.mean(axis=0)) / X.std(axis=0)) @ rng.normal(size=12)
    return X, 90 + 5 * z + rng.normal(0, 5, 4000)


def wide_spreads(samples: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Columns of deviations over three orders, the narrower ones with farther outliers."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(samples, 10)) * np.logspace(-3, 0, 10)
    X[rng.permutation(samples)[:10], np.arange(10)] = 4.0
    return X, (X / X.std(axis=0)) @ rng.normal(size=10) + 0.5 * rng.normal(size=samples)


@pytest.mark.parametrize("seed", range(3))
def test_a_mean_in_every_column_costs_nothing(seed):
    X, y = offset_columns()
    model = ZipMLRegressor(bits=4, random_state=seed).fit(X, y)
    # of R^2, what tol promises twice
    above = ((model.predict(X) - y) ** 2).mean() - least_squares(X, y)
    assert above < 2 * model.tol * y.var()
    assert model.saturated_ == 0


def test_columns_of_spreads_over_three_orders_of_magnitude():
    X, y = wide_spreads()
    options = {"bits": 8, "random_state": 0, "refine": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ZipMLRegressor(**options).fit(X, y)
        without = ZipMLRegressor(**options, feature_steps=False, max_iter=model.n_iter_).fit(X, y)
    assert model.loss_curve_[-1] < without.loss_curve_[-1]
    spreads = X.std(axis=0) / model.normalization_.half
    assert spreads.max() > 10 * spreads.min()
    assert model.score(X, y) > 1 - 1.1 * least_squares(X, y) / y.var()


def ill_conditioned(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """What tells the classes apart is small against what all columns share."""
    rng = np.random.default_rng(2)
    shared = rng.normal(size=(samples, 1))
    own = rng.normal(size=(samples, 15))
    X = 3 + shared + 0.25 * own
    return X, np.where(own @ np.linspace(-1, 1, 15) + 0.5 * rng.normal(size=samples) > 0, 1, -1)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_training_does_not_stall(loss):
    X, y = ill_conditioned(6000)
    train, test = slice(0, 3000), slice(3000, None)
    exact = LogisticRegression(C=1e6, max_iter=2000).fit(X[train], y[train])
    model = ZipMLClassifier(loss, random_state=0).fit(X[train], y[train])
    assert model.score(X[test], y[test]) > exact.score(X[test], y[test]) - 0.01


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("ratio", [5, 20])
@pytest.mark.parametrize("loss", ["logistic", "hinge", "squared_hinge"])
def test_class_weights_of_a_separable_set(ratio, loss):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(2000, 8))
    w = rng.normal(size=8)
    z = X @ w / np.linalg.norm(w)
    # what lies closer to the plane, in levels of 4 bits, is not separable for them
    X, z = X[np.abs(z) > 0.3], z[np.abs(z) > 0.3]
    y = np.where(z > 0, 1, 0)
    weights = {1: float(ratio), 0: 1.0}
    peer = LogisticRegression(class_weight=weights).fit(X, y)
    with warnings.catch_warnings():
        # the best model of a separable set has no end; entries are held up to 128
        warnings.simplefilter("ignore", ZipmlWarning)
        model = ZipMLClassifier(loss, class_weight=weights, random_state=0, max_iter=200)
        model.fit(X, y)
    assert model.score(X, y) > peer.score(X, y) - 0.02


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"levels": "optimal"}])
def test_rows_of_weight_0_are_not_there(options):
    rng = np.random.default_rng(4)
    weights = rng.uniform(0.2, 3, len(X))
    weights[::7] = 0
    kept = weights > 0
    outlying, labels = X.copy(), Y.copy()
    outlying[::14], labels[7::14] = 1e6, -1e6
    options = {"random_state": 0, "max_iter": 12, "tol": None, **options}
    without = ZipMLRegressor(**options).fit(X[kept], Y[kept], weights[kept])
    model = ZipMLRegressor(**options).fit(outlying, labels, weights)
    assert np.array_equal(model.model_, without.model_)
    assert np.array_equal(model.coef_, without.coef_)
    assert np.array_equal(model.loss_curve_, without.loss_curve_)
    assert model.normalization_ == without.normalization_
    one = ZipMLClassifier(**options).fit(X[kept], THREE[kept], weights[kept])
    other = ZipMLClassifier(**options).fit(outlying, THREE, weights)
    assert np.array_equal(one.model_, other.model_)


# ---- Devices -----------------------------------------------------------------------------------

EVERYWHERE = [
    {},
    {"bits": 1},
    {"bits": 8, "sampling": "plain"},
    {"bits": 32},
    {"levels": "optimal"},
    {"levels": "global", "sampling": "nearest"},
    {"model_bits": 8, "gradient_bits": 8},
    {"alpha": 0.01, "fit_intercept": False},
    {"early_stopping": True, "tol": 1e-3},
    {"early_stopping": True, "bits": [2, 2, 2, 2, 2, 4], "average": False},
    {"bits": [1, 1, 2, 8]},
    {"shuffle": False, "redraw": False},
    {"shuffle": "epochs", "redraw": False, "learning_rate": "decay"},
    {"feature_steps": False, "learning_rate": "inverse", "redraw": True},
    {"batch_size": 5, "eta0": 0.02, "n_iter_no_change": 2, "tol": 0.01},
]


def assert_same_fit(host, emulated) -> None:
    for name in ("model_", "coef_", "intercept_", "loss_curve_"):
        assert np.array_equal(getattr(host, name), getattr(emulated, name)), name
    assert hasattr(host, "validation_curve_") == hasattr(emulated, "validation_curve_")
    for name in ("n_iter_", "t_", "bytes_streamed_", "refetched_", "saturated_"):
        assert getattr(host, name) == getattr(emulated, name), name


def on_both(kind, options, *data):
    """Fitted on both devices, and again from there."""
    fits = []
    for device in ("host", "emulated"):
        options = {"random_state": 0, "max_iter": 10, "tol": None, **options, "device": device}
        model = kind(**options, warm_start=True).fit(*data)
        fits.append((model.model_.copy(), model.loss_curve_))
        fits.append(model.set_params(max_iter=5, early_stopping=False).fit(*data))
    (model, curve), again, (other, other_curve), other_again = fits
    assert np.array_equal(model, other)
    assert np.array_equal(curve, other_curve)
    assert_same_fit(again, other_again)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", EVERYWHERE, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_host_and_emulated_device_give_the_same_bits(options, weighted):
    weights = np.random.default_rng(0).uniform(0, 2, len(X)) if weighted else None
    on_both(ZipMLRegressor, options, X, Y, weights)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {"loss": "hinge", "refetch": True},
        {"loss": "hinge", "bits": [2, 4], "class_weight": "balanced"},
        {"loss": "squared_hinge", "early_stopping": True},
        {"loss": "logistic"},
        {"loss": "logistic", "approximation": "chebyshev"},
        {"loss": "least_squares", "bits": 32},
    ],
    ids=str,
)
def test_host_and_emulated_device_classify_alike(options):
    on_both(ZipMLClassifier, options, X, THREE)
    on_both(ZipMLClassifier, options, TWO.X_train, TWO.y_train)


@pytest.mark.filterwarnings("ignore")
def test_host_and_emulated_device_train_packed_data_alike():
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    for options in ({}, {"bits": 2}, {"early_stopping": True}, {"shuffle": "epochs"}):
        packed = pack(X, Y, bits=(2, 4), block_samples=32, sample_weight=weights)
        on_both(ZipMLRegressor, options, packed)


@pytest.mark.filterwarnings("ignore")
def test_host_and_emulated_device_learn_streams_alike():
    fits = []
    for device in ("host", "emulated"):
        model = ZipMLClassifier("logistic", random_state=0, device=device)
        for part in np.array_split(np.arange(len(X)), 7):
            model.partial_fit(X[part], THREE[part], classes=np.unique(THREE))
        fits.append(model)
    assert_same_fit(*fits)


def test_default_penalty_is_that_of_ridge_on_standardized_columns():
    rng = np.random.default_rng(3)
    X = rng.uniform(-1, 1, (60, 40))  # as many columns as tell without a penalty what noise is
    y = X[:, 0] + rng.normal(size=60)
    model = ZipMLRegressor(bits=8, tol=None, random_state=0).fit(X, y)
    values = model.normalization_.transform(X).astype(np.float64)
    of_columns = (values[:, :40] ** 2).mean(axis=0)
    assert np.isclose(model.alpha_ * 60, 1 / (1 / of_columns).mean(), rtol=1e-6)
    exact = {
        alpha: make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(X, y).predict(X)
        for alpha in (1.0, 4.0)
    }
    apart = {alpha: np.abs(model.predict(X) - found).mean() for alpha, found in exact.items()}
    assert apart[1.0] < apart[4.0] / 2
    assert ZipMLRegressor(alpha=0.0, max_iter=2, tol=None).fit(X, y).alpha_ == 0


def test_default_penalty_of_a_stream_falls_as_samples_come():
    rng = np.random.default_rng(4)
    X = rng.uniform(-1, 1, (400, 3))
    model = ZipMLRegressor(random_state=0)
    for rows in range(100, 401, 100):
        now = slice(rows - 100, rows)
        model.partial_fit(X[now], X[now, 0])
        values = model.normalization_.transform(X[:rows]).astype(np.float64)
        of_columns = (values[:, :3] ** 2).mean(axis=0)
        assert np.isclose(model.alpha_ * rows, 1 / (1 / of_columns).mean(), rtol=0.01)
    # columns of zeros, and drawn values, count as they are
    packed = pack(np.c_[X, np.zeros(400)], X[:, 0], bits=2)
    assert np.isclose(ZipMLRegressor(bits=2, max_iter=1).fit(packed).alpha_ * 400, 1 / 3, rtol=0.1)
