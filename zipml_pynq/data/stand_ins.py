"""Made-up data of the shapes of ZipML's data sets, for where these cannot be fetched.

Each is drawn by seed and has the shape, the kind of columns and roughly the difficulty of a set of
the paper. What is measured on one is no result on the other: they have names of their own, and
tables have to say which it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.checks import check_int
from zipml_pynq.data.datasets import Dataset, generator_for


def _classes(
    name: str,
    X: NDArray[np.float64],
    score: NDArray[np.float64],
    share: float,
    noise: NDArray[np.float64],
    n_train: int,
) -> Dataset:
    """Classes -1 and 1, of which ``share`` are 1, by the size of a score with noise."""
    noisy = score + noise
    y = np.where(noisy > np.quantile(noisy, 1 - share), 1.0, -1.0).astype(np.float32)
    samples = X.astype(np.float32)
    return Dataset(name, samples[:n_train], y[:n_train], samples[n_train:], y[n_train:])


def composition_classes(n_train: int = 59_535, n_test: int = 20_000, seed: int = 0) -> Dataset:
    """Two classes, a third of them 1, of 8 columns: two skewed sizes and six shares.

    The columns of cod-rna are of these kinds (an energy, a length, and the shares of bases in two
    sequences), and its linear models judge about 95 of 100 samples right, as they do here.

    Parameters
    ----------
    n_train, n_test : int
        At least 1.
    seed : int
        At least 0.

    Raises
    ------
    ArgumentError
        A parameter is out of range.
    """
    rng = generator_for(seed, n_train=n_train, n_test=n_test)
    size = n_train + n_test
    length = 60 * np.exp(0.35 * rng.standard_normal(size))
    shares = rng.dirichlet((12.0, 10.0, 12.0, 10.0), size)
    # the second sequence is much like the first
    other = 0.75 * shares + 0.25 * rng.dirichlet((6.0, 6.0, 6.0, 6.0), size)
    pairs = shares[:, 1] + shares[:, 2]
    energy = -length * (4 * pairs + 0.6 * np.abs(rng.standard_normal(size)))
    energy -= 80 * np.exp(0.8 * rng.standard_normal(size))
    X = np.column_stack([energy, length, shares[:, :3], other[:, :3]])
    score = -(energy + 2.2 * length) / energy.std() + 2 * (other[:, 0] - shares[:, 0])
    noise = 0.15 * score.std() * rng.standard_normal(size)
    return _classes("composition-classes-8", X, score, 1 / 3, noise, n_train)


def sparse_classes(
    n_features: int = 5_000, n_train: int = 6_000, n_test: int = 1_000, seed: int = 0
) -> Dataset:
    """Two equal classes of many columns that are 0 in seven of eight places.

    As gisette, whose columns are pixels of digits, and products of them, beside probes without
    meaning: values of 0 to 999, 13 % of them not 0, half of the columns useless, and linear models
    that judge about 98 of 100 samples right.

    Parameters
    ----------
    n_features, n_train, n_test : int
        At least 1.
    seed : int
        At least 0.

    Raises
    ------
    ArgumentError
        A parameter is out of range.
    """
    rng = generator_for(seed, n_train=n_train, n_test=n_test)
    check_int("n_features", n_features, 1, 1 << 20)
    size, useful = n_train + n_test, (n_features + 1) // 2
    sign = np.where(rng.random(size) < 0.5, -1.0, 1.0)
    density = rng.beta(0.5, 3.3, n_features)
    lean = np.zeros(n_features)
    # as hard with fewer columns
    lean[:useful] = rng.normal(0, 0.25 * np.sqrt(5_000 / n_features), useful)
    threshold = 1 - density * np.clip(1 + sign[:, None] * lean, 0, 2)
    there = rng.random((size, n_features)) > threshold
    X = np.where(there, rng.integers(300, 1_000, (size, n_features)), 0).astype(np.float32)
    flips = rng.random(size) < 0.01
    y = np.where(flips, -sign, sign).astype(np.float32)
    name = f"sparse-classes-{n_features}"
    return Dataset(name, X[:n_train], y[:n_train], X[n_train:], y[n_train:])


def timbre_regression(n_train: int = 46_371, n_test: int = 5_163, seed: int = 0) -> Dataset:
    """90 columns, 12 means and 78 covariances of them, that tell a quarter of a skewed label.

    As YearPredictionMSD, at a tenth of its samples.

    Parameters
    ----------
    n_train, n_test : int
        At least 1.
    seed : int
        At least 0.

    Raises
    ------
    ArgumentError
        A parameter is out of range.
    """
    rng = generator_for(seed, n_train=n_train, n_test=n_test)
    size = n_train + n_test
    loud = np.exp(0.5 * rng.standard_normal(size))
    means = rng.standard_normal((size, 12)) * np.linspace(50, 8, 12)
    pairs = np.triu_indices(12)
    spread = loud[:, None] * np.exp(0.3 * rng.standard_normal((size, 12))) * np.linspace(50, 8, 12)
    angle = np.clip(rng.normal(0, 0.3, (size, 78)), -1, 1)
    angle[:, pairs[0] == pairs[1]] = 1
    X = np.column_stack([means, spread[:, pairs[0]] * spread[:, pairs[1]] * angle])
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    told = standard @ (rng.standard_normal(90) / np.sqrt(np.arange(1, 91)))
    noisy = told / told.std() + np.sqrt(3) * rng.standard_normal(size)
    y = (2011 - 12 * np.exp(-0.45 * noisy)).astype(np.float32)
    samples = X.astype(np.float32)
    return Dataset(
        "timbre-regression-90", samples[:n_train], y[:n_train], samples[n_train:], y[n_train:]
    )
