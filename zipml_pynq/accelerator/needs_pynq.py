"""pynq for the modules that need it, or an error that tells how to install it.

It is everywhere where pynq runs; elsewhere everything but drivers and devices works without it.
"""

from __future__ import annotations

try:
    import pynq
    from pynq.buffer import PynqBuffer
    from pynq.pl_server import global_state
    from pynq.pl_server.embedded_device import EmbeddedDevice
except ModuleNotFoundError as error:
    if error.name != "pynq":
        raise
    raise ImportError(
        "drivers and devices, the emulated one too, need pynq, which runs on Linux with Python "
        "3.10 to 3.12: pip install 'zipml_pynq[pynq]' there; device='host' trains without it",
        name="pynq",
    ) from error

__all__ = ["EmbeddedDevice", "PynqBuffer", "global_state", "pynq"]
