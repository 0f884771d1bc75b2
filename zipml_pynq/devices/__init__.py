"""What may stand under the driver.

| module | what is decided there |
|---|---|
| ``overlay`` | loading an overlay, on a board or in emulation |
| ``emulated``, ``register_file``, ``memory`` | the emulated device, its registers, its memory |
| ``served`` | the same behind a wire, speaking PYNQ.remote |
| ``xrt`` | cards with XRT |
| ``design``, ``hwh``, ``emulated_bitstream``, ``overlays/`` | the overlay that emulation loads |
| ``check_up`` | a page about a board |
| ``bitstreams``, ``clocks`` | bitstreams of real boards, and what clocks they run at |
"""
