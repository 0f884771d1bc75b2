// The loops of rows.hpp on x86-64 with byte dot products (AVX-512 VNNI, GFNI): Ice Lake, Zen 4 and
// later. VPDPBUSD multiplies 64 unsigned codes with 64 signed digits and adds them up by fours.
#pragma once

#include "rows.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && \
    (!defined(ZIPML_NO_CLONES) || defined(ZIPML_AVX512_LOOPS))
#define ZIPML_HAS_AVX512 1
// GCC 12's own header starts from values that it leaves undefined on purpose
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

namespace zipml {
namespace avx512 {

#define ZIPML_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,gfni,avx2,fma")))
#define ZIPML_AVX512_INLINE ZIPML_AVX512 __attribute__((always_inline)) inline

inline bool Runs() {
  return __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vnni") != 0 &&
         __builtin_cpu_supports("gfni") != 0;
}

/// The order in which Gradient has its sums: within a group, feature 16 l + 4 v + e is in lane 4 l
/// + e of vector v.
inline uint32_t Position(uint32_t feature) {
  return (feature & ~63u) | (feature >> 2 & 3) << 4 | (feature >> 4 & 3) << 2 | (feature & 3);
}

inline uint32_t CodePosition(uint32_t feature) { return feature; }

// ---- Decoding --------------------------------------------------------------------------------

/// Eight words of a plane, in the order in which Codes gives word i as its vector i.
ZIPML_AVX512_INLINE __m512i LoadWords(const uint64_t *words, __mmask8 mask, size_t ahead) {
  alignas(64) static const uint16_t kOrder[32] = {0,  4,  8,  12, 16, 20, 24, 28, 1,  5,  9,
                                                  13, 17, 21, 25, 29, 2,  6,  10, 14, 18, 22,
                                                  26, 30, 3,  7,  11, 15, 19, 23, 27, 31};
  _mm_prefetch(reinterpret_cast<const char *>(words + ahead), _MM_HINT_T0);
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), _mm512_maskz_loadu_epi64(mask, words));
}

/// Four planes with their bytes side by side.
struct FourPlanes {
  __m512i part[4];
};

ZIPML_AVX512_INLINE FourPlanes Interleave(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i low_ab = _mm512_unpacklo_epi8(a, b), high_ab = _mm512_unpackhi_epi8(a, b);
  const __m512i low_cd = _mm512_unpacklo_epi8(c, d), high_cd = _mm512_unpackhi_epi8(c, d);
  return {{_mm512_unpacklo_epi16(low_ab, low_cd), _mm512_unpackhi_epi16(low_ab, low_cd),
           _mm512_unpacklo_epi16(high_ab, high_cd), _mm512_unpackhi_epi16(high_ab, high_cd)}};
}

/// The 64 codes of word `i`. Eight bytes, one from each plane, are an 8 x 8 matrix of bits;
/// transposed, it is eight codes, of which the last plane is the lowest bit. Base and dither side
/// by side are 2 base + dither; half of it, rounded up, is base + dither. (Without a base there is
/// nothing to halve.)
template <int kBasePlanes>
ZIPML_AVX512_INLINE __m512i Codes(const FourPlanes &upper, const FourPlanes &lower, int i) {
  const __m512i units = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201u));
  const __m512i a = upper.part[i / 2], b = lower.part[i / 2];
  const __m512i matrix = i % 2 == 0 ? _mm512_unpacklo_epi32(a, b) : _mm512_unpackhi_epi32(a, b);
  const __m512i bits = _mm512_gf2p8affine_epi64_epi8(units, matrix, 0);
  return kBasePlanes == 0 ? bits : _mm512_avg_epu8(bits, _mm512_setzero_si512());
}

/// Up to eight words of every plane, ready for Codes: `first` and `second` end with their dithers.
template <int kBasePlanes, bool kDouble>
struct Matrices {
  FourPlanes upper, first, second;

  ZIPML_AVX512_INLINE Matrices(const PlaneWords &planes, size_t at, uint32_t count) {
    const __mmask8 mask = static_cast<__mmask8>((1u << count) - 1);
    __m512i row[7];
#pragma GCC unroll 7
    for (int k = 0; k < 7; ++k) {
      const int p = k - (7 - kBasePlanes);
      row[k] = p < 0 ? _mm512_setzero_si512()
                     : LoadWords(planes.base + p * planes.plane + at, mask, planes.ahead);
    }
    const __m512i one = LoadWords(planes.first_dither + at, mask, planes.ahead);
    upper = Interleave(row[0], row[1], row[2], row[3]);
    first = Interleave(row[4], row[5], row[6], one);
    if (kDouble) {
      const __m512i two = LoadWords(planes.second_dither + at, mask, planes.ahead);
      second = Interleave(row[4], row[5], row[6], two);
    }
  }
};

