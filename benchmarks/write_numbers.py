"""Writes docs/numbers.md, and the table of README.md, from benchmarks/results.

    python benchmarks/write_numbers.py

Run it after a benchmark or study; tests/test_documents.py fails until both say what the results do.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from schedule_table import BATCH, layout
from study_levels import equal_bits
from study_nonlinear import gap

from zipml_pynq.training.schedule import (
    BOARDS,
    Mode,
    choose_delay,
    epoch_schedule,
    modelled_seconds,
)

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- benchmarks/write_numbers.py writes this table -->\n", "<!-- to here -->\n"
SAMPLINGS = {
    "nearest": "nearest rounding",
    "single": "single sampling",
    "double": "double sampling, drawn once",
    "fresh": "double sampling, drawn every epoch",
}
DATA = {"synthetic-100": "Synthetic 100", "photo": "photo"}
#: The epoch that is modelled: samples, features with the intercept, board.
EPOCH = (60_000, 785, "PYNQ-Z2")
LARGE = "uniform 200,000 x 1,000"


def report(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(head: Iterable[str], rows: Iterable[Iterable[str]], text: int = 1) -> str:
    """Markdown; the first ``text`` columns are words, the others numbers."""
    head = list(head)
    rule = "|" + "---|" * text + "---:|" * (len(head) - text)
    lines = ["| " + " | ".join(row) + " |" for row in (head, *map(list, rows))]
    return "\n".join([lines[0], rule, *lines[1:]])


def percent(share: float, digits: int = 1) -> str:
    """With its sign, and none on what rounds to 0."""
    shown = f"{100 * share:+.{digits}f}"
    return f"{shown.lstrip('+-') if not float(shown) else shown} %"


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.{0 if seconds >= 9.5e-3 else 1}f}"


# ---- what is read out of the results ---------------------------------------------------------


class Convergence:
    """Training losses above float32's (``make demo``)."""

    def __init__(self) -> None:
        self.report = report("demo")
        self.gaps = {(r["data"], r["sampling"], r["bits"]): r["gap"] for r in self.report["rows"]}
        self.bits = sorted({bits for _, sampling, bits in self.gaps if sampling == "double"})

    def table(self) -> str:
        rows = []
        for name, shown in DATA.items():
            for sampling, words in SAMPLINGS.items():
                cells = [percent(self.gaps[name, sampling, bits]) for bits in self.bits]
                rows.append([shown, words, *cells])
                shown = ""
        return table(["", "bits a value", *map(str, self.bits)], rows, 2)


class Modelled:
    """Seconds of an epoch on a board, by the schedule."""

    def __init__(self) -> None:
        samples, features, self.name = EPOCH
        self.board = BOARDS[self.name]
        self.seconds, self.line_rate = {}, {}
        for bits in (1, 2, 4, 8, 32):
            at = layout(samples, features, self.board.word_bits, bits)
            sampling = "single" if bits == 32 else "symmetric"
            delay = choose_delay(at, bits, sampling, BATCH)
            epoch = epoch_schedule(at, Mode(bits, sampling, BATCH, delay))
            self.seconds[bits] = modelled_seconds(epoch, self.board)
            self.line_rate[bits] = epoch.line_rate

    def table(self) -> str:
        return table(
            ["bits a value", *map(str, self.seconds)],
            [
                ["milliseconds", *map(milliseconds, self.seconds.values())],
                ["times less than 32 bits", *(f"{self.faster(bits):.1f}" for bits in self.seconds)],
                [
                    "cycles that stream a word",
                    *(f"{100 * rate:.1f} %" for rate in self.line_rate.values()),
                ],
            ],
        )

    def faster(self, bits: int) -> float:
        return self.seconds[32] / self.seconds[bits]


