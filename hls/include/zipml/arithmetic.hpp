// The arithmetic of one training step, in plain integers: what the kernel and the engine share, so
// that they cannot differ. Formulas, widths and the proof that no sum overflows:
// docs/arithmetic.md.
#pragma once

#include <cstdint>

#include "zipml/config.hpp"

namespace zipml {

/// Rounds half up: floor(value / 2^shift + 1/2). Right shifts of negative numbers are arithmetic in
/// every compiler this code targets (and by definition from C++20 on).
inline int64_t RoundShift(int64_t value, int shift) {
  return (value + (static_cast<int64_t>(1) << (shift - 1))) >> shift;
}

/// value * 2^shift, defined for negative values too.
inline int64_t ShiftLeft(int64_t value, int shift) {
  return static_cast<int64_t>(static_cast<uint64_t>(value) << shift);
}

/// Clamps to +-(2^31 - 1), symmetric, so that a negation never overflows; counts what it clamped.
inline int32_t Saturate(int64_t value, uint32_t &saturations) {
  const int64_t limit = 0x7fffffff;
  if (value > limit) {
    ++saturations;
    return static_cast<int32_t>(limit);
  }
  if (value < -limit) {
    ++saturations;
    return static_cast<int32_t>(-limit);
  }
  return static_cast<int32_t>(value);
}

/// Power of two by which a base plane counts; plane 0 is the most significant.
inline int BaseWeight(int plane) { return kGridBits - 1 - plane; }

/// Power of two by which a dither plane counts at `bits` bits.
inline int DitherWeight(int bits) { return kMaxBits - bits; }

/// Base planes and dither planes that one precision streams.
inline uint32_t BasePlanes(uint32_t bits) { return bits - 1; }
inline uint32_t DitherPlanes(uint32_t sampling) { return sampling == kSingle ? 1 : 2; }

/// Coefficient of one sample for one of its dot products: (dot - label) * step / batch.
/// \param format what values are
/// \param dot    sum over features of value times model entry, kModelFractionBits +
///               ValueFractionBits fraction bits
/// \param label  kModelFractionBits fraction bits
/// \param step   step / batch, kStepFractionBits fraction bits
inline int32_t SampleCoefficient(ValueFormat format, int64_t dot, int32_t label, uint32_t step,
                                 uint32_t &saturations) {
  const int value_shift = ValueFractionBits(format);
  const int64_t exact = dot - static_cast<int64_t>(label) * (1 << value_shift);
  const int64_t residual = Saturate(RoundShift(exact, value_shift), saturations);
  const int shift = kModelFractionBits + kStepFractionBits - kCoefficientFractionBits;
  return Saturate(RoundShift(residual * static_cast<int64_t>(step), shift), saturations);
}

/// The two coefficients of one sample, one for each of its dot products. Where only one dot product
/// exists or counts, both hold its coefficient.
struct Coefficients {
  int32_t first;   // from Q1
  int32_t second;  // from Q2
};

inline Coefficients SampleCoefficients(ValueFormat format, uint32_t sampling, int64_t dot_first,
                                       int64_t dot_second, int32_t label, uint32_t step,
                                       uint32_t &saturations) {
  Coefficients c;
  if (sampling == kDoubleSymmetric) {
    c.first = SampleCoefficient(format, dot_first, label, step, saturations);
    c.second = SampleCoefficient(format, dot_second, label, step, saturations);
  } else {
    const int64_t dot = sampling == kSingle ? dot_first : dot_second;
    c.first = SampleCoefficient(format, dot, label, step, saturations);
    c.second = c.first;
  }
  return c;
}

/// What one set bit of a plane adds to twice the gradient (a clear bit subtracts it), before the
/// plane's weight. Symmetric: Q1 c2 + Q2 c1. Plain and single: 2 Q1 c. A dither bit counts for its
/// own sample alone; where samples are whole values, they count like their dithers.
inline int64_t BaseCoefficient(Coefficients c) { return static_cast<int64_t>(c.first) + c.second; }

inline int64_t FirstDitherCoefficient(uint32_t sampling, Coefficients c) {
  return sampling == kDoubleSymmetric ? static_cast<int64_t>(c.second) : BaseCoefficient(c);
}

inline int64_t SecondDitherCoefficient(uint32_t sampling, Coefficients c) {
  return sampling == kDoubleSymmetric ? static_cast<int64_t>(c.first) : 0;
}

/// New model entry: x - gradient - decay * x, rounded once, saturated.
/// \param format    what values are
/// \param gradient  GradientFractionBits fraction bits, step and batch included
/// \param decay     step * l2, kDecayFractionBits fraction bits; the lowest kDecayBits bits count,
///                  which the host guarantees to be all: a lane multiplies 32 by 24 bits
inline int32_t UpdateEntry(ValueFormat format, int32_t x, int64_t gradient, uint32_t decay,
                           uint32_t &saturations) {
  const int decay_shift = kModelFractionBits + kDecayFractionBits - GradientFractionBits(format);
  const int64_t factor = decay & ((1u << kDecayBits) - 1);
  const int64_t shrink = RoundShift(static_cast<int64_t>(x) * factor, decay_shift);
  const int shift = GradientFractionBits(format) - kModelFractionBits;
  return Saturate(x - RoundShift(gradient + shrink, shift), saturations);
}

/// A float32 sample as fixed point with kFloatFractionBits fraction bits, clamped to [-1, 1]:
/// round half away from zero. NaN and infinity clamp (the host refuses them before this).
inline int32_t FixedFromFloatBits(uint32_t word) {
  const int exponent = static_cast<int>((word >> 23) & 0xff);
  const uint32_t mantissa = (word & 0x7fffffu) | 0x800000u;
  const int shift = 127 - exponent;
  uint32_t magnitude = 0;
  if (shift <= 0) {
    magnitude = 1u << kFloatFractionBits;
  } else if (shift <= 24) {
    magnitude = (mantissa + (1u << (shift - 1))) >> shift;
  }
  const int32_t value = static_cast<int32_t>(magnitude);
  return (word >> 31) != 0 ? -value : value;
}

/// A product of a float32 sample with a model entry or a doubled coefficient is cut to the fraction
/// bits that the bit-plane kernel's sums have, so that both kernels share one scalar stage.
constexpr int kFloatProductShift = kFloatFractionBits - kGridBits;

}  // namespace zipml
