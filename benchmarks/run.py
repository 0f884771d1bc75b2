"""``make bench``: an epoch of the engine and of its peers, interleaved in one run.

Every contender trains the same normalized data, a few epochs from 0 a round; rounds are
interleaved, and the median is reported. What is made once for a run, such as the engine's plan, is
made before. Results: ``epoch.json``, ``epoch.md`` and ``epoch.png`` in
``benchmarks/results``.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import WORD_BITS, parser_of, publish
from benchmarks.contenders import (
    BITS,
    NUMPY_BATCHES,
    SOLVERS,
    Contender,
    Problem,
    contenders,
    engine,
    engine_name,
    float_engine,
    inverse,
    mnist_like,
    numpy_sgd,
    pack_all,
    prepare_run,
    step_at,
    uniform,
)
from zipml_pynq._engine import ffi, lib
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.training import baseline

BATCH = 64
EPOCHS = 8  # for the losses
TIMED_EPOCHS = 4  # of a round: the first one, from 0, has larger gradients than the others
SOLVER_ITERATIONS = 20  # at most
CORES = sorted(os.sched_getaffinity(0))


def seconds_of(work: Callable[[], object], threads: int = 1) -> float:
    """Seconds on pinned cores; threads inherit them."""
    os.sched_setaffinity(0, CORES[:threads])
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    os.sched_setaffinity(0, CORES)
    return seconds


def interleaved(rows: list[Contender], rounds: int, title: str) -> list[list[float]]:
    """Seconds an epoch of every contender in every round, after one round that does not count."""
    seconds: list[list[float]] = [[] for _ in rows]
    runs = [row.prepare(TIMED_EPOCHS) for row in rows]
    with tqdm(total=(rounds + 1) * len(rows), desc=title, unit="run") as bar:
        for i in range(rounds + 1):
            for row, run, times in zip(rows, runs, seconds, strict=True):
                took = seconds_of(run, row.threads) / TIMED_EPOCHS
                if i > 0:
                    times.append(took)
                bar.update()
    return seconds


def read_bandwidth() -> float:
    """Bytes a second that one thread reads from memory, the best of ten passes over 512 MB."""
    words = np.ones(1 << 26, dtype=np.uint64)
    pointer = ffi.cast("uint64_t *", ffi.from_buffer(words))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        if lib.zipml_read_words(pointer, words.size) != words.size:
            raise SystemExit("the sum of ones is wrong")
        best = min(best, time.perf_counter() - start)
    return words.nbytes / best


def measure(data: Problem, batch: int, rounds: int) -> list[dict[str, Any]]:
    """The table of one data set."""
    with TemporaryDirectory() as folder:
        rows = contenders(data, batch, (1, 2) if len(CORES) > 1 else (1,), Path(folder))
        seconds = interleaved(rows, rounds, data.name)
        losses = {}
        for i, row in enumerate(rows):
            models = row.epochs(EPOCHS)
            if models is not None:
                losses[i] = [baseline.loss(data.values, data.labels, model) for model in models]
    reached = next(losses[i][-1] for i, row in enumerate(rows) if row.name == "float32 engine")
    table = []
    for i, (row, times) in enumerate(zip(rows, seconds, strict=True)):
        median = statistics.median(times)
        within = [e + 1 for e, loss in enumerate(losses.get(i, [])) if loss <= 1.01 * reached]
        table.append(
            {
                "name": row.name,
                "threads": row.threads,
                "seconds": median,
                "spread": [min(times), max(times)],
                "values_per_second": data.values.size / median,
                "bytes": row.bytes,
                "loss": losses[i][-1] if i in losses else None,
                "seconds_to_float32_loss": within[0] * median if within else None,
            }
        )
    return table


def batches(data: Problem, rounds: int) -> list[dict[str, Any]]:
    """Engine at 4 bits and float32 engine at several batches."""
    rows, sizes = [], []
    for batch in NUMPY_BATCHES:
        packed = pack_all(data, (4,), batch)
        step = step_at(data, batch)
        rows += [
            engine(packed[4], 4, "symmetric", batch, step, 1),
            float_engine(data, batch, step, 1),
        ]
        sizes += [batch, batch]
    seconds = interleaved(rows, rounds, "batches")
    return [
        {"batch": b, "name": r.name, "seconds": statistics.median(s), "best": min(s)}
        for b, r, s in zip(sizes, rows, seconds, strict=True)
    ]


def time_to_loss(data: Problem, rounds: int) -> dict[str, Any]:
    """The fastest way of each kind to float32's loss, every one at its best batch, one thread.

    The engine may switch from one precision to another after an epoch: the time is the sum of its
    epochs' medians, the loss that of a run that did switch.
    """
    modes = list(product(BITS, ("single", "symmetric")))
    # |V x - y|² / 2 as a quadratic form, since some thousand models have to be judged
    everything = np.column_stack([data.values, data.labels])
    gram = sum(
        part.T @ part
        for part in (
            everything[i : i + 10_000].astype(float) for i in range(0, len(everything), 10_000)
        )
    )

    def losses(models: NDArray[Any]) -> NDArray[np.float64]:
        x = np.column_stack([models, -np.ones(len(models))])
        return np.einsum("ij,jk,ik->i", x, gram, x, optimize=True) / (2 * len(everything))

    def first_within(models: NDArray[Any]) -> int | None:
        good = np.flatnonzero(losses(models) <= reached)
        return int(good[0]) + 1 if good.size else None

    start = float_engine(data, BATCH, step_at(data, BATCH), 1).epochs(EPOCHS)
    reached = 1.01 * losses(start)[-1]
    found: list[tuple[str, str, int, float]] = []
    for batch in NUMPY_BATCHES:
        packed, step = pack_all(data, BITS, batch), step_at(data, batch)
        full = [float_engine(data, batch, step, 1), numpy_sgd(data, batch, step)]
        few = [engine(packed[bits], bits, sampling, batch, step, 1) for bits, sampling in modes]
        title = f"to float32's loss, batch {batch}"
        seconds = [statistics.median(t) for t in interleaved(full + few, rounds, title)]
        for row, took in zip(full, seconds[:2], strict=True):
            count = first_within(row.epochs(EPOCHS))
            if count is not None:
                found.append(("float32", f"{row.name}, {count} epochs", batch, count * took))
        steps, timed_modes = inverse(step, EPOCHS), list(zip(modes, seconds[2:], strict=True))
        for ((bits, sampling), fast), (last, slow) in product(timed_modes, repeat=2):
            if fast > slow:
                continue
            before = prepare_run(packed[bits], sampling, batch, steps, 1)()
            if (bits, sampling) == last:
                count = first_within(before[:, : data.values.shape[1]] / MODEL_ONE)
                if count is not None:
                    name = f"{engine_name(*last)}, {count} epochs"
                    found.append(("engine", name, batch, count * slow))
                continue
            for done in range(1, EPOCHS):
                after = prepare_run(
                    packed[last[0]], last[1], batch, steps[done:], 1, before[done - 1]
                )()
                count = first_within(after[:, : data.values.shape[1]] / MODEL_ONE)
                if count is not None:
                    name = (
                        f"{engine_name(bits, sampling)}, {done} epochs, "
                        f"then {engine_name(*last)}, {count}"
                    )
                    found.append(
                        ("engine, two precisions", name, batch, done * fast + count * slow)
                    )
    for kind, (module, fit) in SOLVERS.items():
        if find_spec(module) is None:
            continue
        for count in range(1, SOLVER_ITERATIONS + 1):
            if first_within(fit(data, count)[None]) is not None:
                took = statistics.median(seconds_of(partial(fit, data, count)) for _ in range(3))
                found.append((kind, f"{kind}, {count} iterations", 0, took))
                break
    best = {}
    for kind in ("float32", "engine", "engine, two precisions", *SOLVERS):
        rows = [row for row in found if row[0] == kind]
        if rows:
            _, name, batch, took = min(rows, key=lambda row: row[3])
            best[kind] = {"name": name, "batch": batch or None, "seconds": took}
    return best


def growth(rounds: int) -> dict[str, Any]:
    """Seconds of the engine against samples, features, bits and threads; slopes of logarithms."""
    threads = [t for t in (1, 2, 4, 8, 16) if t <= len(CORES)]
    axes = {
        "samples": [(n, 500, 4, 1) for n in (5000, 10000, 20000, 40000, 80000)],
        "features": [(20000, n, 4, 1) for n in (128, 256, 512, 1024, 2048)],
        "bits": [(20000, 500, b, 1) for b in (1, 2, 4, 8)],
        "threads": [(40000, 1000, 4, t) for t in threads],
    }
    report = {}
    for axis, points in axes.items():
        rows = []
        for samples, features, bits, count in points:
            data = uniform(samples, features)
            packed = pack_all(data, (bits,), 64)[bits]
            rows.append(engine(packed, bits, "symmetric", 64, 0.01 / features, count))
        seconds = [min(s) for s in interleaved(rows, rounds, f"growth with {axis}")]
        where = [p[list(axes).index(axis)] for p in points]
        # one core has one point
        slope = float(np.polyfit(np.log(where), np.log(seconds), 1)[0]) if where[1:] else None
        report[axis] = {"at": where, "seconds": seconds, "slope": slope}
    return report


def data_section(name: str, rows: list[dict[str, Any]], bandwidth: float) -> list[str]:
    """Every contender on one data set."""
    peer = next(r for r in rows if r["name"].startswith("scikit"))["spread"][0]
    full = next(r for r in rows if r["name"] == "float32 engine")["spread"][0]
    lines = [
        f"## {name}",
        "",
        "| | threads | seconds an epoch | best | million values a second | MB moved "
        "| of bandwidth | x float32 | x scikit-learn | loss | seconds to float32's loss |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        best = r["spread"][0]
        share = r["bytes"] / best / bandwidth
        loss = "" if r["loss"] is None else f"{r['loss']:.6f}"
        reach = r["seconds_to_float32_loss"]
        until = "" if reach is None else f"{reach:.4f}"
        lines.append(
            f"| {r['name']} | {r['threads']} | {r['seconds']:.4f} "
            f"| {best:.4f} | {r['values_per_second'] / 1e6:,.0f} | {r['bytes'] / 1e6:.1f} "
            f"| {100 * share:.0f} % | {full / best:.2f} "
            f"| {peer / best:.1f} | {loss} | {until} |"
        )
    return lines


def batches_section(report: dict[str, Any]) -> list[str]:
    """Engine and float32 engine by batch."""
    lines = [
        "## Batches",
        "",
        f"{report['largest']}, one thread, best of the rounds.",
        "",
        "| batch | engine, 4 bits, double | float32 engine | ratio |",
        "|---:|---:|---:|---:|",
    ]
    rows = report["batches"]
    for a, b in zip(rows[::2], rows[1::2], strict=True):
        ratio = b["best"] / a["best"]
        lines.append(f"| {a['batch']} | {a['best']:.4f} | {b['best']:.4f} | {ratio:.2f} |")
    return lines


def loss_section(report: dict[str, Any]) -> list[str]:
    """The fastest way of each kind to float32's loss."""
    lines = [
        "## Time to float32's loss",
        "",
        f"{report['largest']}, one thread: until within 1 % of the loss that the float32 engine "
        f"has at batch {BATCH} after {EPOCHS} epochs, each kind at its best precision, batch and "
        "number of epochs; medians. The solvers that are no SGD keep their defaults but for a "
        "vanishing regularization, and their conversions count; one that is missing was not "
        "installed. Vowpal Wabbit, which reads text, has a row where the data are few.",
        "",
        "| kind | best | batch | seconds | x float32 |",
        "|---|---|---:|---:|---:|",
    ]
    to_loss = report["time_to_loss"]
    for kind, r in to_loss.items():
        ratio = to_loss["float32"]["seconds"] / r["seconds"]
        batch = "" if r["batch"] is None else r["batch"]
        lines.append(f"| {kind} | {r['name']} | {batch} | {r['seconds']:.4f} | {ratio:.2f} |")
    return lines


