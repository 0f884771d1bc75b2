"""What is read out of studies: emulated or modelled, it hardly depends on the machine.

Each class has its rows of README.md and its section of docs/numbers.md.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any, ClassVar

from docs.write_numbers.markdown import Row, milliseconds, percent, report, table
from studies import (
    deep_report,
    defaults_report,
    distributed,
    end_to_end,
    levels,
    nonlinear,
    schedule,
)
from zipml_pynq.training.schedule import (
    BOARDS,
    Mode,
    choose_delay,
    epoch_schedule,
    modelled_seconds,
)

SAMPLINGS = {
    "nearest": "nearest rounding",
    "single": "single sampling",
    "double": "double sampling, drawn once",
    "fresh": "double sampling, drawn every epoch",
}
DATA = {"synthetic-100": "Synthetic 100", "photo": "photo"}
#: The epoch that is modelled: samples, features with the intercept, board.
EPOCH = (60_000, 785, "PYNQ-Z2")


class Convergence:
    """Training losses above float32's (``make demo``)."""

    def __init__(self) -> None:
        self.report = report("studies/results/demo")
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

    def headline(self) -> list[Row]:
        rows: list[Row] = []
        for name, shown in DATA.items():
            four = {s: percent(self.gaps[name, s, 4]) for s in SAMPLINGS}
            rows.append(
                (
                    f"Training loss above float32's, {shown}, 4 bits",
                    four["double"],
                    f"single sampling {four['single']}, nearest {four['nearest']}",
                    "emulated",
                    "make demo",
                )
            )
        return rows

    def section(self) -> str:
        demo = self.report
        return f"""## Convergence

Emulated, `make demo`: {demo["epochs"]} epochs, batch {demo["batch"]}, default steps. How far the
training loss ends from float32's. Synthetic 100 is the paper's; *photo* predicts a pixel of a
photograph from the 48 around it.

{self.table()}

![Training loss by epoch at 1 to 8 bits](convergence.png)
"""


class Modelled:
    """Seconds of an epoch on a board, by the schedule."""

    def __init__(self) -> None:
        samples, features, self.name = EPOCH
        self.board = BOARDS[self.name]
        self.seconds, self.line_rate = {}, {}
        for bits in (1, 2, 4, 8, 32):
            at = schedule.layout(samples, features, self.board.word_bits, bits)
            sampling = "single" if bits == 32 else "symmetric"
            delay = choose_delay(at, bits, sampling, schedule.BATCH)
            epoch = epoch_schedule(at, Mode(bits, sampling, schedule.BATCH, delay))
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

    def headline(self) -> list[Row]:
        return [
            (
                f"An epoch of {EPOCH[0]:,} x {EPOCH[1]} on a {self.name}, 4 bits",
                f"{milliseconds(self.seconds[4])} ms",
                f"32 bits {milliseconds(self.seconds[32])} ms ({self.faster(4):.1f} x)",
                "modelled",
                "python -m studies.schedule",
            )
        ]

    def section(self) -> str:
        board = self.board
        return f"""## An epoch on a board

Modelled, `python -m studies.schedule`: {EPOCH[0]:,} x {EPOCH[1]}, double sampled, on a
{EPOCH[2]}, one {board.word_bits}-bit port at {board.clock / 1e6:.0f} MHz. 32 bits are float32
samples by the kernel `zipml_sgd_f32`. What the model assumes, and other boards:
[schedule](schedule.md). Whether the kernel fits the board: [boards](boards.md#room).

{self.table()}
"""


class Mnist:
    """Test accuracy, ten classes (``make study-mnist``)."""

    names: ClassVar = {
        "squared_hinge": "squared hinge",
        "logistic": "logistic",
        "least_squares": "least squares",
    }

    def __init__(self) -> None:
        self.report = report("studies/results/mnist")

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

    def headline(self) -> list[Row]:
        return [
            (
                "MNIST, ten classes, squared hinge, 4 bits: test accuracy",
                f"{100 * self.accuracy('squared_hinge', 'zipml_pynq double', 4):.2f} %",
                f"`LinearSVC` {100 * self.accuracy('squared_hinge', 'scikit-learn'):.2f} %",
                "emulated",
                "make study-mnist",
            )
        ]

    def section(self) -> str:
        return f"""## Ten classes of MNIST

Emulated, `make study-mnist`: one against the rest on one packed data set, {self.report["epochs"]}
epochs, double sampled, drawn once, medians of {self.report["seeds"]} draws. Test accuracy, beside
scikit-learn's model of the same loss. 4 bits are at most {self.worst(4):.2f} points below it.

{self.table()}
"""


