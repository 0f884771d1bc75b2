"""Makes the tables of docs/boards.md, "Room": python benchmarks/room_table.py.

Memory is counted from the declarations of hls/src/stages.hpp, not synthesized: each array in the
best shape that a memory block has, without the FIFOs of the AXI adapters. What a dataflow region
declares is there twice. Arrays that a kernel declares and never uses are left out.

Logic is counted from the operations that the code unrolls, by a few rules of what one costs. The
training loop starts an iteration every cycle, so nothing in it is shared: what a lane does once a
batch it has a circuit for, as for what it does every cycle.
"""

from __future__ import annotations

from typing import NamedTuple

from zipml_pynq.bitstreams import TARGETS, kernel_name
from zipml_pynq.constants import CONFIG, LIMITS, WORD_BITS
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
#: Features that share a draw, and the largest shifts of Q_g and Q_m (hls/include/zipml/random.hpp).
DRAW_FEATURES_LOG2 = 6
SHIFT_Q_G, SHIFT_Q_M = (bits - CONFIG.min_quantized_bits for bits in (56, 32))


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


#: LUTs, flip-flops and DSPs of the devices, from memory of their data sheets, and the wider input
#: of a DSP's multiplier (the other one has 18 bits).
LOGIC = {
    "pynq-z2": (53_200, 106_400, 220, 25),
    "kv260": (117_120, 234_240, 1248, 27),
    "u50": (872_000, 1_743_000, 5952, 27),
}
#: From this share on a device is called tight: placement and routing need the rest.
TIGHT = 0.75


class Cost(NamedTuple):
    """LUTs with six inputs, flip-flops, DSPs."""

    luts: float
    ffs: float
    dsps: int = 0


NONE = Cost(0, 0)


def total(*costs: Cost) -> Cost:
    """Sum of costs."""
    luts, ffs = float(sum(c.luts for c in costs)), float(sum(c.ffs for c in costs))
    return Cost(luts, ffs, sum(c.dsps for c in costs))


def times(count: int, cost: Cost) -> Cost:
    """The same, so many times."""
    return Cost(count * cost.luts, count * cost.ffs, count * cost.dsps)


# Rules: what an operation costs at n bits. Each registers its result once, if it ends in a carry
# chain or a DSP; what is selected or shifted is taken to share the stage of its neighbour.


def add(n: int) -> Cost:
    """An addition or subtraction: a LUT a bit, with its carry chain."""
    return Cost(n, n)


