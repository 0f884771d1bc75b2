"""``python -m zipml_pynq``, and the command ``zipml``."""

import signal
import sys


def main() -> int:
    """Run the command line; exit code 1 says what to install where it is not there."""
    try:
        from zipml_pynq.command_line.main import main as run
    except ModuleNotFoundError as error:
        if error.name not in ("click", "tqdm"):
            raise
        print(
            f"zipml: error: the command line needs {error.name}: pip install 'zipml_pynq[cli]'",
            file=sys.stderr,
        )
        return 1
    # what was begun is removed, as after an interrupt from the keyboard
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())
