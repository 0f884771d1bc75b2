// Random numbers on chip, and what they round: a counter-based generator, so that engine and
// reference reproduce every draw. docs/end_to_end.md.
#pragma once

#include <cstdint>

#include "zipml/arithmetic.hpp"

namespace zipml {

/// Features that share one draw.
constexpr int kDrawFeaturesLog2 = 6;
constexpr uint32_t kDrawFeatures = 1u << kDrawFeaturesLog2;
/// Words that their numbers are made of: the offset, and the slope times a power each.
constexpr int kDrawWords = 1 + kDrawFeaturesLog2;

/// \tparam TWord  an unsigned integer of 32 bits, or a vector of them
template <class TWord>
struct WordsOf {
  TWord word[4];
};
typedef WordsOf<uint32_t> Words;

template <class TWord>
inline TWord RotateLeft(const TWord &value, int shift) {
  return value << shift | value >> (32 - shift);
}

/// Threefry4x32-20 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011):
/// additions, rotations and exclusive ors, so it takes no multiplier.
template <class TWord>
inline WordsOf<TWord> Threefry(const WordsOf<TWord> &counter, const WordsOf<TWord> &key) {
  const int rotations[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5},
                               {6, 20},  {17, 11}, {25, 10}, {18, 20}};
  const uint32_t parity = 0x1BD11BDAu;
  TWord k[5] = {key.word[0], key.word[1], key.word[2], key.word[3],
                parity ^ key.word[0] ^ key.word[1] ^ key.word[2] ^ key.word[3]};
  TWord x[4];
  for (int i = 0; i < 4; ++i) {
    x[i] = counter.word[i] + k[i];
  }
#if defined(__GNUC__) && !defined(__clang__) && !defined(__SYNTHESIS__)  // for vectors of the host
#pragma GCC unroll 20
#endif
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

/// What the features of a group draw from: their numbers are slope * lane + offset over GF(2^32),
/// reduced by x^32 + x^7 + x^3 + x^2 + 1. Uniform, and any two lanes are independent, which is all
/// that a mean and a variance need.
struct Draw {
  uint32_t slope;
  uint32_t offset;
};

/// A slope times x.
template <class TWord>
inline TWord TimesX(const TWord &slope) {
  return slope << 1 ^ ((0u - (slope >> 31)) & 0x8Du);
}

/// One draw for each use: the words of one call are as independent as those of two.
struct Draws {
  Draw model;
  Draw gradient;
};

/// The words of a group's draws: slope and offset of the model's, then of the gradient's.
/// \param update  number of the update since the run began
/// \param group   feature / kDrawFeatures
template <class TWord>
inline WordsOf<TWord> DrawWords(uint32_t seed, uint32_t update, const TWord &group) {
  const TWord zero = group ^ group;
  const WordsOf<TWord> counter = {{group, zero + update, zero, zero}};
  const WordsOf<TWord> key = {{zero + seed, zero, zero, zero}};
  return Threefry(counter, key);
}

inline Draws DrawsOf(uint32_t seed, uint32_t update, uint32_t group) {
  const Words words = DrawWords(seed, update, group);
  return {{words.word[0], words.word[1]}, {words.word[2], words.word[3]}};
}

/// Stochastic rounding of a group's values to multiples of a unit of 2^shift that `bits` bits hold.
/// What cuts a number to the bits below the unit keeps exclusive ors, so it is done once to the
/// words that all lanes' numbers are made of, and a lane takes a few exclusive ors, an addition and
/// a clamp: no shift, where a generator of its own would take two thousand LUTs.
/// \tparam TBits  unsigned, holds the bits below the largest unit
template <class TBits>
struct Rounding {
  TBits words[kDrawWords];  // offset, then slope * x^k, below the unit
  TBits below;              // the bits that are cut
  int64_t top;              // the largest multiple
};

/// \param shift  less than the bits of TBits
/// \param bits   0: a rounding that changes nothing
template <class TBits>
inline Rounding<TBits> RoundingOf(const Draw &draw, uint32_t shift, uint32_t bits) {
  constexpr int kWidth = 8 * sizeof(TBits);
  const bool cuts = bits != 0 && shift != 0;
  Rounding<TBits> r;
  uint32_t power = draw.slope;
  for (int k = 0; k < kDrawWords; ++k) {
    const uint32_t word = k == 0 ? draw.offset : power;
    r.words[k] = cuts ? (static_cast<TBits>(word) << (kWidth - 32)) >> (kWidth - shift) : 0;
    if (k != 0) power = TimesX(power);
  }
  r.below = cuts ? (static_cast<TBits>(1) << shift) - 1 : 0;
  r.top = bits == 0 ? INT64_MAX : ShiftLeft((static_cast<int64_t>(1) << (bits - 1)) - 1, shift);
  return r;
}

/// The number of lane `from` + `lanes`, these two having no bit in common.
/// \param number  of lane `from`; words[0] is that of lane 0
template <class TBits>
inline TBits NumberOf(const Rounding<TBits> &r, TBits number, uint32_t lanes) {
  for (int bit = 0; bit < kDrawFeaturesLog2; ++bit) {
    if ((lanes >> bit & 1) != 0) number ^= r.words[bit + 1];
  }
  return number;
}

/// Rounds up with the probability of the position between two multiples, clamps, and counts what it
/// clamped. The result keeps the unit of the value.
template <class TBits>
inline int64_t Rounded(const Rounding<TBits> &r, int64_t value, TBits number, uint32_t &clipped) {
  const int64_t raised = value + static_cast<int64_t>(number);
  const int64_t level = raised & ~static_cast<int64_t>(r.below);
  if (level > r.top || level < -r.top) ++clipped;
  return level > r.top ? r.top : level < -r.top ? -r.top : level;
}

/// Log2 of the unit of a quantized model entry, which has no more than 32 bits.
inline uint32_t ModelShift(uint32_t shift, uint32_t bits) {
  return shift > 32 - bits ? 32 - bits : shift;
}

/// Q_m: a model entry on its way to the compute units.
/// \param shift  log2 of the unit
inline Rounding<uint32_t> ModelRounding(const Draws &draws, uint32_t shift, uint32_t bits) {
  return RoundingOf<uint32_t>(draws.model, ModelShift(shift, bits), bits);
}

/// Q_g: a gradient on its way back.
inline Rounding<uint64_t> GradientRounding(const Draws &draws, uint32_t shift, uint32_t bits) {
  const uint32_t most = 56 - bits;  // no sum is larger
  return RoundingOf<uint64_t>(draws.gradient, shift > most ? most : shift, bits);
}

}  // namespace zipml
