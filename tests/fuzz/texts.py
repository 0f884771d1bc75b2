"""Tables and LIBSVM files, whole ones and damaged ones, beside pandas, scikit-learn and Python."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_svmlight_file

from tests.data.test_streams import read
from zipml_pynq.data.streams import RowFile
from zipml_pynq.errors import ArgumentError

#: Pieces that damage puts in.
TOKENS = [
    *(b"", b",", b'"', b'""', b"\n", b"\r", b"\r\n", b"\0", b":", b"#", b" ", b"\t", b";", b"|"),
    *(b"nan", b"inf", b"-", b"+", b".", b"e", b"1e999", b"0x1p3", b"1_0", b"1e-400", b"9" * 40),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9", b"qid:1", b"2147483647:1", b"99999999999:1", b"NA"),
]


def number(rng: np.random.Generator) -> str:
    """A number as somebody may write it."""
    kind = rng.integers(6)
    if kind == 0:
        return str(rng.integers(-1000, 1000))
    if kind == 1:
        bits = rng.integers(0, 1 << 63, dtype=np.int64) | (rng.integers(2) << 63)
        value = float(np.array(bits).view(np.float64))
        return repr(value) if np.isfinite(value) else "0"
    if kind == 2:
        return f"{rng.standard_normal():.{rng.integers(0, 25)}e}"
    if kind == 3:
        return f"{rng.standard_normal() * 10.0 ** rng.integers(-20, 20):.{rng.integers(0, 30)}f}"
    digits = "".join(map(str, rng.integers(0, 10, rng.integers(1, 30))))
    point = int(rng.integers(0, len(digits) + 1))
    sign = rng.choice(["", "-", "+"])
    exponent = f"e{rng.integers(-30, 30)}" if kind == 5 else ""
    return f"{sign}{digits[:point]}.{digits[point:]}{exponent}"


def damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """The same with a few bytes changed, gone, doubled, or other ones among them."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(data) + 1))
        kind = rng.integers(4)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] = int(rng.integers(256))
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 9))]
        elif kind == 2:
            data[at:at] = data[at : at + int(rng.integers(1, 20))]
        else:
            data[at:at] = TOKENS[rng.integers(len(TOKENS))]
    return bytes(data)


def table(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """A table, and how pandas is to read it."""
    rows, columns = int(rng.integers(1, 7)), int(rng.integers(2, 6))
    delimiter = str(rng.choice([",", ";", "\t", "|"]))
    header = bool(rng.integers(2))
    end = str(rng.choice(["\n", "\r\n", "\r"]))
    missing = ["", "NA", "nan", "NULL"] if rng.integers(3) == 0 else []
    lines = [delimiter.join(f"c{i}" for i in range(columns))] if header else []
    for _ in range(rows):
        fields = []
        for column in range(columns):
            field = number(rng)
            if missing and column and rng.integers(5) == 0:
                field = str(rng.choice(missing))
            quote = rng.integers(4) == 0
            fields.append(f'"{field}"' if quote else field)
        lines.append(delimiter.join(fields))
    options = {"sep": delimiter, "header": 0 if header else None, "skip_blank_lines": True}
    return end.join(lines) + (end if rng.integers(2) else ""), options


def _read(path: Path, **options: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """What our reader takes, or None for a refusal of its own."""
    try:
        X, y, _ = read(RowFile(str(path), **options))
    except ArgumentError:
        return None
    assert y is not None
    return X, y


def tables(seconds: float, seed: int, folder: Path) -> dict[str, int]:
    """Whole tables equal pandas' reading to the bit; damaged ones Python's, or are refused."""
    rng = np.random.default_rng(seed)
    figures = {"tables": 0, "damaged tables": 0, "of these read": 0}
    path = folder / "t.csv"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text, options = table(rng)
        path.write_bytes(text.encode())
        header = options["header"] == 0
        expected = pd.read_csv(path, **options, float_precision="round_trip", dtype=np.float64)
        how = {"header": header, "missing": "keep", "format": "csv"}
        found = _read(path, **how)
        assert found is not None, text
        whole = np.c_[found[0], found[1]]
        assert np.array_equal(whole, expected.to_numpy(), equal_nan=True), text
        figures["tables"] += 1
        figures["damaged tables"] += 1
        figures["of these read"] += beside_python(damaged(rng, text.encode()), header, path)
    return figures


def beside_python(content: bytes, header: bool, path: Path) -> bool:
    """Whether a table is read; if so, as Python reads it where it sees the same fields."""
    path.write_bytes(content)
    found = _read(path, header=header, missing="keep", format="csv")
    if found is None or found[1].dtype.kind == "U":
        return False
    text = content.decode("utf-8-sig", "surrogateescape")
    lines = [line for line in io.StringIO(text, newline=None).read().split("\n") if line.strip()]
    bare = "".join(lines[0].split('"')[::2])
    delimiter = max(",;\t|", key=bare.count)
    if delimiter not in bare:
        return True  # blanks, of which csv takes one at a time
    rows = list(csv.reader(lines[header:], delimiter=delimiter, skipinitialspace=True))
    whole = np.c_[found[0], found[1]]
    if [len(row) for row in rows] != [whole.shape[1]] * len(whole):
        return True  # another number of quotes: csv goes on across lines
    for row, values in zip(rows, whole, strict=True):
        for field, value in zip(row, values, strict=True):
            assert np.isnan(value) or float(field) == value, (content, field, value)
    return True


def rows(rng: np.random.Generator) -> bytes:
    """A LIBSVM file."""
    lines = []
    for _ in range(rng.integers(1, 7)):
        indices = np.flatnonzero(rng.random(12) < 0.4) + 1
        lines.append(" ".join([number(rng), *(f"{i}:{number(rng)}" for i in indices)]))
    return "\n".join(["1 1:1", *lines]).encode() + b"\n"


def libsvm(seconds: float, seed: int, folder: Path) -> dict[str, int]:
    """LIBSVM files are read as scikit-learn reads them, to the bit, where both take them."""
    rng = np.random.default_rng(seed)
    figures = {"LIBSVM files": 0, "damaged LIBSVM files": 0, "of these read alike": 0}
    path = folder / "t.svm"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        content = rows(rng)
        assert beside_scikit_learn(content, path), content
        figures["LIBSVM files"] += 1
        figures["of these read alike"] += beside_scikit_learn(damaged(rng, content), path)
        figures["damaged LIBSVM files"] += 1
    return figures


def beside_scikit_learn(content: bytes, path: Path) -> bool:
    """Whether both readers take a LIBSVM file, with as many columns; if so, with the same bits."""
    path.write_bytes(content)
    found = _read(path, format="libsvm", most=1 << 12)
    try:
        X, y = load_svmlight_file(str(path), zero_based=False)
    except (ValueError, OverflowError, IndexError):
        return False
    if found is None or X.shape != found[0].shape:
        return False
    assert np.array_equal(X.toarray(), found[0]), content
    assert np.array_equal(y, found[1]), content
    return True
