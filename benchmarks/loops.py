"""``python -m benchmarks.loops``: the engine with each set of loops beside the float32 engine.

Every set that this machine runs is forced by ``ZIPML_LOOPS`` in turn, the float32 engine with the
same instruction set; all rounds are interleaved in one run. The small loops of a step that are
cloned by the compiler are the machine's best in all. Results: a ``loops_<set>.json`` and ``.md``
for each set.
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
#: Sets of loops, and the instructions that each may use.
INSTRUCTIONS = {
    "avx512": "AVX-512 VNNI, VBMI and GFNI",
    "avxvnni": "AVX2, GFNI and byte dot products of 256 bits",
    "avx512bw": "AVX-512 BW",
    "avx2": "AVX2",
    "neondot": "NEON with dot products of bytes",
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


def measure(
    data: Problem, batch: int, sets: list[str], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """For each set of loops, the best seconds an epoch of every row."""
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
    return {
        loops: [
            {
                "data": data.name,
                "batch": batch,
                "name": row.name,
                "threads": row.threads,
                "seconds": best[loops, i],
                "x_float32": best[loops, 0] / best[loops, i],
            }
            for i, row in enumerate(rows)
        ]
        for loops in sets
    }


def markdown(report: dict[str, Any]) -> str:
    """The report of one set as a table."""
    where = report["machine"]
    lines = [
        f"# Loops {where['loops']}, measured",
        "",
        f"`python -m benchmarks.loops` on {where['cpu']}, {where['cores']} cores (load average "
        f"{where['load']:.1f} when it began); instructions: "
        f"{INSTRUCTIONS.get(where['loops'], 'what compilers vectorize')}. Double sampled, best of "
        f"{report['rounds']} rounds of {EPOCHS} epochs, interleaved with other sets of loops. The "
        "float32 engine has the same instruction set.",
        "",
        "| data | batch | | threads | milliseconds an epoch | x float32, one thread |",
        "|---|---:|---|---:|---:|---:|",
    ]
    lines += [
        f"| {r['data']} | {r['batch']} | {r['name']} | {r['threads']} | {1e3 * r['seconds']:.2f} "
        f"| {r['x_float32']:.2f} |"
        for r in report["rows"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write JSON and Markdown, print the tables."""
    parser = parser_of(__doc__, "benchmarks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=200_000, help="of the largest data set")
    parser.add_argument("--loops", nargs="+", help="sets of loops; all that run here by default")
    options = parser.parse_args()
    wanted = options.loops or [*INSTRUCTIONS, "portable"]
    sets = [name for name in wanted if force(name)]
    if options.loops and sets != wanted:
        parser.error(
            f"--loops: of {', '.join(wanted)} this machine runs {', '.join(sets) or 'none'}"
        )
    reports: dict[str, dict[str, Any]] = {}
    for name in sets:
        force(name)
        reports[name] = {"machine": machine(), "rounds": options.rounds, "rows": []}
    large, small = uniform(options.samples, 1000), uniform(10_000, 100)
    for data, batch in ((large, BATCH), (large, 16), (small, BATCH)):
        for name, rows in measure(data, batch, sets, options.rounds).items():
            reports[name]["rows"] += rows
    for name, report in reports.items():
        publish(options.output, f"loops_{name}", report, markdown(report))


if __name__ == "__main__":
    main()
