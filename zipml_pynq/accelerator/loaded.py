"""Whether the overlay that a driver was made for is still what is on its device.

Registers of another overlay take what is written to them, and a kernel that was loaded again has
forgotten it: both would train a wrong model, or none, without an error. pynq notes on the device
what this process loaded last. On the board itself it also notes it in a file, which tells what
another process, a second notebook for one, has loaded since.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from zipml_pynq.accelerator.needs_pynq import EmbeddedDevice, global_state
from zipml_pynq.errors import OverlayReplacedError

#: pynq's file since 3.1, and before.
_STATE_FILES = ("global_pl_state_.json", "global_pl_state.json")
#: What pynq's file names a kernel after that no process loaded through pynq.
_NOBODY = ("", "")


def _noted() -> tuple[str, str]:
    """File and time of what was loaded last, by pynq's file; its own reader warns at every call."""
    for name in _STATE_FILES:
        try:
            state = json.loads((Path(global_state.STATE_DIR) / name).read_text(encoding="utf-8"))
            return state["bitfile_name"], state["timestamp"]
        except FileNotFoundError:
            continue
        except ValueError:  # half written
            return "something that is being loaded just now", ""
    return _NOBODY


class Loaded(NamedTuple):
    """What was loaded, as two processes may each have noted it: its file, and when."""

    file: str | None
    time: str | None
    elsewhere: tuple[str, str]

    @classmethod
    def on(cls, device: Any) -> Loaded:
        """What is on a device now."""
        elsewhere = _noted() if isinstance(device, EmbeddedDevice) else _NOBODY
        name = getattr(device, "bitfile_name", None)
        return cls(name, getattr(device, "timestamp", None), elsewhere)

    def same_file(self, now: Loaded) -> bool:
        """Whether the same file was loaded, which may have been again."""
        return (self.file, self.elsewhere[0]) == (now.file, now.elsewhere[0])

    def is_gone(self, device: Any) -> bool:
        """Whether a kernel that was started on what this is has ended, since it was replaced."""
        try:
            self.check(device, running=True)
        except OverlayReplacedError:
            return True
        return False

    def check(self, device: Any, running: bool = False) -> Loaded:
        """What is on the device now, if it is still the driver's.

        Parameters
        ----------
        device : pynq.Device
        running : bool
            Whether the kernel was started on what this is, so that loading the same file again
            has ended a run.

        Raises
        ------
        OverlayReplacedError
            Another overlay is there, or the run was ended.
        """
        now = Loaded.on(device)
        if not self.same_file(now):
            name = now.file if now.file != self.file else f"{now.elsewhere[0]} (by another process)"
            raise OverlayReplacedError(
                f"the overlay {self.file} of this driver is not on the device any more: {name} was "
                "loaded after it; load the overlay again and use its new driver"
            )
        if running and now != self:
            raise OverlayReplacedError(
                f"the overlay {self.file} was loaded again while its kernel ran, which ended the "
                "run: its results are lost"
            )
        return now


def replaced_unseen() -> OverlayReplacedError:
    """The error of a kernel that is not the one that was started, though pynq noted nothing."""
    return OverlayReplacedError(
        "the kernel has no results of the run that was started: the logic was loaded again, or "
        "with something else, while it ran, by another process or another client of the board"
    )
