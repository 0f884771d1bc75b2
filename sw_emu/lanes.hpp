// Exponential and logarithm, and sums over samples, with the same bits on every machine: all that
// is added up over samples is added up in lanes, as many everywhere, and functions are made of
// operations that round alike.
#pragma once

#include <cstdint>
#include <cstring>

#define ZIPML_INLINE __attribute__((always_inline)) inline

namespace zipml {

/// Samples of a block, each of which is a lane of every sum.
constexpr uint64_t kBlock = 64;

ZIPML_INLINE uint64_t BitsOf(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

ZIPML_INLINE double OfBits(uint64_t bits) {
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

/// exp(x) for x <= 0, to less than 2 units in the last place; 0 from -708 down.
ZIPML_INLINE double Exponential(double x) {
  // 1 / k!: the series ends below a quarter of a unit for what ln 2 / 2 leaves
  constexpr double kTerms[] = {1.0 / 6227020800,
                               1.0 / 479001600,
                               1.0 / 39916800,
                               1.0 / 3628800,
                               1.0 / 362880,
                               1.0 / 40320,
                               1.0 / 5040,
                               1.0 / 720,
                               1.0 / 120,
                               1.0 / 24,
                               1.0 / 6,
                               1.0 / 2,
                               1.0,
                               1.0};
  // what is added to it is rounded to a whole number, which lies in the lowest bits
  constexpr double kWhole = 6755399441055744.0;  // 1.5 * 2^52
  // ln 2 in two parts, the first one short enough for exact products
  constexpr double kHigh = 6.93147180369123816490e-01, kLow = 1.90821492927058770002e-10;
  const double shifted = x * 1.4426950408889634 + kWhole;
  const double power = shifted - kWhole;
  const double rest = (x - power * kHigh) - power * kLow;
  double sum = kTerms[0];
#pragma GCC unroll 16
  for (int k = 1; k < 14; ++k) sum = sum * rest + kTerms[k];
  const double found = OfBits(BitsOf(sum) + (BitsOf(shifted) << 52));
  return x < -708.0 ? 0.0 : found;
}

/// log(1 + e) for e from 0 to 1, to less than 3 units in the last place.
ZIPML_INLINE double LogarithmOfOneAnd(double e) {
  // 2 artanh(s) of s = e / (2 + e), or with (1 + e) / 2 in the place of 1 + e: |s| < 0.172
  const bool large = e > 0.41421356237309503;
  const double s = (large ? e - 1.0 : e) / (large ? e + 3.0 : e + 2.0);
  const double square = s * s;
  constexpr double kTerms[] = {2.0 / 23, 2.0 / 21, 2.0 / 19, 2.0 / 17, 2.0 / 15, 2.0 / 13,
                               2.0 / 11, 2.0 / 9,  2.0 / 7,  2.0 / 5,  2.0 / 3};
  double sum = kTerms[0];
#pragma GCC unroll 16
  for (int k = 1; k < 11; ++k) sum = sum * square + kTerms[k];
  const double whole = s + s;
  return (large ? 0.69314718055994531 : 0.0) + (whole + whole * square * (sum * 0.5));
}

/// log(x) for x >= 1, to less than 3 units in the last place.
ZIPML_INLINE double Logarithm(double x) {
  constexpr uint64_t kMantissa = (uint64_t{1} << 52) - 1, kOne = uint64_t{1023} << 52;
  const uint64_t bits = BitsOf(x);
  const double power = static_cast<double>(static_cast<int32_t>(bits >> 52) - 1023);
  const double found =
      power * 0.69314718055994531 + LogarithmOfOneAnd(OfBits((bits & kMantissa) | kOne) - 1.0);
  return x == x ? found : x;
}

/// Lanes of a sum; their halves are added up until one is left.
struct Lanes {
  double lanes[kBlock] = {};
  double Total() {
    for (uint64_t half = kBlock / 2; half > 0; half /= 2) {
      for (uint64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
  }
};

ZIPML_INLINE void Add(uint64_t n, const double *__restrict a, double *__restrict lanes) {
  for (uint64_t i = 0; i < n; ++i) lanes[i] += a[i];
}

ZIPML_INLINE void AddProducts(uint64_t n, const double *__restrict a, const double *__restrict b,
                              double *__restrict lanes) {
  for (uint64_t i = 0; i < n; ++i) lanes[i] += a[i] * b[i];
}

}  // namespace zipml
