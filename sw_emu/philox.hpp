// Philox4x32 (Salmon et al., SC 2011) for many counters at a time, in vectors.
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

/// Where a group's lanes lie: one sample, or, where few of its lanes are left, several samples.
struct Place {
  uint32_t sample;      // the first one
  uint32_t first_lane;  // of each sample
  uint32_t lanes_log2;  // of each sample
  uint32_t samples;     // at most 64 / lanes; the group's other lanes are padding
};

/// Philox4x32-10 (Salmon et al., SC 2011): output i of the pair of lanes k is random[i][k]. The
/// counter is (sample, pair of features, draw, stream), the key is the seed.
ZIPML_INLINE void Philox(const Place &place, uint32_t draw, uint32_t stream, uint64_t seed,
                         uint32_t (&random)[4][kPairs]) {
  philox_t c0[kPairs], c1[kPairs], c2[kPairs], c3[kPairs];
  const uint32_t pairs_log2 = place.lanes_log2 - 1;
  for (uint32_t k = 0; k < kPairs; ++k) {
    c0[k] = place.sample + (k >> pairs_log2);
    c1[k] = place.first_lane / 2 + (k & ((1u << pairs_log2) - 1));
    c2[k] = draw;
    c3[k] = stream;
  }
  uint32_t key0 = static_cast<uint32_t>(seed);
  uint32_t key1 = static_cast<uint32_t>(seed >> 32);
  for (int rounds = 0; rounds < 10; rounds += 2) {
    HalfRound(c0, c3, 0xD2511F53u, key1);
    HalfRound(c2, c1, 0xCD9E8D57u, key0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
    // what a round calls c0 is now in c2, and the other way round
    HalfRound(c2, c3, 0xD2511F53u, key1);
    HalfRound(c0, c1, 0xCD9E8D57u, key0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (uint32_t k = 0; k < kPairs; ++k) {
    random[0][k] = static_cast<uint32_t>(c0[k]);
    random[1][k] = static_cast<uint32_t>(c1[k]);
    random[2][k] = static_cast<uint32_t>(c2[k]);
    random[3][k] = static_cast<uint32_t>(c3[k]);
  }
}

}  // namespace

#endif
