// The loops on tables of levels with byte dot products: levels are picked by the planes themselves,
// for 64 bits of a plane are a mask over 64 bytes, and no codes are made.
#pragma once

#include "avx512_sums.hpp"

#ifdef ZIPML_HAS_AVX512
#if !defined(__clang__)  // as in avx512_codes.hpp
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace zipml {
namespace avx512 {

/// Leaves two of twice kHalf + 1 levels, by base planes from number `p` on.
template <int kHalf>
ZIPML_AVX512_INLINE void Narrow(const PlaneRows &planes, size_t p, size_t at, __m512i *left) {
  const __mmask64 upper = planes.base[p * planes.plane + at];
#pragma GCC unroll 9
  for (int l = 0; l <= kHalf; ++l) {
    left[l] = _mm512_mask_blend_epi8(upper, left[l], left[l + kHalf]);
  }
  Narrow<kHalf / 2>(planes, p + 1, at, left);
}
template <>
ZIPML_AVX512_INLINE void Narrow<0>(const PlaneRows &, size_t, size_t, __m512i *) {}

/// One byte of the levels of a word's features, all samples; up to 17 levels stay in registers.
/// Each base plane, the most significant one first, halves the levels that are left, but for the
/// one that both halves have: two remain, of which dithers pick.
template <int kBasePlanes, bool kDouble>
ZIPML_AVX512_INLINE void PickBytes(const PlaneRows &planes, uint32_t word, const uint8_t *table,
                                   size_t next_level, uint8_t *first, uint8_t *second) {
  constexpr int kLevels = (1 << kBasePlanes) + 1;
  constexpr int kHalf = kBasePlanes == 0 ? 1 : 1 << kBasePlanes >> 1;
  __m512i levels[kLevels];
#pragma GCC unroll 17
  for (int l = 0; l < kLevels; ++l) levels[l] = _mm512_load_si512(table + l * next_level);
  const size_t size = static_cast<size_t>(planes.words) * kGroup;
  size_t at = word;
  for (uint32_t s = 0; s < planes.samples; ++s, at += planes.row, first += size, second += size) {
    __m512i left[kHalf + 1];
    const __mmask64 top = kBasePlanes == 0 ? 0 : planes.base[at];
#pragma GCC unroll 9
    for (int l = 0; l <= kHalf; ++l) {
      left[l] =
          kBasePlanes == 0 ? levels[l] : _mm512_mask_blend_epi8(top, levels[l], levels[l + kHalf]);
    }
    Narrow<kHalf / 2>(planes, 1, at, left);
    const __mmask64 one = planes.first_dither[at];
    _mm512_store_si512(first, _mm512_mask_blend_epi8(one, left[0], left[1]));
    if (!kDouble) continue;
    const __mmask64 two = planes.second_dither[at];
    _mm512_store_si512(second, _mm512_mask_blend_epi8(two, left[0], left[1]));
  }
}

/// Fetches the samples that are picked next; short rows have a cache line together.
ZIPML_AVX512_INLINE void FetchAhead(const PlaneRows &planes, uint32_t count) {
  const size_t all = planes.samples * planes.row;
  const size_t length = planes.words == planes.row ? all : planes.words;
  for (uint32_t p = 0; p < count; ++p) {
    const uint64_t *next = planes.PlaneOf(p) + all;
    for (size_t start = 0; start < all; start += length == all ? all : planes.row) {
      for (size_t w = 0; w < length; w += 8) {
        _mm_prefetch(reinterpret_cast<const char *>(next + start + w), _MM_HINT_T0);
      }
    }
  }
}

template <int kBasePlanes, bool kDouble>
ZIPML_AVX512 void PickLevels(const PlaneRows &all, const uint8_t *tables, uint8_t *low,
                             uint8_t *high) {
  const PlaneRows planes = all;  // of its own, so that no store can change it
  FetchAhead(planes, kBasePlanes + 1 + kDouble);
  const size_t size = static_cast<size_t>(planes.words) * kGroup;
  const size_t second = planes.samples * size;
  for (uint32_t w = 0; w < planes.words; ++w) {
    const size_t j = static_cast<size_t>(w) * kGroup;
    PickBytes<kBasePlanes, kDouble>(planes, w, tables + j, 2 * size, low + j, low + second + j);
    PickBytes<kBasePlanes, kDouble>(planes, w, tables + size + j, 2 * size, high + j,
                                    high + second + j);
  }
}

inline void PickLevelsBy(const PlaneRows &planes, const uint8_t *tables, uint8_t *low,
                         uint8_t *high) {
  typedef void (*loop_t)(const PlaneRows &, const uint8_t *, uint8_t *, uint8_t *);
  static const loop_t kLoops[][8] = {
      {PickLevels<0, false>, PickLevels<1, false>, PickLevels<2, false>, PickLevels<3, false>,
       PickLevels<4, false>, PickLevels<5, false>, PickLevels<6, false>, PickLevels<7, false>},
      {PickLevels<0, true>, PickLevels<1, true>, PickLevels<2, true>, PickLevels<3, true>,
       PickLevels<4, true>, PickLevels<5, true>, PickLevels<6, true>, PickLevels<7, true>}};
  kLoops[planes.second_dither != nullptr][planes.base_planes](planes, tables, low, high);
}

/// A high byte times a digit counts as a low one times the next digit. All lanes of a sum add up at
/// most 2^15 times 2^8 * 2^7 and 2^7 * 2^7.
template <int kDigits>
ZIPML_AVX512 void DotLevelDigits(const uint8_t *low, const uint8_t *high, uint32_t count,
                                 uint32_t size, const int8_t *digits, int64_t *sums) {
  constexpr int kSums = kDigits + 1;
  const size_t next = size;
  for (uint32_t r = 0; r < count; r += 4) {
    __m512i sum[kSums][4];
#pragma GCC unroll 6
    for (int d = 0; d < kSums; ++d) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[d][i] = _mm512_setzero_si512();
    }
    const uint8_t *low_row = low + r * next, *high_row = high + r * next;
    for (uint32_t j = 0; j < size; j += kGroup) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m512i one = _mm512_load_si512(low_row + i * next + j);
        const __m512i two = _mm512_load_si512(high_row + i * next + j);
#pragma GCC unroll 5
        for (int d = 0; d < kDigits; ++d) {
          const __m512i x =
              _mm512_load_si512(digits + static_cast<size_t>(j) * kDigits + d * kGroup);
          AddProducts(one, x, sum[d][i]);
          AddProducts(two, x, sum[d + 1][i]);
        }
      }
    }
    __m256i total = _mm256_setzero_si256();
#pragma GCC unroll 6
    for (int d = 0; d < kSums; ++d) {
      const __m128i four = Sums(sum[d][0], sum[d][1], sum[d][2], sum[d][3]);
      total = _mm256_add_epi64(total, _mm256_slli_epi64(_mm256_cvtepi32_epi64(four), 8 * d));
    }
    const uint32_t left = std::min(4u, count - r);
    _mm256_mask_storeu_epi64(sums + r, static_cast<__mmask8>((1u << left) - 1), total);
  }
}

