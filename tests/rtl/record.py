"""A run of the engine as a C++ header, for ``replay.cpp``."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.cases import random_case, run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.accelerator.interface import INTERFACES
from zipml_pynq.accelerator.regions import regions
from zipml_pynq.data.layout import FORMAT_CODES

#: Pointers that a run writes.
WRITTEN = ("model", "history")


class Recorder:
    """A build that keeps what it was given, and what it left."""

    def __init__(self) -> None:
        self._build = load_build("engine")
        self.before: dict[str, NDArray[np.uint8]] = {}
        self.after: dict[str, NDArray[np.uint8]] = {}
        self.scalars: dict[str, int] = {}
        self.outputs: dict[str, int] = {}

    def run(
        self, word_bits: int, code: int, pointers: dict[str, int], scalars: dict[str, int], *_: Any
    ) -> dict[str, int]:
        """Run the engine once, as :meth:`zipml_pynq.accelerator.builds.Build.run` does."""
        value_format = next(name for name, one in FORMAT_CODES.items() if one == code)
        interface = INTERFACES[value_format]
        sizes = regions(scalars, word_bits, value_format)
        memories = {
            name: np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(pointers[name]))
            for name, size in sizes.items()
            if size
        }
        self.before = {name: memory.copy() for name, memory in memories.items()}
        self.outputs = self._build.run(word_bits, code, pointers, scalars)
        self.after = {name: memories[name].copy() for name in WRITTEN}
        self.scalars = {name: scalars[name] for name in interface.scalars}
        return self.outputs


def _array(name: str, memory: NDArray[np.uint8], bits: int) -> str:
    numbers = memory.view(f"u{bits // 8}")
    text = ",".join(f"{number}u{'ll' if bits == 64 else ''}" for number in numbers.tolist())
    return f"static const uint{bits}_t {name}[] = {{{text}}};"


def header(word_bits: int, value_format: str, **case: Any) -> str:
    """The header of one run: arguments are those of :func:`tests.cases.random_case`."""
    made = random_case(1, word_bits=word_bits, value_format=value_format, **case)
    recorder = Recorder()
    run_build(recorder, made.packed, made.plan, made.model)  # type: ignore[arg-type]
    interface = INTERFACES[value_format]
    lines = ["// Written by tests/rtl/record.py.", "#pragma once", "#include <cstdint>"]
    for name in interface.pointers:
        words = name in ("planes", "full")
        # a port that a run does not read still needs an address
        memory = recorder.before.get(name, np.zeros(word_bits // 8, np.uint8))
        lines.append(_array(f"before_{name}", memory, 64 if words else 32))
    lines += [_array(f"after_{name}", recorder.after[name], 32) for name in WRITTEN]
    lines += [f"static const uint32_t in_{n} = {v}u;" for n, v in recorder.scalars.items()]
    lines += [f"static const uint64_t out_{n} = {v}ull;" for n, v in recorder.outputs.items()]
    return "\n".join([*lines, ""])


def write(path: Path, word_bits: int, value_format: str, **case: Any) -> None:
    """The header as a file."""
    path.write_text(header(word_bits, value_format, **case))
