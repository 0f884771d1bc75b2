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

#define ZIPML_AVX512                                                               \
  __attribute__((                                                                  \
      target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,gfni,avx2," \
             "fma")))
#define ZIPML_AVX512_INLINE ZIPML_AVX512 __attribute__((always_inline)) inline

inline bool Runs() {
  return __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vbmi") != 0 &&
         __builtin_cpu_supports("avx512vnni") != 0 && __builtin_cpu_supports("gfni") != 0;
}

/// The order in which Gradient has its sums: within a group, feature 16 l + 4 v + e is in lane 4 l
/// + e of vector v.
inline uint32_t Position(uint32_t feature) {
  return (feature & ~63u) | (feature >> 2 & 3) << 4 | (feature >> 4 & 3) << 2 | (feature & 3);
}

inline uint32_t CodePosition(uint32_t feature) { return feature; }

// ---- Decoding --------------------------------------------------------------------------------

/// Eight words of a plane.
ZIPML_AVX512_INLINE __m512i LoadWords(const uint64_t *words, __mmask8 mask, size_t ahead) {
  _mm_prefetch(reinterpret_cast<const char *>(words + ahead), _MM_HINT_T0);
  return _mm512_maskz_loadu_epi64(mask, words);
}

/// The same in the order in which Codes gives word i as its vector i.
ZIPML_AVX512_INLINE __m512i LoadInOrder(const uint64_t *words, __mmask8 mask, size_t ahead) {
  alignas(64) static const uint16_t kOrder[32] = {0,  4,  8,  12, 16, 20, 24, 28, 1,  5,  9,
                                                  13, 17, 21, 25, 29, 2,  6,  10, 14, 18, 22,
                                                  26, 30, 3,  7,  11, 15, 19, 23, 27, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), LoadWords(words, mask, ahead));
}

/// The same as 8 x 8 matrices of bits: byte t of eight is word t's.
ZIPML_AVX512_INLINE __m512i LoadMatrices(const uint64_t *words, __mmask8 mask, size_t ahead) {
  alignas(64) static const uint8_t kOrder[64] = {
      0, 8,  16, 24, 32, 40, 48, 56, 1, 9,  17, 25, 33, 41, 49, 57,  //
      2, 10, 18, 26, 34, 42, 50, 58, 3, 11, 19, 27, 35, 43, 51, 59,  //
      4, 12, 20, 28, 36, 44, 52, 60, 5, 13, 21, 29, 37, 45, 53, 61,  //
      6, 14, 22, 30, 38, 46, 54, 62, 7, 15, 23, 31, 39, 47, 55, 63};
  return _mm512_permutexvar_epi8(_mm512_load_si512(kOrder), LoadWords(words, mask, ahead));
}

/// Four planes with their bytes side by side. (Members and not an array, here and below: GCC keeps
/// arrays of vectors in memory, and stores are what is scarce.)
struct FourPlanes {
  __m512i a, b, c, d;
  /// Words 2 i and 2 i + 1.
  template <int i>
  ZIPML_AVX512_INLINE __m512i Part() const {
    return i == 0 ? a : i == 1 ? b : i == 2 ? c : d;
  }
};

ZIPML_AVX512_INLINE FourPlanes Interleave(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i low_ab = _mm512_unpacklo_epi8(a, b), high_ab = _mm512_unpackhi_epi8(a, b);
  const __m512i low_cd = _mm512_unpacklo_epi8(c, d), high_cd = _mm512_unpackhi_epi8(c, d);
  return {_mm512_unpacklo_epi16(low_ab, low_cd), _mm512_unpackhi_epi16(low_ab, low_cd),
          _mm512_unpacklo_epi16(high_ab, high_cd), _mm512_unpackhi_epi16(high_ab, high_cd)};
}

/// Eight bytes, one from each plane, are an 8 x 8 matrix of bits; transposed, it is eight bytes of
/// one feature each, of which the last plane is the lowest bit.
ZIPML_AVX512_INLINE __m512i Transpose(__m512i matrices) {
  const __m512i units = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201u));
  return _mm512_gf2p8affine_epi64_epi8(units, matrices, 0);
}

