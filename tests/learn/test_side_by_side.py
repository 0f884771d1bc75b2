"""Models side by side: threads, targets and stretches change no bit; the engine needs no pynq."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from zipml_pynq import pack
from zipml_pynq.accelerator.host import Draw, HostDriver
from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.data.planes import Redraws, pack_planes
from zipml_pynq.errors import ArgumentError, KernelStatusError
from zipml_pynq.learn import estimator, problem
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor
from zipml_pynq.training.make_plan import make_plan

DATA = synthetic_regression(12, 500, 200)
X, Y = DATA.X_train, DATA.y_train
CLASSES = np.digitize(Y, np.quantile(Y, [0.25, 0.5, 0.75]))
#: Targets of very different scales, and one that is always the same.
TARGETS = np.stack([Y, 1e6 * Y[::-1] + 5e7, 1e-3 * X[:, 3], np.full(len(Y), 7.0)], axis=1)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def assert_same(one, other) -> None:
    for name in ("model_", "coef_", "intercept_", "loss_curve_"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("n_iter_", "bytes_streamed_", "saturated_"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"redraw": False, "bits": [2, 2, 4]},
        {"class_weight": "balanced", "early_stopping": True},
    ],
    ids=str,
)
def test_threads_change_no_bit(options):
    fits = [
        ZipMLClassifier(random_state=0, max_iter=40, n_jobs=jobs, **options).fit(X, CLASSES)
        for jobs in (None, 2, -1)
    ]
    assert_same(fits[0], fits[1])
    assert_same(fits[0], fits[2])


def test_how_many_draws_are_held_changes_no_bit(monkeypatch):
    """The epochs that are one call are as many as their draws have room."""
    fit = ZipMLClassifier(random_state=0, max_iter=20, tol=None).fit(X, CLASSES)
    for room in (1, 50_000):
        monkeypatch.setattr(problem, "KEPT_BYTES", room)
        again = ZipMLClassifier(random_state=0, max_iter=20, tol=None).fit(X, CLASSES)
        assert_same(fit, again)


def test_models_end_when_each_of_them_is_done():
    """A class that is easy is not trained on with the others."""
    y = np.where(X[:, 0] > np.quantile(X[:, 0], 0.9), 2, CLASSES % 2)
    packed = pack(X, y, batch=16)
    model = ZipMLClassifier(random_state=0, tol=1e-2).fit(packed)
    alone = [
        ZipMLClassifier(random_state=0, tol=1e-2).fit(packed, y == number) for number in range(3)
    ]
    assert len({one.n_iter_ for one in alone}) > 1
    assert model.n_iter_ == max(one.n_iter_ for one in alone)
    assert model.bytes_streamed_ == sum(one.bytes_streamed_ for one in alone)
    assert np.array_equal(model.model_, np.concatenate([one.model_ for one in alone]))


@pytest.mark.parametrize("n_jobs", [0, 1.5, "all", True])
def test_refused_jobs(n_jobs):
    with pytest.raises(ArgumentError, match="n_jobs was"):
        ZipMLRegressor(n_jobs=n_jobs).fit(X, Y)


@pytest.mark.parametrize("options", [{}, {"n_jobs": 2}, {"device": "emulated"}], ids=str)
@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
def test_classes_refined_together_are_those_one_by_one(loss, options):
    # three classes, of which one lies between the others; a model alone has labels of its own
    y = np.digitize(X @ np.arange(12), [-12.0, 12.0])
    model = ZipMLClassifier(loss, multi_class="ovr", random_state=0, **options).fit(X, y)
    for number in range(3):
        one = ZipMLClassifier(loss, random_state=0).fit(X, y == number)
        assert np.array_equal(model.model_[number], one.model_[0])


def test_large_groups_are_trained_one_after_the_other(monkeypatch):
    y = np.digitize(X @ np.arange(12), [-12.0, 12.0])
    together = ZipMLClassifier(random_state=0).fit(X, y)
    for models in (1, 2):
        monkeypatch.setattr(estimator, "TOGETHER", models * len(X))
        apart = ZipMLClassifier(random_state=0, n_jobs=2).fit(X, y)
        assert np.array_equal(together.model_, apart.model_)


# ---- Targets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"refine": False}, {"device": "emulated"}], ids=str)
def test_several_targets_are_those_one_by_one(options):
    options = {"random_state": 0, "max_iter": 30, **options}
    model = ZipMLRegressor(**options).fit(X, TARGETS)
    assert model.coef_.shape == (4, 12)
    assert model.predict(DATA.X_test).shape == (200, 4)
    for number, target in enumerate(TARGETS.T):
        one = ZipMLRegressor(**options).fit(X, target)
        assert np.array_equal(model.model_[number], one.model_[0])
        # from the same numbers in another order
        assert np.allclose(model.predict(X)[:, number], one.predict(X), rtol=1e-9, atol=1e-9)
    # a column is a target as well
    column = ZipMLRegressor(**options).fit(X, TARGETS[:, :1])
    assert column.coef_.shape == (1, 12)
    assert np.array_equal(column.model_[0], model.model_[0])


def test_several_targets_as_packed_samples_weights_and_warm_starts():
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    packed = pack(X, Y, sample_weight=weights / weights.mean())
    model = ZipMLRegressor(random_state=0, max_iter=8).fit(packed, TARGETS)
    for number in range(4):
        one = ZipMLRegressor(random_state=0, max_iter=8).fit(packed, TARGETS[:, number])
        assert np.array_equal(model.model_[number], one.model_[0])
    options = {"random_state": 0, "tol": None, "eta0": 0.05, "learning_rate": "constant"}
    twice = ZipMLRegressor(max_iter=4, warm_start=True, **options).fit(X, TARGETS)
    twice.set_params(max_iter=3).fit(X, TARGETS)
    assert np.array_equal(
        twice.model_, ZipMLRegressor(max_iter=7, **options).fit(X, TARGETS).model_
    )
    with pytest.raises(ArgumentError, match="this estimator was fitted to 4 targets"):
        twice.fit(X, Y)
    twice.set_params(warm_start=False).fit(X, Y)
    assert twice.coef_.shape == (12,)
    assert not hasattr(twice, "label_ranges_")


def test_several_targets_have_no_streams():
    model = ZipMLRegressor(random_state=0)
    with pytest.raises(ArgumentError, match=r"y had shape \(500, 4\) in partial_fit"):
        model.partial_fit(X, TARGETS)
    model.partial_fit(X, Y[:, None])
    assert model.coef_.shape == (12,)
    with pytest.raises(ArgumentError, match="fitted to one"):
        model.fit(X, TARGETS).partial_fit(X, Y)
    with pytest.raises(ArgumentError, match="allowed is one label a sample"):
        model.fit(pack(X, Y), TARGETS[:-1])


def test_several_targets_as_a_file_and_exports(tmp_path):
    model = ZipMLRegressor(random_state=0, max_iter=8).fit(X, TARGETS)
    model.save(tmp_path / "model")
    again = ZipMLRegressor.load(tmp_path / "model")
    expected = model.predict(DATA.X_test)
    assert np.array_equal(again.predict(DATA.X_test), expected)
    assert np.array_equal(again.label_ranges_, model.label_ranges_)
    alone = model.to_model()
    assert np.allclose(alone.predict(DATA.X_test), expected, rtol=1e-12)
    assert np.allclose(alone.to_sklearn().predict(DATA.X_test), expected, rtol=1e-12)
    runtime = pytest.importorskip("onnxruntime")
    graph = alone.to_onnx(dtype="float64").SerializeToString()
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"X": DATA.X_test.astype(np.float64)})
    assert np.allclose(found, expected, rtol=1e-9)


# ---- Below -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"levels": "optimal"}, {"value_format": "refetch"}])
def test_draws_of_one_call_are_those_of_redraw(options):
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    packed = pack(X, np.sign(Y), sample_weight=weights, **options)
    draws, epochs = problem.Draws(packed, X), 5
    draws.make(0, epochs, lambda make, numbers: [make(number) for number in numbers])
    plan = make_plan(packed, epochs=epochs, loss="hinge", shuffle=True, fresh=True, delay=1)
    host = HostDriver(64, packed.layout.value_format)
    made = [draws.made(epoch) for epoch in range(epochs)]
    found = host.train_drawn(packed, plan, made)
    expected = host.train(packed, plan, redraw=lambda e: draws.of(packed, e), judge=False)
    assert np.array_equal(found.history_fixed, expected.history_fixed)
    for name in ("words", "saturations", "outside", "refetched", "bytes_streamed"):
        assert getattr(found, name) == getattr(expected, name), name
    with pytest.raises(ArgumentError, match="draws had 4 entries; allowed is 5"):
        host.train_drawn(packed, plan, made[1:])
    short = Draw(made[0].planes[:-1], made[0].order)
    with pytest.raises(ArgumentError, match="a draw had planes"):
        host.train_drawn(packed, plan, [short, *made[1:]])


def test_a_refused_call_of_many_is_told(monkeypatch):
    packed = pack(X, Y)
    plan = make_plan(packed, epochs=3, step=0.1, shuffle=True)
    monkeypatch.setattr(type(plan), "check", lambda *_: None)
    plan.orders[1] = packed.layout.blocks + 1, 1
    with pytest.raises(KernelStatusError, match="refused register first_block"):
        HostDriver(64).train(packed, plan)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, sparse.csr_matrix])
@pytest.mark.parametrize("options", [{"bits": (2, 4)}, {"levels": "optimal"}, {"bits": 3}])
def test_samples_packed_again_are_packed_alike(kind, options):
    rows = np.rint(100 * X).astype(np.int16)
    rows = rows.astype(kind) if kind is not sparse.csr_matrix else kind(rows.astype(np.float64))
    packed = pack(rows, Y, seed=3, **options)
    again = Redraws(rows, packed.normalization, packed.layout, 3, packed.levels)
    order = np.random.default_rng(1).permutation(len(Y))
    expected = pack_planes(
        rows[order], packed.normalization, packed.layout, 3, 9, packed.levels, None
    )
    assert np.array_equal(again.draw(order, 9), expected)


def test_a_fit_needs_no_pynq():
    code = (
        "import sys; sys.modules['pynq'] = sys.modules['grpc'] = None\n"
        "import numpy as np\n"
        "from zipml_pynq import ZipMLClassifier\n"
        "X = np.random.default_rng(0).normal(size=(64, 3))\n"
        "print(ZipMLClassifier(max_iter=3, tol=None).fit(X, X[:, 0] > 0).model_.shape)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "(1, 4)\n"
