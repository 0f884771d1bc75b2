"""The accelerators of a worker, as Dask's configuration names them.

``zipml.devices`` is a list, or text with commas between (``DASK_ZIPML__DEVICES=..``):

``host``, ``host:4``
    The engine of the worker's process, on one thread, or on four.
``emulated``
    The emulated board.
``remote://HOST:PORT``
    An emulated board that ``zipml board`` serves.
``remote://HOST:PORT/SOURCE``
    A board in the network, with the overlay SOURCE.
``SOURCE``
    A board's name, a folder or a bitstream, as ``load_overlay`` takes them.
``SOURCE#NAME``
    The kernel NAME of an overlay that has several.
"""

from __future__ import annotations

import asyncio
import os
import queue
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.errors import ArgumentError, DeviceError

REMOTE = "remote://"
#: pynq keeps what is loaded for the whole process.
_loading = threading.Lock()


class Accelerator:
    """One accelerator: drivers of what was asked of it, loaded when first asked for.

    Parameters
    ----------
    name : str
        See above.
    overlays : dict
        Overlays of this process by source, so that kernels of one overlay share it.
    """

    def __init__(self, name: str, overlays: dict[str, Any]) -> None:
        self.name = name
        self._overlays = overlays

    def driver(self, word_bits: int, value_format: str) -> Any:
        """The driver for data sets of that width and format.

        Raises
        ------
        DeviceError
            As ``load_overlay``; or a board answers no more.
        """
        kind, _, rest = self.name.partition(":")
        if kind == "host":
            return HostDriver(word_bits, value_format, int(rest or 1))
        # only here does anything need pynq
        from zipml_pynq.accelerator.held import HoldingDriver
        from zipml_pynq.devices.overlay import find_driver

        source, kernel = self._source, self.name.partition("#")[2]
        with _loading:
            found = self._overlays.get(source)
            if found is None or found.kind not in (None, (word_bits, value_format)):
                device = None
                if found is not None:
                    device = found.device
                    found.free()
                found = _load(source, word_bits, value_format, kernel or None, device)
                self._overlays[source] = found
            name = kernel or None
            if name not in found.drivers:
                found.drivers[name] = HoldingDriver(find_driver(found.overlay, name))
            return found.drivers[name]

    def forget(self) -> None:
        """Load anew the next time, after an error of the device."""
        with _loading:
            self._overlays.pop(self._source, None)

    @property
    def _source(self) -> str:
        """What of overlays is its own: of several emulated boards, each has one."""
        if self.name == "emulated":
            return f"emulated {id(self)}"
        return self.name.partition("#")[0]


class _Loaded(NamedTuple):
    """What a device has on it: an overlay, drivers of its kernels by name, and for which width and
    format; None where it is one for all that come."""

    overlay: Any
    device: Any
    kind: tuple[int, str] | None
    drivers: dict[str | None, Any]

    def free(self) -> None:
        """Give back what drivers hold of the device's memory."""
        for driver in self.drivers.values():
            driver.free()


def _load(
    source: str, word_bits: int, value_format: str, kernel: str | None, device: Any
) -> _Loaded:
    """Load an overlay, on a device that is there already or one to be found."""
    from zipml_pynq.devices.overlay import load_overlay

    _event_loop()
    kind: tuple[int, str] | None = (word_bits, value_format)
    if source.startswith("emulated"):
        overlay, _ = load_overlay("emulated", word_bits=word_bits, value_format=value_format)
        return _Loaded(overlay, None, kind, {})
    options: dict[str, Any] = {"value_format": value_format}
    if source.startswith(REMOTE):
        address, _, source = source.removeprefix(REMOTE).partition("/")
        device = _remote_device(address) if device is None else device
        source = source or "served"
    if source == "served":
        options["word_bits"] = word_bits
    elif source.endswith((".bit", ".xclbin")):
        options, kind = {}, None  # the only one that this device has
    overlay, _ = load_overlay(source, device=device, name=kernel, **options)
    return _Loaded(overlay, device, kind, {})


def _event_loop() -> None:
    """Interrupts of pynq belong to the event loop of their thread, and threads of workers have
    none."""
    try:
        asyncio.get_event_loop()
    except RuntimeError:
        asyncio.set_event_loop(asyncio.new_event_loop())


def _remote_device(address: str) -> Any:
    """A board in the network, as this process' only one: pynq programs ports on its active one."""
    import dask
    import pynq
    from pynq.pl_server import global_state

    from zipml_pynq.devices.served.client import ServedDevice

    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ArgumentError(f"zipml.devices named {REMOTE}{address}; needed is HOST:PORT")
    # workers of one machine would otherwise share what pynq writes down of its board
    global_state.STATE_DIR = tempfile.mkdtemp(prefix="zipml-pynq-")
    device = ServedDevice(host, int(port), dask.config.get("zipml.token", None))
    pynq.Device.active_device = device
    return device


class Accelerators:
    """The accelerators of a worker's process; each trains one shard at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        check_devices(names)
        overlays: dict[str, Any] = {}
        self.names = tuple(names)
        self._free: queue.Queue[Accelerator] = queue.Queue()
        for name in names:
            self._free.put(Accelerator(name, overlays))

    @contextmanager
    def one(self) -> Iterator[Accelerator]:
        """A free accelerator, waited for; after an error of its device it is loaded anew."""
        accelerator = self._free.get()
        try:
            yield accelerator
        except DeviceError:
            accelerator.forget()
            raise
        finally:
            self._free.put(accelerator)


def check_devices(names: Sequence[str]) -> None:
    """Refuse names that no worker can open."""
    if not names:
        raise ArgumentError("zipml.devices was empty; allowed is at least one accelerator")
    remote = {name for name in names if name.startswith(REMOTE)}
    if len(remote) > 1 or (remote and len(names) > 1):
        raise ArgumentError(
            f"zipml.devices was {list(names)}; a process has one board in the network: start a "
            "worker for each"
        )
    for name in names:
        kind, colon, threads = name.partition(":")
        if kind == "host" and colon and not (threads.isdigit() and int(threads) > 0):
            raise ArgumentError(f"zipml.devices named {name!r}; allowed are 'host' and 'host:4'")


_here: Accelerators | None = None
_making = threading.Lock()


def accelerators() -> Accelerators:
    """Those of this process, by Dask's configuration; else its engine, once for each core."""
    global _here
    import dask

    with _making:
        if _here is None:
            names = dask.config.get("zipml.devices", None) or ["host"] * (os.cpu_count() or 1)
            if isinstance(names, str):
                names = [name.strip() for name in names.split(",")]
            _here = Accelerators(names)
        return _here
