"""From what a twin's ``fit`` is given to shards on the workers: one pass, levels, packing."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.data.layout import BITPLANES
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.distributed.chunks import chunks
from zipml_pynq.distributed.cluster import RESOURCE
from zipml_pynq.distributed.devices import accelerators
from zipml_pynq.distributed.packing import Packing
from zipml_pynq.distributed.passes import chunks_of_shards, histograms, merged, table
from zipml_pynq.distributed.shards import PackedClasses, opened
from zipml_pynq.distributed.summary import Summary
from zipml_pynq.distributed.targets import Targets
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.problem import own_labels

#: Columns up to which levels are chosen by histograms of each: 128 KiB a column and chunk.
OPTIMAL_COLUMNS = 1024


@dataclass(frozen=True)
class Prepared:
    """Shards, and what is the same for all of them.

    Parameters
    ----------
    sources : sequence
        As :class:`zipml_pynq.distributed.cluster.Cluster` takes them.
    normalization : Normalization
    targets : Targets
    names : sequence of str or None
        Of columns.
    """

    sources: Sequence[Any]
    normalization: Normalization
    targets: Targets
    names: Sequence[str] | None = None


def prepare_chunks(
    client: Any, X: Any, y: Any, sample_weight: Any, classify: bool, estimator: Any, seed: int
) -> Prepared:
    """Shards of chunks of raw rows, packed as an estimator says; they stay on the workers."""
    from dask import delayed

    given = chunks(X, y, sample_weight)
    token = uuid.uuid4().hex[:8]
    of = delayed(Summary.of, pure=False)
    summaries = [
        of(*chunk, classify, dask_key_name=f"zipml-columns-{token}-{n}")
        for n, chunk in enumerate(given)
    ]
    found = client.gather(client.compute(summaries))
    filled = [n for n, own in enumerate(found) if own is not None]
    if not filled:
        what = "X had no rows" if sample_weight is None else "sample_weight was 0 for all samples"
        raise ArgumentError(f"{what}; allowed is at least one that counts")
    given = [given[n] for n in filled]
    whole = found[filled[0]]
    for n in filled[1:]:
        whole.merge(found[n])
    targets = _targets(whole, classify, estimator)
    normalization = whole.normalization(bool(estimator.fit_intercept))
    options, levels = _options(client, estimator, whole, normalization, given, token)
    number = _shards(client, estimator.shards, len(given))
    parts = chunks_of_shards(whole.rows, number)
    packing = Packing(normalization, options, seed, bool(estimator.shuffle), targets, len(parts))
    limits = [worker["memory_limit"] for worker in _workers(client)]
    check_room(sum(packing.nbytes(sum(whole.rows[part])) for part in parts), limits)
    # made once, and not a part of every task
    shared = delayed(packing, name=f"zipml-packing-{token}", traverse=False)
    made = [
        _shard(shared, shard, levels, given[part], whole.rows[part], token)
        for shard, part in enumerate(parts)
    ]
    columns = getattr(X, "columns", None)
    names = [str(name) for name in columns] if columns is not None else None
    return Prepared(client.compute(made), normalization, targets, names)


def check_room(needed: int, limits: Sequence[int]) -> None:
    """Refuse what the workers, which may use so many bytes each (0: as many as there are), cannot
    hold, sparse rows above all, which are dense once they are packed.

    Raises
    ------
    ArgumentError
    """
    if all(limits) and needed > sum(limits):
        raise ArgumentError(
            f"X would take {needed} bytes, packed, and so dense; allowed are the {sum(limits)} "
            "that the workers may use: what helps is fewer bits, more workers, or packed files"
        )


def _workers(client: Any) -> list[dict[str, Any]]:
    """What the scheduler knows of each worker."""
    return list(client.scheduler_info(n_workers=-1)["workers"].values())


def _targets(whole: Summary, classify: bool, estimator: Any) -> Targets:
    """What the labels of all chunks are to the models."""
    weight = whole.samples / whole.weight
    if not classify:
        return Targets(ranges=whole.ranges(), weight=weight)
    found = dict(sorted(whole.classes.items()))
    if len(found) < 2:
        raise ArgumentError(f"y had one class, {list(found)}; two or more classes are needed")
    return Targets(list(found), estimator._costs(found), weight=weight)


def _shard(
    packing: Any,
    shard: int,
    levels: Any,
    given: Sequence[Any],
    rows: Sequence[int],
    token: str,
) -> Any:
    """A Delayed shard, of Delayed parts, one of each chunk, and a Delayed Packing."""
    from dask import delayed

    pack, join = (delayed(of, pure=False) for of in (Packing.part, Packing.shard))
    samples, first, parts = sum(rows), 0, []
    for n, (chunk, count) in enumerate(zip(given, rows, strict=True)):
        name = f"zipml-pack-{token}-{shard}-{n}"
        parts.append(
            pack(packing, shard, samples, first, levels, list(chunk), count, dask_key_name=name)
        )
        first += count
    return join(
        packing, shard, samples, levels, parts, dask_key_name=f"zipml-shard-{token}-{shard}"
    )


def _options(
    client: Any,
    estimator: Any,
    whole: Summary,
    normalization: Normalization,
    given: Sequence[Any],
    token: str,
) -> tuple[dict[str, Any], Any]:
    """How to pack, and the Delayed table of levels, if there is one."""
    from dask import delayed

    width, value_format = _kernel(client)
    own = estimator.__class__(**estimator.get_params(deep=False))
    if width is not None:
        own.device = HostDriver(width, value_format)
    columns = normalization.columns
    if own.levels == "auto" and columns > OPTIMAL_COLUMNS:
        own.levels = "uniform"
    options = own._pack_options(whole.samples, columns)
    per_column = options["levels"] == "optimal"
    if not per_column and options["levels"] != "global":
        return options, None
    extremes = np.stack([whole.columns.low, whole.columns.high])
    shared = delayed(normalization, name=f"zipml-normalization-{token}", traverse=False)
    of, join = (delayed(work, pure=False) for work in (histograms, merged))
    layer = [
        of(
            list(chunk),
            shared,
            extremes,
            per_column,
            dask_key_name=f"zipml-levels-{token}-{n}",
        )
        for n, chunk in enumerate(given)
    ]
    depth = 0
    while len(layer) > 1:
        # by twos, in one order, so that sums do not depend on which worker is first
        layer = [
            join(*layer[n : n + 2], dask_key_name=f"zipml-levels-{token}-{depth}-{n}")
            if n + 1 < len(layer)
            else layer[n]
            for n in range(0, len(layer), 2)
        ]
        depth += 1
    bits = min(options["bits"])
    return options, delayed(table, pure=False)(layer[0], shared, bits, per_column)


def _kernel(client: Any) -> tuple[int | None, str]:
    """Words and format that a worker's kernel takes, where it is one in a bitstream."""
    found = {kernel for kernel in client.run(_kernel_here).values() if kernel is not None}
    if len(found) > 1:
        raise ArgumentError(
            f"the workers' kernels take {sorted(found)}; allowed is one width and format for all"
        )
    return next(iter(found)) if found else (None, BITPLANES)


