"""Loading an overlay, on a board or in emulation, and finding its drivers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from zipml_pynq.accelerator import power
from zipml_pynq.accelerator.driver import SgdDriver
from zipml_pynq.accelerator.interface import VLNV
from zipml_pynq.accelerator.needs_pynq import pynq
from zipml_pynq.accelerator.remote import device_errors
from zipml_pynq.devices import bitstreams
from zipml_pynq.devices.clocks import settled
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.hwh import overlay_path
from zipml_pynq.errors import ArgumentError, DeviceError, OverlayMismatchError


class LoadedOverlay(NamedTuple):
    """An overlay and its driver; as a context manager it frees the overlay at the end."""

    overlay: pynq.Overlay
    driver: SgdDriver

    @property
    def drivers(self) -> tuple[SgdDriver, ...]:
        """The drivers of all kernels of the overlay that are of the same kind as ``driver``."""
        found = find_drivers(self.overlay)
        return tuple(one for one in found if one.value_format == self.driver.value_format)

    def __enter__(self) -> LoadedOverlay:
        return self

    def __exit__(self, *_: object) -> None:
        for driver in self.drivers:
            driver.reclaim()
        self.overlay.free()

    def __deepcopy__(self, _: dict[int, Any]) -> LoadedOverlay:
        """Itself: it is a handle of a device, which has no copy."""
        return self


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
        ("pynq-z2", see :func:`zipml_pynq.devices.bitstreams.find`); a folder with bitstreams of the
        kernels (:func:`zipml_pynq.devices.bitstreams.in_folder`); or the path of a bitstream with
        its ``.hwh`` beside it, or of an ``.xclbin`` for a card with XRT.
    device : pynq.Device, optional
        Where to load it; by default pynq's active device, the first card, or a new EmulatedDevice.
    name : str, optional
        Path of the IP, for overlays with more than one; by default the first one.
    **options
        With "emulated" and no device: parameters of :class:`EmulatedDevice`, e.g.
        ``word_bits=128`` or ``kernels=4``. With a board's name or a folder:
        ``value_format="levels"``, which kernel. With "served": all of ``word_bits``,
        ``value_format`` and ``kernels``.

    Returns
    -------
    LoadedOverlay
        The pair (overlay, driver), which is a context manager, too. Its ``drivers`` are those of
        all kernels that are like the first one.

    Raises
    ------
    OverlayMismatchError
        See :func:`zipml_pynq.devices.overlay.find_driver`, or the ``.hwh`` is missing, empty, or
        named in another case than the bitstream.
    DeviceError
        pynq finds no device; the message says what is missing.
    OverlayNotBuiltError
        Nobody has built a bitstream for that board, or the folder has none; the message says how.
    ArgumentError
        Unknown options, or "served" without a board in ``PYNQ_REMOTE_DEVICES``.

    Examples
    --------
    >>> overlay, driver = load_overlay("emulated", word_bits=64)
    >>> len(load_overlay("emulated", kernels=4).drivers)
    4
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
            source = str(overlay_path(*build, options.pop("kernels", 1)))
        elif bitstreams.target_name(source) is not None:
            source = str(bitstreams.find(source, options.pop("value_format", "bitplanes")))
        elif Path(source).is_dir():
            source = str(bitstreams.in_folder(source, options.pop("value_format", "bitplanes")))
        if options:
            raise ArgumentError(
                f"{', '.join(options)}: word_bits goes with 'emulated' and 'served', kernels, too, "
                "value_format with them, a board's name or a folder, others with 'emulated'; "
                f"source was {source!r}"
            )
    if device is None and source.endswith(".xclbin"):
        from zipml_pynq.devices.xrt import AlveoDevice

        device = AlveoDevice()
    overlay = _downloaded(source, device)
    drivers = find_drivers(overlay)
    driver = drivers[0] if drivers and name is None else find_driver(overlay, name)
    clock_mhz = settled(overlay.bitfile_name, overlay.device)
    # the sensors are those of the board that Python runs on
    found = power.sensor() if overlay.device.has_capability("MEMORY_MAPPED") else None
    for one in drivers:
        one.clock_mhz = clock_mhz
        one.power = None if found is None else power.PowerMeter(found)
    return LoadedOverlay(overlay, driver)


def _downloaded(source: str, device: Any) -> pynq.Overlay:
    """The overlay, loaded on a device or on pynq's active one."""
    bitstreams.check_handoff(Path(source))
    if device is None:
        device = _active_device()
    with device_errors(device):
        overlay = pynq.Overlay(source, device=device, download=False)
        if overlay.device.has_capability("REMOTE"):
            # pynq does not send a file whose name is on the board, so one that was built anew would
            # stay here and the old logic run: the name says what is in it
            path = Path(overlay.bitfile_name)
            overlay.binfile_name = f"{path.stem}-{bitstreams.md5(path)}.bin"
        overlay.download()
    return overlay


def _active_device() -> Any:
    """pynq's active device, or what it takes for pynq to find one."""
    try:
        return pynq.Device.active_device
    except RuntimeError as error:
        if "No Devices Found" not in str(error):
            raise
        if "XILINX_XRT" not in os.environ:
            cure = (
                "the environment variable XILINX_XRT is not set, which on a board it has to be: "
                "start Python from a root login shell (sudo -i), or source "
                "/etc/profile.d/xrt_setup.sh before"
            )
        else:
            cure = "XILINX_XRT is set, so this seems to be no board"
        raise DeviceError(
            f"pynq finds no device here: {cure}. A board in the network is named by "
            "PYNQ_REMOTE_DEVICES; load_overlay('emulated') needs none"
        ) from error


def _zipml_ips(overlay: pynq.Overlay) -> list[str]:
    """Paths of the ZipML IPs of an overlay, in the order of their addresses."""
    ips = overlay.ip_dict
    found = [path for path, ip in ips.items() if ip["type"] in VLNV.values()]
    return sorted(found, key=lambda path: ips[path]["phys_addr"])


def _driver(overlay: pynq.Overlay, path: str) -> SgdDriver:
    """The driver of an IP, which pynq makes when it is first asked for."""
    target: Any = overlay
    for part in path.split("/"):
        target = getattr(target, part)
    return target


def find_drivers(overlay: pynq.Overlay) -> tuple[SgdDriver, ...]:
    """The drivers of all ZipML IPs of an overlay, in the order of their addresses.

    Parameters
    ----------
    overlay : pynq.Overlay
        Loaded.
    """
    return tuple(_driver(overlay, path) for path in _zipml_ips(overlay))


def find_driver(overlay: pynq.Overlay, name: str | None = None) -> SgdDriver:
    """The ZipML IP of an overlay.

    Parameters
    ----------
    overlay : pynq.Overlay
        Loaded.
    name : str, optional
        Path of the IP, for overlays with more than one.

    Raises
    ------
    OverlayMismatchError
        The overlay has no ZipML IP, or several and ``name`` does not say which.
    """
    found = _zipml_ips(overlay)
    if name is not None and name in found:
        found = [name]
    if len(found) != 1 or (name is not None and name not in found):
        raise OverlayMismatchError(
            f"the overlay {overlay.bitfile_name} has the ZipML IPs {found}"
            + (f", not {name!r}" if name is not None else "")
            + f"; needed is one of type {' or '.join(VLNV.values())}; all its IPs are "
            + str({path: ip["type"] for path, ip in overlay.ip_dict.items()})
        )
    return _driver(overlay, found[0])
