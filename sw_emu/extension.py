"""What the two cffi builds share: C declarations taken from the headers, sources, flags."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "sw_emu"
INCLUDE = ROOT / "hls" / "include"

#: No contraction and no fast-math: the same bits on every machine.
FLAGS = [
    "-std=c++14",
    "-O3",
    # with debug information, which Python's own flags ask for, the engine takes twice the memory
    "-g0",
    "-pthread",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror=return-type",
]


#: One set of loops instead of one an instruction set (x86): a sixth of the time to build.
if os.environ.get("ZIPML_CLONES") == "0":
    FLAGS.append("-DZIPML_NO_CLONES")


def declarations(*headers: str) -> str:
    """The C declarations of the named headers of ``sw_emu``, without preprocessor lines."""
    text = "".join((SOURCES / header).read_text() for header in headers)
    return re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


def extension(
    module: str,
    headers: list[str],
    sources: list[str],
    include: list[Path] | None = None,
    flags: list[str] | None = None,
) -> FFI:
    """A cffi builder for ``module`` out of ``headers`` and ``sources``, both in ``sw_emu``."""
    builder = FFI()
    builder.cdef(declarations(*headers))
    body = "\n".join(f'#include "{header}"' for header in headers)
    builder.set_source(
        module,
        f'extern "C" {{\n{body}\n}}\n',
        # relative to the project: setuptools refuses absolute source paths
        sources=[f"sw_emu/{name}" if "/" not in name else name for name in sources],
        source_extension=".cpp",
        include_dirs=[str(SOURCES), str(INCLUDE)],
        extra_compile_args=FLAGS
        + (flags or [])
        + [f"-isystem{directory}" for directory in include or []],
        extra_link_args=["-pthread"],
    )
    return builder
