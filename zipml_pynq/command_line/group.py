"""The command ``zipml``, which the others are parts of."""

from __future__ import annotations

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="zipml_pynq", message="%(package)s %(version)s")
def zipml() -> None:
    """Linear models trained from data at 1 to 8 bits a value.

    `zipml COMMAND --help` tells of each command; `zipml completion --help` of the shell's.
    """
