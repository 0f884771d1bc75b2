"""``make wheels-arm``: the wheels for Arm run, on Debian's own Python for them, under qemu-user.

Packages of Debian are downloaded and unpacked into a folder, nothing is installed: Python 3.11,
NumPy, SciPy and cffi; what else is compiled comes as wheels. The lines of ``wheels/bits.py`` must
be those of this machine, and tests of the driver pass, on pynq itself and the emulated board: pynq,
pytest and all that is Python alone are those of the environment that runs this. Needs qemu-user,
apt, and ``dpkg --add-architecture armhf`` and ``arm64``, then ``apt-get update``; for the tests,
this environment must be of Python 3.11, too.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import version
from pathlib import Path

from wheels import BUILD, DIST, ROOT
from wheels.installed import bits_here, compare
from wheels.targets import TARGETS

#: Debian's name, what runs it, and what pip calls it.
MACHINES = {
    "linux-armv7l": ("armhf", "qemu-arm", "manylinux_2_17_armv7l"),
    "linux-aarch64": ("arm64", "qemu-aarch64", "manylinux_2_17_aarch64"),
}
PACKAGES = ("python3.11", "python3-numpy", "python3-scipy", "python3-cffi-backend")
#: Of these, which are Python alone, Debian has one for all machines.
MODULES = ("python3-cffi", "python3-distutils")
#: What is compiled of safetensors, pynq and pytest's plug-ins.
WHEELS = ("safetensors", "grpcio", "protobuf", "pydantic-core", "hypothesis")
#: Tests of the driver that neither take long there nor start a Python of their own, which qemu
#: would not run.
TESTS = (
    *(f"tests/accelerator/test_{name}.py" for name in ("driver", "interface", "status")),
    *("tests/devices/test_overlay.py", "-k", "not pynq_is_imported"),
)


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
    compiled = {name for name in names if name.endswith(f":{architecture}")}
    return sorted(modules | compiled | set(MODULES))


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
    shutil.rmtree(fetched, ignore_errors=True)
    pip = [sys.executable, "-m", "pip"]
    options = ["-q", "--no-deps", "--only-binary=:all:", "--python-version=3.11"]
    options.append(f"--platform={platform}")
    # as some name the same machine
    plain = f"--platform={platform.replace('manylinux_2_17', 'linux')}"
    wanted = [f"{name}=={version(name)}" for name in WHEELS]
    subprocess.run([*pip, "download", *options, plain, "-d", fetched, *wanted], check=True)
    # pip itself says whether the wheel is one for this machine
    local = ["--no-index", f"--find-links={DIST}", f"--target={site}"]
    subprocess.run([*pip, "install", *options, *local, "zipml_pynq"], check=True)
    for wheel in fetched.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    return site


class Emulated:
    """Debian's Python for a machine, with the target's wheel, under qemu.

    Attributes
    ----------
    root : Path
        Debian's files.
    site : Path
        What was installed beyond those.
    """

    def __init__(self, name: str) -> None:
        architecture, self._emulator, _ = MACHINES[name]
        self.root = root_of(architecture)
        self.site = install(name, self.root)

    def run(
        self, *arguments: str, folder: Path = ROOT, paths: tuple[Path, ...] = (), loops: str = ""
    ) -> str:
        """Output of that Python in ``folder``, which takes modules from ``paths`` last."""
        # qemu looks up in its root what Debian's Python knows by absolute paths
        found = [self.site, self.root / "usr/lib/python3/dist-packages", *paths]
        variables = {
            "PYTHONPATH": ":".join(map(str, found)),
            "PYTHONHOME": str(self.root / "usr"),
            # what alternatives choose from, once packages are installed
            "LD_LIBRARY_PATH": ":".join(
                str(folder)
                for kind in ("blas", "lapack")
                for folder in self.root.glob(f"usr/lib/*/{kind}")
            ),
            "ZIPML_LOOPS": loops,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [self._emulator, "-L", str(self.root)]
        for key, value in variables.items():
            command += ["-E", f"{key}={value}"]
        done = subprocess.run(
            [*command, str(self.root / "usr/bin/python3.11"), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        if done.returncode != 0:
            sys.exit(done.stdout)
        return done.stdout

    def test(self) -> str:
        """What pytest says of the driver's tests at its end."""
        # beside the package that is tested, not beside the sources of this working tree
        folder = self.root / "working_tree"
        folder.mkdir(exist_ok=True)
        for name in ("tests", "pyproject.toml"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(ROOT / name)
        # what is compiled in there is for this machine, and comes too late to be taken
        environment = Path(sysconfig.get_path("purelib"))
        options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
        # folder first: an environment may have another package "tests"
        begin = f"import sys; sys.path.insert(0, {str(folder)!r}); import pytest; "
        code = f"{begin}sys.exit(pytest.main(sys.argv[1:]))"
        told = self.run("-P", "-c", code, *options, *TESTS, folder=folder, paths=(environment,))
        return told.splitlines()[-1]


def main() -> None:
    """Compare the lines of both machines with those of this one, and test the driver there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(MACHINES))
    here = "".join(bits_here().splitlines(keepends=True)[:-1])  # but for this machine's loops
    for name in parser.parse_args().names:
        emulated = Emulated(name)
        bits = str(Path(__file__).with_name("bits.py"))
        for loops in ("", "portable"):
            compare(f"{TARGETS[name].platform} {loops}", emulated.run(bits, loops=loops), here)
        print(f"{TARGETS[name].platform}: tests of the driver: {emulated.test()}")


if __name__ == "__main__":
    main()