class Epoch:
    """Seconds of an epoch here, one thread, best of the rounds (``make bench``)."""

    def __init__(self) -> None:
        self.report = report("epoch")
        self.best = {
            row["name"]: row["spread"][0]
            for row in self.report["data"][LARGE]
            if row["threads"] == 1
        }
        self.float32 = self.best["float32 engine"]
        self.sklearn = self.best["scikit-learn SGDRegressor"]
        self.numpy = min(s for name, s in self.best.items() if name.startswith("NumPy"))
        self.until = self.report["time_to_loss"]
        self.until_float = self.until["float32"]["seconds"]

    def engine(self, bits: int, sampling: str) -> float:
        return self.best[f"engine, {bits} bit{'s' * (bits > 1)}, {sampling}"]

    def table(self) -> str:
        rows = [
            [
                f"engine, {bits} bit{'s' * (bits > 1)}",
                milliseconds(self.engine(bits, "single")),
                milliseconds(self.engine(bits, "double")),
                f"{self.float32 / self.engine(bits, 'double'):.1f}",
                f"{self.sklearn / self.engine(bits, 'double'):.0f}",
            ]
            for bits in (1, 2, 4, 6, 8)
        ]
        for name, seconds in (
            ("float32 engine (C++)", self.float32),
            ("NumPy, best batch", self.numpy),
            ("scikit-learn SGDRegressor", self.sklearn),
        ):
            rows.append(
                [
                    name,
                    milliseconds(seconds),
                    "",
                    f"{self.float32 / seconds:.1f}",
                    f"{self.sklearn / seconds:.0f}",
                ]
            )
        return table(["", "ms, single", "ms, double", "x float32 engine", "x scikit-learn"], rows)

    def switched(self) -> str:
        """The precisions of the fastest run that switches."""
        before, after = re.findall(r"(\d+) bit", self.until["engine, two precisions"]["name"])
        return f"{before} bit{'s' * (before != '1')}, then {after}"

    def until_table(self) -> str:
        rows = [
            [
                row["name"],
                "" if row["batch"] is None else str(row["batch"]),
                milliseconds(row["seconds"]),
                f"{self.until_float / row['seconds']:.1f}",
            ]
            for row in self.until.values()
        ]
        return table(["", "batch", "ms", "x float32 engine"], rows)


class Levels:
    """Least bits within 1 % of float32 (``make study-levels``)."""

    def __init__(self) -> None:
        self.reports = report("levels_study")
        self.ratios = [
            least["bytes_ratio"] for r in self.reports for least in r["least_bits"].values()
        ]

    def table(self) -> str:
        rows = []
        for r in self.reports:
            cells = [r["name"]]
            for draws in ("once", "fresh"):
                least = r["least_bits"][draws]
                cells += [str(least["uniform"]), str(least["optimal"])]
                cells.append(f"{least['bytes_ratio']:.2f} x")
            rows.append([*cells, f"{equal_bits(r['rows'], 3):.1f}"])
        head = ["", "uniform, drawn once", "optimal", "bytes saved"]
        head += ["uniform, fresh draws", "optimal", "bytes saved"]
        return table([*head, "3 optimal bits have the variance of"], rows)


