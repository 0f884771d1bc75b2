// Rows of few words, four samples at once: 16 bytes of a plane of each fill a vector, so that none
// is empty where a row is short. Dot products have a sample in each lane of 16 bytes; rows are kept
// with the codes of four samples side by side, as gradients multiply them.
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
namespace fours {

/// Features that a vector has of four samples.
constexpr uint32_t kBlock = 16;

inline uint32_t Position(uint32_t feature) { return feature; }

/// Model and gradient in the order of the features, digits of 16 entries in lanes of their own.
struct Order {
  static constexpr uint32_t kSize = kBlock;
  static ZIPML_AVX512_INLINE __mmask16 Inside(int, uint32_t left) {
    return static_cast<__mmask16>((1u << std::min(left, kBlock)) - 1);
  }
  /// Writes 64 bytes at least: what is behind its own is another block's, or room.
  static ZIPML_AVX512_INLINE void Store(const __m512i x[1], int count, int8_t *digits) {
    alignas(64) static const uint8_t kBytes[64] = {
        0, 4, 8,  12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60,  //
        1, 5, 9,  13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61,  //
        2, 6, 10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 50, 54, 58, 62,  //
        3, 7, 11, 15, 19, 23, 27, 31, 35, 39, 43, 47, 51, 55, 59, 63};
    const __m512i balance = _mm512_set1_epi32(static_cast<int>(kBalance));
    const __m512i y = _mm512_xor_si512(_mm512_add_epi32(x[0], balance), balance);
    _mm512_storeu_si512(digits, _mm512_permutexvar_epi8(_mm512_load_si512(kBytes), y));
    if (count <= 4) return;
    const __mmask16 carry = _mm512_cmpgt_epi32_mask(x[0], _mm512_set1_epi32(kLargestFour));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(digits + 4 * kBlock),
                     _mm_maskz_set1_epi8(carry, 1));
  }
};

/// Two words of a plane, or the last one, of each of four samples.
struct LoadFour {
  size_t at, b, c, d;  // where the first one is, and from there the others
  bool both;
  ZIPML_AVX512_INLINE __m512i operator()(const uint64_t *plane) const {
    const uint64_t *a = plane + at;
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(Row(a)), Row(a + b), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(Row(a + c)), Row(a + d), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
  ZIPML_AVX512_INLINE __m128i Row(const uint64_t *words) const {
    const __m128i *from = reinterpret_cast<const __m128i *>(words);
    return both ? _mm_loadu_si128(from) : _mm_loadl_epi64(from);
  }
};

/// The same of samples between which nothing lies.
struct LoadTogether {
  size_t at;
  bool both;
  ZIPML_AVX512_INLINE __m512i operator()(const uint64_t *plane) const {
    if (both) return _mm512_loadu_si512(plane + at);
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(plane + at));
    const __m512i lanes = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
    return _mm512_permutexvar_epi64(lanes, _mm512_castsi256_si512(words));
  }
};

/// Decodes block `i` of eight, stores its codes and multiplies them with the model's.
template <int kBasePlanes, bool kDouble, int kDigits, int i>
ZIPML_AVX512_INLINE void DecodeBlock(const Matrices<kBasePlanes, kDouble> &m, uint8_t *first,
                                     uint8_t *second, const int8_t *digits, size_t stride,
                                     Digits<kDigits> &one, Digits<kDigits> &two) {
  // the codes of a feature side by side
  alignas(64) static const uint8_t kSides[64] = {
      0,  16, 32, 48, 1,  17, 33, 49, 2,  18, 34, 50, 3,  19, 35, 51,  //
      4,  20, 36, 52, 5,  21, 37, 53, 6,  22, 38, 54, 7,  23, 39, 55,  //
      8,  24, 40, 56, 9,  25, 41, 57, 10, 26, 42, 58, 11, 27, 43, 59,  //
      12, 28, 44, 60, 13, 29, 45, 61, 14, 30, 46, 62, 15, 31, 47, 63};
  const __m512i sides = _mm512_load_si512(kSides);
  const Digits<kDigits> x = Digits<kDigits>::LoadLanes(digits + i * stride);
  const __m512i codes = m.template Codes<i>(m.first);
  _mm512_store_si512(first + i * kGroup, _mm512_permutexvar_epi8(sides, codes));
  one.AddCodes(codes, x);
  if (!kDouble) return;
  const __m512i others = m.template Codes<i>(m.second);
  _mm512_store_si512(second + i * kGroup, _mm512_permutexvar_epi8(sides, others));
  two.AddCodes(others, x);
}

