# The PYNQ-Z1 has the PYNQ-Z2's device, crystal and memory.
source [file dirname [file normalize [info script]]]/../pynq-z2/ps.tcl
