"""Counts of room and of time against a synthesis: Yosys on the units that work every cycle.

Written here as the operators that the counts assume, for 16 lanes, since each is linear in them but
for the last levels of a tree; synthesized for xc7 (PYNQ-Z2). docs/boards.md has the numbers of 64
lanes. Arrival times are of cells alone, without wires.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from studies.room import LOGIC, Cost, add, multiply, mux, signed, times, total, tree
from zipml_pynq.devices.bitstreams import TARGETS

pytestmark = pytest.mark.skipif(shutil.which("yosys") is None, reason="no yosys here")

LANES = 16
WIDE = LOGIC["pynq-z2"][3]


def dot_products(lanes: int) -> str:
    """Model entries by the bits' signs, an adder tree with registers, a sum of 55 bits."""
    lines = [
        f"module unit(input clk, input [{lanes - 1}:0] bits, input [{32 * lanes - 1}:0] model,",
        "            input first, output reg signed [54:0] sum);",
    ]
    for i in range(lanes):
        lines += [
            f"  wire signed [31:0] m{i} = model[{32 * i + 31}:{32 * i}];",
            f"  reg signed [32:0] t0_{i};",
            f"  always @(posedge clk) t0_{i} <= bits[{i}] ? m{i} : -m{i};",
        ]
    level, width = 0, 33
    while lanes > 1:
        lanes //= 2
        for i in range(lanes):
            operands = f"t{level}_{2 * i} + t{level}_{2 * i + 1}"
            lines.append(
                f"  reg signed [{width}:0] t{level + 1}_{i}; "
                f"always @(posedge clk) t{level + 1}_{i} <= {operands};"
            )
        level, width = level + 1, width + 1
    lines += [f"  always @(posedge clk) sum <= (first ? 55'd0 : sum) + t{level}_0;", "endmodule"]
    return "\n".join(lines)


def sums(lanes: int) -> str:
    """A factor of 41 bits or its negative, added to a lane's sum of 48 bits, or begun with."""
    lines = [
        f"module unit(input clk, input [{lanes - 1}:0] bits, input signed [40:0] factor,",
        f"            input signed [40:0] negative, input opens, output [{48 * lanes - 1}:0] all);",
    ]
    for i in range(lanes):
        lines += [
            f"  reg signed [47:0] s{i}; assign all[{48 * i + 47}:{48 * i}] = s{i};",
            f"  wire signed [40:0] t{i} = bits[{i}] ? factor : negative;",
            f"  always @(posedge clk) s{i} <= $signed(opens ? 48'd0 : s{i}) + t{i};",
        ]
    return "\n".join([*lines, "endmodule"])


def corrected(lanes: int) -> str:
    """A sum of 48 bits, with its decay of 39 and then its correction of 32 bits."""
    lines = [
        f"module unit(input clk, input [{48 * lanes - 1}:0] sums,",
        f"            input [{39 * lanes - 1}:0] decays,",
        f"            input [{32 * lanes - 1}:0] corrections, output [{48 * lanes - 1}:0] all);",
    ]
    for i in range(lanes):
        lines += [
            f"  wire signed [47:0] a{i} = sums[{48 * i + 47}:{48 * i}];",
            f"  wire signed [38:0] b{i} = decays[{39 * i + 38}:{39 * i}];",
            f"  wire signed [31:0] c{i} = corrections[{32 * i + 31}:{32 * i}];",
            f"  reg signed [47:0] d{i}, e{i}; reg signed [31:0] f{i};",
            f"  assign all[{48 * i + 47}:{48 * i}] = e{i};",
            f"  always @(posedge clk) begin d{i} <= a{i} + b{i}; f{i} <= c{i};",
            f"    e{i} <= d{i} + (f{i} <<< 4); end",
        ]
    return "\n".join([*lines, "endmodule"])


def product(a: int, b: int) -> str:
    return (
        f"module unit(input clk, input signed [{a - 1}:0] a, input signed [{b - 1}:0] b,\n"
        f"            output reg signed [{a + b - 1}:0] p);\n"
        "  always @(posedge clk) p <= a * b;\nendmodule"
    )


def synthesized(source: str, folder: Path) -> Cost:
    """LUTs (carry chains go through them), flip-flops and DSPs."""
    (folder / "unit.v").write_text(source)
    script = "read_verilog unit.v; synth_xilinx -family xc7 -top unit; tee -o stat.json stat -json"
    subprocess.run(["yosys", "-q", "-p", script], cwd=folder, check=True, capture_output=True)
    text = (folder / "stat.json").read_text()
    cells = json.loads(text[text.index("{") :])["design"]["num_cells_by_type"]

    def count(kind: str) -> int:
        return sum(number for name, number in cells.items() if name.startswith(kind))

    return Cost(count("LUT"), count("FD"), count("DSP"))


