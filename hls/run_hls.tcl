# The bit-plane kernel or its 32-bit baseline through the classic Tcl flow:
#   vitis_hls -f run_hls.tcl -tclargs TOP WORD_BITS PART PERIOD_NS STAGE...
# with TOP zipml_sgd or zipml_sgd_f32 and STAGE out of csim, csynth, cosim, export.
# Not run here: there is no vendor tool on the development machines.
set here [file dirname [file normalize [info script]]]
set arguments $argv
# vitis_hls hands its own options on in front of -tclargs
set marker [lsearch $arguments -tclargs]
if {$marker >= 0} {
  set arguments [lrange $arguments [expr {$marker + 1}] end]
}
if {[llength $arguments] < 5} {
  error "usage: vitis_hls -f run_hls.tcl -tclargs TOP WORD_BITS PART PERIOD_NS STAGE..."
}
lassign $arguments top word_bits part period
set stages [lrange $arguments 4 end]
if {$top ni {zipml_sgd zipml_sgd_f32}} {
  error "TOP was '$top'; allowed are zipml_sgd and zipml_sgd_f32"
}
if {$word_bits ni {64 128 512}} {
  error "WORD_BITS was '$word_bits'; allowed are 64, 128 and 512"
}
foreach stage $stages {
  if {$stage ni {csim csynth cosim export}} {
    error "STAGE was '$stage'; allowed are csim, csynth, cosim and export"
  }
}

set flags "-I$here/include -DZIPML_WORD_BITS=$word_bits"
set bench "$flags -DZIPML_BENCH_QUICK -Wno-unknown-pragmas"
if {$top eq "zipml_sgd_f32"} {
  append bench " -DZIPML_BENCH_FLOAT"
}

open_project -reset "${top}_$word_bits"
set_top $top
add_files "$here/src/$top.cpp" -cflags $flags
add_files -tb "$here/tb/zipml_sgd_tb.cpp" -cflags $bench
open_solution -reset solution -flow_target vivado
set_part $part
create_clock -period $period -name default
config_interface -m_axi_addr64
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
