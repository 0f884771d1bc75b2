"""The driver over XRT, as far as that goes without XRT: its calls are recorded by a stand-in.

Real are pynq's ``Overlay``, its ``XrtDevice``, its reading of an ``.xclbin``, and the calls through
ctypes. The stand-in for ``pyxrt`` and for XRT's C interface has banks of memory that a kernel
reaches only through the ports that are connected to them, host copies that have to be synchronized,
and the emulated board's kernel.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from types import SimpleNamespace
from xml.sax.saxutils import quoteattr

import numpy as np
import pynq
import pytest
from pynq._3rdparty import xclbin
from pynq.pl_server.xrt_device import XrtDevice

from tests.cases import CASES, check_same, random_case
from zipml_pynq.accelerator import interface
from zipml_pynq.accelerator.driver import SgdDriver
from zipml_pynq.accelerator.interface import CTRL, INTERFACES, VLNV
from zipml_pynq.accelerator.regions import regions
from zipml_pynq.devices import design, xrt
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.errors import DeviceBufferError, DeviceError, OutOfDeviceMemoryError

BASE = 0x180_0000
UUID = bytes(range(16))
#: Bank of each port.
PORTS = {"gmem_planes": 1, "gmem_labels": 2, "gmem_vectors": 0, "gmem_full": 2}
BANKS = ("DDR[0]", "HBM[0]", "HBM[1]")
BANK_BYTES = 1 << 21


# ---- An .xclbin  -----------------------------------------------------------------------------


def tag(name, body="", /, **attributes):
    text = "".join(f" {key}={quoteattr(str(value))}" for key, value in attributes.items())
    return f"<{name}{text}>{body}</{name}>"


def embedded_metadata(value_format):
    described = INTERFACES[value_format]
    arguments = "".join(
        tag(
            "arg",
            name=a.name,
            id=i,
            addressQualifier=1 if a.kind == "pointer" else 0,
            port=a.bundle if a.kind == "pointer" else "s_axi_control",
            size=f"{a.bits // 8:#x}",
            offset=f"{described.offsets[a.name]:#x}",
            hostSize=f"{a.bits // 8:#x}",
            type="void*" if a.kind == "pointer" else "uint",
        )
        for i, a in enumerate(described.arguments)
    )
    ports = tag("port", name="s_axi_control", mode="slave", range="0x1000")
    ports += "".join(tag("port", name=port, mode="master", range="0xFFFFFFFF") for port in PORTS)
    instance = tag("instance", tag("addrRemap", base=f"{BASE:#x}"), name="zipml_1")
    kernel = tag(
        "kernel",
        ports + arguments + instance,
        name="zipml",
        vlnv=VLNV[value_format],
        hwControlProtocol="user_managed",
    )
    return tag("project", tag("platform", tag("device", tag("core", kernel)))).encode()


def records(record, fields):
    """A section of a count and so many records, the first of which the structure has itself."""
    made = (record * len(fields))(*fields)
    head = ctypes.c_int32(len(fields))
    padding = bytes(max(ctypes.alignment(record), 4) - 4)
    return bytearray(bytes(head) + padding + bytes(made))


def make_xclbin(value_format):
    ids = {a.name: i for i, a in enumerate(INTERFACES[value_format].arguments)}
    pointers = [a for a in INTERFACES[value_format].arguments if a.kind == "pointer"]
    memory = []
    for i, name in enumerate(BANKS):
        bank = xclbin.mem_data(m_type=1, m_used=1, m_tag=name.encode())
        bank.m_size, bank.m_base_address = BANK_BYTES >> 10, i << 32
        memory.append(bank)
    unit = xclbin.ip_data(m_type=1, m_base_address=BASE)
    unit.m_name[: len(b"zipml:zipml_1")] = b"zipml:zipml_1"
    kinds = xclbin.AXLF_SECTION_KIND
    sections = {
        kinds.EMBEDDED_METADATA: bytearray(embedded_metadata(value_format)),
        kinds.IP_LAYOUT: records(xclbin.ip_data, [unit]),
        kinds.CONNECTIVITY: records(
            xclbin.connection,
            [xclbin.connection(ids[a.name], 0, PORTS[a.bundle]) for a in pointers],
        ),
        kinds.MEM_TOPOLOGY: records(xclbin.mem_data, memory),
    }
    head = xclbin.axlf(m_magic=b"xclbin2")
    head.m_header.m_numSections = len(sections)
    head.m_header.u2.uuid[:] = UUID
    offset = ctypes.sizeof(head) + (len(sections) - 1) * ctypes.sizeof(head.m_sections)
    headers, body = b"", b""
    for kind, text in sections.items():
        header = xclbin.axlf_section_header(kind, b"", offset + len(body), len(text))
        headers += bytes(header)
        body += bytes(text) + bytes(-len(text) % 8)
    return bytes(head)[: -ctypes.sizeof(head.m_sections)] + headers + body


# ---- XRT's stand-in  -------------------------------------------------------------------------


class Card:
    """Banks of memory, one kernel, and a record of every call: (name, arguments..)."""

    def __init__(self):
        self.calls = []
        self.loaded = None
        self.free = [BANK_BYTES] * len(BANKS)
        self.emulated = EmulatedDevice(memory_bytes=len(BANKS) * BANK_BYTES)
        self.live = {}  # (address, bytes) -> bank
        self.fail = None

    def record(self, name, *arguments):
        self.calls.append((name, *arguments))

    def named(self, *names):
        return [call for call in self.calls if call[0] in names]

    def check_connections(self):
        """Each pointer's buffer lies in the bank that the pointer's port reaches."""
        registers = self.emulated.registers
        described = INTERFACES[self.emulated.value_format]
        if not registers.value("samples"):
            return
        scalars = {name: registers.value(name) for name in described.scalars}
        touched = regions(scalars, self.emulated.word_bits, self.emulated.value_format)
        for argument in described.arguments:
            if argument.kind != "pointer" or not touched[argument.name]:
                continue
            address = registers.value(argument.name)
            (bank,) = (b for (first, size), b in self.live.items() if 0 <= address - first < size)
            assert bank == PORTS[argument.bundle], argument.name


def make_pyxrt(card):
    """What AlveoDevice and XrtDevice use of the module ``pyxrt``."""

    class Device:
        def __init__(self, index):
            card.record("device", index)

        def get_info(self, key):
            return f"a card's {key}"

        def load_xclbin(self, path):
            card.record("load_xclbin", path)
            card.loaded = path

    class Bo:
        flags = SimpleNamespace(normal="normal", cacheable="cacheable")

        def __init__(self, handle, size, flags, bank):
            card.record("bo", size, flags, bank)
            if size > card.free[bank]:
                raise RuntimeError("bad allocation")
            self.bank, self._size = bank, size
            card.free[bank] -= size
            self.offset = card.emulated._heap.allocate(size)
            self.host = np.full(size, 0xA5, np.uint8)  # not what the card has
            card.live[self.address(), size] = bank

        def map(self):
            return memoryview(self.host)

        def size(self):
            return self._size

        def address(self):
            return design.MEMORY_ADDRESS + self.offset

        def sync(self, direction, size, offset):
            card.record("sync", direction, size, offset)
            there = card.emulated.memory[self.offset + offset :][:size]
            here = self.host[offset:][:size]
            there[:], here[:] = (here, here) if direction == "to" else (there, there)

        def __del__(self):
            if hasattr(self, "offset"):
                card.free[self.bank] += self._size
                del card.live[self.address(), self._size]
                card.emulated._heap.free(self.offset)

    keys = (
        "bdf dynamic_regions electrical host m2m max_clock_frequency_mhz mechanical memory name "
        "pcie_info thermal vmr"
    )
    return SimpleNamespace(
        device=Device,
        bo=Bo,
        xrt_info_device=SimpleNamespace(**{key: key for key in keys.split()}),
        xclBOSyncDirection=SimpleNamespace(
            XCL_BO_SYNC_BO_TO_DEVICE="to", XCL_BO_SYNC_BO_FROM_DEVICE="from"
        ),
    )


def make_library(card):
    """What AlveoDevice uses of XRT's C interface, as C functions."""
    handle, number, code = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
    registers = 0xA000_0000

    def device_open(index):
        card.record("xrtDeviceOpen", index)
        return 0x1000 if index == 0 else None

    def load(device, uuid):
        card.record("xrtDeviceLoadXclbinUUID", device, ctypes.string_at(uuid, 16))
        return 0 if card.loaded else -2

    def kernel_open(device, uuid, name):
        card.record("xrtPLKernelOpenExclusive", device, ctypes.string_at(uuid, 16), name)
        return 0x2000

    def read(kernel, offset, result):
        assert kernel == 0x2000
        result[0] = int.from_bytes(card.emulated.read_registers(registers + offset, 4), "little")
        return card.fail or 0

    def write(kernel, offset, word):
        assert kernel == 0x2000
        if offset == CTRL and word & 1:
            card.check_connections()
        card.emulated.write_registers(registers + offset, word.to_bytes(4, "little"))
        return card.fail or 0

    def closed(name):
        return lambda handle: card.record(name, handle) or 0

    functions = {
        "xrtDeviceOpen": (device_open, handle, ctypes.c_uint),
        "xrtDeviceClose": (closed("xrtDeviceClose"), code, handle),
        "xrtDeviceLoadXclbinUUID": (load, code, handle, handle),
        "xrtPLKernelOpenExclusive": (kernel_open, handle, handle, handle, ctypes.c_char_p),
        "xrtKernelClose": (closed("xrtKernelClose"), code, handle),
        "xrtKernelReadRegister": (read, code, handle, number, ctypes.POINTER(number)),
        "xrtKernelWriteRegister": (write, code, handle, number, number),
    }
    return SimpleNamespace(
        **{name: ctypes.CFUNCTYPE(*types)(call) for name, (call, *types) in functions.items()}
    )


