"""Fixtures that several test modules share."""

import os
import shutil
import warnings
from contextlib import suppress
from importlib.util import find_spec

import pytest

with warnings.catch_warnings(), suppress(ModuleNotFoundError):
    # pynq tells about every processor that is not a board's
    warnings.simplefilter("ignore")
    import pynq  # noqa: F401

from tests import ROOT

collect_ignore_glob = []
if find_spec("sklearn") is None:
    # as on a board
    collect_ignore_glob += ["devices/test_several_kernels.py"]
if find_spec("pynq") is None:
    # without pynq: modules about devices are left out, and tests that turn out to need one skipped
    collect_ignore_glob += [
        "devices/*",
        *(f"accelerator/test_{n}.py" for n in ("buffers", "loaded", "power")),
    ]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(item, call):
        report = (yield).get_result()
        error = call.excinfo and call.excinfo.value
        if isinstance(error, ImportError) and error.name == "pynq":
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1], "needs pynq")


@pytest.fixture
def board():
    """Make emulated boards; at the end, all their memory must have been given back."""
    pytest.importorskip("pynq")
    from zipml_pynq.devices.emulated import EmulatedDevice
    from zipml_pynq.devices.overlay import load_overlay

    made = []

    def make(memory_bytes=1 << 22, **options):
        device = EmulatedDevice(memory_bytes=memory_bytes, **options)
        # memory is not zero on a board either: whatever reads what nobody wrote shows
        device.memory[:] = 0xA5
        made.append(device)
        return load_overlay("emulated", device=device)

    yield make
    for device in made:
        assert device.free_bytes == device.memory_bytes


@pytest.fixture
def full_disk(monkeypatch):
    """Let no file reach the disk."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)


@pytest.fixture(scope="session")
def build_tree(tmp_path_factory):
    """A copy of what the build scripts need, so that nothing is built in the sources."""
    copy = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("build", "__pycache__")
    for folder in ("hls", "overlay"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    return copy
