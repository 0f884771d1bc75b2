"""What is read out of benchmarks: measured, on the machine that they name.

Each class has its rows of README.md and its section of docs/numbers.md.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from docs.write_numbers.markdown import Row, milliseconds, report, table

LARGE = "uniform 200,000 x 1,000"


def measured(report: Any) -> str:
    """The word of a row, and of which older state of the code it is.

    Whoever keeps results while what they measure is changed names their commit in them.
    """
    return f"measured, commit {report['commit']}" if "commit" in report else "measured"


class Epoch:
    """Seconds of an epoch here, one thread, best of the rounds (``make bench``)."""

    def __init__(self) -> None:
        self.report = report("benchmarks/results/epoch")
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

    def headline(self) -> list[Row]:
        two = self.until["engine, two precisions"]["seconds"]
        return [
            (
                "An epoch of 200,000 x 1,000 here, engine, 4 bits",
                f"{milliseconds(self.engine(4, 'double'))} ms",
                f"float32 in C++ {milliseconds(self.float32)} ms, scikit-learn's SGD "
                f"{milliseconds(self.sklearn)} ms",
                measured(self.report),
                "make bench",
            ),
            (
                f"Training on it to within 1 % of float32's loss, at {self.switched()}",
                f"{milliseconds(two)} ms",
                f"float32 in C++ {milliseconds(self.until_float)} ms "
                f"({self.until_float / two:.1f} x)",
                measured(self.report),
                "make bench",
            ),
        ]

    def section(self) -> str:
        bench, machine = self.report, self.report["machine"]
        return f"""## An epoch here

Measured, `make bench`: {LARGE.removeprefix("uniform ")}, batch {bench["batch"]}, one thread on one
core of an {machine["cpu"]} (loops "{machine["loops"]}", load average {machine["load"]:.1f} at the
start), best of {bench["rounds"]} interleaved rounds. Why the engine is faster than float32 by less
than the bytes would allow: [speed](speed.md).

{self.table()}

Until the loss is within 1 % of that of the float32 engine after 8 epochs, medians, each kind at its
best precision, batch and number of epochs:

{self.until_table()}
"""


class Loops:
    """The engine with the loops of some instruction sets (``python -m benchmarks.loops``)."""

    SETS: ClassVar = {"avx2": "AVX2", "avxvnni": "AVX-VNNI", "avx512": "AVX-512 VNNI"}
    #: Sets of which something is wanted.
    WANTED = ("avx2", "avx512")

    def __init__(self) -> None:
        self.reports = {name: report(f"benchmarks/results/loops_{name}") for name in self.SETS}

    def table(self) -> str:
        """What is wanted and what is, side by side."""
        rows = [
            self._row("1 bit / float32", LARGE, 64, "engine, 1 bit, double", ("4", "4.5")),
            self._row("2 bits / float32", LARGE, 64, "engine, 2 bits, double", ("4", "4.5")),
            self._row("4 bits / float32", LARGE, 64, "engine, 4 bits, double", ("3", "4")),
            self._row("8 bits / float32", LARGE, 64, "engine, 8 bits, double", ("1.8", "2.5")),
            self._threads(),
            self._row(
                "10,000 x 100, 4 bits / float32",
                "uniform 10,000 x 100",
                64,
                "engine, 4 bits, double",
                ("1.5", "1.5"),
            ),
            self._row("4 bits / float32, batch 16", LARGE, 16, "engine, 4 bits, double", ("", "")),
            self._row(
                "4 bits with an 8-bit model / float32",
                LARGE,
                64,
                "engine, 4 bits, double, 8-bit model",
                ("", ""),
            ),
        ]
        head = [""]
        for name, title in self.SETS.items():
            head += [f"{title} wanted"] * (name in self.WANTED) + [f"{title} is"]
        machines = "; ".join(
            f"{self.SETS[name]}, {measured(r)}, on {r['machine']['cpu']}, load average "
            f"{r['machine']['load']:.1f}"
            for name, r in self.reports.items()
        )
        return f"{table(head, rows)}\n\n{machines}.\n"

    def _seconds(self, loops: str, data: str, batch: int, name: str, threads: int = 1) -> float:
        return next(
            r["seconds"]
            for r in self.reports[loops]["rows"]
            if (r["data"], r["batch"], r["name"], r["threads"]) == (data, batch, name, threads)
        )

    def _row(
        self, title: str, data: str, batch: int, name: str, wanted: tuple[str, str]
    ) -> list[str]:
        cells = [title]
        least = dict(zip(self.WANTED, wanted, strict=True))
        for loops in self.SETS:
            full = self._seconds(loops, data, batch, "float32 engine")
            ratio = full / self._seconds(loops, data, batch, name)
            cells += self._cells(ratio, least.get(loops))
        return cells

    def _cells(self, ratio: float, least: str | None) -> list[str]:
        """What is, behind what is wanted where a set has that column."""
        missed = ", missed" if least and ratio < float(least) else ""
        return [*([] if least is None else [least]), f"{ratio:.2f}{missed}"]

    def _threads(self) -> list[str]:
        cells = ["two threads / one, 4 bits"]
        for loops in self.SETS:
            one, two = (
                self._seconds(loops, LARGE, 64, "engine, 4 bits, double", threads)
                for threads in (1, 2)
            )
            cells += self._cells(one / two, "1.6" if loops in self.WANTED else None)
        return cells


class Wheel:
    """The engine of the wheel beside the local build (``python -m benchmarks.wheel``)."""

    def __init__(self) -> None:
        self.report = report("benchmarks/results/wheel")

    def table(self) -> str:
        """Milliseconds with the best loops, and how wide the others' ratios range."""
        about = self.report["machine"]
        best = [row for row in self.report["rows"] if row["loops"] == about["loops"]]
        rows = [
            [
                row["task"],
                f"{1e3 * row['local']:.1f}",
                f"{1e3 * row['wheel']:.1f}",
                f"{row['local'] / row['wheel']:.2f}",
            ]
            for row in best
        ]
        ratios = [r["local"] / r["wheel"] for r in self.report["rows"] if r not in best]
        return (
            f"{table(['', 'local, ms', 'wheel, ms', 'local / wheel'], rows)}\n\n"
            f"{measured(self.report).capitalize()}, on one core of an {about['cpu']} (loops "
            f'"{about["loops"]}", load average {about["load"]:.1f} at the beginning), median of '
            f"{self.report['rounds']} rounds in turn, seconds of the processor; 20,000 x 1,000. "
            f"Training with the loops of other processors: {min(ratios):.2f} to "
            f"{max(ratios):.2f}.\n"
        )


