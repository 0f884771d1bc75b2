"""What a distributed training hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.training.result import TrainResult


@dataclass(frozen=True)
class DistributedResult(TrainResult):
    """Model, history and counters of a training on shards.

    ``history_fixed`` has a row a round, shape (rounds, features); counters are sums over shards and
    rounds, so ``modelled_cycles`` are those of all accelerators together.

    Parameters
    ----------
    shards, rounds : int
    round_epochs : float
        Epochs a round.
    bytes_sent : int
        Of the changes that shards sent, without what Dask puts around them.
    bytes_received : int
        Of the models that they were sent.
    slow_workers : tuple of str
        Addresses of those that took twice as long a sample as the others, or longer.
    redone : int
        Parts of rounds that were trained again, because a worker was late or its device failed.
    """

    shards: int = 1
    rounds: int = 0
    round_epochs: float = 1.0
    bytes_sent: int = 0
    bytes_received: int = 0
    slow_workers: tuple[str, ...] = ()
    redone: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """The same of several models that were trained side by side.

    Parameters
    ----------
    history : ndarray of int32, shape (rounds, models, features)
    counters : dict of str to int
        :data:`zipml_pynq.distributed.rounds.COUNTERS`, of all models.
    others
        As of :class:`DistributedResult`.
    """

    history: NDArray[np.int32]
    counters: dict[str, int]
    shards: int
    round_epochs: float
    bytes_sent: int
    bytes_received: int
    slow_workers: tuple[str, ...] = ()
    redone: int = 0

    @property
    def model(self) -> NDArray[np.int32]:
        """The models at the end, int32 (models, features)."""
        return self.history[-1]

    def result(self, model: int = 0) -> DistributedResult:
        """That of one model; counters are those of all."""
        history = self.history[:, model]
        counters: dict[str, Any] = self.counters
        return DistributedResult(
            model=history[-1] / MODEL_ONE,
            model_fixed=history[-1].copy(),
            history_fixed=history,
            shards=self.shards,
            rounds=len(history),
            round_epochs=self.round_epochs,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            slow_workers=self.slow_workers,
            redone=self.redone,
            **counters,
        )
