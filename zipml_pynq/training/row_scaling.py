"""Row scaling: a vector quantized in units of its own norm (ZipML, appendix A.3).

``Q(v)_i = |v| sign(v_i) mu_i``, where mu_i is ``|v_i| / |v|`` rounded at random, without bias, to a
multiple of 1/s. The norm is sent beside the entries. The accelerator has ranges of powers of two in
its place: a norm is a sum over all entries, and the first could not leave before the last is known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.data.checks import check_array, check_choice, check_int

NORMS = ("l2", "max")


def intervals(bits: int) -> int:
    """s of entries of so many bits, sign included: ``2^(bits-1) - 1``."""
    return (1 << (check_int("bits", bits, 2, 32) - 1)) - 1


def row_scaled(
    v: ArrayLike, bits: int, rng: np.random.Generator, norm: str = "l2"
) -> NDArray[np.float64]:
    """An unbiased quantization of a vector by its norm.

    With the l2 norm ``E |Q(v) - v|^2 <= min(n / (4 s^2), sqrt(n) / s) |v|^2``, s the
    :func:`intervals` and n the entries.

    Parameters
    ----------
    v : array_like, shape (n,)
    bits : int
        2..32, of an entry with its sign.
    rng : numpy.random.Generator
    norm : str
        "l2" as in the paper, or "max", whose error is at most ``n max|v|^2 / (4 s^2)``.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ArgumentError
        ``v`` is empty or has another number of dimensions, ``bits`` or ``norm`` are not allowed.
    """
    a = check_array("v", v, 1).astype(np.float64)
    s = intervals(bits)
    check_choice("norm", norm, NORMS)
    size = float(np.linalg.norm(a) if norm == "l2" else np.abs(a).max())
    if size == 0.0:
        return np.zeros_like(a)
    level = np.abs(a) / size * s
    below = np.floor(level)
    drawn = below + (rng.random(a.size) < level - below)
    return np.asarray(np.copysign(drawn * (size / s), a))
