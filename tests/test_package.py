"""The package as an installation: imports, entry points, and what the vendor's tools are told."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def python(code: str) -> str:
    """Output of ``code`` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_preparing_data_needs_no_pynq() -> None:
    assert python("import sys, zipml_pynq; print('pynq' in sys.modules)") == "False"


def test_names_are_what_they_say() -> None:
    """A submodule of the same name must not hide the function, whatever is imported first."""
    code = "import zipml_pynq.driver, zipml_pynq.{0}; import zipml_pynq; print(zipml_pynq.pack)"
    for module in ("pack", "devices", "plan"):
        assert python(code.format(module)).startswith("<function pack")
    assert python("import zipml_pynq as z; print([n for n in z.__all__ if not hasattr(z, n)])") == (
        "[]"
    )


def test_pynq_finds_the_driver_by_itself() -> None:
    """pynq.Overlay imports the modules of this group before it binds drivers."""
    names = {point.value for point in entry_points(group="pynq.lib")}
    assert "zipml_pynq.driver" in names


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


def run_tcl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """hls/run_hls.tcl in a real interpreter, each vendor command recorded instead of run."""
    commands = (
        "open_project set_top add_files open_solution set_part create_clock config_interface "
        "csim_design csynth_design cosim_design export_design"
    )
    prelude = "".join(
        f"proc {name} args {{ puts [list {name} {{*}}$args] }}\n" for name in commands.split()
    )
    script = ROOT / "hls" / "run_hls.tcl"
    code = f"{prelude}set argv [list {' '.join(arguments)}]\nsource {{{script}}}\n"
    return subprocess.run(["tclsh"], input=code, capture_output=True, text=True, timeout=60)


needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="no Tcl interpreter here")


@needs_tcl
@pytest.mark.parametrize("top", ["zipml_sgd", "zipml_sgd_f32"])
def test_hls_script(top: str) -> None:
    part = "xc7z020clg400-1"
    stages = ["csim", "csynth", "cosim", "export"]
    run = run_tcl("-f", "run_hls.tcl", "-tclargs", top, "64", part, "10", *stages)
    record = [line.split(" ", 1) for line in run.stdout.splitlines()]
    names = [name for name, *_ in record]
    assert names[-4:] == ["csim_design", "csynth_design", "cosim_design", "export_design"]
    assert ["set_top", top] in record
    assert ["set_part", part] in record
    files = re.findall(r"\S+\.cpp", run.stdout)
    assert len(files) == 2
    assert all(Path(file).is_file() for file in files)
    for folder in re.findall(r"-I(\S+)", run.stdout):
        assert Path(folder).is_dir()
    assert ("-DZIPML_BENCH_FLOAT" in run.stdout) == (top == "zipml_sgd_f32")
    assert f"-vendor zipml -library hls -ipname {top} -version 1.0" in run.stdout


@needs_tcl
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zipml_sgd", "64", "part", "10"], "usage"),
        (["zipml", "64", "part", "10", "csim"], "TOP was 'zipml'"),
        (["zipml_sgd", "32", "part", "10", "csim"], "WORD_BITS was '32'"),
        (["zipml_sgd", "64", "part", "10", "sim"], "STAGE was 'sim'"),
    ],
)
def test_hls_script_refuses(arguments: list[str], message: str) -> None:
    run = run_tcl("-tclargs", *arguments)
    assert message in run.stderr
    assert run.stdout == ""


def test_hls_configuration_names_files_that_exist() -> None:
    text = (ROOT / "hls" / "hls_config.cfg").read_text()
    settings = dict(re.findall(r"^([\w.]+)=(.*)$", text, flags=re.MULTILINE))
    for key in ("syn.file", "tb.file"):
        assert (ROOT / "hls" / settings[key]).is_file()
    assert settings["syn.top"] == settings["package.ip.name"] == "zipml_sgd"
    source = (ROOT / "hls" / settings["syn.file"]).read_text()
    assert f"void {settings['syn.top']}(" in source
