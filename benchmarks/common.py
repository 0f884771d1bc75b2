"""What benchmarks and studies share: where data lie, how results are written."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: Real data for the developers of this project; elsewhere synthetic data stand in.
DATA = Path(os.environ.get("ZIPML_DATA", ROOT.parent / "shared" / "data"))
#: The widest words hold the largest batches and tables.
WORD_BITS = 512


def data_file(name: str) -> Path | None:
    """Where real data lie; None, and a word about it, if they are not here."""
    path = DATA / f"{name}.npz"
    if path.exists():
        return path
    print(f"{name}: skipped, {path.name} is not here (set ZIPML_DATA)")
    return None


def parser_of(doc: str | None, folder: str) -> argparse.ArgumentParser:
    """A parser with the option that all have; results go to their folder, benchmarks or studies."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--output", type=Path, default=ROOT / folder / "results")
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
