"""``make study-deep``: CIFAR-10 with weights on few levels, ZipML's against XNOR-Net's.

Every finished run is written to ``benchmarks/results/deep_study.json`` at once, every epoch of an
unfinished one to ``build/deep_study``: the study goes on where it was stopped. Runs are in the
order of seeds, so that what is finished is comparable. Results: also ``deep_study.md`` and
``deep_study.png``.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from common import DATA, ROOT, machine, parser_of, publish
from torch import Tensor, nn
from tqdm import tqdm

from zipml_pynq import rounding_variance
from zipml_pynq.deep import quantized_layers
from zipml_pynq.deep.data import Pictures, load_pictures
from zipml_pynq.deep.train import Settings, evaluate, plot_curves, train

Case = tuple[str, int, str, str]

#: (levels, count, rounding, per), by kind at five levels: their step is chosen first.
FIVE: tuple[Case, ...] = (
    ("full", 5, "nearest", "layer"),
    ("xnor", 5, "nearest", "layer"),
    ("optimal", 5, "nearest", "layer"),
    ("clipped", 5, "nearest", "layer"),
)
OPTIMAL5 = FIVE[2]
#: Other numbers of levels, with the step of their kind.
COUNTS: tuple[Case, ...] = tuple(
    (levels, count, "nearest", "layer")
    for count in (3, 9)
    for levels in ("xnor", "optimal", "clipped")
)
#: What takes it apart: seed 0, five levels, the step of their kind (uniform: optimal's).
MORE: tuple[Case, ...] = (
    ("uniform", 5, "nearest", "layer"),
    ("xnor", 5, "stochastic", "layer"),
    ("optimal", 5, "stochastic", "layer"),
    ("clipped", 5, "stochastic", "layer"),
    ("xnor", 5, "nearest", "map"),
    ("optimal", 5, "nearest", "map"),
    ("clipped", 5, "nearest", "map"),
)
#: Steps that the best is chosen from.
RATES = (0.02, 0.03, 0.05)
HELD_OUT = 5_000
MEASURES = ("nearest", "stochastic", "outside", "ends", "gain")
NAMES = {
    "full": "full precision",
    "xnor": "XNOR",
    "optimal": "Optimal",
    "clipped": "Clipped",
    "uniform": "Uniform",
}


def title(levels: str, count: int) -> str:
    """ "Optimal5", say."""
    return NAMES[levels] if levels == "full" else f"{NAMES[levels]}{count}"


@cache
def pictures(folder: Path, quick: bool) -> tuple[Pictures, Tensor, Tensor]:
    """CIFAR-10 less the training pictures that are held out, and these; once a process."""
    whole = load_pictures("cifar10", folder)
    kept = len(whole.train) - HELD_OUT
    held = whole.train[kept:], whole.train_labels[kept:]
    part = whole.subset(10_000, 2_000) if quick else whole.subset(kept, len(whole.test))
    return part, *held


def rounding_errors(net: nn.Module) -> list[dict[str, Any]]:
    """Of each quantized layer at the end: what rounding does to its weights.

    "nearest" and "stochastic" are mean squared errors over the weights' mean square, "outside" is
    the share of weights beyond the ends of the levels, "ends" that of weights rounded to the
    first or the last, "gain" the rounded weights' root mean square over the weights'.
    """
    net.eval()
    found = []
    for name, layer, quantizer in quantized_layers(net):
        w = layer.parametrizations.weight.original.detach().double()
        rounded = layer.weight.detach().double()
        q = quantizer.levels.double()
        rows = w.reshape(len(q), -1)
        inside = rows.clamp(q[:, :1], q[:, -1:])
        variance = statistics.mean(
            rounding_variance(a.numpy(), b.numpy()) for a, b in zip(inside, q, strict=True)
        )
        power = float(w.square().mean())
        values = rounded.reshape(len(q), -1)
        on_ends = (values == q[:, :1]) | (values == q[:, -1:])
        found.append(
            {
                "layer": name,
                "nearest": float((rounded - w).square().mean()) / power,
                "stochastic": (variance + float((inside - rows).square().mean())) / power,
                "outside": float((inside != rows).double().mean()),
                "ends": float(on_ends.double().mean()),
                "gain": (float(rounded.square().mean()) / power) ** 0.5,
            }
        )
    return found


def run(folder: Path, quick: bool, settings: Settings, checkpoints: Path) -> dict[str, Any]:
    """One run, on one thread."""
    torch.set_num_threads(1)
    data, *held = pictures(folder, quick)
    start = time.perf_counter()
    path = (
        checkpoints
        / f"{settings.name}-{settings.epochs}epochs-{settings.rate}-seed{settings.seed}.pt"
    )
    trained = train(data, settings, path)
    return {
        "settings": asdict(settings),
        "pictures": len(data.train),
        "source": data.source,
        "history": trained.history,
        "held_out": evaluate(trained.net, *held)[0],
        "layers": rounding_errors(trained.net),
        "seconds": time.perf_counter() - start,
    }


def case_of(settings: dict[str, Any]) -> Case:
    """What tells the rows of the tables apart."""
    return settings["levels"], settings["count"], settings["rounding"], settings["per"]


def by_case(
    rows: list[dict[str, Any]], rate: float | None = None
) -> dict[Case, dict[int, dict[str, Any]]]:
    """Rows by case, in the order of the tables, and by seed: with one first step, or the best."""
    found: dict[Case, dict[int, dict[str, Any]]] = {case: {} for case in (*FIVE, *COUNTS, *MORE)}
    for row in rows:
        s = row["settings"]
        if s["rate"] == (rate or best_rate(rows, case_of(s))):
            found[case_of(s)][s["seed"]] = row
    return {case: dict(sorted(runs.items())) for case, runs in found.items() if runs}


def accuracy(row: dict[str, Any]) -> float:
    """Of the test pictures at the end, in percent."""
    return 100 * row["history"][-1]["accuracy"]


def best_rate(rows: list[dict[str, Any]], case: Case) -> float:
    """The first step after which seed 0 does best on held-out data, of those that were tried.

    That is the step of its kind at five levels for a case of which nothing was run yet.
    """
    levels, *_ = case
    kind = next(five for five in FIVE if five[0] == ("optimal" if levels == "uniform" else levels))
    tried = [row for row in rows if row["settings"]["seed"] == 0]
    for which in (case, kind):
        found = [row for row in tried if case_of(row["settings"]) == which]
        if found:
            return max(found, key=lambda row: row["held_out"])["settings"]["rate"]
    raise LookupError(f"nothing was run of {kind}")


def above(runs: dict[int, Any], others: dict[int, Any]) -> list[float]:
    """Points of accuracy of runs above others with the same seed."""
    return [accuracy(runs[s]) - accuracy(others[s]) for s in runs if s in others]


def spread(values: list[float], sign: str = "") -> str:
    """Mean and, where there are several, sample standard deviation."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):{sign}.2f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.2f}"


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    rows, where = report["rows"], report["machine"]
    s = rows[0]["settings"]
    cases = by_case(rows)
    full = cases.get(FIVE[0], {})
    lines = [
        "# Deep nets with weights on few levels",
        "",
        f"`make {report['target']}` on {where['cpu']}, torch {where['torch']}. CIFAR-10"
        + (" out of JPEG files" if rows[0]["source"] == "jpeg" else "")
        + f" ({rows[0]['pictures']:,} training pictures), Caffe's `cifar10_quick`, {s['epochs']} "
        f"epochs of SGD, batch {s['batch']}, step falling to 0 along a cosine, "
        f"momentum {s['momentum']}, weight decay {s['decay']}, "
        + ("pictures mirrored at random, " if s["mirror"] else "no augmentation, ")
        + ("products in bfloat16 while training; " if s["bfloat16"] else "in float32; ")
        + "tested in float32 at the end, rounded to the nearest level. First and last layer in "
        f"full precision; levels chosen anew every {s['refresh']} steps. Mean ± standard deviation "
        "over seeds; differences are between runs of the same seed. The first step is the best "
        f"of {', '.join(map(str, RATES))} for each kind of levels, by seed 0 on {HELD_OUT:,} "
        "training pictures that are held out:",
        "",
        "| weights | first step | held-out accuracy, % | test accuracy, % | chosen |",
        "|---|---:|---:|---:|---|",
    ]
    for row in rows:
        tried = row["settings"]
        if case_of(tried) in FIVE and tried["seed"] == 0:
            chosen = tried["rate"] == best_rate(rows, case_of(tried))
            lines.append(
                f"| {title(tried['levels'], tried['count'])} | {tried['rate']} | "
                f"{100 * row['held_out']:.2f} | {accuracy(row):.2f} | {'yes' if chosen else ''} |"
            )
    lines += [
        "",
        "| weights | rounding | levels for each | test accuracy, % | above full precision, points "
        "| training loss | runs |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for case, runs in cases.items():
        levels, count, rounding, per = case
        plain = levels == "full"
        loss = statistics.mean(row["history"][-1]["loss"] for row in runs.values())
        lines.append(
            f"| {title(levels, count)} | {'' if plain else rounding} | {'' if plain else per} | "
            f"{spread([accuracy(row) for row in runs.values()])} | "
            f"{'' if plain else spread(above(runs, full), '+')} | {loss:.3f} | {len(runs)} |"
        )
    lines += [
        "",
        "Points above XNOR with as many levels, the same rounding and seed:",
        "",
        "| weights | rounding | levels for each | first steps | points above XNOR | seeds above |",
        "|---|---|---|---|---:|---:|",
    ]
    compared = [("each its best", cases)]
    compared += [(f"both {rate}", by_case(rows, rate)) for rate in RATES]
    for steps, found in compared:
        for (levels, count, rounding, per), runs in found.items():
            points = above(runs, found.get(("xnor", count, rounding, per), {}))
            if levels not in ("full", "xnor") and points:
                lines.append(
                    f"| {title(levels, count)} | {rounding} | {per} | {steps} | "
                    f"{spread(points, '+')} | {sum(p > 0 for p in points)} of {len(points)} |"
                )
    lines += [
        "",
        "What rounding does to the trained weights, means over the quantized layers and seeds: "
        "squared error over the weights' mean square, of rounding to the nearest level and of "
        "stochastic rounding; share of weights beyond the levels, and of those rounded to the "
        "first or the last level; root mean square of the rounded "
        "weights over that of the weights.",
        "",
        "| weights | trained with | levels for each | error, nearest | error, stochastic | beyond "
        "| on the ends | size |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for (levels, count, rounding, per), runs in cases.items():
        layers = [layer for row in runs.values() for layer in row["layers"]]
        if layers:
            mean = {k: statistics.mean(layer[k] for layer in layers) for k in MEASURES}
            lines.append(
                f"| {title(levels, count)} | {rounding} | {per} | {mean['nearest']:.3f} | "
                f"{mean['stochastic']:.3f} | {100 * mean['outside']:.1f} % | "
                f"{100 * mean['ends']:.1f} % | {mean['gain']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def plot(report: dict[str, Any], path: Path) -> None:
    """Curves of the main comparison."""
    cases = by_case(report["rows"])
    curves = {
        title(case[0], case[1]): [row["history"] for row in cases[case].values()]
        for case in FIVE
        if case in cases
    }
    plot_curves(curves, path)


def main() -> None:
    """Run what is missing; write after every run."""
    parser = parser_of(__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, a thread each")
    parser.add_argument(
        "--folder",
        type=Path,
        default=DATA if DATA.exists() else ROOT / "build" / "data",
        help="where the pictures are kept",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the data, 5 epochs, one seed, own files"
    )
    options = parser.parse_args()
    name = "deep_study_quick" if options.quick else "deep_study"
    epochs, seeds = (5, 1) if options.quick else (options.epochs, options.seeds)
    file = options.output / f"{name}.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    if any(row["settings"]["epochs"] != epochs for row in rows):
        raise SystemExit(f"{file} holds runs of other epochs: give another --output")

    def write() -> None:
        target = "study-deep-quick" if options.quick else "study-deep"
        report = {
            "target": target,
            "machine": {**machine(), "torch": torch.__version__},
            "rows": rows,
        }
        publish(options.output, name, report, markdown(report), plot)

    def settings(case: Case, rate: float, seed: int) -> Settings:
        return Settings(*case, epochs=epochs, rate=rate, bfloat16=True, seed=seed)

    checkpoints = ROOT / "build" / name
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:

        def run_missing(wanted: list[Settings], what: str) -> None:
            done = [row["settings"] for row in rows]
            jobs = [
                pool.submit(run, options.folder, options.quick, s, checkpoints)
                for s in dict.fromkeys(wanted)
                if asdict(s) not in done
            ]
            try:
                for job in tqdm(as_completed(jobs), total=len(jobs), desc=what, unit="run"):
                    rows.append(job.result())
                    write()
            except BaseException:
                # or the pool would go through all that is left before it tells
                pool.shutdown(cancel_futures=True)
                raise

        run_missing([settings(case, rate, 0) for rate in RATES for case in FIVE], "steps")

        def best(cases: Iterable[Case], seeds: int) -> list[Settings]:
            return [
                settings(case, best_rate(rows, case), seed)
                for seed in range(seeds)
                for case in cases
            ]

        same = [
            settings(case, best_rate(rows, OPTIMAL5), seed)
            for seed in range(seeds)
            for case in FIVE
            if case[0] in ("xnor", "optimal")
        ]
        run_missing(best(FIVE, seeds) + same + best(COUNTS, seeds) + best(MORE, 1), "seeds")
    write()


if __name__ == "__main__":
    main()
