"""Training on many machines, or many accelerators of one: the same bits in whatever order.

| module | what is decided there |
|---|---|
| ``averaging`` | what shards send, and how it becomes one model |
| ``rounds`` | how long rounds are, and what a shard does in one |
| ``coordinate`` | the loop over rounds |
| ``checkpoint``, ``result`` | where it can go on from, and what it hands back |
| ``local`` | accelerators of this process, without Dask |
| ``cluster`` | workers of a Dask cluster: tasks, late workers, ``train`` |
| ``devices`` | the accelerators of a worker |
| ``shards`` | what a worker holds |
| ``chunks``, ``prepare`` | from Dask's collections to shards |
| ``summary``, ``passes``, ``packing`` | the passes over raw chunks: ranges, levels, planes |
| ``targets`` | the labels and weights of each model |
| ``measures`` | moments, steps and objectives over all shards |
| ``estimators``, ``fitting`` | what a user of Dask-ML meets |
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zipml_pynq.distributed.cluster import train as train
    from zipml_pynq.distributed.estimators import ZipMLClassifier as ZipMLClassifier
    from zipml_pynq.distributed.estimators import ZipMLRegressor as ZipMLRegressor
    from zipml_pynq.distributed.local import train_on as train_on

#: Modules of what is imported when it is first used: Dask and scikit-learn need not be there.
_LAZY = {
    "ZipMLClassifier": "estimators",
    "ZipMLRegressor": "estimators",
    "train": "cluster",
    "train_on": "local",
}

__all__ = ["ZipMLClassifier", "ZipMLRegressor", "train", "train_on"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_LAZY[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("dask", "distributed"):
            raise
        raise ImportError(f"{name} needs Dask: pip install 'zipml_pynq[distributed]'") from error
    return getattr(module, name)
