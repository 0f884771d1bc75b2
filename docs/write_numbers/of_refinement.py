"""The tables of docs/refinement.md."""

from __future__ import annotations

from docs.write_numbers.markdown import report, table
from studies.defaults_pairs import AUTO, GRID, Pair, line

TARGETS = {"0.01": "to 1 %", "0.001": "to 0.1 %", "0.0001": "to 0.01 %"}
#: Ways whose times are shown.
TIMED = (
    "float32",
    "8 bits",
    "schedule 2, 4, 8",
    "2 bits refined by 8 bits",
    '2 bits refined by float32, bits="auto"',
    "4 bits refined by 8 bits",
    "4 bits refined by float32",
)


def spent() -> str:
    """Bits a value to targets."""
    rows = []
    for problem in report("studies/results/refinement")["problems"]:
        ways = problem["ways"]
        base = ways["float32"]["targets"]
        for name, way in ways.items():
            cells = []
            for target in TARGETS:
                got, of = way["targets"].get(target), base.get(target)
                if got is None:
                    cells.append("not reached")
                elif name == "float32" or of is None:
                    cells.append(f"{got['bits']:.0f}")
                else:
                    cells.append(f"{got['bits']:.0f} ({of['bits'] / got['bits']:.1f} x)")
            epochs = way["targets"].get("0.0001", {}).get("entries", "not reached")
            after = f"{100 * way['after']:.2g} %"
            rows.append([problem["name"], name, after, *cells, str(epochs)])
    titles = ["", "", "after 30 epochs", *TARGETS.values(), "epochs to 0.01 %"]
    return table(titles, rows, 2) + "\n"


def took() -> str:
    """CPU time to targets, without the choice of the step and with it."""
    rows = []
    for problem in report("studies/results/refinement")["problems"]:
        base = problem["ways"]["float32"]["targets"]
        for name in TIMED:
            way = problem["ways"][name]["targets"]
            cells = []
            for key in ("seconds", "with_choice"):
                for target in TARGETS:
                    got, of = way.get(target), base.get(target)
                    if got is None:
                        cells.append("not reached")
                        continue
                    cells.append(f"{1000 * got[key]:.3g}")
                    if of is not None and name != "float32":
                        cells[-1] += f" ({of[key] / got[key]:.1f} x)"
            rows.append([problem["name"], name, *cells])
    titles = ["", "", *TARGETS.values(), *(f"{to}, with choice" for to in TARGETS.values())]
    return table(titles, rows, 2) + "\n"


def _pairs(pair: Pair) -> str:
    """Both ways on all tables."""
    found = report(f"studies/results/defaults_{pair.of}")["tables"]
    lines = []
    for name in ("squared_hinge", "logistic", "least squares"):
        lines.append(line(pair, name, "all", [r for r in found if name in r["losses"]]))
    return "\n".join([*pair.head, *lines]) + "\n"


def auto_bits() -> str:
    """bits="auto" beside the default."""
    return _pairs(AUTO)


def levels() -> str:
    """The uniform grid beside optimal levels."""
    return _pairs(GRID)
