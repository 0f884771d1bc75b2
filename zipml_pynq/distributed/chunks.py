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


def chunks(X: Any, y: Any) -> list[tuple[Any, Any]]:
    """Pairs of Delayed of some rows and their labels.

    Raises
    ------
    ArgumentError
        Not a collection each, or not cut alike.
    """
    for name, value in (("X", X), ("y", y)):
        if not is_collection(value):
            raise ArgumentError(
                f"{name} was {type(value).__name__}; allowed are arrays and data frames of Dask's, "
                "and a list of packed files alone; arrays that memory holds are for the estimators "
                "of zipml_pynq itself, or dask.array.from_array"
            )
    if hasattr(X, "rechunk"):
        if X.ndim != 2 or y.ndim not in (1, 2):
            raise ArgumentError(f"X had {X.ndim} dimensions, y {y.ndim}; allowed are 2 and 1")
        if X.numblocks[1] != 1:
            X = X.rechunk({1: -1})
        known = not (np.isnan(X.chunks[0]).any() or not hasattr(y, "chunks"))
        if known and not np.isnan(y.chunks[0]).any():
            if X.shape[0] != y.shape[0]:
                raise ArgumentError(f"X had {X.shape[0]} rows, y {y.shape[0]}; allowed are as many")
            if y.chunks[0] != X.chunks[0]:
                y = y.rechunk({0: X.chunks[0]})
    rows, labels = (np.ravel(np.asarray(v.to_delayed(), dtype=object)).tolist() for v in (X, y))
    if len(rows) != len(labels):
        raise ArgumentError(
            f"X had {len(rows)} chunks, y {len(labels)}; allowed are as many, of the same rows"
        )
    return list(zip(rows, labels, strict=True))


def by_chunk(work: Any, X: Any, dtype: Any, columns: int | None) -> Any:
    """``work`` of every chunk of rows, lazily: a Dask array of (rows,) or (rows, columns)."""
    if not hasattr(X, "map_blocks"):
        X = X.to_dask_array()
    if X.numblocks[1] != 1:
        X = X.rechunk({1: -1})
    if columns is None:
        return X.map_blocks(work, dtype=dtype, drop_axis=1)
    return X.map_blocks(work, dtype=dtype, chunks=(X.chunks[0], (columns,)))
