// Before the first block: the derivative of the loss.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"

namespace zipml {

/// Copies the table of a loss's derivative, or the coefficients of its polynomial.
inline void LoadDerivative(const int32_t *memory, uint32_t count,
                           int32_t derivative_first[kDerivativeEntries],
                           int32_t derivative_second[kDerivativeEntries],
                           int32_t terms[kMaxDegree + 1]) {
  #pragma HLS INLINE off
  Spend(count + kMemoryLatency);
LOAD_DERIVATIVE:
  for (uint32_t i = 0; i < count; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 1025
    const int32_t entry = memory[i];
    derivative_first[i] = entry;
    derivative_second[i] = entry;
    if (i <= kMaxDegree) terms[i] = entry;
  }
}

}  // namespace zipml
