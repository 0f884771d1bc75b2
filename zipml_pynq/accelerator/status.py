"""How the kernel judges its registers, and what its ``status`` register means."""

from __future__ import annotations

from collections.abc import Mapping

from zipml_pynq.constants import CONFIG, LIMITS
from zipml_pynq.data.layout import most_bits
from zipml_pynq.training.extent import extent
from zipml_pynq.training.schedule import overlap

#: All that the ``flags`` register may hold.
FLAGS = (
    CONFIG.flag_hold
    | CONFIG.flag_weights
    | CONFIG.flag_feature_steps
    | CONFIG.flag_correction
    | CONFIG.flag_frozen
)
#: Meaning of the ``status`` register: the register at fault, and what is allowed.
STATUS: dict[int, tuple[str, str]] = {
    CONFIG.status_samples: ("samples", "at least 1"),
    CONFIG.status_features: ("features", "1 to chunks of the build times lanes of a word"),
    CONFIG.status_bits: ("bits", "1 to 8, 1 to 16 on the wide kernel, or 32 on the float32 kernel"),
    CONFIG.status_sampling: ("sampling", "0 to 3, or 0 on the float32 kernel"),
    CONFIG.status_batch: ("batch", f"1 to {CONFIG.max_batch}"),
    CONFIG.status_epochs: ("epochs", f"1 to {CONFIG.max_epochs}"),
    CONFIG.status_delay: ("delay", f"0 to {CONFIG.max_delay}"),
    CONFIG.status_block: (
        "block_samples",
        f"a multiple of the batch up to {CONFIG.block_samples} whose streamed words fit the build",
    ),
    CONFIG.status_ring: ("delay", "the words of the batches in flight fit the build"),
    CONFIG.status_partial: (
        "flags",
        "hold, skip and pending need epochs = 1, pending <= delay, skip below the batches of a "
        "block, a batch that is neither skipped nor pending, blocks in their order, no frozen "
        "model, and with a quantized one a delay of at most 1; no correction on the float32 kernel",
    ),
    CONFIG.status_loss: (
        "loss",
        f"0 to 4; 4 with sampling 3, a degree of 1 to {CONFIG.max_degree} and at least "
        f"{CONFIG.polynomial_distance} words of one plane in a batch, on the bit-plane kernel; "
        f"1 on the refetching one; range_log2 up to {CONFIG.max_range_log2}",
    ),
    CONFIG.status_quantize: (
        "model_bits",
        f"0 or {CONFIG.min_quantized_bits} to {CONFIG.max_quantized_bits}, gradient_bits alike",
    ),
    CONFIG.status_order: ("first_block", "below the number of blocks, block_step from 1 to it"),
    CONFIG.status_levels: (
        "level_tables",
        f"1, or features where a lane's tables have at most {CONFIG.level_table} levels together",
    ),
}


def expected_status(registers: Mapping[str, int], word_bits: int, value_format: str) -> int:
    """The status with which the kernel judges these scalar registers, in the kernel's order."""
    r = registers
    floats = value_format == "float32"
    limits = LIMITS[value_format]
    lanes = word_bits // 32 if floats else word_bits
    if not 0 < r["samples"] <= CONFIG.max_samples:
        return CONFIG.status_samples
    if not 0 < r["features"] <= limits.max_chunks * lanes:
        return CONFIG.status_features
    if r["bits"] != 32 if floats else not 1 <= r["bits"] <= most_bits(value_format):
        return CONFIG.status_bits
    if r["sampling"] > (CONFIG.sampling_single if floats else CONFIG.sampling_independent):
        return CONFIG.status_sampling
    if not 0 < r["batch"] <= CONFIG.max_batch:
        return CONFIG.status_batch
    if not 0 < r["epochs"] <= CONFIG.max_epochs:
        return CONFIG.status_epochs
    if r["delay"] > CONFIG.max_delay:
        return CONFIG.status_delay
    e = extent({**r, "block_samples": 1}, word_bits, value_format)
    if value_format == "levels" and r["level_tables"] != 1:
        own = r["level_tables"] == r["features"]
        if not own or e.cells * e.level_count > CONFIG.level_table:
            return CONFIG.status_levels
    polynomial = r["loss"] == CONFIG.loss_polynomial
    if (
        r["loss"] > CONFIG.loss_polynomial
        or polynomial != (r["sampling"] == CONFIG.sampling_independent)
        or r["range_log2"] > CONFIG.max_range_log2
        or (polynomial and value_format in ("float32", "levels"))
        or (polynomial and not 1 <= r["degree"] <= CONFIG.max_degree)
        or (polynomial and r["batch"] * e.chunks < CONFIG.polynomial_distance)
        or (value_format == "refetch" and r["loss"] != CONFIG.loss_hinge)
    ):
        return CONFIG.status_loss
    for name in ("model_bits", "gradient_bits"):
        bits = r[name]
        if bits and not CONFIG.min_quantized_bits <= bits <= CONFIG.max_quantized_bits:
            return CONFIG.status_quantize
    if not 0 < r["block_samples"] <= CONFIG.block_samples or r["block_samples"] % r["batch"]:
        return CONFIG.status_block
    if e.passes * r["block_samples"] * e.chunks > limits.block_words:
        return CONFIG.status_block
    if overlap(r["delay"]).ring_batches * e.passes * r["batch"] * e.cells > limits.ring_words:
        return CONFIG.status_ring
    blocks = -(-r["samples"] // r["block_samples"])
    if r["first_block"] >= blocks or not 1 <= r["block_step"] <= blocks:
        return CONFIG.status_order
    partial = r["flags"] & CONFIG.flag_hold or r["pending"] or r["skip"]
    if (
        r["flags"] & ~FLAGS
        or (floats and r["flags"] & CONFIG.flag_correction)
        or (partial and r["flags"] & CONFIG.flag_frozen)
        or (partial and (r["first_block"], r["block_step"]) != (0, 1))
        or (partial and r["model_bits"] and r["delay"] > 1)
        or (partial and r["epochs"] != 1)
        or r["pending"] > r["delay"]
        or r["skip"] >= r["block_samples"] // r["batch"]
    ):
        return CONFIG.status_partial
    carried = r["skip"] + r["pending"]
    if carried and carried * r["batch"] >= r["samples"]:
        return CONFIG.status_partial
    return CONFIG.status_ok


def status_table() -> str:
    """The values of the ``status`` register as a Markdown table, for docs/registers.md."""
    rows = ["| status | register at fault | allowed |", "|---|---|---|", "| 1 | none: done | |"]
    rows += [f"| {code} | `{name}` | {allowed} |" for code, (name, allowed) in STATUS.items()]
    return "\n".join(rows) + "\n"
