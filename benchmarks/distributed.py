"""Seconds of fits on a Dask cluster of this machine, beside Dask-ML's incremental SGD.

A set of made rows is written to files, block by block, and read by Dask as memory maps: by default
half a gigabyte, ``--gigabytes 10`` for one that is larger than most memories. Ours is timed on one
worker and on as many as there are cores; ``Incremental(SGDRegressor)`` of ``dask_ml``, a pass over
the chunks at a time, where that is installed (``pip install dask-ml``). Then what a round costs
beside training. Results: ``benchmarks/results/distributed.json`` and ``distributed.md``.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask import delayed
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from benchmarks.common import parser_of, publish
from docs.write_numbers.markdown import table
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.distributed import ZipMLRegressor
from zipml_pynq.distributed.cluster import Cluster, _echo
from zipml_pynq.errors import ZipmlWarning

COLUMNS, FILES, SHARDS, EPOCHS, BITS = 100, 16, 4, 10, 4
TEST_ROWS = 20_000
#: Trivial tasks of a round, from which the cost of one is measured.
TASKS = (4, 64)


def rows_of(number: int, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A block of rows whose labels a linear model explains to nine tenths."""
    rng = np.random.default_rng((1, number))
    model = np.random.default_rng(0).standard_normal(COLUMNS, dtype=np.float32)
    X = rng.standard_normal((rows, COLUMNS), dtype=np.float32)
    noise = rng.standard_normal(rows, dtype=np.float32) * np.linalg.norm(model) / 3
    return X, X @ model + noise


def made(folder: Path, gigabytes: float) -> tuple[Any, Any, int]:
    """Arrays of Dask's over files of rows and labels, and how many rows there are."""
    rows = int(gigabytes * 1e9 / (4 * COLUMNS * FILES))
    parts: list[tuple[Any, Any]] = []
    for number in range(FILES):
        paths = [folder / f"{name}-{number}.npy" for name in ("X", "y")]
        for path, array in zip(paths, rows_of(number, rows), strict=True):
            np.save(path, array)
        lazily = [delayed(np.load)(str(path), mmap_mode="r") for path in paths]
        parts.append(
            (
                da.from_delayed(lazily[0], (rows, COLUMNS), np.float32),
                da.from_delayed(lazily[1], (rows,), np.float32),
            )
        )
    X, y = (da.concatenate(list(arrays)) for arrays in zip(*parts, strict=True))
    return X, y, rows * FILES


