# The Vivado stages of a board with a processing system; called by the Makefile:
#   vivado -mode batch -source vivado.tcl -tclargs design|bitstream KEY VALUE...
# with keys board, kernel, units (how many of it), part, board_part, clock_mhz, bundles (a kernel's memory
# ports), ip (folder of the HLS kernel's IP), out (folder for everything that is made), name (of the files
# that are handed on), jobs, and board_repo, a folder with board files from outside of the installation,
# or "".
set here [file dirname [file normalize [info script]]]
set build [lassign $argv stage]
dict with build {}
set project $out/project

proc design {} {
  global here board kernel units part board_part clock_mhz bundles ip project board_repo
  if {$board_repo ne ""} {
    set_param board.repoPaths [list $board_repo]
  }
  create_project -force $kernel $project -part $part
  # Board files bring the settings of memory and pins. They are not in every installation, and a
  # bitstream that pynq loads does not need them: by then the boot image has set up all of that.
  # ps.tcl sets what the programmable logic depends on in either case.
  set board_files [get_board_parts -quiet -latest_file_version $board_part]
  if {$board_files eq ""} {
    puts "no board files $board_part: the processing system is set up without them"
  } else {
    set_property board_part [lindex $board_files 0] [current_project]
  }
  set_property ip_repo_paths [list $ip] [current_project]
  update_ip_catalog

  create_bd_design $kernel
  source $here/../$board/ps.tcl
  source $here/design.tcl
  set paths [memory_paths $bundles]
  set ports [expr {$units * [dict size $paths]}]
  if {$ports > 4} {
    error "UNITS was $units; each $kernel takes [dict size $paths] of the 4 memory ports"
  }
  set ps [create_processing_system $clock_mhz [expr {$board_files ne ""}] $ports]
  connect_design $ps $kernel $paths $units
  validate_bd_design
  note_clock [dict get $ps frequency]
  save_bd_design
  generate_target all [get_files $kernel.bd]
  make_wrapper -files [get_files $kernel.bd] -top -import
  set_property top ${kernel}_wrapper [current_fileset]
}

# A processing system divides its clocks from a PLL and does not meet every frequency. What it makes
# is written down for the stamp; timing is judged at it.
proc note_clock {frequency} {
  global out clock_mhz
  set actual [get_property {*}$frequency]
  if {abs($actual - $clock_mhz) > 0.01 * $clock_mhz} {
    puts "WARNING: the kernel's clock is $actual MHz, not $clock_mhz MHz"
  }
  set file [open $out/clock_mhz w]
  puts $file $actual
  close $file
}

proc bitstream {} {
  global kernel name project out jobs
  open_project $project/$kernel.xpr
  if {[get_property PROGRESS [get_runs synth_1]] ne "0%"} {
    reset_run synth_1
  }
  # copies of what goes to all lanes (hls/src/spread.hpp) hold the same and are to stay
  set_property STEPS.SYNTH_DESIGN.ARGS.KEEP_EQUIVALENT_REGISTERS true [get_runs *synth_1]
  set_property strategy Performance_ExplorePostRoutePhysOpt [get_runs impl_1]
  launch_runs impl_1 -to_step write_bitstream -jobs $jobs
  wait_on_run impl_1
  if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} {
    error "implementation ended with '[get_property STATUS [get_runs impl_1]]'; see\
      $project/$kernel.runs/*/runme.log"
  }
  open_run impl_1
  file mkdir $out/reports
  report_timing_summary -file $out/reports/timing.rpt
  report_utilization -hierarchical -hierarchical_depth 3 -file $out/reports/utilization.rpt
  report_clocks -file $out/reports/clocks.rpt
  # a bitstream that misses its timing mostly works, which is worse than none
  foreach slack {WNS WHS} {
    set worst [get_property STATS.$slack [get_runs impl_1]]
    if {$worst < 0} {
      error "timing is not met: $slack is $worst ns; see $out/reports/timing.rpt. A lower clock is\
        set in zipml_pynq/schedule.py (docs/boards.md)"
    }
  }
  file copy -force $project/$kernel.runs/impl_1/${kernel}_wrapper.bit $out/$name.bit
  file copy -force $project/$kernel.gen/sources_1/bd/$kernel/hw_handoff/$kernel.hwh $out/$name.hwh
}

if {$stage ni {design bitstream}} {
  error "STAGE was '$stage'; allowed are design and bitstream"
}
$stage
