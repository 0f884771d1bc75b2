"""Seconds and objective of the searches for levels, on 2^20 sorted normal values, one thread.

Rounds are interleaved, and the median is reported. Where ``ZIPML_QUIVER`` names a checkout of the
QUIVER repository (Ben Basat et al., NeurIPS 2024), its searches are compiled and run alongside.
Results: ``benchmarks/results/levels.json`` and ``levels.md``.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import parser_of, publish
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.data.levels import METHODS, optimal_levels, rounding_variance

ROOT = Path(__file__).resolve().parent.parent
COUNTS = (4, 16, 129)
#: Bins of QUIVER's histogram: its default, and ours.
QUIVER_BINS = (1000, 8192)
HARNESS = r"""
#include <cstdint>
#include <cstring>
#include <cmath>
#include <stdexcept>
using std::ceil;  // their headers leave out what declares it
#include "defs.h"
#include "ApproxQUIVER.h"
#include "ExactQUIVER.h"

static void Copy(const std::vector<double> &from, double *to) {
  std::memcpy(to, from.data(), from.size() * sizeof(double));
}

extern "C" void plain(double *values, uint32_t n, uint32_t k, int, double *levels) {
  ExactQUIVER<false, false> solver(values, n);
  Copy(solver.calcQuantizationValues(k), levels);
}

extern "C" void accelerated(double *values, uint32_t n, uint32_t k, int, double *levels) {
  ExactQUIVER<false, true> solver(values, n);
  Copy(solver.calcQuantizationValues(k), levels);
}

extern "C" void approximate(double *values, uint32_t n, uint32_t k, int bins, double *levels) {
  ApproxQUIVER<false> solver(values, n, nullptr, bins);
  Copy(solver.calcQuantizationValues(k), levels);
}
"""

Search = Callable[[NDArray[np.float64], int], NDArray[np.float64]]


def quiver(checkout: Path, folder: Path) -> dict[str, Search]:
    """QUIVER's searches by name, compiled from ``checkout`` in ``folder``."""
    source, library = folder / "harness.cpp", folder / "harness.so"
    source.write_text(HARNESS)
    command = [os.environ.get("CXX", "g++"), "-O3", "-march=native", "-w", "-shared", "-fPIC"]
    include = checkout / "QUIVER" if (checkout / "QUIVER").is_dir() else checkout
    subprocess.run([*command, f"-I{include}", str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    pointer = ctypes.POINTER(ctypes.c_double)

    def search(name: str, bins: int) -> Search:
        call = loaded[name]
        call.argtypes = [pointer, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_int, pointer]
        call.restype = None

        def run(values: NDArray[np.float64], k: int) -> NDArray[np.float64]:
            levels = np.zeros(k)
            call(
                values.ctypes.data_as(pointer),
                values.size,
                k,
                bins,
                levels.ctypes.data_as(pointer),
            )
            return np.sort(levels)

        return run

    searches = {
        "QUIVER exact": search("plain", 0),
        "QUIVER exact, accelerated": search("accelerated", 0),
    }
    for bins in QUIVER_BINS:
        searches[f"QUIVER histogram, {bins:,} bins"] = search("approximate", bins)
    return searches


def measure(
    searches: dict[str, Search], values: NDArray[np.float64], k: int, rounds: int
) -> list[dict[str, Any]]:
    """Median seconds and objective of every search for ``k`` levels."""
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    found = {name: search(values, k) for name, search in searches.items()}
    for _ in range(rounds):
        for name, search in searches.items():
            start = time.perf_counter()
            search(values, k)
            seconds[name].append(time.perf_counter() - start)
    optimum = rounding_variance(values, found["exact"])
    rows = []
    for name, levels in found.items():
        # levels that miss the ends by rounding are moved to them
        levels[0], levels[-1] = min(levels[0], values[0]), max(levels[-1], values[-1])
        rows.append(
            {
                "name": name,
                "k": k,
                "seconds": statistics.median(seconds[name]),
                "spread": [min(seconds[name]), max(seconds[name])],
                "excess": rounding_variance(values, levels) / optimum - 1,
            }
        )
    return rows


def markdown(report: dict[str, Any]) -> str:
    """The report as a table."""
    lines = [
        "# Levels, measured",
        "",
        f"`python -m benchmarks.levels` on {report['cpu']}, one thread, {report['values']:,} "
        f"sorted normal values (float64), median of {report['rounds']} interleaved rounds. Excess: "
        "the objective on these values over the exact one's, less 1.",
        "",
        "| k | search | ms | fastest .. slowest | excess |",
        "|---:|---|---:|---:|---:|",
    ]
    for row in report["rows"]:
        low, high = row["spread"]
        lines.append(
            f"| {row['k']} | {row['name']} | {row['seconds'] * 1e3:,.1f} "
            f"| {low * 1e3:,.1f} .. {high * 1e3:,.1f} | {row['excess']:.1e} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write JSON and Markdown, print the table."""
    parser = parser_of(__doc__, "benchmarks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--values", type=int, default=1 << 20)
    options = parser.parse_args()
    values = np.sort(np.random.default_rng(0).normal(size=options.values))
    searches: dict[str, Search] = {
        method: lambda v, k, m=method: optimal_levels(v, k, m) for method in METHODS
    }
    with tempfile.TemporaryDirectory() as folder:
        checkout = os.environ.get("ZIPML_QUIVER")
        if checkout:
            searches |= quiver(Path(checkout), Path(folder))
        rows = [row for k in COUNTS for row in measure(searches, values, k, options.rounds)]
    about = machine()
    report = {
        **{key: about[key] for key in ("cpu", "python", "numpy")},
        "values": options.values,
        "rounds": options.rounds,
        "rows": rows,
    }
    publish(options.output, "levels", report, markdown(report))


if __name__ == "__main__":
    main()