def growth_section(report: dict[str, Any]) -> list[str]:
    """Seconds by size."""
    lines = [
        "## Growth",
        "",
        "Engine at 4 bits, double sampled, one thread where threads do not grow, best of rounds; "
        "slope of log seconds.",
        "",
        "| with | at | milliseconds | slope |",
        "|---|---|---|---:|",
    ]
    for axis, r in report["growth"].items():
        at = ", ".join(f"{v:,}" for v in r["at"])
        took = ", ".join(f"{1e3 * s:.2f}" for s in r["seconds"])
        slope = "" if r["slope"] is None else f"{r['slope']:.2f}"
        lines.append(f"| {axis} | {at} | {took} | {slope} |")
    return lines


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    where = report["machine"]
    caches = ", ".join(f"{name} {size}" for name, size in where["caches"].items())
    lines = [
        "# One epoch, measured",
        "",
        f"`make bench` on {where['cpu']}, {where['cores']} cores (load average {where['load']:.1f} "
        f'when it began), {caches}, loops "{where["loops"]}", Python {where["python"]}, NumPy '
        f"{where['numpy']}. Words of {WORD_BITS} bits, batch {report['batch']}, median of "
        f"{report['rounds']} interleaved rounds of {TIMED_EPOCHS} epochs each, ratios from the "
        f"best of them (others may use the machine too), threads pinned to cores. One thread reads "
        f"{report['bandwidth'] / 1e9:.1f} GB/s from memory; the share is of that. Loss: after "
        f"{EPOCHS} epochs. Last column: until within 1 % of the float32 engine's loss after "
        f"{EPOCHS} epochs.",
    ]
    sections = [data_section(*rows, report["bandwidth"]) for rows in report["data"].items()]
    sections += [batches_section(report), loss_section(report), growth_section(report)]
    lines += [line for section in sections for line in ("", *section)]
    return "\n".join(lines) + "\n"


