# The HLS kernel's IP as a kernel object for v++; called by the Makefile:
#   vivado -mode batch -source package_xo.tcl -tclargs KERNEL IP_FOLDER XO
# HLS could write one itself, but its Vitis flow has other defaults (ap_ctrl_chain, ports widened to
# 512 bits). From the IP, registers and ports are those of every other board.
if {[llength $argv] != 3} {
  error "usage: vivado -mode batch -source package_xo.tcl -tclargs KERNEL IP_FOLDER XO"
}
lassign $argv kernel ip xo
package_xo -force -kernel_name $kernel -ip_directory $ip -ctrl_protocol ap_ctrl_hs -xo_path $xo