template <int kBasePlanes, bool kDouble>
ZIPML_AVX512_INLINE void DecodeWords(const PlaneWords &planes, size_t at, uint32_t count,
                                     uint8_t *first, uint8_t *second) {
  const Matrices<kBasePlanes, kDouble> m(planes, at, count);
#pragma GCC unroll 8
  for (uint32_t i = 0; i < 8; ++i) {
    if (i >= count) break;
    _mm512_store_si512(first + (at + i) * kGroup,
                       Codes<kBasePlanes>(m.upper, m.first, static_cast<int>(i)));
  }
  if (!kDouble) return;
#pragma GCC unroll 8
  for (uint32_t i = 0; i < 8; ++i) {
    if (i >= count) break;
    _mm512_store_si512(second + (at + i) * kGroup,
                       Codes<kBasePlanes>(m.upper, m.second, static_cast<int>(i)));
  }
}

template <int kBasePlanes, bool kDouble>
ZIPML_AVX512 void DecodePlanes(const PlaneWords &planes, size_t words, uint8_t *first,
                               uint8_t *second) {
  size_t i = 0;
  for (; i + 8 <= words; i += 8) DecodeWords<kBasePlanes, kDouble>(planes, i, 8, first, second);
  if (i < words) {
    DecodeWords<kBasePlanes, kDouble>(planes, i, static_cast<uint32_t>(words - i), first, second);
  }
}

/// One function for each number of base planes, single and double.
#define ZIPML_BY_PLANES(FUNCTION)                                                       \
  {                                                                                     \
      {FUNCTION<0, false>, FUNCTION<1, false>, FUNCTION<2, false>, FUNCTION<3, false>,  \
       FUNCTION<4, false>, FUNCTION<5, false>, FUNCTION<6, false>, FUNCTION<7, false>}, \
      {FUNCTION<0, true>, FUNCTION<1, true>, FUNCTION<2, true>, FUNCTION<3, true>,      \
       FUNCTION<4, true>, FUNCTION<5, true>, FUNCTION<6, true>, FUNCTION<7, true>},     \
  }

inline void Decode(const PlaneWords &planes, size_t words, uint8_t *first, uint8_t *second) {
  static decltype(&Decode) const kLoops[2][8] = ZIPML_BY_PLANES(DecodePlanes);
  kLoops[planes.second_dither != nullptr][planes.base_planes](planes, words, first, second);
}

// ---- Digits ----------------------------------------------------------------------------------

/// An integer is a sum of digits -128 .. 127 times powers of 256. Adding 128 to each digit leaves
/// bytes 0 .. 255, the bytes of x + 0x80808080; 2^31 - 1 needs a fifth digit.
constexpr uint32_t kBalance = 0x80808080u;
constexpr int kMaxDigits = 5;
/// Fewer digits of a model are not worth loops of their own.
constexpr int kMinModelDigits = 3;

/// Digits that hold every integer between -below and above.
inline int DigitsFor(int32_t smallest, int32_t largest) {
  // the largest that k digits hold is 127 * (1 + 256 + ..), the smallest -128 * the same
  int64_t ones = 1;
  int digits = 1;
  while (largest > 127 * ones || smallest < -128 * ones) {
    ones = 256 * ones + 1;
    ++digits;
  }
  return digits;
}

template <int kDigits>
ZIPML_AVX512 void SplitDigits(const int32_t *model, uint32_t size, int8_t *digits) {
  const __m512i balance = _mm512_set1_epi32(static_cast<int>(kBalance));
  const __m512i byte = _mm512_set1_epi32(0xff);
  for (uint32_t j = 0; j < size; j += kGroup) {
    __m512i x[4], y[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      x[v] = _mm512_load_si512(model + j + 16 * v);
      y[v] = _mm512_add_epi32(x[v], balance);
    }
#pragma GCC unroll 5
    for (int d = 0; d < kDigits; ++d) {
      __m512i z[4];
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        // the fifth digit is the carry out of the fourth
        z[v] = d == 4 ? _mm512_maskz_set1_epi32(
                            _mm512_cmpgt_epi32_mask(x[v], _mm512_set1_epi32(0x7f7f7f7f)), 0x81)
                      : _mm512_and_si512(_mm512_srli_epi32(y[v], 8 * (d & 3)), byte);
        if (d == 4) z[v] = _mm512_or_si512(z[v], _mm512_set1_epi32(0x80));
      }
      // packing interleaves lanes: what Gradient's order is the inverse of
      const __m512i packed =
          _mm512_packus_epi16(_mm512_packus_epi32(z[0], z[1]), _mm512_packus_epi32(z[2], z[3]));
      _mm512_store_si512(digits + static_cast<size_t>(j) * kDigits + d * kGroup,
                         _mm512_xor_si512(packed, _mm512_set1_epi8(static_cast<char>(0x80))));
    }
  }
}

