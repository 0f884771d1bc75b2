"""The sdist, and wheels around compiled engines: from the same sources the same bytes.

Metadata and the list of modules are setuptools' own, as in any other build. What setuptools leaves
to chance, or to the machine, is fixed here: times, owners, modes and order in the archives.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from wheel.wheelfile import WheelFile

from wheels import BUILD, DIST, ROOT

#: The time of every file in an archive, 2020-01-01.
TIME = 1_577_836_800
# and of what setuptools and wheel write into them by themselves: RECORD, say
os.environ["SOURCE_DATE_EPOCH"] = str(TIME)


def _setuptools(folder: Path, code: str) -> None:
    """Run ``code`` in a folder with a ``setup.py``; what it says is shown where it fails."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(done.stdout)


def _clean_copy(folder: Path) -> None:
    """The sources without what was built among them: what git has, or all of an unpacked sdist."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    shutil.rmtree(folder, ignore_errors=True)
    if listed.returncode != 0 or not (ROOT / ".git").exists():
        leave = shutil.ignore_patterns("build", ".venv*", "*.egg-info", "*.so", "__pycache__")
        shutil.copytree(ROOT, folder, ignore=leave)
        return
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def make_sdist(folder: Path = DIST) -> Path:
    """The sdist of the working tree, in a folder."""
    _clean_copy(BUILD / "tree")
    made = BUILD / "sdist"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(made)!r})"
    _setuptools(BUILD / "tree", build)
    (raw,) = made.glob("*.tar.gz")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tarfile.open(raw) as old,
        open(folder / raw.name, "wb") as file,
        gzip.GzipFile("", "wb", 9, file, TIME) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for entry in sorted(old.getmembers(), key=lambda entry: entry.name):
            found = old.extractfile(entry)
            content = b"" if found is None else found.read()
            same = tarfile.TarInfo(entry.name)
            same.type, same.size, same.mtime = entry.type, len(content), TIME
            same.mode = 0o755 if entry.isdir() else 0o644
            new.addfile(same, io.BytesIO(content))
    return folder / raw.name


def unpack(sdist: Path) -> Path:
    """The folder of an unpacked sdist."""
    folder = BUILD / "source"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)
    (source,) = folder.iterdir()
    return source


def make_wheel(source: Path, extension: Path, tag: str, folder: Path = DIST) -> Path:
    """The wheel of an unpacked sdist and a compiled engine, in a folder."""
    stage = BUILD / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    _setuptools(
        source,
        "import os, sys; from setuptools import build_meta; "
        f"build_meta.prepare_metadata_for_build_wheel({str(stage)!r}); "
        f"sys.argv = ['setup.py', '-q', 'build_py', '--build-lib', {str(stage)!r}]; "
        "exec(compile(open('setup.py').read(), os.path.abspath('setup.py'), 'exec'))",
    )
    for rest in stage.glob("*.egg-info"):  # of which the metadata were made
        shutil.rmtree(rest)
    (information,) = stage.glob("*.dist-info")
    (information / "WHEEL").write_text(
        f"Wheel-Version: 1.0\nGenerator: zipml_pynq wheels\nRoot-Is-Purelib: false\nTag: {tag}\n"
    )
    shutil.copyfile(extension, stage / "zipml_pynq" / extension.name)
    for path in stage.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.suffix in (".so", ".pyd") else 0o644)
        os.utime(path, (TIME, TIME))
    made = folder / f"{information.stem}-{tag}.whl"
    made.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    with WheelFile(made, "w") as archive:
        archive.write_files(stage)
    return made
