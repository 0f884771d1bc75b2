"""The emulated board: a ``pynq.Device`` in process that runs compiled kernels, or the engine.

Everything above it is the real pynq: ``Overlay``, ``MMIO``, ``DefaultIP``, ``register_map`` and
``allocate``. Register accesses reach a register file with the ``ap_ctrl_hs`` protocol, buffers lie
in one block of emulated memory and have device addresses, and a start runs in a worker thread, so
that start, poll, time-out and interrupt behave as on hardware. Several kernels run side by side, in
one memory. No root, and no files are written but the description of an overlay of several kernels.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import struct
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.accelerator.interface import INTERFACES, check_build
from zipml_pynq.accelerator.needs_pynq import pynq
from zipml_pynq.accelerator.regions import regions
from zipml_pynq.accelerator.status import expected_status
from zipml_pynq.constants import CONFIG
from zipml_pynq.data import compiled
from zipml_pynq.data.alignment import CACHE_LINE, at_cache_line
from zipml_pynq.data.layout import FORMAT_CODES
from zipml_pynq.devices import design
from zipml_pynq.devices.emulated_bitstream import read_configuration
from zipml_pynq.devices.hwh import overlay_path
from zipml_pynq.devices.memory import DEFAULT_MEMORY_BYTES, EmulatedBuffer, Heap
from zipml_pynq.devices.register_file import InterruptController, RegisterFile
from zipml_pynq.errors import ArgumentError, DeviceError, OverlayMismatchError


class EmulatedDevice(pynq.Device):
    """A board in software, with the ZipML kernel on it, or several of them.

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
    kernels : int
        How many of the kernel there are, 1 to 4. Each has registers and an interrupt of its own;
        the memory is one.

    Attributes
    ----------
    register_files : tuple of RegisterFile
        The registers of each kernel.
    memory : ndarray of uint8, shape (memory_bytes,)
        The contents of the pool.
    bus_error : str or None
        What a run touched outside of every live buffer. Such a run never ends, so that it shows.
        (On hardware it ends: SmartConnect answers an address without memory with an error, which
        the kernel does not see, and it computes on what the bus gave.) Loading the overlay again
        clears it.

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
        kernels: int = 1,
    ) -> None:
        super().__init__(f"zipml-emulated-{next(self._numbers)}")
        if clock_mhz is not None and not clock_mhz > 0:
            raise ArgumentError(f"clock_mhz was {clock_mhz!r}; it must be positive")
        if threads < 0:
            raise ArgumentError(f"threads was {threads}; allowed are integers from 0 up")
        if memory_bytes > design.MEMORY_RANGE:
            raise ArgumentError(
                f"memory_bytes was {memory_bytes}; at most {design.MEMORY_RANGE} fit"
            )
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
        self._stop = compiled.new_flag()
        self._workers: dict[int, threading.Thread] = {}
        self.configure(word_bits, value_format, kernels)

    @property
    def engine(self) -> str:
        """Which build executes a start."""
        return self._build.name

    @property
    def overlay_path(self) -> str:
        """The shipped overlay for this device; ``pynq.Overlay`` takes it."""
        return str(overlay_path(self.word_bits, self.value_format, self.kernels))

    @property
    def registers(self) -> RegisterFile:
        """The registers of the first kernel."""
        return self.register_files[0]

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

    def configure(self, word_bits: int, value_format: str, kernels: int = 1) -> None:
        """Put kernels in the place of those that are there, which ends a hang.

        Raises
        ------
        ArgumentError
            No kernel has this width and format, or there are not 1 to 4 of it.
        """
        check_build(word_bits, value_format)
        design.check_kernels(kernels)
        self.power_off()  # the kernels that are replaced must not write any more
        self._removed = threading.Event()
        self._stop = compiled.new_flag()
        self.word_bits = word_bits
        self.value_format = value_format
        self.kernels = kernels
        self._interface = INTERFACES[value_format]
        self.bus_error: str | None = None
        self.register_files = tuple(
            RegisterFile(
                self._interface,
                functools.partial(self._launch, number),
                lambda: self._interrupts.update(),
            )
            for number in range(kernels)
        )
        self._interrupts = InterruptController(
            [functools.partial(getattr, one, "interrupt") for one in self.register_files]
        )

    def power_off(self) -> None:
        """End what runs, and with it what would start again by itself."""
        self._removed.set()
        self._stop[0] = 1
        # a run that ends may have begun the next one
        while running := [worker for worker in self._workers.values() if worker.is_alive()]:
            for worker in running:
                worker.join()

    def download(self, bitstream: Any, parser: Any = None) -> None:
        """Load the overlay: the kernels that an emulated bitstream names, else the same anew."""
        from pynq.interrupt import _InterruptController
        from pynq.pl_server.embedded_device import bit2bin

        try:
            found = read_configuration(bit2bin(Path(bitstream.bitfile_name).read_bytes()))
        except (OverlayMismatchError, struct.error):  # none of ours, or none at all
            found = self.word_bits, self.value_format, self.kernels
        self.configure(*found)
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
        number, offset = divmod(address - design.BASE_ADDRESS, design.ADDRESS_RANGE)
        peripherals = (*self.register_files, self._interrupts)
        if 0 <= number < len(peripherals) and address % 4 == 0:
            return peripherals[number], offset
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
            device_address=design.MEMORY_ADDRESS + offset,
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

    # ---- the kernels --------------------------------------------------------------------------

    def _launch(self, number: int, registers: RegisterFile, inputs: dict[str, int]) -> None:
        """Start of a kernel's run: resolve what it will touch, then run in a thread of its own."""
        if self.inject_hang or self._removed.is_set():
            return
        scalars = {name: inputs[name] for name in self._interface.scalars}
        hosts = dict.fromkeys(self._interface.pointers, 0)
        if expected_status(scalars, self.word_bits, self.value_format) == CONFIG.status_ok:
            for name, size in regions(scalars, self.word_bits, self.value_format).items():
                offset = inputs[name] - design.MEMORY_ADDRESS
                if size and not self._heap.holds(offset, size):
                    self.bus_error = (
                        f"the kernel would touch {size} bytes at {inputs[name]:#x} ({name}), "
                        "which do not lie inside one live buffer"
                    )
                    return
                hosts[name] = self.memory.ctypes.data + offset if size else 0
        worker = threading.Thread(
            target=self._run,
            args=(registers, self._removed, self._stop, hosts, scalars),
            daemon=True,
        )
        worker.start()
        self._workers[number] = worker

    def _run(
        self,
        registers: RegisterFile,
        removed: threading.Event,
        stop: Any,
        hosts: dict[str, int],
        scalars: dict[str, int],
    ) -> None:
        began = time.monotonic()
        try:
            outputs = self._build.run(
                self.word_bits, FORMAT_CODES[self.value_format], hosts, scalars, self.threads, stop
            )
        except compiled.StoppedError:
            return
        except MemoryError as error:
            self.bus_error = f"the run found no memory: {error}"
            return
        if self.clock_mhz is not None:
            left = began + outputs["modelled_cycles"] / (self.clock_mhz * 1e6) - time.monotonic()
            if left > 0:
                removed.wait(left)
        if not removed.is_set():
            registers.finish(outputs)
