"""Several classes of the logistic loss: where refined, they end at the multinomial optimum."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zipml_pynq import pack
from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data.datasets import synthetic_classification
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn import classifier
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.multinomial import Multinomial
from zipml_pynq.learn.objective import Rows


def collinear():
    """Eight classes of which groups are alike, in columns that others nearly tell."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(8, 6))
    centres[4:] = centres[:4] + 0.5 * rng.normal(size=(4, 6))
    y = rng.choice(8, 600, p=np.arange(1, 9) / 36)
    X = centres[y] + rng.normal(size=(600, 6))
    X = np.column_stack([X, X[:, :3] + 0.05 * rng.normal(size=(600, 3))])
    return X * np.logspace(-2, 2, 9) + 10, np.array(list("abcdefgh"))[y]


TABLES = {
    "iris": load_iris(return_X_y=True),
    "wine": load_wine(return_X_y=True),
    "digits": tuple(a[:600] for a in load_digits(return_X_y=True)),
    "collinear": collinear(),
}
X, Y = TABLES["collinear"]


def peer(X, y, **fit):
    exact = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=10**5))
    return exact.fit(X, y, **{f"logisticregression__{name}": value for name, value in fit.items()})


def objective(X, y, coef, intercept, weights=None):
    """Of models in raw units, as LogisticRegression(C=1) has it on standardized columns."""
    scale = X.std(axis=0)
    log = log_softmax(X @ coef.T + intercept, axis=1)
    losses = -log[np.arange(len(y)), np.searchsorted(np.unique(y), y)]
    return np.average(losses, weights=weights) + ((coef * scale) ** 2).sum() / 2 / len(y)


def least(X, y):
    exact = peer(X, y)
    scale = np.where(exact[0].scale_ > 0, exact[0].scale_, 1)
    coef = exact[1].coef_ / scale
    return objective(X, y, coef, exact[1].intercept_ - coef @ exact[0].mean_)


def entropy(y):
    shares = np.unique(y, return_counts=True)[1] / len(y)
    return -(shares * np.log(shares)).sum()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", list(TABLES))
