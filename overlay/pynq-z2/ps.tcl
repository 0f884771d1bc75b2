# The Zynq-7000 processing system of the PYNQ-Z2: registers through GP0, memory through the first
# `ports` of HP0 to HP3. Returns what common/design.tcl connects. `preset` is 1 where Vivado has the
# board's files.
proc create_processing_system {clock_mhz preset ports} {
  set name processing_system7_0
  set cell [create_bd_cell -type ip -vlnv xilinx.com:ip:processing_system7 $name]
  apply_bd_automation -rule xilinx.com:bd_rule:processing_system7 \
    -config [list make_external "FIXED_IO, DDR" apply_board_preset $preset \
      Master Disable Slave Disable] $cell
  if {!$preset} {
    # The two facts of the board that this design depends on: pynq programs the dividers of FCLK0
    # that follow from the crystal, and the memory ports reach as far as there is memory.
    set_property -dict [list \
      CONFIG.PCW_CRYSTAL_PERIPHERAL_FREQMHZ 50 \
      CONFIG.PCW_UIPARAM_DDR_BUS_WIDTH {16 Bit}] $cell
  }
  set_property -dict [list \
    CONFIG.PCW_EN_CLK0_PORT 1 \
    CONFIG.PCW_EN_RST0_PORT 1 \
    CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ $clock_mhz \
    CONFIG.PCW_USE_M_AXI_GP0 1 \
    CONFIG.PCW_USE_M_AXI_GP1 0 \
    CONFIG.PCW_USE_FABRIC_INTERRUPT 1 \
    CONFIG.PCW_IRQ_F2P_INTR 1] $cell
  # HP0 and HP1 share a port of the memory controller, HP2 has another one
  set clocked $name/M_AXI_GP0_ACLK
  for {set i 0} {$i < $ports} {incr i} {
    set_property CONFIG.PCW_USE_S_AXI_HP$i 1 $cell
    # the width that the boot image leaves the port at; pynq sets widths on UltraScale+ alone
    set_property CONFIG.PCW_S_AXI_HP${i}_DATA_WIDTH 64 $cell
    lappend clocked $name/S_AXI_HP${i}_ACLK
    lappend memory $name/S_AXI_HP$i
    lappend segments $name/S_AXI_HP$i/HP${i}_DDR_LOWOCM
    lappend others {}
  }
  return [dict create \
    clock $name/FCLK_CLK0 \
    frequency [list CONFIG.PCW_ACT_FPGA0_PERIPHERAL_FREQMHZ $cell] \
    reset $name/FCLK_RESET0_N \
    clocked $clocked \
    control $name/M_AXI_GP0 \
    space $name/Data \
    base 0x40000000 \
    memory $memory \
    segments $segments \
    others $others \
    memory_range 512M \
    interrupt $name/IRQ_F2P]
}
