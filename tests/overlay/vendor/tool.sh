#!/bin/sh
# Stands in for vivado, vitis_hls, v++ and vitis-run, by the name that it is called by.
set -eu
here=$(dirname "$(readlink -f "$0")")
tool=$(basename "$0")
[ "$tool" != "${VENDOR_BROKEN:-}" ] || { echo "$tool v2025.1: no such application" && exit 1; }
case "$*" in
  -version | --version)
    echo "$tool v${VENDOR_VERSION:-2023.2} (64-bit)"
    exit 0
    ;;
esac
echo "$tool $*" >> "$VENDOR_CALLS"
case $tool in
  vivado | vitis_hls)
    script=
    while [ $# -gt 0 ]; do
      case $1 in
        -source | -f) script=$2 && shift 2 ;;
        -tclargs) shift && break ;;
        *) shift ;;
      esac
    done
    exec tclsh "$here/commands.tcl" "$script" "$@"
    ;;
  v++)
    while [ $# -gt 0 ]; do
      case $1 in
        --output) : > "$2" ;;
        --report_dir) mkdir -p "$2" && : > "$2/timing.rpt" ;;
      esac
      shift
    done
    ;;
  vitis-run)
    while [ $# -gt 0 ]; do
      case $1 in
        --package) package=1 ;;
        --work_dir) work=$2 ;;
      esac
      shift
    done
    [ -z "${package:-}" ] || { mkdir -p "$work/hls/impl/ip" && : > "$work/hls/impl/ip/component.xml"; }
    ;;
esac
