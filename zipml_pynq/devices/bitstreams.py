"""Boards that the kernels are built for, and where their bitstreams are.

:data:`TARGETS` says for every board what the build scripts in ``overlay/`` need beyond word width
and clock, which are those of :data:`zipml_pynq.training.schedule.BOARDS`. This module, run by
``python -m``, writes all of it into ``overlay/<board>/board.mk``, and the kernels with their memory
ports into ``overlay/kernels.mk``, so that a machine with the vendor's tools needs no Python package
to build.

:func:`in_folder` takes a bitstream from a folder. :func:`find` looks for one in three places: the
build folder of a source tree, the package, and the package's link files. A link file,
``<kernel>.bit.link``, is JSON in the convention of pynqutils: for every device its ``url`` and
``md5sum``. The package ships none yet, since nobody has built a bitstream;
``overlay/common/stamp.py`` writes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zipml_pynq.accelerator.interface import BUNDLE_BITS, CONTROL_BUNDLE, INTERFACES, VLNV
from zipml_pynq.errors import ArgumentError, OverlayMismatchError, OverlayNotBuiltError
from zipml_pynq.training.schedule import BOARDS, Board

#: The build scripts of a source tree; not there in an installed package.
OVERLAY = Path(__file__).resolve().parents[2] / "overlay"
#: Bitstreams and link files of the package.
PACKAGED = Path(__file__).resolve().parent / "overlays"


@dataclass(frozen=True)
class Target:
    """A board to build for.

    Parameters
    ----------
    board : zipml_pynq.training.schedule.Board
        Word width and clock.
    part : str
        The device.
    board_part : str
        Pattern of the vendor's board files, which are optional; "" where none are used.
    platform : str
        Vitis platform to link against; "" for a Vivado block design.
    devices : tuple of str
        Names by which pynq knows the board, first the one that link files use: the ``BOARD``
        variable of the image, or the name of the shell.
    ultra_ram : bool
        Whether the device has UltraRAM.
    memory : str
        The memory that a platform's kernel is linked to; "" without a platform.
    """

    board: Board
    part: str
    board_part: str
    platform: str
    devices: tuple[str, ...]
    ultra_ram: bool = False
    memory: str = ""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that pynq loads, the bitstream's first."""
        return (".xclbin",) if self.platform else (".bit", ".hwh")


#: What is built, by the name of its folder in ``overlay/``.
TARGETS: dict[str, Target] = {
    "pynq-z2": Target(
        board=BOARDS["PYNQ-Z2"],
        part="xc7z020clg400-1",
        board_part="tul.com.tw:pynq-z2:part0:*",
        platform="",
        devices=("Pynq-Z2",),
    ),
    "kv260": Target(
        board=BOARDS["KV260"],
        part="xck26-sfvc784-2LV-c",
        board_part="xilinx.com:kv260_som:part0:*",
        platform="",
        devices=("KV260",),
        ultra_ram=True,
    ),
    "u50": Target(
        board=BOARDS["Alveo U50"],
        part="xcu50-fsvh2104-2-e",
        board_part="",
        platform="xilinx_u50_gen3x16_xdma_5_202210_1",
        devices=("xilinx_u50_gen3x16_xdma_base_5", "xilinx_u50_gen3x16_xdma_5_202210_1"),
        ultra_ram=True,
        memory="HBM[0]",
    ),
    "pynq-z1": Target(
        board=BOARDS["PYNQ-Z1"],
        part="xc7z020clg400-1",
        board_part="www.digilentinc.com:pynq-z1:part0:*",
        platform="",
        devices=("Pynq-Z1",),
    ),
    "kr260": Target(
        board=BOARDS["KR260"],
        part="xck26-sfvc784-2LV-c",
        board_part="xilinx.com:kr260_som:part0:*",
        platform="",
        devices=("KR260",),
        ultra_ram=True,
    ),
    "zcu104": Target(
        board=BOARDS["ZCU104"],
        part="xczu7ev-ffvc1156-2-e",
        board_part="xilinx.com:zcu104:part0:*",
        platform="",
        devices=("ZCU104",),
        ultra_ram=True,
    ),
}


