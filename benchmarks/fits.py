"""Seconds of whole fits, packing included, beside scikit-learn's estimators on the same rows.

Fits of a case are interleaved, medians are reported. What takes longer than half a minute is
fitted once. Each of ours is there twice: as it is by default, and, on the uniform grid, stopped at
the fewest epochs, of powers of two, whose test score is at least the other's (looked for before the
clock runs). At the end the first fit of a fresh process, imports included. Results:
``benchmarks/results/fits.json`` and ``fits.md``; ``fits_avx2`` where all of it, scikit-learn's
NumPy and BLAS as well, keeps to what processors without AVX-512 have (``--avx2``).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from benchmarks.common import data_file, parser_of, publish
from zipml_pynq import ZipMLClassifier, ZipMLRegressor
from zipml_pynq.accelerator.machine import machine

#: Epochs at which ours may be stopped: where data are drawn once, 64 are most of those it may have.
STOPS = (1, 2, 4, 8, 16, 32, 64)
#: Seconds from which a fit is not repeated.
LONG = 30.0
JOBS = 2
#: What has all compiled code that asks for instructions of the processor do without AVX-512.
AVX2 = {
    "ZIPML_LOOPS": "avx2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}
FRESH = {
    "ZipMLClassifier": "from zipml_pynq import ZipMLClassifier as Estimator",
    "scikit-learn SGDClassifier": "from sklearn.linear_model import SGDClassifier as Estimator",
    "imports of scikit-learn's base alone": "import sklearn.base",
}
PLAIN = ", no other packages"
#: Where fresh processes run: not where this package's sources would be found first.
HOME = tempfile.gettempdir()
IRIS = """
from sklearn.datasets import load_iris
X, y = load_iris(return_X_y=True)
Estimator().fit(X, y)
"""


@dataclass
class Case:
    """Rows to train and to test on, our estimator and the other one, both by a random state."""

    name: str
    train: tuple[NDArray, NDArray]
    test: tuple[NDArray, NDArray]
    ours: Callable[..., Any]
    other: Callable[..., Any]
    other_name: str
    options: dict[str, Any] = field(default_factory=dict)


def small() -> Iterator[Case]:
    """scikit-learn's own tables, beside its SGD on standardized columns."""
    for name in ("digits", "wine", "breast_cancer", "diabetes"):
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        a, b, c, d = train_test_split(X, y, random_state=0)
        sgd = SGDRegressor if name == "diabetes" else SGDClassifier
        yield Case(
            f"{name}, {X.shape[0]:,} x {X.shape[1]}",
            (a, c),
            (b, d),
            ZipMLRegressor if name == "diabetes" else ZipMLClassifier,
            lambda sgd=sgd, **options: make_pipeline(StandardScaler(), sgd(**options)),
            f"StandardScaler, {sgd.__name__}",
        )


def mnist() -> Iterator[Case]:
    """Ten classes; columns scaled to [0, 1], which suits SGD better than unit variance."""
    path = data_file("mnist")
    if path is None:
        return
    with np.load(path) as archive:
        X, A = (archive[f"X_{part}"].reshape(-1, 784).astype(np.float32) for part in PARTS)
        y, b = (archive[f"y_{part}"] for part in PARTS)
    yield Case(
        f"MNIST, {X.shape[0]:,} x 784, 10 classes",
        (X, y),
        (A, b),
        ZipMLClassifier,
        lambda **options: make_pipeline(MinMaxScaler(), SGDClassifier(n_jobs=JOBS, **options)),
        f"MinMaxScaler, SGDClassifier(n_jobs={JOBS})",
        {"n_jobs": JOBS},
    )


PARTS = ("train", "test")


def made(scale: float) -> Iterator[Case]:
    """A linear probe on embeddings, and one class; normal values, so columns need no scaling."""
    rng = np.random.default_rng(0)
    m, columns = 10_000, 512
    for rows, classes, apart in ((100_000, 100, 0.2), (20_000, 1_000, 0.3)):
        n = int(rows * scale)
        centres = np.float32(apart) * rng.standard_normal((classes, columns), dtype=np.float32)
        y = rng.integers(classes, size=n + m)
        X = rng.standard_normal((n + m, columns), dtype=np.float32) + centres[y]
        yield Case(
            f"embeddings, {n:,} x {columns}, {classes:,} classes",
            (X[:n], y[:n]),
            (X[n:], y[n:]),
            ZipMLClassifier,
            lambda random_state: LogisticRegression(),
            "LogisticRegression",
            {"loss": "logistic", "n_jobs": JOBS},
        )
    n, columns = int(200_000 * scale), 1_000
    X = rng.standard_normal((n + m, columns), dtype=np.float32)
    z = X @ rng.standard_normal(columns, dtype=np.float32)
    y = (z + z.std() * rng.standard_normal(n + m, dtype=np.float32) > 0).astype(np.int64)
    yield Case(
        f"one class, {n:,} x {columns:,}",
        (X[:n], y[:n]),
        (X[n:], y[n:]),
        ZipMLClassifier,
        SGDClassifier,
        "SGDClassifier",
    )


