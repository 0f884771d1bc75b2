// The loops of rows.hpp on x86-64 with byte dot products (AVX-512 VNNI, GFNI): Ice Lake, Zen 4 and
// later. VPDPBUSD multiplies 64 unsigned codes with 64 signed digits and adds them up by fours.
#pragma once

#include "avx512_fours.hpp"
#include "avx512_levels.hpp"
#include "avx512_sums.hpp"

#ifdef ZIPML_HAS_AVX512
#if !defined(__clang__)  // as in avx512_codes.hpp
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace zipml {
namespace avx512 {

// ---- Dot products ----------------------------------------------------------------------------

/// Decodes word `i` of eight, stores its codes and multiplies them with a group of the model.
template <int kBasePlanes, bool kDouble, int kDigits, int i>
ZIPML_AVX512_INLINE void DecodeWord(const Matrices<kBasePlanes, kDouble> &m, uint8_t *first,
                                    uint8_t *second, const int8_t *digits, Digits<kDigits> &one,
                                    Digits<kDigits> &two) {
  const Digits<kDigits> x = Digits<kDigits>::Load(digits + i * kDigits * static_cast<int>(kGroup));
  const __m512i codes = m.template Codes<i>(m.first);
  _mm512_store_si512(first + i * kGroup, codes);
  one.AddCodes(codes, x);
  if (!kDouble) return;
  const __m512i others = m.template Codes<i>(m.second);
  _mm512_store_si512(second + i * kGroup, others);
  two.AddCodes(others, x);
}

/// Decodes one sample. Even and odd words have sums of their own, for a sum waits for the one
/// before.
template <int kBasePlanes, bool kDouble, int kDigits>
ZIPML_AVX512_INLINE void DecodeSample(const PlaneRows &planes, uint32_t sample, uint8_t *first,
                                      uint8_t *second, const int8_t *digits, Digits<kDigits> &one,
                                      Digits<kDigits> &two) {
  Digits<kDigits> odd_one = Digits<kDigits>::Zero(), odd_two = odd_one;
  one = two = odd_one;
  const size_t row = sample * planes.row;
  first += static_cast<size_t>(sample) * planes.words * kGroup;
  second += static_cast<size_t>(sample) * planes.words * kGroup;
#define ZIPML_DECODE_WORD(I, ONE, TWO) \
  DecodeWord<kBasePlanes, kDouble, kDigits, I>(m, first, second, digits, ONE, TWO)
  uint32_t w = 0;
  for (; w + 8 <= planes.words; w += 8) {
    const Matrices<kBasePlanes, kDouble> m(planes, row + w, 0xff);
    ZIPML_DECODE_WORD(0, one, two);
    ZIPML_DECODE_WORD(1, odd_one, odd_two);
    ZIPML_DECODE_WORD(2, one, two);
    ZIPML_DECODE_WORD(3, odd_one, odd_two);
    ZIPML_DECODE_WORD(4, one, two);
    ZIPML_DECODE_WORD(5, odd_one, odd_two);
    ZIPML_DECODE_WORD(6, one, two);
    ZIPML_DECODE_WORD(7, odd_one, odd_two);
    first += 8 * kGroup;
    second += 8 * kGroup;
    digits += 8 * kDigits * kGroup;
  }
  const uint32_t left = planes.words - w;
  if (left != 0) {
    const __mmask8 mask = static_cast<__mmask8>((1u << left) - 1);
    const Matrices<kBasePlanes, kDouble> m(planes, row + w, mask);
    ZIPML_DECODE_WORD(0, one, two);
    if (left > 1) ZIPML_DECODE_WORD(1, odd_one, odd_two);
    if (left > 2) ZIPML_DECODE_WORD(2, one, two);
    if (left > 3) ZIPML_DECODE_WORD(3, odd_one, odd_two);
    if (left > 4) ZIPML_DECODE_WORD(4, one, two);
    if (left > 5) ZIPML_DECODE_WORD(5, odd_one, odd_two);
    if (left > 6) ZIPML_DECODE_WORD(6, one, two);
  }
#undef ZIPML_DECODE_WORD
  one.Add(odd_one);
  two.Add(odd_two);
}

/// Adds up the sums of four rows.
template <int kDigits>
ZIPML_AVX512_INLINE __m256i Total(const Digits<kDigits> &a, const Digits<kDigits> &b,
                                  const Digits<kDigits> &c, const Digits<kDigits> &d) {
  __m256i total = _mm256_setzero_si256();
#define ZIPML_ADD_DIGIT(I, MEMBER)                                                            \
  if (kDigits > I) {                                                                          \
    const __m256i four = _mm256_cvtepi32_epi64(Sums(a.MEMBER, b.MEMBER, c.MEMBER, d.MEMBER)); \
    total = _mm256_add_epi64(total, _mm256_slli_epi64(four, 8 * I));                          \
  }
  ZIPML_ADD_DIGIT(0, d0)
  ZIPML_ADD_DIGIT(1, d1)
  ZIPML_ADD_DIGIT(2, d2)
  ZIPML_ADD_DIGIT(3, d3)
  ZIPML_ADD_DIGIT(4, d4)
#undef ZIPML_ADD_DIGIT
  return total;
}

/// Stores the sums of samples `s` and, if `both`, s + 1: of their first samples of values, and of
/// the second ones behind those of all.
ZIPML_AVX512_INLINE void StoreTotal(__m256i total, uint32_t s, bool both, uint32_t samples,
                                    bool twice, int64_t *sums) {
  const __m128i first = _mm256_castsi256_si128(total), second = _mm256_extracti128_si256(total, 1);
  if (both) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(sums + s), first);
    if (twice) _mm_storeu_si128(reinterpret_cast<__m128i *>(sums + samples + s), second);
  } else {
    _mm_storel_epi64(reinterpret_cast<__m128i *>(sums + s), first);
    if (twice) _mm_storel_epi64(reinterpret_cast<__m128i *>(sums + samples + s), second);
  }
}