/// The 64 features of word `i`, planes of two times four side by side.
template <bool kUpper, int i>
ZIPML_AVX512_INLINE __m512i Features(const FourPlanes &upper, const FourPlanes &lower) {
  const __m512i a = kUpper ? upper.Part<i / 2>() : _mm512_setzero_si512();
  const __m512i b = lower.Part<i / 2>();
  return Transpose(i % 2 == 0 ? _mm512_unpacklo_epi32(a, b) : _mm512_unpackhi_epi32(a, b));
}

/// Up to eight words of every plane, ready for Features: `first` and `second` end with their
/// dithers. Base and dither side by side are 2 base + dither; half of it, rounded up, is base +
/// dither.
template <int kBasePlanes, bool kDouble>
struct Matrices {
  FourPlanes upper, first, second;

  ZIPML_AVX512_INLINE Matrices(const PlaneRows &planes, size_t at, __mmask8 mask) {
    const size_t ahead = planes.samples * planes.row;  // to the samples that are decoded next
    __m512i row[7];
#pragma GCC unroll 7
    for (int k = 0; k < 7; ++k) {
      const int p = k - (7 - kBasePlanes);
      row[k] = p < 0 ? _mm512_setzero_si512()
                     : LoadInOrder(planes.base + p * planes.plane + at, mask, ahead);
    }
    const __m512i one = LoadInOrder(planes.first_dither + at, mask, ahead);
    if (kBasePlanes > 3) upper = Interleave(row[0], row[1], row[2], row[3]);
    first = Interleave(row[4], row[5], row[6], one);
    if (kDouble) {
      const __m512i two = LoadInOrder(planes.second_dither + at, mask, ahead);
      second = Interleave(row[4], row[5], row[6], two);
    }
  }

  /// The codes of word `i`, of the first or the second samples.
  template <int i>
  ZIPML_AVX512_INLINE __m512i Codes(const FourPlanes &lower) const {
    const __m512i bits = Features<(kBasePlanes > 3), i>(upper, lower);
    // without a base there is nothing to halve
    return kBasePlanes == 0 ? bits : _mm512_avg_epu8(bits, _mm512_setzero_si512());
  }
};

// ---- Slices ----------------------------------------------------------------------------------

/// With so few base planes, eight words of a plane are kept as one slice: 64 bytes, of which byte f
/// has feature f of word i in bit 7 - i.
constexpr uint32_t kMaxSlicedPlanes = 1;

/// Bytes that the pairs of a sample take.
inline uint32_t PairBytes(uint32_t base_planes, uint32_t size) {
  if (base_planes > kMaxSlicedPlanes) return 2 * size;
  return (base_planes + 2) * ((size / kGroup + 7) / 8 * kGroup);
}

/// The slices of eight words of a sample, or of four samples side by side.
template <int kBasePlanes>
struct Slices {
  __m512i base, one, two;

