"""The block design of the emulated board, as Vivado would have it: modules, buses, addresses.

It is the smallest that carries the kernels: a Zynq UltraScale+ processing system, one SmartConnect
for the registers, one for the memory ports of each kernel, which go to a port of the processing
system of their own, and a reset block.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from zipml_pynq.accelerator.interface import (
    BUNDLE_BITS,
    CONTROL_BUNDLE,
    INTERFACES,
    VLNV,
    Interface,
    word_names,
)
from zipml_pynq.data.checks import check_int

#: Instance names in the design; kernels are numbered (:func:`instance`).
INSTANCE = "zipml_sgd_0"
PROCESSING_SYSTEM = "zynq_ultra_ps_e_0"
INTERRUPT_CONTROLLER = "axi_intc_0"
#: Kernels that one design may hold: as many as the processing system has ports to its memory.
MOST_KERNELS = 4
#: Where the processing system sees the registers of the first kernel; those of the others follow,
#: then those of the interrupt controller.
BASE_ADDRESS = 0xA000_0000
ADDRESS_RANGE = 0x1_0000
#: Memory that the kernel's ports reach: the upper DDR of a Zynq UltraScale+, so that addresses take
#: both words of a pointer register.
MEMORY_ADDRESS = 0x8_0000_0000
MEMORY_RANGE = 0x8_0000_0000
#: What buffers in it are rounded up to, in bytes.
PAGE = 4096
#: Frequency of the kernel's clock in the emulated design, in MHz.
CLOCK_MHZ = 100


def check_kernels(kernels: int) -> int:
    """A number of kernels that a design may hold.

    Raises
    ------
    ArgumentError
        It is another.
    """
    return check_int("kernels", kernels, 1, MOST_KERNELS)


def overlay_name(word_bits: int, value_format: str, kernels: int = 1) -> str:
    """Name, without suffix, of an overlay: ``zipml_sgd_64``, ``zipml_sgd_f32_128_x4``."""
    name = f"{VLNV[value_format].split(':')[2]}_{word_bits}"
    return name if kernels == 1 else f"{name}_x{kernels}"


def instance(number: int) -> str:
    """Name of a kernel in the design, numbered from 0."""
    return INSTANCE.replace("0", str(number))


def address(number: int) -> int:
    """Where its registers are; behind the last kernel's those of the interrupt controller."""
    return BASE_ADDRESS + number * ADDRESS_RANGE


@dataclass(frozen=True)
class Field:
    name: str
    offset: int
    width: int
    access: str
    doc: str


@dataclass(frozen=True)
class Register:
    name: str
    offset: int
    access: str
    doc: str
    fields: tuple[Field, ...]


def _flags(names: Iterable[tuple[str, int, str, str]]) -> tuple[Field, ...]:
    return tuple(Field(name, bit, 1, access, doc) for name, bit, access, doc in names)


