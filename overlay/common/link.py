"""Names the files of a build in the package's link files: link.py STAMP DEVICE URL.

A link file is what pynqutils resolves at installation and ``zipml_pynq.bitstreams`` when an overlay
is loaded: for every device, where a file is and its MD5.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

OVERLAYS = Path(__file__).resolve().parents[2] / "zipml_pynq" / "overlays"


def add(stamp: Path, device: str, url: str, folder: Path = OVERLAYS) -> None:
    """Add or replace the device's entry in ``<file>.link`` for every file of the stamp."""
    record = json.loads(stamp.read_text())
    if record["git"].endswith("-dirty"):
        raise SystemExit(f"{stamp} is of sources that were never committed ({record['git']})")
    for name, md5sum in record["md5"].items():
        link = folder / f"{name}.link"
        entries = json.loads(link.read_text()) if link.is_file() else {}
        entries[device] = {"url": f"{url.rstrip('/')}/{name}", "md5sum": md5sum}
        link.write_text(json.dumps(dict(sorted(entries.items())), indent=4) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit("usage: link.py STAMP DEVICE URL")
    add(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
