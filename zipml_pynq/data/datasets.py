"""Data sets: made up, shipped inside scikit-learn, read from a file, or fetched by name.

What scikit-learn ships for regression is small: ``diabetes`` has 442 samples, ``linnerud`` 20, and
the targets of ``digits``, ``wine``, ``iris`` and ``breast_cancer`` are classes. Its photographs are
real data of a size that matters here, so :func:`photo` takes its samples from one of them.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, issparse

from zipml_pynq.data.checks import check_choice, check_data, check_int
from zipml_pynq.data.rows import available_bytes, dense
from zipml_pynq.errors import ArgumentError, DownloadError

#: Data sets of the paper, and MNIST, by name: their name and version at OpenML.
OPENML: dict[str, tuple[str, int | str]] = {
    "year": ("YearPredictionMSD", 1),
    "cadata": ("houses", 1),
    "cpu_act": ("cpu_act", 1),
    "cpusmall": ("cpu_small", 1),
    "cod-rna": ("codrna", "active"),
    "gisette": ("gisette", "active"),
    "mnist": ("mnist_784", 1),
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A problem of regression, or of classification by numbers; all arrays are float32.

    Attributes
    ----------
    name : str
    X_train, X_test : ndarray, (N, columns)
    y_train, y_test : ndarray, (N,)
    """

    name: str
    X_train: NDArray[np.float32]
    y_train: NDArray[np.float32]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.float32]


def _dataset(
    name: str, X_train: ArrayLike, y_train: ArrayLike, X_test: ArrayLike, y_test: ArrayLike
) -> Dataset:
    arrays = (*check_data(X_train, y_train), *check_data(X_test, y_test))
    return Dataset(name, *(np.ascontiguousarray(a, dtype=np.float32) for a in arrays))


def _split(name: str, X: NDArray, y: NDArray, test_fraction: float, seed: int) -> Dataset:
    """Shuffled by ``seed``, then cut: the last ``test_fraction`` of the samples are the test."""
    if not 0 < test_fraction < 1:
        raise ArgumentError(f"test_fraction was {test_fraction}; it must lie between 0 and 1")
    tests = round(len(X) * test_fraction)
    if not 0 < tests < len(X):
        raise ArgumentError(
            f"test_fraction was {test_fraction}; of {len(X)} sample(s) it leaves one part empty"
        )
    order = np.random.default_rng(seed).permutation(len(X))
    train, test = order[: len(X) - tests], order[len(X) - tests :]
    return _dataset(name, X[train], y[train], X[test], y[test])


def generator_for(seed: int, **sizes: int) -> np.random.Generator:
    """The generator of made-up data, once their sizes, each at least 1, and the seed are allowed.

    Raises
    ------
    ArgumentError
        One of them, by its name.
    """
    for name, size in sizes.items():
        check_int(name, size, 1, 1 << 31)
    return np.random.default_rng(check_int("seed", seed, 0, (1 << 64) - 1))


