"""Every pragma of the kernels against the vendor's documentation; see tests/hls/pragmas.py."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests import ROOT
from tests.hls.pragmas import expanded, macros, problems, uses
from zipml_pynq.constants import distances

HLS = ROOT / "hls"
SOURCES = sorted(path for folder in ("src", "include") for path in (HLS / folder).rglob("*.?pp"))
TEXTS = {path: path.read_text() for path in SOURCES}
MACROS = macros(*TEXTS.values())
TOPS = [path for path in SOURCES if path.suffix == ".cpp"]


def top_of(path: Path) -> str:
    """A source file is called as its top function; a header has none."""
    return path.stem if path.suffix == ".cpp" else ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_pragmas_are_what_the_tool_takes(path: Path) -> None:
    text = TEXTS[path]
    assert problems(text, top_of(path), MACROS) == []
    assert len(uses(text, MACROS)) == len(re.findall(r"#pragma HLS", expanded(text, MACROS)))
    assert len(uses(text)) == len(re.findall(r"#pragma HLS", text))


@pytest.mark.parametrize("top", TOPS, ids=lambda path: path.stem)
def test_the_compiler_sees_the_same(top: Path, tmp_path: Path) -> None:
    """What is read of a top function and its headers is what the preprocessor makes of them."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    for header in ("ap_int.h", "hls_stream.h"):
        (tmp_path / header).touch()

    def apart(found: list[str]) -> Counter[str]:
        return Counter(" ".join(text.split()) for text in found)

    seen = {}
    for build in ("ZIPML_ULTRA_RAM=0", "ZIPML_ULTRA_RAM=1", "ZIPML_WORD_BITS=512"):
        flags = [f"-D{build}", "-D__SYNTHESIS__", f"-I{HLS / 'include'}"]
        run = subprocess.run(
            ["g++", "-E", *flags, f"-I{tmp_path}", str(top)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        seen[build] = apart(re.findall(r"(?m)^\s*#pragma (HLS .*?)\s*$", run.stdout))
    read: list[str] = []
    for path in [top, *(path for path in SOURCES if path.suffix == ".hpp")]:
        text = expanded(TEXTS[path], MACROS)
        read += re.findall(r"(?m)^\s*#pragma (HLS .*?)\s*$", text)
    assert sum(seen["ZIPML_ULTRA_RAM=0"].values()) > 100
    assert apart(read) == seen["ZIPML_ULTRA_RAM=0"]
    # where there is UltraRAM, the deep memories are there, and nothing else is different
    deep = seen["ZIPML_ULTRA_RAM=1"] - seen["ZIPML_ULTRA_RAM=0"]
    assert sorted(re.findall(r"variable=(\w+) type=ram_s2p impl=uram", " ".join(deep))) == sorted(
        ("words", "block_labels", "block_weights", "ring")
    )
    assert sum(deep.values()) == 4
    # wide words have longer distances, for what coefficients come and go through
    far = seen["ZIPML_WORD_BITS=512"] - seen["ZIPML_ULTRA_RAM=0"]
    promised = re.findall(r"variable=(\w+) [^|]* distance=(\d+)", "|".join(far))
    residual = str(distances(512).residual)
    assert sorted(promised) == [
        (memory, residual) for memory in ("coefficient_first", "coefficient_second", "ring")
    ]


# ---- Mistakes ----------------------------------------------------------------------------------

WORDS, LABELS = "src/stages/read_words.hpp", "src/stages/read_labels.hpp"
TRAIN, REGION, FORMATS = "src/stages/train_slots.hpp", "src/top.hpp", "src/formats.hpp"
PROCESSES = "src/processes.hpp"
RUN, FILL = "src/stages/train_run.hpp", "src/stages/fill_block.hpp"
PRAGMAS, INTERFACES = "src/pragmas.hpp", "src/interfaces.hpp"
CONFIG, DISTANCES = "include/zipml/config.hpp", "include/zipml/distances.hpp"
TOP, LEVELS, REFETCH = (f"src/zipml_sgd{name}.cpp" for name in ("", "_levels", "_refetch"))
PARTITION = "#pragma HLS ARRAY_PARTITION variable = gradient type = complete dim = 1"
PIPELINE = "    #pragma HLS PIPELINE II = 1\n    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 8192\n"
MISTAKES = [
    # names and options
    (WORDS, "HLS PIPELINE II", "HLS PIPELIN II", "no such pragma"),
    (WORDS, "PIPELINE II = 1", "PIPELINE ii_target = 1", "no option ii_target"),
    (TRAIN, "PIPELINE II = 1", "PIPELINE II = one", "ii was 'one'"),
    (WORDS, "INLINE off", "INLINE none", "no option none"),
    (REGION, "DATAFLOW", "DATAFLOW interval = 4", "no option interval"),
    (RUN, "impl = bram", "impl = blockram", "impl was 'blockram'"),
    (RUN, "type = ram_s2p", "type = ram_2s", "type was 'ram_2s'"),
    (RUN, "variable = shifts type = ram_s2p", "variable = shifts", "type is missing"),
    (RUN, "type = complete dim", "type = whole dim", "type was 'whole'"),
    (TRAIN, "type = complete dim", "type = cyclic dim", "need a factor"),
    (TRAIN, "min = 64 max = 8192", "min = 64", "max is missing"),
    (TRAIN, "min = 64 max = 8192", "min = 9000 max = 8192", "min is more than max"),
    (FORMATS, "HLS UNROLL", "HLS UNROLL factor = all", "factor was 'all'"),
    # the same in macros
    (PRAGMAS, "direction=RAW", "direction=READ", "direction was 'READ'"),
    (PRAGMAS, "direction=RAW", "dir=RAW", "no option dir"),
    (PRAGMAS, "distance=passes dependent=true", "distance=passes dependent=false",
     "for dependent=true"),
    (PRAGMAS, "type=inter direction", "type=intra direction", "between iterations"),
    (PRAGMAS, "variable=memory type=intra", "variable=memory kind=intra", "no option kind"),
    (PRAGMAS, "TEXT(HLS options)", "TEXT(HLS PIPELINE options)", "no option dependence"),
    (DISTANCES, "ZIPML_UPDATE_LATENCY 24", "ZIPML_UPDATE_LATENCY eight", "distance was 'eight'"),
    (DISTANCES, "SHORT_RESIDUAL_LATENCY 32", "SHORT_RESIDUAL_LATENCY (16 + 16)",
     "distance was '(16'"),
    (CONFIG, "#define ZIPML_POLYNOMIAL_DISTANCE", "#define ZIPML_POLYNOMIALS",
     "distance was 'ZIPML_POLYNOMIAL_DISTANCE'"),
    (CONFIG, "ZIPML_MEMORY_LATENCY 64", "ZIPML_MEMORY_LATENCY 64u", "latency was '64u'"),
    (TRAIN, "(polynomials, ZIPML_POLYNOMIAL_DISTANCE)", "(polynomials, kPolynomialDistance)",
     "distance was 'kPolynomialDistance'"),
    (TRAIN, "ZIPML_READ_BEHIND_WRITE(polynomials, ZIPML_POLYNOMIAL_DISTANCE)",
     "ZIPML_PRAGMA_TEXT(HLS DEPENDENCE variable=polynomials distance=ZIPML_DOT_DISTANCE "
     "dependent=true)",
     "distance was 'ZIPML_DOT_DISTANCE'"),
    # variables
    (TRAIN, "variable = gradient", "variable = gradients", "gradients is not declared"),
    (TRAIN, "WRITE(ring", "WRITE(words_ring", "words_ring is not declared"),
    (RUN, "variable = words type", "variable = r type", "r is no array"),
    (RUN, "variable = model type = complete dim = 2", "variable = model type = complete dim = 3",
     "model has 2 dimensions, not 3"),
    (TRAIN, "  typename Format::gradient_t gradient[Format::kLanes];\n  " + PARTITION,
     "  " + PARTITION + "\n  typename Format::gradient_t gradient[Format::kLanes];",
     "gradient is not declared before"),
    # places
    (TRAIN, PARTITION, "#pragma HLS UNROLL", "stands in a function"),
    (TRAIN, PARTITION, "#pragma HLS LOOP_TRIPCOUNT max = 4", "stands in a function"),
    (TRAIN, PARTITION, "#pragma HLS INLINE off", "stands behind a statement"),
    (FILL, "      ++fill.plane;", "      ++fill.plane;\n      #pragma HLS PIPELINE II = 1",
     "stands in a region"),
    (TRAIN, "TRAIN:\n", PIPELINE + "TRAIN:\n", "stands in a function"),
    (REGION, "HLS DATAFLOW\n", "HLS DATAFLOW\n  #pragma HLS PIPELINE II=1\n",
     "pipelined, unrolled or a dataflow region"),
    (RUN, "HLS LOOP_TRIPCOUNT min = 1", "HLS INTERFACE mode=m_axi port=planes",
     "stands in a loop"),
    (REGION, "variable = r\n", "variable = registers\n", "registers is not declared"),
    (PROCESSES, "variable=channel type=fifo", "variable=channel type=queue", "type was 'queue'"),
    (REGION, "  ZIPML_PROCESS(ReadLabels", "  r.epochs = 0;\n  ZIPML_PROCESS(ReadLabels",
     "a dataflow region holds 'r.epochs"),
    (REGION, "ZIPML_PROCESS(ReadLabels", "ZIPML_PROCESS(if (r.epochs) ReadLabels",
     "a dataflow region holds 'if'"),
    (WORDS, "/// Process:", "#pragma HLS PIPELINE II = 1\n/// Process:",
     "stands in a other"),
    (TRAIN, "namespace zipml {\n", "namespace zipml {\nZIPML_NO_READ_OF_OWN_WRITE(ring)\n",
     "stands in a other"),
    (TOP, "  ZIPML_INTERFACES\n", "  *status = 0;\n  ZIPML_INTERFACES\n",
     "stands behind a statement"),
    # ports
    (TOP, "  ZIPML_INTERFACES\n", "", "has no INTERFACE"),
    (INTERFACES, "READ_PORT(planes, ", "READ_PORT(plane, ", "no argument plane"),
    (INTERFACES, "mode=m_axi port", "mode=maxi port", "no mode 'maxi'"),
    (INTERFACES, "num_read_outstanding=", "num_reads=", "no option num_reads"),
    (INTERFACES, "offset=slave depth=entries", "offset=slave", "co-simulation needs a depth"),
    (REFETCH, "READ_PORT(full, ", "READ_PORT(planes, ", "planes has the modes"),
    (REFETCH, "full, gmem_full", "full, gmem_labels", "bundle gmem_labels has elements"),
    (REFETCH, "  ZIPML_READ_PORT(full, gmem_full, 4096, 4)\n", "", "full has the modes"),
    (LEVELS, "  ZIPML_REGISTER(level_tables)\n", "", "level_tables has the modes"),
    (INTERFACES, "offset=slave", "offset=slaves", "offset was 'slaves'"),
    (INTERFACES, "offset=slave ", "", "through no register"),
    (INTERFACES, "labels, gmem_labels", "labels, gmem_planes", "bundle gmem_planes has elements"),
    (INTERFACES, "max_read_burst_length=16", "max_read_burst_length=128",
     "max_read_burst_length was 128"),
    (INTERFACES, "READ_PORT(labels, ", "READ_PORT(samples, ", "samples is no pointer"),
    (INTERFACES, "ZIPML_REGISTER(return)",
     "ZIPML_PRAGMA(INTERFACE mode=s_axilite port=return bundle=ctrl)", "2 bundles"),
    (INTERFACES, "  ZIPML_EACH_SCALAR(ZIPML_REGISTER, ZIPML_REGISTER) \\\n", "",
     "delay has the modes"),
    (INTERFACES, "  ZIPML_EACH_OUTPUT(ZIPML_REGISTER_OUT, ZIPML_REGISTER_OUT) \\\n", "",
     "saturations has the modes"),
    (INTERFACES, "ZIPML_REGISTER(return)", "ZIPML_REGISTER(delay)", "delay has the modes"),
    (TOP, "void zipml_sgd(", "void zipml_train(", "not the top"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new", "message"), MISTAKES, ids=[f"{m[0]}: {m[3]}" for m in MISTAKES]
)
def test_a_mistake_shows(name: str, old: str, new: str, message: str) -> None:
    assert old in TEXTS[HLS / name]
    texts = {**TEXTS, HLS / name: TEXTS[HLS / name].replace(old, new, 1)}
    known = macros(*texts.values())
    # a macro's mistake shows where it is used
    judged = SOURCES if macros(TEXTS[HLS / name]) else [HLS / name]
    found = [problem for path in judged for problem in problems(texts[path], top_of(path), known)]
    assert any(message in problem for problem in found), found


def test_spaces_and_continued_lines_are_read() -> None:
    text = "void f(int a[4]) {\n  #pragma HLS ARRAY_PARTITION variable = a \\\n    dim = 2\n}\n"
    assert problems(text) == ["line 2: array_partition: a has 1 dimensions, not 2"]
    assert uses(text)[0].options == {"variable": "a", "dim": "2"}


def test_macros_are_read() -> None:
    """Over several lines and levels, with arguments as text and as what they stand for."""
    text = """
#define TEXT(text) _Pragma(#text)
#define PRAGMA(options) TEXT(HLS options)
#define FACTOR 4
#define EACH(WHAT) WHAT(a) WHAT(b)
#define WHOLE(name) PRAGMA(ARRAY_PARTITION variable=name type=complete)
void f(int a[4], int b[4], int c[8]) {
  EACH(WHOLE)
  PRAGMA(ARRAY_PARTITION variable=c
         type=cyclic factor=FACTOR)
  TEXT(HLS ARRAY_RESHAPE variable=c type=block factor=FACTOR)
}
"""
    found = uses(text, macros(text))
    assert [(use.line, use.options["variable"]) for use in found] == [
        (8, "a"), (8, "b"), (9, "c"), (11, "c"),
    ]  # fmt: skip
    assert [use.options.get("factor") for use in found] == [None, None, "4", "FACTOR"]
    assert problems(text, "", macros(text)) == ["line 11: array_reshape: factor was 'FACTOR'"]
    assert problems(text) == []
