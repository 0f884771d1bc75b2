"""What an overlay's metadata say of the kernel: where its registers are, and its memories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zipml_pynq.accelerator.interface import Interface, word_names
from zipml_pynq.constants import CONFIG
from zipml_pynq.errors import OverlayMismatchError


def offsets(interface: Interface, registers: Mapping[str, Any] | None, path: str) -> dict[str, int]:
    """Offset of each register: the ``.hwh``'s, since tools differ in the gaps they leave.

    Parameters
    ----------
    interface : Interface
        That the kernel should have.
    registers : mapping or None
        Of the IP at ``path``, as pynq parses them; without any, those of the interface.

    Raises
    ------
    OverlayMismatchError
        A register is missing.
    """
    if not registers:
        return dict(interface.offsets)
    found = {}
    for argument in interface.arguments:
        # a .hwh has a register for each word, an .xclbin one for each argument
        for name in (word_names(argument)[0], argument.name):
            if name in registers:
                found[argument.name] = int(registers[name]["address_offset"])
                break
        else:
            raise OverlayMismatchError(
                f"the overlay's IP {path} has no register {name!r}: its .hwh is of "
                f"another register interface than this package's {CONFIG.interface_version:#010x}"
            )
    return found


def banks(
    interface: Interface, registers: Mapping[str, Any] | None, device: Any
) -> dict[str | None, Any]:
    """Memory of each pointer, where the metadata tell which bank its port is connected to."""
    return {
        name: device.get_memory_by_name((registers or {})[name]["memory"])
        for name in interface.pointers
        if "memory" in (registers or {}).get(name, {})
    }
