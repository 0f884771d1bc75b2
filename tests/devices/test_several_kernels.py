"""Several kernels in one emulated overlay: the same bits as one, at a time, and nothing in common
but the memory."""

import asyncio
import threading
import time

import numpy as np
import pynq
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict

from tests.cases import check_same, check_side_by_side, random_case
from zipml_pynq.accelerator import interface
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.accelerator.sharing import on_a_free_one
from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.data.pack import pack
from zipml_pynq.devices import design, hwh
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.overlay import find_driver, find_drivers, load_overlay
from zipml_pynq.distributed import train_on
from zipml_pynq.errors import (
    ArgumentError,
    KernelTimeoutError,
    OutOfDeviceMemoryError,
    OverlayMismatchError,
    ZipmlWarning,
)
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.regressor import ZipMLRegressor
from zipml_pynq.training.make_plan import make_plan

KERNELS = 4
DATA = synthetic_regression(12, 600, 1)
X, Y = DATA.X_train, DATA.y_train
TEN = np.digitize(Y, np.quantile(Y, np.arange(1, 10) / 10))

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def several(board):
    """Boards of several kernels, and who was at work at a time."""
    return lambda kernels=KERNELS, **options: board(kernels=kernels, **options)


class Starts:
    """Counts what kernels of a device do: runs of each, and the most that ran at a time."""

    def __init__(self, device, monkeypatch):
        self.runs = dict.fromkeys(range(device.kernels), 0)
        self.most = 0
        launch = type(device)._launch

        def counted(this, number, registers, inputs):
            self.runs[number] += 1
            self.most = max(self.most, sum(one._running for one in this.register_files))
            launch(this, number, registers, inputs)

        monkeypatch.setattr(type(device), "_launch", counted)
        device.configure(device.word_bits, device.value_format, device.kernels)


# ---- The overlay -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "value_format"),
    [("kernel", "bitplanes"), *(("engine", name) for name in interface.VLNV)],
)
def test_kernels_train_side_by_side(several, engine, value_format):
    loaded = several(engine=engine, value_format=value_format)
    assert len(loaded.drivers) == len(set(loaded.drivers)) == KERNELS
    cases = [random_case(40 + i, value_format=value_format, epochs=4) for i in range(KERNELS)]
    check_side_by_side(loaded.drivers, cases, times=2)


def test_drivers_have_names_and_an_order(several):
    overlay, driver = loaded = several()
    names = [f"zipml_sgd_{i}" for i in range(KERNELS)]
    assert [one.mmio.base_addr for one in loaded.drivers] == [
        design.address(i) for i in range(KERNELS)
    ]
    assert loaded.drivers == find_drivers(overlay)
    assert loaded.drivers == tuple(find_driver(overlay, name) for name in names)
    assert driver is loaded.drivers[0]
    with pytest.raises(OverlayMismatchError, match=r"has the ZipML IPs \['zipml_sgd_0', .*_3'\]"):
        find_driver(overlay)
    named = load_overlay("emulated", device=overlay.device, name="zipml_sgd_2")
    assert named.driver is named.drivers[2]


@pytest.mark.parametrize("kernels", [0, 5, 1.5, True])
def test_refused_numbers_of_kernels(kernels):
    with pytest.raises(ArgumentError, match="kernels was .*1..4"):
        load_overlay("emulated", kernels=kernels)


def test_the_bitstream_says_how_many_there_are():
    """Whatever the board was made for."""
    device = EmulatedDevice()
    overlay, _ = load_overlay(str(hwh.overlay_path(128, "float32", 3)), device=device)
    assert (device.word_bits, device.value_format, device.kernels) == (128, "float32", 3)
    assert [driver.capability.word_bits for driver in find_drivers(overlay)] == [128] * 3


def test_a_hanging_kernel_keeps_its_buffers_alone(several):
    """What it may still write to is not given to another one, and the other goes on."""
    loaded = several(kernels=2)
    device, (second, first) = loaded.overlay.device, loaded.drivers
    cases = [random_case(50), random_case(51)]
    _ = first.capability, second.capability
    device.inject_hang = True
    with (
        pytest.warns(ZipmlWarning, match="bytes of device memory are kept back"),
        pytest.raises(KernelTimeoutError),
    ):
        first.train(cases[0].packed, cases[0].plan, timeout=0.05)
    device.inject_hang = False
    kept = second.reclaim()
    assert kept == first.reclaim() > 0
    check_same(second.train(cases[1].packed, cases[1].plan, model=cases[1].model), cases[1])
    assert device.free_bytes <= device.memory_bytes - kept
    # another overlay, of one kernel: nothing is where the one that hung was
    alone = load_overlay(str(hwh.overlay_path(128, "bitplanes")), device=device).driver
    assert alone.reclaim() == 0
    assert device.free_bytes == device.memory_bytes


