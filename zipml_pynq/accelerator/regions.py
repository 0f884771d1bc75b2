"""What a run may touch in memory, by its registers."""

from __future__ import annotations

from collections.abc import Mapping

from zipml_pynq.constants import CONFIG
from zipml_pynq.training.extent import extent, label_columns
from zipml_pynq.training.plan import SCHEDULE_COLUMNS


def regions(registers: Mapping[str, int], word_bits: int, value_format: str) -> dict[str, int]:
    """Bytes that a run with these (valid) scalar registers may touch behind each pointer."""
    r = registers
    e = extent(r, word_bits, value_format)
    plane_words = r["block_samples"] * e.chunks
    if value_format == "float32":
        block = r["dither_offset"] + plane_words
    else:
        base = r["bits"] - 1
        dithers = r["dither_offset"] + (e.planes - base) * plane_words
        block = max(base * plane_words, dithers)
    hold = r["flags"] & CONFIG.flag_hold
    sizes = {
        "planes": ((e.blocks - 1) * r["block_stride"] + block) * (word_bits // 8),
        "labels": e.blocks * r["block_samples"] * 4 * label_columns(r["flags"]),
        "model": ((1 + e.vectors) * e.entries + 2 * max(r["pending"], e.held) * r["batch"]) * 4,
        "history": 0 if hold else r["epochs"] * e.entries * 4,
        "schedule": r["epochs"] * 4 * SCHEDULE_COLUMNS,
        "derivative": e.derivatives * 4,
    }
    if value_format == "refetch":
        samples = e.blocks * r["block_samples"]
        sizes["full"] = samples * e.full_words * (word_bits // 8)
    if value_format == "levels":
        sizes["levels"] = r["level_tables"] * e.level_count * 4
    return sizes
