"""cffi build of ``zipml_pynq._engine``: engine, packing, optimal levels and float32 baseline."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sw_emu.extension import extension

HEADERS = [
    "config.h",
    "cholesky.h",
    "abi.h",
    "engine.h",
    "pack.h",
    "float_sgd.h",
    "levels.h",
    "products.h",
    "margins.h",
    "softmax.h",
    "samples.h",
    "text.h",
]
SOURCES = [
    "config.cpp",
    "cholesky.cpp",
    "engine.cpp",
    "pack.cpp",
    "float_sgd.cpp",
    "levels.cpp",
    "products.cpp",
    "margins.cpp",
    "softmax.cpp",
    "samples.cpp",
    "text.cpp",
]

ffibuilder = extension("zipml_pynq._engine", HEADERS, SOURCES)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(Path(__file__).resolve().parent.parent), verbose=True)
