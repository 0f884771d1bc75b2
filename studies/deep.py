"""``make study-deep``: CIFAR-10 with weights on few levels, ZipML's against XNOR-Net's.

Every finished run is written to ``studies/results/deep.json`` at once, every epoch of an
unfinished one to ``build/deep``: the study goes on where it was stopped. Runs are in the
order of seeds, so that what is finished is comparable. Results: also ``deep.md`` and
``deep.png``.
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
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.common import DATA, ROOT, parser_of, publish
from studies.deep_report import (
    COUNTS,
    FIVE,
    HELD_OUT,
    MORE,
    OPTIMAL5,
    RATES,
    Case,
    best_rate,
    by_case,
    markdown,
    title,
)
from zipml_pynq import rounding_variance
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.deep import quantized_layers
from zipml_pynq.deep.data import Pictures, load_pictures
from zipml_pynq.deep.train import Settings, evaluate, plot_curves, train


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
    parser = parser_of(__doc__, "studies")
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
    name = "deep_quick" if options.quick else "deep"
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
