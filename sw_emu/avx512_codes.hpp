// What the loops of rows_avx512.hpp work on: planes decoded to bytes of codes, slices of them, and
// 32-bit numbers split into signed digits of bytes.
#pragma once

#include "rows.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && \
    (!defined(ZIPML_NO_CLONES) || defined(ZIPML_VECTOR_LOOPS))
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

struct LoadInOrderAt {
  size_t at;
  __mmask8 mask;
  size_t ahead;
  ZIPML_AVX512_INLINE __m512i operator()(const uint64_t *plane) const {
    return LoadInOrder(plane + at, mask, ahead);
  }
};

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

  ZIPML_AVX512_INLINE Matrices(const PlaneRows &planes, size_t at, __mmask8 mask)
      // ahead to the samples that are decoded next
      : Matrices(planes, LoadInOrderAt{at, mask, planes.samples * planes.row}) {}
  /// \param load  gets a plane and loads some of it
  template <class TLoad>
  ZIPML_AVX512_INLINE Matrices(const PlaneRows &planes, const TLoad &load) {
    __m512i row[7];
#pragma GCC unroll 7
    for (int k = 0; k < 7; ++k) {
      const int p = k - (7 - kBasePlanes);
      row[k] = p < 0 ? _mm512_setzero_si512() : load(planes.base + p * planes.plane);
    }
    const __m512i one = load(planes.first_dither);
    if (kBasePlanes > 3) upper = Interleave(row[0], row[1], row[2], row[3]);
    first = Interleave(row[4], row[5], row[6], one);
    if (kDouble) {
      const __m512i two = load(planes.second_dither);
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

/// With a few more, both codes of a value are the halves of a byte.
constexpr uint32_t kMaxHalvedPlanes = 3;

/// Bytes that the pairs of a sample take.
inline uint32_t PairBytes(uint32_t base_planes, uint32_t size) {
  if (base_planes > kMaxSlicedPlanes) return base_planes > kMaxHalvedPlanes ? 2 * size : size;
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

// ---- Halves ----------------------------------------------------------------------------------

/// Up to eight words of every plane: `first` and `second` end with their dithers.
template <int kBasePlanes>
struct Halves {
  FourPlanes first, second;

  ZIPML_AVX512_INLINE Halves(const PlaneRows &planes, size_t at, __mmask8 mask) {
    // ahead to the samples that are decoded next
    const LoadInOrderAt load = {at, mask, planes.samples * planes.row};
    const uint64_t *base = planes.base;
    const __m512i a = kBasePlanes > 2 ? load(base) : _mm512_setzero_si512();
    const __m512i b = load(base + (kBasePlanes - 2) * planes.plane);
    const __m512i c = load(base + (kBasePlanes - 1) * planes.plane);
    first = Interleave(a, b, c, load(planes.first_dither));
    second = Interleave(a, b, c, load(planes.second_dither));
  }
  /// 16 times the first code of word `i` and the second one: a half is 2 base + dither, and so half
  /// of its sum with the dither.
  template <int i>
  ZIPML_AVX512_INLINE __m512i Codes() const {
    const __m512i bits = Features<true, i>(first, second);
    return _mm512_avg_epu8(bits, _mm512_and_si512(bits, _mm512_set1_epi8(0x11)));
  }
};

ZIPML_AVX512_INLINE __m512i FirstHalf(__m512i codes) {
  const __m512i down = _mm512_set1_epi64(0x1020408000000000);  // by four bits
  return _mm512_gf2p8affine_epi64_epi8(codes, down, 0);
}

ZIPML_AVX512_INLINE __m512i SecondHalf(__m512i codes) {
  return _mm512_and_si512(codes, _mm512_set1_epi8(15));
}

// ---- Digits ----------------------------------------------------------------------------------

/// More digits of a model have their loops apart from those that decode.
constexpr int kMaxFusedDigits = 3;

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

/// Model and gradient by groups, as Position has them.
struct GroupOrder {
  static constexpr uint32_t kSize = kGroup;
  /// The lanes of vector `v` that are before the last of so many features.
  static ZIPML_AVX512_INLINE __mmask16 Inside(int v, uint32_t left) {
    const __m512i places =
        _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 32, 33, 34, 35, 48, 49, 50, 51);
    const __m512i place = _mm512_add_epi32(places, _mm512_set1_epi32(4 * v));
    return _mm512_cmplt_epi32_mask(place,
                                   _mm512_set1_epi32(static_cast<int>(std::min(left, kGroup))));
  }
  /// Stores the digits of a group.
  static ZIPML_AVX512_INLINE void Store(const __m512i x[4], int count, int8_t *digits) {
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
      carry[v] = _mm512_maskz_set1_epi32(
          _mm512_cmpgt_epi32_mask(x[v], _mm512_set1_epi32(kLargestFour)), 1);
    }
    const __m512i e = TwoDigits<0>(carry[0], carry[1]), f = TwoDigits<0>(carry[2], carry[3]);
    _mm512_store_si512(digits + 4 * kGroup, _mm512_permutex2var_epi64(e, first, f));
  }
};

/// One digit for each entry, from the order of a group's model to that of its features.
ZIPML_AVX512 inline void OrderDigits(uint8_t *digits, uint32_t size) {
  alignas(64) static const uint8_t kPlaces[64] = {
      0,  1,  2,  3,  16, 17, 18, 19, 32, 33, 34, 35, 48, 49, 50, 51,  //
      4,  5,  6,  7,  20, 21, 22, 23, 36, 37, 38, 39, 52, 53, 54, 55,  //
      8,  9,  10, 11, 24, 25, 26, 27, 40, 41, 42, 43, 56, 57, 58, 59,  //
      12, 13, 14, 15, 28, 29, 30, 31, 44, 45, 46, 47, 60, 61, 62, 63};
  const __m512i places = _mm512_load_si512(kPlaces);
  for (uint32_t j = 0; j < size; j += kGroup) {
    _mm512_store_si512(digits + j, _mm512_permutexvar_epi8(places, _mm512_load_si512(digits + j)));
  }
}

template <class TOrder>
ZIPML_AVX512_INLINE void SplitDigits(const int32_t *model, uint32_t size, DigitModel &out) {
  constexpr int kSize = static_cast<int>(TOrder::kSize);
  int8_t *digits = reinterpret_cast<int8_t *>(out.digits.data());
  const __m128i shift = _mm_cvtsi32_si128(out.shift);
  for (uint32_t j = 0; j < size; j += kSize, digits += out.count * kSize) {
    __m512i x[kSize / 16];
#pragma GCC unroll 4
    for (int v = 0; v < kSize / 16; ++v) {
      x[v] = _mm512_sra_epi32(_mm512_load_si512(model + j + 16 * v), shift);
    }
    TOrder::Store(x, out.count, digits);
  }
}

/// Zeros that all entries end with take no digits: a model quantized to 8 bits has one.
template <class TOrder>
ZIPML_AVX512 void Split(const int32_t *model, uint32_t size, DigitModel &out) {
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
  SplitDigits<TOrder>(model, size, out);
}

/// Subtracts a step's change from 16 entries; positions behind the last feature, outside `inside`,
/// stay 0. All gradients are shifted by one distance:
struct OneDistance {
  __m128i right;
  ZIPML_AVX512_INLINE __m512i Subtract(__m512i before, __m512i gradient, uint32_t,
                                       __mmask16 inside) {
    return _mm512_mask_sub_epi32(before, inside, before, _mm512_sra_epi32(gradient, right));
  }
};

/// Or each feature with a distance of its own, to the left too if `kLeft`, saturated. A difference
/// that leaves 32 bits, or is -2^31, saturates on the side that the entry was on: what it loses is
/// below 2^31 in magnitude.
template <bool kLeft>
struct OwnDistances {
  const int32_t *rights, *halves, *lefts;
  uint32_t saturations;
  ZIPML_AVX512_INLINE __m512i Subtract(__m512i before, __m512i gradient, uint32_t at,
                                       __mmask16 inside) {
    const __m512i raised = _mm512_add_epi32(gradient, _mm512_load_si512(halves + at));
    __m512i change = _mm512_srav_epi32(raised, _mm512_load_si512(rights + at));
    if (kLeft) change = _mm512_sllv_epi32(change, _mm512_load_si512(lefts + at));
    const __m512i after = _mm512_mask_sub_epi32(before, inside, before, change);
    // (before ^ change) & (before ^ after)
    const __m512i crossed = _mm512_ternarylogic_epi32(before, change, after, 0x18);
    const __m512i lowest = _mm512_set1_epi32(INT32_MIN);
    const __mmask16 left = static_cast<__mmask16>(
        (_mm512_movepi32_mask(crossed) | _mm512_cmpeq_epi32_mask(after, lowest)) & inside);
    if (__builtin_expect(left == 0, 1)) return after;
    saturations += static_cast<uint32_t>(__builtin_popcount(left));
    const __m512i limit = _mm512_set1_epi32(INT32_MAX);
    // 2^31 - 1 or -2^31, then -(2^31 - 1)
    const __m512i end = _mm512_xor_si512(_mm512_srai_epi32(before, 31), limit);
    return _mm512_mask_max_epi32(after, left, end, _mm512_sub_epi32(_mm512_setzero_si512(), limit));
  }
};

/// One pass: digits are as many as before, and made again where that was wrong.
template <class TOrder, class TChange>
ZIPML_AVX512_INLINE uint32_t StepBy(const int32_t *sums, int scale, int32_t offset,
                                    TChange &subtract, uint32_t features, uint32_t size,
                                    int32_t *model, DigitModel *out) {
  constexpr int kSize = static_cast<int>(TOrder::kSize);
  const __m512i offsets = _mm512_set1_epi32(offset);
  const __m128i left = _mm_cvtsi32_si128(scale);
  __m512i smallest = _mm512_setzero_si512(), largest = smallest, sum = smallest;
  const int count = out == nullptr ? 0 : out->count;
  int8_t *digits = out == nullptr ? nullptr : reinterpret_cast<int8_t *>(out->digits.data());
  for (uint32_t j = 0; j < size; j += kSize, digits += count * kSize) {
    __m512i x[kSize / 16];
#pragma GCC unroll 4
    for (int v = 0; v < kSize / 16; ++v) {
      const __m512i s = _mm512_load_si512(sums + j + 16 * v);
      const __m512i gradient = _mm512_sub_epi32(_mm512_sll_epi32(s, left), offsets);
      const __m512i before = _mm512_load_si512(model + j + 16 * v);
      // positions behind the last feature stay 0
      x[v] = subtract.Subtract(before, gradient, j + 16 * v, TOrder::Inside(v, features - j));
      _mm512_store_si512(model + j + 16 * v, x[v]);
      smallest = _mm512_min_epi32(smallest, x[v]);
      largest = _mm512_max_epi32(largest, x[v]);
      sum = _mm512_add_epi32(sum, x[v]);
    }
    if (count > 0) TOrder::Store(x, count, digits);
  }
  const int32_t low = _mm512_reduce_min_epi32(smallest), high = _mm512_reduce_max_epi32(largest);
  if (out != nullptr) {
    out->sum = _mm512_reduce_add_epi64(
        _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(sum)),
                         _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sum, 1))));
    out->shift = 0;
    out->count = DigitsFor(low, high);
    if (out->count != count) SplitDigits<TOrder>(model, size, *out);
  }
  return std::max(static_cast<uint32_t>(high), 0u - static_cast<uint32_t>(low));
}