ZIPML_AVX512 inline void Split(const int32_t *model, uint32_t size, DigitModel &out) {
  __m512i smallest = _mm512_setzero_si512(), largest = smallest, sum = smallest;
  for (uint32_t j = 0; j < size; j += 16) {
    const __m512i x = _mm512_load_si512(model + j);
    smallest = _mm512_min_epi32(smallest, x);
    largest = _mm512_max_epi32(largest, x);
    sum = _mm512_add_epi64(sum, _mm512_cvtepi32_epi64(_mm512_castsi512_si256(x)));
    sum = _mm512_add_epi64(sum, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(x, 1)));
  }
  out.sum = _mm512_reduce_add_epi64(sum);
  out.count = std::max(kMinModelDigits, DigitsFor(_mm512_reduce_min_epi32(smallest),
                                                  _mm512_reduce_max_epi32(largest)));
  static void (*const kSplitters[])(const int32_t *, uint32_t, int8_t *) = {
      SplitDigits<3>, SplitDigits<4>, SplitDigits<5>};
  kSplitters[out.count - kMinModelDigits](model, size,
                                          reinterpret_cast<int8_t *>(out.digits.data()));
}

/// sum += codes * digits by fours: VPDPBUSD. Around the intrinsic, GCC copies every sum twice.
ZIPML_AVX512_INLINE void AddProducts(__m512i codes, __m512i digits, __m512i &sum) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(digits));
}

// ---- Dot products ----------------------------------------------------------------------------

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

/// A lane adds up at most 4 * 2^9 products of 2^8 * 2^7, for up to 2^15 features: no more than
/// 2^26.
template <int kDigits>
ZIPML_AVX512 void DotDigits(const uint8_t *rows, uint32_t count, uint32_t size,
                            const int8_t *digits, int64_t *sums) {
  for (uint32_t r = 0; r < count; r += 4) {
    const uint8_t *row = rows + static_cast<size_t>(r) * size;
    __m512i sum[kDigits][4];
#pragma GCC unroll 5
    for (int d = 0; d < kDigits; ++d) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[d][i] = _mm512_setzero_si512();
    }
    for (uint32_t j = 0; j < size; j += kGroup) {
      __m512i codes[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        codes[i] = _mm512_load_si512(row + i * static_cast<size_t>(size) + j);
      }
#pragma GCC unroll 5
      for (int d = 0; d < kDigits; ++d) {
        const __m512i x = _mm512_load_si512(digits + static_cast<size_t>(j) * kDigits + d * kGroup);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) AddProducts(codes[i], x, sum[d][i]);
      }
    }
    __m256i total = _mm256_setzero_si256();
#pragma GCC unroll 5
    for (int d = 0; d < kDigits; ++d) {
      const __m128i four = Sums(sum[d][0], sum[d][1], sum[d][2], sum[d][3]);
      total = _mm256_add_epi64(total, _mm256_slli_epi64(_mm256_cvtepi32_epi64(four), 8 * d));
    }
    const uint32_t left = std::min(4u, count - r);
    _mm256_mask_storeu_epi64(sums + r, static_cast<__mmask8>((1u << left) - 1), total);
  }
}

inline void Dots(const uint8_t *rows, uint32_t count, uint32_t size, const DigitModel &model,
                 int64_t *sums) {
  static void (*const kDots[])(const uint8_t *, uint32_t, uint32_t, const int8_t *, int64_t *) = {
      DotDigits<3>, DotDigits<4>, DotDigits<5>};
  kDots[model.count - kMinModelDigits](rows, count, size,
                                       reinterpret_cast<const int8_t *>(model.digits.data()), sums);
}

// ---- Gradient --------------------------------------------------------------------------------

