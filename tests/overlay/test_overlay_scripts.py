"""The build scripts in overlay/: run from end to end against stand-ins for the vendor's tools.

Nothing here proves that Vivado accepts a design. It proves that the scripts run, name files and
options that exist, and describe a design in which everything is connected, as far as the model in
block_design.py goes; and that a mistake in a script shows.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests import ROOT
from tests.overlay.block_design import BlockDesign
from tests.overlay.vendor import HERE, Run, needs_tcl, read_record, run_tcl, unknown_options
from zipml_pynq.accelerator.interface import BUNDLE_BITS, INTERFACES, VLNV
from zipml_pynq.devices.bitstreams import TARGETS, board_mk, kernel_name, kernel_xml, kernels_mk
from zipml_pynq.devices.design import (
    BASE_ADDRESS,
    INSTANCE,
    INTERRUPT_CONTROLLER,
    PROCESSING_SYSTEM,
    address,
    instance,
)

BUNDLES = {kernel_name(name): interface.bundles for name, interface in INTERFACES.items()}
KERNELS = [kernel_name(value_format) for value_format in VLNV]
#: With few and with all memory ports; the design scripts know no other difference.
FEWEST, MOST = "zipml_sgd", "zipml_sgd_refetch"
VIVADO = [slug for slug, target in TARGETS.items() if not target.platform]
BOARD_FILES = ["", "vendor:board:part0:1.0"]
pytestmark = needs_tcl


def design(
    overlay: Path,
    slug: str,
    folder: Path,
    kernel: str = FEWEST,
    units: int = 1,
    **settings: str,
) -> Run:
    """The design stage of a board."""
    target = TARGETS[slug]
    build = {
        "board": slug,
        "kernel": kernel,
        "units": str(units),
        "name": kernel,
        "part": target.part,
        "board_part": target.board_part,
        "clock_mhz": f"{target.board.clock / 1e6:g}",
        "bundles": " ".join(BUNDLES[kernel]),
        "ip": str(folder / "ip"),
        "out": str(folder),
        "jobs": "4",
        "board_repo": settings.pop("board_repo", ""),
    }
    arguments = ["design", *(word for pair in build.items() for word in pair)]
    return run_tcl(overlay / "common" / "vivado.tcl", arguments, folder, **settings)


def unpinned(block_design: BlockDesign, clock: float) -> list[str]:
    """What is wrong with the PLL that the clock is divided from, where no board files set it."""
    config = {k: v for c in block_design.config.values() for k, v in c.items()}
    pll = "PSU__CRL_APB__IOPLL_CTRL"
    if config.get(f"{pll}__SRCSEL") != "PSS_REF_CLK" or config.get(f"{pll}__DIV2") != "1":
        return ["the IO PLL is not pinned"]
    crystal = float(config.get("PSU__PSS_REF_CLK__FREQMHZ", "0"))
    made = crystal * 1e6 * int(config.get(f"{pll}__FBDIV", "0")) / 2
    ratio = made / clock
    if not ratio or abs(ratio - round(ratio)) > 1e-3 * ratio:
        return [f"an IO PLL of {made / 1e6} MHz does not divide to the clock"]
    if config.get("PSU__CRL_APB__PL0_REF_CTRL__SRCSEL") != "IOPLL":
        return ["the clock is not from the IO PLL"]
    return []


def problems(run: Run, slug: str, board_files: str = "") -> list[str]:
    """What is wrong with a run of the design stage and with the design that it made."""
    if run.failed or run.names.count("create_project") != 1:
        return [run.errors or "no project is made"]
    block_design = BlockDesign(run.commands, TARGETS[slug].board.word_bits)
    found = block_design.problems() + unknown_options(run.commands)
    target = TARGETS[slug]
    clocks = {"PCW_FPGA0_PERIPHERAL_FREQMHZ", "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ"}
    told = [v for c in block_design.config.values() for k, v in c.items() if k in clocks]
    if board_files and not block_design.presets:
        found.append("the settings of the board files are not applied")
    if told != [f"{target.board.clock / 1e6:g}"]:
        found.append(f"clocks are {told}")
    if not board_files and not target.part.startswith("xc7z"):
        found += unpinned(block_design, target.board.clock)
    if not run.all("get_board_parts") or f"-part {target.part}" not in str(run.commands[0]):
        found.append("neither board files nor the part are asked for")
    project = run.one("create_project").arguments[2]
    if not (Path(project).parent / "clock_mhz").is_file():
        found.append("the clock that was made is not written down")
    wanted = ["validate_bd_design", "save_bd_design", "generate_target", "make_wrapper"]
    if [name for name in run.names if name in wanted] != wanted:
        found.append("the stage does not end with files that can be synthesized")
    if not any("top" in c.arguments for c in run.all("set_property")):
        found.append("no top module is set")
    catalog = [c for c in run.commands if "ip_repo_paths" in c.arguments or "catalog" in c.name]
    if [c.name for c in catalog] != ["set_property", "update_ip_catalog"]:
        found.append("the kernel's IP is not in the catalog")
    board_part = [c.arguments[1] for c in run.all("set_property") if "board_part" in c.arguments]
    if board_part != [board_files] * bool(board_files):
        found.append(f"the board part is {board_part}")
    return found


# ---- Block designs -----------------------------------------------------------------------------


@pytest.mark.parametrize("slug", VIVADO)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("board_files", BOARD_FILES, ids=["no board files", "board files"])
def test_everything_is_connected(slug: str, kernel: str, board_files: str, tmp_path: Path) -> None:
    run = design(ROOT / "overlay", slug, tmp_path, kernel, VENDOR_BOARD_FILES=board_files)
    assert problems(run, slug, board_files) == []
    cells = [c.option("-vlnv") for c in run.all("create_bd_cell")]
    assert [vlnv for vlnv in cells if vlnv in VLNV.values()] == [f"zipml:hls:{kernel}:1.0"]
    assert ("without them" in run.output) == (board_files == "")


@pytest.mark.parametrize("slug", VIVADO)
@pytest.mark.parametrize("kernel", KERNELS)
def test_samples_have_memory_ports_of_a_words_width_to_themselves(
    slug: str, kernel: str, tmp_path: Path
) -> None:
    run = design(ROOT / "overlay", slug, tmp_path, kernel)
    made = BlockDesign(run.commands, TARGETS[slug].board.word_bits)
    ends = {bundle: made.ends(f"{INSTANCE}/m_axi_{bundle}") for bundle in BUNDLES[kernel]}
    wide = [bundle for bundle in ends if BUNDLE_BITS[bundle] is None]
    assert wide == ["gmem_planes"] + ["gmem_full"] * (kernel == MOST)
    for bundle in wide:
        (port,) = ends.pop(bundle)
        assert made.interfaces[port].bits == TARGETS[slug].board.word_bits
        assert all(end != [port] for end in ends.values())


def test_registers_are_where_the_emulated_board_has_them(tmp_path: Path) -> None:
    """The emulated design is of an UltraScale+; on a KV260 the driver sees the same."""
    run = design(ROOT / "overlay", "kv260", tmp_path)
    placed = {c.arguments[-1]: int(c.option("-offset"), 0) for c in run.all("assign_bd_address")}
    assert placed[f"{INSTANCE}/s_axi_control/Reg"] == BASE_ADDRESS
    controller = INTERRUPT_CONTROLLER
    assert placed[f"{controller}/S_AXI/Reg"] == address(1)
    cells = {c.arguments[-1] for c in run.all("create_bd_cell")}
    assert {INSTANCE, PROCESSING_SYSTEM, controller} <= cells


# ---- Several kernels ---------------------------------------------------------------------------


@pytest.mark.parametrize("slug", VIVADO)
def test_two_kernels_have_registers_ports_and_interrupts_of_their_own(
    slug: str, tmp_path: Path
) -> None:
    run = design(ROOT / "overlay", slug, tmp_path, units=2)
    assert problems(run, slug) == []
    made = BlockDesign(run.commands, TARGETS[slug].board.word_bits)
    assert made.kernels() == [instance(0), instance(1)]
    ends = [
        tuple(made.ends(f"{cell}/m_axi_{bundle}"))
        for cell in made.kernels()
        for bundle in ("gmem_planes", "gmem_vectors")
    ]
    assert len(set(ends)) == 4
    assert made.driver("xlconcat_0/In1") == f"{instance(1)}/interrupt"
    if slug == "kv260":  # as on the emulated board
        placed = {s.segment: s.offset for s in made.segments}
        assert placed[f"{instance(1)}/s_axi_control/Reg"] == address(1)
        assert placed[f"{INTERRUPT_CONTROLLER}/S_AXI/Reg"] == address(2)


def test_more_kernels_than_memory_ports_are_refused(tmp_path: Path) -> None:
    run = design(ROOT / "overlay", "kv260", tmp_path, MOST, units=2)
    assert run.failed
    assert f"UNITS was 2; each {MOST} takes 3 of the 4 memory ports" in run.errors


def test_two_kernels_in_a_bitstream_of_their_own(classic: Build) -> None:
    for units in ("1", "2"):
        run = classic.make("BOARD=kv260", f"UNITS={units}")
        assert run.returncode == 0, run.stderr
    commands = read_record(classic.record)
    # the kernel is made once
    assert [c.name for c in commands].count("export_design") == 1
    folder = classic.overlay / "kv260" / "build"
    for name in ("zipml_sgd", "zipml_sgd_x2"):
        stamp = json.loads((folder / f"{name}.json").read_text())
        assert sorted(stamp["md5"]) == [f"{name}.bit", f"{name}.hwh"]
        assert stamp["kernel"] == "zipml_sgd"


def test_each_kernel_of_an_alveo_has_a_memory_channel(classic: Build) -> None:
    run = classic.make("BOARD=u50", "UNITS=3")
    assert run.returncode == 0, run.stderr
    link = classic.calls.read_text().splitlines()[-1].split()
    names = ".".join(instance(i) for i in range(3))
    assert link[link.index("--connectivity.nk") + 1] == f"zipml_sgd:3:{names}"
    places = [place for option, place in itertools.pairwise(link) if option == "--connectivity.sp"]
    assert places == [
        f"{instance(i)}.m_axi_{bundle}:HBM[{i}]"
        for i in range(3)
        for bundle in BUNDLES["zipml_sgd"]
    ]
    assert (classic.overlay / "u50" / "build" / "zipml_sgd_x3.xclbin").is_file()


# ---- Mistakes ----------------------------------------------------------------------------------

SCRIPTS = {
    "pynq-z2": ("pynq-z2/ps.tcl", "common/vivado.tcl"),
    "kv260": ("common/design.tcl", "kv260/ps.tcl"),
}
#: Lines whose loss this model cannot see: they restate a default, set what only a board shows, or
#: refuse what a test of its own asks for.
HARMLESS = (
    "CONFIG.PCW_USE_M_AXI_GP1 0",
    "CONFIG.PSU__USE__M_AXI_GP0 1",
    "CONFIG.PSU__USE__M_AXI_GP2 0",
    "CONFIG.PCW_CRYSTAL_PERIPHERAL_FREQMHZ 50",
    "set_param board.repoPaths",
    'error "UNITS was',
    "puts ",
    "close ",
)


def removable_lines() -> Iterator[tuple[str, str, int, str]]:
    """Every line of the design scripts that can go without leaving a brace open."""
    for slug, scripts in SCRIPTS.items():
        for script in scripts:
            text = (ROOT / "overlay" / script).read_text()
            inside = text[: text.index("proc bitstream")] if "proc bitstream" in text else text
            for number, line in enumerate(inside.splitlines()):
                code = line.strip()
                if not code or code.startswith(("#", "}")) or any(h in code for h in HARMLESS):
                    continue
                if line.count("{") == line.count("}") and line.count("[") == line.count("]"):
                    yield slug, script, number, code.rstrip(" \\")


@pytest.fixture(scope="module")
def spoiled_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("spoiled")
    ignore = shutil.ignore_patterns("build", "__pycache__")
    return shutil.copytree(ROOT / "overlay", tree / "overlay", ignore=ignore)


@pytest.mark.parametrize(
    ("slug", "script", "number"),
    [pytest.param(*where[:3], id=f"{where[1]}: {where[3]}") for where in removable_lines()],
)
def test_a_removed_line_shows(
    slug: str, script: str, number: int, spoiled_tree: Path, tmp_path: Path
) -> None:
    path = spoiled_tree / script
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    try:
        path.write_text("".join(lines[:number] + lines[number + 1 :]))
        found = []
        for board_files, kernel in itertools.product(BOARD_FILES, (FEWEST, MOST)):
            run = design(spoiled_tree, slug, tmp_path, kernel, VENDOR_BOARD_FILES=board_files)
            found += problems(run, slug, board_files)
        if not found:
            found += problems(design(spoiled_tree, slug, tmp_path, units=2), slug)
    finally:
        path.write_text(text)
    assert found != []


CHANGES = [
    ("common/design.tcl", "$ps memory] $number", "$ps memory] 1"),
    ("common/design.tcl", "gmem_labels axi_vectors", "gmem_labels axi_planes"),
    ("common/design.tcl", "gmem_full axi_full", "gmem_full axi_vectors"),
    ("common/design.tcl", "gmem_full axi_full", "gmem_full axi_planes"),
    ("common/design.tcl", "gmem_full axi_full", "gmem_floats axi_full"),
    ("common/design.tcl", "[llength $bundles] 1", "3 1"),
    ("common/design.tcl", "/S0${slave}_AXI", "/S00_AXI"),
    ("common/design.tcl", "{$units + 1}", "{$units}"),
    ("common/design.tcl", "+ 0x10000", "+ 0x8000"),
    ("common/design.tcl", "zipml:hls:$kernel:1.0", "zipml:hls:$kernel:2.0"),
    ("common/design.tcl", "ip:axi_intc axi", "ip:axi_interrupts axi"),
    ("common/design.tcl", "$ps segments] $number", "$ps segments] 1"),
    ("common/design.tcl", "$interconnect/aresetn", "$interconnect/aclk"),
    ("common/design.tcl", "$cell/interrupt", "$cell/ap_clk"),
    ("common/design.tcl", "$ps reset] proc_sys", "$ps clock] proc_sys"),
    ("common/design.tcl", "assign_bd_address -offset", "assign_bd_address -at"),
    ("common/vivado.tcl", "-top -import", "-top -include"),
    ("common/vivado.tcl", "../$board/ps.tcl", "../$board/system.tcl"),
    ("common/vivado.tcl", "{$units * [dict size $paths]}", "2"),
    ("common/vivado.tcl", "{$units * [dict size $paths]}", "4"),
    ("pynq-z2/ps.tcl", "_DATA_WIDTH 64", "_DATA_WIDTH 32"),
    ("pynq-z2/ps.tcl", "{set i 0}", "{set i 1}"),
    ("pynq-z2/ps.tcl", "/HP${i}_DDR", "/HP0_DDR"),
    ("pynq-z2/ps.tcl", "base 0x40000000", "base 0xA0000000"),
    ("pynq-z2/ps.tcl", "FREQMHZ $clock_mhz", "FREQMHZ 50"),
    ("pynq-z2/ps.tcl", "FIXED_IO, DDR", "FIXED_IO"),
    ("pynq-z2/ps.tcl", "memory_range 512M", "memory_range 1G"),
    ("kv260/ps.tcl", "_DATA_WIDTH 128", "_DATA_WIDTH 64"),
    ("kv260/ps.tcl", "$i + 2", "$i + 3"),
    ("kv260/ps.tcl", "base 0xA0000000", "base 0x40000000"),
    ("kv260/ps.tcl", "memory_range 2G", "memory_range 4G"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "old", "new"), CHANGES, ids=[new for *_, new in CHANGES])
def test_a_changed_line_shows(
    script: str, old: str, new: str, spoiled_tree: Path, tmp_path: Path
) -> None:
    path = spoiled_tree / script
    text = path.read_text()
    assert text.count(old) == 1
    try:
        path.write_text(text.replace(old, new))
        slug = "kv260" if script.startswith("kv260") else "pynq-z2"
        found = problems(design(spoiled_tree, slug, tmp_path, MOST), slug)
    finally:
        path.write_text(text)
    assert found != []


# ---- The whole build ---------------------------------------------------------------------------


class Build:
    """``make`` in a copy of the tree, with stand-ins as the only tools on PATH."""

    def __init__(self, tree: Path, folder: Path, tools: tuple[str, ...]) -> None:
        self.overlay = tree / "overlay"
        self.calls = folder / "calls"
        self.record = folder / "record"
        (folder / "bin").mkdir()
        for tool in tools:
            (folder / "bin" / tool).symlink_to(HERE / "tool.sh")
        self.environment = {
            **os.environ,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "VENDOR_CALLS": str(self.calls),
            "VENDOR_RECORD": str(self.record),
        }

    def make(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "-C", str(self.overlay), *arguments],
            env={**self.environment, **settings},
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture
def classic(build_tree: Path, tmp_path: Path) -> Iterator[Build]:
    build = Build(build_tree, tmp_path, ("vivado", "vitis_hls", "v++", "vitis-run"))
    yield build
    for slug in TARGETS:
        shutil.rmtree(build.overlay / slug / "build", ignore_errors=True)


@pytest.mark.parametrize(("slug", "kernel"), [("pynq-z2", FEWEST), ("kv260", MOST)])
def test_from_kernel_to_bitstream(slug: str, kernel: str, classic: Build) -> None:
    run = classic.make(f"BOARD={slug}", f"KERNEL={kernel}")
    assert run.returncode == 0, run.stderr
    commands = read_record(classic.record)
    assert unknown_options(commands) == []
    names = [command.name for command in commands]
    order = ["export_design", "validate_bd_design", "launch_runs", "report_timing_summary"]
    assert [name for name in names if name in order] == order
    (launched,) = [c for c in commands if c.name == "launch_runs"]
    assert launched.option("-to_step") == "write_bitstream"
    (repository,) = [c for c in commands if "ip_repo_paths" in c.arguments]
    assert (Path(repository.arguments[1]) / "component.xml").is_file()
    placed = {c.option("-target_address_space") for c in commands if c.name == "assign_bd_address"}
    assert {f"{INSTANCE}/Data_m_axi_{bundle}" for bundle in BUNDLES[kernel]} < placed

    folder = classic.overlay / slug / "build"
    stamp = json.loads((folder / f"{kernel}.json").read_text())
    assert stamp["board"] == slug
    assert stamp["kernel"] == kernel
    assert stamp["word_bits"] == TARGETS[slug].board.word_bits
    assert stamp["clock_mhz"] * 1e6 == pytest.approx(TARGETS[slug].board.clock, rel=1e-5)
    nothing = hashlib.md5(b"").hexdigest()  # what the stand-ins write
    assert stamp["md5"] == {f"{kernel}.bit": nothing, f"{kernel}.hwh": nothing}
    reports = {Path(name).name for name in stamp["reports"]}
    assert reports == {"csynth.rpt", "timing.rpt", "utilization.rpt", "clocks.rpt"}
    assert all((folder / name).is_file() for name in stamp["reports"])

    again = classic.make(f"BOARD={slug}", f"KERNEL={kernel}")
    assert "Nothing to be done" in again.stdout


@pytest.mark.parametrize("kernel", KERNELS)
def test_from_kernel_to_alveo(kernel: str, classic: Build) -> None:
    run = classic.make("BOARD=u50", f"KERNEL={kernel}")
    assert run.returncode == 0, run.stderr
    commands = read_record(classic.record)
    assert unknown_options(commands) == []
    (package,) = [c for c in commands if c.name == "package_xo"]
    assert package.option("-kernel_name") == kernel
    xml = Path(package.option("-kernel_xml"))
    assert xml == classic.overlay / "u50" / f"{kernel}.xml"
    assert 'hwControlProtocol="ap_ctrl_hs"' in xml.read_text()
    assert (Path(package.option("-ip_directory")) / "component.xml").is_file()
    link = classic.calls.read_text().splitlines()[-1].split()
    assert link[0] == "v++"
    assert link[link.index("--platform") + 1] == TARGETS["u50"].platform
    assert link[link.index("--kernel_frequency") + 1] == "300"
    assert link[link.index("--connectivity.nk") + 1] == f"{kernel}:1:{INSTANCE}"
    assert link[-1] == package.option("-xo_path")
    # every port, and to one memory: pynq's XRT device allocates without a name only where one is in
    # use
    places = [place for option, place in itertools.pairwise(link) if option == "--connectivity.sp"]
    assert places == [f"{INSTANCE}.m_axi_{bundle}:HBM[0]" for bundle in BUNDLES[kernel]]
    stamp = json.loads((classic.overlay / "u50" / "build" / f"{kernel}.json").read_text())
    assert list(stamp["md5"]) == [f"{kernel}.xclbin"]


def test_the_unified_flow_takes_over(build_tree: Path, tmp_path: Path) -> None:
    build = Build(build_tree, tmp_path, ("vivado", "v++", "vitis-run"))
    run = build.make("BOARD=pynq-z2", "KERNEL=zipml_sgd_f32", "hls", "cosim", "csim")
    assert run.returncode == 0, run.stderr
    called = [re.sub(r" --config.*", "", line) for line in build.calls.read_text().splitlines()]
    compiled = "v++ -c --mode hls"
    hls = [compiled, "vitis-run --mode hls --package"]
    assert called == [
        *hls, compiled, "vitis-run --mode hls --cosim", "vitis-run --mode hls --csim",
    ]  # fmt: skip
    shutil.rmtree(build.overlay / "pynq-z2" / "build")


@pytest.mark.parametrize(
    ("settings", "unified"),
    [
        ({"VENDOR_VERSION": "2023.2"}, False),
        ({"VENDOR_VERSION": "2024.1"}, False),
        ({"VENDOR_VERSION": "2024.2"}, True),
        ({"VENDOR_VERSION": "2025.1"}, True),
        ({"VENDOR_VERSION": "2023.2", "VENDOR_BROKEN": "vitis_hls"}, True),
        ({"VENDOR_VERSION": "2024.2", "VENDOR_BROKEN": "vitis-run"}, False),
    ],
)
def test_the_flow_is_that_of_the_release(
    settings: dict[str, str], unified: bool, classic: Build
) -> None:
    """vitis_hls is still there in 2025.1, and deprecated; a launcher that fails is no tool."""
    run = classic.make("BOARD=pynq-z2", "hls", **settings)
    assert run.returncode == 0, run.stderr
    called = classic.calls.read_text()
    assert ("vitis-run --mode hls" in called) == unified
    assert ("vitis_hls -f" in called) != unified


def test_benches_of_the_classic_flow(classic: Build) -> None:
    assert classic.make("csim", "cosim").returncode == 0
    names = [c.name for c in read_record(classic.record) if c.name.endswith("_design")]
    assert names == ["csim_design", "csynth_design", "cosim_design"]


def test_the_stamp_has_the_clock_that_was_made(classic: Build) -> None:
    run = classic.make("BOARD=kv260", VENDOR_CLOCK="187.498")
    assert "WARNING: the kernel's clock is 187.498 MHz, not 250 MHz" in run.stdout
    stamp = json.loads((classic.overlay / "kv260" / "build" / "zipml_sgd.json").read_text())
    assert stamp["clock_mhz"] == 187.498


def test_a_clock_that_rounds_is_no_other_clock(classic: Build) -> None:
    """What the crystal of 33.333 MHz makes of 250 MHz."""
    run = classic.make("BOARD=kv260", VENDOR_CLOCK="249.997")
    assert run.returncode == 0, run.stderr
    assert "WARNING" not in run.stdout
    stamp = json.loads((classic.overlay / "kv260" / "build" / "zipml_sgd.json").read_text())
    assert stamp["clock_mhz"] == 249.997


@pytest.mark.parametrize("slug", VIVADO)
def test_the_clock_is_one_that_the_pll_divides_to(slug: str) -> None:
    """The IO PLL of public designs: 1500 MHz on the ZCU104, 1000 MHz on the others."""
    pll = 1500e6 if slug == "zcu104" else 1000e6
    assert (pll / TARGETS[slug].board.clock).is_integer()


def test_board_files_from_outside_are_looked_for(tmp_path: Path) -> None:
    run = design(ROOT / "overlay", "kv260", tmp_path, board_repo="/opt/boards")
    assert run.commands[0].name == "set_param"
    assert run.commands[0].arguments == ("board.repoPaths", "/opt/boards")
    assert "set_param" not in design(ROOT / "overlay", "kv260", tmp_path).names


def test_missed_timing_is_no_bitstream(classic: Build) -> None:
    run = classic.make("BOARD=pynq-z2", VENDOR_SLACK="-0.2")
    assert run.returncode != 0
    assert "timing is not met: WNS is -0.2 ns" in run.stderr
    assert not (classic.overlay / "pynq-z2" / "build" / "zipml_sgd.bit").exists()


@pytest.mark.parametrize("version", ["2022.2", "2023.1.1"])
def test_old_tools_are_refused(version: str, classic: Build) -> None:
    run = classic.make("BOARD=kv260", VENDOR_VERSION=version)
    assert run.returncode != 0
    assert f"vitis_hls is of release {version}; 2023.2 or later is needed" in run.stderr
    assert not classic.calls.exists()


@pytest.mark.parametrize("version", ["2023.2", "2023.2.1", "2024.1", "2025.2"])
def test_newer_tools_are_taken(version: str, classic: Build) -> None:
    assert classic.make("BOARD=kv260", "hls", VENDOR_VERSION=version).returncode == 0


@pytest.mark.skipif(shutil.which("vivado") is not None, reason="the vendor's tools are here")
def test_missing_tools_are_named(build_tree: Path, tmp_path: Path) -> None:
    run = Build(build_tree, tmp_path, ("v++", "vitis-run")).make("BOARD=kv260", "design")
    assert "vivado is not on PATH" in run.stderr
    shutil.rmtree(build_tree / "overlay" / "kv260" / "build")


@pytest.mark.parametrize(
    ("setting", "allowed"), [("BOARD=zcu102", "kv260"), ("KERNEL=sgd", "f32"), ("UNITS=0", "1 2 3")]
)
def test_unknown_settings_are_refused(setting: str, allowed: str, classic: Build) -> None:
    run = classic.make(setting)
    assert run.returncode != 0
    assert "allowed are" in run.stderr
    assert allowed in run.stderr


# ---- Board files and links ---------------------------------------------------------------------


@pytest.mark.parametrize("slug", TARGETS)
def test_board_files_are_current(slug: str) -> None:
    """Word width and clock have their home in training.schedule, the rest in bitstreams."""
    assert (ROOT / "overlay" / slug / "board.mk").read_text() == board_mk(slug)


@pytest.mark.parametrize("value_format", VLNV)
def test_kernel_xml_is_the_register_description(value_format: str) -> None:
    """Ports and arguments for v++: what the driver reads and writes, where it does."""
    kernel = kernel_name(value_format)
    text = (ROOT / "overlay" / "u50" / f"{kernel}.xml").read_text()
    root = ElementTree.fromstring(text.encode())
    (described,) = root.iter("kernel")
    assert described.get("name") == kernel
    assert described.get("hwControlProtocol") == "ap_ctrl_hs"
    ports = {port.get("name"): port for port in root.iter("port")}
    assert set(ports) == {"s_axi_control"} | {f"m_axi_{b}" for b in BUNDLES[kernel]}
    assert ports["m_axi_gmem_planes"].get("dataWidth") == "512"
    assert ports["m_axi_gmem_labels"].get("dataWidth") == "32"
    interface = INTERFACES[value_format]
    found = list(root.iter("arg"))
    assert [arg.get("name") for arg in found] == list(interface.offsets)
    assert [int(arg.get("id", "")) for arg in found] == list(range(len(found)))
    for arg, argument in zip(found, interface.arguments, strict=True):
        pointer = argument.kind == "pointer"
        assert int(arg.get("offset", ""), 0) == interface.offsets[argument.name]
        assert int(arg.get("size", ""), 0) == int(arg.get("hostSize", ""), 0) == argument.bits // 8
        assert arg.get("addressQualifier") == str(int(pointer))
        assert arg.get("port") == (f"m_axi_{argument.bundle}" if pointer else "s_axi_control")
    assert interface.span <= int(ports["s_axi_control"].get("range", ""), 0)
    assert text == kernel_xml(value_format, TARGETS["u50"].board.word_bits)


def test_kernels_are_current() -> None:
    """Their memory ports have their home in zipml_pynq.interface."""
    assert (ROOT / "overlay" / "kernels.mk").read_text() == kernels_mk()


def test_every_folder_is_a_target() -> None:
    folders = {path.parent.name for path in ROOT.glob("overlay/*/board.mk")}
    assert folders == set(TARGETS)
    text = (ROOT / "overlay" / "kernels.mk").read_text()
    told = dict(re.findall(r"^(\S+) := (.*)$", text, flags=re.MULTILINE))
    assert told.pop("KERNELS").split() == KERNELS
    assert told == {f"BUNDLES-{kernel}": " ".join(BUNDLES[kernel]) for kernel in KERNELS}
