"""``make study-end-to-end``: samples, model and gradient at few bits, one by one and together.

``x <- x - step Q_g(Q1 (loss'(Q2^T Q_m(x), y)))``: every contender trains for the same epochs at the
same batch, without delay, on one draw, with the best of a few multiples of its default first step.
Samples are float32 where only model or gradient is quantized. Results:
``studies/results/end_to_end.json``, ``.md`` and ``.png``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import WORD_BITS, data_file
from studies.common import emulated, run_study
from zipml_pynq.data import datasets
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import DivergenceError
from zipml_pynq.training import baseline
from zipml_pynq.training.losses import objective
from zipml_pynq.training.make_plan import make_plan

MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
BATCH = 16
EPOCHS = 20

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Raw samples, labels, and the loss that is trained."""

    name: str
    X: NDArray[np.float32]
    y: Array
    loss: str
    seeds: int = 3


@dataclass(frozen=True)
class Contender:
    """Bits of samples, model and gradient; 0 (samples: 32) is full precision."""

    samples: int = 32
    model: int = 0
    gradient: int = 0
    fixed: bool = False  # ranges of 4 and 1 for all data, in place of a float run's

    @property
    def name(self) -> str:
        """As the tables have it: Q_s/Q_m/Q_g."""
        shown = "/".join(str(bits or 32) for bits in (self.samples, self.model, self.gradient))
        return f"{shown}, ranges 4 and 1" if self.fixed else shown

    @property
    def planned(self) -> dict[str, Any]:
        """Arguments of make_plan."""
        ranges = {"model_range": 4.0, "gradient_range": 1.0} if self.fixed else {}
        return {"model_bits": self.model, "gradient_bits": self.gradient, **ranges}


#: The group whose ranges are the same for all data.
FIXED = "ranges that do not look at the data"
GROUPS = {
    "samples alone": [Contender(samples=bits) for bits in (8, 4, 2)],
    "model alone": [Contender(model=bits) for bits in (16, 8, 4)],
    "gradient alone": [Contender(gradient=bits) for bits in (16, 8, 4)],
    "together": [
        Contender(*bits)
        for bits in ((8, 16, 16), (8, 8, 8), (4, 8, 8), (4, 4, 4), (2, 8, 8), (2, 4, 4))
    ],
    FIXED: [
        Contender(model=8, fixed=True),
        Contender(model=4, fixed=True),
        Contender(gradient=8, fixed=True),
        Contender(gradient=4, fixed=True),
        Contender(8, 8, 8, fixed=True),
    ],
}
#: Contenders whose losses are drawn epoch by epoch.
DRAWN = (Contender(8, 8, 8), Contender(4, 8, 8), Contender(4, 4, 4), Contender(8, 8, 8, fixed=True))


def problems() -> Iterator[Problem]:
    """The data sets; real ones where their files are at hand."""
    plain = datasets.synthetic_regression(100)
    yield Problem("Synthetic 100", plain.X_train, plain.y_train.astype(float), "least_squares")
    noisy = datasets.synthetic_regression(100, r2=0.7)
    yield Problem(
        "Synthetic 100, sign", noisy.X_train, np.where(noisy.y_train > 0, 1.0, -1.0), "logistic"
    )
    if path := data_file("cadata"):
        data = datasets.load_npz(path)
        yield Problem("cadata", data.X_train, data.y_train.astype(float), "least_squares")
        above = np.where(data.y_train > np.median(data.y_train), 1.0, -1.0)
        yield Problem("cadata, above the median", data.X_train, above, "logistic")
    path = data_file("mnist")
    if path is None:
        return
    with np.load(path) as archive:
        images = archive["X_train"][:10_000].reshape(10_000, -1).astype(np.float32)
        eight = np.where(archive["y_train"][:10_000] == 8, 1.0, -1.0)
    yield Problem("MNIST, 10,000 digits, 8 or not", images, eight, "logistic", 1)


