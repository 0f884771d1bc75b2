"""Figures 4 and 11: least squares and LS-SVM at few bits, end to end; figure 6: batches of 256."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from studies.paper.common import Claim, Low, Runs, problem, shown

SETS = ("Synthetic 100", "cod-rna", "gisette")
CONTENDERS = (
    *(Low(bits) for bits in (3, 4, 5, 6)),
    Low(3, fresh=True),
    Low(4, fresh=True),
    *(Low(bits, "single") for bits in (3, 4)),
    *(Low(bits, "nearest") for bits in (3, 4)),
    *(Low(bits, model_bits=8, gradient_bits=8) for bits in (3, 4)),
)
BATCHES = tuple(Low(3, batch=batch, fresh=fresh) for batch in (16, 256) for fresh in (False, True))


def study() -> dict[str, Any]:
    """Every contender on every set; the batches on Synthetic 100."""
    rows = []
    for name in SETS:
        runs = Runs(problem(name))
        jobs = [*CONTENDERS, *(BATCHES[2:] if name == SETS[0] else ())]  # 16 is among the others
        compared = [runs.compare(low) for low in tqdm(jobs, desc=name, unit="run")]
        rows.append(
            {
                "set": name,
                "problem": runs.problem.shown,
                "loss": runs.problem.loss,
                "epochs": runs.problem.epochs,
                "float32": {batch: runs.float32(batch) for batch in {low.batch for low in jobs}},
                "rows": compared,
            }
        )
    return {"problems": rows}


def _row(report: dict[str, Any], name: str, low: Low) -> dict[str, Any]:
    found = next(r for r in report["problems"] if r["set"] == name)
    return next(
        r for r in found["rows"] if r["name"] == low.name and r["low"]["batch"] == low.batch
    )


def _both(row: dict[str, Any]) -> str:
    return f"{shown(row['same_step'])} ({shown(row['best_step'])})"


def claims(report: dict[str, Any]) -> list[Claim]:
    """Of figures 4, 11 and 6."""
    found = []
    for name in SETS:
        own = next(r for r in report["problems"] if r["set"] == name)
        parts, near = [], 0
        for low in (Low(3), Low(4), Low(3, fresh=True), Low(4, fresh=True), Low(5), Low(6)):
            row = _row(report, name, low)
            parts.append(f"{low.name}: {_both(row)}")
            near += row["best_step"] is not None and row["best_step"] < 0.02
        ends = _row(report, name, Low(4, model_bits=8, gradient_bits=8))
        few = [_row(report, name, low)["best_step"] for low in (Low(3), Low(4))]
        holds = all(gap is not None and gap < 0.02 for gap in few)
        drawn = [_row(report, name, Low(bits, fresh=True))["best_step"] for bits in (3, 4)]
        redrawn = all(gap is not None and gap < 0.02 for gap in drawn)
        found.append(
            Claim(
                "4, 11",
                f"{name}: 3 and 4 bits, double sampled, converge to the solution of 32 bits",
                own["problem"] + f", {own['epochs']} epochs, batch 16",
                "; ".join(parts) + f"; with model and gradient at 8 bits, 4: {_both(ends)}",
                "yes" if holds else "in part" if redrawn or near else "no",
                "within 2 % of float32's loss at the best step"
                if holds
                else "drawn once, the noise of one draw is part of the problem that is solved; "
                "fresh draws or a smaller step take it away"
                if redrawn or near
                else "few bits leave noise that these steps do not average out",
            )
        )
    small, large = (_row(report, SETS[0], Low(3, batch=b, fresh=True)) for b in (16, 256))
    once = [_row(report, SETS[0], Low(3, batch=b)) for b in (16, 256)]
    ok = all(r["best_step"] is not None and r["best_step"] < 0.05 for r in (small, large))
    found.append(
        Claim(
            "6",
            "3 bits converge with mini-batches of 16 and of 256",
            next(r for r in report["problems"] if r["set"] == SETS[0])["problem"],
            f"fresh draws: 16: {_both(small)}; 256: {_both(large)}; drawn once: 16: "
            f"{_both(once[0])}; 256: {_both(once[1])}",
            "yes" if ok else "in part",
            "each batch beside float32 at the same batch",
        )
    )
    return found
