"""``make study-refinement``: bytes and time to the true optimum of least squares, few bits refined.

Synthetic 100, cadata, cpusmall and MNIST (even digits against odd ones), data drawn once, one
thread, loss on all training rows above the exact optimum's. Each way to train gets the best of its
batches, steps and schedules, for each target on its own; how much of each it took is in the tables.
Bytes are those of the values themselves: b + 1 bits for a pass at b bits, 9 for one at 8, 32 for
one of float32, and as many of few rows as they are. Seconds are CPU time, the least of some runs,
with the choice of the step, made anew for each, and without. Results:
``studies/results/refinement.json`` and ``refinement.md``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import data_file, parser_of, publish
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.accelerator.refine import ALONE
from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ZipmlWarning
from zipml_pynq.learn.parameters import AUTO_BITS
from zipml_pynq.training.baseline import float_sgd
from zipml_pynq.training.exact_rows import ExactRows
from zipml_pynq.training.make_plan import make_plan, step_sizes
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.refinement import Refine

TARGETS = (0.01, 0.001, 0.0001)
BITS = (1, 2, 3, 4)
#: Bits of every epoch of the precision schedule; the last one for all that follow.
SCHEDULE = (2, 2, 4, 4, 4, 8)
SHARES = (1.0, 0.3)
#: Schedules of the step, with the epochs that they are made for; None: the most of a data set.
STEP_SCHEDULES = (
    ("inverse", None),
    ("constant", None),
    ("linear", 3),
    ("linear", 10),
    ("linear", 30),
    ("linear", None),
)
#: Passes after which the losses of the table "after 30 epochs" are taken.
EPOCHS = 30
TIMES = 3
#: Most rounds, and of one way that solves with few bits alone.
ROUNDS, ROUNDS_ALONE = 60, 200

FloatArray = NDArray[np.float64]


class Course(NamedTuple):
    """Losses above the optimum's along a training, bits a value so far, and seconds."""

    how: str
    excess: FloatArray
    bits: FloatArray
    # of so many entries, without and with the choice of the step: a function
    seconds: Callable[[int], tuple[float, float]]


class CountingDriver(HostDriver):
    """Adds up the bits a value that runs read, those of true gradients by the device apart."""

    spent = 0.0
    #: Sums at the end of each run at one model.
    frozen: list[float]

    def train(self, packed: PackedDataset, plan: Any = None, **options: Any) -> Any:
        self.spent += (plan.bits + 1.0) * plan.epochs
        if plan.frozen:
            self.frozen.append(self.spent)
        return super().train(packed, plan, **options)


@dataclass
class Problem:
    """A data set with its exact optimum."""

    name: str
    X: NDArray[np.float32]
    y: NDArray[np.float64]
    batches: tuple[int, ...]
    epochs: int

    def packed(self, batch: int) -> PackedDataset:
        found = pack(self.X, self.y, bits=[*BITS, 8], batch=batch)
        self.values = found.normalization.transform(self.X)
        self.labels = found.normalization.transform_labels(self.y)
        if not hasattr(self, "moment"):
            wide = np.zeros((self.values.shape[1],) * 2)
            self.slope = np.zeros(len(wide))
            for rows in np.array_split(np.arange(len(self.y)), 20):
                part = self.values[rows].astype(np.float64)
                wide += part.T @ part / len(self.y)
                self.slope += part.T @ self.labels[rows] / len(self.y)
            self.moment = wide
            best = np.linalg.lstsq(wide, self.slope, rcond=1e-12)[0]
            self.least = self._loss(best[None])[0]
        return found

    def _loss(self, models: FloatArray) -> FloatArray:
        square = np.einsum("ij,ij->i", models @ self.moment, models)
        return np.asarray(
            square / 2 - models @ self.slope + self.labels @ self.labels / (2 * len(self.y))
        )

    def excess(self, models: NDArray[Any]) -> FloatArray:
        return np.asarray(self._loss(models.astype(np.float64)) / self.least - 1)


def problems() -> Iterator[Problem]:
    data = synthetic_regression(n_features=100)
    yield Problem("Synthetic 100", data.X_train, data.y_train, (16, 64), 100)
    for name in ("cadata", "cpusmall"):
        path = data_file(name)
        if path is not None:
            found = np.load(path)
            yield Problem(name, found["X"], found["y"].astype(float), (16, 64), 200)
    path = data_file("mnist")
    if path is not None:
        found = np.load(path)
        X = found["X_train"].reshape(len(found["X_train"]), -1).astype(np.float32)
        y = np.where(found["y_train"] % 2 == 0, 1.0, -1.0)
        yield Problem("MNIST", X, y, (64,), 40)


