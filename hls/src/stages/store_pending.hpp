// Behind the last block of a cut run: what is left to the next one.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"

namespace zipml {

/// Writes the coefficients of `pending` batches; the oldest of them is at place `first` of a ring
/// of `ring_batches`.
inline void StorePending(const CoefficientEntry coefficient_first[kCoefficientEntries],
                         const CoefficientEntry coefficient_second[kCoefficientEntries],
                         uint32_t first, uint32_t ring_batches, const Registers &r,
                         uint32_t pending, int32_t *memory, uint64_t offset) {
  #pragma HLS INLINE off
  const uint32_t samples = PendingSamples(r, pending);
  const uint32_t ring_samples = PendingSamples(r, ring_batches);
  uint32_t place = PendingSamples(r, first);
  Spend(2 * samples + kMemoryLatency);
STORE_PENDING:
  for (uint32_t i = 0; i < 2 * samples; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 4096
    memory[offset + i] = (i & 1) == 0 ? coefficient_first[place] : coefficient_second[place];
    if ((i & 1) == 1) {
      place = place + 1 == ring_samples ? 0 : place + 1;
    }
  }
}

}  // namespace zipml
