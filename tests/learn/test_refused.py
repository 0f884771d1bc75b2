"""Parameters and data that estimators refuse, by name."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from zipml_pynq import pack
from zipml_pynq.data.datasets import synthetic_classification, synthetic_regression
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor

REGRESSION = synthetic_regression(12, 600, 300)
TWO = synthetic_classification(12, 600, 300, flips=0.05)
X, Y = REGRESSION.X_train, REGRESSION.y_train
THREE = np.array(["low", "middle", "up"])[np.digitize(Y, np.quantile(Y, [0.33, 0.66]))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "huber"}, "loss was 'huber'; allowed are 'squared_hinge'"),
        ({"bits": 0}, "bits was 0; allowed is 1..16"),
        (
            {"bits": 9, "levels": "global"},
            "levels was 'global' with bits 9; .* 'auto' and 'uniform",
        ),
        ({"bits": 9, "loss": "hinge", "refetch": True}, "refetch was True with bits 9; .* False"),
        ({"bits": "4"}, "bits"),
        ({"bits": ()}, "bits was empty"),
        ({"bits": (4, 32)}, "bits was 32"),
        ({"bits": (2, 4), "levels": "optimal"}, "bits was .* one precision"),
        ({"bits": 32, "sampling": "double"}, "sampling was 'double' with bits 32"),
        ({"bits": 32, "levels": "optimal"}, "levels was 'optimal'"),
        ({"sampling": "triple"}, "sampling was 'triple'"),
        ({"sampling": "double", "approximation": "chebyshev"}, "sampling was 'symmetric'"),
        ({"sampling": "independent"}, "sampling was 'independent'"),
        ({"loss": "least_squares", "approximation": "chebyshev"}, "approximation was 'chebyshev'"),
        ({"degree": 3}, "degree was 3; it goes with approximation 'chebyshev'"),
        ({"degree": 16, "approximation": "chebyshev"}, "degree was 16"),
        ({"refetch": True, "loss": "logistic"}, "refetch was True with loss 'logistic'"),
        (
            {"refetch": True, "loss": "hinge", "levels": "optimal"},
            "refetch was True with levels 'optimal'",
        ),
        ({"refetch": True, "loss": "hinge", "bits": 32}, "refetch was True with bits 32"),
        ({"refetch": 1}, "refetch was 1; allowed are True and False"),
        ({"model_bits": 1}, "model_bits was 1"),
        ({"gradient_bits": 40}, "gradient_bits was 40"),
        ({"eta0": -0.1}, "eta0 was -0.1; allowed are finite numbers above 0"),
        ({"eta0": "best"}, "eta0 was 'best'"),
        ({"learning_rate": "optimal"}, "learning_rate was 'optimal'"),
        ({"alpha": -1}, "alpha was -1; allowed are finite numbers from 0 up"),
        ({"alpha": np.nan}, "alpha was nan"),
        ({"tol": -1e-3}, "tol was -0.001"),
        ({"max_iter": 0}, "max_iter was 0"),
        ({"batch_size": 0}, "batch_size was 0"),
        ({"batch_size": 1000}, "batch_size was 1000"),
        ({"n_iter_no_change": 0}, "n_iter_no_change was 0"),
        ({"validation_fraction": 1.0}, "validation_fraction was 1.0; it must be below 1"),
        ({"shuffle": "blocks"}, "shuffle was 'blocks'; allowed are True, False and 'epochs'"),
        ({"device": 3}, "device was 3; allowed are 'host', 'emulated'"),
        ({"class_weight": {5: 1.0}}, "not in class_weight"),
    ],
)
def test_bad_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ZipMLClassifier(**options).fit(TWO.X_train[:64], TWO.y_train[:64])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ZipMLClassifier().fit(X, np.ones(600)), "y had one class"),
        (lambda: ZipMLClassifier().fit(X, Y), "Unknown label type: continuous"),
        (lambda: ZipMLClassifier().fit(X, THREE[:10]), "inconsistent numbers of samples"),
        (lambda: ZipMLRegressor().fit(X, np.full(600, np.nan)), "y contains NaN"),
        (lambda: ZipMLRegressor().fit(np.full((600, 2), np.nan), Y), "X contains NaN"),
        (lambda: ZipMLRegressor().fit(X, Y, -np.ones(600)), "Negative values .*sample_weight"),
        (lambda: ZipMLRegressor().fit(X, Y, np.zeros(600)), "[Ss]ample.weight"),
        (lambda: ZipMLRegressor(loss="hinge").fit(X, Y), "loss was 'hinge'; allowed are 'least"),
        (lambda: ZipMLRegressor(max_iter=2).fit(X, Y).predict(X[:, :3]), "X has 3 features"),
        (lambda: ZipMLRegressor(bits=8).fit(pack(X, Y)), "bits was 8; the data set stores 4"),
        (lambda: ZipMLRegressor(batch_size=7).fit(pack(X, Y)), "batch was 7"),
        (
            lambda: ZipMLRegressor(fit_intercept=False).fit(pack(X, Y)),
            "fit_intercept was False; the data set was packed with intercept=True",
        ),
        (
            lambda: ZipMLRegressor(early_stopping=True).fit(pack(X, Y, block_samples=608)),
            "validation_fraction was 0.1 of a packed data set of 1 block",
        ),
        (
            lambda: ZipMLClassifier(early_stopping=True).fit(X[:4], [0, 0, 0, 1]),
            "validation_fraction was 0.1; 4 samples cannot be split so",
        ),
        (
            lambda: ZipMLClassifier().partial_fit(X, THREE),
            "classes was None in the first call of partial_fit",
        ),
        (
            lambda: ZipMLClassifier(class_weight="balanced").partial_fit(X, THREE, ["low", "up"]),
            "class_weight was 'balanced', which partial_fit cannot know",
        ),
        (
            lambda: ZipMLRegressor(warm_start=True, max_iter=2).fit(X, Y).fit(X[:, :3], Y),
            "X has 3 features",
        ),
        (
            lambda: ZipMLRegressor(warm_start=True, max_iter=2).fit(X, Y).fit(pack(X[:, :3], Y)),
            "X had 3 columns; this estimator was fitted to 12",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_bad_data_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_progress_is_shown(capsys):
    ZipMLClassifier(max_iter=4, tol=None, verbose=1).fit(X, THREE)
    assert "12/12" in capsys.readouterr().err


def test_not_fitted():
    with pytest.raises(NotFittedError):
        ZipMLRegressor().predict(X)
