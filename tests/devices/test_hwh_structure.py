"""The emulated board's ``.hwh`` has the structure of real ones.

What is real was read from four hardware handoffs that Xilinx/PYNQ-HelloWorld once carried (the
``resizer`` of Pynq-Z1 and Pynq-Z2, Vivado 2019.1, and of Ultra96 and ZCU104, Vivado 2018.3), and
written down here by hand: names of elements, attributes and properties, and the words that they
take. The files themselves are not in this repository. Newer releases add to this; what they take
away, if anything, was not at hand.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from zipml_pynq.accelerator import interface
from zipml_pynq.constants import WORD_BITS
from zipml_pynq.devices import hwh
from zipml_pynq.devices.overlay import load_overlay

# Attributes of every element by its path: those that all instances have, and with "?" others.
# "-" is what the emulated design leaves out: who made it and for which device; nothing reads it.
REAL = {
    "EDKSYSTEM": "EDWVERSION -TIMESTAMP -VIVADOVERSION",
    "EDKSYSTEM/SYSTEMINFO": "ARCH DEVICE NAME -PACKAGE -SPEEDGRADE ?BOARD",
    "EDKSYSTEM/EXTERNALPORTS": "",
    "EDKSYSTEM/EXTERNALINTERFACES": "",
    "EDKSYSTEM/MODULES": "",
    "EDKSYSTEM/MODULES/MODULE": "-COREREVISION FULLNAME HWVERSION INSTANCE IPTYPE IS_ENABLE "
    "MODTYPE VLNV ?MODCLASS ?CONFIGURABLE ?IS_PL",
    ".../MODULE/DOCUMENTS": "",
    ".../MODULE/DOCUMENTS/DOCUMENT": "SOURCE",
    ".../MODULE/ADDRESSBLOCKS": "",
    ".../MODULE/ADDRESSBLOCKS/ADDRESSBLOCK": "ACCESS INTERFACE NAME RANGE USAGE",
    ".../MODULE/ADDRESSBLOCKS/ADDRESSBLOCK/REGISTERS": "",
    ".../REGISTERS/REGISTER": "NAME",
    ".../REGISTERS/REGISTER/PROPERTY": "NAME VALUE",
    ".../REGISTERS/REGISTER/FIELDS": "",
    ".../REGISTERS/REGISTER/FIELDS/FIELD": "NAME",
    ".../REGISTERS/REGISTER/FIELDS/FIELD/PROPERTY": "NAME VALUE",
    ".../MODULE/PARAMETERS": "",
    ".../MODULE/PARAMETERS/PARAMETER": "NAME ?VALUE",
    ".../MODULE/PORTS": "",
    ".../MODULE/PORTS/PORT": "DIR NAME SIGIS ?SIGNAME ?LEFT ?RIGHT ?CLKFREQUENCY ?SENSITIVITY",
    ".../MODULE/PORTS/PORT/CONNECTIONS": "",
    ".../MODULE/PORTS/PORT/CONNECTIONS/CONNECTION": "INSTANCE PORT",
    ".../MODULE/BUSINTERFACES": "",
    ".../MODULE/BUSINTERFACES/BUSINTERFACE": "BUSNAME NAME TYPE VLNV ?DATAWIDTH",
    ".../MODULE/BUSINTERFACES/BUSINTERFACE/PARAMETER": "NAME ?VALUE",
    ".../MODULE/BUSINTERFACES/BUSINTERFACE/PORTMAPS": "",
    ".../MODULE/BUSINTERFACES/BUSINTERFACE/PORTMAPS/PORTMAP": "LOGICAL PHYSICAL",
    ".../MODULE/MEMORYMAP": "",
    ".../MODULE/MEMORYMAP/MEMRANGE": "ADDRESSBLOCK BASENAME BASEVALUE HIGHNAME HIGHVALUE INSTANCE "
    "IS_DATA IS_INSTRUCTION MASTERBUSINTERFACE MEMTYPE SLAVEBUSINTERFACE",
    ".../MODULE/PERIPHERALS": "",
    ".../MODULE/PERIPHERALS/PERIPHERAL": "INSTANCE",
}
WORDS = {
    ("PORT", "DIR"): {"I", "O", "IO"},
    ("PORT", "SIGIS"): {"INTERRUPT", "clk", "rst", "undef"},
    ("BUSINTERFACE", "TYPE"): {"MASTER", "SLAVE", "INITIATOR", "TARGET"},
    ("MEMRANGE", "MEMTYPE"): {"MEMORY", "REGISTER"},
    ("MEMRANGE", "IS_DATA"): {"TRUE"},
    ("MODULE", "IPTYPE"): {"PERIPHERAL", "BUS"},
    ("MODULE", "MODCLASS"): {"PERIPHERAL", "BUS", "MEMORY"},
    ("SYSTEMINFO", "ARCH"): {"zynq", "zynquplus"},
    ("ADDRESSBLOCK", "USAGE"): {"register"},
}
REGISTER_PROPERTIES = {
    "DESCRIPTION", "ADDRESS_OFFSET", "SIZE", "ACCESS", "IS_ENABLED", "RESET_VALUE",
}  # fmt: skip
FIELD_PROPERTIES = {
    "DESCRIPTION", "ADDRESS_OFFSET", "ACCESS", "MODIFIED_READ_VALUES", "WRITE_CONSTRAINT",
    "READ_ACTION", "BIT_OFFSET", "BIT_WIDTH",
}  # fmt: skip
#: Fields of the control registers of a kernel from HLS. INTERRUPT came with later releases.
CONTROL_FIELDS = {
    "CTRL": ["AP_START", "AP_DONE", "AP_IDLE", "AP_READY", "AUTO_RESTART", "INTERRUPT"],
    "GIER": ["Enable"],
    "IP_IER": ["CHAN0_INT_EN", "CHAN1_INT_EN"],
    "IP_ISR": ["CHAN0_INT_ST", "CHAN1_INT_ST"],
}

DESIGNS = [
    (word_bits, value_format, controller)
    for word_bits in WORD_BITS
    for value_format in interface.VLNV
    for controller in (False, True)
]


def real(path: str) -> str | None:
    """Attributes of an element of this path in real files; None if they have none such."""
    short = re.sub(r"^EDKSYSTEM/MODULES(?=/MODULE/)", "...", path)
    short = re.sub(r"^.*/REGISTERS(?=/REGISTER)", ".../REGISTERS", short)
    return REAL.get(short)


def elements(root: ElementTree.Element, path: str = ""):
    path = f"{path}/{root.tag}".lstrip("/")
    yield path, root
    for child in root:
        yield from elements(child, path)


@pytest.fixture(params=DESIGNS, ids=str)
def root(request: pytest.FixtureRequest) -> ElementTree.Element:
    word_bits, value_format, controller = request.param
    text = hwh.hwh(word_bits, value_format, interrupt_controller=controller)
    return ElementTree.fromstring(text)


def test_elements_and_attributes(root: ElementTree.Element) -> None:
    for path, element in elements(root):
        attributes = real(path)
        assert attributes is not None, f"real files have no {path}"
        names = attributes.split()
        known = {name.lstrip("?-") for name in names}
        assert set(element.attrib) <= known, path
        assert {name for name in names if name[0] not in "?-"} <= set(element.attrib), path


def test_attributes_have_words_that_real_ones_have(root: ElementTree.Element) -> None:
    for (tag, attribute), words in WORDS.items():
        assert {element.get(attribute) for element in root.iter(tag)} <= words


def test_registers_are_described_as_hls_does(root: ElementTree.Element) -> None:
    for register in root.iter("REGISTER"):
        assert {p.get("NAME") for p in register.findall("PROPERTY")} == REGISTER_PROPERTIES
        for field in register.iter("FIELD"):
            names = {p.get("NAME") for p in field.findall("PROPERTY")}
            assert {"DESCRIPTION", "ACCESS", "BIT_OFFSET", "BIT_WIDTH"} <= names <= FIELD_PROPERTIES
    registers = {register.get("NAME"): register for register in root.iter("REGISTER")}
    for name, fields in CONTROL_FIELDS.items():
        assert [field.get("NAME") for field in registers[name].iter("FIELD")] == fields


@pytest.mark.parametrize("value_format", interface.VLNV)
def test_registers_are_where_hls_puts_them(value_format: str) -> None:
    """Interface, emulated ``.hwh`` and driver: one map, for each kernel."""
    root = ElementTree.fromstring(hwh.hwh(64, value_format))
    found = {}
    for register in root.iter("REGISTER"):
        values = {p.get("NAME"): p.get("VALUE") for p in register.findall("PROPERTY")}
        found[register.get("NAME")] = int(str(values["ADDRESS_OFFSET"]), 0)
    registers = interface.INTERFACES[value_format]
    widths = [(a.bits, a.kind == "output") for a in registers.arguments]
    expected = {"CTRL": 0x00, "GIER": 0x04, "IP_IER": 0x08, "IP_ISR": 0x0C}
    offsets, _ = interface.layout(widths)
    for argument, offset in zip(registers.arguments, offsets, strict=True):
        words = interface.word_names(argument)
        expected |= {name: offset + 4 * i for i, name in enumerate(words)}
        if argument.kind == "output":
            expected[f"{argument.name}_ctrl"] = offset + 4 * len(words)
    assert found == expected
    with load_overlay("emulated", value_format=value_format, memory_bytes=1 << 16) as loaded:
        assert loaded.driver._offsets == dict(zip(registers.by_name, offsets, strict=True))


def test_the_fingerprint_tells_other_files() -> None:
    """An element or attribute of our own invention would show."""
    assert real("EDKSYSTEM/MODULES/MODULE/REGISTERS") is None
    assert real("EDKSYSTEM/MODULES/MODULE/PORTS/PORT") is not None
    path = "EDKSYSTEM/MODULES/MODULE/ADDRESSBLOCKS/ADDRESSBLOCK/REGISTERS/REGISTER/FIELDS/FIELD"
    assert real(path) == "NAME"
