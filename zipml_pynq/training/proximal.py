"""Proximal steps: what closes an update where the objective has a part that is not smooth.

``prox(z) = argmin_x r(x) step + |x - z|^2 / 2`` (ZipML, arXiv 1611.05402, equations 2 and 3), for
r the l1 norm, its sum with the squared l2 norm, and the indicators of a box and of a ball.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.errors import ArgumentError

Array = NDArray[np.float64]


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ArgumentError(f"{name} was {value!r}; allowed is above 0")
    return float(value)


def _not_negative(name: str, value: float) -> float:
    if not value >= 0:
        raise ArgumentError(f"{name} was {value!r}; allowed is 0 or above")
    return float(value)


def elastic_net(l1: float, l2: float = 0.0) -> Callable[[Array, float], Array]:
    """Of ``l1 |x|_1 + l2 / 2 |x|^2``: entries shrink towards 0 by ``step l1``, then by a factor.

    Raises
    ------
    ArgumentError
        A weight is negative.
    """
    first, second = _not_negative("l1", l1), _not_negative("l2", l2)

    def proximal(x: Array, step: float) -> Array:
        shrunk = np.copysign(np.maximum(np.abs(x) - step * first, 0.0), x)
        return np.asarray(shrunk / (1 + step * second))

    return proximal


def box(bound: float) -> Callable[[Array, float], Array]:
    """Of the indicator of ``|x_j| <= bound``: clips.

    Raises
    ------
    ArgumentError
        ``bound`` is not above 0.
    """
    edge = _positive("bound", bound)
    return lambda x, step: np.clip(x, -edge, edge)


def ball(radius: float) -> Callable[[Array, float], Array]:
    """Of the indicator of ``|x|_2 <= radius``: scales what lies outside onto the sphere.

    A norm is a sum over all entries, so this one is not in the kernel, where entries close cell by
    cell.

    Raises
    ------
    ArgumentError
        ``radius`` is not above 0.
    """
    edge = _positive("radius", radius)

    def proximal(x: Array, step: float) -> Array:
        size = float(np.linalg.norm(x))
        return x if size <= edge else np.asarray(x * (edge / size))

    return proximal
