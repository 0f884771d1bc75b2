"""One client's emulated board: an emulated device, its files, and the processing system's part."""

from __future__ import annotations

import itertools
import posixpath
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pynq.pl_server.remote_device import BS_FPGA_MAN, BS_FPGA_MAN_FLAGS, FIRMWARE

from zipml_pynq.devices import design
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.emulated_bitstream import read_configuration
from zipml_pynq.devices.memory import EmulatedBuffer
from zipml_pynq.errors import ArgumentError, DeviceError

#: All files of one client together, and what arrives of further ones: more than the largest
#: bitstream. A file counts with its name and what is kept of it beside.
FILE_BYTES = 128 << 20
_FILE_OVERHEAD = 256
#: Blocks of the processing system that pynq programs when it loads an overlay, 64 KiB each: ports'
#: widths and clocks. They keep what is written to them; nothing depends on it.
SYSTEM_BLOCKS = {
    *range(0xFD36_0000, 0xFD3C_0000, 0x1_0000),  # AFIFM0 to 5
    0xFF9B_0000,  # AFIFM6
    0xFD61_0000,  # FPD_SLCR
    0xFF41_0000,  # LPD_SLCR
    0xFD1A_0000,  # CRF_APB
    0xFF5E_0000,  # CRL_APB
}
#: Their words after boot that are not 0: phase-locked loops at 1500 MHz, clocks at a fifteenth.
_PLL = 90 << 8 | 1 << 16
_DIVISORS = 15 << 8 | 1 << 16
PL_CLOCKS = tuple(0xFF5E_00C0 + 4 * i for i in range(4))
SYSTEM_WORDS = {
    **dict.fromkeys((0xFF5E_0020, 0xFF5E_0030), _PLL),
    **dict.fromkeys((0xFD1A_0020, 0xFD1A_002C, 0xFD1A_0038), _PLL),
    **dict.fromkeys((0xFD1A_0060, *PL_CLOCKS), _DIVISORS),
}
#: The GPIO controller of a Zynq UltraScale+.
GPIO_BASE, GPIO_PINS = 338, 174
#: What a client reads to learn what it is connected to, and the FPGA manager.
SYSTEM_FILES = {
    "/proc/version": b"Linux version 6.6.0 (emulated) aarch64\n",
    "/proc/device-tree/chosen/pynq_board": b"zipml_emulated\0",
    "/sys/class/fpga_manager/fpga0/state": b"unknown\n",
    BS_FPGA_MAN_FLAGS: b"0\n",
    BS_FPGA_MAN: b"\n",
}


