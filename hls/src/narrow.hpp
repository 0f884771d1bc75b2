// Numbers that need fewer bits than their C++ type has. A tool sees the type, and what it can
// prove; what follows from the limits of the registers it cannot, and would multiply 32 by 32 bits,
// or carry through 64, where a few are in use. In the bench a number that does not fit ends the
// run.
#pragma once

#include <ap_int.h>

#include <cstdint>

#include "watch.hpp"
#include "zipml/config.hpp"

namespace zipml {

/// Bits that numbers from 0 to `most` need; when it compiles, and never in a circuit.
constexpr int BitsOf(uint32_t most) { return most == 0 ? 0 : 1 + BitsOf(most >> 1); }

/// The same number, of so many bits, its sign included.
template <int kBits>
int64_t Signed(int64_t value) {
  #pragma HLS INLINE
  const int64_t narrow = ap_int<kBits>(value).to_int64();
  Expect(narrow == value, kBits);
  return narrow;
}

/// The same for numbers that are not negative.
template <int kBits>
uint32_t Unsigned(uint32_t value) {
  #pragma HLS INLINE
  const uint32_t narrow = ap_uint<kBits>(value).to_uint();
  Expect(narrow == value, kBits);
  return narrow;
}

// Bits of what the registers say, once they are valid.
constexpr int kPlaneBits = BitsOf(kWideMaxBits - 1 + kMaxDithers);
constexpr int kBatchBits = BitsOf(kMaxBatch);
constexpr int kBlockSampleBits = BitsOf(kBlockSamples);  // and batches of a block
constexpr int kDelayBits = BitsOf(kMaxDelay + 1);        // and batches in the ring
constexpr int kFeatureBits = kMaxFeaturesLog2 + 1;
constexpr int kTurnBits = BitsOf(1u << CloseTurnsLog2(kBitPlanes));
constexpr int kSlotBits = 16;  // cycles of a slot: words in the ring, and a bubble

/// A product of two such numbers.
template <int kLeft, int kRight>
uint32_t Product(uint32_t left, uint32_t right) {
  #pragma HLS INLINE
  static_assert(kLeft + kRight <= 32, "a product of 32 bits");
  return Unsigned<kLeft>(left) * Unsigned<kRight>(right);
}

}  // namespace zipml
