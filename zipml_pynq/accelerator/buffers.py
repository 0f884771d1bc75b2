"""Buffers in device memory: whose they are, shown to the other side, freed or kept back."""

from __future__ import annotations

from typing import Any

import numpy as np

from zipml_pynq.accelerator.remote import device_errors

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


def quarantine(device: Any) -> list[Any]:
    """Buffers of ``device`` that a kernel may still write to. They live as long as the device."""
    return vars(device).setdefault("_zipml_quarantine", [])


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
