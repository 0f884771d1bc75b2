"""``make study-nonlinear``: what losses that are not linear need beside naive rounding.

ZipML (section 4 and appendix) trains hinge and logistic losses through polynomials of independent
samples, or by refetching, and reports that naive rounding often does as well. Every contender here
trains for the same epochs at the same batch, without delay, on one draw, with the best of a few
multiples of its default first step. Results: ``studies/results/nonlinear.json``, ``.md``
and ``.png``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import WORD_BITS, data_file
from studies.common import emulated, run_study
from zipml_pynq.constants import CONFIG
from zipml_pynq.data import datasets, values
from zipml_pynq.data.counts import count_bits, pack_counts
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError, DivergenceError
from zipml_pynq.training import baseline
from zipml_pynq.training.losses import LOSSES, objective
from zipml_pynq.training.make_plan import make_plan

BITS = (8, 4)
TRAINED = ("hinge", "logistic")
MULTIPLES = (0.0625, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0)
BATCH = 16
L2 = 1e-4
#: Ranges R of a polynomial that are tried: the one that holds all margins, and smaller ones.
RANGES = 3
#: Gaps around the hinge's jump that are tried.
GAPS = (0.25, 0.5, 1.0)
#: Rows and draws that bias and noise of gradients are measured on.
BIAS_ROWS, BIAS_DRAWS = 2_000, 8
#: How near to float32's loss counts as equal.
NEAR = 0.01

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Raw samples and labels of two classes."""

    name: str
    X: NDArray[np.float32]
    y: Array
    X_test: NDArray[np.float32]
    y_test: Array
    epochs: int = 20
    seeds: int = 3


@dataclass(frozen=True)
class Contender:
    """A way to train at a few bits: arguments of pack and of make_plan."""

    name: str
    stored: dict[str, Any]
    planned: dict[str, Any] = field(default_factory=dict)
    losses: tuple[str, ...] = TRAINED
    bits: tuple[int, ...] = BITS

    def planes(self, bits: int) -> int:
        """Bits that are streamed of a value, without what is refetched."""
        sampling = self.stored.get("sampling", "double")
        dithers = {"nearest": 1, "single": 1, "double": 2}.get(sampling)
        return bits - 1 + (self.stored["dithers"] if dithers is None else dithers)

    def kept(self, bits: int) -> int:
        """Bits that are kept of a value: of many samples, their count."""
        if "dithers" not in self.stored:
            return self.planes(bits)
        return bits - 1 + count_bits(self.stored["dithers"])


CONTENDERS = (
    Contender("nearest, direct", {"sampling": "nearest"}),
    Contender("single, direct", {"sampling": "single"}),
    Contender("double, direct", {"sampling": "double"}),
    *(
        Contender(
            f"Chebyshev, degree {degree}",
            {"sampling": "independent", "dithers": degree + 1},
            {"approximation": "chebyshev", "degree": degree},
            bits=bits,
        )
        # 15 samples are 4 bits: with 4 bits of base the paper's 4 + 4
        for degree, bits in ((2, BITS), (6, BITS), (14, (8, 5)))
    ),
    Contender("double, refetching", {"value_format": "refetch"}, losses=("hinge",)),
)


def problems() -> Iterator[Problem]:
    """The data sets; real ones where their files are at hand."""
    plain = datasets.synthetic_regression(100, r2=0.7)
    yield Problem(
        "Synthetic 100",
        plain.X_train,
        np.where(plain.y_train > 0, 1.0, -1.0),
        plain.X_test,
        np.where(plain.y_test > 0, 1.0, -1.0),
    )
    if path := data_file("cadata"):
        data = datasets.load_npz(path)
        middle = np.median(data.y_train)
        y, y_test = (np.where(v > middle, 1.0, -1.0) for v in (data.y_train, data.y_test))
        yield Problem("cadata, above the median", data.X_train, y, data.X_test, y_test)
    path = data_file("mnist")
    if path is None:
        return
    with np.load(path) as archive:
        images, y, test, y_test = (
            archive[key] for key in ("X_train", "y_train", "X_test", "y_test")
        )
    yield Problem(
        "MNIST, 10,000 digits, 8 or not",
        images[:10_000].reshape(10_000, -1).astype(np.float32),
        np.where(y[:10_000] == 8, 1.0, -1.0),
        test.reshape(len(test), -1).astype(np.float32),
        np.where(y_test == 8, 1.0, -1.0),
        epochs=10,
        seeds=1,
    )


def recurrence(p: Array, t: list[Array]) -> Array:
    """The accelerator's polynomial of independent margins over R."""
    previous, latest = np.ones_like(t[0]), t[0]
    total = p[0] + p[1] * latest
    for coefficient, factor in zip(p[2:], t[1:], strict=True):
        previous, latest = latest, 2 * factor * latest - previous
        total = total + coefficient * latest
    return np.asarray(total)


