// Rows of levels, from planes: a level plus one is 0 .. 2^15, a low and a high byte,
// in rows apart. Plain C++ that compilers vectorize; avx512_levels.hpp has what is faster there.
#pragma once

#include <algorithm>
#include <cstdint>

#include "clones.h"
#include "rows.hpp"

namespace zipml {

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

/// Leaves two of twice kHalf + 1 levels, by base planes from number `p` on.
template <int kHalf, bool kLast>
ZIPML_BODY void Narrow(const PlaneRows &planes, size_t p, size_t at, Half *left) {
  const Signs signs = SignsOf<kLast>(planes.base[p * planes.plane + at]);
#pragma GCC unroll 9
  for (int l = 0; l <= kHalf; ++l) left[l] = Pick(signs, left[l], left[l + kHalf]);
  Narrow<kHalf / 2, kLast>(planes, p + 1, at, left);
}
template <>
ZIPML_BODY void Narrow<0, false>(const PlaneRows &, size_t, size_t, Half *) {}
template <>
ZIPML_BODY void Narrow<0, true>(const PlaneRows &, size_t, size_t, Half *) {}

/// The levels of half a word, all samples. Each base plane, the most significant one first, halves
/// the levels that are left, but for the one that both halves have: two remain, of which dithers
/// pick.
template <int kBasePlanes, bool kDouble, bool kLast>
ZIPML_BODY void PickHalves(const PlaneRows &planes, uint32_t word, const uint8_t *tables,
                           uint8_t *low, uint8_t *high) {
  constexpr int kHalf = kBasePlanes == 0 ? 1 : 1 << kBasePlanes >> 1;
  const size_t size = static_cast<size_t>(planes.words) * kGroup;
  const size_t place = static_cast<size_t>(word) * kGroup + (kLast ? sizeof(Half) : 0);
  for (uint32_t s = 0; s < planes.samples; ++s) {
    const size_t at = s * planes.row + word, first = s * size + place;
    const size_t second = first + planes.samples * size;
    const Signs one = SignsOf<kLast>(planes.first_dither[at]);
    const Signs two = kDouble ? SignsOf<kLast>(planes.second_dither[at]) : one;
#pragma GCC unroll 2
    for (int byte = 0; byte < 2; ++byte) {
      const uint8_t *table = tables + (byte == 0 ? 0 : size) + place;
      uint8_t *rows = byte == 0 ? low : high;
      const auto level = [=](int l) {
        return reinterpret_cast<const Half *>(table + 2 * size * static_cast<size_t>(l));
      };
      Half left[kHalf + 1];
      const Signs top = kBasePlanes == 0 ? one : SignsOf<kLast>(planes.base[at]);
#pragma GCC unroll 9
      for (int l = 0; l <= kHalf; ++l) {
        left[l] = kBasePlanes == 0 ? *level(l) : Pick(top, *level(l), *level(l + kHalf));
      }
      Narrow<kHalf / 2, kLast>(planes, 1, at, left);
      *reinterpret_cast<Half *>(rows + first) = Pick(one, left[0], left[1]);
      if (kDouble) *reinterpret_cast<Half *>(rows + second) = Pick(two, left[0], left[1]);
    }
  }
}

/// The same for any number of base planes that is not 0: more than a few bits are rare, and code
/// of their own for each takes long to compile.
template <bool kLast>
ZIPML_BODY void PickManyHalves(const PlaneRows &planes, uint32_t word, const uint8_t *tables,
                               uint8_t *low, uint8_t *high) {
  const size_t size = static_cast<size_t>(planes.words) * kGroup;
  const size_t place = static_cast<size_t>(word) * kGroup + (kLast ? sizeof(Half) : 0);
  for (uint32_t s = 0; s < planes.samples; ++s) {
    const size_t at = s * planes.row + word, first = s * size + place;
    for (int byte = 0; byte < 2; ++byte) {
      const uint8_t *table = tables + (byte == 0 ? 0 : size) + place;
      uint8_t *rows = byte == 0 ? low : high;
      Half left[(1 << 7) + 1];
      int half = 1 << planes.base_planes;
      for (int l = 0; l <= half; ++l) {
        left[l] = *reinterpret_cast<const Half *>(table + 2 * size * static_cast<size_t>(l));
      }
      for (uint32_t p = 0; p < planes.base_planes; ++p) {
        const Signs signs = SignsOf<kLast>(planes.base[p * planes.plane + at]);
        half /= 2;
        for (int l = 0; l <= half; ++l) left[l] = Pick(signs, left[l], left[l + half]);
      }
      const Signs one = SignsOf<kLast>(planes.first_dither[at]);
      *reinterpret_cast<Half *>(rows + first) = Pick(one, left[0], left[1]);
      if (planes.second_dither == nullptr) continue;
      const Signs two = SignsOf<kLast>(planes.second_dither[at]);
      *reinterpret_cast<Half *>(rows + first + planes.samples * size) = Pick(two, left[0], left[1]);
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
ZIPML_BODY void PickManyLevelsBody(const PlaneRows &all, const uint8_t *tables, uint8_t *low,
                                   uint8_t *high) {
  const PlaneRows planes = all;
  for (uint32_t w = 0; w < planes.words; ++w) {
    PickManyHalves<false>(planes, w, tables, low, high);
    PickManyHalves<true>(planes, w, tables, low, high);
  }
}
ZIPML_CLONES(PickManyLevels)

/// As `pick` of LevelLoops, in the order of Position.
inline void PickLevels(const PlaneRows &planes, const uint8_t *tables, uint8_t *low,
                       uint8_t *high) {
  typedef void loop_t(const PlaneRows &, const uint8_t *, uint8_t *, uint8_t *);
#define ZIPML_PICK(PLANES, DOUBLE) &Clones<loop_t, &PickLevelsBody<PLANES, DOUBLE>>::Call
  static loop_t *const kLoops[][4] = {
      {ZIPML_PICK(0, false), ZIPML_PICK(1, false), ZIPML_PICK(2, false), ZIPML_PICK(3, false)},
      {ZIPML_PICK(0, true), ZIPML_PICK(1, true), ZIPML_PICK(2, true), ZIPML_PICK(3, true)}};
#undef ZIPML_PICK
  if (planes.base_planes >= 4) return PickManyLevels(planes, tables, low, high);
  kLoops[planes.second_dither != nullptr][planes.base_planes](planes, tables, low, high);
}

}  // namespace portable
}  // namespace zipml
