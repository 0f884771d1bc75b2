"""``make study-levels``: uniform against variance-optimal levels, by bits and data set.

Every contender trains for the same epochs at the same batch, without delay, with the best of a few
multiples of its default first step (:mod:`zipml_pynq.training.step`), float32 SGD too. Results:
``studies/results/levels.json``, ``.md`` and ``.png``.
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
from zipml_pynq.errors import ArgumentError, DivergenceError
from zipml_pynq.training import baseline
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.variance import quantization_variance

BITS = range(2, 9)
KINDS = ("uniform", "optimal")
DRAWS = ("once", "fresh")
#: Multiples of the default first step that every contender tries.
MULTIPLES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
BATCH = 16
#: How near to float32's loss counts as equal.
NEAR = 0.01


@dataclass(frozen=True)
class Problem:
    """A data set in raw units, the epochs to train, and how many seeds of draws."""

    name: str
    X: NDArray[np.float32]
    y: NDArray[np.float32]
    epochs: int = 25
    seeds: int = 5


def problems() -> Iterator[Problem]:
    """The data sets; real ones where their files are at hand."""
    plain = datasets.synthetic_regression(100)
    yield Problem("Synthetic 100", plain.X_train, plain.y_train)
    skewed = datasets.synthetic_regression(50, skew=1.0)
    yield Problem("skewed synthetic 50", skewed.X_train, skewed.y_train)
    for name in ("cadata", "cpusmall"):
        if path := data_file(name):
            data = datasets.load_npz(path)
            yield Problem(name, data.X_train, data.y_train)
    path = data_file("mnist")
    if path is None:
        return
    with np.load(path) as archive:
        images = archive["X_train"].reshape(60000, -1).astype(np.float32)
        yield Problem("MNIST", images, archive["y_train"].astype(np.float32), 10, 1)


class Study:
    """All runs on one data set."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.normalization = Normalization.fit(problem.X, problem.y)
        self.values = self.normalization.transform(problem.X)
        self.labels = self.normalization.transform_labels(problem.y)

    def loss(self, model: NDArray[np.float64]) -> float:
        return baseline.loss(self.values, self.labels, model)

    def best(self, run: Callable[[float], NDArray[np.float64] | None]) -> dict[str, float]:
        """The lowest loss over the multiples of the default step, and where it was found."""
        found = {}
        for multiple in MULTIPLES:
            model = run(multiple)
            if model is not None:
                found[self.loss(model)] = multiple
        lowest = min(found)
        return {"loss": lowest, "step_multiple": found[lowest]}

    def float32(self) -> dict[str, float]:
        """Float32 SGD with the default step of the float32 data set."""
        packed = self.pack(value_format="float32")
        plan = make_plan(packed, epochs=self.problem.epochs, delay=0)

        def run(multiple: float) -> NDArray[np.float64] | None:
            steps = (multiple * plan.step).astype(np.float32)
            model = baseline.float_sgd(self.values, self.labels, steps, batch=BATCH)[-1]
            return model.astype(np.float64) if np.isfinite(model).all() else None

        return self.best(run)

    def pack(self, **options: Any) -> PackedDataset:
        return pack(
            self.problem.X,
            self.problem.y,
            word_bits=WORD_BITS,
            batch=BATCH,
            normalization=self.normalization,
            **options,
        )

    def quantized(self, bits: int, kind: str, draws: str) -> dict[str, Any]:
        """The median over the seeds of the best loss of each."""
        runs = [self.one_seed(bits, kind, draws, seed) for seed in range(self.problem.seeds)]
        return {
            "loss": statistics.median(run["loss"] for run in runs),
            "losses": [run["loss"] for run in runs],
            "step_multiples": [run["step_multiple"] for run in runs],
            "variance": runs[0]["variance"],
            "bytes": runs[0]["bytes"],
        }

    def one_seed(self, bits: int, kind: str, draws: str, seed: int) -> dict[str, float]:
        packed = self.pack(bits=bits, levels=kind, seed=seed)
        fresh = draws == "fresh"
        plan = make_plan(packed, epochs=self.problem.epochs, delay=0, fresh=fresh)
        redraw = (lambda draw: packed.redraw(self.problem.X, draw)) if fresh else None

        def run(multiple: float) -> NDArray[np.float64] | None:
            try:
                own = make_plan(
                    packed, epochs=self.problem.epochs, delay=0, step=multiple * plan.step
                )
                return driver.train(packed, own, redraw=redraw).model
            except (ArgumentError, DivergenceError):  # a step that its register does not hold
                return None

        with emulated(packed) as (_, driver):
            best = self.best(run)
        best["variance"] = float(quantization_variance(packed).mean())
        best["bytes"] = packed.layout.bytes_per_epoch()
        return best


def least_bits(rows: list[dict[str, Any]], kind: str, draws: str, limit: float) -> int | None:
    """The fewest bits from which on every loss is at most ``limit``."""
    own = [row for row in rows if row["levels"] == kind and row["draws"] == draws]
    bad = [row["bits"] for row in own if row["loss"] > limit]
    least = max(bad, default=BITS[0] - 1) + 1
    return least if least in BITS else None


