"""pynq's client of a board in the network, on a stand-in for the board's files."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pynq
import pytest
from pynq.pl_server.embedded_device import bit2bin

from zipml_pynq.devices import hwh
from zipml_pynq.devices.overlay import load_overlay

remote_device = pytest.importorskip("pynq.pl_server.remote_device")


class Remote(remote_device.RemoteDevice):
    """pynq's client of a board in the network, down to the files that it would send there."""

    def __init__(self):
        pynq.Device.__init__(self, "remote-stand-in")
        self.name, self.files = "stand-in", {}
        self.capabilities = {"REMOTE": True}
        self._stub = {"device": SimpleNamespace(set_bitstream_attrs=lambda request: request)}
        self._zipml_limited = True

    def get_bitfile_metadata(self, bitfile_name, partial=False):
        parser = super().get_bitfile_metadata(bitfile_name, partial)
        parser.clock_dict = {}
        return parser

    def exists_file(self, file_path):
        return SimpleNamespace(exists=file_path in self.files)

    def write_file(self, file_path, content):
        self.files[file_path] = bytes(content)

    def mmap(self, address, length):
        return SimpleNamespace(read=None, write=None, array=None)

    def nothing(self, *_):
        pass

    shutdown = gen_cache = set_axi_port_width = nothing


def test_a_rebuilt_bitstream_is_sent_to_a_board_in_the_network(tmp_path):
    """pynq asks whether a file of that name is there, not whether it is the same."""
    device = Remote()
    shutil.copy(hwh.OVERLAYS / "zipml_sgd_64.hwh", tmp_path / "zipml.hwh")
    loaded = []
    for build in ("zipml_sgd_64", "zipml_sgd_128", "zipml_sgd_64"):
        path = shutil.copy(hwh.OVERLAYS / f"{build}.bit", tmp_path / "zipml.bit")
        load_overlay(str(path), device=device)
        name = device.files[remote_device.BS_FPGA_MAN].decode()
        assert device.files[remote_device.FIRMWARE + name] == bytes(bit2bin(path.read_bytes()))
        assert name.startswith("zipml-")
        loaded.append(name)
    assert loaded[0] == loaded[2] != loaded[1]
