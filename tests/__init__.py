"""Tests, in rooms as the package's; what several of them share lies here."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
