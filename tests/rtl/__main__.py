"""``make rtl``: every kernel through the tools that are there; what is not is said in one line."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studies import room
from tests import ROOT
from tests.rtl import __doc__ as about
from tests.rtl.record import write
from tests.rtl.strip import HERE, stripped
from zipml_pynq.accelerator.interface import VLNV
from zipml_pynq.devices.bitstreams import kernel_name

#: Enough for the words of a recorded run's blocks, of all epochs.
CHANNEL_ENTRIES = 4096
#: What makes the replay call another top function than the first.
DEFINES = {"float32": "FLOAT", "levels": "LEVELS", "refetch": "REFETCH", "wide": "WIDE"}
DEVICE, PERIOD_NS, BOARD = "xc7z020-1clg484-VVD", 10, "pynq-z2"
#: Runs by value format: arguments of ``tests.cases.random_case``.
RUNS: dict[str, list[dict[str, Any]]] = {
    "bitplanes": [
        {"bits": 4, "l2": 0.01, "largest_shift": 3},
        {"bits": 1, "delay": 3},
        {"bits": 8, "options": {"loss": "squared_hinge"}},
        {"bits": 6, "options": {"loss": "logistic", "model_bits": 8, "gradient_bits": 8}},
    ],
    "float32": [{}],
    "levels": [{"bits": 4}],
    "refetch": [{"bits": 4}],
    "wide": [{"bits": 12}],
}


def flags(folder: Path, word_bits: int, value_format: str) -> list[str]:
    """What the compiler of sources and replay is told."""
    bench = [f"-DZIPML_BENCH_{DEFINES[value_format]}"] if value_format in DEFINES else []
    defines = [f"-DZIPML_WORD_BITS={word_bits}", f"-DZIPML_CHANNEL_ENTRIES={CHANNEL_ENTRIES}"]
    return [f"-I{folder}", f"-I{folder / 'include'}", f"-I{folder / 'src'}", *defines, *bench]


def prepared(
    folder: Path, word_bits: int, value_format: str, run: dict[str, Any]
) -> dict[str, int]:
    """Sources, record and replay in a folder; what was stripped."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    left_out = stripped(kernel_name(value_format), folder)
    write(folder / "record.hpp", word_bits, value_format, **run)
    shutil.copy(HERE / "replay.cpp", folder)
    return dict(left_out)


def simulate(folder: Path, word_bits: int, value_format: str) -> str:
    """Verilog by Bambu, simulated by Verilator: the replay's verdict and the cycles."""
    top = kernel_name(value_format)
    told = flags(folder, word_bits, value_format)
    command = [
        *("bambu", f"src/{top}.cpp", *told, f"--top-fname={top}"),
        *("--compiler=I386_CLANG16", "--std=c++17", "-O2", "-v2", "--generate-interface=INFER"),
        *(f"--device-name={DEVICE}", f"--clock-period={PERIOD_NS}"),
        *("--generate-tb=replay.cpp", "--simulate", "--simulator=VERILATOR"),
        f"--tb-extra-gcc-options={' '.join([*told, '-DZIPML_ON_RTL'])}",
    ]
    log = folder / "bambu.log"
    with log.open("w") as file:
        done = subprocess.run(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT)
    said = "".join(path.read_text() for path in folder.rglob("testbench.log"))
    verdict = re.search(r"RECORDED RUN \w+", said)
    cycles = re.search(r"Total cycles\s*:\s*(\d+)", log.read_text())
    if done.returncode or verdict is None:
        return f"failed, see {log}"
    return f"{verdict.group().lower()}, {int(cycles.group(1)) if cycles else 0:,} cycles by Bambu"


def counted(folder: Path, top: str) -> dict[str, int]:
    """What Yosys makes of the Verilog for an XC7Z020, by kind of cell."""
    script = (
        f"read_verilog {top}.v; synth_xilinx -family xc7 -top {top}; tee -o stat.json stat -json"
    )
    subprocess.run(["yosys", "-q", "-p", script], cwd=folder, check=True, capture_output=True)
    text = (folder / "stat.json").read_text()
    cells = json.loads(text[text.index("{") :])["design"]["num_cells_by_type"]
    kinds = {
        "LUTs": "LUT",
        "flip-flops": "FD",
        "DSPs": "DSP",
        "RAMB36": "RAMB36",
        "RAMB18": "RAMB18",
    }
    return {
        name: sum(count for cell, count in cells.items() if cell.startswith(kind))
        for name, kind in kinds.items()
    }


def beside(value_format: str, word_bits: int, found: dict[str, int]) -> str:
    """Yosys's count, of a sequential circuit, and the table's in docs/boards.md, of a pipeline."""
    cost = room.logic(BOARD, value_format, word_bits)
    blocks = room.block_rams(word_bits, value_format)
    return (
        f"LUTs {found['LUTs']:,} (table {cost.luts:,.0f}), flip-flops {found['flip-flops']:,} "
        f"({cost.ffs:,.0f}), DSPs {found['DSPs']} ({cost.dsps}), block RAMs "
        f"{found['RAMB36'] + found['RAMB18'] / 2:g} ({blocks:g})"
    )


def lines(output: Path, word_bits: int, formats: list[str]) -> Iterator[str]:
    """What ``make rtl`` prints, as it comes."""
    missing = [tool for tool in ("bambu", "verilator") if shutil.which(tool) is None]
    if missing:
        yield f"rtl: skipped, because {' and '.join(missing)} cannot be found"
        return
    for value_format in formats:
        top = kernel_name(value_format)
        for number, run in enumerate(RUNS[value_format]):
            folder = output / f"{top}-{word_bits}-{number}"
            left_out = prepared(folder, word_bits, value_format, run)
            if number == 0:
                every = ", ".join(f"{name} {count}" for name, count in sorted(left_out.items()))
                yield f"{top}: stripped {every}"
            yield f"{top}, {run or 'as it is'}: {simulate(folder, word_bits, value_format)}"
        if shutil.which("yosys") is None:
            yield f"{top}: not counted, because yosys cannot be found"
        else:
            yield f"{top}: {beside(value_format, word_bits, counted(folder, top))}"


def main() -> None:
    """Run what is there; ends with 1 where a run differs or a tool fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.rtl", description=about)
    parser.add_argument("formats", nargs="*", default=list(VLNV), help="value formats")
    parser.add_argument("--word-bits", type=int, default=64, choices=(64, 128, 512))
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "rtl")
    options = parser.parse_args()
    bad = False
    for line in lines(options.output, options.word_bits, options.formats):
        print(line, flush=True)
        bad |= "differs" in line or "failed" in line
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
