"""Raw chunks as a shard: what packing all of its rows at once gives."""
# ruff: noqa: E402 (where Dask is not installed, there is nothing to test)

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("distributed")

from scipy.sparse import csr_matrix

from tests.distributed.data import rows
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.distributed.averaging import shard_seed
from zipml_pynq.distributed.packing import Packing
from zipml_pynq.distributed.prepare import check_room
from zipml_pynq.distributed.targets import Targets
from zipml_pynq.errors import ArgumentError

X, Y = rows(samples=3001, columns=70)
W = np.random.default_rng(1).integers(1, 4, len(Y)).astype(float)
NORMALIZATION = Normalization.fit(X, Y)
#: Cuts within a block, within the next one, and at the end of one.
CUTS = (0, 100, 107, 1500, 2048, 3001)


def packing_of(options, shuffle):
    options = {"word_bits": 64, "batch": 16, "intercept": True, "levels": "uniform", **options}
    return Packing(NORMALIZATION, options, 5, shuffle, Targets(), 2)


def shard(options, shuffle, cuts=CUTS, sparse=False):
    packing = packing_of(options, shuffle)
    samples = len(Y)
    parts = []
    for a, b in pairwise(cuts):
        chunk = (csr_matrix(X[a:b]) if sparse else X[a:b], Y[a:b], W[a:b])
        parts.append(packing.part(1, samples, a, None, chunk, b - a))
    return packing.shard(1, samples, None, parts)


@pytest.mark.parametrize(
    "options",
    [
        {"bits": {2, 4}, "sampling": "double"},
        {"bits": {3}, "sampling": "single", "value_format": "refetch"},
        {"value_format": "float32"},
    ],
)
def test_a_shard_is_what_packing_its_rows_gives(options):
    found = shard(options, shuffle=False)
    seed = shard_seed(5, 1)
    whole = pack(X, Y, normalization=NORMALIZATION, seed=seed, sample_weight=W, **options)
    (own,) = found.models
    assert own.layout == whole.layout
    assert packing_of(options, False).nbytes(len(Y)) == whole.planes.nbytes
    for name in ("planes", "labels", "weights", "full"):
        assert np.array_equal(getattr(own, name), getattr(whole, name)), name
    assert np.array_equal(found.rows.q1, NORMALIZATION.transform(X[found.rows.index]))
    # shuffled, it is that in another order, whatever the cuts, and as sparse rows
    order = np.random.default_rng((5, 1)).permutation(len(Y))
    mixed = whole.reordered(order)
    for cuts, sparse in ((CUTS, True), ((0, 3001), False)):
        again = shard(options, True, cuts, sparse)
        for name in ("planes", "labels", "weights", "full"):
            assert np.array_equal(getattr(again.models[0], name), getattr(mixed, name)), name
        assert np.array_equal(again.rows.q1, NORMALIZATION.transform(X[order][again.rows.index]))


def test_rows_that_change_between_passes_are_refused():
    packing = packing_of({"bits": {4}}, True)
    for chunk in ((X[:99], Y[:99], None), (X[:100] * 50, Y[:100], None)):
        with pytest.raises(ArgumentError, match="allowed is what gives the same rows"):
            packing.part(0, 3001, 0, None, chunk, 100)


def test_more_than_the_workers_hold_is_refused():
    check_room(1000, [600, 400])
    check_room(1000, [0, 400])  # one without a limit
    with pytest.raises(ArgumentError, match="X would take 1001 bytes, .* the 1000 that"):
        check_room(1001, [600, 400])
