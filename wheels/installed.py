"""A wheel in empty environments: no compiler on PATH, no package index, one Python after another.

``make wheels-pythons`` takes every Python that is here, ``make wheels-sdist`` one of them and the
wheel that pip builds of the sdist, with this machine's compiler, and ``make test-wheel`` the engine
that was built in place here anyway.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from wheels import BUILD, DIST, ROOT

#: A first fit, as a user has it.
FIRST_FIT = """
import numpy as np
from zipml_pynq import LinearModel, pack
from zipml_pynq.accelerator.host import HostDriver
X = np.random.default_rng(0).normal(size=(150, 4))
packed = pack(X, X[:, 0], bits=4)
result = HostDriver(packed.layout.word_bits).train(packed, epochs=20)
print(LinearModel.from_result(result, packed.normalization).predict(X).shape)
"""
#: Which loops a package takes on this machine: those for its processor.
LOOPS = "from zipml_pynq._engine import ffi, lib; print(ffi.string(lib.zipml_engine_loops()))"
MINORS = range(10, 15)
#: What all but drivers and devices need, without pynq and what that brings.
WITHOUT_PYNQ = ("numpy", "scipy", "cffi", "safetensors")


def bits_here() -> str:
    """What ``bits.py`` prints with the package of this working tree, as it was built here."""
    return _lines(sys.executable, {"PYTHONPATH": str(ROOT)})


def _lines(python: str | Path, variables: dict[str, str]) -> str:
    bits = str(ROOT / "wheels" / "bits.py")
    lines = _output([python, "-X", "warn_default_encoding", bits], variables)
    # the same bits from other loops would be slower ones
    return lines + _output([python, "-c", LOOPS], variables)


def compare(name: str, lines: str, here: str) -> None:
    """Exit where lines differ from those of this machine."""
    if lines == here:
        print(f"{name}: {len(here.splitlines())} lines, the same bits")
        return
    pairs = zip(lines.splitlines(), here.splitlines(), strict=False)
    first = next((pair for pair in pairs if pair[0] != pair[1]), ("fewer or more lines", ""))
    sys.exit(f"{name}: not the bits of this machine: {first[0]!r}, here {first[1]!r}")


def _output(command: list[str | Path], variables: dict[str, str]) -> str:
    environment = {**os.environ, **variables}
    BUILD.mkdir(parents=True, exist_ok=True)
    # not in the working tree, whose package would be taken for the installed one
    done = subprocess.run(
        command, cwd=BUILD, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def pythons() -> list[Path]:
    """Programs of the Pythons from 3.10 on that are on PATH or are pyenv's, one a minor version."""
    found = {}
    for minor in MINORS:
        on_path = shutil.which(f"python3.{minor}")
        versions = Path.home() / ".pyenv" / "versions"
        for program in [on_path, *sorted(versions.glob(f"3.{minor}.*/bin/python"))]:
            # a shim of pyenv is on PATH also where its Python is not chosen
            runs = program and subprocess.run([program, "-c", ""], capture_output=True)
            if runs and runs.returncode == 0:
                found[minor] = Path(program)
                break
    return list(found.values())


def wheel_of_this_machine(folder: Path) -> Path:
    """A wheel around the engine that was built in place here, by the compiler of this machine."""
    from wheels.archives import make_sdist, make_wheel, unpack

    (extension,) = (ROOT / "zipml_pynq").glob("_engine*.so")
    stable = folder / "_engine.abi3.so"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(extension, stable)
    source, tag = unpack(make_sdist(folder)), f"cp310-abi3-linux_{platform.machine()}"
    return make_wheel(source, stable, tag, folder)


def wheel_of_sdist(folder: Path) -> Path:
    """The wheel that pip builds of the sdist, in an environment of its own."""
    (sdist,) = DIST.glob("*.tar.gz")
    shutil.rmtree(folder, ignore_errors=True)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-cache-dir"]
    subprocess.run([*build, "-w", folder, sdist], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def clock() -> tuple[float, float]:
    """Seconds by the clock, and of the processor for programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def first_fit(python: Path, wheel: Path, pynq: bool) -> tuple[str, str]:
    """Seconds from ``pip install`` to a first fit, in words, and the bits.

    Wheels of what it needs, with ``pynq`` where that runs, are fetched before time is taken.
    """
    name = subprocess.check_output([python, "-c", "import sys; print(*sys.version_info[:2])"])
    folder = BUILD / "environments" / name.decode().strip().replace(" ", ".")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    inside = folder / "bin" / "python"
    packages = BUILD / "packages" / folder.name
    wanted = [wheel] if pynq else ["--no-deps", wheel, *WITHOUT_PYNQ]
    # what has no wheel, as pynq, becomes one here
    fetch = [inside, "-m", "pip", "wheel", "-q", "--prefer-binary", "--use-pep517", "-w", packages]
    subprocess.run([*fetch, "--find-links", packages, *wanted], check=True)
    # neither a compiler nor anything else that is not Python's
    variables = {"PATH": str(folder / "bin"), "CC": "", "CXX": "", "PYTHONPATH": ""}
    begin = clock()
    offline = ["--no-index", "--find-links", packages]
    _output([inside, "-m", "pip", "install", "-q", *offline, *wanted], variables)
    installed = clock()
    _output([inside, "-I", "-c", FIRST_FIT], variables)
    end = clock()
    whole, fit = (
        f"{stop[0] - start[0]:.1f} s ({stop[1] - start[1]:.1f} s of the processor)"
        for start, stop in ((begin, end), (installed, end))
    )
    return f"installed and fitted in {whole}, the fit {fit}", _lines(inside, variables)


def main() -> None:
    """Install, fit and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--here", action="store_true", help="the engine as it was built in place")
    kind.add_argument("--sdist", action="store_true", help="what pip builds of the sdist")
    options = parser.parse_args()
    if options.here or options.sdist:
        made_by = wheel_of_this_machine if options.here else wheel_of_sdist
        wheel = made_by(BUILD / ("here" if options.here else "of_sdist"))
        chosen = [Path(sys.executable)]
    else:
        (wheel,) = DIST.glob(f"*manylinux*{platform.machine()}.whl")
        chosen = pythons()
    here = bits_here()
    for python in chosen:
        took, bits = first_fit(python, wheel, pynq=not options.here)
        compare(f"{python}: {took}", bits, here)


if __name__ == "__main__":
    main()
