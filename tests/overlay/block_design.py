"""A block design as its Tcl commands describe it, and what is wrong with it.

Vivado is not at hand, so its part is modelled: what pins, interfaces and address segments an IP has
under its configuration (PG082 for the Zynq-7000 processing system, PG201 for UltraScale+, PG247,
PG164, PG099, and the register description for the kernel), and what ``validate_bd_design`` and a
designer look for. Names of pins and segments were compared with public designs of PYNQ boards
(Xilinx/PYNQ, Xilinx/Kria-PYNQ). The model is strict where Vivado has defaults: what a design
depends on has to be set.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.overlay.vendor import Command
from zipml_pynq.accelerator.interface import (
    BUNDLE_BITS,
    CONTROL_BUNDLE,
    INTERFACES,
    VALUE_FORMATS,
    VLNV,
)

Config = dict[str, str]

#: Options without which a command would mean something else, or nothing.
NEEDED: dict[str, set[str]] = {
    "create_bd_cell": {"-type", "-vlnv"},
    "apply_bd_automation": {"-rule", "-config"},
    "assign_bd_address": {"-target_address_space", "-offset", "-range"},
}


@dataclass(frozen=True)
class Pin:
    """A pin: ``kind`` is "clk", "rst" or "intr"."""

    kind: str
    output: bool = False


@dataclass(frozen=True)
class Interface:
    """An AXI interface.

    ``clock`` is the pin that it runs on. A master that starts transfers has an address ``space``,
    and the processing system's a ``window`` (first, last) of addresses; a slave that ends them has
    ``segments`` with their sizes, 0 for one that takes any, and ``others`` to be left out.
    """

    master: bool
    bits: int
    clock: str
    space: str = ""
    window: tuple[int, int] | None = None
    segments: dict[str, int] = field(default_factory=dict)
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ip:
    """What one instance looks like from outside."""

    pins: dict[str, Pin]
    interfaces: dict[str, Interface]
    memory: bool = False  # its slaves are memory ports of a processing system
    external: tuple[str, ...] = ()  # interfaces that have to leave the device


# ---- IPs -------------------------------------------------------------------------------------


def _processing_system7(config: Config) -> Ip:
    def on(name: str) -> bool:
        return config.get(f"PCW_{name}") == "1"

    pins: dict[str, Pin] = {}
    interfaces: dict[str, Interface] = {}
    if on("EN_CLK0_PORT"):
        pins["FCLK_CLK0"] = Pin("clk", output=True)
    if on("EN_RST0_PORT"):
        pins["FCLK_RESET0_N"] = Pin("rst", output=True)
    for i, window in enumerate([(0x4000_0000, 0x7FFF_FFFF), (0x8000_0000, 0xBFFF_FFFF)]):
        if on(f"USE_M_AXI_GP{i}"):
            pins[f"M_AXI_GP{i}_ACLK"] = Pin("clk")
            interfaces[f"M_AXI_GP{i}"] = Interface(
                True, 32, f"M_AXI_GP{i}_ACLK", space="Data", window=window
            )
    for i in range(4):
        if on(f"USE_S_AXI_HP{i}"):
            pins[f"S_AXI_HP{i}_ACLK"] = Pin("clk")
            bits = int(config.get(f"PCW_S_AXI_HP{i}_DATA_WIDTH", "0"))
            interfaces[f"S_AXI_HP{i}"] = Interface(
                False,
                bits,
                f"S_AXI_HP{i}_ACLK",
                segments={f"S_AXI_HP{i}/HP{i}_DDR_LOWOCM": 512 << 20},
            )
    if on("USE_FABRIC_INTERRUPT") and on("IRQ_F2P_INTR"):
        pins["IRQ_F2P"] = Pin("intr")
    return Ip(pins, interfaces, memory=True, external=("FIXED_IO", "DDR"))


def _zynq_ultra_ps_e(config: Config) -> Ip:
    def on(name: str, default: str = "0") -> bool:
        return config.get(f"PSU__{name}", default) == "1"

    pins: dict[str, Pin] = {}
    interfaces: dict[str, Interface] = {}
    if on("FPGA_PL0_ENABLE"):
        pins["pl_clk0"] = Pin("clk", output=True)
        pins["pl_resetn0"] = Pin("rst", output=True)
    masters = [
        ("M_AXI_HPM0_FPD", "maxihpm0_fpd_aclk", (0xA000_0000, 0xAFFF_FFFF)),
        ("M_AXI_HPM1_FPD", "maxihpm1_fpd_aclk", (0xB000_0000, 0xBFFF_FFFF)),
        ("M_AXI_HPM0_LPD", "maxihpm0_lpd_aclk", (0x8000_0000, 0x9FFF_FFFF)),
    ]
    for i, (name, clock, window) in enumerate(masters):
        # both of the full-power domain are there unless they are turned off
        if on(f"USE__M_AXI_GP{i}", default="1" if i < 2 else "0"):
            pins[clock] = Pin("clk")
            interfaces[name] = Interface(True, 128, clock, space="Data", window=window)
    for i in range(4):
        if on(f"USE__S_AXI_GP{i + 2}"):
            pins[f"saxihp{i}_fpd_aclk"] = Pin("clk")
            interfaces[f"S_AXI_HP{i}_FPD"] = Interface(
                False,
                int(config.get(f"PSU__SAXIGP{i + 2}__DATA_WIDTH", "0")),
                f"saxihp{i}_fpd_aclk",
                segments={f"SAXIGP{i + 2}/HP{i}_DDR_LOW": 2 << 30},
                others=tuple(
                    f"SAXIGP{i + 2}/HP{i}_{part}" for part in ("DDR_HIGH", "LPS_OCM", "QSPI")
                ),
            )
    if on("USE__IRQ0"):
        pins["pl_ps_irq0"] = Pin("intr")
    return Ip(pins, interfaces, memory=True)


def _smartconnect(config: Config) -> Ip:
    def side(prefix: str, count: str, master: bool) -> dict[str, Interface]:
        return {
            f"{prefix}{i:02}_AXI": Interface(master, 0, "aclk")
            for i in range(int(config.get(count, "1")))
        }

    return Ip(
        {"aclk": Pin("clk"), "aresetn": Pin("rst")},
        {**side("S", "NUM_SI", False), **side("M", "NUM_MI", True)},
    )


def _proc_sys_reset(config: Config) -> Ip:
    return Ip(
        {
            "slowest_sync_clk": Pin("clk"),
            "ext_reset_in": Pin("rst"),
            "peripheral_aresetn": Pin("rst", output=True),
        },
        {},
    )


def _axi_intc(config: Config) -> Ip:
    pins = {"s_axi_aclk": Pin("clk"), "s_axi_aresetn": Pin("rst"), "intr": Pin("intr")}
    if config.get("C_IRQ_CONNECTION") == "1":
        pins["irq"] = Pin("intr", output=True)
    slave = Interface(False, 32, "s_axi_aclk", segments={"S_AXI/Reg": 0})
    return Ip(pins, {"s_axi": slave})


def _xlconcat(config: Config) -> Ip:
    ins = {f"In{i}": Pin("intr") for i in range(int(config.get("NUM_PORTS", "0")))}
    return Ip({**ins, "dout": Pin("intr", output=True)}, {})


def _kernel(word_bits: int, vlnv: str) -> Callable[[Config], Ip]:
    def ip(config: Config) -> Ip:
        slave = f"s_axi_{CONTROL_BUNDLE}"
        interfaces = {slave: Interface(False, 32, "ap_clk", segments={f"{slave}/Reg": 0})}
        for bundle in INTERFACES[VALUE_FORMATS[vlnv]].bundles:
            name, bits = f"m_axi_{bundle}", BUNDLE_BITS[bundle] or word_bits
            interfaces[name] = Interface(True, bits, "ap_clk", space=f"Data_{name}")
        pins = {"ap_clk": Pin("clk"), "ap_rst_n": Pin("rst"), "interrupt": Pin("intr", True)}
        return Ip(pins, interfaces)

    return ip


def catalog(word_bits: int) -> dict[str, Callable[[Config], Ip]]:
    """The IPs by VLNV; a script may leave a vendor's version out."""
    vendor = {
        "processing_system7:5.5": _processing_system7,
        "zynq_ultra_ps_e:3.5": _zynq_ultra_ps_e,
        "smartconnect:1.0": _smartconnect,
        "proc_sys_reset:5.0": _proc_sys_reset,
        "axi_intc:4.1": _axi_intc,
        "xlconcat:2.1": _xlconcat,
    }
    ips = {f"xilinx.com:ip:{name}": ip for name, ip in vendor.items()}
    ips |= {name.rpartition(":")[0]: ip for name, ip in ips.items()}
    return ips | {vlnv: _kernel(word_bits, vlnv) for vlnv in VLNV.values()}


