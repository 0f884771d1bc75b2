"""The kernels as RTL, by tools that anyone may have: ``make rtl``.

PandA-Bambu (``bambu``) turns a kernel's sources as they are into Verilog, Verilator simulates it on
one recorded run of the engine, and model, history and every counter have to be the recorded ones;
Yosys counts what the Verilog takes of an XC7Z020. Bambu pipelines functions and not loops, so this
shows that the sources are synthesizable and keep their bits in hardware, and nothing of II = 1, of
overlap or of a clock.

| module | |
|---|---|
| ``strip`` | copies the sources without the pragmas that Bambu refuses, and lists them |
| ``record`` | writes a run as a C++ header: registers, memories before and after, counters |
| ``replay.cpp`` | the bench that replays a header, on RTL or on the sources themselves |
| ``hls_stream.h`` | a channel that holds a whole run: processes run one after the other here |
| ``__main__`` | the tools, kernel by kernel |
"""
