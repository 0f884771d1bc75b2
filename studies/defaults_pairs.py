"""``make study-defaults-auto`` and ``study-defaults-levels``: two choices of a default, in pairs.

``auto``: bits="auto", 2 bits refined, beside the default of 4 bits refined. ``levels``: the uniform
grid, which is the default where rows are refined, beside optimal levels. On the public tables of
the study of defaults, its splits and seeds, estimators alike but for that. Bytes are those that
fits read: planes by the device, and the raw rows, at four bytes a value, by the host's true
gradients. Results: ``studies/results/defaults_auto`` and ``defaults_levels``, JSON and Markdown.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks.common import parser_of, publish
from studies.defaults import LARGE, SPLITS, TEST_SHARE, fitted, wanted
from studies.defaults_report import GROUPS, TABLE_POINTS, TABLE_R2, TELLING
from studies.tables import CHOSEN_ON, KEPT_APART, SEEN, Table
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.objective import BEFORE_ROUNDS
from zipml_pynq.learn.regressor import ZipMLRegressor

#: Fits of a split; the times are the least of them, so that neither way is the first.
TIMES = 2
#: Groups of tables by values, from which fits take long.
SIZES = (0, 10_000, 100_000)
Report = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two ways to fit: what they are called, what estimators are told, and what is said of them."""

    of: str
    first: str
    second: str
    options: tuple[dict[str, Any], dict[str, Any]]
    title: str
    told: str

    @property
    def names(self) -> tuple[str, str]:
        """What the report calls them."""
        return self.first, self.second.strip('"')

    @property
    def head(self) -> tuple[str, str]:
        """Of the table of :func:`line`."""
        cells = [f"{kind}, {self.first} | {self.second}" for kind in ("score", "warned", "epochs")]
        return (
            f"| loss | tables | | {cells[0]} | better / worse | by far | {cells[1]} | {cells[2]} "
            "| seconds | device bytes | all bytes | all seconds |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        )


AUTO = Pair(
    "auto",
    "4",
    '"auto"',
    ({"bits": 4}, {"bits": "auto"}),
    'bits="auto" beside 4 bits',
    'Estimators at their defaults, 4 bits refined, and with bits="auto", 2 bits refined',
)
GRID = Pair(
    "levels",
    "optimal",
    "uniform",
    ({"levels": "optimal"}, {"levels": "uniform"}),
    "The uniform grid beside optimal levels, both refined",
    "Estimators with optimal levels, and with the uniform grid, which is their default",
)
PAIRS = {pair.of: pair for pair in (AUTO, GRID)}


def makers(table: Table) -> dict[str, Callable[..., Any]]:
    """Estimators that refine, by loss."""
    if not table.classes:
        return {"least squares": ZipMLRegressor}
    return {name: partial(ZipMLClassifier, name) for name in ("squared_hinge", "logistic")}


def bytes_of(model: Any, samples: int, squares: bool) -> dict[str, int]:
    """Of the device, and of passes over raw rows: one for all models, those of the longest."""
    rounds = max(0, model.n_iter_ - BEFORE_ROUNDS)
    passes = 1 + rounds if squares else 2 + 2 * rounds
    features = model.normalization_.features
    return {"device": model.bytes_streamed_, "rows": 4 * samples * features * passes}


def compared(table: Table, pair: Pair) -> Report:
    """Both on every split of a table."""
    X, y = table.load()
    classes = len(np.unique(y)) if table.classes else 0
    found: dict[str, dict[str, list[Report]]] = {}
    splits = SPLITS if X.size * max(1, classes) <= LARGE else 1
    for split in range(splits):
        A, B, a, b = train_test_split(
            X, y, test_size=TEST_SHARE, random_state=split, stratify=y if classes else None
        )
        for name, make in makers(table).items():
            runs: dict[str, list[Report]] = {}
            for _ in range(TIMES):
                for way, options in zip(pair.names, pair.options, strict=True):
                    model = make(**options, random_state=split)
                    run = fitted(model, (A, a), (B, b))
                    runs.setdefault(way, []).append({**run, **bytes_of(model, len(a), not classes)})
            for way, both in runs.items():
                least = {**both[0], "seconds": min(run["seconds"] for run in both)}
                found.setdefault(name, {}).setdefault(way, []).append(least)
    return {
        "name": table.title,
        "group": table.group,
        "samples": X.shape[0],
        "columns": X.shape[1],
        "classes": classes,
        "losses": found,
    }


def mean(runs: list[Report], key: str) -> float:
    return statistics.mean(run[key] for run in runs)


def told(runs: list[Report]) -> bool:
    return any(w in TELLING for run in runs for w in run["warnings"])


def line(pair: Pair, name: str, group: str, rows: list[Report]) -> str:
    """One row of the table: a loss on some tables."""
    squares = name == "least squares"
    both = [tuple(row["losses"][name][way] for way in pair.names) for row in rows]

    def ratio(one: tuple[list[Report], ...], *keys: str) -> float:
        """How many times as much the second way takes."""
        first, second = (sum(mean(runs, key) for key in keys) for runs in one)
        return second / first

    # an R2 below 0 is of no use, as 0 is
    scores = [[max(0.0, mean(one[way], "score")) for one in both] for way in (0, 1)]
    middle = statistics.median if squares else statistics.mean
    shown = "{:.4f}" if squares else "{:.2%}"
    limit = TABLE_R2 if squares else TABLE_POINTS / 100
    differences = [b - a for a, b in zip(*scores, strict=True)]
    cells = [shown.format(middle(own)) for own in scores]
    cells.append(f"{sum(d > 0 for d in differences)} / {sum(d < 0 for d in differences)}")
    cells.append(f"{sum(d > limit for d in differences)} / {sum(d < -limit for d in differences)}")
    cells += [str(sum(told(one[way]) for one in both)) for way in (0, 1)]
    cells += [f"{statistics.mean(mean(one[way], 'epochs') for one in both):.1f}" for way in (0, 1)]
    for keys in (("seconds",), ("device",), ("device", "rows")):
        cells.append(f"{statistics.median(ratio(one, *keys) for one in both):.2f}")
    seconds = [sum(mean(one[way], "seconds") for one in both) for way in (0, 1)]
    cells.append(f"{seconds[1] / seconds[0]:.2f}")
    return f"| {name.replace('_', ' ')} | {group} | {len(rows)} | {' | '.join(cells)} |"


def markdown(pair: Pair, report: Report) -> str:
    lines = [
        f"# {pair.title}",
        "",
        f"`make study-defaults-{pair.of}`, one thread of an {report['machine']['cpu']}. "
        f"{pair.told}, on "
        "raw columns of the tables of the [study of defaults](defaults.md), with its splits. "
        "Scores are means over the splits, then means (least squares: medians) over tables. "
        f"Better and worse count tables, by more than {TABLE_POINTS:g} points or {TABLE_R2:g} of "
        f"R2 in the next column. Ratios are {pair.second} over {pair.first}, medians over tables "
        "but for the last column, which is all seconds over all seconds (CPU time, fits in turns, "
        f"the least of {TIMES}). Bytes read: planes by the device; with them raw rows by true "
        "gradients.",
        "",
        *pair.head,
    ]
    for name in ("squared_hinge", "logistic", "least squares"):
        rows = [row for row in report["tables"] if name in row["losses"]]
        if rows:
            lines.append(line(pair, name, "all", rows))
        for group in GROUPS:
            if own := [row for row in rows if row["group"] == group]:
                lines.append(line(pair, name, group, own))
        for least, below in zip(SIZES, [*SIZES[1:], np.inf], strict=True):
            own = [row for row in rows if least <= row["samples"] * row["columns"] < below]
            of = f"{least:,} values and more" if least else f"below {below:,} values"
            if own:
                lines.append(line(pair, name, of, own))
    return "\n".join([*lines, ""])


def main() -> None:
    parser = parser_of(__doc__, "studies")
    parser.add_argument("pair", choices=list(PAIRS), help="which two ways")
    parser.add_argument("--only", help="a part of the names of the tables to run")
    options = parser.parse_args()
    pair = PAIRS[options.pair]
    tables = [t for t in (*CHOSEN_ON, *SEEN, *KEPT_APART) if wanted(options.only, t.title)]
    with threadpool_limits(1):
        found = [compared(table, pair) for table in tqdm(tables, desc="tables")]
    report = {"machine": machine(), "tables": found}
    publish(options.output, f"defaults_{pair.of}", report, markdown(pair, report))


if __name__ == "__main__":
    main()