def measure(case: Case, rounds: int) -> list[dict[str, Any]]:
    """A row for each way to fit a case."""
    fits = {
        case.other_name: case.other,
        "ZipML": lambda **options: case.ours(**options, **case.options),
    }
    seconds: dict[str, list[float]] = {name: [] for name in fits}
    core_seconds: dict[str, list[float]] = {name: [] for name in fits}
    scores: dict[str, list[float]] = {name: [] for name in fits}

    def fit(name: str, seed: int) -> None:
        start, on_cores = time.perf_counter(), time.process_time()
        fitted = fits[name](random_state=seed).fit(*case.train)
        core_seconds[name].append(time.process_time() - on_cores)
        seconds[name].append(time.perf_counter() - start)
        scores[name].append(fitted.score(*case.test))
        print(case.name, name, seconds[name][-1], scores[name][-1], file=sys.stderr)

    fit(case.other_name, 0)
    for epochs in STOPS:

        def stopped(epochs: int = epochs, **options: Any) -> Any:
            own = {"max_iter": epochs, "tol": None, "levels": "uniform"}
            return case.ours(**own, **options, **case.options)

        reached = stopped(random_state=0).fit(*case.train).score(*case.test)
        if reached >= scores[case.other_name][0]:
            name = f"ZipML, {epochs} epoch{'s' * (epochs > 1)}"
            fits[name], seconds[name], core_seconds[name], scores[name] = stopped, [], [], []
            break
    for seed in range(rounds):
        for name in fits:
            if len(seconds[name]) <= seed and (seed == 0 or max(seconds[name]) < LONG):
                fit(name, seed)
    other = statistics.median(seconds[case.other_name])
    other_core = statistics.median(core_seconds[case.other_name])
    return [
        {
            "case": case.name,
            "name": name,
            "fits": len(times),
            "seconds": statistics.median(times),
            "spread": [min(times), max(times)],
            "score": statistics.mean(scores[name]),
            "times_as_fast": other / statistics.median(times),
            "core_seconds": statistics.median(core_seconds[name]),
            "times_as_cheap": other_core / statistics.median(core_seconds[name]),
        }
        for name, times in seconds.items()
    ]


def fresh(rounds: int, plain: str | None) -> list[dict[str, Any]]:
    """Seconds of processes that import an estimator and fit iris: of this Python, where other
    packages are imported as well because they are there, and of one without these."""
    pythons = {"": sys.executable}
    if plain is not None:
        pythons[PLAIN] = os.path.abspath(plain)
    ways = {
        name + more: (line, python)
        for name, line in FRESH.items()
        for more, python in pythons.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    core_seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (line, python) in ways.items():
            code = line + IRIS if "Estimator" in line else line
            start, on_cores = time.perf_counter(), os.times()
            subprocess.run([python, "-W", "ignore", "-c", code], check=True, cwd=HOME)
            seconds[name].append(time.perf_counter() - start)
            end = os.times()
            core_seconds[name].append(
                end.children_user
                + end.children_system
                - on_cores.children_user
                - on_cores.children_system
            )
    return [
        {
            "name": name,
            "seconds": statistics.median(times),
            "spread": [min(times), max(times)],
            "core_seconds": statistics.median(core_seconds[name]),
        }
        for name, times in seconds.items()
    ]


def markdown(report: dict[str, Any]) -> str:
    """The rows as tables."""
    about = report["machine"]
    lines = [
        "# Whole fits",
        "",
        f"`python -m benchmarks.fits`, {about['cpu']}, {about['cores']} cores, "
        f"{about['load']:.1f} processes on them, loops {about['loops']}; NumPy {about['numpy']}, "
        f"scikit-learn {about['sklearn']}. Everything from raw rows to the fitted model; medians "
        "of interleaved fits, test accuracy or R2 their mean. Core seconds are those of all "
        "threads of the process: what a fit costs where other processes take the cores.",
        "",
        "| rows | | fits | score | seconds | from | to | times as fast | core seconds "
        "| times as cheap |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["fits"]:
        low, high = row["spread"]
        lines.append(
            f"| {row['case']} | {row['name']} | {row['fits']} | {row['score']:.4f} "
            f"| {row['seconds']:.3g} | {low:.3g} | {high:.3g} | {row['times_as_fast']:.2g} "
            f"| {row['core_seconds']:.3g} | {row['times_as_cheap']:.2g} |"
        )
    lines += [
        "",
        "A fresh process that imports the estimator and fits iris:",
        "",
        "| | seconds | from | to | core seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in report["fresh"]:
        low, high = row["spread"]
        lines.append(
            f"| {row['name']} | {row['seconds']:.2f} | {low:.2f} | {high:.2f} "
            f"| {row['core_seconds']:.2f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    import sklearn

    parser = parser_of(__doc__, "benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the made rows")
    parser.add_argument("--avx2", action="store_true", help="as on a processor without AVX-512")
    parser.add_argument(
        "--plain", help="a Python with the package and scikit-learn alone, for fresh processes"
    )
    options = parser.parse_args()
    if (
        options.avx2 and not AVX2.items() <= os.environ.items()
    ):  # what is read when a process begins
        command = [sys.executable, "-m", "benchmarks.fits", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **AVX2})
    warnings.simplefilter("ignore")  # most of these end before they have converged
    about = {**machine(), "sklearn": sklearn.__version__}
    rows = []
    for cases in (small(), mnist(), made(options.scale)):
        for case in cases:
            rows += measure(case, options.rounds)
    report = {
        "machine": about,
        "rounds": options.rounds,
        "fits": rows,
        "fresh": fresh(options.rounds, options.plain),
    }
    publish(options.output, "fits_avx2" if options.avx2 else "fits", report, markdown(report))


if __name__ == "__main__":
    main()
