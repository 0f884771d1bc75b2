"""Makes the table of on-chip memory in docs/boards.md: python benchmarks/room_table.py.

Counted from the declarations of hls/src/stages.hpp, not synthesized: each array in the best shape
that a memory block has, without the FIFOs of the AXI adapters. What a dataflow region declares is
there twice. Arrays that a kernel declares and never uses are left out.
"""

from __future__ import annotations

from zipml_pynq.bitstreams import TARGETS, kernel_name
from zipml_pynq.constants import CONFIG, LIMITS
from zipml_pynq.interface import VLNV

#: Blocks of 36 Kbit and of 288 Kbit of the devices; from memory of their data sheets.
DEVICES = {"pynq-z2": (140, 0), "kv260": (144, 64), "u50": (1344, 640)}
#: Shapes of half a block RAM whose ports both read, and with a port for each direction; of an
#: UltraRAM.
TRUE_DUAL = [(1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)]
HALF_BLOCK = [(512, 36), *TRUE_DUAL]
ULTRA = [(4096, 72)]
#: Arrays that are read at two places a cycle (ram_t2p).
READ_TWICE = {"tables of levels", "derivative"}
#: Arrays that are deep enough for UltraRAM.
LARGE = ("block buffer", "ring", "labels", "weights")
#: Shallower memories are distributed over look-up tables.
DISTRIBUTED_DEPTH = 64
MODEL_VERSIONS = 3


def blocks(depth: int, bits: int, shapes: list[tuple[int, int]]) -> int:
    """Blocks of the shape that needs the fewest."""
    return min(-(-depth // d) * -(-bits // b) for d, b in shapes)


def arrays(word_bits: int, value_format: str) -> dict[str, tuple[int, int, int]]:
    """Arrays of a kernel: how many memories, entries of each, bits of an entry."""
    limits = LIMITS[value_format]
    levels, floats = value_format == "levels", value_format == "float32"
    plane_by_plane = not levels and not floats
    parts = CONFIG.level_parts if levels else 1
    lanes = word_bits // 32 if floats else word_bits // parts
    planes = CONFIG.max_bits + 1 if levels else 1
    cells = limits.max_chunks * parts
    coefficients = (CONFIG.max_delay + 1) * CONFIG.max_batch
    found = {
        "block buffer": (2 * planes, limits.block_words, word_bits),
        "ring": (1, limits.ring_words, planes * lanes if levels else word_bits),
        "model": (lanes, MODEL_VERSIONS * cells, 32),
        "model, update side": (lanes, cells, 32),
        "labels": (2, CONFIG.block_samples, 32),
        "weights": (2, CONFIG.block_samples, 32),
        "coefficients": (2, coefficients, 32),
        "dot products": (2, CONFIG.max_batch, 62 if levels else 55),
        "derivative": (2, CONFIG.derivative_table + 1, 32),
    }
    if plane_by_plane:
        found["polynomials"] = (2, CONFIG.max_batch, 32)
    if value_format == "refetch":
        found["samples in doubt"] = (1, CONFIG.max_batch, 1)
    if levels:
        found["tables of levels"] = (2 * lanes, CONFIG.level_table, 16)
    return found


def block_rams(word_bits: int, value_format: str, without: tuple[str, ...] = ()) -> float:
    """Block RAMs of 36 Kbit that a kernel needs."""
    halves = 0
    for name, (count, depth, bits) in arrays(word_bits, value_format).items():
        if name not in without and depth > DISTRIBUTED_DEPTH:
            halves += count * blocks(depth, bits, TRUE_DUAL if name in READ_TWICE else HALF_BLOCK)
    return halves / 2


def ultra_rams(word_bits: int, value_format: str, names: tuple[str, ...]) -> int:
    """UltraRAMs that these arrays of a kernel need."""
    every = arrays(word_bits, value_format)
    return sum(every[n][0] * blocks(every[n][1], every[n][2], ULTRA) for n in names)


def table() -> str:
    """The Markdown table."""
    lines = [
        "| board | kernel | block RAMs | of | or block RAMs | with UltraRAMs | of |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for slug, (block_count, ultra_count) in DEVICES.items():
        board = TARGETS[slug].board
        for value_format in VLNV:
            word_bits = board.word_bits
            cells = [
                board.name,
                f"`{kernel_name(value_format)}`",
                f"{block_rams(word_bits, value_format):g}",
                str(block_count),
            ]
            if ultra_count:
                cells += [
                    f"{block_rams(word_bits, value_format, LARGE):g}",
                    str(ultra_rams(word_bits, value_format, LARGE)),
                    str(ultra_count),
                ]
            else:
                cells += ["", "", ""]
            lines.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
