"""Rows of samples as compiled code takes them: dense, in parts, by pointer, in threads."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from zipml_pynq._engine import ffi
from zipml_pynq.data.checks import check_int

#: Rows that are worked on at a time, so that intermediate arrays stay in the cache.
_CHUNK_VALUES = 1 << 16
#: Values below which threads cost more than they save.
_THREAD_VALUES = 1 << 18
#: Values that a thread works on, for some ten milliseconds, before it looks whether it is to end.
_PIECE_VALUES = 1 << 23
T = TypeVar("T")


def available_cores() -> int:
    """Cores that this process may use; where the system does not tell, those that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _MemoryStatus(ctypes.Structure):
    """``MEMORYSTATUSEX`` of Windows."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *((f"bytes{i}", ctypes.c_uint64) for i in range(7)),
    )


def available_bytes() -> int:
    """Memory that can still be had without swapping; half of all on macOS, which does not tell."""
    if sys.platform == "win32":
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.bytes1)  # ullAvailPhys
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    page = os.sysconf("SC_PAGE_SIZE")
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * page
    return os.sysconf("SC_PHYS_PAGES") * page // 2


def dense(a: Any) -> NDArray:
    """Rows of a matrix, sparse or not, as an array."""
    return a.toarray() if issparse(a) else a


def chunks(a: NDArray) -> list[slice]:
    rows = max(1, _CHUNK_VALUES // a.shape[1])
    return [slice(start, start + rows) for start in range(0, a.shape[0], rows)]


def _direct(a: NDArray) -> bool:
    """Whether compiled code takes rows as they lie: contiguous and aligned floats."""
    size = a.dtype.itemsize
    return bool(
        not issparse(a)
        and a.dtype in (np.float32, np.float64)
        and a.flags.aligned
        and a.strides[0] % size == 0
        and a.strides[1] in ((size,) if a.shape[1] > 1 else a.strides)
    )


def float_rows(
    a: NDArray, first: int, last: int, multiple: int = 1, order: NDArray[np.intp] | None = None
) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """The rows ``first`` .. ``last - 1`` of ``a`` as compiled code takes them, in parts.

    float32 and float64 with contiguous, aligned rows are one part, without a copy. All else,
    sparse matrices and another order too, is copied a few rows at a time: to float32 if that is
    exact, so that what is computed in float64 from there is the same, and to float64 if not.

    Parameters
    ----------
    multiple : int
        Each part but the last has a multiple of so many rows.
    order : ndarray of intp, optional
        Numbers of rows: of ``a[order]`` in place of ``a``.

    Yields
    ------
    start, rows : int and ndarray, float32 or float64
        ``a[start : start + len(rows)]``.
    """
    if order is None and _direct(a):
        yield first, a[first:last]
        return
    step = -(-_CHUNK_VALUES // a.shape[1] // multiple) * multiple
    dtype = np.float32 if np.can_cast(a.dtype, np.float32) else np.float64
    for start in range(first, last, step):
        part = slice(start, min(start + step, last))
        some = a[part if order is None else order[part]]
        with np.errstate(over="ignore"):  # of long double, as in check_array
            yield start, np.ascontiguousarray(dense(some), dtype)


def ordered_rows(
    a: NDArray, first: int, last: int, multiple: int, order: NDArray[np.intp] | None
) -> Iterator[tuple[int, int, NDArray[np.floating], NDArray[np.int64] | None]]:
    """The same where compiled code follows the order itself, if rows can be taken as they lie.

    Yields
    ------
    start, count, rows, numbers
        ``rows[numbers]``, or ``rows`` where these are None: ``count`` rows of ``a[order]`` from
        ``start`` on.
    """
    if order is not None and _direct(a):
        yield first, last - first, a, np.ascontiguousarray(order[first:last], np.int64)
        return
    for start, rows in float_rows(a, first, last, multiple, order):
        yield start, len(rows), rows, None


def pointer(kind: str, array: NDArray) -> Any:
    """The data of ``array`` for compiled code; the caller keeps the array alive."""
    if array.flags.c_contiguous:  # what takes a fraction of the time
        return ffi.cast(kind, ffi.from_buffer(array))
    return ffi.cast(kind, array.ctypes.data)


def worthwhile_threads(values: int) -> int:
    """One for each available core, but no more than so many values are worth."""
    return max(1, min(available_cores(), -(-values // _THREAD_VALUES)))


def in_threads(
    work: Callable[[int, int], T], items: int, values: int, threads: int | None
) -> list[T]:
    """Results of ``work(first, last)`` over ranges that make up ``items``, in their order.

    A thread has a share of them, and takes it in pieces, so that an interrupt from the keyboard
    ends all threads soon.

    Parameters
    ----------
    values : int
        That all items have together.
    threads : int or None
        None: see :func:`worthwhile_threads`.
    """
    if threads is None:
        threads = worthwhile_threads(values)
    threads = min(check_int("threads", threads, 1, 1024), items)
    step = max(1, _PIECE_VALUES * items // max(1, values))
    ended = False

    def share(first: int, last: int) -> list[T]:
        starts = range(first, last, step)
        return [work(at, min(at + step, last)) for at in starts if not ended]

    if threads == 1:
        return share(0, items)
    bounds = [items * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        try:
            try:
                shares = [pool.submit(share, *ends) for ends in pairwise(bounds)]
            except RuntimeError as error:
                message = f"the system has no {threads} threads; fewer threads help"
                raise MemoryError(message) from error
            return [part for found in shares for part in found.result()]
        finally:
            ended = True


def compiled_samples(rows: NDArray[np.floating], count: int | None = None) -> Any:
    """Rows for compiled code, or as many as are taken of them in an order."""
    return ffi.new(
        "ZipmlSamples *",
        {
            "x": pointer("const void *", rows),
            "row_stride": rows.strides[0] // rows.itemsize,
            "rows": rows.shape[0] if count is None else count,
            "columns": rows.shape[1],
            "x_bytes": rows.itemsize,
        },
    )
