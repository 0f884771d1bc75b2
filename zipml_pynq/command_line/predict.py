"""``zipml predict``: predictions of a model's file."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any, TextIO

import click
import numpy as np
from numpy.typing import NDArray

from zipml_pynq.command_line.group import zipml
from zipml_pynq.command_line.options import FILE, common_options, row_file, rows_options
from zipml_pynq.command_line.output import (
    bytes_bar,
    report,
)
from zipml_pynq.data.files import written
from zipml_pynq.data.missing import filled
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.models import LinearModel


@zipml.command()
@click.argument("model_path", metavar="MODEL", type=FILE)
@click.argument("source", metavar="INPUT", type=FILE)
@rows_options
@click.option(
    "--output", "-o", type=FILE, help="Write predictions to this file, not to standard output."
)
@click.option(
    "--missing",
    type=click.Choice(["refuse", "mean"]),
    default="refuse",
    show_default=True,
    help="A missing number is an error, or what its column was on average in training.",
)
@click.option("--probabilities", is_flag=True, help="Of every class, separated by commas.")
@common_options
def predict(
    model_path: str,
    source: str,
    output: str | None,
    probabilities: bool,
    as_json: bool,
    progress: bool | None,
    **rows: Any,
) -> None:
    """Predict the samples of INPUT (- for standard input), a line each.

    INPUT is LIBSVM, a table of text, .npz, .npy, Parquet or Arrow. Where it and the model have
    names of columns, samples are taken by name, and other columns are ignored. Samples are read
    and predictions written a few megabytes at a time. Where INPUT has labels, scores go to standard
    error. --json prints a summary with them in place of the predictions, which then go to --output
    or nowhere.
    """
    start = time.perf_counter()
    model = LinearModel.load(model_path)
    if probabilities and model.loss != "logistic":
        raise ArgumentError(
            f"--probabilities was given for the loss {model.loss!r}; allowed is 'logistic'"
        )
    file = row_file(
        source,
        rows,
        columns=model.normalization.columns,
        names=model.feature_names,
        label_name=model.label_name,
    )
    means = model.normalization.mid if rows["missing"] == "mean" else None
    scores = _Scores(model.classes is not None)
    with ExitStack() as stack:
        file = stack.enter_context(bytes_bar(file, 1, progress, "predict"))
        out: TextIO | None = None if as_json else sys.stdout
        if output == "-":
            out = sys.stdout
        elif output is not None:
            out = stack.enter_context(written(output))
        for X, y in file.blocks():
            if means is not None:
                X = filled(X, means)
            found = model.predict(X)
            if out is not None:
                lines = _lines(model.predict_proba(X) if probabilities else found)
                out.write("\n".join(lines) + "\n")
            scores.update(found, y)
    facts = scores.facts()
    if as_json:
        seconds = time.perf_counter() - start
        report({"rows": scores.rows, "output": output, **facts, "seconds": seconds}, True)
    elif facts:
        click.echo("  ".join(f"{name} {value:.6g}" for name, value in facts.items()), err=True)


def _lines(found: NDArray) -> list[str]:
    """A line of text for each row: numbers as they are read back, classes as they are called."""
    if found.ndim == 2:
        return [",".join(map(repr, row)) for row in found.tolist()]
    values = found.tolist()
    return values if found.dtype.kind == "U" else list(map(repr, values))


class _Scores:
    """How well predictions meet labels, row block by row block."""

    def __init__(self, classes: bool) -> None:
        self.classes = classes
        self.rows = self.labelled = 0
        self.right = 0
        self.shift = self.squares = self.total = self.errors = 0.0

    def update(self, found: NDArray, y: NDArray | None) -> None:
        self.rows += len(found)
        if y is None:
            return
        text = y.dtype.kind == "U"
        if text != (found.dtype.kind == "U"):
            return  # numbers beside names: nothing to compare
        known = y != "" if text else ~np.isnan(np.asarray(y, dtype=np.float64))
        found, y = found[known], y[known]
        if len(y) == 0:
            return
        if self.classes:
            self.right += int((found == y).sum())
            self.labelled += len(y)
            return
        y = np.asarray(y, dtype=np.float64)
        if self.labelled == 0:
            # sums of squares of numbers far from 0 would cancel
            self.shift = float(y[0])
        self.labelled += len(y)
        self.total += float((y - self.shift).sum())
        self.squares += float(((y - self.shift) ** 2).sum())
        self.errors += float(((found - y) ** 2).sum())

    def facts(self) -> dict[str, float]:
        if self.labelled == 0:
            return {}
        if self.classes:
            return {"accuracy": self.right / self.labelled}
        spread = self.squares - self.total**2 / self.labelled
        facts = {"rmse": (self.errors / self.labelled) ** 0.5}
        if spread > 0:
            facts["r2"] = 1 - self.errors / spread
        return facts
