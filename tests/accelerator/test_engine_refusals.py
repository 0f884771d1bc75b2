"""Registers that the engine refuses before it touches memory."""

from __future__ import annotations

import pytest

from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.accelerator.interface import INTERFACES
from zipml_pynq.constants import CONFIG, LIMITS

ENGINE = load_build("engine")
VALID = {
    "samples": 100,
    "features": 100,
    "batch": 4,
    "block_samples": 8,
    "block_stride": 80,
    "dither_offset": 48,
    "bits": 4,
    "sampling": 2,
    "epochs": 1,
    "delay": 1,
    "skip": 0,
    "pending": 0,
    "flags": 0,
    "loss": 0,
    "degree": 0,
    "range_log2": 0,
    "model_bits": 0,
    "model_shift": 0,
    "gradient_bits": 0,
    "seed": 0,
    "first_update": 0,
    "first_block": 0,
    "block_step": 1,
}
INVALID = [
    ({"samples": 0}, "samples"),
    ({"features": 0}, "features"),
    ({"features": 4097}, "features"),
    ({"features": 2**32 - 1}, "features"),
    ({"bits": 0}, "bits"),
    ({"bits": 9}, "bits"),
    ({"bits": 32}, "bits"),
    ({"sampling": 4}, "sampling"),
    ({"sampling": 3}, "loss"),
    ({"loss": 5}, "loss"),
    ({"loss": 4}, "loss"),
    ({"model_bits": 1}, "quantize"),
    ({"gradient_bits": 17}, "quantize"),
    ({"first_block": 13}, "order"),
    ({"block_step": 0}, "order"),
    ({"batch": 0}, "batch"),
    ({"batch": 257}, "batch"),
    ({"epochs": 0}, "epochs"),
    ({"epochs": 65537}, "epochs"),
    ({"delay": 8}, "delay"),
    ({"block_samples": 0}, "block"),
    ({"block_samples": 10}, "block"),
    ({"block_samples": 4100}, "block"),
    ({"block_samples": 820}, "block"),  # 5 planes * 820 samples * 2 words > 8192
    ({"batch": 256, "block_samples": 768, "delay": 4}, "ring"),  # 4 * 2560 words > 8192
    ({"flags": 32}, "partial"),
    ({"flags": 1, "epochs": 2}, "partial"),
    ({"pending": 1, "epochs": 2}, "partial"),
    ({"skip": 1, "epochs": 2}, "partial"),
    ({"pending": 2}, "partial"),
    ({"skip": 2}, "partial"),
    ({"skip": 1, "pending": 1, "samples": 8}, "partial"),
    # the first fault is reported
    ({"samples": 0, "features": 0}, "samples"),
    ({"features": 0, "bits": 0}, "features"),
    ({"bits": 9, "sampling": 3}, "bits"),
    ({"sampling": 4, "batch": 0}, "sampling"),
    ({"batch": 0, "epochs": 0}, "batch"),
    ({"epochs": 0, "delay": 8}, "epochs"),
    ({"delay": 8, "block_samples": 0}, "delay"),
    ({"block_samples": 10, "flags": 32}, "block"),
]


def refuse(registers: dict[str, int], value_format: int) -> dict[str, int]:
    """Start the engine with pointers that lead nowhere."""
    return ENGINE.run(
        64, value_format, dict.fromkeys(INTERFACES["bitplanes"].pointers, 0), registers
    )


@pytest.mark.parametrize(("change", "fault"), INVALID)
def test_engine_refuses_invalid_registers_without_touching_memory(
    change: dict[str, int], fault: str
) -> None:
    results = refuse({**VALID, **change}, CONFIG.format_bit_planes)
    assert results["status"] == getattr(CONFIG, f"status_{fault}")
    assert results["version"] == CONFIG.interface_version
    assert results["capability"] & 0xFF == 6
    assert results["words"] == results["modelled_cycles"] == results["saturations"] == 0


FLOAT_VALID = {**VALID, "bits": 32, "sampling": 0, "block_samples": 4, "dither_offset": 0}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"bits": 8}, "bits"),
        ({"sampling": 1}, "sampling"),
        ({"features": 2 * LIMITS["float32"].max_chunks + 1}, "features"),
        ({"features": 2 * LIMITS["float32"].max_chunks, "block_samples": 12}, "block"),
        ({"features": 2 * LIMITS["float32"].max_chunks, "delay": 3}, "ring"),
    ],
)
def test_engine_refuses_invalid_registers_of_the_float32_kernel(
    change: dict[str, int], fault: str
) -> None:
    results = refuse({**FLOAT_VALID, **change}, CONFIG.format_float32)
    assert results["status"] == getattr(CONFIG, f"status_{fault}")
    assert results["capability"] >> 56 == CONFIG.format_float32
