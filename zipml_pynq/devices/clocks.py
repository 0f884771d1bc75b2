"""The clock that a kernel runs at: what its build was judged at, and what the board makes."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

from zipml_pynq.accelerator.needs_pynq import pynq
from zipml_pynq.errors import ZipmlWarning

#: A clock further off than this is worth a word; dividers do not meet every frequency.
TOLERANCE = 0.01


def built_for(bitstream: str | os.PathLike[str]) -> float | None:
    """Clock (MHz) that a bitstream met its timing at, by the stamp beside it; None without one."""
    stamp = Path(bitstream).with_suffix(".json")
    if not stamp.is_file():
        return None
    return float(json.loads(stamp.read_text(encoding="utf-8"))["clock_mhz"])


def running(device: Any) -> float | None:
    """Clock (MHz) of the programmable logic of a board, from its dividers and PLL.

    None where there is none to read: in emulation, on cards, and on a board that pynq does not know
    the clocks of.
    """
    if not any(device.has_capability(name) for name in ("MEMORY_MAPPED", "REMOTE")):
        return None
    try:
        return float(pynq.Clocks.fclk0_mhz) or None
    except (RuntimeError, OSError, ValueError, AttributeError, ZeroDivisionError):
        return None


def settled(bitstream: str | os.PathLike[str], device: Any) -> float | None:
    """Clock (MHz) that runs are modelled with: the running one, else the stamp's.

    Warns (ZipmlWarning) where the board does not run at what the stamp says: faster than that the
    kernel may miscompute, slower it takes longer than modelled.
    """
    found, expected = running(device), built_for(bitstream)
    if found and expected and abs(found / expected - 1) > TOLERANCE:
        warnings.warn(
            f"the kernel's clock runs at {found:g} MHz; the bitstream was built for {expected:g} "
            + ("MHz, and may miscompute" if found > expected else "MHz, so runs take longer")
            + " (pynq.Clocks.fclk0_mhz sets it)",
            ZipmlWarning,
            stacklevel=3,
        )
    return found or expected
