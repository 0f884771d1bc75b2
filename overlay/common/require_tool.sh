#!/bin/sh
# require_tool.sh MINIMUM TOOL...: ends with a clear message where a tool is missing or too old.
set -eu
minimum=$1
shift
for tool; do
  if ! command -v "$tool" >/dev/null; then
    echo "$tool is not on PATH: source settings64.sh of the vendor's tools, $minimum or later" >&2
    exit 1
  fi
  case $tool in
    vivado | vitis_hls) option=-version ;;
    *) option=--version ;;
  esac
  # "vivado v2023.2 (64-bit)", "v++ v2023.2 (64-bit)", "Vitis v2024.1 ..."
  told=$("$tool" "$option" 2>/dev/null) || told=
  found=$(echo "$told" | sed -n 's/.*\(20[0-9][0-9]\.[0-9][0-9.]*\).*/\1/p' | head -n 1)
  if [ -z "$found" ]; then
    echo "$tool $option fails or does not tell a version; $minimum or later is needed" >&2
    exit 1
  fi
  if [ "$(printf '%s\n%s\n' "$minimum" "$found" | sort -V | head -n 1)" != "$minimum" ]; then
    echo "$tool is of release $found; $minimum or later is needed" >&2
    exit 1
  fi
done
