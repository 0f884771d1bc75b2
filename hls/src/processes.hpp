// Processes of the dataflow region, and the channels between them. As they stand, processes are
// calls, one after the other, and channels hold what they are given: a sequential program, which is
// what C simulation runs. A simulation that has a header for it (sw_emu/simulation/hls_stream.h)
// runs each process in a thread of its own, with channels as deep as they are in hardware.
#pragma once

#include <hls_stream.h>

#include "pragmas.hpp"

#ifndef ZIPML_PROCESS
// clang-format off: one continued line each
#define ZIPML_REGION
#define ZIPML_CHANNEL(Value, channel, entries) \
  hls::stream<Value> channel; \
  ZIPML_PRAGMA(STREAM variable=channel type=fifo depth=entries) \
  ZIPML_PRAGMA(BIND_STORAGE variable=channel type=fifo impl=lutram)
#define ZIPML_PROCESS(...) __VA_ARGS__
#define ZIPML_REGION_END
// clang-format on
#endif

// Words and labels that are read ahead of the trainer: as many as come in the latency of a block's
// two bursts, so that the trainer does not see it. They fit look-up tables.
#define ZIPML_WORDS_AHEAD 128
#define ZIPML_LABELS_AHEAD 64