def picture(report: dict[str, Any], path: Path) -> None:
    """Values a second of every contender on the largest data set, one thread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [r for r in report["data"][report["largest"]] if r["threads"] == 1][::-1]
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    colors = ["tab:blue" if r["name"].startswith("engine") else "tab:gray" for r in rows]
    speeds = [r["values_per_second"] / 1e9 for r in rows]
    bars = axes.barh([r["name"] for r in rows], speeds, color=colors)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel("billion values a second")
    axes.set_title(f"{report['largest']}, one thread, batch {report['batch']}")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, write JSON, Markdown and picture, print the table."""
    parser = parser_of(__doc__, "benchmarks")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--samples", type=int, default=200_000, help="of the largest data set")
    options = parser.parse_args()
    from threadpoolctl import threadpool_limits

    report: dict[str, Any] = {
        "machine": machine(),
        "batch": options.batch,
        "rounds": options.rounds,
        "bandwidth": read_bandwidth(),  # the best of what it is before each data set
        "data": {},
    }
    with threadpool_limits(limits=1):
        for make in (
            lambda: uniform(10_000, 100),
            mnist_like,
            lambda: uniform(options.samples, 1000),
        ):
            data = make()
            report["bandwidth"] = max(report["bandwidth"], read_bandwidth())
            report["data"][data.name] = measure(data, options.batch, options.rounds)
        report["largest"] = data.name
        report["batches"] = batches(data, options.rounds)
        report["time_to_loss"] = time_to_loss(data, options.rounds)
        report["growth"] = growth(options.rounds)
    publish(options.output, "epoch", report, markdown(report), picture)


if __name__ == "__main__":
    main()
