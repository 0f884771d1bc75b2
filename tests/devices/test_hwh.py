"""Emulated handoffs and bitstreams: those shipped are current, others are refused."""

import pytest
from pynq.pl_server.embedded_device import bit2bin

from zipml_pynq.accelerator import interface
from zipml_pynq.constants import WORD_BITS
from zipml_pynq.devices import emulated_bitstream, hwh
from zipml_pynq.errors import ArgumentError, OverlayMismatchError


def test_shipped_handoffs_are_current():
    files = {path.name: path.read_bytes() for path in hwh.OVERLAYS.iterdir()}
    assert files == hwh.shipped()


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("value_format", interface.VLNV)
def test_bitstreams_say_which_kernels_they_are(word_bits, value_format):
    """Through pynq's own reading of a ``.bit``: what it sends to a board is understood there."""
    for kernels in (1, 4):
        data = bit2bin(emulated_bitstream.bitstream(word_bits, value_format, kernels))
        found = emulated_bitstream.read_configuration(data)
        assert found == (word_bits, value_format, kernels)


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