@pytest.fixture
def card(monkeypatch):
    """The stand-in, installed; at the end all its memory must have been given back."""
    made = Card()
    monkeypatch.setitem(sys.modules, "pyxrt", make_pyxrt(made))
    monkeypatch.setattr(pynq.pl_server.xrt_device, "pyxrt", None, raising=False)
    library = make_library(made)
    monkeypatch.setattr(xrt, "load_library", lambda: library)
    yield made
    assert made.free == [BANK_BYTES] * len(BANKS)


@pytest.fixture
def loaded(card, tmp_path):
    """Load the overlay of a kernel on the card."""

    def load(word_bits=512, value_format="bitplanes"):
        path = tmp_path / "zipml.xclbin"
        path.write_bytes(make_xclbin(value_format))
        card.emulated.configure(word_bits, value_format)
        return load_overlay(str(path))

    return load


# ---- Tests  ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", CASES, ids=str)
def test_training_gives_the_references_bits(loaded, options):
    case = random_case(7, word_bits=512, l2=0.1, samples=75, **options)
    overlay, driver = loaded(512, case.packed.layout.value_format)
    assert type(driver) is SgdDriver
    assert isinstance(overlay.device, XrtDevice)
    check_same(driver.train(case.packed, case.plan, model=case.model), case)


def test_calls(card, loaded, tmp_path):
    overlay, driver = loaded()
    case = random_case(7, word_bits=512)
    assert card.named("device", "load_xclbin", "xrtDeviceOpen") == [
        ("xrtDeviceOpen", 0),
        ("device", 0),
        ("load_xclbin", str(tmp_path / "zipml.xclbin")),
    ]
    driver.train(case.packed, case.plan)
    opened = [
        ("xrtDeviceLoadXclbinUUID", 0x1000, UUID),
        ("xrtPLKernelOpenExclusive", 0x1000, UUID, b"zipml:{zipml_1}"),
    ]
    assert card.named("xrtDeviceLoadXclbinUUID", "xrtPLKernelOpenExclusive") == opened
    banks = [bank for _, _, _, bank in card.named("bo")]
    # model, history, schedule; then one slot of planes and labels
    assert banks == [0, 0, 0, 1, 2]
    # the planes, labels, start and schedule go there; history and model come back
    assert [direction for _, direction, *_ in card.named("sync")] == ["to"] * 4 + ["from"] * 2
    overlay.download()
    assert card.calls[-2:] == [
        ("xrtKernelClose", 0x2000),
        ("load_xclbin", str(tmp_path / "zipml.xclbin")),
    ]
    assert driver.read(CTRL) == interface.AP_IDLE  # opened again
    overlay.device.close()
    assert card.named("xrtKernelClose", "xrtDeviceClose")[-2:] == [
        ("xrtKernelClose", 0x2000),
        ("xrtDeviceClose", 0x1000),
    ]


