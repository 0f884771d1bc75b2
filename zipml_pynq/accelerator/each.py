"""Things that do not wait for each other: one after the other, or on threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")
#: Calls a function with each of some things, and returns what it returned, in their order.
Each = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]


@contextmanager
def threads(jobs: int, most: int) -> Iterator[Each]:
    """A way to do at most ``most`` things on ``jobs`` threads; what takes long has no GIL."""
    jobs = min(jobs, most)
    if jobs == 1:
        yield in_turn
        return
    with ThreadPoolExecutor(jobs) as pool:
        yield lambda work, things: list(pool.map(work, things))


def in_turn(work: Callable[[T], U], things: Sequence[T]) -> list[U]:
    """The same without threads."""
    return [work(thing) for thing in things]
