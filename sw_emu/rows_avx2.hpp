// The loops of subset_loops.hpp on x86-64 with AVX2.
#pragma once

#include "rows.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && \
    (!defined(ZIPML_NO_CLONES) || defined(ZIPML_VECTOR_LOOPS))
#define ZIPML_HAS_AVX2 1
#include <immintrin.h>

#include <type_traits>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

namespace zipml {
namespace avx2 {

inline bool Runs() { return __builtin_cpu_supports("avx2") != 0; }

#define ZIPML_INLINE __attribute__((always_inline)) inline

struct Vector {
  __m256i v;
  static constexpr uint32_t kLanes = 2;  // of 16 bytes
  static ZIPML_INLINE Vector Zero() { return {_mm256_setzero_si256()}; }
  static ZIPML_INLINE Vector Fill(int byte) { return {_mm256_set1_epi8(static_cast<char>(byte))}; }
  static ZIPML_INLINE Vector Load(const void *from) {
    return {_mm256_loadu_si256(static_cast<const __m256i *>(from))};
  }
  /// So many words, and zeros.
  static ZIPML_INLINE Vector LoadPart(const uint64_t *from, uint32_t words) {
    const __m256i mask =
        _mm256_cmpgt_epi64(_mm256_set1_epi64x(words), _mm256_setr_epi64x(0, 1, 2, 3));
    return {_mm256_maskload_epi64(reinterpret_cast<const long long *>(from), mask)};
  }
  static ZIPML_INLINE Vector LoadLanes(const uint8_t *const *rows, uint32_t at) {
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i *>(rows[0] + at));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i *>(rows[1] + at));
    return {_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1)};
  }
  /// Eight bytes in each lane, and zeros.
  static ZIPML_INLINE Vector LoadHalfLanes(const uint8_t *const *rows, uint32_t at) {
    const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(rows[0] + at));
    const __m128i high = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(rows[1] + at));
    return {_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1)};
  }
  /// 16 bytes in all lanes.
  static ZIPML_INLINE Vector Broadcast(const uint8_t *from) {
    return {_mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i *>(from)))};
  }
  ZIPML_INLINE void Store(void *to) const { _mm256_storeu_si256(static_cast<__m256i *>(to), v); }
};

ZIPML_INLINE Vector And(Vector a, Vector b) { return {_mm256_and_si256(a.v, b.v)}; }
ZIPML_INLINE Vector Xor(Vector a, Vector b) { return {_mm256_xor_si256(a.v, b.v)}; }
ZIPML_INLINE Vector Add8(Vector a, Vector b) { return {_mm256_add_epi8(a.v, b.v)}; }
ZIPML_INLINE Vector Add16(Vector a, Vector b) { return {_mm256_add_epi16(a.v, b.v)}; }
ZIPML_INLINE Vector Subtract16(Vector a, Vector b) { return {_mm256_sub_epi16(a.v, b.v)}; }
template <int kShift>
ZIPML_INLINE Vector ShiftRight16(Vector a) {
  return {_mm256_srli_epi16(a.v, kShift)};
}
template <int kShift>
ZIPML_INLINE Vector ShiftLeft16(Vector a) {
  return {_mm256_slli_epi16(a.v, kShift)};
}
/// Every second byte in 16 bits, by a product: there are more units for them than for shifts.
ZIPML_INLINE Vector OddBytes(Vector a) {
  return {_mm256_maddubs_epi16(a.v, _mm256_set1_epi16(0x100))};
}
/// Inside each lane.
ZIPML_INLINE Vector LookUp(Vector table, Vector at) { return {_mm256_shuffle_epi8(table.v, at.v)}; }
ZIPML_INLINE Vector UnpackLow8(Vector a, Vector b) { return {_mm256_unpacklo_epi8(a.v, b.v)}; }
ZIPML_INLINE Vector UnpackHigh8(Vector a, Vector b) { return {_mm256_unpackhi_epi8(a.v, b.v)}; }
ZIPML_INLINE Vector UnpackLow16(Vector a, Vector b) { return {_mm256_unpacklo_epi16(a.v, b.v)}; }
ZIPML_INLINE Vector UnpackHigh16(Vector a, Vector b) { return {_mm256_unpackhi_epi16(a.v, b.v)}; }

/// Four times four digits, from four numbers in a lane.
template <int kDigits, int kBits>
ZIPML_INLINE __m256i SpreadDigits(__m256i x) {
  const int mask = (1 << kBits) - 1, room = 8 - kBits;
  __m256i bytes = _mm256_and_si256(x, _mm256_set1_epi32(mask));
#pragma GCC unroll 3
  for (int d = 1; d < kDigits; ++d) {
    const __m256i digit =
        _mm256_and_si256(_mm256_slli_epi32(x, room * d), _mm256_set1_epi32(mask << 8 * d));
    bytes = _mm256_or_si256(bytes, digit);
  }
  const __m256i transpose = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  return _mm256_shuffle_epi8(bytes, transpose);
}