def test_segments_in_banks(loaded):
    """The planes' bank holds a part of the data set only."""
    shape = {"samples": 3000, "features": 3000, "blocks": 200}
    case = random_case(8, word_bits=512, bits=8, batch=4, delay=3, step=1e-5, **shape)
    assert case.packed.planes.nbytes > BANK_BYTES
    driver = loaded().driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case, blocks=0)


def test_buffers_lie_in_their_ports_bank(card, loaded):
    driver = loaded().driver
    driver.register_map.samples = 5
    assert card.emulated.registers.value("samples") == int(driver.register_map.samples) == 5
    with (
        driver.allocate(64, "u8", pointer="planes") as planes,
        driver.allocate(64, "i4", "labels") as labels,
        driver.allocate(64, "i4", "model") as model,
    ):
        assert [b.memory.desc["tag"] for b in (planes, labels, model)] == [
            BANKS[i] for i in (1, 2, 0)
        ]
        driver.write_registers({"planes": planes[8:], "labels": labels, "model": model})
        assert card.emulated.registers.value("planes") == planes.device_address + 64
        driver.write_registers({"history": model})  # the same port
        with pytest.raises(DeviceBufferError, match=r"labels was a buffer outside of HBM\[1\]"):
            driver.write_registers({"labels": model})
        planes[:] = 1
        planes[8:16].flush()  # a part goes there alone
        assert card.calls[-1] == ("sync", "to", 64, 64)
        view = planes[:4]
    planes.freebuffer()
    del view


