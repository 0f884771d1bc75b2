"""The register interface of the accelerator, described once.

Names, offsets, the ``.hwh`` of the emulated board, docs/registers.md, the emulated device and the
driver all derive from :data:`INTERFACES`. The HLS top functions have the same arguments in the same
order; a test compares the two.

Offsets follow the rules by which Vitis HLS lays out an ``s_axilite`` bundle (UG1399, "S_AXILITE
Control Register Map"; checked against published ``x*_hw.h`` headers in tests/test_interface.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from zipml_pynq.constants import CONFIG, LIMITS, WORD_BITS
from zipml_pynq.errors import ArgumentError

# ---- Block-level control (ap_ctrl_hs) ------------------------------------------------------------

CTRL, GIER, IER, ISR = 0x00, 0x04, 0x08, 0x0C
#: Bits of CTRL.
AP_START, AP_DONE, AP_IDLE, AP_READY = 1 << 0, 1 << 1, 1 << 2, 1 << 3
AUTO_RESTART, INTERRUPT = 1 << 7, 1 << 9
#: Bits of IER and ISR.
INTERRUPT_DONE, INTERRUPT_READY = 1 << 0, 1 << 1
#: Offset of the first argument.
FIRST_ARGUMENT = 0x10

#: Name of the ``s_axilite`` bundle; its port is ``s_axi_control``.
CONTROL_BUNDLE = "control"
PLANES_BUNDLE = "gmem_planes"
LABELS_BUNDLE = "gmem_labels"
VECTORS_BUNDLE = "gmem_vectors"
FULL_BUNDLE = "gmem_full"
#: Data width of the ``m_axi`` bundles; None is the word's.
BUNDLE_BITS: dict[str, int | None] = {
    PLANES_BUNDLE: None,
    LABELS_BUNDLE: 32,
    VECTORS_BUNDLE: 32,
    FULL_BUNDLE: None,
}

#: Vendor, library, name, version by value format: what the driver binds to.
VLNV: dict[str, str] = {
    "bitplanes": "zipml:hls:zipml_sgd:1.0",
    "float32": "zipml:hls:zipml_sgd_f32:1.0",
    "levels": "zipml:hls:zipml_sgd_levels:1.0",
    "refetch": "zipml:hls:zipml_sgd_refetch:1.0",
}
#: The value format that an IP trains on.
VALUE_FORMATS: dict[str, str] = {vlnv: name for name, vlnv in VLNV.items()}
#: ``format`` field of the capability register by value format.
FORMAT_CODES: dict[str, int] = {
    "bitplanes": CONFIG.format_bit_planes,
    "float32": CONFIG.format_float32,
    "levels": CONFIG.format_levels,
    "refetch": CONFIG.format_refetch,
}


@dataclass(frozen=True)
class Argument:
    """One argument of the top function.

    Parameters
    ----------
    name : str
        Name of the argument and of its register.
    kind : {"pointer", "scalar", "output"}
        ``m_axi`` pointer with a 64-bit address register, scalar input, or ``ap_vld`` output.
    ctype : str
        C type of the argument; ``word_t`` is a word of the planes port.
    bits : int
        Width of the register's data: 32 or 64.
    access : {"read", "write", "read-write"}
        What the kernel does: to memory for a pointer, to the register otherwise.
    bundle : str
        The AXI port that carries the data.
    doc : str
        One line for the documentation.
    """

    name: str
    kind: str
    ctype: str
    bits: int
    access: str
    bundle: str
    doc: str

    @property
    def words(self) -> int:
        """32-bit words of data in the register."""
        return self.bits // 32


def _pointer(name: str, ctype: str, access: str, bundle: str, doc: str) -> Argument:
    return Argument(name, "pointer", ctype, 64, access, bundle, doc)


def _scalar(name: str, doc: str) -> Argument:
    return Argument(name, "scalar", "uint32_t", 32, "read", CONTROL_BUNDLE, doc)


def _output(name: str, bits: int, doc: str) -> Argument:
    return Argument(name, "output", f"uint{bits}_t *", bits, "write", CONTROL_BUNDLE, doc)


# Arguments of the top functions, in their order. Only ``zipml_sgd_levels`` has tables of levels.
_POINTERS: tuple[Argument, ...] = (
    _pointer("planes", "const word_t *", "read", PLANES_BUNDLE, "blocks of packed samples"),
    _pointer(
        "labels",
        "const int32_t *",
        "read",
        LABELS_BUNDLE,
        "one label a sample, or label and weight",
    ),
    _pointer(
        "model",
        "int32_t *",
        "read-write",
        VECTORS_BUNDLE,
        "chunks * lanes entries, then pending coefficients",
    ),
    _pointer(
        "history", "int32_t *", "write", VECTORS_BUNDLE, "the model after every epoch, one row each"
    ),
    _pointer(
        "schedule",
        "const uint32_t *",
        "read",
        VECTORS_BUNDLE,
        "steps / batch, decay and unit of the gradient of every epoch",
    ),
    _pointer(
        "derivative",
        "const int32_t *",
        "read",
        VECTORS_BUNDLE,
        "table of the loss's derivative, or coefficients of its polynomial",
    ),
)
_FULL = _pointer(
    "full", "const word_t *", "read", FULL_BUNDLE, "float32 samples, blocks and rows as in planes"
)
_LEVELS = _pointer(
    "levels",
    "const int32_t *",
    "read",
    VECTORS_BUNDLE,
    "tables of 2^(bits-1) + 1 levels each, one for all features or one a feature",
)
_SCALARS: tuple[Argument, ...] = (
    _scalar("samples", "samples in the buffer"),
    _scalar("features", "model entries in use"),
    _scalar("batch", "samples whose gradients are summed before the model changes"),
    _scalar("block_samples", "samples of a block, a multiple of the batch"),
    _scalar("block_stride", "words from one block to the next"),
    _scalar("dither_offset", "words from the start of a block to its dither planes"),
    _scalar("bits", "bits of one sample of a value: 1 to 8, or 32 on the float32 kernel"),
    _scalar(
        "sampling", "0 single or nearest, 1 double plain, 2 double symmetric, 3 independent samples"
    ),
    _scalar("epochs", "passes over the samples"),
    _scalar("delay", "batches between a dot product and the last update that it sees"),
    _scalar("skip", "batches of the first block that an earlier call has finished"),
    _scalar("pending", "batches after them whose update is still to come"),
    _scalar(
        "flags",
        "bit 0, hold: leave the last `delay` batches pending for the next call; bit 1, weights: "
        "labels come in pairs with weights",
    ),
    _scalar(
        "loss",
        "0 least squares, 1 hinge, 2 squared hinge, 3 by a table of its derivative, 4 by a "
        "polynomial",
    ),
    _scalar("degree", "of the polynomial"),
    _scalar("range_log2", "log2 of R: table or polynomial hold on [-R, R]"),
    _scalar("model_bits", "bits of a quantized model, 0: not quantized"),
    _scalar("model_shift", "log2 of a quantized model's unit, in 2^-24"),
    _scalar("gradient_bits", "bits of a quantized gradient, 0: not quantized"),
    _scalar("seed", "of the random numbers on chip"),
    _scalar("first_update", "number of the first update since training began"),
    _scalar("first_block", "where the order of the blocks begins"),
    _scalar("block_step", "from a block to the next one, modulo their number"),
)
_LEVEL_TABLES = _scalar("level_tables", "tables of levels: 1, or one a feature")
_OUTPUTS: tuple[Argument, ...] = (
    _output("status", 32, "1 done, else the register that is invalid (table below)"),
    _output("version", 32, "version of this interface"),
    _output("capability", 64, "word width, value format and limits of the build (table below)"),
    _output("words", 64, "words of planes streamed"),
    _output("cycles", 64, "clock cycles of the schedule"),
    _output("saturations", 32, "clamped results; 0 in a healthy run"),
    _output("outside", 32, "margins outside [-R, R]"),
    _output("clipped", 32, "numbers clipped when model or gradient were quantized"),
    _output("refetched", 32, "samples that were read again at full precision"),
)

# ---- Offsets ---------------------------------------------------------------------------------


def layout(registers: Iterable[tuple[int, bool]]) -> tuple[list[int], int]:
    """Offsets that Vitis HLS gives the arguments of an ``s_axilite`` bundle.

    Parameters
    ----------
    registers : iterable of (int, bool)
        For each argument in order: its width in bits, and whether it is an ``ap_vld`` output.

    Returns
    -------
    offsets : list of int
        Byte offset of the first data word of each argument.
    end : int
        First byte after the last argument.

    Notes
    -----
    An input takes its data words and one reserved word. An output takes its data words, its control
    word (bit 0: ``ap_vld``, cleared by reading) and as many words again, reserved.
    """
    offsets = []
    offset = FIRST_ARGUMENT
    for bits, output in registers:
        offsets.append(offset)
        words = (bits + 31) // 32
        offset += 4 * (2 * (words + 1) if output else words + 1)
    return offsets, offset


@dataclass(frozen=True)
class Interface:
    """The registers of one top function.

    Parameters
    ----------
    arguments : tuple of Argument
        In the order of the top function.
    """

    arguments: tuple[Argument, ...]

    @cached_property
    def by_name(self) -> dict[str, Argument]:
        """The arguments by name, in order."""
        return {argument.name: argument for argument in self.arguments}

    def _names(self, kind: str) -> tuple[str, ...]:
        return tuple(argument.name for argument in self.arguments if argument.kind == kind)

    @cached_property
    def pointers(self) -> tuple[str, ...]:
        """Names of the pointer registers, in order; so the next two."""
        return self._names("pointer")

    @cached_property
    def scalars(self) -> tuple[str, ...]:
        """Names of the scalar input registers."""
        return self._names("scalar")

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the output registers."""
        return self._names("output")

    @cached_property
    def _layout(self) -> tuple[list[int], int]:
        return layout((argument.bits, argument.kind == "output") for argument in self.arguments)

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Byte offset of the first data word of each register."""
        return dict(zip(self.by_name, self._layout[0], strict=True))

    @cached_property
    def valid_offsets(self) -> dict[str, int]:
        """Byte offset of the control word (``ap_vld``) of each output register."""
        return {name: self.offsets[name] + 4 * self.by_name[name].words for name in self.outputs}

    @cached_property
    def bundles(self) -> tuple[str, ...]:
        """The ``m_axi`` bundles, in the order of their first argument."""
        return tuple(dict.fromkeys(self.by_name[name].bundle for name in self.pointers))

    @property
    def span(self) -> int:
        """Bytes that the registers span."""
        return self._layout[1]

    @property
    def address_bits(self) -> int:
        """Width of the port's address, in bits."""
        return (self.span - 1).bit_length()


