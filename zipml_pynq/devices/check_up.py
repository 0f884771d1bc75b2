"""A check-up of a board: what it is, whether its kernel's bits are right, and how fast it streams.

One page of text that somebody with a board can send to somebody without. On the emulated board it
runs as well, and leaves out what only hardware has.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from zipml_pynq.accelerator.driver import SgdDriver
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.accelerator.segments import streamed_layout
from zipml_pynq.constants import MAX_BITS
from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.data.layout import FLOAT32, most_bits
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.devices import clocks
from zipml_pynq.devices.bitstreams import md5
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.errors import OutOfDeviceMemoryError, ZipmlError
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.schedule import run_cycles

#: Samples and features of what is trained on: some seconds on a processor of a board.
SAMPLES, FEATURES = 4096, 120
EPOCHS, STEP = 3, 0.02
#: Epochs of a run whose time is measured, so that starting it does not count.
TIMED_EPOCHS = 100
#: Files of an image that say which one it is.
IMAGE = ("/home/xilinx/REVISION", "/etc/lsb-release", "/proc/device-tree/model")
MIB = 1 << 20


@dataclass(frozen=True)
class Finding:
    """One line of the page; ``right`` is None for what is told and not judged."""

    name: str
    text: str
    right: bool | None = None


def check_up(source: str, value_format: str | None = None) -> Iterator[Finding]:
    """Everything, finding by finding, so that what came before a crash is on the page.

    Parameters
    ----------
    source : str
        What :func:`zipml_pynq.devices.overlay.load_overlay` takes.
    value_format : str, optional
        Which kernel, where the source has several.
    """
    yield from software()
    options = {} if value_format is None else {"value_format": value_format}
    try:
        loaded = load_overlay(source, **options)
    except (ZipmlError, RuntimeError, OSError, ValueError) as error:
        yield Finding("overlay", f"cannot be loaded: {error}", False)
        return
    with loaded as (overlay, driver):
        yield from about(overlay, driver)
        try:
            build = driver.capability
        except ZipmlError as error:
            yield Finding("kernel", str(error), False)
            return
        text = f"{build.value_format}, words of {build.word_bits} bits"
        yield Finding("kernel", f"{text}, up to {build.max_chunks} chunks a row", True)
        yield memory(driver)
        for packed, bits in samples(driver):
            yield same_bits(driver, packed, bits, f"{bits} bits")
        # of kernels alike, each has ports of its own that may be wrong
        for number, other in enumerate(loaded.drivers):
            if other is not driver:
                yield same_bits(other, packed, bits, f"kernel {number}, {bits} bits")
        yield from speed(driver, packed, bits)


def software() -> Iterator[Finding]:
    """What runs here."""
    for name in ("zipml_pynq", "pynq", "numpy", "scipy", "cffi"):
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "from a folder, not installed")
    yield Finding("python", f"{platform.python_version()} on {platform.machine()}")
    yield Finding("system", platform.release())
    for name in IMAGE:
        try:
            text = " ".join(Path(name).read_text(encoding="utf-8").replace("\0", "").split())
        except OSError:
            continue
        yield Finding(name, text[:200])
    for name in ("BOARD", "XILINX_XRT", "PYNQ_REMOTE_DEVICES"):
        yield Finding(name, os.environ.get(name, "not set"))


def about(overlay: Any, driver: SgdDriver) -> Iterator[Finding]:
    """What was loaded, where, and at what clock it runs."""
    device, path = overlay.device, Path(overlay.bitfile_name)
    yield Finding("device", f"{type(device).__name__} {device.name}")
    yield Finding("overlay", f"{path.name}, {path.stat().st_size} bytes, md5 {md5(path)}")
    built, runs = clocks.built_for(path), clocks.running(device)
    stamp = "no stamp beside the bitstream" if built is None else f"built for {built:g} MHz"
    if runs is None:
        yield Finding("clock", f"cannot be read here; {stamp}")
    else:
        right = None if built is None else abs(runs / built - 1) <= clocks.TOLERANCE
        yield Finding("clock", f"runs at {runs:g} MHz; {stamp}", right)
    yield Finding("power", "no sensor" if driver.power is None else f"{driver.power.sensor}")
    interrupt = getattr(driver, "interrupt", None)
    yield Finding("interrupt", "polled" if interrupt is None else "wired")


def memory(driver: SgdDriver) -> Finding:
    """The largest buffer of contiguous memory, to a power of two."""
    largest = 0
    while largest < 1024:
        try:
            driver.allocate(max(1, 2 * largest) * MIB, np.uint8, "planes").freebuffer()
        except OutOfDeviceMemoryError:
            break
        largest = max(1, 2 * largest)
    return Finding("memory", f"a buffer of {largest} MiB at once", largest > 0)


def samples(driver: SgdDriver) -> Iterator[tuple[PackedDataset, int]]:
    """Data for the kernel's format, and each precision that it trains at."""
    build = driver.capability
    made = synthetic_regression(FEATURES, SAMPLES, 1)
    options: dict[str, Any] = {"word_bits": build.word_bits, "seed": 1}
    if build.value_format == FLOAT32:
        yield pack(made.X_train, made.y_train, value_format=FLOAT32, **options), 32
        return
    if build.value_format == "levels":
        for bits in range(1, MAX_BITS + 1):
            yield pack(made.X_train, made.y_train, bits=bits, levels="optimal", **options), bits
        return
    options["value_format"] = build.value_format
    labels = made.y_train if build.value_format != "refetch" else np.sign(made.y_train)
    bits_of_all = range(1, most_bits(build.value_format) + 1)
    packed = pack(made.X_train, labels, bits=bits_of_all, **options)
    for bits in packed.layout.bits:
        yield packed, bits