class Study:
    """All runs of one loss on one data set."""

    def __init__(self, problem: Problem, loss: str) -> None:
        self.problem, self.loss = problem, loss
        self.normalization = Normalization.fit(problem.X, problem.y)
        self.values = self.normalization.transform(problem.X).astype(np.float64)
        self.test = self.normalization.transform(problem.X_test).astype(np.float64)
        self.kept: tuple[tuple[str, int], dict[int, PackedDataset]] = (("", 0), {})

    def score(self, model: Array) -> dict[str, float]:
        """Objective on the exact training values, and the share of test samples misjudged."""
        wrong = np.where(self.test @ model < 0, -1.0, 1.0) != self.problem.y_test
        return {
            "loss": objective(self.loss, self.values, self.problem.y, model, l2=L2),
            "test_error": float(wrong.mean()),
        }

    def best(self, run: Callable[[float], tuple[Array, dict[str, Any]] | None]) -> dict[str, Any]:
        """The score of the best multiple of the default step; a loss of None where all diverged."""
        found = []
        for multiple in MULTIPLES:
            outcome = run(multiple)
            if outcome is not None:
                model, more = outcome
                found.append({**self.score(model), "step_multiple": multiple, **more})
        return min(found, key=lambda row: row["loss"], default={"loss": None})

    def pack(self, count: int | None = None, **options: Any) -> PackedDataset:
        options = {"word_bits": WORD_BITS, "batch": BATCH, **options}
        X, y = self.problem.X[:count], self.problem.y[:count]
        if "dithers" in options:
            samples = options.pop("dithers")
            del options["sampling"]
            options = {"samples": samples, "normalization": self.normalization, **options}
            return pack_counts(X, y, **options).packed
        return pack(X, y, normalization=self.normalization, **options)

    def drawn(self, contender: Contender, bits: int, seed: int) -> PackedDataset:
        """A contender's data set, kept while its ranges and gaps are tried."""
        key = (contender.name, bits)
        if self.kept[0] != key:
            self.kept = (key, {})
        packed = self.kept[1]
        if seed not in packed:
            packed[seed] = self.pack(bits=bits, seed=seed, **contender.stored)
        return packed[seed]

    def float32(self) -> tuple[dict[str, Any], Array]:
        """Float SGD with the best multiple of the float32 data set's default step."""
        packed = self.pack(value_format="float32")
        plan = make_plan(packed, loss=self.loss, epochs=self.problem.epochs, delay=0, l2=L2)
        models = {}

        def run(multiple: float) -> tuple[Array, dict[str, Any]]:
            models[multiple] = baseline.float_sgd_loss(
                self.values, self.problem.y, multiple * plan.step, self.loss, batch=BATCH, l2=L2
            )[-1]
            return models[multiple], {}

        row = self.best(run)
        return row, models[row["step_multiple"]]

    def planned(self, contender: Contender, margins: Array) -> Iterator[dict[str, Any]]:
        """Arguments of make_plan; of polynomials with ranges that all or most margins have."""
        planned = {"loss": self.loss, "delay": 0, "l2": L2, **contender.planned}
        if "degree" not in planned:
            yield planned
            return
        widest = int(np.clip(np.ceil(np.log2(np.abs(margins).max())), 1, 4))
        gaps = [{"gap": gap} for gap in GAPS] if self.loss == "hinge" else [{}]
        for range_log2 in range(max(1, widest - RANGES + 1), widest + 1):
            yield from ({**planned, "range_log2": range_log2, **gap} for gap in gaps)

    def quantized(self, contender: Contender, bits: int, solution: Array) -> dict[str, Any]:
        """The best range's medians over seeds of the draws."""
        found = []
        for planned in self.planned(contender, self.values @ solution):
            rows = [self.one_seed(contender, bits, planned, s) for s in range(self.problem.seeds)]
            median: dict[str, Any] = {"diverged": sum(row["loss"] is None for row in rows)}
            for key in ("loss", "test_error", "refetched", "outside", "step_multiple"):
                values = [row[key] for row in rows if row["loss"] is not None]
                median[key] = statistics.median(values) if values else None
            found.append((median, planned))
        row, planned = min(found, key=lambda f: np.inf if f[0]["loss"] is None else f[0]["loss"])
        return {
            **row,
            "range": 2 ** planned["range_log2"] if "range_log2" in planned else None,
            "gap": planned.get("gap"),
            "bits_a_value": contender.planes(bits) + 32 * (row["refetched"] or 0.0),
            "bits_kept": contender.kept(bits) + (32 if "value_format" in contender.stored else 0),
            **self.bias(contender, bits, planned, solution),
        }

    def one_seed(
        self, contender: Contender, bits: int, planned: dict[str, Any], seed: int
    ) -> dict[str, Any]:
        packed = self.drawn(contender, bits, seed)
        epochs = self.problem.epochs
        step = make_plan(packed, epochs=epochs, **planned).step

        def run(multiple: float) -> tuple[Array, dict[str, Any]] | None:
            try:
                plan = make_plan(packed, epochs=epochs, step=multiple * step, **planned)
                result = driver.train(packed, plan)
            except (ArgumentError, DivergenceError):  # a step that its register does not hold
                return None
            seen = epochs * len(self.values)
            margins = plan.degree or (2 if plan.sampling == "symmetric" else 1)
            return result.model, {
                "refetched": result.refetched / seen,
                "outside": result.outside / (seen * margins),
            }

        with emulated(packed) as (_, driver):
            return self.best(run)

    def bias(
        self, contender: Contender, bits: int, planned: dict[str, Any], model: Array
    ) -> dict[str, float]:
        """Bias and noise of quantized gradients at a model, on some rows.

        The bias is the distance of the mean gradient from the exact one, as a share of the exact
        gradient's length at the zero model; products of different draws leave their noise out. The
        noise is the root mean square distance of a sample's gradient from its exact one, as a share
        of the root mean square of the exact ones.
        """
        V, y = self.values[:BIAS_ROWS], self.problem.y[:BIAS_ROWS]
        exact = LOSSES[self.loss].derivative(V @ model, y)[:, None] * V
        start = LOSSES[self.loss].derivative(np.zeros(len(V)), y) @ V / len(V)
        draws = 1 if contender.stored.get("sampling") == "nearest" else BIAS_DRAWS
        differences = []
        for draw in range(draws):
            packed = self.pack(BIAS_ROWS, bits=bits, draw=draw, **contender.stored)
            differences.append(self.gradients(packed, planned, model) - exact)
        means = np.mean(differences, axis=1)
        products = means @ means.T
        square = products[~np.eye(draws, dtype=bool)].mean() if draws > 1 else products[0, 0]
        noise = np.square(differences).sum(axis=2).mean() / (exact**2).sum(axis=1).mean()
        return {
            "bias": float(np.sqrt(max(square, 0.0)) / np.linalg.norm(start)),
            "noise": float(np.sqrt(noise)),
        }

    def gradients(self, packed: PackedDataset, planned: dict[str, Any], model: Array) -> Array:
        """Each sample's quantized gradient, (samples, features)."""
        layout = packed.layout
        y = np.where(packed.labels[: layout.samples] < 0, -1.0, 1.0)
        degree = planned.get("degree", 0)
        sampling = {"double": "symmetric"}.get(layout.sampling, layout.sampling)
        q = values.kernel_values(packed, layout.bits[0], sampling, degree)
        unit = 2.0**-CONFIG.grid_bits
        first, last = unit * q[0], unit * q[-1]
        derivative = LOSSES[self.loss].derivative
        if layout.value_format == "refetch":
            exact = derivative(self.values[: layout.samples] @ model, y)
            return exact[:, None] * (first + last) / 2
        if degree:
            plan = make_plan(packed, step=1.0, **planned)
            p = plan.derivative.numbers / 2.0**CONFIG.derivative_fraction_bits
            t = [unit * y * (v @ model) / 2.0**plan.derivative.range_log2 for v in q[:-1]]
            return -(y * recurrence(p, t))[:, None] * last
        ahead, behind = (derivative(v @ model, y)[:, None] for v in (first, last))
        return (first * behind + last * ahead) / 2


