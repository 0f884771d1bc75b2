"""Parameters of the estimators: what they are, what is allowed, what they come to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from zipml_pynq.constants import CONFIG, MAX_BITS, WIDE_MAX_BITS
from zipml_pynq.data.checks import check_bits, check_choice, check_flag, check_int, check_positive
from zipml_pynq.data.layout import (
    BITPLANES,
    DEFAULT_BATCH,
    FLOAT32,
    LEVELS,
    REFETCH,
    format_of_bits,
)
from zipml_pynq.data.pack import LEVEL_CHOICES
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.sklearn import (
    BaseEstimator,
)
from zipml_pynq.training.defaults import schedule_of
from zipml_pynq.training.make_plan import SCHEDULES

#: How values are drawn, and read: parameters of :func:`pack` and :func:`make_plan`.
_SAMPLINGS = {
    "double": ("double", "symmetric"),
    "plain": ("double", "plain"),
    "single": ("single", "single"),
    "nearest": ("nearest", "nearest"),
    "independent": ("independent", "independent"),
}

#: Bits of "auto" where a model is refined, and else.
AUTO_BITS, DEFAULT_BITS = 2, 4

PARAMETERS = """\
    bits : int, sequence of int or "auto", default=4
        Bits of one sample of a value, 1 to 16; more than 8 are of a uniform grid, and have a kernel
        of their own. "auto" is 2 bits, drawn once and refined, where ``refine="auto"`` can, which
        takes few bytes (docs/refinement.md), else 4. A sequence is a precision schedule: the bits
        of every epoch, the last one for all that follow. 32 trains from float32.
    sampling : {"auto", "double", "plain", "single", "nearest", "independent"}, default="auto"
        "double": two draws of every value, symmetric gradient; "plain": its plain one; "single" and
        "nearest" are the naive, biased ones; "independent" goes with ``approximation="chebyshev"``.
        "auto" is that, or "double".
    levels : {"auto", "uniform", "optimal", "global"}, default="auto"
        Where quantization levels lie, see :func:`zipml_pynq.data.pack.pack`; "optimal" and "global"
        allow one precision. "auto" is "uniform" where raw samples are refined; else "optimal" for
        up to 2^26 values of 2 to 4 bits, and "uniform" beyond.
    approximation : {"direct", "chebyshev"}, default="direct"
        See :func:`zipml_pynq.training.losses.derivative_of`.
    degree : int, optional
        Of the polynomial, 1 to 15; 5 by default.
    refetch : bool, default=False
        Read samples whose hinge is in doubt again at full precision.
    model_bits, gradient_bits : int, default=0
        Bits to which model and gradient are quantized on chip; 0 for none.
    model_range, gradient_range : "auto" or float, default="auto"
        What these bits are spread over, see :func:`zipml_pynq.training.make_plan.make_plan`. "auto"
        depends on the number of epochs, so a warm start goes on exactly only with numbers.
    penalty : {"l2", "l1", "elasticnet"}, default="l2"
        What ``alpha`` weighs: ``||x||^2 / 2``, ``|x|_1``, or ``l1_ratio`` of this and the rest of
        that. What the l1 norm makes 0 stays 0 in a mean of models only where it is 0 in each of
        them: ``average=False`` has more zeros.
    alpha : float or "auto", default="auto"
        Weight of ``alpha / 2 * ||x||^2``, x the model in normalized units, its intercept included.
        "auto": what ``Ridge(alpha=1)``, ``LogisticRegression(C=1)`` and ``LinearSVC(C=1)`` have for
        standardized columns; in the mean over the columns where a model is not refined.
    l1_ratio : float, default=0.15
        Of ``penalty="elasticnet"``.
    fit_intercept : bool, default=True
    max_iter : int, default=1000
        Most epochs.
    tol : float or None, default=1e-3
        Training stops when the later half of its epochs, at least ``n_iter_no_change``, has gained
        no more than ``tol`` times the objective (on the validation set with ``early_stopping``):
        about as much is left to the optimum. None: no stopping.
    batch_size : int or "auto", default="auto"
        Samples a batch, 1 to 256; "auto": 16, or fewer where samples are so wide that the device
        holds no more.
    eta0 : "auto" or float, default="auto"
        Step of the first epoch in normalized units.
    learning_rate : {"auto", "constant", "linear", "inverse", "decay"} or callable, default="auto"
        Schedule of the step, see :func:`zipml_pynq.training.make_plan.step_sizes`. "auto" is
        constant until little is left to gain, and then falls linearly to nothing in half as many
        epochs more; without ``tol`` linear; constant for a warm start, ``partial_fit`` and a
        quantized gradient; with a polynomial, which grows beyond its range, inverse.
    feature_steps : bool, default=True
        Features of smaller second moment take larger steps, by powers of two, as if columns were
        standardized: :func:`zipml_pynq.training.step.auto_shifts`.
    average : bool or "auto", default="auto"
        The model is the mean of the models at the ends of the later half of the epochs, or that of
        the last one. "auto": the mean where the step stays constant to the end.
    redraw : bool or "auto", default="auto"
        Pack raw samples anew for every epoch, in another order and with a new draw of every value,
        so that the noise of quantization averages out; packed ones get another order alone. "auto"
        does so where that costs little and nothing is refined.
    refine : bool or "auto", default="auto"
        Go on from a few epochs to the optimum of the values themselves, by true gradients of the
        raw samples, or of the most bits that are packed (docs/refinement.md). Every round counts as
        an epoch. "auto" does so where the loss has a second derivative and everything else is at
        its default that tells how to train: one precision, sampling, step, schedule, ``average``,
        ``redraw``, ``penalty``, ``tol``, no validation set and no quantization on chip.
    shuffle : bool or "epochs", default=True
        Pack rows in random order, and where they are not packed anew and the device holds all of
        them, take blocks in another order in every epoch. "epochs": do so in any case.
    early_stopping : bool, default=False
        Hold ``validation_fraction`` of the samples out (of a packed data set its last blocks) and
        keep the model of the epoch that was best on them.
    validation_fraction : float, default=0.1
    n_iter_no_change : int, default=5
    warm_start : bool, default=False
        ``fit`` goes on from the last one: its model, normalization and place in the schedules.
    n_jobs : int or None, default=None
        Models that are trained at a time, of several classes or targets, by the device "host": as
        scikit-learn's, so 1 by default, -1 for as many as there are processors. Other devices train
        as many as they have kernels. The model does not depend on it.
    random_state : int, RandomState or None, default=None
        Of draws, order of rows, validation set and quantization on chip.
    device : str, path, overlay, driver or list of drivers, default="host"
        "host", the engine of this process; "emulated", the same behind the driver, with the same
        bits; the name of a board ("pynq-z2"), the path of a bitstream, what ``load_overlay``
        returned, or drivers. Of an overlay with several kernels, and of several drivers of kernels
        alike, all train at a time, whatever threads' fits ask.
    verbose : int, default=0
        A progress bar if not 0.
