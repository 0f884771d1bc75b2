"""Figure 8: bits that are needed, by data set and by the number of features."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from studies.paper.common import NEAR, Claim, Low, Runs, problem

SETS = ("Synthetic 10", "Synthetic 100", "Synthetic 1000", "cadata", "cpusmall", "cod-rna")
BITS = range(2, 9)


def study() -> dict[str, Any]:
    """Losses above float32's by bits, drawn once and with fresh draws."""
    rows = []
    for name in SETS:
        runs = Runs(problem(name))
        jobs = [Low(bits, fresh=fresh) for fresh in (False, True) for bits in BITS]
        compared = [runs.compare(low) for low in tqdm(jobs, desc=name, unit="run")]
        rows.append({"set": name, "problem": runs.problem.shown, "rows": compared})
    return {"problems": rows}


def needed(rows: list[dict[str, Any]], fresh: bool, key: str) -> int | None:
    """Fewest bits from which on all losses are near."""
    own = {r["low"]["bits"]: r[key] for r in rows if r["low"]["fresh"] == fresh}
    least = None
    for bits in reversed(BITS):
        if own[bits] is None or own[bits] > NEAR:
            break
        least = bits
    return least


def claims(report: dict[str, Any]) -> list[Claim]:
    """Of figure 8, both panels."""
    found = {
        r["set"]: [
            needed(r["rows"], fresh, key)
            for fresh in (False, True)
            for key in ("same_step", "best_step")
        ]
        for r in report["problems"]
    }
    names = {r["set"]: r["problem"] for r in report["problems"]}

    def words(sets: list[str]) -> str:
        return "; ".join(
            f"{names[s]}: {found[s][0] or '>8'} ({found[s][1] or '>8'}), fresh draws "
            f"{found[s][2] or '>8'} ({found[s][3] or '>8'})"
            for s in sets
        )

    synthetic = [s for s in SETS if s.startswith("Synthetic")]
    others = [s for s in SETS if s not in synthetic]
    once = [found[s][1] or 9 for s in synthetic]
    return [
        Claim(
            "8 left",
            "5 or 6 bits are enough on every data set",
            "least squares, within 1 % of float32's loss from so many bits on",
            words(["Synthetic 100", *others]),
            "yes"
            if all((found[s][1] or 9) <= 6 for s in ["Synthetic 100", *others])
            else "in part",
            "at float32's step, and (in brackets) at the best step",
        ),
        Claim(
            "8 right",
            "more features need more bits",
            "Synthetic 10, 100, 1000",
            words(synthetic),
            "yes" if once[0] <= once[1] <= once[2] and once[0] < once[2] else "in part",
            "the noise of a dot product grows with the number of features, the loss per feature "
            "does not",
        ),
    ]
