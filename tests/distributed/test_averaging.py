"""What shards send, and the mean that it comes to."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from math import floor

import numpy as np
import pytest
from scipy.stats import norm

from tests.cases import ALARM
from zipml_pynq.distributed.averaging import (
    CHANGE_BITS,
    EXACT,
    GROUP,
    Mean,
    carried_on,
    change_of,
    check_change_bits,
    check_momentum,
    run_seed,
    shard_seed,
    weights_of,
)
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.result import LARGEST


def models(seed, shape=(2, 150), size=1 << 20):
    rng = np.random.default_rng(seed)
    before = rng.integers(-size, size, shape).astype(np.int32)
    return before, (before + rng.integers(-size, size, shape)).astype(np.int32)


@pytest.mark.parametrize("bits", CHANGE_BITS)
def test_a_change_is_within_a_unit_of_what_it_rounds(bits):
    before, after = models(1)
    before[0, :2], after[0, :2] = (-LARGEST, LARGEST), (LARGEST, -LARGEST)
    after[1, GROUP : 2 * GROUP] = before[1, GROUP : 2 * GROUP]  # a group that does not change
    change = change_of(before, after, bits, 5, 6, 7)
    exact = after.astype(np.int64) - before
    error = np.abs(change.decoded(before) - exact)
    assert not error[1, GROUP : 2 * GROUP].any()
    if bits == EXACT:
        assert change.nbytes == 4 * before.size
        assert not error.any()
        return
    groups = -(-before.shape[1] // GROUP)
    units = change.units.reshape(2, groups).astype(np.int64)
    assert (error < np.repeat(units, GROUP, axis=1)[:, : before.shape[1]]).all()
    assert change.nbytes == 2 * groups * (GROUP * bits // 8 + 4)
    most = (1 << (bits - 1)) - 1
    assert units[0, 0] == -(-2 * LARGEST // most)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_is_unbiased(bits):
    """Sums over draws of each entry's error, against the variance that two levels have."""
    before, after = models(2, (1, GROUP))
    exact = (after.astype(np.int64) - before)[0]
    draws = 500
    seen = np.array(
        [change_of(before, after, bits, 0, r, r % 7).decoded(before)[0] for r in range(draws)]
    )
    unit = int(change_of(before, after, bits, 0, 0, 0).units[0])
    rest = exact % unit
    deviation = np.sqrt(draws * (rest * (unit - rest)).astype(np.float64))
    drawn = deviation > 0
    z = (seen - exact).sum(axis=0)[drawn] / deviation[drawn]
    assert np.abs(z).max() < norm.isf(ALARM / 2 / GROUP)
    # and entries are drawn apart: the sum over all of them, too
    total = (seen - exact).sum() / np.sqrt((deviation**2).sum())
    assert abs(total) < norm.isf(ALARM / 2)


def test_draws_are_those_of_seed_round_and_shard():
    before, after = models(3)

    def codes(*key):
        return change_of(before, after, 8, *key).codes.tobytes()

    assert codes(1, 2, 3) == codes(1, 2, 3)
    assert len({codes(*key) for key in permutations((1, 2, 3))}) == 6
    assert len({run_seed(*key) for key in permutations((1, 2, 3))}) == 6
    assert len({shard_seed(seed, shard) for seed in range(5) for shard in range(5)}) == 25


def test_the_mean_is_that_of_the_formula_in_any_order():
    before, _ = models(4, (2, 70))
    samples = [5, 1000, 77, 123_456]
    changes = [
        change_of(before, models(10 + s, (2, 70))[1], bits, 1, 2, s)
        for s, bits in enumerate((2, 4, 8, 32))
    ]
    weights = weights_of(samples)
    assert weights == samples
    found = set()
    for order in permutations(range(4)):
        mean = Mean(before)
        for shard in order:
            mean.add(changes[shard], weights[shard])
        model, clamped = mean.result()
        assert clamped == 0
        found.add(model.tobytes())
    assert len(found) == 1
    decoded = [change.decoded(before) for change in changes]
    for at in ((0, 0), (0, 69), (1, 3)):
        exact = sum(w * int(d[at]) for w, d in zip(weights, decoded, strict=True))
        moved = floor(Fraction(exact, sum(samples)) + Fraction(1, 2))
        assert model[at] == before[at] + moved


def test_sums_hold_as_many_samples_as_there_are():
    """Largest changes of 2^40 samples: weights keep their high bits, and the model is clamped."""
    before = np.full((1, 3), -LARGEST, dtype=np.int32)
    after = np.full((1, 3), LARGEST, dtype=np.int32)
    weights = weights_of([1 << 39, 1 << 39])
    assert sum(weights) == 1 << 29
    mean = Mean(before)
    for shard, weight in enumerate(weights):
        mean.add(change_of(before, after, 2, 0, 0, shard), weight)
    assert (mean.result()[0] == LARGEST).all()


def test_momentum_is_that_of_the_formula():
    model, now = models(6)
    before, _ = models(7)
    now[0, 0], before[0, 0], model[0, 0] = LARGEST, -LARGEST, LARGEST
    moved, clamped = carried_on(model, now, before, 0.75)
    assert (clamped, moved[0, 0]) == (1, LARGEST)
    for at in ((0, 1), (1, 149)):
        step = floor(Fraction(3, 4) * (int(now[at]) - int(before[at])) + Fraction(1, 2))
        assert moved[at] == model[at] + step
    for wrong in (1, -0.1, "0.5", True, float("nan")):
        with pytest.raises(ArgumentError, match="momentum was"):
            check_momentum(wrong, 4)
    assert [check_momentum("auto", shards) for shards in (1, 2, 100)] == [0, 0.5, 0.5]
    assert check_momentum(0, 4) == 0


@pytest.mark.parametrize("bits", [0, 3, 64, "8", True])
def test_other_bits_are_refused(bits):
    with pytest.raises(ArgumentError, match=r"change_bits was .*; allowed are 2, 4, 8, 16, 32"):
        check_change_bits(bits)
