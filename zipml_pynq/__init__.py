"""Linear models trained from data at 1 to 8 bits a value, on a PYNQ board or in emulation.

>>> from zipml_pynq import load_overlay, pack
>>> packed = pack(X, y, bits=4)                      # doctest: +SKIP
>>> overlay, driver = load_overlay("emulated")       # doctest: +SKIP
>>> result = driver.train(packed, epochs=20)         # doctest: +SKIP

What needs ``pynq`` (drivers and devices) is imported when it is first used: everything else works
without it. So are the estimators ``ZipMLRegressor`` and ``ZipMLClassifier``, which need
scikit-learn (``pip install 'zipml_pynq[sklearn]'``).
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from zipml_pynq.data.layout import Layout
from zipml_pynq.data.levels import LevelHistogram, fit_levels, optimal_levels, rounding_variance
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.pack_file import pack_file
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.learn.models import LinearModel
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.result import TrainResult
from zipml_pynq.training.variance import propose_quantization, quantization_variance

if TYPE_CHECKING:
    from zipml_pynq.accelerator.driver import SgdDriver
    from zipml_pynq.data import datasets as datasets
    from zipml_pynq.devices.emulated import EmulatedDevice
    from zipml_pynq.devices.overlay import LoadedOverlay, load_overlay
    from zipml_pynq.learn.classifier import ZipMLClassifier as ZipMLClassifier
    from zipml_pynq.learn.regressor import ZipMLRegressor as ZipMLRegressor
    from zipml_pynq.training import baseline as baseline
    from zipml_pynq.training import reference as reference

__version__ = "0.1.0"

#: Modules of what is imported when it is first used; the estimators need scikit-learn, too, which
#: boards do not have, so that ``import *`` leaves them out.
_LAZY = {
    "EmulatedDevice": "devices.emulated",
    "LoadedOverlay": "devices.overlay",
    "SgdDriver": "accelerator.driver",
    "ZipMLClassifier": "learn.classifier",
    "ZipMLRegressor": "learn.regressor",
    "load_overlay": "devices.overlay",
}
#: Modules that are used by their name: ``from zipml_pynq import reference``.
_MODULES = {
    "baseline": "training.baseline",
    "datasets": "data.datasets",
    "reference": "training.reference",
}

__all__ = [
    "Layout",
    "LevelHistogram",
    "LinearModel",
    "Normalization",
    "PackedDataset",
    "Plan",
    "TrainResult",
    "fit_levels",
    "make_plan",
    "optimal_levels",
    "pack",
    "pack_file",
    "propose_quantization",
    "quantization_variance",
    "rounding_variance",
]
if find_spec("pynq") is not None:
    __all__ += ["EmulatedDevice", "LoadedOverlay", "SgdDriver", "load_overlay"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(import_module(f"zipml_pynq.{_LAZY[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"zipml_pynq.{_MODULES[name]}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_MODULES])
