"""``make wheels-arm``: the wheels for Arm run, on Debian's own Python for them, under qemu-user.

Packages of Debian are downloaded and unpacked into a folder, nothing is installed: Python 3.11,
NumPy, SciPy and cffi's backend; safetensors comes as its own wheel. The lines of ``wheels/bits.py``
must be those of this machine. Needs qemu-user, apt, and ``dpkg --add-architecture armhf`` and
``arm64``, then ``apt-get update``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from wheels import BUILD, DIST
from wheels.installed import bits_here, compare
from wheels.targets import TARGETS

#: Debian's name, what runs it, and what pip calls it.
MACHINES = {
    "linux-armv7l": ("armhf", "qemu-arm", "manylinux_2_17_armv7l"),
    "linux-aarch64": ("arm64", "qemu-aarch64", "manylinux_2_17_aarch64"),
}
PACKAGES = ("python3.11", "python3-numpy", "python3-scipy", "python3-cffi-backend")


def _closure(architecture: str) -> list[str]:
    """Packages that Debian's need, each with its architecture."""
    leave = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    listed = subprocess.run(
        ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in leave)]
        + [f"{name}:{architecture}" for name in PACKAGES],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = {line for line in listed.splitlines() if re.match(r"\w", line)}
    # of what is one for all machines, modules of Python alone are needed
    modules = {name for name in names if re.fullmatch(r"python3-(?!minimal)[\w-]+", name)}
    return sorted(modules | {name for name in names if name.endswith(f":{architecture}")})


def root_of(architecture: str) -> Path:
    """A folder with Debian's files for a machine; what is there already is used again."""
    root = BUILD / "debian" / architecture
    if (root / "complete").exists():
        return root
    packages = BUILD / "debian" / f"{architecture}-packages"
    shutil.rmtree(packages, ignore_errors=True)
    packages.mkdir(parents=True)
    subprocess.run(
        ["apt-get", "download", "-qq", *_closure(architecture)], cwd=packages, check=True
    )
    for package in sorted(packages.glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, root], check=True)
    (root / "complete").touch()
    return root


def install(name: str, root: Path) -> Path:
    """The wheel of a target and safetensors in a folder, as pip would leave them."""
    _, _, platform = MACHINES[name]
    site = root / "wheel"
    shutil.rmtree(site, ignore_errors=True)
    fetched = root / "fetched"
    pip = [sys.executable, "-m", "pip"]
    options = ["-q", "--no-deps", "--only-binary=:all:", "--python-version=3.11"]
    options.append(f"--platform={platform}")
    subprocess.run([*pip, "download", *options, "-d", fetched, "safetensors>=0.4"], check=True)
    # pip itself says whether the wheel is one for this machine
    local = ["--no-index", f"--find-links={DIST}", f"--target={site}"]
    subprocess.run([*pip, "install", *options, *local, "zipml_pynq"], check=True)
    for wheel in fetched.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    return site


def run(name: str, site: Path, root: Path, *arguments: str, loops: str = "") -> str:
    """Output of Python on that machine."""
    _, emulator, _ = MACHINES[name]
    # Debian's Python finds its modules by paths that qemu looks up in its root
    paths = [site, root / "usr/lib/python3/dist-packages"]
    variables = {
        "PYTHONPATH": ":".join(map(str, paths)),
        "PYTHONHOME": str(root / "usr"),
        # what alternatives choose from, once packages are installed
        "LD_LIBRARY_PATH": ":".join(
            str(folder) for kind in ("blas", "lapack") for folder in root.glob(f"usr/lib/*/{kind}")
        ),
        "ZIPML_LOOPS": loops,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [emulator, "-L", str(root)]
    for key, value in variables.items():
        command += ["-E", f"{key}={value}"]
    done = subprocess.run(
        [*command, str(root / "usr/bin/python3.11"), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def main() -> None:
    """Compare the lines of both machines with those of this one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(MACHINES))
    here = "".join(bits_here().splitlines(keepends=True)[:-1])  # but for this machine's loops
    for name in parser.parse_args().names:
        root = root_of(MACHINES[name][0])
        site = install(name, root)
        bits = str(Path(__file__).with_name("bits.py"))
        for loops in ("", "portable"):
            compare(
                f"{TARGETS[name].platform} {loops}", run(name, site, root, bits, loops=loops), here
            )


if __name__ == "__main__":
    main()
