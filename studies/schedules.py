"""Which schedule of the step ends nearest to the optimum, after a number of epochs that is known.

Least squares, uniform levels, data drawn once, batch 16, delay 1, steps of features but in the
first column: training loss above the exact optimum. Results: ``studies/results/schedules.json``
and ``schedules.md`` (``python -m studies.schedules``; minutes).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes

from benchmarks.common import data_file, parser_of, publish
from zipml_pynq import pack
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.accelerator.machine import machine
from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.training.make_plan import make_plan

BITS, EPOCHS = (4, 8), (5, 10, 20, 40)
WAYS: dict[str, dict[str, Any]] = {
    "inverse, one step for all": {"schedule": "inverse"},
    "inverse": {"schedule": "inverse", "feature_shifts": "auto"},
    "constant, mean of later half": {"schedule": "constant", "feature_shifts": "auto"},
    "linear": {"schedule": "linear", "feature_shifts": "auto"},
    "linear, blocks shuffled": {"schedule": "linear", "feature_shifts": "auto", "shuffle": True},
}


def problems() -> Iterator[tuple[str, NDArray, NDArray]]:
    """Names, samples and labels."""
    made = synthetic_regression()
    yield "Synthetic 100", made.X_train, made.y_train
    X, y = load_diabetes(return_X_y=True)
    yield "diabetes", X, y
    for name in ("cadata", "cpusmall"):
        path = data_file(name)
        if path is not None:
            with np.load(path) as archive:
                yield name, archive["X"].astype(np.float64), archive["y"].astype(np.float64)


def rows_of(name: str, X: NDArray, y: NDArray) -> Iterator[dict[str, Any]]:
    """A row for each precision and number of epochs."""
    packed = pack(X, y, bits=BITS)
    values = packed.normalization.transform(X).astype(np.float64)
    labels = packed.normalization.transform_labels(y)

    def loss(model: NDArray) -> float:
        return float(((values @ model - labels) ** 2).mean())

    best = loss(np.linalg.lstsq(values, labels, rcond=None)[0])
    driver = HostDriver()
    for bits in BITS:
        for epochs in EPOCHS:
            above = {}
            for way, options in WAYS.items():
                means = options["schedule"] == "constant"
                plan = make_plan(
                    packed, bits=bits, epochs=epochs, delay=1, **{"shuffle": means, **options}
                )
                result = driver.train(packed, plan, judge=False)
                later = result.history[epochs // 2 :].mean(axis=0)
                above[way] = loss(later if means else result.model) / best - 1
            yield {"data": name, "bits": bits, "epochs": epochs, "above": above}


def rows(report: dict[str, Any], epochs: int | None = None) -> list[str]:
    """The rows as lines of a table: all, or those of so many epochs."""
    lines = [
        f"| data | bits | epochs | {' | '.join(WAYS)} |",
        f"|---|---:|---:|{'---:|' * len(WAYS)}",
    ]
    for row in report["rows"]:
        if epochs in (None, row["epochs"]):
            above = " | ".join(f"{100 * row['above'][way]:.2f}" for way in WAYS)
            lines.append(f"| {row['data']} | {row['bits']} | {row['epochs']} | {above} |")
    return lines


def markdown(report: dict[str, Any]) -> str:
    """All rows, and how they came about."""
    lines = [
        "# Schedules of the step",
        "",
        f"`python -m studies.schedules`, emulated, {report['machine']['cpu']}. Training loss above "
        "the exact optimum, in percent. Least squares, uniform levels, drawn once, batch 16, delay "
        "1; with steps of features, but in the first column of numbers.",
        "",
        *rows(report),
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Study, write JSON and Markdown, print the table."""
    options = parser_of(__doc__, "studies").parse_args()
    found = [row for problem in problems() for row in rows_of(*problem)]
    report = {"machine": machine(), "rows": found}
    publish(options.output, "schedules", report, markdown(report))


if __name__ == "__main__":
    main()
