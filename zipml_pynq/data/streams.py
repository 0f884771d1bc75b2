"""Files of samples, read a few megabytes at a time: LIBSVM, tables of text, NumPy's .npz.

What comes out are blocks of rows for :func:`zipml_pynq.data.pack_file.pack_file` and for
predictions; no file is ever held whole. Text is parsed by compiled code (``sw_emu/text.cpp``).
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from zipml_pynq._engine import ffi, lib
from zipml_pynq.data.checks import check_choice
from zipml_pynq.data.rows import pointer
from zipml_pynq.errors import ArgumentError

FORMATS = ("libsvm", "csv", "npz")
#: Bytes of text that are parsed at a time.
TEXT_BYTES = 4 << 20
#: Bytes of an array that are read at a time.
ARRAY_BYTES = 8 << 20
#: A line is at most so long: what has longer ones is no text.
_LINE_BYTES = 64 << 20
_OPENERS: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".npz": "npz",
    ".libsvm": "libsvm",
    ".svm": "libsvm",
    ".svmlight": "libsvm",
}
_WRONG = {
    lib.ZIPML_TEXT_NUMBER: "{what!r} is no finite number",
    lib.ZIPML_TEXT_ENTRY: "{what!r} is no index:value",
    lib.ZIPML_TEXT_INDEX: "the index of {what!r} is out of range; the first one is {first}",
    lib.ZIPML_TEXT_ORDER: "the index of {what!r} does not ascend",
    lib.ZIPML_TEXT_COLUMNS: "it has another number of columns than the {columns} of the first line",
}
#: Rows (N, columns), sparse of LIBSVM's, and their labels (N,) if they have any.
Block = tuple[Any, "NDArray | None"]


@dataclass(frozen=True)
class RowFile:
    """A file of samples that can be read again and again, block by block.

    Parameters
    ----------
    path : str
        "-" for standard input, which is read once, or after :meth:`spooled`.
    format : str
        One of :data:`FORMATS`, or "auto": by the file's name, or else its first bytes.
    label : str, optional
        Of a table: the name of the column of labels, or its number from 1 on. By default the last.
    zero_based : bool
        Of LIBSVM: the first index is 0 instead of 1.
    columns : int, optional
        Columns of the samples. A table may then have that many, and no labels.
    part : str
        Of an .npz that is split: "train" or "test", for ``X_train``, ``y_train`` and so on.
    advance : callable, optional
        Told how many bytes of the file were read since the last time.
    """

    path: str
    format: str = "auto"
    label: str | None = None
    zero_based: bool = False
    columns: int | None = None
    part: str = "train"
    advance: Callable[[int], Any] | None = field(default=None, compare=False)
    #: What messages call the file.
    shown: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shown", self.shown or self.path)
        check_choice("format", self.format, ("auto", *FORMATS))
        check_choice("part", self.part, ("train", "test"))
        if self.path != "-" and not Path(self.path).is_file():
            what = "is a folder" if Path(self.path).is_dir() else "does not exist"
            raise ArgumentError(f"path was '{self.path}', which {what}; allowed are files and '-'")

    def _wrong(self, why: str) -> ArgumentError:
        name = "standard input" if self.shown == "-" else f"'{self.shown}'"
        return ArgumentError(f"path was {name}: {why}")

    def spooled(self, stack: ExitStack) -> RowFile:
        """This file, or a copy of standard input in a temporary file that ``stack`` removes."""
        if self.path != "-":
            return self
        copy: Any = tempfile.NamedTemporaryFile(prefix="zipml-")  # noqa: SIM115 (by the stack)
        stack.enter_context(copy)
        shutil.copyfileobj(sys.stdin.buffer, copy, TEXT_BYTES)
        copy.flush()
        return replace(self, path=copy.name, shown="-")

    def size(self) -> int | None:
        """Bytes of the file, None of standard input."""
        return None if self.path == "-" else os.stat(self.path).st_size

    def blocks(self) -> Iterator[Block]:
        """The rows, in order, from the first one on.

        Raises
        ------
        ArgumentError
            Something in the file is not what its format has, with its line; or there are no rows.
        """
        rows = 0
        try:
            for block in self._blocks():
                rows += block[0].shape[0]
                yield block
        except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
            raise self._wrong(f"it cannot be read: {error}") from error
        if rows == 0:
            raise self._wrong("it holds no rows")

    def _blocks(self) -> Iterator[Block]:
        with ExitStack() as stack:
            if self.path == "-":
                file: Any = sys.stdin.buffer
            else:
                file = stack.enter_context(open(self.path, "rb"))
            file = _Counted(file, self.advance)
            opener = _OPENERS.get(Path(self.shown).suffix)
            text = io.BufferedReader(file, 1 << 16)
            if opener is not None:
                text = stack.enter_context(opener(text))
            found = self._format(text)
            if found == "npz":
                yield from self._arrays()
            elif found == "csv":
                yield from self._table(text)
            else:
                yield from self._libsvm(text)

    def _format(self, text: Any) -> str:
        if self.format != "auto":
            return self.format
        suffixes = [s for s in Path(self.shown).suffixes if s not in _OPENERS]
        if suffixes and suffixes[-1] in _SUFFIXES:
            return _SUFFIXES[suffixes[-1]]
        start = text.peek(1 << 12)
        if start[:2] == b"PK":
            return "npz"
        line = start.partition(b"\n")[0]
        entries = line.partition(b"#")[0].split()[1:]
        return "libsvm" if entries and all(b":" in entry for entry in entries) else "csv"

    # ---- text ----------------------------------------------------------------------------------

    def _pieces(self, text: BinaryIO, first: bytes = b"") -> Iterator[bytes]:
        """Whole lines, a few megabytes at a time."""
        rest = first
        while True:
            more = text.read(TEXT_BYTES)
            cut = more.rfind(b"\n") + 1
            if cut:
                yield rest + more[:cut]
                rest = more[cut:]
            else:
                rest += more
            if not more:
                if rest:
                    yield rest
                return
            if len(rest) > _LINE_BYTES:
                raise self._wrong(f"it has a line of more than {_LINE_BYTES} bytes: is it text?")

    def _check(self, result: Any, piece: bytes, lines: int, **known: Any) -> int:
        """Lines up to the end of a piece; raises for what is wrong in it."""
        if result.status != lib.ZIPML_TEXT_OK:
            what = piece[result.begin : result.end].decode(errors="replace")
            what = what if len(what) <= 40 else what[:37] + "..."
            message = _WRONG[result.status].format(what=what, **known)
            raise self._wrong(f"line {lines + result.lines + 1}: {message}")
        return lines + int(result.lines)

    def _libsvm(self, text: BinaryIO) -> Iterator[Block]:
        first, lines = int(not self.zero_based), 0
        result = ffi.new("ZipmlText *")
        for piece in self._pieces(text):
            room = piece.count(b":")
            labels = np.empty(piece.count(b"\n") + 1)
            ends = np.zeros(labels.size + 1, np.int64)
            columns, values = np.empty(room, np.int32), np.empty(room)
            lib.zipml_parse_libsvm(
                ffi.from_buffer(piece),
                len(piece),
                first,
                pointer("double *", labels),
                pointer("int64_t *", ends[1:]),
                pointer("int32_t *", columns),
                pointer("double *", values),
                result,
            )
            before = lines
            lines = self._check(result, piece, lines, first=first)
            rows, entries, width = int(result.rows), int(result.entries), result.last_column + 1
            if rows == 0:
                continue
            if self.columns is not None and width > self.columns:
                raise self._wrong(
                    f"between the lines {before + 1} and {lines} there is the index "
                    f"{result.last_column + first}; allowed are {self.columns} columns"
                )
            shape = (rows, self.columns or max(width, 1))
            data = values[:entries], columns[:entries], ends[: rows + 1]
            yield csr_matrix(data, shape=shape), labels[:rows]

    def _table(self, text: Any) -> Iterator[Block]:
        start = b""
        lines = 0
        while not start.strip():
            start = text.readline(_LINE_BYTES)
            lines += 1
            if not start:
                return
        delimiter = max(",;\t", key=lambda d: start.count(d.encode()))
        delimiter = delimiter if delimiter.encode() in start else " "
        try:
            names = next(csv.reader([start.decode()], delimiter=delimiter, skipinitialspace=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise self._wrong(f"line {lines}: it is no text: {error}") from error
        names = [name.strip() for name in names]
        if delimiter == " ":
            names = start.decode().split()
        header = not any(_is_number(name) for name in names)
        label = self._label_column(names, header)
        result = ffi.new("ZipmlText *")
        lines -= 0 if header else 1
        for piece in self._pieces(text, b"" if header else start):
            values = np.empty((piece.count(b"\n") + 1, len(names)))
            lib.zipml_parse_table(
                ffi.from_buffer(piece),
                len(piece),
                delimiter.encode(),
                len(names),
                pointer("double *", values),
                result,
            )
            lines = self._check(result, piece, lines, columns=len(names))
            table = values[: result.rows]
            if len(table) == 0:
                continue
            if label is None:
                yield table, None
            else:
                yield np.delete(table, label, axis=1), table[:, label].copy()

    def _label_column(self, names: list[str], header: bool) -> int | None:
        """Number of the column of labels; None if there is none."""
        count = len(names)
        if self.columns is not None and count == self.columns and self.label is None:
            return None
        if self.columns is not None and count != self.columns + 1:
            raise self._wrong(
                f"it has {count} columns; allowed are {self.columns}, or with labels "
                f"{self.columns + 1}"
            )
        if count < 2:
            raise self._wrong(f"its first line has {count} column(s); samples and a label are two")
        if self.label is None:
            return count - 1
        if header and self.label in names:
            return names.index(self.label)
        if self.label.isdecimal() and 1 <= int(self.label) <= count:
            return int(self.label) - 1
        allowed = f"1..{count}" + (f" and the names {', '.join(names)}" if header else "")
        raise ArgumentError(f"label was '{self.label}'; allowed are {allowed}")

    # ---- arrays --------------------------------------------------------------------------------

    def _arrays(self) -> Iterator[Block]:
        if self.path == "-":
            raise self._wrong("an .npz file cannot be read from standard input; name the file")
        with zipfile.ZipFile(self.path) as archive, ExitStack() as stack:
            keys = {name.removesuffix(".npy") for name in archive.namelist()}
            X, y = ("X", "y") if "X" in keys else (f"X_{self.part}", f"y_{self.part}")
            if X not in keys:
                raise self._wrong(
                    f"it holds {sorted(keys)}; allowed are X and y, or X_train, y_train, X_test "
                    "and y_test"
                )
            samples = self._array(archive, stack, X)
            labels = self._array(archive, stack, y) if y in keys else None
            width = int(np.prod(samples.shape[1:]))
            if len(samples.shape) < 2 or width == 0:
                raise self._wrong(f"{X} has the shape {samples.shape}; allowed are rows of columns")
            if self.columns is not None and width != self.columns:
                raise self._wrong(f"{X} has {width} columns; allowed are {self.columns}")
            if labels is not None and labels.shape != samples.shape[:1]:
                raise self._wrong(
                    f"{y} has the shape {labels.shape}, {X} {samples.shape}; one label a row"
                )
            step = max(1, ARRAY_BYTES // (width * samples.dtype.itemsize))
            for start in range(0, samples.shape[0], step):
                rows = min(step, samples.shape[0] - start)
                X_rows = samples.read(rows).reshape(rows, width)
                if self.advance is not None:
                    self.advance(X_rows.nbytes)
                yield X_rows, None if labels is None else labels.read(rows)

    def _array(self, archive: zipfile.ZipFile, stack: ExitStack, key: str) -> _Array:
        file = stack.enter_context(archive.open(f"{key}.npy"))
        try:
            version = np.lib.format.read_magic(file)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = header(file)
        except (KeyError, ValueError) as error:
            raise self._wrong(f"{key} is no array: {error}") from error
        if dtype.kind not in "biuf":
            raise self._wrong(f"{key} has dtype {dtype}; allowed are real numbers")
        if fortran and len(shape) > 1:
            raise self._wrong(
                f"{key} is stored column by column, and rows are read as they come; save "
                f"np.ascontiguousarray({key})"
            )
        return _Array(file, shape, dtype)


@dataclass
class _Array:
    """An array in a file, of which rows are read one after the other."""

    file: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, rows: int) -> NDArray:
        shape = (rows, *self.shape[1:])
        size = int(np.prod(shape)) * self.dtype.itemsize
        content = self.file.read(size)
        if len(content) != size:
            raise EOFError("it ends inside an array")
        return np.frombuffer(content, self.dtype).reshape(shape)


class _Counted(io.RawIOBase):
    """A binary file that tells how much was read from it."""

    def __init__(self, file: Any, advance: Callable[[int], Any] | None) -> None:
        self._file, self._advance = file, advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        if self._advance is not None and content:
            self._advance(len(content))
        return len(content)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