class Study:
    """All runs on one data set."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.normalization = Normalization.fit(problem.X, problem.y)
        self.values = self.normalization.transform(problem.X).astype(np.float64)
        self.labels = self.normalization.transform_labels(problem.y)

    def loss(self, model: Array) -> float:
        return objective(self.problem.loss, self.values, self.labels, model)

    def best(self, run: Callable[[float], tuple[Array, dict[str, Any]] | None]) -> dict[str, Any]:
        """Losses by epoch of the best multiple of the default step; None where all diverged."""
        found = []
        for multiple in MULTIPLES:
            outcome = run(multiple)
            if outcome is not None:
                history, more = outcome
                found.append({"loss": self.loss(history[-1]), "history": history, **more})
                found[-1]["step_multiple"] = multiple
        row = min(found, key=lambda row: row["loss"], default={"loss": None, "history": []})
        return {**row, "history": [self.loss(model) for model in row["history"]]}

    def pack(self, bits: int, seed: int = 0) -> PackedDataset:
        stored: dict[str, Any] = {"value_format": "float32"} if bits == 32 else {"bits": bits}
        return pack(
            self.problem.X,
            self.problem.y,
            word_bits=WORD_BITS,
            batch=BATCH,
            normalization=self.normalization,
            seed=seed,
            **stored,
        )

    def float32(self) -> dict[str, Any]:
        """Float SGD with the best multiple of the float32 data set's default step."""
        loss = self.problem.loss
        steps = make_plan(self.pack(32), loss=loss, epochs=EPOCHS, delay=0).step

        def run(multiple: float) -> tuple[Array, dict[str, Any]] | None:
            with np.errstate(over="ignore", invalid="ignore"):
                history = baseline.float_sgd_loss(
                    self.values, self.labels, multiple * steps, loss, batch=BATCH
                )
            return (history, {}) if np.isfinite(history).all() else None

        return self.best(run)

    def quantized(self, contender: Contender) -> dict[str, Any]:
        """Medians over seeds, of draws and of the numbers on chip."""
        rows = [self.one_seed(contender, seed) for seed in range(self.problem.seeds)]
        trained = [row for row in rows if row["loss"] is not None]
        if not trained:
            return {"loss": None, "diverged": len(rows)}
        middle = sorted(trained, key=lambda row: row["loss"])[(len(trained) - 1) // 2]
        return {
            "loss": middle["loss"],
            "losses": [row["loss"] for row in rows],
            "clipped": statistics.median(row["clipped"] for row in trained),
            "step_multiple": middle["step_multiple"],
            "history": middle["history"],
            "diverged": len(rows) - len(trained),
        }

    def one_seed(self, contender: Contender, seed: int) -> dict[str, Any]:
        packed = self.pack(contender.samples, seed)
        options: dict[str, Any] = {"loss": self.problem.loss, "epochs": EPOCHS, "delay": 0}
        steps = make_plan(packed, **options).step
        layout = packed.layout
        updates = EPOCHS * -(-layout.samples // BATCH) * layout.features
        quantizers = bool(contender.model) + bool(contender.gradient)

        def run(multiple: float) -> tuple[Array, dict[str, Any]] | None:
            plan = make_plan(
                packed, step=multiple * steps, seed=seed, **contender.planned, **options
            )
            try:
                result = driver.train(packed, plan)
            except DivergenceError:
                return None
            return result.history, {"clipped": result.clipped / (updates * max(1, quantizers))}

        with emulated(packed) as (_, driver):
            return self.best(run)


def study(problem: Problem) -> dict[str, Any]:
    """Every contender on one data set."""
    own = Study(problem)
    contenders = [c for group in GROUPS.values() for c in group]
    rows = {
        contender.name: own.quantized(contender)
        for contender in tqdm(contenders, desc=problem.name, unit="run")
    }
    samples, features = own.values.shape
    return {
        "name": problem.name,
        "loss": problem.loss,
        "samples": samples,
        "features": features,
        "epochs": EPOCHS,
        "seeds": problem.seeds,
        "start": own.loss(np.zeros(features)),
        "float32": own.float32(),
        "rows": rows,
    }


def gap(report: dict[str, Any], contender: Contender) -> str:
    """Loss above float32's, as a share of it, in %."""
    loss = report["rows"][contender.name]["loss"]
    return "diverged" if loss is None else f"{100 * (loss / report['float32']['loss'] - 1):+.2f} %"


def clipped(report: dict[str, Any], contender: Contender) -> str:
    share = report["rows"][contender.name].get("clipped", 0.0)
    return f"{100 * share:.2f} %"


def names(reports: list[dict[str, Any]]) -> list[str]:
    """What tables call the data sets."""
    return [f"{r['name']}, {r['loss'].replace('_', ' ')}" for r in reports]


def gaps(reports: list[dict[str, Any]], without: str = "") -> list[str]:
    """The table of losses above float32's, maybe without one group."""
    lines = [
        "| samples / model / gradient | " + " | ".join(names(reports)) + " |",
        "|---|" + "---:|" * len(reports),
        "| loss at the start | " + " | ".join(f"{r['start']:.4f}" for r in reports) + " |",
        "| float32 | " + " | ".join(f"{r['float32']['loss']:.4f}" for r in reports) + " |",
    ]
    for title, group in GROUPS.items():
        if title == without:
            continue
        lines.append(f"| *{title}* |" + " |" * len(reports))
        for contender in group:
            cells = [gap(report, contender) for report in reports]
            lines.append(f"| {contender.name} | " + " | ".join(cells) + " |")
    return lines


def markdown(reports: list[dict[str, Any]]) -> str:
    """The report as tables."""
    lines = [
        "# Samples, model and gradient at few bits",
        "",
        f"`make study-end-to-end`, software emulation, {EPOCHS} epochs, batch {BATCH}, no delay, "
        "inverse schedule, samples drawn once (double sampling, symmetric), the best of "
        f"{', '.join(f'{m:g}' for m in MULTIPLES)} times the default first step for every "
        "contender, medians over seeds (MNIST: one). Bits are those of samples, model and "
        "gradient, 32 being full precision. Numbers are training losses above float32's.",
        "",
        *gaps(reports),
        "",
        "Share of the quantized numbers that were clipped:",
        "",
        "| samples / model / gradient | " + " | ".join(names(reports)) + " |",
        "|---|" + "---:|" * len(reports),
    ]
    for contender in (c for group in GROUPS.values() for c in group if c.model or c.gradient):
        cells = [clipped(report, contender) for report in reports]
        lines.append(f"| {contender.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(reports: list[dict[str, Any]], path: Path) -> None:
    """Losses by epoch, a panel a data set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(reports), figsize=(3.2 * len(reports), 3.4), squeeze=False, layout="constrained"
    )
    for axis, report in zip(axes[0], reports, strict=True):
        epochs = range(EPOCHS + 1)
        exact = [report["start"], *report["float32"]["history"]]
        axis.semilogy(epochs, exact, color="black", linewidth=2.5, label="float32")
        for contender in DRAWN:
            row = report["rows"][contender.name]
            if row["loss"] is not None:
                losses = [report["start"], *row["history"]]
                axis.semilogy(
                    epochs, losses, "--" if contender.fixed else "-", label=contender.name
                )
        axis.set_ylim(0.95 * min(exact), 1.1 * report["start"])  # without the peaks of large steps
        axis.set_title(f"{report['name']}\n{report['loss'].replace('_', ' ')}", fontsize=9)
        axis.set_xlabel("epochs")
    axes[0][0].set_ylabel("training loss")
    axes[0][0].legend(fontsize=6, title="samples/model/gradient", title_fontsize=6)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    run_study(__doc__, "end_to_end", problems, study, markdown, plot)
