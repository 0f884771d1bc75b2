# Written by python -m zipml_pynq.devices.bitstreams; do not edit.
PART := xcu50-fsvh2104-2-e
BOARD_PART :=
PLATFORM := xilinx_u50_gen3x16_xdma_5_202210_1
MEMORY := HBM[0]
DEVICE := xilinx_u50_gen3x16_xdma_base_5
WORD_BITS := 512
ULTRA_RAM := 1
CLOCK_MHZ := 300
PERIOD_NS := 3.333
SUFFIXES := .xclbin