def mux(n: int, ways: int = 2) -> Cost:
    """One of so many: a LUT selects two bits out of two each, or one out of four."""
    return Cost(n / 2 if ways == 2 else n * -(-(ways - 1) // 3), 0)


def xor(n: int, inputs: int = 2) -> Cost:
    """Six inputs a LUT; two bits of two inputs share one."""
    return Cost(n / 2 if inputs == 2 else n * -(-(inputs - 1) // 5), 0)


def compare(n: int) -> Cost:
    """Two bits a LUT, in a carry chain."""
    return Cost(n / 2, 1)


def shift(n: int, places: int) -> Cost:
    """By a number that a register holds: layers of four ways, up to so many places."""
    return Cost(n * -(-places.bit_length() // 2), 0)


def signed(n: int) -> Cost:
    """A value or its negative."""
    return total(add(n), mux(n))


def saturate(n: int) -> Cost:
    """From n bits to 32: two comparisons and a choice of three."""
    return total(compare(n), compare(n), mux(32, 3), Cost(0, 32))


def multiply(a: int, b: int, wide: int) -> Cost:
    """Signed, in DSPs of `wide` x 18 bits; a part but the highest has a bit less, for its sign."""
    ways = [-(-(x - 1) // (wide - 1)) * -(-(y - 1) // 17) for x, y in ((a, b), (b, a))]
    return Cost(0, a + b, min(ways))


def distributed(depth: int, bits: int) -> Cost:
    """A small memory with two ports: four LUTs hold 64 entries of three bits."""
    return Cost(4 * -(-bits // 3) * -(-depth // 64), bits)


def stochastic_round(n: int, places: int) -> Cost:
    """StochasticRound: random bits shifted to the unit, added, cut, clamped, shifted back."""
    return total(
        shift(places, places),
        add(n),
        shift(n, places),
        compare(n),
        compare(n),
        mux(n, 3),
        shift(n, places),
        mux(n),
        Cost(0, n),
    )


def masked_round(n: int) -> Cost:
    """The same of random bits that are shifted already, with a mask and limits that lanes share."""
    return total(add(n), compare(n), compare(n), mux(n, 3), Cost(0, n))


def lane_random(n: int, lanes: int) -> Cost:
    """LaneRandom: of the bits of a lane's number that are fixed, half are set on average."""
    varies = max(0, DRAW_FEATURES_LOG2 - (lanes.bit_length() - 1))
    return total(xor(n, 1 + 2 * varies + (DRAW_FEATURES_LOG2 - varies) // 2), Cost(0, n))


def threefry() -> Cost:
    """20 rounds of two additions and exclusive ors, five additions of keys (three not zero)."""
    return total(times(20 * 2 + 5 * 3, add(32)), times(20 * 2, xor(32)), Cost(0, 20 * 64))


def tree(lanes: int, bits: int) -> Cost:
    """Sum of the lanes: half as many adders a level, each level a bit wider."""
    found = NONE
    level = 1
    while lanes > 1:
        found = total(found, times(lanes // 2, add(bits + level)))
        lanes, level = lanes - lanes // 2, level + 1
    return found


def coefficient(wide: int) -> Cost:
    """Coefficient: two products, each rounded and saturated."""
    rounded = total(add(64), saturate(64))
    return total(multiply(32, 32, wide), multiply(32, 33, wide), times(2, rounded))


def loss_derivative(dot: int, wide: int) -> Cost:
    """LossDerivative: the margin, one branch a loss, and what chooses between them."""
    margin = total(add(dot), saturate(dot), signed(32))
    squares = total(times(2, add(dot)), saturate(dot))
    hinges = total(compare(32), add(33), saturate(33))
    place = total(times(2, compare(33)), mux(33, 3), add(33), times(2, shift(33, 6)), add(33))
    table = total(place, add(33), multiply(33, 32, wide), add(64), shift(64, 6), add(33))
    return total(margin, squares, hinges, table, mux(32, 4), signed(32))


class Build(NamedTuple):
    """What a build could do otherwise than the code does; the first of each is as the code is."""

    turns: int = 1  # in which the lanes of a cell get their new model entries
    shared: bool = False  # a group's words shifted before lanes draw from them
    rounding: bool = True  # Q_m and Q_g


AS_BUILT = Build()


def operations(
    word_bits: int, value_format: str, wide: int, build: Build = AS_BUILT
) -> dict[str, Cost]:
    """What a kernel computes with, by the place in hls/src/stages.hpp.

    Widths are those that the values need, which the tool has to find where C++ says 64 bits.
    """
    levels, floats = value_format == "levels", value_format == "float32"
    plane_by_plane, refetches = not levels and not floats, value_format == "refetch"
    memories = arrays(word_bits, value_format)
    lanes, dot, gradient = memories["model"][0], 62 if levels else 55, 56 if levels else 48
    full_lanes = word_bits // 32
    groups = max(1, lanes >> DRAW_FEATURES_LOG2)
    conversion = total(times(2, add(25)), times(2, shift(25, 24)), signed(25), compare(8))
    float_product = total(multiply(32, 33, wide), add(57))
    decode = total(times(2, add(8)), times(2, add(11)), mux(7))

    if levels:
        cut = times(CONFIG.max_bits + 1, mux(lanes, CONFIG.level_parts))
        product = total(decode, times(2, multiply(16, 33, wide)))
        dots = total(cut, times(lanes, product), times(2, tree(lanes, 46)), times(2, add(dot)))
        terms = total(product, add(49))
    elif floats:
        product = total(conversion, float_product)
        dots = total(times(lanes, product), tree(lanes, 40), add(dot))
        terms = product
    else:
        dots = total(times(lanes, signed(32)), tree(lanes, 33), add(dot))
        # the factor's negative is there once for all lanes
        terms = mux(41)
    accumulate = total(terms, add(gradient), mux(gradient))

    # x - round(gradient + round(decay x)), saturated, or nothing where the lane is padding
    decayed = total(multiply(32, CONFIG.decay_bits + 1, wide), add(56))
    update = total(
        decayed, times(2, add(gradient)), add(45), saturate(45), compare(16), times(2, mux(32))
    )
    # counts of what was clamped: each lane has one of saturations and two of quantization
    counts = times(3, add(lanes.bit_length()))
    closing = lanes // min(build.turns, lanes)
    # sums and old entries wait for their turn
    waiting = total(mux(gradient, build.turns), mux(32, build.turns)) if closing < lanes else NONE
    waiting = total(times(closing, waiting), Cost(0, lanes * gradient if closing < lanes else 0))
    if build.shared:
        # offset and slope times 1, x, .., x^5: of each stream and group
        words = total(
            *(times((DRAW_FEATURES_LOG2 + 1) * groups, shift(n, n)) for n in (SHIFT_Q_G, SHIFT_Q_M))
        )
        lane = total(
            lane_random(SHIFT_Q_G, closing),
            masked_round(56),
            lane_random(SHIFT_Q_M, closing),
            masked_round(32),
        )
        quantize = total(words, times(closing, lane))
    else:
        lane = total(
            times(2, lane_random(32, closing)),
            stochastic_round(56, SHIFT_Q_G),
            stochastic_round(32, SHIFT_Q_M),
        )
        quantize = times(closing, lane)
    depth, bits = memories["model, update side"][1:]
    master = distributed(depth, bits) if depth <= DISTRIBUTED_DEPTH else NONE
    # both models are written by two functions and read by three
    ports = times(2, total(mux(32), mux(12), mux(12, 3)))
    scalar = total(
        shift(dot, 7) if plane_by_plane else NONE,
        times(2, total(add(dot), mux(dot))),
        times(2, loss_derivative(dot, wide)),
        times(2, coefficient(wide)),
    )
    found = {
        "dot products": dots,
        "sums of the update": times(lanes, accumulate),
        "new model entries": total(times(closing, total(update, counts)), waiting),
        "rounding Q_m, Q_g": quantize if build.rounding else NONE,
        "random numbers": times(2 * groups + 1, threefry()) if build.rounding else NONE,
        "model, update side": times(lanes, master),
        "shared ports of the models": times(lanes, ports),
        # StoreModel is there twice, for the history and for the end
        "a model's way to memory": times(4, mux(32, lanes)),
        "scalar stage": scalar,
    }
    if plane_by_plane:
        # NextTerm, and PolynomialCoefficients with a Coefficient of its own
        next_term = times(2, total(multiply(32, 32, wide), add(64), saturate(64)))
        margin = total(add(dot), saturate(dot), signed(32))
        found["polynomials"] = total(next_term, margin, coefficient(wide))
    if refetches:
        magnitude = total(signed(32), add(33))
        doubt = times(2, total(times(2, add(dot)), times(2, compare(dot))))
        again = total(
            times(full_lanes, total(conversion, float_product, mux(32, lanes // full_lanes))),
            tree(full_lanes, 40),
            times(2, loss_derivative(dot, wide)),
            times(2, coefficient(wide)),
        )
        found["refetching"] = total(times(closing, magnitude), doubt, again)
    # Assumed, not counted: addresses and positions (five products of 32 bits in the training loop,
    # one for each of seven functions around it, three DSPs each), registers and AXI adapters.
    found["addresses"] = Cost(4000, 4000, 12 * 3)
    adapters = 4 if refetches else 3
    wide_ports = 2 if refetches else 1
    found["interfaces"] = Cost(
        1000 + 800 * adapters + wide_ports * word_bits,
        1500 + 1000 * adapters + wide_ports * 4 * word_bits,
    )
    return found


def logic(
    slug: str, value_format: str, word_bits: int | None = None, build: Build = AS_BUILT
) -> Cost:
    """LUTs, flip-flops and DSPs of a kernel on a board, at its word or at another one."""
    width = word_bits or TARGETS[slug].board.word_bits
    return total(*operations(width, value_format, LOGIC[slug][3], build).values())


def share(used: float, of: int) -> str:
    """A number and its part of the device, set in bold where that is tight."""
    number = thousands(used) if isinstance(used, float) else f"{used:,}"
    text = f"{number} ({100 * used / of:.0f} %)"
    return f"**{text}**" if used > TIGHT * of else text


def thousands(number: float) -> str:
    """Rounded: a count of LUTs is not known to its last digits."""
    return f"{round(number):,}" if number < 1000 else f"{round(number, -2):,.0f}"


def logic_table() -> str:
    """The Markdown table of LUTs, flip-flops and DSPs."""
    lines = [
        "| board | kernel | word | LUTs | of them rounding | flip-flops | DSPs |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for slug, (luts, ffs, dsps, wide) in LOGIC.items():
        board = TARGETS[slug].board
        narrower = [w for w in WORD_BITS if w < board.word_bits][-1:]
        for word_bits in [board.word_bits, *narrower]:
            for value_format in VLNV:
                cost = logic(slug, value_format, word_bits)
                rounding = operations(word_bits, value_format, wide)["rounding Q_m, Q_g"]
                cells = [
                    board.name,
                    f"`{kernel_name(value_format)}`",
                    str(word_bits),
                    share(cost.luts, luts),
                    thousands(rounding.luts),
                    share(cost.ffs, ffs),
                    share(cost.dsps, dsps),
                ]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


#: What could be turned down, in the words of docs/boards.md.
BUILDS = {
    "as the code is": AS_BUILT,
    "without Q_m, Q_g": Build(rounding=False),
    "shifts shared": Build(shared=True),
    "in 8 turns": Build(turns=8),
    "in 8 turns, shifts shared": Build(turns=8, shared=True),
    "in 8 turns, without Q_m, Q_g": Build(turns=8, rounding=False),
}


def builds_table() -> str:
    """The Markdown table of what would be turned down, for the kernel from bit-planes."""
    names = [TARGETS[slug].board.name for slug in LOGIC]
    lines = [
        f"| `zipml_sgd`, LUTs (of the device), DSPs | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
    ]
    for name, build in BUILDS.items():
        cells = [name]
        for slug, (luts, _, _, _) in LOGIC.items():
            cost = logic(slug, "bitplanes", build=build)
            cells.append(f"{share(cost.luts, luts)}, {cost.dsps:,}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parts_table() -> str:
    """The Markdown table of one kernel's parts, on the PYNQ-Z2."""
    found = operations(TARGETS["pynq-z2"].board.word_bits, "bitplanes", LOGIC["pynq-z2"][3])
    lines = ["| part of `zipml_sgd`, W = 64 | LUTs | flip-flops | DSPs |", "|---|---:|---:|---:|"]
    for name, cost in found.items():
        lines.append(f"| {name} | {thousands(cost.luts)} | {thousands(cost.ffs)} | {cost.dsps} |")
    return "\n".join(lines) + "\n"


def ports_table() -> str:
    """The Markdown table of one and of two memory ports for planes."""
    lines = [
        "| board | planes ask for | two ports | of | LUTs of `zipml_sgd` with twice the word "
        "| block RAMs | of |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for slug, (block_count, ultra_count) in DEVICES.items():
        board = TARGETS[slug].board
        rate = board.word_bits / 8 * board.clock / 1e9
        width = 2 * board.word_bits
        needed = block_rams(width, "bitplanes", LARGE if ultra_count else ())
        cells = [
            board.name,
            f"{rate:.1f} GB/s",
            f"{2 * rate:.1f} GB/s",
            f"{board.bandwidth / 1e9:.1f} GB/s",
            share(logic(slug, "bitplanes", width).luts, LOGIC[slug][0]),
            f"{needed:g}",
            str(block_count),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tables() -> list[str]:
    """All tables, in the order of docs/boards.md."""
    return [table(), logic_table(), parts_table(), builds_table(), ports_table()]


if __name__ == "__main__":
    print(*tables(), sep="\n", end="")
