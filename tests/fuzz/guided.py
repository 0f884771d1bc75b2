"""The compiled text parsers under sanitizers, guided by coverage where clang is.

libFuzzer finds inputs that reach what none before reached; the program checks itself
(``text_parser.cpp``), and what was found is then read by our reader beside pandas, scikit-learn and
Python, as the texts of :mod:`tests.fuzz.texts` are.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from tests import ROOT
from tests.fuzz import texts

_TABLE, _LIBSVM, _NUMBERS = range(3)
_SOURCES = [str(ROOT / "sw_emu/text.cpp"), str(Path(__file__).with_name("text_parser.cpp"))]
_FLAGS = ["-std=c++14", "-g", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'sw_emu'}"]
#: What follows a text's first two bytes is at most so long.
_LONGEST = 256


def _build(compiler: str, program: Path, *options: str) -> Path:
    command = [compiler, *_FLAGS, *options, "-fno-sanitize-recover=all", *_SOURCES]
    subprocess.run([*command, "-o", str(program)], check=True)
    return program


def _input(kind: int, how: int, text: bytes) -> bytes:
    return bytes([kind, how]) + text


def seeds(count: int, seed: int, folder: Path) -> list[Path]:
    """Inputs of each kind, whole and damaged, as files."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    paths = []
    for i in range(count):
        text = texts.table(rng)[0].encode()
        if i % 3 == _LIBSVM:
            text = texts.rows(rng)
        elif i % 3 == _NUMBERS:
            text = "\n".join(texts.number(rng) for _ in range(4)).encode()
        text = texts.damaged(rng, text) if rng.integers(2) else text
        paths.append(folder / f"seed{i}")
        paths[-1].write_bytes(_input(i % 3, int(rng.integers(256)), text))
    return paths


def replayed(count: int, seed: int, folder: Path) -> dict[str, int]:
    """Texts made by a seed through the parsers under sanitizers; by any C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    sanitizers = "-fsanitize=address,undefined"
    program = _build(compiler, folder / "replay", "-DZIPML_REPLAY", sanitizers)
    paths = seeds(count, seed, folder / "seeds")
    done = subprocess.run([program, *paths], check=True, capture_output=True, text=True)
    return {"inputs": int(done.stdout)}


def has_libfuzzer(folder: Path) -> bool:
    """Whether clang is installed, and what it links fuzzers with."""
    if shutil.which("clang++") is None:
        return False
    empty = folder / "empty.cpp"
    empty.write_text(
        'extern "C" int LLVMFuzzerTestOneInput(const char *, unsigned long) { return 0; }'
    )
    command = ["clang++", "-fsanitize=fuzzer,address", str(empty), "-o", str(folder / "empty")]
    return subprocess.run(command, capture_output=True).returncode == 0


def guided(seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """Inputs guided by coverage; those worth keeping beside other readers, too.

    Needs clang and its run-time library.
    """
    program = _build("clang++", folder / "guided", "-fsanitize=fuzzer,address,undefined")
    corpus = folder / "corpus"
    seeds(300, seed, corpus)
    words = folder / "words"
    lines = (
        '"' + "".join(f"\\x{byte:02x}" for byte in token) + '"' for token in texts.TOKENS if token
    )
    words.write_text("\n".join(lines) + "\n")
    budget = [f"-max_total_time={max(1, round(seconds))}", f"-seed={seed + 1}"]
    # what libFuzzer takes for its memory is the most that the program which starts it ever had
    budget.append("-rss_limit_mb=0")
    options = [*budget, f"-max_len={_LONGEST}", f"-dict={words}", "-print_final_stats=1"]
    run = subprocess.run([program, *options, corpus], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    figures = {
        "inputs": int(_last(r"number_of_executed_units: (\d+)", run.stderr)),
        "edges": int(_last(r"\((\d+) inline 8-bit counters\)", run.stderr)),
        "reached": int(_last(r" cov: (\d+)", run.stderr)),
    }
    return figures | _beside_others(corpus, folder)


def _last(pattern: str, text: str) -> str:
    return str(re.findall(pattern, text)[-1])


def _beside_others(corpus: Path, folder: Path) -> dict[str, int]:
    figures = {"kept": 0, "of these read": 0}
    for path in sorted(corpus.iterdir()):
        content = path.read_bytes()
        if len(content) < 2:
            continue
        kind, how, text = content[0] % 3, content[1], content[2:]
        figures["kept"] += 1
        if kind == _LIBSVM:
            read = texts.beside_scikit_learn(text, folder / "t.svm")
        else:
            read = texts.beside_python(text, header=bool(how & 1), path=folder / "t.csv")
        figures["of these read"] += read
    return figures
