"""What a training run starts from and hands back, whichever device or reference it runs on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class Refinement:
    """What refining a model did.

    Parameters
    ----------
    left : ndarray of float64, shape (rounds,)
        What was left to gain before each round, as the draw or few rows estimate it.
    objective : float
        At the end.
    gradient_bytes : int
        Bytes of samples that true gradients and few rows took, by the host or the accelerator.
    converged : bool
        Whether it ended by the tolerance.
    """

    left: NDArray[np.float64]
    objective: float
    gradient_bytes: int
    converged: bool


@dataclass(frozen=True)
class TrainResult:
    """Model, history and counters of one run of the accelerator.

    Parameters
    ----------
    model : ndarray of float64, shape (features,)
        The model in normalized units: ``model_fixed / 2**24``.
    model_fixed : ndarray of int32, shape (features,)
        The model as the accelerator holds it.
    history_fixed : ndarray of int32, shape (epochs, features)
        The model at the end of every epoch, as the accelerator holds it.
    words : int
        Words of planes streamed.
    modelled_cycles : int
        Clock cycles of the schedule (docs/schedule.md).
    saturations : int
        Clamped results; 0 in a healthy run.
    bytes_streamed : int
        ``words`` in bytes, and what was fetched again; labels, model and schedule are not in it.
    outside : int
        Margins outside the range of a table or polynomial.
    clipped : int
        Numbers clipped where model or gradient were quantized.
    refetched : int
        Samples read again at full precision.
    measured_cycles : int or None
        Clock cycles that a counter beside the kernel counted; None where there is none, which is
        everywhere but in hardware.
    waited_cycles : int or None
        Of the measured cycles those in which training waited for words; else None.
    seconds : float or None
        What the training took on a board with a sensor of its power; copies to the device included.
    joules : float or None
        What the board took in that time, whole and not above idling. None without a sensor, as in
        emulation.
    refinement : Refinement or None
        What refining the model did, where it was refined.
    """

    model: NDArray[np.float64]
    model_fixed: NDArray[np.int32]
    history_fixed: NDArray[np.int32]
    words: int
    modelled_cycles: int
    saturations: int
    bytes_streamed: int
    outside: int = 0
    clipped: int = 0
    refetched: int = 0
    measured_cycles: int | None = None
    waited_cycles: int | None = None
    seconds: float | None = None
    joules: float | None = None
    refinement: Refinement | None = None

    @classmethod
    def from_fixed(
        cls,
        model_fixed: NDArray[np.int32],
        history_fixed: NDArray[np.int32],
        *,
        words: int,
        modelled_cycles: int,
        saturations: int,
        word_bits: int,
        outside: int = 0,
        clipped: int = 0,
        refetched: int = 0,
        fetched_bytes: int = 0,
        measured_cycles: int | None = None,
        waited_cycles: int | None = None,
    ) -> TrainResult:
        """The result of a run from its registers and buffers, padding already cut off."""
        return cls(
            model=model_fixed / MODEL_ONE,
            model_fixed=model_fixed,
            history_fixed=history_fixed,
            words=words,
            modelled_cycles=modelled_cycles,
            saturations=saturations,
            bytes_streamed=words * (word_bits // 8) + fetched_bytes,
            outside=outside,
            clipped=clipped,
            refetched=refetched,
            measured_cycles=measured_cycles,
            waited_cycles=waited_cycles,
        )

    @property
    def history(self) -> NDArray[np.float64]:
        """``history_fixed`` in normalized units, float64, shape (epochs, features)."""
        return self.history_fixed / MODEL_ONE


LARGEST = 2**31 - 1


def fixed_model(model: ArrayLike | None, features: int) -> NDArray[np.int32]:
    """A start model in fixed point.

    Parameters
    ----------
    model : array_like or None, shape (features,)
        None is 0. Integers are taken as fixed point, floats as normalized units.
    features : int
        Length of the model.
    """
    if model is None:
        return np.zeros(features, dtype=np.int32)
    array = np.asarray(model)
    if array.shape != (features,):
        raise ArgumentError(f"model had shape {array.shape}; allowed is ({features},)")
    wide = array if array.dtype.kind in "iu" else np.rint(array * MODEL_ONE)
    if not np.all(np.abs(wide) <= LARGEST):
        raise ArgumentError(
            f"model had entries outside +-{LARGEST / MODEL_ONE:g} or not finite; allowed are "
            "numbers inside"
        )
    return wide.astype(np.int32)
