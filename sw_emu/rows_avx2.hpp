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

#include "subset_loops.hpp"

#undef ZIPML_INLINE

static const RowLoops kLoops = SubsetLoops("avx2");

}  // namespace avx2
}  // namespace zipml

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
