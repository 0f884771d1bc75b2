"""Seconds of fits on a Dask cluster of this machine, beside Dask-ML's incremental SGD.

A set of made rows is written to files, block by block, and read by Dask file by file: by default
half a gigabyte, ``--gigabytes 10`` for one that is larger than what the workers together may use,
six tenths of it (Dask's ``memory_limit``, which kills a worker that uses more). What was read is
dropped from the system's cache, so that every pass reads the disk. Ours is timed on one worker and
on as many as there are cores, and in turns with it ``Incremental(SGDRegressor)`` of ``dask_ml``, a
pass over the chunks at a time, where that is installed (``pip install dask-ml``). Then what a round
costs beside training. Seconds are told of the clock and of the processors, for others may share
these. Results: ``benchmarks/results/distributed.json`` and ``distributed.md``.
"""

from __future__ import annotations

import math
import os
import resource
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
import psutil
from dask import delayed
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from benchmarks.common import parser_of, publish
from docs.write_numbers.markdown import table
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.distributed import ZipMLRegressor
from zipml_pynq.distributed.cluster import Cluster, _echo
from zipml_pynq.errors import ZipmlWarning

COLUMNS, FILES, SHARDS, EPOCHS, BITS = 100, 64, 4, 10, 4
TEST_ROWS = 20_000
#: Share of the set that the workers together may use of memory; gigabytes that they need anyway.
MEMORY, LEAST_MEMORY = 0.6, 2.0
#: Passes of ``Incremental``.
PASSES = 2
#: Trivial tasks of a round, whose time is what a round costs beside training.
TASKS = (4, 64)


