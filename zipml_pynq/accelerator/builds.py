"""The two compiled builds of the accelerator behind one call: the HLS kernel and the engine.

Both take the registers of ``zipml_sgd`` by name and raw pointers, as the hardware does. Whoever
calls :meth:`Build.run` has checked that every pointer leads to enough memory.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq._engine import ffi, lib
from zipml_pynq.accelerator.interface import INTERFACES
from zipml_pynq.errors import ArgumentError

#: The same for every format.
_OUTPUTS = INTERFACES["bitplanes"].outputs


def _structure(name: str) -> np.dtype:
    """A structure of ``sw_emu/abi.h`` as NumPy lays it out; pointers are addresses."""
    kind = ffi.typeof(name)
    fields = kind.fields
    return np.dtype(
        {
            "names": [field for field, _ in fields],
            "formats": [f"u{ffi.sizeof(about.type)}" for _, about in fields],
            "offsets": [about.offset for _, about in fields],
            "itemsize": ffi.sizeof(kind),
        }
    )


#: Registers of a start, and of its end, by the names of the registers.
ARGUMENTS, RESULTS = _structure("ZipmlArguments"), _structure("ZipmlResults")


def run_engine(
    word_bits: int, value_format: int, starts: NDArray[np.void], threads: int
) -> NDArray[np.void]:
    """Run the engine so many times, one after the other, in one call.

    Parameters
    ----------
    word_bits, value_format, threads
        See :meth:`Build.run`.
    starts : ndarray of :data:`ARGUMENTS`, shape (starts,)

    Returns
    -------
    ndarray of :data:`RESULTS`, shape (starts,)
        The first one that was refused is the last that ran; all of those behind are 0.
    """
    results = np.zeros(len(starts), RESULTS)
    lib.zipml_engine_run_all(  # releases the GIL
        word_bits,
        value_format,
        ffi.from_buffer("ZipmlArguments[]", starts),
        ffi.from_buffer("ZipmlResults[]", results),
        len(starts),
        threads,
    )
    return results


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
            One of :data:`zipml_pynq.data.layout.FORMAT_CODES`.
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
