"""The tables of docs/boards.md, "Room": ``python -m studies.room`` prints them.

Memory is counted from the declarations of hls/src/stages/train_run.hpp and train_slots.hpp, not
synthesized: each array in the best shape that a memory block has, without the FIFOs of the AXI
adapters. Arrays that a kernel declares and never uses are left out.

Logic is counted from the operations that the code unrolls, by a few rules of what one costs. The
training loop starts an iteration every cycle, so nothing in it is shared: what a lane does in any
iteration it has a circuit for.
"""

from __future__ import annotations

from typing import NamedTuple

from zipml_pynq.accelerator.interface import VLNV
from zipml_pynq.constants import CONFIG, LIMITS, WORD_BITS
from zipml_pynq.data.values import value_fraction_bits
from zipml_pynq.devices.bitstreams import TARGETS, kernel_name

#: Blocks of 36 Kbit and of 288 Kbit of the devices; from memory of their data sheets.
DEVICES = {"pynq-z2": (140, 0), "kv260": (144, 64), "zcu104": (312, 96), "u50": (1344, 640)}
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
#: Words and labels that wait in channels (hls/src/processes.hpp); in look-up tables.
WORDS_AHEAD, LABELS_AHEAD = 128, 64
MODEL_VERSIONS = 3
#: Bits of the shift of a feature's step.
SHIFT_BITS = CONFIG.max_feature_shift.bit_length()
#: Features that share a draw, and the largest shifts of Q_g and Q_m (hls/include/zipml/random.hpp).
DRAW_FEATURES_LOG2 = 6
#: Lanes that take one copy of what goes to all of them (hls/src/spread.hpp).
LANES_OF_COPY = 16
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
    turns = limits.close_turns
    coefficients = (CONFIG.max_delay + 1) * CONFIG.max_batch
    found = {
        "block buffer": (2 * planes, limits.block_words, word_bits),
        "ring": (1, limits.ring_words, planes * lanes if levels else word_bits),
        "model": (lanes, MODEL_VERSIONS * cells, 32),
        "model, update side": (lanes // turns, turns * cells, 32),
        "labels": (2, CONFIG.block_samples, 32),
        "weights": (2, CONFIG.block_samples, 32),
        "coefficients": (2, coefficients, 32),
        "dot products": (2, CONFIG.max_batch, 48 + value_fraction_bits(value_format)),
        "derivative": (2, CONFIG.derivative_table + 1, 32),
        # the lanes of a turn side by side
        "steps of features": (1, turns * cells, lanes // turns * SHIFT_BITS),
    }
    if not floats:  # the float32 kernel takes none (Corrects in config.hpp)
        found["corrections"] = found["model, update side"]
    if plane_by_plane:
        found["polynomials"] = (1, CONFIG.max_batch, 3 * 32)
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
    "zcu104": (230_400, 460_800, 1728, 27),
    "u50": (872_000, 1_743_000, 5952, 27),
}
#: Ports from the logic to a processing system's memory, and channels of an Alveo U50's.
MEMORY_PORTS, MEMORY_CHANNELS = 4, 32
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


def rounded(n: int) -> Cost:
    """Rounded: an addition, what lies below the unit cut, a clamp."""
    return total(add(n), compare(n), compare(n), mux(n, 3), Cost(0, n))


def number(n: int, fixed: int, varies: int = 0) -> Cost:
    """NumberOf: of the bits of a lane's number that are fixed, half are set on average."""
    return total(xor(n, 1 + 2 * varies + fixed // 2), Cost(0, n))


def words(n: int) -> Cost:
    """RoundingOf: offset and slope times 1, x, .., x^5 cut to a unit; what is cut, and the top."""
    return times(DRAW_FEATURES_LOG2 + 3, shift(n, n))


def threefry() -> Cost:
    """20 rounds of two additions and exclusive ors, five additions of keys (three not zero)."""
    return total(times(20 * 2 + 5 * 3, add(32)), times(20 * 2, xor(32)), Cost(0, 20 * 64))


def threefry_by_rounds() -> Cost:
    """A round at a time: two rotations by one of eight numbers each, keys out of five."""
    rotated = times(2, total(shift(32, 31), xor(32), mux(5, 8)))
    keyed = times(4, total(add(32), mux(32, 5)))
    return total(times(2, add(32)), rotated, keyed, times(4, mux(32)), Cost(0, 4 * 32))


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


class Kernel:
    """What a kernel computes with, by the place in hls/src/stages/.

    Widths are those that the values need, which the tool has to find where C++ says 64 bits.
    """

    def __init__(self, word_bits: int, value_format: str, wide: int) -> None:
        self.word_bits, self.wide = word_bits, wide
        self.levels, self.floats = value_format == "levels", value_format == "float32"
        self.plane_by_plane = not self.levels and not self.floats
        self.refetches = value_format == "refetch"
        memories = arrays(word_bits, value_format)
        self.lanes, depth, _ = memories["model"]
        self.cells = depth // MODEL_VERSIONS
        # lanes that get new entries in a turn
        self.closing, *self.update_side = memories["model, update side"]
        self.turns = LIMITS[value_format].close_turns
        self.fraction = value_fraction_bits(value_format)
        # hls/src/formats.hpp
        self.dot, self.gradient = 48 + self.fraction, 56 if self.levels else 41 + self.fraction

    def float_product(self) -> Cost:
        """A float32 value, made fixed-point, times an entry of the model or a factor."""
        conversion = total(times(2, add(25)), times(2, shift(25, 24)), signed(25), compare(8))
        return total(conversion, multiply(32, 33, self.wide), add(57))

    def sums(self) -> dict[str, Cost]:
        """What works every cycle, for each lane."""
        lanes, dot = self.lanes, self.dot
        if self.levels:
            cut = times(CONFIG.max_bits + 1, mux(lanes, CONFIG.level_parts))
            decode = total(times(2, add(8)), times(2, add(11)), mux(7))
            product = total(decode, times(2, multiply(16, 33, self.wide)))
            dots = total(cut, times(lanes, product), times(2, tree(lanes, 46)), times(2, add(dot)))
            terms = total(product, add(49))
        elif self.floats:
            terms = self.float_product()
            dots = total(times(lanes, terms), tree(lanes, 40), add(dot))
        else:
            dots = total(times(lanes, signed(32)), tree(lanes, 33), add(dot))
            # the factor's negative is there once for each copy of it
            terms = mux(34 + self.fraction)
        accumulate = total(terms, add(self.gradient), mux(self.gradient))
        return {
            "dot products": dots,
            "sums of the update": times(lanes, accumulate),
            "copies for all lanes": self.copies(),
        }

    def copies(self) -> Cost:
        """Spread: addresses, and factors with what they begin and end, for a few lanes each."""
        count = max(1, self.lanes // LANES_OF_COPY)
        if count == 1:
            return NONE
        wide = 34 + self.fraction  # of a factor times a plane's weight
        factors, negative = (2, NONE) if self.levels else (1, add(wide))
        entry, table = (MODEL_VERSIONS * self.cells - 1).bit_length(), 12 if self.levels else 0
        dot, turn = entry + table, entry + 4
        update = factors * (34 if self.levels else wide) + table + 3
        middle = 4 if count > 8 else 0
        registers = Cost(0, (count + middle) * (dot + update + turn))
        return total(registers, times(count, negative))

    def entries(self) -> dict[str, Cost]:
        """What makes new entries of the model, once a batch, and keeps them."""
        lanes, closing, gradient = self.lanes, self.closing, self.gradient
        # x - round(2^shift (gradient + round(decay x) + correction)), saturated, or nothing where
        # the lane is padding: sums are shifted right alone, from where the largest step has them
        decayed = total(multiply(32, CONFIG.decay_bits + 1, self.wide), add(56))
        widest = 51
        scaled = total(shift(widest, CONFIG.max_feature_shift), add(widest - 1))
        # the threshold of the l1 norm, shifted, and an entry's size less it, or 0
        by = CONFIG.threshold_bits + CONFIG.max_feature_shift
        shrunk = total(shift(by, CONFIG.max_feature_shift), signed(32), add(by), signed(32))
        update = total(
            *(
                decayed,
                times(1 if self.floats else 2, add(gradient)),
                scaled,
                add(widest),
                saturate(widest),
                shrunk,
            ),
            *(compare(16), times(2, mux(32))),
        )
        # counts of what was clamped: each lane has one of saturations and two of quantization
        counts = times(3, add(closing.bit_length()))
        # sums wait for their turn
        waiting = total(times(closing, mux(gradient, self.turns)), Cost(0, lanes * gradient))
        depth, bits = self.update_side
        master = distributed(depth, bits) if depth <= DISTRIBUTED_DEPTH else NONE
        # both models are written by two functions and read by three
        ports = total(mux(32), mux(12), mux(12, 3))
        return {
            "new model entries": total(times(closing, total(update, counts)), waiting),
            "rounding Q_m, Q_g": self.rounding(),
            # for a turn, and for the start model
            "random numbers": total(threefry(), threefry_by_rounds()),
            "model, update side": times(closing, master),
            "corrections": NONE if self.floats else times(closing, master),
            "shared ports of the models": times(lanes + closing, ports),
            # StoreModel is there twice, for the history and for the end
            "a model's way to memory": total(times(2, mux(32, closing)), mux(32, lanes)),
        }

    def rounding(self) -> Cost:
        """Q_g and Q_m of a turn's lanes, and Q_m of the start model."""
        closing = self.closing
        # of a turn's lanes the low bits of their numbers are fixed, the others those of the turn
        fixed = closing.bit_length() - 1
        varies = DRAW_FEATURES_LOG2 - fixed
        turn = [
            total(
                words(n),
                number(n, 0, varies),
                times(closing, total(number(n, fixed), rounded(m))),
            )
            for n, m in ((SHIFT_Q_G, 56), (SHIFT_Q_M, 32))
        ]
        # the start model is rounded an entry a cycle
        start = total(words(SHIFT_Q_M), number(SHIFT_Q_M, 0, DRAW_FEATURES_LOG2), rounded(32))
        return total(*turn, start)

    def scalars(self) -> dict[str, Cost]:
        """What works once a sample: the losses, polynomials, refetching."""
        dot, wide = self.dot, self.wide
        found = {
            "scalar stage": total(
                shift(dot, self.fraction) if self.plane_by_plane else NONE,
                times(2, total(add(dot), mux(dot))),
                times(2, loss_derivative(dot, wide)),
                times(2, coefficient(wide)),
            )
        }
        if self.plane_by_plane:
            # NextTerm, and PolynomialCoefficients with a Coefficient of its own
            next_term = total(
                times(2, total(multiply(32, 32, wide), add(64), saturate(64))), add(64)
            )
            margin = total(add(dot), saturate(dot), signed(32))
            found["polynomials"] = total(next_term, margin, coefficient(wide))
        if self.refetches:
            full_lanes = self.word_bits // 32
            magnitude = total(signed(32), add(33))
            doubt = times(2, total(times(2, add(dot)), times(2, compare(dot))))
            again = total(
                times(full_lanes, total(self.float_product(), mux(32, self.lanes // full_lanes))),
                tree(full_lanes, 40),
                times(2, loss_derivative(dot, wide)),
                times(2, coefficient(wide)),
            )
            found["refetching"] = total(times(self.closing, magnitude), doubt, again)
        return found

    def assumed(self) -> dict[str, Cost]:
        """Not counted: addresses and positions, registers and AXI adapters.

        Addresses and geometry are some thirty products of no more than 16 by 17 bits, which say so
        (hls/src/narrow.hpp), a DSP each, and three of a block's number, two each.
        """
        adapters, wide_ports = (4, 2) if self.refetches else (3, 1)
        return {
            "addresses": Cost(4000, 4000, 30 + 3 * 2),
            "interfaces": Cost(
                1000 + 800 * adapters + wide_ports * self.word_bits,
                1500 + 1000 * adapters + wide_ports * 4 * self.word_bits,
            ),
            "channels": total(
                distributed(WORDS_AHEAD, self.word_bits), distributed(LABELS_AHEAD, 32)
            ),
        }


def operations(word_bits: int, value_format: str, wide: int) -> dict[str, Cost]:
    """The parts of a kernel and what they cost."""
    kernel = Kernel(word_bits, value_format, wide)
    return {**kernel.sums(), **kernel.entries(), **kernel.scalars(), **kernel.assumed()}


def logic(slug: str, value_format: str, word_bits: int | None = None) -> Cost:
    """LUTs, flip-flops and DSPs of a kernel on a board, at its word or at another one."""
    width = word_bits or TARGETS[slug].board.word_bits
    return total(*operations(width, value_format, LOGIC[slug][3]).values())


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


def needs(slug: str, value_format: str) -> dict[str, tuple[float, int]]:
    """What a kernel takes of a board's device, and what there is, by resource."""
    block_count, ultra_count = DEVICES[slug]
    luts, ffs, dsps, _ = LOGIC[slug]
    word_bits = TARGETS[slug].board.word_bits
    large = LARGE if ultra_count else ()
    cost = logic(slug, value_format)
    found: dict[str, tuple[float, int]] = {
        "LUTs": (cost.luts, luts),
        "flip-flops": (cost.ffs, ffs),
        "DSPs": (cost.dsps, dsps),
        "block RAMs": (block_rams(word_bits, value_format, large), block_count),
    }
    if ultra_count:
        found["UltraRAMs"] = (ultra_rams(word_bits, value_format, large), ultra_count)
    return found


def memory_ports(slug: str, value_format: str) -> int:
    """Kernels that a board has memory ports or channels for (overlay/common/design.tcl)."""
    if TARGETS[slug].platform:
        return MEMORY_CHANNELS
    return MEMORY_PORTS // (3 if value_format == "refetch" else 2)


def kernels_that_fit(slug: str, value_format: str, most: float = 1.0) -> tuple[int, str]:
    """Kernels that fit this share of a board's device, and what there is no more of then."""
    counts = {
        name: int(most * of // used) for name, (used, of) in needs(slug, value_format).items()
    }
    counts["memory ports"] = memory_ports(slug, value_format)
    scarce = min(counts, key=lambda name: counts[name])
    return counts[scarce], scarce


def units_table() -> str:
    """The Markdown table of kernels side by side."""
    lines = [
        "| board | kernel | kernels that fit | what ends first | in three quarters | planes of all "
        "ask for | of |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for slug in DEVICES:
        board = TARGETS[slug].board
        for value_format in VLNV:
            count, scarce = kernels_that_fit(slug, value_format)
            rate = board.word_bits / 8 * board.clock / 1e9
            channels = count if TARGETS[slug].platform else 1
            cells = [
                board.name,
                f"`{kernel_name(value_format)}`",
                str(count),
                scarce,
                str(kernels_that_fit(slug, value_format, TIGHT)[0]),
                f"{count * rate:.1f} GB/s",
                f"{channels * board.bandwidth / 1e9:.1f} GB/s",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tables() -> list[str]:
    """The tables in the order of docs/boards.md; studies/whole_values.py has one more."""
    return [table(), logic_table(), parts_table(), ports_table(), units_table()]


if __name__ == "__main__":
    print(*tables(), sep="\n", end="")