def on_workers(number: int, work: Callable[[Client], Any]) -> Any:
    """What ``work`` returns of a cluster of so many workers, a process each."""
    with (
        LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(__import__, "zipml_pynq.distributed.estimators")
        client.run(__import__, "sklearn.linear_model")
        return work(client)


def estimator(client: Client, epochs: int) -> ZipMLRegressor:
    """Ours, which trains so many epochs."""
    return ZipMLRegressor(
        bits=BITS,
        levels="uniform",
        shards=SHARDS,
        max_iter=epochs,
        tol=None,
        round_epochs=1,
        random_state=0,
        client=client,
    )


def ours(client: Client, X: Any, y: Any, test: Any) -> dict[str, Any]:
    """A fit of ours, and what it sent."""
    start = time.perf_counter()
    model = estimator(client, EPOCHS).fit(X, y)
    outcome = model.outcome_
    return {
        "seconds": time.perf_counter() - start,
        "score": model.score(*test),
        "bytes_sent": outcome.bytes_sent,
        "bytes_received": outcome.bytes_received,
        "rounds": len(outcome.history),
    }


def round_alone(client: Client, X: Any, y: Any) -> dict[str, float]:
    """Seconds of the parts of a fit: one epoch's rounds apart from passes and packing."""
    times = {}
    for epochs in (1, 1 + EPOCHS):
        start = time.perf_counter()
        estimator(client, epochs).fit(X, y)
        times[epochs] = time.perf_counter() - start
    epoch = (times[1 + EPOCHS] - times[1]) / EPOCHS
    return {"epoch": epoch, "before": times[1] - epoch}


def incremental(client: Client, X: Any, y: Any, test: Any) -> list[dict[str, Any]]:
    """Dask-ML's, after each of its passes."""
    from dask_ml.wrappers import Incremental
    from sklearn.linear_model import SGDRegressor

    model = Incremental(SGDRegressor(random_state=0))
    seconds, rows = 0.0, []
    for passes in (1, 2):
        start = time.perf_counter()
        model.partial_fit(X, y)
        seconds += time.perf_counter() - start
        score = model.estimator_.score(*test)
        rows.append({"passes": passes, "seconds": seconds, "score": float(score)})
    return rows


def tasks(client: Client) -> dict[str, float]:
    """Seconds of a message there and back, and of a further task of a round."""
    message = np.zeros((1, COLUMNS + 1), dtype=np.int32)
    found = {}
    for number in TASKS:
        shards = [_shard(k) for k in range(number)]
        cluster = Cluster(client, shards, 8, None)
        times = []
        for _ in range(9):
            start = time.perf_counter()
            cluster.each(_echo, message)
            times.append(time.perf_counter() - start)
        found[number] = statistics.median(times)
    few, many = TASKS
    each = (found[many] - found[few]) / (many - few)
    return {"task": each, "trip": max(0.0, found[few] - few * each)}


def _shard(number: int) -> Any:
    from zipml_pynq.data.pack import pack

    X, y = rows_of(number, 64)
    return pack(X, y, bits=BITS)


def markdown(report: dict[str, Any]) -> str:
    return f"# A Dask cluster of this machine\n\n{text(report)}"


def text(report: dict[str, Any]) -> str:
    """What was measured, and its conditions."""
    about = report["machine"]
    rows = [
        [
            f"ZipML, {BITS} bits, {row['rounds']} rounds, {row['workers']} worker(s)",
            f"{row['seconds']:.1f}",
            f"{row['parts']['before']:.1f}",
            f"{row['parts']['epoch']:.2f}",
            f"{row['score']:.4f}",
            f"{row['bytes_sent']:,}",
        ]
        for row in report["ours"]
    ]
    for row in report["incremental"]:
        name = f"Incremental(SGDRegressor), {row['passes']} pass(es), {row['workers']} worker(s)"
        each = row["seconds"] / row["passes"]
        rows.append([name, f"{row['seconds']:.1f}", "", f"{each:.2f}", f"{row['score']:.4f}", ""])
    head = ["", "fit, s", "of it before the first round", "a pass", "test R2", "bytes of changes"]
    cost = report["tasks"]
    return (
        f"Measured: {about['cpu']}, {about['cores']} cores that {about['load']:.0f} processes "
        f"shared; {report['rows']:,} x {COLUMNS} float32 ({report['gigabytes']:g} GB) in "
        f"{FILES} files, {SHARDS} shards, rounds of an epoch, 8 bits a change; "
        f"Dask {report['dask']}.\n\n{table(head, rows)}\n\n"
        f"A round of tasks that do nothing takes {1e3 * cost['trip']:.1f} ms and "
        f"{1e3 * cost['task']:.2f} ms a task.\n"
    )


def main() -> None:
    parser = parser_of(__doc__, "benchmarks")
    parser.add_argument("--gigabytes", type=float, default=0.5, help="of rows, as float32")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ZipmlWarning)
    cores = len(os.sched_getaffinity(0))
    test = rows_of(FILES, TEST_ROWS)
    with tempfile.TemporaryDirectory(prefix="zipml-bench-") as folder:
        X, y, rows = made(Path(folder), options.gigabytes)
        report: dict[str, Any] = {
            "machine": machine(),
            "dask": dask.__version__,
            "rows": rows,
            "gigabytes": options.gigabytes,
            "ours": [],
            "incremental": [],
        }
        for workers in sorted({1, cores}):

            def fit(client: Client) -> dict[str, Any]:
                parts = round_alone(client, X, y)  # first: it warms up
                return {**ours(client, X, y, test), "parts": parts}

            report["ours"].append({"workers": workers, **on_workers(workers, fit)})
        if find_spec("dask_ml") is None:
            print("Incremental: skipped, dask_ml is not installed")
        else:
            found = on_workers(cores, lambda client: incremental(client, X, y, test))
            report["incremental"] = [{"workers": cores, **row} for row in found]
        report["tasks"] = on_workers(cores, tasks)
    publish(options.output, "distributed", report, markdown(report))


if __name__ == "__main__":
    main()
