"""Training on the workers of a Dask cluster: rounds as tasks, and what is done when one is late."""

from __future__ import annotations

import itertools
import statistics
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data.checks import check_positive
from zipml_pynq.distributed.averaging import check_change_bits, check_momentum
from zipml_pynq.distributed.coordinate import ShardFacts, check_shards, kept_in, run_rounds
from zipml_pynq.distributed.devices import accelerators
from zipml_pynq.distributed.result import DistributedResult, Outcome
from zipml_pynq.distributed.rounds import (
    Answer,
    Rounds,
    Span,
    Stage,
    check_length,
    choose_length,
    train_shard,
)
from zipml_pynq.distributed.shards import PackedClasses, check_source, opened
from zipml_pynq.errors import DeviceError, WorkersLostError, ZipmlWarning
from zipml_pynq.training.divergence import judge_losses, row_losses
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.result import fixed_model

#: What a worker calls its accelerators, ``--resources zipml=4``.
RESOURCE = "zipml"
#: A round is late after so many seconds, and so many times the longest round before it. A worker
#: that has not answered yet may be loading its accelerator, and has these seconds in any case.
LATE_SECONDS, LATE_FACTOR = 30.0, 10.0
#: Times that a round may be late, or one device fail, before training gives up.
ATTEMPTS = 4
#: Messages there and back that are measured.
TRIPS_MEASURED = 3


# ---- What workers do ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Failed:
    """A part of a round whose device failed, where, and why."""

    worker: str
    why: str


def _facts(source: Any) -> ShardFacts:
    return ShardFacts.of(opened(source))


def _train(
    source: Any, plans: Sequence[Plan], span: Span, shard: int, model: NDArray[np.int32], bits: int
) -> Answer:
    """A shard's part of a round, on one of this worker's accelerators."""
    from distributed import get_worker

    worker = get_worker()
    models = opened(source)
    layout = models[0].layout
    with accelerators().one() as accelerator:
        driver = accelerator.driver(layout.word_bits, layout.value_format)
        return train_shard(driver, models, plans, span, shard, model, bits, worker.address)


def _train_or_tell(*work: Any) -> Answer | Failed:
    """:func:`_train`, or why its device failed: what broke in gRPC or pynq does not travel."""
    from distributed import get_worker

    try:
        return _train(*work)
    except DeviceError as error:
        return Failed(get_worker().address, str(error))


def _losses(source: Any, plan: Plan, models: list[NDArray[np.float64]]) -> list[NDArray]:
    return row_losses(opened(source)[0], plan, models)


def _echo(_: Any, message: Any) -> Any:
    return message


def _same(source: Any) -> Any:
    return source


@contextmanager
def _scheduler(span: Span) -> Iterator[None]:
    """Errors of the client's connection become ours."""
    try:
        yield
    except Exception as error:
        raise _lost(span, f"the scheduler does not answer ({error})") from error


def _lost(span: Span, what: str) -> WorkersLostError:
    return WorkersLostError(
        f"round {span.number}: {what}; a training with checkpoint= goes on where it was, on this "
        "cluster or another"
    )


def _error(future: Any, value: Any, span: Span, shard: int) -> BaseException:
    """What a part of a round ended with that is neither an answer nor a device's failure."""
    if future.status in ("cancelled", "lost"):
        return _lost(span, f"the scheduler gave shard {shard} up")
    found = value[1] if isinstance(value, tuple) else value
    return found if isinstance(found, BaseException) else _lost(span, f"shard {shard}: {found}")


async def _remove(dask_scheduler: Any, addresses: Sequence[str]) -> None:
    for address in addresses:
        await dask_scheduler.remove_worker(address, stimulus_id="zipml-late", expected=True)


# ---- What the client does ----------------------------------------------------------------------