def kernel_name(value_format: str) -> str:
    """Name of the top function for a value format, which names the build's files as well."""
    if value_format not in VLNV:
        raise ArgumentError(f"value_format was {value_format!r}; allowed are {tuple(VLNV)}")
    return VLNV[value_format].split(":")[2]


def target_name(name: str) -> str | None:
    """Folder in ``overlay/`` of a board by any of its names, None if it is no board of ours.

    >>> target_name("PYNQ-Z2"), target_name("Alveo U50"), target_name("zipml.bit")
    ('pynq-z2', 'u50', None)
    """
    for slug, target in TARGETS.items():
        if name.lower() in {n.lower() for n in (slug, target.board.name, *target.devices)}:
            return slug
    return None


def _files(slug: str, kernel: str) -> Path | None:
    """The folder that holds all files of a kernel for a board, None if there is none."""
    for folder in (OVERLAY / slug / "build", PACKAGED / slug):
        if all((folder / f"{kernel}{suffix}").is_file() for suffix in TARGETS[slug].suffixes):
            return folder
    return None


def at_hand(slug: str, value_format: str) -> bool:
    """Whether :func:`find` would find a bitstream for a target, fetched or to be fetched."""
    kernel = kernel_name(value_format)
    links = (PACKAGED / f"{kernel}{suffix}.link" for suffix in TARGETS[slug].suffixes)
    return _files(slug, kernel) is not None or all(linked(link, slug) for link in links)


def find(board: str, value_format: str = "bitplanes") -> Path:
    """The bitstream of a board: built here, shipped with the package, or named by a link file.

    Parameters
    ----------
    board : str
        A name of the board: "pynq-z2", "kv260", "u50", or the one that pynq uses.
    value_format : {"bitplanes", "float32", "levels", "refetch", "wide"}
        Which kernel.

    Returns
    -------
    Path
        The ``.bit``, with its ``.hwh`` beside it, or the ``.xclbin``.

    Raises
    ------
    ArgumentError
        Unknown board or value format.
    OverlayNotBuiltError
        There is none; the message says how to build it.
    OverlayMismatchError
        Files are not those that their stamp or link file names.
    """
    slug = target_name(board)
    if slug is None:
        raise ArgumentError(f"board was {board!r}; allowed are {tuple(TARGETS)}")
    kernel = kernel_name(value_format)
    suffixes = TARGETS[slug].suffixes
    folder = _files(slug, kernel)
    if folder is not None:
        check_stamp(folder / f"{kernel}.json")
        return folder / f"{kernel}{suffixes[0]}"
    links = {suffix: linked(PACKAGED / f"{kernel}{suffix}.link", slug) for suffix in suffixes}
    if all(links.values()):
        for suffix, link in links.items():
            assert link is not None
            download(*link, PACKAGED / slug / f"{kernel}{suffix}")
        return PACKAGED / slug / f"{kernel}{suffixes[0]}"
    raise OverlayNotBuiltError(
        f"nobody has built {kernel} for the {TARGETS[slug].board.name} yet. On a machine with the "
        "vendor's tools (2023.2 or later) and this project's sources:\n"
        f"    make -C overlay BOARD={slug} KERNEL={kernel}\n"
        f"then load overlay/{slug}/build/{kernel}{suffixes[0]} on the board"
        + (f", with the {suffixes[1]} beside it" if len(suffixes) > 1 else "")
        + '. docs/boards.md has the details; load_overlay("emulated") needs no board.'
    )


