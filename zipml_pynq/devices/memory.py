"""Memory of the emulated device: the contiguous pool, and buffers in it."""

from __future__ import annotations

import threading

from zipml_pynq.accelerator.needs_pynq import PynqBuffer
from zipml_pynq.devices.design import PAGE
from zipml_pynq.errors import ArgumentError, DeviceError, OutOfDeviceMemoryError

#: The contiguous pool of many PYNQ images.
DEFAULT_MEMORY_BYTES = 128 << 20


class Heap:
    """First-fit allocator of one contiguous range, in pages; neighbours coalesce when freed.

    Parameters
    ----------
    size : int
        Bytes, a positive multiple of 4096.
    """

    def __init__(self, size: int) -> None:
        if size <= 0 or size % PAGE:
            raise ArgumentError(
                f"memory_bytes was {size}; it must be a positive multiple of {PAGE}"
            )
        self.size = size
        self._lock = threading.Lock()
        self._holes = [(0, size)]  # (offset, bytes), sorted, never adjacent
        self._live: dict[int, int] = {}  # offset -> bytes

    @property
    def free_bytes(self) -> int:
        """Bytes that are not allocated."""
        with self._lock:
            return sum(size for _, size in self._holes)

    @property
    def largest_hole(self) -> int:
        """Bytes of the largest contiguous free range."""
        with self._lock:
            return max((size for _, size in self._holes), default=0)

    def allocate(self, size: int) -> int:
        """Offset of a new allocation of at least ``size`` bytes.

        Raises
        ------
        OutOfDeviceMemoryError
            No free range is large enough.
        """
        pages = max(PAGE, -(-size // PAGE) * PAGE)
        with self._lock:
            for i, (offset, hole) in enumerate(self._holes):
                if hole >= pages:
                    rest = [(offset + pages, hole - pages)] if hole > pages else []
                    self._holes[i : i + 1] = rest
                    self._live[offset] = pages
                    return offset
        raise OutOfDeviceMemoryError(
            f"{size} bytes of device memory were asked for; {self.free_bytes} of {self.size} are "
            f"free, the largest block has {self.largest_hole}"
        )

    def free(self, offset: int) -> None:
        """Give an allocation back.

        Raises
        ------
        DeviceError
            Nothing is allocated at ``offset``.
        """
        with self._lock:
            if offset not in self._live:
                raise DeviceError(f"offset {offset:#x} is not allocated")
            holes = sorted([*self._holes, (offset, self._live.pop(offset))])
            merged = [holes[0]]
            for start, size in holes[1:]:
                last, length = merged[-1]
                if last + length == start:
                    merged[-1] = (last, length + size)
                else:
                    merged.append((start, size))
            self._holes = merged

    def holds(self, offset: int, size: int) -> bool:
        """Whether ``size`` bytes from ``offset`` lie inside one live allocation."""
        with self._lock:
            return any(
                start <= offset and offset + size <= start + length
                for start, length in self._live.items()
            )


class EmulatedBuffer(PynqBuffer):
    """A ``PynqBuffer`` in emulated memory; views of it do not own the memory."""

    def freebuffer(self) -> None:
        """Free the memory; a second call, or one on a view, does nothing."""
        release = self.__dict__.pop("release", None)
        if release is not None:
            self.freed = True
            release()
