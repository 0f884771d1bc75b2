#!/bin/sh
# hls_flow.sh: which HLS flow the tools on PATH have, "classic" (vitis_hls) or "unified" (v++, vitis-run).
# A launcher that is there and fails is no tool. Where there is none, the unified one is named as missing.
set -eu
has() { "$(dirname "$0")/require_tool.sh" "$@" 2>/dev/null; }
if ! has 2024.2 v++ vitis-run && has 0 vitis_hls; then
  echo classic
else
  echo unified
fi
