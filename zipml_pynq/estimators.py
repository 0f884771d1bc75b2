"""scikit-learn estimators that train on the accelerator, or on its emulation.

Needs scikit-learn, ``pip install 'zipml_pynq[sklearn]'``, which nothing else in the package does.
docs/estimators.md says how the parameters map to packing, plan and driver.
"""

from __future__ import annotations

import json
import math
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, compute_class_weight
    from sklearn.utils.extmath import safe_sparse_dot
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "the estimators need scikit-learn 1.6 or later: pip install 'zipml_pynq[sklearn]'"
    ) from error

from zipml_pynq import bitstreams
from zipml_pynq.constants import CONFIG, LIMITS, MODEL_ONE, WORD_BITS
from zipml_pynq.devices import load_overlay
from zipml_pynq.driver import SgdDriver
from zipml_pynq.errors import ArgumentError, ModelFileError, ZipmlWarning
from zipml_pynq.losses import LOSSES
from zipml_pynq.models import LinearModel, probabilities
from zipml_pynq.pack import (
    BITPLANES,
    FLOAT32,
    LEVEL_CHOICES,
    LEVELS,
    REFETCH,
    PackedDataset,
    pack,
    plan_layout,
)
from zipml_pynq.plan import SCHEDULES, Plan, make_plan
from zipml_pynq.quantize import (
    Normalization,
    available_bytes,
    check_bits,
    check_choice,
    check_int,
)
from zipml_pynq.reference import block_values
from zipml_pynq.result import TrainResult

#: How values are drawn, and read: parameters of :func:`pack` and :func:`make_plan`.
_SAMPLINGS = {
    "double": ("double", "symmetric"),
    "plain": ("double", "plain"),
    "single": ("single", "single"),
    "nearest": ("nearest", "nearest"),
    "independent": ("independent", "independent"),
}
#: Values that an objective is taken on after every epoch, about.
OBJECTIVE_VALUES = 1 << 21

#: What the labels -1 and 1 are normalized by.
_SIGNS = Normalization(np.zeros(1), np.ones(1), 0.0, 1.0)

_loaded = threading.local()


def _load(source: str, **options: Any) -> SgdDriver:
    """The driver of an overlay, loaded once a thread."""
    cache = _loaded.__dict__.setdefault("drivers", {})
    key = (source, *sorted(options.items()))
    if key not in cache:
        cache[key] = load_overlay(source, **options)
    return cache[key].driver


def _positive(name: str, value: Any, zero: bool = False) -> None:
    """Raise ArgumentError unless ``value`` is a finite number above 0, or 0 where allowed."""
    good = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (good and math.isfinite(value) and (value > 0 or (zero and value == 0))):
        allowed = "from 0 up" if zero else "above 0"
        raise ArgumentError(f"{name} was {value!r}; allowed are finite numbers {allowed}")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{name} was {value!r}; allowed are True and False")


# ---- Objectives over epochs --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows that an objective is taken on, in normalized units.

    Where both draws of a packed data set are known, least squares takes the product of their
    errors, which is unbiased, and other losses the mean over both.

    Parameters
    ----------
    index : ndarray of int, shape (rows,)
        Their numbers among the targets.
    q1, q2 : ndarray of float32, shape (rows, features)
    """

    index: NDArray[np.intp]
    q1: NDArray[np.float32]
    q2: NDArray[np.float32]

    @classmethod
    def exact(cls, X: Any, rows: NDArray[np.intp], normalization: Normalization) -> _Rows:
        """Some of the rows of raw samples."""
        index = _spread(rows, OBJECTIVE_VALUES // normalization.features)
        values = normalization.transform(X[index])
        return cls(index, values, values)

    @classmethod
    def drawn(cls, packed: PackedDataset, bits: int, sampling: str, first: int, stop: int) -> _Rows:
        """Rows of some of the blocks ``first`` to ``stop - 1`` of a packed data set."""
        size, samples = packed.layout.block_samples, packed.layout.samples
        wanted = OBJECTIVE_VALUES // (2 * size * packed.layout.features)
        blocks = _spread(np.arange(first, stop), wanted)
        q1, q2 = block_values(packed, bits, sampling, blocks)
        index = (blocks[:, None] * size + np.arange(size)).ravel()
        real = index < samples
        return cls(index[real], q1[real], q2[real])

    def objectives(
        self,
        models: NDArray[np.float64],
        labels: NDArray[np.float64],
        weights: NDArray[np.float64] | None,
        loss: str,
        l2: float,
    ) -> NDArray[np.float64]:
        """Mean weighted loss and ``l2 / 2 |x|^2`` of every model, shape (models,)."""
        y = labels[self.index, None]
        found = LOSSES[loss]
        x = models.T.astype(np.float32)
        z1 = (self.q1 @ x).astype(np.float64)
        z2 = z1 if self.q2 is self.q1 else (self.q2 @ x).astype(np.float64)
        if found.margin:
            sign = np.where(y < 0, -1.0, 1.0)
            losses = (found.value(sign * z1) + found.value(sign * z2)) / 2
        else:
            losses = (z1 - y) * (z2 - y) / 2
        if weights is not None:
            losses = losses * weights[self.index, None]
        return np.asarray(losses.mean(axis=0) + l2 / 2 * (models**2).sum(axis=1))


def _spread(rows: NDArray[np.intp], wanted: int) -> NDArray[np.intp]:
    """About so many of ``rows``, evenly spread; at least one."""
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), max(1, wanted)))
    return np.asarray(rows[np.unique(chosen.astype(np.intp))])


@dataclass
class _Stopper:
    """True once the objective has not fallen by ``tol`` times its size for ``patience`` epochs."""

    objective: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    tol: float
    patience: int
    best: float = math.inf
    idle: int = 0

    def __call__(self, model: NDArray[np.float64]) -> bool:
        value = float(self.objective(model[None, :])[0])
        if value > self.best - self.tol * abs(value):
            self.idle += 1
        else:
            self.idle = 0
        self.best = min(self.best, value)
        return self.stopped

    @property
    def stopped(self) -> bool:
        """Whether training is to end."""
        return self.idle >= self.patience


# ---- What is trained on ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Problem:
    """One linear model to train: its labels and weights, one a sample, or the data set's own."""

    labels: NDArray[np.float64] | None
    weights: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class _Data:
    """Packed samples, and the rows that objectives are taken on.

    Parameters
    ----------
    whole, packed : PackedDataset
        All packed samples, and those to train on.
    rows : ndarray of int
        Numbers of the samples of ``whole`` among the targets.
    train, validation : _Rows
    """

    whole: PackedDataset
    packed: PackedDataset
    rows: NDArray[np.intp]
    train: _Rows
    validation: _Rows | None = None