class Defaults:
    """Default fits of public tables (``make study-defaults``)."""

    kinds: ClassVar = {
        "squared hinge": "mean accuracy, squared hinge",
        "hinge": "mean accuracy, hinge",
        "logistic": "mean accuracy, logistic",
        "least squares": "median R2",
    }

    def __init__(self) -> None:
        self.report = report("studies/results/defaults")

    def found(self, kind: str, group: str | None = None) -> Any:
        return defaults_report.summary(self.report, kind, group)

    @staticmethod
    def shown(kind: str, score: float) -> str:
        return f"{score:.3f}" if kind == "least squares" else f"{100 * score:.2f} %"

    def table(self) -> str:
        rows = []
        for kind, words in self.kinds.items():
            theirs = f"`{defaults_report.PAIRS[kind][1]}`"
            for group in defaults_report.GROUPS:
                found = self.found(kind, group)
                scores = [self.shown(kind, found[who]) for who in ("ours", "theirs")]
                low = f"{defaults_report.TABLE_R2:g}"
                if kind != "least squares":
                    low = f"{defaults_report.TABLE_POINTS:g} points"
                counts = f"{len(found['low'])} (by over {low}), {len(found['silent'])} silent"
                row = [f"{words}: {theirs}", group, str(found["tables"]), *scores, counts]
                rows.append(row)
        head = ["", "tables", "number", "here", "scikit-learn", "tables that end lower"]
        return table(head, rows, 2)

    def optimum(self) -> str:
        names = list(dict.fromkeys(row["name"] for row in self.report["optimum"]))
        bits = sorted({row["bits"] for row in self.report["optimum"]})
        above = {(row["name"], row["bits"]): row["above"] for row in self.report["optimum"]}
        rows = [[name, *(percent(above[name, b]) for b in bits)] for name in names]
        return table(["bits a value", *map(str, bits)], rows)

    def headline(self) -> list[Row]:
        classes, squares = self.found("squared hinge"), self.found("least squares")
        cells = [
            f"{self.shown('squared hinge', classes[who])}, "
            f"{self.shown('least squares', squares[who])}"
            for who in ("ours", "theirs")
        ]
        count = classes["tables"] + squares["tables"]
        return [
            (
                f"Default fit at 4 bits on {count} public tables: mean accuracy, median R2",
                cells[0],
                f"`LinearSVC`, `Ridge` on standardized columns {cells[1]}",
                "emulated",
                "make study-defaults",
            )
        ]

    def section(self) -> str:
        return f"""## Defaults

Emulated, `make study-defaults`: the estimators as they are, at 4 bits, on raw columns;
scikit-learn's models as they are, but for iterations, on standardized ones. Means over up to
{self.report["splits"]} splits of a table. Defaults were chosen on tables that were looked at, and
changed once more after those that were seen; nobody had looked at those that were kept apart.
"Silent" is a table that ends lower without a warning. Every table:
[results](../studies/results/defaults.md).

{self.table()}

Training loss of least squares above that of the exact model, by bits:

{self.optimum()}
"""


class Levels:
    """Least bits within 1 % of float32 (``make study-levels``)."""

    def __init__(self) -> None:
        self.reports = report("studies/results/levels")
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
            rows.append([*cells, f"{levels.equal_bits(r['rows'], 3):.1f}"])
        head = ["", "uniform, drawn once", "optimal", "bytes saved"]
        head += ["uniform, fresh draws", "optimal", "bytes saved"]
        return table([*head, "3 optimal bits have the variance of"], rows)

    def headline(self) -> list[Row]:
        return [
            (
                "Optimal levels: times fewer bytes to within 1 % of float32's loss than uniform "
                "ones",
                f"{min(self.ratios):.1f} to {max(self.ratios):.1f}",
                "paper: up to 1.7",
                "emulated",
                "make study-levels",
            )
        ]

    def section(self) -> str:
        return f"""## Optimal levels

Emulated, `make study-levels`: least bits from which on the training loss is within 1 % of
float32's, best step of each, medians over draws. The paper reports up to 1.7 times fewer bytes;
here it is {min(self.ratios):.1f} to {max(self.ratios):.1f}, by how skewed the columns are.

{self.table()}
"""


