"""Seconds and peak memory of ``zipml prepare``, ``train``, ``predict`` on a million rows of text.

Every command runs in a process of its own; its peak is the most that was resident, memory maps of
files included. Beside them the same data set read whole by scikit-learn and packed in memory. The
files repeat some thousand different rows, which changes neither bytes nor numbers to parse.
Results: ``benchmarks/results/command_line.json`` and ``command_line.md``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser_of, publish
from zipml_pynq.accelerator.machine import machine

#: Columns of the files.
WIDTHS = (30, 100)
DISTINCT = 5000
EPOCHS = 10
#: Runs a command and tells the peak of its own memory, whatever its parent's was.
CHILD = """
import sys
from zipml_pynq.command_line.main import main
code = main(sys.argv[1:])
lines = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""
WHOLE = """
import sys
from sklearn.datasets import load_svmlight_file
from zipml_pynq import pack
X, y = load_svmlight_file(sys.argv[1])
pack(X, y, bits=(2, 4, 8)).save(sys.argv[2])
lines = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")), file=sys.stderr)
"""


def write_rows(path: Path, rows: int, columns: int) -> None:
    """A LIBSVM file of a regression, five decimals a value."""
    rng = np.random.default_rng(columns)
    X = rng.standard_normal((DISTINCT, columns)).round(5)
    y = X @ rng.standard_normal(columns)
    lines = [
        f"{label:.5f} " + " ".join(f"{i}:{v}" for i, v in enumerate(row, 1)) + "\n"
        for label, row in zip(y.tolist(), X.tolist(), strict=True)
    ]
    with open(path, "w") as file:
        for _ in range(rows // DISTINCT):
            file.writelines(lines)
        file.writelines(lines[: rows % DISTINCT])


def run(code: str, folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds that passed, and peak memory in bytes, of a process."""
    start = time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seconds = time.perf_counter() - start
    if found.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)}: {found.stderr}")
    return seconds, 1024.0 * int(found.stderr.splitlines()[-1])


def measure(rows: int, columns: int, folder: Path) -> list[dict[str, Any]]:
    """One row a command, for a file of that size."""
    write_rows(folder / "rows.svm", rows, columns)
    write_rows(folder / "few.svm", 1000, columns)
    text = os.path.getsize(folder / "rows.svm")
    report = []
    commands = {
        "prepare": ("prepare", "{}.svm", "{}.packed", "--bits", "2,4,8"),
        "train": ("train", "{}.packed", "{}.model", "--bits", "4", "--epochs", str(EPOCHS)),
        "predict": ("predict", "{}.model", "{}.svm", "-o", "{}.txt"),
    }
    for name, words in commands.items():
        few = run(CHILD, folder, *(word.format("few") for word in words))[1]
        seconds, peak = run(CHILD, folder, *(word.format("rows") for word in words))
        report.append({"command": name, "seconds": seconds, "peak": peak, "peak_of_1000": few})
    seconds, peak = run(WHOLE, folder, "rows.svm", "whole.packed")
    report.append({"command": "whole", "seconds": seconds, "peak": peak, "peak_of_1000": None})
    with open(folder / "rows.packed", "rb") as one, open(folder / "whole.packed", "rb") as other:
        while piece := one.read(1 << 20):
            if piece != other.read(1 << 20):
                raise SystemExit("prepare and pack made different files: this is a bug")
    packed = os.path.getsize(folder / "rows.packed")
    for row in report:
        row.update(rows=rows, columns=columns, text_bytes=text, packed_bytes=packed)
    for path in folder.iterdir():
        path.unlink()
    return report


def markdown(result: dict[str, Any]) -> str:
    """The rows as a table."""
    about = result["machine"]
    lines = [
        "# The command line on large files",
        "",
        f"LIBSVM files of {result['rows']:,} rows, every value there, five decimals; "
        "`python -m benchmarks.command_line`.",
        f"{about['cpu']}, {about['cores']} cores, {about['load']:.1f} processes on them; "
        f"NumPy {about['numpy']}. Start of Python included; peak is all that was resident, maps of "
        "files included. `prepare` stores 2, 4 and 8 bits, double sampled; `train` takes "
        f"{EPOCHS} epochs at 4 bits on the emulated device, automatic step; \"whole\" is "
        "scikit-learn's `load_svmlight_file`, then `pack` and `save`: the same file to the byte.",
        "",
        "| columns | text | as float64 | packed | | seconds | rows a second | peak "
        "| peak of 1,000 rows |",
        "|---:|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for row in result["results"]:
        dense = 8 * row["rows"] * row["columns"]
        few = "" if row["peak_of_1000"] is None else f"{row['peak_of_1000'] / 1e6:.0f} MB"
        lines.append(
            f"| {row['columns']} | {row['text_bytes'] / 1e6:.0f} MB | {dense / 1e6:.0f} MB "
            f"| {row['packed_bytes'] / 1e6:.0f} MB | {row['command']} | {row['seconds']:.1f} "
            f"| {row['rows'] / row['seconds']:,.0f} | {row['peak'] / 1e6:.0f} MB | {few} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = parser_of(__doc__, "benchmarks")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for columns in WIDTHS:
            results += measure(options.rows, columns, Path(folder))
            print(json.dumps(results[-4:]), file=sys.stderr)
    report = {
        "machine": machine(),
        "rows": options.rows,
        "epochs": EPOCHS,
        "results": results,
    }
    publish(options.output, "command_line", report, markdown(report))


if __name__ == "__main__":
    main()
