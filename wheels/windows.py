"""``make wheels-windows``: the engine and the wheel for Windows run under Wine, with this machine's
bits.

The checksum program (``sw_emu/tb/checksum.cpp``) packs and trains a sweep of cases; it is compiled
for Windows as the wheel's engine is, and must print what this machine's own build prints. Then
``wheels/bits.py`` runs with the wheel itself, on a Python for Windows that is put together here, as
no package is one: python311.dll and its modules are in the wheel of panda3d, for programs that are
frozen with it; modules that are Python alone are those of the Python that runs this, which is 3.11,
too; python.exe and python3.dll, which passes calls on to the other, are made here.

Needs Wine for 64 bits: ``wine64`` on PATH or where Debian's package of that name has it, or named
by the variable ``WINE``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path, PurePosixPath

from wheels import BUILD, DIST, ROOT
from wheels.archives import make_sdist, unpack
from wheels.engine import HERE, program, zig
from wheels.installed import compare
from wheels.targets import TARGETS

TARGET = TARGETS["windows-x86_64"]
#: Loops that run on x86, "" the best ones.
LOOPS = ("", "portable", "avx2", "avx512bw")
#: The wheel with python311.dll, and what the package needs, as late as Wine 8 runs it: NumPy 2
#: wants functions of complex numbers that Wine does not have, later safetensors random numbers.
PYTHON = "panda3d==1.10.16"
PACKAGES = (
    "numpy==1.26.4",
    "scipy==1.11.4",
    "safetensors==0.4.2",
    "cffi==2.1.1",
    "pycparser==2.22",
)
#: Which wheels pip takes.
CHOICE = ("-q", "--no-deps", "--only-binary=:all:", "--python-version=3.11", "--platform=win_amd64")


def interpreter() -> Path:
    """The folder of a Python for Windows with packages and the wheel, newly made."""
    if sys.version_info[:2] != (3, 11):
        sys.exit(f"the modules of Python {sys.version.split()[0]} are not those of python311.dll")
    folder, fetched = BUILD / "windows" / "python", BUILD / "windows" / "fetched"
    shutil.rmtree(folder, ignore_errors=True)
    leave = ("site-packages", "lib-dynload", "test", "idlelib", "__pycache__", "config-*")
    shutil.copytree(
        sysconfig.get_path("stdlib"), folder / "Lib", ignore=shutil.ignore_patterns(*leave)
    )
    pip = [sys.executable, "-m", "pip"]
    fetch = [*pip, "download", *CHOICE, "--find-links", fetched, "-d", fetched]
    subprocess.run([*fetch, PYTHON, *PACKAGES], check=True)
    (wheel,) = fetched.glob("panda3d-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in map(PurePosixPath, archive.namelist()):
            own = name.suffix == ".pyd" or name.name in ("python311.dll", "libffi-8.dll")
            if name.parent.name == "deploy_libs" and own:
                (folder / name.name).write_bytes(archive.read(str(name)))
    _programs(folder)
    # pip itself says whether the wheel is one for this machine
    local = ["--no-index", f"--find-links={DIST}", f"--find-links={fetched}"]
    site = ["--target", folder / "site"]
    subprocess.run([*pip, "install", *CHOICE, *local, *site, *PACKAGES, "zipml_pynq"], check=True)
    return folder


def _programs(folder: Path) -> None:
    """Make python.exe and python3.dll."""
    target = ("-target", TARGET.zig, "-s")
    definitions, library = folder / "python311.def", folder / "python311.lib"
    definitions.write_text("LIBRARY python311.dll\nEXPORTS\nPy_Main\n")
    zig("dlltool", "-m", "i386:x86-64", "-d", definitions, "-l", library)
    source, made = HERE / "python" / "python.c", folder / "python.exe"
    zig("cc", *target, "-municode", source, library, "-o", made)
    head, names = (HERE / "python" / "python3.def").read_text().split("EXPORTS\n")
    passed_on = re.sub(r"(?m)^\w+", r"\g<0>=python311.\g<0>", names)
    definitions = folder / "python3.def"
    definitions.write_text(f"{head}EXPORTS\n{passed_on}")
    empty = folder / "python3.c"
    empty.write_text("int DllMainCRTStartup(void) { return 1; }\n")
    zig("cc", *target, "-shared", "-nostdlib", empty, definitions, "-o", folder / "python3.dll")


def windows_name(path: Path) -> str:
    """A path of this machine as Wine has it."""
    return "Z:" + str(path).replace("/", "\\")


def main() -> None:
    """Compile, run and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checksums", type=Path, help="what the checksum program prints here")
    parser.add_argument("bits", type=Path, help="what wheels/bits.py prints here")
    options = parser.parse_args()
    path = f"{os.environ['PATH']}:/usr/lib/wine"
    wine = os.environ.get("WINE") or shutil.which("wine64", path=path)
    if wine is None:
        sys.exit("Wine is not installed: apt-get install wine64, or name it by WINE")

    def output(*command: Path | str, **variables: str) -> str:
        prefix = {"WINEPREFIX": str(BUILD / "wine"), "WINEDEBUG": "-all"}
        done = subprocess.run(
            [wine, *command],
            env={**os.environ, **prefix, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,  # by pipes: Python for Windows takes no file of this machine
            text=True,  # which makes one of Windows' two characters that end a line
        )
        if done.returncode != 0:
            sys.exit(f"{done.stdout}{done.stderr}")
        return done.stdout

    python = interpreter()
    bits = ("-X", "warn_default_encoding", windows_name(ROOT / "wheels" / "bits.py"))
    for loops in LOOPS:
        told = output(
            python / "python.exe",
            *bits,
            ZIPML_LOOPS=loops,
            PYTHONHOME=windows_name(python),
            PYTHONPATH=windows_name(python / "site"),
        )
        name = f"{TARGET.platform} {loops or 'best'}"
        compare(f"{name}, the wheel", told, options.bits.read_text(encoding="utf-8"))
    made = program(unpack(make_sdist(BUILD / "here")), TARGET)
    for loops in LOOPS:
        told = output(made, ZIPML_LOOPS=loops)
        name = f"{TARGET.platform} {loops or 'best'}"
        compare(f"{name}, the engine", told, options.checksums.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