class Cluster:
    """The shards on a cluster's workers.

    Parameters
    ----------
    client : distributed.Client
    sources : sequence
        See :func:`zipml_pynq.distributed.shards.opened`; also Futures and Delayed.
    bits : int
        Of the changes that are sent.
    timeout : float or None
        Seconds after which a round is late; None: from the rounds before.

    Attributes
    ----------
    facts : list of ShardFacts
    stages : sequence of Stage
        Set before rounds are trained.
    """

    stages: Sequence[Stage]

    def __init__(
        self,
        client: Any,
        sources: Sequence[Any],
        bits: int,
        timeout: float | None,
    ) -> None:
        self.client, self.bits = client, bits
        self.redone = 0
        self._kind = "round"
        self._names = itertools.count()
        self._timeout = timeout
        self._token = uuid.uuid4().hex[:8]
        declared = any(RESOURCE in worker["resources"] for worker in self._workers().values())
        self._resources = {RESOURCE: 1} if declared else None
        self._longest = 0.0
        self._answered: set[str] = set()
        began = time.monotonic()
        self.sources = [self._held(source) for source in sources]
        self.facts: list[ShardFacts] = self.each(_facts)
        self._preparing = time.monotonic() - began

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self.sources)

    def _held(self, source: Any) -> Any:
        """A shard as an argument of tasks, which a worker that lost it can have again."""
        from dask.delayed import Delayed
        from distributed import Future

        check_source(source)
        if isinstance(source, Future | str | PackedClasses):
            return source
        if isinstance(source, Delayed):
            return self.client.compute(source)
        return self.client.submit(_same, source, pure=False)

    def _submit(self, work: Any, *arguments: Any, name: tuple[str, int], **options: Any) -> Any:
        """A task on a worker with a free accelerator, where workers say how many they have."""
        options.setdefault("resources", self._resources)
        key = (f"{name[0]}-{self._token}", *name[1:])
        return self.client.submit(work, *arguments, key=key, pure=False, **options)

    def _workers(self) -> dict[str, Any]:
        """What the scheduler knows of all workers, by address."""
        return dict(self.client.scheduler_info(n_workers=-1)["workers"])

    def each(self, work: Any, *arguments: Any) -> list[Any]:
        """``work(shard, *arguments)`` of every shard, in their order."""
        parts = [
            self._submit(work, source, *arguments, name=(self._new_name(work), number))
            for number, source in self._numbered()
        ]
        return list(self.client.gather(parts))

    def first(self, work: Any, *arguments: Any) -> Any:
        """``work(shard, *arguments)`` of shard 0."""
        name = (self._new_name(work), 0)
        return self._submit(work, self.sources[0], *arguments, name=name).result()

    def _new_name(self, work: Any) -> str:
        # the scheduler knows tasks by their names: no two that differ may have the same
        return f"zipml{work.__name__.replace('_', '-')}-{next(self._names)}"

    # ---- rounds

    def _part(
        self, span: Span, shard: int, model: NDArray[np.int32], attempt: int = 0, **options: Any
    ) -> Any:
        name = f"zipml-{self._kind}-{span.number}" + (f"-again-{attempt}" if attempt else "")
        # a round needs no more of a plan than its own epochs
        stage = next(stage for stage in reversed(self.stages) if stage.first <= span.first)
        plans = [plan.part(span.first, span.stop) for plan in stage.plans]
        own = replace(span, first=0, stop=span.stop - span.first)
        work = (self.sources[shard], plans, own, shard, model, self.bits)
        return self._submit(_train_or_tell, *work, name=(name, shard), **options)

    def answers(self, span: Span, model: NDArray[np.int32]) -> Iterator[Answer]:
        """See :class:`zipml_pynq.distributed.coordinate.Workers`."""
        from distributed import as_completed

        began = since = time.monotonic()
        attempts = late = 0
        with _scheduler(span):
            waiting = {self._part(span, s, model): s for s, _ in self._numbered()}
        while waiting:
            limit = self._limit()
            finished = as_completed(
                list(waiting),
                loop=self.client.loop,
                with_results=True,
                raise_errors=False,
                timeout=limit,
            )
            try:
                for future, value in finished:
                    shard = waiting.pop(future)
                    if future.status != "finished":
                        raise _error(future, value, span, shard)
                    if not isinstance(value, Failed):
                        late = 0
                        self._answered.add(value.worker)
                        yield value
                        continue
                    attempts += 1
                    if attempts > ATTEMPTS:
                        raise DeviceError(f"{value.worker}, shard {shard}: {value.why}")
                    with _scheduler(span):
                        again = self._elsewhere(value, span, shard, model, attempts)
                    waiting[again] = shard
                    finished.add(again)
            except TimeoutError:
                if not waiting or any(future.done() for future in waiting):
                    continue  # answers that came meanwhile
                waited = time.monotonic() - since
                if self._after_timeout(waiting, span, limit, waited, late + 1):
                    late, since = late + 1, time.monotonic()
        self._longest = max(self._longest, time.monotonic() - began)

    def _limit(self) -> float:
        if self._timeout is not None:
            return self._timeout
        return LATE_SECONDS + LATE_FACTOR * max(self._longest, self._preparing)

    def _elsewhere(
        self, failed: Failed, span: Span, shard: int, model: NDArray[np.int32], attempts: int
    ) -> Any:
        """The same part of a round once more, on another worker if there is one."""
        others = [worker for worker in self._workers() if worker != failed.worker]
        warnings.warn(
            f"round {span.number}, shard {shard}: the device of {failed.worker} failed "
            f"({failed.why}); trained again elsewhere",
            ZipmlWarning,
            stacklevel=5,
        )
        self.redone += 1
        return self._part(span, shard, model, attempts, workers=others or None)

    def _after_timeout(
        self, waiting: dict[Any, int], span: Span, limit: float, waited: float, late: int
    ) -> bool:
        """Take workers that hold a round up out of the cluster: their shards go elsewhere.

        False where all that are waited for may still be loading their accelerators.
        """
        keys = {future.key for future in waiting}
        with _scheduler(span):
            busy = self.client.processing()
        holding = [worker for worker, tasks in busy.items() if keys & set(tasks)]
        if waited < LATE_SECONDS:
            known = [worker for worker in holding if worker in self._answered]
            if holding and not known:
                return False
            holding = known
        shards = sorted(waiting.values())
        if late > ATTEMPTS:
            raise _lost(span, f"shards {shards} were not trained in {late} times {limit:.0f} s")
        what = f"workers {', '.join(holding)} are taken out" if holding else "no worker has them"
        warnings.warn(
            f"round {span.number}: shards {shards} are not there after {limit:.0f} s; {what}, and "
            "they are trained again elsewhere",
            ZipmlWarning,
            stacklevel=5,
        )
        self.redone += len(shards)
        if holding:
            self.client.run_on_scheduler(_remove, addresses=holding)
        return True

    # ---- what is measured

    def length(self, start: NDArray[np.int32], epochs: int) -> float:
        """Epochs of a round, by a message's time there and back, and an epoch's of each shard."""
        trips = []
        for _ in range(TRIPS_MEASURED):
            began = time.monotonic()
            self.each(_echo, start)
            trips.append(time.monotonic() - began)
        self._kind = "trial"
        slowest = max(answer.seconds for answer in self.answers(Span(0, 0, 1), start))
        self._kind = "round"
        blocks = min(facts.layout.blocks for facts in self.facts)
        return choose_length(statistics.median(trips), slowest, epochs, blocks)

    def judge(self, outcome: Outcome, start: NDArray[np.int32], allow_divergence: bool) -> None:
        """Raise where training diverged, as judged on rows of all shards; see ``judged``."""
        ends = [start[0] / MODEL_ONE, outcome.result().model]
        rows = self.each(_losses, self.stages[0].plans[0], ends)
        before, after = (np.concatenate(own) for own in zip(*rows, strict=True))
        judge_losses(outcome.result(), before, after, allow_divergence)


