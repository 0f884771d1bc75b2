"""Emulated boards that are served, and clients of theirs."""

from __future__ import annotations

import functools

import grpc
import pytest
from pynq.pl_server.remote_device import RemoteDevice

from tests.devices.served.clients import becomes_active, keeps_state_in, overlay_path
from zipml_pynq.devices.overlay import load_overlay


@pytest.fixture
def private_state(tmp_path, monkeypatch):
    keeps_state_in(tmp_path, monkeypatch)


@pytest.fixture
def serve():
    """Start servers at free ports; at the end they stop, and no buffer may be left."""
    # needs what pynq 3.1 lacks
    from zipml_pynq.devices.served.server import BoardServer

    servers = []

    def start(memory_bytes=1 << 22, **options):
        server = BoardServer(port=0, memory_bytes=memory_bytes, **options).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        boards = list(server.boards.values())
        server.stop(grace=0)
        for board in boards:
            assert not board.buffers
            assert board.device.free_bytes == board.device.memory_bytes


@pytest.fixture
def connect(monkeypatch, private_state):
    """Make clients; each has a connection of its own, as if it were another process."""
    channel = functools.partial(
        grpc.insecure_channel, options=[("grpc.use_local_subchannel_pool", 1)]
    )
    monkeypatch.setattr(grpc, "insecure_channel", channel)
    devices = []

    def make(port):
        device = RemoteDevice(len(devices), "127.0.0.1", port=port)
        devices.append(device)
        becomes_active(device, monkeypatch)
        return device

    yield make
    for device in devices:
        device.client.channel.close()


@pytest.fixture
def remote(serve, connect):
    """A served board with an overlay on it: (overlay, driver), and the server."""

    def load(word_bits=64, value_format="bitplanes", **options):
        server = serve(**options)
        device = connect(server.port)
        return load_overlay(overlay_path(word_bits, value_format), device=device), server

    return load


@pytest.fixture
def processes():
    """Processes to be ended, whatever happens."""
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
