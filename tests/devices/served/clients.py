"""Boards and clients in processes of their own, and what is asked of a served board."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pynq
import pynq.pl_server.embedded_device
from pynq.pl_server import global_state, remote_device
from pynq.ps import Clocks

from tests import ROOT
from zipml_pynq.devices import design, hwh

PAGE = 4096


def overlay_path(word_bits: int = 64, value_format: str = "bitplanes") -> str:
    return str(hwh.OVERLAYS / f"{design.overlay_name(word_bits, value_format)}.bit")


def keeps_state_in(folder, monkeypatch):
    """pynq keeps what is loaded in its own folder: what runs side by side must not share."""
    monkeypatch.setattr(global_state, "STATE_DIR", str(folder))
    for module in (remote_device, pynq.pl_server.embedded_device):
        monkeypatch.setattr(module, "__file__", str(folder / "module.py"))


def becomes_active(device, monkeypatch):
    """pynq programs ports' widths on its active device, and clocks on the first one it saw."""
    monkeypatch.setattr(pynq.Device, "_active_device", device, raising=False)
    monkeypatch.delattr(Clocks, "_real_instance", raising=False)


def only_board(server):
    (board,) = server.boards.values()
    return board


def until(condition, seconds=5.0):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


#: A client that knows nothing of this package's server. It tells what it does on its output.
CLIENT = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import pynq.pl_server.global_state, pynq.pl_server.remote_device, pynq.pl_server.embedded_device
folder = sys.argv[1]
pynq.pl_server.global_state.STATE_DIR = folder  # see private_state
pynq.pl_server.remote_device.__file__ = pynq.pl_server.embedded_device.__file__ = folder + "/m.py"
from tests.cases import random_case
from zipml_pynq.devices.overlay import load_overlay
case = random_case(7, epochs=int(sys.argv[3]))
overlay, driver = load_overlay(sys.argv[2])
print(type(overlay.device).__name__, flush=True)
result = driver.train(case.packed, case.plan, model=case.model)
np.save(folder + "/model.npy", result.history_fixed)
"""


def start_client(folder, address, epochs=2):
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(folder), overlay_path(), str(epochs)],
        cwd=ROOT,
        env={**os.environ, "PYNQ_REMOTE_DEVICES": address},
        stdout=subprocess.PIPE,
        text=True,
    )


def start_board(*arguments):
    """The command in a process of its own; the process and its port."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "zipml_pynq", "board", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    words = process.stdout.readline().split()
    assert words[:3] == ["emulated", "board", "at"], words
    return process, int(words[3].rpartition(":")[2])


#: Makes the same client connect to a port that pynq does not know.
LOAD_AT = (
    "(setattr(pynq.Device, 'active_device', "
    "pynq.pl_server.remote_device.RemoteDevice(0, '127.0.0.1', port={}))"
    " or load_overlay(sys.argv[2]))"
)
