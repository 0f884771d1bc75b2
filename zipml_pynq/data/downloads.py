"""The paper's data sets as LIBSVM's files: by URL, checked, kept in a cache.

The project was written without internet access, so that no digest of these files could be pinned.
A file is checked by its shape, which is known, when it is fetched; its SHA-256 is written beside it
then, and every later use is held to it. Who knows a digest gives it, and it is held to that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zipml_pynq.data.checks import check_choice
from zipml_pynq.data.datasets import Dataset, load_libsvm
from zipml_pynq.errors import ArgumentError, DownloadError

LIBSVM_URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/"
#: Environment variable with the folder of the cache.
CACHE = "ZIPML_CACHE"
_SECONDS = 60


@dataclass(frozen=True)
class Files:
    """Of a data set: paths below LIBSVM's folder, and what they hold.

    Parameters
    ----------
    paths : tuple of str
        The training set, and the test set where there is one.
    samples : tuple of int
        Of each file.
    features : int
    """

    paths: tuple[str, ...]
    samples: tuple[int, ...]
    features: int


LIBSVM: dict[str, Files] = {
    "cadata": Files(("regression/cadata",), (20_640,), 8),
    "cpusmall": Files(("regression/cpusmall",), (8_192,), 12),
    "year": Files(
        ("regression/YearPredictionMSD.bz2", "regression/YearPredictionMSD.t.bz2"),
        (463_715, 51_630),
        90,
    ),
    "cod-rna": Files(("binary/cod-rna", "binary/cod-rna.t"), (59_535, 271_617), 8),
    "gisette": Files(
        ("binary/gisette_scale.bz2", "binary/gisette_scale.t.bz2"), (6_000, 1_000), 5_000
    ),
}


def cache_folder() -> Path:
    """``$ZIPML_CACHE``, else ``zipml_pynq`` in the user's cache."""
    given = os.environ.get(CACHE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "zipml_pynq"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _download(url: str, path: Path) -> None:
    """Fetch a file to a path, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        part = Path(file.name)
        try:
            # an opener of its own: the shared one keeps the proxies of when it was first used
            with urllib.request.build_opener().open(url, timeout=_SECONDS) as answer:
                shutil.copyfileobj(answer, file)
        except OSError as error:  # URLError is one
            part.unlink()
            raise DownloadError(
                f"{url} cannot be fetched, and is not in the cache at {path}: {error}; load_libsvm "
                "reads files that are here"
            ) from error
    part.replace(path)


def cached(url: str, folder: Path, sha256: str | None = None) -> Path:
    """A file of a URL in the cache, fetched where it is not there yet.

    Parameters
    ----------
    url : str
    folder : Path
        Of the cache.
    sha256 : str, optional
        What its digest has to be; by default what it was when it was fetched.

    Raises
    ------
    DownloadError
        It cannot be fetched, or its digest is another one; then the file stays, for who wants to
        look at it.
    """
    path = folder / urllib.parse.urlparse(url).path.rpartition("/")[2]
    note = path.with_name(path.name + ".sha256")
    fetched = not path.exists()
    if fetched:
        _download(url, path)
    found = sha256_of(path)
    wanted = sha256 or (note.read_text().strip() if note.exists() else found)
    if found != wanted:
        raise DownloadError(
            f"{path} has the SHA-256 {found}, and {wanted} is what it should have: it was changed, "
            "or cut off; delete it, and it is fetched again"
        )
    if not note.exists():
        note.write_text(found + "\n")
    return path


def fetch_libsvm(
    name: str,
    *,
    mirror: str = LIBSVM_URL,
    folder: str | os.PathLike[str] | None = None,
    sha256: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """A data set of the paper by name, from LIBSVM's files.

    Parameters
    ----------
    name : str
        A key of :data:`LIBSVM`.
    mirror : str
        Folder that has LIBSVM's folders, as an http or https URL.
    folder : path-like, optional
        Of the cache; by default :func:`cache_folder`.
    sha256 : sequence of str, optional
        Of each file; by default what it was when it was fetched first.
    test_fraction, seed
        Of the split where there is no file with a test set.

    Raises
    ------
    ArgumentError
        Unknown name, or another number of digests than of files.
    DownloadError
        It is neither in the cache nor to be had over the network, or is not what it should be.
    ImportError
        scikit-learn is not installed.
    """
    files = LIBSVM[check_choice("name", name, tuple(LIBSVM))]
    if urllib.parse.urlparse(mirror).scheme not in ("http", "https"):
        raise ArgumentError(f"mirror was {mirror!r}; allowed are http and https URLs")
    if sha256 is not None and len(sha256) != len(files.paths):
        raise ArgumentError(
            f"sha256 had {len(sha256)} digest(s); allowed is one a file, {len(files.paths)}"
        )
    where = cache_folder() if folder is None else Path(folder)
    digests: list[str | None] = [None] * len(files.paths) if sha256 is None else [*sha256]
    base = mirror.rstrip("/") + "/"
    paths = [
        cached(base + path, where, digest)
        for path, digest in zip(files.paths, digests, strict=True)
    ]
    data = load_libsvm(*paths, test_fraction=test_fraction, seed=seed, n_features=files.features)
    rows = (len(data.X_train), len(data.X_test))
    found = rows if len(paths) == 2 else (sum(rows),)
    if found != files.samples:
        raise DownloadError(
            f"{name} had {found} samples, and {files.samples} is what {', '.join(files.paths)} "
            f"hold: delete {', '.join(map(str, paths))}, and they are fetched again"
        )
    return Dataset(name, data.X_train, data.y_train, data.X_test, data.y_test)
