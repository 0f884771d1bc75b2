// Random numbers on chip, and what they round: a counter-based generator, so that engine and
// reference reproduce every draw. docs/end_to_end.md.
#pragma once

#include <cstdint>

#include "zipml/arithmetic.hpp"

namespace zipml {

/// Features that share the two words of one draw.
constexpr int kDrawFeaturesLog2 = 6;
constexpr uint32_t kDrawFeatures = 1u << kDrawFeaturesLog2;

/// What random numbers are for: draws of different streams are independent.
enum Stream : uint32_t { kModelStream = 0, kGradientStream = 1 };

struct Words {
  uint32_t word[4];
};

inline uint32_t RotateLeft(uint32_t value, int shift) {
  return value << shift | value >> (32 - shift);
}

/// Threefry4x32-20 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011):
/// additions, rotations and exclusive ors, so it takes no multiplier.
inline Words Threefry(const Words &counter, const Words &key) {
  const int rotations[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5},
                               {6, 20},  {17, 11}, {25, 10}, {18, 20}};
  const uint32_t parity = 0x1BD11BDAu;
  uint32_t k[5] = {key.word[0], key.word[1], key.word[2], key.word[3],
                   parity ^ key.word[0] ^ key.word[1] ^ key.word[2] ^ key.word[3]};
  uint32_t x[4];
  for (int i = 0; i < 4; ++i) {
    x[i] = counter.word[i] + k[i];
  }
  for (int round = 0; round < 20; ++round) {
    const int odd = (round & 1) != 0 ? 3 : 1;
    x[0] += x[odd];
    x[odd] = RotateLeft(x[odd], rotations[round & 7][0]) ^ x[0];
    x[2] += x[4 - odd];
    x[4 - odd] = RotateLeft(x[4 - odd], rotations[round & 7][1]) ^ x[2];
    if ((round & 3) == 3) {
      const int injection = round / 4 + 1;
      for (int i = 0; i < 4; ++i) {
        x[i] += k[(injection + i) % 5];
      }
      x[3] += static_cast<uint32_t>(injection);
    }
  }
  return {{x[0], x[1], x[2], x[3]}};
}

/// The two words that one group of features draws from.
struct Draw {
  uint32_t slope;
  uint32_t offset;
};

/// \param update  number of the update since the run began
/// \param group   feature / kDrawFeatures
inline Draw DrawOf(uint32_t seed, uint32_t update, uint32_t group, uint32_t stream) {
  const Words counter = {{group, update, stream, 0}};
  const Words key = {{seed, 0, 0, 0}};
  const Words words = Threefry(counter, key);
  return {words.word[0], words.word[1]};
}

/// The number of one feature of a group: slope * lane + offset over GF(2^32), reduced by
/// x^32 + x^7 + x^3 + x^2 + 1. Uniform, and any two lanes are independent, which is all that a
/// mean and a variance need; a lane takes a few exclusive ors, where a generator of its own would
/// take two thousand LUTs.
inline uint32_t LaneRandom(const Draw &draw, uint32_t lane) {
  uint32_t power = draw.slope;
  uint32_t sum = draw.offset;
  for (int bit = 0; bit < kDrawFeaturesLog2; ++bit) {
    if ((lane >> bit & 1) != 0) sum ^= power;
    power = power << 1 ^ ((power >> 31) != 0 ? 0x8Du : 0u);
  }
  return sum;
}

/// Rounds to a multiple of 2^shift, up with the probability of the position between two, and clamps
/// to `bits` bits; counts what it clamped. The result keeps the unit of the value.
/// \param shift  0 to 62
inline int64_t StochasticRound(int64_t value, uint32_t shift, uint32_t bits, uint32_t random,
                               uint32_t &clipped) {
  const uint64_t wide = static_cast<uint64_t>(random) << 32;
  const uint64_t below = shift == 0 ? 0 : wide >> (64 - shift);
  const int64_t level = (value + static_cast<int64_t>(below)) >> shift;
  const int64_t top = (static_cast<int64_t>(1) << (bits - 1)) - 1;
  if (level > top || level < -top) ++clipped;
  const int64_t inside = level > top ? top : level < -top ? -top : level;
  return ShiftLeft(inside, static_cast<int>(shift));
}

/// A model entry on its way to the compute units: Q_m. As it is where `bits` is 0.
inline int32_t QuantizedEntry(int32_t entry, uint32_t shift, uint32_t bits, uint32_t random,
                              uint32_t &clipped) {
  if (bits == 0) return entry;
  const uint32_t fits = shift > 32 - bits ? 32 - bits : shift;  // below 2^31
  return static_cast<int32_t>(StochasticRound(entry, fits, bits, random, clipped));
}

/// A gradient on its way back: Q_g. As it is where `bits` is 0.
inline int64_t QuantizedGradient(int64_t gradient, uint32_t shift, uint32_t bits, uint32_t random,
                                 uint32_t &clipped) {
  if (bits == 0) return gradient;
  const uint32_t most = 56 - bits;  // no sum is larger
  return StochasticRound(gradient, shift > most ? most : shift, bits, random, clipped);
}

}  // namespace zipml
