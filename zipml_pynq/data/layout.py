"""Where the bits of a packed data set lie: blocks, planes, words (docs/data.md, "Layout")."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from zipml_pynq.constants import CONFIG, LIMITS, MAX_BITS, WIDE_MAX_BITS, WORD_BITS, Limits
from zipml_pynq.data.checks import check_bits, check_choice, check_int
from zipml_pynq.data.draws import SAMPLINGS
from zipml_pynq.errors import ArgumentError

BITPLANES, FLOAT32, LEVELS, REFETCH, WIDE = "bitplanes", "float32", "levels", "refetch", "wide"
#: ``format`` field of the capability register by value format.
FORMAT_CODES: dict[str, int] = {
    BITPLANES: CONFIG.format_bit_planes,
    FLOAT32: CONFIG.format_float32,
    LEVELS: CONFIG.format_levels,
    REFETCH: CONFIG.format_refetch,
    WIDE: CONFIG.format_wide,
}
#: How a data set stored with the key's sampling can be read: by these names.
READABLE: dict[str, tuple[str, ...]] = {
    "independent": ("independent", "double", "plain", "symmetric", "single"),
    "double": ("double", "plain", "symmetric", "single"),
    "single": ("single",),
    "nearest": ("nearest",),
}


def streamed_dithers(sampling: str, degree: int = 0) -> int:
    """Dither planes that a sampling streams; ``degree`` counts for independent samples."""
    if sampling == "independent":
        return degree + 1
    return 1 if sampling in ("single", "nearest") else 2


def ceil_divide(a: int, b: int) -> int:
    """``a / b``, rounded up."""
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
        "bitplanes" (of the uniform grid), "float32", "levels" (bit-planes of codes), "refetch"
        (bit-planes of the uniform grid, with the same samples as float32 beside them), or "wide"
        (bit-planes of the uniform grid, to 16 bits a value).
    level_tables : int
        Tables of levels: 1 or one a feature for the format "levels", 0 for the others.
    independent : int
        Dithers of each precision with the sampling "independent", 2 to 16; 0 with the others.

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
        check_choice("value_format", self.value_format, tuple(FORMAT_CODES))
        check_word_bits(self.word_bits)
        check_choice("sampling", self.sampling, SAMPLINGS)
        if self.value_format == FLOAT32:
            if self.bits != (32,) or self.sampling != "single":
                raise ArgumentError(
                    f"bits and sampling were {self.bits!r} and {self.sampling!r}; the format "
                    "'float32' has bits (32,) and sampling 'single'"
                )
        elif self.bits != bits_tuple(self.bits, most_bits(self.value_format)):
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
        tables = ceil_divide(self.features, memories)
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
        return most_columns(False, self.value_format, self.word_bits)

    @property
    def chunks(self) -> int:
        """Words of one sample's row of one plane."""
        return ceil_divide(self.features, self.lanes)

    @property
    def blocks(self) -> int:
        """Blocks; the last one is padded with zero samples."""
        return ceil_divide(self.samples, self.block_samples)

    @property
    def max_block_samples(self) -> int:
        """Most samples of this shape in a block, at the largest stored precision."""
        room = self.limits.block_words // (self._counted_planes() * self.chunks)
        return int(min(room, CONFIG.block_samples))

    @property
    def row_cells(self) -> int:
        """Cells of a sample, which are trained on in a cycle each: words, or parts of them."""
        if self.value_format == LEVELS:
            return ceil_divide(self.features, self.lanes // CONFIG.level_parts)
        return self.chunks

    @property
    def largest_batch(self) -> int:
        """Most samples of this shape in a batch where the one before is still on chip (delay 1)."""
        passes = 1 if self.value_format == LEVELS else self.planes()
        room = self.limits.ring_words // (2 * passes * self.row_cells)
        return min(self.max_block_samples, int(room))

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
        return streamed_dithers(sampling)

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


#: Samples of a batch where nobody says how many.
DEFAULT_BATCH = 16


def most_bits(value_format: str) -> int:
    """Most bits of one sample of a value."""
    return WIDE_MAX_BITS if value_format == WIDE else MAX_BITS


def format_of_bits(value_format: str, bits: int) -> str:
    """The format that holds so many bits: "wide" takes the place of "bitplanes" above 8."""
    return WIDE if value_format == BITPLANES and bits > MAX_BITS else value_format


def bits_tuple(bits: int | Iterable[int], most: int = MAX_BITS) -> tuple[int, ...]:
    """Precisions of 1..``most`` as an ascending tuple without repetition."""
    if isinstance(bits, int | np.integer):
        return (check_bits(bits, most),)
    try:
        unique = sorted({check_bits(b, most) for b in bits})
    except TypeError:
        raise ArgumentError(
            f"bits was {bits!r}; it must be an integer in 1..{most} or several of them"
        ) from None
    if not unique:
        raise ArgumentError(f"bits was empty; it must name at least one of 1..{most}")
    return tuple(unique)


def check_word_bits(word_bits: object) -> None:
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
        blocks = ceil_divide(samples, largest // batch * batch)
        block_samples = ceil_divide(ceil_divide(samples, blocks), batch) * batch
    check_int("block_samples", block_samples, 1, CONFIG.block_samples)
    if block_samples % batch != 0:
        raise ArgumentError(
            f"block_samples was {block_samples}; it must be a multiple of batch, {batch}"
        )
    return layout(int(block_samples))


def most_columns(
    intercept: bool, value_format: str = BITPLANES, word_bits: int | None = None
) -> int:
    """Columns of raw samples that the accelerator takes; by default with the widest words."""
    width = WORD_BITS[-1] if word_bits is None else word_bits
    lanes = width // 32 if value_format == FLOAT32 else width
    features = min(LIMITS[value_format].max_chunks * lanes, CONFIG.max_features)
    return int(features) - int(intercept)


def check_columns(
    columns: int, intercept: bool, value_format: str = BITPLANES, word_bits: int | None = None
) -> None:
    """Refuse samples that are too wide before anything of their width is allocated."""
    most = most_columns(intercept, value_format, word_bits)
    if columns > most:
        words = "" if word_bits is None else f", words of {word_bits} bits"
        beside = " beside the intercept" if intercept else ""
        raise ArgumentError(
            f"X had {columns} columns; allowed are at most {most}{beside} (format "
            f"'{value_format}'{words})"
        )


def fitting(
    features: int,
    *,
    bits: tuple[int, ...],
    sampling: str,
    value_format: str = BITPLANES,
    level_tables: int = 0,
    independent: int = 0,
    word_bits: int | None = None,
    batch: int | None = None,
) -> tuple[int, int]:
    """The narrowest words with which the accelerator holds two batches, and the batch for them.

    Parameters
    ----------
    features : int
        The intercept column included.
    bits, sampling, value_format, level_tables, independent
        As in :func:`plan_layout`.
    word_bits, batch : int, optional
        Given ones are kept, whether they fit or not. A batch that is not is 16, or where no width
        holds so many the largest power of two that the widest words hold.
    """
    widths = WORD_BITS if word_bits is None else (word_bits,)
    wanted = DEFAULT_BATCH if batch is None else batch
    largest = 0
    for width in widths:
        try:
            largest = Layout(
                1, features, width, 1, bits, sampling, value_format, level_tables, independent
            ).largest_batch
        except ArgumentError:
            continue
        if largest >= wanted:
            return width, wanted
    if batch is None and largest:
        wanted = 1 << (min(largest, wanted).bit_length() - 1)
    return widths[-1], wanted


def full_words(layout: Layout) -> int:
    """uint64 of one sample at full precision, padded to a whole word."""
    return ceil_divide(layout.features, layout.word_bits // 32) * (layout.word_bits // 64)