def study(problem: Problem) -> dict[str, Any]:
    """Every contender on one data set."""
    losses = {}
    for loss in TRAINED:
        own = Study(problem, loss)
        exact, solution = own.float32()
        jobs = [(c, bits) for c in CONTENDERS if loss in c.losses for bits in c.bits]
        rows = [
            {"contender": c.name, "bits": bits, **own.quantized(c, bits, solution)}
            for c, bits in tqdm(jobs, desc=f"{problem.name}, {loss}", unit="run")
        ]
        losses[loss] = {"float32": exact, "rows": rows}
    return {
        "name": problem.name,
        "samples": len(problem.X),
        "features": problem.X.shape[1] + 1,
        "epochs": problem.epochs,
        "seeds": problem.seeds,
        "losses": losses,
    }


def gap(row: dict[str, Any], exact: dict[str, Any]) -> float | None:
    """Loss above float32's, as a share of it."""
    return None if row["loss"] is None else row["loss"] / exact["loss"] - 1


def summary(reports: list[dict[str, Any]]) -> list[str]:
    """Mean gaps and bits over the data sets, and how often a contender is near float32."""
    lines = [
        "| contender | loss | bits | bits kept a value | moved, mean "
        "| loss above float32's, mean | largest | within 1 % |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for contender in CONTENDERS:
        for loss in contender.losses:
            for bits in contender.bits:
                rows, gaps = [], []
                for report in reports:
                    own = report["losses"][loss]
                    rows += [
                        (r, gap(r, own["float32"]))
                        for r in own["rows"]
                        if (r["contender"], r["bits"]) == (contender.name, bits)
                    ]
                gaps = [g for _, g in rows if g is not None]
                moved = statistics.mean(r["bits_a_value"] for r, _ in rows)
                kept = rows[0][0]["bits_kept"]
                shown = (
                    f"{100 * statistics.mean(gaps):+.2f} % | {100 * max(gaps):+.2f} %"
                    if gaps
                    else "- | -"
                )
                near = sum(g < NEAR for g in gaps)
                lines.append(
                    f"| {contender.name} | {loss} | {bits} | {kept} | {moved:.1f} | {shown} "
                    f"| {near} of {len(rows)} |"
                )
    return lines


def markdown(reports: list[dict[str, Any]]) -> str:
    """The report as tables."""
    lines = [
        "# Losses that are not linear: naive rounding, polynomials, refetching",
        "",
        f"`make study-nonlinear`, software emulation, batch {BATCH}, no delay, inverse schedule, "
        f"l2 = {L2:g}, drawn once, the best of {', '.join(f'{m:g}' for m in MULTIPLES)} times the "
        "default first step for every contender, medians over seeds of the draws. Losses are "
        "objectives on the exact training values. Bits kept of a value: base and dithers, or the "
        "count of a polynomial's samples, or float32 beside them. Bits moved: the planes that the "
        "kernel streams, and 32 for what is refetched. A polynomial's range R is the best of three "
        "powers of two, the largest of which holds all margins of float32's model, and its gap "
        f"around the hinge's jump the best of {', '.join(f'{g:g}' for g in GAPS)}. Bias and noise "
        "are those of gradients at float32's model: bias as a share of the exact gradient's length "
        "at the start, noise per sample as a share of the exact gradients' root mean square.",
        "",
        "## Over all data sets",
        "",
        *summary(reports),
    ]
    for report in reports:
        lines += [
            "",
            f"## {report['name']}, {report['samples']:,} x {report['features']}, "
            f"{report['epochs']} epochs, {report['seeds']} seed(s)",
        ]
        for loss, own in report["losses"].items():
            exact = own["float32"]
            lines += [
                "",
                f"{loss.capitalize()}, float32: loss {exact['loss']:.4f}, test error "
                f"{100 * exact['test_error']:.2f} %.",
                "",
                "| contender | bits | bits moved a value | loss above float32's | test error "
                "| bias | noise | refetched | R | gap | outside R |",
                "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            ]
            for row in own["rows"]:
                above = gap(row, exact)
                ends = (
                    "diverged | - "
                    if above is None
                    else f"{100 * above:+.2f} % | {100 * row['test_error']:.2f} % "
                )
                lines.append(
                    f"| {row['contender']} | {row['bits']} | {row['bits_a_value']:.1f} | {ends}"
                    f"| {row['bias']:.4f} | {row['noise']:.2f} "
                    f"| {100 * (row['refetched'] or 0):.1f} % "
                    f"| {row['range'] or '-'} "
                    f"| {row['gap'] or '-'} "
                    f"| {100 * (row['outside'] or 0):.2f} % |"
                )
    return "\n".join(lines) + "\n"


def plot(reports: list[dict[str, Any]], path: Path) -> None:
    """Loss above float32's against bits moved a value, a panel a data set and loss."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(TRAINED),
        len(reports),
        figsize=(3.6 * len(reports), 5.6),
        squeeze=False,
        layout="constrained",
    )
    colors = {c.name: f"C{i}" for i, c in enumerate(CONTENDERS)}
    for column, report in enumerate(reports):
        for axis, (loss, own) in zip(axes[:, column], report["losses"].items(), strict=True):
            for row in own["rows"]:
                above = gap(row, own["float32"])
                if above is None:
                    continue
                axis.loglog(
                    row["bits_a_value"],
                    max(above, 1e-5),
                    {8: "o", 5: "s", 4: "^"}[row["bits"]],
                    color=colors[row["contender"]],
                    label=f"{row['contender']}, {row['bits']} bits",
                )
            axis.axhline(NEAR, color="black", linewidth=0.6)
            axis.set_xticks([4, 8, 16, 32], ["4", "8", "16", "32"])
            axis.minorticks_off()
            axis.set_title(f"{report['name']}: {loss}", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("bits moved a value", fontsize=8)
    figure.supylabel("training loss above float32's, as a share of it", fontsize=8)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=6, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    run_study(__doc__, "nonlinear", problems, study, markdown, plot)