/// Two samples at a time. Where only one is left, it is decoded twice.
template <int kBasePlanes, bool kDouble, int kDigits>
ZIPML_AVX512 void DecodePlanes(const PlaneRows &all, uint8_t *first, uint8_t *second,
                               const int8_t *digits, int64_t *sums) {
  const PlaneRows planes = all;  // of its own, so that no store can change it
  for (uint32_t s = 0; s < planes.samples; s += 2) {
    const uint32_t last = std::min(s + 1, planes.samples - 1);
    Digits<kDigits> one_a, one_b, two_a, two_b;
    DecodeSample<kBasePlanes, kDouble>(planes, s, first, second, digits, one_a, two_a);
    DecodeSample<kBasePlanes, kDouble>(planes, last, first, second, digits, one_b, two_b);
    if (kDigits == 0) continue;
    const __m256i total = Total<kDigits>(one_a, one_b, two_a, two_b);
    StoreTotal(total, s, last > s, planes.samples, kDouble, sums);
  }
}

/// Sums of the first and the second samples of two rows. A sum waits for the one before, so with
/// one digit even and odd words have their own.
template <int kDigits>
struct FourSums {
  Digits<kDigits> one_a, two_a, one_b, two_b;
  ZIPML_AVX512_INLINE static FourSums Zero() {
    const Digits<kDigits> zero = Digits<kDigits>::Zero();
    return {zero, zero, zero, zero};
  }
  template <int kBasePlanes, int i>
  ZIPML_AVX512_INLINE void AddWord(const Slices<kBasePlanes> &a, const Slices<kBasePlanes> &b,
                                   const int8_t *digits) {
    const Digits<kDigits> x =
        Digits<kDigits>::Load(digits + i * kDigits * static_cast<int>(kGroup));
    one_a.AddCodes(a.template Codes<i>(a.one), x);
    two_a.AddCodes(a.template Codes<i>(a.two), x);
    one_b.AddCodes(b.template Codes<i>(b.one), x);
    two_b.AddCodes(b.template Codes<i>(b.two), x);
  }
  ZIPML_AVX512_INLINE void Add(const FourSums &other) {
    one_a.Add(other.one_a);
    two_a.Add(other.two_a);
    one_b.Add(other.one_b);
    two_b.Add(other.two_b);
  }
};

