"""Calls of compiled code that take a while: interrupted, stopped by others, out of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from zipml_pynq._engine import ffi

#: How a run may end (``sw_emu/exchange.hpp``).
_STOPPED, _NO_MEMORY, _NO_THREADS = 1, 2, 3


class StoppedError(Exception):
    """A call ended because its flag was set."""


#: Values that are trained on in some milliseconds: a thread more costs nothing beside that.
_LONG = 1 << 25


def new_flag() -> Any:
    """A number for compiled code to look at: it stops where ``flag[0]`` is not 0."""
    return ffi.new("uint32_t *")


def run(call: Callable[[Any], int], values: int, flag: Any = None) -> None:
    """Make a call that takes a flag and returns how it ended.

    In the main thread a long call runs in a thread of its own, so that an interrupt from the
    keyboard is seen at once and stops it.

    Parameters
    ----------
    call : callable
        Gets the flag.
    values : int
        That it works on, one after the other.
    flag : optional
        Of :func:`new_flag`, if somebody else may stop it.

    Raises
    ------
    MemoryError
        Memory or threads ran out.
    StoppedError
        The flag was set.
    """
    flag = new_flag() if flag is None else flag
    if values < _LONG or threading.current_thread() is not threading.main_thread():
        status = call(flag)
    else:
        status = _watched(call, flag)
    check_memory(status)
    if status == _STOPPED:
        raise StoppedError


def _watched(call: Callable[[Any], int], flag: Any) -> int:
    found: list[int] = []
    done = threading.Event()

    def work() -> None:
        try:
            found.append(call(flag))
        finally:
            done.set()

    threading.Thread(target=work, daemon=True).start()
    try:
        done.wait()
    except BaseException:
        flag[0] = 1
        done.wait()
        raise
    return found[0]


def check_memory(status: int) -> None:
    """Raises MemoryError if a call ended for want of memory or threads."""
    if status == _NO_MEMORY:
        raise MemoryError("compiled code found no memory for what it works with")
    if status == _NO_THREADS:
        raise MemoryError("the system has no thread for compiled code; fewer threads help")
