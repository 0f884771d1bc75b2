"""The full-precision baseline: float mini-batch SGD on the batches and steps of the accelerator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq._engine import ffi, lib
from zipml_pynq.data import compiled
from zipml_pynq.data.checks import check_choice
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.losses import LOSSES

FloatArray = NDArray[np.float32]


def _feature_steps(given: ArrayLike | None, features: int) -> FloatArray | None:
    if given is None:
        return None
    steps = np.ascontiguousarray(given, dtype=np.float32)
    if steps.shape != (features,):
        raise ArgumentError(f"feature_steps had shape {steps.shape}; allowed is ({features},)")
    return steps


def _float_arguments(
    values: ArrayLike, labels: ArrayLike, model: ArrayLike | None, step: ArrayLike, delay: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    v = np.ascontiguousarray(values, dtype=np.float32)
    y = np.ascontiguousarray(labels, dtype=np.float32)
    if v.ndim != 2 or 0 in v.shape:
        raise ArgumentError(
            f"values had shape {v.shape}; allowed is (samples, features), not empty"
        )
    if y.shape != v.shape[:1]:
        raise ArgumentError(f"labels had shape {y.shape}; allowed is {v.shape[:1]}")
    steps = np.ascontiguousarray(step, dtype=np.float32)
    if steps.ndim != 1 or steps.size == 0:
        raise ArgumentError(f"step had shape {steps.shape}; allowed is one step an epoch (epochs,)")
    if delay < 0:
        raise ArgumentError(f"delay was {delay}; allowed are integers from 0 up")
    x = np.zeros(v.shape[1], dtype=np.float32)
    if model is not None:
        if np.shape(model) != x.shape:
            raise ArgumentError(f"model had shape {np.shape(model)}; allowed is {x.shape}")
        x[:] = model
    return v, y, x, steps


def float_sgd(
    values: ArrayLike,
    labels: ArrayLike,
    step: ArrayLike,
    *,
    batch: int = 16,
    l2: float = 0.0,
    delay: int = 0,
    model: ArrayLike | None = None,
    threads: int = 1,
    feature_steps: ArrayLike | None = None,
) -> FloatArray:
    """Full-precision mini-batch SGD, compiled: the batches and updates of the accelerator.

    Parameters
    ----------
    values : array_like of float32, shape (samples, features)
        Normalized values, intercept column included.
    labels : array_like of float32, shape (samples,)
        Normalized labels.
    step : array_like of float32, shape (epochs,)
        The step of every epoch (``plan.step``).
    batch, delay : int
        As in the plan.
    l2 : float
        Weight of ``l2 / 2 * ||x||^2``.
    model : array_like, shape (features,), optional
        Start; 0 by default.
    threads : int
        Each trains a share of the features; sums round in an order that depends on it.
    feature_steps : array_like, shape (features,), optional
        Factors of the step and of the decay, one a feature (``plan.feature_steps``); 1 by default.

    Returns
    -------
    ndarray of float32, shape (epochs, features)
        The model after every epoch; the last row is the result.

    Raises
    ------
    ArgumentError
        Shapes that do not fit together.
    """
    v, y, x, steps = _float_arguments(values, labels, model, step, delay)
    if batch < 1:
        raise ArgumentError(f"batch was {batch}; allowed are integers from 1 up")
    if threads < 1:
        raise ArgumentError(f"threads was {threads}; allowed are integers from 1 up")
    factors = _feature_steps(feature_steps, x.size)
    history = np.empty((steps.size, x.size), dtype=np.float32)
    decays = (steps * np.float32(l2)).astype(np.float32)

    def pointer(array: FloatArray | None) -> Any:
        return ffi.NULL if array is None else ffi.cast("float *", ffi.from_buffer(array))

    def call(stop: Any) -> int:
        return lib.zipml_float_sgd(
            pointer(v),
            pointer(y),
            pointer(x),
            pointer(history),
            v.shape[0],
            v.shape[1],
            batch,
            steps.size,
            delay,
            pointer(steps),
            pointer(decays),
            pointer(factors),
            threads,
            stop,
        )

    compiled.run(call, v.size * steps.size)
    return history


def float_sgd_numpy(
    values: ArrayLike,
    labels: ArrayLike,
    step: ArrayLike,
    *,
    batch: int = 16,
    l2: float = 0.0,
    delay: int = 0,
    model: ArrayLike | None = None,
    feature_steps: ArrayLike | None = None,
) -> FloatArray:
    """:func:`float_sgd` in NumPy, float32 throughout; sums may round in another order."""
    v, y, x, steps = _float_arguments(values, labels, model, step, delay)
    given = _feature_steps(feature_steps, x.size)
    factors = np.float32(1) if given is None else given
    history = np.empty((steps.size, x.size), dtype=np.float32)
    for epoch, gamma in enumerate(steps):
        scale, decay = gamma / np.float32(batch), gamma * np.float32(l2)
        pending: list[tuple[FloatArray, FloatArray]] = []
        for start in range(0, len(v), batch):
            if len(pending) > delay:
                rows, c = pending.pop(0)
                x = x - factors * (c @ rows + decay * x)
            rows = v[start : start + batch]
            pending.append((rows, scale * (rows @ x - y[start : start + batch])))
        for rows, c in pending:
            x = x - factors * (c @ rows + decay * x)
        history[epoch] = x
    return history


def float_sgd_loss(
    values: ArrayLike,
    labels: ArrayLike,
    step: ArrayLike,
    loss: str = "least_squares",
    *,
    batch: int = 16,
    l2: float = 0.0,
    delay: int = 0,
    class_costs: tuple[float, float] = (1.0, 1.0),
    weights: ArrayLike | None = None,
    second: ArrayLike | None = None,
    model: ArrayLike | None = None,
    feature_steps: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Mini-batch SGD on any loss with its exact derivative, in NumPy, float64 inside.

    The batches and updates are the accelerator's. Arguments beside those of :func:`float_sgd`:

    Parameters
    ----------
    loss : str
        A key of :data:`zipml_pynq.training.losses.LOSSES`.
    class_costs : tuple of float
        Factors of the loss of samples with negative labels, and of the others.
    weights : array_like, shape (samples,), optional
        Of the samples' losses.
    second : array_like, shape (samples, features), optional
        Second samples of the values: then gradients are those of symmetric double sampling.

    Returns
    -------
    ndarray of float64, shape (epochs, features)
        The model after every epoch; the last row is the result.
    """
    found = LOSSES[check_choice("loss", loss, tuple(LOSSES))]
    v, y, x, steps = (
        a.astype(np.float64) for a in _float_arguments(values, labels, model, step, delay)
    )
    other = v if second is None else np.asarray(second, dtype=np.float64)
    if other.shape != v.shape:
        raise ArgumentError(f"second had shape {other.shape}; allowed is {v.shape}")
    pairs = ((v, other), (other, v)) if second is not None else ((v, v),)
    factors = np.where(y < 0, *class_costs) * (1.0 if weights is None else np.asarray(weights))
    given = _feature_steps(feature_steps, x.size)
    scale = np.ones(x.size) if given is None else given.astype(np.float64)
    history = np.empty((steps.size, x.size))
    for epoch, gamma in enumerate(steps):
        pending: list[NDArray[np.float64]] = []
        for start in range(0, len(v), batch):
            if len(pending) > delay:
                x = x - gamma * scale * (pending.pop(0) + l2 * x)
            rows = slice(start, start + batch)
            gradient = np.zeros_like(x)
            for inner, outer in pairs:
                c = found.derivative(inner[rows] @ x, y[rows]) * factors[rows]
                gradient += c @ outer[rows]
            pending.append(gradient / (batch * len(pairs)))
        for gradient in pending:
            x = x - gamma * scale * (gradient + l2 * x)
        history[epoch] = x
    return history


def loss(values: ArrayLike, labels: ArrayLike, model: ArrayLike) -> float:
    """Half the mean squared error, ``mean((V x - y)**2) / 2``, in normalized units (float64)."""
    residual = np.asarray(values) @ np.asarray(model, dtype=np.float64) - np.asarray(labels)
    return float(residual @ residual / (2 * residual.size))


def full_precision_gradient(
    values: ArrayLike, labels: ArrayLike, model: ArrayLike
) -> NDArray[np.float64]:
    """Gradient of :func:`loss`: ``V^T (V x - y) / samples``, float64, shape (features,)."""
    v = np.asarray(values, dtype=np.float64)
    residual = v @ np.asarray(model, dtype=np.float64) - np.asarray(labels, dtype=np.float64)
    return v.T @ residual / len(v)
