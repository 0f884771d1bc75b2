"""Bitstreams of the emulated board: which kernel it is, and how many of it, in one line.

That is all that an emulated board needs to know, and all that pynq sends to a remote one.
"""

from __future__ import annotations

import struct

from zipml_pynq.accelerator.interface import VALUE_FORMATS, VLNV, check_build
from zipml_pynq.devices.design import check_kernels, overlay_name
from zipml_pynq.errors import ArgumentError, OverlayMismatchError

#: First words of an emulated bitstream's configuration data.
MAGIC = "zipml emulated bitstream"


def bitstream(word_bits: int, value_format: str, kernels: int = 1) -> bytes:
    """The ``.bit`` of an emulated design: the header that pynq reads, and one line of data."""
    check_build(word_bits, value_format)
    check_kernels(kernels)
    data = f"{MAGIC} {VLNV[value_format]} {word_bits} {kernels}".encode()
    data += b" " * (-len(data) % 4)
    name = overlay_name(word_bits, value_format, kernels)
    header = struct.pack(">H9sH", 9, bytes.fromhex("0ff00ff00ff00ff000"), 1)
    for key, text in (
        (b"a", f"{name};UserID=0XFFFFFFFF;Version=emulated"),
        (b"b", "emulated"),
        (b"c", "2000/01/01"),  # not today: the files are the same whenever they are written
        (b"d", "00:00:00"),
    ):
        header += key + struct.pack(">H", len(text) + 1) + text.encode() + b"\0"
    return header + b"e" + struct.pack(">I", len(data)) + data


def read_configuration(data: bytes) -> tuple[int, str, int]:
    """Word width, value format and number of kernels in an emulated bitstream's configuration data.

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
        vlnv, width, kernels = rest.split()
        found = int(width), VALUE_FORMATS[vlnv], int(kernels)
        check_build(*found[:2])
        check_kernels(found[2])
    except (ValueError, KeyError, ArgumentError) as error:
        raise OverlayMismatchError(
            f"the bitstream, {len(data)} bytes, is none for an emulated board; those are shipped "
            "in zipml_pynq/overlays, and bitstreams for hardware run on hardware"
        ) from error
    return found
