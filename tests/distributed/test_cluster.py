"""Training on workers in processes of their own, each with a served board where pynq is there."""
# ruff: noqa: E402 (where Dask is not installed, there is nothing to test)

from __future__ import annotations

import os
import signal
import threading
import warnings

import numpy as np
import pytest

pytest.importorskip("distributed")

from dask import delayed
from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster

from tests.distributed.data import plan_of, rows, shards_of
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.distributed import train, train_on
from zipml_pynq.distributed.devices import Accelerators, accelerators
from zipml_pynq.errors import ArgumentError, WorkersLostError, ZipmlWarning

X, Y = rows()
WORKERS = 4
#: Serves the workers' boards, where one does.
BOARDS = []
# what Dask logs and warns of when workers die is not what is tested
pytestmark = pytest.mark.filterwarnings("ignore:Sending large graph", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def board():
    """What the workers' accelerators are called: a board in the network where one can be served."""
    try:
        from zipml_pynq.devices.served.server import BoardServer
    except ImportError:
        yield "host"
        return
    with BoardServer(port=0, clients=4 * WORKERS, memory_bytes=1 << 22) as server:
        BOARDS.append(server)
        yield f"remote://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def client(board):
    options = {
        "nthreads": 1,
        "resources": {"zipml": 1},
        "env": {"DASK_ZIPML__DEVICES": board},
        "death_timeout": 60,
        "silence_logs": 50,
    }
    workers = {n: {"cls": Nanny, "options": options} for n in range(WORKERS)}
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    with (
        SpecCluster(workers, scheduler=scheduler, silence_logs=50) as cluster,
        Client(cluster) as connected,
    ):
        yield connected


def set_patience(seconds):
    """How long a driver of this process waits for its kernel."""
    from zipml_pynq.accelerator import driver

    driver.TIMEOUT_FLOOR = driver.PROBE_TIMEOUT = seconds


def processes(client):
    return list(client.run(os.getpid).values())


def test_the_workers_train_on_their_boards(client, board):
    found = client.run(lambda: accelerators().names)
    assert len(found) == WORKERS
    assert set(found.values()) == {(board,)}


@pytest.mark.parametrize(
    ("number", "length", "bits"), [(1, 1, 8), (2, 0.25, 2), (4, 2, 4), (8, 1, 8)]
)
def test_workers_and_their_order_do_not_change_a_bit(client, number, length, bits):
    shards = shards_of(X, Y, number)
    plan = plan_of(shards, epochs=2)
    start = np.linspace(-0.1, 0.1, 10)
    options = {"model": start, "round_epochs": length, "change_bits": bits}
    reference = train_on([HostDriver()], shards, plan, **options)
    told = []
    sources = [delayed(shard) if n % 2 else shard for n, shard in enumerate(shards)]
    found = train(client, sources, plan, progress=lambda *at: told.append(at), **options)
    assert np.array_equal(found.history_fixed, reference.history_fixed)
    for name in ("words", "bytes_streamed", "bytes_sent", "bytes_received", "rounds"):
        assert getattr(found, name) == getattr(reference, name)
    assert told == [(n + 1, found.rounds) for n in range(found.rounds)]
    assert found.redone == 0


def test_the_length_of_rounds_is_measured_and_told(client):
    shards = shards_of(X, Y, 2)
    plan = plan_of(shards, epochs=4)
    found = train(client, shards, plan)
    again = train_on([HostDriver()], shards, plan, round_epochs=found.round_epochs)
    assert np.array_equal(found.history_fixed, again.history_fixed)


def test_a_device_fails(client, board):
    if not BOARDS:
        pytest.skip("needs served boards")
    shards = shards_of(X, Y, 4)
    plan = plan_of(shards, epochs=4)
    reference = train_on([HostDriver()], shards, plan)

    client.run(set_patience, 1.0)

    def switch_off(done, _):
        if done == 2:
            next(iter(BOARDS[0].boards.values())).device.power_off()

    try:
        with pytest.warns(ZipmlWarning, match=r"the device of tcp.* failed .*; trained again"):
            found = train(client, shards, plan, round_epochs=1, progress=switch_off)
    finally:
        client.run(set_patience, 10.0)
    assert np.array_equal(found.history_fixed, reference.history_fixed)
    assert found.redone >= 1


def test_a_worker_is_killed_while_it_trains(client):
    """And replaced by its nanny, so that one joins late, too."""
    shards = shards_of(X, Y, 4)
    plan = plan_of(shards, epochs=12)
    reference = train_on([HostDriver()], shards, plan)
    victims = processes(client)[:2]

    def kill(done, _):
        if done in (3, 6):
            # in a round's middle, wherever that is
            threading.Timer(0.02, os.kill, (victims[done // 3 - 1], signal.SIGKILL)).start()

    found = train(client, shards, plan, round_epochs=1, progress=kill, timeout=60)
    assert np.array_equal(found.history_fixed, reference.history_fixed)
    client.wait_for_workers(WORKERS, timeout=60)
    assert not set(victims) & set(processes(client))


def test_a_worker_hangs_longer_than_the_time_out(client):
    shards = shards_of(X, Y, 4)
    plan = plan_of(shards, epochs=8)
    reference = train_on([HostDriver()], shards, plan)
    victim = processes(client)[0]

    def stop(done, _):
        if done == 2:
            os.kill(victim, signal.SIGSTOP)

    try:
        with pytest.warns(
            ZipmlWarning, match=r"are not there after 3 s; workers tcp.* taken out"
        ) as told:
            found = train(client, shards, plan, round_epochs=1, progress=stop, timeout=3)
    finally:
        os.kill(victim, signal.SIGCONT)
    assert np.array_equal(found.history_fixed, reference.history_fixed)
    assert found.redone >= 1
    # the one that was late, and no other, is not asked again
    assert str(told[0].message).count("tcp") == 1
    left = processes(client)
    assert victim not in left
    # where other work holds the processors up, another may be late in its turn
    assert len(left) == WORKERS - sum(str(w.message).count("tcp") for w in told)


def test_a_worker_that_has_not_answered_yet_is_not_late():
    """It may be loading its accelerator: a first round far longer than the time-out."""
    shards = shards_of(X, Y, 1)
    plan = plan_of(shards, epochs=3000)
    options = {"round_epochs": 3000, "change_bits": 32}
    with (
        LocalCluster(
            n_workers=1, processes=False, dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster, set_as_default=False) as other,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error", ZipmlWarning)
        found = train(other, shards, plan, timeout=0.02, **options)
        assert len(other.scheduler_info()["workers"]) == 1
    assert found.redone == 0
    reference = train_on([HostDriver()], shards, plan, **options)
    assert np.array_equal(found.history_fixed, reference.history_fixed)


def test_a_worker_joins_late_and_the_scheduler_dies(client, tmp_path):
    """One worker trains, a second joins and the first leaves, the scheduler dies; training goes on
    from the checkpoint on another cluster."""
    shards = shards_of(X, Y, 3)
    plan = plan_of(shards, epochs=8)
    options = {"round_epochs": 1, "checkpoint": tmp_path / "kept", "checkpoint_rounds": 2}
    reference = train_on([HostDriver()], shards, plan)
    workers = {}
    with (
        LocalCluster(
            n_workers=1, processes=False, dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster, set_as_default=False) as other,
    ):

        def changes(done, _):
            if done == 2:
                cluster.scale(2)
                other.wait_for_workers(2, timeout=30)
            if done == 3:
                cluster.sync(cluster.workers[0].close)
            if done == 6:
                # rounds as the dashboard shows them: by name, where each was trained
                for task in other.get_task_stream():
                    key = task["key"]
                    if isinstance(key, tuple) and key[0].startswith("zipml-round-"):
                        number = int(key[0].split("-")[2])
                        workers.setdefault(number, set()).add(task["worker"])
                cluster.close()

        other.get_task_stream()  # from here on it is written down
        with pytest.raises(WorkersLostError, match="goes on where it was"):
            train(other, shards, plan, progress=changes, timeout=5, **options)
    assert sorted(workers) == list(range(6))
    assert len(workers[0]) == len(workers[5]) == 1
    assert workers[0] != workers[5]
    seen = []
    found = train(client, shards, plan, progress=lambda done, _: seen.append(done), **options)
    assert np.array_equal(found.history_fixed, reference.history_fixed)
    assert found.words == reference.words


def test_devices_that_no_worker_can_have():
    for names, message in (
        (["remote://a:1", "host"], "one board in the network"),
        (["host:0"], "allowed are 'host' and 'host:4'"),
        ([], "zipml.devices was empty"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Accelerators(names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Accelerators(["host:2"]).one() as one:
            assert one.driver(128, "levels") == HostDriver(128, "levels", 2)
