"""The register description against the rules of Vitis HLS and the HLS sources."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import ROOT
from tests.hls.pragmas import expanded, macros
from zipml_pynq.accelerator import interface
from zipml_pynq.accelerator.status import status_table

HLS = ROOT / "hls"


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


def source_of(top: str) -> str:
    """A top function's source with its macros replaced."""
    headers = [*HLS.glob("src/*.hpp"), *HLS.glob("include/zipml/*.hpp")]
    known = macros(*(path.read_text() for path in headers))
    return expanded((HLS / "src" / f"{top}.cpp").read_text(), known)


@pytest.mark.parametrize("value_format", interface.VLNV)
def test_top_function_has_these_arguments(value_format):
    name = interface.VLNV[value_format].split(":")[2]
    signature = re.search(rf"void {name}\((.*?)\)\s*{{", source_of(name), re.DOTALL).group(1)
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
    text = source_of(name)
    ports = dict(re.findall(r"mode=m_axi port=(\w+) bundle=(\w+) offset=slave", text))
    arguments = interface.INTERFACES[value_format].arguments
    pointers = [a for a in arguments if a.kind == "pointer"]
    assert ports == {a.name: a.bundle for a in pointers}
    control = re.findall(rf"mode=s_axilite port=(\w+) bundle={interface.CONTROL_BUNDLE}\b", text)
    # registers lie in the order of the arguments, whatever that of the pragmas is
    assert sorted(control) == sorted([*(a.name for a in arguments), "return"])


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


TABLES = [
    interface.table("bitplanes"),
    interface.table("levels"),
    interface.table("refetch"),
    status_table(),
]


@pytest.mark.parametrize("table", TABLES, ids=["bitplanes", "levels", "refetch", "status"])
def test_tables_in_the_documentation_are_current(table):
    assert table in (ROOT / "docs" / "registers.md").read_text()
