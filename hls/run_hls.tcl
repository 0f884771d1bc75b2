# A kernel through the classic Tcl flow (vitis_hls of 2023.2 and later):
#   vitis_hls -f run_hls.tcl -tclargs TOP WORD_BITS PART PERIOD_NS ULTRA_RAM STAGE...
# with ULTRA_RAM 1 where the device has such memories, else 0, and STAGE out of csim, csynth, cosim,
# export. The project is made in the current folder; `make -C overlay hls` calls this for a board and
# says where. hls_config.cfg has the same settings for the unified flow, and
# tests/hls/test_hls_scripts.py compares the two.
# Not run here: there is no vendor tool on the development machines.
set here [file dirname [file normalize [info script]]]
set arguments $argv
# vitis_hls hands its own options on in front of -tclargs
set marker [lsearch $arguments -tclargs]
if {$marker >= 0} {
  set arguments [lrange $arguments [expr {$marker + 1}] end]
}
if {[llength $arguments] < 6} {
  error "usage: vitis_hls -f run_hls.tcl -tclargs TOP WORD_BITS PART PERIOD_NS ULTRA_RAM STAGE..."
}
set stages [lassign $arguments top word_bits part period ultra_ram]

# A choice out of a list, or an error that names the list.
proc require {name value allowed} {
  if {$value ni $allowed} {
    error "$name was '$value'; allowed are [join $allowed {, }]"
  }
}

# What each top function needs of the bench, which is one for all of them.
set bench_flags [dict create \
  zipml_sgd {} \
  zipml_sgd_f32 {-DZIPML_BENCH_FLOAT} \
  zipml_sgd_levels {-DZIPML_BENCH_LEVELS} \
  zipml_sgd_refetch {-DZIPML_BENCH_REFETCH} \
  zipml_sgd_wide {-DZIPML_BENCH_WIDE}]
require TOP $top [dict keys $bench_flags]
require WORD_BITS $word_bits {64 128 512}
require ULTRA_RAM $ultra_ram {0 1}
foreach stage $stages {
  require STAGE $stage {csim csynth cosim export}
}

# distances of the feedback paths follow from word and clock (include/zipml/distances.hpp)
set clock_mhz [expr {int(1000.0 / $period + 0.05)}]
set flags "-I$here/include -DZIPML_WORD_BITS=$word_bits -DZIPML_CLOCK_MHZ=$clock_mhz\
  -DZIPML_ULTRA_RAM=$ultra_ram"
set bench "$flags -DZIPML_BENCH_QUICK -Wno-unknown-pragmas"
foreach flag [dict get $bench_flags $top] {
  append bench " $flag"
}

open_project -reset "${top}_$word_bits"
set_top $top
add_files "$here/src/$top.cpp" -cflags $flags
add_files -tb "$here/tb/zipml_sgd_tb.cpp" -cflags $bench
# Every board gets a Vivado IP, the Alveo card too (overlay/common/package_xo.tcl): registers,
# ap_ctrl_hs and port widths are then the same everywhere.
open_solution -reset solution -flow_target vivado
set_part $part
create_clock -period $period -name default
set_clock_uncertainty 12%
# Ports keep the widths of their arguments: the schedule counts on them.
config_interface -m_axi_addr64 -m_axi_latency 64 -m_axi_max_widen_bitwidth 0
foreach stage $stages {
  switch $stage {
    csim { csim_design }
    csynth { csynth_design }
    cosim { cosim_design }
    export {
      export_design -format ip_catalog -vendor zipml -library hls -ipname $top -version 1.0
    }
  }
}
exit
