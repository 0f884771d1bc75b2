"""Data sets, runs and claims that the figures share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import WORD_BITS, data_file
from studies.common import emulated
from zipml_pynq.data import datasets, stand_ins
from zipml_pynq.data.datasets import Dataset
from zipml_pynq.data.downloads import fetch_libsvm
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError, DivergenceError, DownloadError
from zipml_pynq.training import baseline
from zipml_pynq.training.losses import objective
from zipml_pynq.training.make_plan import make_plan

Array = NDArray[np.float64]
#: Multiples of the float32 data set's default step that are tried.
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
BATCH = 16
#: Multiples of float32's step that few bits try beside it.
RELATIVE = (0.25, 0.5, 1.0)
#: How near to float32's loss counts as equal.
NEAR = 0.01


@dataclass(frozen=True)
class Claim:
    """A row of the table: what the paper says, and what is found here."""

    figure: str
    claim: str
    setting: str
    ours: str
    holds: str  # "yes", "no", "in part" or "not run"
    why: str

    def cells(self) -> list[str]:
        return list(asdict(self).values())


@dataclass(frozen=True, eq=False)
class Problem:
    """Samples of one problem, what they are, and which set's place they take."""

    name: str
    place: str
    X: NDArray[np.float32]
    y: NDArray[np.float32]
    loss: str = "least_squares"
    epochs: int = 20

    @property
    def shown(self) -> str:
        samples, columns = self.X.shape
        kind = f" (in place of {self.place})" if self.place not in (self.name, "") else ""
        return f"{self.name}, {samples:,} x {columns}{kind}"


def _fetched(name: str, stand_in: Callable[[], Dataset]) -> Dataset:
    """A set of the paper: a file at hand, the cache or the network; else made up."""
    if path := data_file(name):
        data = datasets.load_npz(path)
        return Dataset(name, data.X_train, data.y_train, data.X_test, data.y_test)
    try:
        return fetch_libsvm(name)
    except DownloadError as error:
        print(f"{name}: {str(error).partition(';')[0]}; data made up by seed stand in")
        return stand_in()


