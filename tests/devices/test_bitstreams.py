"""Bitstreams are found by board; until somebody has built them, the error says how."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import pytest

from tests import ROOT
from zipml_pynq import _engine, load_overlay
from zipml_pynq.accelerator.interface import VLNV
from zipml_pynq.devices import bitstreams
from zipml_pynq.devices.bitstreams import TARGETS, find, kernel_name, target_name
from zipml_pynq.errors import ArgumentError, DeviceError, OverlayMismatchError, OverlayNotBuiltError
from zipml_pynq.training.schedule import BOARDS


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """An overlay folder and a package without bitstreams."""
    folders = {"overlay": tmp_path / "overlay", "packaged": tmp_path / "packaged"}
    for name, folder in folders.items():
        folder.mkdir()
        monkeypatch.setattr(bitstreams, name.upper(), folder)
    return folders


def build(folder: Path, *names: str) -> Path:
    """Files as a build leaves them, with their stamp; returns the first."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name in names:
        (folder / name).write_bytes(name.encode())
        sums[name] = hashlib.md5(name.encode()).hexdigest()
    first = folder / names[0]
    first.with_suffix(".json").write_text(json.dumps({"git": "1234abcd", "md5": sums}))
    return first


def test_boards_are_those_of_the_schedule() -> None:
    assert [target.board for target in TARGETS.values()] == list(BOARDS.values())


@pytest.mark.parametrize("slug", TARGETS)
def test_boards_are_found_by_every_name(slug: str) -> None:
    target = TARGETS[slug]
    for name in (slug, target.board.name, slug.upper(), *target.devices):
        assert target_name(name) == slug
    assert target_name(f"{slug}.bit") is None


@pytest.mark.parametrize("slug", TARGETS)
@pytest.mark.parametrize("value_format", VLNV)
@pytest.mark.usefixtures("places")
def test_without_a_build_the_error_says_how(slug: str, value_format: str) -> None:
    with pytest.raises(OverlayNotBuiltError) as error:
        find(slug, value_format)
    command = f"make -C overlay BOARD={slug} KERNEL={kernel_name(value_format)}"
    assert command in str(error.value)
    assert isinstance(error.value, DeviceError | FileNotFoundError)
    assert (ROOT / "docs" / "boards.md").is_file()
    dry = subprocess.run([*command.split(), "-n"], cwd=ROOT, capture_output=True, text=True)
    assert dry.returncode == 0, dry.stderr


@pytest.mark.usefixtures("places")
def test_loading_a_board_says_so_too() -> None:
    with pytest.raises(OverlayNotBuiltError, match="BOARD=pynq-z2 KERNEL=zipml_sgd_levels"):
        load_overlay("Pynq-Z2", value_format="levels")
    with pytest.raises(ArgumentError, match="value_format was 'float16'"):
        load_overlay("kv260", value_format="float16")


def test_loading_a_board_loads_what_was_built(
    monkeypatch: pytest.MonkeyPatch, places: dict[str, Path]
) -> None:
    first = build(places["overlay"] / "kv260" / "build", "zipml_sgd.bit", "zipml_sgd.hwh")
    loaded = []

    class Stop(Exception):
        pass

    def overlay(path: str, device: object) -> None:
        loaded.append(path)
        raise Stop

    monkeypatch.setattr("zipml_pynq.devices.overlay._downloaded", overlay)
    with pytest.raises(Stop):
        load_overlay("kv260")
    assert loaded == [str(first)]
    with pytest.raises(ArgumentError, match="word_bits"):
        load_overlay("kv260", word_bits=64)


def test_what_was_built_here_comes_first(places: dict[str, Path]) -> None:
    names = ("zipml_sgd_f32.bit", "zipml_sgd_f32.hwh")
    shipped = build(places["packaged"] / "pynq-z2", *names)
    assert find("pynq-z2", "float32") == shipped
    built = build(places["overlay"] / "pynq-z2" / "build", *names)
    assert find("pynq-z2", "float32") == built
    (built.with_suffix(".hwh")).unlink()  # a bitstream without it is of no use
    assert find("pynq-z2", "float32") == shipped


def test_an_xclbin_is_enough_for_alveo(places: dict[str, Path]) -> None:
    built = build(places["overlay"] / "u50" / "build", "zipml_sgd.xclbin")
    assert find("u50") == built


