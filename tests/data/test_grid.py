"""The level grid against formulas and exact arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipml_pynq.data import grid
from zipml_pynq.errors import ArgumentError

ALL_BITS = range(1, 17)


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
        lambda k, step: min(max(k * 2**16 + step, 0), 2**31),
        st.integers(0, 2**15),
        st.integers(-2, 2),
    ),
)


@given(positions_of_interest, st.integers(1, 16))
@settings(deadline=None)
def test_base_and_fraction_in_exact_arithmetic(position, bits):
    u = np.array([position], dtype=np.uint32)
    base, fraction = int(grid.base(u, bits)[0]), int(grid.fraction(u, bits)[0])
    intervals, step = 2 ** (bits - 1), 2 ** (32 - bits)
    assert base == min(position // step, intervals - 1)
    assert 0 <= fraction <= step
    # the expectation of base + dither is the position in intervals, without any error
    assert base * step + fraction == position
    # the base at fewer bits is the prefix of the base at 16
    assert base == int(grid.base(u, 16)[0]) >> (16 - bits)


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid.uniform_levels(0), "bits was 0; allowed is 1..16"),
        (lambda: grid.uniform_levels(17), "bits was 17; allowed is 1..16"),
        (lambda: grid.uniform_levels(4.0), "bits was 4.0; it must be an integer in 1..16"),
        (lambda: grid.uniform_levels(True), "bits was True; it must be an integer"),
        (
            lambda: grid.interval(grid.positions([[0.0]]), 9, np.zeros((1, 257), np.int16)),
            "bits was 9; allowed is 1..8",
        ),
        (lambda: grid.positions(["x"]), "V had dtype <U1"),
        (lambda: grid.positions([np.nan]), "V held NaN or infinity"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
