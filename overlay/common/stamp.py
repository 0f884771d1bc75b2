"""Writes down what a build is: the sources' git id, the board, and the MD5 of every file.

``zipml_pynq.bitstreams`` compares files with their stamp before they are loaded, because a
bitstream and a ``.hwh`` of two builds look like a crash. Needs no package, so that it runs on a
machine that has only the vendor's tools.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
from pathlib import Path


def git_id() -> str:
    """Commit of the sources, with ``-dirty`` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stamp", type=Path)
    parser.add_argument("--board", required=True)
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--word-bits", type=int, required=True)
    parser.add_argument("--clock-mhz", type=float, required=True)
    parser.add_argument("--reports", type=Path, required=True, help="folder of the build's reports")
    parser.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    reports = sorted(path for path in arguments.reports.rglob("*") if path.is_file())
    stamp = {
        "board": arguments.board,
        "kernel": arguments.kernel,
        "word_bits": arguments.word_bits,
        "clock_mhz": arguments.clock_mhz,
        "git": git_id(),
        "md5": {
            path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            for path in arguments.files
        },
        "reports": [str(path.relative_to(arguments.stamp.parent)) for path in reports],
    }
    arguments.stamp.write_text(json.dumps(stamp, indent=2) + "\n")


if __name__ == "__main__":
    main()