def equal_bits(rows: list[dict[str, Any]], bits: int) -> float | None:
    """Uniform bits, interpolated, that have the variance of so many optimal ones."""
    variance = {(row["bits"], row["levels"]): row["variance"] for row in rows}
    wanted = np.log(variance[bits, "optimal"])
    uniform = [np.log(variance[b, "uniform"]) for b in BITS]
    if wanted < uniform[-1]:
        return None
    return float(np.interp(-wanted, -np.array(uniform), list(BITS)))


def study(problem: Problem) -> dict[str, Any]:
    """Every contender on one data set."""
    own = Study(problem)
    exact = own.float32()
    contenders = [(b, kind, draws) for draws in DRAWS for b in BITS for kind in KINDS]
    rows = []
    for bits, kind, draws in tqdm(contenders, desc=problem.name, unit="run"):
        result = own.quantized(bits, kind, draws)
        rows.append({"bits": bits, "levels": kind, "draws": draws, **result})
    least: dict[str, Any] = {}
    for draws in DRAWS:
        few = {k: least_bits(rows, k, draws, (1 + NEAR) * exact["loss"]) for k in KINDS}
        both = few["uniform"] is not None and few["optimal"] is not None
        ratio = (few["uniform"] + 1) / (few["optimal"] + 1) if both else None
        least[draws] = {**few, "bytes_ratio": ratio}
    samples, features = own.values.shape
    return {
        "name": problem.name,
        "samples": samples,
        "features": features,
        "epochs": problem.epochs,
        "seeds": problem.seeds,
        "float32": exact,
        "rows": rows,
        "least_bits": least,
    }


def markdown(reports: list[dict[str, Any]]) -> str:
    """The report as tables."""
    lines = [
        "# Uniform against variance-optimal levels",
        "",
        f"`make study-levels`, software emulation, batch {BATCH}, double sampling (symmetric), no "
        "delay, inverse schedule, the best of "
        f"{', '.join(f'{m:g}' for m in MULTIPLES)} times the default first step for every "
        "contender. Losses are training losses as multiples of float32's, medians over seeds of "
        "the draws; variance is the mean quantization variance of a value, in squared normalized "
        "units. Least bits are those from which on every loss is within 1 % of float32's.",
        "",
        "## Least bits within 1 % of float32, and the bytes that they move",
        "",
        "| data set | drawn | uniform | optimal | bytes, uniform / optimal |",
        "|---|---|---:|---:|---:|",
    ]
    for report in reports:
        for draws, few in report["least_bits"].items():
            shown = [str(few[k]) if few[k] else "none of 2..8" for k in KINDS]
            ratio = few["bytes_ratio"]
            lines.append(
                f"| {report['name']} | {draws} | {shown[0]} | {shown[1]} "
                f"| {f'{ratio:.2f}' if ratio else '-'} |"
            )
    lines += [
        "",
        "## Uniform bits with the variance of optimal ones",
        "",
        "| data set | " + " | ".join(f"{b} optimal" for b in BITS[:-2]) + " |",
        "|---|" + "---:|" * len(BITS[:-2]),
    ]
    for report in reports:
        equal = [equal_bits(report["rows"], b) for b in BITS[:-2]]
        shown = [f"{e:.1f}" if e else "over 8" for e in equal]
        lines.append(f"| {report['name']} | " + " | ".join(shown) + " |")
    for report in reports:
        lines += [
            "",
            f"## {report['name']}, {report['samples']:,} x {report['features']}, "
            f"{report['epochs']} epochs, {report['seeds']} seed(s)",
            "",
            "| bits | variance, uniform | optimal | loss, drawn once, uniform | optimal "
            "| loss, fresh draws, uniform | optimal |",
            "|---:|---:|---:|---:|---:|---:|---:|",
        ]
        table = {(r["bits"], r["levels"], r["draws"]): r for r in report["rows"]}
        for bits in BITS:
            cells = [f"{table[bits, k, 'once']['variance']:.2e}" for k in KINDS]
            for draws in DRAWS:
                for kind in KINDS:
                    ratio = table[bits, kind, draws]["loss"] / report["float32"]["loss"]
                    cells.append(f"{ratio:.4f}")
            lines.append(f"| {bits} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(reports: list[dict[str, Any]], path: Path) -> None:
    """Loss above float32's against bits, a panel a data set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(reports), figsize=(3.2 * len(reports), 3.4), squeeze=False, layout="constrained"
    )
    for axis, report in zip(axes[0], reports, strict=True):
        for kind, color in zip(KINDS, ("tab:gray", "tab:red"), strict=True):
            for draws, style in zip(DRAWS, ("-", "--"), strict=True):
                rows = [r for r in report["rows"] if (r["levels"], r["draws"]) == (kind, draws)]
                gaps = [max(r["loss"] / report["float32"]["loss"] - 1, 1e-4) for r in rows]
                label = f"{kind}, drawn {draws}" if draws == "once" else f"{kind}, fresh draws"
                axis.semilogy([r["bits"] for r in rows], gaps, style, color=color, label=label)
        axis.axhline(NEAR, color="black", linewidth=0.6)
        axis.set_title(report["name"], fontsize=10)
        axis.set_xlabel("bits")
    axes[0][0].set_ylabel("training loss above float32's, as a share of it", fontsize=8)
    axes[0][0].legend(fontsize=7)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    run_study(__doc__, "levels", problems, study, markdown, plot)
