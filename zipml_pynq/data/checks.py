"""Checks of arguments: an error names the argument, what it was and what is allowed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, issparse

from zipml_pynq.constants import MAX_BITS
from zipml_pynq.errors import ArgumentError


def check_int(name: str, value: object, low: int, high: int) -> int:
    """``value`` as an int of ``low``..``high``; raises :class:`ArgumentError` naming ``name``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ArgumentError(f"{name} was {value!r}; it must be an integer in {low}..{high}")
    if not low <= value <= high:
        raise ArgumentError(f"{name} was {value}; allowed is {low}..{high}")
    return int(value)


def check_bits(bits: object, most: int = MAX_BITS) -> int:
    """``bits`` as an int of 1..``most``."""
    return check_int("bits", bits, 1, most)


def check_positive(name: str, value: Any, zero: bool = False) -> float:
    """``value`` as a finite float above 0, or from 0 up with ``zero``."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)
    if not (number and math.isfinite(value) and (value > 0 or (zero and value == 0))):
        allowed = "from 0 up" if zero else "above 0"
        raise ArgumentError(f"{name} was {value!r}; allowed are finite numbers {allowed}")
    return float(value)


def check_flag(name: str, value: object) -> bool:
    """``value`` as a bool; a number is none."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{name} was {value!r}; allowed are True and False")
    return bool(value)


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """``value`` if it is one of ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        raise ArgumentError(f"{name} was {value!r}; allowed are {', '.join(map(repr, allowed))}")
    return value


def check_array(
    name: str, array: ArrayLike, ndim: int, convert: bool = True
) -> NDArray[np.floating]:
    """``array`` as native float32 or float64 of ``ndim`` dimensions, copied only to convert it.

    Values are not looked at. float16 becomes float32; integers and booleans become float64.

    Parameters
    ----------
    convert : bool
        False: check only; what works on parts of the array converts each part by itself. SciPy's
        sparse matrices pass, too, in CSR.

    Raises
    ------
    ArgumentError
        Not numeric, complex, another number of dimensions, or empty.
    """
    if np.ma.isMaskedArray(array) and np.ma.getmaskarray(array).any():
        raise ArgumentError(f"{name} had masked entries; allowed are arrays without")
    # rows of a sparse matrix are made dense where they are worked on
    a: Any = csr_matrix(array) if not convert and issparse(array) else np.asarray(array)
    if a.dtype.kind not in "biuf":
        raise ArgumentError(
            f"{name} had dtype {a.dtype}; it must be a dense array of real numbers "
            "(float32 and float64 are taken as they are)"
        )
    if a.ndim != ndim:
        raise ArgumentError(f"{name} had shape {a.shape}; it must have {ndim} dimension(s)")
    if 0 in a.shape:
        raise ArgumentError(f"{name} had shape {a.shape}; it must not be empty")
    if not convert:
        return a
    if a.dtype.kind == "f" and a.dtype.itemsize <= 4:
        return a.astype(np.float32, copy=False)
    with np.errstate(over="ignore"):  # what long double holds beyond float64 is found as infinity
        return a.astype(np.float64, copy=False)


def check_finite_labels(y: NDArray[np.floating], first_row: int = 0) -> None:
    """Raises :class:`ArgumentError`, with the row, if one of the labels is NaN or infinite."""
    bad = ~np.isfinite(y)
    if bad.any():
        row = int(bad.argmax())
        raise ArgumentError(f"y was {y[row]} in row {first_row + row}; every label must be finite")


def check_data(
    X: ArrayLike, y: ArrayLike, convert: bool = True
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """``X`` (N, columns) and ``y`` (N,) as :func:`check_array` returns them, of equal length.

    ``convert`` is that of ``X``; ``y`` is always converted.
    """
    a, b = check_array("X", X, 2, convert), check_array("y", y, 1)
    if a.shape[0] != b.shape[0]:
        raise ArgumentError(
            f"y had {b.shape[0]} label(s), X {a.shape[0]} row(s); one a row is needed"
        )
    return a, b
