"""From what ``fit`` is given to packed samples on a device: checks, validation set, packing."""

from __future__ import annotations

import math
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.accelerator.sharing import on_a_free_one
from zipml_pynq.constants import CONFIG, WORD_BITS
from zipml_pynq.data.checks import check_int
from zipml_pynq.data.layout import (
    BITPLANES,
    DEFAULT_BATCH,
    FLOAT32,
    LEVELS,
    REFETCH,
    WIDE,
    Layout,
    check_columns,
    fitting,
    format_of_bits,
    plan_layout,
)
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.rows import available_bytes
from zipml_pynq.devices import bitstreams
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.objective import FIRST_STRETCH, Rows
from zipml_pynq.learn.parameters import Parameters
from zipml_pynq.learn.problem import Data, Draws, is_packed
from zipml_pynq.learn.sklearn import (
    RegressorMixin,
    _check_sample_weight,
    validate_data,
)

if TYPE_CHECKING:
    from zipml_pynq.accelerator.capability import Capability
    from zipml_pynq.accelerator.driver import SgdDriver

#: Values up to which packing them anew costs less than a few epochs' overhead.
REDRAWN_VALUES = 1 << 21
#: Precisions at which levels in the right places matter most, and their tables are small; and
#: values up to which they may take their time.
OPTIMAL_BITS, OPTIMAL_VALUES = (2, 3, 4), 1 << 26
#: Bytes of planes up to which any device holds them whole, as another order of blocks needs, and
#: blocks from which that is worth it.
SHUFFLED_BYTES, SHUFFLED_BLOCKS = 32 << 20, 8

_loaded = threading.local()


def _load(source: str, **options: Any) -> tuple[SgdDriver, ...]:
    """The drivers of an overlay, loaded once a thread."""
    from zipml_pynq.devices.overlay import load_overlay  # only here does anything need pynq

    cache = _loaded.__dict__.setdefault("overlays", {})
    key = (source, *sorted(options.items()))
    if key not in cache:
        cache[key] = load_overlay(source, **options)
    return cache[key].drivers