  ZIPML_AVX512_INLINE static Slices Decode(const PlaneRows &planes, size_t at, __mmask8 mask) {
    const size_t ahead = planes.samples * planes.row;  // to the samples that are decoded next
    Slices s;
    s.base = kBasePlanes == 0 ? _mm512_setzero_si512()
                              : Transpose(LoadMatrices(planes.base + at, mask, ahead));
    s.one = Transpose(LoadMatrices(planes.first_dither + at, mask, ahead));
    s.two = Transpose(LoadMatrices(planes.second_dither + at, mask, ahead));
    return s;
  }
  ZIPML_AVX512_INLINE static Slices Load(const uint8_t *from) {
    Slices s;
    s.base = kBasePlanes == 0 ? _mm512_setzero_si512() : _mm512_load_si512(from + 2 * kGroup);
    s.one = _mm512_load_si512(from);
    s.two = _mm512_load_si512(from + kGroup);
    return s;
  }
  ZIPML_AVX512_INLINE void Store(uint8_t *to) const {
    _mm512_store_si512(to, one);
    _mm512_store_si512(to + kGroup, two);
    if (kBasePlanes > 0) _mm512_store_si512(to + 2 * kGroup, base);
  }
  /// Bits of word `i`, as 0 or 1.
  template <int i>
  ZIPML_AVX512_INLINE static __m512i Bits(__m512i slice) {
    const __m512i choice = _mm512_set1_epi64(static_cast<long long>(0x80ull >> i << 56));
    return _mm512_gf2p8affine_epi64_epi8(slice, choice, 0);
  }
  /// Codes of word `i`, of the first or the second samples.
  template <int i>
  ZIPML_AVX512_INLINE __m512i Codes(__m512i dither) const {
    return kBasePlanes == 0 ? Bits<i>(dither) : _mm512_add_epi8(Bits<i>(base), Bits<i>(dither));
  }
  /// The same times 2^Scale(i), which is cheaper.
  static constexpr int Scale(int i) { return i == 0 && kBasePlanes > 0 ? 0 : 7 - i; }
  template <int i>
  ZIPML_AVX512_INLINE __m512i ScaledCodes(__m512i dither) const {
    if (Scale(i) != 7 - i) return Codes<i>(dither);  // the sum of two would be 2^8
    const __m512i mask = _mm512_set1_epi8(static_cast<char>(0x80 >> i));
    const __m512i bits = _mm512_and_si512(dither, mask);
    return kBasePlanes == 0 ? bits : _mm512_add_epi8(bits, _mm512_and_si512(base, mask));
  }
};

// ---- Digits ----------------------------------------------------------------------------------

/// An integer is a sum of digits -128 .. 127 times powers of 256. Adding 128 to each digit leaves
/// bytes 0 .. 255, the bytes of x + 0x80808080; 2^31 - 1 needs a fifth digit.
constexpr uint32_t kBalance = 0x80808080u;
constexpr int kMaxDigits = 5;
/// More digits of a model have their loops apart from those that decode.
constexpr int kMaxFusedDigits = 3;

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

/// Where a group's model has a feature: vector v, lane 4 l + e for feature 16 l + 4 v + e. Digits
/// are in the order of the features. Even and odd digits of two vectors, side by side:
template <int kDigit>
ZIPML_AVX512_INLINE __m512i TwoDigits(__m512i a, __m512i b) {
  alignas(64) static const uint8_t kBytes[64] = {
      0,  4,  8,  12, 64, 68,  72,  76,  16, 20, 24, 28, 80,  84,  88,  92,   //
      32, 36, 40, 44, 96, 100, 104, 108, 48, 52, 56, 60, 112, 116, 120, 124,  //
      1,  5,  9,  13, 65, 69,  73,  77,  17, 21, 25, 29, 81,  85,  89,  93,   //
      33, 37, 41, 45, 97, 101, 105, 109, 49, 53, 57, 61, 113, 117, 121, 125};
  const __m512i order =
      _mm512_add_epi8(_mm512_load_si512(kBytes), _mm512_set1_epi8(static_cast<char>(kDigit)));
  return _mm512_permutex2var_epi8(a, order, b);
}

