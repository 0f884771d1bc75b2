# Stand-ins for the Tcl commands of vivado and vitis_hls:
#   VENDOR_RECORD=FILE tclsh commands.tcl SCRIPT ARGUMENT...
# runs a script as the tool would. Every command is written to the record with its arguments, one
# Tcl list a line; what a command would make on disk is made, empty; what it would answer is
# answered. Judging the record is the tests' part (block_design.py). A command that is not listed
# here ends the run.
#
# VENDOR_BOARD_FILES  what get_board_parts finds, by default nothing
# VENDOR_SLACK        worst slack of the implementation in ns, by default 0.1
# VENDOR_CLOCK        what a processing system makes of the clock, by default what was asked for

proc record {name arguments} {
  set file [open $::env(VENDOR_RECORD) a]
  puts $file [list $name {*}$arguments]
  close $file
}

proc setting {name default} {
  return [expr {[info exists ::env($name)] ? $::env($name) : $default}]
}

proc make {path} {
  file mkdir [file dirname $path]
  close [open $path w]
}

# Commands with a body of their own, or without one.
proc command {name {body {}}} {
  proc $name args "record $name \$args\n$body"
}

foreach name {
  set_top add_files open_solution set_part create_clock set_clock_uncertainty config_interface
  csim_design cosim_design
  set_property update_ip_catalog create_bd_design apply_bd_automation connect_bd_net
  connect_bd_intf_net assign_bd_address validate_bd_design save_bd_design generate_target
  exclude_bd_addr_seg set_param make_wrapper wait_on_run reset_run open_run
} {
  command $name
}

# Objects are their names.
foreach name {
  get_bd_cells get_bd_pins get_bd_intf_pins get_bd_addr_spaces get_bd_addr_segs get_files get_runs
} {
  proc $name args { return [lindex $args end] }
}
proc current_project {} { return project }
proc current_fileset {} { return sources_1 }
command get_board_parts { return [setting VENDOR_BOARD_FILES {}] }
command create_bd_cell { return [lindex $args end] }

proc get_property {property object} {
  switch -glob $property {
    PROGRESS { return [expr {$object eq "synth_1" ? "0%" : "100%"}] }
    CONFIG.*ACT_* { return [setting VENDOR_CLOCK $::clock_mhz] }
    STATS.* { return [setting VENDOR_SLACK 0.1] }
    STATUS { return "write_bitstream Complete!" }
    default { error "no property $property here" }
  }
}

# ---- What is made on disk --------------------------------------------------------------------

command create_project { make [lindex $args 2]/[lindex $args 1].xpr }
command open_project {
  set ::opened [lindex $args end]
  if {[file extension $::opened] eq ".xpr" && ![file exists $::opened]} {
    error "$::opened does not exist"
  }
}
command launch_runs {
  set folder [file dirname $::opened]
  set name [file rootname [file tail $::opened]]
  make $folder/$name.runs/impl_1/${name}_wrapper.bit
  make $folder/$name.gen/sources_1/bd/$name/hw_handoff/$name.hwh
}
foreach name {report_timing_summary report_utilization report_clocks} {
  command $name { make [lindex $args end] }
}
command csynth_design { make $::opened/solution/syn/report/csynth.rpt }
command export_design { make $::opened/solution/impl/ip/component.xml }
command package_xo { make [lindex $args end] }

set argv [lassign $argv script]
source $script
