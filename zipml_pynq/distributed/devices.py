"""The accelerators of a worker, as Dask's configuration names them.

``zipml.devices`` is a list, or text with commas between (``DASK_ZIPML__DEVICES=..``):

| name | accelerator |
|---|---|
| ``host``, ``host:4`` | the engine of the worker's process, on one thread, or on four |
| ``emulated`` | the emulated board |
| ``remote://HOST:PORT`` | an emulated board that ``zipml board`` serves |
| ``remote://HOST:PORT/SOURCE`` | a board in the network, with the overlay SOURCE |
| ``SOURCE`` | a board's name, a folder or a bitstream, as ``load_overlay`` takes them |
| ``SOURCE#NAME`` | the kernel NAME of an overlay that has several |
"""

from __future__ import annotations

import asyncio
import queue
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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
        See the module's table.
    overlays : dict
        Overlays of this process by source, so that kernels of one overlay share it.
    """

    def __init__(self, name: str, overlays: dict[Any, Any]) -> None:
        self.name = name
        self._overlays = overlays
        self._drivers: dict[tuple[int, str], Any] = {}

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
        with _loading:
            if (word_bits, value_format) not in self._drivers:
                self._drivers[word_bits, value_format] = self._load(word_bits, value_format)
            return self._drivers[word_bits, value_format]

    def forget(self) -> None:
        """Load anew the next time, after an error of the device."""
        with _loading:
            self._drivers.clear()
            self._overlays.clear()

    def _load(self, word_bits: int, value_format: str) -> Any:
        # only here does anything need pynq
        from zipml_pynq.devices.overlay import find_driver, load_overlay

        _event_loop()
        if self.name == "emulated":
            return load_overlay("emulated", word_bits=word_bits, value_format=value_format).driver
        source, _, kernel = self.name.removeprefix(REMOTE).partition("#")
        key = (source, value_format)
        if key not in self._overlays:
            options: dict[str, Any] = {"value_format": value_format}
            if self.name.startswith(REMOTE):
                address, _, source = source.partition("/")
                options["device"] = _remote_device(address)
                source = source or "served"
            if source == "served":
                options["word_bits"] = word_bits
            elif source.endswith((".bit", ".xclbin")):
                del options["value_format"]
            self._overlays[key] = load_overlay(source, name=kernel or None, **options)
        loaded = self._overlays[key]
        return find_driver(loaded.overlay, kernel) if kernel else loaded.driver


def _event_loop() -> None:
    """Interrupts of pynq belong to the event loop of their thread, and threads of workers have
    none."""
    try:
        asyncio.get_event_loop_policy().get_event_loop()
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
        overlays: dict[Any, Any] = {}
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


def accelerators(threads: int = 1) -> Accelerators:
    """Those of this process, by Dask's configuration; else the engine on so many threads."""
    global _here
    import dask

    with _making:
        if _here is None:
            names = dask.config.get("zipml.devices", None) or ["host"] * threads
            if isinstance(names, str):
                names = [name.strip() for name in names.split(",")]
            _here = Accelerators(names)
        return _here