/// Stores the digits of a group.
ZIPML_AVX512_INLINE void StoreDigits(const __m512i x[4], int count, int8_t *digits) {
  const __m512i balance = _mm512_set1_epi32(static_cast<int>(kBalance));
  // adding 128 to each digit leaves bytes, of which each is its digit with the sign turned
  const __m512i y0 = _mm512_xor_si512(_mm512_add_epi32(x[0], balance), balance);
  const __m512i y1 = _mm512_xor_si512(_mm512_add_epi32(x[1], balance), balance);
  const __m512i y2 = _mm512_xor_si512(_mm512_add_epi32(x[2], balance), balance);
  const __m512i y3 = _mm512_xor_si512(_mm512_add_epi32(x[3], balance), balance);
  // eight bytes of vectors 0 and 1, then eight of 2 and 3, and so on
  const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  const __m512i last = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  const __m512i a = TwoDigits<0>(y0, y1), b = TwoDigits<0>(y2, y3);
  _mm512_store_si512(digits, _mm512_permutex2var_epi64(a, first, b));
  if (count > 1) _mm512_store_si512(digits + kGroup, _mm512_permutex2var_epi64(a, last, b));
  if (count <= 2) return;
  const __m512i c = TwoDigits<2>(y0, y1), d = TwoDigits<2>(y2, y3);
  _mm512_store_si512(digits + 2 * kGroup, _mm512_permutex2var_epi64(c, first, d));
  if (count > 3) _mm512_store_si512(digits + 3 * kGroup, _mm512_permutex2var_epi64(c, last, d));
  if (count <= 4) return;
  // the fifth digit is the carry out of the fourth
  __m512i carry[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    carry[v] =
        _mm512_maskz_set1_epi32(_mm512_cmpgt_epi32_mask(x[v], _mm512_set1_epi32(0x7f7f7f7f)), 1);
  }
  const __m512i e = TwoDigits<0>(carry[0], carry[1]), f = TwoDigits<0>(carry[2], carry[3]);
  _mm512_store_si512(digits + 4 * kGroup, _mm512_permutex2var_epi64(e, first, f));
}

ZIPML_AVX512_INLINE void SplitDigits(const int32_t *model, uint32_t size, DigitModel &out) {
  int8_t *digits = reinterpret_cast<int8_t *>(out.digits.data());
  const __m128i shift = _mm_cvtsi32_si128(out.shift);
  for (uint32_t j = 0; j < size; j += kGroup, digits += out.count * static_cast<int>(kGroup)) {
    __m512i x[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      x[v] = _mm512_sra_epi32(_mm512_load_si512(model + j + 16 * v), shift);
    }
    StoreDigits(x, out.count, digits);
  }
}

/// Zeros that all entries end with take no digits: a model quantized to 8 bits has one.
ZIPML_AVX512 inline void Split(const int32_t *model, uint32_t size, DigitModel &out) {
  __m512i smallest = _mm512_setzero_si512(), largest = smallest, sum = smallest, any = smallest;
  for (uint32_t j = 0; j < size; j += 16) {
    const __m512i x = _mm512_load_si512(model + j);
    smallest = _mm512_min_epi32(smallest, x);
    largest = _mm512_max_epi32(largest, x);
    any = _mm512_or_si512(any, x);
    sum = _mm512_add_epi64(sum, _mm512_cvtepi32_epi64(_mm512_castsi512_si256(x)));
    sum = _mm512_add_epi64(sum, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(x, 1)));
  }
  out.sum = _mm512_reduce_add_epi64(sum);
  const int bits = _mm512_reduce_or_epi32(any);
  out.shift = bits == 0 ? 0 : __builtin_ctz(static_cast<unsigned>(bits));
  out.count = DigitsFor(_mm512_reduce_min_epi32(smallest) >> out.shift,
                        _mm512_reduce_max_epi32(largest) >> out.shift);
  SplitDigits(model, size, out);
}

