"""The register description against the rules of Vitis HLS, the HLS sources and the two builds."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynq.pl_server.embedded_device import bit2bin

from zipml_pynq.accelerator import capability, interface, regions, status
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG, WORD_BITS
from zipml_pynq.data import layout
from zipml_pynq.devices import emulated_bitstream, hwh
from zipml_pynq.errors import ArgumentError, OverlayMismatchError

ROOT = Path(__file__).resolve().parent.parent
HLS = ROOT / "hls" / "src"

# ---- Offsets -----------------------------------------------------------------------------------


def test_offsets_of_a_published_map_with_32_bit_outputs():
    # A time stamp counter built with Vitis HLS: two 32-bit outputs, inputs around them, a 64-bit
    # output at the end (data at 0x40 and 0x44, control at 0x48).
    arguments = [(32, False), (32, True), (32, True), (32, False), (64, True)]
    offsets, _ = interface.layout(arguments)
    assert offsets == [0x10, 0x18, 0x28, 0x38, 0x40]


def test_offsets_of_a_published_map_with_64_bit_outputs():
    # The tail of a linear-programming solver: pointers, two 64-bit outputs, scalars.
    arguments = [(64, False)] * 11 + [(64, True), (64, True)] + [(32, False)] * 4
    offsets, end = interface.layout(arguments)
    assert offsets[-6:] == [0x94, 0xAC, 0xC4, 0xCC, 0xD4, 0xDC]
    assert end == 0xE4


def test_offsets_of_a_published_map_with_a_128_bit_output():
    # A cipher: 128-bit inputs and tag, then a flag of one bit whose control word is at 0x88.
    arguments = [(128, False), (128, False), (1, False), (1, False), (128, False), (128, True)]
    offsets, _ = interface.layout([*arguments, (1, True)])
    assert offsets[-3:] == [0x48, 0x5C, 0x84]


@given(st.lists(st.tuples(st.sampled_from([1, 8, 32, 64, 128]), st.booleans()), max_size=30))
def test_registers_never_overlap(arguments):
    offsets, end = interface.layout(arguments)
    used = []
    for (bits, output), offset in zip(arguments, offsets, strict=True):
        words = -(-bits // 32) + (1 if output else 0)
        used += range(offset, offset + 4 * words, 4)
    assert len(used) == len(set(used))
    assert all(interface.FIRST_ARGUMENT <= word < end for word in used)


@pytest.mark.parametrize("registers", interface.INTERFACES.values(), ids=interface.INTERFACES)
def test_port_address_covers_all_registers(registers):
    assert 1 << (registers.address_bits - 1) < registers.span <= 1 << registers.address_bits


# ---- HLS sources -------------------------------------------------------------------------------


@pytest.mark.parametrize("value_format", interface.VLNV)
def test_top_function_has_these_arguments(value_format):
    name = interface.VLNV[value_format].split(":")[2]
    text = (HLS / f"{name}.cpp").read_text()
    signature = re.search(rf"void {name}\((.*?)\)\s*{{", text, re.DOTALL).group(1)
    found = []
    for argument in signature.split(","):
        ctype, star, argument_name = re.fullmatch(
            r"\s*((?:const )?[\w:]+)\s*(\*?)\s*(\w+)\s*", argument
        ).groups()
        ctype = re.sub(r"\w+::word_t", "word_t", ctype)
        found.append((argument_name, ctype + (" *" if star else "")))
    assert found == [(a.name, a.ctype) for a in interface.INTERFACES[value_format].arguments]


@pytest.mark.parametrize("value_format", interface.VLNV)
def test_top_function_has_these_ports(value_format):
    name = interface.VLNV[value_format].split(":")[2]
    # the formatter may set blanks and continuation lines around "="
    text = re.sub(r"\s*=\s*(?:\\\s*)?", "=", (HLS / f"{name}.cpp").read_text())
    ports = dict(re.findall(r"mode=m_axi port=(\w+) bundle=(\w+) offset=slave", text))
    arguments = interface.INTERFACES[value_format].arguments
    pointers = [a for a in arguments if a.kind == "pointer"]
    assert ports == {a.name: a.bundle for a in pointers}
    control = re.findall(rf"mode=s_axilite port=(\w+) bundle={interface.CONTROL_BUNDLE}\b", text)
    assert control == [*(a.name for a in arguments), "return"]


def test_c_interface_has_these_registers():
    text = (ROOT / "sw_emu" / "abi.h").read_text()
    inputs, outputs = re.findall(r"typedef struct {(.*?)} \w+;", text, re.DOTALL)
    names = re.findall(r"(\w+);", inputs)
    # each kernel's inputs are some of them, in their order, and no field is nobody's
    for registers in interface.INTERFACES.values():
        own = registers.pointers + registers.scalars
        assert tuple(name for name in names if name in own) == own
        assert tuple(re.findall(r"(\w+);", outputs)) == registers.outputs
    assert set(names) < {name for r in interface.INTERFACES.values() for name in r.by_name}


# ---- What the builds report --------------------------------------------------------------------


def builds():
    for name in ("engine", "kernel"):
        try:
            yield load_build(name)
        except ArgumentError:
            assert name == "kernel"  # which needs the vendor's headers


BUILDS = list(builds())


def judge(build, registers, word_bits, value_format):
    """Results of a run with these registers and no memory: for invalid registers only."""
    code = layout.FORMAT_CODES[value_format]
    pointers = dict.fromkeys(interface.INTERFACES[value_format].pointers, 0)
    return build.run(word_bits, code, pointers, registers)


@pytest.mark.parametrize("build", BUILDS, ids=lambda b: b.name)
@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("value_format", interface.VLNV)
def test_capability(build, word_bits, value_format):
    results = judge(
        build, dict.fromkeys(interface.INTERFACES[value_format].scalars, 0), word_bits, value_format
    )
    assert results["status"] == CONFIG.status_samples
    assert results["version"] == CONFIG.interface_version
    found = capability.Capability.decode(results["capability"])
    assert found == capability.Capability.expected(word_bits, value_format)


def test_capability_of_an_unknown_format():
    assert capability.Capability.decode(9 << 56).value_format == "format 9"


VALID = {
    "samples": 40,
    "features": 100,
    "batch": 8,
    "block_samples": 16,
    "block_stride": 16 * 2 * 5,
    "dither_offset": 16 * 2 * 3,
    "bits": 4,
    "sampling": 2,
    "epochs": 1,
    "delay": 2,
    "skip": 1,
    "pending": 1,
    "flags": 1,
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
#: The same for a kernel with tables of levels.
VALID_LEVELS = {**VALID, "level_tables": 100}


def edges(name):
    """Values at which the judgement on a register may change."""
    limits = {
        "samples": [0, 1, 8, 16, 17, 1 << 31],
        "features": [0, 1, 64, 65, 4096, 4097, 8192, 8193, 32768, 32769, (1 << 32) - 1],
        "batch": [0, 1, 3, 16, 256, 257, (1 << 32) - 1],
        "block_samples": [0, 8, 12, 256, 819, 820, 4096, 4104],
        "block_stride": [0, (1 << 32) - 1],
        "dither_offset": [0, (1 << 32) - 1],
        "bits": [0, 1, 2, 8, 9, 31, 32, 33],
        "sampling": [0, 1, 3, 4],
        "epochs": [0, 2, 65536, 65537],
        "delay": [0, 1, 3, 7, 8],
        "skip": [0, 2, 4, 5, 4095, (1 << 32) - 1],
        "pending": [0, 2, 3, 7, 8],
        "flags": [0, 2, 3, 4, 5, 7, 8, 1 << 31],
        "loss": [0, 1, 2, 3, 4, 5],
        "degree": [0, 1, 7, 8, (1 << 32) - 1],
        "range_log2": [0, 6, 7],
        "model_bits": [0, 1, 2, 16, 17],
        "model_shift": [0, (1 << 32) - 1],
        "gradient_bits": [0, 1, 2, 16, 17],
        "seed": [0, (1 << 32) - 1],
        "first_update": [0, (1 << 32) - 1],
        "first_block": [0, 1, 2, 3, (1 << 32) - 1],
        "block_step": [0, 1, 2, 3, 4],
        "level_tables": [0, 1, 2, 64, 65, 4096, 8192, 32768, (1 << 32) - 1],
    }
    return limits[name]


@st.composite
def registers(draw):
    """Valid registers with a few of them at an edge."""
    values = dict(VALID_LEVELS)
    for name in draw(st.lists(st.sampled_from(list(values)), max_size=5, unique=True)):
        values[name] = draw(st.sampled_from(edges(name)))
    if draw(st.booleans()):  # independent samples and a polynomial go together
        values |= {"sampling": 3, "loss": 4, "degree": draw(st.sampled_from(edges("degree")))}
    if draw(st.booleans()):  # nothing that holds back rules other registers out
        values |= {"flags": values["flags"] & 6, "skip": 0, "pending": 0}
    if draw(st.booleans()):  # one table a feature, whatever number of them
        values["level_tables"] = values["features"]
    return values


@pytest.mark.parametrize("build", BUILDS, ids=lambda b: b.name)
@settings(max_examples=300, deadline=None)
@given(
    values=registers(),
    word_bits=st.sampled_from(WORD_BITS),
    value_format=st.sampled_from(list(interface.VLNV)),
)
def test_judgement_of_registers_is_the_builds(build, values, word_bits, value_format):
    if value_format == "float32":
        values = {**values, "bits": {4: 32}.get(values["bits"], values["bits"])}
        values["sampling"] = {2: 0}.get(values["sampling"], values["sampling"])
    if value_format == "refetch":
        values = {**values, "loss": {0: 1}.get(values["loss"], values["loss"])}
    values = {name: values[name] for name in interface.INTERFACES[value_format].scalars}
    status = status.expected_status(values, word_bits, value_format)
    if status == CONFIG.status_ok:
        return  # the build would run; test_driver.py trains
    assert judge(build, values, word_bits, value_format)["status"] == status


def test_valid_registers_are_valid():
    assert status.expected_status(VALID, 64, "bitplanes") == CONFIG.status_ok
    assert status.expected_status(VALID_LEVELS, 64, "levels") == CONFIG.status_ok


def test_every_status_is_told():
    statuses = {
        name: value for name, value in vars_of(CONFIG).items() if name.startswith("status_")
    }
    assert set(status.STATUS) == set(statuses.values()) - {CONFIG.status_ok}
    assert {name for name, _ in status.STATUS.values()} <= set(VALID_LEVELS)


def vars_of(config):
    return {name: getattr(config, name) for name in dir(config)}


# ---- Memory regions ----------------------------------------------------------------------------


def test_regions_of_a_run():
    # 40 samples are 5 batches in 3 blocks of 2; planes 3 base + 2 dither; 100 features are 2 chunks
    sizes = regions.regions({**VALID, "skip": 0, "pending": 0, "flags": 0}, 64, "bitplanes")
    assert sizes == {
        "planes": 3 * 160 * 8,
        "labels": 3 * 16 * 4,
        "model": 128 * 4,
        "history": 128 * 4,
        "schedule": 16,
        "derivative": 0,
    }


def test_regions_with_planes_of_other_precisions_between():
    values = {**VALID, "block_stride": 1000, "dither_offset": 500, "skip": 0, "pending": 0}
    sizes = regions.regions({**values, "flags": 0}, 64, "bitplanes")
    assert sizes["planes"] == (2 * 1000 + 500 + 2 * 32) * 8


def test_regions_of_a_segment():
    sizes = regions.regions(VALID, 64, "bitplanes")
    assert sizes["history"] == 0  # held: no epoch ends
    assert sizes["model"] == (128 + 2 * 2 * 8) * 4  # 2 pending batches of pairs are written


def test_regions_with_steps_of_features():
    sizes = regions.regions({**VALID, "flags": 4, "skip": 0, "pending": 0}, 64, "bitplanes")
    assert sizes["model"] == 2 * 128 * 4
    held = regions.regions({**VALID, "flags": 5}, 64, "bitplanes")
    assert held["model"] == (2 * 128 + 2 * 2 * 8) * 4


def test_regions_of_float32():
    values = {**VALID, "bits": 32, "sampling": 0, "skip": 0, "pending": 0, "flags": 0}
    values |= {"block_stride": 16 * 25, "dither_offset": 0}
    sizes = regions.regions(values, 128, "float32")
    assert sizes["planes"] == 3 * 16 * 25 * 16
    assert sizes["model"] == 100 * 4


def test_regions_of_tables():
    sizes = regions.regions({**VALID_LEVELS, "skip": 0, "flags": 0}, 64, "levels")
    assert sizes["levels"] == 100 * 9 * 4
    one = regions.regions({**VALID_LEVELS, "level_tables": 1, "bits": 1}, 64, "levels")
    assert one["levels"] == 2 * 4


def test_regions_of_losses_and_refetching():
    values = {**VALID, "skip": 0, "pending": 0, "flags": 2}
    table = regions.regions({**values, "loss": 3}, 64, "bitplanes")
    assert (table["derivative"], table["labels"]) == (1025 * 4, 3 * 16 * 8)
    polynomial = regions.regions({**values, "loss": 4, "sampling": 3, "degree": 5}, 64, "bitplanes")
    assert polynomial["derivative"] == 6 * 4
    assert polynomial["planes"] == (2 * 160 + 96 + 6 * 32) * 8  # blocks are 160 words apart here
    full = regions.regions({**values, "loss": 1}, 64, "refetch")["full"]
    assert full == 3 * 16 * 50 * 8  # 100 float32 are 50 words


# ---- Generated files ---------------------------------------------------------------------------


TABLES = [
    interface.table("bitplanes"),
    interface.table("levels"),
    interface.table("refetch"),
    status.status_table(),
]


@pytest.mark.parametrize("table", TABLES, ids=["bitplanes", "levels", "refetch", "status"])
def test_tables_in_the_documentation_are_current(table):
    assert table in (ROOT / "docs" / "registers.md").read_text()


def test_shipped_handoffs_are_current():
    files = {path.name: path.read_bytes() for path in hwh.OVERLAYS.iterdir()}
    assert files == hwh.shipped()


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("value_format", interface.VLNV)
def test_bitstreams_say_which_kernel_they_are(word_bits, value_format):
    """Through pynq's own reading of a ``.bit``: what it sends to a board is understood there."""
    data = bit2bin(emulated_bitstream.bitstream(word_bits, value_format))
    assert emulated_bitstream.read_configuration(data) == (word_bits, value_format)


@pytest.mark.parametrize("damage", [b"", b"abcd" * 20, b"zipml emulated bitstream x 64   "])
def test_other_bitstreams_are_refused(damage):
    words = b"".join(damage[i : i + 4][::-1] for i in range(0, len(damage), 4))
    with pytest.raises(OverlayMismatchError, match="none for an emulated board"):
        emulated_bitstream.read_configuration(words)


def test_writing_them_again_gives_the_same_bytes(tmp_path):
    hwh.write(tmp_path)
    for path in hwh.OVERLAYS.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2 * len(WORD_BITS) * len(interface.VLNV)


@pytest.mark.parametrize(("word_bits", "value_format"), [(32, "bitplanes"), (64, "float16")])
def test_unknown_builds_are_refused(word_bits, value_format):
    with pytest.raises(ArgumentError, match="allowed are"):
        hwh.hwh(word_bits, value_format)
