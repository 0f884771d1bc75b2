"""Compiled code where memory or threads run out, where it is interrupted, and after a fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests import ROOT
from tests.cases import random_case
from zipml_pynq.accelerator import interface
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.accelerator.regions import regions
from zipml_pynq.accelerator.status import expected_status
from zipml_pynq.constants import CONFIG
from zipml_pynq.data import compiled
from zipml_pynq.data.layout import FORMAT_CODES


def in_a_process(code: str) -> str:
    """What a program prints; it must not end by a signal."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


#: What is there before memory is limited, and how.
LIMITED = """
import resource, numpy as np
from pathlib import Path
from tests.cases import random_case
from zipml_pynq import pack
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.training import baseline
def limit(more):
    size = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))
def tell(call):
    try:
        call()
        print("done")
    except MemoryError as error:
        print("MemoryError", error)
"""


@pytest.mark.parametrize("more", [0, 8 << 20])
def test_memory_and_threads_that_run_out_are_memory_errors(more):
    """With little room something is refused, whatever it is, and never by an abort."""
    told = in_a_process(
        LIMITED
        + f"""
case = random_case(3, features=30_000, samples=64, batch=8, word_bits=512, epochs=2, bits=2)
values = np.ones((64, 30_000), np.float32)
labels, steps = np.ones(64, np.float32), np.full(3, 1e-9)
limit({more})
for threads in (1, 8):
    tell(lambda: HostDriver(512, threads=threads).train(case.packed, case.plan, model=case.model))
    tell(lambda: baseline.float_sgd(values, labels, steps, batch=8, threads=threads))
    tell(lambda: pack(values, labels, word_bits=512, threads=threads))
"""
    )
    lines = told.splitlines()
    assert len(lines) == 6
    assert all(line == "done" or line.startswith("MemoryError") for line in lines)
    if more == 0:
        assert any(line.startswith("MemoryError") for line in lines)


def test_a_run_is_stopped_by_its_flag():
    case = random_case(4, samples=5000, features=200, epochs=20_000)
    for threads in (1, 3):
        flag = compiled.new_flag()
        timer = threading.Timer(0.3, flag.__setitem__, (0, 1))
        timer.start()
        began = time.monotonic()
        with pytest.raises(compiled.StoppedError):
            _run(case, threads, flag)
        assert 0.2 < time.monotonic() - began < 2
    with pytest.raises(compiled.StoppedError):
        _run(case, 2, flag)  # before it has begun


def _run(case, threads, flag):
    layout = case.packed.layout
    build = load_build("engine")
    scalars = case.plan.registers(layout)
    entries = layout.chunks * layout.lanes
    arrays = {
        "planes": case.packed.planes,
        "labels": case.packed.labels,
        "model": np.zeros(2 * entries, np.int32),
        "history": np.zeros((case.plan.epochs, entries), np.int32),
        "schedule": case.plan.schedule_table(),
        "derivative": np.zeros(1, np.int32),
    }
    names = interface.INTERFACES[layout.value_format].pointers
    pointers = {name: arrays[name].ctypes.data for name in names}
    scalars = {**scalars, "first_update": 0, "first_block": 0, "block_step": 1}
    code = FORMAT_CODES[layout.value_format]
    return build.run(layout.word_bits, code, pointers, scalars, threads, flag)


@pytest.mark.parametrize(
    "run",
    [
        "HostDriver(threads=2).train(packed, epochs=60_000, step=1e-3, schedule='constant')",
        "baseline.float_sgd(X, y, np.full(60_000, 1e-9), threads=2)",
        "pack(np.broadcast_to(X[:1], (2_000_000, 100)), np.zeros(2_000_000), bits=8, threads=2)",
    ],
)
def test_an_interrupt_ends_a_long_run_at_once(run):
    code = f"""
import os, numpy as np, time, signal, threading
from zipml_pynq import pack
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.training import baseline
rng = np.random.default_rng(0)
X = rng.standard_normal((4000, 100)).astype(np.float32)
y = X[:, 0].copy()
packed = pack(X, y)
def interrupt():
    global at
    while time.process_time() < began + 0.3:  # it is at work
        time.sleep(0.01)
    at = time.process_time()
    os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
began = time.process_time()
threading.Thread(target=interrupt).start()
try:
    {run}
    print("it ended by itself")
except KeyboardInterrupt:
    print(time.process_time() - at)
"""
    # two threads for 0.2 s; the processor's seconds, for other programs may want it too
    assert float(in_a_process(code)) < 0.4


def test_training_goes_on_in_a_child_after_a_fork():
    case = random_case(5)
    driver = HostDriver(threads=2)
    expected = driver.train(case.packed, case.plan, model=case.model).model_fixed
    if not (child := os.fork()):
        found = driver.train(case.packed, case.plan, model=case.model).model_fixed
        os._exit(0 if np.array_equal(found, expected) else 1)
    end = time.monotonic() + 30
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


@pytest.mark.parametrize("name", ["engine", "kernel"])
def test_hostile_registers_are_refused_or_harmless(name):
    """Random registers: refused alike by both builds, or a run that touches what it may."""
    if name == "kernel":
        pytest.importorskip("zipml_pynq._kernel")
    build = load_build(name)
    rng = np.random.default_rng(6)
    memory = np.zeros(1 << 20, np.uint64)
    kinds = [(w, f) for w in (64, 128, 512) for f in FORMAT_CODES]
    ran = 0
    for number in range(4000):
        word_bits, value_format = kinds[number % len(kinds)]
        kernel = interface.INTERFACES[value_format]
        case = random_case(8, word_bits=word_bits, value_format=value_format)
        scalars = dict.fromkeys(kernel.scalars, 0) | case.plan.registers(case.packed.layout)
        scalars = {name: value for name, value in scalars.items() if name in kernel.scalars}
        for hostile in rng.choice(kernel.scalars, rng.integers(1, 4)):
            edge = (0, 1, 2, 255, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
            scalars[str(hostile)] = int(
                rng.choice(edge) if rng.random() < 0.7 else rng.integers(99)
            )
        status = expected_status(scalars, word_bits, value_format)
        pointers = dict.fromkeys(kernel.pointers, 0)
        if status == CONFIG.status_ok:
            sizes = regions(scalars, word_bits, value_format)
            work = scalars["epochs"] * scalars["samples"] * scalars["features"]
            if max(sizes.values()) > memory.nbytes or work > 1 << 22:
                continue
            pointers = dict.fromkeys(kernel.pointers, memory.ctypes.data)
            ran += 1
        code = FORMAT_CODES[value_format]
        assert build.run(word_bits, code, pointers, scalars)["status"] == status
    assert ran > 100
