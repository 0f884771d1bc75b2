"""Running a command: its errors as one line, its exit code; and completion in shells."""

from __future__ import annotations

import os
import re
import sys
import warnings
from typing import Any

import click
from click.shell_completion import get_completion_class

from zipml_pynq.command_line import (  # noqa: F401
    bench,
    board_check,
    boards,
    inspect,
    predict,
    prepare,
    train,
)
from zipml_pynq.command_line.group import zipml
from zipml_pynq.errors import ArgumentError, ZipmlError

FAILURE, USAGE = 1, 2
SHELLS = ("bash", "zsh", "fish")
#: Environment variable that click's completion scripts set.
_COMPLETE = "_ZIPML_COMPLETE"


@zipml.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    bash: eval "$(zipml completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc; fish:
    zipml completion fish > ~/.config/fish/completions/zipml.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(zipml, {}, "zipml", _COMPLETE).source())


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Warnings of ours as one line; those of libraries are for programmers."""
    from zipml_pynq.errors import ZipmlWarning

    ours = issubclass(category, ZipmlWarning | RuntimeWarning)
    if ours or category.__name__ == "ConvergenceWarning":
        click.echo(f"zipml: warning: {_one_line(message)}", err=True)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


_LETTERS = {"eta0": "--step", "alpha": "--l2"}
#: What the options are called that set parameters of other names.
_OPTIONS = {
    "max_iter": "--epochs",
    "batch_size": "--batch",
    "learning_rate": "--schedule",
    "model_bits": "--model-bits",
    "gradient_bits": "--gradient-bits",
    "word_bits": "--word-bits",
}


def _by_option(message: object) -> str:
    """A message of the library in the words of the command line."""
    text = re.sub(r"^(eta0|alpha) was", lambda m: f"{_LETTERS[m[1]]} was", str(message))
    return re.sub(rf"\b({'|'.join(_OPTIONS)})\b", lambda m: _OPTIONS[m[1]], text)


def _fail(message: object, code: int) -> int:
    click.echo(f"zipml: error: {_one_line(message)}", err=True)
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            if sys.stdout is None:
                return _fail("standard output is closed", FAILURE)
            result = zipml.main(arguments, prog_name="zipml", standalone_mode=False)
            sys.stdout.flush()
            return int(result or 0)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return USAGE
        except click.UsageError as error:
            where = error.ctx.command_path.removeprefix("zipml").strip() if error.ctx else ""
            return _fail(f"{where}: {error.format_message()}".removeprefix(": "), USAGE)
        except click.Abort:
            return _fail("interrupted", FAILURE)
        except ArgumentError as error:
            return _fail(_by_option(error), USAGE)
        except BrokenPipeError:
            # who read our output has gone; Python would complain about it again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILURE
        except (ZipmlError, OSError, ImportError, MemoryError) as error:
            return _fail(error or type(error).__name__, FAILURE)
