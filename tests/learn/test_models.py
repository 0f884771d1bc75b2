"""Models on disk and in other tools: what comes back predicts the same, and bad files are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier

import zipml_pynq
from zipml_pynq import pack
from zipml_pynq.data.datasets import synthetic_classification, synthetic_regression
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.tensor_file import read_tensors, write_tensors
from zipml_pynq.errors import ArgumentError, ModelFileError, PackedFileError, ZipmlWarning
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.models import FILE_KIND, LinearModel
from zipml_pynq.learn.regressor import ZipMLRegressor

REGRESSION = synthetic_regression(12, 400, 100)
# columns far from 0 and of many sizes, so that a wrong unit anywhere shows
SCALE, SHIFT = np.logspace(-3, 3, 12), np.linspace(-50, 50, 12)
X = REGRESSION.X_train.astype(np.float64) * SCALE + SHIFT
X_TEST = REGRESSION.X_test.astype(np.float64) * SCALE + SHIFT
Y = REGRESSION.y_train * 7.0 + 1000.0
TWO = synthetic_classification(12, 400, 100, flips=0.05)
SIGNS = TWO.y_train
NAMES = np.array(["low", "middle", "up"])[np.digitize(Y, np.quantile(Y, [0.33, 0.66]))]
QUICK = {"max_iter": 4, "tol": None, "random_state": 0}
LOSSES = ("hinge", "squared_hinge", "logistic", "least_squares")


def fitted(loss: str, labels: np.ndarray) -> ZipMLClassifier:
    return ZipMLClassifier(loss, **QUICK).fit(X, labels)


@pytest.fixture(scope="module")
def estimators() -> dict[str, ZipMLRegressor | ZipMLClassifier]:
    """One estimator of every kind."""
    made: dict[str, ZipMLRegressor | ZipMLClassifier] = {
        "regression": ZipMLRegressor(bits=(2, 8), **QUICK).fit(X, Y),
        "no intercept": ZipMLRegressor(fit_intercept=False, **QUICK).fit(X, Y),
    }
    for loss in LOSSES:
        made[f"{loss}, two"] = fitted(loss, np.where(SIGNS > 0, "yes", "no"))
        made[f"{loss}, three"] = fitted(loss, NAMES)
    made["logistic, together"] = ZipMLClassifier("logistic", random_state=0).fit(X, NAMES)
    made["logistic, numbers"] = fitted("logistic", np.where(SIGNS > 0, 7, 3))
    made["hinge, booleans"] = fitted("hinge", SIGNS > 0)
    made["hinge, floats"] = fitted("hinge", SIGNS)
    return made


REGRESSIONS = ("regression", "no intercept")
KINDS = [
    *REGRESSIONS,
    *(f"{loss}, {count}" for loss in LOSSES for count in ("two", "three")),
    "logistic, together",
    "logistic, numbers",
    "hinge, booleans",
    "hinge, floats",
]


@pytest.fixture
def path(estimators, tmp_path):
    estimators["logistic, three"].save(tmp_path / "model.zipml")
    return tmp_path / "model.zipml"


# ---- Files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_estimators_come_back(estimators, tmp_path, kind):
    before = estimators[kind]
    before.save(tmp_path / "model")
    after = type(before).load(tmp_path / "model")
    model = LinearModel.load(tmp_path / "model")
    for other in (after, model):
        found, expected = other.predict(X_TEST), before.predict(X_TEST)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        from_sparse = other.predict(sparse.csr_matrix(X_TEST))
        if kind in REGRESSIONS:
            assert np.allclose(from_sparse, expected, rtol=1e-12)
        else:
            assert np.array_equal(from_sparse, expected)
    if hasattr(before, "predict_proba"):
        for other in (after, model):
            assert np.array_equal(other.predict_proba(X_TEST), before.predict_proba(X_TEST))
        together = kind == "logistic, together"
        assert (before.multinomial_, after.multinomial_, model.multinomial) == (together,) * 3
    assert after.normalization_ == before.normalization_
    assert np.array_equal(after.model_, before.model_)
    assert np.array_equal(after.loss_curve_, before.loss_curve_)
    assert (after.t_, after.n_iter_, after.bytes_streamed_) == (
        before.t_,
        before.n_iter_,
        before.bytes_streamed_,
    )
    wanted = {**before.get_params(), "bits": after.bits}
    assert after.get_params() == wanted
    assert np.array_equal(after.bits, before.bits)
    assert os.listdir(tmp_path) == ["model"]


def test_files_that_tell_nothing_of_it_are_one_against_the_rest(estimators, path):
    before = estimators["logistic, three"]
    tensors, metadata = read_tensors(path, FILE_KIND, mmap=False)
    for name in (*metadata,):
        if name in ("multinomial", "format", "version", "sha256"):
            del metadata[name]
    write_tensors(path, FILE_KIND, tensors, metadata)
    after = ZipMLClassifier.load(path)
    assert not after.multinomial_
    assert np.array_equal(after.predict_proba(X_TEST), before.predict_proba(X_TEST))
    write_tensors(path, FILE_KIND, tensors, {**metadata, "multinomial": "perhaps"})
    with pytest.raises(ModelFileError, match="was altered"):
        LinearModel.load(path)


def test_training_goes_on_where_it_was_saved(tmp_path):
    options = {"warm_start": True, "tol": None, "eta0": 0.05, "shuffle": False, "random_state": 0}
    options["average"] = False  # a file holds no model but the mean
    whole = ZipMLRegressor(max_iter=7, **options).fit(X, Y)
    first = ZipMLRegressor(max_iter=4, **options).fit(X, Y)
    first.save(tmp_path / "model")
    second = ZipMLRegressor.load(tmp_path / "model").set_params(max_iter=3).fit(X, Y)
    assert np.array_equal(second.model_, whole.model_)


def test_parameters_that_a_file_does_not_hold_are_told(tmp_path):
    estimator = ZipMLClassifier(
        learning_rate=lambda epoch: 1.0, class_weight={"low": 2.0}, max_iter=1, tol=None
    ).fit(X, NAMES)
    with pytest.warns(ZipmlWarning, match="learning_rate was <function .*left out"):
        estimator.save(tmp_path / "model")
    loaded = ZipMLClassifier.load(tmp_path / "model", device="pynq-z2")
    assert loaded.learning_rate == "auto"
    assert loaded.class_weight == {"low": 2.0}
    assert loaded.device == "pynq-z2"


def test_a_model_of_the_driver(tmp_path):
    packed = pack(X, Y, bits=4)
    with zipml_pynq.load_overlay("emulated") as loaded:
        result = loaded.driver.train(packed, epochs=4)
    model = LinearModel.from_result(
        result, packed.normalization, bits=4, feature_names=[f"f{i}" for i in range(12)]
    )
    model.save(tmp_path / "model")
    again = LinearModel.load(tmp_path / "model")
    assert np.allclose(
        again.predict(X_TEST), packed.normalization.predict(X_TEST, result.model), rtol=1e-12
    )
    assert (again.bits, again.loss, again.classes) == ((4,), "least_squares", None)
    assert again.feature_names == tuple(f"f{i}" for i in range(12))
    assert again.normalization == packed.normalization
    assert np.array_equal(ZipMLRegressor.load(tmp_path / "model").coef_, model.coef[0])


@pytest.mark.parametrize("labels", [(-1, 1), (0, 1), (2.5, 4.0)])
def test_a_classifier_of_the_driver(tmp_path, labels):
    y = np.where(SIGNS > 0, *labels[::-1])
    packed = pack(TWO.X_train, y, bits=4)
    with zipml_pynq.load_overlay("emulated") as loaded:
        result = loaded.driver.train(packed, epochs=6, loss="hinge")
    model = LinearModel.from_result(result, packed.normalization, loss="hinge", bits=4)
    model.save(tmp_path / "model")
    model = LinearModel.load(tmp_path / "model")
    assert model.classes.tolist() == list(labels)
    expected = np.where(TWO.y_test > 0, *labels[::-1])
    assert (model.predict(TWO.X_test) == expected).mean() > 0.85
    z = packed.normalization.transform(TWO.X_test) @ result.model
    assert np.allclose(model.decision_function(TWO.X_test), z, atol=1e-5)


def test_several_classes_of_the_driver():
    """One result a class, all from one packed data set."""
    packed = pack(X, Y, bits=4)
    names = np.unique(NAMES)
    with zipml_pynq.load_overlay("emulated") as loaded:
        results = []
        for name in names:
            one = packed.relabel(np.where(name == NAMES, 1.0, -1.0))
            results.append(loaded.driver.train(one, epochs=8, loss="squared_hinge"))
    model = LinearModel.from_result(
        results, packed.normalization, loss="squared_hinge", classes=names, bits=4
    )
    assert model.decision_function(X).shape == (len(X), 3)
    values = packed.normalization.transform(X)
    z = np.stack([values @ result.model for result in results], axis=1)
    assert np.allclose(model.decision_function(X), z, atol=1e-4)
    assert (model.predict(X) == NAMES).mean() > 0.7
    with pytest.raises(ArgumentError, match=r"with 2 model\(s\)"):
        LinearModel.from_result(results[:2], packed.normalization, classes=names)


def test_loading_needs_neither_pynq_nor_scikit_learn(path):
    code = (
        "import sys; from zipml_pynq.learn.models import LinearModel; "
        f"LinearModel.load({str(path)!r}); print({{'pynq', 'sklearn', 'onnx'}} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_other_readers_of_safetensors_see_the_numbers(estimators, path):
    tensors = safetensors.numpy.load_file(path)
    model = estimators["logistic, three"]
    assert np.array_equal(tensors["coef"], model.coef_)
    assert np.array_equal(tensors["intercept"], model.intercept_)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["classes"]) == ["low", "middle", "up"]


def test_files_that_are_no_models(path, tmp_path):
    with pytest.raises(ModelFileError, match="cannot be read: No such file"):
        LinearModel.load(tmp_path / "missing")
    other = tmp_path / "other"
    pack(X, Y).save(other)
    with pytest.raises(ModelFileError, match="no model: it is a 'zipml-pynq packed data set'"):
        LinearModel.load(other)
    with pytest.raises(PackedFileError, match="no packed data set: it is a 'zipml-pynq model'"):
        PackedDataset.load(path)
    safetensors.numpy.save_file({"coef": np.ones(3)}, other)
    with pytest.raises(ModelFileError, match="no model: its metadata do not say so"):
        LinearModel.load(other)
    other.write_bytes(b"\x80\x04\x95pickle" * 40)
    with pytest.raises(ModelFileError, match="no model: it is no safetensors file"):
        LinearModel.load(other)
    with pytest.raises(ModelFileError, match=r"holds a classifier; ZipMLRegressor cannot load it"):
        ZipMLRegressor.load(path)


def test_truncated_at_any_length(path, tmp_path):
    whole = path.read_bytes()
    short = tmp_path / "short"
    for length in {*range(12), *range(0, len(whole), 89), len(whole) - 1}:
        short.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="truncated"):
            LinearModel.load(short)


def test_one_flipped_byte_anywhere_is_noticed(path, tmp_path):
    whole = path.read_bytes()
    for place in range(0, len(whole), 23):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(ModelFileError):
            LinearModel.load(tmp_path / "damaged")


@pytest.mark.parametrize(
    ("version", "remedy"), [("2", "a newer release of zipml_pynq wrote it"), ("0", "train and")]
)
def test_other_versions(path, version, remedy):
    whole = path.read_bytes()
    changed = whole.replace(b'"version":"1"', f'"version":"{version}"'.encode())
    assert changed != whole
    path.write_bytes(changed)
    with pytest.raises(ModelFileError, match=f"format version {version}; .*version 1: {remedy}"):
        LinearModel.load(path)


def test_a_failed_save_leaves_the_old_file(estimators, path, full_disk):
    before = path.read_bytes()
    with pytest.raises(ModelFileError, match="cannot be written: .*No space left"):
        estimators["regression"].save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_saving_needs_a_fit_and_a_folder(estimators, tmp_path):
    with pytest.raises(NotFittedError):
        ZipMLRegressor().save(tmp_path / "model")
    with pytest.raises(ArgumentError, match=r"the folder '.*missing' does not exist"):
        estimators["regression"].save(tmp_path / "missing" / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": None}, "classes was None with loss 'logistic'"),
        ({"classes": np.array(["a", "b"])}, r"with 3 model\(s\)"),
        ({"classes": np.array([3, 1, 2])}, "must ascend"),
        ({"classes": np.array([1j, 2, 3])}, "classes had dtype complex128"),
        ({"loss": "huber"}, "loss was 'huber'"),
        ({"coef": np.zeros((2, 12))}, r"coef had shape \(2, 12\)"),
        ({"intercept": np.array([0, np.nan, 0])}, "intercept held NaN"),
        ({"feature_names": ("a",)}, "feature_names had 1 names"),
        ({"multinomial": True, "loss": "hinge"}, "multinomial was True with loss 'hinge'"),
    ],
)
def test_what_does_not_go_together(estimators, change, message):
    with pytest.raises(ArgumentError, match=message):
        replace(estimators["logistic, three"].to_model(), **change)


def test_bad_samples(estimators):
    model = estimators["regression"].to_model()
    with pytest.raises(ArgumentError, match=r"X had 3 column\(s\)"):
        model.predict(np.zeros((2, 3)))
    with pytest.raises(ArgumentError, match="X was nan in row 1, column 0"):
        model.predict(np.r_[np.zeros((1, 12)), np.full((1, 12), np.nan)])
    with pytest.raises(ArgumentError, match="loss was 'least_squares'; probabilities"):
        model.predict_proba(X)


# ---- Exports -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_scikit_learn_predicts_the_same(estimators, kind):
    model = estimators[kind]
    exported = model.to_model().to_sklearn()
    expected_type = LinearRegression if kind in REGRESSIONS else SGDClassifier
    if kind == "logistic, together":
        expected_type = LogisticRegression
    assert type(exported) is expected_type
    found, expected = exported.predict(X_TEST), model.predict(X_TEST)
    if isinstance(exported, LinearRegression):
        assert np.allclose(found, expected, rtol=1e-12, atol=0)
    else:
        assert np.array_equal(found, expected)
        z = model.decision_function(X_TEST)
        assert np.allclose(exported.decision_function(X_TEST), z, rtol=1e-9, atol=1e-9)
    assert exported.score(X_TEST, expected) == pytest.approx(1)
    if hasattr(model, "predict_proba"):
        p = model.predict_proba(X_TEST)
        assert np.allclose(exported.predict_proba(X_TEST), p, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_predicts_the_same(estimators, tmp_path, kind, dtype):
    runtime = pytest.importorskip("onnxruntime")
    model = estimators[kind].to_model()
    model.to_onnx(tmp_path / "model.onnx", dtype)
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    samples = X_TEST.astype(dtype)
    first, *rest = session.run(None, {"X": samples})
    expected = model.predict(samples)
    rtol = {"float64": 1e-9, "float32": 1e-6}[dtype]
    assert first.shape == expected.shape
    if model.classes is None:
        assert first.dtype == dtype
        assert np.allclose(first, expected, rtol=rtol)
        return
    assert np.array_equal(first, expected)
    if model.loss == "logistic":
        assert np.allclose(rest[0], model.predict_proba(samples), rtol=rtol, atol=rtol)
    else:
        z = model.decision_function(samples)
        assert np.allclose(rest[0], z.reshape(len(z), -1), rtol=rtol, atol=rtol)


def test_onnx_probabilities_far_out(estimators):
    """Sigmoids that vanish in float64 still have a ratio."""
    onnx = pytest.importorskip("onnx.reference")
    model = estimators["logistic, three"].to_model()
    far = replace(model, intercept=np.array([-900.0, -901.0, -1000.0]), coef=model.coef * 0)
    # a softmax of what is far out is the same
    for some in (far, replace(far, multinomial=True)):
        evaluator = onnx.ReferenceEvaluator(some.to_onnx(dtype="float64"))
        _, p = evaluator.run(None, {"X": X_TEST[:1]})
        assert np.allclose(p, some.predict_proba(X_TEST[:1]), rtol=1e-9)
        assert np.allclose(p[0, :2], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])


def test_exports_say_what_is_missing(estimators, monkeypatch):
    model = estimators["regression"].to_model()
    with pytest.raises(ArgumentError, match="dtype was 'float16'"):
        model.to_onnx(dtype="float16")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'zipml_pynq\[onnx\]'"):
        model.to_onnx()
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ImportError, match=r"pip install 'zipml_pynq\[sklearn\]'"):
        model.to_sklearn()


def test_nothing_warns(estimators, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimators["regression"].save(tmp_path / "model")
        ZipMLRegressor.load(tmp_path / "model")
