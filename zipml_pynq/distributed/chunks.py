"""What twins take: Dask's arrays and data frames as chunks, packed files as they are."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from zipml_pynq.errors import ArgumentError


def is_packed_list(X: Any) -> bool:
    """Whether ``X`` is a list of packed files."""
    listed = isinstance(X, list | tuple) and len(X) > 0
    return listed and all(isinstance(x, str | os.PathLike) for x in X)


def is_collection(X: Any) -> bool:
    """Whether ``X`` is an array or data frame of Dask's."""
    from dask.base import is_dask_collection

    return bool(is_dask_collection(X)) and hasattr(X, "to_delayed")


def chunks(X: Any, y: Any, sample_weight: Any = None) -> list[tuple[Any, Any, Any]]:
    """Delayed of some rows, of their labels, and of their weights or None, chunk by chunk.

    Raises
    ------
    ArgumentError
        Not a collection each, or not cut alike.
    """
    given = {"X": X, "y": y, "sample_weight": sample_weight}
    if sample_weight is None:
        del given["sample_weight"]
    for name, value in given.items():
        if not is_collection(value):
            raise ArgumentError(
                f"{name} was {type(value).__name__}; allowed are arrays and data frames of Dask's, "
                "and a list of packed files alone; arrays that memory holds are for the estimators "
                "of zipml_pynq itself, or dask.array.from_array"
            )
    if X.ndim != 2 or any(given[name].ndim not in (1, 2) for name in given):
        dimensions = ", ".join(f"{name} {value.ndim}" for name, value in given.items())
        raise ArgumentError(f"dimensions were {dimensions}; allowed are X 2, and 1 or 2")
    found = [_rows(name, value, X) for name, value in given.items()]
    for name, own in zip(given, found, strict=True):
        if len(own) != len(found[0]):
            raise ArgumentError(
                f"X had {len(found[0])} chunks, {name} {len(own)}; allowed are as many, of the "
                "same rows"
            )
    return list(zip(*found, *([[None] * len(found[0])] * (3 - len(found))), strict=True))


def _rows(name: str, value: Any, X: Any) -> list[Any]:
    """Chunks of rows of a collection, cut where those of ``X`` are, as far as that is known."""
    if hasattr(value, "rechunk"):
        if value.ndim == 2 and value.numblocks[1] != 1:
            value = value.rechunk({1: -1})
        if value is not X and _known(value) and _known(X):
            if X.shape[0] != value.shape[0]:
                raise ArgumentError(
                    f"X had {X.shape[0]} rows, {name} {value.shape[0]}; allowed are as many"
                )
            if value.chunks[0] != X.chunks[0]:
                value = value.rechunk({0: X.chunks[0]})
    return np.ravel(np.asarray(value.to_delayed(), dtype=object)).tolist()


def _known(value: Any) -> bool:
    """Whether a collection tells how many rows its chunks have."""
    return hasattr(value, "chunks") and not np.isnan(value.chunks[0]).any()


def by_chunk(work: Any, X: Any, dtype: Any, columns: int | None) -> Any:
    """``work`` of every chunk of rows, lazily: a Dask array of (rows,) or (rows, columns)."""
    if not hasattr(X, "map_blocks"):
        X = X.to_dask_array()
    if X.numblocks[1] != 1:
        X = X.rechunk({1: -1})
    if columns is None:
        return X.map_blocks(work, dtype=dtype, drop_axis=1, meta=np.empty(0, dtype))
    chunks = (X.chunks[0], (columns,))
    return X.map_blocks(work, dtype=dtype, chunks=chunks, meta=np.empty((0, 0), dtype))
