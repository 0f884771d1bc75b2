// The interface pragmas that the top functions share: ports of AXI masters, whose bundles are
// memory ports, and registers. A macro, for they have to stand in each top function itself.
#pragma once

#include "pragmas.hpp"
#include "zipml/config.hpp"
#include "zipml/tops.hpp"

// clang-format off: one continued line each
// A register, or the address of a port.
#define ZIPML_REGISTER(name) ZIPML_PRAGMA(INTERFACE mode=s_axilite port=name bundle=control)
#define ZIPML_REGISTER_OUT(type, name) ZIPML_REGISTER(name)

// A port of its own that is read. `entries` are those that co-simulation copies.
#define ZIPML_READ_PORT(name, memory_port, entries, reads) \
  ZIPML_PRAGMA(INTERFACE mode=m_axi port=name bundle=memory_port offset=slave depth=entries \
               latency=ZIPML_MEMORY_LATENCY num_read_outstanding=reads max_read_burst_length=16) \
  ZIPML_REGISTER(name)

// One that shares the port of what comes before the blocks and behind them.
#define ZIPML_VECTOR_PORT(name, entries) \
  ZIPML_PRAGMA(INTERFACE mode=m_axi port=name bundle=gmem_vectors offset=slave depth=entries \
               latency=ZIPML_MEMORY_LATENCY max_read_burst_length=16 max_write_burst_length=16) \
  ZIPML_REGISTER(name)

// What every top function has: ZIPML_PORTS, ZIPML_SCALARS, ZIPML_OUTPUTS.
#define ZIPML_INTERFACES \
  ZIPML_READ_PORT(planes, gmem_planes, 4096, 16) \
  ZIPML_READ_PORT(labels, gmem_labels, 2048, 4) \
  ZIPML_VECTOR_PORT(model, 4096) \
  ZIPML_VECTOR_PORT(history, 4096) \
  ZIPML_VECTOR_PORT(schedule, 128) \
  ZIPML_VECTOR_PORT(derivative, 1025) \
  ZIPML_EACH_SCALAR(ZIPML_REGISTER, ZIPML_REGISTER) \
  ZIPML_EACH_OUTPUT(ZIPML_REGISTER_OUT, ZIPML_REGISTER_OUT) \
  ZIPML_REGISTER(return)
// clang-format on