def test_files_of_two_builds_are_refused(places: dict[str, Path]) -> None:
    built = build(places["overlay"] / "kv260" / "build", "zipml_sgd.bit", "zipml_sgd.hwh")
    built.with_suffix(".hwh").write_text("of another build")
    with pytest.raises(OverlayMismatchError, match=r"zipml_sgd\.hwh is not the file"):
        find("kv260")


def test_a_folder_serves_every_kernel_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build(tmp_path, "zipml_sgd.bit", "zipml_sgd.hwh")
    levels = build(tmp_path, "zipml_sgd_levels.bit", "zipml_sgd_levels.hwh")
    (tmp_path / "zipml_sgd_f32.bit").touch()  # without its .hwh
    loaded = []
    module = "zipml_pynq.devices.overlay"
    monkeypatch.setattr(f"{module}._downloaded", lambda path, device: loaded.append(path) or Mock())
    monkeypatch.setattr(f"{module}.settled", lambda path, device: None)
    monkeypatch.setattr(f"{module}.find_drivers", lambda overlay: (Mock(),))
    load_overlay(str(tmp_path))
    load_overlay(str(tmp_path), value_format="levels")
    assert loaded == [str(tmp_path / "zipml_sgd.bit"), str(levels)]
    with pytest.raises(OverlayNotBuiltError, match=r"KERNEL=zipml_sgd_f32"):
        load_overlay(str(tmp_path), value_format="float32")
    with pytest.raises(ArgumentError, match="value_format was 'float16'"):
        load_overlay(str(tmp_path), value_format="float16")
    with pytest.raises(ArgumentError, match="word_bits goes with 'emulated'"):
        load_overlay(str(tmp_path), word_bits=64)
    levels.with_suffix(".hwh").write_text("of another build")
    with pytest.raises(OverlayMismatchError, match=r"zipml_sgd_levels\.hwh is not the file"):
        load_overlay(str(tmp_path), value_format="levels")


def test_unknown_boards_are_refused() -> None:
    with pytest.raises(ArgumentError, match="board was 'zcu102'"):
        find("zcu102")


# ---- Link files --------------------------------------------------------------------------------


def build_script(name: str) -> ModuleType:
    """A module of overlay/common, which is no part of the package."""
    path = ROOT / "overlay" / "common" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def linked(places: dict[str, Path], tmp_path: Path) -> Path:
    """A build that is on the web, here in a folder, and named by link files; returns the folder."""
    web = tmp_path / "web"
    built = build(web, "zipml_sgd.bit", "zipml_sgd.hwh")
    device = TARGETS["pynq-z2"].devices[0]
    build_script("link").add(built.with_suffix(".json"), device, web.as_uri(), places["packaged"])
    return web


def test_links_are_followed_by_board_and_md5(linked: Path, places: dict[str, Path]) -> None:
    found = find("pynq-z2")
    assert found.read_bytes() == b"zipml_sgd.bit"
    assert found.with_suffix(".hwh").read_bytes() == b"zipml_sgd.hwh"
    assert found.is_relative_to(places["packaged"])
    shutil.rmtree(linked)  # fetched once
    assert find("pynq-z2") == found
    with pytest.raises(OverlayNotBuiltError):
        find("kv260")


def test_what_is_not_what_the_link_says_is_not_kept(linked: Path, places: dict[str, Path]) -> None:
    (linked / "zipml_sgd.hwh").write_text("something else")
    with pytest.raises(OverlayMismatchError, match="was expected"):
        find("pynq-z2")
    assert not (places["packaged"] / "pynq-z2" / "zipml_sgd.hwh").exists()


