"""cffi build of ``zipml_pynq._kernel``: the HLS top functions under the C-simulation headers.

The headers (``ap_int.h``) come out of the hls4ml wheel, which carries them under Apache-2.0; it is
located and not imported.
"""

import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sw_emu.extension import extension


def simulation_headers() -> Path:
    """The folder of ``ap_int.h``."""
    spec = importlib.util.find_spec("hls4ml")
    if spec is None or spec.origin is None:
        raise SystemExit("the C-simulation headers are missing: pip install --no-deps hls4ml")
    return Path(spec.origin).parent / "templates" / "vivado" / "ap_types"


ffibuilder = extension(
    "zipml_pynq._kernel",
    ["abi.h", "kernel.h"],
    ["kernel.cpp", "kernel_64.cpp", "kernel_128.cpp", "kernel_512.cpp"],
    # sw_emu/simulation has an hls_stream.h of its own: processes side by side, bounded channels
    include=[Path("sw_emu") / "simulation", simulation_headers()],
    # pragmas and loop labels are for the HLS tool; ap_int reads itself before it is initialized
    flags=["-Wno-unknown-pragmas", "-Wno-unused-label", "-Wno-maybe-uninitialized"],
)

if __name__ == "__main__":
    if "--headers" in sys.argv:
        print(simulation_headers())
    else:
        ffibuilder.compile(tmpdir=str(Path(__file__).resolve().parent.parent), verbose=True)
