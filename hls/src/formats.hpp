// What a word of the planes port holds: the one difference between the bit-plane kernel and its
// 32-bit baseline.
#pragma once

#include <ap_int.h>

#include "zipml/arithmetic.hpp"

namespace zipml {

/// One bit of kLanes values. Set: +factor, clear: -factor. No multiplier.
/// \tparam kWidth  bits of the planes port
template <int kWidth>
struct BitPlaneFormat {
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 512, "word widths of the boards");
  using word_t = ap_uint<kWidth>;
  static constexpr ValueFormat kFormat = kBitPlanes;
  static constexpr int kWordBits = kWidth;
  static constexpr int kLanes = kWidth;

  static int64_t Term(const word_t &word, int lane, int64_t factor) {
    #pragma HLS INLINE
    return word[lane] ? factor : -factor;
  }
};

/// kLanes float32 values in [-1, 1], turned into fixed point on arrival, so that sums are exact and
/// need no floating-point accumulator. One multiplier a lane and phase.
/// \tparam kWidth  bits of the planes port
template <int kWidth>
struct FloatFormat {
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 512, "word widths of the boards");
  using word_t = ap_uint<kWidth>;
  static constexpr ValueFormat kFormat = kFloat32;
  static constexpr int kWordBits = kWidth;
  static constexpr int kLanes = kWidth / 32;

  static int64_t Term(const word_t &word, int lane, int64_t factor) {
    #pragma HLS INLINE
    const uint32_t bits = static_cast<uint32_t>(word.range(32 * lane + 31, 32 * lane).to_uint());
    return RoundShift(FixedFromFloatBits(bits) * factor, kFloatProductShift);
  }
};

}  // namespace zipml