class Fits:
    """Seconds of whole fits (``make bench``)."""

    def __init__(self) -> None:
        self.report = report("benchmarks/results/fits")
        self.narrow = report("benchmarks/results/fits_avx2")

    def table(self) -> str:
        narrow = {(row["case"], row["name"]): row for row in self.narrow["fits"]}
        rows = []
        for row in self.report["fits"]:
            other = narrow.get((row["case"], row["name"]))
            rows.append(
                [
                    *(row["case"], row["name"], f"{row['score']:.3f}"),
                    *(self.number(row[key]) for key in ("seconds", "core_seconds")),
                    *(self.number(row[key]) for key in ("times_as_fast", "times_as_cheap")),
                    *(
                        "" if other is None else self.number(other[key])
                        for key in ("seconds", "times_as_fast")
                    ),
                ]
            )
        head = ["rows", "", "score", "s", "core s", "times as fast", "times as cheap"]
        head += ["AVX2 alone: s", "times as fast"]
        fresh = [
            [row["name"], f"{row['seconds']:.1f}", f"{row['core_seconds']:.1f}"]
            for row in self.report["fresh"]
        ]
        about = self.narrow["machine"]
        return (
            f"{self.conditions()} AVX2 alone: another run, in which compiled code, NumPy and BLAS "
            f"do without AVX-512, {measured(self.narrow)}, {about['load']:.0f} processes on the "
            f"cores, medians of up to {self.narrow['rounds']}.\n\n{table(head, rows, 2)}\n\n"
            "A fresh process that imports the estimator and fits iris; without other packages: in "
            "an environment of this one and scikit-learn, where that finds no pandas to import:"
            f"\n\n{table(['', 's', 'core s'], fresh)}\n"
        )

    @staticmethod
    def number(value: float) -> str:
        """Two digits that count, or more before the point."""
        return f"{value:,.0f}" if value >= 9.5 else f"{value:.2g}"

    def conditions(self) -> str:
        """On what it was measured."""
        about = self.report["machine"]
        return (
            f"{measured(self.report).capitalize()}: {about['cpu']}, {about['cores']} cores that "
            f"{about['load']:.0f} processes shared, "
            f"loops {about['loops']}; NumPy {about['numpy']}, scikit-learn {about['sklearn']}; "
            f"medians of up to {self.report['rounds']} interleaved fits."
        )