/// Slices of up to eight words of two rows.
template <int kBasePlanes, int kDigits>
ZIPML_AVX512_INLINE void SliceWords(const PlaneRows &planes, size_t at_a, size_t at_b,
                                    uint32_t count, uint8_t *to_a, uint8_t *to_b, const int8_t *x,
                                    FourSums<kDigits> &even, FourSums<kDigits> &odd) {
  const __mmask8 mask = static_cast<__mmask8>((1u << count) - 1);
  const Slices<kBasePlanes> a = Slices<kBasePlanes>::Decode(planes, at_a, mask);
  const Slices<kBasePlanes> b = Slices<kBasePlanes>::Decode(planes, at_b, mask);
  a.Store(to_a);
  b.Store(to_b);
  even.template AddWord<kBasePlanes, 0>(a, b, x);
  if (count > 1) odd.template AddWord<kBasePlanes, 1>(a, b, x);
  if (count > 2) even.template AddWord<kBasePlanes, 2>(a, b, x);
  if (count > 3) odd.template AddWord<kBasePlanes, 3>(a, b, x);
  if (count > 4) even.template AddWord<kBasePlanes, 4>(a, b, x);
  if (count > 5) odd.template AddWord<kBasePlanes, 5>(a, b, x);
  if (count > 6) even.template AddWord<kBasePlanes, 6>(a, b, x);
  if (count > 7) odd.template AddWord<kBasePlanes, 7>(a, b, x);
}

/// Slices of all samples, two at a time, and their sums. Where only one is left, it is read twice.
template <int kBasePlanes, int kDigits>
ZIPML_AVX512 void SlicePlanes(const PlaneRows &all, uint8_t *pairs, const int8_t *digits,
                              int64_t *sums) {
  const PlaneRows planes = all;  // of its own, so that no store can change it
  const size_t bytes = PairBytes(kBasePlanes, planes.words * kGroup);
  constexpr uint32_t kBytes = (kBasePlanes + 2) * kGroup;
  for (uint32_t s = 0; s < planes.samples; s += 2) {
    const uint32_t last = std::min(s + 1, planes.samples - 1);
    const size_t row_a = s * planes.row, row_b = last * planes.row;
    uint8_t *to_a = pairs + s * bytes, *to_b = pairs + last * bytes;
    const int8_t *x = digits;
    FourSums<kDigits> even = FourSums<kDigits>::Zero(), other = even;
    FourSums<kDigits> &odd = kDigits == 1 ? other : even;
    uint32_t w = 0;
    for (; w + 8 <= planes.words; w += 8, to_a += kBytes, to_b += kBytes) {
      SliceWords<kBasePlanes>(planes, row_a + w, row_b + w, 8, to_a, to_b, x, even, odd);
      x += 8 * kDigits * kGroup;
    }
    if (w < planes.words) {
      const uint32_t left = planes.words - w;
      SliceWords<kBasePlanes>(planes, row_a + w, row_b + w, left, to_a, to_b, x, even, odd);
    }
    if (kDigits == 1) even.Add(other);
    const __m256i total = Total<kDigits>(even.one_a, even.one_b, even.two_a, even.two_b);
    StoreTotal(total, s, last > s, planes.samples, true, sums);
  }
}

/// Decodes word `i` of eight, and multiplies both codes together and the second one alone.
template <int kBasePlanes, int kDigits, int i>
ZIPML_AVX512_INLINE void HalvedWord(const Halves<kBasePlanes> &words, uint8_t *pairs,
                                    const int8_t *digits, Digits<kDigits> &both,
                                    Digits<kDigits> &second) {
  const Digits<kDigits> x = Digits<kDigits>::Load(digits + i * kDigits * static_cast<int>(kGroup));
  const __m512i codes = words.template Codes<i>();
  _mm512_store_si512(pairs + i * kGroup, codes);
  both.AddCodes(codes, x);
  second.AddCodes(SecondHalf(codes), x);
}

/// Halves of up to eight words of a sample.
template <int kBasePlanes, int kDigits>
ZIPML_AVX512_INLINE void HalvedWords(const PlaneRows &planes, size_t at, uint32_t count,
                                     uint8_t *pairs, const int8_t *digits, Digits<kDigits> &both,
                                     Digits<kDigits> &second) {
  const Halves<kBasePlanes> words(planes, at, static_cast<__mmask8>((1u << count) - 1));
#define ZIPML_HALVED_WORD(I) \
  if (count > I) HalvedWord<kBasePlanes, kDigits, I>(words, pairs, digits, both, second)
  ZIPML_HALVED_WORD(0);
  ZIPML_HALVED_WORD(1);
  ZIPML_HALVED_WORD(2);
  ZIPML_HALVED_WORD(3);
  ZIPML_HALVED_WORD(4);
  ZIPML_HALVED_WORD(5);
  ZIPML_HALVED_WORD(6);
  ZIPML_HALVED_WORD(7);
#undef ZIPML_HALVED_WORD
}

