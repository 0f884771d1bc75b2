"""``python -m studies.paper [figure ...]``: run figures, all by default, and write the table."""

from __future__ import annotations

import json
import warnings
from importlib import import_module
from pathlib import Path

from benchmarks.common import parser_of
from studies.paper import __doc__ as about
from studies.paper.common import timed
from studies.paper.table import FIGURES, RESULTS
from zipml_pynq.errors import ZipmlWarning


def main() -> None:
    """Run what is asked for; each figure is written when it is done."""
    parser = parser_of(about, "studies")
    parser.add_argument("figures", nargs="*", choices=[[], *FIGURES], default=[], metavar="figure")
    options = parser.parse_args()
    # of steps that are too large, which are tried too
    warnings.simplefilter("ignore", ZipmlWarning)
    folder: Path = options.output / RESULTS.name
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.figures or FIGURES:
        report = timed(import_module(f"studies.paper.{name}").study)
        (folder / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
        for claim in import_module(f"studies.paper.{name}").claims(report):
            print(" | ".join(claim.cells()))


if __name__ == "__main__":
    main()
