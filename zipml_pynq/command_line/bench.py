"""``zipml bench``: how fast this machine trains."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from zipml_pynq.command_line.group import zipml
from zipml_pynq.command_line.options import Bits, common_options
from zipml_pynq.command_line.output import (
    report,
    wanted,
)
from zipml_pynq.data.pack import pack


@zipml.command()
@click.option("--samples", type=click.IntRange(64), default=50_000, show_default=True)
@click.option("--features", type=click.IntRange(1, 32_000), default=100, show_default=True)
@click.option("--batch", type=click.IntRange(1, 256), default=64, show_default=True)
@click.option("--bits", type=Bits(), default="1,2,4,8", show_default=True)
@click.option("--epochs", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--threads", type=click.IntRange(0, 1024), default=1, show_default=True)
@common_options
def bench(
    samples: int,
    features: int,
    batch: int,
    bits: tuple[int, ...],
    epochs: int,
    threads: int,
    as_json: bool,
    progress: bool | None,
) -> None:
    """Measure this machine: seconds an epoch of the engine at several precisions.

    Made-up data, double sampled, least squares, beside our float32 SGD with as many threads. An
    epoch's time is what more epochs add to a training, each the best of three, so that what starts
    and ends a training is not in it.
    """
    from zipml_pynq.accelerator.host import HostDriver
    from zipml_pynq.accelerator.machine import machine
    from zipml_pynq.data.datasets import synthetic_regression
    from zipml_pynq.training import baseline

    made = synthetic_regression(features, samples, 1)
    packed = pack(made.X_train, made.y_train, bits=bits, word_bits=512, batch=batch)
    values = packed.normalization.transform(made.X_train)
    labels = packed.normalization.transform_labels(made.y_train)
    driver = HostDriver(512, threads=threads)
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(bits) + 1, desc="bench", disable=not wanted(progress), leave=False) as bar:

        def measure(bits: int, size: int, run: Callable[[int], Any]) -> None:
            short, long = (_best(run, count) for count in (epochs, 3 * epochs))
            rows.append({"bits": bits, "seconds": (long - short) / (2 * epochs), "bytes": size})
            bar.update()

        measure(
            32,
            values.nbytes,
            lambda count: baseline.float_sgd(
                values, labels, np.full(count, 1e-3), batch=batch, threads=threads
            ),
        )
        for b in bits:

            def run(count: int, b: int = b) -> None:
                driver.train(packed, bits=b, epochs=count, step=1e-3)

            measure(b, packed.layout.bytes_per_epoch(b), run)
    for row in rows:
        row["times_float32"] = rows[0]["seconds"] / row["seconds"]
    about = machine()
    if as_json:
        shape = {"samples": samples, "features": features, "batch": batch, "threads": threads}
        report({"machine": about, **shape, "rows": rows}, True)
        return
    click.echo(f"{about['cpu']}, {about['cores']} cores, {about['loops']} loops")
    click.echo(f"{samples:,} x {features:,}, batch {batch}, double sampled, {threads} thread(s)")
    click.echo("bits  ms an epoch  MB an epoch  x float32")
    for row in rows:
        click.echo(
            f"{row['bits']:4}  {1e3 * row['seconds']:11.3f}  {row['bytes'] / 1e6:11.2f}  "
            f"{row['times_float32']:9.2f}"
        )


def _best(run: Callable[[int], Any], epochs: int) -> float:
    """Seconds of the quickest of three trainings."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run(epochs)
        times.append(time.perf_counter() - start)
    return min(times)
