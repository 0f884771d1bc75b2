"""The estimators on Dask's collections and packed files, on workers of this process."""
# ruff: noqa: E402 (where Dask is not installed, there is nothing to test)

from __future__ import annotations

import inspect

import numpy as np
import pytest

pytest.importorskip("distributed")

import dask.array as da
import dask.dataframe as dd
import pandas as pd
from distributed import Client, LocalCluster
from scipy.sparse import csr_matrix

from tests.distributed.data import rows, shards_of
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.distributed import ZipMLClassifier, ZipMLRegressor
from zipml_pynq.distributed.fitting import OWN, REFUSED
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.classifier import ZipMLClassifier as PlainClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor as PlainRegressor

X, Y = rows()
rng = np.random.default_rng(7)
#: Sparse rows, a second target, classes, and weights of which some are 0.
SPARSE = X * (rng.random(X.shape) < 0.5)
SEVERAL = np.stack([Y, 3 - 2 * Y + rng.standard_normal(len(Y))], axis=1)
KINDS = np.array(["blue", "green", "red"])[np.digitize(Y, np.quantile(Y, [0.2, 0.7]))]
WEIGHTS = rng.integers(0, 4, len(Y)).astype(float)
#: Parameters that would be allowed to be True on one machine.
FLAGS = ("redraw", "refine", "early_stopping", "warm_start")
pytestmark = pytest.mark.filterwarnings("ignore:Sending large graph")


def workers(number):
    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": ":0"}
    return LocalCluster(n_workers=number, silence_logs=50, **options)


@pytest.fixture(scope="module")
def client():
    with workers(2) as cluster, Client(cluster) as found:
        yield found


def lazy(array, size=250):
    """In chunks that are no whole blocks; what is mostly zeros as sparse matrices."""
    chunks = (size, *array.shape[1:])
    found = da.from_array(array, chunks=chunks)
    return found.map_blocks(csr_matrix) if array is SPARSE else found


def test_regression_on_arrays_and_frames(client, tmp_path):
    array, labels = da.from_array(X, chunks=(150, 4)), da.from_array(Y, chunks=400)
    options = {"random_state": 1, "shards": 3, "round_epochs": 1, "bits": 4, "tol": 1e-2}
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
    assert not model.multinomial_
    with pytest.raises(ArgumentError, match="multi_class was 'multinomial'; allowed on a cluster"):
        ZipMLClassifier("logistic", multi_class="multinomial", **options).fit(array, labels)
    assert np.allclose(model.predict_proba(array).compute(), model.predict_proba(samples))
    assert np.allclose(
        model.predict_log_proba(array).compute(), np.log(model.predict_proba(samples))
    )
    assert model.decision_function(array).shape == (900, 3)

    files = []
    for number, shard in enumerate(shards_of(samples, kinds.astype(float), 3)):
        files.append(tmp_path / f"shard-{number}")
        shard.save(files[-1])
    packed = ZipMLClassifier("logistic", **options).fit(files)
    assert list(packed.classes_) == [0, 1, 2]
    assert np.mean(packed.predict(samples) == kinds) > plain.score(samples, names[kinds]) - 0.02
    with pytest.raises(ArgumentError, match="sample_weight came with packed files"):
        ZipMLClassifier("logistic", **options).fit(files, None, lazy(WEIGHTS))


