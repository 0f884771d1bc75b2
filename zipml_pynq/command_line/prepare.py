"""``zipml prepare``: samples packed into a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from zipml_pynq.command_line.group import zipml
from zipml_pynq.command_line.options import FILE, Bits, common_options, row_file, rows_options
from zipml_pynq.command_line.output import (
    bytes_bar,
    facts_of_packed,
    report,
)
from zipml_pynq.constants import WORD_BITS
from zipml_pynq.data.draws import SAMPLINGS
from zipml_pynq.data.files import check_target
from zipml_pynq.data.layout import BITPLANES, FLOAT32, REFETCH, WIDE, most_columns
from zipml_pynq.data.missing import Means, filled
from zipml_pynq.data.names import Names
from zipml_pynq.data.pack import LEVEL_CHOICES, pack
from zipml_pynq.data.pack_file import pack_file
from zipml_pynq.data.streams import RowFile
from zipml_pynq.errors import ArgumentError


@zipml.command()
@click.argument("source", metavar="INPUT", type=FILE)
@click.argument("output", type=FILE)
@rows_options
@click.option("--bits", type=Bits(), default="4", show_default=True, help="Precisions to store.")
@click.option("--sampling", type=click.Choice(SAMPLINGS), help="Dithers to store [double].")
@click.option("--dithers", type=int, help="Of --sampling independent, 2 to 8.")
@click.option(
    "--levels",
    type=click.Choice(LEVEL_CHOICES),
    default="uniform",
    show_default=True,
    help="Fitted ones take all samples in memory.",
)
@click.option(
    "--value-format",
    type=click.Choice([BITPLANES, FLOAT32, REFETCH, WIDE]),
    default=BITPLANES,
    show_default=True,
)
@click.option(
    "--word-bits",
    type=click.Choice([str(bits) for bits in WORD_BITS]),
    help="Of the device's memory port [64, or more where samples are too wide for that].",
)
@click.option("--batch", type=int, help="Samples a batch [16, or fewer where no more fit].")
@click.option(
    "--missing",
    type=click.Choice(["refuse", "mean", "drop"]),
    default="refuse",
    show_default=True,
    help="A missing number is an error, its column's mean, or has its row left out.",
)
@click.option("--no-intercept", is_flag=True, help="Leave out the feature that is always 1.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all draws.")
@common_options
def prepare(
    source: str,
    output: str,
    bits: tuple[int, ...],
    sampling: str | None,
    dithers: int | None,
    levels: str,
    value_format: str,
    word_bits: str | None,
    batch: int | None,
    no_intercept: bool,
    seed: int,
    as_json: bool,
    progress: bool | None,
    **rows: Any,
) -> None:
    """Pack the samples of INPUT (- for standard input) into the file OUTPUT.

    INPUT is LIBSVM, a table of text, .npz, .npy, Parquet or Arrow. It is read twice, or three
    times, a few megabytes at a time, so it may be larger than memory; standard input is copied to a
    temporary file for that. Rows keep their order: shuffle a file that is sorted.
    """
    start = time.perf_counter()
    check_target(output)
    options: dict[str, Any] = {
        "sampling": sampling,
        "dithers": dithers,
        "value_format": value_format,
        "word_bits": None if word_bits is None else int(word_bits),
        "batch": batch,
        "intercept": not no_intercept,
        "seed": seed,
    }
    if value_format != FLOAT32:
        options["bits"] = bits
    with ExitStack() as stack:
        most = most_columns(not no_intercept, value_format, options["word_bits"])
        file = row_file(source, rows, most=most).spooled(stack)
        fitted = levels != "uniform"
        samples = _Samples(file, rows["missing"] == "mean")
        passes = samples.passes + (1 if fitted else 2)
        samples.file = stack.enter_context(bytes_bar(file, passes, progress, "prepare"))
        options["names"] = samples.names()
        if fitted:
            X, y = _whole(samples.blocks())
            packed = pack(X, y, levels=levels, **options)
            packed.save(output)
        else:
            packed = pack_file(samples.blocks, output, **options)
    facts = facts_of_packed(packed, output)
    report({**facts, "seconds": time.perf_counter() - start}, as_json)


class _Samples:
    """The blocks of a file that must have labels, as packing takes them."""

    def __init__(self, file: RowFile, mean: bool) -> None:
        self.file = file
        _, y = next(file.blocks())
        if y is None:
            raise ArgumentError(f"INPUT was '{file.shown}', which has no labels")
        self._mean = mean
        self._text = y.dtype.kind == "U"
        self._classes: list[str] = []
        self._means: NDArray | None = None

    @property
    def passes(self) -> int:
        """How often the file is read before it is packed."""
        return int(self._mean or self._text)

    def names(self) -> Names:
        """What columns, label and classes are called; collects classes and means."""
        names = self.file.columns_named()
        if not self.passes:
            return names
        means, classes = Means(), set[str]()
        for X, y in self.file.blocks():
            if self._mean:
                means.update(X)
            if self._text and y is not None:
                classes.update(np.unique(y).tolist())
        if self._mean:
            self._means = means.means()
            if np.isnan(self._means).any():
                column = int(np.isnan(self._means).argmax())
                raise ArgumentError(
                    f"INPUT was '{self.file.shown}', whose column {column + 1} of the samples has "
                    "no number and so no mean; --ignore leaves columns out"
                )
        if not self._text:
            return names
        self._classes = sorted(classes)
        return Names(names.features, names.label, tuple(self._classes))

    def blocks(self) -> Iterator[tuple[Any, NDArray]]:
        """Samples without gaps, and labels that are numbers."""
        for X, y in self.file.blocks():
            if self._means is not None:
                X = filled(X, self._means)
            assert y is not None
            if self._text:
                y = np.searchsorted(self._classes, y).astype(np.float64)
            elif np.isnan(y).any():
                raise ArgumentError(
                    f"INPUT was '{self.file.shown}', in which a label is missing; --missing drop "
                    "leaves its row out"
                )
            yield X, y


def _whole(blocks: Iterator[tuple[Any, NDArray]]) -> tuple[Any, NDArray]:
    """All samples of a file, and their labels."""
    from scipy.sparse import csr_matrix, issparse, vstack

    both = list(blocks)
    labels = np.concatenate([y for _, y in both])
    parts = [X for X, _ in both]
    if not issparse(parts[0]):
        return np.concatenate(parts), labels
    width = max(X.shape[1] for X in parts)
    for X in parts:
        X.resize(X.shape[0], width)
    return csr_matrix(vstack(parts)), labels
