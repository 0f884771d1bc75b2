"""``make check-wheels``: what a wheel may ask of its machine, and whether its archive is right.

auditwheel's policy for the platform tag (Linux), abi3audit (names of Python outside of the stable
ABI), check-wheel-contents and twine; and for macOS and Windows, which auditwheel does not know, the
oldest system, the libraries and the names that an extension asks for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pefile
from macholib.mach_o import (
    CPU_TYPE_NAMES,
    LC_BUILD_VERSION,
    LC_CODE_SIGNATURE,
    LC_ID_DYLIB,
    LC_LOAD_DYLIB,
    LC_VERSION_MIN_MACOSX,
)
from macholib.MachO import MachO
from macholib.SymbolTable import SymbolTable

from wheels import DIST
from wheels.archives import TIME
from wheels.targets import TARGETS

#: Bytes that a wheel may have.
MOST = 3_000_000
#: What every Windows from 10 on has, and what every Python there brings.
WINDOWS = ("kernel32.dll", "ntdll.dll", "advapi32.dll", "python3.dll", "api-ms-win-crt-")


def _tool(*command: str | Path) -> str:
    """Output of a checker of this environment; exits where it is not content."""
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def _linux(wheel: Path, platform: str) -> None:
    told = _tool("auditwheel", "show", wheel)
    if f'"{platform}"' not in told.replace("\n", " "):
        sys.exit(told)


def _macos(extension: Path, oldest: tuple[int, int]) -> None:
    for header in MachO(str(extension)).headers:
        built = 0
        # Apple silicon runs nothing that is not signed, be it by nobody
        signed = any(command.cmd == LC_CODE_SIGNATURE for command, _, _ in header.commands)
        arm64 = CPU_TYPE_NAMES.get(header.header.cputype) == "ARM64"
        assert signed or not arm64, f"{extension} is not signed"
        for command, content, name in header.commands:
            if command.cmd in (LC_BUILD_VERSION, LC_VERSION_MIN_MACOSX):
                built = content.minos if command.cmd == LC_BUILD_VERSION else content.version
            if command.cmd == LC_LOAD_DYLIB:
                library = name.rstrip(b"\0").decode()
                assert library.startswith("/usr/lib/libSystem."), library
            assert command.cmd != LC_ID_DYLIB or name.startswith(b"@rpath/"), name
        assert (built >> 16, built >> 8 & 0xFF) <= oldest, hex(built)
        symbols = SymbolTable(MachO(str(extension)), header)
        for _, name in symbols.undefsyms:
            assert not name.startswith(b"__Z"), name  # C++ is linked in


def _windows(extension: Path) -> None:
    image = pefile.PE(str(extension))
    for entry in image.DIRECTORY_ENTRY_IMPORT:
        library = entry.dll.decode().lower()
        assert library.startswith(WINDOWS), library
    names = [symbol.name for symbol in image.DIRECTORY_ENTRY_EXPORT.symbols]
    assert names == [b"PyInit__engine"], names


def main() -> None:
    """Check every archive in ``DIST``; AssertionError or an exit where a rule is broken."""
    archives = sorted(DIST.iterdir())
    print(_tool("twine", "check", "--strict", *archives))
    for target in TARGETS.values():
        (wheel,) = DIST.glob(f"*-{target.tag}.whl")
        size = wheel.stat().st_size
        assert size < MOST, f"{wheel.name} has {size} bytes; allowed are {MOST}"
        _tool("check-wheel-contents", wheel)
        _tool("abi3audit", "--strict", wheel)
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
            times = {entry.date_time for entry in archive.infolist()}
            assert times == {time.gmtime(TIME)[:6]}, times  # or the next build has other bytes
            extension = Path(archive.extract(f"zipml_pynq/{target.extension}", folder))
            if "linux" in target.platform:
                _linux(wheel, target.platform)
            elif "macos" in target.platform:
                _macos(extension, (11, 0))
            else:
                _windows(extension)
        print(f"{wheel.name}: {size / 1e6:.2f} MB, no rule broken")


if __name__ == "__main__":
    main()
