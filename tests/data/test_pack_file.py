"""Packing of what is larger than memory: the file of the whole, from its parts."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tests.data.packing import assert_same, data, random_tables
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.pack_file import pack_file
from zipml_pynq.errors import ArgumentError


def cut(X, y, at):
    """Rows in parts that end at ``at``."""
    return lambda: zip(np.split(X, at), np.split(y, at), strict=True)


@pytest.mark.parametrize("at", [[], [1, 2, 47], list(range(1, 150))])
@pytest.mark.parametrize(
    "options",
    [
        {"bits": (1, 3, 8), "seed": 5, "draw": 2},
        {"bits": 4, "sampling": "single", "word_bits": 128, "intercept": False},
        {"bits": 2, "sampling": "independent", "dithers": 3, "block_samples": 16},
        {"value_format": "float32", "batch": 7},
        {"bits": (2, 13), "value_format": "wide"},
        {"bits": 4, "value_format": "refetch"},
    ],
)
def test_blocks_make_the_file_of_the_whole(tmp_path, monkeypatch, at, options):
    monkeypatch.setattr("zipml_pynq.data.pack_file._STREAMED_VALUES", 300)
    X, y = data(150, 9, np.float64)
    whole = pack(X, y, **options)
    whole.save(tmp_path / "whole")
    packed = pack_file(cut(X, y, at), tmp_path / "blocks", **options)
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()
    assert_same(packed, whole)
    assert sorted(os.listdir(tmp_path)) == ["blocks", "whole"]


@pytest.mark.parametrize("at", [[], [1], [40, 149], list(range(1, 150))])
def test_blocks_of_skewed_columns_whose_largest_values_come_late(tmp_path, monkeypatch, at):
    """Means count in units of the largest value, which earlier blocks do not know."""
    monkeypatch.setattr("zipml_pynq.data.pack_file._STREAMED_VALUES", 300)
    rng = np.random.default_rng(3)
    X, y = rng.lognormal(0, 2, (150, 9)), rng.normal(size=150)
    X[:, 1] = np.sort(X[:, 1])
    X[-1, 2:6] = 1e9, -1e20, 1e200, 3e38
    X[:100, 6] = 7.0
    pack(X, y, bits=(2, 8)).save(tmp_path / "whole")
    pack_file(cut(X, y, at), tmp_path / "blocks", bits=(2, 8))
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.filterwarnings("ignore:.*were clipped")
def test_blocks_with_a_given_normalization_and_table(tmp_path, monkeypatch):
    monkeypatch.setattr("zipml_pynq.data.pack_file._STREAMED_VALUES", 100)
    X, y = data(80, 9, np.float64)
    half = Normalization.fit(X[:30], y[:30])
    for options in (
        {"normalization": half, "bits": (2, 5)},
        {"levels": random_tables(10, 3), "bits": 3},
        {"normalization": half, "levels": random_tables(10, 3), "bits": 3},
    ):
        whole = pack(X, y, **options)
        assert whole.clipped > 0
        whole.save(tmp_path / "whole")
        pack_file(cut(X, y, [11, 12, 70]), tmp_path / "blocks", **options)
        assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()


def test_sparse_blocks_of_growing_width(tmp_path):
    X, y = data(60, 12, np.float64)
    X[np.random.default_rng(0).random(X.shape) < 0.6] = 0
    X[:20, 8:] = 0
    X[:, 3] = np.abs(X[:, 3]) + 1  # a column whose zeros are implicit alone
    X[20:, 3] = 0
    pack(X, y).save(tmp_path / "whole")

    def blocks():
        yield csr_matrix(X[:20, :8]), y[:20]
        yield csr_matrix(X[20:]), y[20:]

    pack_file(blocks, tmp_path / "blocks")
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()


def test_bad_blocks_leave_nothing(tmp_path):
    X, y = data(40, 5)
    bad = X.copy()
    bad[33, 2] = np.nan
    with pytest.raises(ArgumentError, match="X was nan in row 33, column 2"):
        pack_file(cut(bad, y, [20]), tmp_path / "set")
    with pytest.raises(ArgumentError, match=r"X had 4 columns from row 20 on; before, 5"):
        pack_file(lambda: [(X[:20], y[:20]), (X[20:, :4], y[20:])], tmp_path / "set")
    with pytest.raises(ArgumentError, match="blocks were none"):
        pack_file(list, tmp_path / "set")
    with pytest.raises(ArgumentError, match="levels was 'optimal'"):
        pack_file(cut(X, y, []), tmp_path / "set", levels="optimal")
    for second in (39, 41):
        sizes = iter((40, second))

        def blocks(sizes=sizes):
            rows = next(sizes)
            yield np.resize(X, (rows, 5)), np.resize(y, rows)

        with pytest.raises(ArgumentError, match="rows the second time"):
            pack_file(blocks, tmp_path / "set")
    assert os.listdir(tmp_path) == []
