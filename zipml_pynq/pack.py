"""Packed data sets: quantized samples in the bit-plane layout that the accelerator streams.

Layout, randomness and file format are described in docs/data.md.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, issparse, vstack

from zipml_pynq._engine import ffi, lib
from zipml_pynq.alignment import empty_aligned
from zipml_pynq.constants import CONFIG, LIMITS, MAX_BITS, MODEL_ONE, WORD_BITS, Limits
from zipml_pynq.errors import ArgumentError, PackedFileError
from zipml_pynq.quantize import (
    SAMPLINGS,
    Normalization,
    Ranges,
    check_array,
    check_bits,
    check_choice,
    check_data,
    check_finite_labels,
    check_int,
    check_levels,
    column_range,
    decode,
    float_rows,
    in_threads,
    pointer,
)
from zipml_pynq.quantize import levels as uniform_levels
from zipml_pynq.tensor_file import FileKind, TensorWriter, check_target, read_tensors, write_tensors

BITPLANES, FLOAT32, LEVELS, REFETCH = "bitplanes", "float32", "levels", "refetch"
#: Kinds of levels that :func:`pack` fits.
LEVEL_CHOICES = ("uniform", "optimal", "global")
_FORMATS: dict[str, int] = {
    BITPLANES: CONFIG.format_bit_planes,
    FLOAT32: CONFIG.format_float32,
    LEVELS: CONFIG.format_levels,
    REFETCH: CONFIG.format_refetch,
}
#: How a data set stored with the key's sampling can be read: by these names.
READABLE: dict[str, tuple[str, ...]] = {
    "independent": ("independent", "double", "plain", "symmetric", "single"),
    "double": ("double", "plain", "symmetric", "single"),
    "single": ("single",),
    "nearest": ("nearest",),
}

#: Values that are packed at a time where rows come in blocks.
_STREAMED_VALUES = 1 << 20
#: Labels that are worked on at a time, so that intermediate arrays stay in the cache.
_LABELS = 1 << 14


def _ceil_divide(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True)
class Layout:
    """Where the bits of a packed data set lie.

    Attributes
    ----------
    samples, features : int
        Shape of the data; the intercept counts as a feature.
    word_bits : int
        Width W of a word: 64, 128 or 512.
    block_samples : int
        Samples whose planes are stored together.
    bits : tuple of int
        Stored precisions, ascending; one for the format "levels", (32,) for "float32".
    sampling : str
        Stored dithers of each precision: "double", "single", "nearest" or "independent".
    value_format : str
        "bitplanes" (of the uniform grid), "float32", "levels" (bit-planes of codes), or "refetch"
        (bit-planes of the uniform grid, with the same samples as float32 beside them).
    level_tables : int
        Tables of levels: 1 or one a feature for the format "levels", 0 for the others.
    independent : int
        Dithers of each precision with the sampling "independent", 2 to 8; 0 with the others.

    Raises
    ------
    ArgumentError
        A field is outside what the accelerator takes.
    """

    samples: int
    features: int
    word_bits: int
    block_samples: int
    bits: tuple[int, ...]
    sampling: str
    value_format: str = BITPLANES
    level_tables: int = 0
    independent: int = 0

    def __post_init__(self) -> None:
        check_int("samples", self.samples, 1, CONFIG.max_samples)
        check_choice("value_format", self.value_format, tuple(_FORMATS))
        _check_word_bits(self.word_bits)
        check_choice("sampling", self.sampling, SAMPLINGS)
        if self.value_format == FLOAT32:
            if self.bits != (32,) or self.sampling != "single":
                raise ArgumentError(
                    f"bits and sampling were {self.bits!r} and {self.sampling!r}; the format "
                    "'float32' has bits (32,) and sampling 'single'"
                )
        elif self.bits != _bits_tuple(self.bits):
            raise ArgumentError(f"bits was {self.bits!r}; it must ascend without repetition")
        elif self.value_format == LEVELS and len(self.bits) != 1:
            raise ArgumentError(
                f"bits was {self.bits!r}; a data set with tables of levels has one precision: "
                "levels of different precisions are not nested, so they share no base planes"
            )
        if self.sampling == "independent":
            check_int("dithers", self.independent, 2, CONFIG.max_dithers)
            if self.value_format == LEVELS:
                raise ArgumentError(
                    "sampling was 'independent' with tables of levels, of which two samples are "
                    "kept at a time; allowed are 'double', 'single' and 'nearest'"
                )
        elif self.independent != 0:
            raise ArgumentError(
                f"dithers was {self.independent} with sampling {self.sampling!r}; it goes with "
                "'independent'"
            )
        if check_int("features", self.features, 0, 1 << 31) not in range(1, self.max_features + 1):
            raise ArgumentError(
                f"features was {self.features}; allowed is 1..{self.max_features} "
                f"(words of {self.word_bits} bits, format '{self.value_format}')"
            )
        self._check_tables()
        check_int("block_samples", self.block_samples, 1, CONFIG.block_samples)
        words = self.block_words()
        if words > self.limits.block_words:
            planes = f"{self.planes()} plane(s)" if self.value_format != LEVELS else "each plane"
            raise ArgumentError(
                f"block_samples was {self.block_samples}; a block of {planes} of "
                f"{self.chunks} word(s) a sample would have {words} words, and the accelerator "
                f"holds {self.limits.block_words}: at most {self.max_block_samples} samples"
            )

    def _check_tables(self) -> None:
        allowed = (1, self.features) if self.value_format == LEVELS else (0,)
        if check_int("level_tables", self.level_tables, 0, 1 << 31) not in allowed:
            raise ArgumentError(
                f"level_tables was {self.level_tables}; the format '{self.value_format}' with "
                f"{self.features} features has {' or '.join(map(str, allowed))}"
            )
        if self.level_tables <= 1:
            return
        # one memory serves the same lane of every part of a word (CONFIG.level_parts)
        memories = self.word_bits // CONFIG.level_parts
        tables = _ceil_divide(self.features, memories)
        if tables * self.level_count > CONFIG.level_table:
            raise ArgumentError(
                f"levels had one table a feature: {self.features} tables of {self.level_count} "
                f"levels are {tables * self.level_count} in each of {memories} memories, and a "
                f"memory holds {CONFIG.level_table}; what helps is levels='global' (one table), "
                "fewer bits, wider words or fewer features"
            )

    @property
    def lanes(self) -> int:
        """Values in one word."""
        return self.word_bits // 32 if self.value_format == FLOAT32 else self.word_bits

    @property
    def level_count(self) -> int:
        """Levels of one table; 0 where there are none."""
        return (1 << (self.bits[-1] - 1)) + 1 if self.value_format == LEVELS else 0

    @property
    def limits(self) -> Limits:
        """What a build for this value format holds on chip."""
        return LIMITS[self.value_format]

    @property
    def max_features(self) -> int:
        """Longest model that the accelerator holds at this word width."""
        return int(min(self.limits.max_chunks * self.lanes, CONFIG.max_features))

    @property
    def chunks(self) -> int:
        """Words of one sample's row of one plane."""
        return _ceil_divide(self.features, self.lanes)

    @property
    def blocks(self) -> int:
        """Blocks; the last one is padded with zero samples."""
        return _ceil_divide(self.samples, self.block_samples)

    @property
    def max_block_samples(self) -> int:
        """Most samples of this shape in a block, at the largest stored precision."""
        room = self.limits.block_words // (self._counted_planes() * self.chunks)
        return int(min(room, CONFIG.block_samples))

    @property
    def base_planes(self) -> int:
        """Stored planes that all precisions share."""
        return 0 if self.value_format == FLOAT32 else self.bits[-1] - 1

    @property
    def stored_planes(self) -> int:
        """Stored planes of a block: base, then the dithers of each precision."""
        if self.value_format == FLOAT32:
            return 1
        return self.base_planes + len(self.bits) * self.dither_planes()

    @property
    def block_stride(self) -> int:
        """Words from one block to the next."""
        return self.stored_planes * self.block_samples * self.chunks

    def _check_stored(self, bits: int | None) -> int:
        if bits is None:
            return self.bits[-1]
        if bits not in self.bits:
            stored = ", ".join(map(str, self.bits))
            raise ArgumentError(f"bits was {bits!r}; this data set stores {stored}")
        return int(bits)

    @property
    def dithers(self) -> int:
        """Dither planes that are stored of a precision."""
        return self.dither_planes()

    def dither_planes(self, sampling: str | None = None) -> int:
        """Dither planes that ``sampling`` reads; None: as many as are stored of a precision."""
        if sampling is None:
            sampling = self.sampling
        check_choice("sampling", sampling, READABLE[self.sampling])
        if sampling == "independent":
            return self.independent
        return 1 if sampling in ("single", "nearest") else 2

    def dither_offset(self, bits: int | None = None) -> int:
        """Words from the start of a block to the dither planes of ``bits`` (None: the largest)."""
        bits = self._check_stored(bits)
        if self.value_format == FLOAT32:
            return 0
        before = len(self.bits) - 1 - self.bits.index(bits)
        planes = self.base_planes + before * self.dither_planes()
        return planes * self.block_samples * self.chunks

    def planes(self, bits: int | None = None, sampling: str | None = None) -> int:
        """Planes streamed at ``bits`` (None: the largest) and ``sampling`` (None: as stored)."""
        bits = self._check_stored(bits)
        dithers = self.dither_planes(sampling)
        return 1 if self.value_format == FLOAT32 else bits - 1 + dithers

    def _counted_planes(self, bits: int | None = None, sampling: str | None = None) -> int:
        """Planes of a block that share one memory of the accelerator."""
        planes = self.planes(bits, sampling)
        return 1 if self.value_format == LEVELS else planes

    def block_words(self, bits: int | None = None, sampling: str | None = None) -> int:
        """What a block takes of ``limits.block_words``, streamed as in :meth:`planes`.

        All streamed planes count; with tables of levels one does, because the accelerator keeps
        each plane in a memory of its own.
        """
        return self._counted_planes(bits, sampling) * self.block_samples * self.chunks

    def streamed_words(self, bits: int | None = None, sampling: str | None = None) -> int:
        """Words of planes streamed in one epoch, padding included."""
        return self.planes(bits, sampling) * self.block_samples * self.chunks * self.blocks

    def bytes_per_epoch(self, bits: int | None = None, sampling: str | None = None) -> int:
        """Bytes of planes streamed in one epoch; labels, 4 bytes a sample, are not counted."""
        return self.streamed_words(bits, sampling) * self.word_bits // 8