def test_it_ends_at_the_optimum_of_logistic_regression(name, bits):
    samples, y = TABLES[name]
    optimum = least(samples, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        usual = ZipMLClassifier("logistic", bits=bits, random_state=0).fit(samples, y)
    assert usual.multinomial_
    above = objective(samples, y, usual.coef_, usual.intercept_) - optimum
    # tol is a share of the objective of the best constant model, and what is left an estimate
    assert -1e-9 < above < 4e-3 * entropy(y)
    fine = ZipMLClassifier("logistic", bits=bits, tol=1e-6, random_state=0).fit(samples, y)
    above = objective(samples, y, fine.coef_, fine.intercept_) - optimum
    assert above < 1e-3 * optimum
    assert above < 1e-4 * entropy(y)


@pytest.mark.parametrize("name", ["iris", "wine", "collinear"])
def test_coefficients_and_probabilities_are_those_of_logistic_regression(name):
    samples, y = TABLES[name]
    exact = peer(samples, y)
    model = ZipMLClassifier("logistic", tol=1e-9, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(samples, y)
    p = model.predict_proba(samples)
    np.testing.assert_allclose(p, softmax(model.decision_function(samples), axis=1), rtol=1e-12)
    np.testing.assert_allclose(p, exact.predict_proba(samples), atol=2e-3)
    coef = exact[1].coef_ / exact[0].scale_
    scaled = (model.coef_ - coef) * exact[0].scale_
    assert np.abs(scaled).max() < 5e-3 * np.abs(exact[1].coef_).max()
    # what all models have alike is none
    np.testing.assert_allclose(model.model_.sum(axis=0), 0, atol=len(model.classes_))


def test_the_curve_is_that_of_the_objective():
    model = ZipMLClassifier("logistic", random_state=0).fit(X, Y)
    assert len(model.loss_curve_) == model.n_iter_
    # rounds follow epochs one against the rest, which are another objective's
    assert (np.diff(model.loss_curve_[3:]) < 1e-9).all()
    own = objective(X, Y, model.coef_, model.intercept_)
    # the penalty's second moments are those of columns around their means in float32
    assert np.isclose(model.loss_curve_[-1], own, rtol=1e-3)


def test_weights_of_samples_and_classes():
    weights = np.random.default_rng(0).uniform(0.2, 3, len(Y))
    options = {"random_state": 0, "tol": 1e-7}

    def held(model, own):
        own = own / own.mean()
        exact = peer(X, Y, sample_weight=own)
        # the scaler has no weights, and the normalization has: means do not tell, scales hardly
        difference = model.predict_proba(X) - exact.predict_proba(X)
        assert np.abs(difference).max() < 0.02

    held(ZipMLClassifier("logistic", **options).fit(X, Y, weights), weights)
    counts = np.unique(Y, return_inverse=True, return_counts=True)[1:]
    balanced = (len(Y) / (8 * counts[1]))[counts[0]]
    held(ZipMLClassifier("logistic", class_weight="balanced", **options).fit(X, Y), balanced)
    factors = dict(zip(np.unique(Y), np.linspace(0.5, 2, 8), strict=True))
    own = weights * np.linspace(0.5, 2, 8)[counts[0]]
    model = ZipMLClassifier("logistic", class_weight=factors, **options)
    held(model.fit(X, Y, weights), own)


def test_a_class_that_weighs_nothing_is_not_there():
    some = np.flatnonzero(Y != "a")
    without = ZipMLClassifier("logistic", random_state=0).fit(X[some], Y[some])
    zeros = ZipMLClassifier("logistic", random_state=0).fit(X, Y, (Y != "a").astype(float))
    p = zeros.predict_proba(X)
    assert p[:, 0].max() < 1e-2
    assert np.abs(p[:, 1:] - without.predict_proba(X)).max() < 0.05


def test_rows_that_are_sparse():
    rows = np.where(np.random.default_rng(0).uniform(size=X.shape) < 0.5, X, 0)
    dense = ZipMLClassifier("logistic", random_state=0).fit(rows, Y)
    found = ZipMLClassifier("logistic", random_state=0).fit(sparse.csr_matrix(rows), Y)
    assert found.multinomial_
    assert np.array_equal(found.model_, dense.model_)


@pytest.mark.parametrize("options", [{"n_jobs": 2}, {"device": "emulated"}], ids=str)
def test_jobs_and_devices_change_no_bit(options):
    one = ZipMLClassifier("logistic", random_state=0).fit(X, Y)
    other = ZipMLClassifier("logistic", random_state=0, **options).fit(X, Y)
    assert np.array_equal(one.model_, other.model_)
    assert np.array_equal(one.loss_curve_, other.loss_curve_)


def test_two_classes_have_one_model_whatever_is_asked_for():
    data = synthetic_classification(n_features=8, n_train=300, n_test=1)
    fits = [
        ZipMLClassifier("logistic", multi_class=kind, random_state=0).fit(
            data.X_train, data.y_train
        )
        for kind in ("auto", "ovr", "multinomial")
    ]
    for fit in fits:
        assert not fit.multinomial_
        assert fit.model_.shape == (1, 9)
        assert np.array_equal(fit.model_, fits[0].model_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"refine": False},
        {"redraw": True},
        {"early_stopping": True},
        {"warm_start": True},
        {"tol": None},
        {"bits": 32},
        {"bits": [2, 4]},
        {"penalty": "l1", "alpha": 0.01},
        {"max_iter": 4},
        {"approximation": "chebyshev"},
    ],
    ids=str,
)
def test_what_is_not_refined_is_one_against_the_rest(options):
    options = {"max_iter": 12, "random_state": 0, **options}
    found = ZipMLClassifier("logistic", **options).fit(X, Y)
    assert not found.multinomial_
    ovr = ZipMLClassifier("logistic", multi_class="ovr", **options).fit(X, Y)
    assert np.array_equal(found.model_, ovr.model_)
    np.testing.assert_allclose(found.predict_proba(X).sum(axis=1), 1)
    with pytest.raises(ArgumentError, match=r"multi_class was 'multinomial'; allowed with it is a"):
        ZipMLClassifier("logistic", multi_class="multinomial", **options).fit(X, Y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"redraw": True},
        {"early_stopping": True},
        {"warm_start": True},
        {"tol": None, "max_iter": 20},
        {"bits": [2, 4]},
        {"alpha": 1e-3},
        {"fit_intercept": False},
    ],
    ids=str,
)
def test_what_is_refined_on_demand_is_multinomial(options):
    model = ZipMLClassifier("logistic", refine=True, random_state=0, **options).fit(X, Y)
    assert model.multinomial_
    again = ZipMLClassifier(
        "logistic", refine=True, multi_class="multinomial", random_state=0, **options
    ).fit(X, Y)
    assert np.array_equal(model.model_, again.model_)
    if options.get("warm_start"):
        first = model.loss_curve_[-1]
        model.fit(X, Y)
        assert model.multinomial_
        assert model.loss_curve_[-1] < first + 2e-3 * entropy(Y)


