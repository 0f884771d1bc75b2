"""Estimators that refine: few bits, drawn once, end at the optimum of the values themselves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from zipml_pynq.data.datasets import synthetic_classification, synthetic_regression
from zipml_pynq.data.pack import pack
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor
from zipml_pynq.training.refinement import Refine

DATA = synthetic_regression(n_features=30, n_train=2000, n_test=1, seed=1)
ONCE = {"redraw": False, "random_state": 0}


def mean_square(model):
    return np.mean((model.predict(DATA.X_train) - DATA.y_train) ** 2)


def least_square():
    X = np.column_stack([DATA.X_train, np.ones(len(DATA.X_train))]).astype(float)
    return np.mean((X @ np.linalg.lstsq(X, DATA.y_train, rcond=None)[0] - DATA.y_train) ** 2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_data_drawn_once_are_refined_by_default(bits):
    least, constant = least_square(), np.var(DATA.y_train)
    plain = ZipMLRegressor(bits=bits, refine=False, **ONCE).fit(DATA.X_train, DATA.y_train)
    assert mean_square(plain) > least + {1: 0.02, 2: 2e-3, 4: 5e-5}[bits] * constant
    model = ZipMLRegressor(bits=bits, **ONCE).fit(DATA.X_train, DATA.y_train)
    # the tolerance is a share of the best constant model's
    assert mean_square(model) < least + 1e-4 * constant
    assert model.n_iter_ < 20
    assert len(model.loss_curve_) == model.n_iter_
    assert model.loss_curve_[-1] < plain.loss_curve_[-1]


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
def test_classes_are_refined_too(loss):
    data = synthetic_classification(n_features=20, n_train=2000, n_test=1, seed=1)
    fit = {"loss": loss, "alpha": 1e-3, "bits": 1, **ONCE}
    exact = ZipMLClassifier(**{**fit, "bits": 32}, tol=1e-5).fit(data.X_train, data.y_train)
    model = ZipMLClassifier(**fit).fit(data.X_train, data.y_train)
    # objectives are on the same rows, exact in both
    assert model.loss_curve_[-1] < exact.loss_curve_[-1] + 5e-4
    assert model.n_iter_ < 20


def test_bits_that_are_automatic_are_few_and_refined():
    few = ZipMLRegressor(bits="auto", random_state=0).fit(DATA.X_train, DATA.y_train)
    same = ZipMLRegressor(bits=2, **ONCE).fit(DATA.X_train, DATA.y_train)
    np.testing.assert_array_equal(few.model_, same.model_)
    # nothing to refine by
    usual = ZipMLRegressor(bits="auto", refine=False, random_state=0, max_iter=3, tol=None)
    four = ZipMLRegressor(bits=4, refine=False, random_state=0, max_iter=3, tol=None)
    usual.fit(DATA.X_train, DATA.y_train)
    four.fit(DATA.X_train, DATA.y_train)
    np.testing.assert_array_equal(usual.model_, four.model_)


def test_packed_samples_are_refined_by_the_bits_that_they_hold():
    packed = pack(DATA.X_train, DATA.y_train, bits=[2, 8])
    model = ZipMLRegressor(bits=2, **ONCE).fit(packed)
    least, constant = least_square(), np.var(DATA.y_train)
    assert mean_square(model) < least + 5e-4 * constant
    alone = pack(DATA.X_train, DATA.y_train, bits=2)
    with pytest.raises(ArgumentError, match="refine was True with loss 'least_squares'"):
        ZipMLRegressor(bits=2, refine=True, **ONCE).fit(alone)


def test_what_cannot_be_refined():
    data = synthetic_classification(n_features=5, n_train=100, n_test=1)
    with pytest.raises(ArgumentError, match="refine was True with loss 'hinge'"):
        ZipMLClassifier("hinge", refine=True).fit(data.X_train, data.y_train)
    with pytest.raises(ArgumentError, match="refine was 'often'"):
        ZipMLRegressor(refine="often").fit(DATA.X_train, DATA.y_train)


@pytest.mark.parametrize("loss", [None, "squared_hinge", "logistic"])
def test_a_refined_model_has_the_penalty_of_scikit_learn_on_standardized_columns(loss):
    # few rows of many columns, of spreads that the mean over the columns does not know
    rng = np.random.default_rng(3)
    X = rng.standard_t(3, (60, 25)) * np.logspace(-1, 1, 25)
    z = X @ (rng.normal(size=25) / X.std(axis=0)) + rng.normal(size=60)
    y = z if loss is None else np.where(z > 0, 1, -1)
    peers = {
        None: Ridge(),
        "squared_hinge": LinearSVC(intercept_scaling=100, tol=1e-8, max_iter=10**6),
        "logistic": LogisticRegression(tol=1e-8, max_iter=10_000),
    }
    exact = make_pipeline(StandardScaler(), peers[loss]).fit(X, y)
    options = {"bits": 8, "random_state": 0, "tol": 1e-7}
    ours = ZipMLRegressor(**options) if loss is None else ZipMLClassifier(loss, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours.fit(X, y)
    found, expected = (
        m.predict(X) if loss is None else m.decision_function(X) for m in (ours, exact)
    )
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_rounds_are_epochs():
    most = ZipMLRegressor(max_iter=5, tol=1e-9, random_state=0)
    with pytest.warns(ConvergenceWarning, match="max_iter=5"):
        most.fit(DATA.X_train, DATA.y_train)
    assert most.n_iter_ == 5


def test_what_uses_up_its_rounds_is_told(monkeypatch):
    monkeypatch.setattr(Refine, "rounds", 1)
    rng = np.random.default_rng(0)
    common = rng.normal(size=(600, 3))
    X = common @ rng.normal(size=(3, 12)) + 0.02 * rng.normal(size=(600, 12))
    y = X @ rng.normal(size=12)
    told = "after 2 epochs and rounds of refinement, the most .*; more bits or redraw=True help"
    with pytest.warns(ConvergenceWarning, match=told):
        ZipMLRegressor(tol=1e-6, **ONCE).fit(X, y)


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({}, "uniform"),
        ({"refine": True, "max_iter": 2}, "uniform"),
        ({"refine": False}, "optimal"),
        ({"redraw": True}, "optimal"),
        ({"max_iter": 2}, "optimal"),
        ({"penalty": "l1"}, "optimal"),
        ({"levels": "optimal"}, "optimal"),
    ],
)
def test_levels_of_least_variance_are_for_what_is_not_refined(options, levels):
    assert ZipMLRegressor(**options)._pack_options(1000, 12)["levels"] == levels
