"""Files of tensors: safetensors with a checksum, written all or nothing, tensor by tensor.

Packed data sets and models are such files (docs/data.md, docs/models.md). The package
``safetensors`` reads them, and checks their structure here; but it holds whole files in memory
when it writes, orders metadata at random, and tells nobody where a tensor lies, which a memory map
needs. So header and checksum are made here. A file is numbers and text: nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from zipml_pynq.data.alignment import CACHE_LINE, empty_aligned
from zipml_pynq.data.files import Target, regular
from zipml_pynq.errors import ZipmlError

_NAMES: dict[np.dtype[Any], str] = {
    np.dtype("<u8"): "U64",
    np.dtype("<i8"): "I64",
    np.dtype("<i4"): "I32",
    np.dtype("<i2"): "I16",
    np.dtype("<f8"): "F64",
    np.dtype("|u1"): "U8",
}
#: What is read at a time for the checksum.
_PIECE = 1 << 20
#: The largest header that the format allows.
_MAX_HEADER = 100_000_000
_CHECKSUM = "sha256"


@dataclass(frozen=True)
class FileKind:
    """One kind of file.

    Attributes
    ----------
    name : str
        What a message calls it.
    format, version : str and int
        Stored as metadata, and compared.
    error : type
        What is raised for a file that cannot be used.
    remedy : str
        What helps where a file is of an older version.
    tensors : dict of str to dtype
        All tensors that may be in it.
    optional : dict of str to callable
        Tensors that need not be in it, and what of the metadata says that they are.
    """

    name: str
    format: str
    version: int
    error: type[ZipmlError]
    remedy: str
    tensors: dict[str, np.dtype[Any]]
    optional: dict[str, Callable[[dict[str, str]], bool]]


class TensorWriter:
    """Writes a file piece by piece under another name; :meth:`finish` puts it in its place.

    A context manager: what was not finished is removed.

    Parameters
    ----------
    path : path-like
    kind : FileKind
    shapes : mapping of str to tuple of int
        Of every tensor.
    metadata : mapping of str to str

    Raises
    ------
    ArgumentError
        ``path`` is a directory, or its folder does not exist.
    ZipmlError
        ``kind.error``: the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        kind: FileKind,
        shapes: Mapping[str, tuple[int, ...]],
        metadata: Mapping[str, str],
    ) -> None:
        self.target = Target.of(path)
        self.kind = kind
        # largest elements first, so that all of them are aligned, and of those the longest tensor,
        # which then begins at a cache line
        order = sorted(
            shapes, key=lambda name: (-kind.tensors[name].itemsize, -math.prod(shapes[name]), name)
        )
        header: dict[str, Any] = {
            "__metadata__": {
                "format": kind.format,
                "version": str(kind.version),
                **metadata,
                _CHECKSUM: "0" * 64,
            }
        }
        end = 0
        for name in order:
            dtype, shape = kind.tensors[name], shapes[name]
            begin, end = end, end + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            header[name] = {
                "dtype": _NAMES[dtype],
                "shape": list(shape),
                "data_offsets": [begin, end],
            }
        self._header = header
        self._start = len(_header_bytes(header))
        self._file: Any = None
        try:
            self._file = open(self.target.work, "x+b")  # noqa: SIM115 (closed in __exit__)
            self._file.truncate(self._start + end)
        except OSError as error:
            self.__exit__()
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ZipmlError:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        return self.kind.error(f"'{self.target.path}' cannot be written: {why}")

    def write(self, name: str, array: NDArray, first: int = 0) -> None:
        """Write rows of a tensor (entries of its first dimension) from row ``first`` on."""
        entry = self._header[name]
        dtype = self.kind.tensors[name]
        row = dtype.itemsize * int(np.prod(entry["shape"][1:], dtype=np.int64))
        try:
            self._file.seek(self._start + entry["data_offsets"][0] + first * row)
            self._file.write(np.ascontiguousarray(array, dtype).data)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Compute the checksum, see that all is on the disk, and put it in its place."""
        try:
            self._file.flush()
            checksum = _checksum(self._file, self._start, self._header)
            self._header["__metadata__"][_CHECKSUM] = checksum
            self._file.seek(0)
            self._file.write(_header_bytes(self._header))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()  # Windows renames no open file
            self.target.commit()
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        self.target.discard()


def write_tensors(
    path: str | os.PathLike[str],
    kind: FileKind,
    tensors: Mapping[str, NDArray],
    metadata: Mapping[str, str],
) -> None:
    """Write a file of tensors that are at hand; see :class:`TensorWriter`."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    with TensorWriter(path, kind, shapes, metadata) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
        writer.finish()


