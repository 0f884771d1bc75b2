"""What can be checked of the synthesizable subset without an HLS compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.hls.pragmas import macros, uses

SOURCES = sorted(
    path for folder in ("src", "include") for path in (ROOT / "hls" / folder).rglob("*.?pp")
)
TOPS = ("zipml_sgd", "zipml_sgd_f32", "zipml_sgd_levels", "zipml_sgd_refetch", "zipml_sgd_wide")


def code(path: Path) -> str:
    """A source without comments and strings."""
    return re.sub(r'//[^\n]*|/\*.*?\*/|"[^"\n]*"', "", path.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_construct_outside_the_subset(path: Path) -> None:
    heap_and_dispatch = r"\b(new|delete|malloc|free|virtual|dynamic_cast|typeid)\b"
    unbounded = r"\b(throw|try|catch|goto|while|do)\b|std::"
    assert re.findall(f"{heap_and_dispatch}|{unbounded}", code(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_loop_has_a_label_and_a_trip_count(path: Path) -> None:
    """A loop with a bound that only registers know needs a trip count for the tool's report.

    Headers that the engine shares have short loops of fixed bounds alone, and no pragmas: whoever
    calls them from a pipeline has them unrolled, and SeeModel has its draws a round at a time.
    """
    if "include" in path.parts:
        loops = re.findall(r"for \(([^;]*);([^;]*);", code(path))
        assert all(re.search(r"< (\d+|k\w+)$", bound.strip()) for _, bound in loops), loops
        return
    lines = code(path).splitlines()
    for i, line in enumerate(lines):
        if re.match(r"\s*for \(", line):
            label = lines[i - 1].strip()
            assert re.fullmatch(r"[A-Z_]+:", label), f"{path.name}:{i + 1}: {label!r}"
            body = "\n".join(lines[i + 1 : i + 12])
            governed = re.match(r"(\s*#pragma HLS [^\n]*\n)+", body)
            assert governed, f"{path.name}:{i + 1}: no pragma under the loop"
            assert re.search(r"LOOP_TRIPCOUNT|UNROLL", governed.group()), f"{path.name}:{i + 1}"


@pytest.mark.parametrize("top", TOPS)
def test_depths_are_those_of_the_bench(top: str) -> None:
    """Co-simulation copies ports of these depths, so the bench's buffers must be as large."""
    known = macros(*(path.read_text() for path in SOURCES))
    text = (ROOT / "hls" / "src" / f"{top}.cpp").read_text()
    pragmas = [use.options for use in uses(text, known) if use.name == "interface"]
    ports = {use["port"]: use["depth"] for use in pragmas if use["mode"] == "m_axi"}
    assert {"planes", "labels", "model", "history", "schedule", "derivative"} <= set(ports)
    bench = (ROOT / "hls" / "tb" / "bench.hpp").read_text()
    constants = dict(re.findall(r"kDepth(\w+) = (\d+);", bench))
    assert ports.items() <= {name.lower(): depth for name, depth in constants.items()}.items()


@pytest.mark.parametrize("top", TOPS)
def test_kernel_needs_no_library(top: str, tmp_path: Path) -> None:
    """Without exceptions and run-time types it compiles, and calls nothing but memory copies."""
    if shutil.which("g++") is None or shutil.which("nm") is None:
        pytest.skip("no g++ and nm here")
    build = ROOT / "sw_emu" / "build_kernel.py"
    headers = subprocess.run(
        [sys.executable, str(build), "--headers"], capture_output=True, text=True
    )
    if headers.returncode != 0:
        pytest.skip("no C-simulation headers here")
    # a channel as the tool has it: no C++ behind it
    (tmp_path / "hls_stream.h").write_text(
        "#pragma once\nnamespace hls {\ntemplate <class T>\nstruct stream {\n  T read();\n"
        "  bool read_nb(T &);\n  void write(const T &);\n  bool empty();\n};\n}\n"
    )
    target = tmp_path / "top.o"
    flags = ["-std=c++14", "-O1", "-fno-exceptions", "-fno-rtti", "-Wno-unknown-pragmas"]
    include = [f"-I{tmp_path}", f"-I{ROOT / 'hls' / 'include'}"]
    include += ["-isystem", headers.stdout.strip()]
    source = ROOT / "hls" / "src" / f"{top}.cpp"
    subprocess.run(["g++", *flags, *include, "-c", str(source), "-o", str(target)], check=True)
    symbols = subprocess.run(["nm", "-u", str(target)], check=True, capture_output=True, text=True)
    needed = set(symbols.stdout.split()) - {"U"}
    allowed = {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
    # the vendor's header includes <iostream>, which registers its start and end, and checks ranges
    allowed |= {"__cxa_atexit", "__dso_handle"}
    allowed |= {"__assert_fail", "abort", "fprintf", "fputc", "stderr"}
    own = ("_ZNSt8ios_base4Init", "_ZN3hls6stream")
    assert {s for s in needed - allowed if not s.startswith(own)} == set()