class Losses:
    """Means over the data sets (``make study-nonlinear``)."""

    shown = (
        ("nearest rounding, direct", "nearest, direct", 8),
        ("double sampling, direct", "double, direct", 8),
        ("double sampling, direct", "double, direct", 4),
        ("Chebyshev polynomial of degree 14, base and count", "Chebyshev, degree 14", 5),
        ("Chebyshev polynomial of degree 14, base and count", "Chebyshev, degree 14", 8),
        ("refetching", "double, refetching", 8),
        ("refetching", "double, refetching", 4),
    )

    def __init__(self) -> None:
        self.reports = report("studies/results/nonlinear")

    def gaps(self, name: str, bits: int, loss: str) -> tuple[list[float], list[float], int]:
        """Losses above float32's and bits moved a value, one a data set; bits kept of one."""
        found, moved, kept = [], [], 0
        for r in self.reports:
            for row in r["losses"][loss]["rows"]:
                if (row["contender"], row["bits"]) == (name, bits):
                    above = nonlinear.gap(row, r["losses"][loss]["float32"])
                    assert above is not None, f"{name} at {bits} bits diverged"
                    found.append(above)
                    moved.append(row["bits_a_value"])
                    kept = row["bits_kept"]
        return found, moved, kept

    def table(self) -> str:
        rows = []
        for words, name, bits in self.shown:
            hinge, moved, kept = self.gaps(name, bits, "hinge")
            logistic, *_ = self.gaps(name, bits, "logistic")
            rows.append(
                [
                    f"{words}, {bits} bits",
                    f"{kept}",
                    f"{statistics.mean(moved):.1f}",
                    percent(statistics.mean(hinge)),
                    percent(statistics.mean(logistic)) if logistic else "",
                ]
            )
        return table(["", "bits a value, kept", "read", "hinge", "logistic"], rows)

    def worst(self, name: str, bits: int) -> float:
        return max(max(self.gaps(name, bits, loss)[0]) for loss in ("hinge", "logistic"))

    def headline(self) -> list[Row]:
        return [
            (
                "Hinge and logistic loss, 8 bits: loss above float32's, worst of three sets",
                percent(self.worst("double, direct", 8)),
                f"nearest {percent(self.worst('nearest, direct', 8))}",
                "emulated",
                "make study-nonlinear",
            )
        ]

    def section(self) -> str:
        direct = percent(self.worst("double, direct", 8), 2)
        return f"""## SVM and logistic regression

Emulated, `make study-nonlinear`: training loss above float32's, best step of each, means over three
data sets. The paper's negative result holds: at 8 bits evaluating the loss on one quantized sample
is enough (at most {direct} above, double sampled); polynomials on 8 bits in all converge and end no
nearer, and refetching reads more than 8 bits do. What lies below 0 stems from MNIST's hinge, which
has not converged in its 10 epochs. [Losses](losses.md#measured) has all of it.

{self.table()}
"""


class EndToEnd:
    """Samples, model and gradient quantized (``make study-end-to-end``)."""

    def __init__(self) -> None:
        self.reports = report("studies/results/end_to_end")

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

    def ranges(self) -> str:
        """The table of docs/end_to_end.md on ranges: from a float run, and the same for all."""
        head = ["range", *end_to_end.names(self.reports)]
        rows = []
        for fixed in end_to_end.GROUPS[end_to_end.FIXED]:
            auto = replace(fixed, fixed=False)
            for contender, words in ((auto, '"auto"'), (fixed, "4.0 and 1.0")):
                cells = [end_to_end.gap(r, contender) for r in self.reports]
                rows.append([f"{auto.name}, {words}", *cells])
        return table(head, rows) + "\n"

    def headline(self) -> list[Row]:
        return [
            (
                "Samples, model and gradient at 8 bits: loss above float32's, worst of five "
                "problems",
                percent(self.gaps("8/8/8")[-1]),
                f"samples alone {percent(self.gaps('8/32/32')[-1])}",
                "emulated",
                "make study-end-to-end",
            )
        ]

    def section(self) -> str:
        *_, fourth, fifth = (percent(gap, 2) for gap in self.gaps("8/8/8"))
        return f"""## End to end

Emulated, `make study-end-to-end`: bits of samples / model / gradient, training loss above
float32's, best step of each. 8/8/8 ends at most {fourth} above on four of the five and {fifth}
above on the fifth. [End to end](end_to_end.md#measured) has all of it.

{self.table()}
"""


class Distributed:
    """Shards' models averaged, beside one machine (``make study-distributed``)."""

    def __init__(self) -> None:
        self.report = report("studies/results/distributed")

    def gaps(self, bits: int, length: float = 1) -> list[float]:
        """With the default momentum, the worst last."""
        wanted = (length, bits, distributed.AUTO_MOMENTUM)
        return sorted(
            row["loss"] / own["one"] - 1
            for own in self.report["averaging"]
            for row in own["rows"]
            if (row["round_epochs"], row["bits"], row["momentum"]) == wanted
        )

    def headline(self) -> list[Row]:
        worst, names = self.gaps(8)[-1], len(self.report["averaging"])
        return [
            (
                f"Four shards averaged every epoch at 8 bits: loss above one machine's, worst of "
                f"{names} sets",
                percent(worst, 2),
                f"at 2 bits {percent(self.gaps(2)[-1], 2)}",
                "emulated",
                "make study-distributed",
            )
        ]

    def section(self) -> str:
        return f"""## Many machines

Emulated, `make study-distributed`: {distributed.SHARDS} shards, losses above one machine's after as
many passes. [Many machines](distributed.md#what-averaging-costs) has more shards, too.

{distributed.averaging_table(self.report["averaging"])}
"""


def deep_table() -> str:
    """The table of docs/deep.md: what has several seeds, each with its own first step."""
    cases = deep_report.by_case(report("studies/results/deep")["rows"])
    full = cases[deep_report.FIVE[0]]
    rows = []
    for (kind, count, *_), runs in cases.items():
        if len(runs) > 1:
            rate = next(iter(runs.values()))["settings"]["rate"]
            accuracy = deep_report.spread([deep_report.accuracy(run) for run in runs.values()])
            points = (
                "" if kind == "full" else deep_report.spread(deep_report.above(runs, full), "+")
            )
            rows.append([deep_report.title(kind, count), str(rate), accuracy, points])
    head = ["weights", "first step", "test accuracy, %", "above full precision, points"]
    return table(head, rows) + "\n"
