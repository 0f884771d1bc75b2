# The ZCU104's processing system is the KV260's with another IO PLL, of 1500 MHz as in its boot image.
source [file dirname [file normalize [info script]]]/../kv260/ps.tcl
set ::iopll_feedback 90