class Losses:
    """Means over the data sets (``make study-nonlinear``)."""

    shown = (
        ("nearest rounding, direct", "nearest, direct", 8),
        ("double sampling, direct", "double, direct", 8),
        ("double sampling, direct", "double, direct", 4),
        ("Chebyshev polynomial of degree 3", "Chebyshev, degree 3", 8),
        ("Chebyshev polynomial of degree 7", "Chebyshev, degree 7", 8),
        ("refetching", "double, refetching", 8),
        ("refetching", "double, refetching", 4),
    )

    def __init__(self) -> None:
        self.reports = report("nonlinear_study")

    def gaps(self, name: str, bits: int, loss: str) -> tuple[list[float], list[float]]:
        """Losses above float32's and bits moved a value, one a data set."""
        found, moved = [], []
        for r in self.reports:
            for row in r["losses"][loss]["rows"]:
                if (row["contender"], row["bits"]) == (name, bits):
                    above = gap(row, r["losses"][loss]["float32"])
                    assert above is not None, f"{name} at {bits} bits diverged"
                    found.append(above)
                    moved.append(row["bits_a_value"])
        return found, moved

    def table(self) -> str:
        rows = []
        for words, name, bits in self.shown:
            hinge, moved = self.gaps(name, bits, "hinge")
            logistic, _ = self.gaps(name, bits, "logistic")
            rows.append(
                [
                    f"{words}, {bits} bits",
                    f"{statistics.mean(moved):.1f}",
                    percent(statistics.mean(hinge)),
                    percent(statistics.mean(logistic)) if logistic else "",
                ]
            )
        return table(["", "bits a value, read", "hinge", "logistic"], rows)

    def worst(self, name: str, bits: int) -> float:
        return max(max(self.gaps(name, bits, loss)[0]) for loss in ("hinge", "logistic"))


class Mnist:
    """Test accuracy, ten classes (``make study-mnist``)."""

    names: ClassVar = {
        "squared_hinge": "squared hinge",
        "logistic": "logistic",
        "least_squares": "least squares",
    }

    def __init__(self) -> None:
        self.report = report("mnist")

    def accuracy(self, loss: str, model: str, bits: int = 32) -> float:
        for row in self.report["rows"]:
            if row["loss"] == loss and row["model"].startswith(model) and row["bits"] == bits:
                return statistics.median(row["accuracy"])
        raise KeyError((loss, model, bits))

    def table(self) -> str:
        rows = []
        for loss, words in self.names.items():
            peer = next(r["model"] for r in self.report["rows"] if r["loss"] == loss)
            peer = peer.removeprefix("scikit-learn ").partition(",")[0]
            values = [
                self.accuracy(loss, "scikit-learn"),
                self.accuracy(loss, "zipml_pynq float32"),
                *(self.accuracy(loss, "zipml_pynq double", bits) for bits in (8, 4, 2, 1)),
            ]
            rows.append([f"{words} (`{peer}`)", *(f"{100 * v:.2f} %" for v in values)])
        head = ["", "scikit-learn", "float32 here", "8 bits", "4 bits", "2 bits", "1 bit"]
        return table(head, rows)

    def worst(self, bits: int) -> float:
        """Points below scikit-learn's model, at most."""
        return max(
            100
            * (self.accuracy(loss, "scikit-learn") - self.accuracy(loss, "zipml_pynq double", bits))
            for loss in self.names
        )


class EndToEnd:
    """Samples, model and gradient quantized (``make study-end-to-end``)."""

    def __init__(self) -> None:
        self.reports = report("end_to_end_study")

    def gaps(self, name: str) -> list[float]:
        return sorted(r["rows"][name]["loss"] / r["float32"]["loss"] - 1 for r in self.reports)

    def table(self) -> str:
        head = ["samples / model / gradient"]
        head += [f"{r['name']}, {r['loss'].replace('_', ' ')}" for r in self.reports]
        rows = []
        for name in ("8/32/32", "8/8/8", "4/8/8", "4/4/4", "2/8/8"):
            cells = [r["rows"][name]["loss"] / r["float32"]["loss"] - 1 for r in self.reports]
            rows.append([name, *(percent(cell, 2) for cell in cells)])
        return table(head, rows)


class Search:
    """Finding levels, median seconds (``make bench``)."""

    def __init__(self) -> None:
        self.report = report("levels")
        self.rows = {(row["name"], row["k"]): row for row in self.report["rows"]}
        self.counts = sorted({k for _, k in self.rows})

    def ms(self, name: str, k: int) -> str:
        return milliseconds(self.rows[name, k]["seconds"])

    def table(self) -> str:
        names = dict.fromkeys(name for name, _ in self.rows)
        rows = []
        for name in names:
            cells = []
            for k in self.counts:
                row = self.rows[name, k]
                cells += [milliseconds(row["seconds"]), f"{100 * row['excess']:.2g} %"]
            rows.append([name, *cells])
        head = [""]
        for k in self.counts:
            head += [f"ms, {k} levels", "above the optimum"]
        return table(head, rows)