/// Halves of one sample. Eight whole words are loaded without a mask.
template <int kBasePlanes, int kDigits>
ZIPML_AVX512_INLINE void HalvedSample(const PlaneRows &planes, uint32_t sample, uint8_t *pairs,
                                      const int8_t *digits, Digits<kDigits> &both,
                                      Digits<kDigits> &second) {
  both = second = Digits<kDigits>::Zero();
  const size_t row = sample * planes.row;
  pairs += static_cast<size_t>(sample) * planes.words * kGroup;
  uint32_t w = 0;
  for (; w + 8 <= planes.words; w += 8, pairs += 8 * kGroup, digits += 8 * kDigits * kGroup) {
    HalvedWords<kBasePlanes, kDigits>(planes, row + w, 8, pairs, digits, both, second);
  }
  if (w == planes.words) return;
  HalvedWords<kBasePlanes, kDigits>(planes, row + w, planes.words - w, pairs, digits, both, second);
}

/// Halves of all samples, two at a time, and their sums. Where only one is left, it is decoded
/// twice.
template <int kBasePlanes, int kDigits>
ZIPML_AVX512 void HalvedPlanes(const PlaneRows &all, uint8_t *pairs, const int8_t *digits,
                               int64_t *sums) {
  const PlaneRows planes = all;  // of its own, so that no store can change it
  for (uint32_t s = 0; s < planes.samples; s += 2) {
    const uint32_t last = std::min(s + 1, planes.samples - 1);
    Digits<kDigits> both_a, both_b, two_a, two_b;
    HalvedSample<kBasePlanes, kDigits>(planes, s, pairs, digits, both_a, two_a);
    HalvedSample<kBasePlanes, kDigits>(planes, last, pairs, digits, both_b, two_b);
    const __m256i total = Total<kDigits>(both_a, both_b, two_a, two_b);
    // 16 times the first sums are what is left of both without the second ones
    const __m256i second = _mm256_permute4x64_epi64(total, 0xee);
    const __m256i first = _mm256_srai_epi64(_mm256_sub_epi64(total, second), 4);
    StoreTotal(_mm256_blend_epi32(first, total, 0xf0), s, last > s, planes.samples, true, sums);
  }
}

/// Decodes, and takes dot products with a model of as many digits as there are loops for.
inline void DecodeBy(int digits, const PlaneRows &planes, uint8_t *first, uint8_t *second,
                     const int8_t *model, int64_t *sums) {
  typedef void (*loop_t)(const PlaneRows &, uint8_t *, uint8_t *, const int8_t *, int64_t *);
  static const loop_t kLoops[][2][8] = {
      ZIPML_BY_PLANES(DecodePlanes, 0), ZIPML_BY_PLANES(DecodePlanes, 1),
      ZIPML_BY_PLANES(DecodePlanes, 2), ZIPML_BY_PLANES(DecodePlanes, 3)};
  kLoops[digits][planes.second_dither != nullptr][planes.base_planes](planes, first, second, model,
                                                                      sums);
}

inline void Decode(const PlaneRows &planes, uint8_t *first, uint8_t *second) {
  DecodeBy(0, planes, first, second, nullptr, nullptr);
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
      DotDigits<1>, DotDigits<2>, DotDigits<3>, DotDigits<4>, DotDigits<5>};
  kDots[model.count - 1](rows, count, size, reinterpret_cast<const int8_t *>(model.digits.data()),
                         sums);
}

inline void DecodeDots(const PlaneRows &planes, uint8_t *first, uint8_t *second,
                       const DigitModel &model, int64_t *sums) {
  if (model.count <= kMaxFusedDigits) {
    DecodeBy(model.count, planes, first, second,
             reinterpret_cast<const int8_t *>(model.digits.data()), sums);
    return;
  }
  Decode(planes, first, second);
  Dots(first, planes.samples, planes.words * kGroup, model, sums);
  if (planes.second_dither == nullptr) return;
  Dots(second, planes.samples, planes.words * kGroup, model, sums + planes.samples);
}

inline void LoadPairs(const PlaneRows &planes, uint8_t *pairs, const DigitModel &model,
                      int64_t *sums) {
  const uint32_t bytes = planes.samples * planes.words * kGroup;
  if (planes.base_planes > kMaxHalvedPlanes) {
    DecodeDots(planes, pairs, pairs + bytes, model, sums);
    return;
  }
  typedef void (*loop_t)(const PlaneRows &, uint8_t *, const int8_t *, int64_t *);
#define ZIPML_BY_DIGITS(LOOP, PLANES)                                                   \
  {                                                                                     \
    LOOP<PLANES, 1>, LOOP<PLANES, 2>, LOOP<PLANES, 3>, LOOP<PLANES, 4>, LOOP<PLANES, 5> \
  }
  static const loop_t kLoops[][kMaxDigits] = {
      ZIPML_BY_DIGITS(SlicePlanes, 0), ZIPML_BY_DIGITS(SlicePlanes, 1),
      ZIPML_BY_DIGITS(HalvedPlanes, 2), ZIPML_BY_DIGITS(HalvedPlanes, 3)};
#undef ZIPML_BY_DIGITS
  kLoops[planes.base_planes][model.count - 1](
      planes, pairs, reinterpret_cast<const int8_t *>(model.digits.data()), sums);
}