def test_failures_are_this_packages_errors(card, loaded, monkeypatch):
    overlay, driver = loaded()
    with pytest.raises(OutOfDeviceMemoryError, match="bad allocation"):
        driver.allocate(BANK_BYTES + 1, "u1", "planes")
    card.fail = -5
    with pytest.raises(DeviceError, match="XRT could not read a register at 0x1800000: error -5"):
        driver.read(CTRL)
    with pytest.raises(DeviceError, match="XRT could not write a register at 0x1800010"):
        driver.write(0x10, 1)
    card.fail = None
    with pytest.raises(DeviceError, match="no compute unit"):
        overlay.device.read_registers(0x1900_0000, 4)
    with pytest.raises(DeviceError, match="there is no card 1"):
        xrt.AlveoDevice(1)
    monkeypatch.setitem(sys.modules, "pyxrt", None)
    with pytest.raises(DeviceError, match="Python module is missing"):
        load_overlay("zipml.xclbin")


def test_without_an_event_loop(loaded):
    """XrtDevice asks for one; asyncio.run() leaves the thread without."""
    asyncio.run(asyncio.sleep(0))
    assert loaded().driver.capability.word_bits == 512


def test_xrt_is_not_needed_to_import_this(monkeypatch):
    with pytest.raises(DeviceError, match="XRT is not installed here"):
        xrt.load_library()