def synthetic_regression(
    n_features: int = 100,
    n_train: int = 10_000,
    n_test: int = 10_000,
    r2: float = 0.9,
    seed: int = 0,
    skew: float = 0.0,
) -> Dataset:
    """A linear model with Gaussian (or log-normal) features and Gaussian noise.

    The shapes of ZipML's Synthetic 10, 100 and 1000 are ``n_features``, 10,000 samples to train on
    and 10,000 to test.

    Parameters
    ----------
    n_features, n_train, n_test : int
        At least 1.
    r2 : float
        Expected share of the labels' variance that the true model explains, above 0, at most 1.
    seed : int
        At least 0.
    skew : float
        0 for Gaussian features; above, up to 4, features ``exp(skew * g)`` of Gaussian g, brought
        to mean 0 and variance 1: most values lie close together at one end of their range.

    Raises
    ------
    ArgumentError
        A parameter is out of range.
    """
    if not 0 <= skew <= 4:
        raise ArgumentError(f"skew was {skew}; allowed is 0..4")
    rng = generator_for(seed, n_features=n_features, n_train=n_train, n_test=n_test)
    if not 0 < r2 <= 1:
        raise ArgumentError(f"r2 was {r2}; allowed is above 0 and at most 1")
    model = rng.standard_normal(n_features)
    # features are independent with variance 1, so this is the variance of X @ model
    noise = np.sqrt(model @ model * (1 - r2) / r2)

    def sample(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        X = rng.standard_normal((size, n_features), dtype=np.float32)
        if skew:
            mean, second = np.exp(skew**2 / 2), np.exp(2 * skew**2)
            X = ((np.exp(skew * X) - mean) / np.sqrt(second - mean**2)).astype(np.float32)
        y = X @ model + noise * rng.standard_normal(size)
        return X, y.astype(np.float32)

    name = f"synthetic-{n_features}" + (f"-skew-{skew:g}" if skew else "")
    return Dataset(name, *sample(n_train), *sample(n_test))


def synthetic_classification(
    n_features: int = 100,
    n_train: int = 10_000,
    n_test: int = 10_000,
    flips: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Two classes, -1 and 1: the sign of a linear model of Gaussian features, some turned over.

    Parameters
    ----------
    n_features, n_train, n_test : int
        At least 1.
    flips : float
        Expected share of the labels that are turned over, from 0 to below 0.5: no model has an
        expected accuracy above ``1 - flips``.
    seed : int
        At least 0.

    Raises
    ------
    ArgumentError
        A parameter is out of range.
    """
    rng = generator_for(seed, n_features=n_features, n_train=n_train, n_test=n_test)
    if not 0 <= flips < 0.5:
        raise ArgumentError(f"flips was {flips}; allowed is 0 to below 0.5")
    model = rng.standard_normal(n_features)

    def sample(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        X = rng.standard_normal((size, n_features), dtype=np.float32)
        sign = np.where((X @ model > 0) != (rng.random(size) < flips), 1.0, -1.0)
        return X, sign.astype(np.float32)

    return Dataset(f"synthetic-classes-{n_features}", *sample(n_train), *sample(n_test))


def _sklearn_datasets() -> Any:
    try:
        return import_module("sklearn.datasets")
    except ImportError as error:
        raise ImportError(
            "this data set ships inside scikit-learn: pip install 'zipml_pynq[demo]'"
        ) from error


def diabetes(test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Disease progression from 10 measurements of 442 patients (Efron et al., 2004).

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    """
    X, y = _sklearn_datasets().load_diabetes(return_X_y=True, scaled=False)
    return _split("diabetes", X, y, test_fraction, seed)


def digits(test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Handwritten digits of 8 x 8 pixels, 0 to 16 each (Alpaydin and Kaynak, 1998): 1,797 of them.

    A small stand-in for MNIST; labels are 0 to 9.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    """
    X, y = _sklearn_datasets().load_digits(return_X_y=True)
    return _split("digits", X, y, test_fraction, seed)


def photo(size: int = 7) -> Dataset:
    """Brightness of a pixel from the pixels around it: 48 features, about 267,000 samples.

    From scikit-learn's photograph of the Summer Palace. Neighbouring patches overlap, so the
    picture is not shuffled but cut: its right fifth is the test set, and shares no pixel with the
    rest. Least squares explains about 96 % of the variance.

    Parameters
    ----------
    size : int
        Side of the square patch, odd, 3..31; ``size**2 - 1`` features.

    Raises
    ------
    ImportError
        scikit-learn or Pillow is not installed.
    """
    if check_int("size", size, 3, 31) % 2 == 0:
        raise ArgumentError(f"size was {size}; it must be odd, so that a patch has a centre")
    datasets = _sklearn_datasets()
    brightness = datasets.load_sample_image("china.jpg").mean(axis=2, dtype=np.float32)

    def patches(part: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        windows = np.lib.stride_tricks.sliding_window_view(part, (size, size))
        rows = windows.reshape(-1, size * size)
        centre = size * size // 2
        return np.delete(rows, centre, axis=1), rows[:, centre]

    cut = brightness.shape[1] * 4 // 5
    return _dataset("photo", *patches(brightness[:, :cut]), *patches(brightness[:, cut:]))


def load_npz(path: str | os.PathLike[str], test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """A data set from a NumPy .npz file.

    Parameters
    ----------
    path : path-like
        Holds ``X`` and ``y``, which are shuffled and split here, or ``X_train``, ``y_train``,
        ``X_test`` and ``y_test``. Samples of more than one dimension (images) are flattened.
    test_fraction : float
        Share of the samples kept for the test, if the file does not say.
    seed : int
        Of the shuffle.

    Raises
    ------
    ArgumentError
        No such file, no .npz file, or other keys than these.
    """
    path = Path(path)
    try:
        # a .npy file gives an array, which is no context manager: TypeError, or AttributeError
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except OSError as error:
        raise ArgumentError(f"path was '{path}', which cannot be read: {error}") from error
    except (AttributeError, EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ArgumentError(f"path was '{path}', which is no .npz file of numbers") from error
    for key, array in arrays.items():
        if key.startswith("X") and array.ndim > 2:
            arrays[key] = array.reshape(len(array), -1)
    split = ("X_train", "y_train", "X_test", "y_test")
    if all(key in arrays for key in split):
        return _dataset(path.stem, *(arrays[key] for key in split))
    if "X" in arrays and "y" in arrays:
        X, y = check_data(arrays["X"], arrays["y"])
        return _split(path.stem, X, y, test_fraction, seed)
    raise ArgumentError(
        f"path was '{path}', with the keys {sorted(arrays)}; it must hold X and y, or {split}"
    )


def _dense32(name: str, X: Any) -> NDArray[np.float32]:
    """Samples as a dense array of float32, if it fits memory."""
    needed, room = 4 * X.shape[0] * X.shape[1], available_bytes()
    if issparse(X) and needed > room:
        raise ArgumentError(
            f"{name} holds a sparse matrix of shape {X.shape}; dense it would take {needed} bytes, "
            f"and {room} are available: sklearn.datasets.load_svmlight_file keeps it sparse, and "
            "the estimators and pack take it so"
        )
    return np.asarray(dense(X.astype(np.float32, copy=False)))


def load_libsvm(
    path: str | os.PathLike[str],
    test_path: str | os.PathLike[str] | None = None,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    n_features: int | None = None,
) -> Dataset:
    """A data set from a file in LIBSVM's (SVMlight's) format, ``.gz`` and ``.bz2`` too.

    Parameters
    ----------
    path : path-like
        The training set, or all samples, which are then shuffled and split.
    test_path : path-like, optional
        The test set.
    test_fraction : float
        Share of the samples kept for the test, without ``test_path``.
    seed : int
        Of the shuffle.
    n_features : int, optional
        Columns, where the files do not reach the last one; by default the largest index in them.

    Raises
    ------
    ArgumentError
        No such file, no file of this format, or dense samples do not fit memory.
    ImportError
        scikit-learn is not installed.
    """
    load = _sklearn_datasets().load_svmlight_files
    paths = [Path(p) for p in (path, test_path) if p is not None]
    try:
        arrays = load([str(p) for p in paths], n_features=n_features, dtype=np.float32)
    except OSError as error:
        raise ArgumentError(
            f"path was '{error.filename}', which cannot be read: {error}"
        ) from error
    except (ValueError, IndexError, OverflowError) as error:
        names = "' or '".join(map(str, paths))
        raise ArgumentError(
            f"path was '{names}', which is no LIBSVM file of that many columns: {error}"
        ) from error
    for p, X, _ in zip(paths, arrays[::2], arrays[1::2], strict=True):
        if 0 in X.shape:
            raise ArgumentError(f"path was '{p}', which holds no samples, or none with a value")
    samples = [_dense32(f"'{p}'", X) for p, X in zip(paths, arrays[::2], strict=True)]
    name = paths[0].name.partition(".")[0]
    if test_path is None:
        return _split(name, samples[0], arrays[1], test_fraction, seed)
    return _dataset(name, samples[0], arrays[1], samples[1], arrays[3])


def fetch(
    name: str,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    data_home: str | os.PathLike[str] | None = None,
) -> Dataset:
    """A data set of the paper by name, from OpenML through scikit-learn's fetcher and its cache.

    Parameters
    ----------
    name : str
        A key of :data:`OPENML`.
    test_fraction : float
        Share of the samples kept for the test; 10,000 of MNIST's 70,000, its last, are always it.
    seed : int
        Of the shuffle.
    data_home : path-like, optional
        Folder of the cache; by default scikit-learn's.

    Raises
    ------
    ArgumentError
        Unknown name, or a fraction that is out of range.
    DownloadError
        It is neither in the cache nor to be had over the network.
    ImportError
        scikit-learn is not installed.
    """
    there, version = OPENML[check_choice("name", name, tuple(OPENML))]
    if not 0 < test_fraction < 1:
        raise ArgumentError(f"test_fraction was {test_fraction}; it must lie between 0 and 1")
    fetcher = _sklearn_datasets().fetch_openml
    try:
        X, y = fetcher(
            there,
            version=version,
            data_home=data_home,
            return_X_y=True,
            as_frame=False,
            parser="liac-arff",  # the only one that needs no pandas
            n_retries=1,
        )
    except OSError as error:  # URLError is one
        raise DownloadError(
            f"{name} (OpenML's {there!r}) is not in scikit-learn's cache and cannot be fetched: "
            f"{error}; load_npz and load_libsvm read files"
        ) from error
    X = _dense32(name, csr_matrix(X) if issparse(X) else X)
    try:
        y = np.asarray(y, dtype=np.float32)
    except ValueError:  # names of classes
        y = np.unique(y, return_inverse=True)[1].astype(np.float32)
    if name == "mnist":
        return _dataset(name, X[:60_000], y[:60_000], X[60_000:], y[60_000:])
    return _split(name, X, y, test_fraction, seed)
