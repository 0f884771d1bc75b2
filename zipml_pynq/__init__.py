"""Linear models trained from data at 1 to 8 bits a value, on a PYNQ board or in emulation.

>>> from zipml_pynq import load_overlay, pack
>>> packed = pack(X, y, bits=4)                      # doctest: +SKIP
>>> overlay, driver = load_overlay("emulated")       # doctest: +SKIP
>>> result = driver.train(packed, epochs=20)         # doctest: +SKIP

What needs ``pynq`` is imported when it is first used: data can be prepared without it. So are the
estimators ``ZipMLRegressor`` and ``ZipMLClassifier``, which need scikit-learn
(``pip install 'zipml_pynq[sklearn]'``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zipml_pynq.levels import LevelHistogram, fit_levels, optimal_levels, rounding_variance
from zipml_pynq.models import LinearModel
from zipml_pynq.pack import Layout, PackedDataset, pack, pack_file
from zipml_pynq.plan import Plan, make_plan
from zipml_pynq.quantize import Normalization
from zipml_pynq.result import TrainResult
from zipml_pynq.variance import propose_quantization, quantization_variance

if TYPE_CHECKING:
    from zipml_pynq.devices import EmulatedDevice, LoadedOverlay, load_overlay
    from zipml_pynq.driver import SgdDriver
    from zipml_pynq.estimators import ZipMLClassifier as ZipMLClassifier
    from zipml_pynq.estimators import ZipMLRegressor as ZipMLRegressor

__version__ = "0.1.0"

#: Modules of what is imported when it is first used; the estimators need scikit-learn, too, which
#: boards do not have, so that ``import *`` leaves them out.
_LAZY = {
    "EmulatedDevice": "devices",
    "LoadedOverlay": "devices",
    "SgdDriver": "driver",
    "ZipMLClassifier": "estimators",
    "ZipMLRegressor": "estimators",
    "load_overlay": "devices",
}

__all__ = [
    "EmulatedDevice",
    "Layout",
    "LevelHistogram",
    "LinearModel",
    "LoadedOverlay",
    "Normalization",
    "PackedDataset",
    "Plan",
    "SgdDriver",
    "TrainResult",
    "fit_levels",
    "load_overlay",
    "make_plan",
    "optimal_levels",
    "pack",
    "pack_file",
    "propose_quantization",
    "quantization_variance",
    "rounding_variance",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(import_module(f"zipml_pynq.{_LAZY[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