def read_tensors(
    path: str | os.PathLike[str], kind: FileKind, mmap: bool = True, verify: bool = True
) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Tensors and metadata of a file.

    Parameters
    ----------
    path : path-like
    kind : FileKind
    mmap : bool
        Map tensors instead of reading them.
    verify : bool
        Compare the checksum, which reads the whole file once, a piece at a time.

    Raises
    ------
    ZipmlError
        ``kind.error``: the file is missing, truncated, altered, of another version or kind.
    """
    try:
        with regular(path) as at:
            return _read_regular(Path(path), at, kind, mmap, verify)
    except OSError as error:
        if isinstance(error, ZipmlError):
            raise
        raise kind.error(f"'{path}' cannot be read: {error.strerror}") from error


def _read_regular(
    path: Path, at: Path, kind: FileKind, mmap: bool, verify: bool
) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Tensors and metadata of a file that lies at ``at`` and that messages call ``path``."""
    header, start = _read_header(path, at, kind)
    whole = dict(header)
    metadata = header.pop("__metadata__")
    tensors: dict[str, NDArray] = {}
    for name, dtype in kind.tensors.items():
        if name in kind.optional and not kind.optional[name](metadata):
            continue
        entry = header.pop(name, None)
        if entry is None or entry["dtype"] != _NAMES[dtype] or 0 in entry["shape"]:
            raise kind.error(f"'{path}' was altered: no tensor '{name}' of {dtype}")
        offset = start + entry["data_offsets"][0]
        tensors[name] = np.memmap(at, dtype, "r", offset, tuple(entry["shape"]))
    if header:
        raise kind.error(f"'{path}' was altered: unknown tensor '{next(iter(header))}'")
    if verify:
        with open(at, "rb") as file:
            if metadata.get(_CHECKSUM) != _checksum(file, start, whole):
                raise kind.error(f"'{path}' was altered: its checksum does not match")
            # what the checksum leaves out: how the header is spelled, and what fills it up
            file.seek(0)
            if file.read(start) != _header_bytes(whole):
                raise kind.error(f"'{path}' was altered: its header is spelled otherwise")
    if not mmap:
        for name, tensor in tensors.items():
            tensors[name] = empty_aligned(tensor.shape, tensor.dtype)
            tensors[name][...] = tensor
    return tensors, metadata


def format_of(path: str | os.PathLike[str]) -> str | None:
    """The format that a file's metadata name; None if it is no safetensors file with metadata.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= _MAX_HEADER else b""
    try:
        return json.loads(text)["__metadata__"]["format"]
    except (ValueError, KeyError, TypeError):
        return None


def _header_bytes(header: dict[str, Any]) -> bytes:
    """Length and text of a header, padded so that what follows begins at a cache line."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % CACHE_LINE)
    return len(text).to_bytes(8, "little") + text


def _checksum(file: Any, start: int, header: dict[str, Any]) -> str:
    """SHA-256 over all metadata but itself and over every tensor's name, type, shape and bytes."""
    rest = {key: text for key, text in header["__metadata__"].items() if key != _CHECKSUM}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    dtypes = {name: dtype.str for dtype, name in _NAMES.items()}
    for name in sorted(header.keys() - {"__metadata__"}):
        entry = header[name]
        shape = tuple(entry["shape"])
        digest.update(f"{name} {dtypes[entry['dtype']]} {shape} ".encode())
        begin, end = entry["data_offsets"]
        file.seek(start + begin)
        for at in range(begin, end, _PIECE):
            digest.update(file.read(min(_PIECE, end - at)))
    return digest.hexdigest()


def _read_header(path: Path, at: Path, kind: FileKind) -> tuple[dict[str, Any], int]:
    """The header of a file (8 bytes of length, then JSON), and where its data begin."""
    fail = kind.error
    size = at.stat().st_size
    with open(at, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        # a larger length is text, or anything else
        start = 8 + length
        text = file.read(length) if length <= _MAX_HEADER else b""
    foreign = fail(f"'{path}' is no {kind.name}: it is no safetensors file")
    if text[:1] != b"{":
        raise fail(f"'{path}' is truncated: {size} bytes") if size <= 8 else foreign
    if size < start:
        raise fail(f"'{path}' is truncated: {size} bytes end inside its header")
    try:
        header = json.loads(text)
        metadata = header.get("__metadata__") or {}
        named = metadata.get("format")
        end = start + max(
            (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"),
            default=0,
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise foreign from None
    if named != kind.format:
        what = f"it is a '{named}'" if isinstance(named, str) else "its metadata do not say so"
        raise fail(f"'{path}' is no {kind.name}: {what}")
    version = metadata.get("version")
    if version != str(kind.version):
        newer = str(version).isdecimal() and int(str(version)) > kind.version
        remedy = "a newer release of zipml_pynq wrote it, and reads it" if newer else kind.remedy
        raise fail(
            f"'{path}' has format version {version}; this release reads "
            f"version {kind.version}: {remedy}"
        )
    if size != end:
        what = "truncated" if size < end else "altered"
        raise fail(f"'{path}' is {what}: it has {size} bytes, its header tells of {end}")
    try:
        with safetensors.safe_open(at, framework="numpy"):
            pass
    except safetensors.SafetensorError as error:
        raise fail(f"'{path}' was altered: {error}") from error
    return header, start