class Packing:
    """GB of float32 a second of one core (``make bench``)."""

    def __init__(self) -> None:
        self.rows = report("packing")["rows"]

    def rate(self, columns: int, kind: str, storage: str = "in memory") -> float:
        bits = None if kind == "range" else 4
        for row in self.rows:
            found = (row["columns"], row["bits"], row["storage"]) == (columns, bits, storage)
            if found and kind in row["kind"]:
                return row["gb_per_core_second"]
        raise KeyError((columns, kind, storage))

    def table(self) -> str:
        rows = []
        for columns in dict.fromkeys(row["columns"] for row in self.rows):
            cells = [
                f"{self.rate(columns, kind, storage):.2f}"
                for kind in ("range", "uniform", "levels")
                for storage in ("in memory", "memory-mapped")
            ]
            rows.append([str(columns), *cells])
        head = ["columns"]
        for kind in ("range alone", "uniform grid", "one table a column"):
            head += [kind, "memory-mapped"]
        return table(head, rows)


class CommandLine:
    """Seconds and memory of the command line on a file of text (``make bench``)."""

    #: Columns of the results by what they are called here.
    NAMES: ClassVar[dict[str, str]] = {
        "prepare": "prepare",
        "train": "train",
        "predict": "predict",
        "whole": "read whole",
    }

    def __init__(self) -> None:
        self.report = report("command_line")
        self.rows = {(r["columns"], r["command"]): r for r in self.report["results"]}
        self.widths = list(dict.fromkeys(columns for columns, _ in self.rows))

    def cost(self, columns: int, command: str) -> str:
        row = self.rows[columns, command]
        return f"{row['seconds']:.1f} s, {row['peak'] / 1e6:,.0f} MB"

    def table(self) -> str:
        rows = []
        for columns in self.widths:
            row = self.rows[columns, "whole"]
            dense = 8 * row["rows"] * columns
            sizes = [f"{size / 1e6:,.0f} MB" for size in (row["text_bytes"], dense)]
            costs = [self.cost(columns, command) for command in self.NAMES]
            rows.append([str(columns), *sizes, *costs])
        return table(["columns", "text", "as float64", *self.NAMES.values()], rows)


# ---- what is written -------------------------------------------------------------------------


