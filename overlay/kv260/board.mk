# Written by python -m zipml_pynq.bitstreams; do not edit.
PART := xck26-sfvc784-2LV-c
BOARD_PART := xilinx.com:kv260_som:part0:*
PLATFORM :=
DEVICE := KV260
WORD_BITS := 128
CLOCK_MHZ := 300
PERIOD_NS := 3.333
SUFFIXES := .bit .hwh
