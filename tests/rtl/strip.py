"""A copy of the kernels' sources that Bambu takes: without most pragmas, and a list of those."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

from tests import ROOT
from tests.hls.pragmas import macros, uses

HERE = Path(__file__).resolve().parent
#: The one pragma of a source that Bambu needs: that a pointer leads to memory.
KEPT = "interface mode=m_axi"


def stripped(top: str, folder: Path) -> Counter[str]:
    """Copy ``hls/`` to ``folder``, ready for one top function; how often what was left out.

    Pragmas of the sources go line by line, those in macros by the one macro that all of them use.
    In the top function stand the ports of memory alone, each with its address as an argument.
    """
    for part in ("include", "src"):
        shutil.copytree(ROOT / "hls" / part, folder / part)
    shutil.copy(HERE / "hls_stream.h", folder / "include")
    sources = sorted(folder.rglob("*.?pp"))
    texts = {path: path.read_text() for path in sources}
    known = macros(*texts.values())
    left_out: Counter[str] = Counter()
    ports = []
    for path, text in texts.items():
        if path.suffix == ".cpp" and path.stem != top:
            path.unlink()
            continue
        for use in uses(text, known):
            options = use.options
            if use.name == "interface" and options["mode"] == "m_axi":
                ports.append(
                    f"#pragma HLS interface mode=m_axi port={options['port']} offset=direct "
                    f"bundle={options['bundle']}"
                )
            else:
                mode = f" mode={options['mode']}" if use.name == "interface" else ""
                left_out[use.name + mode] += 1
        plain = re.sub(r"(?m)^\s*#pragma HLS [^\n]*\n", "", text)
        plain = re.sub(
            r"(?m)^#define ZIPML_PRAGMA\(options\) .*$", "#define ZIPML_PRAGMA(options)", plain
        )
        if path.stem == top:
            plain = plain.replace("  ZIPML_INTERFACES\n", "\n".join([*ports, ""]))
        path.write_text(plain)
    return left_out