def headline() -> str:
    """The table of README.md."""
    convergence, modelled, epoch = Convergence(), Modelled(), Epoch()
    mnist, end, search = Mnist(), EndToEnd(), Search()
    levels, losses, packing, shell = Levels(), Losses(), Packing(), CommandLine()
    widest = max(shell.widths)
    gaps = convergence.gaps
    four = {(name, s): percent(gaps[name, s, 4]) for name in DATA for s in SAMPLINGS}
    two = epoch.until["engine, two precisions"]["seconds"]
    rows = [
        *(
            [
                f"Training loss above float32's, {shown}, 4 bits",
                four[name, "double"],
                f"single sampling {four[name, 'single']}, nearest {four[name, 'nearest']}",
                "emulated",
                "make demo",
            ]
            for name, shown in DATA.items()
        ),
        [
            "MNIST, ten classes, squared hinge, 4 bits: test accuracy",
            f"{100 * mnist.accuracy('squared_hinge', 'zipml_pynq double', 4):.2f} %",
            f"`LinearSVC` {100 * mnist.accuracy('squared_hinge', 'scikit-learn'):.2f} %",
            "emulated",
            "make study-mnist",
        ],
        [
            "Hinge and logistic loss, 8 bits: loss above float32's, worst of three sets",
            percent(losses.worst("double, direct", 8)),
            f"nearest {percent(losses.worst('nearest, direct', 8))}",
            "emulated",
            "make study-nonlinear",
        ],
        [
            "Samples, model and gradient at 8 bits: loss above float32's, worst of five problems",
            percent(end.gaps("8/8/8")[-1]),
            f"samples alone {percent(end.gaps('8/32/32')[-1])}",
            "emulated",
            "make study-end-to-end",
        ],
        [
            "Optimal levels: times fewer bytes to within 1 % of float32's loss than uniform ones",
            f"{min(levels.ratios):.1f} to {max(levels.ratios):.1f}",
            "paper: up to 1.7",
            "emulated",
            "make study-levels",
        ],
        [
            f"An epoch of {EPOCH[0]:,} x {EPOCH[1]} on a {modelled.name}, 4 bits",
            f"{milliseconds(modelled.seconds[4])} ms",
            f"32 bits {milliseconds(modelled.seconds[32])} ms ({modelled.faster(4):.1f} x)",
            "modelled",
            "python benchmarks/schedule_table.py",
        ],
        [
            "An epoch of 200,000 x 1,000 here, engine, 4 bits",
            f"{milliseconds(epoch.engine(4, 'double'))} ms",
            f"float32 in C++ {milliseconds(epoch.float32)} ms, scikit-learn's SGD "
            f"{milliseconds(epoch.sklearn)} ms",
            "measured",
            "make bench",
        ],
        [
            f"Training on it to within 1 % of float32's loss, at {epoch.switched()}",
            f"{milliseconds(two)} ms",
            f"float32 in C++ {milliseconds(epoch.until_float)} ms "
            f"({epoch.until_float / two:.1f} x)",
            "measured",
            "make bench",
        ],
        [
            "16 optimal levels of 2^20 values, exact",
            f"{search.ms('exact', 16)} ms",
            f"QUIVER's fastest exact search {search.ms('QUIVER exact, accelerated', 16)} ms",
            "measured",
            "make bench",
        ],
        [
            "Packing, 4 bits, double sampled: float32 a second",
            f"{packing.rate(784, 'uniform'):.1f} GB",
            f"optimal levels {packing.rate(784, 'levels'):.1f} GB",
            "measured",
            "make bench",
        ],
        [
            f"`zipml prepare` of a LIBSVM file of {shell.report['rows']:,} x {widest}",
            shell.cost(widest, "prepare"),
            f"read whole {shell.cost(widest, 'whole')}",
            "measured",
            "make bench",
        ],
    ]
    shown = [[*row[:4], f"`{row[4]}`"] for row in rows]
    return table(["", "here", "beside it", "", "made by"], shown, 5) + "\n"


