"""Tables of the study of deep nets: what its runs are called, which are compared and how."""

from __future__ import annotations

import statistics
from typing import Any

Case = tuple[str, int, str, str]
#: Runs by case and by seed.
Cases = dict[Case, dict[int, dict[str, Any]]]

#: (levels, count, rounding, per), by kind at five levels: their step is chosen first.
FIVE: tuple[Case, ...] = (
    ("full", 5, "nearest", "layer"),
    ("xnor", 5, "nearest", "layer"),
    ("optimal", 5, "nearest", "layer"),
    ("clipped", 5, "nearest", "layer"),
)
OPTIMAL5 = FIVE[2]
#: Other numbers of levels, with the step of their kind.
COUNTS: tuple[Case, ...] = tuple(
    (levels, count, "nearest", "layer")
    for count in (3, 9)
    for levels in ("xnor", "optimal", "clipped")
)
#: What takes it apart: seed 0, five levels, the step of their kind (uniform: optimal's).
MORE: tuple[Case, ...] = (
    ("uniform", 5, "nearest", "layer"),
    ("xnor", 5, "stochastic", "layer"),
    ("optimal", 5, "stochastic", "layer"),
    ("clipped", 5, "stochastic", "layer"),
    ("xnor", 5, "nearest", "map"),
    ("optimal", 5, "nearest", "map"),
    ("clipped", 5, "nearest", "map"),
)
#: Steps that the best is chosen from.
RATES = (0.02, 0.03, 0.05)
HELD_OUT = 5_000
MEASURES = ("nearest", "stochastic", "outside", "ends", "gain")
NAMES = {
    "full": "full precision",
    "xnor": "XNOR",
    "optimal": "Optimal",
    "clipped": "Clipped",
    "uniform": "Uniform",
}


def title(levels: str, count: int) -> str:
    """ "Optimal5", say."""
    return NAMES[levels] if levels == "full" else f"{NAMES[levels]}{count}"


def case_of(settings: dict[str, Any]) -> Case:
    """What tells the rows of the tables apart."""
    return settings["levels"], settings["count"], settings["rounding"], settings["per"]


def by_case(rows: list[dict[str, Any]], rate: float | None = None) -> Cases:
    """Rows by case, in the order of the tables, and by seed: with one first step, or the best."""
    found: Cases = {case: {} for case in (*FIVE, *COUNTS, *MORE)}
    for row in rows:
        s = row["settings"]
        if s["rate"] == (rate or best_rate(rows, case_of(s))):
            found[case_of(s)][s["seed"]] = row
    return {case: dict(sorted(runs.items())) for case, runs in found.items() if runs}


def accuracy(row: dict[str, Any]) -> float:
    """Of the test pictures at the end, in percent."""
    return 100 * row["history"][-1]["accuracy"]


def best_rate(rows: list[dict[str, Any]], case: Case) -> float:
    """The first step after which seed 0 does best on held-out data, of those that were tried.

    That is the step of its kind at five levels for a case of which nothing was run yet.
    """
    levels, *_ = case
    kind = next(five for five in FIVE if five[0] == ("optimal" if levels == "uniform" else levels))
    tried = [row for row in rows if row["settings"]["seed"] == 0]
    for which in (case, kind):
        found = [row for row in tried if case_of(row["settings"]) == which]
        if found:
            return max(found, key=lambda row: row["held_out"])["settings"]["rate"]
    raise LookupError(f"nothing was run of {kind}")


def above(runs: dict[int, Any], others: dict[int, Any]) -> list[float]:
    """Points of accuracy of runs above others with the same seed."""
    return [accuracy(runs[s]) - accuracy(others[s]) for s in runs if s in others]