def train(
    client: Any,
    shards: Sequence[Any],
    plan: Plan,
    *,
    model: ArrayLike | None = None,
    round_epochs: float | str = "auto",
    change_bits: int = 8,
    momentum: float | str = "auto",
    checkpoint: Any = None,
    checkpoint_rounds: int = 10,
    timeout: float | None = None,
    progress: Any = None,
    until: Any = None,
    allow_divergence: bool = False,
) -> DistributedResult:
    """Train a linear model on shards of a data set, on the accelerators of a Dask cluster.

    In each round every shard is trained from the same model, and the model moves by the mean of
    their changes, weighted by samples. Changes are sent as integers, whose sum has no order: with
    the same shards, plan, rounds and bits the result has the same bits for any number of workers,
    whatever fails.

    Parameters
    ----------
    client : distributed.Client or None
        None: the current one.
    shards : sequence of PackedDataset, path of a packed file, or Future or Delayed of these
        Packed with the same normalization, each with a seed of its own
        (:func:`zipml_pynq.distributed.averaging.shard_seed`). A file has to be at the same path on
        every worker. What is packed in memory goes to workers with the tasks: for more than some
        megabytes use files, or Delayed, which are made where they are needed.
    plan : Plan
        As of one shard; its orders, if any, stand for orders that each shard and round draws.
    model : array_like, shape (features,), optional
        Start; see :meth:`zipml_pynq.accelerator.driver.SgdDriver.train`.
    round_epochs : float or "auto"
        Epochs a round: a whole number, or 1 / k. "auto" measures how long a message takes, and an
        epoch; the result depends on what it chose, which ``round_epochs`` of the result tells.
    change_bits : int
        2, 4, 8, 16, or 32: bits of an entry of the change that a shard sends.
    momentum : "auto" or float
        0 to below 1: each round moves the model by so much of what the round before did, too. S
        shards take 1/S as many steps a pass, and this makes up for it where passes are what
        training waits for. "auto" is 1/2 for more than one shard, and else 0.
    checkpoint : path-like, optional
        A file that the models are left in; where it is there, training goes on from it.
    checkpoint_rounds : int
        Rounds from one to the next.
    timeout : float, optional
        Seconds after which a round is late: workers that have not answered are taken out of the
        cluster. By default 30, and ten times the longest round so far. A worker that has not
        answered in any round may still be loading its accelerator, and has 30 in any case.
    progress : callable or tqdm, optional
        Called with (rounds done, rounds), or its ``update(1)``.
    until : callable, optional
        Called with the model after every round, in normalized units; true ends the training.
    allow_divergence : bool
        Warn about a model that ended far out instead of raising.

    Returns
    -------
    DistributedResult

    Raises
    ------
    ArgumentError
        Shards that are not packed alike, a plan that does not fit them, or a bad option.
    CheckpointError
        ``checkpoint`` is of another training.
    WorkersLostError
        No worker is left, or the scheduler is gone.
    DivergenceError
        See :func:`zipml_pynq.training.divergence.judged`.
    """
    client = current_client(client)
    check_change_bits(change_bits)
    check_momentum(momentum, 1)
    if timeout is not None:
        check_positive("timeout", timeout)
    length = round_epochs if round_epochs == "auto" else check_length(round_epochs)
    cluster = Cluster(client, shards, change_bits, timeout)
    cluster.stages = [Stage(0, [plan])]
    check_shards(cluster.facts, plan, 1)
    start = fixed_model(model, cluster.facts[0].layout.features)[None]
    if isinstance(length, str):
        length = cluster.length(start, plan.epochs)
    outcome = run_cluster(
        cluster,
        start,
        length,
        momentum=momentum,
        checkpoint=checkpoint,
        checkpoint_rounds=checkpoint_rounds,
        progress=progress,
        until=None if until is None else lambda history: until(history[-1, 0] / MODEL_ONE),
    )
    cluster.judge(outcome, start, allow_divergence)
    return outcome.result()


def run_cluster(
    cluster: Cluster,
    start: NDArray[np.int32],
    length: float,
    *,
    momentum: float | str = "auto",
    checkpoint: Any = None,
    checkpoint_rounds: int = 10,
    **options: Any,
) -> Outcome:
    """Train the plans of a cluster's shards in rounds of so many epochs."""
    plans = [plan for stage in cluster.stages for plan in stage.plans]
    changes = tuple(stage.first for stage in cluster.stages[1:])
    rounds = Rounds(plans[0].epochs, length, plans[0].first_epoch, changes)
    for plan in plans:
        check_shards(cluster.facts, plan, rounds.pieces)
    momentum = check_momentum(momentum, len(cluster.facts))
    own = (cluster.facts, plans, rounds, start, cluster.bits, momentum)
    options.update(momentum=momentum, checkpoint=kept_in(checkpoint, checkpoint_rounds, *own))
    return run_rounds(cluster, cluster.facts, rounds, start, **options)


def current_client(client: Any) -> Any:
    """``client``, or the current one.

    Raises
    ------
    ValueError
        There is none; distributed's own message.
    """
    from distributed import get_client

    return get_client() if client is None else client
