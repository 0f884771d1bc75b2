"""SGD on the host, for methods of the paper that are not in the kernel (docs/paper.md says why).

Float64, in NumPy: an epoch is the accelerator's batches in their order, without delay. A gradient
is a function; what quantizes the model on its way out or the gradient on its way back wraps it, and
a proximal step closes an update (ZipML, arXiv 1611.05402, equations 2 and 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.data.checks import check_array, check_choice, check_int
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.losses import LOSSES

Array = NDArray[np.float64]
#: The mean gradient of a batch: of its rows, at a model.
Gradient = Callable[[slice, Array], Array]
#: What a proximal step makes of a model, with a step size.
Proximal = Callable[[Array, float], Array]
Quantizer = Callable[[Array], Array]


def sgd(
    gradient: Gradient,
    samples: int,
    features: int,
    steps: ArrayLike,
    *,
    batch: int = 16,
    proximal: Proximal | None = None,
    model: ArrayLike | None = None,
) -> Array:
    """``x <- prox(x - step gradient(rows, x))``, batch after batch.

    Parameters
    ----------
    gradient : callable
        See :data:`Gradient`.
    samples, features : int
    steps : array_like, shape (epochs,)
    batch : int
    proximal : callable, optional
        See :mod:`zipml_pynq.training.proximal`.
    model : array_like, shape (features,), optional
        Start; 0 by default.

    Returns
    -------
    ndarray of float64, shape (epochs, features)
        The model after every epoch.

    Raises
    ------
    ArgumentError
        A size is out of range, or a shape does not fit.
    """
    check_int("samples", samples, 1, 1 << 40)
    check_int("features", features, 1, 1 << 40)
    check_int("batch", batch, 1, 1 << 40)
    gammas = check_array("steps", steps, 1).astype(np.float64)
    x = np.zeros(features) if model is None else np.array(model, dtype=np.float64)
    if x.shape != (features,):
        raise ArgumentError(f"model had shape {x.shape}; allowed is ({features},)")
    history = np.empty((gammas.size, features))
    for epoch, gamma in enumerate(gammas):
        for rows in batches(samples, batch):
            x = x - gamma * gradient(rows, x)
            if proximal is not None:
                x = proximal(x, float(gamma))
        history[epoch] = x
    return history


def batches(samples: int, batch: int) -> Iterator[slice]:
    """Rows of each batch, in order."""
    for start in range(0, samples, batch):
        yield slice(start, min(start + batch, samples))


def double_sampled(
    first: ArrayLike, second: ArrayLike, labels: ArrayLike, loss: str, l2: float = 0.0
) -> Gradient:
    """Symmetric double sampling: ``(Q1 l'(Q2^T x) + Q2 l'(Q1^T x)) / 2 + l2 x``.

    Parameters
    ----------
    first, second : array_like, shape (samples, features)
        Two independent samples of the values; the same array twice is full precision.
    labels : array_like, shape (samples,)
    loss : str
        A key of :data:`zipml_pynq.training.losses.LOSSES`.
    l2 : float
    """
    q1, q2 = (np.asarray(q, dtype=np.float64) for q in (first, second))
    y = np.asarray(labels, dtype=np.float64)
    derivative = LOSSES[check_choice("loss", loss, tuple(LOSSES))].derivative

    def gradient(rows: slice, x: Array) -> Array:
        a, b = q1[rows], q2[rows]
        total = derivative(b @ x, y[rows]) @ a + derivative(a @ x, y[rows]) @ b
        return np.asarray(total / (2 * len(a)) + l2 * x)

    return gradient


def quantized(
    gradient: Gradient, model: Quantizer | None = None, back: Quantizer | None = None
) -> Gradient:
    """End to end: ``Q_g(gradient(Q_m(x)))``."""

    def both(rows: slice, x: Array) -> Array:
        found = gradient(rows, x if model is None else model(x))
        return found if back is None else back(found)

    return both
