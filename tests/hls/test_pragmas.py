"""Every pragma of the kernels against the vendor's documentation; see tests/pragmas.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import ROOT
from tests.hls.pragmas import problems, uses

SOURCES = sorted([*ROOT.glob("hls/src/*"), *ROOT.glob("hls/include/zipml/*")])


def top_of(path: Path) -> str:
    """A source file is called as its top function; a header has none."""
    return path.stem if path.suffix == ".cpp" else ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_pragmas_are_what_the_tool_takes(path: Path) -> None:
    text = path.read_text()
    assert problems(text, top_of(path)) == []
    assert len(uses(text)) == len(re.findall(r"#pragma HLS", text))


# ---- Mistakes ----------------------------------------------------------------------------------

STAGES, TOP, FORMATS = "stages.hpp", "zipml_sgd.cpp", "formats.hpp"
REFETCH = "zipml_sgd_refetch.cpp"
PARTITION = "#pragma HLS ARRAY_PARTITION variable = gradient type = complete dim = 1"
PIPELINE = "    #pragma HLS PIPELINE II = 1\n    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 8192\n"
MISTAKES = [
    # names and options
    (STAGES, "HLS PIPELINE II", "HLS PIPELIN II", "no such pragma"),
    (STAGES, "PIPELINE II = 1", "PIPELINE ii_target = 1", "no option ii_target"),
    (STAGES, "PIPELINE II = 1", "PIPELINE II = one", "ii was 'one'"),
    (STAGES, "INLINE off", "INLINE none", "no option none"),
    (STAGES, "DATAFLOW", "DATAFLOW interval = 4", "no option interval"),
    (STAGES, "impl = bram", "impl = blockram", "impl was 'blockram'"),
    (STAGES, "type = ram_s2p", "type = ram_2s", "type was 'ram_2s'"),
    (STAGES, "variable = ring type = ram_s2p", "variable = ring", "type is missing"),
    (STAGES, "type = complete dim", "type = whole dim", "type was 'whole'"),
    (STAGES, "type = complete dim", "type = cyclic dim", "need a factor"),
    (STAGES, "direction=RAW", "direction=READ", "direction was 'READ'"),
    (STAGES, "direction=RAW", "dir=RAW", "no option dir"),
    (STAGES, "distance=8 dependent=true", "distance=8 dependent=false", "for dependent=true"),
    (STAGES, "type=inter direction", "type=intra direction", "between iterations"),
    (STAGES, "min = 64 max = 8192", "min = 64", "max is missing"),
    (STAGES, "min = 64 max = 8192", "min = 9000 max = 8192", "min is more than max"),
    (FORMATS, "HLS UNROLL", "HLS UNROLL factor = all", "factor was 'all'"),
    # variables
    (STAGES, "variable = gradient", "variable = gradients", "gradients is not declared"),
    (STAGES, "variable=ring", "variable=words_ring", "words_ring is not declared"),
    (STAGES, "variable = words type", "variable = round type", "round is no array"),
    (STAGES, "variable = model type = complete dim = 2", "variable = model type = complete dim = 3",
     "model has 2 dimensions, not 3"),
    (STAGES, "  gradient_t gradient[kLanes];\n  " + PARTITION,
     "  " + PARTITION + "\n  gradient_t gradient[kLanes];", "gradient is not declared before"),
    # places
    (STAGES, PARTITION, "#pragma HLS UNROLL", "stands in a function"),
    (STAGES, PARTITION, "#pragma HLS LOOP_TRIPCOUNT max = 4", "stands in a function"),
    (STAGES, PARTITION, "#pragma HLS INLINE off", "stands behind a statement"),
    (STAGES, "  ++plane;", "  ++plane;\n      #pragma HLS PIPELINE II = 1", "stands in a region"),
    (STAGES, "TRAIN:\n", PIPELINE + "TRAIN:\n", "stands in a function"),
    (STAGES, "HLS DATAFLOW\n", "HLS DATAFLOW\n    #pragma HLS PIPELINE II=1\n",
     "pipelined, unrolled or a dataflow region"),
    (STAGES, "HLS DATAFLOW", "HLS INTERFACE mode=m_axi port=planes", "stands in a loop"),
    (STAGES, "    ReadLabels(labels, r,", "    next_labels[0] = 0;\n    ReadLabels(labels, r,",
     "a dataflow region holds 'next_labels"),
    (STAGES, "    ReadLabels(labels, r,", "    if (round) ReadLabels(labels, r,",
     "a dataflow region holds 'if'"),
    (STAGES, "constexpr int kModel", "#pragma HLS PIPELINE II = 1\nconstexpr int kModel",
     "stands in a other"),
    # ports
    (TOP, "port=planes bundle=gmem_planes", "port=plane bundle=gmem_planes", "no argument plane"),
    (TOP, "mode=m_axi port=labels", "mode=maxi port=labels", "no mode 'maxi'"),
    (TOP, "num_read_outstanding=4", "num_reads=4", "no option num_reads"),
    (TOP, "depth=2048 ", "", "co-simulation needs a depth"),
    (REFETCH, "mode=m_axi port=full ", "mode=m_axi port=planes ", "planes has the modes"),
    (REFETCH, "port=full bundle=gmem_full", "port=full bundle=gmem_labels",
     "bundle gmem_labels has elements"),
    (REFETCH, "  #pragma HLS INTERFACE mode=s_axilite port=full bundle=control\n", "",
     "full has the modes"),
    (TOP, "gmem_labels offset=slave", "gmem_labels offset=slaves", "offset was 'slaves'"),
    (TOP, "gmem_labels offset=slave", "gmem_labels", "through no register"),
    (TOP, "port=labels bundle=gmem_labels", "port=labels bundle=gmem_planes",
     "bundle gmem_planes has elements"),
    (TOP, "max_read_burst_length=16", "max_read_burst_length=128", "max_read_burst_length was 128"),
    (TOP, "m_axi port=labels bundle", "m_axi port=samples bundle", "samples is no pointer"),
    (TOP, "  #pragma HLS INTERFACE mode=s_axilite port=delay bundle=control\n", "",
     "delay has the modes"),
    (TOP, "port=return bundle=control", "port=return bundle=ctrl", "2 bundles"),
    (TOP, "port=skip bundle=control", "port=delay bundle=control", "delay has the modes"),
    (TOP, "void zipml_sgd(", "void zipml_train(", "not the top"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new", "message"), MISTAKES, ids=[f"{m[0]}: {m[3]}" for m in MISTAKES]
)
def test_a_mistake_shows(name: str, old: str, new: str, message: str) -> None:
    path = ROOT / "hls" / "src" / name
    text = path.read_text()
    assert old in text
    found = problems(text.replace(old, new, 1), top_of(path))
    assert any(message in problem for problem in found), found


def test_spaces_and_continued_lines_are_read() -> None:
    text = "void f(int a[4]) {\n  #pragma HLS ARRAY_PARTITION variable = a \\\n    dim = 2\n}\n"
    assert problems(text) == ["line 2: array_partition: a has 1 dimensions, not 2"]
    assert uses(text)[0].options == {"variable": "a", "dim": "2"}
