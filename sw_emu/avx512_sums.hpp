// Sums of byte products, for the loops of rows_avx512.hpp and avx512_levels.hpp: what vectors of
// them add up to, and coefficients as they are multiplied.
#pragma once

#include "avx512_codes.hpp"

#ifdef ZIPML_HAS_AVX512
#if !defined(__clang__)  // as in avx512_codes.hpp
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace zipml {
namespace avx512 {

/// A vector that stays in its register: GCC would load it again for every use.
ZIPML_AVX512_INLINE __m512i LoadOnce(const int8_t *from) {
  __m512i x = _mm512_load_si512(from);
  __asm__("" : "+v"(x));
  return x;
}

ZIPML_AVX512_INLINE __m512i LanesOnce(const int8_t *from) {
  __m512i x = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
  __asm__("" : "+v"(x));
  return x;
}

/// The digits of a group of the model, or of a row's sums.
template <int kDigits>
struct Digits {
  __m512i d0, d1, d2, d3, d4;

  static ZIPML_AVX512_INLINE Digits Load(const int8_t *from) {
    Digits x = Zero();
    if (kDigits > 0) x.d0 = LoadOnce(from);
    if (kDigits > 1) x.d1 = LoadOnce(from + kGroup);
    if (kDigits > 2) x.d2 = LoadOnce(from + 2 * kGroup);
    if (kDigits > 3) x.d3 = LoadOnce(from + 3 * kGroup);
    if (kDigits > 4) x.d4 = LoadOnce(from + 4 * kGroup);
    return x;
  }
  /// The digits of 16 entries, in all lanes of 16 bytes.
  static ZIPML_AVX512_INLINE Digits LoadLanes(const int8_t *from) {
    Digits x = Zero();
    if (kDigits > 0) x.d0 = LanesOnce(from);
    if (kDigits > 1) x.d1 = LanesOnce(from + 16);
    if (kDigits > 2) x.d2 = LanesOnce(from + 32);
    return x;
  }
  static ZIPML_AVX512_INLINE Digits Zero() {
    const __m512i zero = _mm512_setzero_si512();
    return {zero, zero, zero, zero, zero};
  }
  ZIPML_AVX512_INLINE void AddCodes(__m512i codes, const Digits &x) {
    if (kDigits > 0) AddProducts(codes, x.d0, d0);
    if (kDigits > 1) AddProducts(codes, x.d1, d1);
    if (kDigits > 2) AddProducts(codes, x.d2, d2);
    if (kDigits > 3) AddProducts(codes, x.d3, d3);
    if (kDigits > 4) AddProducts(codes, x.d4, d4);
  }
  ZIPML_AVX512_INLINE void Add(const Digits &other) {
    d0 = _mm512_add_epi32(d0, other.d0);
    d1 = _mm512_add_epi32(d1, other.d1);
    d2 = _mm512_add_epi32(d2, other.d2);
    d3 = _mm512_add_epi32(d3, other.d3);
    d4 = _mm512_add_epi32(d4, other.d4);
  }
};

/// One function for each number of base planes, single and double.
#define ZIPML_BY_PLANES(LOOP, DIGITS)                                                              \
  {                                                                                                \
      {LOOP<0, false, DIGITS>, LOOP<1, false, DIGITS>, LOOP<2, false, DIGITS>,                     \
       LOOP<3, false, DIGITS>, LOOP<4, false, DIGITS>, LOOP<5, false, DIGITS>,                     \
       LOOP<6, false, DIGITS>, LOOP<7, false, DIGITS>},                                            \
      {LOOP<0, true, DIGITS>, LOOP<1, true, DIGITS>, LOOP<2, true, DIGITS>, LOOP<3, true, DIGITS>, \
       LOOP<4, true, DIGITS>, LOOP<5, true, DIGITS>, LOOP<6, true, DIGITS>,                        \
       LOOP<7, true, DIGITS>},                                                                     \
  }

/// The sums of four vectors' lanes.
ZIPML_AVX512_INLINE __m128i Sums(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i all =
      _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i half =
      _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/// Coefficients by fours, as VPDPBUSD multiplies with them.
struct CoefficientDigits {
  alignas(64) uint32_t words[kMaxRows];  // digit d of four of them in word d of four
  uint32_t carries[kMaxRows / 4];        // the fifth digits
  int count;                             // digits that count

  ZIPML_AVX512 CoefficientDigits(const int32_t *coefficients, uint32_t rows) {
    // four coefficients are a 4 x 4 matrix of bytes; transposed, it is their digits by fours
    const __m512i transpose =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i balance = _mm512_set1_epi32(static_cast<int>(kBalance));
    __m512i smallest = _mm512_setzero_si512(), largest = smallest;
    for (uint32_t r = 0; r < rows; r += 16) {
      const uint32_t left = std::min(16u, rows - r);
      const __mmask16 mask = static_cast<__mmask16>((1u << left) - 1);
      const __m512i c = _mm512_maskz_loadu_epi32(mask, coefficients + r);
      smallest = _mm512_min_epi32(smallest, c);
      largest = _mm512_max_epi32(largest, c);
      const __m512i digits = _mm512_xor_si512(_mm512_add_epi32(c, balance), balance);
      _mm512_store_si512(words + r, _mm512_shuffle_epi8(digits, transpose));
    }
    count = DigitsFor(_mm512_reduce_min_epi32(smallest), _mm512_reduce_max_epi32(largest));
    for (uint32_t q = 0; count == kMaxDigits && 4 * q < rows; ++q) {
      carries[q] = 0;
      for (uint32_t i = 0; i < 4 && 4 * q + i < rows; ++i) {
        if (coefficients[4 * q + i] > kLargestFour) carries[q] |= 1u << (8 * i);
      }
    }
  }

  /// Digit `d` of the coefficients of rows 4 q to 4 q + 3. The fifth is needed only where one of
  /// all coefficients has it.
  ZIPML_AVX512_INLINE __m512i Four(uint32_t q, int d) const {
    return _mm512_set1_epi32(static_cast<int>(d < 4 ? words[4 * q + static_cast<uint32_t>(d)]
                                              : count < kMaxDigits ? 0
                                                                   : carries[q]));
  }
};

/// Sums of 16 features each, in the order of Position.
struct GroupSums {
  __m512i v0, v1, v2, v3;
  template <int kVectors>
  ZIPML_AVX512_INLINE void AddCodes(const FourPlanes &codes, __m512i coefficients) {
    AddProducts(codes.a, coefficients, v0);
    if (kVectors > 1) AddProducts(codes.b, coefficients, v1);
    if (kVectors > 2) AddProducts(codes.c, coefficients, v2);
    if (kVectors > 3) AddProducts(codes.d, coefficients, v3);
  }
};

/// The same for each digit of the coefficients, and for one more if codes are levels.
/// \tparam kVectors  of 16 features
template <int kDigits, int kVectors = 4>
struct GradientSums {
  GroupSums d0, d1, d2, d3, d4, d5;

  static ZIPML_AVX512_INLINE GradientSums Zero() {
    const __m512i zero = _mm512_setzero_si512();
    const GroupSums none = {zero, zero, zero, zero};
    return {none, none, none, none, none, none};
  }
  /// Digit d of the coefficients goes to sum kFirst + d.
  /// \param codes  of four rows, side by side
  template <int kFirst = 0, int kCount = kDigits>
  ZIPML_AVX512_INLINE void AddCodes(const FourPlanes &codes, const CoefficientDigits &c,
                                    uint32_t q) {
    AddDigit<0 - kFirst, kCount>(codes, c, q, d0);
    AddDigit<1 - kFirst, kCount>(codes, c, q, d1);
    AddDigit<2 - kFirst, kCount>(codes, c, q, d2);
    AddDigit<3 - kFirst, kCount>(codes, c, q, d3);
    AddDigit<4 - kFirst, kCount>(codes, c, q, d4);
    AddDigit<5 - kFirst, kCount>(codes, c, q, d5);
  }
  template <int kDigit, int kCount>
  static ZIPML_AVX512_INLINE void AddDigit(const FourPlanes &codes, const CoefficientDigits &c,
                                           uint32_t q, GroupSums &sums) {
    if (kDigit >= 0 && kDigit < kCount) {
      sums.template AddCodes<kVectors>(codes, c.Four(q, kDigit));
    }
  }
  /// A lane adds up 2^8 products of 2^8 * 2^7 for each digit: 2^23, so two digits fit 32 bits. Of
  /// levels it adds up 2^7 products each of low bytes and of high ones, which are at most 2^7.
  /// \tparam kScale  log2 of what codes were multiplied with
  template <int kScale, class TSum>
  ZIPML_AVX512_INLINE void AddTo(TSum *gradient) const {
    AddTo<kScale>(d0.v0, d1.v0, d2.v0, d3.v0, d4.v0, d5.v0, gradient);
    if (kVectors > 1) AddTo<kScale>(d0.v1, d1.v1, d2.v1, d3.v1, d4.v1, d5.v1, gradient + 16);
    if (kVectors > 2) AddTo<kScale>(d0.v2, d1.v2, d2.v2, d3.v2, d4.v2, d5.v2, gradient + 32);
    if (kVectors > 3) AddTo<kScale>(d0.v3, d1.v3, d2.v3, d3.v3, d4.v3, d5.v3, gradient + 48);
  }
  /// Modulo 2^32, to which the fifth digit adds nothing.
  template <int kScale>
  static ZIPML_AVX512_INLINE void AddTo(__m512i x0, __m512i x1, __m512i x2, __m512i x3, __m512i,
                                        __m512i, int32_t *to) {
    const __m512i pair = kDigits > 1 ? _mm512_add_epi32(x0, _mm512_slli_epi32(x1, 8)) : x0;
    __m512i sum = _mm512_add_epi32(_mm512_load_si512(to), _mm512_srai_epi32(pair, kScale));
    if (kDigits > 2) {
      const __m512i next = kDigits > 3 ? _mm512_add_epi32(x2, _mm512_slli_epi32(x3, 8)) : x2;
      sum = _mm512_add_epi32(sum, _mm512_slli_epi32(_mm512_srai_epi32(next, kScale), 16));
    }
    _mm512_store_si512(to, sum);
  }
  template <int kScale>
  static ZIPML_AVX512_INLINE void AddTo(__m512i x0, __m512i x1, __m512i x2, __m512i x3, __m512i x4,
                                        __m512i x5, int64_t *to) {
    __m512i *out = reinterpret_cast<__m512i *>(to);
    __m512i low = _mm512_load_si512(out), high = _mm512_load_si512(out + 1);
    const __m512i pair = kDigits > 1 ? _mm512_add_epi32(x0, _mm512_slli_epi32(x1, 8)) : x0;
    AddWide<0>(_mm512_srai_epi32(pair, kScale), low, high);
    if (kDigits > 2) {
      const __m512i next = kDigits > 3 ? _mm512_add_epi32(x2, _mm512_slli_epi32(x3, 8)) : x2;
      AddWide<16>(_mm512_srai_epi32(next, kScale), low, high);
    }
    if (kDigits > 4) {
      const __m512i last = kDigits > 5 ? _mm512_add_epi32(x4, _mm512_slli_epi32(x5, 8)) : x4;
      AddWide<32>(_mm512_srai_epi32(last, kScale), low, high);
    }
    _mm512_store_si512(out, low);
    _mm512_store_si512(out + 1, high);
  }
  template <int kShift>
  static ZIPML_AVX512_INLINE void AddWide(__m512i x, __m512i &low, __m512i &high) {
    const __m512i a = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(x));
    const __m512i b = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(x, 1));
    low = _mm512_add_epi64(low, _mm512_slli_epi64(a, kShift));
    high = _mm512_add_epi64(high, _mm512_slli_epi64(b, kShift));
  }
};

/// 64 bytes of each of four rows, the bytes of a feature side by side.
ZIPML_AVX512_INLINE FourPlanes FourRows(const uint8_t *row, size_t size) {
  return Interleave(_mm512_load_si512(row), _mm512_load_si512(row + size),
                    _mm512_load_si512(row + 2 * size), _mm512_load_si512(row + 3 * size));
}

}  // namespace avx512
}  // namespace zipml

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
