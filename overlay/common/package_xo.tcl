# The HLS kernel's IP as a kernel object for v++; called by the Makefile:
#   vivado -mode batch -source package_xo.tcl -tclargs KERNEL IP_FOLDER XML XO
# HLS could write one itself, but its Vitis flow has other defaults (ap_ctrl_chain, ports widened to
# 512 bits). From the IP, registers and ports are those of every other board. The IP of that flow says
# nothing of arguments and protocol, so XML does; it is written from the driver's register description.
if {[llength $argv] != 4} {
  error "usage: vivado -mode batch -source package_xo.tcl -tclargs KERNEL IP_FOLDER XML XO"
}
lassign $argv kernel ip xml xo
package_xo -force -kernel_name $kernel -ip_directory $ip -kernel_xml $xml -xo_path $xo
