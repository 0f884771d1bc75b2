"""What benchmarks and studies share: data, machine, emulated device, how results are written."""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.errors import ZipmlWarning

ROOT = Path(__file__).resolve().parent.parent
#: Real data for the developers of this project; elsewhere synthetic data stand in.
DATA = Path(os.environ.get("ZIPML_DATA", ROOT.parent / "shared" / "data"))
#: The widest words hold the largest batches and tables.
WORD_BITS = 512


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the option that all have."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser


def publish(
    folder: Path,
    name: str,
    report: Any,
    text: str,
    picture: Callable[[Any, Path], None] | None = None,
) -> None:
    """Write a report as JSON, as tables and maybe as a picture; print the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    if picture is not None:
        picture(report, folder / f"{name}.png")
    print(text)


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
    parser = parser_of(doc)
    parser.add_argument("--only", help="a part of the names of the data sets to run")
    options = parser.parse_args()
    # of steps that are too large, which are tried too
    warnings.simplefilter("ignore", ZipmlWarning)
    reports = [study(p) for p in problems() if not options.only or options.only in p.name]
    publish(options.output, name, reports, markdown(reports), plot)