def _bits_tuple(bits: int | Iterable[int]) -> tuple[int, ...]:
    """Precisions as an ascending tuple without repetition."""
    if isinstance(bits, int | np.integer):
        return (check_bits(bits),)
    try:
        unique = sorted({check_bits(b) for b in bits})
    except TypeError:
        raise ArgumentError(
            f"bits was {bits!r}; it must be an integer in 1..{MAX_BITS} or several of them"
        ) from None
    if not unique:
        raise ArgumentError(f"bits was empty; it must name at least one of 1..{MAX_BITS}")
    return tuple(unique)


def _check_word_bits(word_bits: object) -> None:
    if not isinstance(word_bits, int | np.integer) or word_bits not in WORD_BITS:
        raise ArgumentError(f"word_bits was {word_bits!r}; allowed are {WORD_BITS}")


def plan_layout(
    samples: int,
    features: int,
    *,
    bits: tuple[int, ...],
    sampling: str,
    word_bits: int = 64,
    batch: int = 16,
    block_samples: int | None = None,
    value_format: str = BITPLANES,
    level_tables: int = 0,
    independent: int = 0,
) -> Layout:
    """The layout that :func:`pack` chooses: the largest blocks that fit, evened out.

    Parameters
    ----------
    samples, features : int
        Shape of the data, the intercept column included.
    bits, sampling, word_bits, batch, block_samples, value_format
        As in :func:`pack`; ``bits`` ascending.
    level_tables, independent : int
        As in :class:`Layout`.

    Raises
    ------
    ArgumentError
        Anything that no build holds.
    """
    check_int("batch", batch, 1, CONFIG.max_batch)

    def layout(size: int) -> Layout:
        return Layout(
            samples,
            features,
            word_bits,
            size,
            bits,
            sampling,
            value_format,
            level_tables,
            independent,
        )

    largest = layout(1).max_block_samples
    if batch > largest:
        raise ArgumentError(
            f"batch was {batch}; with {features} features, words of {word_bits} bits and "
            f"{layout(1).planes()} plane(s) the accelerator holds batches of at most {largest}"
        )
    if block_samples is None:
        # a block is whole batches, and all blocks are about equally full
        blocks = _ceil_divide(samples, largest // batch * batch)
        block_samples = _ceil_divide(_ceil_divide(samples, blocks), batch) * batch
    check_int("block_samples", block_samples, 1, CONFIG.block_samples)
    if block_samples % batch != 0:
        raise ArgumentError(
            f"block_samples was {block_samples}; it must be a multiple of batch, {batch}"
        )
    return layout(int(block_samples))


@dataclass(frozen=True, eq=False)
class PackedDataset:
    """Samples packed for the accelerator, with their labels. Immutable.

    Attributes
    ----------
    planes : ndarray, uint64, (blocks, block_stride * word_bits // 64)
        Read-only; after :meth:`load` a memory map of the file.
    labels : ndarray, int32, (blocks * block_samples,)
        Normalized labels in fixed point, ``CONFIG.model_fraction_bits`` fraction bits.
    layout : Layout
    normalization : Normalization
    seed, draw : int
        Keys of the randomness.
    batch : int
        Batch that the blocks were made for; any divisor of ``layout.block_samples`` works.
    clipped : int
        Values that lay outside the normalization's range or the ends of their table of levels, and
        labels beyond fixed point.
    levels : ndarray, int16, (layout.level_tables, layout.level_count), or None
        Read-only; the tables of the format "levels": ``levels[feature, code]``, or
        ``levels[0, code]``, is a value with ``CONFIG.level_fraction_bits`` fraction bits.
    full : ndarray, uint64, (blocks * block_samples, uint64 of a row), or None
        Read-only; float32 values of the format "refetch", rows padded to whole words.
    weights : ndarray, int32, (blocks * block_samples,), or None
        Weights of samples, ``CONFIG.weight_fraction_bits`` fraction bits; None: all 1.
    """

    planes: NDArray[np.uint64] = field(repr=False)
    labels: NDArray[np.int32] = field(repr=False)
    layout: Layout
    normalization: Normalization
    seed: int
    draw: int
    batch: int
    clipped: int = 0
    levels: NDArray[np.int16] | None = field(default=None, repr=False)
    full: NDArray[np.uint64] | None = field(default=None, repr=False)
    weights: NDArray[np.int32] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        layout = self.layout
        shapes: dict[str, tuple[type, tuple[int, ...]]] = {
            "planes": (np.uint64, (layout.blocks, layout.block_stride * layout.word_bits // 64)),
            "labels": (np.int32, (layout.blocks * layout.block_samples,)),
        }
        if layout.level_tables:
            shapes["levels"] = (np.int16, (layout.level_tables, layout.level_count))
        if layout.value_format == REFETCH:
            rows = layout.blocks * layout.block_samples
            shapes["full"] = (np.uint64, (rows, _full_words(layout)))
        for name in ("levels", "full"):
            if name not in shapes and getattr(self, name) is not None:
                raise ArgumentError(
                    f"{name} was {type(getattr(self, name)).__name__}; the format "
                    f"'{layout.value_format}' has none: leave it out"
                )
        if self.weights is not None:
            shapes["weights"] = shapes["labels"]
        for name, (dtype, shape) in shapes.items():
            a = getattr(self, name)
            if not isinstance(a, np.ndarray) or a.dtype != dtype or a.shape != shape:
                found = (a.dtype, a.shape) if isinstance(a, np.ndarray) else type(a).__name__
                raise ArgumentError(
                    f"{name} was {found}; this layout needs {dtype.__name__} {shape}"
                )
            view = np.ascontiguousarray(a) if not a.flags.c_contiguous else a.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)
        if self.levels is not None:
            check_levels(self.levels, layout.bits[0], layout.features)
        if self.normalization.features != layout.features:
            raise ArgumentError(
                f"normalization was for {self.normalization.features} features; "
                f"this layout has {layout.features}"
            )
        check_int("seed", self.seed, 0, (1 << 64) - 1)
        check_int("draw", self.draw, 0, (1 << 32) - 1)
        check_int("batch", self.batch, 1, CONFIG.max_batch)
        if layout.block_samples % self.batch != 0:
            raise ArgumentError(
                f"batch was {self.batch}; it must divide block_samples, {layout.block_samples}"
            )

    def block_range(self, first: int, last: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """Planes and labels of the blocks ``first`` .. ``last - 1``, as views."""
        check_int("first", first, 0, self.layout.blocks - 1)
        check_int("last", last, first + 1, self.layout.blocks)
        size = self.layout.block_samples
        return self.planes[first:last], self.labels[first * size : last * size]

    def unpack(
        self, bits: int | None = None, sampling: str | None = None
    ) -> NDArray[np.int16] | tuple[NDArray[np.int16], ...]:
        """Codes, level indices 0..2^(bits-1), of all samples.

        Parameters
        ----------
        bits : int, optional
            A stored precision; by default the largest.
        sampling : str, optional
            How to read them, one of ``READABLE[layout.sampling]``; by default as stored.

        Returns
        -------
        ndarray, int16, (samples, features), or a tuple of them
            Q1, and Q2 and so on where more than one dither is read.
        """
        if self.layout.value_format == FLOAT32:
            raise ArgumentError("value_format was 'float32', which has no codes; use values()")
        bits = self.layout._check_stored(bits)
        count = self.layout.dither_planes(sampling)
        plane_words = self.layout.block_samples * self.layout.chunks
        codes = []
        for dither in range(count):
            out = np.empty((self.layout.samples, self.layout.features), dtype=np.int16)
            lib.zipml_unpack(
                pointer("const uint64_t *", self.planes),
                self.layout.word_bits,
                self.layout.features,
                self.layout.block_samples,
                self.layout.block_stride,
                self.layout.dither_offset(bits) + dither * plane_words,
                bits,
                self.layout.samples,
                pointer("int16_t *", out),
            )
            codes.append(out)
        return codes[0] if count == 1 else tuple(codes)

    def values(
        self, bits: int | None = None, sampling: str | None = None
    ) -> NDArray[np.float32] | tuple[NDArray[np.float32], ...]:
        """What the accelerator computes with: float32 (samples, features), as :meth:`unpack`."""
        layout = self.layout
        if layout.value_format == FLOAT32:
            layout.planes(bits, sampling)  # checks them
            rows = self.planes.reshape(-1, layout.chunks * layout.word_bits // 64)
            return rows.view(np.float32)[: layout.samples, : layout.features].copy()
        if self.levels is None:
            table = uniform_levels(layout._check_stored(bits))[None, :]
        else:
            table = self.levels / float(1 << CONFIG.level_fraction_bits)
        table = table.astype(np.float32)
        codes = self.unpack(bits, sampling)
        if isinstance(codes, tuple):
            return tuple(decode(table, code) for code in codes)
        return decode(table, codes)

    def relabel(
        self,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        normalization: Normalization | None = None,
    ) -> PackedDataset:
        """The same samples with other labels, and perhaps weights; planes are shared.

        Parameters
        ----------
        y : array_like, (samples,)
            Raw labels; their range is mapped to [-1, 1], so two classes become -1 and 1.
        sample_weight : array_like, (samples,), optional
            From 0 to below 2^15.
        normalization : Normalization, optional
            One whose range of labels is mapped to [-1, 1] instead, which ``y`` need not reach.

        Raises
        ------
        ArgumentError
            Other than one label, or one weight, a sample; not finite, or weights out of range.
        """
        labels = check_array("y", y, 1)
        if labels.size != self.layout.samples:
            raise ArgumentError(
                f"y had {labels.size} label(s); this data set has {self.layout.samples} samples"
            )
        own = self.normalization.with_labels(labels)
        if normalization is not None:
            mid, half = normalization.label_mid, normalization.label_half
            own = replace(own, label_mid=mid, label_half=half)
        padded, _ = _fixed_labels(labels, own, self.layout)
        weights = _fixed_weights(sample_weight, self.layout)
        return replace(self, labels=padded, normalization=own, weights=weights)

    def redraw(self, X: ArrayLike, draw: int, threads: int | None = None) -> PackedDataset:
        """The same data packed again with another draw: new dithers on the same base planes.

        Tables of levels are kept.

        Parameters
        ----------
        X : array_like, (samples, columns)
            The raw samples that this data set was packed from.
        draw : int
            0..2^32 - 1.
        threads : int, optional
            See :func:`pack`.

        Raises
        ------
        ArgumentError
            ``X`` is not what this data set was packed from, or ``draw`` is out of range.
        """
        check_int("draw", draw, 0, (1 << 32) - 1)
        a = self.normalization.check(X)
        if a.shape[0] != self.layout.samples:
            raise ArgumentError(
                f"X had {a.shape[0]} row(s); this data set has {self.layout.samples}"
            )
        column_range("X", a, threads)
        planes = _pack_planes(
            a, self.normalization, self.layout, self.seed, draw, self.levels, threads
        )
        # what no draw changes: base planes; everything where nothing is drawn
        drawn = self.layout.value_format != FLOAT32 and self.layout.sampling != "nearest"
        fixed = self.layout.base_planes if drawn else self.layout.stored_planes
        words = fixed * self.layout.block_samples * self.layout.chunks * self.layout.word_bits // 64
        differing = (planes[:, :words] != self.planes[:, :words]).any(axis=1)
        if differing.any():
            block = int(differing.argmax())
            size = self.layout.block_samples
            last = min((block + 1) * size, self.layout.samples) - 1
            raise ArgumentError(
                "X was not what this data set was packed from: rows "
                f"{block * size}..{last} have other base planes"
            )
        return replace(self, planes=planes, draw=int(draw))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this data set to ``path``, a safetensors file, all or nothing.

        Raises
        ------
        ArgumentError
            ``path`` is a directory, or its folder does not exist.
        PackedFileError
            The file cannot be written.
        """
        tensors: dict[str, NDArray] = {
            "planes": self.planes,
            "labels": self.labels,
            **_normalization_tensors(self.normalization),
        }
        for name in ("levels", "full", "weights"):
            if getattr(self, name) is not None:
                tensors[name] = getattr(self, name)
        metadata = _metadata(
            self.layout,
            self.normalization,
            weighted=self.weights is not None,
            seed=self.seed,
            draw=self.draw,
            batch=self.batch,
            clipped=self.clipped,
        )
        write_tensors(path, FILE_KIND, tensors, metadata)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], mmap: bool = True, verify: bool = True
    ) -> PackedDataset:
        """Read a file that :meth:`save` wrote.

        Parameters
        ----------
        path : path-like
        mmap : bool
            Map planes and labels instead of reading them; the file must then not be changed in
            place while the data set is in use (saving over it is safe, since that renames).
        verify : bool
            Compare the checksum, which reads the whole file once, a piece at a time.

        Raises
        ------
        PackedFileError
            The file is missing, truncated, altered, of another version or no packed data set.
        """
        tensors, metadata = read_tensors(path, FILE_KIND, mmap, verify)
        try:
            layout = Layout(
                samples=int(metadata["samples"]),
                features=int(metadata["features"]),
                word_bits=int(metadata["word_bits"]),
                block_samples=int(metadata["block_samples"]),
                bits=tuple(int(b) for b in metadata["bits"].split()),
                sampling=metadata["sampling"],
                value_format=metadata["value_format"],
                level_tables=int(metadata["level_tables"]),
                independent=int(metadata["independent"]),
            )
            label_mid, label_half = tensors["label_range"]
            normalization = Normalization(
                tensors["mid"],
                tensors["half"],
                label_mid,
                label_half,
                bool(int(metadata["intercept"])),
            )
            return cls(
                tensors["planes"],
                tensors["labels"],
                layout,
                normalization,
                int(metadata["seed"]),
                int(metadata["draw"]),
                int(metadata["batch"]),
                int(metadata["clipped"]),
                tensors.get("levels"),
                tensors.get("full"),
                tensors.get("weights"),
            )
        except (KeyError, ValueError) as error:
            raise PackedFileError(f"'{path}' was altered: {error}") from error


#: The file of a packed data set.
FILE_KIND = FileKind(
    name="packed data set",
    format="zipml-pynq packed data set",
    version=2,
    error=PackedFileError,
    remedy="pack the data again",
    tensors={
        "planes": np.dtype("<u8"),
        "labels": np.dtype("<i4"),
        "mid": np.dtype("<f8"),
        "half": np.dtype("<f8"),
        "label_range": np.dtype("<f8"),
        "levels": np.dtype("<i2"),
        "full": np.dtype("<u8"),
        "weights": np.dtype("<i4"),
    },
    optional={
        "levels": lambda metadata: metadata.get("level_tables") != "0",
        "full": lambda metadata: metadata.get("value_format") == REFETCH,
        "weights": lambda metadata: metadata.get("weighted") == "1",
    },
)


def _metadata(
    layout: Layout,
    normalization: Normalization,
    *,
    weighted: bool,
    seed: int,
    draw: int,
    batch: int,
    clipped: int,
) -> dict[str, str]:
    """What a file tells of a data set beside its tensors."""
    return {
        "samples": str(layout.samples),
        "features": str(layout.features),
        "word_bits": str(layout.word_bits),
        "block_samples": str(layout.block_samples),
        "bits": " ".join(map(str, layout.bits)),
        "sampling": layout.sampling,
        "value_format": layout.value_format,
        "level_tables": str(layout.level_tables),
        "independent": str(layout.independent),
        "weighted": str(int(weighted)),
        "intercept": str(int(normalization.intercept)),
        "seed": str(seed),
        "draw": str(draw),
        "batch": str(batch),
        "clipped": str(clipped),
    }


def _normalization_tensors(normalization: Normalization) -> dict[str, NDArray]:
    return {
        "mid": normalization.mid,
        "half": normalization.half,
        "label_range": np.array(
            [normalization.label_mid, normalization.label_half], dtype=np.float64
        ),
    }


def _pack_planes(
    X: NDArray,
    normalization: Normalization,
    layout: Layout,
    seed: int,
    draw: int,
    level_table: NDArray[np.int16] | None,
    threads: int | None,
    first_block: int = 0,
) -> NDArray[np.uint64]:
    """Planes (blocks, uint64 words of a block) of checked raw samples, from a block's first on."""
    blocks = _ceil_divide(X.shape[0], layout.block_samples)
    planes = empty_aligned((blocks, layout.block_stride * layout.word_bits // 64), np.uint64)
    grid = BITPLANES if layout.value_format == REFETCH else layout.value_format
    _pack_into(
        planes, X, normalization, layout, grid, seed, draw, level_table, threads, first_block
    )
    return planes


def _full_words(layout: Layout) -> int:
    """uint64 of one sample at full precision, padded to a whole word."""
    return _ceil_divide(layout.features, layout.word_bits // 32) * (layout.word_bits // 64)


def _pack_full(
    X: NDArray, normalization: Normalization, layout: Layout, threads: int | None
) -> NDArray[np.uint64]:
    """float32 values (blocks * block_samples, uint64 of a row) of checked raw samples."""
    words = _full_words(layout)
    blocks = _ceil_divide(X.shape[0], layout.block_samples)
    rows = empty_aligned((blocks, layout.block_samples * words), np.uint64)
    _pack_into(rows, X, normalization, layout, FLOAT32, 0, 0, None, threads)
    return rows.reshape(-1, words)


def _pack_into(
    planes: NDArray[np.uint64],
    X: NDArray,
    normalization: Normalization,
    layout: Layout,
    value_format: str,
    seed: int,
    draw: int,
    level_table: NDArray[np.int16] | None,
    threads: int | None,
    first_block: int = 0,
) -> None:
    """Fills rows of blocks with planes or values, as ``value_format`` says.

    ``X`` are the samples from the first one of ``first_block`` on.
    """
    mid, divisor = normalization.mid, normalization.divisor
    stored = () if value_format == FLOAT32 else layout.bits
    lanes = None  # tables transposed: neighbouring features lie side by side
    if level_table is not None:
        lanes = np.ascontiguousarray(
            np.broadcast_to(level_table.T, (layout.level_count, layout.features))
        )
    fields = {
        "mid": pointer("const double *", mid),
        "divisor": pointer("const double *", divisor),
        "seed": seed,
        "draw": draw,
        "columns": normalization.columns,
        "features": layout.features,
        # the last ones of a part that is not the end fill their block
        "samples": first_block * layout.block_samples + X.shape[0],
        "block_samples": layout.block_samples,
        "word_bits": layout.word_bits,
        "format": _FORMATS[value_format],
        "precisions": sum(1 << bits for bits in stored),
        "dither_planes": layout.dither_planes(),
        "nearest": layout.sampling == "nearest",
        "levels": ffi.NULL if lanes is None else pointer("const int16_t *", lanes),
    }

    size = layout.block_samples

    def work(first: int, last: int) -> None:
        end = min(last * size, X.shape[0])
        for start, rows in float_rows(X, first * size, end, multiple=size):
            layout_of_rows = {
                "row_stride": rows.strides[0] // rows.itemsize,
                "x_bytes": rows.itemsize,
            }
            lib.zipml_pack(
                ffi.new("ZipmlPacking *", {**fields, **layout_of_rows}),
                pointer("const void *", rows),
                first_block + start // size,
                first_block + _ceil_divide(start + len(rows), size),
                pointer("uint64_t *", planes[start // size :]),
            )

    in_threads(work, len(planes), X.shape[0] * X.shape[1], threads)


def _level_source(
    levels: Any, value_format: str, bits: tuple[int, ...], features: int
) -> str | NDArray[np.int16]:
    """``levels`` of :func:`pack`, checked: a name, or a table."""
    if levels is None:
        levels = "uniform"
    if not isinstance(levels, str):
        source: str | NDArray[np.int16] = "explicit"
    else:
        source = check_choice("levels", levels, LEVEL_CHOICES)
    if value_format == FLOAT32 and source != "uniform":
        raise ArgumentError(
            f"levels was {levels if isinstance(levels, str) else 'an array'!r}; value_format "
            "'float32' has no levels: leave it out"
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
class _Request:
    """How to pack, checked, apart from the data; fields as in :func:`pack`."""

    value_format: str
    bits: tuple[int, ...]
    sampling: str
    dithers: int
    word_bits: int
    batch: int
    block_samples: int | None

    @classmethod
    def of(
        cls,
        value_format: str,
        bits: int | Iterable[int] | None,
        sampling: str | None,
        dithers: int | None,
        word_bits: int,
        batch: int,
        block_samples: int | None,
        seed: int,
        draw: int,
    ) -> _Request:
        check_choice("value_format", value_format, tuple(_FORMATS))
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
            stored = _bits_tuple(4 if bits is None else bits)
            sampling = check_choice(
                "sampling", "double" if sampling is None else sampling, SAMPLINGS
            )
        if sampling == "independent":
            dithers = check_int("dithers", 6 if dithers is None else dithers, 2, CONFIG.max_dithers)
        elif dithers is not None:
            raise ArgumentError(
                f"dithers was {dithers!r} with sampling {sampling!r}; it goes with 'independent'"
            )
            _check_word_bits(word_bits)
        check_int("seed", seed, 0, (1 << 64) - 1)
        check_int("draw", draw, 0, (1 << 32) - 1)
        return cls(value_format, stored, sampling, dithers or 0, word_bits, batch, block_samples)

    def layout(self, samples: int, features: int, source: str | NDArray[np.int16]) -> Layout:
        """The layout of data of that shape, with levels as :func:`_level_source` returns them."""
        value_format, level_tables = self.value_format, 0
        if not isinstance(source, str):
            value_format, level_tables = LEVELS, len(source)
        elif source != "uniform":
            value_format, level_tables = LEVELS, features if source == "optimal" else 1
        return plan_layout(
            samples,
            features,
            bits=self.bits,
            sampling=self.sampling,
            word_bits=self.word_bits,
            batch=self.batch,
            block_samples=self.block_samples,
            value_format=value_format,
            level_tables=level_tables,
            independent=self.dithers,
        )


def _check_normalization(normalization: object) -> None:
    if not isinstance(normalization, Normalization):
        raise ArgumentError(
            f"normalization was {type(normalization).__name__}; it must be a Normalization"
        )


def _warn_of_clipped(clipped: int) -> None:
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
    word_bits: int = 64,
    batch: int = 16,
    block_samples: int | None = None,
    seed: int = 0,
    draw: int = 0,
    intercept: bool = True,
    normalization: Normalization | None = None,
    value_format: str = BITPLANES,
    levels: str | ArrayLike | None = "uniform",
    dithers: int | None = None,
    sample_weight: ArrayLike | None = None,
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
        Precisions to store, 1..8; 4 by default. All of them share one set of base planes.
    sampling : str, optional
        "double" (the default), "single", "nearest" or "independent": the dithers stored for each
        precision.
    word_bits : int
        64, 128 or 512, as the accelerator's memory port.
    batch : int
        Batch to make blocks for, 1..256.
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
        again.
    levels : str or array_like, (1 or features, 2^(bits-1) + 1)
        Where the levels lie: "uniform" (or None) is the grid; "optimal" minimizes the variance of
        each column's samples, "global" that of all columns with one table
        (:func:`zipml_pynq.levels.fit_levels`); an array, such as another data set's ``levels``, is
        taken as :func:`zipml_pynq.quantize.check_levels` states. Other than "uniform" allows one
        precision; values outside the ends of a table are clipped like those outside the range.
    dithers : int, optional
        With the sampling "independent": how many, 2 to 8; by default 6, for a degree of 5.
    sample_weight : array_like, (N,), optional
        Weights of the samples' losses, from 0 to below 2^15.
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
    request = _Request.of(
        value_format, bits, sampling, dithers, word_bits, batch, block_samples, seed, draw
    )
    a, labels = check_data(X, y, convert=False)
    fitted = normalization is None
    if normalization is None:
        normalization = Normalization.fit(a, labels, intercept, threads)
    _check_normalization(normalization)
    source = _level_source(levels, value_format, request.bits, normalization.features)
    layout = request.layout(a.shape[0], normalization.features, source)
    value_format = layout.value_format
    table = None if isinstance(source, str) else source
    # what was fitted to these data reaches all of them
    clipped = 0 if fitted and table is None else normalization.out_of_range(a, table, threads)
    if isinstance(source, str) and source != "uniform":
        from zipml_pynq.levels import fit_levels  # which needs a normalization, so packs nothing

        table = fit_levels(
            a, normalization, layout.bits[0], per_column=source == "optimal", threads=threads
        )
    padded, beyond = _fixed_labels(labels, normalization, layout)
    weights = _fixed_weights(sample_weight, layout)
    clipped += beyond
    _warn_of_clipped(clipped)
    planes = _pack_planes(a, normalization, layout, seed, draw, table, threads)
    full = None
    if value_format == REFETCH:
        full = _pack_full(a, normalization, layout, threads)
    return PackedDataset(
        planes,
        padded,
        layout,
        normalization,
        int(seed),
        int(draw),
        int(batch),
        clipped,
        table,
        full,
        weights,
    )


def _fixed_labels(
    labels: NDArray, normalization: Normalization, layout: Layout
) -> tuple[NDArray[np.int32], int]:
    """Labels in fixed point, padded to whole blocks, and how many had to be clipped."""
    check_finite_labels(labels)
    blocks = _ceil_divide(labels.size, layout.block_samples)
    padded = np.zeros(blocks * layout.block_samples, dtype=np.int32)
    limit = float((1 << 31) - 1)
    clipped = 0
    for start in range(0, labels.size, _LABELS):
        rows = slice(start, start + _LABELS)
        fixed = np.rint(normalization.transform_labels(labels[rows]) * MODEL_ONE)
        clipped += int((np.abs(fixed) > limit).sum())
        padded[: labels.size][rows] = np.clip(fixed, -limit, limit)
    return padded, clipped


def _fixed_weights(weights: ArrayLike | None, layout: Layout) -> NDArray[np.int32] | None:
    """Weights of samples in fixed point, padded to whole blocks."""
    if weights is None:
        return None
    a = check_array("sample_weight", weights, 1).astype(np.float64)
    limit = 2.0 ** (31 - CONFIG.weight_fraction_bits)
    if a.size != layout.samples:
        raise ArgumentError(
            f"sample_weight had {a.size} entries; allowed is one a sample, {layout.samples}"
        )
    bad = ~((a >= 0) & (a < limit))
    if bad.any():
        row = int(bad.argmax())
        raise ArgumentError(
            f"sample_weight was {a[row]} in row {row}; allowed are 0 to below {limit:g}"
        )
    padded = np.zeros(layout.blocks * layout.block_samples, dtype=np.int32)
    fixed = np.rint(a * 2.0**CONFIG.weight_fraction_bits)
    padded[: layout.samples] = np.minimum(fixed, 2.0**31 - 1)
    return padded


# ---- Data sets larger than memory --------------------------------------------------------------

#: Rows of samples, dense or sparse, and their labels, again and again from the first on.
RowBlocks = Callable[[], Iterable[tuple[Any, Any]]]


def pack_file(
    blocks: RowBlocks,
    path: str | os.PathLike[str],
    *,
    bits: int | Iterable[int] | None = None,
    sampling: str | None = None,
    word_bits: int = 64,
    batch: int = 16,
    block_samples: int | None = None,
    seed: int = 0,
    draw: int = 0,
    intercept: bool = True,
    normalization: Normalization | None = None,
    value_format: str = BITPLANES,
    levels: ArrayLike | None = None,
    dithers: int | None = None,
    threads: int | None = None,
) -> PackedDataset:
    """:func:`pack` of rows that come in blocks, written to a file block by block.

    The file is the one that ``pack(..).save(path)`` writes of all rows together, to the bit,
    however they are cut into blocks. Memory holds a few blocks, never the data set; the rows are
    asked for twice, once for their number and the ranges of their columns, once to be packed; a
    third time in between where a normalization or table is given, to count what these clip.

    Parameters
    ----------
    blocks : callable
        Returns an iterable of pairs ``X``, ``y`` of some rows, the same in every call. Sparse
        blocks may have fewer columns than others: 0 in those that they do not reach.
    path : path-like
        Where to write; nothing is there before everything is.
    levels : array_like, optional
        A table, as in :func:`pack`; fitting one takes all rows at hand.
    bits, sampling, word_bits, batch, block_samples, seed, draw
        As in :func:`pack`.
    intercept, normalization, value_format, dithers, threads
        As in :func:`pack`.

    Returns
    -------
    PackedDataset
        A map of the file.

    Raises
    ------
    ArgumentError
        As :func:`pack`; or the blocks were not the same a second time.
    PackedFileError
        The file cannot be written.
    """
    request = _Request.of(
        value_format, bits, sampling, dithers, word_bits, batch, block_samples, seed, draw
    )
    if isinstance(levels, str) and levels != "uniform":
        raise ArgumentError(f"levels was {levels!r}; allowed are a table and 'uniform' here")
    check_target(path)
    ranges = Ranges(threads)
    for X, y in blocks():
        ranges.update(X, y)
    if ranges.rows == 0:
        raise ArgumentError("blocks were none; allowed is at least one row")
    fitted = normalization is None
    if normalization is None:
        normalization = ranges.normalization(intercept)
    _check_normalization(normalization)
    columns = normalization.columns
    source = _level_source(levels, value_format, request.bits, normalization.features)
    table = None if isinstance(source, str) else source
    layout = request.layout(ranges.rows, normalization.features, source)
    size = layout.block_samples
    clipped = 0
    if not (fitted and table is None):
        # the file's header tells it, so it is counted first
        for a, labels in _whole_blocks(blocks(), size, columns):
            clipped += normalization.out_of_range(a, table, threads)
            clipped += _fixed_labels(labels, normalization, layout)[1]
    shapes: dict[str, tuple[int, ...]] = {
        "planes": (layout.blocks, layout.block_stride * layout.word_bits // 64),
        "labels": (layout.blocks * size,),
        "mid": (columns,),
        "half": (columns,),
        "label_range": (2,),
    }
    if table is not None:
        shapes["levels"] = table.shape
    if layout.value_format == REFETCH:
        shapes["full"] = (layout.blocks * size, _full_words(layout))
    metadata = _metadata(
        layout,
        normalization,
        weighted=False,
        seed=int(seed),
        draw=int(draw),
        batch=int(batch),
        clipped=clipped,
    )
    done = 0
    with TensorWriter(path, FILE_KIND, shapes, metadata) as writer:
        for name, tensor in _normalization_tensors(normalization).items():
            writer.write(name, tensor)
        if table is not None:
            writer.write("levels", table)
        for X, y in _whole_blocks(blocks(), size, columns):
            a, labels = check_data(X, y, convert=False)
            if done + len(labels) > layout.samples or done % size:
                raise ArgumentError("blocks had more rows the second time than the first")
            first = done // size
            writer.write("labels", _fixed_labels(labels, normalization, layout)[0], done)
            planes = _pack_planes(
                a, normalization, layout, seed, draw, table, threads, first_block=first
            )
            writer.write("planes", planes, first)
            if layout.value_format == REFETCH:
                writer.write("full", _pack_full(a, normalization, layout, threads), done)
            done += len(labels)
        if done != layout.samples:
            raise ArgumentError(
                f"blocks had {done} rows the second time, {layout.samples} the first"
            )
        writer.finish()
    _warn_of_clipped(clipped)
    return PackedDataset.load(path, verify=False)


def _whole_blocks(
    parts: Iterable[tuple[Any, Any]], size: int, columns: int
) -> Iterator[tuple[Any, NDArray]]:
    """The same rows in parts of whole blocks of ``size`` samples, but for the last."""
    wanted = max(1, _STREAMED_VALUES // (size * columns)) * size
    kept: list[tuple[Any, NDArray]] = []
    rows = 0
    for X, y in parts:
        a = X
        if issparse(X):
            a = csr_matrix(X)
            if a.shape[1] > columns:
                raise ArgumentError(f"X had {a.shape[1]} columns; allowed are {columns}")
            a.resize(a.shape[0], columns)
        else:
            a = np.asarray(a)
            if a.ndim != 2 or a.shape[1] != columns:
                raise ArgumentError(f"X had shape {a.shape}; allowed are rows of {columns} columns")
        y = np.asarray(y)
        start = 0
        while rows + len(y) - start >= wanted:
            stop = start + wanted - rows
            kept.append((a[start:stop], y[start:stop]))
            yield _joined(kept)
            kept, rows, start = [], 0, stop
        if start < len(y):
            kept.append((a[start:], y[start:]))
            rows += len(y) - start
    if kept:
        yield _joined(kept)


def _joined(parts: list[tuple[Any, NDArray]]) -> tuple[Any, NDArray]:
    samples = [a for a, _ in parts]
    labels = np.concatenate([y for _, y in parts])
    if len(samples) == 1:
        return samples[0], labels
    return (vstack(samples, "csr") if issparse(samples[0]) else np.concatenate(samples)), labels