def plain(problem: Problem, packed: PackedDataset, batch: int) -> Iterator[tuple[str, Course]]:
    """float32, 8 bits and a precision schedule, at every step and schedule."""
    driver = HostDriver(packed.layout.word_bits)
    for schedule, known in STEP_SCHEDULES:
        epochs = problem.epochs if known is None else known
        options = {"epochs": epochs, "schedule": schedule, "feature_shifts": "auto"}
        found = {bits: planned(packed, bits=bits, **options) for bits in sorted({*SCHEDULE})}
        fixed = found[8][1]
        for share in SHARES:
            how = f"batch {batch}, {schedule} in {epochs} epochs, {share:g} of the default step"
            plans = {}
            for bits, (plan, _) in found.items():
                again = {**options, "feature_shifts": plan.feature_shifts}
                step = float(plan.step[0]) * share
                plans[bits] = make_plan(packed, bits=bits, step=step, **again)
            exact = plans[8]
            sizes = step_sizes(float(exact.step[0]), schedule, epochs)
            history, seconds = timed(
                float_sgd,
                problem.values,
                problem.labels.astype(np.float32),
                sizes,
                batch=batch,
                delay=exact.delay,
                feature_steps=exact.feature_steps,
            )
            yield "float32", course(problem, how, history, 32.0, fixed, seconds)
            result, seconds = timed(driver.train, packed, exact, judge=False)
            yield "8 bits", course(problem, how, result.history, 9.0, fixed, seconds)
            (history, used), seconds = timed(scheduled, driver, packed, plans, epochs)
            every = sum(took for _, took in found.values())
            yield "schedule 2, 4, 8", course(problem, how, history, used, every, seconds)


def scheduled(
    driver: HostDriver, packed: PackedDataset, plans: dict[int, Plan], epochs: int
) -> tuple[FloatArray, FloatArray]:
    """Models of a precision schedule, and the bits that every epoch took."""
    parts, model, used = [], None, []
    for epoch in range(min(epochs, len(SCHEDULE))):
        bits = SCHEDULE[epoch]
        stop = epoch + 1 if epoch < len(SCHEDULE) - 1 else epochs
        done = driver.train(packed, plans[bits].part(epoch, stop), model=model, judge=False)
        parts.append(done.history)
        model = done.model_fixed
        used += [bits + 1.0] * (stop - epoch)
    return np.concatenate(parts), np.array(used)