def in_folder(folder: str | os.PathLike[str], value_format: str = "bitplanes") -> Path:
    """The bitstream of a kernel in a folder, where somebody copied what a build left.

    Parameters
    ----------
    folder : path-like
        Holds ``zipml_sgd.bit`` and ``.hwh``, or ``zipml_sgd.xclbin``; other kernels alike.
    value_format : {"bitplanes", "float32", "levels", "refetch", "wide"}
        Which kernel.

    Returns
    -------
    Path
        The ``.bit``, with its ``.hwh`` beside it, or the ``.xclbin``.

    Raises
    ------
    ArgumentError
        Unknown value format.
    OverlayNotBuiltError
        The kernel's files are not there.
    OverlayMismatchError
        Files are not those that their stamp names.
    """
    kernel = kernel_name(value_format)
    for suffixes in sorted({target.suffixes for target in TARGETS.values()}):
        if all((Path(folder) / f"{kernel}{suffix}").is_file() for suffix in suffixes):
            check_stamp(Path(folder) / f"{kernel}.json")
            return Path(folder) / f"{kernel}{suffixes[0]}"
    raise OverlayNotBuiltError(
        f"the folder '{folder}' holds neither {kernel}.bit with {kernel}.hwh nor {kernel}.xclbin; "
        f"make -C overlay BOARD=.. KERNEL={kernel} builds them (docs/boards.md)"
    )


def check_handoff(path: Path) -> None:
    """Refuse a ``.bit`` whose ``.hwh`` pynq would not find or could not read.

    Raises
    ------
    OverlayMismatchError
        It is missing, empty, or its name differs in upper and lower case.
    """
    handoff = path.with_suffix(".hwh")
    if path.suffix != ".bit" or not path.is_file():
        return
    if not handoff.is_file():
        near = [p.name for p in path.parent.iterdir() if p.name.lower() == handoff.name.lower()]
        raise OverlayMismatchError(
            f"{handoff} is missing: pynq takes what is in a bitstream from the .hwh of the same "
            f"name beside it; "
            + (
                f"there is {near[0]}, whose name differs in case: rename it"
                if near
                else "copy it from the build"
            )
        )
    if handoff.stat().st_size == 0:
        raise OverlayMismatchError(f"{handoff} is empty: copy it from the build again")


