"""Gigabytes of float32 input that ``pack`` takes a second on one thread, everything included.

Finite check, normalization, labels, quantization and layout, of samples in memory and of a memory
map of the same values in the page cache. The variants of one shape are interleaved; medians are
reported, of the time that passed and of the thread's time on a core. Results:
``benchmarks/results/packing.json`` and ``packing.md``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import parser_of, publish
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.data.grid import uniform_levels as levels
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack

#: Samples and columns.
SHAPES = ((60_000, 784), (200_000, 90), (100_000, 1_000), (500_000, 13))
#: Bits, and tables of levels a data set: none (the uniform grid), or one a feature.
VARIANTS = ((2, "uniform"), (4, "uniform"), (8, "uniform"), (3, "levels"), (4, "levels"))
STORAGES = ("in memory", "memory-mapped")


def tables(features: int, bits: int) -> NDArray[np.int16]:
    """One table a feature, (features, 2^(bits-1) + 1), with levels that are not evenly spaced.

    Given, not fitted: what is measured is packing with them.
    """
    grid = levels(bits)
    curves = np.linspace(1, 2, features)[:, None]
    return np.rint(np.sign(grid) * np.abs(grid) ** curves * (1 << 14)).astype(np.int16)


def clock() -> NDArray[np.float64]:
    """Seconds: passed, and spent on a core by this thread."""
    return np.array([time.perf_counter(), time.thread_time()])


def measure(samples: int, columns: int, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """One row a variant and storage: seconds and GB/s."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((samples, columns), dtype=np.float32)
    y = rng.standard_normal(samples, dtype=np.float32)
    path = folder / "samples"
    X.tofile(path)
    sources = dict(zip(STORAGES, (X, np.memmap(path, np.float32, "r", shape=X.shape)), strict=True))
    cases = [(bits, kind, storage) for bits, kind in VARIANTS for storage in STORAGES]
    seconds: dict[tuple[int, str, str], list[NDArray]] = {case: [] for case in cases}
    fit: dict[str, list[NDArray]] = {storage: [] for storage in STORAGES}
    with tqdm(total=(rounds + 1) * len(cases), desc=f"{samples} x {columns}") as bar:
        for _ in range(rounds + 1):  # the first warms up
            for storage, source in sources.items():
                start = clock()
                Normalization.fit(source, y, threads=1)
                fit[storage].append(clock() - start)
            for case in cases:
                bits, kind, storage = case
                table = "uniform" if kind == "uniform" else tables(columns + 1, bits)
                start = clock()
                pack(sources[storage], y, bits=bits, levels=table, threads=1)
                seconds[case].append(clock() - start)
                bar.update()
    del sources
    path.unlink()

    def row(bits: int | None, kind: str, storage: str, times: list[NDArray]) -> dict[str, Any]:
        passed, on_core = (float(m) for m in np.median(times[1:], axis=0))
        return {
            "samples": samples,
            "columns": columns,
            "bits": bits,
            "kind": kind,
            "storage": storage,
            "seconds": passed,
            "core_seconds": on_core,
            "gb_per_second": X.nbytes / passed / 1e9,
            "gb_per_core_second": X.nbytes / on_core / 1e9,
        }

    rows = [row(None, "range of the columns", storage, fit[storage]) for storage in STORAGES]
    return rows + [row(*case, seconds[case]) for case in cases]


def table(rows: list[dict[str, Any]], key: str) -> list[str]:
    """Markdown: a line for each shape and storage, a column for each variant."""
    names = list(dict.fromkeys((row["bits"], row["kind"]) for row in rows))
    titles = [kind if bits is None else f"{bits} bits, {kind}" for bits, kind in names]
    lines = ["| samples | stored | " + " | ".join(titles) + " |", "|---" * (2 + len(names)) + "|"]
    places = dict.fromkeys((row["samples"], row["columns"], row["storage"]) for row in rows)
    for samples, columns, storage in places:
        found = {
            (row["bits"], row["kind"]): row[key]
            for row in rows
            if (row["samples"], row["columns"], row["storage"]) == (samples, columns, storage)
        }
        cells = " | ".join(f"{found[name]:.2f}" for name in names)
        lines.append(f"| {samples:,} x {columns:,} | {storage} | {cells} |")
    return lines


def main() -> None:
    parser = parser_of(__doc__, "benchmarks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the samples")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for samples, columns in SHAPES:
            count = max(int(samples * options.scale), 1)
            rows += measure(count, columns, options.rounds, Path(folder))
    about = machine()
    result = {"machine": about, "rounds": options.rounds, "rows": rows}
    lines = [
        "# Packing",
        "",
        "GB of float32 input that `pack` takes a second of its thread's time on a core, everything "
        "included, double sampled; `python -m benchmarks.packing`.",
        f"{about['cpu']}, NumPy {about['numpy']}; medians of {options.rounds} interleaved rounds.",
        "",
        *table(rows, "gb_per_core_second"),
        "",
        f"A second that passed; {about['load']:.1f} processes shared the machine's "
        f"{about['cores']} cores at the end:",
        "",
        *table(rows, "gb_per_second"),
        "",
    ]
    publish(options.output, "packing", result, "\n".join(lines))


if __name__ == "__main__":
    main()