@pytest.mark.parametrize(
    ("unit", "counted"),
    [
        (dot_products, total(times(LANES, signed(32)), tree(LANES, 33), add(55))),
        (sums, times(LANES, total(mux(41), add(48), mux(48)))),
        # and a register of the correction's, which waits for the decay
        (corrected, times(LANES, total(times(2, add(48)), Cost(0, 32)))),
    ],
)  # fmt: skip
def test_lanes_are_as_large_as_counted(
    unit: Callable[[int], str], counted: Cost, tmp_path: Path
) -> None:
    """LUTs within the third that docs/boards.md allows either way, flip-flops within 5 %."""
    found = synthesized(unit(LANES), tmp_path)
    assert found.luts == pytest.approx(counted.luts, rel=1 / 3)
    assert found.ffs == pytest.approx(counted.ffs, rel=0.05)
    assert found.dsps == counted.dsps == 0


@pytest.mark.parametrize(("a", "b"), [(32, 32), (16, 33)])
def test_products_take_the_dsps_that_are_counted(a: int, b: int, tmp_path: Path) -> None:
    assert synthesized(product(a, b), tmp_path).dsps == multiply(a, b, WIDE).dsps


def counters(ahead: bool) -> str:
    """What the dot side hands from pass to pass (hls/src/stages/dot_side.hpp).

    Ends of a row, of a pass over the batch and of a slot are flags that are known a pass ahead, of
    counters as wide as they have to be; or else sums and comparisons of 32 bits, one behind the
    other.
    """
    cell, sample, cycle, address = (7, 9, 16, 15) if ahead else (32, 32, 32, 32)
    ends = {
        "row_ends": ("cell", "cells"), "pass_ends": ("sample", "batch"),
        "slot_ends": ("cycle", "cycles"),
    }  # fmt: skip
    lines = [
        f"module unit(input clk, input [{cell - 1}:0] cells, input [{sample - 1}:0] batch,",
        f"            input [{cycle - 1}:0] cycles, input [{address - 1}:0] skip, stride,",
        f"            input runs, dots, output reg [{address - 1}:0] address);",
        f"  reg [{cell - 1}:0] cell; reg [{sample - 1}:0] sample; reg [{cycle - 1}:0] cycle;",
        f"  reg [{address - 1}:0] first; wire ends = runs && slot_ends;",
        f"  wire [{cell - 1}:0] next_cell = ends || dots && row_ends ? 0 : cell + dots;",
        f"  wire [{sample - 1}:0] next_sample = ends || dots && row_ends && pass_ends ? 0",
        "    : sample + (dots && row_ends);",
        f"  wire [{cycle - 1}:0] next_cycle = ends ? 0 : cycle + runs;",
        "  always @(posedge clk) begin",
        "    cell <= next_cell; sample <= next_sample; cycle <= next_cycle;",
        "    if (ends) begin first <= first + stride; address <= first + stride; end",
        "    else if (dots) address <= address + 1 + (row_ends && pass_ends ? skip : 0);",
        "  end",
    ]
    for flag, (counter, last) in ends.items():
        if ahead:
            lines.insert(3, f"  reg {flag};")
            lines.append(f"  always @(posedge clk) {flag} <= next_{counter} == {last};")
        else:
            lines.insert(3, f"  wire {flag};")
            lines.append(f"  assign {flag} = {counter} + 1'b1 == {last};")
    return "\n".join([*lines, "endmodule"])


def arrival(source: str, folder: Path) -> float:
    """Nanoseconds from a register to the next, for xc7, cells alone."""
    (folder / "unit.v").write_text(source)
    script = (
        "read_verilog unit.v; synth_xilinx -family xc7 -top unit -flatten -noiopad; "
        "read_verilog -lib -specify -overwrite +/xilinx/cells_sim.v; sta"
    )
    command = ["yosys", "-p", script]
    run = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    (found,) = re.findall(r"Latest arrival time in 'unit' is (\d+)", run.stdout)
    return int(found) / 1000


def test_what_passes_hand_on_is_ready_in_a_cycle(tmp_path: Path) -> None:
    """At the clock that is asked for: half of what HLS has of a cycle is left to wires."""
    period = 1e9 / TARGETS["pynq-z2"].board.clock
    budget = period * 0.88 / 2  # clock_uncertainty of 12 % in hls/run_hls.tcl
    assert arrival(counters(ahead=True), tmp_path) < budget
    assert arrival(sums(1), tmp_path) < budget
    assert arrival(counters(ahead=False), tmp_path) > budget