def _kernel_here() -> tuple[int, str] | None:
    here = accelerators()
    if all(_takes_any(name) for name in here.names):
        return None
    with here.one() as accelerator:
        capability = accelerator.driver(64, BITPLANES).capability
        return capability.word_bits, capability.value_format


def _takes_any(name: str) -> bool:
    """Whether an accelerator takes every width and format: engine and emulated boards do."""
    return name.partition(":")[0] in ("host", "emulated") or (
        name.startswith("remote://") and "/" not in name.removeprefix("remote://")
    )


def _shards(client: Any, wanted: int | str, chunks_there: int) -> int:
    """Shards that chunks are dealt out to."""
    if isinstance(wanted, str):
        workers = _workers(client)
        declared = sum(int(worker["resources"].get(RESOURCE, 0)) for worker in workers)
        there = declared or sum(worker["nthreads"] for worker in workers)
        return max(1, min(there, chunks_there))
    if wanted > chunks_there:
        raise ArgumentError(
            f"shards was {wanted}; X has {chunks_there} chunk(s) with rows: allowed are as many, "
            "or X.rechunk"
        )
    return wanted


# ---- Packed files ------------------------------------------------------------------------------


def prepare_packed(
    client: Any, paths: Sequence[str | os.PathLike[str]], classify: bool, intercept: bool
) -> Prepared:
    """Shards that lie in packed files."""
    files = [os.fspath(path) for path in paths]
    told = client.gather([client.submit(_told, path, classify, pure=False) for path in files])
    normalization, names, _, words = told[0]
    if normalization.intercept != intercept:
        raise ArgumentError(
            f"fit_intercept was {intercept}; the files were packed with "
            f"intercept={normalization.intercept}"
        )
    for path, own in zip(files, told, strict=True):
        if own[3] != words:
            raise ArgumentError(f"'{path}' has the classes {own[3]}, '{files[0]}' {words}")
    if not classify:
        return Prepared(files, normalization, Targets(), names)
    numbers = sorted(set().union(*(own[2] for own in told)))
    if len(numbers) < 2:
        raise ArgumentError("the files' labels are of one class; two or more classes are needed")
    classes = list(numbers) if words is None else [words[number] for number in numbers]
    sources = [PackedClasses(path, tuple(numbers)) for path in files]
    return Prepared(sources, normalization, Targets(classes), names)


def _told(path: str, classify: bool) -> tuple[Normalization, Any, set[int], Any]:
    """Normalization, names of columns, classes by number, and what these are called, of a file."""
    packed = opened(path)[0]
    numbers: set[int] = set()
    if classify:
        labels = own_labels(packed)
        whole = np.rint(labels)
        if not np.allclose(labels, whole, rtol=0, atol=1e-3):
            raise ArgumentError(f"'{path}' has labels that are no integers, and so no classes")
        numbers = set(whole.astype(np.int64).tolist())
    return packed.normalization, packed.names.features, numbers, packed.names.classes