def _plan(packed: PackedDataset, bits: int, epochs: int) -> Any:
    loss = "hinge" if packed.layout.value_format == "refetch" else "least_squares"
    return make_plan(packed, bits=bits, epochs=epochs, step=STEP, loss=loss)


def same_bits(driver: SgdDriver, packed: PackedDataset, bits: int, name: str) -> Finding:
    """Whether a training gives the bits of the engine on this processor, from as many words."""
    plan = _plan(packed, bits, EPOCHS)
    build = driver.capability
    engine = HostDriver(build.word_bits, build.value_format)
    expected = engine.train(packed, plan, judge=False)
    try:
        result = driver.train(packed, plan, judge=False)
    except ZipmlError as error:
        return Finding(name, str(error), False)
    wrong = int(np.count_nonzero(result.history_fixed != expected.history_fixed))
    counted = result.words == expected.words
    text = f"{result.history_fixed.size - wrong} of {result.history_fixed.size} entries are equal"
    return Finding(
        name,
        f"{text}, {result.words} words streamed" + ("" if counted else f", not {expected.words}"),
        wrong == 0 and counted,
    )


def speed(driver: SgdDriver, packed: PackedDataset, bits: int) -> Iterator[Finding]:
    """Cycles and bandwidth of a longer run, against the model."""
    plan = _plan(packed, bits, TIMED_EPOCHS)
    driver.train(packed, plan, judge=False)  # buffers, caches
    began = time.perf_counter()
    result = driver.train(packed, plan, judge=False)
    seconds = time.perf_counter() - began
    if packed.layout.value_format != "refetch":
        layout = streamed_layout(packed.layout, plan)
        modelled = run_cycles(layout, plan, plan.epochs)
        text = f"{result.modelled_cycles} by the kernel's schedule, {modelled} by ours"
        yield Finding("cycles", text, result.modelled_cycles == modelled)
    if result.measured_cycles is not None:
        yield Finding(
            "counted cycles",
            f"{result.measured_cycles}, of them {result.waited_cycles} waiting for words; "
            f"{result.measured_cycles / result.modelled_cycles:.3f} of the modelled",
        )
    if clocks.running(driver.device) is None and driver.clock_mhz is None:
        yield Finding("bandwidth", "not measured: emulation and boards without a clock to read")
        return
    modelled_seconds = result.modelled_cycles / driver._clock
    rate = result.bytes_streamed / seconds
    yield Finding(
        "bandwidth",
        f"{rate / 1e9:.3g} GB/s of planes, {TIMED_EPOCHS} epochs in {seconds:.3g} s; modelled "
        f"{result.bytes_streamed / modelled_seconds / 1e9:.3g} GB/s at {driver._clock / 1e6:g} MHz",
    )
    if result.joules is not None:
        yield Finding("energy", f"{result.joules / TIMED_EPOCHS:.3g} J an epoch, whole board")