class Board:
    """The board of one client: an emulated device, its files, and the processing system's part.

    Parameters
    ----------
    **options
        Of :class:`~zipml_pynq.devices.emulated.EmulatedDevice`.
    """

    def __init__(self, **options: Any) -> None:
        self.device = EmulatedDevice(**options)
        self.buffers: dict[str, EmulatedBuffer] = {}
        self.files: dict[str, bytes | bytearray] = dict(SYSTEM_FILES)
        self._file_bytes = sum(map(_size, *zip(*self.files.items(), strict=True)))
        self._arriving = 0
        self.pins: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._system: dict[int, int] = dict(SYSTEM_WORDS)
        self._loaded = False
        #: Calls of one client may come at the same time.
        self.lock = threading.RLock()

    # ---- registers ----------------------------------------------------------------------------

    def _in_logic(self, address: int) -> bool:
        """Whether an address is one of the programmable logic, which must be there then."""
        # the kernels, and the interrupt controller behind them
        if not design.address(0) <= address < design.address(design.MOST_KERNELS + 1):
            return False
        if not self._loaded:
            raise DeviceError(
                "no overlay is loaded on this board; a client that was disconnected gets a new "
                "board and has to load its overlay again"
            )
        return True

    def _check_system(self, address: int) -> None:
        if address & ~0xFFFF not in SYSTEM_BLOCKS or address % 4:
            raise DeviceError(f"no register is at address {address:#x}")

    def read(self, address: int) -> int:
        """One word at a physical address."""
        with self.lock:
            if self._in_logic(address):
                return int.from_bytes(self.device.read_registers(address, 4), "little")
            self._check_system(address)
            return self._system.get(address, 0)

    def write(self, address: int, data: bytes) -> None:
        """Words from a physical address on."""
        with self.lock:
            if self._in_logic(address):
                self.device.write_registers(address, data)
                return
            for i in range(0, len(data), 4):
                self._check_system(address + i)
                self._system[address + i] = int.from_bytes(data[i : i + 4], "little")

    # ---- memory -------------------------------------------------------------------------------

    def allocate(self, size: int) -> str:
        """Name of a new buffer."""
        if size < 0:
            raise ArgumentError(f"size was {size}; it must not be negative")
        buffer = self.device.allocate(size, "u1")
        with self.lock:
            name = str(next(self._numbers))
            self.buffers[name] = buffer
        return name

    def buffer(self, name: str) -> EmulatedBuffer:
        """A buffer by name."""
        try:
            return self.buffers[name]
        except KeyError:
            raise DeviceError(
                f"no buffer is called {name!r}: it was freed, with its client's connection perhaps"
            ) from None

    def bytes_of(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes ``start`` to ``stop - 1`` of a buffer."""
        view = self.buffer(name).view(np.ndarray)
        if not 0 <= start <= stop <= len(view):
            raise ArgumentError(f"bytes {start} to {stop} are not in a buffer of {len(view)}")
        return view[start:stop]

    def free(self, name: str) -> None:
        """Free a buffer."""
        buffer = self.buffer(name)
        with self.lock:
            self.buffers.pop(name, None)
        buffer.freebuffer()

    # ---- files --------------------------------------------------------------------------------

    def arrives(self, path: str, size: int) -> None:
        """Count bytes that have come of a file that is not whole yet; negative ones have gone.

        Raises
        ------
        ArgumentError
            It is more than all files may have.
        """
        with self.lock:
            if size > 0:
                self._check_room(path, self._arriving + size)
            self._arriving += size

    def _check_room(self, path: str, size: int) -> None:
        replaced = _size(path, self.files[path]) if path in self.files else 0
        if self._file_bytes - replaced + size > FILE_BYTES:
            raise ArgumentError(
                f"{path[:100]} would have {size} bytes or more; all files together have at most "
                f"{FILE_BYTES}"
            )

    def write_file(self, path: str, data: bytes | bytearray) -> None:
        """Write a file; where it is the FPGA manager's, load the bitstream that it names.

        Raises
        ------
        ArgumentError
            A path that is not absolute or leads upwards, a file of the system, or too much.
        OverlayMismatchError
            The bitstream is none for an emulated board.
        """
        path = checked_path(path)
        if path.startswith(("/proc/", "/sys/", "/dev/")) and path not in (
            BS_FPGA_MAN,
            BS_FPGA_MAN_FLAGS,
        ):
            raise ArgumentError(f"{path} is not a file that can be written")
        with self.lock:
            self._check_room(path, _size(path, data))
            if path == BS_FPGA_MAN:
                self.load(data.decode("utf-8", "replace").strip())
            replaced = _size(path, self.files[path]) if path in self.files else 0
            self._file_bytes += _size(path, data) - replaced
            self.files[path] = data

    def read_file(self, path: str) -> bytes | bytearray:
        """Contents of a file."""
        path = checked_path(path)
        if path not in self.files:
            raise ArgumentError(f"{path} does not exist on this board")
        return self.files[path]

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder.

        Firmware is denied: pynq does not upload a bitstream whose name is there already, so one
        that was built anew would never arrive.
        """
        path = checked_path(path)
        if path.startswith(FIRMWARE):
            return False
        return path in self.files or any(name.startswith(f"{path}/") for name in self.files)

    def load(self, name: str) -> None:
        """Configure the programmable logic with the firmware file ``name``."""
        self.configure(self.read_file(FIRMWARE + name))

    def configure(self, data: bytes | bytearray) -> None:
        """Configure the programmable logic with a bitstream."""
        found = read_configuration(bytes(data))
        with self.lock:
            self.device.configure(*found)
            self._loaded = True
            self.files["/sys/class/fpga_manager/fpga0/state"] = b"operating\n"

    # ---- pins ---------------------------------------------------------------------------------

    def export(self, index: int) -> str:
        """Name of a GPIO pin, from now on exported."""
        if not GPIO_BASE <= index < GPIO_BASE + GPIO_PINS:
            raise ArgumentError(
                f"GPIO {index} does not exist; there are {GPIO_BASE} to {GPIO_BASE + GPIO_PINS - 1}"
            )
        self.pins.setdefault(str(index), 0)
        return str(index)

    def pin(self, name: str) -> int:
        """Level of an exported pin."""
        if name not in self.pins:
            raise ArgumentError(f"GPIO {name!r} is not exported")
        return self.pins[name]


def _size(path: str, data: bytes | bytearray) -> int:
    """What a file counts."""
    return len(path) + len(data) + _FILE_OVERHEAD


def checked_path(path: str) -> str:
    """An absolute path, normalized.

    Files live in memory under a root that holds nothing else, so no path leads to the host's;
    one that tries is refused all the same, and told.
    """
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path or len(path) > 4096:
        raise ArgumentError(f"the path was {path[:100]!r}; allowed are absolute ones without '..'")
    return "/" + posixpath.normpath(path).lstrip("/")