/// What the lanes of four samples add up to, at most three digits: of each the first sum, then the
/// second one. Two digits fit 32 bits: a row has less than 2^9 codes of at most 2^7.
template <int kDigits>
ZIPML_AVX512_INLINE __m512i Totals(const Digits<kDigits> &one, const Digits<kDigits> &two) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i low_one =
      kDigits > 1 ? _mm512_add_epi32(one.d0, _mm512_slli_epi32(one.d1, 8)) : one.d0;
  const __m512i low_two =
      kDigits > 1 ? _mm512_add_epi32(two.d0, _mm512_slli_epi32(two.d1, 8)) : two.d0;
  const __m512i high_one = kDigits > 2 ? one.d2 : zero, high_two = kDigits > 2 ? two.d2 : zero;
  const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(low_one, high_one),
                                     _mm512_unpackhi_epi32(low_one, high_one));
  const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(low_two, high_two),
                                     _mm512_unpackhi_epi32(low_two, high_two));
  const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
  const __m512i low = _mm512_srai_epi64(_mm512_slli_epi64(all, 32), 32);
  return _mm512_add_epi64(low, _mm512_slli_epi64(_mm512_srai_epi64(all, 32), 16));
}

/// Stores a sum of each real sample, or adds it to what is there, `shift` digits up.
ZIPML_AVX512_INLINE void Put(__m256i totals, __mmask8 real, int shift, int64_t *sums) {
  if (shift != 0) {
    totals = _mm256_add_epi64(_mm256_sll_epi64(totals, _mm_cvtsi32_si128(shift)),
                              _mm256_maskz_loadu_epi64(real, sums));
  }
  _mm256_mask_storeu_epi64(sums, real, totals);
}

/// Four samples at a time; where fewer are left, the last one takes the others' places.
/// \param stride  bytes from one block of the model to the next
/// \param shift  of the digits, which are added to sums that are there if it is not 0
template <int kBasePlanes, bool kDouble, int kDigits>
ZIPML_AVX512 void DecodePlanes(const PlaneRows &all, uint8_t *first, uint8_t *second,
                               const int8_t *digits, size_t stride, int shift, int64_t *sums) {
  const PlaneRows planes = all;  // of its own, so that no store can change it
  const bool together = planes.words == planes.row && planes.words <= 2;
  LoadFour load = {0, planes.row, 2 * planes.row, 3 * planes.row, false};
  for (uint32_t s = 0; s < planes.samples; s += 4) {
    const uint32_t samples = std::min(planes.samples - s, 4u);
    if (samples < 4) {
      load.b = samples > 1 ? planes.row : 0;
      load.c = samples > 2 ? 2 * planes.row : load.b;
      load.d = load.c;
    }
    Digits<kDigits> one = Digits<kDigits>::Zero(), two = one;
    load.at = s * planes.row;
    const int8_t *x = digits;
    for (uint32_t j = 0; j < planes.size; j += 8 * kBlock) {
      const uint32_t left = planes.size - j;
      load.both = left > 4 * kBlock;
      typedef Matrices<kBasePlanes, kDouble> matrices_t;
      const matrices_t m = together && samples == 4
                               ? matrices_t(planes, LoadTogether{load.at, load.both})
                               : matrices_t(planes, load);
#define ZIPML_DECODE_BLOCK(I) \
  DecodeBlock<kBasePlanes, kDouble, kDigits, I>(m, first, second, x, stride, one, two)
      ZIPML_DECODE_BLOCK(0);
      if (left > 1 * kBlock) ZIPML_DECODE_BLOCK(1);
      if (left > 2 * kBlock) ZIPML_DECODE_BLOCK(2);
      if (left > 3 * kBlock) ZIPML_DECODE_BLOCK(3);
      if (left > 4 * kBlock) ZIPML_DECODE_BLOCK(4);
      if (left > 5 * kBlock) ZIPML_DECODE_BLOCK(5);
      if (left > 6 * kBlock) ZIPML_DECODE_BLOCK(6);
      if (left > 7 * kBlock) ZIPML_DECODE_BLOCK(7);
#undef ZIPML_DECODE_BLOCK
      const uint32_t blocks = std::min(left / kBlock, 8u);
      first += blocks * kGroup;
      second += blocks * kGroup;
      x += 8 * stride;
      load.at += 2;
    }
    if (kDigits == 0) continue;
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    const __m512i totals = _mm512_permutexvar_epi64(order, Totals<kDigits>(one, two));
    const __mmask8 real = static_cast<__mmask8>((1u << samples) - 1);
    Put(_mm512_castsi512_si256(totals), real, shift, sums + s);
    if (kDouble) Put(_mm512_extracti64x4_epi64(totals, 1), real, shift, sums + planes.samples + s);
  }
}