def spread(values: list[float], sign: str = "") -> str:
    """Mean and, where there are several, sample standard deviation."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):{sign}.2f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.2f}"


def steps_table(rows: list[dict[str, Any]]) -> list[str]:
    """First steps that were tried with five levels."""
    lines = [
        "| weights | first step | held-out accuracy, % | test accuracy, % | chosen |",
        "|---|---:|---:|---:|---|",
    ]
    for row in rows:
        tried = row["settings"]
        if case_of(tried) in FIVE and tried["seed"] == 0:
            chosen = tried["rate"] == best_rate(rows, case_of(tried))
            lines.append(
                f"| {title(tried['levels'], tried['count'])} | {tried['rate']} | "
                f"{100 * row['held_out']:.2f} | {accuracy(row):.2f} | {'yes' if chosen else ''} |"
            )
    return lines


def accuracy_table(cases: Cases) -> list[str]:
    """Test accuracy of all that was run."""
    full = cases.get(FIVE[0], {})
    lines = [
        "| weights | rounding | levels for each | test accuracy, % | above full precision, points "
        "| training loss | runs |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for case, runs in cases.items():
        levels, count, rounding, per = case
        plain = levels == "full"
        loss = statistics.mean(row["history"][-1]["loss"] for row in runs.values())
        lines.append(
            f"| {title(levels, count)} | {'' if plain else rounding} | {'' if plain else per} | "
            f"{spread([accuracy(row) for row in runs.values()])} | "
            f"{'' if plain else spread(above(runs, full), '+')} | {loss:.3f} | {len(runs)} |"
        )
    return lines


def comparison(rows: list[dict[str, Any]]) -> list[str]:
    """Each kind of levels above XNOR's, with its own best step and at equal ones."""
    lines = [
        "Points above XNOR with as many levels, the same rounding and seed:",
        "",
        "| weights | rounding | levels for each | first steps | points above XNOR | seeds above |",
        "|---|---|---|---|---:|---:|",
    ]
    compared = [("each its best", by_case(rows))]
    compared += [(f"both {rate}", by_case(rows, rate)) for rate in RATES]
    for steps, found in compared:
        for (levels, count, rounding, per), runs in found.items():
            points = above(runs, found.get(("xnor", count, rounding, per), {}))
            if levels not in ("full", "xnor") and points:
                lines.append(
                    f"| {title(levels, count)} | {rounding} | {per} | {steps} | "
                    f"{spread(points, '+')} | {sum(p > 0 for p in points)} of {len(points)} |"
                )
    return lines


def rounding_table(cases: Cases) -> list[str]:
    """What rounding does to the weights."""
    lines = [
        "What rounding does to the trained weights, means over the quantized layers and seeds: "
        "squared error over the weights' mean square, of rounding to the nearest level and of "
        "stochastic rounding; share of weights beyond the levels, and of those rounded to the "
        "first or the last level; root mean square of the rounded "
        "weights over that of the weights.",
        "",
        "| weights | trained with | levels for each | error, nearest | error, stochastic | beyond "
        "| on the ends | size |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for (levels, count, rounding, per), runs in cases.items():
        layers = [layer for row in runs.values() for layer in row["layers"]]
        if layers:
            mean = {k: statistics.mean(layer[k] for layer in layers) for k in MEASURES}
            lines.append(
                f"| {title(levels, count)} | {rounding} | {per} | {mean['nearest']:.3f} | "
                f"{mean['stochastic']:.3f} | {100 * mean['outside']:.1f} % | "
                f"{100 * mean['ends']:.1f} % | {mean['gain']:.2f} |"
            )
    return lines


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    rows, where = report["rows"], report["machine"]
    s = rows[0]["settings"]
    cases = by_case(rows)
    lines = [
        "# Deep nets with weights on few levels",
        "",
        f"`make {report['target']}` on {where['cpu']}, torch {where['torch']}. CIFAR-10"
        + (" out of JPEG files" if rows[0]["source"] == "jpeg" else "")
        + f" ({rows[0]['pictures']:,} training pictures), Caffe's `cifar10_quick`, {s['epochs']} "
        f"epochs of SGD, batch {s['batch']}, step falling to 0 along a cosine, "
        f"momentum {s['momentum']}, weight decay {s['decay']}, "
        + ("pictures mirrored at random, " if s["mirror"] else "no augmentation, ")
        + ("products in bfloat16 while training; " if s["bfloat16"] else "in float32; ")
        + "tested in float32 at the end, rounded to the nearest level. First and last layer in "
        f"full precision; levels chosen anew every {s['refresh']} steps. Mean ± standard deviation "
        "over seeds; differences are between runs of the same seed. The first step is the best "
        f"of {', '.join(map(str, RATES))} for each kind of levels, by seed 0 on {HELD_OUT:,} "
        "training pictures that are held out:",
    ]
    tables = steps_table(rows), accuracy_table(cases), comparison(rows), rounding_table(cases)
    lines += [line for table in tables for line in ("", *table)]
    return "\n".join(lines) + "\n"
