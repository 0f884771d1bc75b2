"""The package as an installation: imports and entry points."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import entry_points, requires
from pathlib import Path

import pytest

from tests import ROOT


def python(code: str) -> str:
    """Output of ``code`` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_preparing_data_needs_no_pynq() -> None:
    assert python("import sys, zipml_pynq; print('pynq' in sys.modules)") == "False"


def test_names_are_what_they_say() -> None:
    """A submodule of the same name must not hide the function, whatever is imported first."""
    code = (
        "import zipml_pynq.accelerator.driver, zipml_pynq.{0}; "
        "import zipml_pynq; print(zipml_pynq.pack)"
    )
    for module in ("data.pack", "devices.overlay", "training.plan"):
        assert python(code.format(module)).startswith("<function pack")
    assert python("import zipml_pynq as z; print([n for n in z.__all__ if not hasattr(z, n)])") == (
        "[]"
    )


def test_pynq_finds_the_driver_by_itself() -> None:
    """pynq.Overlay imports the modules of this group before it binds drivers."""
    names = {point.value for point in entry_points(group="pynq.lib")}
    assert "zipml_pynq.accelerator.driver" in names


def test_installing_it_pulls_what_a_board_has_room_for() -> None:
    """Everything else is in an extra. grpcio comes with pynq; pycparser is pinned for pynq 3.1."""
    needed = {
        line.replace("<", ">").partition(">")[0].strip()
        for line in requires("zipml_pynq") or []
        if "extra ==" not in line
    }
    assert needed - {"pycparser"} == {"numpy", "scipy", "cffi", "pynq", "safetensors"}


def test_source_distribution_is_complete(tmp_path: Path) -> None:
    """Everything in git but its own settings is in the sdist: it builds, and its tests run."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0 or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    copy = tmp_path / "copy"
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist", "-d", str(tmp_path)],
        cwd=copy,
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {n for n in tracked.stdout.splitlines() if not n.startswith(".")}
    assert wanted - packed == set()
