"""The kernels against tests/hls/rules.py, and mistakes that it has to find."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import ROOT
from tests.hls.pragmas import macros
from tests.hls.rules import (
    LANE_LOOPS,
    lane_problems,
    recurrence_problems,
    recurrences,
    region_problems,
    small_arrays,
)

HLS = ROOT / "hls"
SOURCES = sorted(path for folder in ("src", "include") for path in (HLS / folder).rglob("*.?pp"))
KERNEL = sorted((HLS / "src").rglob("*.hpp"))
TEXTS = {path: path.read_text() for path in SOURCES}


def constants(texts: dict[Path, str]) -> dict[str, int]:
    """Constants that are plain numbers."""
    every = re.findall(r"constexpr \w+ (k\w+) = (\d+);", "\n".join(texts.values()))
    return {name: int(value) for name, value in every}


def found_in(texts: dict[Path, str]) -> list[str]:
    known, numbers = macros(*texts.values()), constants(texts)
    found = []
    for path in KERNEL:
        found += region_problems(texts[path], known) if path.name == "top.hpp" else []
        found += recurrence_problems(texts[path], known) if path.parent.name == "stages" else []
        found += small_arrays(texts[path], known, numbers)
    for path in SOURCES:
        found += lane_problems(texts[path])
    return found


def test_kernels_keep_the_rules() -> None:
    assert found_in(TEXTS) == []


def test_every_loop_over_lanes_is_read() -> None:
    labels = [one for one in LANE_LOOPS for text in TEXTS.values() if f"{one}:\n" in text]
    assert labels == list(LANE_LOOPS)


def test_what_passes_hand_on_is_read() -> None:
    """The state of both sides, of turns, slots and the way in, in the files that write it."""
    known = macros(*TEXTS.values())
    found = [one for path in KERNEL for one in recurrences(TEXTS[path], known)]
    fields = {name for _, name, _ in found}
    assert len(found) > 40
    for name in ("dot.address", "dot.row_first", "update.row_address", "turn.norm", "slot.current",
                 "counts.saturations", "dot.recent_base", "fill.place"):  # fmt: skip
        assert name in fields


TOP, TRAIN = "src/top.hpp", "src/stages/train_slots.hpp"
DOT, UPDATE, TURNS, RUN = (
    f"src/stages/{n}.hpp" for n in ("dot_side", "update_side", "turns", "train_run")
)  # fmt: skip
MISTAKES = [
    # a memory of the caller in a process, as when the trainer did not own its model
    (TOP, "typename Format::levels_port_t levels,\n                  typename Format::full_port_t",
     "const int32_t levels[64],\n typename Format::full_port_t",
     "TrainRun touches levels"),
    (TOP, "ReadLabels(labels, r, g, block_labels)", "ReadLabels(planes, r, g, block_labels)",
     "planes is a port of ReadWords and ReadLabels"),
    (TOP, "CountCycles(marks, ", "CountCycles(block_labels, ", "marks has the users"),
    (TOP, "  #pragma HLS STABLE variable = g\n", "", "g is not stable"),
    (TOP, "  #pragma HLS DATAFLOW\n",
     "BLOCKS:\n  for (uint32_t i = 0; i < g.blocks; ++i) {\n  #pragma HLS DATAFLOW\n  }\n",
     "in a loop"),
    # what a pass hands to the next
    (DOT, "dot.address = dot.first_address;", "dot.address = dot.first_row * g.chunks;",
     "multiplies"),
    (UPDATE, "update.row_address = update.ring_cell;",
     "update.row_address = update.ring * g.slot_cells;", "multiplies"),
    (TRAIN, "norms, turn, counted);", "norms, turn, counts);", "counts from one pass"),
    (DOT, "dot.address += g.plane_words - g.batch_words;",
     "dot.address = dot.address + g.plane_words - g.batch_words + g.chunks - 1;", "chain"),
    # what has hundreds of ends
    (UPDATE, "copies[i].opens ? gradient_t(term)", "step.opens ? gradient_t(term)",
     "all lanes take step.opens"),
    (DOT, "model[at.entry.to_uint()]", "model[row]", "all lanes take row"),
    (TURNS, "if (at.next == other)", "if (next == other)", "all lanes take next"),
    ("src/zipml_sgd.cpp", "zipml::NoPort(), zipml::NoPort()", "nullptr, nullptr", "null pointer"),
    # an array that stays no memory
    (RUN, "  #pragma HLS ARRAY_PARTITION variable = norms type = complete dim = 1\n", "",
     "norms[kModelVersions] becomes registers"),
    (RUN, "  FillSide fill = ", "  uint32_t next_words[1] = {0};\n  FillSide fill = ",
     "next_words[1] becomes registers"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_a_mistake_shows(number: int) -> None:
    name, old, new, message = MISTAKES[number]
    assert old in TEXTS[HLS / name]
    found = found_in({**TEXTS, HLS / name: TEXTS[HLS / name].replace(old, new, 1)})
    assert any(message in problem for problem in found), found