"""
ATTRIBUTES = """\
    alpha_ : float
        The weight of the last fit.
    n_iter_ : int
        Epochs of the last fit; of several models, the most.
    t_ : int
        Epochs since the first fit that this one goes on from.
    loss_curve_ : ndarray, one entry an epoch
        Objective after every epoch, in normalized units, on (evenly spread) training rows; exact
        values, or those of the draws of a packed data set. The mean over models.
    validation_curve_ : ndarray, one entry an epoch
        The same on the validation set, with ``early_stopping``.
    bytes_streamed_, refetched_, saturated_ : int
        Bytes of samples that went through the accelerator in the last fit, samples that were read
        again, and results that were clamped.
    normalization_ : Normalization
        Of the data that the first fit saw.
    model_ : ndarray of int32, shape (models, features)
        As the accelerator holds it.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where the columns had names.
"""

#: What alpha weighs.
PENALTIES = ("l2", "l1", "elasticnet")


class Parameters(BaseEstimator):
    """The parameters that regressor and classifier share."""

    _losses: ClassVar[tuple[str, ...]]
    #: Whether raw rows are at hand after they are packed, to refine by.
    _keeps_rows: ClassVar[bool] = True

    def __init__(
        self,
        loss: str = "least_squares",
        *,
        bits: int | Sequence[int] | str = 4,
        sampling: str = "auto",
        levels: str = "auto",
        approximation: str = "direct",
        degree: int | None = None,
        refetch: bool = False,
        model_bits: int = 0,
        gradient_bits: int = 0,
        model_range: float | str = "auto",
        gradient_range: float | str = "auto",
        penalty: str = "l2",
        alpha: float | str = "auto",
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        batch_size: int | str = "auto",
        eta0: float | str = "auto",
        learning_rate: str | Callable[[int], float] = "auto",
        feature_steps: bool = True,
        average: bool | str = "auto",
        redraw: bool | str = "auto",
        refine: bool | str = "auto",
        shuffle: bool | str = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        n_jobs: int | None = None,
        random_state: Any = None,
        device: Any = "host",
        verbose: int = 0,
    ) -> None:
        self.loss = loss
        self.bits = bits
        self.sampling = sampling
        self.levels = levels
        self.approximation = approximation
        self.degree = degree
        self.refetch = refetch
        self.model_bits = model_bits
        self.gradient_bits = gradient_bits
        self.model_range = model_range
        self.gradient_range = gradient_range
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.eta0 = eta0
        self.learning_rate = learning_rate
        self.feature_steps = feature_steps
        self.average = average
        self.redraw = redraw
        self.refine = refine
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> Any:
        if not isinstance(self.device, str | os.PathLike):
            raise ArgumentError(
                "device was a loaded overlay or driver, which cannot be pickled; allowed are names "
                "and paths: set_params(device='emulated') first"
            )
        return super().__getstate__()

    def _check_parameters(self) -> None:
        check_choice("loss", self.loss, self._losses)
        if self.sampling != "auto":
            check_choice("sampling", self.sampling, ("auto", *_SAMPLINGS))
        check_choice("levels", self.levels, ("auto", *LEVEL_CHOICES))
        for name in (
            "fit_intercept",
            "refetch",
            "early_stopping",
            "warm_start",
            "feature_steps",
        ):
            check_flag(name, getattr(self, name))
        if not isinstance(self.shuffle, bool | np.bool_) and self.shuffle != "epochs":
            raise ArgumentError(
                f"shuffle was {self.shuffle!r}; allowed are True, False and 'epochs'"
            )
        for name in ("redraw", "refine", "average"):
            if getattr(self, name) != "auto":
                check_flag(name, getattr(self, name))
        check_choice("penalty", self.penalty, PENALTIES)
        if not 0 <= check_positive("l1_ratio", self.l1_ratio, zero=True) <= 1:
            raise ArgumentError(f"l1_ratio was {self.l1_ratio!r}; allowed is 0 to 1")
        if self.alpha == "auto" and self.penalty != "l2":
            raise ArgumentError(
                f"alpha was 'auto' with penalty {self.penalty!r}; allowed are numbers, and 'auto' "
                "with 'l2'"
            )
        if self.alpha != "auto":
            check_positive("alpha", self.alpha, zero=True)
        if self.eta0 != "auto":
            check_positive("eta0", self.eta0)
        if not callable(self.learning_rate):
            check_choice("learning_rate", self.learning_rate, ("auto", *SCHEDULES))
        if self.tol is not None:
            check_positive("tol", self.tol, zero=True)
        check_int("max_iter", self.max_iter, 1, CONFIG.max_epochs)
        if self.batch_size != "auto":
            check_int("batch_size", self.batch_size, 1, CONFIG.max_batch)
        check_int("n_iter_no_change", self.n_iter_no_change, 1, CONFIG.max_epochs)
        if self.n_jobs is not None and (
            isinstance(self.n_jobs, bool)
            or not isinstance(self.n_jobs, int | np.integer)
            or self.n_jobs == 0
        ):
            raise ArgumentError(
                f"n_jobs was {self.n_jobs!r}; allowed are None and integers other than 0"
            )
        check_positive("validation_fraction", self.validation_fraction)
        if self.validation_fraction >= 1:
            raise ArgumentError(
                f"validation_fraction was {self.validation_fraction!r}; it must be below 1"
            )
        self._stored_bits()
        if self.refetch and self.loss != "hinge":
            raise ArgumentError(f"refetch was True with loss {self.loss!r}; it is for 'hinge'")
        if self.refetch and self._stored_bits() == [32]:
            raise ArgumentError("refetch was True with bits 32, where there is nothing to refetch")
        if MAX_BITS < max(self._stored_bits()) < 32:
            for name, allowed in (("refetch", (False,)), ("levels", ("auto", "uniform"))):
                if getattr(self, name) not in allowed:
                    raise ArgumentError(
                        f"{name} was {getattr(self, name)!r} with bits {self.bits!r}; more than "
                        f"{MAX_BITS} bits go with {' and '.join(map(repr, allowed))}"
                    )
        if self.refetch and self.levels not in ("auto", "uniform"):
            raise ArgumentError(
                f"refetch was True with levels {self.levels!r}; allowed are 'auto' and 'uniform'"
            )

    def _stored_bits(self) -> list[int]:
        """Bits of every epoch, the last one for all that follow."""
        if isinstance(self.bits, int | np.integer) and self.bits == 32:
            return [32]
        if isinstance(self.bits, str) and self.bits == "auto":
            return [AUTO_BITS if self._refines_auto_bits else DEFAULT_BITS]
        if isinstance(self.bits, str) or not np.iterable(self.bits):
            return [check_bits(self.bits, WIDE_MAX_BITS)]
        found = [check_bits(b, WIDE_MAX_BITS) for b in self.bits]
        if not found:
            raise ArgumentError(
                f"bits was empty; allowed are 1..{WIDE_MAX_BITS}, or one of them for every epoch"
            )
        return found

    @property
    def _wanted_batch(self) -> int | None:
        """Samples a batch, None for as many as are good and fit."""
        return None if isinstance(self.batch_size, str) else int(self.batch_size)

    def _batch(self, packed: PackedDataset) -> int:
        """Samples a batch of a data set."""
        if self._wanted_batch is not None:
            return self._wanted_batch
        fits = packed.layout.block_samples % DEFAULT_BATCH == 0
        return DEFAULT_BATCH if fits else packed.batch

    @property
    def _schedule(self) -> str | Callable[[int], float]:
        if self.learning_rate != "auto":
            return self.learning_rate
        known = schedule_of(self.approximation)
        open_ended = self.tol is not None or self.warm_start
        return "constant" if open_ended and known == "linear" else known

    @property
    def _cools(self) -> bool:
        """Whether the step falls to nothing at the end, when that has come."""
        falls = self.learning_rate == "auto" and self._schedule == "constant"
        return falls and not self.warm_start and not self.gradient_bits

    @property
    def _averages(self) -> bool:
        """Whether the model is a mean over epochs, where the step does not fall."""
        return self._schedule == "constant" if self.average == "auto" else bool(self.average)

    def _bits_of(self, epoch: int) -> int:
        bits = self._stored_bits()
        return bits[min(epoch, len(bits) - 1)]

    def _value_format(self, levels: str) -> str:
        if self._stored_bits() == [32]:
            return FLOAT32
        if levels != "uniform":
            return LEVELS
        return format_of_bits(REFETCH if self.refetch else BITPLANES, max(self._stored_bits()))

    def _penalties(self, alpha: float) -> tuple[float, float]:
        """Weights of ``|x|^2 / 2`` and of ``|x|_1``."""
        share = {"l2": 0.0, "l1": 1.0, "elasticnet": float(self.l1_ratio)}[self.penalty]
        return alpha * (1 - share), alpha * share

    @property
    def _by_default(self) -> bool:
        """Whether everything that tells how to train is at its default."""
        return (
            self.sampling in ("auto", "double")
            and self.approximation == "direct"
            and self.eta0 == "auto"
            and self.learning_rate == "auto"
            and bool(self.average)
            and self.tol is not None
            and not self.early_stopping
            and not self.warm_start
            and not self.model_bits
            and not self.gradient_bits
        )

    @property
    def _refines_auto_bits(self) -> bool:
        """Whether bits are "auto", few and refined."""
        automatic = isinstance(self.bits, str) and self.bits == "auto"
        refined = self.refine is not False and self.loss != "hinge"
        asked = automatic and refined and self.redraw is not True
        return asked and self._keeps_rows and self._by_default

    def _sampling(self) -> tuple[str | None, str | None]:
        """How to pack, and how to train; None: by default."""
        if self.sampling != "auto":
            return _SAMPLINGS[self.sampling]
        return ("independent", None) if self.approximation == "chebyshev" else (None, None)