/// As in subset_loops.hpp: one vector has the subsets without x[2], the other those with it, and
/// lanes differ in x[3].
template <int kDigits, int kBits>
ZIPML_INLINE void SumSubsets(const int32_t *x, size_t step, int32_t lowest, uint8_t *tables) {
  const __m256i bit0 = _mm256_setr_epi32(0, -1, 0, -1, 0, -1, 0, -1);
  const __m256i bit1 = _mm256_setr_epi32(0, 0, -1, -1, 0, 0, -1, -1);
  const __m256i bit3 = _mm256_setr_epi32(0, 0, 0, 0, -1, -1, -1, -1);
  const __m256i x0 = _mm256_and_si256(_mm256_set1_epi32(x[0]), bit0);
  const __m256i x1 = _mm256_and_si256(_mm256_set1_epi32(x[step]), bit1);
  const __m256i x3 = _mm256_and_si256(_mm256_set1_epi32(x[3 * step]), bit3);
  const __m256i without =
      _mm256_add_epi32(_mm256_add_epi32(x0, x1), _mm256_sub_epi32(x3, _mm256_set1_epi32(lowest)));
  const __m256i with = _mm256_add_epi32(without, _mm256_set1_epi32(x[2 * step]));
  const __m256i a = SpreadDigits<kDigits, kBits>(without), b = SpreadDigits<kDigits, kBits>(with);
  const __m256i two = _mm256_permute4x64_epi64(_mm256_unpacklo_epi32(a, b), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(tables), two);
  if (kDigits == 2) return;
  const __m256i last = _mm256_permute4x64_epi64(_mm256_unpackhi_epi32(a, b), 0xd8);
  if (kDigits == 3) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(tables + 32), _mm256_castsi256_si128(last));
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(tables + 32), last);
  }
}

/// Whether there are loops on codes with digits of bytes, and at how many base planes, at most,
/// loops on planes are faster.
constexpr bool kHasBytes = true;
constexpr uint32_t kMostBasePlanes = 0;

#include "subset_loops.hpp"

// ---- Rows of bytes ---------------------------------------------------------------------------
// VPMADDWD multiplies 16 by 16 bits, and adds up two products in 32.

ZIPML_INLINE int64_t Total(__m256i sum) {
  const __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  alignas(16) int32_t lanes[4];
  _mm_store_si128(reinterpret_cast<__m128i *>(lanes), half);
  return static_cast<int64_t>(lanes[0]) + lanes[1] + lanes[2] + lanes[3];
}

/// With the digits of portable::Split. A lane adds up two products of 2^8 * 2^11 for every 16 of at
/// most 2^13 features at a time: no more than 2^29, and two lanes 2^30.
inline void Dots(const uint8_t *rows, uint32_t count, uint32_t size, const DigitModel &model,
                 int64_t *sums) {
  const int16_t *low = reinterpret_cast<const int16_t *>(model.digits.data());
  const int16_t *middle = low + size, *high = middle + size;
  const uint32_t kTile = 1u << 13;
  for (uint32_t r = 0; r < count; ++r, rows += size) {
    int64_t sum = 0;
    for (uint32_t start = 0; start < size; start += kTile) {
      const uint32_t stop = std::min(size, start + kTile);
      __m256i a = _mm256_setzero_si256(), b = a, c = a;
      for (uint32_t j = start; j < stop; j += 16) {
        const __m256i codes =
            _mm256_cvtepu8_epi16(_mm_load_si128(reinterpret_cast<const __m128i *>(rows + j)));
        const __m256i *x = reinterpret_cast<const __m256i *>(low + j);
        const __m256i *y = reinterpret_cast<const __m256i *>(middle + j);
        const __m256i *z = reinterpret_cast<const __m256i *>(high + j);
        a = _mm256_add_epi32(a, _mm256_madd_epi16(codes, _mm256_load_si256(x)));
        b = _mm256_add_epi32(b, _mm256_madd_epi16(codes, _mm256_load_si256(y)));
        c = _mm256_add_epi32(c, _mm256_madd_epi16(codes, _mm256_load_si256(z)));
      }
      sum += Total(a) + Total(b) * (1 << portable::kDigitBits) +
             Total(c) * (1 << 2 * portable::kDigitBits);
    }
    sums[r] = sum;
  }
}