@pytest.mark.parametrize(
    ("twin", "plain", "data", "options"),
    [
        (ZipMLRegressor, PlainRegressor, (X, Y, WEIGHTS), {"learning_rate": lambda e: 1 / (2 + e)}),
        (ZipMLRegressor, PlainRegressor, (SPARSE, SEVERAL), {"bits": (8, 4, 4, 2)}),
        (
            ZipMLRegressor,
            PlainRegressor,
            (X, Y),
            {"levels": "global", "penalty": "elasticnet", "alpha": 0.01},
        ),
        (ZipMLRegressor, PlainRegressor, (SPARSE, Y), {"bits": 32, "sampling": "auto"}),
        (ZipMLClassifier, PlainClassifier, (SPARSE, KINDS, WEIGHTS), {"class_weight": "balanced"}),
        (
            ZipMLClassifier,
            PlainClassifier,
            (X, KINDS == "red", WEIGHTS),
            {"loss": "hinge", "refetch": True, "class_weight": {True: 3.0}},
        ),
    ],
)
def test_one_shard_that_draws_nothing_is_one_machines_model(client, twin, plain, data, options):
    """To the bit: what is chosen, weighed and normalized is the same."""
    options = {
        **{"sampling": "nearest", "shuffle": False, "tol": None, "max_iter": 5},
        **options,
    }
    one = plain(**options, redraw=False, refine=False).fit(*data)
    found = twin(**options, shards=1, change_bits=32, round_epochs=1).fit(*map(lazy, data))
    assert np.array_equal(found.model_, one.model_)
    assert np.allclose(found.normalization_.mid, one.normalization_.mid, rtol=1e-14, atol=0)
    assert np.allclose(found.coef_, one.coef_, rtol=1e-12)
    assert found.bytes_streamed_ == one.bytes_streamed_
    some = lazy(data[0])
    assert found.predict(some).compute().shape == np.shape(data[1])
    assert found.score(some, *map(lazy, data[1:])) == pytest.approx(one.score(*data))


def test_workers_do_not_change_a_bit(client):
    """Of weighted sparse rows and several targets, at precisions that change within rounds."""
    options = {"bits": (8, 4), "model_bits": 8, "shards": 3, "round_epochs": 2, "tol": 1e-2}

    def fitted(on):
        model = ZipMLRegressor(**options, random_state=3, client=on)
        return model.fit(*map(lazy, (SPARSE, SEVERAL, WEIGHTS)))

    two = fitted(client)
    with workers(1) as cluster, Client(cluster, set_as_default=False) as other:
        one = fitted(other)
    assert np.array_equal(one.outcome_.history, two.outcome_.history)
    # epochs 0, 1 and 2, 3 and 4, and so on, until little is left to gain
    assert two.n_iter_ == 2 * len(two.outcome_.history) - 1 < 100
    plain = PlainRegressor(bits=4, redraw=False).fit(SPARSE, SEVERAL, WEIGHTS)
    found = two.score(*map(lazy, (SPARSE, SEVERAL, WEIGHTS)))
    assert found > plain.score(SPARSE, SEVERAL, WEIGHTS) - 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": 9}, r"shards was 9; X has 4 chunk\(s\)"),
        ({"change_bits": 7}, "change_bits was 7"),
        ({"round_epochs": 0.3}, "round_epochs was 0.3"),
        ({"X": X}, "X was ndarray; allowed are arrays and data frames of Dask's"),
        ({"y": da.zeros(7, chunks=7)}, "X had 1200 rows, y 7"),
        ({"X": da.full((1200, 2), np.nan, chunks=(300, 2))}, "X was nan in row 0"),
        ({"sample_weight": WEIGHTS}, "sample_weight was ndarray; allowed are arrays"),
        ({"sample_weight": da.zeros(8, chunks=2)}, "X had 1200 rows, sample_weight 8"),
        ({"sample_weight": da.zeros(1200, chunks=300)}, "sample_weight was 0 for all samples"),
        ({"sample_weight": da.full(1200, -1, chunks=300)}, "sample_weight was -1.0 in row 0"),
        ({"sample_weight": da.ones((1200, 2), chunks=300)}, r"sample_weight had shape \(300, 2\)"),
        *(({name: 2}, f"{name} was 2; allowed") for name in REFUSED),
        *(({name: True}, f"{name} was True; allowed on a cluster is") for name in FLAGS),
    ],
)
def test_what_fit_refuses(client, change, message):
    given = {"X": da.from_array(X, chunks=(300, 9)), "y": da.from_array(Y, chunks=300), **change}
    data = {name: given.pop(name) for name in ("X", "y", "sample_weight") if name in given}
    with pytest.raises(ArgumentError, match=message):
        ZipMLRegressor(**given).fit(**data)


@pytest.mark.parametrize(
    ("twin", "plain"),
    [(ZipMLRegressor, PlainRegressor), (ZipMLClassifier, PlainClassifier)],
)
def test_twins_take_what_one_machine_takes(twin, plain):
    def taken(of):
        return [(p.name, p.default) for p in inspect.signature(of).parameters.values()]

    assert [own for own in taken(twin) if own[0] not in OWN] == taken(plain)
