"""Alveo cards through XRT: pynq's ``XrtDevice`` with what pynq 3.1 and 4.0 leave out.

These versions use XRT on their own boards only: they import ``pyxrt`` there alone, find no cards,
and their ``XrtDevice`` reads neither metadata nor registers. :class:`AlveoDevice` adds that. Cards,
buffers and bitstreams go through ``pyxrt``; registers through XRT's C interface, since ``pyxrt``
binds none. docs/remote.md tells what of this has run where.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from pynq.pl_server import xrt_device
from pynq.pl_server.xclbin_parser import XclBin
from pynq.pl_server.xrt_device import XrtDevice, XrtMemory

from zipml_pynq.accelerator.needs_pynq import PynqBuffer, pynq
from zipml_pynq.accelerator.remote import device_errors
from zipml_pynq.errors import DeviceError


def load_library() -> Any:
    """XRT's C interface: ``xrt/xrt_device.h`` and ``xrt/xrt_kernel.h``."""
    try:
        return ctypes.CDLL("libxrt_coreutil.so.2")
    except OSError as error:
        raise DeviceError(f"XRT is not installed here, or not set up: {error}") from error


class XrtBuffer(PynqBuffer):
    """A ``PynqBuffer`` in a bank of a card; views of it do not own the memory."""

    def freebuffer(self) -> None:
        """Free the memory; a second call, or one on a view, does nothing."""
        if not self.__dict__.get("freed", True):
            self.freed = True
            self.bo = None  # XRT unmaps and frees what nobody refers to


class Bank(XrtMemory):
    """A memory bank of a card. Banks are equal if they are the same bank of the same card."""

    def allocate(self, shape: Any, dtype: DTypeLike, **_: Any) -> XrtBuffer:
        """A buffer in this bank."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        bo = self.device.allocate_bo(size, self.idx, cacheable=0)
        buffer = XrtBuffer(
            shape,
            kind,
            buffer=self.device.map_bo(bo)[:size],
            device=self.device,
            device_address=self.device.get_device_address(bo),
            bo=bo,
        )
        buffer.memory = self
        return buffer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bank) and (self.device, self.idx) == (other.device, other.idx)

    __hash__ = XrtMemory.__hash__


class AlveoDevice(XrtDevice):
    """A card with XRT, for ``pynq.Overlay(.., device=)``.

    Parameters
    ----------
    index : int
        Number of the card, as ``xbutil examine`` lists them.

    Raises
    ------
    DeviceError
        XRT or its Python module is missing, or there is no such card.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            import pyxrt
        except ImportError as error:
            raise DeviceError(f"XRT's Python module is missing: {error}") from error
        xrt_device.pyxrt = pyxrt
        self._pyxrt = pyxrt
        self._xrt = load_library()
        handle, number, code = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
        for name, result, arguments in (
            ("xrtDeviceOpen", handle, [ctypes.c_uint]),
            ("xrtDeviceClose", code, [handle]),
            ("xrtDeviceLoadXclbinUUID", code, [handle, ctypes.c_char_p]),
            ("xrtPLKernelOpenExclusive", handle, [handle, ctypes.c_char_p, ctypes.c_char_p]),
            ("xrtKernelClose", code, [handle]),
            ("xrtKernelReadRegister", code, [handle, number, ctypes.POINTER(number)]),
            ("xrtKernelWriteRegister", code, [handle, number, number]),
        ):
            function = getattr(self._xrt, name)
            function.restype, function.argtypes = result, arguments
        #: The compute units by address: their descriptions, and handles once they are open.
        self._units: dict[int, dict[str, Any]] = {}
        self._open: dict[int, int] = {}
        self._card = self._xrt.xrtDeviceOpen(index)
        if not self._card:
            raise DeviceError(f"there is no card {index}")
        try:
            asyncio.get_event_loop_policy().get_event_loop()
        except RuntimeError:  # XrtDevice asks for one, and asyncio.run() leaves none behind
            asyncio.set_event_loop(asyncio.new_event_loop())
        with device_errors(self):
            super().__init__(index)

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> XclBin:
        """Parse the ``.xclbin``."""
        return XclBin(bitfile_name)

    def download(self, bitstream: Any, parser: Any = None) -> None:
        """Load the ``.xclbin``."""
        self._close_units()
        with device_errors(self):
            self.handle.load_xclbin(bitstream.bitfile_name)
        pynq.Device.post_download(self, bitstream, parser, self.name)

    # ---- registers ----------------------------------------------------------------------------

    def open_context(self, description: dict[str, Any]) -> int:
        """What pynq calls for every IP: it is opened at the first access to it."""
        self._units[description["phys_addr"]] = description
        return description["cu_index"]

    def _unit(self, address: int) -> tuple[int, int]:
        """Handle of the compute unit at an address, and the offset in it."""
        for base, unit in self._units.items():
            if base <= address < base + unit["addr_range"]:
                if base not in self._open:
                    self._open[base] = self._open_unit(unit)
                return self._open[base], address - base
        raise DeviceError(f"no compute unit is at address {address:#x}")

    def _open_unit(self, unit: dict[str, Any]) -> int:
        uuid = bytes.fromhex(unit["xclbin_uuid"])
        self._check(self._xrt.xrtDeviceLoadXclbinUUID(self._card, uuid), "load the xclbin")
        kernel, _, instance = unit["cu_name"].partition(":")
        name = f"{kernel}:{{{instance}}}"
        opened = self._xrt.xrtPLKernelOpenExclusive(self._card, uuid, name.encode())
        if not opened:
            raise DeviceError(f"XRT did not open {name}: another process may be using it")
        return opened

    @staticmethod
    def _check(code: int, what: str) -> None:
        if code:
            raise DeviceError(f"XRT could not {what}: error {code}")

    def read_registers(self, address: int, length: int) -> bytes:
        """Read ``length`` bytes, a multiple of 4, from a device address."""
        unit, offset = self._unit(address)
        words = (ctypes.c_uint32 * (length // 4))()
        for i in range(len(words)):
            word = ctypes.c_uint32()
            code = self._xrt.xrtKernelReadRegister(unit, offset + 4 * i, ctypes.byref(word))
            self._check(code, f"read a register at {address + 4 * i:#x}")
            words[i] = word.value
        return bytes(words)

    def write_registers(self, address: int, data: bytes) -> None:
        """Write words to a device address."""
        unit, offset = self._unit(address)
        for i, word in enumerate(np.frombuffer(bytes(data), "<u4")):
            code = self._xrt.xrtKernelWriteRegister(unit, offset + 4 * i, int(word))
            self._check(code, f"write a register at {address + 4 * i:#x}")

    def _close_units(self) -> None:
        while self._open:
            self._xrt.xrtKernelClose(self._open.popitem()[1])

    def close(self) -> None:
        """Give the card back."""
        self._close_units()
        if self._card:
            self._xrt.xrtDeviceClose(self._card)
            self._card = None
        super().close()

    # ---- memory -------------------------------------------------------------------------------

    def get_memory(self, desc: dict[str, Any]) -> Any:
        """The bank that an entry of ``mem_dict`` describes."""
        return super().get_memory(desc) if desc["streaming"] else Bank(self, desc)

    def flush(self, bo: Any, offset: int, ptr: int, size: int) -> None:
        """Copy what the host wrote to the card."""
        bo.sync(self._pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE, size, offset)

    def invalidate(self, bo: Any, offset: int, ptr: int, size: int) -> None:
        """Copy what the card wrote to the host."""
        bo.sync(self._pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE, size, offset)
