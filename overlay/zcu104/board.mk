# Written by python -m zipml_pynq.devices.bitstreams; do not edit.
PART := xczu7ev-ffvc1156-2-e
BOARD_PART := xilinx.com:zcu104:part0:*
PLATFORM :=
MEMORY :=
DEVICE := ZCU104
WORD_BITS := 128
ULTRA_RAM := 1
CLOCK_MHZ := 250
PERIOD_NS := 4.000
SUFFIXES := .bit .hwh
