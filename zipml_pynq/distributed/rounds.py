"""Rounds: how long they are, which blocks of a shard each one trains on, and that training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.distributed.averaging import Change, change_of, run_seed
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.make_plan import block_orders
from zipml_pynq.training.plan import Plan

#: Seconds that a round should take at least, and how often as long as a message there and back.
SHORTEST, TRIPS = 0.05, 5.0
#: Lengths that "auto" chooses from, in epochs: longer rounds average less often.
LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Counters of a run that are added up over shards and rounds.
COUNTERS = (
    "words",
    "modelled_cycles",
    "saturations",
    "bytes_streamed",
    "outside",
    "clipped",
    "refetched",
)


@dataclass(frozen=True)
class Rounds:
    """How a plan's epochs are cut into rounds.

    Parameters
    ----------
    epochs : int
        Of the plan.
    length : float
        Epochs a round: a whole number, or 1 / k for k rounds an epoch.
    first_epoch : int
        Epochs that were trained before: numbers of rounds go on from there.
    changes : tuple of int
        Epochs that a round begins with in any case, for the precision changes there.
    """

    epochs: int
    length: float
    first_epoch: int = 0
    changes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_length(self.length)

    @property
    def pieces(self) -> int:
        """Rounds an epoch, 1 where a round is an epoch or more."""
        return max(1, round(1 / self.length))

    def __len__(self) -> int:
        return len(self._spans)

    def at(self, number: int) -> Span:
        """What the round ``number``, from 0 on, trains."""
        return self._spans[number]

    @property
    def turns(self) -> list[int]:
        """Rounds, but for the first, that begin at a change."""
        firsts = [span.first for span in self._spans]
        return [firsts.index(change) for change in self.changes]

    @cached_property
    def _spans(self) -> list[Span]:
        pieces, length = self.pieces, max(1, round(self.length))
        before = -(-self.first_epoch * pieces // length)
        spans: list[Span] = []
        for begin, end in pairwise((0, *self.changes, self.epochs)):
            for first in range(begin, end, length):
                stop = min(end, first + length)
                for piece in range(pieces):
                    spans.append(Span(before + len(spans), first, stop, piece, pieces))
        return spans


def check_length(length: Any) -> float:
    """``round_epochs``, checked: epochs of a round."""
    if isinstance(length, int | float | np.number) and not isinstance(length, bool) and length > 0:
        whole = float(length) if length >= 1 else 1 / float(length)
        if np.isfinite(whole) and abs(whole - round(whole)) < 1e-9:
            return float(length)
    raise ArgumentError(
        f"round_epochs was {length!r}; allowed are 'auto', whole numbers of epochs, and 1/k for k "
        "rounds an epoch"
    )


@dataclass(frozen=True, eq=False)
class Stage:
    """Plans of all epochs, one a model, that go from one epoch on: those of one precision."""

    first: int
    plans: Sequence[Plan]


@dataclass(frozen=True)
class Span:
    """One round: epochs ``first`` to ``stop - 1`` of the plan, or a piece of one epoch.

    ``number`` is the round's own since training began, which random numbers are drawn with.
    """

    number: int
    first: int
    stop: int
    piece: int = 0
    pieces: int = 1

    def blocks(self, blocks: int) -> tuple[int, int]:
        """First and stop of a shard's blocks that it trains on."""
        return self.piece * blocks // self.pieces, (self.piece + 1) * blocks // self.pieces

    def samples(self, samples: int, block_samples: int) -> int:
        """Samples of a shard of so many that it trains on."""
        first, stop = self.blocks(-(-samples // block_samples))
        return min(samples, stop * block_samples) - first * block_samples


def choose_length(trip: float, epoch: float, epochs: int, blocks: int) -> float:
    """Epochs of a round: the shortest of :data:`LENGTHS` in which messages are a small part.

    Parameters
    ----------
    trip, epoch : float
        Seconds of a message there and back, and of the slowest shard's epoch.
    epochs : int
        Of the plan.
    blocks : int
        Of the smallest shard, of which every round needs one.
    """
    wanted = max(SHORTEST, TRIPS * trip)
    for length in LENGTHS:
        if length * epoch >= wanted and length * blocks >= 1:
            return float(min(length, epochs))
    return float(min(LENGTHS[-1], epochs))


@dataclass(frozen=True)
class Answer:
    """What a shard's part of a round came to.

    Parameters
    ----------
    shard : int
    change : Change
    counters : dict of str to int
        :data:`COUNTERS`, of all models.
    seconds : float
        That training took on the accelerator.
    worker : str
        Where.
    """

    shard: int
    change: Change
    counters: dict[str, int]
    seconds: float
    worker: str = ""


def shard_plan(plan: Plan, packed: PackedDataset, span: Span, shard: int) -> Plan:
    """The plan of a shard's part of a round: orders of blocks and numbers on chip are its own."""
    seed = run_seed(plan.seed, span.number, shard)
    part = plan.part(span.first, span.stop)
    orders = None
    if plan.orders is not None:
        orders = block_orders(packed.layout.blocks, part.epochs, seed)
    return replace(part, seed=seed, first_epoch=0, orders=orders)


def train_shard(
    driver: Any,
    models: Sequence[PackedDataset],
    plans: Sequence[Plan],
    span: Span,
    shard: int,
    start: NDArray[np.int32],
    bits: int,
    worker: str = "",
) -> Answer:
    """A shard's part of a round, on one accelerator.

    Parameters
    ----------
    driver : SgdDriver, HostDriver or what trains like them
    models : sequence of PackedDataset
        The shard's samples with the labels of each model.
    plans : sequence of Plan, one a model
        Of all epochs; orders are drawn for the shard where a plan has any.
    start : ndarray of int32, shape (models, features)
    bits : int
        Of the change that is sent.
    """
    began = time.perf_counter()
    after = np.empty_like(start)
    counters = dict.fromkeys(COUNTERS, 0)
    first, stop = span.blocks(models[0].layout.blocks)
    for number, (whole, plan) in enumerate(zip(models, plans, strict=True)):
        packed = whole.part(first, stop)
        own = shard_plan(plan, packed, span, shard)
        result = driver.train(packed, own, model=start[number], judge=False)
        after[number] = result.model_fixed
        for name in COUNTERS:
            counters[name] += getattr(result, name)
    change = change_of(start, after, bits, plans[0].seed, span.number, shard)
    return Answer(shard, change, counters, time.perf_counter() - began, worker)
