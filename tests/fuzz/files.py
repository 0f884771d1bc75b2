"""Packed data sets and models on disk: every byte changed, every length, headers made up."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from zipml_pynq import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.packed_file import FILE_KIND
from zipml_pynq.errors import ModelFileError, PackedFileError
from zipml_pynq.learn.models import LinearModel
from zipml_pynq.learn.regressor import ZipMLRegressor


def _made(folder: Path) -> list[tuple[Path, Any, type[Exception]]]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 3))
    packed = pack(X, X[:, 0], bits=2)
    packed.save(folder / "set")
    ZipMLRegressor(bits=2, max_iter=2, tol=None, random_state=0).fit(X, X[:, 0]).save(
        folder / "model"
    )
    return [
        (folder / "set", PackedDataset.load, PackedFileError),
        (folder / "model", LinearModel.load, ModelFileError),
    ]


def _refused(load: Any, path: Path, error: type[Exception], what: str) -> None:
    try:
        load(path)
    except error:
        return
    raise AssertionError(f"{path}: {what} was taken for whole")


def bytes_and_lengths(step: int, seed: int, folder: Path) -> dict[str, int]:
    """Every ``step``-th byte changed, every ``step``-th length: all are refused."""
    rng = np.random.default_rng(seed)
    figures = {"bytes changed": 0, "lengths cut": 0}
    for path, load, error in _made(folder):
        content = path.read_bytes()
        load(path)
        broken = path.with_suffix(".broken")
        for at in range(0, len(content), step):
            data = bytearray(content)
            data[at] ^= int(rng.integers(1, 256))
            broken.write_bytes(data)
            _refused(load, broken, error, f"byte {at} as {data[at]}")
            figures["bytes changed"] += 1
            broken.write_bytes(content[:at])
            _refused(load, broken, error, f"{at} bytes")
            figures["lengths cut"] += 1
    return figures


SIZES = [0, 1, -1, 7, 1 << 31, 1 << 62, 1 << 64, 0.5, "1", None, [], True]


def _made_up(rng: np.random.Generator, header: dict[str, Any]) -> None:
    """One entry of a header changed."""

    def odd() -> Any:
        return SIZES[rng.integers(len(SIZES))]

    name = str(rng.choice(list(header)))
    entry = header[name]
    if not isinstance(entry, dict) or not entry:
        header[name] = odd()
        return
    key = str(rng.choice(list(entry)))
    if key in ("format", "version"):
        return
    if name == "__metadata__":
        entry[key] = str(odd())
    elif rng.integers(6) == 0:
        del entry[key]
    elif isinstance(entry[key], list) and entry[key]:
        entry[key][rng.integers(len(entry[key]))] = odd()
    else:
        entry[key] = [odd(), "F64", "U64", "Q9"][rng.integers(4)]


def headers(seconds: float, seed: int, folder: Path) -> dict[str, int]:
    """Headers that are made up, of the right kind and version: refused, without the memory that
    they tell of."""
    rng = np.random.default_rng(seed)
    path, load, error = _made(folder)[0]
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    whole = json.loads(content[8 : 8 + length])
    broken = path.with_suffix(".broken")
    figures = {"headers made up": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        header = json.loads(json.dumps(whole))
        for _ in range(rng.integers(1, 4)):
            _made_up(rng, header)
        if header == whole:
            continue
        text = json.dumps(header).encode()
        broken.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
        _refused(load, broken, error, f"header {header}")
        figures["headers made up"] += 1
    assert FILE_KIND.error is error
    return figures
