"""Penalties of the estimators: l1 and elastic net beside scikit-learn's, in normalized units."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, LogisticRegression

from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor


def sparse_problem(seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (3_000, 12))
    X -= X.mean(axis=0)
    truth = np.where(np.arange(12) < 4, [1.0, -0.8, 0.6, 0.9] * 3, 0.0)
    z = X @ truth
    return X, z - z.mean(), rng


@pytest.mark.parametrize(("penalty", "ratio"), [("l1", 1.0), ("elasticnet", 0.6)])
def test_regression_ends_at_the_elastic_net(penalty: str, ratio: float) -> None:
    X, z, rng = sparse_problem()
    y = z + 0.1 * rng.normal(size=len(z))
    alpha = 0.02
    model = ZipMLRegressor(
        bits=8,
        penalty=penalty,
        alpha=alpha,
        l1_ratio=0.6,
        average=False,
        learning_rate="inverse",
        fit_intercept=False,
        max_iter=60,
        tol=None,
        redraw=True,
        random_state=0,
    ).fit(X, y)
    # the same objective in the units of the normalization
    normalization = model.normalization_
    V = normalization.transform(X)
    t = normalization.transform_labels(y)
    exact = ElasticNet(alpha=alpha, l1_ratio=ratio, fit_intercept=False, tol=1e-10).fit(V, t)
    found = model.model_[0] / 2.0**24
    np.testing.assert_allclose(found, exact.coef_, atol=0.02)
    assert (exact.coef_ == 0).sum() >= 4
    assert (found == 0).sum() >= 2
    objective = ((V @ found - t) ** 2).mean() / 2 + alpha * (
        ratio * np.abs(found).sum() + (1 - ratio) / 2 * (found**2).sum()
    )
    assert model.loss_curve_[-1] == pytest.approx(objective, rel=1e-3)


def test_classification_with_l1_ends_near_liblinear() -> None:
    X, z, rng = sparse_problem(1)
    y = np.where(z + 0.3 * rng.normal(size=len(z)) > 0, 1, 0)
    alpha = 0.01
    model = ZipMLClassifier(
        "logistic", bits=8, penalty="l1", alpha=alpha, fit_intercept=False, random_state=0
    ).fit(X, y)
    V = model.normalization_.transform(X)
    exact = LogisticRegression(
        penalty="l1", C=1 / (alpha * len(V)), solver="liblinear", fit_intercept=False, tol=1e-8
    ).fit(V, y)

    def objective(x):
        margins = np.where(y > 0, 1, -1) * (V @ x)
        return np.logaddexp(0, -margins).mean() + alpha * np.abs(x).sum()

    assert objective(model.model_[0] / 2.0**24) < 1.01 * objective(exact.coef_[0])


def test_penalties_are_checked() -> None:
    X, z, _ = sparse_problem()
    for change, told in (
        ({"penalty": "l0"}, "penalty was 'l0'"),
        ({"penalty": "l1"}, "alpha was 'auto' with penalty 'l1'"),
        ({"penalty": "elasticnet", "alpha": 0.1, "l1_ratio": 1.5}, "l1_ratio was 1.5"),
        ({"penalty": "l1", "alpha": 0.1, "l1_ratio": -1.0}, "l1_ratio was -1"),
    ):
        with pytest.raises(ArgumentError, match=told):
            ZipMLRegressor(**change).fit(X, z)
