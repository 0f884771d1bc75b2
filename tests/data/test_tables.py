"""Tables: headers, names, columns that are chosen, missing numbers, what people's files hold."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from tests.data.test_streams import read, write
from zipml_pynq.data.names import Names
from zipml_pynq.data.streams import RowFile
from zipml_pynq.data.tables import Wanted, choose, delimiter_of, is_header
from zipml_pynq.errors import ArgumentError


def wrong(why: str) -> ArgumentError:
    return ArgumentError(why)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a,b,c", "1,2,3", True),
        ("a,b,c", "", True),
        ("1.5,2,3", "4,5,6", False),
        ("id,2001,2002", "7,1.5,2.5", True),
        ("5.1,3.5,setosa", "4.9,3.0,setosa", False),
        ("5.1,NA,3", "1,2,3", False),
        ("NA,NA", "1,2", False),
        ("3,2,5", "1,2,3", False),
        ("1,2", "3,4", False),
        ("4,4,4", "1,2,3", False),
        ("0,1,2,3", "5,6,7,8", None),
        ("0,1", "5,6", None),
        ("1,2,3", "4,5,6", None),
        ("2003,2002,2001", "1.5,2,3", None),
        ("1999,2000", "1.5,2", None),
        ("2001,2002,2003,class", "1,2,3,cat", None),
    ],
)
def test_a_first_line_is_a_header_a_sample_or_asked_about(first, second, expected):
    lines = first.split(","), second.split(",") if second else None
    if expected is None:
        with pytest.raises(ArgumentError, match="may name the columns or be a sample; --header or"):
            is_header(*lines, wrong)
    else:
        assert is_header(*lines, wrong) is expected


@pytest.mark.parametrize("header", [True, False])
def test_a_header_of_numbers_is_what_one_says(tmp_path, header):
    frame = pd.DataFrame(np.arange(12.0).reshape(4, 3) / 8)
    path = write(tmp_path / "t.csv", frame.to_csv(index=False))
    with pytest.raises(ArgumentError, match=r"line 1, '0,1,2', may name the columns"):
        read(RowFile(path))
    X, y, _ = read(RowFile(path, header=header))
    whole = pd.read_csv(path, header=0 if header else None)
    assert np.array_equal(np.c_[X, y], whole.to_numpy())
    names = RowFile(path, header=header).columns_named()
    assert names == (Names(("0", "1"), "2") if header else Names(None, "3"))


def test_columns_are_chosen():
    def chosen(header, count, **wanted):
        found = choose(header, count, Wanted(**wanted), wrong)
        return found.features, found.label

    header = ["id", "b", "y", "a"]
    assert chosen(header, 4) == ((0, 1, 2), 3)
    assert chosen(header, 4, label="y", ignored=("id", "4")) == ((1,), 2)
    by_name = {"columns": 2, "names": ("a", "b"), "label_name": "y"}
    assert chosen(header, 4, **by_name) == ((3, 1), 2)
    assert chosen(["b", "a"], 2, **by_name) == ((1, 0), None)
    # without names, where the label was
    assert chosen(None, 3, columns=2, names=("a", "b"), label_name="1") == ((1, 2), 0)
    assert chosen(None, 2, columns=2, names=("a", "b"), label_name="y") == ((0, 1), None)
    for names, count, wanted, message in (
        (header, 4, {"columns": 2, "names": ("a", "c")}, "it has no column 'c', which the model"),
        (None, 3, by_name, "no header, so nobody can tell which column is the label 'y'; --label"),
        (header, 4, {**by_name, "label": "a"}, "label was 'a', a column that the model predicts"),
        (header, 4, {"label": "y", "ignored": ("y",)}, "ignore was 'y', which is the label"),
        (["a", "a", "y"], 3, {}, "line 1 has the name 'a' twice"),
        (["a", "a", "y"], 3, {"ignored": ("a",)}, "ignore was 'a', and two columns are called so"),
        (None, 5, {"most": 3}, "it has 4 columns beside the label; allowed are at most 3"),
        (None, 4, {"columns": 2}, "it has 4 columns; allowed are 2, or with labels 3"),
    ):
        with pytest.raises(ArgumentError, match=message):
            choose(names, count, Wanted(**wanted), wrong)


def test_delimiters_are_seen_outside_of_quotes(tmp_path):
    assert [delimiter_of(line) for line in ("a;b;c,d", '"a,b,c";d', "a b", "a|b", "a\tb c")] == [
        ";",
        ";",
        " ",
        "|",
        "\t",
    ]
    path = write(tmp_path / "t", "1,5;2;3\n")
    with pytest.raises(ArgumentError, match="line 1: '1,5' is no finite number in column 1"):
        read(RowFile(path))
    assert read(RowFile(path, delimiter="comma"))[1].tolist() == ["5;2;3"]


#: Tables as other programs write them; what pandas makes of them is what is read.
TABLES = [
    '"a","b","y"\n"1","2.5","3"\n"4","5","-6e3"\n',
    'a,"b, and ""c""",y\n1,2,3\n4,5,6\n',
    "a;b;y\r\n1;2;3\r\n4;5;6\r\n",
    "a\tb\ty\r1\t2\t3\r4\t5\t6",
    "\ufeffa,b,y\n 1 ,2, 3\n4,5,6",
    "a|b|y\n1|2|3\n\n\n4|5|6\n",
    "a,b,y\n1,,3\nNA,5,6\n?,nan,7\nNULL,#N/A,8\n",
    "a,b,y\n1,2,cat\n4,5,dog\n6,7,cat\n",
    'a,b,y\n1,2,"a ""b"", c"\n4,5,"dog"\n',
]


