"""Linear models trained from data at 1 to 8 bits a value, on a PYNQ board or in emulation.

>>> from zipml_pynq import load_overlay, pack
>>> packed = pack(X, y, bits=4)                      # doctest: +SKIP
>>> overlay, driver = load_overlay("emulated")       # doctest: +SKIP
>>> result = driver.train(packed, epochs=20)         # doctest: +SKIP

Names are imported when they are first used: data can be prepared where there is no ``pynq``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zipml_pynq.devices import EmulatedDevice, LoadedOverlay, load_overlay
    from zipml_pynq.driver import SgdDriver
    from zipml_pynq.pack import Layout, PackedDataset, pack
    from zipml_pynq.plan import Plan, make_plan
    from zipml_pynq.quantize import Normalization
    from zipml_pynq.result import TrainResult

__version__ = "0.1.0"

_HOMES = {
    "EmulatedDevice": "devices",
    "Layout": "pack",
    "LoadedOverlay": "devices",
    "Normalization": "quantize",
    "PackedDataset": "pack",
    "Plan": "plan",
    "SgdDriver": "driver",
    "TrainResult": "result",
    "load_overlay": "devices",
    "make_plan": "plan",
    "pack": "pack",
}

__all__ = [
    "EmulatedDevice",
    "Layout",
    "LoadedOverlay",
    "Normalization",
    "PackedDataset",
    "Plan",
    "SgdDriver",
    "TrainResult",
    "load_overlay",
    "make_plan",
    "pack",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"zipml_pynq.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
