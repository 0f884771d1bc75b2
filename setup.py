"""Names the compiled parts; everything else is in pyproject.toml.

``zipml_pynq._engine`` is always built. ``zipml_pynq._kernel``, the HLS top functions under the
vendor's C-simulation headers, is built where those headers are at hand (the ``hls4ml`` wheel
carries them): on a development machine, not on a board.
"""

import importlib.util
import sys
from pathlib import Path

import setuptools


def old_metadata():
    """What pyproject.toml says, for setuptools before 61 (boards' images): they do not read it.

    They would install a package ``UNKNOWN`` without a word.
    """
    if int(setuptools.__version__.partition(".")[0]) >= 61:
        return {}
    try:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            from pip._vendor import tomli as tomllib
    except ImportError:
        sys.exit(
            f"setuptools {setuptools.__version__} cannot read pyproject.toml, and nothing else "
            "here can: pip install --upgrade 'setuptools>=68'"
        )
    told = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text(encoding="utf-8"))
    project, packages = told["project"], told["tool"]["setuptools"]
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    return {
        "name": project["name"],
        "version": project["version"],
        "description": project["description"],
        "license": project["license"]["text"],
        "classifiers": project["classifiers"],
        "python_requires": project["requires-python"],
        "install_requires": project["dependencies"],
        "extras_require": project["optional-dependencies"],
        "entry_points": {
            group: [f"{name} = {value}" for name, value in entries.items()]
            for group, entries in groups.items()
        },
        "packages": packages["packages"],
        "package_dir": packages["package-dir"],
        "package_data": packages["package-data"],
    }


modules = ["sw_emu/build_engine.py:ffibuilder"]
if importlib.util.find_spec("hls4ml") is not None:
    modules.append("sw_emu/build_kernel.py:ffibuilder")

setuptools.setup(cffi_modules=modules, **old_metadata())
