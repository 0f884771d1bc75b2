"""The command ``zipml``: data sets packed, models trained, predictions made from a shell.

Needs click and tqdm (``pip install 'zipml_pynq[cli]'``); docs/command_line.md shows every command.
Exit codes: 0 all is well, 1 it failed, 2 an argument is not what is allowed. An error is one line
on standard error. Files are written whole or not at all.
"""
