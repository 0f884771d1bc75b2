# The block design around a kernel, the same on every board with a processing system:
#
#   processing system -- axi_control --+-- zipml_sgd_0 -- axi_planes  -- memory port 0
#                                      |              -- axi_vectors -- memory port 1
#                                      |              -- axi_full    -- memory port 2
#                                      +-- axi_intc_0
#
# The planes have a memory port to themselves, for they are what the kernel's speed depends on. So have
# the float32 samples of the kernel that reads some again, which come while planes stream; the other
# kernels have no such path. One clock drives everything. The interrupt goes through a controller,
# since that is where pynq looks. Instance names are those of the emulated board (zipml_pynq/hwh.py).

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

# `ps` describes the processing system, see the board's ps.tcl; it has a memory port for each path.
proc connect_design {ps kernel paths} {
  create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset proc_sys_reset_0
  create_bd_cell -type ip -vlnv zipml:hls:$kernel:1.0 zipml_sgd_0
  set controller [create_bd_cell -type ip -vlnv xilinx.com:ip:axi_intc axi_intc_0]
  # one wire instead of an interface that only MicroBlaze takes
  set_property CONFIG.C_IRQ_CONNECTION 1 $controller
  create_smartconnect axi_control 1 2

  fan_out [dict get $ps clock] {
    proc_sys_reset_0/slowest_sync_clk
    zipml_sgd_0/ap_clk
    axi_intc_0/s_axi_aclk
    axi_control/aclk
  }
  fan_out [dict get $ps clock] [dict get $ps clocked]
  fan_out [dict get $ps reset] proc_sys_reset_0/ext_reset_in
  fan_out proc_sys_reset_0/peripheral_aresetn {
    zipml_sgd_0/ap_rst_n
    axi_intc_0/s_axi_aresetn
    axi_control/aresetn
  }
  fan_out zipml_sgd_0/interrupt axi_intc_0/intr
  fan_out axi_intc_0/irq [dict get $ps interrupt]

  connect_interfaces [dict get $ps control] axi_control/S00_AXI
  connect_interfaces axi_control/M00_AXI zipml_sgd_0/s_axi_control
  connect_interfaces axi_control/M01_AXI axi_intc_0/s_axi
  set base [dict get $ps base]
  place [dict get $ps space] zipml_sgd_0/s_axi_control/Reg $base 64K
  place [dict get $ps space] axi_intc_0/S_AXI/Reg [format 0x%08X [expr {$base + 0x10000}]] 64K

  foreach {path bundles} $paths port [dict get $ps memory] segment [dict get $ps segments] \
      others [dict get $ps others] {
    create_smartconnect $path [llength $bundles] 1
    fan_out [dict get $ps clock] $path/aclk
    fan_out proc_sys_reset_0/peripheral_aresetn $path/aresetn
    connect_interfaces $path/M00_AXI $port
    set slave 0
    foreach bundle $bundles {
      connect_interfaces zipml_sgd_0/m_axi_$bundle $path/S0${slave}_AXI
      place zipml_sgd_0/Data_m_axi_$bundle $segment 0x0 [dict get $ps memory_range]
      leave_out zipml_sgd_0/Data_m_axi_$bundle $others
      incr slave
    }
  }
}
