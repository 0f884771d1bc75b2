"""``zipml board-check``: a page about a board, for its owner and for us."""

from __future__ import annotations

from typing import Any

import click

from zipml_pynq.command_line.group import zipml
from zipml_pynq.command_line.output import report
from zipml_pynq.errors import ZipmlError

_MARKS = {True: "right", False: "WRONG", None: ""}


@zipml.command("board-check")
@click.argument("device")
@click.option(
    "--value-format",
    type=click.Choice(("bitplanes", "float32", "levels", "refetch", "wide")),
    help="Which kernel, where DEVICE has several.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def board_check(device: str, value_format: str | None, as_json: bool) -> None:
    """Check DEVICE: a board's name, a folder or path of a bitstream, or "emulated".

    Software, overlay, clock against stamp, memory; a training at every precision against the
    engine's bits; cycles and bandwidth against the model. Ends with 1 where something is wrong.
    """
    from zipml_pynq.devices.check_up import check_up

    wrong = []
    facts: list[dict[str, Any]] = []
    for finding in check_up(device, value_format):
        if finding.right is False:
            wrong.append(finding.name)
        if as_json:
            facts.append({"name": finding.name, "text": finding.text, "right": finding.right})
        else:
            click.echo(f"{_MARKS[finding.right]:6}{finding.name:20}  {finding.text}")
    if as_json:
        report({"findings": facts, "wrong": wrong}, True)
    if wrong:
        raise ZipmlError(f"not as it should be: {', '.join(wrong)}")
    if not as_json:
        click.echo("Everything that was judged is right.")