#: The control registers as Vitis HLS describes them.
_CONTROL_REGISTERS = (
    Register(
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
    Register(
        "GIER",
        0x04,
        "read-write",
        "Global Interrupt Enable Register",
        _flags([("Enable", 0, "read-write", "Enables the interrupt output.")]),
    ),
    Register(
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
    Register(
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
)


def _registers(interface: Interface) -> list[Register]:
    """The control registers, then one register a word of data."""
    registers = list(_CONTROL_REGISTERS)
    for argument in interface.arguments:
        output = argument.kind == "output"
        for i, name in enumerate(word_names(argument)):
            bits = f"{32 * i + 31} to {32 * i}"
            access = "read-only" if output else "read-write"
            registers.append(
                Register(
                    name,
                    interface.offsets[argument.name] + 4 * i,
                    access,
                    f"Data signal of {argument.name}",
                    (Field(argument.name, 0, 32, access, f"Bits {bits}: {argument.doc}"),),
                )
            )
        if output:
            registers.append(
                Register(
                    f"{argument.name}_ctrl",
                    interface.valid_offsets[argument.name],
                    "read-only",
                    f"Control signal of {argument.name}",
                    (
                        Field(
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


@dataclass(frozen=True)
class Port:
    """A physical port; ports with the same ``net`` are connected."""

    name: str
    direction: str
    net: str
    width: int = 1
    role: str = "undef"


@dataclass(frozen=True)
class Bus:
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

    def ports(self) -> list[Port]:
        return [
            Port(
                f"{self.prefix}{name}",
                "O" if from_master == self.driver else "I",
                f"{self.net}_{name}",
                width,
            )
            for name, from_master, width in self.signals()
        ]


@dataclass(frozen=True)
class Range:
    """An address range that a master of the module reaches."""

    master: str
    instance: str
    slave: str
    base: int
    size: int
    kind: str
    block: str = "Reg"


@dataclass(frozen=True)
class Module:
    instance: str
    vlnv: str
    parameters: dict[str, object] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    buses: tuple[Bus, ...] = ()
    ranges: tuple[Range, ...] = ()
    registers: tuple[Register, ...] = ()
    programmable_logic: bool = True

    def all_ports(self) -> list[Port]:
        return [*self.ports, *(port for bus in self.buses for port in bus.ports())]


def _clocked(*names: str) -> tuple[Port, ...]:
    return tuple(Port(name, "I", "pl_clk0", role="clk") for name in names)


def _smart_connect(instance: str, slaves: list[Bus], masters: list[Bus]) -> Module:
    return Module(
        instance,
        "xilinx.com:ip:smartconnect:1.0",
        {"NUM_SI": len(slaves), "NUM_MI": len(masters)},
        (*_clocked("aclk"), Port("aresetn", "I", "peripheral_aresetn", role="rst")),
        (*slaves, *masters),
    )


def _lite(name: str, driver: bool, net: str, prefix: str, address_bits: int) -> Bus:
    return Bus(name, driver, net, prefix, 32, address_bits, lite=True)


def _memory(name: str, driver: bool, net: str, prefix: str, data_bits: int) -> Bus:
    return Bus(name, driver, net, prefix, data_bits, 64)


#: The kernels' control port, and the nets of interrupts.
_CONTROL = f"s_axi_{CONTROL_BUNDLE}"
_CONTROLLER_NET = f"axi_control_{INTERRUPT_CONTROLLER}"
_INTERRUPTS, _CONTROLLER_INTERRUPT = "interrupts", "controller_irq"


def _control_net(kernel: int) -> str:
    return f"axi_control_{instance(kernel)}"


def _interrupt_net(kernel: int, kernels: int) -> str:
    """The net of a kernel's interrupt; of several they are brought together."""
    return _INTERRUPTS if kernels == 1 else f"{instance(kernel)}_interrupt"


def _memory_net(kernel: int, bundle: str) -> str:
    return f"{instance(kernel)}_m_axi_{bundle}"


def _port_net(kernel: int) -> str:
    return f"axi_memory_{kernel}_M00_AXI"


def _kernel(number: int, kernels: int, value_format: str, bundles: dict[str, int]) -> Module:
    """One of the kernels; ``bundles`` are the widths of its memory ports."""
    interface = INTERFACES[value_format]
    return Module(
        instance(number),
        VLNV[value_format],
        {
            "C_S_AXI_CONTROL_ADDR_WIDTH": interface.address_bits,
            "C_S_AXI_CONTROL_DATA_WIDTH": 32,
            **{f"C_M_AXI_{name.upper()}_ADDR_WIDTH": 64 for name in bundles},
            **{f"C_M_AXI_{name.upper()}_DATA_WIDTH": bits for name, bits in bundles.items()},
            "C_S_AXI_CONTROL_BASEADDR": f"0x{address(number):08X}",
            "C_S_AXI_CONTROL_HIGHADDR": f"0x{address(number + 1) - 1:08X}",
            "EDK_IPTYPE": "PERIPHERAL",
        },
        (
            *_clocked("ap_clk"),
            Port("ap_rst_n", "I", "peripheral_aresetn", role="rst"),
            Port("interrupt", "O", _interrupt_net(number, kernels), role="INTERRUPT"),
        ),
        (
            _lite(_CONTROL, False, _control_net(number), f"{_CONTROL}_", interface.address_bits),
            *(
                _memory(f"m_axi_{name}", True, _memory_net(number, name), f"m_axi_{name}_", bits)
                for name, bits in bundles.items()
            ),
        ),
        tuple(
            Range(
                f"m_axi_{bundle}",
                PROCESSING_SYSTEM,
                f"S_AXI_HP{number}_FPD",
                MEMORY_ADDRESS,
                MEMORY_RANGE,
                "MEMORY",
                f"HP{number}_DDR_HIGH",
            )
            for bundle in bundles
        ),
        tuple(_registers(interface)),
    )


def _concat(kernels: int) -> Module:
    """What makes one vector of the kernels' interrupts."""
    ins = [
        Port(f"In{i}", "I", _interrupt_net(i, kernels), role="INTERRUPT") for i in range(kernels)
    ]
    return Module(
        "xlconcat_0",
        "xilinx.com:ip:xlconcat:2.1",
        {"NUM_PORTS": kernels, "dout_width": kernels},
        (*ins, Port("dout", "O", _INTERRUPTS, kernels)),
    )


def _interrupt_controller(kernels: int) -> Module:
    return Module(
        INTERRUPT_CONTROLLER,
        "xilinx.com:ip:axi_intc:4.1",
        {"C_NUM_INTR_INPUTS": kernels},
        (
            *_clocked("s_axi_aclk"),
            Port("s_axi_aresetn", "I", "peripheral_aresetn", role="rst"),
            Port("intr", "I", _INTERRUPTS, kernels, role="INTERRUPT"),
            Port("irq", "O", _CONTROLLER_INTERRUPT, role="INTERRUPT"),
        ),
        (_lite("s_axi", False, _CONTROLLER_NET, "s_axi_", 9),),
    )


def _processing_system(
    interrupt: Port, kernels: int, peripherals: dict[str, tuple[str, int]]
) -> Module:
    """The processing system; ``peripherals`` are the slave port and address of each instance."""
    numbers = range(kernels)
    clocks: dict[str, object] = {}
    for i in range(4):
        clocks |= {
            f"PSU__FPGA_PL{i}_ENABLE": int(i == 0),
            f"PSU__CRL_APB__PL{i}_REF_CTRL__DIVISOR0": 15,
            f"PSU__CRL_APB__PL{i}_REF_CTRL__DIVISOR1": 1,
            f"PSU__CRL_APB__PL{i}_REF_CTRL__SRCSEL": "IOPLL",
            f"PSU__CRL_APB__PL{i}_REF_CTRL__ACT_FREQMHZ": CLOCK_MHZ,
        }
    return Module(
        PROCESSING_SYSTEM,
        "xilinx.com:ip:zynq_ultra_ps_e:3.5",
        clocks,
        (
            *_clocked("maxihpm0_fpd_aclk", *(f"saxihp{i}_fpd_aclk" for i in numbers)),
            interrupt,
            Port("pl_resetn0", "O", "pl_resetn0", role="rst"),
            Port("pl_clk0", "O", "pl_clk0", role="clk"),
        ),
        (
            Bus("M_AXI_HPM0_FPD", True, "ps_M_AXI_HPM0_FPD", "maxigp0_", 128, 40),
            *(
                _memory(f"S_AXI_HP{i}_FPD", False, _port_net(i), f"saxigp{i + 2}_", 128)
                for i in numbers
            ),
        ),
        tuple(
            Range("M_AXI_HPM0_FPD", instance, slave, base, ADDRESS_RANGE, "REGISTER")
            for instance, (slave, base) in peripherals.items()
        ),
        programmable_logic=False,
    )


def _reset() -> Module:
    return Module(
        "proc_sys_reset_0",
        "xilinx.com:ip:proc_sys_reset:5.0",
        {},
        (
            *_clocked("slowest_sync_clk"),
            Port("ext_reset_in", "I", "pl_resetn0", role="rst"),
            Port("peripheral_aresetn", "O", "peripheral_aresetn", role="rst"),
        ),
    )


def design(
    word_bits: int, value_format: str, interrupt_controller: bool, kernels: int = 1
) -> list[Module]:
    """The modules of the design, in the order of the ``.hwh``."""
    interface = INTERFACES[value_format]
    bundles = {name: BUNDLE_BITS[name] or word_bits for name in interface.bundles}
    numbers = range(kernels)
    masters = [
        _lite(f"M{i:02}_AXI", True, _control_net(i), f"M{i:02}_AXI_", interface.address_bits)
        for i in numbers
    ]
    peripherals = {instance(i): (_CONTROL, address(i)) for i in numbers}
    interrupt = Port("pl_ps_irq0", "I", _INTERRUPTS, kernels, role="INTERRUPT")
    if interrupt_controller:
        name = f"M{kernels:02}_AXI"
        masters.append(_lite(name, True, _CONTROLLER_NET, f"{name}_", 9))
        peripherals[INTERRUPT_CONTROLLER] = ("s_axi", address(kernels))
        interrupt = Port("pl_ps_irq0", "I", _CONTROLLER_INTERRUPT, role="INTERRUPT")
    return [
        _reset(),
        _smart_connect(
            "axi_control",
            [Bus("S00_AXI", False, "ps_M_AXI_HPM0_FPD", "S00_AXI_", 128, 40)],
            masters,
        ),
        *(
            _smart_connect(
                f"axi_memory_{number}",
                [
                    _memory(f"S{i:02}_AXI", False, _memory_net(number, name), f"S{i:02}_AXI_", bits)
                    for i, (name, bits) in enumerate(bundles.items())
                ],
                [_memory("M00_AXI", True, _port_net(number), "M00_AXI_", 128)],
            )
            for number in numbers
        ),
        *([_concat(kernels)] if kernels > 1 else []),
        *([_interrupt_controller(kernels)] if interrupt_controller else []),
        *(_kernel(number, kernels, value_format, bundles) for number in numbers),
        _processing_system(interrupt, kernels, peripherals),
    ]
