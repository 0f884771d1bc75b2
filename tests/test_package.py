"""The package as an installation: imports and entry points."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from tests import ROOT


def python(code: str) -> str:
    """Output of ``code`` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_training_needs_no_pynq() -> None:
    """Everything but drivers and devices; those say what they need, and how it is installed."""
    code = """
import sys
sys.modules["pynq"] = sys.modules["grpc"] = None  # as if they were not there
import numpy as np, zipml_pynq
packed = zipml_pynq.pack(np.eye(9), np.arange(9.0), bits=2)
from zipml_pynq.accelerator.host import HostDriver
print(HostDriver().train(packed, epochs=2).history.shape)
print("load_overlay" in zipml_pynq.__all__)
for name in ("load_overlay", "SgdDriver", "EmulatedDevice"):
    try:
        getattr(zipml_pynq, name)
    except ImportError as error:
        print("pip install 'zipml_pynq[pynq]'" in str(error))
try:
    import zipml_pynq.devices.served.server
except ImportError as error:
    print("pip install 'zipml_pynq[pynq]'" in str(error))
"""
    assert python(code).split("\n") == ["(2, 10)", "False"] + ["True"] * 4


def test_estimators_and_command_need_no_pynq(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("click")
    rows = [(i % 7, i % 3) for i in range(50)]
    (tmp_path / "new.csv").write_text("".join(f"{a},{b}\n" for a, b in rows))
    (tmp_path / "rows.csv").write_text("".join(f"{a},{b},{a - b}\n" for a, b in rows))
    code = f"""
import os, sys
sys.modules["pynq"] = sys.modules["grpc"] = None
from zipml_pynq import ZipMLClassifier
os.chdir({str(tmp_path)!r})
from zipml_pynq.command_line.main import main
print(ZipMLClassifier(max_iter=3, tol=None).fit([[0.0], [1.0]] * 9, [0, 1] * 9).score([[0.0]], [0]))
for line in ("prepare rows.csv set --label 3", "train set model", "predict model new.csv",
             "devices", "bench --samples 64 --features 3 --epochs 1"):
    sys.stdout = open(os.devnull, "w")
    code = main(line.split())
    sys.stdout = sys.__stdout__
    print(code)
print(main(["train", "set", "model", "--device", "emulated"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1.0", "0", "0", "0", "0", "0", "1"], done.stderr
    assert "zipml: error: drivers and devices" in done.stderr


def test_names_are_what_they_say() -> None:
    """A submodule of the same name must not hide the function, whatever is imported first."""
    pytest.importorskip("pynq")
    code = (
        "import zipml_pynq.accelerator.driver, zipml_pynq.{0}; "
        "import zipml_pynq; print(zipml_pynq.pack)"
    )
    for module in ("data.pack", "devices.overlay", "training.plan"):
        assert python(code.format(module)).startswith("<function pack")
    assert python("import zipml_pynq as z; print([n for n in z.__all__ if not hasattr(z, n)])") == (
        "[]"
    )


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """What the setuptools that is here makes of the sources, as pip would install it."""
    copy = tmp_path_factory.mktemp("metadata")
    for name in ("setup.py", "pyproject.toml", "README.md", "sw_emu", "zipml_pynq", "notebooks"):
        source = ROOT / name
        ignore = shutil.ignore_patterns("*.so", "*.hwh", "__pycache__", "*.ipynb")
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignore)
        else:
            shutil.copy(source, copy / name)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info"], cwd=copy, check=True, capture_output=True
    )
    (folder,) = copy.glob("*.egg-info")
    assert folder.name == "zipml_pynq.egg-info"
    return PathDistribution(folder)


def test_every_setuptools_gets_the_metadata(metadata: Distribution) -> None:
    """Those of boards' images, too (59.6), which do not read pyproject.toml."""
    assert metadata.metadata["Name"].replace("-", "_") == "zipml_pynq"
    assert metadata.version == __import__("zipml_pynq").__version__
    assert metadata.metadata["Requires-Python"] == ">=3.10"
    points = {(point.group, point.value) for point in metadata.entry_points}
    assert ("console_scripts", "zipml_pynq.__main__:main") in points
    # pynq.Overlay imports the modules of this group before it binds drivers
    assert ("pynq.lib", "zipml_pynq.accelerator.driver") in points
    assert ("pynq.notebooks", "zipml_pynq.notebooks") in points
    listed = {str(path) for path in metadata.files or ()}
    assert "zipml_pynq/devices/served/server.py" in listed or not listed


def test_installing_it_pulls_what_a_board_has_room_for(metadata: Distribution) -> None:
    """Everything else is in an extra. grpcio comes with pynq; pycparser is pinned for pynq 3.1."""
    always, beside = set(), set()
    for line in metadata.requires or []:
        name = re.split(r"[<>=; ]", line)[0]
        if "extra ==" not in line:
            (beside if "sys_platform" in line else always).add(name)
    assert always == {"numpy", "scipy", "cffi", "safetensors"}
    assert beside == {"pynq", "numpy", "pycparser"}


@pytest.mark.parametrize(
    ("package", "image"), [("numpy", "1.21.5"), ("scipy", "1.8.0"), ("cffi", "1.15.0")]
)
def test_what_a_boards_image_brings_is_not_built_anew(
    metadata: Distribution, package: str, image: str
) -> None:
    """pynq's images of 3.x: no wheels of these are made for a PYNQ-Z2."""
    lines = [line for line in metadata.requires or [] if line.startswith(package)]
    floor = next(line for line in lines if ">=" in line).partition(">=")[2]
    numbers = [[int(part) for part in text.split(".")] for text in (floor, image)]
    assert numbers[0] <= numbers[1]


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
