"""The machines that wheels are built for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A machine, as the compiler and as pip call it.

    Attributes
    ----------
    zig : str
        zig's triple, with the oldest glibc or macOS that is to do.
    platform : str
        The platform tag of the wheel.
    extension : str
        File name of an extension of the stable ABI.
    flags : tuple of str
        For the compiler and the linker, beyond those of all targets.
    """

    zig: str
    platform: str
    extension: str = "_engine.abi3.so"
    flags: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """As in the name of the wheel: one wheel for every Python from 3.10 on."""
        return f"cp310-abi3-{self.platform}"


#: Python's own symbols are in the program that loads the extension, which nothing links against.
_MACOS = ("-Wl,-undefined,dynamic_lookup", "-Wl,-install_name,@rpath/_engine.abi3.so")
#: What Debian's armhf asks of a processor, and no more: ARMv7, VFPv3 with 16 registers.
_ARMHF = ("-mcpu=generic+v7a+vfp3d16",)

TARGETS = {
    "linux-x86_64": Target("x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64"),
    "linux-aarch64": Target("aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64"),
    "linux-armv7l": Target("arm-linux-gnueabihf.2.17", "manylinux_2_17_armv7l", flags=_ARMHF),
    "macos-arm64": Target("aarch64-macos.11.0", "macosx_11_0_arm64", flags=_MACOS),
    "macos-x86_64": Target("x86_64-macos.11.0", "macosx_11_0_x86_64", flags=_MACOS),
    "windows-x86_64": Target("x86_64-windows-gnu", "win_amd64", "_engine.pyd"),
}
