# Written by python -m zipml_pynq.devices.bitstreams; do not edit.
PART := xck26-sfvc784-2LV-c
BOARD_PART := xilinx.com:kr260_som:part0:*
PLATFORM :=
MEMORY :=
DEVICE := KR260
WORD_BITS := 128
ULTRA_RAM := 1
CLOCK_MHZ := 250
PERIOD_NS := 4.000
SUFFIXES := .bit .hwh
