// The loops of subset_loops.hpp on x86-64 with AVX-512 of bytes and words: Skylake's servers and
// later.
#pragma once

#include "rows_avx2.hpp"

// not under sanitizers, which compile for minutes: the source is that of AVX2
#if defined(__x86_64__) && defined(__GNUC__) && !defined(ZIPML_NO_CLONES)
#define ZIPML_HAS_AVX512BW 1
#include <immintrin.h>

#include <type_traits>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
// GCC 12's own header starts from values that it leaves undefined on purpose
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
#endif

namespace zipml {
namespace avx512bw {

inline bool Runs() {
  return __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0;
}

#define ZIPML_INLINE __attribute__((always_inline)) inline

/// As in rows_avx2.hpp.
struct Vector {
  __m512i v;
  static constexpr uint32_t kLanes = 4;
  static ZIPML_INLINE Vector Zero() { return {_mm512_setzero_si512()}; }
  static ZIPML_INLINE Vector Fill(int byte) { return {_mm512_set1_epi8(static_cast<char>(byte))}; }
  static ZIPML_INLINE Vector Load(const void *from) { return {_mm512_loadu_si512(from)}; }
  static ZIPML_INLINE Vector LoadPart(const uint64_t *from, uint32_t words) {
    return {_mm512_maskz_loadu_epi64(static_cast<__mmask8>((1u << words) - 1), from)};
  }
  static ZIPML_INLINE Vector LoadLanes(const uint8_t *const *rows, uint32_t at) {
    return Join(_mm_loadu_si128(reinterpret_cast<const __m128i *>(rows[0] + at)),
                _mm_loadu_si128(reinterpret_cast<const __m128i *>(rows[1] + at)),
                _mm_loadu_si128(reinterpret_cast<const __m128i *>(rows[2] + at)),
                _mm_loadu_si128(reinterpret_cast<const __m128i *>(rows[3] + at)));
  }
  static ZIPML_INLINE Vector LoadHalfLanes(const uint8_t *const *rows, uint32_t at) {
    return Join(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(rows[0] + at)),
                _mm_loadl_epi64(reinterpret_cast<const __m128i *>(rows[1] + at)),
                _mm_loadl_epi64(reinterpret_cast<const __m128i *>(rows[2] + at)),
                _mm_loadl_epi64(reinterpret_cast<const __m128i *>(rows[3] + at)));
  }
  static ZIPML_INLINE Vector Broadcast(const uint8_t *from) {
    return {_mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i *>(from)))};
  }
  ZIPML_INLINE void Store(void *to) const { _mm512_storeu_si512(to, v); }

 private:
  static ZIPML_INLINE Vector Join(__m128i a, __m128i b, __m128i c, __m128i d) {
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);
    return {_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1)};
  }
};

ZIPML_INLINE Vector And(Vector a, Vector b) { return {_mm512_and_si512(a.v, b.v)}; }
ZIPML_INLINE Vector Xor(Vector a, Vector b) { return {_mm512_xor_si512(a.v, b.v)}; }
ZIPML_INLINE Vector Add8(Vector a, Vector b) { return {_mm512_add_epi8(a.v, b.v)}; }
ZIPML_INLINE Vector Add16(Vector a, Vector b) { return {_mm512_add_epi16(a.v, b.v)}; }
ZIPML_INLINE Vector Subtract16(Vector a, Vector b) { return {_mm512_sub_epi16(a.v, b.v)}; }
template <int kShift>
ZIPML_INLINE Vector ShiftRight16(Vector a) {
  return {_mm512_srli_epi16(a.v, kShift)};
}
template <int kShift>
ZIPML_INLINE Vector ShiftLeft16(Vector a) {
  return {_mm512_slli_epi16(a.v, kShift)};
}
ZIPML_INLINE Vector OddBytes(Vector a) {
  return {_mm512_maddubs_epi16(a.v, _mm512_set1_epi16(0x100))};
}
ZIPML_INLINE Vector LookUp(Vector table, Vector at) { return {_mm512_shuffle_epi8(table.v, at.v)}; }
ZIPML_INLINE Vector UnpackLow8(Vector a, Vector b) { return {_mm512_unpacklo_epi8(a.v, b.v)}; }
ZIPML_INLINE Vector UnpackHigh8(Vector a, Vector b) { return {_mm512_unpackhi_epi8(a.v, b.v)}; }
ZIPML_INLINE Vector UnpackLow16(Vector a, Vector b) { return {_mm512_unpacklo_epi16(a.v, b.v)}; }
ZIPML_INLINE Vector UnpackHigh16(Vector a, Vector b) { return {_mm512_unpackhi_epi16(a.v, b.v)}; }

/// As in rows_avx2.hpp, whose loops on codes these take.
constexpr bool kHasBytes = true;
constexpr uint32_t kMostBasePlanes = 1;

#define ZIPML_SUBSETS_BY_COMPILER
#include "subset_loops.hpp"
#undef ZIPML_SUBSETS_BY_COMPILER
#undef ZIPML_INLINE

/// Codes of bit-planes are AVX2's, and all other loops the portable ones, whose order of positions
/// both have.
static const RowLoops kLoops = {"avx512bw",
                                kGroup,
                                portable::Position,
                                portable::Position,
                                nullptr,
                                nullptr,
                                Split,
                                portable::Step<Split>,
                                portable::StepEach<Split>,
                                portable::Dots,
                                portable::PairBytes,
                                nullptr,
                                {portable::Gradient, nullptr},
                                {nullptr, nullptr},
                                &kPlaneLoops,
                                nullptr,
                                avx2::bytes::For};

}  // namespace avx512bw
}  // namespace zipml

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#pragma GCC diagnostic pop
#endif
#endif
