"""The emulated board: a ``pynq.Device`` in process that runs the compiled kernel or engine.

Everything above it is the real pynq: ``Overlay``, ``MMIO``, ``DefaultIP``, ``register_map`` and
``allocate``. Register accesses reach a register file with the ``ap_ctrl_hs`` protocol, buffers lie
in one block of emulated memory and have device addresses, and a start runs in a worker thread, so
that start, poll, time-out and interrupt behave as on hardware. No root, and no files are written.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pynq
from numpy.typing import DTypeLike, NDArray
from pynq.buffer import PynqBuffer
from pynq.interrupt import _InterruptController

from zipml_pynq import bitstreams, hwh
from zipml_pynq.alignment import CACHE_LINE, at_cache_line
from zipml_pynq.constants import CONFIG
from zipml_pynq.driver import SgdDriver, device_errors, find_driver
from zipml_pynq.errors import ArgumentError, DeviceError, OutOfDeviceMemoryError
from zipml_pynq.interface import (
    AP_DONE,
    AP_IDLE,
    AP_READY,
    AP_START,
    AUTO_RESTART,
    CTRL,
    FORMAT_CODES,
    GIER,
    IER,
    INTERFACES,
    INTERRUPT,
    INTERRUPT_DONE,
    INTERRUPT_READY,
    ISR,
    Interface,
    check_build,
    expected_status,
    regions,
)
from zipml_pynq.native import load_build

PAGE = 4096
#: The contiguous pool of many PYNQ images.
DEFAULT_MEMORY_BYTES = 128 << 20


class Heap:
    """First-fit allocator of one contiguous range, in pages; neighbours coalesce when freed.

    Parameters
    ----------
    size : int
        Bytes, a positive multiple of 4096.
    """

    def __init__(self, size: int) -> None:
        if size <= 0 or size % PAGE:
            raise ArgumentError(
                f"memory_bytes was {size}; it must be a positive multiple of {PAGE}"
            )
        self.size = size
        self._lock = threading.Lock()
        self._holes = [(0, size)]  # (offset, bytes), sorted, never adjacent
        self._live: dict[int, int] = {}  # offset -> bytes

    @property
    def free_bytes(self) -> int:
        """Bytes that are not allocated."""
        with self._lock:
            return sum(size for _, size in self._holes)

    @property
    def largest_hole(self) -> int:
        """Bytes of the largest contiguous free range."""
        with self._lock:
            return max((size for _, size in self._holes), default=0)

    def allocate(self, size: int) -> int:
        """Offset of a new allocation of at least ``size`` bytes.

        Raises
        ------
        OutOfDeviceMemoryError
            No free range is large enough.
        """
        pages = max(PAGE, -(-size // PAGE) * PAGE)
        with self._lock:
            for i, (offset, hole) in enumerate(self._holes):
                if hole >= pages:
                    rest = [(offset + pages, hole - pages)] if hole > pages else []
                    self._holes[i : i + 1] = rest
                    self._live[offset] = pages
                    return offset
        raise OutOfDeviceMemoryError(
            f"{size} bytes of device memory were asked for; {self.free_bytes} of {self.size} are "
            f"free, the largest block has {self.largest_hole}"
        )

    def free(self, offset: int) -> None:
        """Give an allocation back.

        Raises
        ------
        DeviceError
            Nothing is allocated at ``offset``.
        """
        with self._lock:
            if offset not in self._live:
                raise DeviceError(f"offset {offset:#x} is not allocated")
            holes = sorted([*self._holes, (offset, self._live.pop(offset))])
            merged = [holes[0]]
            for start, size in holes[1:]:
                last, length = merged[-1]
                if last + length == start:
                    merged[-1] = (last, length + size)
                else:
                    merged.append((start, size))
            self._holes = merged

    def holds(self, offset: int, size: int) -> bool:
        """Whether ``size`` bytes from ``offset`` lie inside one live allocation."""
        with self._lock:
            return any(
                start <= offset and offset + size <= start + length
                for start, length in self._live.items()
            )


class EmulatedBuffer(PynqBuffer):
    """A ``PynqBuffer`` in emulated memory; views of it do not own the memory."""

    def freebuffer(self) -> None:
        """Free the memory; a second call, or one on a view, does nothing."""
        release = self.__dict__.pop("release", None)
        if release is not None:
            self.freed = True
            release()


class RegisterFile:
    """The ``s_axi_control`` port of the kernel: what the RTL that Vitis HLS writes does.

    CTRL: ``ap_start`` stays 1 until the kernel is ready; ``ap_done`` and ``ap_ready`` are cleared
    by reading; ``auto_restart`` starts again. ISR bits are set only while enabled in IER and toggle
    when 1 is written (as in 2020 to 2022.2 and since; 2022.1 alone cleared them by reading).
    Addresses wrap at the width of the port.

    Parameters
    ----------
    interface : Interface
        The registers of the kernel.
    start : callable
        Called with a snapshot of the input registers when the kernel starts, the lock not held; it
        must return at once, and :meth:`finish` is called when the run is over.
    changed : callable
        Called, the lock not held, whenever the interrupt output may have changed.
    """

    def __init__(
        self,
        interface: Interface,
        start: Callable[[RegisterFile, dict[str, int]], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._interface = interface
        self._start = start
        self._changed = changed
        self._lock = threading.RLock()
        self._words: dict[int, int] = {}
        self._arguments = interface.pointers + interface.scalars
        self._inputs = {offset for name in self._arguments for offset in self._offsets(name)}
        self._valid = set(interface.valid_offsets.values())
        self._running = self._done = self._ready = self._auto_restart = False
        self._enabled = False
        self._ier = self._isr = 0

    def _offsets(self, name: str) -> list[int]:
        """Offsets of an argument's data words."""
        first = self._interface.offsets[name]
        return [first + 4 * i for i in range(self._interface.by_name[name].words)]

    @property
    def interrupt(self) -> bool:
        """Level of the interrupt output."""
        with self._lock:
            return self._enabled and self._isr != 0

    def value(self, name: str) -> int:
        """An argument's register, without side effects."""
        with self._lock:
            words = enumerate(self._offsets(name))
            return sum(self._words.get(offset, 0) << (32 * i) for i, offset in words)

    def read(self, offset: int) -> int:
        """One word, with the side effects of reading it."""
        offset &= (1 << self._interface.address_bits) - 1
        with self._lock:
            if offset == CTRL:
                word = (
                    AP_START * self._running
                    | AP_DONE * self._done
                    | AP_IDLE * (not self._running)
                    | AP_READY * self._ready
                    | AUTO_RESTART * self._auto_restart
                    | INTERRUPT * self.interrupt
                )
                self._done = self._ready = False
                return word
            if offset == GIER:
                return int(self._enabled)
            if offset == IER:
                return self._ier
            if offset == ISR:
                return self._isr
            if offset in self._valid:
                return self._words.pop(offset, 0)
            return self._words.get(offset, 0)

    def write(self, offset: int, word: int) -> None:
        """Write one word; reserved and read-only words ignore it."""
        offset &= (1 << self._interface.address_bits) - 1
        launch = None
        with self._lock:
            if offset == CTRL:
                self._auto_restart = bool(word & AUTO_RESTART)
                if word & AP_START and not self._running:
                    launch = self._begin()
            elif offset == GIER:
                self._enabled = bool(word & 1)
            elif offset == IER:
                self._ier = word & (INTERRUPT_DONE | INTERRUPT_READY)
            elif offset == ISR:
                self._isr ^= word & (INTERRUPT_DONE | INTERRUPT_READY)
            elif offset in self._inputs:
                self._words[offset] = word
        self._changed()
        if launch is not None:
            self._start(self, launch)

    def _begin(self) -> dict[str, int]:
        self._running = True
        return {name: self.value(name) for name in self._arguments}

    def finish(self, outputs: dict[str, int]) -> None:
        """The kernel's last cycle: outputs valid, done and ready."""
        launch = None
        with self._lock:
            for name, valid in self._interface.valid_offsets.items():
                for i, offset in enumerate(self._offsets(name)):
                    self._words[offset] = outputs[name] >> (32 * i) & 0xFFFFFFFF
                self._words[valid] = 1
            self._done = self._ready = True
            self._running = False
            self._isr |= self._ier
            if self._auto_restart:
                launch = self._begin()
        self._changed()
        if launch is not None:
            self._start(self, launch)


