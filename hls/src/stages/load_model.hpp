// Before the first block: the model, and corrections, which lie behind it alike.
#pragma once

#include "../memories.hpp"

namespace zipml {

/// Copies a number of each feature from memory, entry by entry, as the update side reads them.
template <class Format>
void LoadEntries(const int32_t *memory, uint64_t offset, uint32_t entries,
                 ModelEntry rows[1 << MasterLog2<Format>()][TurnLanes<Format>()]) {
  #pragma HLS INLINE off
  uint32_t row = 0, lane = 0;
  Spend(entries + kMemoryLatency);
LOAD_ENTRIES:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    rows[row][lane] = memory[offset + i];
    if (++lane == TurnLanes<Format>()) {
      lane = 0;
      ++row;
    }
  }
}

}  // namespace zipml