@dataclass
class _Run:
    """A trained model and what its training did."""

    model: NDArray[np.int32]
    normalization: Normalization
    curve: NDArray[np.float64]
    validation_curve: NDArray[np.float64] | None
    stopped: bool
    results: list[TrainResult] = field(default_factory=list)


def _head(packed: PackedDataset, blocks: int) -> PackedDataset:
    """The first blocks of a data set; everything is shared."""
    if blocks == packed.layout.blocks:
        return packed
    samples = blocks * packed.layout.block_samples
    return replace(
        packed,
        planes=packed.planes[:blocks],
        labels=packed.labels[:samples],
        layout=replace(packed.layout, samples=samples),
        full=None if packed.full is None else packed.full[:samples],
        weights=None if packed.weights is None else packed.weights[:samples],
    )


def _is_packed(X: Any) -> bool:
    return isinstance(X, PackedDataset | str | os.PathLike)


def _own_labels(packed: PackedDataset) -> NDArray[np.float64]:
    """Raw labels of a packed data set, as its fixed point holds them."""
    fixed = packed.labels[: packed.layout.samples]
    return packed.normalization.inverse_labels(fixed / MODEL_ONE)


def _mean_curve(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over models; one that has stopped counts with its last value."""
    length = max(map(len, curves))
    return np.mean([np.pad(c, (0, length - len(c)), mode="edge") for c in curves], axis=0)


# ---- Estimators --------------------------------------------------------------------------------

_PARAMETERS = """\
    bits : int or sequence of int, default=4
        Bits of one sample of a value, 1 to 8. A sequence is a precision schedule: the bits of every
        epoch, the last one for all that follow. 32 trains from float32.
    sampling : {"auto", "double", "plain", "single", "nearest", "independent"}, default="auto"
        "double": two draws of every value, symmetric gradient; "plain": its plain one; "single" and
        "nearest" are the naive, biased ones; "independent" goes with ``approximation="chebyshev"``.
        "auto" is that, or "double".
    levels : {"uniform", "optimal", "global"}, default="uniform"
        Where quantization levels lie, see :func:`zipml_pynq.pack.pack`; other than "uniform" allows
        one precision.
    approximation : {"direct", "chebyshev"}, default="direct"
        See :func:`zipml_pynq.losses.derivative_of`.
    degree : int, optional
        Of the polynomial, 1 to 7; 5 by default.
    refetch : bool, default=False
        Read samples whose hinge is in doubt again at full precision.
    model_bits, gradient_bits : int, default=0
        Bits to which model and gradient are quantized on chip; 0 for none.
    model_range, gradient_range : "auto" or float, default="auto"
        What these bits are spread over, see :func:`zipml_pynq.plan.make_plan`. "auto" depends on
        the number of epochs, so a warm start goes on exactly only with numbers.
    alpha : float, default=0.0
        Weight of ``alpha / 2 * ||x||^2``, x the model in normalized units, its intercept included.
    fit_intercept : bool, default=True
    max_iter : int, default=100
        Most epochs.
    tol : float or None, default=1e-3
        Training stops when the objective (on the validation set with ``early_stopping``) has not
        fallen by ``tol`` times its size in ``n_iter_no_change`` epochs. None: no stopping.
    batch_size : int, default=16
        Samples a batch, 1 to 256.
    eta0 : "auto" or float, default="auto"
        Step of the first epoch in normalized units.
    learning_rate : {"inverse", "constant", "decay"} or callable, default="inverse"
        Schedule of the step, see :func:`zipml_pynq.plan.step_sizes`.
    shuffle : bool or "epochs", default=True
        Pack rows in random order. "epochs": take blocks in another order in every epoch, too, which
        needs the data in the device's memory. A packed data set keeps the order of its rows.
    early_stopping : bool, default=False
        Hold ``validation_fraction`` of the samples out (of a packed data set its last blocks) and
        keep the model of the epoch that was best on them.
    validation_fraction : float, default=0.1
    n_iter_no_change : int, default=5
    warm_start : bool, default=False
        ``fit`` goes on from the last one: its model, normalization and place in the schedules.
    random_state : int, RandomState or None, default=None
        Of draws, order of rows, validation set and quantization on chip.
    device : str, path or driver, default="emulated"
        "emulated", the name of a board ("pynq-z2"), the path of a bitstream, or a loaded driver.
    verbose : int, default=0
        A progress bar if not 0.
"""
_ATTRIBUTES = """\
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


#: Fitted attributes that are no part of the model itself.
_TOLD = (
    "n_iter_",
    "t_",
    "loss_curve_",
    "validation_curve_",
    "bytes_streamed_",
    "refetched_",
    "saturated_",
)


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, others as they are."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


class _ZipMLEstimator(BaseEstimator):
    """What regressor and classifier share: parameters, data, training."""

    _losses: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        loss: str = "least_squares",
        *,
        bits: int | Sequence[int] = 4,
        sampling: str = "auto",
        levels: str = "uniform",
        approximation: str = "direct",
        degree: int | None = None,
        refetch: bool = False,
        model_bits: int = 0,
        gradient_bits: int = 0,
        model_range: float | str = "auto",
        gradient_range: float | str = "auto",
        alpha: float = 0.0,
        fit_intercept: bool = True,
        max_iter: int = 100,
        tol: float | None = 1e-3,
        batch_size: int = 16,
        eta0: float | str = "auto",
        learning_rate: str | Callable[[int], float] = "inverse",
        shuffle: bool | str = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        random_state: Any = None,
        device: Any = "emulated",
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
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.eta0 = eta0
        self.learning_rate = learning_rate
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
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
                "device was a loaded driver, which cannot be pickled; allowed are names and paths: "
                "set_params(device='emulated') first"
            )
        return super().__getstate__()

    # ---- parameters ---------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        check_choice("loss", self.loss, self._losses)
        if self.sampling != "auto":
            check_choice("sampling", self.sampling, ("auto", *_SAMPLINGS))
        check_choice("levels", self.levels, LEVEL_CHOICES)
        for name in ("fit_intercept", "refetch", "early_stopping", "warm_start"):
            _flag(name, getattr(self, name))
        if not isinstance(self.shuffle, bool | np.bool_) and self.shuffle != "epochs":
            raise ArgumentError(
                f"shuffle was {self.shuffle!r}; allowed are True, False and 'epochs'"
            )
        _positive("alpha", self.alpha, zero=True)
        if self.eta0 != "auto":
            _positive("eta0", self.eta0)
        if not callable(self.learning_rate):
            check_choice("learning_rate", self.learning_rate, tuple(SCHEDULES))
        if self.tol is not None:
            _positive("tol", self.tol, zero=True)
        check_int("max_iter", self.max_iter, 1, CONFIG.max_epochs)
        check_int("batch_size", self.batch_size, 1, CONFIG.max_batch)
        check_int("n_iter_no_change", self.n_iter_no_change, 1, CONFIG.max_epochs)
        _positive("validation_fraction", self.validation_fraction)
        if self.validation_fraction >= 1:
            raise ArgumentError(
                f"validation_fraction was {self.validation_fraction!r}; it must be below 1"
            )
        self._stored_bits()
        if self.refetch and self.loss != "hinge":
            raise ArgumentError(f"refetch was True with loss {self.loss!r}; it is for 'hinge'")
        if self.refetch and self._stored_bits() == [32]:
            raise ArgumentError("refetch was True with bits 32, where there is nothing to refetch")
        if self.refetch and self.levels != "uniform":
            raise ArgumentError("refetch was True with other levels; allowed are 'uniform'")

    def _stored_bits(self) -> list[int]:
        """Bits of every epoch, the last one for all that follow."""
        if isinstance(self.bits, int | np.integer) and self.bits == 32:
            return [32]
        if isinstance(self.bits, str) or not np.iterable(self.bits):
            return [check_bits(self.bits)]
        found = [check_bits(b) for b in self.bits]
        if not found:
            raise ArgumentError("bits was empty; allowed are 1..8, or one of them for every epoch")
        return found

    def _bits_of(self, epoch: int) -> int:
        bits = self._stored_bits()
        return bits[min(epoch, len(bits) - 1)]

    @property
    def _value_format(self) -> str:
        if self._stored_bits() == [32]:
            return FLOAT32
        if self.levels != "uniform":
            return LEVELS
        return REFETCH if self.refetch else BITPLANES

    def _sampling(self) -> tuple[str | None, str | None]:
        """How to pack, and how to train; None: by default."""
        if self.sampling != "auto":
            return _SAMPLINGS[self.sampling]
        return ("independent", None) if self.approximation == "chebyshev" else (None, None)

    # ---- device -------------------------------------------------------------------------------

    def _driver(self, value_format: str, features: int, word_bits: int | None = None) -> SgdDriver:
        """The driver for a value format; on the emulated device of the word width that fits."""
        device = getattr(self.device, "driver", self.device)
        if isinstance(device, SgdDriver):
            return device
        if not isinstance(device, str | os.PathLike):
            raise ArgumentError(
                f"device was {device!r}; allowed are 'emulated', a board's name, the path of a "
                "bitstream, and a loaded driver"
            )
        source = os.fspath(device)
        if source == "emulated":
            if word_bits is None:
                chunks, size = LIMITS[value_format].max_chunks, 32 if value_format == FLOAT32 else 1
                fitting = [w for w in WORD_BITS if features * size <= chunks * w]
                word_bits = fitting[0] if fitting else WORD_BITS[-1]
            return _load(source, word_bits=word_bits, value_format=value_format)
        if bitstreams.target_name(source) is not None:
            return _load(source, value_format=value_format)
        return _load(source)

    # ---- data ---------------------------------------------------------------------------------

    def _read(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """Samples and targets, checked; a packed data set's targets are its own if none came."""
        if not _is_packed(X):
            return validate_data(
                self,
                X,
                y,
                reset=reset,
                accept_sparse="csr",
                dtype=[np.float64, np.float32],
                y_numeric=isinstance(self, RegressorMixin),
                ensure_min_samples=1,
            )
        packed = X if isinstance(X, PackedDataset) else PackedDataset.load(X)
        columns = packed.normalization.columns
        if packed.normalization.intercept != bool(self.fit_intercept):
            raise ArgumentError(
                f"fit_intercept was {self.fit_intercept}; the data set was packed with "
                f"intercept={packed.normalization.intercept}"
            )
        if reset:
            self.n_features_in_ = columns
            self.__dict__.pop("feature_names_in_", None)
        elif columns != self.n_features_in_:
            raise ArgumentError(
                f"X had {columns} columns; this estimator was fitted to {self.n_features_in_}"
            )
        if y is not None:
            y = np.asarray(y)
            if y.shape != (packed.layout.samples,):
                raise ArgumentError(
                    f"y had shape {y.shape}; allowed is one label a sample, "
                    f"({packed.layout.samples},)"
                )
        return packed, y

    def _weights(self, sample_weight: Any, X: Any, scale: bool) -> NDArray[np.float64] | None:
        """Weights of samples: what came, or what a packed data set carries."""
        if _is_packed(X):
            if sample_weight is None:
                if X.weights is None:
                    return None
                return np.asarray(
                    X.weights[: X.layout.samples] / float(1 << CONFIG.weight_fraction_bits)
                )
            X = np.empty((X.layout.samples, 1))
        if sample_weight is None:
            return None
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return self._scaled(weights) if scale else weights

    @staticmethod
    def _scaled(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights of mean 1, as those that are counted in fixed point should be."""
        mean = weights.mean()
        if mean <= 0:
            raise ArgumentError("sample_weight was 0 for all samples; one must be positive")
        return np.asarray(weights / mean)

    def _prepare(
        self,
        X: Any,
        first: NDArray[np.float64] | None,
        normalization: Normalization | None,
        seed: int,
        draw: int,
        validate: bool,
        strata: NDArray | None,
    ) -> _Data:
        """Pack the samples, or take them as they are packed, and split a validation set off."""
        if isinstance(X, PackedDataset):
            return self._prepare_packed(X, normalization, validate)
        rows = np.arange(X.shape[0])
        held = None
        if validate:
            rows, held = self._split(rows, seed, strata)
        elif self.shuffle:
            rows = np.random.default_rng(seed).permutation(rows)
        features = X.shape[1] + int(self.fit_intercept)
        driver = self._driver(self._value_format, features)
        options: dict[str, Any] = {}
        if self._value_format == FLOAT32:
            if self.sampling != "auto":
                raise ArgumentError(
                    f"sampling was {self.sampling!r} with bits 32, which are not sampled; allowed "
                    "is 'auto'"
                )
        else:
            options = {"bits": set(self._stored_bits()), "sampling": self._sampling()[0]}
            if options["sampling"] == "independent":
                degree = 5 if self.degree is None else self.degree
                options["dithers"] = check_int("degree", degree, 1, CONFIG.max_degree) + 1
        if issparse(X):
            self._check_room(X, len(rows), features, driver.capability.word_bits, options)
        if self._value_format in (FLOAT32, REFETCH):
            options["value_format"] = self._value_format
        assert first is not None
        in_order = not self.shuffle and held is None  # then nothing need be copied
        packed = pack(
            X if in_order else X[rows],
            first[rows],
            word_bits=driver.capability.word_bits,
            batch=self.batch_size,
            seed=seed,
            draw=draw,
            intercept=bool(self.fit_intercept),
            normalization=normalization,
            levels=self.levels,
            **options,
        )
        return _Data(
            packed,
            packed,
            rows,
            _Rows.exact(X, rows, packed.normalization),
            None if held is None else _Rows.exact(X, held, packed.normalization),
        )

    def _prepare_packed(
        self, packed: PackedDataset, normalization: Normalization | None, validate: bool
    ) -> _Data:
        own = packed.normalization
        if normalization is not None and not (
            np.array_equal(own.mid, normalization.mid)
            and np.array_equal(own.half, normalization.half)
        ):
            raise ArgumentError(
                "X was packed with another normalization than this model was trained with; allowed "
                "is pack(.., normalization=estimator.normalization_)"
            )
        bits, sampling = max(packed.layout.bits), packed.layout.sampling
        blocks = packed.layout.blocks
        train = blocks
        if validate:
            train = blocks - math.ceil(self.validation_fraction * blocks)
            if train < 1:
                raise ArgumentError(
                    f"validation_fraction was {self.validation_fraction} of a packed data set of "
                    f"{blocks} block(s), of which whole ones are held out: none is left to train on"
                )
        sampling = "symmetric" if sampling == "double" else sampling
        return _Data(
            packed,
            _head(packed, train),
            np.arange(packed.layout.samples),
            _Rows.drawn(packed, bits, sampling, 0, train),
            _Rows.drawn(packed, bits, sampling, train, blocks) if validate else None,
        )

    def _split(
        self, rows: NDArray[np.intp], seed: int, strata: NDArray | None
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        try:
            train, held = train_test_split(
                rows, test_size=self.validation_fraction, random_state=seed, stratify=strata
            )
        except ValueError as error:
            raise ArgumentError(
                f"validation_fraction was {self.validation_fraction}; {len(rows)} samples cannot "
                f"be split so: {error}"
            ) from error
        return (train, held) if self.shuffle else (np.sort(train), np.sort(held))

    def _check_room(
        self, X: Any, samples: int, features: int, word_bits: int, options: dict[str, Any]
    ) -> None:
        """Refuse sparse samples whose dense, packed form does not fit memory."""
        dithers = options.get("dithers", 0)
        layout = plan_layout(
            samples,
            features,
            bits=tuple(sorted(options.get("bits", {32}))),
            sampling=options.get("sampling") or ("double" if options else "single"),
            word_bits=word_bits,
            batch=self.batch_size,
            value_format=FLOAT32 if not options else BITPLANES,
            independent=dithers,
        )
        needed = layout.blocks * layout.block_stride * word_bits // 8
        needed += samples * features * 4 if self.refetch else 0
        room = available_bytes()
        if needed > room:
            raise ArgumentError(
                f"X was a sparse matrix of shape {X.shape}; packed, and so dense, it would take "
                f"{needed} bytes, and {room} are available: what helps is fewer bits, fewer "
                "columns (feature selection, hashing), or fewer rows"
            )

    # ---- training -----------------------------------------------------------------------------

    def _problem_plans(
        self, packed: PackedDataset, epochs: int, seed: int, first: int
    ) -> dict[int, Plan]:
        """A plan of all epochs for each precision that is used from the epoch ``first`` on."""
        return {
            bits: make_plan(
                packed,
                bits=bits,
                sampling=self._sampling()[1],
                batch=self.batch_size,
                epochs=epochs,
                step=self.eta0,
                schedule=self.learning_rate,
                l2=float(self.alpha),
                loss=self.loss,
                approximation=self.approximation,
                degree=self.degree,
                model_bits=self.model_bits,
                gradient_bits=self.gradient_bits,
                model_range=self.model_range,
                gradient_range=self.gradient_range,
                shuffle=self.shuffle == "epochs",
                seed=seed,
            )
            for bits in sorted({self._bits_of(e) for e in range(first, epochs)})
        }

    def _train(
        self,
        data: _Data,
        problem: _Problem,
        like: Normalization | None,
        start: NDArray[np.int32] | None,
        plans: dict[int, Plan] | None,
        epochs: range,
        seed: int,
        progress: Any,
    ) -> tuple[_Run, dict[int, Plan]]:
        """Train one linear model."""
        packed = data.packed
        weights = problem.weights
        if problem.labels is not None:
            rows = data.rows[: packed.layout.samples]
            own = None if weights is None else weights[rows]
            packed = packed.relabel(problem.labels[rows], own, like)
            labels = packed.normalization.transform_labels(problem.labels)
        else:
            labels = data.whole.labels[: data.whole.layout.samples] / MODEL_ONE
        if plans is None:
            plans = self._problem_plans(packed, epochs.stop, seed, epochs.start)

        def objectives(
            rows: _Rows,
        ) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
            return lambda models: rows.objectives(
                models, labels, weights, self.loss, float(self.alpha)
            )

        stopper = None
        if self.tol is not None and len(epochs) > 1:
            stopper = _Stopper(
                objectives(data.validation or data.train), self.tol, self.n_iter_no_change
            )
        layout = packed.layout
        driver = self._driver(layout.value_format, layout.features, layout.word_bits)
        results: list[TrainResult] = []
        model = start
        for bits, group in groupby(epochs, key=self._bits_of):
            part = list(group)
            plan = plans[bits].part(part[0], part[-1] + 1)
            results.append(
                driver.train(packed, plan, model=model, until=stopper, progress=progress)
            )
            model = results[-1].model_fixed
            if stopper is not None and stopper.stopped:
                break
        history = np.concatenate([result.history_fixed for result in results])
        models = history / MODEL_ONE
        held = None
        if data.validation is not None:
            held = objectives(data.validation)(models)
            model = history[int(np.argmin(held))]
        assert model is not None
        stopped = stopper is None or stopper.stopped
        curve = objectives(data.train)(models)
        return _Run(model, packed.normalization, curve, held, stopped, results), plans

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        epochs: int,
        go_on: bool,
        partial: bool = False,
        classes: ArrayLike | None = None,
    ) -> Any:
        """Train all models, from those that are there if ``go_on``."""
        X, y = self._read(X, y, reset=not go_on)
        weights = self._weights(sample_weight, X, scale=not partial)
        y = self._targets(X, y, go_on, classes)
        problems, like = self._problems(X, y, weights, sample_weight is None, partial)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        done = self.t_ if go_on else 0
        check_int("max_iter", done + epochs, 1, CONFIG.max_epochs)
        normalization = self.normalization_ if go_on else None
        if normalization is not None:
            like = normalization
        data = self._prepare(
            X,
            problems[0].labels,
            normalization,
            seed,
            done if partial else 0,
            bool(self.early_stopping) and not partial,
            y if isinstance(self, ClassifierMixin) else None,
        )
        shared = all(p.weights is problems[0].weights for p in problems)
        plans: dict[int, Plan] | None = None
        runs = []
        with self._bar(epochs * len(problems)) as bar:
            for number, problem in enumerate(problems):
                start = self.model_[number] if go_on else None
                span = range(done, done + epochs)
                run, plans = self._train(data, problem, like, start, plans, span, seed, bar)
                runs.append(run)
                if not shared:
                    plans = None
        if not partial and self.tol is not None and not all(run.stopped for run in runs):
            warnings.warn(
                f"training ended after max_iter={epochs} epochs with the objective still falling "
                "by more than tol; raise max_iter, eta0 or tol, or set tol=None",
                ConvergenceWarning,
                stacklevel=3,
            )
        self._keep(runs, done)
        return self

    def _targets(self, X: Any, y: Any, go_on: bool, classes: ArrayLike | None) -> Any:
        """Labels as :meth:`_problems` takes them."""
        raise NotImplementedError

    def _problems(
        self, X: Any, y: Any, weights: NDArray[np.float64] | None, own: bool, partial: bool
    ) -> tuple[list[_Problem], Normalization | None]:
        """The linear models to train, and what the range of their labels is taken from.

        ``own``: the weights, if there are any, are those that a packed data set carries.
        """
        raise NotImplementedError

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Any:
        """Train.

        Parameters
        ----------
        X : array_like, frame or sparse matrix, (n_samples, n_features); PackedDataset; path
            Raw samples, packed ones, or a file of these, which is mapped and not read whole.
        y : array_like, shape (n_samples,)
            Labels; a packed data set's own if left out.
        sample_weight : array_like, shape (n_samples,), optional
            Weights of the samples' losses; brought to a mean of 1.

        Returns
        -------
        self

        Raises
        ------
        ArgumentError
            A parameter, or what was packed, does not go with the rest.
        DivergenceError
            See :meth:`zipml_pynq.driver.SgdDriver.train`.
        """
        self._check_parameters()
        go_on = bool(self.warm_start) and hasattr(self, "model_")
        return self._fit(X, y, sample_weight, epochs=self.max_iter, go_on=go_on)

    def _bar(self, total: int) -> Any:
        if not self.verbose:
            from contextlib import nullcontext

            return nullcontext()
        from tqdm.auto import tqdm

        return tqdm(total=total, desc=type(self).__name__, unit="epoch")

    def _keep(self, runs: list[_Run], done: int) -> None:
        """Fitted attributes."""
        results = [result for run in runs for result in run.results]
        self.normalization_ = runs[0].normalization
        self.model_ = np.stack([run.model for run in runs])
        self.n_iter_ = max(len(run.curve) for run in runs)
        self.t_ = done + self.n_iter_
        self.loss_curve_ = _mean_curve([run.curve for run in runs])
        self.__dict__.pop("validation_curve_", None)
        held = [run.validation_curve for run in runs if run.validation_curve is not None]
        if held:
            self.validation_curve_ = _mean_curve(held)
        self.bytes_streamed_ = sum(result.bytes_streamed for result in results)
        self.refetched_ = sum(result.refetched for result in results)
        self.saturated_ = sum(result.saturations for result in results)
        raw = [self.normalization_.to_raw_model(model / MODEL_ONE) for model in self.model_]
        self.coef_ = np.stack([coefficients for coefficients, _ in raw])
        self.intercept_ = np.array([intercept for _, intercept in raw])

    # ---- files --------------------------------------------------------------------------------

    def to_model(self) -> LinearModel:
        """The fitted model by itself, which predicts without scikit-learn and exports to ONNX.

        Its ``details`` carry the parameters and what training told, for :meth:`load`. Parameters
        that are functions or random states are left out, with a ZipmlWarning; ``device`` always is.
        """
        check_is_fitted(self)
        parameters = self.get_params(deep=False)
        del parameters["device"]
        if isinstance(parameters.get("class_weight"), dict):
            pairs = parameters["class_weight"].items()
            # keys of JSON are text
            parameters["class_weight"] = [[_plain(key), _plain(w)] for key, w in pairs]
        for name, value in list(parameters.items()):
            parameters[name] = _plain(value)
            try:
                json.dumps(parameters[name])
            except TypeError:
                warnings.warn(
                    f"{name} was {value!r}, which a model file does not hold; it is left out",
                    ZipmlWarning,
                    stacklevel=3,
                )
                del parameters[name]
        told = {name: _plain(getattr(self, name)) for name in _TOLD if hasattr(self, name)}
        names = getattr(self, "feature_names_in_", None)
        return LinearModel(
            np.atleast_2d(self.coef_),
            self.intercept_,
            self.model_,
            self.normalization_,
            self.loss,
            getattr(self, "classes_", None),
            tuple(self._stored_bits()),
            None if names is None else tuple(names),
            {"estimator": type(self).__name__, "parameters": parameters, "told": told},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to ``path``, a safetensors file without any code in it.

        :meth:`load` and :meth:`zipml_pynq.models.LinearModel.load` read it. See :meth:`to_model`
        for what of the parameters is left out.

        Raises
        ------
        ArgumentError
            ``path`` is a directory, or its folder does not exist.
        ModelFileError
            The file cannot be written.
        """
        self.to_model().save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: Any = "emulated") -> Any:
        """The fitted estimator of a model file, with its parameters.

        A file that no estimator wrote has none but loss and bits; the others are the defaults.

        Raises
        ------
        ModelFileError
            The file is missing, truncated, altered, of another version, or of the other kind of
            model: regression, classification.
        """
        model = LinearModel.load(path)
        is_classifier = issubclass(cls, ClassifierMixin)
        if is_classifier != (model.classes is not None):
            kind = "a classifier" if model.classes is not None else "a regression"
            raise ModelFileError(f"'{os.fspath(path)}' holds {kind}; {cls.__name__} cannot load it")
        bits: Any = model.bits[0] if len(model.bits) == 1 else list(model.bits)
        parameters = {"loss": model.loss, **({"bits": bits} if model.bits else {})}
        parameters.update(model.details.get("parameters", {}))
        if isinstance(parameters.get("class_weight"), list):
            parameters["class_weight"] = dict(parameters["class_weight"])
        try:
            estimator = cls(device=device, **parameters)
        except TypeError as error:
            raise ModelFileError(f"'{os.fspath(path)}' was altered: {error}") from error
        told = {"n_iter_": 0, "t_": 0, **model.details.get("told", {})}
        for name in _TOLD:
            if name in told:
                value = told[name]
                setattr(estimator, name, np.array(value) if isinstance(value, list) else value)
        estimator.normalization_ = model.normalization
        estimator.model_ = model.model_fixed
        estimator.coef_ = model.coef if is_classifier else model.coef[0]
        estimator.intercept_ = model.intercept
        estimator.n_features_in_ = model.normalization.columns
        if model.classes is not None:
            estimator.classes_ = model.classes
        if model.feature_names is not None:
            estimator.feature_names_in_ = np.array(model.feature_names, dtype=object)
        return estimator

    def _linear(self, X: Any) -> NDArray[np.float64]:
        """``X @ coef + intercept``, shape (samples, models)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])
        coefficients = np.atleast_2d(self.coef_)
        return np.asarray(safe_sparse_dot(X, coefficients.T, dense_output=True) + self.intercept_)


class ZipMLRegressor(RegressorMixin, _ZipMLEstimator):
    __doc__ = f"""Linear regression by least squares, trained from data at 1 to 8 bits a value.

    Parameters
    ----------
    loss : {{"least_squares"}}, default="least_squares"
{_PARAMETERS}
    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
        In raw units.
    intercept_ : ndarray, shape (1,)
{_ATTRIBUTES}
    Examples
    --------
    >>> from zipml_pynq.estimators import ZipMLRegressor
    >>> model = ZipMLRegressor(bits=4, random_state=0).fit(X, y)  # doctest: +SKIP
    >>> model.score(X_test, y_test), model.bytes_streamed_  # doctest: +SKIP
    """

    _losses = ("least_squares",)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Any:
        """One epoch over some samples, from the model and at the step that were reached.

        The first call fits the normalization: values of later calls beyond its range are clipped,
        with a RuntimeWarning. Weights are taken as they are. See :meth:`fit` for the parameters.
        """
        self._check_parameters()
        go_on = hasattr(self, "model_")
        return self._fit(X, y, sample_weight, epochs=1, go_on=go_on, partial=True)

    def _targets(self, X: Any, y: Any, go_on: bool, classes: ArrayLike | None) -> Any:
        if y is not None and isinstance(X, PackedDataset):
            y = np.asarray(y, dtype=np.float64)
        if y is None and go_on and X.normalization != self.normalization_:
            y = _own_labels(X)
        return y

    def _problems(
        self, X: Any, y: Any, weights: NDArray[np.float64] | None, own: bool, partial: bool
    ) -> tuple[list[_Problem], Normalization | None]:
        if y is None and not own:
            y = _own_labels(X)
        return [_Problem(y, weights)], None

    def _keep(self, runs: list[_Run], done: int) -> None:
        super()._keep(runs, done)
        self.coef_ = self.coef_[0]

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Labels in raw units, shape (n_samples,), of raw samples."""
        return self._linear(X)[:, 0]


def _has_probabilities(estimator: ZipMLClassifier) -> bool:
    """Whether the loss is the logistic one; raises AttributeError if not."""
    if estimator.loss != "logistic":
        raise AttributeError(
            f"probabilities need loss='logistic'; this estimator's is {estimator.loss!r}"
        )
    return True


class ZipMLClassifier(ClassifierMixin, _ZipMLEstimator):
    __doc__ = f"""Linear classification, trained from data at 1 to 8 bits a value.

    Several classes are trained one against the rest, all from one packed data set.

    Parameters
    ----------
    loss : {{"hinge", "squared_hinge", "logistic", "least_squares"}}, default="hinge"
        Of the SVM, its smooth kin, logistic regression, and the LS-SVM.
{_PARAMETERS}    class_weight : dict, "balanced" or None, default=None
        Factors of the losses of classes; of several classes, of each one against the rest.

    Attributes
    ----------
    classes_ : ndarray
    coef_ : ndarray, shape (1 or n_classes, n_features)
        In raw units.
    intercept_ : ndarray, shape (1 or n_classes,)
{_ATTRIBUTES}
    Examples
    --------
    >>> from zipml_pynq.estimators import ZipMLClassifier
    >>> model = ZipMLClassifier("logistic", bits=4, random_state=0).fit(X, y)  # doctest: +SKIP
    >>> model.predict_proba(X_test)  # doctest: +SKIP
    """

    _losses = ("hinge", "squared_hinge", "logistic", "least_squares")
    classes_: NDArray

    def __init__(
        self,
        loss: str = "hinge",
        *,
        bits: int | Sequence[int] = 4,
        sampling: str = "auto",
        levels: str = "uniform",
        approximation: str = "direct",
        degree: int | None = None,
        refetch: bool = False,
        model_bits: int = 0,
        gradient_bits: int = 0,
        model_range: float | str = "auto",
        gradient_range: float | str = "auto",
        alpha: float = 0.0,
        fit_intercept: bool = True,
        max_iter: int = 100,
        tol: float | None = 1e-3,
        batch_size: int = 16,
        eta0: float | str = "auto",
        learning_rate: str | Callable[[int], float] = "inverse",
        shuffle: bool | str = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        class_weight: Any = None,
        random_state: Any = None,
        device: Any = "emulated",
        verbose: int = 0,
    ) -> None:
        super().__init__(
            loss,
            bits=bits,
            sampling=sampling,
            levels=levels,
            approximation=approximation,
            degree=degree,
            refetch=refetch,
            model_bits=model_bits,
            gradient_bits=gradient_bits,
            model_range=model_range,
            gradient_range=gradient_range,
            alpha=alpha,
            fit_intercept=fit_intercept,
            max_iter=max_iter,
            tol=tol,
            batch_size=batch_size,
            eta0=eta0,
            learning_rate=learning_rate,
            shuffle=shuffle,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            random_state=random_state,
            device=device,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Any:
        """One epoch over some samples, from the models and at the step that were reached.

        The first call fits the normalization: values of later calls beyond its range are clipped,
        with a RuntimeWarning. Weights are taken as they are. See :meth:`fit` for the others.

        Parameters
        ----------
        classes : array_like, shape (n_classes,), optional
            All classes; needed in the first call.
        """
        self._check_parameters()
        if self.class_weight == "balanced":
            raise ArgumentError(
                "class_weight was 'balanced', which partial_fit cannot know; allowed is a "
                "dictionary, such as compute_class_weight('balanced', classes=.., y=..) gives"
            )
        go_on = hasattr(self, "model_")
        if not go_on and classes is None:
            raise ArgumentError("classes was None in the first call of partial_fit; name them all")
        return self._fit(X, y, sample_weight, epochs=1, go_on=go_on, partial=True, classes=classes)

    def _targets(self, X: Any, y: Any, go_on: bool, classes: ArrayLike | None) -> Any:
        if y is None:
            y = _own_labels(X)
            whole = np.rint(y)
            if not np.allclose(y, whole, rtol=0, atol=1e-3):
                raise ArgumentError(
                    "y was None with a packed data set whose labels are no integers; give the "
                    "labels of the samples"
                )
            y = whole.astype(np.int64)
        check_classification_targets(y)
        found = np.unique(y)
        if go_on:
            if classes is not None and not np.array_equal(np.unique(classes), self.classes_):
                raise ArgumentError(
                    f"classes was {classes!r}; this estimator was fitted to {self.classes_}"
                )
            known = self.classes_
        elif classes is not None:
            known = np.unique(classes)
        else:
            known = found
        unknown = np.setdiff1d(found, known)
        if unknown.size:
            raise ArgumentError(f"y had the label(s) {unknown}; the classes are {known}")
        if len(known) < 2:
            raise ArgumentError(f"y had one class, {known}; two or more classes are needed")
        self.classes_ = known
        return y

    def _problems(
        self, X: Any, y: Any, weights: NDArray[np.float64] | None, own: bool, partial: bool
    ) -> tuple[list[_Problem], Normalization | None]:
        factors = None
        if self.class_weight is not None:
            present = np.union1d(self.classes_, y) if partial else self.classes_
            factors = compute_class_weight(self.class_weight, classes=present, y=y)
        problems = []
        for number in [1] if len(self.classes_) == 2 else range(len(self.classes_)):
            positive = y == self.classes_[number]
            w = weights
            if factors is not None:
                rest = factors[0] if len(self.classes_) == 2 else 1.0
                w = np.where(positive, factors[number], rest)
                w = w if weights is None else w * weights
                w = w if partial else self._scaled(w)
            problems.append(_Problem(np.where(positive, 1.0, -1.0), w))
        return problems, _SIGNS

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Distances to the separating planes, shape (n_samples,) or (n_samples, n_classes)."""
        z = self._linear(X)
        return z[:, 0] if z.shape[1] == 1 else z

    def predict(self, X: Any) -> NDArray:
        """Classes of raw samples, shape (n_samples,)."""
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(np.intp) if z.ndim == 1 else z.argmax(axis=1)]

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the classes, shape (n_samples, n_classes).

        Of several classes, those of each one against the rest, brought to a sum of 1.
        """
        return probabilities(self.decision_function(X))

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Logarithms of :meth:`predict_proba`."""
        return np.log(self.predict_proba(X))
