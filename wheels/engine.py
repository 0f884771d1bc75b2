"""Compiles the engine for a target, with the compiler and the libraries of the ziglang wheel.

Python's headers are those of the Python that runs this; of a target they need no more than
``python/pyconfig.h``, for in the limited API nothing else differs. On Linux and macOS the program
that loads the extension has Python's symbols, on Windows python3.dll, which is linked by the names
in ``python/python3.def``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wheels import BUILD
from wheels.targets import Target

HERE = Path(__file__).resolve().parent
#: The limited API of the oldest Python that the package takes.
LIMITED_API = "-DPy_LIMITED_API=0x030a0000"
#: Beyond those of a build by setuptools (``sw_emu/extension.py``). clang warns of accesses in
#: branches that constants rule out, and of vectors as arguments of functions that are inlined.
FLAGS = (
    "-fvisibility=hidden",
    "-fno-sanitize=all",
    "-Wno-array-bounds",
    "-Wno-psabi",
    LIMITED_API,
)


def zig(*arguments: str | Path) -> None:
    """Run zig; CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "ziglang", *map(str, arguments)], check=True)


def python_headers() -> Path:
    """Headers of Python with a ``pyconfig.h`` for every target."""
    folder = BUILD / "include"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sysconfig.get_path("include"), folder)
    shutil.copy(HERE / "python" / "pyconfig.h", folder)
    return folder


def _sources(source: Path, folder: Path) -> tuple[list[Path], list[str]]:
    """Files of the engine in an unpacked sdist, cffi's among them, and flags for them."""
    sys.path.insert(0, str(source))
    try:
        from sw_emu import build_engine, extension
    finally:
        sys.path.remove(str(source))
    wrapper = folder / "_engine.cpp"
    build_engine.ffibuilder.emit_c_code(str(wrapper))
    files = [source / "sw_emu" / name for name in build_engine.SOURCES]
    return [*files, wrapper], [*extension.FLAGS, f"-I{extension.SOURCES}", f"-I{extension.INCLUDE}"]


def compile_engine(source: Path, target: Target) -> Path:
    """The extension of ``target`` out of an unpacked sdist.

    Raises
    ------
    subprocess.CalledProcessError
        It does not compile or link.
    """
    folder = BUILD / target.platform
    folder.mkdir(parents=True, exist_ok=True)
    files, flags = _sources(source, folder)
    common = ("-target", target.zig, *target.flags)
    headers = f"-I{python_headers()}"

    def compiled(file: Path) -> Path:
        made = folder / f"{file.stem}.o"
        kind = "cc" if file.suffix == ".c" else "c++"
        language = [flag for flag in flags if kind == "c++" or not flag.startswith("-std=")]
        zig(kind, *common, *language, *FLAGS, headers, "-c", file, "-o", made)
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, [*files, HERE / "processor.c"]))
    if target.extension.endswith(".pyd"):
        objects.append(folder / "python3.lib")
        definitions = HERE / "python" / "python3.def"
        zig("dlltool", "-m", "i386:x86-64", "-d", definitions, "-l", objects[-1])
    made = folder / target.extension
    zig("c++", *common, "-shared", "-s", "-pthread", "-o", made, *objects)
    return made


def program(source: Path, target: Target) -> Path:
    """The checksum program of the engine (``sw_emu/tb/checksum.cpp``) for ``target``."""
    folder = BUILD / target.platform
    folder.mkdir(parents=True, exist_ok=True)
    files, flags = _sources(source, folder)
    made = folder / ("checksum.exe" if target.extension.endswith(".pyd") else "checksum")
    processor = folder / "processor.o"
    common = ("-target", target.zig, *target.flags)
    zig("cc", *common, "-O3", "-c", HERE / "processor.c", "-o", processor)
    checksum = source / "sw_emu" / "tb" / "checksum.cpp"
    zig("c++", *common, *flags, "-DZIPML_ON_PLANES", checksum, *files[:-1], processor, "-o", made)
    return made
