"""How a training run goes: its plan, checked against the data set and the kernel's limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import CONFIG, LIMITS, SAMPLING_CODES
from zipml_pynq.data.checks import check_int
from zipml_pynq.data.layout import Layout
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.losses import Derivative, derivative_of
from zipml_pynq.training.schedule import batch_cells, fits_ring, passes

#: Samplings that a data set can be trained with, by the dither planes that it stores; the first is
#: the default.
SAMPLINGS: dict[str, tuple[str, ...]] = {
    "independent": ("independent", "symmetric", "plain", "single"),
    "double": ("symmetric", "plain", "single"),
    "single": ("single",),
    "nearest": ("nearest",),
}


@dataclass(frozen=True, eq=False)
class Plan:
    """One training run; :func:`make_plan` makes and checks it.

    Parameters
    ----------
    bits : int
        Bits of one sample of a value, 1 to 16 (32 for float32 data).
    sampling : str
        "symmetric", "plain", "single" or "nearest".
    batch : int
        Samples a batch.
    epochs : int
        Passes over the data.
    delay : int
        Batches by which the model lags: a dot product of batch k sees the updates up to batch
        ``k - 1 - delay``.
    steps : ndarray of uint32, shape (epochs,)
        ``step / batch`` with ``CONFIG.step_fraction_bits`` fraction bits.
    decays : ndarray of uint32, shape (epochs,)
        ``step * l2`` with ``CONFIG.decay_fraction_bits`` fraction bits.
    step : ndarray of float64, shape (epochs,)
        The step of every epoch.
    l2 : float
        Weight of ``l2 / 2 * ||x||^2`` in the objective.
    loss : str
        A key of :data:`zipml_pynq.training.losses.LOSSES`.
    derivative : Derivative
        How the accelerator gets the loss's derivative.
    negative_steps : ndarray of uint32, shape (epochs,), optional
        ``steps`` for samples with negative labels; by default the same.
    model_bits, gradient_bits : int
        Bits of the quantized model and gradient; 0 for none.
    model_shift : int
        Log2 of the unit of a quantized model entry, in ``2^-CONFIG.model_fraction_bits``.
    gradient_shifts : ndarray of uint32, shape (epochs,), optional
        Log2 of the unit of a quantized gradient in every epoch, in ``2^-(29 + f)``, f the fraction
        bits of a value; 0 by default.
    seed : int
        Of the random numbers on chip, 0..2^32 - 1.
    orders : ndarray of uint32, shape (epochs, 2), optional
        First block and block step of every epoch; by default blocks come in their order.
    feature_shifts : ndarray of uint8, shape (features,), optional
        Log2 of the step of each feature over ``step``, 0..``CONFIG.max_feature_shift``; its decay
        is as many times as strong, too. By default all features have the same step.
    l1 : float
        Weight of ``l1 * |x|_1`` in the objective.
    thresholds : ndarray of uint32, shape (epochs,), optional
        ``step * l1`` with ``CONFIG.model_fraction_bits`` fraction bits, what an update takes from
        the size of every entry; a feature's own step has one as many times as large. 0 by default.
    correction : ndarray of int32, shape (features,), optional
        What every update adds to each feature's gradient, step included, with
        ``CONFIG.correction_fraction_bits`` fraction bits; see :meth:`corrected`. By default
        nothing.
    frozen : bool
        Dot products read the start model throughout, and what comes out is the start model less
        the steps of all batches there: the gradient over the whole set.
    first_epoch : int
        Epochs that were trained before, see :meth:`part`: the random numbers on chip go on from
        there.
    """

    bits: int
    sampling: str
    batch: int
    epochs: int
    delay: int
    steps: NDArray[np.uint32]
    decays: NDArray[np.uint32]
    step: NDArray[np.float64]
    l2: float
    loss: str = "least_squares"
    derivative: Derivative = field(default_factory=lambda: derivative_of("least_squares"))
    negative_steps: NDArray[np.uint32] | None = None
    model_bits: int = 0
    model_shift: int = 0
    gradient_bits: int = 0
    gradient_shifts: NDArray[np.uint32] | None = None
    seed: int = 0
    orders: NDArray[np.uint32] | None = None
    feature_shifts: NDArray[np.uint8] | None = None
    l1: float = 0.0
    thresholds: NDArray[np.uint32] | None = None
    correction: NDArray[np.int32] | None = None
    frozen: bool = False
    first_epoch: int = 0

    def part(self, first: int, stop: int) -> Plan:
        """The epochs ``first`` to ``stop - 1`` of this plan, as a plan.

        Training by the parts of a plan one after the other, each from the model that the one
        before ended with, gives the bits of the whole.
        """
        check_int("first", first, 0, self.epochs - 1)
        check_int("stop", stop, first + 1, self.epochs)
        registers = ("steps", "decays", "negative_steps", "gradient_shifts", "thresholds")
        names = (*registers, "step", "orders")
        columns = {name: getattr(self, name) for name in names}
        return replace(
            self,
            epochs=stop - first,
            first_epoch=self.first_epoch + first,
            **{name: a[first:stop] for name, a in columns.items() if a is not None},
        )

    def cooled(self, first: int, stop: int) -> Plan:
        """The same with a step that falls linearly from epoch ``first`` on, to nothing at ``stop``.

        Not for a quantized gradient, whose range goes with the step.
        """
        check_int("first", first, 0, self.epochs - 1)
        check_int("stop", stop, first + 1, self.epochs)
        if self.gradient_bits:
            raise ArgumentError(
                f"gradient_bits was {self.gradient_bits}; a plan of another step has other ranges"
            )
        factors = np.ones(self.epochs)
        factors[first:stop] = np.linspace(1, 0, stop - first + 1, endpoint=False)[1:]

        def fewer(registers: NDArray[np.uint32], least: int) -> NDArray[np.uint32]:
            return np.maximum(np.rint(registers * factors), least).astype(np.uint32)

        negative, thresholds = self.negative_steps, self.thresholds
        return replace(
            self,
            step=self.step * factors,
            steps=fewer(self.steps, 1),
            negative_steps=None if negative is None else fewer(negative, 1),
            decays=fewer(self.decays, 0),
            thresholds=None if thresholds is None else fewer(thresholds, 0),
        )

    def corrected(self, gradient: ArrayLike) -> Plan:
        """This plan with a vector added to the gradient of every batch.

        Parameters
        ----------
        gradient : array_like of float, shape (features,)
            In normalized units.

        Raises
        ------
        ArgumentError
            The step is not the same in every epoch, or the vector times the step does not fit.
        """
        if np.any(self.step != self.step[0]):
            raise ArgumentError(
                f"step was {self.step.min():g} to {self.step.max():g}; a correction holds for one "
                "step: make a plan of each epoch with part"
            )
        one = 2.0**CONFIG.correction_fraction_bits
        exact = np.rint(self.step[0] * np.asarray(gradient, dtype=np.float64) * one)
        if not np.all(np.abs(exact) <= LARGEST_CORRECTION):
            raise ArgumentError(
                f"gradient held {np.abs(gradient).max():g} at step {self.step[0]:g}; allowed is "
                f"gradient * step < {(LARGEST_CORRECTION + 1) / one:g}, and no NaN"
            )
        return replace(self, correction=exact.astype(np.int32))

    @property
    def vectors_behind(self) -> list[NDArray[np.integer]]:
        """What lies behind the model in its memory, each (features,): shifts, corrections."""
        return [v for v in (self.feature_shifts, self.correction) if v is not None]

    @property
    def degree(self) -> int:
        """Degree of the derivative's polynomial; 0 where there is none."""
        return self.derivative.degree

    @property
    def feature_steps(self) -> NDArray[np.float64] | None:
        """Factor of each feature's step, shape (features,); None where there are none."""
        return None if self.feature_shifts is None else np.exp2(self.feature_shifts)

    def epoch_order(self, epoch: int) -> tuple[int, int]:
        """First block and block step of an epoch."""
        if self.orders is None:
            return 0, 1
        return int(self.orders[epoch, 0]), int(self.orders[epoch, 1])

    def check(self, layout: Layout) -> None:
        """Raise ArgumentError if a data set of ``layout`` cannot be trained by this plan."""
        choice("bits", self.bits, layout.bits, "the data set stores")
        choice(
            "sampling",
            self.sampling,
            samplings(layout),
            f"a data set of {layout.sampling!r} sampling allows",
        )
        batch, epochs = self.batch, self.epochs
        check_int("batch", batch, 1, CONFIG.max_batch)
        if layout.block_samples % batch != 0:
            raise ArgumentError(
                f"batch was {batch}; allowed are divisors of the data set's block of "
                f"{layout.block_samples} samples"
            )
        check_int("epochs", epochs, 1, CONFIG.max_epochs)
        check_int("delay", self.delay, 0, CONFIG.max_delay)
        if self.frozen and epochs != 1:
            raise ArgumentError(f"epochs was {epochs}; a frozen model allows 1")
        if self.frozen and self.l2 != 0:
            raise ArgumentError(f"l2 was {self.l2:g}; a frozen model allows 0: l2 * x is known")
        if self.frozen and self.l1 != 0:
            raise ArgumentError(f"l1 was {self.l1:g}; a frozen model allows 0: it would shrink")
        limits = LIMITS[layout.value_format]
        self._check_loss(layout)
        over = passes(layout, self.bits, self.sampling, self.degree)
        words = over * layout.block_samples * layout.chunks
        if words > limits.block_words:
            raise ArgumentError(
                f"bits was {self.bits} with {self.sampling} sampling: a block of "
                f"{layout.block_samples} samples is {words} words; allowed are "
                f"{limits.block_words}: pack with a smaller block_samples"
            )
        if not fits_ring(layout, self.bits, self.sampling, batch, self.delay, self.degree):
            cells = batch_cells(layout, self.bits, self.sampling, batch, self.degree)
            raise ArgumentError(
                f"delay was {self.delay}: batches of {cells} words exceed the {limits.ring_words} "
                "kept on chip; allowed is a smaller delay or batch"
            )
        for name in ("steps", "decays", "negative_steps", "gradient_shifts", "thresholds"):
            column = getattr(self, name)
            if column is not None and column.shape != (epochs,):
                raise ArgumentError(f"{name} had shape {column.shape}; allowed is ({epochs},)")
        self._check_orders(layout)
        self._check_shifts(layout)
        self._check_correction(layout)

    def _check_loss(self, layout: Layout) -> None:
        polynomial = self.degree > 0
        if polynomial != (self.sampling == "independent"):
            raise ArgumentError(
                f"sampling was {self.sampling!r}; a polynomial derivative (approximation "
                "'chebyshev') goes with 'independent', and nothing else does"
            )
        if polynomial and layout.dithers < self.degree + 1:
            raise ArgumentError(
                f"degree was {self.degree}; the data set stores {layout.dithers} samples of a "
                f"value, and {self.degree + 1} are needed: pack with sampling='independent', "
                f"dithers={self.degree + 1}"
            )
        if polynomial and self.batch * layout.chunks < CONFIG.polynomial_distance:
            raise ArgumentError(
                f"batch was {self.batch}; with {layout.chunks} word(s) a sample a polynomial "
                f"derivative needs batches of at least "
                f"{-(-CONFIG.polynomial_distance // layout.chunks)}"
            )
        if layout.value_format == "refetch" and self.loss != "hinge":
            raise ArgumentError(
                f"loss was {self.loss!r}; a data set packed for refetching is for the hinge"
            )
        for name in ("model_bits", "gradient_bits"):
            bits = getattr(self, name)
            if bits != 0:
                check_int(name, bits, CONFIG.min_quantized_bits, CONFIG.max_quantized_bits)
        check_int("model_shift", self.model_shift, 0, 31)
        check_int("seed", self.seed, 0, (1 << 32) - 1)

    def _check_orders(self, layout: Layout) -> None:
        if self.orders is None:
            return
        if self.orders.shape != (self.epochs, 2):
            raise ArgumentError(
                f"orders had shape {self.orders.shape}; allowed is ({self.epochs}, 2)"
            )
        for first, step in self.orders.tolist():
            if not (first < layout.blocks and 1 <= step <= layout.blocks) or (
                math.gcd(step, layout.blocks) != 1
            ):
                raise ArgumentError(
                    f"orders held first block {first} and step {step}; allowed are a block of the "
                    f"{layout.blocks}, and a step without a common factor with that number"
                )

    def _check_shifts(self, layout: Layout) -> None:
        shifts = self.feature_shifts
        if shifts is None:
            return
        if shifts.shape != (layout.features,):
            raise ArgumentError(
                f"feature_shifts had shape {shifts.shape}; allowed is ({layout.features},)"
            )
        if shifts.dtype != np.uint8:
            raise ArgumentError(f"feature_shifts had type {shifts.dtype}; allowed is uint8")
        if shifts.max() > CONFIG.max_feature_shift:
            raise ArgumentError(
                f"feature_shifts held {shifts.max()}; allowed are 0..{CONFIG.max_feature_shift}"
            )

    def _check_correction(self, layout: Layout) -> None:
        correction = self.correction
        if correction is None:
            return
        if layout.value_format == "float32":
            raise ArgumentError(
                "the plan has a correction; the float32 kernel takes none, and values at full "
                "precision need none"
            )
        if correction.shape != (layout.features,) or correction.dtype != np.int32:
            raise ArgumentError(
                f"correction had shape {correction.shape} and type {correction.dtype}; allowed is "
                f"({layout.features},) of int32"
            )

    def registers(self, layout: Layout) -> dict[str, int]:
        """The scalar registers of a run over the whole of ``layout``."""
        floats = layout.value_format == "float32"
        registers = {
            "samples": layout.samples,
            "features": layout.features,
            "batch": self.batch,
            "block_samples": layout.block_samples,
            "block_stride": layout.block_stride,
            "dither_offset": 0 if floats else layout.dither_offset(self.bits),
            "bits": self.bits,
            "sampling": SAMPLING_CODES[self.sampling],
            "epochs": self.epochs,
            "delay": self.delay,
            "skip": 0,
            "pending": 0,
            "flags": self._flags(),
            "loss": self.derivative.code,
            "degree": self.degree,
            "range_log2": self.derivative.range_log2,
            "model_bits": self.model_bits,
            "model_shift": self.model_shift,
            "gradient_bits": self.gradient_bits,
            "seed": self.seed,
            "first_update": 0,
            "first_block": self.epoch_order(0)[0],
            "block_step": self.epoch_order(0)[1],
        }
        if layout.level_tables:
            registers["level_tables"] = layout.level_tables
        return registers

    def _flags(self) -> int:
        flags = 0
        if self.feature_shifts is not None:
            flags |= CONFIG.flag_feature_steps
        if self.correction is not None:
            flags |= CONFIG.flag_correction
        if self.frozen:
            flags |= CONFIG.flag_frozen
        return flags

    @property
    def one_order(self) -> bool:
        """Whether all epochs take their blocks in the same order, which one call can run."""
        return self.orders is None or bool((self.orders == self.orders[0]).all())

    def schedule_table(self) -> NDArray[np.uint32]:
        """What the ``schedule`` port reads: uint32, shape (epochs, 5).

        Rows of step, step of negative labels, decay, the gradient's shift, and the threshold.
        """
        negative = self.steps if self.negative_steps is None else self.negative_steps
        columns = [self.steps, negative, self.decays, self.gradient_shifts, self.thresholds]
        table = np.zeros((len(self.steps), SCHEDULE_COLUMNS), dtype=np.uint32)
        for number, column in enumerate(columns):
            if column is not None:
                table[:, number] = column
        return table


def choice(name: str, value: Any, allowed: Sequence[Any], why: str) -> Any:
    if value not in allowed:
        raise ArgumentError(f"{name} was {value!r}; {why} {', '.join(map(repr, allowed))}")
    return value


def samplings(layout: Layout) -> tuple[str, ...]:
    """Samplings that a data set can be trained with; the first is the default."""
    return ("single",) if layout.value_format == "float32" else SAMPLINGS[layout.sampling]


#: Magnitude of a correction's word.
LARGEST_CORRECTION = (1 << 31) - 1
#: Words of an epoch in the schedule: step, step of negative labels, decay, gradient's shift,
#: threshold.
SCHEDULE_COLUMNS = 5
