"""Buffers in device memory: whose they are, shown to the other side, freed or kept back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zipml_pynq.accelerator.remote import device_errors
from zipml_pynq.errors import DeviceBufferError

if TYPE_CHECKING:
    from zipml_pynq.accelerator.loaded import Loaded

#: Element type behind each pointer.
DTYPES: dict[str, np.dtype[Any]] = {
    "planes": np.dtype("<u8"),
    "labels": np.dtype("<i4"),
    "model": np.dtype("<i4"),
    "history": np.dtype("<i4"),
    "schedule": np.dtype("<u4"),
    "levels": np.dtype("<i4"),
    "derivative": np.dtype("<i4"),
    "full": np.dtype("<u8"),
}


def owner_of(buffer: Any) -> Any:
    """The buffer from ``allocate`` that ``buffer`` is or is a slice of; None if there is none.

    Only ``allocate`` gives a buffer its ``freed``. An array that was computed from a buffer is of
    the buffer's class too, but has memory of its own and a meaningless ``device_address``.
    """
    while buffer is not None and "freed" not in getattr(buffer, "__dict__", {}):
        buffer = buffer.base if isinstance(buffer, np.ndarray) else None
    return buffer


def address_of(name: str, buffer: Any, device: Any, bank: Any) -> int:
    """The device address of a buffer or of a slice, for the pointer ``name``.

    Parameters
    ----------
    name : str
        The pointer.
    buffer : pynq.buffer.PynqBuffer
        From ``allocate``, or a contiguous slice.
    device : pynq.Device
        That the pointer's port is on.
    bank : object or None
        The memory that the port is connected to, where that matters.

    Raises
    ------
    DeviceBufferError
        See :meth:`zipml_pynq.accelerator.driver.SgdDriver.write_registers`.
    """
    from pynq.buffer import PynqBuffer  # runs are planned where there is no pynq, too

    owner = owner_of(buffer)
    if owner is None or not hasattr(buffer, "device_address"):
        raise DeviceBufferError(
            f"{name} was {type(buffer).__name__} without device memory of its own; allowed are "
            "buffers from allocate and contiguous slices of them (results of arithmetic and "
            "copies are ordinary arrays)"
        )
    if owner.freed:
        raise DeviceBufferError(f"{name} was a buffer that is freed already")
    found = getattr(buffer, "device", device)  # pynq 3.1's remote buffers do not know
    if found is not device:
        raise DeviceBufferError(
            f"{name} was a buffer of device {getattr(found, 'tag', None)!r}; allowed are "
            f"buffers of {device.tag!r}"
        )
    if bank is not None and getattr(owner, "memory", None) != bank:
        raise DeviceBufferError(
            f"{name} was a buffer outside of {bank.desc['tag']}, the memory bank that its port "
            f"is connected to; allocate(.., pointer={name!r}) gives one there"
        )
    if buffer.dtype != DTYPES[name]:
        raise DeviceBufferError(f"{name} had dtype {buffer.dtype}; allowed is {DTYPES[name]}")
    if not buffer.flags.c_contiguous:
        raise DeviceBufferError(f"{name} was not contiguous")
    if buffer is not owner and not isinstance(buffer, PynqBuffer):
        # a slice of a remote buffer has the address of the whole
        raise DeviceBufferError(f"{name} was a slice of a remote buffer; use the whole buffer")
    with device_errors(device):
        return int(buffer.device_address)


def quarantine(device: Any) -> dict[tuple[int, Loaded], list[Any]]:
    """Buffers of ``device`` that a kernel may still write to, by the address of its registers and
    what was loaded when it was started. They live as long as the device."""
    return vars(device).setdefault("_zipml_quarantine", {})


def to_device(*buffers: Any) -> None:
    """Show the device what the host wrote."""
    for buffer in buffers:
        with device_errors(getattr(buffer, "device", None)):
            buffer.sync_to_device()


def from_device(buffer: Any) -> None:
    """Show the host what the device wrote."""
    with device_errors(getattr(buffer, "device", None)):
        buffer.sync_from_device()


def free_buffers(buffers: list[Any], keep: int = 0) -> None:
    """Free all but the first ``keep`` buffers of a list and take them off it."""
    while len(buffers) > keep:
        buffer = buffers.pop()
        with device_errors(getattr(buffer, "device", None)):
            buffer.freebuffer()


def forget_buffers(buffers: list[Any]) -> None:
    """Give up buffers of a board that does not answer: their destructors would ask in vain."""
    while buffers:
        buffers.pop().freed = True
