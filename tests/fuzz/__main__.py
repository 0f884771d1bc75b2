"""``make fuzz``: everything for minutes, and its figures."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from tests.fuzz import __doc__ as about
from tests.fuzz import files, guided, texts, wire
from zipml_pynq.accelerator.machine import machine

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Run and write ``results.json``."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=about)
    parser.add_argument("--seconds", type=float, default=60, help="of each kind of text")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    seconds, seed = arguments.seconds, arguments.seed
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "tables": texts.tables(seconds, seed, folder),
            "libsvm": texts.libsvm(seconds, seed, folder),
            "guided": guided.guided(seconds, seed, folder),
            "files": files.bytes_and_lengths(1, seed, folder),
            "headers": files.headers(seconds / 4, seed, folder),
            "wire": wire.wire(arguments.messages, arguments.connections, seed, folder),
        }
    about_machine = {key: machine()[key] for key in ("cpu", "cores")}
    how = {"seed": seed, "seconds": round(time.monotonic() - began), **about_machine}
    arguments.output.write_text(json.dumps({**how, **found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
