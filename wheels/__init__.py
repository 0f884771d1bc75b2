"""Wheels for every machine that users have, built on one by cross compilation, and their checks.

==============  ===============================================================================
module          what it does
==============  ===============================================================================
``targets``     the machines: what the compiler and what pip calls them
``engine``      compiles the engine for a target, with the compiler of the ziglang wheel
``archives``    the sdist, and a wheel around a compiled engine: same sources, same bytes
``__main__``    ``make wheels``: all of them
``again``       all of them once more from a clone in another folder: the same bytes
``rules``       what a wheel may ask of its machine
``bits``        a program that uses an installed package and prints what came out, bit for bit
``installed``   a wheel in an empty environment without a compiler, on every Python that is here
``arm``         the wheels for Arm under qemu, on unpacked packages of Debian
``windows``     the wheel for Windows under Wine
==============  ===============================================================================
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Where wheels, the sdist and what they are made of lie.
BUILD = ROOT / "build" / "wheels"
DIST = BUILD / "dist"