_COMMON = Interface(_POINTERS + _SCALARS + _OUTPUTS)
#: The registers by value format.
INTERFACES: dict[str, Interface] = {
    "bitplanes": _COMMON,
    "float32": _COMMON,
    "levels": Interface((*_POINTERS, _LEVELS, *_SCALARS, _LEVEL_TABLES, *_OUTPUTS)),
    "refetch": Interface((*_POINTERS, _FULL, *_SCALARS, *_OUTPUTS)),
}


def word_names(argument: Argument) -> tuple[str, ...]:
    """Names of an argument's 32-bit words in a ``.hwh``: ``samples``; ``planes_1, planes_2``."""
    if argument.words == 1:
        return (argument.name,)
    return tuple(f"{argument.name}_{i + 1}" for i in range(argument.words))


# ---- Capability ------------------------------------------------------------------------------


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


# ---- What a run is about ---------------------------------------------------------------------

#: Meaning of the ``status`` register: the register at fault, and what is allowed.
STATUS: dict[int, tuple[str, str]] = {
    CONFIG.status_samples: ("samples", "at least 1"),
    CONFIG.status_features: ("features", "1 to chunks of the build times lanes of a word"),
    CONFIG.status_bits: ("bits", "1 to 8, or 32 on the float32 kernel"),
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
        "block, a batch that is neither skipped nor pending, blocks in their order, and with a "
        "quantized model a delay of at most 1",
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


#: Words of an epoch in the schedule: step, step of negative labels, decay, gradient's shift.
SCHEDULE_COLUMNS = 4


@dataclass(frozen=True)
class Extent:
    """Sizes that follow from the scalar registers: of the data, and of every memory region.

    ``cells`` of a sample are what is trained on in a cycle each, in so many ``passes`` over them.
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
    return Extent(
        lanes=lanes,
        chunks=-(-r["features"] // lanes),
        cells=-(-r["features"] // cell),
        dithers=dithers,
        planes=planes,
        passes=1 if value_format == "levels" else planes,
        full_words=-(-r["features"] // (word_bits // 32)) if value_format == "refetch" else 0,
        derivatives={
            CONFIG.loss_table: CONFIG.derivative_table + 1,
            CONFIG.loss_polynomial: r["degree"] + 1,
        }.get(r["loss"], 0),
        level_count=(1 << (r["bits"] - 1)) + 1 if value_format == "levels" else 0,
        blocks=-(-r["samples"] // r["block_samples"]),
        batches=batches,
        held=min(r["delay"], batches - r["skip"]) if r["flags"] & CONFIG.flag_hold else 0,
    )


def label_columns(flags: int) -> int:
    """Words of a sample in the labels' memory: its label, and perhaps its weight."""
    return 2 if flags & CONFIG.flag_weights else 1


def regions(registers: Mapping[str, int], word_bits: int, value_format: str) -> dict[str, int]:
    """Bytes that a run with these (valid) scalar registers may touch behind each pointer."""
    r = registers
    e = extent(r, word_bits, value_format)
    plane_words = r["block_samples"] * e.chunks
    if value_format == "float32":
        block = plane_words
    else:
        base = r["bits"] - 1
        dithers = r["dither_offset"] + (e.planes - base) * plane_words
        block = max(base * plane_words, dithers)
    hold = r["flags"] & CONFIG.flag_hold
    sizes = {
        "planes": ((e.blocks - 1) * r["block_stride"] + block) * (word_bits // 8),
        "labels": e.blocks * r["block_samples"] * 4 * label_columns(r["flags"]),
        "model": (e.entries + 2 * max(r["pending"], e.held) * r["batch"]) * 4,
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
    if r["bits"] != 32 if floats else not 1 <= r["bits"] <= CONFIG.max_bits:
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
        or (polynomial and value_format not in ("bitplanes", "refetch"))
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
    if ring_batches(r["delay"]) * e.passes * r["batch"] * e.cells > limits.ring_words:
        return CONFIG.status_ring
    blocks = -(-r["samples"] // r["block_samples"])
    if r["first_block"] >= blocks or not 1 <= r["block_step"] <= blocks:
        return CONFIG.status_order
    partial = r["flags"] & CONFIG.flag_hold or r["pending"] or r["skip"]
    if (
        r["flags"] & ~(CONFIG.flag_hold | CONFIG.flag_weights)
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


def ring_batches(delay: int) -> int:
    """Batches whose words are kept on chip at a delay (hls/include/zipml/schedule.hpp)."""
    return 1 if delay == 0 else 2 if delay == 1 else delay


# ---- Documentation ---------------------------------------------------------------------------


def table(value_format: str = "bitplanes") -> str:
    """The register map of one top function as a Markdown table, for docs/registers.md."""
    interface = INTERFACES[value_format]
    rows = [
        "| offset | register | bits | access | meaning |",
        "|---|---|---|---|---|",
        "| 0x00 | `CTRL` | 32 | read-write | bit 0 `ap_start`, bit 1 `ap_done` (cleared by "
        "reading), bit 2 `ap_idle`, bit 3 `ap_ready` (cleared by reading), bit 7 `auto_restart`, "
        "bit 9 `interrupt` |",
        "| 0x04 | `GIER` | 32 | read-write | bit 0: interrupts on |",
        "| 0x08 | `IP_IER` | 32 | read-write | bit 0: on `ap_done`, bit 1: on `ap_ready` |",
        "| 0x0C | `IP_ISR` | 32 | read, toggle on write | bit 0: `ap_done` came, bit 1: `ap_ready` "
        "came |",
    ]
    for argument in interface.arguments:
        offset = interface.offsets[argument.name]
        access = "read" if argument.kind == "output" else "write"
        target = f"; {argument.access} by `{argument.bundle}`" if argument.kind == "pointer" else ""
        rows.append(
            f"| 0x{offset:02X} | `{argument.name}` | {argument.bits} | {access} "
            f"| {argument.doc}{target} |"
        )
        if argument.kind == "output":
            valid = interface.valid_offsets[argument.name]
            rows.append(
                f"| 0x{valid:02X} | `{argument.name}_ctrl` | 32 | read "
                f"| bit 0: `{argument.name}` was written (cleared by reading) |"
            )
    return "\n".join(rows) + "\n"


def status_table() -> str:
    """The values of the ``status`` register as a Markdown table, for docs/registers.md."""
    rows = ["| status | register at fault | allowed |", "|---|---|---|", "| 1 | none: done | |"]
    rows += [f"| {code} | `{name}` | {allowed} |" for code, (name, allowed) in STATUS.items()]
    return "\n".join(rows) + "\n"


def check_build(word_bits: int, value_format: str) -> None:
    """Refuse a word width or value format that no build has.

    Raises
    ------
    ArgumentError
    """
    if word_bits not in WORD_BITS:
        raise ArgumentError(f"word_bits was {word_bits!r}; allowed are {WORD_BITS}")
    if value_format not in VLNV:
        raise ArgumentError(f"value_format was {value_format!r}; allowed are {tuple(VLNV)}")
