"""What vitis_hls and v++ are told about the kernels: hls/run_hls.tcl and hls/hls_config.cfg."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests import ROOT
from tests.overlay.vendor import Run, needs_tcl, run_tcl, unknown_options
from zipml_pynq.accelerator.interface import VLNV
from zipml_pynq.devices.bitstreams import TARGETS, kernel_name

SCRIPT = ROOT / "hls" / "run_hls.tcl"
STAGES = ["csim", "csynth", "cosim", "export"]
KERNELS = [kernel_name(value_format) for value_format in VLNV]
EVERY = [(kernel, slug) for kernel in KERNELS for slug in TARGETS]
BENCH_FLAGS = {
    "zipml_sgd_f32": "-DZIPML_BENCH_FLOAT",
    "zipml_sgd_levels": "-DZIPML_BENCH_LEVELS",
    "zipml_sgd_refetch": "-DZIPML_BENCH_REFETCH",
    "zipml_sgd_wide": "-DZIPML_BENCH_WIDE",
}


def run_hls(kernel: str, slug: str, folder: Path) -> Run:
    """All stages for a board, with the options that vitis_hls hands on in front."""
    target = TARGETS[slug]
    period = f"{1e9 / target.board.clock:.3f}"
    ultra_ram = str(int(target.ultra_ram))
    arguments = [kernel, str(target.board.word_bits), target.part, period, ultra_ram, *STAGES]
    return run_tcl(SCRIPT, ["-f", "run_hls.tcl", "-tclargs", *arguments], folder)


@needs_tcl
@pytest.mark.parametrize(("kernel", "slug"), EVERY)
def test_script_builds_every_kernel_for_every_board(kernel: str, slug: str, tmp_path: Path) -> None:
    run = run_hls(kernel, slug, tmp_path)
    assert not run.failed, run.errors
    assert run.names[-4:] == ["csim_design", "csynth_design", "cosim_design", "export_design"]
    assert unknown_options(run.commands) == []
    assert run.one("set_top").arguments == (kernel,)
    assert run.one("set_part").arguments == (TARGETS[slug].part,)
    source, bench = run.all("add_files")
    for command in (source, bench):
        flags = shlex.split(command.option("-cflags"))
        assert f"-DZIPML_WORD_BITS={TARGETS[slug].board.word_bits}" in flags
        assert f"-DZIPML_CLOCK_MHZ={int(TARGETS[slug].board.clock / 1e6)}" in flags
        assert f"-DZIPML_ULTRA_RAM={TARGETS[slug].ultra_ram:d}" in flags
        assert all(Path(flag[2:]).is_dir() for flag in flags if flag.startswith("-I"))
        bench_flags = {flag for flag in flags if flag in BENCH_FLAGS.values()}
        assert bench_flags == ({BENCH_FLAGS.get(kernel)} - {None} if command is bench else set())
    text = (Path(bench.arguments[1]).parent / "bench.hpp").read_text()
    assert all(flag.removeprefix("-D") in text for flag in BENCH_FLAGS.values())
    assert f"void {kernel}(" in Path(source.arguments[0]).read_text()
    assert Path(bench.arguments[1]).is_file()
    export = run.one("export_design")
    vlnv = ":".join(export.option(f"-{key}") for key in ("vendor", "library", "ipname", "version"))
    assert vlnv in VLNV.values()
    assert export.option("-ipname") == kernel


@needs_tcl
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zipml_sgd", "64", "part", "10", "0"], "usage"),
        (["zipml", "64", "part", "10", "0", "csim"], "TOP was 'zipml'"),
        (["zipml_sgd", "32", "part", "10", "0", "csim"], "WORD_BITS was '32'"),
        (["zipml_sgd", "64", "part", "10", "csim", "csynth"], "ULTRA_RAM was 'csim'"),
        (["zipml_sgd", "64", "part", "10", "0", "sim"], "STAGE was 'sim'"),
    ],
)
def test_script_refuses(arguments: list[str], message: str, tmp_path: Path) -> None:
    run = run_tcl(SCRIPT, ["-tclargs", *arguments], tmp_path)
    assert run.failed
    assert message in run.errors
    assert run.commands == ()


# ---- Configuration of the unified flow ---------------------------------------------------------


def settings_of(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.]+)=(.*)$", text, flags=re.MULTILINE))


def told_by_tcl(run: Run) -> dict[str, str]:
    """The settings that the Tcl script makes, by their names in a configuration."""
    source, bench = run.all("add_files")
    interface, export = run.one("config_interface"), run.one("export_design")
    return {
        "part": run.one("set_part").arguments[0],
        "flow_target": run.one("open_solution").option("-flow_target"),
        "clock": run.one("create_clock").option("-period") + "ns",
        "clock_uncertainty": run.one("set_clock_uncertainty").arguments[0],
        "syn.top": run.one("set_top").arguments[0],
        "syn.file": source.arguments[0],
        "syn.cflags": source.option("-cflags"),
        "syn.interface.m_axi_addr64": str(int("-m_axi_addr64" in interface.arguments)),
        "syn.interface.m_axi_latency": interface.option("-m_axi_latency"),
        "syn.interface.m_axi_max_widen_bitwidth": interface.option("-m_axi_max_widen_bitwidth"),
        "tb.file": bench.arguments[1],
        "tb.cflags": bench.option("-cflags"),
        "package.output.format": export.option("-format"),
        "package.ip.vendor": export.option("-vendor"),
        "package.ip.library": export.option("-library"),
        "package.ip.name": export.option("-ipname"),
        "package.ip.version": export.option("-version"),
    }


@needs_tcl
@pytest.mark.parametrize(("kernel", "slug"), EVERY)
def test_both_flows_are_told_the_same(
    kernel: str, slug: str, build_tree: Path, tmp_path: Path
) -> None:
    make = ["make", "-s", "-C", str(build_tree / "overlay"), f"BOARD={slug}", f"KERNEL={kernel}"]
    subprocess.run([*make, "hls-config"], check=True, capture_output=True)
    text = (build_tree / "overlay" / slug / "build" / kernel / "hls_config.cfg").read_text()
    configured = settings_of(text.replace(str(build_tree), str(ROOT)))
    del configured["package.ip.display_name"]
    told = told_by_tcl(run_hls(kernel, slug, tmp_path))
    tidy = {key: " ".join(value.split()) for key, value in configured.items()}
    assert tidy == told


def test_configuration_in_the_sources_is_the_default_build() -> None:
    settings = settings_of((ROOT / "hls" / "hls_config.cfg").read_text())
    for key in ("syn.file", "tb.file"):
        assert (ROOT / "hls" / settings[key]).is_file()
    assert settings["syn.top"] == settings["package.ip.name"] == "zipml_sgd"
    assert settings["part"] == TARGETS["pynq-z2"].part
    assert settings["clock"] == f"{1e9 / TARGETS['pynq-z2'].board.clock:g}ns"
