"""``make wheels-windows``: the engine for Windows runs under Wine, with the bits of this machine.

The checksum program (``sw_emu/tb/checksum.cpp``) packs and trains a sweep of cases; it is compiled
for Windows as the wheel's engine is, and must print what this machine's own build prints. Needs
Wine for 64 bits: ``wine64`` on PATH or where Debian's package of that name has it, or named by the
variable ``WINE``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from wheels import BUILD
from wheels.archives import make_sdist, unpack
from wheels.engine import program
from wheels.installed import compare
from wheels.targets import TARGETS

#: Loops that run on x86, "" the best ones.
LOOPS = ("", "portable", "avx2", "avx512bw")


def main() -> None:
    """Compile, run and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("here", type=Path, help="what the program prints on this machine")
    here = parser.parse_args().here.read_text(encoding="utf-8")
    path = f"{os.environ['PATH']}:/usr/lib/wine"
    wine = os.environ.get("WINE") or shutil.which("wine64", path=path)
    if wine is None:
        sys.exit("Wine is not installed: apt-get install wine64, or name it by WINE")
    made = program(unpack(make_sdist(BUILD / "here")), TARGETS["windows-x86_64"])
    prefix = {"WINEPREFIX": str(BUILD / "wine"), "WINEDEBUG": "-all"}
    for loops in LOOPS:
        done = subprocess.run(
            [wine, made],
            env={**os.environ, **prefix, "ZIPML_LOOPS": loops},
            stdout=subprocess.PIPE,
            text=True,  # which makes one of Windows' two characters that end a line
            check=True,
        )
        compare(f"windows-x86_64 {loops or 'best'}", done.stdout, here)


if __name__ == "__main__":
    main()
