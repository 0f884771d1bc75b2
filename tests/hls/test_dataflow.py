"""The processes of a kernel side by side, in time: deadlock, what is left over, and overlap.

The bench runs them in threads, through channels as deep as in hardware, each with a clock that its
passes and latencies advance (sw_emu/simulation/hls_stream.h). Here mistakes are planted into the
smallest kernel, and each has to be found.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

FILL = (
    "    FillStep<Format>(r, g, words_in, labels_in, words, block_labels, block_weights, fill);\n"
)


@pytest.fixture(scope="module")
def headers() -> str:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    build = ROOT / "sw_emu" / "build_kernel.py"
    run = subprocess.run([sys.executable, str(build), "--headers"], capture_output=True, text=True)
    if run.returncode != 0:
        pytest.skip("no C-simulation headers here")
    return run.stdout.strip()


def bench(
    headers: str,
    folder: Path,
    mistake: tuple[str, str, str] | None,
    *more: str,
    top: str = "zipml_sgd_f32",
) -> subprocess.CompletedProcess[str]:
    """The short sweep of a kernel, with clocks and whole ports, out of a copy."""
    shutil.copytree(ROOT / "hls", folder / "hls")
    if mistake is not None:
        path, old, new = mistake
        file = folder / "hls" / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
    include = [f"-I{folder / 'hls' / 'include'}", f"-I{folder / 'hls' / 'tb'}"]
    include += ["-isystem", str(ROOT / "sw_emu" / "simulation"), "-isystem", headers]
    flags = ["-std=c++14", "-O0", "-w", "-pthread", "-DZIPML_WATCH", "-DZIPML_BENCH_QUICK"]
    sources = [folder / "hls" / name for name in (f"src/{top}.cpp", "tb/zipml_sgd_tb.cpp")]
    if top == "zipml_sgd_f32":
        flags.append("-DZIPML_BENCH_FLOAT")
    target = folder / "bench"
    subprocess.run(
        [
            "g++",
            *flags,
            *more,
            *include,
            *map(str, sources),
            "-o",
            str(target),
        ],
        check=True,
    )
    return subprocess.run([str(target)], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # buffers that end before the depth of their port, counted from where a segment begins
        ("size_(kWholePorts ? size + depth : size)",
         "size_(kWholePorts ? std::max(size, depth) : size)"),
        # a depth below what a run touches
        ("kDepthPlanes = 4096;", "kDepthPlanes = 24;"),
    ],
)  # fmt: skip
def test_ports_are_as_deep_as_co_simulation_copies_them(
    old: str, new: str, headers: str, tmp_path: Path
) -> None:
    mistake = ("tb/bench.hpp", old, new)
    run = bench(headers, tmp_path, mistake, "-fsanitize=address", top="zipml_sgd")
    assert run.returncode != 0
    assert "heap-buffer-overflow" in run.stderr


def test_processes_come_to_an_end_in_the_time_of_the_schedule(headers: str, tmp_path: Path) -> None:
    run = bench(headers, tmp_path, None)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "cases, 0 failures" in run.stdout


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        # the trainer waits for a block that nobody reads
        ("src/stages/read_words.hpp", "i < g.blocks", "i + 1 < g.blocks",
         "deadlock: .*look into an empty words"),
        ("src/stages/read_labels.hpp", "count < g.blocks", "count + 1 < g.blocks",
         "deadlock: .*look into an empty block_labels"),
        # a block more than the trainer takes: it fits a channel, or does not
        ("src/stages/read_words.hpp", "i < g.blocks", "i < g.blocks + (epoch + 1 == r.epochs)",
         "left over in a channel: .*words|deadlock: write to a full words"),
        ("src/stages/read_labels.hpp", "count < g.blocks",
         "count < g.blocks + (epoch + 1 == r.epochs)", "left over in a channel: .*block_labels"),
        # the clock is never stopped
        ("src/stages/train_run.hpp", "  MarkCycle(marks, true);\n", "",
         "deadlock: read from an empty marks"),
        # reading and training by turns
        ("src/stages/train_slots.hpp", FILL, "", "waits by the clock"),
        # the half that is trained on is filled
        ("src/stages/train_run.hpp", "(r, g, 1 - fill.half,", "(r, g, fill.half,",
         "promised are|differ"),
    ],
)  # fmt: skip
def test_a_mistake_between_processes_shows(
    path: str, old: str, new: str, message: str, headers: str, tmp_path: Path
) -> None:
    run = bench(headers, tmp_path, (path, old, new))
    assert run.returncode != 0
    assert re.search(message, run.stdout + run.stderr), (run.stdout + run.stderr)[-2000:]
