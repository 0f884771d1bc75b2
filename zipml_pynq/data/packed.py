"""Packed data sets: quantized samples in the bit-plane layout that the accelerator streams."""

from __future__ import annotations

import os
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq._engine import lib
from zipml_pynq.constants import CONFIG
from zipml_pynq.data.alignment import empty_aligned
from zipml_pynq.data.checks import check_array, check_int
from zipml_pynq.data.columns import column_range
from zipml_pynq.data.grid import check_levels, code_type, decode, uniform_levels
from zipml_pynq.data.labels import fixed_labels, fixed_weights
from zipml_pynq.data.layout import FLOAT32, Layout
from zipml_pynq.data.names import Names
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.packed_file import FILE_KIND, metadata_of, normalization_tensors, shapes_of
from zipml_pynq.data.planes import pack_planes
from zipml_pynq.data.rows import pointer
from zipml_pynq.data.tensor_file import read_tensors, write_tensors
from zipml_pynq.errors import ArgumentError, PackedFileError


def _padded(values: NDArray, rows: int) -> NDArray:
    """With rows of 0 at the end."""
    return np.concatenate([values, np.zeros((rows - len(values), *values.shape[1:]), values.dtype)])


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
    names : Names
        Of columns, labels and classes, as far as they are known.
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
    names: Names = field(default=Names(), repr=False)

    def __post_init__(self) -> None:
        layout = self.layout
        shapes = shapes_of(layout)
        for name in ("levels", "full"):
            if name not in shapes and getattr(self, name) is not None:
                raise ArgumentError(
                    f"{name} was {type(getattr(self, name)).__name__}; the format "
                    f"'{layout.value_format}' has none: leave it out"
                )
        if self.weights is not None:
            shapes["weights"] = shapes["labels"]
        for name, shape in shapes.items():
            a, dtype = getattr(self, name), FILE_KIND.tensors[name].newbyteorder("=")
            if not isinstance(a, np.ndarray) or a.dtype != dtype or a.shape != shape:
                found = (a.dtype, a.shape) if isinstance(a, np.ndarray) else type(a).__name__
                raise ArgumentError(f"{name} was {found}; this layout needs {dtype} {shape}")
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
        named = self.names.features
        if named is not None and len(named) != self.normalization.columns:
            raise ArgumentError(
                f"names of features were {len(named)}; allowed is one a column, "
                f"{self.normalization.columns}"
            )
        check_int("seed", self.seed, 0, (1 << 64) - 1)
        check_int("draw", self.draw, 0, (1 << 32) - 1)
        check_int("batch", self.batch, 1, CONFIG.max_batch)
        if layout.block_samples % self.batch != 0:
            raise ArgumentError(
                f"batch was {self.batch}; it must divide block_samples, {layout.block_samples}"
            )

    def part(self, first: int, stop: int) -> PackedDataset:
        """The blocks ``first`` to ``stop - 1`` as a data set; everything is shared.

        Raises
        ------
        ArgumentError
            There are no such blocks.
        """
        layout, size = self.layout, self.layout.block_samples
        check_int("first", first, 0, layout.blocks - 1)
        check_int("stop", stop, first + 1, layout.blocks)
        if (first, stop) == (0, layout.blocks):
            return self
        rows = slice(first * size, stop * size)
        return replace(
            self,
            planes=self.planes[first:stop],
            labels=self.labels[rows],
            layout=replace(layout, samples=min(layout.samples, stop * size) - first * size),
            full=None if self.full is None else self.full[rows],
            weights=None if self.weights is None else self.weights[rows],
        )

    def unpack(
        self, bits: int | None = None, sampling: str | None = None
    ) -> NDArray[np.signedinteger] | tuple[NDArray[np.signedinteger], ...]:
        """Codes, level indices 0..2^(bits-1), of all samples.

        Parameters
        ----------
        bits : int, optional
            A stored precision; by default the largest.
        sampling : str, optional
            How to read them, one of ``READABLE[layout.sampling]``; by default as stored.

        Returns
        -------
        ndarray, int16 (at 16 bits int32), (samples, features), or a tuple of them
            Q1, and Q2 and so on where more than one dither is read.
        """
        if self.layout.value_format == FLOAT32:
            raise ArgumentError("value_format was 'float32', which has no codes; use values()")
        bits = self.layout._check_stored(bits)
        count = self.layout.dither_planes(sampling)
        plane_words = self.layout.block_samples * self.layout.chunks
        codes = []
        for dither in range(count):
            out = np.empty((self.layout.samples, self.layout.features), dtype=np.uint16)
            lib.zipml_unpack(
                pointer("const uint64_t *", self.planes),
                self.layout.word_bits,
                self.layout.features,
                self.layout.block_samples,
                self.layout.block_stride,
                self.layout.dither_offset(bits) + dither * plane_words,
                bits,
                self.layout.samples,
                pointer("uint16_t *", out),
            )
            codes.append(out.astype(code_type(bits), copy=False))
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
        padded, _ = fixed_labels(labels, own, self.layout)
        weights = fixed_weights(sample_weight, self.layout)
        names = Names(self.names.features)
        return self.changed(labels=padded, normalization=own, weights=weights, names=names)

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
        planes = pack_planes(
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

    def reordered(self, order: ArrayLike) -> PackedDataset:
        """The same samples, draws, labels and weights in another order.

        Parameters
        ----------
        order : array_like of int, (samples,)
            Each sample's number once.

        Raises
        ------
        ArgumentError
            ``order`` is no permutation of the samples.
        """
        layout = self.layout
        index = np.asarray(order)
        if index.dtype.kind not in "iu" or not np.array_equal(
            np.sort(index.ravel()), np.arange(layout.samples)
        ):
            raise ArgumentError(
                f"order had shape {index.shape}; allowed are the numbers 0..{layout.samples - 1}, "
                "each once"
            )
        return self.taken(index)

    def taken(self, index: ArrayLike) -> PackedDataset:
        """Some of the samples, with their draws, labels and weights.

        Parameters
        ----------
        index : array_like of int, (samples of the new data set,)
            Their numbers.

        Raises
        ------
        ArgumentError
            ``index`` is empty or has a number that no sample has.
        """
        old, chosen = self.layout, np.asarray(index)
        fits = chosen.dtype.kind in "iu" and chosen.ndim == 1 and chosen.size > 0
        if not fits or chosen.min() < 0 or chosen.max() >= old.samples:
            raise ArgumentError(
                f"index had shape {chosen.shape}; allowed are numbers of the samples, "
                f"0..{old.samples - 1}, at least one"
            )
        layout = replace(old, samples=chosen.size)
        chosen = np.ascontiguousarray(chosen, np.int64)
        planes = empty_aligned((layout.blocks, self.planes.shape[1]), np.uint64)
        lib.zipml_take(
            pointer("const uint64_t *", self.planes),
            layout.stored_planes,
            layout.block_samples,
            layout.chunks * layout.word_bits // 64,
            pointer("const int64_t *", chosen),
            chosen.size,
            pointer("uint64_t *", planes),
        )
        changed: dict[str, Any] = {"planes": planes, "layout": layout}
        rows = layout.blocks * layout.block_samples
        for name in ("labels", "full", "weights"):
            if getattr(self, name) is not None:
                changed[name] = _padded(getattr(self, name)[chosen], rows)
        return self.changed(**changed)

    def changed(self, **values: Any) -> PackedDataset:
        """What :func:`dataclasses.replace` makes, unchecked: of new arrays that are known to fit.

        They become read-only.
        """
        made = copy(self)
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(made, name, value)
        return made

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
            **normalization_tensors(self.normalization),
        }
        for name in ("levels", "full", "weights"):
            if getattr(self, name) is not None:
                tensors[name] = getattr(self, name)
        metadata = metadata_of(
            self.layout,
            self.normalization,
            self.names,
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
                Names.of_metadata(metadata),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PackedFileError(f"'{path}' was altered: {error}") from error
