// Before the first block of a cut run: what the run before it has left.
#pragma once

#include "../memories.hpp"

namespace zipml {

/// Coefficients of batches that an earlier run has dotted but not updated, oldest first.
inline void LoadPending(const int32_t *memory, uint64_t offset, uint32_t count,
                        CoefficientEntry coefficient_first[kCoefficientEntries],
                        CoefficientEntry coefficient_second[kCoefficientEntries]) {
  #pragma HLS INLINE off
  Spend(2 * count + kMemoryLatency);
LOAD_PENDING:
  for (uint32_t i = 0; i < 2 * count; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 4096
    const int32_t value = memory[offset + i];
    if ((i & 1) == 0) {
      coefficient_first[i >> 1] = value;
    } else {
      coefficient_second[i >> 1] = value;
    }
  }
}

}  // namespace zipml
