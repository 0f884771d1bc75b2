// Loops over rows of bytes for 64-bit Arm with dot products of bytes (Neoverse, Apple M1,
// Cortex-A76 and later). SDOT multiplies 16 signed codes with 16 signed digits and adds them up by
// fours, so codes are to be less than 2^7: of up to 7 bits. All else is as in rows_neon.hpp.
#pragma once

#include "rows_neon.hpp"

// older compilers have the instruction only where all code may use it
#if defined(ZIPML_HAS_NEON) && (defined(__linux__) || defined(__APPLE__)) && \
    (!defined(__clang__) || __clang_major__ >= 16 || defined(__ARM_FEATURE_DOTPROD))
#define ZIPML_HAS_NEONDOT 1
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

namespace zipml {
namespace neondot {

#define ZIPML_INLINE __attribute__((always_inline)) inline

/// Every Mac of this architecture has them.
inline bool Runs() {
#if defined(__linux__)
  constexpr unsigned long kDotProducts = 1ul << 20;  // HWCAP_ASIMDDP, which old headers do not have
  return (getauxval(AT_HWCAP) & kDotProducts) != 0;
#else
  return true;
#endif
}

/// sum += codes * digits by fours.
ZIPML_INLINE void AddProducts(uint8x16_t codes, uint8x16_t digits, int32x4_t &sum) {
  sum = vdotq_s32(sum, vreinterpretq_s8_u8(codes), vreinterpretq_s8_u8(digits));
}

// ---- Digits ----------------------------------------------------------------------------------

/// Zeros that all entries end with take no digits. Digits are all first ones, then all second ones.
inline void Split(const int32_t *model, uint32_t size, DigitModel &out) {
  int32_t any = 0, smallest = 0, largest = 0;
  int64_t sum = 0;
  for (uint32_t j = 0; j < size; ++j) {
    any |= model[j];
    smallest = std::min(smallest, model[j]);
    largest = std::max(largest, model[j]);
    sum += model[j];
  }
  out.sum = sum;
  out.shift = any == 0 ? 0 : __builtin_ctz(static_cast<unsigned>(any));
  out.count = DigitsFor(smallest >> out.shift, largest >> out.shift);
  uint8_t *digits = out.digits.data();
  for (int d = 0; d < std::min(out.count, 4); ++d, digits += size) {
    for (uint32_t j = 0; j < size; ++j) {
      const uint32_t x = static_cast<uint32_t>(model[j] >> out.shift);
      digits[j] = static_cast<uint8_t>(((x + kBalance) ^ kBalance) >> 8 * d);
    }
  }
  for (uint32_t j = 0; j < size && out.count == kMaxDigits; ++j) {
    digits[j] = model[j] >> out.shift > kLargestFour;
  }
}

// ---- Dot products ----------------------------------------------------------------------------

/// Sums of a row with up to five digits.
template <int kDigits>
struct RowSums {
  int32x4_t d0, d1, d2, d3, d4;
  static ZIPML_INLINE RowSums Zero() {
    const int32x4_t zero = vdupq_n_s32(0);
    return {zero, zero, zero, zero, zero};
  }
  /// A lane adds up at most 4 * 2^11 products of 2^6 * 2^7 for up to 2^15 features: 2^26.
  ZIPML_INLINE int64_t Total() const {
    int64_t total = vaddlvq_s32(d0);
    if (kDigits > 1) total += vaddlvq_s32(d1) * (int64_t{1} << 8);
    if (kDigits > 2) total += vaddlvq_s32(d2) * (int64_t{1} << 16);
    if (kDigits > 3) total += vaddlvq_s32(d3) * (int64_t{1} << 24);
    if (kDigits > 4) total += vaddlvq_s32(d4) * (int64_t{1} << 32);
    return total;
  }
};

/// Two rows at a time; where only one is left, it is taken twice.
template <int kDigits>
void DotRows(const uint8_t *rows, uint32_t count, uint32_t size, const uint8_t *digits,
             int64_t *sums) {
  for (uint32_t r = 0; r < count; r += 2) {
    const uint32_t last = std::min(r + 1, count - 1);
    const uint8_t *row = rows + static_cast<size_t>(r) * size;
    const uint8_t *other = rows + static_cast<size_t>(last) * size;
    RowSums<kDigits> a = RowSums<kDigits>::Zero(), b = a;
    for (uint32_t j = 0; j < size; j += 16) {
      const uint8x16_t codes = vld1q_u8(row + j), others = vld1q_u8(other + j);
      const uint8_t *x = digits + j;
#define ZIPML_ADD_DIGIT(D)                \
  if (kDigits > D) {                      \
    const uint8x16_t digit = vld1q_u8(x); \
    AddProducts(codes, digit, a.d##D);    \
    AddProducts(others, digit, b.d##D);   \
    x += size;                            \
  }
      ZIPML_ADD_DIGIT(0)
      ZIPML_ADD_DIGIT(1)
      ZIPML_ADD_DIGIT(2)
      ZIPML_ADD_DIGIT(3)
      ZIPML_ADD_DIGIT(4)
#undef ZIPML_ADD_DIGIT
    }
    sums[last] = b.Total();
    sums[r] = a.Total();
  }
}

inline void Dots(const uint8_t *rows, uint32_t count, uint32_t size, const DigitModel &model,
                 int64_t *sums) {
  typedef void (*loop_t)(const uint8_t *, uint32_t, uint32_t, const uint8_t *, int64_t *);
  static const loop_t kLoops[] = {DotRows<1>, DotRows<2>, DotRows<3>, DotRows<4>, DotRows<5>};
  kLoops[model.count - 1](rows, count, size, model.digits.data(), sums);
}

inline void DecodeDots(const PlaneRows &planes, uint8_t *first, uint8_t *second,
                       const DigitModel &model, int64_t *sums) {
  portable::Decode(planes, first, second);
  Dots(first, planes.samples, planes.size, model, sums);
  if (planes.second_dither == nullptr) return;
  Dots(second, planes.samples, planes.size, model, sums + planes.samples);
}

inline void LoadPairs(const PlaneRows &planes, uint8_t *pairs, const DigitModel &model,
                      int64_t *sums) {
  DecodeDots(planes, pairs, pairs + static_cast<size_t>(planes.samples) * planes.size, model, sums);
}

// ---- Gradient --------------------------------------------------------------------------------

/// Four coefficients are a 4 x 4 matrix of bytes.
inline void TransposeFours(const int32_t *coefficients, uint32_t fours, uint32_t *words) {
  const uint32x4_t balance = vdupq_n_u32(kBalance);
  static const uint8_t kOrder[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  const uint8x16_t order = vld1q_u8(kOrder);
  for (uint32_t q = 0; q < fours; ++q) {
    const uint32x4_t x = vreinterpretq_u32_s32(vld1q_s32(coefficients + 4 * q));
    const uint8x16_t digits = vreinterpretq_u8_u32(veorq_u32(vaddq_u32(x, balance), balance));
    vst1q_u32(words + 4 * q, vreinterpretq_u32_u8(vqtbl1q_u8(digits, order)));
  }
}
typedef FourDigits<TransposeFours> CoefficientDigits;

/// Sums of 16 features, four times four, for one digit.
struct WordSums {
  int32x4_t a, b, c, d;
  ZIPML_INLINE void Add(const uint8x16_t (&codes)[4], uint32_t digits) {
    const uint8x16_t x = vreinterpretq_u8_u32(vdupq_n_u32(digits));
    AddProducts(codes[0], x, a);
    AddProducts(codes[1], x, b);
    AddProducts(codes[2], x, c);
    AddProducts(codes[3], x, d);
  }
};

/// Adds four sums, times 2^shift: modulo 2^32 where they fit 32 bits.
ZIPML_INLINE void AddFour(int32x4_t x, int shift, int32_t *to) {
  vst1q_s32(to, vaddq_s32(vld1q_s32(to), vshlq_s32(x, vdupq_n_s32(shift))));
}
ZIPML_INLINE void AddFour(int32x4_t x, int shift, int64_t *to) {
  const int64x2_t left = vdupq_n_s64(shift);
  const int64x2_t low = vshlq_s64(vmovl_s32(vget_low_s32(x)), left);
  const int64x2_t high = vshlq_s64(vmovl_high_s32(x), left);
  vst1q_s64(to, vaddq_s64(vld1q_s64(to), low));
  vst1q_s64(to + 2, vaddq_s64(vld1q_s64(to + 2), high));
}

/// Adds the products with digit number `first`, and the next one if kTwo. A lane adds up 2^8
/// products of 2^6 * 2^7 for each digit: 2^21, so two digits fit 32 bits.
template <bool kTwo, class TSum>
void AddGradient(const uint8_t *rows, uint32_t count, uint32_t size,
                 const CoefficientDigits &coefficients, int first, TSum *gradient) {
  for (uint32_t j = 0; j < size; j += 16) {
    const int32x4_t zero = vdupq_n_s32(0);
    WordSums low = {zero, zero, zero, zero}, high = low;
    const uint8_t *row = rows + j;
    for (uint32_t q = 0; 4 * q < count; ++q, row += 4 * static_cast<size_t>(size)) {
      const uint8x16_t a = vld1q_u8(row), b = vld1q_u8(row + size);
      const uint8x16_t c = vld1q_u8(row + 2 * static_cast<size_t>(size));
      const uint8x16_t d = vld1q_u8(row + 3 * static_cast<size_t>(size));
      const uint16x8_t ab = vreinterpretq_u16_u8(vzip1q_u8(a, b));
      const uint16x8_t cd = vreinterpretq_u16_u8(vzip1q_u8(c, d));
      const uint16x8_t last_ab = vreinterpretq_u16_u8(vzip2q_u8(a, b));
      const uint16x8_t last_cd = vreinterpretq_u16_u8(vzip2q_u8(c, d));
      const uint8x16_t codes[4] = {vreinterpretq_u8_u16(vzip1q_u16(ab, cd)),
                                   vreinterpretq_u8_u16(vzip2q_u16(ab, cd)),
                                   vreinterpretq_u8_u16(vzip1q_u16(last_ab, last_cd)),
                                   vreinterpretq_u8_u16(vzip2q_u16(last_ab, last_cd))};
      low.Add(codes, coefficients.Four(q, first));
      if (kTwo) high.Add(codes, coefficients.Four(q, first + 1));
    }
#define ZIPML_SUM(MEMBER) kTwo ? vaddq_s32(low.MEMBER, vshlq_n_s32(high.MEMBER, 8)) : low.MEMBER
    TSum *to = gradient + j;
    AddFour(ZIPML_SUM(a), 8 * first, to);
    AddFour(ZIPML_SUM(b), 8 * first, to + 4);
    AddFour(ZIPML_SUM(c), 8 * first, to + 8);
    AddFour(ZIPML_SUM(d), 8 * first, to + 12);
#undef ZIPML_SUM
  }
}

template <class TSum>
void Gradient(const uint8_t *rows, uint32_t, uint32_t count, uint32_t size,
              const int32_t *coefficients, TSum *gradient) {
  const CoefficientDigits digits(coefficients, count);
  int d = 0;
  for (; d + 1 < digits.count; d += 2) {
    AddGradient<true>(rows, count, size, digits, d, gradient);
  }
  if (d < digits.count) AddGradient<false>(rows, count, size, digits, d, gradient);
}

#undef ZIPML_INLINE

static const RowLoops kCodeLoops = {
    "neondot",
    kGroup,
    portable::Position,
    portable::Position,
    portable::Decode,
    DecodeDots,
    Split,
    portable::Step<Split>,
    portable::StepEach<Split>,
    Dots,
    portable::PairBytes,
    LoadPairs,
    {Gradient<int64_t>, portable::PairGradient<int64_t, Gradient<int64_t>>},
    {Gradient<int32_t>, portable::PairGradient<int32_t, Gradient<int32_t>>},
    nullptr,
    nullptr,
    nullptr,
    LeaveDigits};

inline const RowLoops *For(uint32_t base_planes, uint32_t) {
  return base_planes <= 6 ? &kCodeLoops : nullptr;
}

/// By count of instructions, with 128 bits codes pay in place of planes at all bits.
static const RowLoops kLoops = {"neondot",
                                kGroup,
                                portable::Position,
                                portable::Position,
                                portable::Decode,
                                portable::DecodeDots,
                                portable::Split,
                                portable::Step<ZIPML_BEST(portable::SplitBody)>,
                                portable::StepEach<ZIPML_BEST(portable::SplitBody)>,
                                portable::Dots,
                                portable::PairBytes,
                                portable::LoadPairs,
                                {portable::Gradient, portable::PairGradient<int64_t>},
                                {portable::Gradient, portable::PairGradient<int32_t>},
                                nullptr,
                                nullptr,
                                For};

}  // namespace neondot
}  // namespace zipml

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
