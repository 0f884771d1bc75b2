"""``zipml inspect`` and ``zipml export``: what a file holds, and a model as ONNX."""

from __future__ import annotations

from contextlib import ExitStack

import click

from zipml_pynq.command_line.group import zipml
from zipml_pynq.command_line.options import FILE
from zipml_pynq.command_line.output import (
    facts_of_model,
    facts_of_packed,
    report,
)
from zipml_pynq.data.files import check_target, regular
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.packed_file import FILE_KIND as PACKED_KIND
from zipml_pynq.data.tensor_file import format_of
from zipml_pynq.errors import ArgumentError, ZipmlError
from zipml_pynq.learn.models import FILE_KIND as MODEL_KIND
from zipml_pynq.learn.models import LinearModel


@zipml.command()
@click.argument("path", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def inspect(path: str, as_json: bool) -> None:
    """Tell what the file PATH holds, a packed data set or a model, and whether it is whole."""
    with ExitStack() as stack:
        try:
            at = stack.enter_context(regular(path))
            found = format_of(at)
        except OSError as error:
            why = f"PATH was '{path}', which cannot be read: {error.strerror}"
            raise ArgumentError(why) from error
        if found == PACKED_KIND.format:
            report(facts_of_packed(PackedDataset.load(at), str(at)), as_json)
        elif found == MODEL_KIND.format:
            report(facts_of_model(LinearModel.load(at)), as_json)
        else:
            raise ZipmlError(f"'{path}' is neither a packed data set nor a model")


@zipml.command()
@click.argument("model_path", metavar="MODEL", type=FILE)
@click.argument("output", metavar="ONNX", type=FILE)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    default="float32",
    show_default=True,
    help="Of the samples, and of what comes out.",
)
def export(model_path: str, output: str, dtype: str) -> None:
    """Write the model MODEL as an ONNX graph to the file ONNX (extra `onnx`)."""
    check_target(output)
    LinearModel.load(model_path).to_onnx(output, dtype)
