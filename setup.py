"""Names the compiled parts; everything else is in pyproject.toml.

``zipml_pynq._engine`` is always built. ``zipml_pynq._kernel``, the HLS top functions under the
vendor's C-simulation headers, is built where those headers are at hand (the ``hls4ml`` wheel
carries them): on a development machine, not on a board.
"""

import importlib.util

from setuptools import setup

modules = ["sw_emu/build_engine.py:ffibuilder"]
if importlib.util.find_spec("hls4ml") is not None:
    modules.append("sw_emu/build_kernel.py:ffibuilder")

setup(cffi_modules=modules)
