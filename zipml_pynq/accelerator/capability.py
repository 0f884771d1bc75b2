"""What a build of the kernel tells of itself in its ``capability`` register."""

from __future__ import annotations

from dataclasses import dataclass

from zipml_pynq.constants import CONFIG, LIMITS
from zipml_pynq.data.layout import FORMAT_CODES
from zipml_pynq.errors import OverlayMismatchError


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

    def check(self, value_format: str, word_bits: int | None) -> None:
        """Refuse a kernel that is not what the ``.hwh`` describes, or that holds less than needed.

        Parameters
        ----------
        value_format : str
            As the ``.hwh`` has it.
        word_bits : int or None
            As the ``.hwh`` has it, if it does.

        Raises
        ------
        OverlayMismatchError
        """
        if self.value_format != value_format:
            raise OverlayMismatchError(
                f"the bitstream's kernel trains on {self.value_format}, its .hwh describes "
                f"{value_format}: they do not belong together"
            )
        if word_bits is not None and word_bits != self.word_bits:
            raise OverlayMismatchError(
                f"the bitstream's kernel has words of {self.word_bits} bits, its .hwh describes "
                f"{word_bits}: they do not belong together"
            )
        needed = Capability.expected(self.word_bits, self.value_format)
        limits = ("max_chunks", "max_batch", "block_words", "ring_words", "block_samples")
        for name in (*limits, "max_delay"):
            if getattr(self, name) < getattr(needed, name):
                raise OverlayMismatchError(
                    f"the overlay's kernel has {name} {getattr(self, name)}, this package needs "
                    f"{getattr(needed, name)}"
                )
