"""What README and notebooks show, run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def test_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert "bytes streamed" in capsys.readouterr().out


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_reference_has_every_module() -> None:
    pages = "".join(page.read_text() for page in ROOT.glob("docs/api/*.md"))
    listed = re.findall(r"automodule:: zipml_pynq\.(\w+)$", pages, re.MULTILINE)
    modules = [path.stem for path in ROOT.glob("zipml_pynq/*.py") if path.stem[0] != "_"]
    assert sorted(listed) == sorted(modules)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "outputs are kept out of git"
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
