"""Files of samples, read a few megabytes at a time: LIBSVM, tables of text, arrays.

What comes out are blocks of rows for :func:`zipml_pynq.data.pack_file.pack_file` and for
predictions; no file is ever held whole. Text is parsed by compiled code (``sw_emu/text.cpp``).
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse

from zipml_pynq._engine import ffi, lib
from zipml_pynq.data.checks import check_choice
from zipml_pynq.data.files import temporary
from zipml_pynq.data.names import Names
from zipml_pynq.data.row_arrays import ArrowTable, check_numbers, npy_array, npy_blocks, npz_blocks
from zipml_pynq.data.rows import pointer
from zipml_pynq.data.tables import (
    DELIMITERS,
    TableParser,
    Wanted,
    choose,
    delimiter_of,
    fields,
    is_header,
    kind_of,
)
from zipml_pynq.errors import ArgumentError

FORMATS = ("libsvm", "csv", "npz", "npy", "parquet", "arrow")
#: What is done where a number is missing: :class:`RowFile`.
MISSING = ("refuse", "keep", "drop")
#: Bytes of text that are parsed at a time.
TEXT_BYTES = 4 << 20
#: A line is at most so long: what has longer ones is no text.
_LINE_BYTES = 64 << 20
#: Indices of LIBSVM fit 32 bits.
_MOST_COLUMNS = (1 << 31) - 2
_OPENERS: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".npz": "npz",
    ".npy": "npy",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".libsvm": "libsvm",
    ".svm": "libsvm",
    ".svmlight": "libsvm",
}
#: How files begin that are read, whatever they are called.
_BEGINNINGS = {
    b"\x93NUMPY": "npy",
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",
    b"PK\x03\x04": "npz",
}
_UTF8 = "is not UTF-8; `iconv -f UTF-16 -t UTF-8` (or -f LATIN1, or what it is) makes it that"
#: How files begin that are not.
_FOREIGN = {
    codecs.BOM_UTF16_LE: f"it is text in UTF-16, which {_UTF8}",
    codecs.BOM_UTF16_BE: f"it is text in UTF-16, which {_UTF8}",
    b"\x89HDF": "it is an HDF5 file; save its arrays as .npz",
    b"SQLite format 3": "it is a database of SQLite; export the table as CSV",
    b"\x28\xb5\x2f\xfd": "it is compressed by zstd; `zstd -dc` unpacks it",
    b"\xd0\xcf\x11\xe0": "it is a workbook of Excel; save the sheet as CSV",
    b"Obj\x01": "it is an Avro file; save its columns as CSV or Parquet",
    b"ORC": "it is an ORC file; save its columns as CSV or Parquet",
    b"FEA1": "it is a Feather file of version 1; save it as version 2",
    b"\x80\x04": "it is a pickle, which is not read: unpickling executes what is in it",
    b"\x80\x05": "it is a pickle, which is not read: unpickling executes what is in it",
    b"%PDF": "it is a PDF file",
}
_WRONG = {
    lib.ZIPML_TEXT_NUMBER: "{what!r} is no finite number{column}",
    lib.ZIPML_TEXT_ENTRY: "{what!r} is no index:value",
    lib.ZIPML_TEXT_INDEX: "the index of {what!r} is out of range: {range}",
    lib.ZIPML_TEXT_ORDER: "the index of {what!r} does not ascend",
    lib.ZIPML_TEXT_COLUMNS: "it has another number of columns than the {columns} of the first line",
    lib.ZIPML_TEXT_MISSING: "a number is missing ({what!r}){column}; --missing mean or drop says "
    "what to do",
    lib.ZIPML_TEXT_QUOTE: "the quote at {what!r} is not closed on its line, or text follows it",
}
#: Rows (N, columns), sparse of LIBSVM's, and their labels (N,) if they have any: numbers, or text.
Block = tuple[Any, "NDArray | None"]


@dataclass(frozen=True)
class RowFile:
    """A file of samples that can be read again and again, block by block.

    Parameters
    ----------
    path : str
        "-" for standard input. That and pipes are read once, or after :meth:`spooled`.
    format : str
        One of :data:`FORMATS`, or "auto": by the file's beginning and name.
    label : str, optional
        Of a table: the name of the column of labels, or its number from 1 on. By default the last.
    zero_based : bool
        Of LIBSVM: the first index is 0 instead of 1.
    columns : int, optional
        Columns of the samples of a model. A table may then have that many, and no labels.
    part : str
        Of an .npz that is split: "train" or "test", for ``X_train``, ``y_train`` and so on.
    header : bool, optional
        Whether a table's first line names its columns; by default seen from the first two lines.
    delimiter : str, optional
        Of a table, one of :data:`~zipml_pynq.data.tables.DELIMITERS`; by default seen from the
        first line.
    ignored : tuple of str
        Columns of a table that are left out, by name or number.
    missing : str
        Where a number is missing: "refuse", "keep" it as NaN, or "drop" the row.
    names, label_name : tuple of str and str, optional
        What columns and label of the model are called. A table with names is read by these.
    most : int, optional
        Columns that are taken; more are refused before anything of that width is there.
    advance : callable, optional
        Told how many bytes of the file were read since the last time.
    """

    path: str
    format: str = "auto"
    label: str | None = None
    zero_based: bool = False
    columns: int | None = None
    part: str = "train"
    header: bool | None = None
    delimiter: str | None = None
    ignored: tuple[str, ...] = ()
    missing: str = "refuse"
    names: tuple[str, ...] | None = None
    label_name: str | None = None
    most: int | None = None
    advance: Callable[[int], Any] | None = field(default=None, compare=False)
    #: What messages call the file.
    shown: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shown", self.shown or self.path)
        check_choice("format", self.format, ("auto", *FORMATS))
        check_choice("part", self.part, ("train", "test"))
        check_choice("missing", self.missing, MISSING)
        if self.delimiter is not None:
            check_choice("delimiter", self.delimiter, tuple(DELIMITERS))
        if self.path != "-" and (Path(self.path).is_dir() or not Path(self.path).exists()):
            what = "is a folder" if Path(self.path).is_dir() else "does not exist"
            raise ArgumentError(f"path was '{self.path}', which {what}; allowed are files and '-'")

    def _wrong(self, why: str) -> ArgumentError:
        name = "standard input" if self.shown == "-" else f"'{self.shown}'"
        return ArgumentError(f"path was {name}: {why}")

    @property
    def _wanted(self) -> Wanted:
        return Wanted(
            self.label, self.ignored, self.columns, self.names, self.label_name, self.most
        )

    @property
    def _missing(self) -> int:
        """Which missing numbers become NaN. Predictions need no labels."""
        if self.missing == "refuse":
            return 0 if self.columns is None else lib.ZIPML_TEXT_MISSING_LABELS
        return lib.ZIPML_TEXT_MISSING_VALUES | lib.ZIPML_TEXT_MISSING_LABELS

    # ---- where it comes from -------------------------------------------------------------------

    def _is_regular(self) -> bool:
        return self.path != "-" and stat.S_ISREG(os.stat(self.path).st_mode)

    def spooled(self, stack: ExitStack) -> RowFile:
        """This file, or a copy of a pipe in a temporary file that ``stack`` removes."""
        if self._is_regular():
            return self
        source = self._source(stack)
        copy = stack.enter_context(temporary(source))
        return replace(self, path=str(copy), shown=self.shown)

    def _source(self, stack: ExitStack) -> Any:
        """The file, open."""
        if self.path != "-":
            return stack.enter_context(open(self.path, "rb"))
        if sys.stdin is None:
            raise self._wrong("it is closed")
        return sys.stdin.buffer

    def size(self) -> int | None:
        """Bytes that reading it will tell of; None where nobody knows."""
        suffixes = Path(self.shown).suffixes
        binary = self.format not in ("auto", "csv", "libsvm") or (
            self.format == "auto" and _SUFFIXES.get(suffixes[-1] if suffixes else "") in FORMATS[2:]
        )
        return None if binary or not self._is_regular() else os.stat(self.path).st_size

    def _opened(self, stack: ExitStack) -> tuple[str, Any]:
        """The format, and what is read as text, unpacked."""
        text: Any = io.BufferedReader(_Counted(self._source(stack), self.advance), 1 << 16)
        start = text.peek(1 << 12)
        opener = _OPENERS.get(Path(self.shown).suffix)
        for beginning, unpack in _COMPRESSED.items():
            opener = unpack if start.startswith(beginning) else opener
        if opener is not None:
            text = stack.enter_context(opener(text))
            start = text.peek(1 << 12)
        return self._format(start), text

    def _format(self, start: bytes) -> str:
        for beginning, what in _FOREIGN.items():
            if start.startswith(beginning):
                raise self._wrong(what)
        if self.format != "auto":
            return self.format
        for beginning, found in _BEGINNINGS.items():
            if start.startswith(beginning):
                if b"[Content_Types]" in start:
                    raise self._wrong("it is a workbook of Excel; save the sheet as CSV")
                return found
        if b'"__metadata__"' in start[8:64] or b'"format":"zipml-pynq' in start:
            raise self._wrong("it is a packed data set or a model, not samples")
        suffixes = [s for s in Path(self.shown).suffixes if s not in _OPENERS]
        if suffixes and suffixes[-1] in _SUFFIXES:
            return _SUFFIXES[suffixes[-1]]
        start = start.removeprefix(codecs.BOM_UTF8).replace(b"\r", b"\n").lstrip(b"\n")
        entries = start.partition(b"\n")[0].partition(b"#")[0].split()[1:]
        return "libsvm" if entries and all(b":" in entry for entry in entries) else "csv"

    # ---- what is in it -------------------------------------------------------------------------

    def columns_named(self) -> Names:
        """What its columns and its label are called, from its beginning; not of a pipe.

        Raises
        ------
        ArgumentError
            As :meth:`blocks`.
        """
        with self._reading(), ExitStack() as stack:
            found, text = self._opened(stack)
            if found == "csv":
                table = self._table(self._pieces(text))
                return Names() if table is None else table[0].chosen.names
            if found == "npy":
                return npy_array(self.path, self._wanted, self._wrong)[1].names
            if found in ("parquet", "arrow"):
                return ArrowTable(self.path, found, self._wanted, self._wrong).names
        return Names()

    def blocks(self) -> Iterator[Block]:
        """The rows, in order, from the first one on.

        Raises
        ------
        ArgumentError
            Something in the file is not what its format has, with its line; or there are no rows.
        ImportError
            It is a Parquet or Arrow file, and pyarrow is not installed.
        """
        rows = 0
        with self._reading():
            for X, y in self._blocks():
                if self.missing == "drop":
                    X, y = _complete(X, y)
                if X.shape[0] == 0:
                    continue
                rows += X.shape[0]
                yield X, y
        if rows == 0:
            raise self._wrong("it holds no rows")

    def _reading(self) -> _Reading:
        return _Reading(self._wrong)

    def _blocks(self) -> Iterator[Block]:
        with ExitStack() as stack:
            found, text = self._opened(stack)
            if found == "csv":
                yield from self._rows_of_table(text)
                return
            if found == "libsvm":
                yield from self._libsvm(text)
                return
            path = self.path
            if not self._is_regular() or Path(self.shown).suffix in _OPENERS:
                path = str(stack.enter_context(temporary(text)))
            told = self.advance or (lambda _: None)
            if found == "npz":
                blocks = npz_blocks(path, self.part, self._wanted, self._wrong, told)
            elif found == "npy":
                blocks = npy_blocks(path, self._wanted, self._wrong, told)
            else:
                blocks = ArrowTable(path, found, self._wanted, self._wrong).blocks()
            refuse = self.missing == "refuse"
            yield from check_numbers(blocks, self._wrong) if refuse else blocks

    # ---- text ----------------------------------------------------------------------------------

    def _pieces(self, text: BinaryIO) -> Iterator[bytes]:
        """Whole lines, a few megabytes at a time, with line feeds alone at their ends."""
        rest = b""
        first = True
        while True:
            more = text.read(TEXT_BYTES)
            last = not more
            if first:
                more, first = more.removeprefix(codecs.BOM_UTF8), False
                if b"\0" in more[: 1 << 12]:
                    raise self._wrong(f"it holds zero bytes: it is no text, or {_UTF8}")
            rest += more
            if b"\r" in rest:
                # a return at the end may be the first half of a line's end
                held = b"\r" if rest.endswith(b"\r") and not last else b""
                rest = rest.removesuffix(held) if held else rest
                rest = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
            cut = rest.rfind(b"\n") + 1
            if cut:
                yield rest[:cut]
                rest = rest[cut:]
            if last:
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
        most = min(m for m in (self.columns, self.most, _MOST_COLUMNS) if m is not None)
        allowed = f"allowed are {first}..{most - 1 + first}"
        if most == self.columns:
            allowed += ", the columns of the model"
        elif most == self.most:
            allowed += ", as many as the accelerator takes (one more with --no-intercept)"
        allowed += "; --zero-based says that the first one is 0" if first else ""
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
                most - 1 + first,
                self._missing,
                pointer("double *", labels),
                pointer("int64_t *", ends[1:]),
                pointer("int32_t *", columns),
                pointer("double *", values),
                result,
            )
            lines = self._check(result, piece, lines, range=allowed, column="")
            rows, entries, width = int(result.rows), int(result.entries), result.last_column + 1
            if rows == 0:
                continue
            shape = (rows, self.columns or max(width, 1))
            data = values[:entries], columns[:entries], ends[: rows + 1]
            yield csr_matrix(data, shape=shape), labels[:rows]

    def _table(
        self, pieces: Iterator[bytes]
    ) -> tuple[TableParser, list[str] | None, bytes, int] | None:
        """How to parse a table, its header, the text behind that, and the lines before it."""
        start = b""
        while not _first_lines(start)[1]:
            more = next(pieces, None)
            if more is None:
                break
            start += more
        line, below, before, after = _first_lines(start)
        if not line:
            return None
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise self._wrong(f"line {before + 1} {_UTF8}") from None
        # what is wrong in the second line, the parser will tell
        next_text = below.decode(errors="replace")
        delimiter = delimiter_of(text) if self.delimiter is None else DELIMITERS[self.delimiter]
        try:
            first = fields(text, delimiter)
        except csv.Error:
            raise self._wrong(f"line {before + 1}: a quote is not closed on its line") from None
        try:
            second = fields(next_text, delimiter) if next_text else None
        except csv.Error:
            second = None
        header = is_header(first, second, self._wrong) if self.header is None else self.header
        names = first if header else None
        chosen = choose(names, len(first), self._wanted, self._wrong)
        rows = second if header else first
        text_labels = (
            chosen.label is not None
            and rows is not None
            and len(rows) == len(first)
            and kind_of(rows[chosen.label]) == "text"
        )
        parser = TableParser(delimiter, len(first), chosen, text_labels, self._missing)
        return parser, names, start[after:] if header else start, before + 1 if header else 0

    def _rows_of_table(self, text: Any) -> Iterator[Block]:
        pieces = self._pieces(text)
        table = self._table(pieces)
        if table is None:
            return
        parser, names, start, lines = table
        yield from self._parsed(parser, names, start, lines)
        lines += start.count(b"\n")
        for piece in pieces:
            yield from self._parsed(parser, names, piece, lines)
            lines += piece.count(b"\n")

    def _parsed(
        self, parser: TableParser, names: list[str] | None, piece: bytes, lines: int
    ) -> Iterator[Block]:
        try:
            X, y, result = parser.parse(piece)
        except UnicodeDecodeError:
            raise self._wrong(f"a label from line {lines + 1} on {_UTF8}") from None
        column = ""
        if parser.text_labels and y is not None:
            y = self._known_labels(y)
        told: Any = result
        if told.status in (lib.ZIPML_TEXT_NUMBER, lib.ZIPML_TEXT_MISSING):
            column = f" in column {told.column + 1}"
            column += f" ('{names[told.column]}')" if names is not None else ""
        self._check(told, piece, lines, columns=parser.count, column=column)
        if len(X):
            yield X, y

    def _known_labels(self, y: NDArray) -> NDArray:
        """Labels that are text, "" where one is missing."""
        missing = [name for name in np.unique(y) if kind_of(str(name)) == "missing"]
        if not missing:
            return y
        if self.missing != "drop" and self.columns is None:
            raise self._wrong(
                f"a label is missing ('{missing[0]}'); --missing drop leaves rows out"
            )
        return np.where(np.isin(y, missing), "", y)


def _first_lines(text: bytes) -> tuple[bytes, bytes, int, int]:
    """The first two lines that are not blank, empty where there are none; how many lines are before
    the first one; where what follows that begins."""
    found: list[bytes] = []
    before = after = at = 0
    while at < len(text) and len(found) < 2:
        end = text.find(b"\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].strip(b" \r\v\f")
        at = end + 1
        if line.strip():
            found.append(line)
            after = min(at, len(text)) if len(found) == 1 else after
        before += not found
    first, second = (*found, b"", b"")[:2]
    return first, second, before, after


def _complete(X: Any, y: NDArray | None) -> Block:
    """The rows that have all their numbers, and their label."""
    if issparse(X):
        rows = np.ones(X.shape[0], bool)
        rows[np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))[np.isnan(X.data)]] = False
    else:
        rows = ~np.isnan(X).any(axis=1) if X.dtype.kind == "f" else np.ones(len(X), bool)
    if y is not None and y.dtype.kind in "fU":
        rows &= y != "" if y.dtype.kind == "U" else ~np.isnan(y)
    if rows.all():
        return X, y
    return X[rows], None if y is None else y[rows]


class _Reading:
    """Errors of files and of what unpacks them become ours."""

    def __init__(self, wrong: Callable[[str], ArgumentError]) -> None:
        self._wrong = wrong

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        broken = (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError, zlib.error)
        if isinstance(error, broken) and not isinstance(error, BrokenPipeError):
            raise self._wrong(f"it cannot be read: {error}") from error


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
