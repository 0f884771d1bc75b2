"""Build constants, read from the compiled engine; their home is hls/include/zipml/config.hpp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zipml_pynq._engine import lib

#: Fields of ``sw_emu/config.h`` as attributes, e.g. ``CONFIG.model_fraction_bits``.
CONFIG: Any = lib.zipml_config()

MAX_BITS: int = CONFIG.max_bits
#: Of the value format "wide".
WIDE_MAX_BITS: int = CONFIG.wide_max_bits
MODEL_FRACTION_BITS: int = CONFIG.model_fraction_bits
#: One in the fixed point of model entries and labels.
MODEL_ONE: int = 1 << MODEL_FRACTION_BITS
#: Word widths (bits) that builds of the kernel exist for.
WORD_BITS: tuple[int, ...] = (64, 128, 512)
#: Streamed planes of the ``sampling`` register's values, by the names that Python uses.
SAMPLING_CODES: dict[str, int] = {
    "single": CONFIG.sampling_single,
    "nearest": CONFIG.sampling_single,
    "plain": CONFIG.sampling_plain,
    "symmetric": CONFIG.sampling_symmetric,
    "independent": CONFIG.sampling_independent,
}


def distances(word_bits: int, clock_mhz: int = 0) -> Any:
    """Distances round the feedback paths of training, in cycles: ``residual``, ``update`` and
    ``pipeline``, its fill and drain.

    Parameters
    ----------
    word_bits : int
        Bits of a word: 64, 128 or 512.
    clock_mhz : int
        Clock that the kernel is built for, in MHz; 0 is that of the boards with this word.
    """
    return lib.zipml_distances(word_bits, clock_mhz)


@dataclass(frozen=True)
class Limits:
    """What one build holds on chip: chunks of a row, words of a block, words in flight; and the
    turns, of a cycle each, in which a cell gets its new model entries.

    With tables of levels, the words of a block are counted for each plane, and what is in flight
    in parts of words (``CONFIG.level_parts`` a word), all planes of a part together.
    """

    max_chunks: int
    block_words: int
    ring_words: int
    close_turns: int


_PLANES = Limits(CONFIG.max_chunks, CONFIG.block_words, CONFIG.ring_words, CONFIG.close_turns)
#: Limits by value format ("bitplanes", "float32", "levels", "refetch", "wide").
LIMITS: dict[str, Limits] = {
    "bitplanes": _PLANES,
    "float32": Limits(
        CONFIG.float_max_chunks,
        CONFIG.float_block_words,
        CONFIG.float_ring_words,
        CONFIG.float_close_turns,
    ),
    "refetch": _PLANES,
    "wide": _PLANES,
    "levels": Limits(
        CONFIG.level_max_chunks,
        CONFIG.level_block_words,
        CONFIG.level_ring_words,
        CONFIG.close_turns,
    ),
}