class Search:
    """Finding levels, median seconds (``make bench``)."""

    def __init__(self) -> None:
        self.report = report("benchmarks/results/levels")
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

    def headline(self) -> list[Row]:
        return [
            (
                "16 optimal levels of 2^20 values, exact",
                f"{self.ms('exact', 16)} ms",
                f"QUIVER's fastest exact search {self.ms('QUIVER exact, accelerated', 16)} ms",
                measured(self.report),
                "make bench",
            )
        ]

    def section(self) -> str:
        found = self.report
        return f"""## Finding levels

Measured, `python -m benchmarks.levels` (part of `make bench`): {found["values"]:,} sorted normal
values, one core of an {found["cpu"]}, medians of {found["rounds"]} rounds, beside QUIVER's code in
the same run. Above the optimum: the objective, in % of the exact one's.

{self.table()}
"""


class Packing:
    """GB of float32 a second of one core (``make bench``)."""

    def __init__(self) -> None:
        self.report = report("benchmarks/results/packing")
        self.rows = self.report["rows"]

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

    def headline(self) -> list[Row]:
        return [
            (
                "Packing, 4 bits, double sampled: float32 a second",
                f"{self.rate(784, 'uniform'):.1f} GB",
                f"optimal levels {self.rate(784, 'levels'):.1f} GB",
                measured(self.report),
                "make bench",
            )
        ]

    def section(self) -> str:
        return f"""## Packing

Measured, `python -m benchmarks.packing` (part of `make bench`): GB of float32 input for a second of
core time, at 4 bits, double sampled.

{self.table()}
"""


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
        self.report = report("benchmarks/results/command_line")
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

    def headline(self) -> list[Row]:
        widest = max(self.widths)
        return [
            (
                f"`zipml prepare` of a LIBSVM file of {self.report['rows']:,} x {widest}",
                self.cost(widest, "prepare"),
                f"read whole {self.cost(widest, 'whole')}",
                measured(self.report),
                "make bench",
            )
        ]

    def section(self) -> str:
        files = self.report["machine"]
        return f"""## Large files

Measured, `python -m benchmarks.command_line` (part of `make bench`): seconds and peak memory of
`zipml` on LIBSVM files of {self.report["rows"]:,} rows, on {files["cores"]} cores of an
{files["cpu"]} (load average {files["load"]:.1f} at the end). Peak is all that was resident, maps of
files and Python itself included. `prepare` stores 2, 4 and 8 bits; `train` takes
{self.report["epochs"]} epochs at 4 bits on the emulated device, whose memory is in it. "Read
whole" is scikit-learn's reader, then `pack` and `save`, which make the same file to the byte.

{self.table()}
"""


def fuzz() -> str:
    """The table of docs/reliability.md."""
    found = report("tests/fuzz/results")
    wire = found["wire"]
    tables, libsvm, files = found["tables"], found["libsvm"], found["files"]
    guided = found["guided"]
    rows = [
        ["tables, whole", f"{tables['tables']:,}", "all as pandas"],
        [
            "tables, damaged",
            f"{tables['damaged tables']:,}",
            f"{tables['of these read']:,} read, as Python does where it sees the same fields; the "
            "others refused, or their labels text",
        ],
        ["LIBSVM files, whole", f"{libsvm['LIBSVM files']:,}", "all as scikit-learn"],
        [
            "LIBSVM files, damaged",
            f"{libsvm['damaged LIBSVM files']:,}",
            f"{libsvm['of these read alike']:,} read by both, all alike",
        ],
        [
            "texts through the parsers under AddressSanitizer and UBSan, guided by coverage",
            f"{guided['inputs']:,}",
            f"none told anything; {guided['reached']} of {guided['edges']} edges reached, the "
            f"program's own and its libraries' among them; of {guided['kept']:,} inputs that "
            f"reached something new, {guided['of these read']:,} read, as scikit-learn and Python "
            "do where they take them",
        ],
        ["bytes of files changed", f"{files['bytes changed']:,}", "every one refused"],
        ["files cut to a length", f"{files['lengths cut']:,}", "every one refused"],
        ["headers made up", f"{found['headers']['headers made up']:,}", "every one refused"],
        [
            "hostile messages",
            f"{wire['messages']:,}",
            "; ".join(f"{n:,} {end}" for end, n in sorted(wire["ends"].items())),
        ],
        [
            "hostile connections",
            f"{wire['connections']:,}",
            f"{wire['trainings beside them']:,} trainings beside them, all with the same bits",
        ],
    ]
    rows += [
        [
            f"the server's {name}",
            "",
            ", ".join(
                f"{wire[when][key]} {said}"
                for when, said in (("before", "before"), ("most", "at most"), ("after", "after"))
            ),
        ]
        for name, key in (
            ("descriptors", "descriptors"),
            ("threads", "threads"),
            ("MiB of memory", "MiB"),
        )
    ]
    told = (
        f"\nIn {found['seconds']} s on {found['cpu']}, {found['cores']} cores, shared with other "
        f"work; seed {found['seed']}.\n"
    )
    return table(["what", "how often", "what came of it"], rows, 3) + "\n" + told
