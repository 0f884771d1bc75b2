"""What ``studies.defaults`` found, as tables."""

from __future__ import annotations

import statistics
from typing import Any

#: Points of accuracy, and R^2, that a mean or a median may lie below scikit-learn's.
POINTS, MEDIAN = 0.5, 0.005
#: How far below scikit-learn's a single table may lie without a warning.
TABLE_POINTS, TABLE_R2 = 3.0, 0.02
#: Ours, and scikit-learn's model that it is held against.
PAIRS = {
    "squared hinge": ("ZipMLClassifier", "LinearSVC"),
    "hinge": ("ZipMLClassifier, hinge", "LinearSVC, hinge"),
    "logistic": ("ZipMLClassifier, logistic", "LogisticRegression"),
    "least squares": ("ZipMLRegressor", "Ridge"),
}
#: Scikit-learn's SGD of the same loss.
SGD = {
    "squared hinge": "SGDClassifier",
    "hinge": "SGDClassifier",
    "logistic": "SGDClassifier, logistic",
    "least squares": "SGDRegressor",
}
#: Groups of tables, see :mod:`studies.tables`.
GROUPS = ("looked at", "seen", "kept apart")
#: What a warning must be, for it to be one about our result.
TELLING = ("ConvergenceWarning", "ZipmlWarning", "DivergenceError")

Report = dict[str, Any]


def mean(row: Report, model: str) -> float:
    """A model's score on a table."""
    return statistics.mean(row["models"][model]["score"])


def below(row: Report, kind: str) -> float:
    """How far ours lies below scikit-learn's, in their unit; an R2 below 0 counts as 0: no use."""
    ours, theirs = PAIRS[kind]
    score, own = mean(row, theirs), mean(row, ours)
    return max(score, 0.0) - max(own, 0.0)


def warned(row: Report, kind: str) -> list[str]:
    """What ours told, in any of the splits."""
    raised = {w for split in row["models"][PAIRS[kind][0]]["warnings"] for w in split}
    return sorted(raised.intersection(TELLING))


def chosen(report: Report, kind: str, group: str | None = None) -> list[Report]:
    """Tables of a kind, of a group or all."""
    rows = [row for row in report["tables"] if PAIRS[kind][0] in row["models"]]
    return [row for row in rows if group in (None, row["group"])]


def summary(report: Report, kind: str, group: str | None = None) -> Report:
    """Middle scores and differences over tables, and the tables that lie far below."""
    rows = chosen(report, kind, group)
    classify = kind != "least squares"
    middle = statistics.mean if classify else statistics.median
    limit = TABLE_POINTS / 100 if classify else TABLE_R2
    ours, theirs = PAIRS[kind]
    low = [row for row in rows if below(row, kind) > limit]
    return {
        "tables": len(rows),
        "ours": middle(mean(row, ours) for row in rows),
        "theirs": middle(mean(row, theirs) for row in rows),
        "difference": -middle(below(row, kind) for row in rows),
        "low": [row["name"] for row in low],
        "silent": [row["name"] for row in low if not warned(row, kind)],
        "warned": sum(bool(warned(row, kind)) for row in rows),
    }


def _shown(value: float, kind: str) -> str:
    if kind != "least squares":
        return f"{100 * value:.2f} %"
    return f"{value:.4f}" if value > -9.99 else "below -10"


def _difference(value: float, kind: str) -> str:
    shown = f"{100 * value:+.2f}" if kind != "least squares" else f"{value:+.4f}"
    return shown if float(shown) else shown[1:]


def compared(report: Report) -> list[tuple[str, str]]:
    """Kinds that were run, each with the model of scikit-learn that ours is held against."""
    return [(kind, theirs) for kind, (_, theirs) in PAIRS.items() if chosen(report, kind)]


def _summaries(report: Report) -> list[str]:
    lines = [
        "| | tables | group | ours | scikit-learn's | difference | lower by more than "
        f"{TABLE_POINTS:g} points or {TABLE_R2:g} | of these without a warning | with a warning |",
        "|---|---:|---|---:|---:|---:|---:|---|---:|",
    ]
    for kind, peer in compared(report):
        for group in (None, *GROUPS):
            if not chosen(report, kind, group):
                continue
            found = summary(report, kind, group)
            middle = "median R2" if kind == "least squares" else "mean accuracy"
            silent = ", ".join(found["silent"]) or "none"
            lines.append(
                f"| {kind}: {peer}, {middle} | {found['tables']} | {group or 'all'} "
                f"| {_shown(found['ours'], kind)} | {_shown(found['theirs'], kind)} "
                f"| {_difference(found['difference'], kind)} "
                f"| {len(found['low'])} | {silent} | {found['warned']} |"
            )
    return lines


def _verdicts(report: Report) -> list[str]:
    lines = []
    for kind, peer in compared(report):
        found = summary(report, kind)
        classify = kind != "least squares"
        limit = POINTS / 100 if classify else MEDIAN
        middle = "met" if found["difference"] >= -limit else "not met"
        unit = f"{POINTS:g} points in the mean" if classify else f"{MEDIAN:g} of R2 in the median"
        one = f"{TABLE_POINTS:g} points" if classify else f"{TABLE_R2:g} of R2"
        silent = "not met" if found["silent"] else "met"
        lines.append(
            f"- {kind}, beside `{peer}`: no more"
            f" than {unit} below: **{middle}**; no table lower by more than {one} without a "
            f"warning: **{silent}**."
        )
    return lines


