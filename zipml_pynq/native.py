"""The two compiled builds of the accelerator behind one call: the HLS kernel and the engine.

Both take the registers of ``zipml_sgd`` by name and raw pointers, as the hardware does. Whoever
calls :meth:`Build.run` has checked that every pointer leads to enough memory.
"""

from __future__ import annotations

import importlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zipml_pynq._engine import ffi, lib
from zipml_pynq.errors import ArgumentError
from zipml_pynq.interface import INTERFACES

#: The same for every format.
_OUTPUTS = INTERFACES["bitplanes"].outputs


@dataclass(frozen=True)
class Build:
    """One compiled build: ``name`` is "kernel" or "engine"; ``run`` executes one start."""

    name: str
    _ffi: Any
    _run: Any

    def run(
        self,
        word_bits: int,
        value_format: int,
        pointers: dict[str, int],
        scalars: dict[str, int],
        threads: int = 1,
    ) -> dict[str, int]:
        """Run the accelerator once and return its output registers.

        Parameters
        ----------
        word_bits : int
            Width of a word of the planes port: 64, 128 or 512.
        value_format : int
            One of :data:`zipml_pynq.interface.FORMAT_CODES`.
        pointers : dict
            Host address for each pointer of the format's interface; 0 where the run touches no
            memory.
        scalars : dict
            Value for each scalar of the format's interface.
        threads : int
            Of the engine; 0 for as many as pay. The bits do not depend on it.
        """
        arguments = self._ffi.new("ZipmlArguments *")
        for name, address in pointers.items():
            field = self._ffi.typeof(getattr(arguments, name))
            setattr(arguments, name, self._ffi.cast(field, address))
        for name, value in scalars.items():
            setattr(arguments, name, value)
        results = self._ffi.new("ZipmlResults *")
        how = (threads,) if self.name == "engine" else ()
        self._run(word_bits, value_format, arguments, results, *how)  # releases the GIL
        return {name: int(getattr(results, name)) for name in _OUTPUTS}


def load_build(name: str) -> Build:
    """The build called ``name``.

    Raises
    ------
    ArgumentError
        Unknown name, or the kernel was not built here (it needs the vendor's C-simulation headers).
    """
    if name == "engine":
        return Build(name, ffi, lib.zipml_engine_run)
    if name == "kernel":
        try:
            kernel = importlib.import_module("zipml_pynq._kernel")
        except ImportError as error:
            raise ArgumentError(
                "engine='kernel' needs the compiled HLS kernel, which this installation lacks: "
                "`pip install --no-deps hls4ml` (for the vendor's C-simulation headers), then "
                "`pip install --no-build-isolation .` in the project"
            ) from error
        return Build(name, kernel.ffi, kernel.lib.zipml_kernel_run)
    raise ArgumentError(f"engine was {name!r}; allowed are 'engine' and 'kernel'")


def _caches() -> dict[str, str]:
    """Sizes of the first core's data caches, as the system writes them: "L1d" to, say, "48K"."""
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = (
                (folder / name).read_text().strip() for name in ("type", "level", "size")
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
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "caches": _caches(),
        "load": os.getloadavg()[0],
        "loops": ffi.string(lib.zipml_engine_loops()).decode(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