class InterruptController:
    """An AXI interrupt controller (PG099) with one level-sensitive input, as far as pynq uses it.

    Parameters
    ----------
    level : callable
        The input's level.
    """

    ISR, IPR, IER, IAR, SIE, CIE, MER = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x1C

    def __init__(self, level: Callable[[], bool]) -> None:
        self._level = level
        self._lock = threading.Lock()
        self._isr = self._ier = self._mer = 0
        self._waiting: list[tuple[Any, asyncio.AbstractEventLoop]] = []

    def read(self, offset: int) -> int:
        """One word."""
        with self._lock:
            self._isr |= self._level()
            return {
                self.ISR: self._isr,
                self.IPR: self._isr & self._ier,
                self.IER: self._ier,
                self.MER: self._mer,
            }.get(offset, 0)

    def write(self, offset: int, word: int) -> None:
        """Write one word."""
        with self._lock:
            if offset == self.IAR:
                self._isr &= ~word
            elif offset == self.IER:
                self._ier = word & 1
            elif offset == self.SIE:
                self._ier |= word & 1
            elif offset == self.CIE:
                self._ier &= ~word
            elif offset == self.MER:
                self._mer = word & 3
        self.update()

    def add_event(self, event: Any, _number: int) -> None:
        """What pynq calls on a UIO device: ``event.set()`` when the processor is interrupted."""
        with self._lock:
            self._waiting.append((event, asyncio.get_running_loop()))
        self.update()

    def update(self) -> None:
        """Take the input's level over; interrupt the processor if that is due."""
        with self._lock:
            self._isr |= self._level()
            waiting = []
            if self._mer & 1 and self._isr & self._ier:
                waiting, self._waiting = self._waiting, []
        for event, loop in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


