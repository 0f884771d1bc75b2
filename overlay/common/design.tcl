# The block design around one or several kernels, the same on every board with a processing system:
#
#   processing system -- axi_control --+-- zipml_sgd_0 -- axi_planes_0  -- memory port 0
#                                      |              -- axi_vectors_0 -- memory port 1
#                                      |              -- axi_full_0    -- memory port 2
#                                      +-- zipml_sgd_1 and so on, with the ports behind these
#                                      +-- axi_intc_0
#
# The planes have a memory port to themselves, for they are what the kernel's speed depends on. So have
# the float32 samples of the kernel that reads some again, which come while planes stream; the other
# kernels have no such path. One clock drives everything. The interrupt goes through a controller,
# since that is where pynq looks; of several kernels they are brought together before. Instance names are those of the emulated board (zipml_pynq/hwh.py).

# Connect a driver to every pin of a list.
proc fan_out {driver pins} {
  foreach pin $pins {
    connect_bd_net [get_bd_pins $driver] [get_bd_pins $pin]
  }
}

proc connect_interfaces {master slave} {
  connect_bd_intf_net [get_bd_intf_pins $master] [get_bd_intf_pins $slave]
}

proc create_smartconnect {name slaves masters} {
  set cell [create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect $name]
  set_property -dict [list CONFIG.NUM_SI $slaves CONFIG.NUM_MI $masters] $cell
}

# Put a segment into an address space, at a place of our choice.
proc place {space segment offset range} {
  assign_bd_address -offset $offset -range $range -force \
    -target_address_space [get_bd_addr_spaces $space] [get_bd_addr_segs $segment]
}

# Leave what else a memory port reaches out of an address space. Which of it there is depends on the
# memory that the processing system was told of; a segment that is neither placed nor left out is a
# critical warning.
proc leave_out {space segments} {
  foreach segment $segments {
    set found [get_bd_addr_segs -quiet $segment]
    if {$found ne ""} {
      exclude_bd_addr_seg -target_address_space [get_bd_addr_spaces $space] $found
    }
  }
}

# The kernel's memory ports by the interconnect that takes them to memory.
proc memory_paths {bundles} {
  set interconnects [dict create \
    gmem_planes axi_planes \
    gmem_labels axi_vectors \
    gmem_vectors axi_vectors \
    gmem_full axi_full]
  foreach bundle $bundles {
    dict lappend paths [dict get $interconnects $bundle] $bundle
  }
  return $paths
}

# The registers of a kernel by its number; behind the last one's those of the interrupt controller.
proc place_registers {ps number segment} {
  set offset [expr {[dict get $ps base] + 0x10000 * $number}]
  place [dict get $ps space] $segment [format 0x%08X $offset] 64K
}

# `ps` describes the processing system, see the board's ps.tcl; it has a memory port for each path of
# each of `units` kernels.
proc connect_design {ps kernel paths units} {
  create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset proc_sys_reset_0
  set controller [create_bd_cell -type ip -vlnv xilinx.com:ip:axi_intc axi_intc_0]
  # one wire instead of an interface that only MicroBlaze takes
  set_property CONFIG.C_IRQ_CONNECTION 1 $controller
  create_smartconnect axi_control 1 [expr {$units + 1}]

  fan_out [dict get $ps clock] {
    proc_sys_reset_0/slowest_sync_clk
    axi_intc_0/s_axi_aclk
    axi_control/aclk
  }
  fan_out [dict get $ps clock] [dict get $ps clocked]
  fan_out [dict get $ps reset] proc_sys_reset_0/ext_reset_in
  fan_out proc_sys_reset_0/peripheral_aresetn {
    axi_intc_0/s_axi_aresetn
    axi_control/aresetn
  }
  fan_out axi_intc_0/irq [dict get $ps interrupt]

  connect_interfaces [dict get $ps control] axi_control/S00_AXI
  connect_interfaces axi_control/M0${units}_AXI axi_intc_0/s_axi
  place_registers $ps $units axi_intc_0/S_AXI/Reg
  set interrupts axi_intc_0/intr
  if {$units > 1} {
    set concat [create_bd_cell -type ip -vlnv xilinx.com:ip:xlconcat xlconcat_0]
    set_property CONFIG.NUM_PORTS $units $concat
    fan_out xlconcat_0/dout $interrupts
    set interrupts xlconcat_0/In
  }
  for {set unit 0} {$unit < $units} {incr unit} {
    set cell zipml_sgd_$unit
    create_bd_cell -type ip -vlnv zipml:hls:$kernel:1.0 $cell
    fan_out [dict get $ps clock] $cell/ap_clk
    fan_out proc_sys_reset_0/peripheral_aresetn $cell/ap_rst_n
    fan_out $cell/interrupt [expr {$units > 1 ? "$interrupts$unit" : $interrupts}]
    connect_interfaces axi_control/M0${unit}_AXI $cell/s_axi_control
    place_registers $ps $unit $cell/s_axi_control/Reg
    connect_memory $ps $cell $paths $unit
  }
}

# The memory paths of a kernel, to the ports that follow those of the kernels before it.
proc connect_memory {ps cell paths unit} {
  set number [expr {$unit * [dict size $paths]}]
  foreach {path bundles} $paths {
    set interconnect ${path}_$unit
    create_smartconnect $interconnect [llength $bundles] 1
    fan_out [dict get $ps clock] $interconnect/aclk
    fan_out proc_sys_reset_0/peripheral_aresetn $interconnect/aresetn
    connect_interfaces $interconnect/M00_AXI [lindex [dict get $ps memory] $number]
    set slave 0
    foreach bundle $bundles {
      connect_interfaces $cell/m_axi_$bundle $interconnect/S0${slave}_AXI
      place $cell/Data_m_axi_$bundle [lindex [dict get $ps segments] $number] 0x0 \
        [dict get $ps memory_range]
      leave_out $cell/Data_m_axi_$bundle [lindex [dict get $ps others] $number]
      incr slave
    }
    incr number
  }
}
