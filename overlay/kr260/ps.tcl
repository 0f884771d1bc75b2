# The KR260 has the KV260's module, and with it device, crystal, memory and boot image's clocks.
source [file dirname [file normalize [info script]]]/../kv260/ps.tcl
