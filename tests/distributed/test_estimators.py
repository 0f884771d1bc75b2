"""The estimators on Dask's collections and packed files, on workers of this process."""
# ruff: noqa: E402 (where Dask is not installed, there is nothing to test)

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("distributed")

import dask.array as da
import dask.dataframe as dd
import pandas as pd
from distributed import Client, LocalCluster

from tests.distributed.data import rows, shards_of
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.distributed import ZipMLClassifier, ZipMLRegressor
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.classifier import ZipMLClassifier as PlainClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor as PlainRegressor

X, Y = rows()
pytestmark = pytest.mark.filterwarnings("ignore:Sending large graph")


@pytest.fixture(scope="module")
def client():
    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(n_workers=2, silence_logs=50, **options) as cluster, Client(cluster) as found:
        yield found


def test_regression_on_arrays_and_frames(client, tmp_path):
    array, labels = da.from_array(X, chunks=(150, 4)), da.from_array(Y, chunks=400)
    options = {"random_state": 1, "shards": 3, "round_epochs": 1, "bits": 4}
    model = ZipMLRegressor(**options, client=client).fit(array, labels)
    plain = PlainRegressor(bits=4, random_state=1, redraw=False).fit(X, Y)
    assert model.score(X, Y) > plain.score(X, Y) - 0.01
    assert model.normalization_ == Normalization.fit(X, Y)
    predicted = model.predict(array)
    assert isinstance(predicted, da.Array)
    assert np.allclose(predicted.compute(), model.predict(X))
    assert model.score(array, labels) == pytest.approx(model.score(X, Y))
    assert len(model.loss_curve_) == len(model.outcome_.history)
    assert model.loss_curve_[-1] <= model.loss_curve_[0]
    assert model.bytes_streamed_ > 0
    # the same rows in frames, whose chunks are dealt out to shards alike
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abcdefghi")), npartitions=8)
    again = ZipMLRegressor(**options).fit(frame, dd.from_pandas(pd.Series(Y), npartitions=8))
    assert np.array_equal(again.model_, model.model_)
    assert list(again.feature_names_in_) == list("abcdefghi")
    assert np.allclose(again.predict(frame).compute(), model.predict(X))
    again.save(tmp_path / "model")
    loaded = ZipMLRegressor.load(tmp_path / "model")
    assert type(loaded) is PlainRegressor
    assert np.array_equal(loaded.model_, model.model_)


def test_classes_on_arrays_and_packed_files(client, tmp_path):
    rng = np.random.default_rng(5)
    names = np.array(["blue", "green", "red"])
    kinds = rng.integers(0, 3, 900)
    samples = rng.standard_normal((900, 6)) + 2 * np.eye(3, 6)[kinds]
    array = da.from_array(samples, chunks=(300, 6))
    labels = da.from_array(names[kinds], chunks=300)
    options = {"random_state": 2, "max_iter": 10, "tol": None, "client": client}
    model = ZipMLClassifier("logistic", shards=3, class_weight="balanced", **options)
    model.fit(array, labels)
    plain = PlainClassifier("logistic", random_state=2, redraw=False).fit(samples, names[kinds])
    assert model.score(array, labels) > plain.score(samples, names[kinds]) - 0.02
    assert list(model.classes_) == list(names)
    assert np.allclose(model.predict_proba(array).compute(), model.predict_proba(samples))
    assert model.decision_function(array).shape == (900, 3)

    files = []
    for number, shard in enumerate(shards_of(samples, kinds.astype(float), 3)):
        files.append(tmp_path / f"shard-{number}")
        shard.save(files[-1])
    packed = ZipMLClassifier("logistic", **options).fit(files)
    assert list(packed.classes_) == [0, 1, 2]
    assert np.mean(packed.predict(samples) == kinds) > plain.score(samples, names[kinds]) - 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": 9}, r"shards was 9; X has 4 chunk\(s\)"),
        ({"bits": (4, 2)}, "allowed is one precision here"),
        ({"change_bits": 7}, "change_bits was 7"),
        ({"round_epochs": 0.3}, "round_epochs was 0.3"),
        ({"X": X}, "X was ndarray; allowed are arrays and data frames of Dask's"),
        ({"y": da.zeros(7, chunks=7)}, "X had 1200 rows, y 7"),
        ({"X": da.full((1200, 2), np.nan, chunks=(300, 2))}, "X was nan in row 0"),
    ],
)
def test_what_fit_refuses(client, change, message):
    given = {"X": da.from_array(X, chunks=(300, 9)), "y": da.from_array(Y, chunks=300), **change}
    data = {name: given.pop(name) for name in ("X", "y")}
    with pytest.raises(ArgumentError, match=message):
        ZipMLRegressor(**given).fit(**data)
