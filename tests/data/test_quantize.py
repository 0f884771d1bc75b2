"""Normalization, the level grid and its randomness, against formulas and exact arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from zipml_pynq.data import draws, grid, normalization, rows
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
def test_levels(bits):
    assert np.array_equal(grid.uniform_levels(bits), np.linspace(-1, 1, 2 ** (bits - 1) + 1))


def test_positions_of_chosen_values():
    tiny = np.float32(2.0**-30)
    values = [-1.0, 1.0, 0.0, -0.0, 0.5, tiny, -tiny, tiny / 2, 1.5 * tiny, -3.0, 7.0]
    half = 2**30
    # a tie goes to even: half a step up from an even position stays, one and a half steps become 2
    expected = [0, 2 * half, half, half, half * 3 // 2, half + 1, half - 1, half, half + 2, 0]
    assert grid.positions(values).tolist() == [*expected, 2 * half]


positions_of_interest = st.one_of(
    st.integers(0, 2**31),
    st.builds(
        lambda k, step: min(max(k * 2**24 + step, 0), 2**31),
        st.integers(0, 128),
        st.integers(-2, 2),
    ),
)


@given(positions_of_interest, st.integers(1, 8))
@settings(deadline=None)
def test_base_and_fraction_in_exact_arithmetic(position, bits):
    u = np.array([position], dtype=np.uint32)
    base, fraction = int(grid.base(u, bits)[0]), int(grid.fraction(u, bits)[0])
    intervals, step = 2 ** (bits - 1), 2 ** (32 - bits)
    assert base == min(position // step, intervals - 1)
    assert 0 <= fraction <= step
    # the expectation of base + dither is the position in intervals, without any error
    assert base * step + fraction == position
    # the base at fewer bits is the prefix of the base at 8
    assert base == int(grid.base(u, 8)[0]) >> (8 - bits)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("sampling", draws.SAMPLINGS)
def test_levels_are_kept_exactly(bits, sampling):
    grid = grid.uniform_levels(bits)
    V = np.tile(grid, (50, 1)).astype(np.float32)
    for codes in draws.quantize(V, bits, sampling, seed=3):
        assert np.array_equal(codes, np.tile(np.arange(grid.size), (50, 1)))
    assert np.array_equal(grid.sample_variance(grid, bits), np.zeros(grid.size))


@pytest.mark.parametrize("bits", ALL_BITS)
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


@pytest.mark.parametrize("bits", ALL_BITS)
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


@pytest.mark.parametrize("bits", ALL_BITS)
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
        assert (np.abs(error) < SIGMAS * np.sqrt((fourth - variance**2) / samples) + 1e-8).all()


def tables_with_ties(rows: int, bits: int, rng: np.random.Generator) -> np.ndarray:
    """int16 (rows, levels) from -1 to 1; in every other row half of the levels come twice."""
    one, count = 1 << 14, (1 << (bits - 1)) + 1
    tables = rng.integers(-one, one + 1, (rows, count))
    tables[::2, 1::2] = tables[::2, : count // 2 * 2 : 2]
    tables[:, 0], tables[:, -1] = -one, one
    return np.sort(tables, axis=1).astype(np.int16)


positions_in_tables = st.one_of(
    st.integers(0, 2**31),
    st.builds(
        lambda level, step: min(max((level << 16) + step, 0), 2**31),
        st.integers(0, 2**15),
        st.integers(-2, 2),
    ),
)


@given(st.data(), st.integers(1, 5))
@settings(deadline=None)
def test_interval_of_a_table_in_exact_arithmetic(data, bits):
    count = 2 ** (bits - 1) + 1
    level = st.integers(-(2**14), 2**14)
    table = sorted(data.draw(st.lists(level, min_size=count, max_size=count)))
    ends = [(level + 2**14) << 16 for level in table]
    position = data.draw(st.one_of(positions_in_tables, st.sampled_from(ends)))
    below, fraction, width = (
        int(part[0, 0])
        for part in grid.interval(np.array([[position]], np.uint32), bits, np.int16([table]))
    )
    inside = min(max(position, ends[0]), ends[-1])
    assert below == sum(end <= inside for end in ends[1:-1])
    assert width == ends[below + 1] - ends[below]
    assert ends[below] + fraction == inside
    assert 0 <= fraction <= width


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


# ---- normalization -----------------------------------------------------------------------------


matrices = st.sampled_from([np.float32, np.float64]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(
            allow_nan=False, allow_infinity=False, width=32 if dtype == np.float32 else 64
        ),
    )
)


@given(matrices)
@settings(max_examples=300, deadline=None)
def test_fitted_data_fill_the_range_and_never_leave_it(X):
    n = normalization.Normalization.fit(X, np.zeros(len(X)))
    V = n.transform(X)
    assert V.dtype == np.float32
    assert V.shape == (X.shape[0], X.shape[1] + 1)
    assert (V[:, -1] == 1).all()
    values = V[:, :-1]
    assert np.abs(values).max() <= 1
    constant = X.min(axis=0) == X.max(axis=0)
    assert (values[:, constant] == 0).all()
    assert (np.abs(values[:, ~constant]).max(axis=0) == 1).all()
    assert n.out_of_range(X) == 0
    back = n.inverse(V)
    assert np.array_equal(back[:, constant], X[:, constant].astype(np.float64))
    # float32 values: half a unit in the last place of 1, and the rounding of mid and of the result
    slack = n.half * 2.0**-23 + np.abs(n.mid) * 2.0**-52 + 5e-324
    assert (np.abs(back - X) <= slack).all()


def test_ordinary_columns_have_the_plain_formula():
    X = np.array([[0, -3], [4, 5], [1, 1]], dtype=np.float32)
    n = normalization.Normalization.fit(X, [10, 20, 15], intercept=False)
    assert n.mid.tolist() == [2, 1]
    assert n.half.tolist() == [2, 4]
    assert (n.label_mid, n.label_half) == (15, 5)
    assert n.transform(X).tolist() == [[-1, -1], [1, 1], [-0.5, 0]]
    assert n.transform_labels([10, 20, 15]).tolist() == [-1, 1, 0]
    assert n.inverse_labels([-1, 1, 0]).tolist() == [10, 20, 15]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-1.7e308, 1.7e308),
        (1.0e308, 1.7e308),
        (-np.finfo(np.float64).max, 1.03235139e298),
        (0.0, 5e-324),
        (1.0, 1.0 + 2.0**-52),
        (np.float64(np.finfo(np.float32).min), np.float64(np.finfo(np.float32).max)),
    ],
)
def test_extreme_ranges(low, high):
    X = np.array([[low], [high]])
    n = normalization.Normalization.fit(X, [low, high])
    values = n.transform(X)[:, 0]
    assert np.abs(values).max() == 1
    assert values[0] < values[1]
    labels = n.transform_labels([low, high])
    assert np.isfinite(labels).all()
    assert labels[0] < labels[1]
    back = n.inverse(n.transform(X))[:, 0]
    np.testing.assert_allclose(back, [low, high], rtol=0, atol=n.half[0] * 2.0**-50)


def test_constant_labels_come_back():
    n = normalization.Normalization.fit(np.eye(3), np.full(3, 7.25))
    assert n.transform_labels([7.25, 7.25, 9.0]).tolist() == [0, 0, 0]
    assert n.predict(np.eye(3), [1, 2, 3, 4]).tolist() == [7.25] * 3


@pytest.mark.parametrize("intercept", [True, False])
def test_raw_model_and_predict_agree_with_normalized_arithmetic(intercept):
    rng = np.random.default_rng(4)
    X = rng.normal(3, 5, (500, 6))
    X[:, 2] = 8.5
    y = rng.normal(-20, 3, 500)
    n = normalization.Normalization.fit(X, y, intercept)
    model = rng.normal(size=n.features)
    expected = n.label_mid + n.label_half * (n.transform(X).astype(np.float64) @ model)
    coefficients, constant = n.to_raw_model(model)
    np.testing.assert_allclose(n.predict(X, model), expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(X @ coefficients + constant, n.predict(X, model), rtol=1e-12)
    assert coefficients[2] == 0


def test_new_data_leave_the_range_and_are_counted():
    X = np.array([[0.0, 5.0], [2.0, 5.0]])
    n = normalization.Normalization.fit(X, [0, 1])
    new = np.array([[3.0, 5.0], [1.0, 6.0], [-1e300, 5.0]])
    assert n.out_of_range(new) == 3
    assert n.transform(new)[0].tolist() == [2, 0, 1]
    assert n.transform(new)[1].tolist() == [0, 0, 1]
    assert grid.positions([2.0, -2.0]).tolist() == [2**31, 0]


@given(
    matrices.map(lambda a: np.tile(a, (7, 1))),
    st.integers(1, 30),
    st.integers(1, 9),
    st.integers(1, 3),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_compiled_ranges_are_those_of_numpy(X, rows, columns, threads, gaps):
    X = np.resize(X, (rows, columns + 1))
    X = X[:, :-1] if gaps else np.ascontiguousarray(X[:, :-1])
    low, high = normalization.column_range("X", X, threads)
    assert low.dtype == high.dtype == np.float64
    assert np.array_equal(low, X.min(axis=0))
    assert np.array_equal(high, X.max(axis=0))
    assert not np.signbit(low[low == 0]).any()
    n = normalization.Normalization(X[0], np.abs(X[-1] / 2), 0, 1)
    with np.errstate(over="ignore"):
        outside = np.abs(X.astype(np.float64) - n.mid) > n.half
    assert n.out_of_range(X, threads=threads) == outside.sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("columns", [1, 3, 13, 64, 255, 256, 300])
def test_every_value_is_looked_at(columns, dtype):
    """Wherever it lies in the blocks of the compiled pass, and on its own side of zero."""
    rng = np.random.default_rng(columns)
    X = rng.normal(size=(2100 // columns + 40, columns)).astype(dtype)
    wide = np.zeros((len(X), columns + 3), dtype)
    for a in (X, wide[:, 1:-2]):
        a[:] = X
        for row in (0, 1, len(X) // 2, len(X) - 2, len(X) - 1):
            for column in {0, columns // 2, columns - 1}:
                for value in (np.nan, np.inf, -np.inf, 50, -50):
                    kept, a[row, column] = a[row, column], value
                    if np.isfinite(value):
                        low, high = normalization.column_range("X", a, 1)
                        assert (low[column] if value < 0 else high[column]) == value
                    else:
                        message = rf"X was {value} in row {row}, column {column}; every"
                        with pytest.raises(ArgumentError, match=message):
                            normalization.column_range("X", a, 1)
                    a[row, column] = kept


def test_many_rows_are_worked_on_in_parts():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(3 * rows._CHUNK_VALUES // 4, 5)).astype(np.float32)
    n = normalization.Normalization.fit(X, np.zeros(len(X)))
    middle = (X.min(axis=0).astype(float) + X.max(axis=0)) / 2
    half = (X.max(axis=0).astype(float) - X.min(axis=0)) / 2
    assert np.array_equal(n.mid, middle)
    assert np.array_equal(n.half, half)
    expected = ((X.astype(float) - middle) / half).astype(np.float32)
    assert np.array_equal(n.transform(X)[:, :-1], expected)
    X[-2, 3] = np.nan
    with pytest.raises(ArgumentError, match=rf"X was nan in row {len(X) - 2}, column 3;"):
        n.transform(X)


def test_integers_booleans_and_halves_are_converted():
    for dtype in (np.int8, np.uint64, np.bool_, np.float16, ">f4", ">f8", np.longdouble):
        X = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
        n = normalization.Normalization.fit(X, np.array([0, 1, 1]).astype(dtype))
        assert n.transform(X)[:, 0].tolist() == [-1, 1, 1]


def test_normalization_is_immutable_and_compares_by_value():
    n = normalization.Normalization.fit(np.eye(3), [0, 1, 2])
    assert n == normalization.Normalization(n.mid, n.half, n.label_mid, n.label_half)
    assert n != normalization.Normalization(n.mid, n.half * 2, n.label_mid, n.label_half)
    assert n != normalization.Normalization(
        n.mid, n.half, n.label_mid, n.label_half, intercept=False
    )
    assert n != 3
    with pytest.raises(ValueError, match="read-only"):
        n.mid[0] = 1


ONE = np.ones((2, 2))
FITTED = normalization.Normalization.fit(ONE, ONE[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: normalization.Normalization.fit([[np.nan, 1]], [0]),
            "X was nan in row 0, column 0; every",
        ),
        (
            lambda: normalization.Normalization.fit([[1, 2], [1, np.inf]], [0, 1]),
            "X was inf in row 1, col",
        ),
        (
            lambda: normalization.Normalization.fit(ONE, [0, -np.inf]),
            "y was -inf in row 1; every label",
        ),
        (
            lambda: normalization.Normalization.fit(np.empty((0, 3)), []),
            r"X had shape \(0, 3\); it must",
        ),
        (
            lambda: normalization.Normalization.fit(np.empty((3, 0)), ONE[0]),
            r"X had shape \(3, 0\); it must",
        ),
        (
            lambda: normalization.Normalization.fit([1, 2], [1, 2]),
            r"X had shape \(2,\); it must have 2",
        ),
        (
            lambda: normalization.Normalization.fit(ONE, ONE),
            r"y had shape \(2, 2\); it must have 1",
        ),
        (
            lambda: normalization.Normalization.fit(ONE, [1, 2, 3]),
            r"y had 3 label\(s\), X 2 row\(s\)",
        ),
        (
            lambda: normalization.Normalization.fit([["a", "b"]], [1]),
            "X had dtype <U1; it must be a dense",
        ),
        (lambda: normalization.Normalization.fit(ONE * 1j, [1, 2]), "X had dtype complex128"),
        (lambda: normalization.Normalization.fit(ONE, [None, 1]), "y had dtype object"),
        (
            lambda: FITTED.transform(np.ones((2, 3))),
            r"X had 3 column\(s\)",
        ),
        (
            lambda: FITTED.predict(ONE, [1, 2]),
            "model had 2 entries; .* 3",
        ),
        (lambda: FITTED.to_raw_model([[1]]), r"model had shape \(1, 1\)"),
        (
            lambda: FITTED.inverse(ONE),
            r"V had 2 column\(s\); .* 3 features",
        ),
        (lambda: FITTED.transform_labels([np.nan]), "y was nan in row 0"),
        (lambda: normalization.Normalization([], [], 0, 1), r"mid had shape \(0,\)"),
        (
            lambda: normalization.Normalization([0], [1, 2], 0, 1),
            r"half had shape \(2,\), mid \(1,\)",
        ),
        (lambda: normalization.Normalization([0], [-1], 0, 1), "must not be negative"),
        (
            lambda: normalization.Normalization([0], [1], np.nan, 1),
            "label_mid and label_half must be finite",
        ),
        (lambda: grid.uniform_levels(0), "bits was 0; allowed is 1..8"),
        (lambda: grid.uniform_levels(9), "bits was 9; allowed is 1..8"),
        (lambda: grid.uniform_levels(4.0), "bits was 4.0; it must be an integer in 1..8"),
        (lambda: grid.uniform_levels(True), "bits was True; it must be an integer"),
        (lambda: grid.positions(["x"]), "V had dtype <U1"),
        (lambda: grid.positions([np.nan]), "V held NaN or infinity"),
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