inline void DotLevels(const uint8_t *low, const uint8_t *high, uint32_t count, uint32_t size,
                      const DigitModel &model, int64_t *sums) {
  static void (*const kDots[])(const uint8_t *, const uint8_t *, uint32_t, uint32_t, const int8_t *,
                               int64_t *) = {DotLevelDigits<1>, DotLevelDigits<2>,
                                             DotLevelDigits<3>, DotLevelDigits<4>,
                                             DotLevelDigits<5>};
  kDots[model.count - 1](low, high, count, size,
                         reinterpret_cast<const int8_t *>(model.digits.data()), sums);
}

template <int kDigits>
ZIPML_AVX512 void LevelGradientDigits(const uint8_t *low, const uint8_t *high, uint32_t count,
                                      uint32_t size, const CoefficientDigits &coefficients,
                                      int64_t *gradient) {
  for (uint32_t j = 0; j < size; j += kGroup) {
    GradientSums<kDigits + 1> sums = GradientSums<kDigits + 1>::Zero();
    size_t at = j;
    for (uint32_t q = 0; 4 * q < count; ++q, at += 4 * static_cast<size_t>(size)) {
      sums.template AddCodes<0, kDigits>(FourRows(low + at, size), coefficients, q);
      sums.template AddCodes<1, kDigits>(FourRows(high + at, size), coefficients, q);
    }
    sums.template AddTo<0>(gradient + j);
  }
}

inline void LevelGradient(const uint8_t *low, const uint8_t *high, uint32_t count, uint32_t size,
                          const int32_t *coefficients, int64_t *gradient) {
  const CoefficientDigits digits(coefficients, count);
  static void (*const kGradients[])(const uint8_t *, const uint8_t *, uint32_t, uint32_t,
                                    const CoefficientDigits &, int64_t *) = {
      LevelGradientDigits<1>, LevelGradientDigits<2>, LevelGradientDigits<3>,
      LevelGradientDigits<4>, LevelGradientDigits<5>};
  kGradients[digits.count - 1](low, high, count, size, digits, gradient);
}

static const LevelLoops kLevelLoops = {PickLevelsBy, DotLevels, LevelGradient};

}  // namespace avx512
}  // namespace zipml

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
