// The loops of rows.hpp on x86-64 with byte dot products of 256 bits (AVX-VNNI, GFNI): Alder Lake
// and later, which have no AVX-512. VPDPBUSD multiplies 32 unsigned codes with 32 signed digits and
// adds them up by fours. AVX-512 VNNI has another encoding of the same instruction, by which these
// loops run, for tests and comparisons, on machines that have only that.
#pragma once

#include "rows_avx2.hpp"

// assemblers that are older do not know the first encoding
#if defined(__x86_64__) && (!defined(ZIPML_NO_CLONES) || defined(ZIPML_VECTOR_LOOPS)) && \
    ((defined(__clang__) && __clang_major__ >= 12) ||                                    \
     (defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11))
#define ZIPML_HAS_AVXVNNI 1
#include <cpuid.h>
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,gfni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,gfni")
#endif

namespace zipml {
namespace avxvnni {

#define ZIPML_INLINE __attribute__((always_inline)) inline

/// sum += codes * digits by fours. (By assembly, for around the intrinsic GCC copies every sum.)
struct Vex {
  static ZIPML_INLINE void AddProducts(__m256i codes, __m256i digits, __m256i &sum) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(codes), "x"(digits));
  }
};
struct Evex {
  static ZIPML_INLINE void AddProducts(__m256i codes, __m256i digits, __m256i &sum) {
    __asm__("vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(codes), "x"(digits));
  }
};

/// Compilers of some years ago do not know the feature by name.
inline bool HasAvxVnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
inline bool Has(bool products) {
  return products && __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("gfni") != 0;
}
/// A virtual machine leaves that instruction to its host, which takes some 10 us: asked for once.
inline bool Runs() {
  static const bool runs = Has(HasAvxVnni());
  return runs;
}
inline bool RunsEvex() {
  return Has(__builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vnni") != 0);
}

// ---- Decoding --------------------------------------------------------------------------------

/// Eight bytes are an 8 x 8 matrix of bits: byte i is to have bit i of each, that of the last byte
/// as the lowest; or, back again, bit 7 - i.
template <bool kBack = false>
ZIPML_INLINE __m256i Transpose(__m256i matrices) {
  const uint64_t units = kBack ? 0x0102040810204080u : 0x8040201008040201u;
  return _mm256_gf2p8affine_epi64_epi8(_mm256_set1_epi64x(static_cast<long long>(units)), matrices,
                                       0);
}

/// Four planes with their bytes side by side. (Members and not an array: GCC keeps arrays of
/// vectors in memory.)
struct FourPlanes {
  __m256i a, b, c, d;
};

ZIPML_INLINE FourPlanes Interleave(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i low_ab = _mm256_unpacklo_epi8(a, b), high_ab = _mm256_unpackhi_epi8(a, b);
  const __m256i low_cd = _mm256_unpacklo_epi8(c, d), high_cd = _mm256_unpackhi_epi8(c, d);
  return {_mm256_unpacklo_epi16(low_ab, low_cd), _mm256_unpackhi_epi16(low_ab, low_cd),
          _mm256_unpacklo_epi16(high_ab, high_cd), _mm256_unpackhi_epi16(high_ab, high_cd)};
}

/// Two words of a sample's row, or its last one: what a lane decodes.
struct Place {
  size_t word;  // in a plane
  size_t byte;  // in rows of codes
  bool whole;   // two words
  ZIPML_INLINE __m128i Load(const uint64_t *plane) const {
    const __m128i *from = reinterpret_cast<const __m128i *>(plane + word);
    return whole ? _mm_loadu_si128(from) : _mm_loadl_epi64(from);
  }
};

/// The places of all samples, row by row.
class Places {
 public:
  explicit Places(const PlaneRows &planes)
      : row_(planes.row), words_(planes.words), left_(planes.samples) {}
  ZIPML_INLINE bool Next(Place &place) {
    if (left_ == 0) return false;
    place = {start_ + at_, byte_, at_ + 2 <= words_};
    byte_ += place.whole ? 2 * kGroup : kGroup;
    at_ += 2;
    if (at_ >= words_) {
      at_ = 0;
      start_ += row_;
      --left_;
    }
    return true;
  }

 private:
  const size_t row_;
  const uint32_t words_;
  uint32_t left_, at_ = 0;
  size_t start_ = 0, byte_ = 0;
};

/// One plane of two places, a word's bits turned around the diagonal: so codes come out in the
/// order of portable::Position.
ZIPML_INLINE __m256i LoadTwo(const uint64_t *plane, const Place &a, const Place &b, size_t ahead) {
  _mm_prefetch(reinterpret_cast<const char *>(plane + a.word + ahead), _MM_HINT_T0);
  return Transpose(
      _mm256_inserti128_si256(_mm256_castsi128_si256(a.Load(plane)), b.Load(plane), 1));
}

/// Codes of 16 features of each of two places.
template <bool kWhole>
ZIPML_INLINE void Store(__m256i codes, const Place &a, const Place &b, int part, uint8_t *rows) {
  if (kWhole || part < 4 || a.whole) {
    _mm_store_si128(reinterpret_cast<__m128i *>(rows + a.byte + 16 * part),
                    _mm256_castsi256_si128(codes));
  }
  if (kWhole || part < 4 || b.whole) {
    _mm_store_si128(reinterpret_cast<__m128i *>(rows + b.byte + 16 * part),
                    _mm256_extracti128_si256(codes, 1));
  }
}

/// Base and dither side by side are 2 base + dither; half of it, rounded up, is base + dither.
template <bool kWhole>
ZIPML_INLINE void StorePart(__m256i bits, const Place &a, const Place &b, int part, uint8_t *to) {
  const __m256i codes = _mm256_avg_epu8(Transpose<true>(bits), _mm256_setzero_si256());
  Store<kWhole>(codes, a, b, part, to);
}

template <bool kDouble, bool kWhole>
ZIPML_INLINE void StoreAll(const FourPlanes &upper, const FourPlanes &lower,
                           const FourPlanes &other, const Place &a, const Place &b, uint8_t *one,
                           uint8_t *two) {
#define ZIPML_STORE(PART, UNPACK, MEMBER)                                 \
  StorePart<kWhole>(UNPACK(upper.MEMBER, lower.MEMBER), a, b, PART, one); \
  if (kDouble) StorePart<kWhole>(UNPACK(upper.MEMBER, other.MEMBER), a, b, PART, two);
  ZIPML_STORE(0, _mm256_unpacklo_epi32, a)
  ZIPML_STORE(1, _mm256_unpackhi_epi32, a)
  ZIPML_STORE(2, _mm256_unpacklo_epi32, b)
  ZIPML_STORE(3, _mm256_unpackhi_epi32, b)
  ZIPML_STORE(4, _mm256_unpacklo_epi32, c)
  ZIPML_STORE(5, _mm256_unpackhi_epi32, c)
  ZIPML_STORE(6, _mm256_unpacklo_epi32, d)
  ZIPML_STORE(7, _mm256_unpackhi_epi32, d)
#undef ZIPML_STORE
}

template <int kBasePlanes, bool kDouble>
void DecodeBy(const PlaneRows &all, uint8_t *one, uint8_t *two) {
  const PlaneRows planes = all;                      // of its own, so that no store can change it
  const size_t ahead = planes.samples * planes.row;  // to the samples that are decoded next
  Places places(planes);
  Place a, b;
  while (places.Next(a)) {
    if (!places.Next(b)) b = a;
    __m256i row[7];
#pragma GCC unroll 7
    for (int k = 0; k < 7; ++k) {
      const int p = k - (7 - kBasePlanes);
      row[k] =
          p < 0 ? _mm256_setzero_si256() : LoadTwo(planes.base + p * planes.plane, a, b, ahead);
    }
    const __m256i dither = LoadTwo(planes.first_dither, a, b, ahead);
    const FourPlanes lower = Interleave(row[4], row[5], row[6], dither);
    FourPlanes other = lower;
    if (kDouble) {
      other = Interleave(row[4], row[5], row[6], LoadTwo(planes.second_dither, a, b, ahead));
    }
    const FourPlanes upper = Interleave(row[0], row[1], row[2], row[3]);
    if (a.whole && b.whole) {
      StoreAll<kDouble, true>(upper, lower, other, a, b, one, two);
    } else {
      StoreAll<kDouble, false>(upper, lower, other, a, b, one, two);
    }
  }
}

/// Base planes from which on these loops are faster than AVX2's on codes.
constexpr uint32_t kFewestBasePlanes = 5;
inline const RowLoops *For(uint32_t base_planes, uint32_t features) {
  return base_planes < kFewestBasePlanes ? avx2::bytes::For(base_planes, features) : nullptr;
}

inline void Decode(const PlaneRows &planes, uint8_t *first, uint8_t *second) {
  typedef void (*loop_t)(const PlaneRows &, uint8_t *, uint8_t *);
  static const loop_t kLoops[2][3] = {{DecodeBy<5, false>, DecodeBy<6, false>, DecodeBy<7, false>},
                                      {DecodeBy<5, true>, DecodeBy<6, true>, DecodeBy<7, true>}};
  kLoops[planes.second_dither != nullptr][planes.base_planes - kFewestBasePlanes](planes, first,
                                                                                  second);
}

// ---- Digits ----------------------------------------------------------------------------------

/// Digits in the order of rows, all first ones, then all second ones.
struct RowOrder {
  const uint32_t size;
  explicit RowOrder(uint32_t all) : size(all) {}
  uint32_t vectors() const { return size / 32; }
  avx2::bytes::Places At(uint32_t vector) const { return {32 * vector, 8, 1}; }
  size_t To(uint32_t vector, uint32_t digit) const {
    return digit * static_cast<size_t>(size) + 32 * vector;
  }
};

/// Digits, those of each place apart, or AVX2's tables.
inline void Split(const int32_t *model, uint32_t size, DigitModel &out) {
  (out.has_tables ? avx2::Split : avx2::bytes::SplitBy<RowOrder>)(model, size, out);
}

// ---- Dot products ----------------------------------------------------------------------------

ZIPML_INLINE __m256i LoadCodes(const uint8_t *from) {
  return _mm256_load_si256(reinterpret_cast<const __m256i *>(from));
}

/// What the lanes of each of four vectors add up to.
ZIPML_INLINE __m128i Sums(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
  const __m256i cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
  const __m256i all =
      _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
  return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

/// Sums of four rows, for one digit.
struct RowSums {
  __m256i a, b, c, d;
  static ZIPML_INLINE RowSums Zero() {
    const __m256i zero = _mm256_setzero_si256();
    return {zero, zero, zero, zero};
  }
  ZIPML_INLINE __m256i Total() const { return _mm256_cvtepi32_epi64(Sums(a, b, c, d)); }
};

/// sums[r] += the products with digits number kFirst and, as many as kDigits, behind it. A lane
/// adds up 4 * 2^10 products of 2^8 * 2^7 for up to 2^15 features: no more than 2^27.
template <class TProducts, int kFirst, int kDigits>
void AddDots(const uint8_t *rows, uint32_t count, uint32_t size, const uint8_t *digits,
             int64_t *sums) {
  digits += kFirst * static_cast<size_t>(size);
  for (uint32_t r = 0; r < count; r += 4) {
    const uint8_t *row = rows + static_cast<size_t>(r) * size;
    const uint8_t *row_b = row + size, *row_c = row_b + size, *row_d = row_c + size;
    RowSums d0 = RowSums::Zero(), d1 = d0, d2 = d0;
    for (uint32_t j = 0; j < size; j += 32) {
      const __m256i x = LoadCodes(digits + j);
      const __m256i y = kDigits > 1 ? LoadCodes(digits + size + j) : x;
      const __m256i z = kDigits > 2 ? LoadCodes(digits + 2 * static_cast<size_t>(size) + j) : x;
#define ZIPML_ADD_ROW(MEMBER, FROM)                               \
  {                                                               \
    const __m256i codes = LoadCodes(FROM + j);                    \
    TProducts::AddProducts(codes, x, d0.MEMBER);                  \
    if (kDigits > 1) TProducts::AddProducts(codes, y, d1.MEMBER); \
    if (kDigits > 2) TProducts::AddProducts(codes, z, d2.MEMBER); \
  }
      ZIPML_ADD_ROW(a, row)
      ZIPML_ADD_ROW(b, row_b)
      ZIPML_ADD_ROW(c, row_c)
      ZIPML_ADD_ROW(d, row_d)
#undef ZIPML_ADD_ROW
    }
    __m256i total = d0.Total();
    if (kDigits > 1) total = _mm256_add_epi64(total, _mm256_slli_epi64(d1.Total(), 8));
    if (kDigits > 2) total = _mm256_add_epi64(total, _mm256_slli_epi64(d2.Total(), 16));
    alignas(32) int64_t four[4];
    _mm256_store_si256(reinterpret_cast<__m256i *>(four), total);
    for (uint32_t i = 0; i < std::min(4u, count - r); ++i) {
      const int64_t sum = four[i] * (int64_t{1} << 8 * kFirst);
      sums[r + i] = kFirst == 0 ? sum : sums[r + i] + sum;
    }
  }
}

template <class TProducts>
void Dots(const uint8_t *rows, uint32_t count, uint32_t size, const DigitModel &model,
          int64_t *sums) {
  typedef void (*loop_t)(const uint8_t *, uint32_t, uint32_t, const uint8_t *, int64_t *);
  static const loop_t kFirst[] = {AddDots<TProducts, 0, 1>, AddDots<TProducts, 0, 2>,
                                  AddDots<TProducts, 0, 3>};
  static const loop_t kLast[] = {AddDots<TProducts, 3, 1>, AddDots<TProducts, 3, 2>};
  const uint8_t *digits = model.digits.data();
  kFirst[std::min(model.count, 3) - 1](rows, count, size, digits, sums);
  if (model.count > 3) kLast[model.count - 4](rows, count, size, digits, sums);
}

template <class TProducts>
void DecodeDots(const PlaneRows &planes, uint8_t *first, uint8_t *second, const DigitModel &model,
                int64_t *sums) {
  Decode(planes, first, second);
  Dots<TProducts>(first, planes.samples, planes.words * kGroup, model, sums);
  if (planes.second_dither == nullptr) return;
  Dots<TProducts>(second, planes.samples, planes.words * kGroup, model, sums + planes.samples);
}

template <class TProducts>
void LoadPairs(const PlaneRows &planes, uint8_t *pairs, const DigitModel &model, int64_t *sums) {
  const size_t bytes = static_cast<size_t>(planes.samples) * planes.words * kGroup;
  DecodeDots<TProducts>(planes, pairs, pairs + bytes, model, sums);
}

// ---- Gradient --------------------------------------------------------------------------------

/// Four coefficients are a 4 x 4 matrix of bytes.
inline void TransposeFours(const int32_t *coefficients, uint32_t fours, uint32_t *words) {
  const __m128i balance = _mm_set1_epi32(static_cast<int>(kBalance));
  const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (uint32_t q = 0; q < fours; ++q) {
    const __m128i x = _mm_load_si128(reinterpret_cast<const __m128i *>(coefficients) + q);
    const __m128i digits = _mm_xor_si128(_mm_add_epi32(x, balance), balance);
    _mm_store_si128(reinterpret_cast<__m128i *>(words) + q, _mm_shuffle_epi8(digits, order));
  }
}
typedef FourDigits<TransposeFours> CoefficientDigits;

/// Sums of 32 features, for one digit: features 4 v + e of each half in lanes e of vector v.
struct WordSums {
  __m256i a, b, c, d;
  template <class TProducts>
  ZIPML_INLINE void Add(const FourPlanes &codes, uint32_t digits) {
    const __m256i x = _mm256_set1_epi32(static_cast<int>(digits));
    TProducts::AddProducts(codes.a, x, a);
    TProducts::AddProducts(codes.b, x, b);
    TProducts::AddProducts(codes.c, x, c);
    TProducts::AddProducts(codes.d, x, d);
  }
};

/// Adds eight sums, times 2^shift: modulo 2^32 where they fit 32 bits.
ZIPML_INLINE void AddEight(__m256i x, int shift, int32_t *to) {
  __m256i *out = reinterpret_cast<__m256i *>(to);
  const __m256i sum = _mm256_sll_epi32(x, _mm_cvtsi32_si128(shift));
  _mm256_store_si256(out, _mm256_add_epi32(_mm256_load_si256(out), sum));
}
ZIPML_INLINE void AddEight(__m256i x, int shift, int64_t *to) {
  __m256i *out = reinterpret_cast<__m256i *>(to);
  const __m128i left = _mm_cvtsi32_si128(shift);
  const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(x));
  const __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(x, 1));
  _mm256_store_si256(out, _mm256_add_epi64(_mm256_load_si256(out), _mm256_sll_epi64(low, left)));
  _mm256_store_si256(out + 1,
                     _mm256_add_epi64(_mm256_load_si256(out + 1), _mm256_sll_epi64(high, left)));
}

/// Adds the products with digit number `first`, and the next one if kTwo. A lane adds up 2^8
/// products of 2^8 * 2^7 for each digit: 2^23, so two digits fit 32 bits.
template <class TProducts, bool kTwo, class TSum>
void AddGradient(const uint8_t *rows, uint32_t count, uint32_t size,
                 const CoefficientDigits &coefficients, int first, TSum *gradient) {
  for (uint32_t j = 0; j < size; j += 32) {
    const __m256i zero = _mm256_setzero_si256();
    WordSums low = {zero, zero, zero, zero}, high = low;
    const uint8_t *row = rows + j;
    for (uint32_t q = 0; 4 * q < count; ++q, row += 4 * static_cast<size_t>(size)) {
      const uint8_t *row_b = row + size, *row_c = row_b + size, *row_d = row_c + size;
      const FourPlanes codes =
          Interleave(LoadCodes(row), LoadCodes(row_b), LoadCodes(row_c), LoadCodes(row_d));
      low.Add<TProducts>(codes, coefficients.Four(q, first));
      if (kTwo) high.Add<TProducts>(codes, coefficients.Four(q, first + 1));
    }
#define ZIPML_SUM(MEMBER) \
  kTwo ? _mm256_add_epi32(low.MEMBER, _mm256_slli_epi32(high.MEMBER, 8)) : low.MEMBER
    const __m256i a = ZIPML_SUM(a), b = ZIPML_SUM(b), c = ZIPML_SUM(c), d = ZIPML_SUM(d);
#undef ZIPML_SUM
    TSum *to = gradient + j;
    AddEight(_mm256_permute2x128_si256(a, b, 0x20), 8 * first, to);
    AddEight(_mm256_permute2x128_si256(c, d, 0x20), 8 * first, to + 8);
    AddEight(_mm256_permute2x128_si256(a, b, 0x31), 8 * first, to + 16);
    AddEight(_mm256_permute2x128_si256(c, d, 0x31), 8 * first, to + 24);
  }
}

template <class TProducts, class TSum>
void Gradient(const uint8_t *rows, uint32_t, uint32_t count, uint32_t size,
              const int32_t *coefficients, TSum *gradient) {
  const CoefficientDigits digits(coefficients, count);
  int d = 0;
  for (; d + 1 < digits.count; d += 2) {
    AddGradient<TProducts, true>(rows, count, size, digits, d, gradient);
  }
  if (d < digits.count) AddGradient<TProducts, false>(rows, count, size, digits, d, gradient);
}

#undef ZIPML_INLINE

template <class TProducts>
constexpr RowLoops LoopsOf() {
  return {
      "avxvnni",
      kGroup,
      portable::Position,
      portable::Position,
      Decode,
      DecodeDots<TProducts>,
      Split,
      portable::Step<Split>,
      portable::StepEach<Split>,
      Dots<TProducts>,
      portable::PairBytes,
      LoadPairs<TProducts>,
      {Gradient<TProducts, int64_t>, portable::PairGradient<int64_t, Gradient<TProducts, int64_t>>},
      {Gradient<TProducts, int32_t>, portable::PairGradient<int32_t, Gradient<TProducts, int32_t>>},
      &avx2::kPlaneLoops,
      nullptr,
      For,
      LeaveDigits};
}

static const RowLoops kLoops = LoopsOf<Vex>(), kEvexLoops = LoopsOf<Evex>();

}  // namespace avxvnni
}  // namespace zipml

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
