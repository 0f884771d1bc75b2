"""The one table of claims: what each figure of the paper says, and what is found here."""

from __future__ import annotations

import json
from importlib import import_module

from benchmarks.common import ROOT
from studies.paper.common import Claim

RESULTS = ROOT / "studies" / "results" / "paper"
#: Modules with a study of their own, in the order of the paper.
FIGURES = (
    "tomography",
    "linear",
    "bits_needed",
    "end_to_end",
    "levels",
    "refetching",
    "rates",
    "speed",
)
HEAD = ("figure", "claim", "setting", "ours", "holds", "why")


def claims() -> list[Claim]:
    """Of all figures whose results are there, and of the studies that are older."""
    found: list[Claim] = []
    for name in FIGURES:
        path = RESULTS / f"{name}.json"
        if path.exists():
            found += import_module(f"studies.paper.{name}").claims(json.loads(path.read_text()))
    return sorted(
        found + import_module("studies.paper.others").claims(),
        key=lambda claim: [
            (int("".join(filter(str.isdigit, part)) or 99), part)
            for part in claim.figure.split(",")[0].split()[:1]
        ],
    )


def table() -> str:
    """Markdown."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(claim.cells()) + " |" for claim in claims()]
    return "\n".join(lines) + "\n"
