"""Pictures to train on: CIFAR-10 and MNIST, from a folder or through torchvision's downloader."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zipml_pynq.data.checks import check_choice, check_int
from zipml_pynq.errors import ArgumentError

#: Data sets by name: torchvision's class, and the file that is looked for in a folder first.
DATA_SETS: dict[str, tuple[str, str]] = {
    "cifar10": ("CIFAR10", "cifar10-jpeg.tar.gz"),
    "mnist": ("MNIST", "mnist.npz"),
}


@dataclass(frozen=True, eq=False)
class Pictures:
    """Training and test pictures, uint8 (N, channels, height, width), and classes, int64 (N,).

    ``source`` says where they come from: "jpeg" for pictures out of JPEG files, else "exact".
    """

    name: str
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    source: str = "exact"

    def subset(self, train: int, test: int) -> Pictures:
        """The first ``train`` and ``test`` pictures; they come in a shuffled order.

        Raises
        ------
        ArgumentError
            There are not so many.
        """
        check_int("train", train, 1, len(self.train))
        check_int("test", test, 1, len(self.test))
        return Pictures(
            self.name,
            self.train[:train],
            self.train_labels[:train],
            self.test[:test],
            self.test_labels[:test],
            self.source,
        )


def _shuffled(pictures: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Tensors in an order of their own, the same on every machine; channels lie innermost."""
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.from_numpy(np.ascontiguousarray(np.asarray(pictures, dtype=np.uint8)[order]))
    y = torch.from_numpy(np.asarray(labels, dtype=np.int64)[order])
    return (x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)), y


def _from_jpeg(path: Path) -> dict[str, tuple[Any, Any]]:
    """Parts "train" and "test" of an archive of ``PART/CLASS/*.jpg``; classes are in order."""
    try:
        image = import_module("PIL.Image")
    except ImportError as error:
        raise ImportError(
            f"{path.name} holds JPEG files: pip install 'zipml_pynq[deep]' brings Pillow"
        ) from error
    found: dict[str, list[tuple[str, str, Any]]] = {"train": [], "test": []}
    with tarfile.open(path) as archive:
        for member in archive:
            part, _, rest = member.name.removeprefix("./").partition("/")
            label, _, file = rest.partition("/")
            if member.isfile() and part in found and file.endswith(".jpg"):
                content = archive.extractfile(member).read()  # type: ignore[union-attr]
                found[part].append((label, file, np.asarray(image.open(io.BytesIO(content)))))
    if not all(found.values()):
        raise ArgumentError(f"{path} has no train/CLASS/*.jpg or no test/CLASS/*.jpg")
    classes = sorted({label for label, _, _ in found["train"]})
    parts = {}
    for part, pictures in found.items():
        pictures.sort(key=lambda picture: picture[:2])
        parts[part] = (
            np.stack([pixels for _, _, pixels in pictures]),
            [classes.index(label) for label, _, _ in pictures],
        )
    return parts


def _from_npz(path: Path) -> dict[str, tuple[Any, Any]]:
    with np.load(path) as file:
        return {
            part: (file[f"X_{part}"].reshape(-1, 28, 28), file[f"y_{part}"])
            for part in ("train", "test")
        }


def load_pictures(name: str, folder: str | Path) -> Pictures:
    """CIFAR-10 (3 x 32 x 32) or MNIST (1 x 28 x 28), each part shuffled once and for all.

    Where ``folder`` holds ``cifar10-jpeg.tar.gz`` (``train|test/CLASS/*.jpg``) or ``mnist.npz``
    (X_train, y_train, X_test, y_test), pictures come from there, else from torchvision, which
    keeps in ``folder`` what it downloads.

    Parameters
    ----------
    name : str
        "cifar10" or "mnist".

    Raises
    ------
    ArgumentError
        The name is neither, or the archive holds something else.
    ImportError
        Pillow or torchvision is needed and not installed.
    """
    check_choice("name", name, tuple(DATA_SETS))
    kind, file = DATA_SETS[name]
    path = Path(folder) / file
    source = "exact"
    if path.exists():
        source = "jpeg" if name == "cifar10" else "exact"
        parts = _from_jpeg(path) if name == "cifar10" else _from_npz(path)
    else:
        try:
            maker = getattr(import_module("torchvision.datasets"), kind)
        except (ImportError, RuntimeError) as error:
            raise ImportError(
                f"{path} does not exist, and downloading {name} needs the torchvision that fits "
                f"the installed torch {torch.__version__}: pip install torchvision"
            ) from error
        parts = {}
        for part in ("train", "test"):
            made = maker(folder, train=part == "train", download=True)
            parts[part] = (np.asarray(made.data), np.asarray(made.targets))
    return Pictures(name, *_shuffled(*parts["train"]), *_shuffled(*parts["test"]), source)
