"""Sizes of a run as they follow from its registers, and a bound of its cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zipml_pynq.constants import CONFIG, LIMITS, distances
from zipml_pynq.training.schedule import overlap, slot_cycles


@dataclass(frozen=True)
class Extent:
    """Sizes that follow from the scalar registers: of the data, and of every memory region.

    ``cells`` of a sample are what is trained on in a cycle each, in so many ``passes`` over them;
    ``vectors`` of as many entries as the model's lie behind it.
    """

    lanes: int
    chunks: int
    cells: int
    dithers: int
    planes: int
    passes: int
    level_count: int
    full_words: int
    derivatives: int
    vectors: int
    blocks: int
    batches: int
    held: int

    @property
    def entries(self) -> int:
        """Model entries with padding."""
        return self.chunks * self.lanes


def extent(registers: Mapping[str, int], word_bits: int, value_format: str) -> Extent:
    """Sizes of a run whose registers are valid."""
    r = registers
    lanes = word_bits // 32 if value_format == "float32" else word_bits
    cell = lanes // CONFIG.level_parts if value_format == "levels" else lanes
    batches = -(-r["samples"] // r["batch"])
    dithers = {
        CONFIG.sampling_single: 1,
        CONFIG.sampling_independent: r["degree"] + 1,
    }.get(r["sampling"], 2)
    planes = 1 if value_format == "float32" else r["bits"] - 1 + dithers
    chunks = -(-r["features"] // lanes)
    return Extent(
        lanes=lanes,
        chunks=chunks,
        cells=-(-r["features"] // cell),
        dithers=dithers,
        planes=planes,
        passes=1 if value_format == "levels" else planes,
        full_words=-(-r["features"] // (word_bits // 32)) if value_format == "refetch" else 0,
        derivatives={
            CONFIG.loss_table: CONFIG.derivative_table + 1,
            CONFIG.loss_polynomial: r["degree"] + 1,
        }.get(r["loss"], 0),
        vectors=sum(
            bool(r["flags"] & flag) for flag in (CONFIG.flag_feature_steps, CONFIG.flag_correction)
        ),
        level_count=(1 << (r["bits"] - 1)) + 1 if value_format == "levels" else 0,
        blocks=-(-r["samples"] // r["block_samples"]),
        batches=batches,
        held=min(r["delay"], batches - r["skip"]) if r["flags"] & CONFIG.flag_hold else 0,
    )


def label_columns(flags: int) -> int:
    """Words of a sample in the labels' memory: its label, and perhaps its weight."""
    return 2 if flags & CONFIG.flag_weights else 1


def cycles_bound(registers: Mapping[str, int], word_bits: int, value_format: str) -> int:
    """At least the modelled cycles of the run that valid registers describe."""
    r = registers
    e = extent(r, word_bits, value_format)
    o, latency = overlap(r["delay"]), distances(word_bits)
    slots = o.slots_per_batch * e.batches + o.lag
    block = e.planes * r["block_samples"] * e.chunks + 2 * CONFIG.memory_latency
    turns = LIMITS[value_format].close_turns
    epoch = slots * slot_cycles(e.passes, r["batch"], e.cells, r["delay"], turns, word_bits)
    epoch += (e.blocks + 1) * (block + latency.pipeline + turns) + e.entries
    tables = r.get("level_tables", 0) * e.level_count + e.derivatives
    if e.full_words:  # every sample may be fetched again, and every slot drains the pipeline
        epoch += r["samples"] * (e.full_words + CONFIG.memory_latency + latency.residual)
        epoch += slots * (latency.pipeline + turns)
    vectors = (1 + e.vectors) * e.entries + tables + r["delay"] * r["batch"] + CONFIG.memory_latency
    return int(r["epochs"] * epoch + 4 * (vectors + CONFIG.draw_latency))
