"""Draws on the level grid: Philox, dithers and codes, against formulas and statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from zipml_pynq.data import draws, grid
from zipml_pynq.errors import ArgumentError

ALL_BITS = range(1, 9)
#: Standard deviations that a fixed-seed statistic may be off: a seed drawn at random fails one such
#: comparison with probability 5.7e-7, so about one in 1,000 seeds fails any of those in this file.
SIGMAS = 5.0


def philox_by_hand(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 in Python's integers, as Salmon et al. (SC 2011), section 3.3, state it."""
    left0, right0, left1, right1 = counter
    for step in range(10):
        k0 = (key[0] + step * 0x9E3779B9) % 2**32
        k1 = (key[1] + step * 0xBB67AE85) % 2**32
        high0, low0 = divmod(left0 * 0xD2511F53, 2**32)
        high1, low1 = divmod(left1 * 0xCD9E8D57, 2**32)
        left0, right0, left1, right1 = high1 ^ right0 ^ k0, low1, high0 ^ right1 ^ k1, low0
    return left0, right0, left1, right1


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers_of_random123(counter, key, expected):
    assert tuple(int(word) for word in draws.philox(counter, key)) == expected
    assert philox_by_hand(counter, key) == expected


@given(st.tuples(*[st.integers(0, 2**32 - 1)] * 6))
@settings(max_examples=50, deadline=None)
def test_philox_matches_integers(words):
    result = draws.philox(words[:4], words[4:])
    assert tuple(int(word) for word in result) == philox_by_hand(words[:4], words[4:])


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("sampling", draws.SAMPLINGS)
def test_levels_are_kept_exactly(bits, sampling):
    levels = grid.uniform_levels(bits)
    V = np.tile(levels, (50, 1)).astype(np.float32)
    for codes in draws.quantize(V, bits, sampling, seed=3):
        assert np.array_equal(codes, np.tile(np.arange(levels.size), (50, 1)))
    assert np.array_equal(grid.sample_variance(levels, bits), np.zeros(levels.size))


@pytest.mark.parametrize("bits", [*ALL_BITS, 9, 16])
def test_dither_compares_random_with_fraction(bits):
    # fractions around the random number itself: the dither is 1 from one above it on
    random = [philox_by_hand((5, 1, 9, bits), (11, 22))[word] >> bits for word in (0, 2)]
    for offset, expected in ((-1, 0), (0, 0), (1, 1)):
        u = np.zeros((1, 4), dtype=np.uint32)
        u[0, 2], u[0, 3] = random[0] + offset, random[1] + offset
        (drawn,) = draws.dithers(
            u, bits, seed=11 | 22 << 32, draw=9, sampling="single", first_sample=5
        )
        assert drawn[0, 2:].tolist() == [expected, expected]


@pytest.mark.parametrize("bits", [*ALL_BITS, 12])
def test_nearest_rounds_to_the_closest_level_halves_up(bits):
    V = np.linspace(-1, 1, 4097)[None, :]
    (codes,) = draws.quantize(V, bits, "nearest")
    h = 2.0 / 2 ** (bits - 1)
    exact = np.floor((V + 1) / h + 0.5)
    assert np.array_equal(codes, exact)


def test_single_is_the_first_of_double():
    V = np.random.default_rng(0).uniform(-1, 1, (40, 33))
    assert np.array_equal(
        draws.quantize(V, 3, "single", 5, 6)[0], draws.quantize(V, 3, "double", 5, 6)[0]
    )


def test_rows_do_not_depend_on_the_split():
    V = np.random.default_rng(0).uniform(-1, 1, (40, 7))
    whole = draws.quantize(V, 4, seed=1)
    parts = [draws.quantize(V[i : i + 8], 4, seed=1, first_sample=i) for i in range(0, 40, 8)]
    for one, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert np.array_equal(one, np.concatenate(pieces))


@pytest.mark.parametrize("bits", [*ALL_BITS, 12, 16])
def test_samples_are_unbiased_with_the_predicted_variance(bits):
    samples = 40_000
    values = np.array([-0.97, -0.5001, -0.1, 0.003, 0.3333, 0.71, 0.995])
    V = np.tile(values, (samples, 1))
    variance = grid.sample_variance(values, bits)
    h = 2.0 / 2 ** (bits - 1)
    f = (values + 1) / h % 1
    fourth = f * (1 - f) * (1 - 3 * f * (1 - f)) * h**4
    for codes in draws.quantize(V, bits, "double", seed=bits):
        drawn = grid.uniform_levels(bits)[codes]
        # positions are exact to 2^-31, far below what is resolved here
        z = (drawn.mean(axis=0) - values) / np.sqrt(variance / samples)
        assert np.abs(z).max() < SIGMAS
        error = ((drawn - values) ** 2).mean(axis=0) - variance
        assert (np.abs(error) < SIGMAS * np.sqrt((fourth - variance**2) / samples) + 1e-8 * h).all()