/// For each four rows, their codes of a feature are brought side by side. A lane adds up 2^8
/// products of 2^8 * 2^7 for each digit: 2^23, so two digits together fit 32 bits.
template <int kDigits>
ZIPML_AVX512 void GradientDigits(const uint8_t *rows, uint32_t count, uint32_t size,
                                 const uint32_t *coefficients, const uint32_t *carries,
                                 int64_t *gradient) {
  for (uint32_t j = 0; j < size; j += kGroup) {
    __m512i sum[kDigits][4];
#pragma GCC unroll 5
    for (int d = 0; d < kDigits; ++d) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) sum[d][v] = _mm512_setzero_si512();
    }
    const uint8_t *row = rows + j;
    for (uint32_t q = 0; 4 * q < count; ++q, row += 4 * static_cast<size_t>(size)) {
      const __m512i r0 = _mm512_load_si512(row), r1 = _mm512_load_si512(row + size);
      const __m512i r2 = _mm512_load_si512(row + 2 * static_cast<size_t>(size));
      const __m512i r3 = _mm512_load_si512(row + 3 * static_cast<size_t>(size));
      const __m512i low01 = _mm512_unpacklo_epi8(r0, r1), high01 = _mm512_unpackhi_epi8(r0, r1);
      const __m512i low23 = _mm512_unpacklo_epi8(r2, r3), high23 = _mm512_unpackhi_epi8(r2, r3);
      const __m512i codes[4] = {
          _mm512_unpacklo_epi16(low01, low23), _mm512_unpackhi_epi16(low01, low23),
          _mm512_unpacklo_epi16(high01, high23), _mm512_unpackhi_epi16(high01, high23)};
#pragma GCC unroll 5
      for (int d = 0; d < kDigits; ++d) {
        const __m512i c =
            _mm512_set1_epi32(static_cast<int>(d < 4 ? coefficients[4 * q + d] : carries[q]));
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) AddProducts(codes[v], c, sum[d][v]);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      __m512i *out = reinterpret_cast<__m512i *>(gradient + j + 16 * v);
      __m512i low = _mm512_load_si512(out), high = _mm512_load_si512(out + 1);
#pragma GCC unroll 3
      for (int d = 0; d < kDigits; d += 2) {
        __m512i pair = sum[d][v];
        if (d + 1 < kDigits) {
          pair = _mm512_add_epi32(pair, _mm512_slli_epi32(sum[d + 1 < kDigits ? d + 1 : d][v], 8));
        }
        const __m512i a = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(pair));
        const __m512i b = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(pair, 1));
        low = _mm512_add_epi64(low, _mm512_slli_epi64(a, 8 * d));
        high = _mm512_add_epi64(high, _mm512_slli_epi64(b, 8 * d));
      }
      _mm512_store_si512(out, low);
      _mm512_store_si512(out + 1, high);
    }
  }
}

ZIPML_AVX512 inline void Gradient(const uint8_t *rows, uint32_t count, uint32_t size,
                                  const int32_t *coefficients, int64_t *gradient) {
  // four coefficients are a 4 x 4 matrix of bytes; transposed, it is their digits by fours
  const __m512i transpose =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m512i balance = _mm512_set1_epi32(static_cast<int>(kBalance));
  alignas(64) uint32_t words[kMaxRows];
  __m512i smallest = _mm512_setzero_si512(), largest = smallest;
  for (uint32_t r = 0; r < count; r += 16) {
    const uint32_t left = std::min(16u, count - r);
    const __mmask16 mask = static_cast<__mmask16>((1u << left) - 1);
    const __m512i c = _mm512_maskz_loadu_epi32(mask, coefficients + r);
    smallest = _mm512_min_epi32(smallest, c);
    largest = _mm512_max_epi32(largest, c);
    const __m512i digits = _mm512_xor_si512(_mm512_add_epi32(c, balance), balance);
    _mm512_store_si512(words + r, _mm512_shuffle_epi8(digits, transpose));
  }
  const int digits = DigitsFor(_mm512_reduce_min_epi32(smallest), _mm512_reduce_max_epi32(largest));
  uint32_t carries[kMaxRows / 4];  // the fifth digits
  if (digits == kMaxDigits) {
    for (uint32_t q = 0; 4 * q < count; ++q) {
      carries[q] = 0;
      for (uint32_t i = 0; i < 4 && 4 * q + i < count; ++i) {
        if (coefficients[4 * q + i] > 0x7f7f7f7f) carries[q] |= 1u << (8 * i);
      }
    }
  }
  static void (*const kGradients[])(const uint8_t *, uint32_t, uint32_t, const uint32_t *,
                                    const uint32_t *, int64_t *) = {
      GradientDigits<1>, GradientDigits<2>, GradientDigits<3>, GradientDigits<4>,
      GradientDigits<5>};
  kGradients[digits - 1](rows, count, size, words, carries, gradient);
}

static const RowLoops kLoops = {"avx512", Position, CodePosition, Decode, Split, Dots, Gradient};

}  // namespace avx512
}  // namespace zipml

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