/// Decodes, with as many digits of a model as there are loops for.
inline void DecodeBy(int count, const PlaneRows &planes, uint8_t *first, uint8_t *second,
                     const int8_t *digits, size_t stride, int shift, int64_t *sums) {
  typedef void (*loop_t)(const PlaneRows &, uint8_t *, uint8_t *, const int8_t *, size_t, int,
                         int64_t *);
  static const loop_t kLoops[][2][8] = {
      ZIPML_BY_PLANES(DecodePlanes, 0), ZIPML_BY_PLANES(DecodePlanes, 1),
      ZIPML_BY_PLANES(DecodePlanes, 2), ZIPML_BY_PLANES(DecodePlanes, 3)};
  kLoops[count][planes.second_dither != nullptr][planes.base_planes](planes, first, second, digits,
                                                                     stride, shift, sums);
}

inline void Decode(const PlaneRows &planes, uint8_t *first, uint8_t *second) {
  DecodeBy(0, planes, first, second, nullptr, 0, 0, nullptr);
}

/// More digits than three are taken in two turns.
inline void DecodeDots(const PlaneRows &planes, uint8_t *first, uint8_t *second,
                       const DigitModel &model, int64_t *sums) {
  const int8_t *digits = reinterpret_cast<const int8_t *>(model.digits.data());
  const size_t stride = static_cast<size_t>(model.count) * kBlock;
  const int now = std::min(model.count, kMaxFusedDigits);
  DecodeBy(now, planes, first, second, digits, stride, 0, sums);
  if (now == model.count) return;
  DecodeBy(model.count - now, planes, first, second, digits + now * kBlock, stride, 8 * now, sums);
}

/// Bytes of the rows of so many samples.
inline size_t RowBytes(uint32_t samples, uint32_t size) {
  return static_cast<size_t>((samples + 3) / 4) * 4 * size;
}

inline uint32_t PairBytes(uint32_t, uint32_t size) { return 2 * size; }

inline void LoadPairs(const PlaneRows &planes, uint8_t *pairs, const DigitModel &model,
                      int64_t *sums) {
  DecodeDots(planes, pairs, pairs + RowBytes(planes.samples, planes.size), model, sums);
}

/// The sums of up to four blocks.
template <int kDigits, int kVectors>
struct BlockSums {
  GradientSums<kDigits, kVectors> sums;
  ZIPML_AVX512_INLINE void Add(const uint8_t *rows, uint32_t size, const CoefficientDigits &c,
                               uint32_t fours) {
    for (uint32_t q = 0; q < fours; ++q, rows += 4 * static_cast<size_t>(size)) {
      const __m512i none = _mm512_setzero_si512();
      const FourPlanes codes = {_mm512_load_si512(rows),
                                kVectors > 1 ? _mm512_load_si512(rows + kGroup) : none,
                                kVectors > 2 ? _mm512_load_si512(rows + 2 * kGroup) : none,
                                kVectors > 3 ? _mm512_load_si512(rows + 3 * kGroup) : none};
      sums.AddCodes(codes, c, q);
    }
  }
};

