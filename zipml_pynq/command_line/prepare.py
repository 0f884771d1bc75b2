"""``zipml prepare``: samples packed into a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from zipml_pynq.command_line.group import zipml
from zipml_pynq.command_line.options import FILE, Bits, common_options, rows_options
from zipml_pynq.command_line.output import (
    bytes_bar,
    facts_of_packed,
    report,
)
from zipml_pynq.constants import WORD_BITS
from zipml_pynq.data.draws import SAMPLINGS
from zipml_pynq.data.layout import BITPLANES, FLOAT32, REFETCH
from zipml_pynq.data.pack import LEVEL_CHOICES, pack
from zipml_pynq.data.pack_file import pack_file
from zipml_pynq.data.streams import RowFile
from zipml_pynq.data.tensor_file import check_target
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
    type=click.Choice([BITPLANES, FLOAT32, REFETCH]),
    default=BITPLANES,
    show_default=True,
)
@click.option(
    "--word-bits",
    type=click.Choice([str(bits) for bits in WORD_BITS]),
    default="64",
    show_default=True,
    help="Of the device's memory port.",
)
@click.option("--batch", type=int, default=16, show_default=True, help="Samples a batch.")
@click.option("--no-intercept", is_flag=True, help="Leave out the feature that is always 1.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all draws.")
@common_options
def prepare(
    source: str,
    output: str,
    file_format: str,
    label: str | None,
    zero_based: bool,
    part: str,
    bits: tuple[int, ...],
    sampling: str | None,
    dithers: int | None,
    levels: str,
    value_format: str,
    word_bits: str,
    batch: int,
    no_intercept: bool,
    seed: int,
    as_json: bool,
    progress: bool | None,
) -> None:
    """Pack the samples of INPUT (LIBSVM, CSV or .npz; - for standard input) into the file OUTPUT.

    INPUT is read twice, a few megabytes at a time, so it may be larger than memory; standard input
    is copied to a temporary file for that. Rows keep their order: shuffle a file that is sorted.
    """
    start = time.perf_counter()
    check_target(output)
    options: dict[str, Any] = {
        "sampling": sampling,
        "dithers": dithers,
        "value_format": value_format,
        "word_bits": int(word_bits),
        "batch": batch,
        "intercept": not no_intercept,
        "seed": seed,
    }
    if value_format != FLOAT32:
        options["bits"] = bits
    with ExitStack() as stack:
        file = RowFile(source, file_format, label, zero_based, part=part).spooled(stack)
        fitted = levels != "uniform"
        file = stack.enter_context(bytes_bar(file, 1 if fitted else 2, progress, "prepare"))
        if fitted:
            X, y = _whole(file)
            packed = pack(X, y, levels=levels, **options)
            packed.save(output)
        else:
            packed = pack_file(_labelled(file), output, **options)
    facts = facts_of_packed(packed, output)
    report({**facts, "seconds": time.perf_counter() - start}, as_json)


def _labelled(file: RowFile) -> Callable[[], Iterator[tuple[Any, NDArray]]]:
    """The blocks of a file that must have labels."""

    def blocks() -> Iterator[tuple[Any, NDArray]]:
        for X, y in file.blocks():
            if y is None:
                raise ArgumentError(f"INPUT was '{file.shown}', which has no labels")
            yield X, y

    return blocks


def _whole(file: RowFile) -> tuple[Any, NDArray]:
    """All samples of a file, and their labels."""
    from scipy.sparse import csr_matrix, issparse, vstack

    blocks = list(_labelled(file)())
    labels = np.concatenate([y for _, y in blocks])
    parts = [X for X, _ in blocks]
    if not issparse(parts[0]):
        return np.concatenate(parts), labels
    width = max(X.shape[1] for X in parts)
    for X in parts:
        X.resize(X.shape[0], width)
    return csr_matrix(vstack(parts)), labels