def test_pynqutils_reads_our_links(linked: Path, places: dict[str, Path]) -> None:
    """The tool that installs overlays for other projects finds the same by the board's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses pkg_resources
        from pynqutils.setup_utils.deliver_notebooks import _find_remote_overlay_res
    for suffix in (".bit", ".hwh"):
        link = places["packaged"] / f"zipml_sgd{suffix}.link"
        entry = _find_remote_overlay_res("Pynq-Z2", str(link))
        assert (entry["url"], entry["md5sum"]) == bitstreams.linked(link, "pynq-z2")


def test_stamps_have_the_id_of_the_sources() -> None:
    run = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode != 0 or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert build_script("stamp").git_id().removesuffix("-dirty") == run.stdout.strip()


def test_uncommitted_sources_are_not_linked(tmp_path: Path) -> None:
    stamp = tmp_path / "zipml_sgd.json"
    stamp.write_text(json.dumps({"git": "1234abcd-dirty", "md5": {"zipml_sgd.bit": "0"}}))
    with pytest.raises(SystemExit, match="never committed"):
        build_script("link").add(stamp, "Pynq-Z2", "file:///", tmp_path)


def test_nothing_is_shipped_that_nobody_built() -> None:
    assert [path.name for path in bitstreams.PACKAGED.glob("*.link")] == []


# ---- Notebooks ---------------------------------------------------------------------------------


def test_pynq_delivers_our_notebooks(tmp_path: Path) -> None:
    """Installed, the notebooks are found by the entry point, by pynq's own manager."""
    source, target = tmp_path / "source", tmp_path / "installed"
    ignore = shutil.ignore_patterns("build", "__pycache__", "*.so", "*.egg-info", ".*")
    for folder in ("zipml_pynq", "notebooks", "sw_emu"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source / name)
    setup = (  # nothing is compiled for this
        "import runpy, setuptools; setup = setuptools.setup\n"
        "setuptools.setup = lambda cffi_modules, **told: setup(**told)\n"
        "runpy.run_path('setup.py')"
    )
    arguments = ["-q", "build_py", "-d", str(target), "egg_info", "-e", str(target)]
    subprocess.run([sys.executable, "-c", setup, *arguments], cwd=source, check=True)
    shutil.copy(_engine.__file__, target / "zipml_pynq")  # compiled before
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from importlib.metadata import entry_points\n"
        "from pynqutils.setup_utils import ExtensionsManager, deliver_notebooks\n"
        "assert 'zipml_pynq.notebooks' in {p.value for p in entry_points(group='pynq.notebooks')}\n"
        "found = [e for e in ExtensionsManager('pynq.notebooks').list if e.name == 'zipml-pynq']\n"
        "path = ExtensionsManager.extension_path(found[0].module_name)\n"
        f"deliver_notebooks('Pynq-Z2', path, {str(tmp_path)!r}, found[0].name, folder=True)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=target, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    delivered = {path.name for path in (tmp_path / "zipml-pynq").iterdir()}
    assert delivered == {path.name for path in ROOT.glob("notebooks/*.ipynb")}


# ---- Room --------------------------------------------------------------------------------------


def test_text_on_room_follows_the_count() -> None:
    script = runpy.run_path(str(ROOT / "studies" / "room.py"))
    text = (ROOT / "docs" / "boards.md").read_text()
    # the text has what is left of the tightest boards
    boards = " ".join(text.split())
    kept = 144 - script["block_rams"](128, "levels", script["LARGE"])
    assert f"On the KV260 `zipml_sgd_levels` leaves {kept:g} block RAMs" in boards
    left = {f: f"{140 - script['block_rams'](64, f):g}" for f in VLNV}
    told = "`zipml_sgd_levels` leaves {levels} block RAMs and `zipml_sgd_f32` leaves {float32}"
    assert told.format(**left) in boards


def test_text_on_several_kernels_follows_the_count() -> None:
    """What ends first is what there is least of, and one more kernel would not fit."""
    script = runpy.run_path(str(ROOT / "studies" / "room.py"))
    for slug, value_format in itertools.product(script["DEVICES"], VLNV):
        count, scarce = script["kernels_that_fit"](slug, value_format)
        needs = script["needs"](slug, value_format)
        assert all(count * used <= of for used, of in needs.values())
        if scarce == "memory ports":
            assert count == script["memory_ports"](slug, value_format)
        else:
            used, of = needs[scarce]
            assert (count + 1) * used > of
        # docs/boards.md, "Several kernels"
        two = slug == "kv260" and value_format == "float32"
        assert (count == 1) == (slug in ("pynq-z2", "kv260") and not two) or (
            slug == "zcu104" and value_format == "refetch"
        )
    assert script["kernels_that_fit"]("zcu104", "bitplanes") == (2, "memory ports")


def test_kernel_document_counts_the_same_memory() -> None:
    """docs/kernel.md has two kernels, counted by hand."""
    script = runpy.run_path(str(ROOT / "studies" / "room.py"))
    text = (ROOT / "docs" / "kernel.md").read_text()
    assert f"\n{script['block_rams'](64, 'bitplanes'):g} of 140" in text
    assert f"\n{script['block_rams'](64, 'levels'):g} of 140" in text


