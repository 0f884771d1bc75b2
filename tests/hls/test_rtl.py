"""``make rtl`` without its tools: what is stripped, and that a replay tells runs apart."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.rtl.__main__ import RUNS, flags, lines, prepared

FORMAT, WORD_BITS = "float32", 64  # the smallest kernel


def test_a_replay_is_equal_and_one_of_other_bits_differs(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    build = ROOT / "sw_emu" / "build_kernel.py"
    run = subprocess.run([sys.executable, str(build), "--headers"], capture_output=True, text=True)
    if run.returncode != 0:
        pytest.skip("no C-simulation headers here")
    folder = tmp_path / "kernel"
    left_out = prepared(folder, WORD_BITS, FORMAT, RUNS[FORMAT][0])
    sources = "".join(path.read_text() for path in folder.rglob("*.?pp"))
    # what stays are the six ports of memory, and what went is told
    assert re.findall(r"#pragma HLS (\w+ mode=\w+)", sources) == ["interface mode=m_axi"] * 6
    assert len(re.findall(r"#pragma HLS", sources)) == 6
    assert {"pipeline", "dataflow", "dependence", "interface mode=s_axilite"} <= set(left_out)
    told = ["-std=c++17", "-O0", "-w", *flags(folder, WORD_BITS, FORMAT)]
    told += ["-isystem", run.stdout.strip()]

    def compiled(source: str) -> str:
        target = folder / f"{Path(source).stem}.o"
        subprocess.run(
            ["g++", *told, "-c", str(folder / source), "-o", str(target)], check=True
        )  # fmt: skip
        return str(target)

    def replayed() -> str:
        linked = [kernel, compiled("replay.cpp")]
        subprocess.run(["g++", *linked, "-o", str(folder / "replay")], check=True)
        return subprocess.run([folder / "replay"], capture_output=True, text=True).stdout

    kernel = compiled("src/zipml_sgd_f32.cpp")
    assert replayed() == "RECORDED RUN EQUAL\n"
    record = (folder / "record.hpp").read_text()
    wrong = re.sub(r"(after_model\[\] = \{\d+)u", r"\1u ^ 1u", record)
    wrong = re.sub(r"(out_words = \d+)ull", r"\1ull + 1", wrong)
    assert wrong != record
    (folder / "record.hpp").write_text(wrong)
    said = replayed()
    assert "model: 1 of" in said
    assert "words: " in said
    assert said.endswith("RECORDED RUN DIFFERS\n")


def test_a_missing_tool_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(lines(tmp_path, WORD_BITS, [FORMAT])) == [
        "rtl: skipped, because bambu and verilator cannot be found"
    ]