def timed(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    """What a call gives, and the least CPU seconds that it takes."""
    seconds = []
    for _ in range(TIMES):
        began = time.process_time()
        found = call(*arguments, **options)
        seconds.append(time.process_time() - began)
    return found, min(seconds)


def planned(packed: PackedDataset, **options: Any) -> tuple[Plan, float]:
    """A plan, and the least seconds that its choice took."""
    # of a data set that nothing is known of yet
    return timed(lambda: make_plan(replace(packed), **options))


def course(
    problem: Problem, how: str, history: NDArray[Any], bits: Any, fixed: float, seconds: float
) -> Course:
    each = np.broadcast_to(bits, len(history))

    def took(n: int) -> tuple[float, float]:
        return seconds * n / len(history), fixed + seconds * n / len(history)

    return Course(how, problem.excess(history), each.cumsum(), took)


def refined(
    problem: Problem, packed: PackedDataset, batch: int, bits: int, by_rows: bool, few: bool = True
) -> Course:
    word_bits = packed.layout.word_bits
    plan, choice = planned(packed, bits=bits, epochs=1, feature_shifts="auto")
    rows = ExactRows(problem.X, packed.normalization, len(problem.y)) if by_rows else None
    options: dict[str, Any] = {"rows": rows, "rows_a_feature": Refine.rows_a_feature if few else 0}
    refine = Refine(rounds=ROUNDS if few else ROUNDS_ALONE, tol=1e-9, **options)
    driver = CountingDriver(word_bits)
    driver.frozen = []
    result = driver.train(packed, plan, refine=refine, judge=False)
    entries = len(result.history)
    true = 32.0 if by_rows else 9.0
    if by_rows:
        spent = (bits + 1.0 + true) * np.arange(1.0, entries + 1)
    else:  # the first one at the start, one behind each round
        assert len(driver.frozen) == entries
        spent = np.array(driver.frozen)
    spent[0] = bits + 1.0
    spent[ALONE + 1 :] += true * len(result.model) * options["rows_a_feature"] / len(problem.y)

    def seconds(n: int) -> tuple[float, float]:
        """Again, with so many rounds."""
        again = None if n == 1 else Refine(**options, rounds=n - 1, tol=0.0)
        own = HostDriver(word_bits)
        _, took = timed(own.train, packed, plan, refine=again, judge=False)
        return took, choice + took

    return Course(f"batch {batch}", problem.excess(result.history), spent, seconds)


def first(course: Course, target: float) -> int | None:
    """Entries that a training needs to come within a target and to stay there."""
    outside = np.flatnonzero(~(course.excess <= target))
    n = 0 if outside.size == 0 else int(outside[-1]) + 1
    return n + 1 if n < len(course.excess) else None


def study(problem: Problem) -> dict[str, Any]:
    courses: dict[str, list[Course]] = {}
    for batch in problem.batches:
        packed = problem.packed(batch)
        for name, found in plain(problem, packed, batch):
            courses.setdefault(name, []).append(found)
        for bits in BITS:
            for by_rows in (False, True):
                name = f"{bits} bits refined by {'float32' if by_rows else '8 bits'}"
                if by_rows and bits == AUTO_BITS:
                    name += ', bits="auto"'
                found = refined(problem, packed, batch, bits, by_rows)
                courses.setdefault(name, []).append(found)
        found = refined(problem, packed, batch, AUTO_BITS, True, few=False)
        courses.setdefault(f"{AUTO_BITS} bits refined by float32, few bits alone", []).append(found)
    report: dict[str, Any] = {"name": problem.name, "samples": len(problem.y), "ways": {}}
    report["features"] = problem.values.shape[1]
    for name, found in courses.items():
        way: dict[str, Any] = {"after": after(found), "targets": {}}
        for target in TARGETS:
            reached = [(c.bits[n - 1], n, c) for c in found if (n := first(c, target))]
            if reached:
                least, n, best = min(reached, key=lambda r: r[0])
                took = [c.seconds(n) for _, n, c in reached]
                way["targets"][f"{target:g}"] = {
                    "bits": float(least),
                    "entries": n,
                    "how": best.how,
                    "seconds": min(alone for alone, _ in took),
                    "with_choice": min(whole for _, whole in took),
                }
        report["ways"][name] = way
        print(problem.name, name, way, flush=True)
    return report


def after(courses: list[Course]) -> float:
    """Least loss above the optimum's within 30 epochs of few bits."""
    return float(min(np.nanmin(c.excess[:EPOCHS]) for c in courses))


#: Columns of the tables: what, by which key, times what.
COLUMNS = (
    ("bits", "bits", 1),
    ("epochs", "entries", 1),
    ("ms", "seconds", 1000),
    ("ms with choice", "with_choice", 1000),
)


def markdown(report: dict[str, Any]) -> str:
    lines = [
        "# Refinement",
        "",
        f"Made by `make study-refinement` on {report['machine']['cpu']}; data drawn once, one "
        "thread. Bits a value, epochs (of refinement, the first one and its rounds), and "
        "milliseconds of CPU time without and with the choice of the step, to within a share of "
        "the exact optimum's loss; in brackets times fewer than float32's. Each at its best batch, "
        "step and schedule.",
        "",
    ]
    for found in report["problems"]:
        lines += [
            f"## {found['name']}, {found['samples']:,} x {found['features']}",
            "",
            "| | above the optimum after 30 epochs | "
            + " | ".join(f"{what} to {100 * t:g} %" for what, _, _ in COLUMNS for t in TARGETS)
            + " |",
            "|---|---:|" + "---:|" * (len(COLUMNS) * len(TARGETS)),
        ]
        base = found["ways"]["float32"]["targets"]
        for name, way in found["ways"].items():
            cells = [f"{100 * way['after']:.2g} %"]
            for _, key, factor in COLUMNS:
                for target in TARGETS:
                    got = way["targets"].get(f"{target:g}")
                    if got is None:
                        cells.append("-")
                        continue
                    text = f"{factor * got[key]:.3g}" if factor > 1 else f"{got[key]:.0f}"
                    other = base.get(f"{target:g}")
                    if other is not None and name != "float32" and key != "entries":
                        text += f" ({other[key] / got[key]:.1f} x)"
                    cells.append(text)
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__, "studies")
    parser.add_argument("--only", help="a part of the names of the data sets to run")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ZipmlWarning)
    found = [study(p) for p in problems() if not options.only or options.only in p.name]
    report = {"machine": machine(), "problems": found}
    publish(options.output, "refinement", report, markdown(report))


if __name__ == "__main__":
    main()
