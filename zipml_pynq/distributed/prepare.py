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
from zipml_pynq.distributed.passes import (
    Packing,
    Summary,
    chunks_of_shards,
    histograms,
    merged,
    table,
)
from zipml_pynq.distributed.shards import PackedClasses, opened
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
    classes : list or None
    names : sequence of str or None
        Of columns.
    weighted : bool
        Whether models have weights of their own.
    """

    sources: Sequence[Any]
    normalization: Normalization
    classes: list[Any] | None
    names: Sequence[str] | None = None
    weighted: bool = False


def prepare_chunks(
    client: Any, X: Any, y: Any, classify: bool, estimator: Any, seed: int
) -> Prepared:
    """Shards of chunks of raw rows, packed as an estimator says; they stay on the workers."""
    from dask import delayed

    pairs = chunks(X, y)
    token = uuid.uuid4().hex[:8]
    summary = delayed(Summary.of, pure=False)
    summaries = [
        summary(rows, labels, classify, dask_key_name=f"zipml-columns-{token}-{n}")
        for n, (rows, labels) in enumerate(pairs)
    ]
    found = client.gather(client.compute(summaries))
    filled = [n for n, own in enumerate(found) if own is not None]
    if not filled:
        raise ArgumentError("X had no rows; allowed is at least one")
    pairs = [pairs[n] for n in filled]
    whole = found[filled[0]]
    for n in filled[1:]:
        whole.merge(found[n])
    whole.classes = dict(sorted(whole.classes.items()))
    classes = list(whole.classes) if classify else None
    if classes is not None and len(classes) < 2:
        raise ArgumentError(f"y had one class, {classes}; two or more classes are needed")
    intercept = bool(estimator.fit_intercept)
    normalization = whole.normalization(intercept)
    options, levels = _options(client, estimator, whole, normalization, pairs, token)
    number = _shards(client, estimator.shards, len(pairs))
    parts = chunks_of_shards(whole.rows, number)
    costs = estimator._costs(whole.classes) if classify else None
    packing = Packing(
        normalization, options, seed, bool(estimator.shuffle), classes, costs, len(parts)
    )
    pack = delayed(packing, pure=False)
    made = [
        pack(
            n,
            levels,
            [rows for rows, _ in pairs[part]],
            [labels for _, labels in pairs[part]],
            dask_key_name=f"zipml-pack-{token}-{n}",
        )
        for n, part in enumerate(parts)
    ]
    columns = getattr(X, "columns", None)
    names = [str(name) for name in columns] if columns is not None else None
    return Prepared(client.compute(made), normalization, classes, names, costs is not None)


def _options(
    client: Any,
    estimator: Any,
    whole: Summary,
    normalization: Normalization,
    pairs: list[tuple[Any, Any]],
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
    options = own._pack_options(sum(whole.rows), columns)
    if options["levels"] != "optimal":
        return options, None
    extremes = np.stack([whole.columns.low, whole.columns.high])
    of = delayed(histograms, pure=False)
    layer = [
        of(rows, normalization, extremes, dask_key_name=f"zipml-levels-{token}-{n}")
        for n, (rows, _) in enumerate(pairs)
    ]
    depth = 0
    while len(layer) > 1:
        # by twos, in one order, so that sums do not depend on which worker is first
        join = delayed(merged, pure=False)
        layer = [
            join(*layer[n : n + 2], dask_key_name=f"zipml-levels-{token}-{depth}-{n}")
            if n + 1 < len(layer)
            else layer[n]
            for n in range(0, len(layer), 2)
        ]
        depth += 1
    return options, delayed(table, pure=False)(layer[0], normalization, min(options["bits"]))


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
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
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
        return Prepared(files, normalization, None, names)
    numbers = sorted(set().union(*(own[2] for own in told)))
    if len(numbers) < 2:
        raise ArgumentError("the files' labels are of one class; two or more classes are needed")
    classes = list(numbers) if words is None else [words[number] for number in numbers]
    sources = [PackedClasses(path, tuple(numbers)) for path in files]
    return Prepared(sources, normalization, classes, names)


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