def _tables(report: Report, kind: str, group: str) -> list[str]:
    rows = chosen(report, kind, group)
    if not rows:
        return []
    ours, theirs = PAIRS[kind]
    head = ["table", "samples x columns", *(["classes"] if kind != "least squares" else [])]
    numbers = ["splits", "ours", theirs, "difference"]
    numbers += [SGD[kind], "epochs", "CPU s", f"{theirs}'s CPU s", "warned"]
    lines = [
        f"### {kind.capitalize()}, tables that were {group}",
        "",
        "| " + " | ".join([*head, *numbers]) + " |",
        "|---|" + "---:|" * (len(head) + len(numbers) - 1),
    ]
    for row in sorted(rows, key=lambda row: -below(row, kind)):
        own = row["models"][ours]
        cells = [row["name"], f"{row['samples']:,} x {row['columns']}"]
        cells += [str(row["classes"])] if kind != "least squares" else []
        cells += [str(len(own["score"])), _shown(mean(row, ours), kind)]
        cells += [_shown(mean(row, theirs), kind), _difference(-below(row, kind), kind)]
        cells.append(_shown(mean(row, SGD[kind]), kind))
        cells.append(f"{statistics.median(own['epochs']):g}")
        for model in (ours, theirs):
            cells.append(f"{statistics.median(row['models'][model]['seconds']):.2f}")
        cells.append(", ".join(w.removesuffix("Warning") for w in warned(row, kind)))
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _optimum(report: Report) -> list[str]:
    if not report["optimum"]:
        return ["No data set of this part was here."]
    lines = [
        "| data set | bits | training loss above the optimum | R2 | R2 of the optimum | epochs "
        "| CPU s | warned |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in report["optimum"]:
        told = ", ".join(w.removesuffix("Warning") for w in row["warnings"])
        lines.append(
            f"| {row['name']}, {row['samples']:,} x {row['columns']} | {row['bits']} "
            f"| {100 * row['above']:+.2f} % | {row['r2']:.4f} | {row['best_r2']:.4f} "
            f"| {row['epochs']} | {row['seconds']:.1f} | {told} |"
        )
    return lines


def _streams(report: Report) -> list[str]:
    batches = sorted({row["batch"] for row in report["streams"]})
    names = list(dict.fromkeys(row["name"] for row in report["streams"]))
    found = {(row["name"], row["batch"]): row for row in report["streams"]}
    head = ["table", "rows, of single ones"]
    for batch in batches:
        head += [f"SGD, {batch}", f"ours, {batch}"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for name in names:
        counts = sorted({found[name, batch]["rows"] for batch in batches}, reverse=True)
        cells = [name, ", ".join(f"{count:,}" for count in counts)]
        for batch in batches:
            row = found[name, batch]
            apart = 100 * (row["accuracy"] - row["sgd"])
            cells += [f"{100 * row['sgd']:.1f} %", f"{apart:+.1f} ± {100 * row['error']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def markdown(report: Report) -> str:
    """The report as tables."""
    where = report["machine"]
    lines = [
        "# Default fits",
        "",
        f"`make study-defaults`, one thread of an {where['cpu']} (load average {where['load']:.1f} "
        'at the start). `ZipMLClassifier()`, the same with "hinge" and "logistic", and '
        "`ZipMLRegressor()`, 4 bits, on raw columns; scikit-learn's models with their defaults, "
        "but for iterations, on standardized ones. A quarter of the rows is the test set, "
        "stratified by class; "
        f"{report['splits']} splits of fixed seeds (one where values times models are many), means "
        "over them; at most 20,000 rows a table. Epochs and CPU seconds of fit are medians over "
        "the splits; seconds of several classes are of all their models, epochs of the longest.",
        "",
        "Several classes are taken one against the rest by ours and by `LinearSVC`; with the "
        "logistic loss, by ours and by `LogisticRegression`, together (multinomial). The penalty "
        "is theirs (C or alpha of 1), of each column where a model is refined, in the mean over "
        "the columns where it is not (the hinge).",
        "",
        "## Summary",
        "",
        *_summaries(report),
        "",
        *_verdicts(report),
        "",
        "## Tables",
        "",
        "The worst first. On tables that were looked at the defaults were chosen. Those that were "
        "seen nobody looked at before the first run of this study; what it told led to the squared "
        "hinge and to optimal levels as defaults. Those that were kept apart nobody had looked at "
        "before this run. A difference is ours less scikit-learn's, in points of accuracy, or of "
        "R2, where less than 0 counts as 0: neither is of use.",
        "",
    ]
    for kind in PAIRS:
        for group in reversed(GROUPS):
            lines += _tables(report, kind, group)
    lines += [
        "## Above the optimum",
        "",
        "Training loss of `ZipMLRegressor(bits=..)` above that of the exact model of least "
        "squares, all rows. CPU seconds of fit.",
        "",
        *_optimum(report),
    ]
    if report["streams"]:
        lines += [
            "",
            "## Streams",
            "",
            "Test accuracy after `ZipMLClassifier().partial_fit` of all rows, in batches of so "
            "many, and of `SGDClassifier().partial_fit` on rows that a `StandardScaler` of the "
            "whole training set has scaled, which a stream does not have. Ours: how many points "
            "above or below; means over seeds and splits, with the standard error of the mean.",
            "",
            *_streams(report),
        ]
    return "\n".join(lines) + "\n"