/// First rows by `two`, and second ones, unless there are none, by `one`.
template <int kDigits, int kVectors, class TSum>
ZIPML_AVX512_INLINE void AddBlocks(const uint8_t *first, const uint8_t *second, uint32_t samples,
                                   uint32_t size, const CoefficientDigits *one,
                                   const CoefficientDigits &two, TSum *gradient) {
  const uint32_t fours = (samples + 3) / 4;
  BlockSums<kDigits, kVectors> sums = {GradientSums<kDigits, kVectors>::Zero()};
  sums.Add(first, size, two, fours);
  if (one != nullptr) sums.Add(second, size, *one, fours);
  sums.sums.template AddTo<0>(gradient);
}

template <int kDigits, class TSum>
ZIPML_AVX512 void GradientDigits(const uint8_t *first, const uint8_t *second, uint32_t samples,
                                 uint32_t size, const CoefficientDigits *one,
                                 const CoefficientDigits &two, TSum *gradient) {
  for (uint32_t j = 0; j < size; j += kGroup, first += 4 * kGroup, second += 4 * kGroup) {
    const uint32_t left = size - j;
    if (left > 3 * kBlock) {
      AddBlocks<kDigits, 4>(first, second, samples, size, one, two, gradient + j);
    } else if (left > 2 * kBlock) {
      AddBlocks<kDigits, 3>(first, second, samples, size, one, two, gradient + j);
    } else if (left > kBlock) {
      AddBlocks<kDigits, 2>(first, second, samples, size, one, two, gradient + j);
    } else {
      AddBlocks<kDigits, 1>(first, second, samples, size, one, two, gradient + j);
    }
  }
}

template <class TSum>
void GradientBy(int count, const uint8_t *first, const uint8_t *second, uint32_t samples,
                uint32_t size, const CoefficientDigits *one, const CoefficientDigits &two,
                TSum *gradient) {
  typedef void (*loop_t)(const uint8_t *, const uint8_t *, uint32_t, uint32_t,
                         const CoefficientDigits *, const CoefficientDigits &, TSum *);
  static const loop_t kLoops[] = {GradientDigits<1, TSum>, GradientDigits<2, TSum>,
                                  GradientDigits<3, TSum>, GradientDigits<4, TSum>,
                                  GradientDigits<5, TSum>};
  kLoops[count - 1](first, second, samples, size, one, two, gradient);
}

template <class TSum>
void Gradient(const uint8_t *rows, uint32_t, uint32_t count, uint32_t size,
              const int32_t *coefficients, TSum *gradient) {
  const CoefficientDigits digits(coefficients, count);
  GradientBy(digits.count, rows, rows, count, size, nullptr, digits, gradient);
}

template <class TSum>
void PairGradient(const uint8_t *pairs, uint32_t, uint32_t samples, uint32_t size,
                  const int32_t *one, const int32_t *two, TSum *gradient) {
  const CoefficientDigits first(one, samples), second(two, samples);
  GradientBy(std::max(first.count, second.count), pairs, pairs + RowBytes(samples, size), samples,
             size, &first, second, gradient);
}

static const RowLoops kLoops = {"avx512",
                                kBlock,
                                Position,
                                nullptr,
                                Decode,
                                DecodeDots,
                                Split<Order>,
                                Step<Order>,
                                StepEach<Order>,
                                nullptr,
                                PairBytes,
                                LoadPairs,
                                {Gradient<int64_t>, PairGradient<int64_t>},
                                {Gradient<int32_t>, PairGradient<int32_t>},
                                nullptr,
                                nullptr,
                                nullptr,
                                LeaveDigits};

/// Longer rows have full vectors one by one, and take fewer loads so.
inline const RowLoops *For(uint32_t, uint32_t features) {
  return features <= 4 * kGroup ? &kLoops : nullptr;
}

}  // namespace fours
}  // namespace avx512
}  // namespace zipml

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