// ---- Gradient --------------------------------------------------------------------------------

template <int kDigits, class TSum>
ZIPML_AVX512 void GradientDigits(const uint8_t *rows, uint32_t count, uint32_t size,
                                 const CoefficientDigits &coefficients, TSum *gradient) {
  for (uint32_t j = 0; j < size; j += kGroup) {
    GradientSums<kDigits> sums = GradientSums<kDigits>::Zero();
    const uint8_t *row = rows + j;
    for (uint32_t q = 0; 4 * q < count; ++q, row += 4 * static_cast<size_t>(size)) {
      sums.AddCodes(FourRows(row, size), coefficients, q);
    }
    sums.template AddTo<0>(gradient + j);
  }
}

template <class TSum>
void Gradient(const uint8_t *rows, uint32_t, uint32_t count, uint32_t size,
              const int32_t *coefficients, TSum *gradient) {
  const CoefficientDigits digits(coefficients, count);
  static void (*const kGradients[])(const uint8_t *, uint32_t, uint32_t, const CoefficientDigits &,
                                    TSum *) = {GradientDigits<1, TSum>, GradientDigits<2, TSum>,
                                               GradientDigits<3, TSum>, GradientDigits<4, TSum>,
                                               GradientDigits<5, TSum>};
  kGradients[digits.count - 1](rows, count, size, digits, gradient);
}

/// One word's sums from slices of four samples each, side by side.
template <int kBasePlanes, int kDigits, int i, class TSum>
ZIPML_AVX512_INLINE void SlicedWord(const uint8_t *slices, uint32_t fours,
                                    const CoefficientDigits &one, const CoefficientDigits &two,
                                    TSum *gradient) {
  GradientSums<kDigits> sums = GradientSums<kDigits>::Zero();
  constexpr uint32_t kBytes = (kBasePlanes + 2) * kGroup;
  for (uint32_t q = 0; q < fours; ++q, slices += 4 * kBytes) {
    const Slices<kBasePlanes> a = Slices<kBasePlanes>::Load(slices);
    const Slices<kBasePlanes> b = Slices<kBasePlanes>::Load(slices + kBytes);
    const Slices<kBasePlanes> c = Slices<kBasePlanes>::Load(slices + 2 * kBytes);
    const Slices<kBasePlanes> d = Slices<kBasePlanes>::Load(slices + 3 * kBytes);
    sums.AddCodes({a.template ScaledCodes<i>(a.one), b.template ScaledCodes<i>(b.one),
                   c.template ScaledCodes<i>(c.one), d.template ScaledCodes<i>(d.one)},
                  two, q);
    sums.AddCodes({a.template ScaledCodes<i>(a.two), b.template ScaledCodes<i>(b.two),
                   c.template ScaledCodes<i>(c.two), d.template ScaledCodes<i>(d.two)},
                  one, q);
  }
  sums.template AddTo<Slices<kBasePlanes>::Scale(i)>(gradient + i * kGroup);
}

