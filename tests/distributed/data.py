"""Shards of a small data set, and a plan for them."""

from __future__ import annotations

import numpy as np

from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.distributed.averaging import shard_seed
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.plan import Plan


def rows(samples=1200, columns=9, seed=0):
    """Raw samples and labels that a linear model explains but for some noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((samples, columns)) * rng.uniform(0.5, 3, columns) + 1
    y = X @ rng.standard_normal(columns) + 0.3 * rng.standard_normal(samples)
    return X, y


def shards_of(X, y, number, **options) -> list[PackedDataset]:
    options = {"block_samples": 32, **options}
    normalization = Normalization.fit(X, y)
    parts = zip(np.array_split(X, number), np.array_split(y, number), strict=True)
    return [
        pack(a, b, normalization=normalization, seed=shard_seed(0, shard), **options)
        for shard, (a, b) in enumerate(parts)
    ]


def plan_of(shards, epochs=8, **options) -> Plan:
    options = {"schedule": "constant", "delay": 1, "shuffle": True, "seed": 3, **options}
    return make_plan(shards[0], epochs=epochs, **options)
