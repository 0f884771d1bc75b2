"""Kernels that several threads share: each trains one model at a time.

Whoever trains takes a free one of the kernels that will do, and waits where there is none: models
of one fit, fits of several folds, whatever threads they come from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.errors import ArgumentError, OutOfDeviceMemoryError

T = TypeVar("T")
#: Drivers of this process whose kernels are taken, by identity, and what tells of changes.
_taken: set[int] = set()
_changed = threading.Condition()


@contextmanager
def _taking(drivers: Sequence[Any], count: int) -> Iterator[list[Any]]:
    """``count`` free ones of the drivers, for nobody else meanwhile; waits for all at a time."""
    with _changed:
        while len(found := [one for one in drivers if id(one) not in _taken]) < count:
            _changed.wait()
        found = found[:count]
        _taken.update(map(id, found))
    try:
        yield found
    finally:
        with _changed:
            _taken.difference_update(map(id, found))
            _changed.notify_all()


def on_a_free_one(drivers: Sequence[Any], work: Callable[[Any], T]) -> T:
    """Do something with a driver that no other thread uses meanwhile.

    Kernels of one overlay share its memory. Where that has no room beside what the others train,
    the work is done again when they are done.

    Parameters
    ----------
    drivers : sequence of SgdDriver, or of one HostDriver
        Any of them will do. An engine of this process takes all that comes at once.
    work : callable
        Called with the driver; once more after an error that memory may be the reason of.

    Returns
    -------
    object
        What ``work`` returns.
    """
    if isinstance(drivers[0], HostDriver):
        return work(drivers[0])
    try:
        with _taking(drivers, 1) as (driver,):
            return work(driver)
    except (OutOfDeviceMemoryError, ArgumentError):
        # data that does not fit whole beside others' may not be shuffled, for one
        if len(drivers) == 1:
            raise
    with _taking(drivers, len(drivers)) as (driver, *_):
        return work(driver)
