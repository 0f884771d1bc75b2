"""The table of epochs in docs/schedule.md: ``python -m studies.schedule`` prints it."""

from __future__ import annotations

from zipml_pynq.data.layout import Layout, plan_layout
from zipml_pynq.training.schedule import (
    BOARDS,
    Mode,
    choose_delay,
    epoch_schedule,
    modelled_seconds,
)

BATCH = 16
#: Samples, features with intercept, board, precisions.
ROWS = (
    (10_000, 101, "PYNQ-Z2", (1, 2, 4, 8, 32)),
    (463_715, 91, "PYNQ-Z2", (1, 2, 4, 8, 32)),
    (60_000, 785, "PYNQ-Z2", (1, 2, 4, 8, 32)),
    (60_000, 785, "KV260", (1, 4, 8, 32)),
    (60_000, 785, "Alveo U50", (1, 4, 8, 32)),
)


def layout(samples: int, features: int, word_bits: int, bits: int) -> Layout:
    """What ``pack`` would choose."""
    floats = bits == 32
    return plan_layout(
        samples,
        features,
        bits=(bits,),
        sampling="single" if floats else "double",
        word_bits=word_bits,
        batch=BATCH,
        value_format="float32" if floats else "bitplanes",
    )


def table() -> str:
    """The Markdown table."""
    lines = [
        "| samples x features | board | bits | delay | block | slot | words | cycles | line rate "
        "| ms | x 32 bits |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for samples, features, name, precisions in ROWS:
        board = BOARDS[name]
        seconds = {}
        rows = {}
        for bits in precisions:
            at = layout(samples, features, board.word_bits, bits)
            sampling = "single" if bits == 32 else "symmetric"
            delay = choose_delay(at, bits, sampling, BATCH)
            epoch = epoch_schedule(at, Mode(bits, sampling, BATCH, delay))
            seconds[bits] = modelled_seconds(epoch, board)
            rows[bits] = (
                f"| {samples:,} x {features} | {name} | {bits} | {delay} | {at.block_samples} "
                f"| {epoch.slot_cycles} | {epoch.words:,} | {epoch.cycles:,} "
                f"| {epoch.line_rate:.3f} | {1e3 * seconds[bits]:.2f} |"
            )
        for bits in precisions:
            lines.append(f"{rows[bits]} {seconds[32] / seconds[bits]:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