class EmulatedDevice(pynq.Device):
    """A board in software, with the ZipML kernel on it.

    Parameters
    ----------
    word_bits : int
        Width of the planes port: 64 (as on a Zynq-7000), 128 (Zynq UltraScale+) or 512 (Alveo).
    value_format : {"bitplanes", "float32"}
        Which kernel is on the board.
    engine : {"engine", "kernel"}
        What executes a start: the fast engine, or the HLS kernel under the vendor's C-simulation
        headers. Both give the same bits.
    memory_bytes : int
        Size of the contiguous pool, a multiple of 4096.
    coherent : bool
        If False, the device sees what the host wrote only after ``flush``, and the host what the
        device wrote only after ``invalidate``, as behind a non-coherent port.
    clock_mhz : float, optional
        Make a run last at least its modelled cycles at this clock; by default it ends when its
        results are there.
    inject_hang : bool
        Fault injection: a start never ends. Loading the overlay again recovers.
    threads : int
        Of the fast engine; 0 for as many as pay on an idle machine. They do not change a bit.

    Attributes
    ----------
    memory : ndarray of uint8, shape (memory_bytes,)
        The contents of the pool.
    bus_error : str or None
        What a run touched outside of every live buffer. Such a run never ends, as on hardware,
        where the interconnect does not answer. Loading the overlay again clears it.

    Raises
    ------
    ArgumentError
        A parameter is not one of those above.
    """

    _numbers = itertools.count()

    def __init__(
        self,
        word_bits: int = 64,
        value_format: str = "bitplanes",
        engine: str = "engine",
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        *,
        coherent: bool = True,
        clock_mhz: float | None = None,
        inject_hang: bool = False,
        threads: int = 1,
    ) -> None:
        super().__init__(f"zipml-emulated-{next(self._numbers)}")
        if clock_mhz is not None and not clock_mhz > 0:
            raise ArgumentError(f"clock_mhz was {clock_mhz!r}; it must be positive")
        if threads < 0:
            raise ArgumentError(f"threads was {threads}; allowed are integers from 0 up")
        if memory_bytes > hwh.MEMORY_RANGE:
            raise ArgumentError(f"memory_bytes was {memory_bytes}; at most {hwh.MEMORY_RANGE} fit")
        self.name = "zipml_emulated"
        self.capabilities = {"REGISTER_RW": True}
        self.coherent = coherent
        self.clock_mhz = clock_mhz
        self.inject_hang = inject_hang
        self.threads = threads
        self._build = load_build(engine)
        self._heap = Heap(memory_bytes)
        # untouched pages of it cost nothing
        self.memory = at_cache_line(np.zeros(memory_bytes + CACHE_LINE, np.uint8))[:memory_bytes]
        self._removed = threading.Event()
        self._worker: threading.Thread | None = None
        self.configure(word_bits, value_format)

    @property
    def engine(self) -> str:
        """Which build executes a start."""
        return self._build.name

    @property
    def overlay_path(self) -> str:
        """The shipped overlay for this device; ``pynq.Overlay`` takes it."""
        return _shipped(self.word_bits, self.value_format)

    # ---- what pynq asks for: bitstreams -------------------------------------------------------

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> Any:
        """Parse the ``.hwh`` beside a bitstream."""
        from pynqmetadata.frontends import Metadata
        from pynqmetadata.views.runtime import RuntimeMetadataParser

        path = Path(bitfile_name).with_suffix(".hwh")
        if not path.is_file():
            raise DeviceError(f"{path.name} is missing beside {bitfile_name}")
        parser = RuntimeMetadataParser(Metadata(input=str(path)))
        parser.refresh_hierarchy_dict()
        # there are no clock generators to program
        parser.clock_dict = {}
        return parser

    def configure(self, word_bits: int, value_format: str) -> None:
        """Put a kernel in the place of the one that is there, which ends a hang.

        Raises
        ------
        ArgumentError
            No kernel has this width and format.
        """
        check_build(word_bits, value_format)
        self._removed.set()
        if self._worker is not None:
            self._worker.join()  # the kernel that is replaced must not write any more
        self._removed = threading.Event()
        self.word_bits = word_bits
        self.value_format = value_format
        self._interface = INTERFACES[value_format]
        self.bus_error: str | None = None
        self.registers = RegisterFile(
            self._interface, self._launch, lambda: self._interrupts.update()
        )
        self._interrupts = InterruptController(lambda: self.registers.interrupt)

    def download(self, bitstream: Any, parser: Any = None) -> None:
        """Load the overlay: the same kernel anew."""
        self.configure(self.word_bits, self.value_format)
        for entry in (parser.interrupt_controllers if parser is not None else {}).values():
            # pynq looks for the processor's interrupt line among the kernel's UIO devices, but
            # first among those that it has open
            _InterruptController._uio_devices[entry["raw_irq"]] = self._interrupts
        self.post_download(bitstream, parser, self.name)

    def close(self) -> None:
        """Nothing to close; pynq 3.1 calls this when an overlay is freed."""

    # ---- registers ----------------------------------------------------------------------------

    def _decode(self, address: int) -> tuple[Any, int]:
        """The peripheral at an address, and the offset in it."""
        peripherals = {
            hwh.BASE_ADDRESS: self.registers,
            hwh.INTERRUPT_CONTROLLER_ADDRESS: self._interrupts,
        }
        for base, peripheral in peripherals.items():
            if 0 <= address - base < hwh.ADDRESS_RANGE and address % 4 == 0:
                return peripheral, address - base
        raise DeviceError(f"no register is at address {address:#x}")

    def read_registers(self, address: int, length: int) -> bytes:
        """Read ``length`` bytes, a multiple of 4, from a device address."""
        peripheral, offset = self._decode(address)
        words = [peripheral.read(offset + i) for i in range(0, length, 4)]
        return np.array(words, "<u4").tobytes()[:length]

    def write_registers(self, address: int, data: bytes) -> None:
        """Write words to a device address."""
        peripheral, offset = self._decode(address)
        for i, word in enumerate(np.frombuffer(bytes(data), "<u4")):
            peripheral.write(offset + 4 * i, int(word))

    # ---- memory -------------------------------------------------------------------------------

    @property
    def memory_bytes(self) -> int:
        """Size of the contiguous pool."""
        return self._heap.size

    @property
    def free_bytes(self) -> int:
        """Bytes of the pool that are free."""
        return self._heap.free_bytes

    def allocate(self, shape: Any, dtype: DTypeLike = "u4", **_: Any) -> EmulatedBuffer:
        """A contiguous buffer, freed by ``freebuffer``, a ``with`` block or garbage collection.

        Raises
        ------
        OutOfDeviceMemoryError
            The pool has no free range that is large enough.
        """
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        offset = self._heap.allocate(size)
        memory = self.memory[offset : offset + size]
        buffer = EmulatedBuffer(
            shape,
            kind,
            buffer=memory if self.coherent else np.zeros(size, np.uint8),
            device=self,
            device_address=hwh.MEMORY_ADDRESS + offset,
            bo=offset,
            coherent=self.coherent,
        )
        buffer.memory = self
        heap = self._heap
        buffer.release = lambda: heap.free(offset)
        return buffer

    def flush(self, bo: int, offset: int, vaddr: int, nbytes: int) -> None:
        """Show the device what the host wrote."""
        self.memory[bo + offset : bo + offset + nbytes] = self._host(vaddr, nbytes)

    def invalidate(self, bo: int, offset: int, vaddr: int, nbytes: int) -> None:
        """Show the host what the device wrote."""
        self._host(vaddr, nbytes)[:] = self.memory[bo + offset : bo + offset + nbytes]

    @staticmethod
    def _host(vaddr: int, nbytes: int) -> NDArray[np.uint8]:
        return np.ctypeslib.as_array((ctypes.c_ubyte * nbytes).from_address(vaddr))

    # ---- the kernel ---------------------------------------------------------------------------

    def _launch(self, registers: RegisterFile, inputs: dict[str, int]) -> None:
        """Start of a run: resolve what it will touch, then run in a thread of its own."""
        if self.inject_hang:
            return
        scalars = {name: inputs[name] for name in self._interface.scalars}
        hosts = dict.fromkeys(self._interface.pointers, 0)
        if expected_status(scalars, self.word_bits, self.value_format) == CONFIG.status_ok:
            for name, size in regions(scalars, self.word_bits, self.value_format).items():
                offset = inputs[name] - hwh.MEMORY_ADDRESS
                if size and not self._heap.holds(offset, size):
                    self.bus_error = (
                        f"the kernel would touch {size} bytes at {inputs[name]:#x} ({name}), "
                        "which do not lie inside one live buffer"
                    )
                    return
                hosts[name] = self.memory.ctypes.data + offset if size else 0
        self._worker = threading.Thread(
            target=self._run, args=(registers, self._removed, hosts, scalars), daemon=True
        )
        self._worker.start()

    def _run(
        self,
        registers: RegisterFile,
        removed: threading.Event,
        hosts: dict[str, int],
        scalars: dict[str, int],
    ) -> None:
        began = time.monotonic()
        outputs = self._build.run(
            self.word_bits, FORMAT_CODES[self.value_format], hosts, scalars, self.threads
        )
        if self.clock_mhz is not None:
            left = began + outputs["cycles"] / (self.clock_mhz * 1e6) - time.monotonic()
            if left > 0:
                removed.wait(left)
        registers.finish(outputs)


