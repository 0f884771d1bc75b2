"""The pages that have numbers, and what writes or checks them."""

from __future__ import annotations

import argparse
import sys
from difflib import unified_diff
from pathlib import Path

import benchmarks.distributed
import studies.distributed
from benchmarks.common import ROOT
from docs.write_numbers import __doc__ as about
from docs.write_numbers.markdown import report, table
from docs.write_numbers.of_benchmarks import (
    CommandLine,
    Epoch,
    Fits,
    Loops,
    Packing,
    Search,
    Wheel,
    fuzz,
)
from docs.write_numbers.of_refinement import auto_bits, levels, spent, took
from docs.write_numbers.of_studies import (
    Convergence,
    Defaults,
    Distributed,
    EndToEnd,
    Levels,
    Losses,
    Mnist,
    Modelled,
    deep_table,
)
from studies import end_to_end, nonlinear, room, schedule, schedules, step, whole_values
from studies.paper import table as paper

BEGIN, END = "<!-- docs/write_numbers writes this table -->\n", "<!-- to here -->\n"
INTRODUCTION = """# Numbers

Each with the command that made it. **Emulated**: the accelerator's arithmetic, bit for bit,
computed here; such a number hardly depends on the machine. **Modelled**: cycles of the schedule, at
an assumed clock. **Measured**: on the machine that is named, and where a commit is, by that older
state of the code. Nothing was measured on a board. All rows, settings and curves are in the
[results](results.md), and `python -m docs.write_numbers` writes this page from them.
"""


def headline() -> list[list[str]]:
    """What each study and benchmark found, in few rows."""
    kinds = (
        *(Convergence, Defaults, Mnist, Losses, EndToEnd, Levels, Distributed),
        *(Modelled, Epoch, Search, Packing, CommandLine),
    )
    return [[*row[:4], f"`{row[4]}`"] for kind in kinds for row in kind().headline()]


def at_a_glance(rows: list[list[str]]) -> str:
    """Rows of the headline as a table."""
    return table(["", "here", "beside it", "", "made by"], rows, 5) + "\n"


def readme() -> str:
    """The table of README.md: six rows."""
    kinds = (Convergence, Defaults, Mnist, Levels, Modelled, Epoch)
    chosen = [kind().headline()[0][0] for kind in kinds]
    return at_a_glance([row for row in headline() if row[0] in chosen])


def numbers() -> str:
    """docs/numbers.md, which is all numbers."""
    kinds = (
        *(Convergence, Defaults, Modelled, Epoch, Mnist, Levels),
        *(Losses, EndToEnd, Distributed, Search, Packing, CommandLine),
    )
    first = f"## At a glance\n\n{at_a_glance(headline())}"
    return "\n".join([INTRODUCTION, first, *(kind().section() for kind in kinds)])


def distributed_tables() -> list[str]:
    """Those of docs/distributed.md: averaging, scale, and what was measured here."""
    study = report("studies/results/distributed")
    measured = benchmarks.distributed.text(report("benchmarks/results/distributed"))
    averaging = studies.distributed.averaging_table(study["averaging"])
    return [averaging + "\n", studies.distributed.scale_table(study["scale"]) + "\n", measured]


def tables() -> dict[str, list[str]]:
    """Tables of the other pages, in their order."""
    losses = nonlinear.summary(report("studies/results/nonlinear"))
    # the group that is left out has a table of its own
    gaps = end_to_end.gaps(report("studies/results/end_to_end"), end_to_end.FIXED)
    return {
        "README.md": [readme()],
        "docs/boards.md": [*room.tables()[:-1], whole_values.table(), room.units_table()],
        "docs/deep.md": [deep_table()],
        "docs/distributed.md": distributed_tables(),
        "docs/end_to_end.md": [EndToEnd().ranges(), "\n".join(gaps) + "\n"],
        "docs/refinement.md": [spent(), took(), auto_bits(), levels()],
        "docs/reliability.md": [fuzz()],
        "docs/estimators.md": [Fits().table()],
        "docs/installation.md": [Wheel().table()],
        "docs/losses.md": ["\n".join(losses) + "\n"],
        "docs/paper.md": [paper.table()],
        "docs/schedule.md": [schedule.table() + "\n"],
        "docs/speed.md": [Loops().table()],
        "docs/step.md": [
            "\n".join(schedules.rows(report("studies/results/schedules"), 20)) + "\n",
            step.table() + "\n",
        ],
    }


def fill(page: Path, found: list[str]) -> str:
    """The page with these tables at the places that are marked."""
    first, *rest = page.read_text().split(BEGIN)
    parts = [part.partition(END) for part in rest]
    if len(parts) != len(found) or not all(end for _, end, _ in parts):
        raise SystemExit(
            f"{page}: has {len(parts)} places that are marked, for {len(found)} tables"
        )
    filled = [BEGIN + new + END + after for new, (_, _, after) in zip(found, parts, strict=True)]
    return "".join([first, *filled])


def main() -> int:
    """Write what differs, or tell it."""
    parser = argparse.ArgumentParser(prog="python -m docs.write_numbers", description=about)
    parser.add_argument(
        "--check", action="store_true", help="tell what differs; 1 if anything does"
    )
    check = parser.parse_args().check
    pages = {name: fill(ROOT / name, found) for name, found in tables().items()}
    pages["docs/numbers.md"] = numbers()
    differs = False
    for name, new in pages.items():
        old = (ROOT / name).read_text()
        if new != old:
            differs = True
            lines = old.splitlines(), new.splitlines()
            print(*unified_diff(*lines, name, "what it is to be", n=0, lineterm=""), sep="\n")
            if not check:
                (ROOT / name).write_text(new)
    return int(check and differs)


if __name__ == "__main__":
    sys.exit(main())
