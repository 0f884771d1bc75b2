// Steps of Philox4x32 (Salmon et al., SC 2011) for many counters at a time, in vectors.
#ifndef ZIPML_PHILOX_HPP
#define ZIPML_PHILOX_HPP
#include <cstdint>

#define ZIPML_INLINE inline __attribute__((always_inline))

namespace {

/// Counters at a time. The random numbers of one value are half of a Philox output, so these are
/// for 64 values: two neighbours share a call.
constexpr uint32_t kPairs = 32;

/// A word of Philox's state. x86 multiplies the lower 32 bits of 64-bit lanes. clang leaves them
/// there, with anything above them, or else it narrows and widens them in every round, which takes
/// half as long again; GCC would multiply all 64 bits.
#if defined(__clang__) && defined(__x86_64__)
using philox_t = uint64_t;
#else
using philox_t = uint32_t;
#endif

/// All 64 bits of a word's lower 32 times a constant.
ZIPML_INLINE uint64_t Product(philox_t word, uint32_t constant) {
  return static_cast<uint64_t>(static_cast<uint32_t>(word)) * constant;
}

/// Half a round: a product's upper half is mixed into a word, and its lower half becomes another.
ZIPML_INLINE void HalfRound(philox_t (&c)[kPairs], philox_t (&other)[kPairs], uint32_t constant,
                            uint32_t key) {
  for (uint32_t k = 0; k < kPairs; ++k) {
    const uint64_t product = Product(c[k], constant);
    c[k] = static_cast<philox_t>(product >> 32) ^ other[k] ^ key;
    other[k] = static_cast<philox_t>(product);
  }
}

}  // namespace

#endif
