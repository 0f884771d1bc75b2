"""Which columns of a table are samples and labels, and whether its first line names them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from zipml_pynq._engine import ffi, lib
from zipml_pynq.data.names import Names
from zipml_pynq.data.rows import pointer
from zipml_pynq.errors import ArgumentError

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|"}
#: Makes the error about a file.
Wrong = Callable[[str], ArgumentError]


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a table's columns.

    Attributes
    ----------
    label : str or None
        Name of the column of labels, or its number from 1 on.
    ignored : tuple of str
        Columns that are left out, by name or number.
    columns : int or None
        How many the samples have, of a model that is there.
    names : tuple of str or None
        What they are called there: they are then taken by name, where the table has names.
    label_name : str or None
        What the label was called there, or its number.
    most : int or None
        Columns that samples may have.
    """

    label: str | None = None
    ignored: tuple[str, ...] = ()
    columns: int | None = None
    names: tuple[str, ...] | None = None
    label_name: str | None = None
    most: int | None = None


@dataclass(frozen=True)
class Chosen:
    """Columns of a table, counted from 0: those of the samples in their order, and the label's."""

    features: tuple[int, ...]
    label: int | None
    names: Names


def choose(header: Sequence[str] | None, count: int, wanted: Wanted, wrong: Wrong) -> Chosen:
    """The columns of a table of ``count`` columns, called ``header`` if that is known."""

    def find(what: str, column: str) -> int:
        if header is not None and column in header:
            if list(header).count(column) > 1:
                raise wrong(f"{what} was '{column}', and two columns are called so")
            return header.index(column)
        if column.isdecimal() and 1 <= int(column) <= count:
            return int(column) - 1
        named = "" if header is None else f" and the names {_listed(header)}"
        raise ArgumentError(f"{what} was '{column}'; allowed are 1..{count}{named}")

    label = None if wanted.label is None else find("label", wanted.label)
    left_out = {find("ignore", column) for column in wanted.ignored}
    if label in left_out:
        raise ArgumentError(f"ignore was '{wanted.label}', which is the label")
    if header is not None and wanted.names is not None:
        missing = [name for name in wanted.names if name not in header]
        if missing:
            raise wrong(
                f"it has no column {_listed(missing)}, which the model was trained on; it has "
                f"{_listed(header)}"
            )
        features = [find("column", name) for name in wanted.names]
        known = wanted.label_name
        if label is None and known in header and known not in wanted.names:
            label = find("label", str(known))
        if label in features:
            raise ArgumentError(
                f"label was '{wanted.label}', a column that the model predicts from"
            )
        return Chosen(tuple(features), label, Names())
    rest = [i for i in range(count) if i not in left_out]
    if label is None:
        label = _default_label(header, rest, wanted, wrong, find)
    features = [i for i in rest if i != label]
    if wanted.columns is not None and len(features) != wanted.columns:
        raise wrong(
            f"it has {len(rest)} columns; allowed are {wanted.columns}, or with labels "
            f"{wanted.columns + 1}"
        )
    if not features or (wanted.columns is None and label is None):
        raise wrong(f"its first line has {len(rest)} column(s); samples and a label are two")
    if wanted.most is not None and len(features) > wanted.most:
        raise wrong(
            f"it has {len(features)} columns beside the label; allowed are at most {wanted.most}"
        )
    if header is None:
        return Chosen(
            tuple(features), label, Names(None, None if label is None else f"{label + 1}")
        )
    named = [header[i] for i in features]
    twice = next((name for i, name in enumerate(named) if name in named[:i]), None)
    if twice is not None and wanted.columns is None:
        raise wrong(f"line 1 has the name '{twice}' twice; columns are told apart by name")
    names = None if twice is not None else tuple(named)
    return Chosen(tuple(features), label, Names(names, None if label is None else header[label]))


def _default_label(
    header: Sequence[str] | None,
    rest: list[int],
    wanted: Wanted,
    wrong: Wrong,
    find: Callable[[str, str], int],
) -> int | None:
    """The label's column where nobody says which: as it was in training, or the last one."""
    if not rest or len(rest) == wanted.columns:
        return None
    known = wanted.label_name if len(rest) - 1 == wanted.columns else None
    if known is None:
        return rest[-1]
    if (header is not None and known in header) or known.isdecimal():
        return find("label", known)
    if header is None:
        raise wrong(
            f"it has no header, so nobody can tell which column is the label '{known}'; --label "
            "with its number says it"
        )
    return rest[-1]


def _listed(names: Sequence[str], most: int = 20) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


# ---- the first lines ---------------------------------------------------------------------------


