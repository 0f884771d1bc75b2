"""The estimators: scikit-learn's own checks, the driver's bits, and every option that they add."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.estimator_checks import parametrize_with_checks

import zipml_pynq
from zipml_pynq import PackedDataset, make_plan, pack
from zipml_pynq.data.datasets import synthetic_classification, synthetic_regression
from zipml_pynq.errors import ArgumentError, ZipmlWarning
from zipml_pynq.learn import preparation
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor
from zipml_pynq.training import reference
from zipml_pynq.training.defaults import cooling_of

LOSSES = ("hinge", "squared_hinge", "logistic", "least_squares")
REGRESSION = synthetic_regression(12, 600, 300)
TWO = synthetic_classification(12, 600, 300, flips=0.05)
X, Y = REGRESSION.X_train, REGRESSION.y_train
#: Three classes, by names, of a linear function.
THREE = np.array(["low", "middle", "up"])[np.digitize(Y, np.quantile(Y, [0.33, 0.66]))]
#: The last model of the run's own step and schedule: what the driver does by default.
AS_THE_DRIVER = {
    "alpha": 0.0,
    "average": False,
    "feature_steps": False,
    "learning_rate": "inverse",
    "levels": "uniform",
}
#: What the driver is told to do as much.
AS_THE_ESTIMATOR = {"schedule": "inverse", "l2": 0.0, "feature_shifts": None, "delay": 1}
#: No stopping, rows in their order, a step of its own: what is compared bit for bit.
EXACT = {"shuffle": False, "tol": None, "eta0": 0.05, "random_state": 0, **AS_THE_DRIVER}
SEED = int(check_random_state(0).randint(np.iinfo(np.int32).max))

SAMPLED = (
    "as in all of SGD, a sample of weight 2 is one sample of one batch, and two equal samples are "
    "two, perhaps of two batches; here with a draw of its values each, too: never equal in bits"
)
EXPECTED = {
    f"check_sample_weight_equivalence_on_{kind}_data": SAMPLED for kind in ("dense", "sparse")
}


@pytest.fixture(scope="module")
def driver():
    with zipml_pynq.load_overlay("emulated") as loaded:
        yield loaded.driver


# ---- Conventions -------------------------------------------------------------------------


@parametrize_with_checks(
    [
        ZipMLRegressor(random_state=0),
        ZipMLClassifier(random_state=0),
        ZipMLClassifier("logistic", random_state=0, max_iter=20),
    ],
    expected_failed_checks=lambda _: EXPECTED,
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_pipeline_and_grid_search():
    steps = make_pipeline(StandardScaler(), ZipMLClassifier(random_state=0, tol=None, max_iter=8))
    grid = {"zipmlclassifier__bits": [1, 4, (2, 2, 4)], "zipmlclassifier__loss": ["hinge"]}
    search = GridSearchCV(steps, grid, cv=2, error_score="raise").fit(TWO.X_train, TWO.y_train)
    assert search.score(TWO.X_test, TWO.y_test) > 0.85


@pytest.mark.parametrize("estimator", [ZipMLRegressor(), ZipMLClassifier()])
def test_pickling(estimator):
    y = Y if isinstance(estimator, ZipMLRegressor) else THREE
    estimator = clone(estimator).set_params(max_iter=3, tol=None).fit(X, y)
    copy = pickle.loads(pickle.dumps(estimator))
    assert np.array_equal(copy.predict(X), estimator.predict(X))
    copy.set_params(warm_start=True).fit(X, y)
    assert copy.t_ == 6


def test_loaded_driver_is_kept_by_clone_and_not_pickled(driver):
    estimator = ZipMLRegressor(device=driver, max_iter=2, tol=None)
    assert clone(estimator).device is driver
    estimator.fit(X, Y)
    with pytest.raises(
        ArgumentError, match="device was a loaded overlay or driver, which cannot be pickled"
    ):
        pickle.dumps(estimator)
    pickle.dumps(estimator.set_params(device="emulated"))


def test_names_of_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"column {i}" for i in range(12)])
    estimator = ZipMLRegressor(**EXACT, max_iter=3).fit(frame, pandas.Series(Y))
    assert list(estimator.feature_names_in_) == list(frame.columns)
    assert np.array_equal(estimator.coef_, ZipMLRegressor(**EXACT, max_iter=3).fit(X, Y).coef_)
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[frame.columns[::-1]])
    assert not hasattr(estimator.fit(pack(X, Y)), "feature_names_in_")


def test_probabilities_belong_to_the_logistic_loss():
    for loss in LOSSES:
        assert hasattr(ZipMLClassifier(loss), "predict_proba") == (loss == "logistic")
    for y in (TWO.y_train, THREE):
        samples = TWO.X_train if y is TWO.y_train else X
        model = ZipMLClassifier("logistic", random_state=0, max_iter=20, tol=None).fit(samples, y)
        p = model.predict_proba(samples)
        assert p.shape == (600, len(model.classes_))
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert np.array_equal(model.classes_[p.argmax(axis=1)], model.predict(samples))
        np.testing.assert_allclose(np.exp(model.predict_log_proba(samples)), p)
    peer = LogisticRegression().fit(TWO.X_train, TWO.y_train)
    model.fit(TWO.X_train, TWO.y_train)
    difference = model.predict_proba(TWO.X_test) - peer.predict_proba(TWO.X_test)
    assert np.abs(difference).mean() < 0.08


def test_scikit_learn_is_needed_for_them_alone():
    code = (
        "import sys; sys.modules['sklearn'] = sys.modules['sklearn.base'] = None\n"
        "from zipml_pynq import *\n"
        "import zipml_pynq, zipml_pynq.devices.overlay\n"
        "try: zipml_pynq.ZipMLRegressor\n"
        "except ImportError as error: print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the estimators need scikit-learn 1.6 or later: pip install" in found.stdout


# ---- The driver's bits ---------------------------------------------------------------------


def test_regressor_is_the_driver(driver):
    packed = pack(X, Y, bits=4, seed=SEED)
    result = driver.train(packed, epochs=5, step=0.05, **{**AS_THE_ESTIMATOR, "l2": 0.01})
    model = ZipMLRegressor(**{**EXACT, "alpha": 0.01}, max_iter=5).fit(X, Y)
    assert np.array_equal(model.model_[0], result.model_fixed)
    assert (model.bytes_streamed_, model.n_iter_) == (result.bytes_streamed, 5)
    coefficients, intercept = packed.normalization.to_raw_model(result.model)
    assert np.array_equal(model.coef_, coefficients)
    assert np.array_equal(model.intercept_, [intercept])
    expected = packed.normalization.predict(REGRESSION.X_test, result.model)
    np.testing.assert_allclose(model.predict(REGRESSION.X_test), expected, rtol=1e-6, atol=1e-6)


def test_defaults_are_the_drivers(driver):
    """A step that falls, steps of features: but for the penalty, which is taken from the draws."""
    X = np.random.default_rng(0).standard_normal((300, 7)) * np.logspace(-2, 1, 7)
    y = X.sum(axis=1)
    model = ZipMLRegressor(
        max_iter=6, tol=None, eta0=0.05, alpha=0, shuffle=False, levels="uniform", random_state=0
    ).fit(X, y)
    result = driver.train(pack(X, y, seed=SEED), epochs=6, step=0.05, l2=0, delay=1)
    assert np.array_equal(model.model_[0], result.model_fixed)


@pytest.mark.parametrize("loss", LOSSES)
def test_classes_share_one_packed_data_set(driver, loss, monkeypatch):
    packings = []
    monkeypatch.setattr(
        preparation, "pack", lambda *a, **k: packings.append(pack(*a, **k)) or packings[-1]
    )
    trained = []
    train = type(driver).train
    monkeypatch.setattr(
        type(driver), "train", lambda self, p, *a, **k: trained.append(p) or train(self, p, *a, **k)
    )
    model = ZipMLClassifier(loss, **EXACT, max_iter=4, device="emulated").fit(X, THREE)
    assert len(packings) == 1
    assert len(trained) == 3
    assert all(np.shares_memory(p.planes, packings[0].planes) for p in trained)
    packed = pack(X, Y, seed=SEED)
    for k, name in enumerate(model.classes_):
        binary = packed.relabel(np.where(name == THREE, 1.0, -1.0))
        result = driver.train(binary, epochs=4, step=0.05, loss=loss, **AS_THE_ESTIMATOR)
        assert np.array_equal(model.model_[k], result.model_fixed)
    assert model.coef_.shape == (3, 12)
    assert model.bytes_streamed_ == 3 * result.bytes_streamed


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bits", [1, 4, 32])
@pytest.mark.filterwarnings("ignore::zipml_pynq.errors.ZipmlWarning")
def test_objective_falls(loss, bits):
    # at 1 bit the optimum of a loss of noisy margins is not that of the exact ones
    schedule = "inverse" if bits == 1 else "auto"
    model = ZipMLClassifier(
        loss, bits=bits, random_state=0, max_iter=30, tol=None, learning_rate=schedule
    )
    model.fit(TWO.X_train, TWO.y_train)
    assert len(model.loss_curve_) == model.n_iter_ == 30
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    # below the zero model's
    assert model.loss_curve_[-1] < {"logistic": np.log(2), "hinge": 1.0}.get(loss, 0.5)
    # an expected accuracy of 0.95 is the most
    assert model.score(TWO.X_test, TWO.y_test) > (0.7 if bits == 1 else 0.88)
    assert model.saturated_ == 0


def test_regression_is_as_good_as_the_data():
    for bits, least in ((2, 0.8), (4, 0.87), (32, 0.88)):
        model = ZipMLRegressor(bits=bits, random_state=0).fit(X, Y)
        assert model.score(REGRESSION.X_test, REGRESSION.y_test) > least
        assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize(
    ("options", "value_format"),
    [
        ({"refetch": True, "loss": "hinge"}, "refetch"),
        ({}, "levels"),
        ({"levels": "global", "sampling": "single"}, "levels"),
        ({"levels": "uniform"}, "bitplanes"),
        ({"bits": 8}, "bitplanes"),
        ({"bits": (2, 4)}, "bitplanes"),
        ({"bits": 12}, "wide"),
        ({"sampling": "plain", "levels": "uniform"}, "bitplanes"),
        ({"sampling": "nearest"}, "bitplanes"),
        # so low a degree grows soon beyond its range: a step of its own
        (
            {"approximation": "chebyshev", "degree": 3, "loss": "logistic", "eta0": 0.2},
            "bitplanes",
        ),
        ({"model_bits": 8, "gradient_bits": 8, "levels": "uniform"}, "bitplanes"),
        ({"shuffle": "epochs", "levels": "uniform"}, "bitplanes"),
        ({"learning_rate": "decay", "levels": "uniform"}, "bitplanes"),
        ({"fit_intercept": False}, "levels"),
    ],
)
def test_options_reach_the_accelerator(options, value_format, monkeypatch):
    formats = []
    load_overlay = zipml_pynq.load_overlay
    monkeypatch.setattr(
        "zipml_pynq.devices.overlay.load_overlay",
        lambda source, **k: formats.append(k["value_format"]) or load_overlay(source, **k),
    )
    monkeypatch.setattr(preparation, "_loaded", type("Empty", (), {})())
    model = ZipMLClassifier(
        **{"random_state": 0, "max_iter": 15, "tol": None, "device": "emulated", **options}
    )
    model.fit(TWO.X_train, TWO.y_train)
    assert formats == [value_format]
    assert model.score(TWO.X_test, TWO.y_test) > 0.8
    assert (model.refetched_ > 0) == bool(options.get("refetch"))


def test_wide_samples_get_wide_words():
    samples = np.random.default_rng(0).standard_normal((40, 5000)).astype(np.float32)
    model = ZipMLClassifier(random_state=0, bits=2, max_iter=2, tol=None, batch_size=4)
    assert model.fit(samples, samples[:, 0] > 0).coef_.shape == (1, 5000)


# ---- Training options -----------------------------------------------------------------------


QUANTIZED = {"model_bits": 8, "gradient_bits": 8, "model_range": 2.0, "gradient_range": 0.5}


@pytest.mark.parametrize("quantized", [{}, QUANTIZED])
@pytest.mark.parametrize("shuffle", [False, "epochs"])
def test_warm_start_goes_on(quantized, shuffle):
    options = {**EXACT, **quantized, "shuffle": shuffle}
    whole = ZipMLRegressor(**options, max_iter=7).fit(X, Y)
    model = ZipMLRegressor(**options, max_iter=4, warm_start=True).fit(X, Y)
    model.set_params(max_iter=3).fit(X, Y)
    assert np.array_equal(model.model_, whole.model_)
    assert (model.n_iter_, model.t_, whole.t_) == (3, 7, 7)
    assert np.array_equal(model.loss_curve_, whole.loss_curve_[4:])
    # not with warm_start=False
    assert not np.array_equal(model.set_params(warm_start=False).fit(X, Y).model_, whole.model_)
    assert model.t_ == 3


@pytest.mark.parametrize("train", ["driver", "reference"])
def test_parts_of_a_plan_are_the_whole(driver, train):
    packed = pack(X, Y)
    options = {"model_bits": 8, "gradient_bits": 8, "shuffle": True, "l2": 0.01, "seed": 5}
    plan = make_plan(packed, epochs=5, step=0.05, **options)
    run = driver.train if train == "driver" else reference.train
    whole = run(packed, plan)
    first = run(packed, plan.part(0, 2))
    last = run(packed, plan.part(2, 5).part(0, 3), model=first.model_fixed)
    assert np.array_equal(last.model_fixed, whole.model_fixed)
    assert np.array_equal(last.history_fixed, whole.history_fixed[2:])


@pytest.mark.parametrize("memory_bytes", [36 << 10, 1 << 20])
def test_until_ends_training(memory_bytes):
    packed = pack(X, Y, block_samples=16)
    seen = []

    def until(model):
        seen.append(model)
        return len(seen) == 3

    with zipml_pynq.load_overlay("emulated", memory_bytes=memory_bytes) as (_, driver):
        whole = driver.train(packed, epochs=6, step=0.05)
        result = driver.train(packed, epochs=6, step=0.05, until=until)
        with pytest.raises(ArgumentError, match="until was 3; allowed is a function"):
            driver.train(packed, until=3)
    assert np.array_equal(result.history_fixed, whole.history_fixed[:3])
    assert np.array_equal(result.model_fixed, whole.history_fixed[2])
    assert np.array_equal(seen, whole.history[:3])


def test_training_stops_when_the_objective_does():
    options = {"max_iter": 200, "n_iter_no_change": 3, "refine": False}
    model = ZipMLRegressor(random_state=0, **options).fit(X, Y)
    assert 3 < model.n_iter_ < 200
    # the later half, without that in which the step fell, gained no more than tol of what the best
    # constant model has
    size = model.normalization_.transform_labels(Y).var() / 2
    curve = model.loss_curve_
    constant = next(e for e in range(model.n_iter_) if e + cooling_of(e) == model.n_iter_)
    assert curve[constant // 2 - 1] - curve[constant - 1] <= 1.001e-3 * size
    assert curve[-1] <= curve[constant - 1]
    assert curve[1] - curve[3] > 1e-3 * size
    small = {"max_iter": 2, "eta0": 0.01}
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        ZipMLRegressor(**small).fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ZipMLRegressor(**small, tol=None).fit(X, Y)


@pytest.mark.parametrize("packed", [False, True])
def test_early_stopping_keeps_the_best_model(packed):
    # few samples of many columns, a constant step: what is learnt after a few epochs is noise
    data = synthetic_regression(40, 120, 1000, r2=0.3)
    samples = (data.X_train, data.y_train)
    if packed:
        samples = (pack(*samples, bits=8, block_samples=16),)
    options = {"bits": 8, "learning_rate": "constant", "eta0": 0.2, "random_state": 0}
    options |= {"average": False, "redraw": False}
    model = ZipMLRegressor(
        **options, early_stopping=True, validation_fraction=0.3, max_iter=200
    ).fit(*samples)
    assert model.n_iter_ < 200
    assert len(model.validation_curve_) == model.n_iter_
    late = ZipMLRegressor(**options, max_iter=200, tol=None).fit(*samples)
    test = data.X_test, data.y_test
    assert model.score(*test) > late.score(*test)
    assert not hasattr(late, "validation_curve_")


def test_precision_schedule(driver):
    packed = pack(X, Y, bits=(2, 4), seed=SEED)
    steps = 0.05 / (1 + np.arange(5))
    low = driver.train(packed, bits=2, epochs=2, step=steps[:2], **AS_THE_ESTIMATOR)
    high = driver.train(
        packed, bits=4, epochs=3, step=steps[2:], model=low.model_fixed, **AS_THE_ESTIMATOR
    )
    model = ZipMLRegressor(**EXACT, max_iter=5, bits=[2, 2, 4]).fit(X, Y)
    assert np.array_equal(model.model_[0], high.model_fixed)
    assert model.bytes_streamed_ == low.bytes_streamed + high.bytes_streamed
    # a schedule may stop, too, in its last part
    options = {"random_state": 0, "max_iter": 300, "n_iter_no_change": 2, "tol": 1e-2}
    assert 50 < ZipMLRegressor(**options, bits=[2] * 50 + [4]).fit(X, Y).n_iter_ < 100


def test_sample_weights():
    weights = np.random.default_rng(0).uniform(0, 3, len(X))
    one = ZipMLRegressor(random_state=0).fit(X, Y, weights)
    # their scale does not matter
    many = ZipMLRegressor(random_state=0).fit(X, Y, weights * 1024)
    assert np.array_equal(one.model_, many.model_)
    # of two linear functions, that of the samples with the weight is learnt
    y = np.where(np.arange(len(X)) % 2, X[:, 0], -X[:, 0])
    first = ZipMLRegressor(random_state=0).fit(X, y, np.arange(len(X)) % 2)
    assert first.coef_[0] > 0.9
    # one heavy sample does not make the default step unstable
    heavy = np.where(np.arange(len(X)) == 7, 1000.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ZipmlWarning)
        assert ZipMLRegressor(random_state=0, redraw=False).fit(X, Y, heavy).saturated_ == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ZipMLRegressor(random_state=0).fit(X, Y, heavy).score(X, Y) > 0.87


@pytest.mark.parametrize("loss", LOSSES)
def test_class_weights(loss):
    y = np.where(np.arange(600) % 5 == 0, TWO.y_train, -1)  # few positive ones
    options = {"loss": loss, "random_state": 0, "tol": None, "max_iter": 20}
    plain = ZipMLClassifier(**options).fit(TWO.X_train, y)
    model = ZipMLClassifier(**options, class_weight={1: 8.0, -1: 1.0}).fit(TWO.X_train, y)
    assert (model.predict(TWO.X_test) == 1).sum() > (plain.predict(TWO.X_test) == 1).sum()
    # weights of samples weigh the means of columns, too: the same planes, then the same bits
    packed = pack(TWO.X_train, y)
    model.fit(packed)
    same = ZipMLClassifier(**options).fit(packed, y, np.where(y == 1, 8.0, 1.0))
    assert np.array_equal(model.model_, same.model_)
    ZipMLClassifier(**options, class_weight="balanced").fit(X, THREE)


# ---- Sparse, packed, on disk -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"levels": "optimal"}, {"bits": 32}, {"shuffle": True}])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix])
def test_sparse_is_dense(options, kind):
    dense = np.where(np.abs(X) > 1, X, 0).astype(np.float32)
    options = {**EXACT, "max_iter": 3, **options}
    one = ZipMLRegressor(**options).fit(dense, Y)
    other = ZipMLRegressor(**options).fit(kind(dense), Y)
    assert np.array_equal(one.model_, other.model_)
    np.testing.assert_allclose(other.predict(kind(dense)), one.predict(dense), rtol=1e-6)


def test_sparse_is_packed_by_block():
    """Dense in parts alone: what it takes beyond the planes is far less than the dense samples."""
    import tracemalloc

    X = sparse.random(50_000, 512, 0.01, "csr", dtype=np.float32, random_state=0)
    tracemalloc.start()
    packed = pack(X, np.arange(50_000.0), bits=1, sampling="single", threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert packed.planes.nbytes < X.shape[0] * X.shape[1]
    assert peak < packed.planes.nbytes + X.shape[0] * X.shape[1]  # a quarter of float32
    few = pack(X[:100].toarray(), np.arange(100.0), bits=1, normalization=packed.normalization)
    assert np.array_equal(few.unpack(sampling="single"), packed.unpack()[:100])


def test_sparse_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(preparation, "available_bytes", lambda: 1000)
    with pytest.raises(
        ArgumentError, match="X was a sparse matrix .* it would take 24320 bytes, and 1000"
    ):
        ZipMLRegressor().fit(sparse.csr_matrix(X), Y)
    with pytest.raises(
        ArgumentError, match="X had 40000 columns; allowed are at most 32767 beside the intercept"
    ):
        ZipMLRegressor().fit(sparse.random(20, 40_000, 0.001, "csr"), np.arange(20.0))


def test_packed_file_larger_than_the_device(tmp_path, driver):
    packed = pack(X, Y, bits=(2, 4), block_samples=16)
    packed.save(tmp_path / "packed")
    whole = driver.train(packed, bits=4, epochs=5, step=0.05, **AS_THE_ESTIMATOR)
    with zipml_pynq.load_overlay("emulated", memory_bytes=36 << 10) as loaded:
        options = {"max_iter": 5, "tol": None, "eta0": 0.05, "device": loaded, **AS_THE_DRIVER}
        options["shuffle"] = False
        model = ZipMLRegressor(**options).fit(tmp_path / "packed")
        assert model.bytes_streamed_ > whole.bytes_streamed  # in segments
        assert np.array_equal(model.model_[0], whole.model_fixed)
        with pytest.raises(ArgumentError, match="shuffle was true"):
            model.set_params(shuffle="epochs").fit(str(tmp_path / "packed"))
    mapped = PackedDataset.load(tmp_path / "packed")
    assert isinstance(mapped.planes.base, np.memmap | np.ndarray)
    options["device"] = "host"
    assert np.array_equal(ZipMLRegressor(**options).fit(mapped).coef_, model.coef_)
    assert model.n_features_in_ == 12
    assert model.score(X, Y) > 0.4


def test_packed_classes(driver):
    numbers = np.unique(THREE, return_inverse=True)[1]
    packed = pack(X, numbers, sample_weight=np.ones(len(X)))
    options = {"tol": None, "max_iter": 3, "eta0": 0.05, "random_state": 0}
    own = ZipMLClassifier(**options).fit(packed)
    assert list(own.classes_) == [0, 1, 2]
    named = ZipMLClassifier(**options).fit(packed, THREE)
    assert list(named.classes_) == ["low", "middle", "up"]
    assert np.array_equal(own.model_, named.model_)
    weighted = ZipMLClassifier(**options).fit(packed, THREE, numbers + 0.5)
    assert not np.array_equal(weighted.model_, named.model_)
    with pytest.raises(ArgumentError, match="labels are no integers"):
        ZipMLClassifier().fit(pack(X, Y))
    with pytest.raises(ArgumentError, match=r"y had shape \(3,\); allowed is one label a sample"):
        ZipMLClassifier().fit(packed, [1, 2, 3])


def test_packed_weights_are_kept(driver):
    weights = np.random.default_rng(1).uniform(0.5, 2, len(X))
    packed = pack(X, Y, sample_weight=weights)
    options = {"tol": None, "max_iter": 3, "eta0": 0.05, "shuffle": False, **AS_THE_DRIVER}
    result = driver.train(packed, epochs=3, step=0.05, **AS_THE_ESTIMATOR)
    assert np.array_equal(ZipMLRegressor(**options).fit(packed).model_[0], result.model_fixed)
    model = ZipMLRegressor(**options).fit(packed, Y)
    assert np.array_equal(model.model_[0], result.model_fixed)
    assert not np.array_equal(
        ZipMLRegressor(**options).fit(packed, sample_weight=1 / weights).model_, model.model_
    )


def test_packed_with_another_normalization_does_not_go_on():
    model = ZipMLRegressor(max_iter=2, tol=None, warm_start=True).fit(X, Y)
    with pytest.raises(ArgumentError, match="X was packed with another normalization"):
        model.fit(pack(2 * X, Y))
    model.fit(pack(X, Y, normalization=model.normalization_))
    assert model.t_ == 4


# ---- Bad input -----------------------------------------------------------------------------
