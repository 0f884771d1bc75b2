"""The register interface of the accelerator, described once.

Names, offsets, the ``.hwh`` of the emulated board, docs/registers.md, the emulated device and the
driver all derive from :data:`INTERFACES`. The HLS top functions have the same arguments in the same
order; a test compares the two.

Offsets follow the rules by which Vitis HLS lays out an ``s_axilite`` bundle (UG1399, "S_AXILITE
Control Register Map"; checked against published ``x*_hw.h`` headers in
tests/accelerator/test_interface.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from zipml_pynq.constants import WORD_BITS
from zipml_pynq.errors import ArgumentError

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
    "wide": "zipml:hls:zipml_sgd_wide:1.0",
}
#: The value format that an IP trains on.
VALUE_FORMATS: dict[str, str] = {vlnv: name for name, vlnv in VLNV.items()}


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
        "chunks * lanes entries, with flags as many shifts and corrections, then pending "
        "coefficients",
    ),
    _pointer(
        "history", "int32_t *", "write", VECTORS_BUNDLE, "the model after every epoch, one row each"
    ),
    _pointer(
        "schedule",
        "const uint32_t *",
        "read",
        VECTORS_BUNDLE,
        "steps / batch, decay, unit of the gradient and threshold of every epoch",
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
    _scalar(
        "bits",
        "bits of one sample of a value: 1 to 8, 1 to 16 on the wide kernel, 32 on the float32 one",
    ),
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
        "labels come in pairs with weights; bit 2, feature steps: behind the model's entries are "
        "log2 of each feature's step over the run's; bit 3, correction: behind these is what every "
        "update adds to each feature's gradient; bit 4, frozen: dot products read the start model "
        "throughout",
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
    _output("modelled_cycles", 64, "clock cycles by the schedule"),
    _output("measured_cycles", 64, "clock cycles by a counter beside training"),
    _output("waited_cycles", 64, "of them those in which training waited for words"),
    _output(
        "counted", 32, "1: the two before are counted; 0, in emulation: they are the schedule's"
    ),
    _output("saturations", 32, "clamped results; 0 in a healthy run"),
    _output("outside", 32, "margins outside [-R, R]"),
    _output("clipped", 32, "numbers clipped when model or gradient were quantized"),
    _output("refetched", 32, "samples that were read again at full precision"),
)


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
    "wide": _COMMON,
}


def word_names(argument: Argument) -> tuple[str, ...]:
    """Names of an argument's 32-bit words in a ``.hwh``: ``samples``; ``planes_1, planes_2``."""
    if argument.words == 1:
        return (argument.name,)
    return tuple(f"{argument.name}_{i + 1}" for i in range(argument.words))


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
