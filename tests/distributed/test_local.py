"""Several accelerators of one process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests import ROOT
from tests.distributed.data import plan_of, rows, shards_of
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.distributed import train_on
from zipml_pynq.errors import ArgumentError, CheckpointError

X, Y = rows()


def test_one_shard_that_rounds_nothing_is_training():
    (shard,) = shards_of(X, Y, 1)
    plan = plan_of([shard], shuffle=False)
    found = train_on([HostDriver()], [shard], plan, change_bits=32)
    assert np.array_equal(found.history_fixed, HostDriver().train(shard, plan).history_fixed)
    assert (found.shards, found.rounds, found.bytes_sent) == (1, 8, 8 * 4 * 10)


@pytest.mark.parametrize("length", [0.25, 1, 3])
def test_accelerators_do_not_change_a_bit(length):
    pytest.importorskip("pynq")
    from zipml_pynq.devices.overlay import load_overlay

    # gradients that are rounded on chip draw numbers of their own
    shards = shards_of(X, Y, 5, bits=3)
    plan = plan_of(shards, model_bits=8, gradient_bits=8)
    kernels = [load_overlay("emulated", memory_bytes=1 << 22).driver for _ in range(2)]
    one, two = (
        train_on(drivers, shards, plan, round_epochs=length, change_bits=4)
        for drivers in ([HostDriver()], [*kernels, HostDriver()])
    )
    assert np.array_equal(one.history_fixed, two.history_fixed)
    assert (one.words, one.clipped) == (two.words, two.clipped)
    assert one.rounds == {0.25: 32, 1: 8, 3: 3}[length]
    # of 10 entries, in a group of 64, and its unit
    assert one.bytes_sent == 5 * one.rounds * (32 + 4)


def test_a_workers_accelerators_are_kernels_of_one_overlay():
    """As ``zipml.devices`` names them, of an overlay that the worker has loaded."""
    pytest.importorskip("pynq")
    pytest.importorskip("dask")
    from zipml_pynq.devices.overlay import _zipml_ips, load_overlay
    from zipml_pynq.distributed.devices import Accelerator, _Loaded

    overlay, _ = load_overlay("emulated", kernels=2, memory_bytes=1 << 22)
    loaded = _Loaded(overlay, None, None, {})
    found = [
        Accelerator(f"two.bit#{name}", {"two.bit": loaded}).driver(64, "bitplanes")
        for name in _zipml_ips(overlay)
    ]
    assert len({one.driver.mmio.base_addr for one in found}) == 2
    shards = shards_of(X, Y, 3)
    plan = plan_of(shards)
    one, two = (train_on(drivers, shards, plan) for drivers in ([HostDriver()], found))
    assert np.array_equal(one.history_fixed, two.history_fixed)
    # each holds what it trained
    assert all(driver._kept for driver in found)
    loaded.free()


def test_the_mean_of_shards_is_as_good_as_one_machine():
    shards = shards_of(X, Y, 4, bits=8)
    plan = plan_of(shards, epochs=30)
    whole = pack(X, Y, bits=8)
    losses = []
    for found in (
        HostDriver().train(whole, plan_of([whole], epochs=30)),
        train_on([HostDriver()] * 2, shards, plan),
    ):
        predicted = whole.normalization.predict(X, found.history[15:].mean(axis=0))
        losses.append(((predicted - Y) ** 2).mean())
    assert losses[1] < 1.01 * losses[0]


def test_a_training_goes_on_from_its_checkpoint(tmp_path):
    shards = shards_of(X, Y, 3)
    plan = plan_of(shards)
    path = tmp_path / "checkpoint.safetensors"
    options = {"round_epochs": 0.5, "momentum": 0.5, "checkpoint": path, "checkpoint_rounds": 3}
    whole = train_on([HostDriver()], shards, plan, round_epochs=0.5, momentum=0.5)
    plain = train_on([HostDriver()], shards, plan, round_epochs=0.5, momentum=0)
    assert not np.array_equal(whole.model_fixed, plain.model_fixed)

    class Dies(RuntimeError):
        pass

    def dies(done, rounds):
        assert rounds == 16
        if done == 8:
            raise Dies

    with pytest.raises(Dies):
        train_on([HostDriver()], shards, plan, progress=dies, **options)
    seen = []
    again = train_on(
        [HostDriver()], shards, plan, progress=lambda done, _: seen.append(done), **options
    )
    assert np.array_equal(again.history_fixed, whole.history_fixed)
    assert (again.words, again.bytes_sent) == (whole.words, whole.bytes_sent)
    assert seen == list(range(1, 17))
    with pytest.raises(CheckpointError, match="is of another training"):
        train_on([HostDriver()], shards, plan_of(shards, seed=4), **options)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="checkpoint"):
        train_on([HostDriver()], shards, plan, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drivers": []}, "drivers was empty"),
        ({"shards": []}, "shards was empty"),
        ({"round_epochs": 1 / 80}, r"round_epochs was 1/80; shard 0 has 13 block\(s\)"),
        ({"change_bits": 5}, "change_bits was 5"),
        ({"checkpoint_rounds": 0}, "checkpoint_rounds was 0"),
    ],
)
def test_what_is_refused(change, message):
    shards = shards_of(X, Y, 3)
    arguments = {"drivers": [HostDriver()], "shards": shards, "plan": plan_of(shards), **change}
    with pytest.raises(ArgumentError, match=message):
        train_on(**arguments)


def test_shards_of_different_data_sets_are_refused():
    shards = shards_of(X, Y, 3)
    plan = plan_of(shards)
    other = pack(X[:400], Y[:400], block_samples=32)
    assert other.normalization != Normalization.fit(X, Y)
    with pytest.raises(ArgumentError, match="shard 2 has another normalization"):
        train_on([HostDriver()], [*shards[:2], other], plan)
    wider = shards_of(X, Y, 3, bits=5)
    with pytest.raises(ArgumentError, match="shard 1 was packed as"):
        train_on([HostDriver()], [shards[0], wider[1]], plan)


def test_only_the_cluster_needs_dask():
    code = """
import sys
sys.modules["dask"] = sys.modules["distributed"] = None  # as if they were not there
from zipml_pynq.distributed import train_on
for name in ("train", "ZipMLRegressor"):
    try:
        getattr(__import__("zipml_pynq.distributed").distributed, name)
    except ImportError as error:
        print("pip install 'zipml_pynq[distributed]'" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["True", "True"], done.stderr