def test_each_kernel_has_an_interrupt(tmp_path, monkeypatch):
    device = EmulatedDevice(memory_bytes=1 << 20, kernels=3)
    (tmp_path / "zipml.hwh").write_text(hwh.hwh(64, "bitplanes", 3, interrupt_controller=True))
    (tmp_path / "zipml.bit").write_bytes(b"")
    monkeypatch.setattr(pynq.Device, "_active_device", device, raising=False)
    drivers = load_overlay(str(tmp_path / "zipml.bit"), device=device).drivers
    device.inject_hang = True  # ended by hand, in another order
    outputs = {name: 0 for name in interface.INTERFACES["bitplanes"].outputs}

    async def interrupted(number):
        await drivers[number].interrupt.wait()
        return number, time.monotonic()

    async def all_of_them():
        for driver in drivers:
            driver.write(interface.IER, 1)
            driver.write(interface.GIER, 1)
            driver.write(0, 1)
        waiting = [asyncio.ensure_future(interrupted(i)) for i in range(3)]
        done = []
        for number in (2, 0, 1):
            await asyncio.sleep(0.02)
            assert not waiting[number].done()
            device.register_files[number].finish(outputs)
            done.append((await asyncio.wait_for(waiting[number], 2))[0])
        return done

    assert asyncio.run(all_of_them()) == [2, 0, 1]


# ---- Who takes which ---------------------------------------------------------------------------


def test_a_kernel_is_taken_by_one_thread_at_a_time():
    drivers, at_work, most = [object() for _ in range(3)], [], []

    def work(driver):
        assert driver not in at_work
        at_work.append(driver)
        most.append(len(at_work))
        time.sleep(0.005)
        at_work.remove(driver)

    threads = [threading.Thread(target=on_a_free_one, args=(drivers, work)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 12
    assert max(most) == 3


def test_what_has_no_room_beside_others_is_done_alone():
    drivers, room, tries = [object(), object()], threading.Semaphore(1), []

    def work(driver):
        tries.append(driver)
        if not room.acquire(blocking=False):
            raise OutOfDeviceMemoryError("no room")
        time.sleep(0.05)
        room.release()
        return driver

    results = []
    threads = [
        threading.Thread(target=lambda: results.append(on_a_free_one(drivers, work)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(results) == 2
    assert len(tries) == 3
    with pytest.raises(OutOfDeviceMemoryError), room:
        on_a_free_one(drivers, work)


# ---- Estimators --------------------------------------------------------------------------------


#: Where the levels lie is chosen for kernels that are loaded for it.
SAME = {"random_state": 0, "levels": "uniform"}


def same(one, other):
    for name in ("model_", "coef_", "loss_curve_"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("n_iter_", "bytes_streamed_", "saturated_"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize("options", [{}, {"redraw": False}, {"bits": "auto"}], ids=str)
def test_ten_classes_on_four_kernels(several, options, monkeypatch):
    """The bits of one after the other, on one kernel and in process."""
    loaded = several()
    starts = Starts(loaded.overlay.device, monkeypatch)
    # long enough that others begin meanwhile
    loaded.overlay.device.clock_mhz = 1.0
    fits = [
        ZipMLClassifier(**SAME, max_iter=12, device=device, **options).fit(X, TEN)
        for device in ("host", loaded.driver, loaded, list(loaded.drivers[:3]))
    ]
    for fit in fits[1:]:
        same(fit, fits[0])
    assert fits[0].coef_.shape == (10, 12)
    assert min(starts.runs.values()) > 1
    assert starts.most > 1


def test_targets_and_folds_on_two_kernels(several):
    loaded = several(kernels=2)
    targets = np.stack([Y, -3 * Y, X[:, 0]], axis=1)
    options = {"max_iter": 6, "tol": None, **SAME}
    one = ZipMLRegressor(**options).fit(X, targets)
    same(ZipMLRegressor(device=loaded, **options).fit(X, targets), one)
    model = clone(ZipMLRegressor(device=loaded, **options))
    assert model.device is loaded
    with parallel_config(backend="threading"):
        folds = cross_val_predict(model, X, Y, cv=3, n_jobs=3)
    assert np.array_equal(folds, cross_val_predict(ZipMLRegressor(**options), X, Y, cv=3))


def test_classes_that_fit_the_memory_one_at_a_time(several):
    """Shuffled blocks need a data set to be there whole: twice, there is no room."""
    packed = pack(X, TEN, bits=8)
    loaded = several(kernels=2, memory_bytes=-(-packed.planes.nbytes * 3 // 2 // 4096) * 4096)
    loaded.overlay.device.clock_mhz = 1.0  # the second one finds the first one's data there
    options = {"max_iter": 3, "tol": None, "shuffle": "epochs", "redraw": False, "bits": 8, **SAME}
    found = ZipMLClassifier(device=loaded, **options).fit(packed)
    same(found, ZipMLClassifier(**options).fit(packed))


@pytest.mark.parametrize("device", [[], [None], [HostDriver(), HostDriver()]], ids=str)
def test_refused_lists_of_drivers(device):
    with pytest.raises(ArgumentError, match=r"device was \[.*a list of drivers"):
        ZipMLClassifier(device=device).fit(X, TEN)


def test_one_model_on_the_shards_of_kernels(several):
    """``train_on`` with the kernels of one overlay: the bits of engines in process."""
    rows = np.array_split(np.arange(len(Y)), 3)
    whole = pack(X, Y)
    shards = [
        pack(X[r], Y[r], normalization=whole.normalization, seed=i) for i, r in enumerate(rows)
    ]
    plan = make_plan(shards[0], epochs=3, schedule="constant")
    found = train_on(several(kernels=2).drivers, shards, plan)
    expected = train_on([HostDriver()], shards, plan)
    assert np.array_equal(found.history_fixed, expected.history_fixed)
