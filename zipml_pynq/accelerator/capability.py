"""What a build of the kernel tells of itself in its ``capability`` register."""

from __future__ import annotations

from dataclasses import dataclass

from zipml_pynq.constants import CONFIG, LIMITS
from zipml_pynq.data.layout import FORMAT_CODES


@dataclass(frozen=True)
class Capability:
    """What a build reports about itself; one byte of the ``capability`` register a field."""

    word_bits: int
    value_format: str
    max_chunks: int
    max_batch: int
    block_words: int
    ring_words: int
    block_samples: int
    max_delay: int

    @classmethod
    def decode(cls, register: int) -> Capability:
        """The fields of a ``capability`` register; unknown formats decode as ``"format N"``."""
        byte = register.to_bytes(8, "little")
        formats = {code: name for name, code in FORMAT_CODES.items()}
        return cls(
            word_bits=1 << byte[0],
            max_chunks=1 << byte[1],
            max_batch=1 << byte[2],
            block_words=1 << byte[3],
            ring_words=1 << byte[4],
            block_samples=1 << byte[5],
            max_delay=byte[6],
            value_format=formats.get(byte[7], f"format {byte[7]}"),
        )

    @classmethod
    def expected(cls, word_bits: int, value_format: str) -> Capability:
        """What a build of this version with this word width and format reports."""
        limits = LIMITS[value_format]
        return cls(
            word_bits=word_bits,
            value_format=value_format,
            max_chunks=limits.max_chunks,
            max_batch=CONFIG.max_batch,
            block_words=limits.block_words,
            ring_words=limits.ring_words,
            block_samples=CONFIG.block_samples,
            max_delay=CONFIG.max_delay,
        )
