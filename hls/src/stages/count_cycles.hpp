// A clock beside the trainer: what a run really took.
#pragma once

#include <cstdint>

#include "../memories.hpp"
#include "../processes.hpp"

namespace zipml {

/// The trainer's mark of its first and of its last cycle. The region keeps it there: nothing before
/// it and nothing behind it runs beside it (UG1399, pragma protocol, mode fixed).
inline void MarkCycle(hls::stream<bool> &marks, bool last) {
  #pragma HLS INLINE off
  #pragma HLS PROTOCOL mode = fixed
  marks.write(last);
}

/// Process: counts the cycles from the first mark to the second. Between them nothing stops it,
/// whatever the trainer waits for.
inline void CountCycles(hls::stream<bool> &marks, uint64_t &cycles) {
  #pragma HLS INLINE off
  marks.read();
#ifdef __SYNTHESIS__
  uint64_t count = 0;
  bool last = false;
COUNT_CYCLES:
  for (; !last; ++count) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 1024 max = 1073741824
    bool mark = false;
    last = marks.read_nb(mark);
  }
  cycles = count;
#else
  // a program has no clock; the bench has one that its passes advance
  const uint64_t begin = CycleNow();
  marks.read();
  cycles = CycleNow() - begin;
#endif
}

}  // namespace zipml
