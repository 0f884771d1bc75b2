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


SIMULATION = ROOT / "sw_emu" / "simulation"
#: The smallest kernel, and the one whose ports the bench fills: how each is built.
FLAGS = {
    "zipml_sgd_f32": ["-DZIPML_BENCH_FLOAT"],
    "zipml_sgd": ["-fsanitize=address"],
}


def compiled(headers: str, top: str, hls: Path, source: str, target: Path) -> Path:
    """One source of the short sweep, with clocks and whole ports."""
    include = [f"-I{hls / 'include'}", f"-I{hls / 'tb'}"]
    include += ["-isystem", str(SIMULATION), "-isystem", headers]
    flags = ["-std=c++14", "-O0", "-w", "-pthread", "-DZIPML_WATCH", "-DZIPML_BENCH_QUICK"]
    command = ["g++", *flags, *FLAGS[top], *include, "-c", str(hls / source), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="module")
def right(headers: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kernels and benches without a mistake: a mistake is in one of the two."""
    folder = tmp_path_factory.mktemp("right")
    made = {}
    for name in ("zipml_sgd_f32 kernel", "zipml_sgd_f32 bench", "zipml_sgd kernel"):
        top, part = name.split()
        source = f"src/{top}.cpp" if part == "kernel" else "tb/zipml_sgd_tb.cpp"
        made[name] = compiled(headers, top, ROOT / "hls", source, folder / f"{top}_{part}.o")
    return made


def bench(
    headers: str,
    right: dict[str, Path],
    folder: Path,
    mistake: tuple[str, str, str] | None,
    top: str = "zipml_sgd_f32",
) -> subprocess.CompletedProcess[str]:
    """The short sweep of a kernel, with a mistake in a copy of its sources or of the bench's."""
    objects = {part: right.get(f"{top} {part}") for part in ("kernel", "bench")}
    if mistake is not None:
        path, old, new = mistake
        shutil.copytree(ROOT / "hls", folder / "hls")
        file = folder / "hls" / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        part = "bench" if path.startswith("tb/") else "kernel"
        source = f"src/{top}.cpp" if part == "kernel" else "tb/zipml_sgd_tb.cpp"
        objects[part] = compiled(headers, top, folder / "hls", source, folder / f"{part}.o")
    # of what both have, a linker takes the first: the kernel's
    linked = [str(objects[part]) for part in ("kernel", "bench")]
    target = folder / "bench"
    subprocess.run(["g++", "-pthread", *FLAGS[top], *linked, "-o", str(target)], check=True)
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
    old: str, new: str, headers: str, right: dict[str, Path], tmp_path: Path
) -> None:
    run = bench(headers, right, tmp_path, ("tb/bench.hpp", old, new), top="zipml_sgd")
    assert run.returncode != 0
    assert "heap-buffer-overflow" in run.stderr


def test_processes_come_to_an_end_in_the_time_of_the_schedule(
    headers: str, right: dict[str, Path], tmp_path: Path
) -> None:
    run = bench(headers, right, tmp_path, None)
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
        # a number that is wider than it is said to be
        ("src/narrow.hpp", "kBatchBits = BitsOf(kMaxBatch)", "kBatchBits = 2",
         "a number does not fit its 2 bits"),
        # the half that is trained on is filled
        ("src/stages/train_run.hpp", "(r, g, 1 - fill.half,", "(r, g, fill.half,",
         "promised are|differ"),
    ],
)  # fmt: skip
def test_a_mistake_between_processes_shows(
    path: str,
    old: str,
    new: str,
    message: str,
    headers: str,
    right: dict[str, Path],
    tmp_path: Path,
) -> None:
    run = bench(headers, right, tmp_path, (path, old, new))
    assert run.returncode != 0
    assert re.search(message, run.stdout + run.stderr), (run.stdout + run.stderr)[-2000:]
