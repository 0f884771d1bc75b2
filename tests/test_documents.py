"""What README and pages show, run as it stands.

Code blocks of a page run in order, in one folder and, if they are Python, in one namespace. A
comment on the line before a block says what is different about it:

- ``<!-- not run: why -->``: it needs what is not here, a board or a vendor's tools;
- ``<!-- file: name -->``: it is saved under that name, for later blocks;
- ``<!-- stays running -->``: shell; it goes on in the background until the page ends.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("overlay/*/*.md")),
]
#: Blocks that are no code: output, file formats, formulas.
NO_CODE = ("text", "math")
#: Targets of make may take hours: they are read and resolved, not run.
SHELL = 'set -eu\nmake() { command make --dry-run -C "$ZIPML_ROOT" "$@" > /dev/null; }\n'


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name


@dataclass
class Block:
    """One code block, and what the comment before it says."""

    page: Path
    line: int
    language: str
    code: str
    note: str

    def __str__(self) -> str:
        return f"{page_id(self.page)}:{self.line}"


def code_blocks(page: Path) -> Iterator[Block]:
    note = ""
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block":
            note = token.content.strip().removeprefix("<!--").removesuffix("-->").strip()
            continue
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language = token.info.strip()
            if not language.startswith("{") and language not in NO_CODE:
                yield Block(page, token.map[0] + 1, language, token.content, note)
        note = ""


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of a page that are to run, in ``folder``."""
    names: dict[str, object] = {"__name__": page.stem}
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ZIPML_ROOT": str(ROOT),
    }
    with ExitStack() as stack:
        for block in code_blocks(page):
            if block.note.startswith("not run: "):
                continue
            if block.note.startswith("file: "):
                (folder / block.note.removeprefix("file: ")).write_text(block.code)
            elif block.language == "python":
                exec(compile(block.code, str(block), "exec"), names)
            elif block.note == "stays running":
                server = stack.enter_context(
                    subprocess.Popen(
                        ["bash", "-c", f"exec {block.code}"],
                        cwd=folder,
                        env=environment,
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                )
                stack.callback(server.terminate)
                assert server.stdout is not None
                assert server.stdout.readline(), f"{block}: ended at once"
            else:
                done = subprocess.run(
                    ["bash", "-c", SHELL + block.code],
                    cwd=folder,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_blocks_say_what_they_are(page: Path) -> None:
    for block in code_blocks(page):
        found = block.language or "of no language"
        assert block.language in (
            "python",
            "bash",
        ), f"{block} is {found}: fence it as python, bash, text or math"
        kind = block.note.partition(":")[0]
        assert kind in ("", "not run", "file", "stays running"), f"{block}: {block.note!r}"
        assert kind != "not run" or block.note.partition(": ")[2], f"{block} does not say why"


@pytest.mark.parametrize("page", [page for page in PAGES if any(code_blocks(page))], ids=page_id)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path)


def test_blocks_that_fail_are_told(tmp_path: Path) -> None:
    for text in (
        "```python\n1 / 0\n```",
        "```bash\nfalse\n```",
        "```bash\nmake no-such-target\n```",
    ):
        page = tmp_path / "page.md"
        page.write_text(text)
        with pytest.raises((ZeroDivisionError, AssertionError)):
            run_page(page, tmp_path)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_numbers_are_those_of_the_results() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.write_numbers", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"run python -m docs.write_numbers\n{done.stdout}{done.stderr}"


def test_reference_has_every_module() -> None:
    pages = "".join(page.read_text() for page in ROOT.glob("docs/api/*.md"))
    listed = re.findall(r"automodule:: (zipml_pynq[\w.]*)$", pages, re.MULTILINE)
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in ROOT.glob("zipml_pynq/**/*.py")
        # what the command does has a page of its own, docs/command_line.md
        if path.stem[0] != "_" and (path.parent.name != "command_line" or path.stem == "main")
    ]
    assert sorted(listed) == ["zipml_pynq", *sorted(modules)]
