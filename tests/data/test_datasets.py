"""The data sets: shapes, types, and that a linear model fits them as well as they say."""

from __future__ import annotations

import bz2
import gzip
import sys

import numpy as np
import pytest
from sklearn.datasets import dump_svmlight_file

from zipml_pynq.data import datasets
from zipml_pynq.errors import ArgumentError, DownloadError


def check(data: datasets.Dataset, columns: int, train: int, test: int) -> None:
    assert data.X_train.shape == (train, columns)
    assert data.X_test.shape == (test, columns)
    assert data.y_train.shape == (train,)
    assert data.y_test.shape == (test,)
    for array in (data.X_train, data.y_train, data.X_test, data.y_test):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert np.isfinite(array).all()


def r2_of_least_squares(data: datasets.Dataset) -> float:
    """R² on the test set of the least squares solution of the training set."""

    def with_one(X):
        return np.column_stack([X.astype(np.float64), np.ones(len(X))])

    model = np.linalg.lstsq(with_one(data.X_train), data.y_train, rcond=None)[0]
    residual = data.y_test - with_one(data.X_test) @ model
    return 1 - residual.var() / data.y_test.var()


@pytest.mark.parametrize("r2", [0.5, 0.9, 1.0])
def test_synthetic_regression(r2):
    data = datasets.synthetic_regression(10, r2=r2)
    check(data, 10, 10_000, 10_000)
    # fixed seed; R² of 10,000 samples has a standard deviation of at most about 0.01
    assert abs(r2_of_least_squares(data) - r2) < 0.03
    assert data.name == "synthetic-10"


def test_synthetic_regression_depends_on_its_seed_alone():
    one, same = (datasets.synthetic_regression(3, 20, 10, seed=4) for _ in range(2))
    other = datasets.synthetic_regression(3, 20, 10, seed=5)
    check(one, 3, 20, 10)
    assert np.array_equal(one.X_train, same.X_train)
    assert np.array_equal(one.y_test, same.y_test)
    assert not np.array_equal(one.X_train, other.X_train)


def test_diabetes():
    data = datasets.diabetes()
    check(data, 10, 354, 88)
    assert 0.3 < r2_of_least_squares(data) < 0.7
    # raw units: ages in years
    assert data.X_train[:, 0].max() > 60


def test_digits():
    data = datasets.digits()
    check(data, 64, 1438, 359)
    assert set(data.y_train) == set(range(10))
    # every digit's mean image looks like no other digit's
    means = np.stack([data.X_train[data.y_train == digit].mean(axis=0) for digit in range(10)])
    nearest = ((data.X_test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert np.mean(nearest == data.y_test) > 0.8


def test_photo():
    data = datasets.photo()
    check(data, 48, 421 * 506, 421 * 122)
    assert r2_of_least_squares(data) > 0.93
    # of a 3 x 3 patch, the pixel right of the centre is the next sample's centre
    small = datasets.photo(3)
    check(small, 8, 425 * 510, 425 * 126)
    assert np.array_equal(small.X_train[:500, 4], small.y_train[1:501])


def test_load_npz_splits(tmp_path):
    X = np.arange(40.0).reshape(20, 2)
    np.savez(tmp_path / "some.npz", X=X, y=X[:, 0])
    data = datasets.load_npz(tmp_path / "some.npz", test_fraction=0.25, seed=1)
    check(data, 2, 15, 5)
    assert data.name == "some"
    # samples stay beside their labels, and each appears once
    assert np.array_equal(data.X_train[:, 0], data.y_train)
    both = np.concatenate([data.y_train, data.y_test])
    assert sorted(both) == sorted(X[:, 0])
    assert not np.array_equal(both, X[:, 0])
    again = datasets.load_npz(tmp_path / "some.npz", test_fraction=0.25, seed=1)
    assert np.array_equal(again.y_test, data.y_test)


def test_load_npz_takes_a_given_split_and_flattens_images(tmp_path):
    images = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    np.savez(
        tmp_path / "images.npz",
        X_train=images[:4],
        y_train=np.arange(4, dtype=np.uint8),
        X_test=images[4:],
        y_test=np.arange(2, dtype=np.uint8),
    )
    data = datasets.load_npz(str(tmp_path / "images.npz"))
    check(data, 12, 4, 2)
    assert np.array_equal(data.X_test, images[4:].reshape(2, 12))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.ones(2)}, r"with the keys \['a'\]; it must hold X and y, or"),
        ({"X": np.ones((2, 2))}, "it must hold X and y"),
        ({"X": np.ones((2, 2)), "y": np.ones(3)}, r"y had 3 label\(s\), X 2 row\(s\)"),
        ({"X": np.ones((1, 2)), "y": np.ones(1)}, "test_fraction was 0.2; of 1 sample"),
        ({"X": np.array([["a"]]), "y": np.ones(1)}, "X had dtype <U1"),
        ({"X": np.array([[None]]), "y": np.ones(1)}, "is no .npz file of numbers"),
    ],
)
def test_load_npz_refuses(tmp_path, content, message):
    np.savez(tmp_path / "bad.npz", **content)
    with pytest.raises(ArgumentError, match=message):
        datasets.load_npz(tmp_path / "bad.npz")


