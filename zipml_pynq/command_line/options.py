"""Parameters of the commands: how options are read, and those that several commands share."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from zipml_pynq.constants import WIDE_MAX_BITS
from zipml_pynq.data.streams import FORMATS, RowFile
from zipml_pynq.data.tables import DELIMITERS

#: Shells complete names of files; what they hold is checked where they are read.
FILE = click.Path(allow_dash=True)


class Bits(click.ParamType):
    """Precisions: "4", "2,4", "1-8"; as a schedule also "2x5,4", five epochs of 2 and then 4."""

    name = "bits"

    def __init__(self, schedule: bool = False, also: tuple[int, ...] = ()) -> None:
        self.schedule = schedule
        self.also = also

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        found: list[int] = []
        try:
            for part in value.split(","):
                first, _, times = part.partition("x")
                low, _, high = first.partition("-")
                span = range(int(low), int(high or low) + 1)
                found += [*span] * (int(times) if times and self.schedule else 1)
                if not span or (times and not self.schedule) or (times and int(times) < 1):
                    raise ValueError
            if not all(1 <= bits <= WIDE_MAX_BITS or bits in self.also for bits in found):
                raise ValueError
        except ValueError:
            example = "2x5,4 (five epochs of 2, then 4)" if self.schedule else "2,4 or 1-8"
            also = "".join(f", {bits}" for bits in self.also)
            self.fail(
                f"it was {value!r}; allowed are 1..{WIDE_MAX_BITS}{also}, such as 4, or {example}"
            )
        return tuple(found)


class Auto(click.ParamType):
    """ "auto" or a number above 0; 0 too, where `zero` is true."""

    name = "auto|number"

    def __init__(self, zero: bool = False) -> None:
        self.zero = zero

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        if value == "auto" or isinstance(value, float):
            return value
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not (np.isfinite(number) and (number > 0 or (self.zero and number == 0))):
            allowed = (
                "'auto', 0 and numbers above it" if self.zero else "'auto' and numbers above 0"
            )
            self.fail(f"it was {value!r}; allowed are {allowed}")
        return number


def rows_options(command: Any) -> Any:
    """How files of samples are read."""
    for option in (
        click.option(
            "--format",
            "file_format",
            type=click.Choice(["auto", *FORMATS]),
            default="auto",
            help="Of INPUT; auto: by its beginning and its name.",
        ),
        click.option(
            "--label",
            metavar="COLUMN",
            help="Name, or number from 1 on, of the column of labels of a table [the last].",
        ),
        click.option(
            "--header/--no-header",
            default=None,
            help="Whether a table's first line names its columns [seen from the first two lines].",
        ),
        click.option(
            "--delimiter", type=click.Choice(list(DELIMITERS)), help="Of a table [seen from it]."
        ),
        click.option(
            "--ignore",
            metavar="COLUMN",
            multiple=True,
            help="Leave a column of a table out, by name or number; may be repeated.",
        ),
        click.option("--zero-based", is_flag=True, help="LIBSVM indices begin with 0, not 1."),
        click.option(
            "--part",
            type=click.Choice(["train", "test"]),
            default="train",
            help="Of an .npz that holds both.",
        ),
    ):
        command = option(command)
    return command


def row_file(source: str, rows: dict[str, Any], **known: Any) -> RowFile:
    """The file INPUT, read as the options of :func:`rows_options` say."""
    return RowFile(
        source,
        rows["file_format"],
        rows["label"],
        rows["zero_based"],
        part=rows["part"],
        header=rows["header"],
        delimiter=rows["delimiter"],
        ignored=rows["ignore"],
        missing="keep" if rows["missing"] == "mean" else rows["missing"],
        **known,
    )


def common_options(command: Any) -> Any:
    """What every command that takes a while has."""
    command = click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")(command)
    return click.option(
        "--progress/--no-progress",
        default=None,
        help="A progress bar on standard error [where that is a terminal].",
    )(command)
