"""The same averaging without Dask: several kernels of one overlay, or several boards at hand."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.distributed.averaging import check_change_bits, check_momentum
from zipml_pynq.distributed.coordinate import ShardFacts, check_shards, kept_in, run_rounds
from zipml_pynq.distributed.result import DistributedResult
from zipml_pynq.distributed.rounds import Answer, Rounds, Span, train_shard
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.result import fixed_model


class _Threads:
    """Shards in this process, a thread an accelerator."""

    redone = 0

    def __init__(
        self,
        drivers: Sequence[Any],
        shards: Sequence[PackedDataset],
        plan: Plan,
        bits: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._free: queue.Queue[Any] = queue.Queue()
        for driver in drivers:
            self._free.put(driver)
        self._shards, self._plan, self._bits, self._pool = shards, plan, bits, pool

    def _train(self, shard: int, span: Span, model: NDArray[np.int32]) -> Answer:
        driver = self._free.get()
        try:
            models = [self._shards[shard]]
            return train_shard(driver, models, [self._plan], span, shard, model, self._bits)
        finally:
            self._free.put(driver)

    def answers(self, span: Span, model: NDArray[np.int32]) -> Iterator[Answer]:
        """See :class:`zipml_pynq.distributed.coordinate.Workers`."""
        shards = range(len(self._shards))
        parts = [self._pool.submit(self._train, shard, span, model) for shard in shards]
        for part in as_completed(parts):
            yield part.result()


def train_on(
    drivers: Sequence[Any],
    shards: Sequence[PackedDataset],
    plan: Plan,
    *,
    model: ArrayLike | None = None,
    round_epochs: float = 1,
    change_bits: int = 8,
    momentum: float | str = "auto",
    checkpoint: Any = None,
    checkpoint_rounds: int = 10,
    progress: Any = None,
) -> DistributedResult:
    """Train one model on several accelerators of this process, each on shards of the data.

    Model and history are those of :func:`zipml_pynq.distributed.cluster.train` with the same shards
    and arguments, to the bit, whatever the number of accelerators.

    Parameters
    ----------
    drivers : sequence of SgdDriver or HostDriver
        As :func:`zipml_pynq.devices.overlay.load_overlay` and ``find_driver`` give them; there may
        be more or fewer than shards.
    shards : sequence of PackedDataset
        Parts of a data set, packed with the same normalization, each with a seed of its own.
    plan, model, round_epochs, change_bits, momentum, checkpoint, checkpoint_rounds, progress
        As for ``train``; ``round_epochs`` is a number.

    Raises
    ------
    ArgumentError, CheckpointError
        As ``train``.
    """
    if not drivers:
        raise ArgumentError("drivers was empty; allowed is at least one")
    bits, momentum = check_change_bits(change_bits), check_momentum(momentum, len(shards))
    rounds = Rounds(plan.epochs, round_epochs, plan.first_epoch)
    facts = [ShardFacts.of([shard]) for shard in shards]
    check_shards(facts, plan, rounds.pieces)
    start = fixed_model(model, facts[0].layout.features)[None]
    kept = kept_in(checkpoint, checkpoint_rounds, facts, [plan], rounds, start, bits, momentum)
    with ThreadPoolExecutor(len(drivers)) as pool:
        workers = _Threads(drivers, shards, plan, bits, pool)
        return run_rounds(
            workers, facts, rounds, start, momentum=momentum, progress=progress, checkpoint=kept
        ).result()