def test_load_npz_refuses_other_files(tmp_path):
    with pytest.raises(ArgumentError, match="cannot be read: .*No such file"):
        datasets.load_npz(tmp_path / "missing.npz")
    for content in (b"", b"text", b"PK\x03\x04 not a zip"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ArgumentError, match="is no .npz file of numbers"):
            datasets.load_npz(tmp_path / "bad.npz")
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(ArgumentError, match="is no .npz file of numbers"):
        datasets.load_npz(tmp_path / "one.npy")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: datasets.synthetic_regression(0), "n_features was 0; allowed is 1"),
        (lambda: datasets.synthetic_regression(3, 0), "n_train was 0"),
        (lambda: datasets.synthetic_regression(3, 4, -1), "n_test was -1"),
        (lambda: datasets.synthetic_regression(3, r2=0), "r2 was 0; allowed is above 0"),
        (lambda: datasets.synthetic_regression(3, r2=1.1), "r2 was 1.1"),
        (lambda: datasets.synthetic_regression(3, seed=-1), "seed was -1"),
        (lambda: datasets.synthetic_classification(0), "n_features was 0; allowed is 1"),
        (lambda: datasets.synthetic_classification(3, n_test=0), "n_test was 0"),
        (lambda: datasets.synthetic_classification(3, flips=0.5), "flips was 0.5; allowed is 0 to"),
        (lambda: datasets.synthetic_classification(3, seed=-1), "seed was -1"),
        (lambda: datasets.photo(4), "size was 4; it must be odd"),
        (lambda: datasets.photo(1), r"size was 1; allowed is 3\.\.31"),
        (lambda: datasets.diabetes(test_fraction=1.0), "test_fraction was 1.0; it must lie"),
        (lambda: datasets.diabetes(test_fraction=1e-6), "leaves one part empty"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize("load", [datasets.diabetes, datasets.digits, datasets.photo])
def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch, load):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"scikit-learn: pip install 'zipml_pynq\[demo\]'"):
        load()


# ---- Classes, LIBSVM files, names ----------------------------------------------------------------


def test_synthetic_classification():
    data = datasets.synthetic_classification(20, flips=0.1)
    check(data, 20, 10_000, 10_000)
    assert set(np.unique(data.y_train)) == {-1.0, 1.0}
    model = np.linalg.lstsq(data.X_train.astype(np.float64), data.y_train, rcond=None)[0]
    # 10,000 samples have a standard deviation of 0.003
    assert abs((np.sign(data.X_test @ model) == data.y_test).mean() - 0.9) < 0.015
    one, same, other = (datasets.synthetic_classification(3, 20, 10, seed=s) for s in (4, 4, 5))
    assert np.array_equal(one.X_test, same.X_test)
    assert np.array_equal(one.y_test, same.y_test)
    assert not np.array_equal(one.X_test, other.X_test)
    clean = datasets.synthetic_classification(3, 500, 1, flips=0)
    assert r2_of_least_squares(datasets._dataset("", *[clean.X_train, clean.y_train] * 2)) > 0.4


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_load_libsvm(tmp_path, suffix):
    rng = np.random.default_rng(0)
    X = np.where(rng.random((50, 6)) < 0.5, rng.standard_normal((50, 6)), 0).astype(np.float32)
    y = np.arange(50) % 3
    X[:, 5] = 0
    for name, rows in (("all", slice(0, 50)), ("train", slice(0, 30)), ("test", slice(30, 50))):
        dump_svmlight_file(X[rows], y[rows], str(tmp_path / f"{name}.t"), zero_based=False)
        if suffix:
            content = (tmp_path / f"{name}.t").read_bytes()
            compress = gzip.compress if suffix == ".gz" else bz2.compress
            (tmp_path / f"{name}.t{suffix}").write_bytes(compress(content))
    train, test = (tmp_path / f"{name}.t{suffix}" for name in ("train", "test"))
    # the last column is in no file
    data = datasets.load_libsvm(train, test)
    check(data, 5, 30, 20)
    data = datasets.load_libsvm(train, str(test), n_features=6)
    check(data, 6, 30, 20)
    np.testing.assert_allclose(data.X_train, X[:30])
    np.testing.assert_allclose(data.X_test, X[30:])
    assert np.array_equal(data.y_test, y[30:])
    data = datasets.load_libsvm(tmp_path / f"all.t{suffix}", test_fraction=0.2, seed=3)
    check(data, 5, 40, 10)
    assert data.name == "all"


def test_load_libsvm_refuses(tmp_path, monkeypatch):
    path = tmp_path / "some.t"
    with pytest.raises(ArgumentError, match=r"path was '.*some\.t', which cannot be read"):
        datasets.load_libsvm(path)
    for content in ("no numbers\n", "1 a:b\n", "1 2:\n"):
        path.write_text(content)
        with pytest.raises(ArgumentError, match="which is no LIBSVM file"):
            datasets.load_libsvm(path)
    for content in ("", "# nothing\n"):
        path.write_text(content)
        with pytest.raises(ArgumentError, match="holds no samples|no LIBSVM file"):
            datasets.load_libsvm(path)
    path.write_text("1 1:2\n2 3:4\n")
    with pytest.raises(ArgumentError, match="no LIBSVM file of that many columns"):
        datasets.load_libsvm(path, n_features=2)
    with pytest.raises(ArgumentError, match="test_fraction was 2"):
        datasets.load_libsvm(path, test_fraction=2)
    monkeypatch.setattr(datasets, "available_bytes", lambda: 20)
    with pytest.raises(ArgumentError, match=r"shape \(2, 3\); dense it would take 24 bytes"):
        datasets.load_libsvm(path)


def test_fetch_checks_its_arguments():
    with pytest.raises(ArgumentError, match="name was 'iris'; allowed are 'year', 'cadata'"):
        datasets.fetch("iris")
    with pytest.raises(ArgumentError, match="test_fraction was 0"):
        datasets.fetch("gisette", test_fraction=0)


@pytest.mark.filterwarnings("ignore:A network error occurred")
def test_fetch_without_network(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError, match="cod-rna .*'codrna'.* is not in scikit-learn's cache"):
        datasets.fetch("cod-rna", data_home=tmp_path)
