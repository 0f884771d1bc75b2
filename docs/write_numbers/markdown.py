"""How numbers are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from benchmarks.common import ROOT

#: A row of README.md: what, here, beside it, how it was found, the command that makes it.
Row = tuple[str, str, str, str, str]


def report(name: str) -> Any:
    """Results by their path: "studies/results/mnist"."""
    return json.loads((ROOT / f"{name}.json").read_text())


def table(head: Iterable[str], rows: Iterable[Iterable[str]], text: int = 1) -> str:
    """Markdown; the first ``text`` columns are words, the others numbers."""
    head = list(head)
    rule = "|" + "---|" * text + "---:|" * (len(head) - text)
    lines = ["| " + " | ".join(row) + " |" for row in (head, *map(list, rows))]
    return "\n".join([lines[0], rule, *lines[1:]])


def percent(share: float, digits: int = 1) -> str:
    """With its sign, and none on what rounds to 0."""
    shown = f"{100 * share:+.{digits}f}"
    return f"{shown.lstrip('+-') if not float(shown) else shown} %"


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.{0 if seconds >= 9.5e-3 else 1}f}"
