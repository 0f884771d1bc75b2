"""What studies share beside what is in benchmarks/common.py."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.common import parser_of, publish
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.errors import ZipmlWarning


def emulated(packed: PackedDataset) -> Any:
    """Overlay and driver of an emulated accelerator with room for a study's data set."""
    return load_overlay(
        "emulated",
        word_bits=packed.layout.word_bits,
        value_format=packed.layout.value_format,
        memory_bytes=1 << 28,
    )


def run_study(
    doc: str | None,
    name: str,
    problems: Callable[[], Iterable[Any]],
    study: Callable[[Any], dict[str, Any]],
    markdown: Callable[[list[dict[str, Any]]], str],
    plot: Callable[[list[dict[str, Any]], Path], None],
) -> None:
    """The command line of a study: its data sets, or some of them, and what comes out."""
    parser = parser_of(doc, "studies")
    parser.add_argument("--only", help="a part of the names of the data sets to run")
    options = parser.parse_args()
    # of steps that are too large, which are tried too
    warnings.simplefilter("ignore", ZipmlWarning)
    reports = [study(p) for p in problems() if not options.only or options.only in p.name]
    publish(options.output, name, reports, markdown(reports), plot)