# ---- The design ------------------------------------------------------------------------------


def size_of(text: str) -> int:
    """Bytes of a range such as ``64K`` or ``0x10000``."""
    units = {"K": 10, "M": 20, "G": 30}
    if text[-1] in units:
        return int(text[:-1], 0) << units[text[-1]]
    return int(text, 0)


@dataclass(frozen=True)
class Segment:
    """A segment of a slave in a master's address space."""

    space: str
    segment: str
    offset: int
    size: int


class BlockDesign:
    """A design from its record; :meth:`problems` tells what is wrong with it."""

    def __init__(self, commands: Iterable[Command], word_bits: int) -> None:
        self.word_bits = word_bits
        self.vlnv: dict[str, str] = {}
        self.config: dict[str, Config] = {}
        self.external: dict[str, set[str]] = {}
        self.presets: set[str] = set()
        self.nets: list[set[str]] = []
        self.links: list[tuple[str, str]] = []
        self.segments: list[Segment] = []
        self.excluded: set[tuple[str, str]] = set()
        self.found: list[str] = []
        created = validated = False
        for command in commands:
            if command.name == "create_bd_design":
                created = True
            elif command.name == "validate_bd_design":
                validated = True
            elif not self._apply(command):
                continue
            elif validated or not created:
                self.found.append(f"{command} is not between creation and validation")
        if not validated:
            self.found.append("the design is not validated")
        ips = catalog(word_bits)
        self.ips: dict[str, Ip] = {}
        for cell, vlnv in self.vlnv.items():
            if vlnv in ips:
                self.ips[cell] = ips[vlnv](self.config[cell])
            else:
                self.found.append(f"{cell} has the unknown VLNV {vlnv}")
        self.pins = {f"{c}/{n}": pin for c, ip in self.ips.items() for n, pin in ip.pins.items()}
        self.interfaces = {
            f"{c}/{n}": port for c, ip in self.ips.items() for n, port in ip.interfaces.items()
        }

    def _apply(self, command: Command) -> bool:
        """Take a command in; False if it does not change the design."""
        arguments = command.arguments
        if not NEEDED.get(command.name, set()) <= set(arguments):
            self.found.append(f"{command} needs {sorted(NEEDED[command.name])}")
            return True
        if command.name == "create_bd_cell":
            cell = arguments[-1]
            if cell in self.vlnv:
                self.found.append(f"{cell} is there twice")
            if not re.fullmatch(r"\w+", cell):
                self.found.append(f"{cell!r} is no name")
            self.vlnv[cell] = command.option("-vlnv")
            self.config[cell] = {}
        elif command.name == "set_property" and "CONFIG." in " ".join(arguments):
            cell = arguments[-1]
            pairs = re.findall(r"CONFIG\.(\w+) (\{.*?\}|\S+)", " ".join(arguments[:-1]))
            if cell not in self.config:
                self.found.append(f"{command}: there is no such cell")
            self.config.setdefault(cell, {}).update({k: v.strip("{}") for k, v in pairs})
        elif command.name == "apply_bd_automation":
            config = command.option("-config")
            made = re.search(r"make_external \{(.*?)\}", config)
            if made:
                self.external[arguments[-1]] = set(made.group(1).split(", "))
            if "apply_board_preset 1" in config:
                self.presets.add(arguments[-1])
        elif command.name == "connect_bd_net":
            joined = set(arguments)
            apart = [net for net in self.nets if not net & joined]
            self.nets = [*apart, joined.union(*(net for net in self.nets if net & joined))]
        elif command.name == "connect_bd_intf_net":
            first, second = arguments
            self.links.append((first, second))
        elif command.name == "assign_bd_address":
            self.segments.append(
                Segment(
                    command.option("-target_address_space"),
                    arguments[-1],
                    int(command.option("-offset"), 0),
                    size_of(command.option("-range")),
                )
            )
        elif command.name == "exclude_bd_addr_seg":
            self.excluded.add((command.option("-target_address_space"), arguments[-1]))
        else:
            return False
        return True

    def cells(self, name: str) -> list[str]:
        """Instances of an IP by the third part of its VLNV."""
        return [cell for cell, vlnv in self.vlnv.items() if vlnv.split(":")[2] == name]

    def driver(self, pin: str) -> str | None:
        """The output that drives a pin."""
        for net in self.nets:
            if pin in net:
                drivers = [p for p in net if p in self.pins and self.pins[p].output]
                return drivers[0] if len(drivers) == 1 else None
        return None

    def peer(self, port: str) -> str | None:
        """The interface that one is connected to."""
        for pair in self.links:
            if port in pair:
                return pair[1 - pair.index(port)]
        return None

    def ends(self, master: str) -> list[str]:
        """The slaves at the end of a master's paths, through interconnects."""
        slave = self.peer(master)
        if slave is None or slave not in self.interfaces:
            return []
        cell = slave.partition("/")[0]
        if "smartconnect" not in self.vlnv[cell]:
            return [slave]
        outputs = [f"{cell}/{n}" for n, port in self.ips[cell].interfaces.items() if port.master]
        return [end for output in outputs for end in self.ends(output)]

    # ---- checks ------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Everything that is wrong; empty for a design that could be built."""
        return [
            *self.found,
            *self._nets(),
            *self._clocks_and_resets(),
            *self._links(),
            *self._addresses(),
            *self._interrupts(),
            *self._external(),
        ]

    def _nets(self) -> Iterable[str]:
        for net in self.nets:
            for pin in net - set(self.pins):
                yield f"there is no pin {pin}"
            known = [pin for pin in net if pin in self.pins]
            if len([pin for pin in known if self.pins[pin].output]) != 1:
                yield f"a net has not one driver: {sorted(net)}"
            if len({self.pins[pin].kind for pin in known}) > 1:
                yield f"a net joins different kinds of pins: {sorted(net)}"
        for pin, what in self.pins.items():
            if not what.output and self.driver(pin) is None:
                yield f"{pin} is not driven"

    def _clocks_and_resets(self) -> Iterable[str]:
        inputs = [p for p, what in self.pins.items() if not what.output]
        clocks = {self.driver(pin) for pin in inputs if self.pins[pin].kind == "clk"} - {None}
        if len(clocks) != 1:
            yield f"one clock for everything was expected, found {sorted(map(str, clocks))}"
        for pin in inputs:
            source = self.driver(pin)
            if self.pins[pin].kind != "rst" or source is None:
                continue
            cell = source.partition("/")[0]
            raw = pin.endswith("/ext_reset_in")
            if raw != self.ips[cell].memory:
                yield f"{pin} is reset by {source}"

    def _links(self) -> Iterable[str]:
        for first, second in self.links:
            missing = [port for port in (first, second) if port not in self.interfaces]
            if missing:
                yield f"there is no interface {', '.join(missing)}"
            elif self.interfaces[first].master == self.interfaces[second].master:
                yield f"{first} and {second} are of the same kind"
        for port in self.interfaces:
            count = sum(port in pair for pair in self.links)
            if count != 1:
                yield f"{port} has {count} connections"
            if self.interfaces[port].segments and not self.interfaces[port].bits:
                yield f"{port} has no width"
        for cell in self.cells("smartconnect"):
            if len({port.master for port in self.ips[cell].interfaces.values()}) != 2:
                yield f"{cell} has interfaces on one side only"
        for cell in self.kernels():
            masters = {n: port for n, port in self.ips[cell].interfaces.items() if port.master}
            ends = {name: self.ends(f"{cell}/{name}") for name in masters}
            for name, port in masters.items():
                if len(ends[name]) != 1 or not self.ips[ends[name][0].partition("/")[0]].memory:
                    yield f"{cell}/{name} does not reach memory"
                elif port.bits == self.word_bits:
                    (end,) = ends[name]
                    if self.interfaces[end].bits != port.bits:
                        yield f"{end} has {self.interfaces[end].bits} bits, not {port.bits}"
                    if list(ends.values()).count([end]) != 1:
                        yield f"{cell}/{name} shares {end}"
        if not self.kernels():
            yield "there is no kernel"

    def kernels(self) -> list[str]:
        """Instances of our kernels."""
        return [c for c, vlnv in self.vlnv.items() if vlnv in VLNV.values() and c in self.ips]

    def _addresses(self) -> Iterable[str]:
        spaces = {
            f"{port.partition('/')[0]}/{what.space}": port
            for port, what in self.interfaces.items()
            if what.space
        }
        reached: dict[str, set[str]] = {}
        left: set[tuple[str, str]] = set()
        sizes: dict[str, int] = {}
        for space, master in spaces.items():
            for end in self.ends(master):
                cell = end.partition("/")[0]
                left |= {(space, f"{cell}/{name}") for name in self.interfaces[end].others}
                for name, size in self.interfaces[end].segments.items():
                    reached.setdefault(space, set()).add(f"{cell}/{name}")
                    sizes[f"{cell}/{name}"] = size
        if left != self.excluded:
            yield f"neither placed nor left out, or not there: {sorted(left ^ self.excluded)}"
        for s in self.segments:
            if s.space not in spaces:
                yield f"there is no address space {s.space}"
                continue
            if s.segment not in reached.get(s.space, set()):
                yield f"{s.space} does not reach {s.segment}"
            if s.offset % s.size:
                yield f"{s.segment} at {s.offset:#x} is not aligned to {s.size:#x}"
            if sizes.get(s.segment) and s.size != sizes[s.segment]:
                yield f"{s.segment} has {s.size:#x} bytes, not {sizes[s.segment]:#x}"
            window = self.interfaces[spaces[s.space]].window
            if window and not window[0] <= s.offset <= s.offset + s.size - 1 <= window[1]:
                yield f"{s.segment} at {s.offset:#x} is outside of {s.space}'s window"
        for space, segments in reached.items():
            placed = [s for s in self.segments if s.space == space]
            for segment in segments:
                if [s.segment for s in placed].count(segment) != 1:
                    yield f"{segment} is not placed once in {space}"
            ordered = sorted(placed, key=lambda s: s.offset)
            for low, high in itertools.pairwise(ordered):
                if low.offset + low.size > high.offset:
                    yield f"{low.segment} and {high.segment} overlap in {space}"

    def _interrupts(self) -> Iterable[str]:
        """The way that pynq follows: processing system, controller, kernel."""
        controllers = self.cells("axi_intc")
        if not controllers:
            yield "there is no interrupt controller"
        served = [self._sources(f"{cell}/intr") for cell in controllers]
        if sorted(itertools.chain(*served)) != sorted(self.kernels()):
            yield f"the controller serves {served}"
        for cell, ip in self.ips.items():
            takes = [n for n, pin in ip.pins.items() if pin.kind == "intr" and not pin.output]
            if ip.memory and not takes:
                yield f"{cell} takes no interrupt"
            for name in takes if ip.memory else []:
                if str(self.driver(f"{cell}/{name}")).partition("/")[0] not in controllers:
                    yield f"{cell}/{name} is driven by no controller"

    def _sources(self, pin: str) -> list[str]:
        """The cells whose interrupts a pin gets, one by one."""
        cell = str(self.driver(pin)).partition("/")[0]
        if cell in self.cells("xlconcat"):
            ins = [n for n, what in self.ips[cell].pins.items() if not what.output]
            return [source for name in ins for source in self._sources(f"{cell}/{name}")]
        return [cell]

    def _external(self) -> Iterable[str]:
        for cell, ip in self.ips.items():
            for name in set(ip.external) - self.external.get(cell, set()):
                yield f"{cell}/{name} does not leave the device"