template <class TOrder>
ZIPML_AVX512 uint32_t Step(const int32_t *sums, int scale, int32_t offset, int shift,
                           uint32_t features, uint32_t size, int32_t *model, DigitModel *out) {
  OneDistance subtract = {_mm_cvtsi32_si128(shift)};
  return StepBy<TOrder>(sums, scale, offset, subtract, features, size, model, out);
}

/// What the entries add up to in 16 parts may leave 32 bits here; where it could, it is added up
/// again.
template <class TOrder, bool kLeft>
ZIPML_AVX512 uint32_t StepEachBy(const int32_t *sums, int scale, int32_t offset,
                                 const FeatureSteps &steps, uint32_t features, uint32_t size,
                                 int32_t *model, DigitModel *out, uint32_t &saturations) {
  OwnDistances<kLeft> subtract = {steps.rights.data(), steps.halves.data(), steps.lefts.data(), 0};
  const uint32_t largest =
      StepBy<TOrder>(sums, scale, offset, subtract, features, size, model, out);
  saturations += subtract.saturations;
  if (out != nullptr && static_cast<uint64_t>(largest) * (size / 16) > 0x7fffffff) {
    Split<TOrder>(model, size, *out);
  }
  return largest;
}

template <class TOrder>
uint32_t StepEach(const int32_t *sums, int scale, int32_t offset, const FeatureSteps &steps,
                  uint32_t features, uint32_t size, int32_t *model, DigitModel *out,
                  uint32_t &saturations) {
  const auto step = steps.left == 0 ? StepEachBy<TOrder, false> : StepEachBy<TOrder, true>;
  return step(sums, scale, offset, steps, features, size, model, out, saturations);
}

/// sum += codes * digits by fours: VPDPBUSD. Around the intrinsic, GCC copies every sum twice.
ZIPML_AVX512_INLINE void AddProducts(__m512i codes, __m512i digits, __m512i &sum) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(digits));
}

}  // namespace avx512
}  // namespace zipml

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