def page() -> str:
    """docs/numbers.md."""
    convergence, modelled, epoch, levels = Convergence(), Modelled(), Epoch(), Levels()
    losses, mnist, end, search, packing = Losses(), Mnist(), EndToEnd(), Search(), Packing()
    shell = CommandLine()
    files = shell.report["machine"]
    demo, bench, digits, found = convergence.report, epoch.report, mnist.report, search.report
    machine, board = bench["machine"], modelled.board
    direct = percent(losses.worst("double, direct", 8), 2)
    *_, fourth, fifth = (percent(gap_, 2) for gap_ in end.gaps("8/8/8"))
    return f"""# Numbers

Each with the command that made it. **Emulated**: the accelerator's arithmetic, bit for bit,
computed here; such a number hardly depends on the machine. **Modelled**: cycles of the schedule, at
an assumed clock. **Measured**: on the machine that is named. Nothing was measured on a board. All
rows, settings and curves are in the [results](results.md), and `python benchmarks/write_numbers.py`
writes this page from them.

## Convergence

Emulated, `make demo`: {demo["epochs"]} epochs, batch {demo["batch"]}, default steps. How far the
training loss ends from float32's. Synthetic 100 is the paper's; *photo* predicts a pixel of a
photograph from the 48 around it.

{convergence.table()}

![Training loss by epoch at 1 to 8 bits](convergence.png)

## An epoch on a board

Modelled, `python benchmarks/schedule_table.py`: {EPOCH[0]:,} x {EPOCH[1]}, double sampled, on a
{EPOCH[2]}, one {board.word_bits}-bit port at {board.clock / 1e6:.0f} MHz. 32 bits are float32
samples by the kernel `zipml_sgd_f32`. What the model assumes, and other boards:
[schedule](schedule.md). Whether the kernel fits the board: [boards](boards.md#room).

{modelled.table()}

## An epoch here

Measured, `make bench`: {LARGE.removeprefix("uniform ")}, batch {bench["batch"]}, one thread on one
core of an {machine["cpu"]} (loops "{machine["loops"]}", load average {machine["load"]:.1f} at the
start), best of {bench["rounds"]} interleaved rounds. Why the engine is faster than float32 by less
than the bytes would allow: [speed](speed.md).

{epoch.table()}

Until the loss is within 1 % of that of the float32 engine after 8 epochs, medians, each kind at its
best precision, batch and number of epochs:

{epoch.until_table()}

## Ten classes of MNIST

Emulated, `make study-mnist`: one against the rest on one packed data set, {digits["epochs"]}
epochs, double sampled, drawn once, medians of {digits["seeds"]} draws. Test accuracy, beside
scikit-learn's model of the same loss. 4 bits are at most {mnist.worst(4):.2f} points below it.

{mnist.table()}

## Optimal levels

Emulated, `make study-levels`: least bits from which on the training loss is within 1 % of
float32's, best step of each, medians over draws. The paper reports up to 1.7 times fewer bytes;
here it is {min(levels.ratios):.1f} to {max(levels.ratios):.1f}, by how skewed the columns are.

{levels.table()}

## SVM and logistic regression

Emulated, `make study-nonlinear`: training loss above float32's, best step of each, means over three
data sets. The paper's negative result holds: at 8 bits evaluating the loss on one quantized sample
is enough (at most {direct} above, double sampled), polynomials never pay, and refetching reads more
than 8 bits do. What lies below 0 stems from MNIST's hinge, which has not converged in its 10
epochs. [Losses](losses.md#measured) has all of it.

{losses.table()}

## End to end

Emulated, `make study-end-to-end`: bits of samples / model / gradient, training loss above
float32's, best step of each. 8/8/8 ends at most {fourth} above on four of the five and {fifth}
above on the fifth. [End to end](end_to_end.md#measured) has all of it.

{end.table()}

## Finding levels

Measured, `python benchmarks/levels.py` (part of `make bench`): {found["values"]:,} sorted normal
values, one core of an {found["cpu"]}, medians of {found["rounds"]} rounds, beside QUIVER's code in
the same run. Above the optimum: the objective, in % of the exact one's.

{search.table()}

## Packing

Measured, `python benchmarks/packing.py` (part of `make bench`): GB of float32 input for a second of
core time, at 4 bits, double sampled.

{packing.table()}

## Large files

Measured, `python benchmarks/command_line.py` (part of `make bench`): seconds and peak memory of
`zipml` on LIBSVM files of {shell.report["rows"]:,} rows, on {files["cores"]} cores of an
{files["cpu"]} (load average {files["load"]:.1f} at the end). Peak is all that was resident, maps of
files and Python itself included. `prepare` stores 2, 4 and 8 bits; `train` takes
{shell.report["epochs"]} epochs at 4 bits on the emulated device, whose memory is in it. "Read
whole" is scikit-learn's reader, then `pack` and `save`, which make the same file to the byte.

{shell.table()}
"""


def main() -> None:
    (ROOT / "docs" / "numbers.md").write_text(page())
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}{headline()}{END}{after}")


if __name__ == "__main__":
    main()
