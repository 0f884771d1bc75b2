"""The distance to the optimum that a fit measures, and the warning that tells of it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from zipml_pynq import ZipMLClassifier, ZipMLRegressor
from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.learn.distance import left_to_gain
from zipml_pynq.learn.objective import Rows
from zipml_pynq.training.losses import LOSSES

RNG = np.random.default_rng(0)
SAMPLES, FEATURES = 400, 6
VALUES = (RNG.uniform(-1, 1, (SAMPLES, FEATURES)) * np.logspace(-2, 0, FEATURES)).astype(np.float32)
TRUE = RNG.normal(size=FEATURES)
SIGNS = np.where(VALUES @ TRUE + 0.3 * RNG.normal(size=SAMPLES) < 0, -1.0, 1.0)
TARGETS = VALUES @ TRUE + 0.1 * RNG.normal(size=SAMPLES)
WEIGHTS = RNG.uniform(0.5, 1.5, SAMPLES)
# every second row, to see that labels and weights follow the rows' numbers
INDEX = np.arange(0, SAMPLES, 2)
ROWS = Rows(INDEX, VALUES[INDEX], VALUES[INDEX], whole=True)


def objective(x, loss, l2):
    z = VALUES[INDEX].astype(np.float64) @ x
    y = (SIGNS if LOSSES[loss].margin else TARGETS)[INDEX]
    margin = y * z if LOSSES[loss].margin else z - y
    return float((WEIGHTS[INDEX] * LOSSES[loss].value(margin)).mean() + l2 / 2 * (x @ x))


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_it_is_below_the_distance_and_near_it(loss, l2):
    labels = SIGNS if LOSSES[loss].margin else TARGETS
    exact = minimize(
        objective, np.zeros(FEATURES), (loss, l2), "Powell", options={"maxiter": 10_000}
    )
    for x in (np.zeros(FEATURES), exact.x + 0.3):
        distance = objective(x, loss, l2) - exact.fun
        left = left_to_gain(ROWS, x, labels, WEIGHTS, loss, l2)
        # sums in float32, and a Powell search of a hinge that may stop early
        assert left <= distance * 1.02 + 1e-4
        assert left >= distance * (0.3 if loss == "hinge" else 0.8)


def test_nothing_is_left_at_the_optimum():
    rows, y = VALUES[INDEX].astype(np.float64), TARGETS[INDEX]
    w = np.sqrt(WEIGHTS[INDEX])
    x = np.linalg.lstsq(rows * w[:, None], y * w, rcond=None)[0]
    assert left_to_gain(ROWS, x, TARGETS, WEIGHTS, "least_squares", 0.0) < 1e-8


def test_what_fits_some_rows_alone_is_no_gain():
    # as many features as rows: a model that fits these is found, and is of no use elsewhere
    rng = np.random.default_rng(2)
    values = rng.normal(size=(120, 60)).astype(np.float32)
    y = values[:, 0] + rng.normal(size=120)
    exact = np.eye(60)[0]
    some, every = (Rows(np.arange(120), values, values, whole) for whole in (False, True))
    assert left_to_gain(every, exact, y, None, "least_squares", 0.0) > 0.1
    assert left_to_gain(some, exact, y, None, "least_squares", 0.0) < 0.02
    # what is there to gain is seen all the same
    assert left_to_gain(some, -exact, y, None, "least_squares", 0.0) > 0.2


def few_bits(samples: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Classes that a small difference of two large columns tells apart: beyond 2 bits."""
    rng = np.random.default_rng(3)
    shared = rng.normal(size=samples)
    apart = 0.05 * rng.normal(size=samples)
    return np.column_stack([shared + apart, shared - apart]), (apart > 0).astype(int)


def test_too_few_bits_are_told_and_enough_are_not():
    X, y = few_bits()
    with pytest.warns(ConvergenceWarning, match=r"above the optimum, .* more bits"):
        ZipMLClassifier(bits=2, refine=False, random_state=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ZipMLClassifier(bits=8, alpha=1e-3, refine=False, random_state=0).fit(X, y)


def test_constant_labels_have_no_distance():
    X = RNG.normal(size=(50, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = ZipMLRegressor(random_state=0).fit(X, np.full(50, 3.0))
    assert np.abs(model.model_[0] / MODEL_ONE).max() < 1e-6


def test_the_warning_measures_all_classes_together():
    X, y = few_bits(900)
    y = y + 2 * (np.arange(900) % 2)  # a column that is not there tells these apart
    with pytest.warns(ConvergenceWarning) as told:
        model = ZipMLClassifier(bits=2, refine=False, random_state=0).fit(X, y)
    assert model.model_.shape[0] == 4
    assert sum(w.category is ConvergenceWarning for w in told) == 1
