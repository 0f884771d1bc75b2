"""The rooms of the package, the arrows between them, and the length of files and functions."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lizard
import pytest

from tests import ROOT

PACKAGE = ROOT / "zipml_pynq"
#: Rooms whose docstring has a table of their modules.
ROOMS = ("data", "training", "accelerator", "devices", "learn", "distributed")
#: What stands above the rooms uses the package as its users do.
USERS = ("__init__.py", "demo.py", "command_line", "deep")


# ---- Arrows ------------------------------------------------------------------------------------


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's judgement of the package in a folder."""
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package's sources and the contracts, to plant mistakes in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    sources = shutil.ignore_patterns("*.so", "__pycache__", "overlays", "_engine.*", "_kernel.*")
    shutil.copytree(PACKAGE, tmp_path / "zipml_pynq", ignore=sources)
    return tmp_path


def test_contracts_are_kept(copy: Path) -> None:
    for folder in (ROOT, copy):
        run = lint_imports(folder)
        assert run.returncode == 0, run.stdout + run.stderr
        assert " 0 broken." in run.stdout


ONE_WAY, NO_CIRCLES = "Arrows run one way", "No circles inside a room"
DATA_ALONE, NO_PYNQ = "Deep nets need data alone", "Only accelerator and devices meet pynq"
IN_A_FUNCTION = "def planted():\n    {}\n"
FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {}\n"


@pytest.mark.parametrize(
    ("module", "planted", "contract", "arrow"),
    [
        (
            "data.grid",
            IN_A_FUNCTION.format("from zipml_pynq.devices.overlay import load_overlay"),
            ONE_WAY,
            "data.grid -> zipml_pynq.devices.overlay",
        ),
        (
            "training.plan",
            FOR_TYPES.format("from zipml_pynq.learn.models import LinearModel"),
            ONE_WAY,
            "training.plan -> zipml_pynq.learn.models",
        ),
        (
            "demo",
            "import zipml_pynq.command_line.main",
            ONE_WAY,
            "demo -> zipml_pynq.command_line.main",
        ),
        (
            "data.grid",
            IN_A_FUNCTION.format("from zipml_pynq.data import draws"),
            NO_CIRCLES,
            ".grid -> .draws",
        ),
        (
            "devices.served.board",
            FOR_TYPES.format("from zipml_pynq.devices.served.server import BoardServer"),
            NO_CIRCLES,
            ".board -> .server",
        ),
        (
            "deep.data",
            "from zipml_pynq.training import losses",
            DATA_ALONE,
            "deep.data -> zipml_pynq.training.losses",
        ),
        ("learn.models", "import pynq", NO_PYNQ, "learn.models -> pynq"),
    ],
    ids=[
        "in a function",
        "for types",
        "beside",
        "circle",
        "circle of a room in it",
        "deep",
        "pynq",
    ],
)
def test_a_planted_import_breaks_its_contract(
    copy: Path, module: str, planted: str, contract: str, arrow: str
) -> None:
    with open(copy / "zipml_pynq" / f"{module.replace('.', '/')}.py", "a") as file:
        file.write(f"\n\n{planted}\n")
    run = lint_imports(copy)
    assert run.returncode == 1, run.stdout + run.stderr
    assert contract in re.findall(r"^(.*) BROKEN", run.stdout, re.MULTILINE)
    assert arrow in run.stdout


def test_a_room_that_no_layer_names_is_noticed(copy: Path) -> None:
    (copy / "zipml_pynq" / "attic.py").touch()
    run = lint_imports(copy)
    assert run.returncode == 1
    assert "attic" in run.stdout


def names_from_the_package(path: Path) -> Iterator[str]:
    """Imports of the package itself: the linter sees no more of them than an arrow to the root."""
    inside = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            # a relative import with as many dots as the file lies deep
            root = node.module == "zipml_pynq" if node.level == 0 else node.level == inside
            if root:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Import) and any(a.name == "zipml_pynq" for a in node.names):
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


def test_rooms_take_no_names_from_the_package_itself() -> None:
    rooms = [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in USERS
    ]
    assert len(rooms) > 60
    assert [found for path in rooms for found in names_from_the_package(path)] == []


