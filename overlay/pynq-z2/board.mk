# Written by python -m zipml_pynq.devices.bitstreams; do not edit.
PART := xc7z020clg400-1
BOARD_PART := tul.com.tw:pynq-z2:part0:*
PLATFORM :=
MEMORY :=
DEVICE := Pynq-Z2
WORD_BITS := 64
ULTRA_RAM := 0
CLOCK_MHZ := 142.857
PERIOD_NS := 7.000
SUFFIXES := .bit .hwh
