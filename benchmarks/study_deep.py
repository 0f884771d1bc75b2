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
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from common import DATA, ROOT, machine, parser_of, publish
from torch import nn
from tqdm import tqdm

from zipml_pynq import rounding_variance
from zipml_pynq.deep import quantized_layers
from zipml_pynq.deep.data import Pictures, load_pictures
from zipml_pynq.deep.train import Settings, plot_curves, train

#: (levels, count, rounding, per). The first seven answer the question at every number of levels;
#: the others take it apart at five.
MAIN = (
    ("full", 5, "nearest", "layer"),
    ("xnor", 5, "nearest", "layer"),
    ("optimal", 5, "nearest", "layer"),
    ("xnor", 3, "nearest", "layer"),
    ("optimal", 3, "nearest", "layer"),
    ("xnor", 9, "nearest", "layer"),
    ("optimal", 9, "nearest", "layer"),
)
MORE = (
    ("uniform", 5, "nearest", "layer"),
    ("xnor", 5, "nearest", "map"),
    ("optimal", 5, "nearest", "map"),
    ("xnor", 5, "stochastic", "layer"),
    ("optimal", 5, "stochastic", "layer"),
    ("uniform", 5, "stochastic", "layer"),
)
NAMES = {"full": "full precision", "xnor": "XNOR", "optimal": "Optimal", "uniform": "Uniform"}


def title(levels: str, count: int) -> str:
    """ "Optimal5", say."""
    return NAMES[levels] if levels == "full" else f"{NAMES[levels]}{count}"


@cache
def pictures(folder: Path, quick: bool) -> Pictures:
    """All of CIFAR-10, or a fifth of it; once a process."""
    whole = load_pictures("cifar10", folder)
    return whole.subset(10_000, 2_000) if quick else whole


def rounding_errors(net: nn.Module) -> list[dict[str, Any]]:
    """Of each quantized layer at the end: what rounding does to its weights.

    "nearest" and "stochastic" are mean squared errors over the weights' mean square, "outside" is
    the share of weights beyond the ends of the levels, "gain" the rounded weights' root mean
    square over the weights'.
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
        found.append(
            {
                "layer": name,
                "nearest": float((rounded - w).square().mean()) / power,
                "stochastic": (variance + float((inside - rows).square().mean())) / power,
                "outside": float((inside != rows).double().mean()),
                "gain": (float(rounded.square().mean()) / power) ** 0.5,
            }
        )
    return found


def run(folder: Path, quick: bool, settings: Settings, checkpoints: Path) -> dict[str, Any]:
    """One run, on one thread."""
    torch.set_num_threads(1)
    data = pictures(folder, quick)
    start = time.perf_counter()
    path = checkpoints / f"{settings.name}-{settings.epochs}epochs-seed{settings.seed}.checkpoint"
    trained = train(data, settings, path)
    return {
        "settings": asdict(settings),
        "pictures": len(data.train),
        "source": data.source,
        "history": trained.history,
        "layers": rounding_errors(trained.net),
        "seconds": time.perf_counter() - start,
    }


def accuracies(rows: list[dict[str, Any]], case: tuple[str, int, str, str]) -> list[float]:
    """Test accuracy of every seed at the end, in percent."""
    return [
        100 * row["history"][-1]["accuracy"]
        for row in sorted(rows, key=lambda row: row["settings"]["seed"])
        if tuple(row["settings"][key] for key in ("levels", "count", "rounding", "per")) == case
    ]


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.2f} %"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %"


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    rows, where = report["rows"], report["machine"]
    s = rows[0]["settings"]
    runs = {case: accuracies(rows, case) for case in (*MAIN, *MORE)}
    full = runs[MAIN[0]]
    lines = [
        "# Deep nets with weights on few levels",
        "",
        f"`make study-deep` on {where['cpu']}, torch {where['torch']}. CIFAR-10 "
        + ("out of JPEG files " if rows[0]["source"] == "jpeg" else "")
        + f"({rows[0]['pictures']} training pictures), Caffe's `cifar10_quick`: {s['epochs']} "
        f"epochs of SGD, batch {s['batch']}, step {s['rate']} falling to 0 along a cosine, "
        f"momentum {s['momentum']}, weight decay {s['decay']}, "
        + ("pictures mirrored at random, " if s["mirror"] else "no augmentation, ")
        + ("products in bfloat16 while training, " if s["bfloat16"] else "float32, ")
        + "test in float32 at the end of the last epoch. First and last layer in full precision; "
        f"levels chosen anew every {s['refresh']} steps. Mean and standard deviation over seeds; "
        "the differences are between runs of the same seed.",
        "",
        "| weights | rounding | levels for each | test accuracy | below full precision | "
        "training loss | runs |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for case, values in runs.items():
        if not values:
            continue
        levels, count, rounding, per = case
        below = [a - b for a, b in zip(full, values, strict=False)]
        loss = [
            row["history"][-1]["loss"]
            for row in rows
            if tuple(row["settings"][k] for k in ("levels", "count", "rounding", "per")) == case
        ]
        plain = levels == "full"
        lines.append(
            f"| {title(levels, count)} | {'' if plain else rounding} | {'' if plain else per} | "
            f"{spread(values)} | {'' if plain else f'{statistics.mean(below):+.2f}'} | "
            f"{statistics.mean(loss):.3f} | {len(values)} |"
        )
    lines += [
        "",
        "| levels | rounding | levels for each | Optimal above XNOR, points | in how many seeds |",
        "|---:|---|---|---:|---:|",
    ]
    for case, values in runs.items():
        levels, count, rounding, per = case
        other = runs.get(("xnor", count, rounding, per), [])
        if levels != "optimal" or not values or not other:
            continue
        above = [a - b for a, b in zip(values, other, strict=False)]
        lines.append(
            f"| {count} | {rounding} | {per} | {spread(above).removesuffix(' %')} | "
            f"{sum(a > 0 for a in above)} of {len(above)} |"
        )
    return "\n".join(lines) + "\n"


def plot(report: dict[str, Any], path: Path) -> None:
    """Curves of the main comparison."""
    curves = {}
    for case in MAIN:
        found = [
            row["history"]
            for row in report["rows"]
            if tuple(row["settings"][k] for k in ("levels", "count", "rounding", "per")) == case
        ]
        if found:
            curves[title(case[0], case[1])] = found
    plot_curves(curves, path)


def main() -> None:
    """Run what is missing; write after every run."""
    parser = parser_of(__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, a thread each")
    parser.add_argument("--folder", type=Path, default=DATA, help="where the pictures are kept")
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the data, 5 epochs, one seed, own files"
    )
    options = parser.parse_args()
    name = "deep_study_quick" if options.quick else "deep_study"
    epochs, seeds = (5, 1) if options.quick else (options.epochs, options.seeds)
    wanted = [
        Settings(*case, epochs=epochs, bfloat16=True, seed=seed)
        for cases in (MAIN, MORE)
        for seed in range(seeds)
        for case in cases
    ]
    file = options.output / f"{name}.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    done = [row["settings"] for row in rows]
    left = [settings for settings in wanted if asdict(settings) not in done]
    rows = [row for row in rows if row["settings"] in [asdict(settings) for settings in wanted]]

    def write() -> None:
        report = {"machine": {**machine(), "torch": torch.__version__}, "rows": rows}
        publish(options.output, name, report, markdown(report), plot)

    checkpoints = ROOT / "build" / name
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        jobs = [pool.submit(run, options.folder, options.quick, s, checkpoints) for s in left]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="CIFAR-10", unit="run"):
            rows.append(job.result())
            write()
    if not left:
        write()


if __name__ == "__main__":
    main()