class Preparation(Parameters):
    """Samples, targets and weights as training takes them, and the device that they go to."""

    # ---- device -------------------------------------------------------------------------------

    def _drivers(
        self, value_format: str, word_bits: int
    ) -> tuple[SgdDriver, ...] | tuple[HostDriver]:
        """The drivers for a value format, of which any will do; where words have no width of their
        own, of that width."""
        device = getattr(self.device, "drivers", self.device)
        if isinstance(device, HostDriver):
            return (device,)
        if not isinstance(device, str | os.PathLike):
            from zipml_pynq.accelerator.driver import SgdDriver

            found = tuple(device) if isinstance(device, list | tuple) else (device,)
            if found and all(isinstance(one, SgdDriver) for one in found):
                return found
            raise ArgumentError(
                f"device was {device!r}; allowed are 'host', 'emulated', a board's name, the path "
                "of a bitstream, a loaded overlay, a driver, and a list of drivers"
            )
        source = os.fspath(device)
        if source in ("host", "emulated"):
            if source == "host":
                return (HostDriver(word_bits, value_format),)
            return _load(source, word_bits=word_bits, value_format=value_format)
        if bitstreams.target_name(source) is not None:
            return _load(source, value_format=value_format)
        return _load(source)

    def _capability(self, value_format: str, word_bits: int) -> Capability:
        """What the kernels are that would be taken."""
        drivers = self._drivers(value_format, word_bits)
        return on_a_free_one(drivers, lambda driver: driver.capability)

    # ---- data ---------------------------------------------------------------------------------

    def _read(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """Samples and targets, checked; a packed data set's targets are its own if none came."""
        if not is_packed(X):
            return validate_data(
                self,
                X,
                y,
                reset=reset,
                accept_sparse="csr",
                dtype=[np.float64, np.float32],
                y_numeric=isinstance(self, RegressorMixin),
                multi_output=isinstance(self, RegressorMixin),
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
            if packed.names.features is not None:
                self.feature_names_in_ = np.array(packed.names.features, dtype=object)
        elif columns != self.n_features_in_:
            raise ArgumentError(
                f"X had {columns} columns; this estimator was fitted to {self.n_features_in_}"
            )
        if y is not None:
            y = np.asarray(y)
            several = isinstance(self, RegressorMixin) and y.ndim == 2 and y.shape[1] > 0
            if y.shape[:1] != (packed.layout.samples,) or not (several or y.ndim == 1):
                raise ArgumentError(
                    f"y had shape {y.shape}; allowed is one label a sample, "
                    f"({packed.layout.samples},), for regression also a column a target"
                )
        return packed, y

    def _weights(self, sample_weight: Any, X: Any, scale: bool) -> NDArray[np.float64] | None:
        """Weights of samples: what came, or what a packed data set carries."""
        if is_packed(X):
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
        weights: NDArray[np.float64] | None,
        normalization: Normalization | None,
        seed: int,
        validate: bool,
        strata: NDArray | None,
    ) -> Data:
        """Pack the samples, or take them as they are packed, and split a validation set off."""
        if isinstance(X, PackedDataset):
            return self._prepare_packed(X, normalization, validate)
        rows = np.arange(X.shape[0])
        held = None
        if validate:
            rows, held = self._split(rows, seed, strata)
        elif self.shuffle:
            rows = np.random.default_rng(seed).permutation(rows)
        assert first is not None
        samples, labels, own, order = X, first, weights, None
        if held is not None:  # which nothing may be fitted to
            samples, labels = X[rows], first[rows]
            own = None if weights is None else weights[rows]
        elif self.shuffle:
            order = rows
        packed = self._pack(samples, labels, own, normalization, seed, order=order)
        return Data(
            packed,
            packed,
            rows,
            Rows.of_values(X, rows, packed.normalization),
            Draws(packed, samples, self._draws_anew(packed, raw=True), order),
            None if held is None else Rows.of_values(X, held, packed.normalization),
        )

    def _pack(
        self,
        X: Any,
        labels: NDArray[np.float64],
        weights: NDArray[np.float64] | None,
        normalization: Normalization | None,
        seed: int,
        draw: int = 0,
        grows: bool = False,
        order: NDArray[np.intp] | None = None,
    ) -> PackedDataset:
        """Raw samples packed as the parameters say, for the device's words; ``grows`` as below,
        ``order`` as of :func:`pack`."""
        options = self._pack_options(X.shape[0], X.shape[1], grows)
        if issparse(X):
            self._check_room(X, options)
        return pack(
            X,
            labels,
            seed=seed,
            draw=draw,
            normalization=normalization,
            sample_weight=weights,
            order=order,
            **options,
        )

    def _pack_options(self, samples: int, columns: int, grows: bool = False) -> dict[str, Any]:
        """What :func:`pack` is told of samples of that shape, but for their labels and draws.

        ``grows``: they are rows of a stream, whose levels the next ones should have as well.
        """
        features = columns + int(self.fit_intercept)
        levels = self._chosen_levels(samples, features, grows)
        value_format = self._value_format(levels)
        check_columns(columns, bool(self.fit_intercept), value_format)
        options: dict[str, Any] = {}
        if value_format == FLOAT32:
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
        word_bits, batch = self._words_and_batch(features, levels, options)
        if value_format in (FLOAT32, REFETCH, WIDE):
            options["value_format"] = value_format
        return {
            **options,
            "word_bits": word_bits,
            "batch": batch,
            "intercept": bool(self.fit_intercept),
            "levels": levels,
        }

    def _words_and_batch(
        self, features: int, levels: str, options: dict[str, Any]
    ) -> tuple[int, int]:
        """Width of the device's words and samples a batch, so that a batch fits the device."""
        value_format = self._value_format(levels)
        packed_as: dict[str, Any] = {
            "bits": tuple(sorted(options.get("bits", {32}))),
            "sampling": options.get("sampling") or ("double" if options else "single"),
            "value_format": value_format,
            "independent": options.get("dithers", 0),
        }
        if value_format == LEVELS:
            packed_as["level_tables"] = features if levels == "optimal" else 1
        word_bits, batch = fitting(features, batch=self._wanted_batch, **packed_as)
        word_bits = self._capability(value_format, word_bits).word_bits
        word_bits, batch = fitting(
            features, word_bits=word_bits, batch=self._wanted_batch, **packed_as
        )
        shape = Layout(1, features, word_bits, 1, **packed_as)
        if batch > shape.largest_batch:
            raise ArgumentError(
                f"batch_size was {batch}; with {features} features, the intercept included, words "
                f"of {word_bits} bits and {shape.planes()} plane(s) the accelerator holds batches "
                f"of at most {shape.largest_batch}: what helps is a smaller batch_size or "
                "fewer bits"
            )
        return word_bits, batch

    def _chosen_levels(self, samples: int, features: int, grows: bool) -> str:
        """Where the levels lie; "auto": where their variance is least, as far as that is cheap and
        nothing makes up for it."""
        if self.levels != "auto":
            return self.levels
        bits = set(self._stored_bits())
        named = isinstance(self.device, str) and (
            self.device in ("host", "emulated") or bitstreams.target_name(self.device) is not None
        )
        if not named and bits != {32}:  # the kernel is what it is
            kernel = self._capability(BITPLANES, WORD_BITS[0]).value_format
            return "optimal" if kernel == LEVELS else "uniform"
        # rounds of refinement end at the values themselves, in as few, and faster on a uniform grid
        if self._refines_raw:
            return "uniform"
        direct = self.approximation == "direct" and self.sampling in ("auto", "double", "plain")
        few = samples * features <= OPTIMAL_VALUES and not grows
        one = len(bits) == 1 and min(bits) in OPTIMAL_BITS
        cheap = few and one and direct and not self.refetch
        return "optimal" if cheap and self._holds_tables(features, tuple(bits)) else "uniform"

    def _holds_tables(self, features: int, bits: tuple[int, ...]) -> bool:
        """Whether the widest words hold a table of levels for each feature, and a usual batch."""
        try:
            shape = Layout(1, features, WORD_BITS[-1], 1, bits, "double", LEVELS, features)
        except ArgumentError:
            return False
        return shape.largest_batch >= (self._wanted_batch or DEFAULT_BATCH)

    @property
    def _smooth(self) -> bool:
        """Whether the objective has a second derivative to refine by."""
        smooth = self.loss != "hinge" and self._penalties(1.0)[1] == 0
        return smooth and self.approximation == "direct"

    @property
    def _refines_raw(self) -> bool:
        """Whether raw samples in few bits are refined, whatever their levels."""
        if self.refetch or not self._smooth or not self._keeps_rows:
            return False
        if self.refine == "auto":
            return self._refines_if_possible and self.redraw is not True
        return bool(self.refine)

    @property
    def _refines_if_possible(self) -> bool:
        """Whether refine="auto" asks for it with what else is asked for."""
        asked = self.refine == "auto" and self._by_default and len(self._stored_bits()) == 1
        return asked and self.max_iter > FIRST_STRETCH  # rounds are epochs, too

    def _can_refine(self, layout: Layout, raw: bool) -> bool:
        """Whether there is a true gradient to refine a model by, of raw samples or of more bits."""
        more = self.loss == "least_squares" and max(layout.bits) > max(self._stored_bits())
        return self._smooth and layout.value_format not in (FLOAT32, REFETCH) and (raw or more)

    def _refines_by_default(self, layout: Layout, raw: bool) -> bool:
        return self._refines_if_possible and self._can_refine(layout, raw)

    def _draws_anew(self, packed: PackedDataset, raw: bool) -> bool:
        """Whether every epoch is to have an order and a draw of its own."""
        if self._refines_auto_bits:
            return False
        if self.redraw != "auto":
            return bool(self.redraw)
        values = packed.layout.samples * packed.layout.features
        few = bool(self.shuffle) and values <= REDRAWN_VALUES
        return few and not self._refines_by_default(packed.layout, raw)

    def _shuffles_blocks(self, data: Data) -> bool:
        """Whether every epoch is to take the same blocks in another order."""
        if self.shuffle == "epochs" or not self.shuffle or data.draws.changes:
            return self.shuffle == "epochs"
        layout = data.packed.layout
        drivers = self._drivers(layout.value_format, layout.word_bits)
        whole = isinstance(drivers[0], HostDriver) or data.packed.planes.nbytes <= SHUFFLED_BYTES
        return whole and layout.blocks >= SHUFFLED_BLOCKS

    def _prepare_packed(
        self, packed: PackedDataset, normalization: Normalization | None, validate: bool
    ) -> Data:
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
        first = packed.part(0, train)
        return Data(
            packed,
            first,
            np.arange(packed.layout.samples),
            Rows.drawn(packed, bits, sampling, 0, train),
            Draws(first, changes=self._draws_anew(packed, raw=False)),
            Rows.drawn(packed, bits, sampling, train, blocks) if validate else None,
        )

    def _split(
        self, rows: NDArray[np.intp], seed: int, strata: NDArray | None
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        from sklearn.model_selection import train_test_split  # takes long to import

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

    def _check_room(self, X: Any, options: dict[str, Any]) -> None:
        """Refuse sparse samples whose dense form, packed so, does not fit memory."""
        samples, features = X.shape[0], X.shape[1] + int(self.fit_intercept)
        floats = "bits" not in options
        layout = plan_layout(
            samples,
            features,
            bits=tuple(sorted(options.get("bits", {32}))),
            sampling=options.get("sampling") or ("single" if floats else "double"),
            word_bits=options["word_bits"],
            batch=options["batch"],
            value_format=FLOAT32 if floats else format_of_bits(BITPLANES, max(options["bits"])),
            independent=options.get("dithers", 0),
        )
        needed = layout.blocks * layout.block_stride * layout.word_bits // 8
        needed += samples * features * 4 if self.refetch else 0
        room = available_bytes()
        if needed > room:
            raise ArgumentError(
                f"X was a sparse matrix of shape {X.shape}; packed, and so dense, it would take "
                f"{needed} bytes, and {room} are available: what helps is fewer bits, fewer "
                "columns (feature selection, hashing), or fewer rows"
            )
