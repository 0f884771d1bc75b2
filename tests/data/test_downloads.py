"""LIBSVM's files by URL, from a server on this machine; stand-ins by seed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import dump_svmlight_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from zipml_pynq.data import stand_ins
from zipml_pynq.data.downloads import LIBSVM, cache_folder, fetch_libsvm, sha256_of
from zipml_pynq.errors import ArgumentError, DownloadError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server of a folder, and the folder."""
    root = tmp_path / "mirror"
    (root / "regression").mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", root
    server.shutdown()
    thread.join()
    server.server_close()


def written(path: Path, samples: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(samples, 12)).round(3)
    dump_svmlight_file(X, np.arange(samples) % 100, str(path), zero_based=False)
    return X


def test_a_set_is_fetched_once_and_checked_ever_after(
    mirror: tuple[str, Path], tmp_path: Path
) -> None:
    url, root = mirror
    source = root / "regression" / "cpusmall"
    X = written(source, 8_192)
    cache = tmp_path / "cache"
    data = fetch_libsvm("cpusmall", mirror=url, folder=cache)
    assert (data.name, data.X_train.shape, data.X_test.shape) == (
        "cpusmall",
        (6554, 12),
        (1638, 12),
    )
    assert np.isclose(np.sort(data.X_train.sum(axis=1))[0], X.sum(axis=1).min(), atol=0.5)
    digest = sha256_of(source)
    assert (cache / "cpusmall.sha256").read_text() == digest + "\n"
    source.unlink()  # the cache is enough
    again = fetch_libsvm("cpusmall", mirror=url, folder=cache, sha256=[digest])
    np.testing.assert_array_equal(again.X_train, data.X_train)
    with pytest.raises(DownloadError, match="is what it should have"):
        fetch_libsvm("cpusmall", mirror=url, folder=cache, sha256=["0" * 64])
    with (cache / "cpusmall").open("a") as file:
        file.write("1 1:2\n")
    with pytest.raises(DownloadError, match="changed, or cut off"):
        fetch_libsvm("cpusmall", mirror=url, folder=cache)


def test_what_is_not_there_or_not_the_set_is_told(mirror: tuple[str, Path], tmp_path: Path) -> None:
    url, root = mirror
    with pytest.raises(DownloadError, match="cannot be fetched"):
        fetch_libsvm("cadata", mirror=url, folder=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []  # no part of a file
    written(root / "regression" / "cpusmall", 50)
    with pytest.raises(DownloadError, match="had .50,. samples"):
        fetch_libsvm("cpusmall", mirror=url, folder=tmp_path / "cache")
    with pytest.raises(ArgumentError, match="name was 'iris'"):
        fetch_libsvm("iris")
    with pytest.raises(ArgumentError, match="mirror was"):
        fetch_libsvm("cadata", mirror="file:///tmp")
    with pytest.raises(ArgumentError, match="sha256 had 1"):
        fetch_libsvm("year", sha256=["0"])


def test_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZIPML_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ZIPML_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "zipml_pynq"


def test_stand_ins_are_what_they_say() -> None:
    """Shape, share of a class, and how often a linear model is right; no set's name."""
    classes = stand_ins.composition_classes(6_000, 2_000)
    sparse = stand_ins.sparse_classes(500, 2_000, 500)
    year = stand_ins.timbre_regression(3_000, 500)
    assert [d.X_train.shape for d in (classes, sparse, year)] == [
        (6000, 8),
        (2000, 500),
        (3000, 90),
    ]
    assert np.mean(classes.y_train > 0) == pytest.approx(1 / 3, abs=0.02)
    assert np.mean(sparse.X_train != 0) == pytest.approx(0.13, abs=0.02)
    for data, low, high in ((classes, 0.92, 0.98), (sparse, 0.93, 0.995)):
        scale = StandardScaler().fit(data.X_train)
        model = LogisticRegression(max_iter=2_000).fit(scale.transform(data.X_train), data.y_train)
        assert low < model.score(scale.transform(data.X_test), data.y_test) < high
    again = stand_ins.composition_classes(6_000, 2_000)
    np.testing.assert_array_equal(again.X_train, classes.X_train)
    assert not {d.name for d in (classes, sparse, year)} & set(LIBSVM)
    with pytest.raises(ArgumentError, match="n_train was 0"):
        stand_ins.timbre_regression(0)
