# The Zynq UltraScale+ processing system of the KV260, and of other boards by way of it: registers through HPM0_FPD, memory through the
# first `ports` of HP0 to HP3. Returns what common/design.tcl connects. `preset` is 1 where Vivado has
# the board's files.
# Multiplier of the IO PLL: half of it times the crystal of 33.333 MHz, so 1000 MHz as in the boot image.
set ::iopll_feedback 60

proc create_processing_system {clock_mhz preset ports} {
  set name zynq_ultra_ps_e_0
  set cell [create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e $name]
  if {$preset} {
    apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e \
      -config [list apply_board_preset 1] $cell
  } else {
    # pynq programs the dividers of PL0 that follow from this crystal and this PLL
    set_property -dict [list \
      CONFIG.PSU__PSS_REF_CLK__FREQMHZ 33.333 \
      CONFIG.PSU__CRL_APB__IOPLL_CTRL__SRCSEL PSS_REF_CLK \
      CONFIG.PSU__CRL_APB__IOPLL_CTRL__DIV2 1 \
      CONFIG.PSU__CRL_APB__IOPLL_CTRL__FBDIV $::iopll_feedback] $cell
  }
  # pynq sets a clock's dividers and leaves it on the PLL that the boot image chose: the IO PLL.
  # Vivado counts ports differently: M_AXI_GP0 is HPM0_FPD, S_AXI_GP2 is HP0_FPD, S_AXI_GP3 HP1_FPD and
  # so on. HP1 and HP2 share a port of the memory controller, HP0 has another one.
  set_property -dict [list \
    CONFIG.PSU__FPGA_PL0_ENABLE 1 \
    CONFIG.PSU__CRL_APB__PL0_REF_CTRL__SRCSEL IOPLL \
    CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $clock_mhz \
    CONFIG.PSU__USE__M_AXI_GP0 1 \
    CONFIG.PSU__USE__M_AXI_GP1 0 \
    CONFIG.PSU__USE__M_AXI_GP2 0 \
    CONFIG.PSU__USE__IRQ0 1] $cell
  set clocked $name/maxihpm0_fpd_aclk
  for {set i 0} {$i < $ports} {incr i} {
    set gp [expr {$i + 2}]
    set_property CONFIG.PSU__USE__S_AXI_GP$gp 1 $cell
    set_property CONFIG.PSU__SAXIGP${gp}__DATA_WIDTH 128 $cell
    lappend clocked $name/saxihp${i}_fpd_aclk
    lappend memory $name/S_AXI_HP${i}_FPD
    lappend segments $name/SAXIGP$gp/HP${i}_DDR_LOW
    lappend others [lmap part {DDR_HIGH LPS_OCM QSPI} {string cat $name/SAXIGP$gp/HP${i}_$part}]
  }
  return [dict create \
    clock $name/pl_clk0 \
    frequency [list CONFIG.PSU__CRL_APB__PL0_REF_CTRL__ACT_FREQMHZ $cell] \
    reset $name/pl_resetn0 \
    clocked $clocked \
    control $name/M_AXI_HPM0_FPD \
    space $name/Data \
    base 0xA0000000 \
    memory $memory \
    segments $segments \
    others $others \
    memory_range 2G \
    interrupt $name/pl_ps_irq0]
}
