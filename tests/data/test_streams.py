"""Files of samples in pieces: the numbers are those of a whole reading, errors name lines."""

from __future__ import annotations

import gzip
import io
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, vstack
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from zipml_pynq.data import row_arrays, streams
from zipml_pynq.data.streams import RowFile
from zipml_pynq.errors import ArgumentError


def read(file: RowFile) -> tuple[np.ndarray, np.ndarray | None, int]:
    """All rows, dense, and the number of blocks that they came in."""
    blocks = list(file.blocks())
    width = max(X.shape[1] for X, _ in blocks)
    parts = []
    for X, _ in blocks:
        if isinstance(X, csr_matrix):
            X.resize(X.shape[0], width)
        parts.append(X)
    X = vstack(parts).toarray() if isinstance(parts[0], csr_matrix) else np.concatenate(parts)
    y = None if blocks[0][1] is None else np.concatenate([y for _, y in blocks])
    return X, y, len(blocks)


@pytest.fixture(params=[37, 1 << 22])
def pieces(request, monkeypatch):
    """Pieces that are shorter than some lines, and whole files."""
    monkeypatch.setattr(streams, "TEXT_BYTES", request.param)
    monkeypatch.setattr(row_arrays, "ARRAY_BYTES", request.param)


def write(path, content: str) -> str:
    path.write_bytes(content.encode())
    return str(path)


# ---- LIBSVM ------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero_based", [False, True])
@pytest.mark.usefixtures("pieces")
def test_libsvm_is_read_as_scikit_learn_reads_it(tmp_path, zero_based):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 9)) * 10.0 ** rng.integers(-30, 30, (60, 9))
    X[rng.random(X.shape) < 0.4] = 0
    X[0, 0] = X[3, 8] = 1
    y = rng.standard_normal(60)
    path = tmp_path / "set.svm"
    dump_svmlight_file(X, y, str(path), zero_based=zero_based, comment="made up")
    found, labels, count = read(RowFile(str(path), zero_based=zero_based))
    expected, expected_labels = load_svmlight_file(str(path), zero_based=zero_based)
    assert np.array_equal(found, expected.toarray())
    assert np.allclose(found, X, rtol=1e-15, atol=0)  # the file has 16 digits
    assert np.array_equal(labels, expected_labels)
    assert (count > 1) == (streams.TEXT_BYTES == 37)


@pytest.mark.usefixtures("pieces")
def test_everything_that_the_format_allows(tmp_path):
    text = (
        "# a comment\n"
        "+1 1:0.5 3:-2e-3 # until the end\r\n"
        "\n"
        "-1.5e0 qid:7 2:.25\t4:3.\n"
        "   0   # no entries\n"
        "2 4:1E2"
    )
    X, y, _ = read(RowFile(write(tmp_path / "set", text), "libsvm"))
    assert np.array_equal(y, [1, -1.5, 0, 2])
    assert np.array_equal(X, [[0.5, 0, -2e-3, 0], [0, 0.25, 0, 3], [0, 0, 0, 0], [0, 0, 0, 100]])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 1:x", "'x' is no finite number"),
        ("1 1:", "a number is missing ('1:'); --missing"),
        ("1 1:nan", "a number is missing ('1:nan'); --missing"),
        ("nan 1:1", "a number is missing ('nan'); --missing"),
        ("1 1:1e400", "'1e400' is no finite number"),
        ("1 1:0x10", "'0x10' is no finite number"),
        ("1 1:1e", "'1e' is no finite number"),
        ("1 1:1.2.3", "'1.2.3' is no finite number"),
        ("1 1:-", "'-' is no finite number"),
        ("1 1:2:3", "'2:3' is no finite number"),
        ("yes 1:1", "'yes' is no finite number"),
        ("1:1 2:2", "'1:1' is no finite number"),
        ("1,2 1:1", "'1,2' is no finite number"),
        ("1 2", "'2' is no index:value"),
        ("1 :2", "':2' is no index:value"),
        ("1 a:2", "'a:2' is no index:value"),
        ("1 -1:2", "'-1:2' is no index:value"),
        ("1 0:2", "the index of '0:2' is out of range: allowed are 1..2147483646; --zero-based"),
        ("1 2147483648:2", "the index of '2147483648:2' is out of range"),
        ("1 2:2 2:3", "the index of '2:3' does not ascend"),
        ("1 3:2 2:3", "the index of '2:3' does not ascend"),
    ],
)
@pytest.mark.usefixtures("pieces")
def test_what_is_wrong_is_named_with_its_line(tmp_path, line, message):
    text = "# header\n" + "1 1:2.5 2:3\n\n" * 5 + line + "\n1 1:2\n"
    path = write(tmp_path / "set.svm", text)
    with pytest.raises(ArgumentError) as error:
        read(RowFile(path))
    assert str(error.value).startswith(f"path was '{path}': line 12: {message}")