/// One pass: digits are as many as before, and made again where that was wrong.
ZIPML_AVX512 inline uint32_t Step(const int32_t *sums, int scale, int32_t offset, int shift,
                                  uint32_t features, uint32_t size, int32_t *model,
                                  DigitModel *out) {
  const __m512i places =
      _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 32, 33, 34, 35, 48, 49, 50, 51);
  const __m512i offsets = _mm512_set1_epi32(offset);
  const __m128i left = _mm_cvtsi32_si128(scale), right = _mm_cvtsi32_si128(shift);
  __m512i smallest = _mm512_setzero_si512(), largest = smallest, sum = smallest;
  const int count = out == nullptr ? 0 : out->count;
  int8_t *digits = out == nullptr ? nullptr : reinterpret_cast<int8_t *>(out->digits.data());
  for (uint32_t j = 0; j < size; j += kGroup, digits += count * static_cast<int>(kGroup)) {
    // positions behind the last feature stay 0
    const __m512i end = _mm512_set1_epi32(static_cast<int>(std::min(features - j, kGroup)));
    __m512i x[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m512i s = _mm512_load_si512(sums + j + 16 * v);
      const __m512i gradient =
          _mm512_sra_epi32(_mm512_sub_epi32(_mm512_sll_epi32(s, left), offsets), right);
      const __m512i place = _mm512_add_epi32(places, _mm512_set1_epi32(4 * v));
      const __m512i before = _mm512_load_si512(model + j + 16 * v);
      x[v] = _mm512_mask_sub_epi32(before, _mm512_cmplt_epi32_mask(place, end), before, gradient);
      _mm512_store_si512(model + j + 16 * v, x[v]);
      smallest = _mm512_min_epi32(smallest, x[v]);
      largest = _mm512_max_epi32(largest, x[v]);
      sum = _mm512_add_epi32(sum, x[v]);
    }
    if (count > 0) StoreDigits(x, count, digits);
  }
  const int32_t low = _mm512_reduce_min_epi32(smallest), high = _mm512_reduce_max_epi32(largest);
  if (out != nullptr) {
    out->sum = _mm512_reduce_add_epi64(
        _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(sum)),
                         _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sum, 1))));
    out->shift = 0;
    out->count = DigitsFor(low, high);
    if (out->count != count) SplitDigits(model, size, *out);
  }
  return std::max(static_cast<uint32_t>(high), 0u - static_cast<uint32_t>(low));
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

