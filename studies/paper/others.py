"""Figures that older studies answer: 7b (``make study-deep``), 9 (``make study-nonlinear``)."""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks.common import ROOT
from studies import deep_report, nonlinear
from studies.paper.common import Claim, shown


def _report(name: str) -> Any:
    return json.loads((ROOT / "studies" / "results" / f"{name}.json").read_text())


def chebyshev() -> list[Claim]:
    """Figure 9 and the negative result behind it."""
    reports = _report("nonlinear")

    def gaps(name: str, bits: int, loss: str) -> list[float]:
        found = []
        for report in reports:
            own = report["losses"][loss]
            row = next(r for r in own["rows"] if (r["contender"], r["bits"]) == (name, bits))
            gap = nonlinear.gap(row, own["float32"])
            found.append(float("inf") if gap is None else gap)
        return found

    claims = []
    for loss in nonlinear.TRAINED:
        parts = {}
        for name, bits in (
            ("Chebyshev, degree 14", 5),
            ("Chebyshev, degree 14", 8),
            ("nearest, direct", 8),
            ("double, direct", 8),
            ("double, direct", 4),
        ):
            parts[name, bits] = gaps(name, bits, loss)
        words = "; ".join(
            f"{name}, {bits} bits: " + ", ".join(shown(g) for g in found)
            for (name, bits), found in parts.items()
        )
        poly = parts["Chebyshev, degree 14", 5]
        naive = parts["nearest, direct", 8]
        claims.append(
            Claim(
                "9",
                f"{loss}: Chebyshev at degree 15 on 4 + 4 bits converges, and naive rounding to 8 "
                "bits does as well (the negative result)",
                "degree 14 on 4 bits of base and a count of 15 samples in 4, "
                + ", ".join(r["name"] for r in reports),
                words,
                "yes" if max(poly) < 0.02 and max(naive) < 0.02 else "in part",
                "15 samples are what a count of 4 bits holds; by Chebyshev's recurrence in place "
                "of powers ([losses](losses.md#measured))",
            )
        )
    return claims


def deep() -> list[Claim]:
    """Figure 7b, as far as CPU time went."""
    rows = _report("deep")["rows"]
    cases = deep_report.by_case(rows)

    def accuracy(levels: str) -> float:
        runs = cases[levels, 5, "nearest", "layer"].values()
        return statistics.mean(deep_report.accuracy(row) for row in runs)

    epochs = rows[0]["settings"]["epochs"]
    minutes = statistics.mean(row["seconds"] for row in rows) / epochs * 40 / 60
    xnor, optimal, full = (accuracy(levels) for levels in ("xnor", "optimal", "full"))
    return [
        Claim(
            "7b",
            "Optimal5 beats XNOR5 on CIFAR-10, and comes near full precision, after 40 epochs",
            f"Caffe's cifar10_quick, {epochs} epochs of 45,000 pictures, each at its best step of "
            "those tried on held-out pictures, PyTorch on the CPU",
            f"full precision {full:.1f} %, XNOR5 {xnor:.1f} %, Optimal5 {optimal:.1f} % "
            "([deep nets](deep.md))",
            "yes" if optimal > xnor else "no",
            f"40 epochs were not run: one run of them takes about {minutes:.0f} minutes of a core, "
            "and the comparison 18 and more; `python -m studies.deep --epochs 40 --output "
            "build/deep_40` goes on where it was stopped",
        )
    ]


def built() -> list[Claim]:
    """What is a method and no figure."""
    return [
        Claim(
            "2.2",
            "k samples of a value cost log2 k bits",
            "`pack_counts`: 15 samples are 4 bits beside the base",
            "base and count are kept; any product of different samples is unbiased, exactly "
            "(`tests/data/test_counts.py`)",
            "yes",
            "expanded on the host before the kernel streams: its adder tree takes a cycle a sample "
            "wherever the bits come from, so the count saves memory and no time; a count of k has "
            "k + 1 values, so 16 samples are 5 bits",
        ),
        Claim(
            "Eq. 2, 3",
            "the proximal step closes an update",
            "l1, elastic net, box, ball",
            "`zipml_pynq.training.proximal`; ends at scikit-learn's ElasticNet "
            "(`tests/training/test_host.py`)",
            "yes",
            "the ball's norm is a sum over all entries, so it stays on the host",
        ),
    ]


def claims() -> list[Claim]:
    """All of them."""
    return [*chebyshev(), *deep(), *built()]
