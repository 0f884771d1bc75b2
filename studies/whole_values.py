"""A kernel that is not there, by count: all planes of a value at once, on the uniform grid.

``python -m studies.whole_values`` prints the table of docs/boards.md, "Whole values at once".
"""

from __future__ import annotations

from studies.room import (
    LANES_OF_COPY,
    LARGE,
    LOGIC,
    Cost,
    Kernel,
    add,
    block_rams,
    multiply,
    mux,
    operations,
    share,
    signed,
    times,
    total,
    tree,
    ultra_rams,
)
from zipml_pynq.constants import CONFIG
from zipml_pynq.devices.bitstreams import TARGETS


class Values(Kernel):
    """A kernel that is not there: all planes of a value at once, on the uniform grid.

    A lane takes base and both dithers of a value in one cycle. The base's product with a model
    entry, or with the sum of a sample's coefficients, is one for both samples; a dither adds or
    subtracts. Everything else is as with tables of levels, without the tables.
    """

    BITS = CONFIG.max_bits - 1

    def __init__(self, lanes: int, wide: int) -> None:
        super().__init__(CONFIG.level_parts * lanes, "levels", wide)
        self.dot, self.gradient = 55, 48

    def sums(self) -> dict[str, Cost]:
        """What works every cycle, for each lane."""
        lanes, n = self.lanes, self.BITS
        product = multiply(n + 1, 32, self.wide)
        dithered = times(2, total(times(lanes, signed(32)), tree(lanes, 33)))
        dots = total(
            times(lanes, product),
            tree(lanes, 32 + n),
            dithered,
            times(2, add(55)),
            times(2, add(55)),
        )
        # base times (c1 + c2), and c2 or its negative, and c1 or its negative
        terms = total(multiply(n + 1, 34, self.wide), times(2, mux(41)), times(2, add(42)))
        accumulate = total(terms, add(48), mux(48))
        return {
            "dot products": dots,
            "sums of the update": times(lanes, accumulate),
            "copies for all lanes": self.copies(),
        }

    def all(self) -> Cost:
        """The whole."""
        parts = {**self.sums(), **self.entries(), **self.scalars(), **self.assumed()}
        return total(*parts.values())


#: Bits that memory would give a cycle, and bits of a value that the table counts with.
BITS_A_CYCLE, BITS_OF_VALUE = (256, 320, 512, 640), 4


def table() -> str:
    """The Markdown table of one plane a cycle against all planes of a value at once."""
    lines = [
        "| board | bits a cycle | one plane: LUTs | DSPs | block RAMs, UltraRAMs "
        "| whole values: lanes | LUTs | DSPs | block RAMs, UltraRAMs | LUTs, times fewer |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for slug in ("kv260", "u50"):
        luts, _, dsps, wide = LOGIC[slug]
        for bits in BITS_A_CYCLE:
            planes = total(*operations(bits, "bitplanes", wide).values())
            # 8 turns, and copies for 16 lanes
            lanes = -(-bits // (BITS_OF_VALUE + 1) // LANES_OF_COPY) * LANES_OF_COPY
            values = Values(lanes, wide).all()
            width = CONFIG.level_parts * lanes
            tables = ("tables of levels",)
            cells = [
                TARGETS[slug].board.name,
                str(bits),
                share(planes.luts, luts),
                share(planes.dsps, dsps),
                f"{block_rams(bits, 'bitplanes', LARGE):g}, {ultra_rams(bits, 'bitplanes', LARGE)}",
                str(lanes),
                share(values.luts, luts),
                share(values.dsps, dsps),
                f"{block_rams(width, 'levels', LARGE + tables):g}, "
                f"{ultra_rams(width, 'levels', LARGE)}",
                f"{planes.luts / values.luts:.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