# ---- What a room says of itself ----------------------------------------------------------------


@pytest.mark.parametrize("room", ROOMS)
def test_a_rooms_table_lists_its_modules(room: str) -> None:
    folder = PACKAGE / room
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert text is not None
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ``")]
    listed = [name.strip("/") for cell in cells for name in re.findall(r"``([^`]*)``", cell)]
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    folders = {path.name for path in folder.iterdir() if path.is_dir()} - {"__pycache__"}
    assert sorted(listed) == sorted(modules | folders)


def test_every_room_is_packaged() -> None:
    rooms = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    text = (ROOT / "pyproject.toml").read_text()
    packages = re.search(r"^packages = \[\n(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert packages is not None
    assert set(re.findall(r'"(.+)"', packages[1])) == rooms | {"zipml_pynq.notebooks"}


# ---- Length ------------------------------------------------------------------------------------

FILE_LINES, FUNCTION_LINES = 600, 80
#: A file that has to be longer says why, on a line of its first comment.
REASON = re.compile(r"Longer than 600 lines: \S")
FOLDERS = ("zipml_pynq", "hls", "sw_emu", "tests", "benchmarks", "studies", "overlay", "wheels")
CXX, SCRIPTS = (".cpp", ".hpp", ".h"), (".tcl", ".sh")
#: Written by the build.
GENERATED = {PACKAGE / "_engine.cpp", PACKAGE / "_kernel.cpp"}


def sources(*suffixes: str) -> list[Path]:
    """Files that people write and read."""
    found = [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if "build" not in path.relative_to(ROOT).parts
    ]
    found += [*ROOT.glob("*.py"), *ROOT.glob("docs/*.py")]
    return sorted(path for path in found if path.suffix in suffixes and path not in GENERATED)


def first_comment(path: Path) -> str:
    """The comment or docstring that a file begins with."""
    text = path.read_text()
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(text)) or ""
    marks = ("//", "/*", "*") if path.suffix in CXX else ("#",)
    lines = [line.strip() for line in text.splitlines()]
    end = next((i for i, line in enumerate(lines) if line and not line.startswith(marks)), None)
    return "\n".join(lines[:end])


def test_long_files_say_why_and_others_do_not() -> None:
    files = sources(".py", *CXX, *SCRIPTS)
    assert {path.suffix for path in files} == {".py", *CXX, *SCRIPTS}
    lines = {path: len(path.read_text().splitlines()) for path in files}
    excused = {path for path in files if REASON.search(first_comment(path))}
    too_long = {path for path, count in lines.items() if count > FILE_LINES}
    told = [f"{path.relative_to(ROOT)}: {lines[path]}" for path in sorted(too_long ^ excused)]
    assert not told, "\n".join(told)


def test_python_functions_are_short() -> None:
    """Their docstrings not counted."""
    told = []
    for path in sources(".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            first = node.body[0]
            docstring = ast.get_docstring(node) is not None
            documented = first.end_lineno - first.lineno + 1 if docstring else 0
            length = node.end_lineno - node.lineno + 1 - documented
            if length > FUNCTION_LINES:
                told.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}, {length}")
    assert not told, "\n".join(told)


def cxx_functions(path: Path) -> list[Any]:
    """What lizard finds, without the macros and aliases that hide what follows them from it."""
    text = path.read_text()
    hiding = re.compile(r"^(?:[A-Z][A-Z_0-9]*\(.*\)$|using [^;]*;)", re.MULTILINE)
    plain = hiding.sub(lambda found: "\n" * found[0].count("\n"), text)
    functions = lizard.analyze_file.analyze_source_code(str(path), plain).function_list
    # functions outside of classes, as clang-format sets them, are no more than it finds
    ends = len(re.findall(r"^}$", text, re.MULTILINE))
    ends -= len(re.findall(r'^extern "C" {$', text, re.MULTILINE))
    assert len(functions) >= ends, path
    return functions


def test_cxx_functions_are_short() -> None:
    told = [
        f"{path.relative_to(ROOT)}:{function.start_line}: {function.name}, {function.length}"
        for path in sources(*CXX)
        for function in cxx_functions(path)
        if function.length > FUNCTION_LINES
    ]
    assert not told, "\n".join(told)