def delimiter_of(line: str) -> str:
    """What separates the fields of a line: what is most often in it outside of quotes."""
    bare = re.sub(r'"[^"]*"', "", line)
    found = max(",;\t|", key=bare.count)
    return found if found in bare else " "


def fields(line: str, delimiter: str) -> list[str]:
    """The fields of a line; csv.Error if a quote is not closed."""
    skip = delimiter == " "
    text = " ".join(line.split()) if skip else line
    rows = csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True)
    return [field.strip() for field in next(rows, [])]


def is_header(first: list[str], second: list[str] | None, wrong: Wrong) -> bool:
    """Whether the first line names columns, by what it holds and what stands below it.

    Raises
    ------
    ArgumentError
        ``wrong``: it may as well be a sample.
    """
    kinds = [kind_of(field) for field in first]
    if "number" not in kinds:
        return "text" in kinds
    if second is not None and len(second) == len(first):
        below = [kind_of(field) for field in second]
        if any(a == "text" and b == "number" for a, b in zip(kinds, below, strict=True)):
            return True
    numbers = [field for field, kind in zip(first, kinds, strict=True) if kind == "number"]
    if _look_like_names(numbers):
        shown = ",".join(first)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        raise wrong(
            f"line 1, '{shown}', may name the columns or be a sample; --header or --no-header says "
            "which"
        )
    return False


def _look_like_names(numbers: list[str]) -> bool:
    """Whether numbers are as those that count columns, 0, 1, 2 and so on, or years."""
    if len(numbers) < 2 or not all(re.fullmatch(r"\d{1,9}", number) for number in numbers):
        return False
    values = [int(number) for number in numbers]
    steps = {b - a for a, b in pairwise(values)}
    if len(steps) != 1 or 0 in steps:
        return False
    return len(values) > 2 or values == [0, 1] or all(1900 <= value <= 2100 for value in values)


def kind_of(field: str) -> str:
    """What a field of a table is: "number", "missing" or "text"."""
    text = field.encode()
    result, value = ffi.new("ZipmlText *"), ffi.new("double *")
    if any(c in field for c in ' \t\n"'):
        return "text"
    places = ffi.new("int32_t[1]", [0])
    lib.zipml_parse_table(text, len(text), b" ", 1, places, 1, -1, 0, value, ffi.NULL, result)
    if result.status == lib.ZIPML_TEXT_NUMBER:
        return "text"
    return "number" if result.rows else "missing"


# ---- pieces of text ----------------------------------------------------------------------------


class TableParser:
    """Parses pieces of a table, whole lines each.

    Parameters
    ----------
    delimiter : str
    count : int
        Columns of the table.
    chosen : Chosen
    text_labels : bool
        Labels are text.
    missing : int
        Which missing numbers become NaN, bits of ``ZIPML_TEXT_MISSING_..``.
    """

    def __init__(
        self, delimiter: str, count: int, chosen: Chosen, text_labels: bool, missing: int
    ) -> None:
        self.delimiter, self.count, self.chosen = delimiter, count, chosen
        self.text_labels = text_labels and chosen.label is not None
        self.missing = missing
        self._features = len(chosen.features)
        numeric = chosen.label is not None and not self.text_labels
        self._width = self._features + int(numeric)
        self._label = self._features if numeric else -1
        self._places = np.full(count, lib.ZIPML_TEXT_LEFT_OUT, np.int32)
        self._places[list(chosen.features)] = np.arange(self._features)
        if chosen.label is not None:
            self._places[chosen.label] = self._features if numeric else lib.ZIPML_TEXT_NAMES

    def parse(self, piece: bytes) -> tuple[NDArray[np.float64], NDArray | None, object]:
        """Samples, labels if there are any, and what the compiled parser told."""
        rows = piece.count(b"\n") + 1
        values = np.empty((rows, self._width))
        names = np.empty((rows, 2) if self.text_labels else (0, 2), np.int64)
        result = ffi.new("ZipmlText *")
        lib.zipml_parse_table(
            ffi.from_buffer(piece),
            len(piece),
            self.delimiter.encode(),
            self.count,
            pointer("const int32_t *", self._places),
            self._width,
            self._label,
            self.missing,
            pointer("double *", values),
            pointer("int64_t *", names),
            result,
        )
        samples = values[: result.rows, : self._features]
        labels: NDArray | None = None
        if self.text_labels:
            found = (piece[begin:end] for begin, end in names[: result.rows].tolist())
            labels = np.array([name.decode().replace('""', '"') for name in found], dtype=np.str_)
        elif self._label >= 0:
            labels = values[: result.rows, self._label].copy()
        return samples, labels, result