def _first(data: Dataset, samples: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return data.X_train[:samples], data.y_train[:samples]


@cache
def problem(name: str) -> Problem:
    """A problem of the paper by its name there."""
    if name.startswith("Synthetic"):
        data = datasets.synthetic_regression(int(name.split()[1]))
        return Problem(name, name, data.X_train, data.y_train)
    if name == "year":
        data = _fetched("year", stand_ins.timbre_regression)
        return Problem(data.name, "year", *_first(data, 46_371), epochs=15)
    if name in ("cadata", "cpusmall"):
        columns = {"cadata": 8, "cpusmall": 12}[name]
        data = _fetched(name, lambda: datasets.synthetic_regression(columns, skew=0.7))
        return Problem(data.name, name, data.X_train, data.y_train)
    if name == "cod-rna":
        data = _fetched("cod-rna", stand_ins.composition_classes)
        X, y = _first(data, 20_000)
        return Problem(data.name, "cod-rna", X, np.where(y > 0, 1, -1).astype(np.float32))
    assert name == "gisette"
    data = _fetched("gisette", stand_ins.sparse_classes)
    X, y = _first(data, 6_000)
    return Problem(data.name, "gisette", X, np.where(y > 0, 1, -1).astype(np.float32), epochs=10)


@dataclass(frozen=True)
class Low:
    """What is quantized: bits of samples, model and gradient, and how samples are drawn."""

    bits: int
    sampling: str = "double"
    levels: str = "uniform"
    model_bits: int = 0
    gradient_bits: int = 0
    batch: int = BATCH
    fresh: bool = False

    @property
    def name(self) -> str:
        parts = [f"{self.bits}", self.sampling]
        if self.levels != "uniform":
            parts.append(self.levels)
        if self.model_bits or self.gradient_bits:
            parts.append(f"model {self.model_bits or 32}, gradient {self.gradient_bits or 32}")
        return ", ".join(parts + (["fresh draws"] if self.fresh else []))


class Runs:
    """Runs on one problem, losses on its exact training values after every epoch."""

    def __init__(self, problem: Problem, l2: float = 0.0) -> None:
        self.problem, self.l2 = problem, l2
        self.normalization = Normalization.fit(problem.X, problem.y)
        self.values = self.normalization.transform(problem.X).astype(np.float64)
        self.labels = self.normalization.transform_labels(problem.y).astype(np.float64)

    def loss(self, model: Array) -> float:
        return objective(self.problem.loss, self.values, self.labels, model, l2=self.l2)

    def pack(self, seed: int = 0, batch: int = BATCH, **stored: Any) -> PackedDataset:
        return pack(
            self.problem.X,
            self.problem.y,
            word_bits=WORD_BITS,
            batch=batch,
            normalization=self.normalization,
            seed=seed,
            **stored,
        )

    def _plan(self, packed: PackedDataset, **options: Any) -> Any:
        return make_plan(
            packed,
            loss=self.problem.loss,
            epochs=self.problem.epochs,
            delay=0,
            l2=self.l2,
            **options,
        )

    @cache  # noqa: B019
    def float32(self, batch: int = BATCH) -> dict[str, Any]:
        """Losses by epoch of float SGD at the best multiple of its default step, and that step."""
        first = self._plan(self.pack(value_format="float32", batch=batch)).step
        found = []
        for multiple in MULTIPLES:
            with np.errstate(over="ignore", invalid="ignore"):
                history = baseline.float_sgd_loss(
                    self.values,
                    self.labels,
                    multiple * first,
                    self.problem.loss,
                    batch=batch,
                    l2=self.l2,
                )
            if np.isfinite(history).all():
                losses = [self.loss(model) for model in history]
                found.append({"history": losses, "multiple": multiple, "loss": losses[-1]})
        best = min(found, key=lambda row: row["loss"])
        return {**best, "steps": (best["multiple"] * first).tolist()}

    def at(self, low: Low, steps: Array, seed: int = 0) -> dict[str, Any] | None:
        """Losses by epoch at given steps; None where it diverged."""
        stored = {"bits": low.bits, "sampling": low.sampling, "levels": low.levels}
        packed = self.pack(seed, low.batch, **stored)
        options: dict[str, Any] = {"model_bits": low.model_bits, "gradient_bits": low.gradient_bits}
        redraw = (lambda draw: packed.redraw(self.problem.X, draw)) if low.fresh else None
        try:
            plan = self._plan(packed, step=[float(s) for s in steps], seed=seed, **options)
            with emulated(packed) as (_, driver):
                history = driver.train(packed, plan, redraw=redraw).history
        except (
            ArgumentError,
            DivergenceError,
        ):  # a step too large for its register, or to converge
            return None
        losses = [self.loss(model) for model in history]
        return {"history": losses, "loss": losses[-1]}

    def compare(self, low: Low, seeds: int = 1) -> dict[str, Any]:
        """By the paper's protocol, float32's step, and at the best step of its own."""
        exact = self.float32(low.batch)
        steps = np.array(exact["steps"])
        found: dict[float, list[float]] = {}
        histories: dict[float, list[float]] = {}
        for relative in RELATIVE:
            for seed in range(seeds):
                row = self.at(low, relative * steps, seed)
                if row is not None:
                    found.setdefault(relative, []).append(row["loss"])
                    histories[relative] = row["history"]
        gaps = {r: float(np.median(v)) / exact["loss"] - 1 for r, v in found.items()}
        best = min(gaps, key=lambda r: gaps[r], default=None)
        return {
            "low": asdict(low),
            "name": low.name,
            "same_step": gaps.get(1.0),
            "best_step": None if best is None else gaps[best],
            "best_relative": best,
            "history": histories.get(1.0, []),
            "best_history": [] if best is None else histories[best],
        }


def shown(gap: float | None) -> str:
    """A loss above float32's in per cent."""
    return "diverges" if gap is None else f"{100 * gap:+.2f} %"


def timed(study: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A report, and how long it took."""
    start = time.perf_counter()
    return {**study(), "seconds": round(time.perf_counter() - start, 1)}
