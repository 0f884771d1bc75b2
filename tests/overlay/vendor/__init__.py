"""Stand-ins for the vendor's tools, and the record that they leave.

``commands.tcl`` has the Tcl commands and ``tool.sh`` the programs; both note what they are called
with. A script is run by a real Tcl interpreter, so that what is judged is what the tool would see.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="no Tcl interpreter here")

# Options of the vendor's commands that the scripts may use (UG835 and UG1399, 2023.2).
OPTIONS: dict[str, set[str]] = {
    # vitis_hls
    "open_project": {"-reset"},
    "set_top": set(),
    "add_files": {"-tb", "-cflags"},
    "open_solution": {"-reset", "-flow_target"},
    "set_part": set(),
    "create_clock": {"-period", "-name"},
    "set_clock_uncertainty": set(),
    "config_interface": {"-m_axi_addr64", "-m_axi_latency", "-m_axi_max_widen_bitwidth"},
    "csim_design": set(),
    "csynth_design": set(),
    "cosim_design": set(),
    "export_design": {"-format", "-vendor", "-library", "-ipname", "-version"},
    # vivado
    "create_project": {"-force", "-part"},
    "get_board_parts": {"-quiet", "-latest_file_version"},
    "set_property": {"-dict"},
    "update_ip_catalog": set(),
    "create_bd_design": set(),
    "create_bd_cell": {"-type", "-vlnv"},
    "apply_bd_automation": {"-rule", "-config"},
    "connect_bd_net": set(),
    "connect_bd_intf_net": set(),
    "assign_bd_address": {"-offset", "-range", "-force", "-target_address_space"},
    "exclude_bd_addr_seg": {"-target_address_space"},
    "set_param": set(),
    "validate_bd_design": set(),
    "save_bd_design": set(),
    "generate_target": set(),
    "make_wrapper": {"-files", "-top", "-import"},
    "reset_run": set(),
    "launch_runs": {"-to_step", "-jobs"},
    "wait_on_run": set(),
    "open_run": set(),
    "report_timing_summary": {"-file"},
    "report_utilization": {"-hierarchical", "-hierarchical_depth", "-file"},
    "report_clocks": {"-file"},
    "package_xo": {"-force", "-kernel_name", "-ip_directory", "-kernel_xml", "-xo_path"},
}


@dataclass(frozen=True)
class Command:
    """One recorded command."""

    name: str
    arguments: tuple[str, ...]

    def option(self, name: str) -> str:
        """The value behind an option."""
        return self.arguments[self.arguments.index(name) + 1]

    def __str__(self) -> str:
        return " ".join([self.name, *self.arguments])


@dataclass(frozen=True)
class Run:
    """What a script did: its commands, and how it ended."""

    commands: tuple[Command, ...]
    failed: bool
    output: str
    errors: str

    def all(self, name: str) -> list[Command]:
        """The commands of one name."""
        return [command for command in self.commands if command.name == name]

    def one(self, name: str) -> Command:
        """The only command of that name."""
        (command,) = self.all(name)
        return command

    @property
    def names(self) -> list[str]:
        """Names of the commands in order."""
        return [command.name for command in self.commands]


def split_list(text: str) -> list[str]:
    """Elements of a Tcl list."""
    elements: list[str] = []
    i = 0
    while i < len(text):
        if text[i].isspace():
            i += 1
        elif text[i] == "{":
            depth, start = 0, i
            while True:
                depth += {"{": 1, "}": -1}.get(text[i], 0)
                i += 1
                if depth == 0:
                    break
            elements.append(text[start + 1 : i - 1])
        else:
            start = i
            while i < len(text) and not text[i].isspace():
                i += 2 if text[i] == "\\" else 1
            elements.append(text[start:i].replace("\\", ""))
    return elements


def read_record(path: Path) -> tuple[Command, ...]:
    """The commands in a record."""
    lines = path.read_text().splitlines() if path.is_file() else []
    parsed = (split_list(line) for line in lines)
    return tuple(Command(name, tuple(arguments)) for name, *arguments in parsed)


def run_tcl(script: Path, arguments: Iterable[str], folder: Path, **settings: str) -> Run:
    """Run a script of the vendor's tools in ``folder``."""
    record = folder / "record"
    record.unlink(missing_ok=True)
    run = subprocess.run(
        ["tclsh", str(HERE / "commands.tcl"), str(script), *arguments],
        cwd=folder,
        env={**os.environ, "VENDOR_RECORD": str(record), **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Run(read_record(record), run.returncode != 0, run.stdout, run.stderr)


def unknown_options(commands: Iterable[Command]) -> list[str]:
    """Options that the documentation does not have."""
    return [
        f"{command.name} {argument}"
        for command in commands
        for argument in command.arguments
        if argument.startswith("-") and " " not in argument
        if argument not in OPTIONS[command.name]
    ]
