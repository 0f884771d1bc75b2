// Rows of levels, from planes or from codes: a level plus one is 0 .. 2^15, a low and a high byte,
// in rows apart. Plain C++ that compilers vectorize; avx512_levels.hpp has what is faster there.
#pragma once

#include <algorithm>
#include <cstdint>

#include "clones.h"
#include "rows.hpp"

namespace zipml {

/// A group of bytes as a vector of the compiler's.
typedef uint8_t Bytes __attribute__((vector_size(kGroup), may_alias));

/// The low and high bytes of the levels of `rows` rows of codes. tables: for each level a row of
/// low bytes, then a row of high bytes, one for each position. All codes of a group are compared
/// with one level after the other, which is faster than looking up one code after the other.
ZIPML_BODY void LookUpBody(const uint8_t *codes, const uint8_t *tables, uint32_t levels,
                           uint32_t size, uint32_t rows, uint8_t *low, uint8_t *high) {
  constexpr uint32_t kRows = 4;  // that share their loads of tables
  for (uint32_t r = 0; r < rows; r += kRows) {
    for (uint32_t j = 0; j < size; j += kGroup) {
      Bytes code[kRows], one[kRows], two[kRows];
      size_t at[kRows];
      for (uint32_t i = 0; i < kRows; ++i) {
        // behind the last row, the last one again
        at[i] = static_cast<size_t>(std::min(r + i, rows - 1)) * size + j;
        code[i] = *reinterpret_cast<const Bytes *>(codes + at[i]);
        one[i] = two[i] = Bytes{0};
      }
      const uint8_t *table = tables + j;
      for (uint32_t l = 0; l < levels; ++l, table += 2 * static_cast<size_t>(size)) {
        const Bytes first = *reinterpret_cast<const Bytes *>(table);
        const Bytes second = *reinterpret_cast<const Bytes *>(table + size);
        for (uint32_t i = 0; i < kRows; ++i) {
          const Bytes here = reinterpret_cast<Bytes>(code[i] == static_cast<uint8_t>(l));
          one[i] |= here & first;
          two[i] |= here & second;
        }
      }
      for (uint32_t i = 0; i < kRows; ++i) {
        *reinterpret_cast<Bytes *>(low + at[i]) = one[i];
        *reinterpret_cast<Bytes *>(high + at[i]) = two[i];
      }
    }
  }
}
ZIPML_CLONES(LookUp)

namespace portable {

/// Half a group of bytes, and what picks of two of them: the upper one where a sign is set.
typedef uint8_t Half __attribute__((vector_size(32), may_alias));
typedef int8_t Signs __attribute__((vector_size(32), may_alias));

ZIPML_BODY Half Pick(const Signs &signs, const Half &lower, const Half &upper) {
  return signs < 0 ? upper : lower;
}

/// The bits of half a word of one plane as the signs of bytes, in the order of Position.
template <bool kLast>
ZIPML_BODY Signs SignsOf(uint64_t word) {
  const Four all = {word, word, word, word};
  const Four shifts = kLast ? Four{3, 2, 1, 0} : Four{7, 6, 5, 4};
  return reinterpret_cast<Signs>(all << shifts);
}

/// The levels of half a word, all samples. Each base plane, the most significant one first, halves
/// the levels that are left, but for the one that both halves have: two remain, of which dithers
/// pick.
template <int kBasePlanes, bool kDouble, bool kLast>
ZIPML_BODY void PickHalves(const PlaneRows &planes, uint32_t word, const uint8_t *tables,
                           uint8_t *low, uint8_t *high) {
  constexpr int kLevels = (1 << kBasePlanes) + 1;
  const size_t size = static_cast<size_t>(planes.words) * kGroup;
  const size_t place = static_cast<size_t>(word) * kGroup + (kLast ? sizeof(Half) : 0);
  for (uint32_t s = 0; s < planes.samples; ++s) {
    const size_t at = s * planes.row + word, first = s * size + place;
    const size_t second = first + planes.samples * size;
    Signs base[kBasePlanes + 1];
#pragma GCC unroll 4
    for (int p = 0; p < kBasePlanes; ++p) {
      base[p] = SignsOf<kLast>(planes.base[static_cast<size_t>(p) * planes.plane + at]);
    }
    const Signs one = SignsOf<kLast>(planes.first_dither[at]);
    const Signs two = kDouble ? SignsOf<kLast>(planes.second_dither[at]) : one;
#pragma GCC unroll 2
    for (int byte = 0; byte < 2; ++byte) {
      const uint8_t *table = tables + (byte == 0 ? 0 : size) + place;
      uint8_t *rows = byte == 0 ? low : high;
      Half left[kLevels];
#pragma GCC unroll 17
      for (int l = 0; l < kLevels; ++l) {
        left[l] = *reinterpret_cast<const Half *>(table + 2 * size * static_cast<size_t>(l));
      }
#pragma GCC unroll 4
      for (int p = 0; p < kBasePlanes; ++p) {
        const int half = 1 << (kBasePlanes - 1 - p);
#pragma GCC unroll 9
        for (int l = 0; l <= half; ++l) left[l] = Pick(base[p], left[l], left[l + half]);
      }
      *reinterpret_cast<Half *>(rows + first) = Pick(one, left[0], left[1]);
      if (kDouble) *reinterpret_cast<Half *>(rows + second) = Pick(two, left[0], left[1]);
    }
  }
}

template <int kBasePlanes, bool kDouble>
ZIPML_BODY void PickLevelsBody(const PlaneRows &all, const uint8_t *tables, uint8_t *low,
                               uint8_t *high) {
  const PlaneRows planes = all;  // of its own, so that no store can change it
  for (uint32_t w = 0; w < planes.words; ++w) {
    PickHalves<kBasePlanes, kDouble, false>(planes, w, tables, low, high);
    PickHalves<kBasePlanes, kDouble, true>(planes, w, tables, low, high);
  }
}

/// As `pick` of LevelLoops, in the order of Position.
inline void PickLevels(const PlaneRows &planes, const uint8_t *tables, uint8_t *low,
                       uint8_t *high) {
  typedef void loop_t(const PlaneRows &, const uint8_t *, uint8_t *, uint8_t *);
#define ZIPML_PICK(PLANES, DOUBLE) &Clones<loop_t, &PickLevelsBody<PLANES, DOUBLE>>::Call
  static loop_t *const kLoops[][kMaxPickedPlanes + 1] = {
      {ZIPML_PICK(0, false), ZIPML_PICK(1, false), ZIPML_PICK(2, false), ZIPML_PICK(3, false),
       ZIPML_PICK(4, false)},
      {ZIPML_PICK(0, true), ZIPML_PICK(1, true), ZIPML_PICK(2, true), ZIPML_PICK(3, true),
       ZIPML_PICK(4, true)}};
#undef ZIPML_PICK
  kLoops[planes.second_dither != nullptr][planes.base_planes](planes, tables, low, high);
}

}  // namespace portable
}  // namespace zipml