@pytest.mark.parametrize("text", TABLES)
def test_tables_are_read_as_pandas_reads_them(tmp_path, text):
    expected = pd.read_csv(
        io.StringIO(text.removeprefix("\ufeff")),
        sep=delimiter_of(text.splitlines()[0]),
        na_values=["?"],
        skipinitialspace=True,
    )
    file = RowFile(write(tmp_path / "t.csv", text), missing="keep")
    X, y, _ = read(file)
    assert np.array_equal(X, expected.iloc[:, :-1].to_numpy(np.float64), equal_nan=True)
    assert y.tolist() == expected["y"].tolist()
    assert file.columns_named() == Names(tuple(expected.columns[:-1]), "y")


def test_missing_numbers(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,y\n1,,3\n4,5,6\n7,8,NA\n,,\n9,2,1\n")
    assert np.array_equal(read(RowFile(path, missing="drop"))[0], [[4, 5], [9, 2]])
    X, y, _ = read(RowFile(path, missing="keep"))
    assert np.isnan(X).tolist() == [[0, 1], [0, 0], [0, 0], [1, 1], [0, 0]]
    assert np.isnan(y).tolist() == [0, 0, 1, 1, 0]
    # predictions need no labels
    X, y, _ = read(RowFile(write(tmp_path / "u.csv", "a,b,y\n1,2,\n3,4,5\n"), columns=2))
    assert np.isnan(y).tolist() == [True, False]
    assert np.array_equal(X, [[1, 2], [3, 4]])
    path = write(tmp_path / "t.svm", "1 1:2 2:nan\n2 2:4\nnan 1:1\n")
    assert read(RowFile(path, missing="drop"))[1].tolist() == [2]
    path = write(tmp_path / "names.csv", "a,y\n1,cat\n2,\n3,dog\n")
    with pytest.raises(ArgumentError, match=r"a label is missing \(''\)"):
        read(RowFile(path))
    assert read(RowFile(path, missing="drop"))[1].tolist() == ["cat", "dog"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "it is text in UTF-16, which is not UTF-8; `iconv"),
        ("a,b\n1,2\n".encode("utf-16-le"), "it holds zero bytes: it is no text, or is not UTF-8"),
        ("größe,y\n1,2\n".encode("latin-1"), "line 1 is not UTF-8"),
        ("a,y\n1,größe\n".encode("latin-1"), "a label from line 2 on is not UTF-8"),
        (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file"),
        (b"SQLite format 3\0", "it is a database of SQLite"),
        (b"\x80\x04\x95", "it is a pickle, which is not read"),
        (b"PK\x03\x04....[Content_Types].xml", "it is a workbook of Excel"),
        (b"PAR1 cut off", "pyarrow|it cannot be read"),
    ],
)
def test_other_files_are_told_by_name(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises((ArgumentError, ImportError), match=message):
        read(RowFile(str(path)))


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
def test_parquet_and_arrow(tmp_path, kind):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, ipc, parquet

    columns = {
        "a": pyarrow.array([1, 2, None, 4], pyarrow.int32()),
        "text": ["w", "x", "y", "z"],
        "b": [0.5, 1.5, 2.5, 3.5],
        "flag": [True, False, True, True],
        "y": pyarrow.array(["cat", "dog", "cat", None]).dictionary_encode(),
    }
    table = pyarrow.table(columns)
    path = str(tmp_path / f"t.{kind}")
    if kind == "parquet":
        parquet.write_table(table, path)
    elif kind == "arrow":
        feather.write_feather(table, path, compression="uncompressed")
    else:
        with ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(ArgumentError, match="the column 'text' holds string; allowed are numbers"):
        read(RowFile(path))
    file = RowFile(path, ignored=("text",), missing="keep")
    X, y, _ = read(file)
    expected = [[1, 0.5, 1], [2, 1.5, 0], [np.nan, 2.5, 1], [4, 3.5, 1]]
    assert np.array_equal(X, expected, equal_nan=True)
    assert y.tolist() == ["cat", "dog", "cat", ""]
    assert file.columns_named() == Names(("a", "b", "flag"), "y")
    X, y, _ = read(RowFile(path, columns=2, names=("flag", "b"), label_name="y"))
    assert np.array_equal(X, [[1, 0.5], [0, 1.5], [1, 2.5], [1, 3.5]])
    with pytest.raises(ArgumentError, match=r"row 3, column 1 of the samples is missing; --miss"):
        read(RowFile(path, ignored=("text",)))
    assert len(read(RowFile(path, ignored=("text",), missing="drop"))[0]) == 2
