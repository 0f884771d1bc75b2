"""Rows from files of arrays: NumPy's .npz and .npy, and with pyarrow Parquet and Arrow."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.names import Names
from zipml_pynq.data.tables import Chosen, Wanted, Wrong, choose

#: Bytes of an array that are read at a time.
ARRAY_BYTES = 8 << 20
#: Columns that pandas adds for an index without a name.
_INDEX = "__index_level_"
Block = tuple[Any, "NDArray | None"]


def npz_blocks(
    path: str, part: str, wanted: Wanted, wrong: Wrong, advance: Callable[[int], Any]
) -> Iterator[Block]:
    """Rows of ``X`` and ``y`` of an .npz file, or those of one of its parts."""
    with zipfile.ZipFile(path) as archive, ExitStack() as stack:
        keys = {name.removesuffix(".npy") for name in archive.namelist()}
        X, y = ("X", "y") if "X" in keys else (f"X_{part}", f"y_{part}")
        if X not in keys:
            raise wrong(
                f"it holds {', '.join(sorted(keys))}; allowed are X and y, or X_train, y_train, "
                "X_test and y_test"
            )
        samples = _array(archive, stack, X, wrong)
        labels = _array(archive, stack, y, wrong) if y in keys else None
        width = math.prod(samples.shape[1:])
        if len(samples.shape) < 2 or width == 0:
            raise wrong(f"{X} has {_shape(samples.shape)}; allowed are rows of columns")
        if wanted.columns is not None and width != wanted.columns:
            raise wrong(f"{X} has {width} columns; allowed are {wanted.columns}")
        if wanted.most is not None and width > wanted.most:
            raise wrong(f"{X} has {width} columns; allowed are at most {wanted.most}")
        if labels is not None and labels.shape != samples.shape[:1]:
            raise wrong(
                f"{y} has {_shape(labels.shape)}, {X} {_shape(samples.shape)}; needed is one "
                "label a row"
            )
        step = max(1, ARRAY_BYTES // (width * samples.dtype.itemsize))
        for start in range(0, samples.shape[0], step):
            rows = min(step, samples.shape[0] - start)
            X_rows = samples.read(rows).reshape(rows, width)
            advance(X_rows.nbytes)
            yield X_rows, None if labels is None else labels.read(rows)


def _shape(shape: tuple[int, ...]) -> str:
    return f"the shape {' x '.join(map(str, shape))}"


@dataclass
class _Array:
    """An array in a file, of which rows are read one after the other."""

    file: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    #: Of an array that is stored column by column: the whole, mapped.
    mapped: NDArray | None = None
    done: int = 0

    def read(self, rows: int) -> NDArray:
        if self.mapped is not None:
            first, self.done = self.done, self.done + rows
            return np.ascontiguousarray(self.mapped[first : self.done])
        shape = (rows, *self.shape[1:])
        size = math.prod(shape) * self.dtype.itemsize
        content = self.file.read(size)
        if len(content) != size:
            raise EOFError("it ends inside an array")
        return np.frombuffer(content, self.dtype).reshape(shape)


def _array(archive: zipfile.ZipFile, stack: ExitStack, key: str, wrong: Wrong) -> _Array:
    file = stack.enter_context(archive.open(f"{key}.npy"))
    try:
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = header(file)
    except (KeyError, ValueError) as error:
        raise wrong(f"{key} is no array: {error}") from error
    if dtype.kind not in "biuf":
        raise wrong(f"{key} holds {_kind(dtype)}; allowed are real numbers")
    if not (fortran and len(shape) > 1):
        return _Array(file, shape, dtype)
    # rows of what is stored column by column are all over the file
    copy: Any = stack.enter_context(tempfile.TemporaryFile(prefix="zipml-"))  # noqa: SIM115
    shutil.copyfileobj(file, copy, ARRAY_BYTES)
    if copy.tell() < math.prod(shape) * dtype.itemsize:
        raise EOFError("it ends inside an array")
    return _Array(file, shape, dtype, np.memmap(copy, dtype, "r", 0, shape, "F"))


def _kind(dtype: np.dtype[Any]) -> str:
    """What an array holds, in words."""
    kinds = {"O": "objects of Python", "U": "text", "S": "text", "c": "complex numbers"}
    return kinds.get(dtype.kind, "structures" if dtype.names else f"values of the type {dtype}")


def npy_array(path: str, wanted: Wanted, wrong: Wrong) -> tuple[NDArray, Chosen]:
    """One array, mapped, a column of which are the labels."""
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise wrong("it is no array of numbers, or it ends too early") from error
    if table.dtype.kind not in "biuf":
        raise wrong(f"it holds {_kind(table.dtype)}; allowed are real numbers")
    if table.ndim != 2 or 0 in table.shape:
        raise wrong(f"it has {_shape(table.shape)}; allowed are rows of columns")
    return table, choose(None, table.shape[1], wanted, wrong)


def npy_blocks(
    path: str, wanted: Wanted, wrong: Wrong, advance: Callable[[int], Any]
) -> Iterator[Block]:
    """Its rows."""
    table, chosen = npy_array(path, wanted, wrong)
    step = max(1, ARRAY_BYTES // (table.shape[1] * table.itemsize))
    for start in range(0, table.shape[0], step):
        rows = np.ascontiguousarray(table[start : start + step])
        advance(rows.nbytes)
        y = None if chosen.label is None else rows[:, chosen.label]
        yield rows[:, list(chosen.features)], y


class ArrowTable:
    """A Parquet or Arrow file, batch by batch.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    """

    def __init__(self, path: str, found: str, wanted: Wanted, wrong: Wrong) -> None:
        try:
            import pyarrow
            import pyarrow.ipc
            import pyarrow.parquet
        except ImportError as error:
            raise ImportError(
                "Parquet and Arrow files need pyarrow: pip install 'zipml_pynq[arrow]'"
            ) from error
        self._arrow, self._wrong = pyarrow, wrong
        try:
            if found == "parquet":
                self._file = pyarrow.parquet.ParquetFile(path)
                schema = self._file.schema_arrow
            else:
                self._file = self._opened(path)
                schema = self._file.schema
        except pyarrow.ArrowException as error:
            raise wrong(f"it cannot be read: {error}") from error
        self._header = [name for name in schema.names if not name.startswith(_INDEX)]
        self.chosen: Chosen = choose(self._header, len(self._header), wanted, wrong)
        label = self.chosen.label
        kinds = pyarrow.types
        for i in (*self.chosen.features, *([] if label is None else [label])):
            kind = schema.field(self._header[i]).type
            number = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)
            if number or kinds.is_boolean(kind) or kinds.is_null(kind):
                continue
            if i == label and (_is_text(kinds, kind) or kinds.is_dictionary(kind)):
                continue
            raise wrong(
                f"the column '{self._header[i]}' holds {kind}; allowed are numbers, of labels also "
                "text; --ignore leaves a column out"
            )

    def _opened(self, path: str) -> Any:
        source = self._arrow.memory_map(path)
        try:
            return self._arrow.ipc.open_file(source)
        except self._arrow.ArrowInvalid:
            return self._arrow.ipc.open_stream(path)

    @property
    def names(self) -> Names:
        """Of its columns."""
        return self.chosen.names

    def blocks(self) -> Iterator[Block]:
        """Rows; NaN where a number is missing, and "" where a text is."""
        rows = max(1, ARRAY_BYTES // (8 * len(self._header)))
        try:
            for batch in self._batches(rows):
                for start in range(0, batch.num_rows, rows):
                    part = batch.slice(start, rows)
                    numbers = [self._column(part, i) for i in self.chosen.features]
                    label = self.chosen.label
                    y = None if label is None else self._column(part, label)
                    yield np.stack(numbers, axis=1), y
        except self._arrow.ArrowException as error:
            raise self._wrong(f"it cannot be read: {error}") from error

    def _batches(self, rows: int) -> Iterator[Any]:
        if hasattr(self._file, "iter_batches"):
            yield from self._file.iter_batches(batch_size=rows)
        elif hasattr(self._file, "num_record_batches"):
            for number in range(self._file.num_record_batches):
                yield self._file.get_batch(number)
        else:
            yield from self._file

    def _column(self, batch: Any, i: int) -> NDArray:
        column = batch.column(batch.schema.get_field_index(self._header[i]))
        kinds = self._arrow.types
        if kinds.is_dictionary(column.type):
            column = column.dictionary_decode()
        if _is_text(kinds, column.type):
            return np.array(["" if v is None else v for v in column.to_pylist()], dtype=np.str_)
        if kinds.is_boolean(column.type):
            column = column.cast(self._arrow.int8())
        return column.cast(self._arrow.float64()).to_numpy(zero_copy_only=False)


def _is_text(kinds: Any, kind: Any) -> bool:
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind))


def check_numbers(blocks: Iterator[Block], wrong: Wrong) -> Iterator[Block]:
    """The same blocks; ``wrong`` with row and column where a number is missing."""
    done = 0
    for X, y in blocks:
        missing = np.isnan(X) if X.dtype.kind == "f" else np.zeros(X.shape, bool)
        if missing.any():
            row, column = np.argwhere(missing)[0].tolist()
            raise wrong(
                f"row {done + row + 1}, column {column + 1} of the samples is missing; --missing "
                "mean or drop says what to do"
            )
        done += len(X)
        yield X, y
