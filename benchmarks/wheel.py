"""``python -m benchmarks.wheel``: the engine of the wheel for this machine beside the local build.

Another compiler made it (``make wheels``), so that the speed of its loops is not that of the local
compiler's. Both run in turn, in processes of their own, one thread; seconds are of the processor,
the median of the rounds. Training has the loops that ``ZIPML_LOOPS`` names, all else the best ones.
Results: ``wheel.json`` and ``wheel.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, parser_of, publish
from zipml_pynq import optimal_levels, pack
from zipml_pynq._engine import ffi, lib
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.data.streams import RowFile

SAMPLES, FEATURES, BATCH, EPOCHS = 20_000, 1000, 64, 4
LOOPS = ("", "avx2", "neon", "portable")


def seconds(training_alone: bool) -> dict[str, float]:
    """Seconds of the processor for every task, with the package that this process imports."""
    X = np.random.default_rng(0).uniform(-1, 1, (SAMPLES, FEATURES)).astype(np.float32)
    packed = pack(X, X[:, 0], bits=(1, 4, 8), batch=BATCH, word_bits=512, threads=1)
    driver = HostDriver(512, threads=1)
    values = np.sort(X[:200].ravel().astype(np.float64))
    tasks: dict[str, Callable[[], Any]] = {}
    for bits in (1, 4, 8):
        tasks[f"train at {bits} bits"] = lambda bits=bits: driver.train(
            packed, bits=bits, epochs=EPOCHS, step=1e-3
        )
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as text:
        if not training_alone:
            np.savetxt(text, X[:1000], "%.17g", ",")
            text.flush()
            small = {"batch": BATCH, "word_bits": 512, "threads": 1}
            levels = optimal_levels(values, 9)[None]
            tasks |= {
                "pack at 1 bit": lambda: pack(X, X[:, 0], bits=1, **small),
                "pack at 4 bits": lambda: pack(X, X[:, 0], bits=4, **small),
                "pack at 8 bits": lambda: pack(X, X[:, 0], bits=8, **small),
                "pack at 4 bits, of levels": lambda: pack(
                    X, X[:, 0], bits=4, levels=levels, **small
                ),
                "17 optimal levels": lambda: optimal_levels(values, 17),
                "read numbers of text": lambda: list(RowFile(text.name).blocks()),
            }
        found = {}
        for name, task in tasks.items():
            begin = time.process_time()
            task()
            found[name] = time.process_time() - begin
    return found


def in_process(folder: Path, loops: str) -> dict[str, Any]:
    """Loops and seconds of the package in a folder."""
    variables = {"PYTHONPATH": f"{folder}:{ROOT}", "ZIPML_LOOPS": loops}
    # not from here: the first folder of all would be this one
    code = "from benchmarks.wheel import inner; inner()"
    told = subprocess.run(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", code],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=tempfile.gettempdir(),
    )
    return json.loads(told.stdout)


def inner() -> None:
    """What one of the processes prints."""
    loops = ffi.string(lib.zipml_engine_loops()).decode()
    wanted = os.environ["ZIPML_LOOPS"]
    # a set that this machine does not run is not taken
    found = seconds(training_alone=bool(wanted)) if wanted in ("", loops) else {}
    print(json.dumps({"loops": loops, "seconds": found}))


def markdown(report: dict[str, Any]) -> str:
    """The report as a table."""
    about = report["machine"]
    lines = [
        "# The wheel's engine beside the local build, measured",
        "",
        f"`python -m benchmarks.wheel` on {about['cpu']}, {about['cores']} cores (load average "
        f"{about['load']:.1f} when it began), one thread, {SAMPLES:,} x {FEATURES:,}, batch "
        f"{BATCH}. Milliseconds of the processor, median of {report['rounds']} rounds in turn.",
        "",
        "| loops | | local | wheel | local / wheel |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {r['loops']} | {r['task']} | {1e3 * r['local']:.1f} | {1e3 * r['wheel']:.1f} "
        f"| {r['local'] / r['wheel']:.2f} |"
        for r in report["rows"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write JSON and Markdown, print the table."""
    parser: argparse.ArgumentParser = parser_of(__doc__, "benchmarks")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    folder = ROOT / "build" / "wheels" / "dist"
    wheels = sorted(folder.glob(f"*manylinux*{platform.machine()}.whl"))
    if not wheels:
        print("wheel: skipped, because make wheels has not built one for this machine")
        return
    found: dict[tuple[str, str, str], list[float]] = {}
    about = machine()
    with tempfile.TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(wheels[-1]) as archive:
            archive.extractall(unpacked)
        for _ in range(options.rounds):
            for loops in LOOPS:
                for side, place in (("local", ROOT), ("wheel", Path(unpacked))):
                    told = in_process(place, loops)
                    for task, took in told["seconds"].items():
                        found.setdefault((told["loops"], task, side), []).append(took)
    middle = {key: statistics.median(took) for key, took in found.items()}
    rows = [
        {"loops": loops, "task": task, "local": took, "wheel": middle[loops, task, "wheel"]}
        for (loops, task, side), took in middle.items()
        if side == "local"
    ]
    report = {"machine": about, "rounds": options.rounds, "rows": rows}
    publish(options.output, "wheel", report, markdown(report))


if __name__ == "__main__":
    main()