def tables_with_ties(rows: int, bits: int, rng: np.random.Generator) -> np.ndarray:
    """int16 (rows, levels) from -1 to 1; in every other row half of the levels come twice."""
    one, count = 1 << 14, (1 << (bits - 1)) + 1
    tables = rng.integers(-one, one + 1, (rows, count))
    tables[::2, 1::2] = tables[::2, : count // 2 * 2 : 2]
    tables[:, 0], tables[:, -1] = -one, one
    return np.sort(tables, axis=1).astype(np.int16)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_dither_of_a_table_compares_the_scaled_random_number(bits):
    random = [philox_by_hand((5, 1, 9, bits), (11, 22))[word] for word in (0, 2)]
    rng = np.random.default_rng(bits)
    for width in (1, 2, 5, 100, *rng.integers(1, 2**15 + 1, 20).tolist(), 2**15):
        table = np.full((1, 2 ** (bits - 1) + 1), width - 2**14, dtype=np.int16)
        table[0, 0] = -(2**14)
        scaled = [r * (width << 16) >> 32 for r in random]
        for offset, expected in ((-1, 0), (0, 0), (1, 1)):
            u = np.zeros((1, 4), dtype=np.uint32)
            u[0, 2:] = [max(s + offset, 0) for s in scaled]
            (drawn,) = draws.dithers(u, bits, 11 | 22 << 32, 9, "single", 5, table)
            assert drawn[0, 2:].tolist() == [expected, expected]


def test_nearest_with_a_table():
    table = np.array([[-0.5, -0.25, -0.25, 0.5, 1.0]])
    levels = grid.check_levels(table, 3, 1)
    V = np.array([[-1.0, -0.5, -0.38, -0.375, -0.25, 0.1249, 0.125, 0.75, 0.7499, 1.0]]).T
    (codes,) = draws.quantize(V, 3, "nearest", levels=levels)
    nearest = [-0.5, -0.5, -0.5, -0.25, -0.25, -0.25, 0.5, 1.0, 0.5, 1.0]
    assert (grid.decode(levels, codes)[:, 0] / 2.0**14).tolist() == nearest
    assert np.array_equal(grid.sample_variance(table.T, 3, levels), np.zeros((5, 1)))


#: Chance that a seed drawn at random fails the test below, shared out evenly over its comparisons.
FALSE_ALARM = 1e-4


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("pooled", [True, False])
def test_samples_from_tables_are_unbiased_with_the_predicted_variance(bits, pooled):
    """Means, variances and covariances of 40,000 draws; all three are normal to a good measure."""
    rng = np.random.default_rng(100 * bits + pooled)
    samples, features = 40_000, 24
    levels = tables_with_ties(1 if pooled else features, bits, rng)
    # not closer to a level than a tenth of the interval, so that many draws go either way
    low = grid.interval(grid.positions(rng.uniform(-1, 1, (1, features))), bits, levels)[0]
    ends = [grid.decode(levels, low + np.uint32(i))[0] / 2.0**14 for i in (0, 1)]
    values = ends[0] + rng.uniform(0.1, 0.9, features) * (ends[1] - ends[0])
    V = np.tile(values, (samples, 1))
    variance = (ends[1] - values) * (values - ends[0])
    np.testing.assert_allclose(grid.sample_variance(V[:1], bits, levels)[0], variance, atol=1e-8)
    drawn = [
        grid.decode(levels, codes) / 2.0**14 - values
        for codes in draws.quantize(V, bits, "double", seed=bits, levels=levels)
    ]
    fourth = variance * ((ends[1] - ends[0]) ** 2 - 3 * variance)
    sigmas = norm.isf(FALSE_ALARM / 2 / (5 * features))
    # positions are exact to 2^-31, far below what is resolved here
    for error in drawn:
        assert (np.abs(error.mean(axis=0)) < sigmas * np.sqrt(variance / samples) + 1e-9).all()
        spread = np.sqrt((fourth - variance**2).clip(0) / samples)
        assert (np.abs((error**2).mean(axis=0) - variance) < sigmas * spread + 1e-9).all()
    covariance = (drawn[0] * drawn[1]).mean(axis=0)
    assert (np.abs(covariance) < sigmas * variance / np.sqrt(samples) + 1e-12).all()


def test_dithers_are_independent():
    rng = np.random.default_rng(1)
    u = grid.positions(rng.uniform(-1, 1, (4000, 32)))
    f = grid.fraction(u, 4) / 2**28
    deviation = np.sqrt(f * (1 - f)).clip(1e-3)

    def standardized(**changes):
        return [(d - f) / deviation for d in draws.dithers(u, **{"bits": 4, "seed": 2, **changes})]

    first, second = standardized()
    other_draw, _ = standardized(draw=1)
    other_seed, _ = standardized(seed=3)
    # the same fractions, drawn with another precision's counter
    (finer,) = [
        (d - f5) / np.sqrt(f5 * (1 - f5)).clip(1e-3)
        for f5 in [grid.fraction(u, 5) / 2**27]
        for d in draws.dithers(u, 5, 2, sampling="single")
    ]
    pairs = {
        "the two of one value": (first, second),
        "draws": (first, other_draw),
        "seeds": (first, other_seed),
        "precisions": (first, finer),
        "features of a pair": (first[:, ::2], first[:, 1::2]),
        "neighbouring pairs": (first[:, 1:-1:2], first[:, 2::2]),
        "crosswise": (first[:, ::2], second[:, 1::2]),
        "samples": (first[:-1], first[1:]),
    }
    for name, (a, b) in pairs.items():
        products = a * b
        z = products.mean() / products.std() * np.sqrt(products.size)
        assert abs(z) < SIGMAS, name


ONE = np.ones((2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: draws.quantize(ONE, 4, "triple"),
            "sampling was 'triple'; allowed are 'double', 's",
        ),
        (
            lambda: draws.quantize(ONE, 4, seed=-1),
            "seed was -1; allowed is 0..18446744073709551615",
        ),
        (
            lambda: draws.quantize(ONE, 4, draw=2**32),
            "draw was 4294967296; allowed is 0..4294967295",
        ),
        (lambda: draws.quantize(ONE, 4, first_sample=2**32 - 1), "first_sample was 4294967295"),
        (lambda: draws.quantize(ONE[0], 4), r"u had shape \(2,\)"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
