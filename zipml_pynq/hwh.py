"""The hardware handoff (``.hwh``) of the emulated board, written from the register description.

pynq finds an IP, its registers, its address and its interrupt in the ``.hwh`` beside a bitstream.
The design described here is the smallest that carries the kernel: a Zynq UltraScale+ processing
system, one SmartConnect for the registers, one for the memory ports, and a reset block. It is as
Vivado would export it, as far as ``pynqmetadata`` reads; a real board's ``.hwh`` comes from Vivado.

The bitstream beside it is a ``.bit`` file whose configuration data say in one line which kernel it
is: that is all that an emulated board needs to know, and all that pynq sends to a remote one.

``python -m zipml_pynq.hwh`` writes the files that the package ships again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

from zipml_pynq.constants import WORD_BITS
from zipml_pynq.errors import ArgumentError, OverlayMismatchError
from zipml_pynq.interface import (
    BUNDLE_BITS,
    CONTROL_BUNDLE,
    INTERFACES,
    VALUE_FORMATS,
    VLNV,
    Interface,
    check_build,
    word_names,
)

#: Instance names in the design.
INSTANCE = "zipml_sgd_0"
PROCESSING_SYSTEM = "zynq_ultra_ps_e_0"
INTERRUPT_CONTROLLER = "axi_intc_0"
#: Where the processing system sees the registers.
BASE_ADDRESS = 0xA000_0000
ADDRESS_RANGE = 0x1_0000
INTERRUPT_CONTROLLER_ADDRESS = BASE_ADDRESS + ADDRESS_RANGE
#: Memory that the kernel's ports reach: the upper DDR of a Zynq UltraScale+, so that addresses take
#: both words of a pointer register.
MEMORY_ADDRESS = 0x8_0000_0000
MEMORY_RANGE = 0x8_0000_0000
#: Frequency of the kernel's clock in the emulated design, in MHz.
CLOCK_MHZ = 100

#: Folder of the files that the package ships.
OVERLAYS = Path(__file__).resolve().parent / "overlays"


def overlay_name(word_bits: int, value_format: str) -> str:
    """Name, without suffix, of the shipped overlay: ``zipml_sgd_64``, ``zipml_sgd_f32_128``."""
    return f"{VLNV[value_format].split(':')[2]}_{word_bits}"


# ---- Registers -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Field:
    name: str
    offset: int
    width: int
    access: str
    doc: str


@dataclass(frozen=True)
class _Register:
    name: str
    offset: int
    access: str
    doc: str
    fields: tuple[_Field, ...]


def _flags(names: Iterable[tuple[str, int, str, str]]) -> tuple[_Field, ...]:
    return tuple(_Field(name, bit, 1, access, doc) for name, bit, access, doc in names)


def _registers(interface: Interface) -> list[_Register]:
    """The control registers as Vitis HLS describes them, then one register a word of data."""
    registers = [
        _Register(
            "CTRL",
            0x00,
            "read-write",
            "Control signals",
            _flags(
                [
                    ("AP_START", 0, "read-write", "Starts the kernel; stays 1 until it is ready."),
                    ("AP_DONE", 1, "read-only", "The kernel has finished; cleared by reading."),
                    ("AP_IDLE", 2, "read-only", "The kernel does not run."),
                    (
                        "AP_READY",
                        3,
                        "read-only",
                        "The kernel takes new inputs; cleared by reading.",
                    ),
                    ("AUTO_RESTART", 7, "read-write", "Starts again whenever ready."),
                    ("INTERRUPT", 9, "read-only", "Level of the interrupt output."),
                ]
            ),
        ),
        _Register(
            "GIER",
            0x04,
            "read-write",
            "Global Interrupt Enable Register",
            _flags([("Enable", 0, "read-write", "Enables the interrupt output.")]),
        ),
        _Register(
            "IP_IER",
            0x08,
            "read-write",
            "IP Interrupt Enable Register",
            _flags(
                [
                    ("CHAN0_INT_EN", 0, "read-write", "Enables the interrupt on ap_done."),
                    ("CHAN1_INT_EN", 1, "read-write", "Enables the interrupt on ap_ready."),
                ]
            ),
        ),
        _Register(
            "IP_ISR",
            0x0C,
            "read-write",
            "IP Interrupt Status Register",
            _flags(
                [
                    ("CHAN0_INT_ST", 0, "read-write", "ap_done came; toggles when 1 is written."),
                    ("CHAN1_INT_ST", 1, "read-write", "ap_ready came; toggles when 1 is written."),
                ]
            ),
        ),
    ]
    for argument in interface.arguments:
        output = argument.kind == "output"
        for i, name in enumerate(word_names(argument)):
            bits = f"{32 * i + 31} to {32 * i}"
            access = "read-only" if output else "read-write"
            registers.append(
                _Register(
                    name,
                    interface.offsets[argument.name] + 4 * i,
                    access,
                    f"Data signal of {argument.name}",
                    (_Field(argument.name, 0, 32, access, f"Bits {bits}: {argument.doc}"),),
                )
            )
        if output:
            registers.append(
                _Register(
                    f"{argument.name}_ctrl",
                    interface.valid_offsets[argument.name],
                    "read-only",
                    f"Control signal of {argument.name}",
                    (
                        _Field(
                            f"{argument.name}_ap_vld",
                            0,
                            1,
                            "read-only",
                            "The register was written; cleared by reading.",
                        ),
                    ),
                )
            )
    return registers


# ---- Design ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Port:
    """A physical port; ports with the same ``net`` are connected."""

    name: str
    direction: str
    net: str
    width: int = 1
    role: str = "undef"


@dataclass(frozen=True)
class _Bus:
    """An AXI interface: port names are ``prefix`` + signal, nets are ``net`` + signal."""

    name: str
    driver: bool
    net: str
    prefix: str
    data_bits: int
    address_bits: int
    lite: bool = False

    def signals(self) -> list[tuple[str, bool, int]]:
        """Name, whether the master drives it, and width of every signal."""
        data, address = self.data_bits, self.address_bits
        burst = [] if self.lite else [("LEN", 8), ("SIZE", 3), ("BURST", 2), ("CACHE", 4)]
        signals = []
        for channel in ("AW", "AR"):
            signals += [(f"{channel}ADDR", True, address)]
            signals += [(f"{channel}{name}", True, width) for name, width in burst]
            signals += [(f"{channel}VALID", True, 1), (f"{channel}READY", False, 1)]
        last = [] if self.lite else [("WLAST", True, 1), ("RLAST", False, 1)]
        return [
            *signals,
            ("WDATA", True, data),
            ("WSTRB", True, data // 8),
            *last,
            ("WVALID", True, 1),
            ("WREADY", False, 1),
            ("BRESP", False, 2),
            ("BVALID", False, 1),
            ("BREADY", True, 1),
            ("RDATA", False, data),
            ("RRESP", False, 2),
            ("RVALID", False, 1),
            ("RREADY", True, 1),
        ]

    def ports(self) -> list[_Port]:
        return [
            _Port(
                f"{self.prefix}{name}",
                "O" if from_master == self.driver else "I",
                f"{self.net}_{name}",
                width,
            )
            for name, from_master, width in self.signals()
        ]


@dataclass(frozen=True)
class _Range:
    """An address range that a master of the module reaches."""

    master: str
    instance: str
    slave: str
    base: int
    size: int
    kind: str
    block: str = "Reg"


@dataclass(frozen=True)
class _Module:
    instance: str
    vlnv: str
    parameters: dict[str, object] = field(default_factory=dict)
    ports: tuple[_Port, ...] = ()
    buses: tuple[_Bus, ...] = ()
    ranges: tuple[_Range, ...] = ()
    registers: tuple[_Register, ...] = ()
    programmable_logic: bool = True

    def all_ports(self) -> list[_Port]:
        return [*self.ports, *(port for bus in self.buses for port in bus.ports())]


def _clocked(*names: str) -> tuple[_Port, ...]:
    return tuple(_Port(name, "I", "pl_clk0", role="clk") for name in names)


def _smart_connect(instance: str, slaves: list[_Bus], masters: list[_Bus]) -> _Module:
    return _Module(
        instance,
        "xilinx.com:ip:smartconnect:1.0",
        {"NUM_SI": len(slaves), "NUM_MI": len(masters)},
        (*_clocked("aclk"), _Port("aresetn", "I", "peripheral_aresetn", role="rst")),
        (*slaves, *masters),
    )


def _design(word_bits: int, value_format: str, interrupt_controller: bool) -> list[_Module]:
    def lite(name: str, driver: bool, net: str, prefix: str, address_bits: int) -> _Bus:
        return _Bus(name, driver, net, prefix, 32, address_bits, lite=True)

    def memory(name: str, driver: bool, net: str, prefix: str, data_bits: int) -> _Bus:
        return _Bus(name, driver, net, prefix, data_bits, 64)

    interface = INTERFACES[value_format]
    bundles = {name: BUNDLE_BITS[name] or word_bits for name in interface.bundles}
    slave = f"s_axi_{CONTROL_BUNDLE}"
    control_net = f"axi_control_{slave}"
    interrupt = "zipml_interrupt"
    ddr = [
        _Range(
            f"m_axi_{bundle}",
            PROCESSING_SYSTEM,
            "S_AXI_HP0_FPD",
            MEMORY_ADDRESS,
            MEMORY_RANGE,
            "MEMORY",
            "HP0_DDR_HIGH",
        )
        for bundle in bundles
    ]
    kernel = _Module(
        INSTANCE,
        VLNV[value_format],
        {
            "C_S_AXI_CONTROL_ADDR_WIDTH": interface.address_bits,
            "C_S_AXI_CONTROL_DATA_WIDTH": 32,
            **{f"C_M_AXI_{name.upper()}_ADDR_WIDTH": 64 for name in bundles},
            **{f"C_M_AXI_{name.upper()}_DATA_WIDTH": bits for name, bits in bundles.items()},
            "C_S_AXI_CONTROL_BASEADDR": f"0x{BASE_ADDRESS:08X}",
            "C_S_AXI_CONTROL_HIGHADDR": f"0x{BASE_ADDRESS + ADDRESS_RANGE - 1:08X}",
            "EDK_IPTYPE": "PERIPHERAL",
        },
        (
            *_clocked("ap_clk"),
            _Port("ap_rst_n", "I", "peripheral_aresetn", role="rst"),
            _Port("interrupt", "O", interrupt, role="INTERRUPT"),
        ),
        (
            lite(slave, False, control_net, f"{slave}_", interface.address_bits),
            *(
                memory(f"m_axi_{name}", True, f"m_axi_{name}", f"m_axi_{name}_", bits)
                for name, bits in bundles.items()
            ),
        ),
        tuple(ddr),
        tuple(_registers(interface)),
    )
    control_masters = [lite("M00_AXI", True, control_net, "M00_AXI_", interface.address_bits)]
    ranges = [_Range("M_AXI_HPM0_FPD", INSTANCE, slave, BASE_ADDRESS, ADDRESS_RANGE, "REGISTER")]
    controllers = []
    if interrupt_controller:
        net = f"axi_control_{INTERRUPT_CONTROLLER}"
        control_masters.append(lite("M01_AXI", True, net, "M01_AXI_", 9))
        ranges.append(
            _Range(
                "M_AXI_HPM0_FPD",
                INTERRUPT_CONTROLLER,
                "s_axi",
                INTERRUPT_CONTROLLER_ADDRESS,
                ADDRESS_RANGE,
                "REGISTER",
            )
        )
        controllers = [
            _Module(
                INTERRUPT_CONTROLLER,
                "xilinx.com:ip:axi_intc:4.1",
                {"C_NUM_INTR_INPUTS": 1},
                (
                    *_clocked("s_axi_aclk"),
                    _Port("s_axi_aresetn", "I", "peripheral_aresetn", role="rst"),
                    _Port("intr", "I", interrupt, role="INTERRUPT"),
                    _Port("irq", "O", "controller_irq", role="INTERRUPT"),
                ),
                (lite("s_axi", False, net, "s_axi_", 9),),
            )
        ]
        interrupt = "controller_irq"
    clocks: dict[str, object] = {}
    for i in range(4):
        clocks |= {
            f"PSU__FPGA_PL{i}_ENABLE": int(i == 0),
            f"PSU__CRL_APB__PL{i}_REF_CTRL__DIVISOR0": 15,
            f"PSU__CRL_APB__PL{i}_REF_CTRL__DIVISOR1": 1,
            f"PSU__CRL_APB__PL{i}_REF_CTRL__SRCSEL": "IOPLL",
            f"PSU__CRL_APB__PL{i}_REF_CTRL__ACT_FREQMHZ": CLOCK_MHZ,
        }
    system = _Module(
        PROCESSING_SYSTEM,
        "xilinx.com:ip:zynq_ultra_ps_e:3.5",
        clocks,
        (
            *_clocked("maxihpm0_fpd_aclk", "saxihp0_fpd_aclk"),
            _Port("pl_ps_irq0", "I", interrupt, role="INTERRUPT"),
            _Port("pl_resetn0", "O", "pl_resetn0", role="rst"),
            _Port("pl_clk0", "O", "pl_clk0", role="clk"),
        ),
        (
            _Bus("M_AXI_HPM0_FPD", True, "ps_M_AXI_HPM0_FPD", "maxigp0_", 128, 40),
            memory("S_AXI_HP0_FPD", False, "axi_memory_M00_AXI", "saxigp2_", 128),
        ),
        tuple(ranges),
        programmable_logic=False,
    )
    reset = _Module(
        "proc_sys_reset_0",
        "xilinx.com:ip:proc_sys_reset:5.0",
        {},
        (
            *_clocked("slowest_sync_clk"),
            _Port("ext_reset_in", "I", "pl_resetn0", role="rst"),
            _Port("peripheral_aresetn", "O", "peripheral_aresetn", role="rst"),
        ),
    )
    return [
        reset,
        _smart_connect(
            "axi_control",
            [_Bus("S00_AXI", False, "ps_M_AXI_HPM0_FPD", "S00_AXI_", 128, 40)],
            control_masters,
        ),
        _smart_connect(
            "axi_memory",
            [
                memory(f"S{i:02}_AXI", False, f"m_axi_{name}", f"S{i:02}_AXI_", bits)
                for i, (name, bits) in enumerate(bundles.items())
            ],
            [memory("M00_AXI", True, "axi_memory_M00_AXI", "M00_AXI_", 128)],
        ),
        *controllers,
        kernel,
        system,
    ]


# ---- XML -------------------------------------------------------------------------------------


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


def _register_xml(register: _Register) -> list[str]:
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


def _module_xml(module: _Module, nets: dict[str, list[tuple[str, _Port]]]) -> list[str]:
    name, version = module.vlnv.split(":")[2:]
    registers = [line for register in module.registers for line in _register_xml(register)]
    blocks: list[str] = []
    if registers:
        blocks = _tag(
            "ADDRESSBLOCK",
            {
                "ACCESS": "read-write",
                "INTERFACE": f"s_axi_{CONTROL_BUNDLE}",
                "NAME": "Reg",
                "RANGE": ADDRESS_RANGE,
                "USAGE": "register",
            },
            _tag("REGISTERS", {}, registers),
        )
    parameters: list[str] = []
    for key, value in module.parameters.items():
        parameters += _tag("PARAMETER", {"NAME": key, "VALUE": value})
    ports: list[str] = []
    for port in module.all_ports():
        connections: list[str] = []
        for instance, other in nets[port.net]:
            if other.direction != port.direction:
                connections += _tag("CONNECTION", {"INSTANCE": instance, "PORT": other.name})
        vector = {"LEFT": port.width - 1, "RIGHT": 0} if port.width > 1 else {}
        attributes = {"DIR": port.direction, "NAME": port.name, **vector}
        attributes |= {"SIGIS": port.role, "SIGNAME": port.net}
        ports += _tag("PORT", attributes, _tag("CONNECTIONS", {}, connections))
    buses: list[str] = []
    for bus in module.buses:
        maps: list[str] = []
        for signal, _, _ in bus.signals():
            maps += _tag("PORTMAP", {"LOGICAL": signal, "PHYSICAL": f"{bus.prefix}{signal}"})
        parameters_of_bus: list[str] = []
        for key, value in {
            "DATA_WIDTH": bus.data_bits,
            "ADDR_WIDTH": bus.address_bits,
            "PROTOCOL": "AXI4LITE" if bus.lite else "AXI4",
        }.items():
            parameters_of_bus += _tag("PARAMETER", {"NAME": key, "VALUE": value})
        buses += _tag(
            "BUSINTERFACE",
            {
                "BUSNAME": bus.net,
                "DATAWIDTH": bus.data_bits,
                "NAME": bus.name,
                "TYPE": "MASTER" if bus.driver else "SLAVE",
                "VLNV": "xilinx.com:interface:aximm:1.0",
            },
            [*parameters_of_bus, *_tag("PORTMAPS", {}, maps)],
        )
    memory: list[str] = []
    for r in module.ranges:
        memory += _tag(
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
            *_tag("ADDRESSBLOCKS", {}, blocks),
            *_tag("PARAMETERS", {}, parameters),
            *_tag("PORTS", {}, ports),
            *_tag("BUSINTERFACES", {}, buses),
            *_tag("MEMORYMAP", {}, memory),
        ],
    )


def hwh(word_bits: int, value_format: str, *, interrupt_controller: bool = False) -> str:
    """The ``.hwh`` of an emulated design.

    Parameters
    ----------
    word_bits : int
        Width of the planes port: 64, 128 or 512.
    value_format : {"bitplanes", "float32"}
        Which kernel the design holds.
    interrupt_controller : bool
        Route the kernel's interrupt through an AXI interrupt controller, which is what
        ``pynq.Interrupt`` needs, instead of to the processing system.

    Returns
    -------
    str
        The same text at every call.
    """
    check_build(word_bits, value_format)
    modules = _design(word_bits, value_format, interrupt_controller)
    nets: dict[str, list[tuple[str, _Port]]] = {}
    for module in modules:
        for port in module.all_ports():
            nets.setdefault(port.net, []).append((module.instance, port))
    name = overlay_name(word_bits, value_format)
    body = [
        *_tag("SYSTEMINFO", {"ARCH": "zynquplus", "DEVICE": "emulated", "NAME": name}),
        *_tag("EXTERNALPORTS", {}),
        *_tag("EXTERNALINTERFACES", {}),
        *_tag("MODULES", {}, [line for module in modules for line in _module_xml(module, nets)]),
    ]
    lines = [
        '<?xml version="1.0" encoding="UTF-8" standalone="no" ?>',
        "<!-- Written by zipml_pynq.hwh for the emulated board; do not edit. -->",
        *_tag("EDKSYSTEM", {"EDWVERSION": "1.2"}, body),
    ]
    return "\n".join(lines) + "\n"


# ---- Bitstreams ------------------------------------------------------------------------------

#: First words of an emulated bitstream's configuration data.
MAGIC = "zipml emulated bitstream"


def bitstream(word_bits: int, value_format: str) -> bytes:
    """The ``.bit`` of an emulated design: the header that pynq reads, and one line of data."""
    check_build(word_bits, value_format)
    data = f"{MAGIC} {VLNV[value_format]} {word_bits}".encode()
    data += b" " * (-len(data) % 4)
    name = overlay_name(word_bits, value_format)
    header = struct.pack(">H9sH", 9, bytes.fromhex("0ff00ff00ff00ff000"), 1)
    for key, text in (
        (b"a", f"{name};UserID=0XFFFFFFFF;Version=emulated"),
        (b"b", "emulated"),
        (b"c", "2000/01/01"),  # not today: the files are the same whenever they are written
        (b"d", "00:00:00"),
    ):
        header += key + struct.pack(">H", len(text) + 1) + text.encode() + b"\0"
    return header + b"e" + struct.pack(">I", len(data)) + data


def read_configuration(data: bytes) -> tuple[int, str]:
    """Word width and value format in the configuration data of an emulated bitstream.

    Parameters
    ----------
    data : bytes
        As pynq gives it to a board: the data of the ``.bit``, the bytes of each word swapped.

    Raises
    ------
    OverlayMismatchError
        It is not one that :func:`bitstream` wrote.
    """
    words = b"".join(data[i : i + 4][::-1] for i in range(0, min(len(data), 256), 4))
    _, _, rest = words.decode("ascii", "replace").partition(MAGIC)
    try:
        vlnv, width = rest.split()
        found = int(width), VALUE_FORMATS[vlnv]
        check_build(*found)
    except (ValueError, KeyError, ArgumentError) as error:
        raise OverlayMismatchError(
            f"the bitstream, {len(data)} bytes, is none for an emulated board; those are shipped "
            "in zipml_pynq/overlays, and bitstreams for hardware run on hardware"
        ) from error
    return found


# ---- Files -----------------------------------------------------------------------------------


def shipped() -> dict[str, bytes]:
    """Contents of every file that the package ships, by name."""
    files = {}
    for value_format in VLNV:
        for word_bits in WORD_BITS:
            name = overlay_name(word_bits, value_format)
            files[f"{name}.hwh"] = hwh(word_bits, value_format).encode()
            files[f"{name}.bit"] = bitstream(word_bits, value_format)
    return files


def write(folder: Path = OVERLAYS) -> None:
    """Write the shipped overlays: every ``.hwh`` and the ``.bit`` beside it."""
    folder.mkdir(exist_ok=True)
    for name, contents in shipped().items():
        (folder / name).write_bytes(contents)


if __name__ == "__main__":
    write()
