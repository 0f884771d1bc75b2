"""The hardware handoff (``.hwh``) of the emulated board, written from its design.

pynq finds an IP, its registers, its address and its interrupt in the ``.hwh`` beside a bitstream.
It is as Vivado would export it, as far as ``pynqmetadata`` reads; a real board's ``.hwh`` comes
from Vivado.

``python -m zipml_pynq.devices.hwh`` writes the files that the package ships again.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

from zipml_pynq.accelerator.interface import CONTROL_BUNDLE, VLNV, check_build
from zipml_pynq.constants import WORD_BITS
from zipml_pynq.devices.design import (
    ADDRESS_RANGE,
    Bus,
    Module,
    Port,
    Range,
    Register,
    check_kernels,
    design,
    overlay_name,
)
from zipml_pynq.devices.emulated_bitstream import bitstream

#: Folder of the files that the package ships: overlays of one kernel.
OVERLAYS = Path(__file__).resolve().parent / "overlays"


def _tag(name: str, attributes: dict[str, object], body: list[str] | None = None) -> list[str]:
    """Lines of one element; ``None`` makes it empty, else the body is indented."""
    text = "".join(f" {key}={quoteattr(str(value))}" for key, value in attributes.items())
    if not body:
        return [f"<{name}{text}/>"]
    return [f"<{name}{text}>", *(f" {line}" for line in body), f"</{name}>"]


def _properties(values: dict[str, object]) -> list[str]:
    return [
        line
        for name, value in values.items()
        for line in _tag("PROPERTY", {"NAME": name, "VALUE": value})
    ]


def _register_xml(register: Register) -> list[str]:
    fields: list[str] = []
    for f in register.fields:
        fields += _tag(
            "FIELD",
            {"NAME": f.name},
            _properties(
                {
                    "DESCRIPTION": f.doc,
                    "ADDRESS_OFFSET": f.offset,
                    "ACCESS": f.access,
                    "BIT_OFFSET": f.offset,
                    "BIT_WIDTH": f.width,
                }
            ),
        )
    properties = {
        "DESCRIPTION": register.doc,
        "ADDRESS_OFFSET": register.offset,
        "SIZE": 32,
        "ACCESS": register.access,
        "IS_ENABLED": "true",
        "RESET_VALUE": 0,
    }
    body = [*_properties(properties), *_tag("FIELDS", {}, fields)]
    return _tag("REGISTER", {"NAME": register.name}, body)


def _port_xml(port: Port, nets: dict[str, list[tuple[str, Port]]]) -> list[str]:
    connections: list[str] = []
    for instance, other in nets[port.net]:
        if other.direction != port.direction:
            connections += _tag("CONNECTION", {"INSTANCE": instance, "PORT": other.name})
    vector = {"LEFT": port.width - 1, "RIGHT": 0} if port.width > 1 else {}
    attributes = {"DIR": port.direction, "NAME": port.name, **vector}
    attributes |= {"SIGIS": port.role, "SIGNAME": port.net}
    return _tag("PORT", attributes, _tag("CONNECTIONS", {}, connections))


def _parameters(values: dict[str, object]) -> list[str]:
    return [
        line
        for name, value in values.items()
        for line in _tag("PARAMETER", {"NAME": name, "VALUE": value})
    ]


def _bus_xml(bus: Bus) -> list[str]:
    maps: list[str] = []
    for signal, _, _ in bus.signals():
        maps += _tag("PORTMAP", {"LOGICAL": signal, "PHYSICAL": f"{bus.prefix}{signal}"})
    parameters: dict[str, object] = {
        "DATA_WIDTH": bus.data_bits,
        "ADDR_WIDTH": bus.address_bits,
        "PROTOCOL": "AXI4LITE" if bus.lite else "AXI4",
    }
    return _tag(
        "BUSINTERFACE",
        {
            "BUSNAME": bus.net,
            "DATAWIDTH": bus.data_bits,
            "NAME": bus.name,
            "TYPE": "MASTER" if bus.driver else "SLAVE",
            "VLNV": "xilinx.com:interface:aximm:1.0",
        },
        [*_parameters(parameters), *_tag("PORTMAPS", {}, maps)],
    )


def _range_xml(r: Range) -> list[str]:
    return _tag(
        "MEMRANGE",
        {
            "ADDRESSBLOCK": r.block,
            "BASENAME": "C_BASEADDR",
            "BASEVALUE": f"0x{r.base:08X}",
            "HIGHNAME": "C_HIGHADDR",
            "HIGHVALUE": f"0x{r.base + r.size - 1:08X}",
            "INSTANCE": r.instance,
            "IS_DATA": "TRUE",
            "IS_INSTRUCTION": "TRUE",
            "MASTERBUSINTERFACE": r.master,
            "MEMTYPE": r.kind,
            "SLAVEBUSINTERFACE": r.slave,
        },
    )


def _address_blocks(registers: tuple[Register, ...]) -> list[str]:
    if not registers:
        return []
    lines = [line for register in registers for line in _register_xml(register)]
    return _tag(
        "ADDRESSBLOCK",
        {
            "ACCESS": "read-write",
            "INTERFACE": f"s_axi_{CONTROL_BUNDLE}",
            "NAME": "Reg",
            "RANGE": ADDRESS_RANGE,
            "USAGE": "register",
        },
        _tag("REGISTERS", {}, lines),
    )


def _module_xml(module: Module, nets: dict[str, list[tuple[str, Port]]]) -> list[str]:
    name, version = module.vlnv.split(":")[2:]
    ports = [line for port in module.all_ports() for line in _port_xml(port, nets)]
    buses = [line for bus in module.buses for line in _bus_xml(bus)]
    memory = [line for r in module.ranges for line in _range_xml(r)]
    return _tag(
        "MODULE",
        {
            "FULLNAME": f"/{module.instance}",
            "HWVERSION": version,
            "INSTANCE": module.instance,
            "IPTYPE": "PERIPHERAL",
            "IS_ENABLE": 1,
            "IS_PL": str(module.programmable_logic).upper(),
            "MODCLASS": "PERIPHERAL",
            "MODTYPE": name,
            "VLNV": module.vlnv,
        },
        [
            *_tag("DOCUMENTS", {}),
            *_tag("ADDRESSBLOCKS", {}, _address_blocks(module.registers)),
            *_tag("PARAMETERS", {}, _parameters(module.parameters)),
            *_tag("PORTS", {}, ports),
            *_tag("BUSINTERFACES", {}, buses),
            *_tag("MEMORYMAP", {}, memory),
        ],
    )


def hwh(
    word_bits: int, value_format: str, kernels: int = 1, *, interrupt_controller: bool = False
) -> str:
    """The ``.hwh`` of an emulated design.

    Parameters
    ----------
    word_bits : int
        Width of the planes port: 64, 128 or 512.
    value_format : {"bitplanes", "float32"}
        Which kernel the design holds.
    kernels : int
        How many of it, 1 to 4.
    interrupt_controller : bool
        Route the kernels' interrupts through an AXI interrupt controller, which is what
        ``pynq.Interrupt`` needs, instead of to the processing system.

    Returns
    -------
    str
        The same text at every call.
    """
    check_build(word_bits, value_format)
    check_kernels(kernels)
    modules = design(word_bits, value_format, interrupt_controller, kernels)
    nets: dict[str, list[tuple[str, Port]]] = {}
    for module in modules:
        for port in module.all_ports():
            nets.setdefault(port.net, []).append((module.instance, port))
    name = overlay_name(word_bits, value_format, kernels)
    body = [
        *_tag("SYSTEMINFO", {"ARCH": "zynquplus", "DEVICE": "emulated", "NAME": name}),
        *_tag("EXTERNALPORTS", {}),
        *_tag("EXTERNALINTERFACES", {}),
        *_tag("MODULES", {}, [line for module in modules for line in _module_xml(module, nets)]),
    ]
    lines = [
        '<?xml version="1.0" encoding="UTF-8" standalone="no" ?>',
        "<!-- Written by zipml_pynq.devices.hwh for the emulated board; do not edit. -->",
        *_tag("EDKSYSTEM", {"EDWVERSION": "1.2"}, body),
    ]
    return "\n".join(lines) + "\n"


def overlay_files(word_bits: int, value_format: str, kernels: int = 1) -> dict[str, bytes]:
    """Contents of the files of an emulated overlay, by name."""
    name = overlay_name(word_bits, value_format, kernels)
    return {
        f"{name}.hwh": hwh(word_bits, value_format, kernels).encode(),
        f"{name}.bit": bitstream(word_bits, value_format, kernels),
    }


def shipped() -> dict[str, bytes]:
    """Contents of every file that the package ships, by name."""
    files: dict[str, bytes] = {}
    for value_format in VLNV:
        for word_bits in WORD_BITS:
            files |= overlay_files(word_bits, value_format)
    return files


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is there for as long as this process."""
    return tempfile.TemporaryDirectory(prefix="zipml-overlays-")


def overlay_path(word_bits: int, value_format: str, kernels: int = 1) -> Path:
    """The ``.bit`` that emulated boards load; its ``.hwh`` lies beside it.

    Those of one kernel are shipped; of several, they are written into a temporary folder, where
    they stay until the process ends.

    Raises
    ------
    ArgumentError
        No kernel has this width and format, or there are not 1 to 4 of it.
    """
    check_build(word_bits, value_format)
    folder = OVERLAYS
    name = f"{overlay_name(word_bits, value_format, check_kernels(kernels))}.bit"
    if kernels > 1:
        folder = Path(_own_folder().name)
        if not (folder / name).is_file():
            for file, contents in overlay_files(word_bits, value_format, kernels).items():
                (folder / file).write_bytes(contents)
    return folder / name


def write(folder: Path = OVERLAYS) -> None:
    """Write the shipped overlays: every ``.hwh`` and the ``.bit`` beside it."""
    folder.mkdir(exist_ok=True)
    for name, contents in shipped().items():
        (folder / name).write_bytes(contents)


if __name__ == "__main__":
    write()