def test_every_kernel_fits_by_count() -> None:
    """Block RAMs alone, or with the device's UltraRAM; AXI adapters come on top."""
    script = runpy.run_path(str(ROOT / "studies" / "room.py"))
    devices = {TARGETS[slug].part for slug in script["DEVICES"]}
    assert devices == {target.part for target in TARGETS.values()}
    for slug, (block_count, ultra_count) in script["DEVICES"].items():
        assert TARGETS[slug].ultra_ram == (ultra_count != 0)
        without = script["LARGE"] if ultra_count else ()
        for value_format in VLNV:
            word_bits = TARGETS[slug].board.word_bits
            assert script["block_rams"](word_bits, value_format, without) <= block_count
            assert script["ultra_rams"](word_bits, value_format, without) <= ultra_count


def test_rules_of_logic_give_known_costs() -> None:
    """Products by their parts, and the parts of a kernel that its document names."""
    script = runpy.run_path(str(ROOT / "studies" / "room.py"))
    assert set(script["LOGIC"]) == set(script["DEVICES"])
    for wide in (25, 27):
        found = [
            script["multiply"](*n, wide).dsps for n in [(16, 32), (16, 33), (32, 25), (32, 32)]
        ]
        assert found == [2, 2, 2, 4]
    # 32 additions of one bit, 16 of two, ..
    assert script["tree"](64, 0).luts == sum((64 >> k) * k for k in range(1, 7))
    parts = script["operations"](64, "levels", 25)
    assert parts["dot products"].dsps + parts["sums of the update"].dsps == 64 * 2


def test_text_on_logic_follows_the_count() -> None:
    script = runpy.run_path(str(ROOT / "studies" / "room.py"))
    boards = " ".join((ROOT / "docs" / "boards.md").read_text().split())
    assert f"more than {100 * script['TIGHT']:.0f} % of the device" in boards
    random_header = (ROOT / "hls" / "include" / "zipml" / "random.hpp").read_text()
    assert f"kDrawFeaturesLog2 = {script['DRAW_FEATURES_LOG2']};" in random_header
    for slug, (luts, ffs, dsps, _) in script["LOGIC"].items():
        for value_format in VLNV:
            cost = script["logic"](slug, value_format)
            assert cost.luts < luts
            assert cost.ffs < ffs
            assert cost.dsps < dsps
            if slug != "pynq-z2":
                assert cost.luts < script["TIGHT"] * luts
    luts, _, dsps, _ = script["LOGIC"]["pynq-z2"]
    counted = {f: script["logic"]("pynq-z2", f) for f in VLNV}
    told = (
        f"`zipml_sgd` has {100 * counted['bitplanes'].luts / luts:.0f} % of the LUTs there, "
        f"`zipml_sgd_refetch` {100 * counted['refetch'].luts / luts:.0f} %, "
        f"`zipml_sgd_levels` {100 * counted['levels'].dsps / dsps:.0f} % of the DSPs"
    )
    assert told in boards
    parts = script["operations"](64, "bitplanes", 25)
    steady = parts["dot products"].luts + parts["sums of the update"].luts
    share = 100 * steady / counted["bitplanes"].luts
    assert f"every cycle, are {share:.0f} % of the LUTs" in boards
    quantized = parts["rounding Q_m, Q_g"].luts + parts["random numbers"].luts
    assert f"would give {script['thousands'](quantized)} LUTs back" in boards
    end_to_end = " ".join((ROOT / "docs" / "end_to_end.md").read_text().split())
    rounding, draws = (
        f"{100 * parts[name].luts / counted['bitplanes'].luts:.0f} %"
        for name in ("rounding Q_m, Q_g", "random numbers")
    )
    assert f"rounding is {rounding} of the LUTs of `zipml_sgd` at W = 64" in end_to_end
    assert f"its generators {draws}" in end_to_end


def test_what_is_counted_in_ultra_ram_is_bound_there() -> None:
    trainer = (ROOT / "hls" / "src" / "stages" / "train_run.hpp").read_text()
    bound = re.findall(r"ZIPML_DEEP_MEMORY\((\w+)\)", trainer)
    assert bound == ["words", "block_labels", "block_weights", "ring"]
