"""The loop over rounds: send the model, add the shards' changes up, go on from their mean."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.accelerator.contract import report
from zipml_pynq.data.checks import check_int
from zipml_pynq.data.layout import Layout
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.distributed.averaging import Mean, carried_on, weights_of
from zipml_pynq.distributed.checkpoint import Checkpoint, fingerprint
from zipml_pynq.distributed.result import Outcome
from zipml_pynq.distributed.rounds import COUNTERS, Answer, Rounds, Span
from zipml_pynq.errors import ArgumentError, ZipmlWarning
from zipml_pynq.training.plan import Plan

#: Seconds a sample, as a multiple of the median worker's, from which a worker is slow; the rounds
#: one after the other that it has to be so in; and seconds of a round below which nothing is told.
SLOW, SLOW_ROUNDS, SLOW_SECONDS = 2.0, 5, 0.05


@dataclass(frozen=True)
class ShardFacts:
    """What the coordinator knows of a shard's packed samples.

    ``digest`` tells it from others; ``normalization`` is a digest, too, and the same for all.
    """

    layout: Layout
    models: int
    digest: str
    normalization: str

    @classmethod
    def of(cls, models: Sequence[PackedDataset]) -> ShardFacts:
        first = models[0]
        norm = first.normalization
        same = fingerprint(norm.mid, norm.half, norm.intercept, first.levels)
        own = (first.labels, first.seed, first.draw, len(models), [m.labels.sum() for m in models])
        return cls(first.layout, len(models), fingerprint(repr(first.layout), *own, same), same)


class Workers(Protocol):
    """What trains the shards of a round, wherever it is."""

    redone: int

    def answers(self, span: Span, model: NDArray[np.int32]) -> Iterator[Answer]:
        """One answer of every shard, in any order."""


def check_shards(facts: Sequence[ShardFacts], plan: Plan, pieces: int) -> None:
    """Refuse shards that are not parts of one data set, packed alike."""
    if not facts:
        raise ArgumentError("shards was empty; allowed is at least one")
    first = facts[0]
    for number, own in enumerate(facts):
        a, b = own.layout, first.layout
        alike = all(
            getattr(a, name) == getattr(b, name)
            for name in ("features", "word_bits", "value_format", "bits", "sampling")
        )
        if not alike or own.models != first.models:
            raise ArgumentError(f"shard {number} was packed as {a}; allowed is shard 0's, {b}")
        if own.normalization != first.normalization:
            raise ArgumentError(
                f"shard {number} has another normalization, or other levels, than shard 0; pack "
                "all of them with the same one (normalization=, levels=)"
            )
        if a.blocks < pieces:
            raise ArgumentError(
                f"round_epochs was 1/{pieces}; shard {number} has {a.blocks} block(s): allowed are "
                "as many rounds an epoch, fewer and larger shards, or a smaller block_samples"
            )
        # orders are drawn for each shard: those of the plan may be of another number of blocks
        replace(plan, orders=None).check(a)


@dataclass
class _Pace:
    """Seconds, and seconds a sample, that workers took for their parts of rounds; and which of them
    were told to be slow."""

    seen: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    slow: list[str] = field(default_factory=list)

    def take(self, answer: Answer, samples: int) -> None:
        if answer.worker and samples:
            parts = self.seen.setdefault(answer.worker, [])
            parts.append((answer.seconds, answer.seconds / samples))
            del parts[:-SLOW_ROUNDS]

    def tell(self) -> None:
        """Warn, once, of each worker that is slower than the others."""
        pace = {
            worker: np.array(parts)
            for worker, parts in self.seen.items()
            if len(parts) == SLOW_ROUNDS
        }
        medians = sorted(float(np.median(parts[:, 1])) for parts in pace.values())
        for worker, parts in pace.items():
            usual = medians[(len(medians) - 1) // 2]
            seconds, each = parts.min(axis=0)
            if seconds > SLOW_SECONDS and each > SLOW * usual and worker not in self.slow:
                self.slow.append(worker)
                warnings.warn(
                    f"worker {worker} takes {np.median(parts[:, 1]) / usual:.1f} times as long a "
                    "sample as the median one, and every round waits for it: give it smaller "
                    "shards, or none",
                    ZipmlWarning,
                    stacklevel=4,
                )


def kept_in(
    path: Any,
    every: int,
    facts: Sequence[ShardFacts],
    plans: Sequence[Plan],
    rounds: Rounds,
    start: NDArray[np.int32],
    bits: int,
    momentum: float,
) -> Checkpoint | None:
    """The checkpoint of a training at a path, if there is one to be."""
    check_int("checkpoint_rounds", every, 1, 1 << 31)
    if path is None:
        return None
    digests = [own.digest for own in facts]
    training = fingerprint(
        start, list(plans), rounds.length, rounds.changes, bits, momentum, digests
    )
    return Checkpoint(path, every, training)


def run_rounds(
    workers: Workers,
    facts: Sequence[ShardFacts],
    rounds: Rounds,
    start: NDArray[np.int32],
    *,
    momentum: float = 0.0,
    progress: Any = None,
    until: Callable[[NDArray[np.int32]], bool] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Train in rounds.

    Parameters
    ----------
    workers : Workers
    facts : sequence of ShardFacts, one a shard
    rounds : Rounds
    start : ndarray of int32, shape (models, features)
    momentum : float
        See :func:`zipml_pynq.distributed.averaging.carried_on`.
    progress : callable or tqdm, optional
        Called with (rounds done, rounds), or its ``update(1)``.
    until : callable, optional
        Called after every round with the models after all rounds so far, (rounds, models,
        features); true ends the training there.
    checkpoint : Checkpoint, optional
        Where models are left, and gone on from.
    """
    history = np.empty((len(rounds), *start.shape), dtype=np.int32)
    names = (*COUNTERS, "bytes_sent", "bytes_received")
    counts = dict.fromkeys(names, 0)
    done = 0
    found = None if checkpoint is None else checkpoint.read()
    if found is not None:
        done = min(len(found[0]), len(rounds))
        history[:done] = found[0][:done]
        counts.update(zip(names, found[1], strict=True))
    ended = False
    for number in range(1, done + 1):
        report(progress, number, len(rounds))
        ended = ended or (until is not None and until(history[:number]))
    model = history[done - 1] if done else start
    before = history[done - 2] if done > 1 else start
    pace = _Pace()
    while done < len(rounds) and not ended:
        span = rounds.at(done)
        samples = [span.samples(f.layout.samples, f.layout.block_samples) for f in facts]
        weights = weights_of(samples)
        mean = Mean(model)
        for answer in workers.answers(span, model):
            mean.add(answer.change, weights[answer.shard])
            for name in COUNTERS:
                counts[name] += answer.counters[name]
            counts["bytes_sent"] += answer.change.nbytes
            counts["bytes_received"] += model.nbytes
            pace.take(answer, samples[answer.shard])
        now = model
        model, clamped = mean.result()
        counts["saturations"] += clamped
        if momentum:
            model, clamped = carried_on(model, now, before, momentum)
            counts["saturations"] += clamped
        before = now
        history[done] = model
        done += 1
        pace.tell()
        report(progress, done, len(rounds))
        ended = until is not None and until(history[:done])
        last = ended or done == len(rounds)
        if checkpoint is not None and (last or done % checkpoint.every == 0):
            checkpoint.write(history[:done], counts.values())
    sent, received = counts.pop("bytes_sent"), counts.pop("bytes_received")
    return Outcome(
        history[:done].copy(),
        counts,
        len(facts),
        rounds.length,
        sent,
        received,
        tuple(pace.slow),
        workers.redone,
    )
