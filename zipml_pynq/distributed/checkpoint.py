"""Checkpoints: the models after some rounds, and which training they are of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.files import check_target
from zipml_pynq.data.tensor_file import FileKind, read_tensors, write_tensors
from zipml_pynq.errors import CheckpointError
from zipml_pynq.training.plan import Plan

FILE_KIND = FileKind(
    name="checkpoint",
    format="zipml-pynq checkpoint",
    version=1,
    error=CheckpointError,
    remedy="begin the training anew",
    tensors={"history": np.dtype("<i4"), "counts": np.dtype("<i8")},
    optional={},
)


def fingerprint(*parts: Any) -> str:
    """What tells one training from another: of numbers, text, arrays and plans, in their order."""
    digest = hashlib.sha256()
    for part in parts:
        _take(digest, part)
    return digest.hexdigest()


def _take(digest: Any, part: Any) -> None:
    if isinstance(part, np.ndarray):
        digest.update(f"{part.dtype.str}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    elif isinstance(part, Plan):
        for name in sorted(part.__dataclass_fields__):
            value = getattr(part, name)
            _take(digest, (name, value.numbers if name == "derivative" else value))
    elif isinstance(part, tuple | list):
        digest.update(f"{len(part)}(".encode())
        for one in part:
            _take(digest, one)
    else:
        digest.update(f"{type(part).__name__}:{part!r};".encode())


@dataclass(frozen=True)
class Checkpoint:
    """Where a training leaves its models every few rounds.

    Parameters
    ----------
    path : path-like
    every : int
        Rounds.
    training : str
        The :func:`fingerprint` of what is trained.
    """

    path: str | os.PathLike[str]
    every: int
    training: str

    def __post_init__(self) -> None:
        check_target(self.path)

    def write(self, history: NDArray[np.int32], counts: Iterable[int]) -> None:
        """The models after each round so far, (rounds, models, features), and what was counted."""
        counted = np.array(list(counts), dtype=np.int64)
        tensors: dict[str, NDArray] = {"history": history, "counts": counted}
        write_tensors(self.path, FILE_KIND, tensors, {"training": self.training})

    def read(self) -> tuple[NDArray[np.int32], list[int]] | None:
        """What :meth:`write` wrote; None where there is nothing yet.

        Raises
        ------
        CheckpointError
            The file is of another training, or no whole checkpoint.
        """
        if not Path(self.path).exists():
            return None
        tensors, metadata = read_tensors(self.path, FILE_KIND, False, True)
        if metadata.get("training") != self.training:
            raise CheckpointError(
                f"'{self.path}' is of another training: other shards, plan, rounds, bits or "
                "start; name another file, or remove it to begin anew"
            )
        return np.array(tensors["history"]), [int(count) for count in tensors["counts"]]
