"""Files as people name them: links are followed, pipes and devices read and written through.

A regular file becomes whole or not at all: it is written under another name in its folder and then
renamed. A pipe or a device stays what it is, so what is made for it is written into it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zipml_pynq.errors import ArgumentError

_PIECE = 1 << 20
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def _descriptor(path: str) -> int | None:
    """The descriptor of this process that a path names, such as /dev/stdout; None if it is none."""
    if path in _STANDARD:
        return _STANDARD[path]
    number = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", path)
    return int(number[1]) if number else None


@dataclass(frozen=True)
class Target:
    """Where a file is to be.

    Attributes
    ----------
    path : Path
        As it was named.
    work : Path
        Where it is made.
    final : Path or None
        The regular file that it then becomes, links followed; None: what ``path`` names is none,
        and is written through.
    """

    path: Path
    work: Path
    final: Path | None

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Target:
        """The target of that name.

        Raises
        ------
        ArgumentError
            It is a folder, or is in none.
        """
        path = Path(path)
        unique = secrets.token_hex(4)
        if not _becomes_regular(path):
            return cls(path, Path(tempfile.gettempdir(), f"zipml-{unique}.tmp"), None)
        final = Path(os.path.realpath(path))
        if not final.parent.is_dir():
            folder = path.parent if not path.is_symlink() else final.parent
            raise ArgumentError(f"path was '{path}'; the folder '{folder}' does not exist")
        return cls(path, final.with_name(f".{final.name}.{unique}.tmp"), final)

    def commit(self) -> None:
        """Put what was made in its place; OSError if that is not possible."""
        if self.final is None:
            with open(self.work, "rb") as made, _through(self.path, "wb") as out:
                shutil.copyfileobj(made, out, _PIECE)
            return
        if self.final.exists():
            shutil.copymode(self.final, self.work)
        try:
            os.replace(self.work, self.final)
        except PermissionError as error:
            if os.name != "nt" or not self.final.exists():
                raise
            why = "it is open or mapped, and Windows replaces no file that is in use"
            raise PermissionError(error.errno, why, str(self.path)) from error

    def discard(self) -> None:
        """Remove what was made and not put in its place."""
        self.work.unlink(missing_ok=True)


def _becomes_regular(path: Path) -> bool:
    """Whether a path names a regular file, or nothing yet; ArgumentError where it cannot be one."""
    if _descriptor(str(path)) is not None:
        return False
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return True
    except OSError as error:
        raise ArgumentError(
            f"path was '{path}', which cannot be written: {error.strerror}"
        ) from error
    if stat.S_ISDIR(mode):
        raise ArgumentError(f"path was '{path}', a folder; it must name a file")
    return stat.S_ISREG(mode)


def _through(path: Path, mode: str) -> Any:
    """Open a pipe, a device or a descriptor of this process for writing."""
    number = _descriptor(str(path))
    return open(path if number is None else os.dup(number), mode, **_text(mode))


def _text(mode: str) -> dict[str, Any]:
    """Text is the same bytes on every system."""
    return {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}


def check_target(path: str | os.PathLike[str]) -> Path:
    """``path`` if a file of that name can be made.

    Raises
    ------
    ArgumentError
        It is a directory, or its folder does not exist.
    """
    return Target.of(path).path


@contextmanager
def written(path: str | os.PathLike[str], mode: str = "w") -> Iterator[Any]:
    """A file that becomes ``path`` when the block ends without an error, and else is removed.

    A pipe or a device gets what is written at once.

    Raises
    ------
    ArgumentError
        ``path`` is a directory, or its folder does not exist.
    OSError
        It cannot be written.
    """
    target = Target.of(path)
    if target.final is None:
        with _through(target.path, mode) as file:
            yield file
        return
    try:
        with open(target.work, mode.replace("w", "x"), **_text(mode)) as file:
            yield file
        target.commit()
    finally:
        target.discard()


@contextmanager
def regular(path: str | os.PathLike[str]) -> Iterator[Path]:
    """``path``, or of a pipe or device a copy in a temporary file, for as long as the block lasts.

    Maps of the copy stay after that.

    Raises
    ------
    OSError
        It cannot be read.
    """
    path = Path(path)
    if stat.S_ISREG(path.stat().st_mode) or path.is_dir():
        yield path
        return
    with open(path, "rb") as source, temporary(source) as copy:
        yield copy


@contextmanager
def temporary(source: Any) -> Iterator[Path]:
    """A temporary file with what ``source`` has, closed, for as long as the block lasts."""
    handle, name = tempfile.mkstemp(prefix="zipml-")
    try:
        with os.fdopen(handle, "wb") as copy:
            shutil.copyfileobj(source, copy, _PIECE)
        yield Path(name)
    finally:
        with suppress(PermissionError):  # Windows keeps what is still mapped
            os.unlink(name)
