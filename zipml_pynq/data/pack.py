"""Packing: raw samples normalized, quantized and laid out; docs/data.md has the formulas."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.constants import CONFIG
from zipml_pynq.data.checks import check_choice, check_data, check_int
from zipml_pynq.data.draws import SAMPLINGS
from zipml_pynq.data.grid import check_levels
from zipml_pynq.data.labels import fixed_labels, fixed_weights
from zipml_pynq.data.layout import (
    BITPLANES,
    FLOAT32,
    FORMAT_CODES,
    LEVELS,
    REFETCH,
    WIDE,
    Layout,
    bits_tuple,
    check_columns,
    check_word_bits,
    fitting,
    format_of_bits,
    most_bits,
    plan_layout,
)
from zipml_pynq.data.levels import fit_levels
from zipml_pynq.data.names import Names
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.planes import pack_full, pack_planes
from zipml_pynq.errors import ArgumentError

#: Kinds of levels that :func:`pack` fits.
LEVEL_CHOICES = ("uniform", "optimal", "global")


def level_source(
    levels: Any, value_format: str, bits: tuple[int, ...], features: int
) -> str | NDArray[np.int16]:
    """``levels`` of :func:`pack`, checked: a name, or a table."""
    if levels is None:
        levels = "uniform"
    if not isinstance(levels, str):
        source: str | NDArray[np.int16] = "explicit"
    else:
        source = check_choice("levels", levels, LEVEL_CHOICES)
    if value_format in (FLOAT32, WIDE) and source != "uniform":
        what = (
            "no levels" if value_format == FLOAT32 else "a uniform grid, as have all above 8 bits"
        )
        raise ArgumentError(
            f"levels was {levels if isinstance(levels, str) else 'an array'!r}; value_format "
            f"{value_format!r} has {what}: leave it out"
        )
    if value_format == LEVELS and source == "uniform":
        raise ArgumentError(
            "levels was 'uniform'; value_format 'levels' needs 'optimal', 'global' or an array"
        )
    if source == "uniform":
        return source
    if len(bits) != 1:
        raise ArgumentError(
            f"bits was {bits!r}; a data set with tables of levels has one precision: levels of "
            "different precisions are not nested, so they share no base planes"
        )
    return source if isinstance(levels, str) else check_levels(levels, bits[0], features)


@dataclass(frozen=True)
class Request:
    """How to pack, checked, apart from the data; fields as in :func:`pack`."""

    value_format: str
    bits: tuple[int, ...]
    sampling: str
    dithers: int
    word_bits: int | None
    batch: int | None
    block_samples: int | None

    @classmethod
    def of(
        cls,
        value_format: str,
        bits: int | Iterable[int] | None,
        sampling: str | None,
        dithers: int | None,
        word_bits: int | None,
        batch: int | None,
        block_samples: int | None,
        seed: int,
        draw: int,
    ) -> Request:
        check_choice("value_format", value_format, tuple(FORMAT_CODES))
        if value_format == FLOAT32:
            stored: tuple[int, ...] = (32,)
            given = (32,) if bits is None else tuple(np.atleast_1d(np.asarray(bits)))
            if given != (32,) or sampling not in (None, "single"):
                raise ArgumentError(
                    f"bits and sampling were {bits!r} and {sampling!r}; value_format 'float32' has "
                    "no precisions and no dithers: leave them out"
                )
            sampling = "single"
        else:
            # above 8 bits the default is the wide format
            most = most_bits(WIDE if value_format == BITPLANES else value_format)
            stored = bits_tuple(4 if bits is None else bits, most)
            value_format = format_of_bits(value_format, stored[-1])
            sampling = check_choice(
                "sampling", "double" if sampling is None else sampling, SAMPLINGS
            )
        if sampling == "independent":
            dithers = check_int("dithers", 6 if dithers is None else dithers, 2, CONFIG.max_dithers)
        elif dithers is not None:
            raise ArgumentError(
                f"dithers was {dithers!r} with sampling {sampling!r}; it goes with 'independent'"
            )
        if word_bits is not None:
            check_word_bits(word_bits)
        if batch is not None:
            check_int("batch", batch, 1, CONFIG.max_batch)
        check_int("seed", seed, 0, (1 << 64) - 1)
        check_int("draw", draw, 0, (1 << 32) - 1)
        return cls(value_format, stored, sampling, dithers or 0, word_bits, batch, block_samples)

    def layout(
        self, samples: int, features: int, source: str | NDArray[np.int16]
    ) -> tuple[Layout, int]:
        """Layout and batch of data of that shape, with levels as :func:`level_source` has them."""
        value_format, level_tables = self.value_format, 0
        if not isinstance(source, str):
            value_format, level_tables = LEVELS, len(source)
        elif source != "uniform":
            value_format, level_tables = LEVELS, features if source == "optimal" else 1
        shape: dict[str, Any] = {
            "bits": self.bits,
            "sampling": self.sampling,
            "value_format": value_format,
            "level_tables": level_tables,
            "independent": self.dithers,
        }
        word_bits, batch = fitting(features, word_bits=self.word_bits, batch=self.batch, **shape)
        layout = plan_layout(
            samples,
            features,
            word_bits=word_bits,
            batch=batch,
            block_samples=self.block_samples,
            **shape,
        )
        return layout, batch


def check_normalization(normalization: object) -> None:
    if not isinstance(normalization, Normalization):
        raise ArgumentError(
            f"normalization was {type(normalization).__name__}; it must be a Normalization"
        )


def warn_of_clipped(clipped: int) -> None:
    if clipped:
        warnings.warn(
            f"{clipped} value(s) of X and y lie outside the range of the normalization or of "
            "their levels and were clipped",
            RuntimeWarning,
            stacklevel=3,
        )


def pack(
    X: ArrayLike,
    y: ArrayLike,
    *,
    bits: int | Iterable[int] | None = None,
    sampling: str | None = None,
    word_bits: int | None = 64,
    batch: int | None = 16,
    block_samples: int | None = None,
    seed: int = 0,
    draw: int = 0,
    intercept: bool = True,
    normalization: Normalization | None = None,
    value_format: str = BITPLANES,
    levels: str | ArrayLike | None = "uniform",
    dithers: int | None = None,
    sample_weight: ArrayLike | None = None,
    names: Names | None = None,
    order: ArrayLike | None = None,
    threads: int | None = None,
) -> PackedDataset:
    """Normalize, quantize and lay out a data set for the accelerator.

    Parameters
    ----------
    X : array_like or sparse matrix, (N, columns)
        Raw samples. float32 and float64 with contiguous rows are packed without a copy. SciPy's
        sparse matrices are made dense a few rows at a time.
    y : array_like, (N,)
        Raw labels.
    bits : int or iterable of int, optional
        Precisions to store, 1..16; 4 by default. All of them share one set of base planes. More
        than 8 are for the format "wide", others for 1..8.
    sampling : str, optional
        "double" (the default), "single", "nearest" or "independent": the dithers stored for each
        precision.
    word_bits : int or None
        64, 128 or 512, as the accelerator's memory port; None: the narrowest that hold the batch.
    batch : int or None
        Batch to make blocks for, 1..256; None: 16, or fewer where no block holds so many.
    block_samples : int, optional
        Samples of a block, a multiple of ``batch``; by default as many as the accelerator holds.
    seed : int
        Key of all randomness, 0..2^64 - 1.
    draw : int
        Number of the draw, 0..2^32 - 1: same values, independent dithers.
    intercept : bool
        Append a feature that is always 1. Not used with ``normalization``, which has its own.
    normalization : Normalization, optional
        As fitted to other data; values outside its range are clipped, with a RuntimeWarning. By
        default fitted to ``X`` and ``y``.
    value_format : str
        "bitplanes", or "float32" for the full-precision accelerator: then ``bits`` and
        ``sampling`` must be left out (or 32 and "single"). "levels" is what ``levels`` makes of
        the default. "refetch" stores the samples as float32, too, for the hinge that fetches
        again. "wide" is what more than 8 bits make of the default: of a uniform grid, for a kernel
        of its own, which takes fewer bits as well.
    levels : str or array_like, (1 or features, 2^(bits-1) + 1)
        Where the levels lie: "uniform" (or None) is the grid; "optimal" minimizes the variance of
        each column's samples, "global" that of all columns with one table
        (:func:`zipml_pynq.data.levels.fit_levels`); an array, such as another data set's
        ``levels``, is taken as :func:`zipml_pynq.data.grid.check_levels` states. Other than
        "uniform" allows one precision; values outside the ends of a table are clipped like those
        outside the range.
    dithers : int, optional
        With the sampling "independent": how many, 2 to 16; by default 6, for a degree of 5.
    sample_weight : array_like, (N,), optional
        Weights of the samples' losses, from 0 to below 2^15.
    names : Names, optional
        Of columns, label and classes; by default those of a data frame and a series.
    order : array_like of int, (N,), optional
        Of the packed samples: the numbers of their rows in ``X``, ``y`` and ``sample_weight``. No
        copy of ``X`` is made for it.
    threads : int, optional
        By default one for each available core. The result does not depend on it.

    Returns
    -------
    PackedDataset

    Raises
    ------
    ArgumentError
        An argument is outside what is allowed, or one batch does not fit the accelerator.
    """
    request = Request.of(
        value_format, bits, sampling, dithers, word_bits, batch, block_samples, seed, draw
    )
    a, labels = check_data(X, y, convert=False)
    if names is None:
        names = Names.of_frame(X, y)
    value_format = request.value_format
    has_one = intercept if normalization is None else getattr(normalization, "intercept", False)
    check_columns(a.shape[1], bool(has_one), value_format, word_bits)
    fitted = normalization is None
    if normalization is None:
        normalization = Normalization.fit(a, labels, intercept, threads, sample_weight)
    check_normalization(normalization)
    source = level_source(levels, value_format, request.bits, normalization.features)
    layout, batch = request.layout(a.shape[0], normalization.features, source)
    value_format = layout.value_format
    table = None if isinstance(source, str) else source
    # what was fitted to these data reaches all of them
    clipped = 0 if fitted and table is None else normalization.out_of_range(a, table, threads)
    if isinstance(source, str) and source != "uniform":
        table = fit_levels(
            a, normalization, layout.bits[0], per_column=source == "optimal", threads=threads
        )
    padded, beyond = fixed_labels(labels, normalization, layout)
    weights = fixed_weights(sample_weight, layout)
    at = None if order is None else _checked_order(order, layout.samples)
    if at is not None:
        for own in (padded, weights):
            if own is not None:
                own[: at.size] = own[at]
    clipped += beyond
    warn_of_clipped(clipped)
    planes = pack_planes(a, normalization, layout, seed, draw, table, threads, order=at)
    full = None
    if value_format == REFETCH:
        full = pack_full(a, normalization, layout, threads, at)
    return PackedDataset(
        planes,
        padded,
        layout,
        normalization,
        int(seed),
        int(draw),
        batch,
        clipped,
        table,
        full,
        weights,
        names,
    )


def _checked_order(order: ArrayLike, samples: int) -> NDArray[np.intp]:
    """An order of all samples."""
    found = np.asarray(order)
    there = np.zeros(samples, bool)
    if found.dtype.kind in "iu" and found.shape == (samples,) and found.min() >= 0:
        there[found[found < samples]] = True
    if not there.all():
        raise ArgumentError(
            f"order had shape {found.shape} and dtype {found.dtype}; allowed are the numbers 0 to "
            f"{samples - 1}, each of them once"
        )
    return found.astype(np.intp, copy=False)
