"""``python -m benchmarks.loops``: the engine with each set of loops beside the float32 engine.

Every set that this machine runs is forced by ``ZIPML_LOOPS`` in turn, the float32 engine with the
same instruction set; all rounds are interleaved in one run. The small loops of a step that are
cloned by the compiler are the machine's best in all. Results: ``loops.json``, ``loops.md``.
"""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.common import parser_of, publish
from benchmarks.contenders import (
    MODEL_BITS,
    Contender,
    Problem,
    engine,
    float_engine,
    pack_all,
    step_at,
    uniform,
)
from zipml_pynq._engine import ffi, lib
from zipml_pynq.accelerator.machine import machine

BATCH = 64
EPOCHS = 4
BITS = (1, 2, 4, 8)
FLOAT32 = "float32 engine"
#: Sets of loops, and the instructions that each may use.
INSTRUCTIONS = {
    "avx512": "AVX-512 VNNI, VBMI and GFNI",
    "avx512bw": "AVX-512 BW",
    "avx2": "AVX2",
    "neon": "NEON",
}


def force(loops: str) -> bool:
    """Have both engines take the named loops; whether this machine runs them."""
    os.environ["ZIPML_LOOPS"] = loops
    return ffi.string(lib.zipml_engine_loops()).decode() == loops


def contenders(data: Problem, batch: int) -> list[Contender]:
    """Rows of one data set."""
    packed, step = pack_all(data, BITS, batch), step_at(data, batch)
    rows = [float_engine(data, batch, step, 1)]
    rows += [engine(packed[bits], bits, "symmetric", batch, step, 1) for bits in BITS]
    rows.append(engine(packed[4], 4, "symmetric", batch, step, 1, MODEL_BITS))
    if len(os.sched_getaffinity(0)) > 1:
        rows.append(engine(packed[4], 4, "symmetric", batch, step, 2))
    return rows


def measure(data: Problem, batch: int, sets: list[str], rounds: int) -> list[dict[str, Any]]:
    """Best seconds an epoch of every row with every set of loops."""
    rows = contenders(data, batch)
    runs = [row.prepare(EPOCHS) for row in rows]
    repeats = max(1, 20_000_000 // data.values.size)
    best = {(loops, i): float("inf") for loops in sets for i in range(len(rows))}
    for count in range(rounds + 1):
        for loops in sets:
            force(loops)
            for i, run in enumerate(runs):
                start = time.perf_counter()
                for _ in range(repeats):
                    run()
                took = (time.perf_counter() - start) / EPOCHS / repeats
                if count > 0:  # the first round does not count
                    best[loops, i] = min(best[loops, i], took)
    return [
        {
            "data": data.name,
            "batch": batch,
            "name": row.name,
            "threads": row.threads,
            "loops": loops,
            "seconds": best[loops, i],
            "x_float32": best[loops, 0] / best[loops, i],
        }
        for i, row in enumerate(rows)
        for loops in sets
    ]


def tables(report: dict[str, Any]) -> list[str]:
    """A table for each data set, sets of loops side by side."""
    lines = []
    sets = report["sets"]
    for data, batch in dict.fromkeys((r["data"], r["batch"]) for r in report["rows"]):
        chosen = [r for r in report["rows"] if (r["data"], r["batch"]) == (data, batch)]
        lines += ["", f"{data}, batch {batch}, milliseconds an epoch and times float32:", ""]
        lines.append(
            "| | threads | " + " | ".join(INSTRUCTIONS.get(name, name) for name in sets) + " |"
        )
        lines.append("|---|---:|" + "---:|" * len(sets))
        for name, threads in dict.fromkeys((r["name"], r["threads"]) for r in chosen):
            cells = [
                f"{1e3 * r['seconds']:.2f}, {r['x_float32']:.2f}"
                for r in chosen
                if (r["name"], r["threads"]) == (name, threads)
            ]
            lines.append(f"| {name} | {threads} | " + " | ".join(cells) + " |")
    return lines


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    where = report["machine"]
    lines = [
        "# Every set of loops, measured",
        "",
        f"`python -m benchmarks.loops` on {where['cpu']}, {where['cores']} cores (load average "
        f"{where['load']:.1f} when it began). Double sampled, best of {report['rounds']} "
        f"interleaved rounds of {EPOCHS} epochs. Each engine with the same instruction set.",
    ]
    return "\n".join(lines + tables(report)) + "\n"


def main() -> None:
    """Measure, write JSON and Markdown, print the tables."""
    parser = parser_of(__doc__, "benchmarks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=200_000, help="of the largest data set")
    parser.add_argument("--loops", nargs="+", help="sets of loops; all that run here by default")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "rounds": options.rounds, "rows": []}
    wanted = options.loops or [*INSTRUCTIONS, "portable"]
    report["sets"] = [name for name in wanted if force(name)]
    if options.loops and len(report["sets"]) < len(wanted):
        parser.error(f"--loops: this machine runs {report['sets']} of {wanted}")
    large, small = uniform(options.samples, 1000), uniform(10_000, 100)
    for data, batch in ((large, BATCH), (large, 16), (small, BATCH)):
        report["rows"] += measure(data, batch, report["sets"], options.rounds)
    publish(options.output, "loops", report, markdown(report))


if __name__ == "__main__":
    main()