/// The gradient's sums from slices: first samples by `two`, second ones by `one`.
template <int kBasePlanes, int kDigits, class TSum>
ZIPML_AVX512 void SlicedGradient(const uint8_t *pairs, uint32_t samples, uint32_t size,
                                 const CoefficientDigits &one, const CoefficientDigits &two,
                                 TSum *gradient) {
  alignas(64) uint8_t slices[kMaxRows / 2 * (kBasePlanes + 2) * kGroup];
  const uint32_t bytes = PairBytes(kBasePlanes, size), fours = (samples + 3) / 4;
  for (uint32_t j = 0; j < size; j += 8 * kGroup, pairs += (kBasePlanes + 2) * kGroup) {
    uint8_t *to = slices;
    const uint8_t *row = pairs;
    for (uint32_t q = 0; q < fours; ++q, row += 4 * static_cast<size_t>(bytes)) {
      const FourPlanes first = FourRows(row, bytes), second = FourRows(row + kGroup, bytes);
      const FourPlanes base = kBasePlanes > 0 ? FourRows(row + 2 * kGroup, bytes) : first;
      for (const Slices<kBasePlanes> &s : {Slices<kBasePlanes>{base.a, first.a, second.a},
                                           Slices<kBasePlanes>{base.b, first.b, second.b},
                                           Slices<kBasePlanes>{base.c, first.c, second.c},
                                           Slices<kBasePlanes>{base.d, first.d, second.d}}) {
        s.Store(to);
        to += (kBasePlanes + 2) * kGroup;
      }
    }
#define ZIPML_WORD(I)        \
  if (j + I * kGroup < size) \
  SlicedWord<kBasePlanes, kDigits, I>(slices, fours, one, two, gradient + j)
    ZIPML_WORD(0);
    ZIPML_WORD(1);
    ZIPML_WORD(2);
    ZIPML_WORD(3);
    ZIPML_WORD(4);
    ZIPML_WORD(5);
    ZIPML_WORD(6);
    ZIPML_WORD(7);
#undef ZIPML_WORD
  }
}

/// The gradient's sums from halves.
template <int kDigits, class TSum>
ZIPML_AVX512 void HalvedGradient(const uint8_t *pairs, uint32_t samples, uint32_t size,
                                 const CoefficientDigits &one, const CoefficientDigits &two,
                                 TSum *gradient) {
  for (uint32_t j = 0; j < size; j += kGroup) {
    GradientSums<kDigits> sums = GradientSums<kDigits>::Zero();
    const uint8_t *row = pairs + j;
    for (uint32_t q = 0; 4 * q < samples; ++q, row += 4 * static_cast<size_t>(size)) {
      const FourPlanes x = FourRows(row, size);
      sums.AddCodes({FirstHalf(x.a), FirstHalf(x.b), FirstHalf(x.c), FirstHalf(x.d)}, two, q);
      sums.AddCodes({SecondHalf(x.a), SecondHalf(x.b), SecondHalf(x.c), SecondHalf(x.d)}, one, q);
    }
    sums.template AddTo<0>(gradient + j);
  }
}

template <class TSum>
void PairGradient(const uint8_t *pairs, uint32_t base_planes, uint32_t samples, uint32_t size,
                  const int32_t *one, const int32_t *two, TSum *gradient) {
  if (base_planes > kMaxHalvedPlanes) {
    int32_t both[kMaxRows];
    std::copy(two, two + samples, both);
    std::copy(one, one + samples, both + samples);
    Gradient(pairs, base_planes, 2 * samples, size, both, gradient);
    return;
  }
  const CoefficientDigits first(one, samples), second(two, samples);
  typedef void (*loop_t)(const uint8_t *, uint32_t, uint32_t, const CoefficientDigits &,
                         const CoefficientDigits &, TSum *);
#define ZIPML_BY_DIGITS(LOOP) {LOOP(1), LOOP(2), LOOP(3), LOOP(4), LOOP(5)}
#define ZIPML_SLICED(DIGITS) SlicedGradient<0, DIGITS, TSum>
#define ZIPML_SLICED_TWO(DIGITS) SlicedGradient<1, DIGITS, TSum>
#define ZIPML_HALVED(DIGITS) HalvedGradient<DIGITS, TSum>
  static const loop_t kLoops[][kMaxDigits] = {ZIPML_BY_DIGITS(ZIPML_SLICED),
                                              ZIPML_BY_DIGITS(ZIPML_SLICED_TWO),
                                              ZIPML_BY_DIGITS(ZIPML_HALVED)};
#undef ZIPML_BY_DIGITS
#undef ZIPML_SLICED
#undef ZIPML_SLICED_TWO
#undef ZIPML_HALVED
  const uint32_t kind = std::min(base_planes, kMaxSlicedPlanes + 1);
  kLoops[kind][std::max(first.count, second.count) - 1](pairs, samples, size, first, second,
                                                        gradient);
}

static const RowLoops kLoops = {"avx512",
                                kGroup,
                                Position,
                                CodePosition,
                                Decode,
                                DecodeDots,
                                Split<GroupOrder>,
                                Step<GroupOrder>,
                                StepEach<GroupOrder>,
                                Dots,
                                PairBytes,
                                LoadPairs,
                                {Gradient<int64_t>, PairGradient<int64_t>},
                                {Gradient<int32_t>, PairGradient<int32_t>},
                                nullptr,
                                &kLevelLoops,
                                fours::For,
                                OrderDigits};

}  // namespace avx512
}  // namespace zipml

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
