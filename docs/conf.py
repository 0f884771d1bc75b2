"""The documentation site: Sphinx, pages in Markdown (MyST), formulas as MathML.

The source folder is the repository itself (``make docs``), so that pages link to results and to
each other where they lie. Nothing is fetched, neither when the site is built nor when it is read.
"""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

import zipml_pynq

project = "ZipML on PYNQ"
author = "The ZipML on PYNQ authors"
copyright = "The ZipML on PYNQ authors, Apache-2.0"
release = zipml_pynq.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "benchmarks/results/*.md",
    "studies/results/*.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = [".*", "build", "demo", "**/__pycache__"]

myst_enable_extensions = ["dollarmath", "fieldlist"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
math_number_all = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more
autodoc_preserve_defaults = True
viewcode_follow_imported_members = False
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = project
html_static_path = ["_site"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
pygments_style = "friendly"


# ---- formulas --------------------------------------------------------------------------------
# Browsers lay MathML out by themselves, in a font that knows how: the one that ziamath brings.


def _mathml(node: nodes.Element, display: str) -> str:
    latex = node.astext().strip()
    try:
        return convert(latex, display=display)
    except Exception as error:
        raise ExtensionError(f"{node.source}: formula {latex!r}: {error!r}") from error


def visit_inline_math(self: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line of text."""
    self.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def visit_display_math(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula of its own; what it was written as is kept for who copies it."""
    title = escape(node.astext().strip(), quote=True)
    self.body.append(f'<div class="formula" data-latex="{title}">{_mathml(node, "block")}</div>')
    raise nodes.SkipNode


def copy_font(app: Sphinx, error: Exception | None) -> None:
    """STIX Two Math, where site.css looks for it."""
    if error is None and app.builder.name == "html":
        font = files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"
        (Path(app.outdir) / "_static" / font.name).write_bytes(font.read_bytes())


# ---- the front door --------------------------------------------------------------------------


def write_front_door(app: Sphinx, error: Exception | None) -> None:
    """``index.html`` beside ``docs/``, which leads to ``docs/index.html``."""
    if error is None and app.builder.name == "html":
        (Path(app.outdir) / "index.html").write_text(
            '<!doctype html><meta charset="utf-8"><title>ZipML on PYNQ</title>'
            '<meta http-equiv="refresh" content="0; url=docs/index.html">'
            '<a href="docs/index.html">ZipML on PYNQ</a>\n'
        )


# ---- docstrings ------------------------------------------------------------------------------


def read_docstring(
    _app: Sphinx, what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Docstrings name pages by their path, ``docs/data.md``: here that is a link."""
    for i, line in enumerate(lines):
        lines[i] = re.sub(r"(?<![`\w/])docs/(\w+)\.md", r":doc:`\g<0> </docs/\1>`", line)
    if what in {"attribute", "data", "property"}:
        # after an empty comment, or napoleon takes what stands before a first colon for a type
        lines[:0] = ["..", ""]


def join_names(
    _app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Attributes that share an entry, ``a, b : int``: with the space, a would be b's type."""
    for i, line in enumerate(lines):
        if line.startswith((":ivar ", ":vartype ")):
            field, colon, text = line[1:].partition(":")
            lines[i] = f":{field.replace(', ', ',')}{colon}{text}"


class PublicNames(SphinxDirective):
    """What ``zipml_pynq`` itself offers, a line each."""

    def run(self) -> list[nodes.Node]:
        entries = []
        for name in sorted({*zipml_pynq.__all__, *zipml_pynq._LAZY}, key=str.lower):
            thing = getattr(zipml_pynq, name)
            summary = (thing.__doc__ or "").strip().splitlines()[0]
            entries.append(f"* :py:obj:`{name} <{thing.__module__}.{name}>`: {summary}")
        return self.parse_text_to_nodes("\n".join(entries))


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer of formulas, and what changes pages and docstrings."""
    app.connect("autodoc-process-docstring", read_docstring, priority=400)
    app.connect("autodoc-process-docstring", join_names, priority=600)
    app.add_directive("public-names", PublicNames)
    app.add_html_math_renderer("mathml", (visit_inline_math, None), (visit_display_math, None))
    app.connect("build-finished", copy_font)
    app.connect("build-finished", write_front_door)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
