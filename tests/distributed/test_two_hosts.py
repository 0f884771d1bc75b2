"""Two hosts: this one and one in a network namespace of its own, where the machine allows that."""
# ruff: noqa: E402 (where Dask is not installed, there is nothing to test)

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("distributed")

from distributed import Client, LocalCluster

from tests import ROOT
from tests.distributed.data import plan_of, rows, shards_of
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.distributed import train, train_on

#: Addresses of documentation (RFC 5737), which no network has.
HERE, THERE = "198.51.100.1", "198.51.100.2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def other_host():
    """The name of a namespace that a cable, as it were, connects to this one."""
    name = f"zipml-{os.getpid()}"
    cable = f"zm{os.getpid() % 100_000}"
    if shutil.which("ip") is None:
        pytest.skip("the command ip is not here")
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces: {error.stderr.decode().strip()}")
    try:
        try:
            ip("link", "add", f"{cable}a", "type", "veth", "peer", f"{cable}b", "netns", name)
            ip("addr", "add", f"{HERE}/30", "dev", f"{cable}a")
            ip("link", "set", f"{cable}a", "up")
            for words in (
                ("addr", "add", f"{THERE}/30", "dev", f"{cable}b"),
                ("link", "set", f"{cable}b", "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", name, *words)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no pair of interfaces: {error.stderr.decode().strip()}")
        yield name
    finally:
        ip("netns", "del", name)  # and with it the cable


def test_a_worker_on_another_host_gives_the_same_bits(other_host):
    X, y = rows()
    shards = shards_of(X, y, 2)
    plan = plan_of(shards, epochs=3)
    reference = train_on([HostDriver()], shards, plan)
    options = {"n_workers": 0, "host": HERE, "dashboard_address": ":0", "silence_logs": 50}
    with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
        worker = subprocess.Popen(
            [
                *("ip", "netns", "exec", other_host, sys.executable),
                *("-m", "distributed.cli.dask_worker", cluster.scheduler_address),
                *("--no-nanny", "--nthreads", "1", "--no-dashboard"),
                *("--resources", "zipml=1", "--host", THERE),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.DEVNULL,
        )
        try:
            client.wait_for_workers(1, timeout=60)
            (address,) = client.run(os.getpid)
            assert THERE in address
            found = train(client, shards, plan, round_epochs=1)
        finally:
            worker.terminate()
            worker.wait(30)
    assert np.array_equal(found.history_fixed, reference.history_fixed)