/// A vector that stays in its register: GCC would load it again for every use.
ZIPML_AVX512_INLINE __m512i LoadOnce(const int8_t *from) {
  __m512i x = _mm512_load_si512(from);
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

/// Slices of all samples, two at a time, and their sums. Where only one is left, it is read twice.
template <int kBasePlanes, int kDigits>
ZIPML_AVX512 void SlicePlanes(const PlaneRows &all, uint8_t *pairs, const int8_t *digits,
                              int64_t *sums) {
  const PlaneRows planes = all;  // of its own, so that no store can change it
  const size_t bytes = PairBytes(kBasePlanes, planes.words * kGroup);
  for (uint32_t s = 0; s < planes.samples; s += 2) {
    const uint32_t last = std::min(s + 1, planes.samples - 1);
    uint8_t *to_a = pairs + s * bytes, *to_b = pairs + last * bytes;
    const int8_t *x = digits;
    FourSums<kDigits> even = FourSums<kDigits>::Zero(), other = even;
    FourSums<kDigits> &odd = kDigits == 1 ? other : even;
    for (uint32_t w = 0; w < planes.words; w += 8) {
      const uint32_t left = std::min(8u, planes.words - w);
      const __mmask8 mask = static_cast<__mmask8>((1u << left) - 1);
      typedef Slices<kBasePlanes> slices_t;
      const slices_t a = slices_t::Decode(planes, s * planes.row + w, mask);
      const slices_t b = slices_t::Decode(planes, last * planes.row + w, mask);
      a.Store(to_a);
      b.Store(to_b);
      even.template AddWord<kBasePlanes, 0>(a, b, x);
      if (left > 1) odd.template AddWord<kBasePlanes, 1>(a, b, x);
      if (left > 2) even.template AddWord<kBasePlanes, 2>(a, b, x);
      if (left > 3) odd.template AddWord<kBasePlanes, 3>(a, b, x);
      if (left > 4) even.template AddWord<kBasePlanes, 4>(a, b, x);
      if (left > 5) odd.template AddWord<kBasePlanes, 5>(a, b, x);
      if (left > 6) even.template AddWord<kBasePlanes, 6>(a, b, x);
      if (left > 7) odd.template AddWord<kBasePlanes, 7>(a, b, x);
      to_a += (kBasePlanes + 2) * kGroup;
      to_b += (kBasePlanes + 2) * kGroup;
      x += 8 * kDigits * kGroup;
    }
    if (kDigits == 1) even.Add(other);
    const __m256i total = Total<kDigits>(even.one_a, even.one_b, even.two_a, even.two_b);
    StoreTotal(total, s, last > s, planes.samples, true, sums);
  }
}

/// One function for each number of base planes, single and double.
#define ZIPML_BY_PLANES(DIGITS)                                         \
  {                                                                     \
      {DecodePlanes<0, false, DIGITS>, DecodePlanes<1, false, DIGITS>,  \
       DecodePlanes<2, false, DIGITS>, DecodePlanes<3, false, DIGITS>,  \
       DecodePlanes<4, false, DIGITS>, DecodePlanes<5, false, DIGITS>,  \
       DecodePlanes<6, false, DIGITS>, DecodePlanes<7, false, DIGITS>}, \
      {DecodePlanes<0, true, DIGITS>, DecodePlanes<1, true, DIGITS>,    \
       DecodePlanes<2, true, DIGITS>, DecodePlanes<3, true, DIGITS>,    \
       DecodePlanes<4, true, DIGITS>, DecodePlanes<5, true, DIGITS>,    \
       DecodePlanes<6, true, DIGITS>, DecodePlanes<7, true, DIGITS>},   \
  }

/// Decodes, and takes dot products with a model of as many digits as there are loops for.
inline void DecodeBy(int digits, const PlaneRows &planes, uint8_t *first, uint8_t *second,
                     const int8_t *model, int64_t *sums) {
  typedef void (*loop_t)(const PlaneRows &, uint8_t *, uint8_t *, const int8_t *, int64_t *);
  static const loop_t kLoops[][2][8] = {ZIPML_BY_PLANES(0), ZIPML_BY_PLANES(1), ZIPML_BY_PLANES(2),
                                        ZIPML_BY_PLANES(3)};
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
  if (planes.base_planes > kMaxSlicedPlanes) {
    DecodeDots(planes, pairs, pairs + bytes, model, sums);
    return;
  }
  typedef void (*loop_t)(const PlaneRows &, uint8_t *, const int8_t *, int64_t *);
#define ZIPML_BY_DIGITS(PLANES)                                             \
  {                                                                         \
    SlicePlanes<PLANES, 1>, SlicePlanes<PLANES, 2>, SlicePlanes<PLANES, 3>, \
        SlicePlanes<PLANES, 4>, SlicePlanes<PLANES, 5>                      \
  }
  static const loop_t kLoops[][kMaxDigits] = {ZIPML_BY_DIGITS(0), ZIPML_BY_DIGITS(1)};
#undef ZIPML_BY_DIGITS
  kLoops[planes.base_planes][model.count - 1](
      planes, pairs, reinterpret_cast<const int8_t *>(model.digits.data()), sums);
}

// ---- Gradient --------------------------------------------------------------------------------

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
        if (coefficients[4 * q + i] > 0x7f7f7f7f) carries[q] |= 1u << (8 * i);
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
  ZIPML_AVX512_INLINE void AddCodes(const FourPlanes &codes, __m512i coefficients) {
    AddProducts(codes.a, coefficients, v0);
    AddProducts(codes.b, coefficients, v1);
    AddProducts(codes.c, coefficients, v2);
    AddProducts(codes.d, coefficients, v3);
  }
};

/// The same for each digit of the coefficients.
template <int kDigits>
struct GradientSums {
  GroupSums d0, d1, d2, d3, d4;

