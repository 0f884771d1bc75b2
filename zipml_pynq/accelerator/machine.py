"""The machine that numbers are measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from zipml_pynq._engine import ffi, lib
from zipml_pynq.data.rows import available_cores


def _caches() -> dict[str, str]:
    """Sizes of the first core's data caches, as the system writes them: "L1d" to, say, "48K"."""
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = (
                (folder / name).read_text(encoding="utf-8").strip()
                for name in ("type", "level", "size")
            )
        except OSError:
            continue
        if kind != "Instruction":
            sizes[f"L{level}{'d' * (kind == 'Data')}"] = size
    return sizes


def machine() -> dict[str, Any]:
    """What numbers are measured on: processor, cores, caches, load, the engine's loops."""
    model = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": available_cores(),
        "caches": _caches(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "loops": ffi.string(lib.zipml_engine_loops()).decode(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