# ---- Loading ---------------------------------------------------------------------------------


class LoadedOverlay(NamedTuple):
    """An overlay and its driver; as a context manager it frees the overlay at the end."""

    overlay: pynq.Overlay
    driver: SgdDriver

    def __enter__(self) -> LoadedOverlay:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.reclaim()
        self.overlay.free()


def _shipped(word_bits: int, value_format: str) -> str:
    """Path of the overlay in the package that emulated boards load."""
    return str(hwh.OVERLAYS / f"{hwh.overlay_name(word_bits, value_format)}.bit")


def load_overlay(
    source: str = "emulated",
    *,
    device: Any = None,
    name: str | None = None,
    **options: Any,
) -> LoadedOverlay:
    """Load an overlay and find its driver: the one line that differs between board and emulation.

    Parameters
    ----------
    source : str
        "emulated" for the emulated board; "served" for the one that ``zipml board`` serves, through
        PYNQ.remote; a board's name, for the bitstream that was built for it
        ("pynq-z2", see :func:`zipml_pynq.bitstreams.find`); a folder with bitstreams of the kernels
        (:func:`zipml_pynq.bitstreams.in_folder`); or the path of a bitstream with its ``.hwh``
        beside it, or of an ``.xclbin`` for a card with XRT.
    device : pynq.Device, optional
        Where to load it; by default pynq's active device, the first card, or a new EmulatedDevice.
    name : str, optional
        Path of the IP, for overlays with more than one.
    **options
        With "emulated" and no device: parameters of :class:`EmulatedDevice`, e.g.
        ``word_bits=128``. With a board's name or a folder: ``value_format="levels"``, which kernel.
        With "served": both.

    Returns
    -------
    LoadedOverlay
        The pair (overlay, driver), which is a context manager, too.

    Raises
    ------
    OverlayMismatchError
        See :func:`zipml_pynq.driver.find_driver`.
    OverlayNotBuiltError
        Nobody has built a bitstream for that board, or the folder has none; the message says how.
    ArgumentError
        Unknown options, or "served" without a board in ``PYNQ_REMOTE_DEVICES``.

    Examples
    --------
    >>> overlay, driver = load_overlay("emulated", word_bits=64)
    >>> overlay, driver = load_overlay("/home/xilinx/zipml.bit")  # doctest: +SKIP
    """
    if source == "emulated":
        if device is None:
            device = EmulatedDevice(**options)
        elif options:
            raise ArgumentError(f"{', '.join(options)} were given with a device; allowed is one")
        source = device.overlay_path
    else:
        if source == "served":
            if device is None and not os.environ.get("PYNQ_REMOTE_DEVICES"):
                raise ArgumentError(
                    "source was 'served', and PYNQ_REMOTE_DEVICES names no board; start "
                    "`zipml board`, and this Python with PYNQ_REMOTE_DEVICES=127.0.0.1"
                )
            build = options.pop("word_bits", 64), options.pop("value_format", "bitplanes")
            check_build(*build)
            source = _shipped(*build)
        elif bitstreams.target_name(source) is not None:
            source = str(bitstreams.find(source, options.pop("value_format", "bitplanes")))
        elif Path(source).is_dir():
            source = str(bitstreams.in_folder(source, options.pop("value_format", "bitplanes")))
        if options:
            raise ArgumentError(
                f"{', '.join(options)}: word_bits goes with 'emulated' and 'served', "
                "value_format with them, a board's name or a folder, others with 'emulated'; "
                f"source was {source!r}"
            )
    if device is None and source.endswith(".xclbin"):
        from zipml_pynq.xrt import AlveoDevice

        device = AlveoDevice()
    with device_errors(device):
        overlay = pynq.Overlay(source, device=device)
    return LoadedOverlay(overlay, find_driver(overlay, name))
