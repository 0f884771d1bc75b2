"""What a training averages to, when it stops, and that how it is cut does not matter."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.learn import estimator as estimator_module
from zipml_pynq.learn.objective import (
    FIRST_STRETCH,
    Course,
    Stopper,
    constant_objective,
    stretches,
)
from zipml_pynq.learn.regressor import ZipMLRegressor
from zipml_pynq.training.losses import LOSSES

DATA = synthetic_regression(12, 600, 300)
X, Y = DATA.X_train, DATA.y_train


def course(*parts: list[int], averages: bool = True) -> Course:
    """Of one feature; precision changes between the parts."""
    made = Course(averages)
    for number, part in enumerate(parts):
        if number:
            made.precision_changes()
        for model in part:  # an epoch at a time or all at once: the same
            made.add(np.array([[model]], dtype=np.int32))
    return made


def test_averages_by_hand():
    models = course([8, 4, 6, 2, 10]).models()[:, 0]
    # after 1, 2, .. epochs: 8; 4; mean of 4, 6; of 6, 2; of 6, 2, 10
    assert models.tolist() == [8, 4, 5, 4, 6]
    assert course([8, 4, 6, 2, 10], averages=False).models()[:, 0].tolist() == [8, 4, 6, 2, 10]
    # none of the models of 2 bits count once there are some of 4
    changed = course([8, 4, 6], [2, 10, 3, 5])
    assert changed.models()[:, 0].tolist() == [8, 4, 5, 2, 6, 5, 5]
    assert changed.models([3, 7])[:, 0].tolist() == [5, 5]
    assert len(changed) == 7
    # sums do not overflow
    assert course([2**31 - 1] * 9).models()[-1, 0] == 2**31 - 1


def test_stretches_cover_all_epochs_and_end_where_precision_changes():
    for first in (0, 5, 40):
        for length in (1, 3, 4, 5, 100, 961):
            stop = first + length
            for changes in ([], [first + 1], [first + 2, first + 60], [first + length // 2 + 1]):
                changes = [c for c in changes if first < c < stop]
                found = list(stretches(first, stop, changes))
                assert [b for b, _ in found] == [first, *(e for _, e in found[:-1])]
                assert found[-1][1] == stop
                assert all(b < e for b, e in found)
                assert set(changes) <= {e for _, e in found}
    assert list(stretches(0, 20, [])) == [(0, 4), (4, 6), (6, 9), (9, 14), (14, 20)]
    assert next(stretches(0, 100, [])) == (0, FIRST_STRETCH)
    assert next(stretches(10, 12, [])) == (10, 12)


def stopper(patience: int = 1, tol: float = 0.1) -> Stopper:
    """Of the objective |x| and a size of 1."""
    return Stopper(lambda models: np.abs(models[:, 0]), 1.0, tol, patience)


def fixed(*models: float) -> list[int]:
    return [int(model * MODEL_ONE) for model in models]


def test_it_stops_when_the_later_half_twice_gained_little():
    stop = stopper()
    run = course(fixed(4, 2))
    assert not stop(run)  # gained 4 - 2
    for model, quiet in ((1.95, 0), (1.95, 1), (1.0, 0), (1.0, 0), (1.0, 0), (1.0, 1)):
        run.add(np.array([fixed(model)], dtype=np.int32))
        assert stop(run) == (stop.quiet >= 2)
        before, now = np.abs(run.models([len(run) // 2, len(run)])[:, 0]) / MODEL_ONE
        if before - now > 0.1:
            assert stop.quiet == 0
        assert stop.quiet <= quiet + 2
    for _ in range(12):
        run.add(np.array([fixed(1.0)], dtype=np.int32))
        ended = stop(run)
    assert ended
    assert stop.stopped


def test_a_rising_objective_is_quiet_and_patience_waits():
    stop = stopper()
    run = course(fixed(1, 2, 3, 4))
    assert (stop(run), stop(run)) == (False, True)
    patient = stopper(patience=3)
    run = course(fixed(1, 1, 1, 1))
    for _ in range(5):
        assert not patient(run)  # 4 epochs have a later half of 2
    run.add(np.array([fixed(1)], dtype=np.int32))
    assert (patient(run), patient(run)) == (False, True)


def test_only_epochs_of_the_last_precision_count():
    stop = stopper()
    run = course(fixed(9, 9, 9, 9), fixed(1))
    assert not stop(run)
    assert stop.quiet == 0  # no half of one epoch
    run.add(np.array([fixed(1)], dtype=np.int32))
    assert (stop(run), stop(run)) == (False, True)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_constant_objective_is_that_of_the_best_constant(loss, weighted):
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(200) < 0.3, -1.0, 1.0)
    weights = rng.uniform(0, 2, 200) if weighted else None
    if not LOSSES[loss].margin:
        labels = rng.uniform(-1, 1, 200)
    grid = np.linspace(-3, 3, 6001)[:, None]
    sign = np.where(labels < 0, -1.0, 1.0)
    value = LOSSES[loss].value(sign * grid) if LOSSES[loss].margin else (grid - labels) ** 2 / 2
    best = np.average(value, axis=1, weights=weights).min()
    # of several weights the mean is over their sum
    assert constant_objective(labels, weights, loss) == pytest.approx(best, abs=1e-5)


def test_the_bits_do_not_depend_on_the_stretches(monkeypatch):
    options = {"random_state": 0, "max_iter": 23, "tol": None, "bits": [2] * 5 + [4]}
    for redraw in (False, True):
        whole = ZipMLRegressor(**options, redraw=redraw).fit(X, Y)

        def one_by_one(first, stop, changes, latest):
            return ((e, e + 1) for e in range(first, stop))

        with monkeypatch.context() as patch:
            patch.setattr(estimator_module, "stretches", one_by_one)
            cut = ZipMLRegressor(**options, redraw=redraw).fit(X, Y)
        assert np.array_equal(cut.model_, whole.model_)
        assert np.array_equal(cut.loss_curve_, whole.loss_curve_)
        assert cut.bytes_streamed_ == whole.bytes_streamed_


def test_the_warning_comes_when_much_is_left_and_only_then():
    # a small step: far from the optimum after so many epochs
    with pytest.warns(ConvergenceWarning, match="max_iter=40"):
        far = ZipMLRegressor(random_state=0, eta0=1e-3, max_iter=40).fit(X, Y)
    assert far.n_iter_ == 40
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        near = ZipMLRegressor(random_state=0, max_iter=100).fit(X, Y)
    assert near.n_iter_ < 100
    exact = np.linalg.lstsq(np.c_[X, np.ones(len(X))], Y, rcond=None)[1][0]
    r2 = 1 - exact / ((Y - Y.mean()) ** 2).sum()
    # what tol promises, of R^2, and quantization
    assert near.score(X, Y) > r2 - 0.005 > far.score(X, Y) + 0.005


def test_averages_are_below_the_last_epoch_at_a_constant_step():
    options = {"random_state": 0, "max_iter": 30, "tol": None, "bits": 2}
    constant = {**options, "learning_rate": "constant"}
    mean = ZipMLRegressor(**constant).fit(X, Y).loss_curve_[-1]
    last = ZipMLRegressor(**constant, average=False).fit(X, Y).loss_curve_[-10:]
    assert mean < last.min()
    # and so is the end of a step that falls
    assert ZipMLRegressor(**options).fit(X, Y).loss_curve_[-1] < last.min()