def rows_of(number: int, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A block of rows whose labels a linear model explains to nine tenths."""
    rng = np.random.default_rng((1, number))
    model = np.random.default_rng(0).standard_normal(COLUMNS, dtype=np.float32)
    X = rng.standard_normal((rows, COLUMNS), dtype=np.float32)
    noise = rng.standard_normal(rows, dtype=np.float32) * np.linalg.norm(model) / 3
    return X, X @ model + noise


def read(path: str) -> NDArray[np.float32]:
    """A file's array; the system's cache is not left with it."""
    with open(path, "rb") as file:
        array = np.load(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return array


def write(path: Path, array: NDArray[np.float32]) -> None:
    """The file that :func:`read` reads, on the disk and nowhere else."""
    with path.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def made(folder: Path, gigabytes: float) -> tuple[Any, Any, int]:
    """Arrays of Dask's over files of rows and labels, and how many rows there are."""
    rows = int(gigabytes * 1e9 / (4 * COLUMNS * FILES))
    parts: list[tuple[Any, Any]] = []
    for number in range(FILES):
        paths = [folder / f"{name}-{number}.npy" for name in ("X", "y")]
        for path, array in zip(paths, rows_of(number, rows), strict=True):
            write(path, array)
        lazily = [delayed(read)(str(path)) for path in paths]
        parts.append(
            (
                da.from_delayed(lazily[0], (rows, COLUMNS), np.float32),
                da.from_delayed(lazily[1], (rows,), np.float32),
            )
        )
    X, y = (da.concatenate(list(arrays)) for arrays in zip(*parts, strict=True))
    return X, y, rows * FILES


def on_workers(number: int, gigabytes: float, work: Callable[[Client], Any]) -> Any:
    """What ``work`` returns of a cluster of so many workers, a process each, which together may use
    so much memory."""
    with (
        LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            memory_limit=int(gigabytes * 1e9 / number),
            dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(__import__, "zipml_pynq.distributed.estimators")
        client.run(__import__, "sklearn.linear_model")
        return work(client)


class Watched:
    """Seconds of the clock and of the processors that a piece of work took on a cluster, and the
    machine's load meanwhile."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._began, self._cpu = time.perf_counter(), self._processors()
        self._load = os.getloadavg()[0]

    def _processors(self) -> float:
        spent = self._client.run(lambda: sum(psutil.Process().cpu_times()[:2]))
        return float(sum(spent.values()) + sum(psutil.Process().cpu_times()[:2]))

    def found(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._began
        # kilobytes on Linux, a process each
        peaks = self._client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return {
            "seconds": seconds,
            "processor_seconds": self._processors() - self._cpu,
            "load": [self._load, os.getloadavg()[0]],
            "largest_worker_gigabytes": max(peaks.values()) * 1024 / 1e9,
        }


class Timed(ZipMLRegressor):
    """Ours, which writes down when each of its rounds ended, and the first began."""

    def _bar(self, total: int) -> Any:
        from contextlib import nullcontext

        times = self.times_ = [time.perf_counter()]
        return nullcontext(lambda done, rounds: times.append(time.perf_counter()))


def ours(client: Client, X: Any, y: Any, test: Any) -> dict[str, Any]:
    """A fit of ours, and what it sent."""
    model = Timed(
        bits=BITS,
        levels="uniform",
        shards=SHARDS,
        max_iter=EPOCHS,
        tol=None,
        round_epochs=1,
        random_state=0,
        client=client,
    )
    start = time.perf_counter()
    watched = Watched(client)
    model.fit(X, y)
    outcome = model.outcome_
    return {
        **watched.found(),
        "before": model.times_[0] - start,
        "rounds": np.diff(model.times_).tolist(),
        "score": model.score(*test),
        "packed_gigabytes": model.bytes_streamed_ / EPOCHS / 1e9,
        "bytes_sent": outcome.bytes_sent,
        "bytes_received": outcome.bytes_received,
    }


def incremental(client: Client, X: Any, y: Any, test: Any) -> list[dict[str, Any]]:
    """Dask-ML's, after each of its passes."""
    from dask_ml.wrappers import Incremental
    from sklearn.linear_model import SGDRegressor

    model = Incremental(SGDRegressor(random_state=0))
    watched, rows = Watched(client), []
    for passes in range(1, PASSES + 1):
        model.partial_fit(X, y)
        score = float(model.estimator_.score(*test))
        rows.append({**watched.found(), "passes": passes, "score": score})
    return rows


def tasks(client: Client) -> dict[str, float]:
    """Seconds of a round by the number of its tasks, which do nothing."""
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
        found[str(number)] = statistics.median(times)
    return found


def _shard(number: int) -> Any:
    from zipml_pynq.data.pack import pack

    X, y = rows_of(number, 64)
    return pack(X, y, bits=BITS)


def markdown(report: dict[str, Any]) -> str:
    return f"# A Dask cluster of this machine\n\n{text(report)}"


def text(report: dict[str, Any]) -> str:
    """What was measured, and its conditions."""
    about = report["machine"]

    def seconds(row: dict[str, Any]) -> list[str]:
        return [f"{row['seconds']:.0f}", f"{row['processor_seconds']:.0f}"]

    rows = [
        [
            f"ZipML, {BITS} bits, {len(row['rounds'])} passes",
            str(row["workers"]),
            *seconds(row),
            f"{row['before']:.0f}",
            f"{statistics.median(row['rounds']):.2f}",
            f"{row['score']:.4f}",
            f"{row['bytes_sent']:,}",
            f"{row['largest_worker_gigabytes']:.1f}",
        ]
        for row in report["ours"]
    ]
    for row in report["incremental"]:
        each = row["seconds"] / row["passes"]
        rows.append(
            [
                f"`Incremental(SGDRegressor)`, {row['passes']} pass(es)",
                str(row["workers"]),
                *seconds(row),
                "",
                f"{each:.1f}",
                f"{row['score']:.4f}",
                "",
                f"{row['largest_worker_gigabytes']:.1f}",
            ]
        )
    head = [
        "",
        "workers",
        "fit, s",
        "processor, s",
        "before the first pass, s",
        "a pass, s",
        "test R2",
        "bytes of changes",
        "largest worker, GB",
    ]
    loads = [load for row in (*report["ours"], *report["incremental"]) for load in row["load"]]
    packed = report["ours"][0]["packed_gigabytes"]
    tasks = ", ".join(f"{1e3 * seconds:.0f} ms for {n}" for n, seconds in report["tasks"].items())
    pays = ", ".join(
        f"{passes} on {one['workers']} worker(s)"
        for one in report["ours"]
        if (passes := passes_that_pay(one, report["incremental"])) is not None
    )
    return (
        f"Measured: {about['cpu']}, {about['cores']} cores, load {min(loads):.1f} to "
        f"{max(loads):.1f} (this included); {report['rows']:,} x {COLUMNS} float32 "
        f"({report['gigabytes']:g} GB, packed {packed:.2g} GB) in {FILES} files, read from the "
        f"disk in every pass; workers together may use {report['memory_gigabytes']:g} GB "
        f"(`memory_limit`); {SHARDS} shards, rounds of an epoch, 8 bits a change; "
        f"Dask {report['dask']}. The best linear model has R2 {report['best']:.4f}.\n\n"
        f"{table(head, rows)}\n\n"
        f"Passes from which on ours takes less of the clock: {pays or 'not measured'}. A round of "
        f"tasks that do nothing takes {tasks}.\n"
    )


def passes_that_pay(ours: dict[str, Any], incremental: list[dict[str, Any]]) -> int | None:
    """Passes from which on ours, packing included, takes less of the clock; None: unknown."""
    theirs = [
        row["seconds"] / row["passes"] for row in incremental if row["workers"] == ours["workers"]
    ]
    each = statistics.median(ours["rounds"])
    if not theirs or theirs[-1] <= each:
        return None
    return math.ceil(ours["before"] / (theirs[-1] - each))


def best_score(X: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """R^2 of the model that rows were made with."""
    model = np.random.default_rng(0).standard_normal(COLUMNS, dtype=np.float32)
    return float(1 - np.mean((y - X @ model) ** 2) / y.var())


def main() -> None:
    parser = parser_of(__doc__, "benchmarks")
    parser.add_argument("--gigabytes", type=float, default=0.5, help="of rows, as float32")
    parser.add_argument("--folder", type=Path, help="where files are written for as long")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ZipmlWarning)
    cores = len(os.sched_getaffinity(0))
    memory = max(LEAST_MEMORY, MEMORY * options.gigabytes)
    test = rows_of(FILES, TEST_ROWS)
    with tempfile.TemporaryDirectory(prefix="zipml-bench-", dir=options.folder) as folder:
        X, y, rows = made(Path(folder), options.gigabytes)
        report: dict[str, Any] = {
            "machine": machine(),
            "dask": dask.__version__,
            "rows": rows,
            "gigabytes": options.gigabytes,
            "memory_gigabytes": memory,
            "best": best_score(*test),
            "ours": [],
            "incremental": [],
        }
        for workers in sorted({1, cores}):
            found = on_workers(workers, memory, lambda client: ours(client, X, y, test))
            report["ours"].append({"workers": workers, **found})
            print(report["ours"][-1], flush=True)
            if find_spec("dask_ml") is None:
                print("Incremental: skipped, dask_ml is not installed")
                continue
            passes = on_workers(workers, memory, lambda client: incremental(client, X, y, test))
            report["incremental"] += [{"workers": workers, **row} for row in passes]
            print(passes, flush=True)
        report["tasks"] = on_workers(cores, memory, tasks)
    publish(options.output, "distributed", report, markdown(report))


if __name__ == "__main__":
    main()