def md5(path: Path) -> str:
    """Hexadecimal MD5 of a file: it identifies a build, it does not protect."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def check_stamp(stamp: Path) -> None:
    """Compare files with the stamp that the build left beside them, if it is there."""
    if not stamp.is_file():
        return
    for name, expected in json.loads(stamp.read_text(encoding="utf-8"))["md5"].items():
        path = stamp.parent / name
        if path.is_file() and md5(path) != expected:
            raise OverlayMismatchError(
                f"{path} is not the file that {stamp.name} was written for (md5 {md5(path)}, "
                f"expected {expected}): copy all files of one build"
            )


def linked(link: Path, slug: str) -> tuple[str, str] | None:
    """URL and MD5 that a link file has for a board."""
    if not link.is_file():
        return None
    entries = json.loads(link.read_text(encoding="utf-8"))
    for device in TARGETS[slug].devices:
        if device in entries:
            return entries[device]["url"], entries[device]["md5sum"]
    return None


def download(url: str, md5sum: str, path: Path) -> None:
    """Fetch a file unless it is there already; what arrives otherwise than expected is not kept."""
    if path.is_file() and md5(path) == md5sum:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    arrived = Path(name)
    try:
        with urllib.request.urlopen(url, timeout=60) as response, os.fdopen(handle, "wb") as file:
            file.write(response.read())
        if md5(arrived) != md5sum:
            raise OverlayMismatchError(f"{url} has md5 {md5(arrived)}; {md5sum} was expected")
        arrived.replace(path)
    finally:
        arrived.unlink(missing_ok=True)


def board_mk(slug: str) -> str:
    """Text of ``overlay/<board>/board.mk``."""
    target = TARGETS[slug]
    values = {
        "PART": target.part,
        "BOARD_PART": target.board_part,
        "PLATFORM": target.platform,
        "MEMORY": target.memory,
        "DEVICE": target.devices[0],
        "WORD_BITS": target.board.word_bits,
        "ULTRA_RAM": int(target.ultra_ram),
        "CLOCK_MHZ": f"{target.board.clock / 1e6:g}",
        "PERIOD_NS": f"{1e9 / target.board.clock:.3f}",
        "SUFFIXES": " ".join(target.suffixes),
    }
    return makefile(values)


def kernels_mk() -> str:
    """Text of ``overlay/kernels.mk``."""
    bundles = {
        f"BUNDLES-{kernel_name(value_format)}": " ".join(INTERFACES[value_format].bundles)
        for value_format in VLNV
    }
    return makefile({"KERNELS": " ".join(kernel_name(name) for name in VLNV), **bundles})


def kernel_xml(value_format: str, word_bits: int) -> str:
    """What v++ has to know of a kernel: its ports, its arguments and where their registers are.

    Every output is an argument as well, so that the ``.xclbin`` tells where the driver reads it.
    """
    interface = INTERFACES[value_format]
    name, control = kernel_name(value_format), f"s_axi_{CONTROL_BUNDLE}"
    addressable = 'portType="addressable" base="0x0"'
    ports = [f'<port name="{control}" mode="slave" range="0x1000" dataWidth="32" {addressable}/>']
    for bundle in interface.bundles:
        ports.append(
            f'<port name="m_axi_{bundle}" mode="master" range="0xFFFFFFFFFFFFFFFF" '
            f'dataWidth="{BUNDLE_BITS[bundle] or word_bits}" {addressable}/>'
        )
    arguments = []
    for number, argument in enumerate(interface.arguments):
        memory = argument.kind == "pointer"
        kind = "int*" if memory else "uint" if argument.bits == 32 else "ulong"
        size = f"{argument.bits // 8:#x}"
        arguments.append(
            f'<arg name="{argument.name}" addressQualifier="{memory:d}" id="{number}" '
            f'port="{f"m_axi_{argument.bundle}" if memory else control}" size="{size}" '
            f'offset="{interface.offsets[argument.name]:#x}" type="{kind}" hostOffset="0x0" '
            f'hostSize="{size}"/>'
        )
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            "<!-- Written by python -m zipml_pynq.devices.bitstreams; do not edit. -->",
            '<root versionMajor="1" versionMinor="6">',
            f'  <kernel name="{name}" language="ip_c" vlnv="{VLNV[value_format]}" attributes="" '
            'preferredWorkGroupSizeMultiple="0" workGroupSize="1" interrupt="true" '
            'hwControlProtocol="ap_ctrl_hs">',
            *("    " + line for line in ["<ports>", *("  " + p for p in ports), "</ports>"]),
            *("    " + line for line in ["<args>", *("  " + a for a in arguments), "</args>"]),
            "  </kernel>",
            "</root>",
            "",
        ]
    )


def makefile(values: Mapping[str, object]) -> str:
    """A Makefile of variables."""
    lines = [f"{key} := {value}".rstrip() for key, value in values.items()]
    return "\n".join(
        ["# Written by python -m zipml_pynq.devices.bitstreams; do not edit.", *lines, ""]
    )


def write(overlay: Path = OVERLAY) -> None:
    """Write ``kernels.mk``, every ``board.mk``, and the ``.xml`` of kernels on a platform."""
    (overlay / "kernels.mk").write_text(kernels_mk(), encoding="utf-8")
    for slug in TARGETS:
        (overlay / slug).mkdir(exist_ok=True)
        (overlay / slug / "board.mk").write_text(board_mk(slug), encoding="utf-8")
        for value_format in VLNV if TARGETS[slug].platform else ():
            text = kernel_xml(value_format, TARGETS[slug].board.word_bits)
            (overlay / slug / f"{kernel_name(value_format)}.xml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
