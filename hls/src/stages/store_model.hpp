// Behind an epoch and behind the last block: the model.
#pragma once

#include "../memories.hpp"

namespace zipml {

/// Copies the update side's model to memory, and zeros behind its last feature.
template <class Format>
void StoreModel(const ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
                uint32_t features, uint32_t entries, int32_t *memory, uint64_t offset) {
  #pragma HLS INLINE off
  uint32_t row = 0, lane = 0;
  Spend(entries + kMemoryLatency);
STORE_MODEL:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    memory[offset + i] = i < features ? master[row][lane] : 0;
    if (++lane == TurnLanes<Format>()) {
      lane = 0;
      ++row;
    }
  }
}

/// The same of a version that the dot side reads.
template <class Format>
void StoreVersion(const ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
                  uint32_t version, uint32_t features, uint32_t entries, int32_t *memory) {
  #pragma HLS INLINE off
  uint32_t cell = version << CellsLog2<Format>(), lane = 0;
  Spend(entries + kMemoryLatency);
STORE_VERSION:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    memory[i] = i < features ? model[cell][lane] : 0;
    if (++lane == Format::kLanes) {
      lane = 0;
      ++cell;
    }
  }
}

}  // namespace zipml
