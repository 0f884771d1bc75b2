"""Arrays that begin at a cache line: NumPy's own begin 16 bytes behind one where they are large."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Bytes of a cache line. What lies across two takes the engine two loads.
CACHE_LINE = 64


def at_cache_line(buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What a buffer, uint8 of shape (n,), holds from its first cache line on."""
    return buffer[-buffer.ctypes.data % CACHE_LINE :]


def empty_aligned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """An array of that shape and type, not filled, that begins at a cache line."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    buffer = at_cache_line(np.empty(size + CACHE_LINE, dtype=np.uint8))
    return buffer[:size].view(kind).reshape(shape)