  static ZIPML_AVX512_INLINE GradientSums Zero() {
    const __m512i zero = _mm512_setzero_si512();
    const GroupSums none = {zero, zero, zero, zero};
    return {none, none, none, none, none};
  }
  /// \param codes  of four rows, side by side
  ZIPML_AVX512_INLINE void AddCodes(const FourPlanes &codes, const CoefficientDigits &c,
                                    uint32_t q) {
    d0.AddCodes(codes, c.Four(q, 0));
    if (kDigits > 1) d1.AddCodes(codes, c.Four(q, 1));
    if (kDigits > 2) d2.AddCodes(codes, c.Four(q, 2));
    if (kDigits > 3) d3.AddCodes(codes, c.Four(q, 3));
    if (kDigits > 4) d4.AddCodes(codes, c.Four(q, 4));
  }
  /// A lane adds up 2^8 products of 2^8 * 2^7 for each digit: 2^23, so two digits together fit 32
  /// bits.
  /// \tparam kScale  log2 of what codes were multiplied with
  template <int kScale, class TSum>
  ZIPML_AVX512_INLINE void AddTo(TSum *gradient) const {
    AddTo<kScale>(d0.v0, d1.v0, d2.v0, d3.v0, d4.v0, gradient);
    AddTo<kScale>(d0.v1, d1.v1, d2.v1, d3.v1, d4.v1, gradient + 16);
    AddTo<kScale>(d0.v2, d1.v2, d2.v2, d3.v2, d4.v2, gradient + 32);
    AddTo<kScale>(d0.v3, d1.v3, d2.v3, d3.v3, d4.v3, gradient + 48);
  }
  /// Modulo 2^32, to which the fifth digit adds nothing.
  template <int kScale>
  static ZIPML_AVX512_INLINE void AddTo(__m512i x0, __m512i x1, __m512i x2, __m512i x3, __m512i,
                                        int32_t *to) {
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
                                        int64_t *to) {
    __m512i *out = reinterpret_cast<__m512i *>(to);
    __m512i low = _mm512_load_si512(out), high = _mm512_load_si512(out + 1);
    const __m512i pair = kDigits > 1 ? _mm512_add_epi32(x0, _mm512_slli_epi32(x1, 8)) : x0;
    AddWide<0>(_mm512_srai_epi32(pair, kScale), low, high);
    if (kDigits > 2) {
      const __m512i next = kDigits > 3 ? _mm512_add_epi32(x2, _mm512_slli_epi32(x3, 8)) : x2;
      AddWide<16>(_mm512_srai_epi32(next, kScale), low, high);
    }
    if (kDigits > 4) AddWide<32>(_mm512_srai_epi32(x4, kScale), low, high);
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
void Gradient(const uint8_t *rows, uint32_t count, uint32_t size, const int32_t *coefficients,
              TSum *gradient) {
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

template <class TSum>
void PairGradient(const uint8_t *pairs, uint32_t base_planes, uint32_t samples, uint32_t size,
                  const int32_t *one, const int32_t *two, TSum *gradient) {
  if (base_planes > kMaxSlicedPlanes) {
    int32_t both[kMaxRows];
    std::copy(two, two + samples, both);
    std::copy(one, one + samples, both + samples);
    Gradient(pairs, 2 * samples, size, both, gradient);
    return;
  }
  const CoefficientDigits first(one, samples), second(two, samples);
  typedef void (*loop_t)(const uint8_t *, uint32_t, uint32_t, const CoefficientDigits &,
                         const CoefficientDigits &, TSum *);
#define ZIPML_BY_DIGITS(PLANES)                                           \
  {                                                                       \
    SlicedGradient<PLANES, 1, TSum>, SlicedGradient<PLANES, 2, TSum>,     \
        SlicedGradient<PLANES, 3, TSum>, SlicedGradient<PLANES, 4, TSum>, \
        SlicedGradient<PLANES, 5, TSum>                                   \
  }
  static const loop_t kLoops[2][kMaxDigits] = {ZIPML_BY_DIGITS(0), ZIPML_BY_DIGITS(1)};
#undef ZIPML_BY_DIGITS
  kLoops[base_planes][std::max(first.count, second.count) - 1](pairs, samples, size, first, second,
                                                               gradient);
}

static const RowLoops kLoops = {"avx512",
                                Position,
                                CodePosition,
                                Decode,
                                DecodeDots,
                                Split,
                                Step,
                                Dots,
                                PairBytes,
                                LoadPairs,
                                {Gradient<int64_t>, PairGradient<int64_t>},
                                {Gradient<int32_t>, PairGradient<int32_t>}};

}  // namespace avx512
}  // namespace zipml

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
