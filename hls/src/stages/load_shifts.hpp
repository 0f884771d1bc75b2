// Before the first block: steps of the features.
#pragma once

#include "../memories.hpp"
#include "zipml/arithmetic.hpp"

namespace zipml {

/// Copies log2 of the features' steps over the run's from memory, entry by entry; the lanes of a
/// turn are written together. Rows of the model are whole turns.
template <class Format>
void LoadShifts(const int32_t *memory, uint64_t offset, uint32_t entries,
                ShiftEntry<Format> shifts[1 << MasterLog2<Format>()]) {
  #pragma HLS INLINE off
  uint32_t row = 0, lane = 0;
  ShiftEntry<Format> turn = 0;
  Spend(entries + kMemoryLatency);
LOAD_SHIFTS:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 32768
    // the first lane's comes down to the lowest bits
    const ShiftEntry<Format> shift = FeatureShiftOf(memory[offset + i]);
    turn = turn >> kShiftBits | shift << (kShiftBits * (TurnLanes<Format>() - 1));
    if (++lane == TurnLanes<Format>()) {
      shifts[row] = turn;
      lane = 0;
      ++row;
    }
  }
}

}  // namespace zipml
