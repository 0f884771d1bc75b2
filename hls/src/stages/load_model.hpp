// Before the first block: the model.
#pragma once

#include "../memories.hpp"

namespace zipml {

/// Copies the model from memory, entry by entry, into the update side's copy.
template <class Format>
void LoadModel(const int32_t *memory, uint32_t entries,
               ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()]) {
  #pragma HLS INLINE off
  uint32_t row = 0, lane = 0;
  Spend(entries + kMemoryLatency);
LOAD_MODEL:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    master[row][lane] = memory[i];
    if (++lane == TurnLanes<Format>()) {
      lane = 0;
      ++row;
    }
  }
}

}  // namespace zipml