ZIPML_INLINE void AddFour(__m128i low, __m128i high, int64_t *to) {
  __m256i *out = reinterpret_cast<__m256i *>(to);
  const __m256i sum = _mm256_add_epi64(_mm256_cvtepi32_epi64(low),
                                       _mm256_slli_epi64(_mm256_cvtepi32_epi64(high), 16));
  _mm256_store_si256(out, _mm256_add_epi64(_mm256_load_si256(out), sum));
}

/// Sums over pairs of rows of 32 features, four times eight.
struct WordSums {
  __m256i a, b, c, d;
  ZIPML_INLINE void Add(__m256i ab, __m256i cd, __m256i coefficients) {
    const __m256i zero = _mm256_setzero_si256();
    a = _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_unpacklo_epi8(ab, zero), coefficients));
    b = _mm256_add_epi32(b, _mm256_madd_epi16(_mm256_unpackhi_epi8(ab, zero), coefficients));
    c = _mm256_add_epi32(c, _mm256_madd_epi16(_mm256_unpacklo_epi8(cd, zero), coefficients));
    d = _mm256_add_epi32(d, _mm256_madd_epi16(_mm256_unpackhi_epi8(cd, zero), coefficients));
  }
};

/// A coefficient is two halves of 16 bits, so two products are at most 2 * 2^8 * 2^15, and 2^6
/// pairs of them fit 32 bits. Coefficients of nearly 2^31, whose upper half does not, take the
/// portable loop.
inline void Gradient(const uint8_t *rows, uint32_t base_planes, uint32_t count, uint32_t size,
                     const int32_t *coefficients, int64_t *gradient) {
  constexpr uint32_t kPairs = 64;
  if (*std::max_element(coefficients, coefficients + count) >= 0x7fff8000) {
    return portable::Gradient(rows, base_planes, count, size, coefficients, gradient);
  }
  for (uint32_t begin = 0; begin < count; begin += 2 * kPairs) {
    const uint32_t pairs = (std::min(count - begin, 2 * kPairs) + 1) / 2;
    uint32_t low[kPairs], high[kPairs];
    for (uint32_t p = 0; p < pairs; ++p) {
      low[p] = high[p] = 0;
      for (uint32_t i = 0; i < 2 && begin + 2 * p + i < count; ++i) {
        const int32_t c = coefficients[begin + 2 * p + i];
        const int64_t below = static_cast<int16_t>(c);
        low[p] |= static_cast<uint32_t>(below & 0xffff) << 16 * i;
        high[p] |= static_cast<uint32_t>((c - below) >> 16 & 0xffff) << 16 * i;
      }
    }
    for (uint32_t j = 0; j < size; j += 32) {
      const uint8_t *row = rows + static_cast<size_t>(begin) * size + j;
      const __m256i zero = _mm256_setzero_si256();
      WordSums one = {zero, zero, zero, zero}, two = one;
      for (uint32_t p = 0; p < pairs; ++p, row += 2 * static_cast<size_t>(size)) {
        const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i *>(row));
        const __m256i y = _mm256_load_si256(reinterpret_cast<const __m256i *>(row + size));
        const __m256i ab = _mm256_unpacklo_epi8(x, y), cd = _mm256_unpackhi_epi8(x, y);
        one.Add(ab, cd, _mm256_set1_epi32(static_cast<int>(low[p])));
        two.Add(ab, cd, _mm256_set1_epi32(static_cast<int>(high[p])));
      }
      int64_t *to = gradient + j;
#define ZIPML_ADD_EIGHT(PART, AT)                                                         \
  AddFour(_mm256_castsi256_si128(one.PART), _mm256_castsi256_si128(two.PART), to + (AT)); \
  AddFour(_mm256_extracti128_si256(one.PART, 1), _mm256_extracti128_si256(two.PART, 1),   \
          to + 16 + (AT));
      ZIPML_ADD_EIGHT(a, 0)
      ZIPML_ADD_EIGHT(b, 4)
      ZIPML_ADD_EIGHT(c, 8)
      ZIPML_ADD_EIGHT(d, 12)
#undef ZIPML_ADD_EIGHT
    }
  }
}

#include "avx2_codes.hpp"

#include "avx2_bytes.hpp"
#undef ZIPML_INLINE

/// Codes of bit-planes have loops of their own.
static const RowLoops kLoops = {"avx2",
                                kGroup,
                                portable::Position,
                                portable::Position,
                                nullptr,
                                nullptr,
                                Split,
                                portable::Step<Split>,
                                portable::StepEach<Split>,
                                Dots,
                                portable::PairBytes,
                                nullptr,
                                {Gradient, nullptr},
                                {nullptr, nullptr},
                                &kPlaneLoops,
                                nullptr,
                                bytes::For};

}  // namespace avx2
}  // namespace zipml

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