def test_packed_samples_and_streams_are_one_against_the_rest():
    numbers = np.searchsorted(np.unique(Y), Y)
    packed = pack(X, numbers, bits=[4, 8])
    options = {"max_iter": 6, "tol": None, "random_state": 0}
    assert not ZipMLClassifier("logistic", **options).fit(packed).multinomial_
    with pytest.raises(ArgumentError, match="multi_class was 'multinomial'; allowed"):
        ZipMLClassifier("logistic", multi_class="multinomial", **options).fit(packed)
    model = ZipMLClassifier("logistic", random_state=0).fit(X, Y)
    before = model.predict_proba(X)
    assert model.multinomial_
    model.partial_fit(X, Y)  # goes on from there, one against the rest
    assert not model.multinomial_
    assert np.abs(model.predict_proba(X) - before).max() > 0
    with pytest.raises(ArgumentError, match="multi_class was 'multinomial' in partial_fit"):
        ZipMLClassifier("logistic", multi_class="multinomial").partial_fit(X, Y, np.unique(Y))


def test_too_many_margins_are_one_against_the_rest(monkeypatch):
    ovr = ZipMLClassifier("logistic", multi_class="ovr", random_state=0).fit(X, Y)
    assert not ovr.multinomial_
    monkeypatch.setattr(classifier, "MOST_MARGINS", 8 * len(Y))
    assert ZipMLClassifier("logistic", random_state=0).fit(X, Y).multinomial_
    monkeypatch.setattr(classifier, "MOST_MARGINS", 8 * len(Y) - 1)
    found = ZipMLClassifier("logistic", random_state=0).fit(X, Y)
    assert not found.multinomial_
    assert np.array_equal(found.model_, ovr.model_)
    with pytest.raises(
        ArgumentError, match="at most 4799 classes times samples, and here are 4800"
    ):
        ZipMLClassifier("logistic", multi_class="multinomial").fit(X, Y)


def test_refused_parameters():
    with pytest.raises(ArgumentError, match="multi_class was 'softmax'"):
        ZipMLClassifier("logistic", multi_class="softmax").fit(X, Y)
    with pytest.raises(ArgumentError, match="multi_class was 'multinomial' with loss 'hinge'"):
        ZipMLClassifier("hinge", multi_class="multinomial").fit(X, Y)


# ---- How far it is from the optimum --------------------------------------------------------------


def test_an_end_before_the_optimum_is_told():
    with pytest.warns(ConvergenceWarning, match="max_iter=5") as told:
        model = ZipMLClassifier("logistic", max_iter=5, tol=1e-7, random_state=0).fit(X, Y)
    assert model.n_iter_ == 5
    share = float(str(told[0].message).split("at least ")[1].split("%")[0]) / 100
    above = objective(X, Y, model.coef_, model.intercept_) - least(X, Y)
    # a lower bound, shown to a digit, and near enough to be of use
    assert 0.3 * above / entropy(Y) < share < 1.01 * above / entropy(Y) + 1e-3


@pytest.mark.parametrize("name", list(TABLES))
def test_what_is_left_is_a_lower_bound(name):
    samples, y = TABLES[name]
    model = ZipMLClassifier("logistic", random_state=0).fit(samples, y)
    normalization = model.normalization_
    rows = Rows.of_values(samples, np.arange(len(y)), normalization)
    moments = rows.second_moments.copy()
    moments[-1] = 0
    numbers = np.searchsorted(model.classes_, y)
    whole = Multinomial(numbers, np.ones(len(y)), len(model.classes_), moments / len(y))
    assert np.isclose(whole.size, entropy(y))
    fine = ZipMLClassifier("logistic", tol=1e-8, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        optimum = fine.fit(samples, y).model_ / MODEL_ONE
    far = 0.5 * optimum
    above = np.subtract(*whole.objectives(rows, np.stack([far, optimum])))
    assert 0.3 * above < whole.left(rows, far) < above + 1e-6
    assert whole.left(rows, optimum) < 1e-4 * whole.size
    # of some of many rows: found on half of them, held against the other half
    some = SimpleNamespace(index=rows.index, q1=rows.q1, whole=False)
    assert 0 <= whole.left(some, far) < 2 * above + 0.1


def test_a_class_of_a_single_sample():
    some = np.flatnonzero((Y != "a") | (np.arange(len(Y)) == np.flatnonzero(Y == "a")[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = ZipMLClassifier("logistic", random_state=0).fit(X[some], Y[some])
    above = objective(X[some], Y[some], model.coef_, model.intercept_) - least(X[some], Y[some])
    assert above < 4e-3 * entropy(Y[some])
