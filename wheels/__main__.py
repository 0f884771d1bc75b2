"""``make wheels``: the sdist and a wheel for every target, in ``build/wheels/dist``."""

from __future__ import annotations

import argparse

from wheels.archives import make_sdist, make_wheel, unpack
from wheels.engine import compile_engine
from wheels.targets import TARGETS


def main() -> None:
    """Build what the command line names, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="all by default")
    names = parser.parse_args().targets or list(TARGETS)
    sdist = make_sdist()
    made = [sdist]
    source = unpack(sdist)
    for name in names:
        target = TARGETS[name]
        made.append(make_wheel(source, compile_engine(source, target), target.tag))
    for path in made:
        print(f"{path.stat().st_size / 1e6:6.2f} MB  {path.name}")


if __name__ == "__main__":
    main()