def test_known_columns(tmp_path):
    path = write(tmp_path / "set.svm", "1 1:1\n2 3:1\n")
    assert read(RowFile(path, columns=5))[0].shape == (2, 5)
    with pytest.raises(ArgumentError, match=r"'3:1' is out of range: allowed are 1\.\.2, the col"):
        read(RowFile(path, columns=2))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(allow_nan=False, allow_infinity=False).map(repr),
            st.from_regex(r"\A[+-]?[0-9]{1,25}(\.[0-9]{0,25})?([eE][+-]?[0-9]{1,2})?\Z"),
            st.from_regex(r"\A[+-]?\.[0-9]{1,22}([eE][+-]?[0-9]{1,2})?\Z"),
        ).filter(str.isascii),
        min_size=1,
        max_size=32,
    )
)
def test_numbers_are_rounded_correctly(numbers):
    text = "0 " + " ".join(f"{i}:{number}" for i, number in enumerate(numbers, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
        X, _, _ = read(RowFile("-", "libsvm"))
    assert X[0].tolist() == [float(number) for number in numbers]


def test_a_long_line_is_no_text(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_LINE_BYTES", 1000)
    path = tmp_path / "set.svm"
    path.write_bytes(b"1 " * 1000)
    monkeypatch.setattr(streams, "TEXT_BYTES", 500)
    with pytest.raises(ArgumentError, match="a line of more than 1000 bytes: is it text"):
        read(RowFile(str(path)))


# ---- Tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.usefixtures("pieces")
def test_tables(tmp_path, delimiter, header):
    table = np.random.default_rng(1).standard_normal((30, 5))
    lines = [delimiter.join(map(repr, row)) for row in table.tolist()]
    if header:
        names = ["a", "b", '"c d"' if delimiter != " " else "cd", "y", "e"]
        lines.insert(0, delimiter.join(names))
    path = write(tmp_path / "table.csv", "\n".join(lines) + "\n\n")
    X, y, _ = read(RowFile(path))
    assert np.array_equal(np.c_[X, y], table)
    X, y, _ = read(RowFile(path, label="y" if header else "4"))
    assert np.array_equal(X, table[:, [0, 1, 2, 4]])
    assert np.array_equal(y, table[:, 3])
    X, y, _ = read(RowFile(path, columns=5))
    assert np.array_equal(X, table)
    assert y is None


def test_spaces_around_fields(tmp_path):
    X, y, _ = read(RowFile(write(tmp_path / "t.csv", " 1 , 2,\t5 \r\n4,5 ,6\r\n")))
    assert np.array_equal(np.c_[X, y], [[1, 2, 5], [4, 5, 6]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3\n4,,6\n", r"line 3: a number is missing \(''\) in column 2 \('b'\); --miss"),
        ("1,2,5\n4,5\n", "line 2: it has another number of columns than the 3"),
        ("1,2,5\n4,5,6,7\n", "line 2: it has another number of columns than the 3"),
        ("1,2,5\n\n4,setosa,6\n", "line 3: 'setosa' is no finite number in column 2"),
        ("1,2,5\n4,inf,6\n", "line 2: 'inf' is no finite number in column 2"),
        ('1,2,5\n4,"6,7\n', "line 2: the quote at '\"6,7' is not closed"),
        ('1,2,5\n4,"6"7,8\n', "line 2: the quote at '\"6\"' is not closed on its line, or text"),
        ("1 2 5\n4 5\n", "line 2: it has another number of columns than the 3"),
        ("1\n2\n", r"its first line has 1 column\(s\)"),
        ("", "it holds no rows"),
        ("a,b\n", "it holds no rows"),
    ],
)
@pytest.mark.usefixtures("pieces")
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(ArgumentError, match=message):
        read(RowFile(write(tmp_path / "t.csv", text)))


def test_labels_that_are_not_there(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,c\n1,2,3\n")
    for label in ("d", "0", "4", "-1"):
        with pytest.raises(ArgumentError, match=rf"label was '{label}'; allowed are 1\.\.3 and"):
            read(RowFile(path, label=label))
    with pytest.raises(ArgumentError, match="it has 3 columns; allowed are 5, or with labels 6"):
        read(RowFile(path, columns=5))


# ---- Arrays ------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.usefixtures("pieces")
def test_arrays(tmp_path, save, dtype):
    X = (np.random.default_rng(2).random((20, 3, 4)) * 100).astype(dtype)
    y = np.arange(20)
    save(tmp_path / "a.npz", X=X, y=y)
    found, labels, count = read(RowFile(str(tmp_path / "a.npz")))
    assert found.dtype == dtype
    assert np.array_equal(found, X.reshape(20, 12))
    assert np.array_equal(labels, y)
    assert (count > 1) == (row_arrays.ARRAY_BYTES == 37)
    save(tmp_path / "b.npz", X_train=X[:15], y_train=y[:15], X_test=X[15:], y_test=y[15:])
    assert np.array_equal(read(RowFile(str(tmp_path / "b.npz")))[1], y[:15])
    assert np.array_equal(read(RowFile(str(tmp_path / "b.npz"), part="test"))[1], y[15:])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Z": np.ones((2, 2))}, "it holds Z; allowed are X and y"),
        ({"X": np.ones(3), "y": np.ones(3)}, "X has the shape 3; allowed are rows"),
        (
            {"X": np.ones((3, 2)), "y": np.ones(4)},
            "y has the shape 4, X the shape 3 x 2; needed is one",
        ),
        ({"X": np.array([["a"]]), "y": np.ones(1)}, "X holds text; allowed are real numbers"),
        ({"X": np.array([[1, np.nan]]), "y": np.ones(1)}, "row 1, column 2 of the samples is mis"),
    ],
)
def test_bad_arrays(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ArgumentError, match=message):
        read(RowFile(str(tmp_path / "a.npz")))


def test_pickles_are_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([[object()]]), y=np.ones(1))
    with pytest.raises(ArgumentError, match="X holds objects of Python; allowed are real"):
        read(RowFile(str(tmp_path / "a.npz")))


# ---- Files -------------------------------------------------------------------------------------


def test_compressed_text(tmp_path):
    text = b"1 1:2\n3 2:4\n"
    (tmp_path / "set.svm.gz").write_bytes(gzip.compress(text))
    X, y, _ = read(RowFile(str(tmp_path / "set.svm.gz")))
    assert np.array_equal(np.c_[X, y], [[2, 0, 1], [0, 4, 3]])
    (tmp_path / "set.svm.gz").write_bytes(gzip.compress(text)[:-9])
    with pytest.raises(ArgumentError, match="it cannot be read"):
        read(RowFile(str(tmp_path / "set.svm.gz")))


@pytest.mark.parametrize(
    ("text", "columns"), [("1 1:2 3:4\n5 2:1\n", 3), ("1,2,5\n4,5,6\n", 2), ("a b\n1 2\n", 1)]
)
def test_formats_are_told_by_their_content(tmp_path, text, columns):
    assert read(RowFile(write(tmp_path / "data", text)))[0].shape[1] == columns


def test_standard_input_can_be_read_twice(monkeypatch):
    stream = SimpleNamespace(buffer=io.BytesIO(b"1 1:2\n3 1:4\n"))
    monkeypatch.setattr(sys, "stdin", stream)
    with ExitStack() as stack:
        file = RowFile("-").spooled(stack)
        for _ in range(2):
            assert read(file)[1].tolist() == [1, 3]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"1 1:x\n")))
    with pytest.raises(ArgumentError, match="path was standard input: line 1: 'x'"):
        read(RowFile("-"))


def test_progress_is_told_in_bytes(tmp_path):
    path = write(tmp_path / "set.svm", "1 1:2\n" * 1000)
    told: list[int] = []
    read(RowFile(path, advance=told.append))
    assert sum(told) == RowFile(path).size() == 6000


def test_what_is_no_file(tmp_path):
    with pytest.raises(ArgumentError, match="which does not exist"):
        RowFile(str(tmp_path / "missing"))
    with pytest.raises(ArgumentError, match="which is a folder"):
        RowFile(str(tmp_path))
    with pytest.raises(ArgumentError, match="format was 'xml'"):
        RowFile("-", "xml")
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(ArgumentError, match="it cannot be read: File is not a zip file"):
        read(RowFile(str(tmp_path / "a.npz")))
