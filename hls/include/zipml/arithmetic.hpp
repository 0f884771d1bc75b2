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
inline int BaseWeight(ValueFormat format, int plane) {
  return ValueFractionBits(format) - 1 - plane;
}

/// Power of two by which a dither plane counts at `bits` bits.
inline int DitherWeight(ValueFormat format, int bits) { return MaxBits(format) - bits; }

/// Base planes and dither planes that one precision streams.
/// \param degree  of the polynomial, counts for independent samples alone
inline uint32_t BasePlanes(uint32_t bits) { return bits - 1; }
inline uint32_t DitherPlanes(uint32_t sampling, uint32_t degree) {
  return sampling == kIndependent ? degree + 1 : sampling == kSingle ? 1 : 2;
}

/// The margin y z of one dot product, y the sign of the label.
/// \param dot  sum over features of value times model entry, kModelFractionBits +
///             ValueFractionBits fraction bits
inline int32_t Margin(ValueFormat format, int64_t dot, int32_t label, uint32_t &saturations) {
  const int32_t z = Saturate(RoundShift(dot, ValueFractionBits(format)), saturations);
  return label < 0 ? -z : z;
}

/// A tabulated derivative at a margin, interpolated; held at the ends beyond [-R, R], R =
/// 2^range_log2, and counted there.
inline int32_t TableDerivative(int32_t margin, uint32_t range_log2,
                               const int32_t table[(1 << kDerivativeTableLog2) + 1],
                               uint32_t &outside) {
  const int shift = kModelFractionBits + static_cast<int>(range_log2) + 1 - kDerivativeTableLog2;
  const int64_t range = static_cast<int64_t>(1) << (kModelFractionBits + range_log2);
  const bool beyond = margin < -range || margin > range;
  if (beyond) ++outside;
  const int64_t inside = margin < -range ? -range : margin > range ? range : margin;
  const uint64_t place = static_cast<uint64_t>(inside + range);
  const uint32_t last = (1u << kDerivativeTableLog2) - 1;
  const uint32_t found = static_cast<uint32_t>(place >> shift);
  const uint32_t index = found > last ? last : found;
  const int64_t fraction = static_cast<int64_t>(place - (static_cast<uint64_t>(index) << shift));
  const int64_t left = table[index];
  const int64_t right = table[index + 1];
  // at most 2^shift, which is below 2^22: 33 by 32 bits are multiplied
  const int64_t part = static_cast<int32_t>(fraction);
  return static_cast<int32_t>(left + RoundShift((right - left) * part, shift));
}

/// Derivative of a loss at one dot product, kModelFractionBits fraction bits.
/// \param label    kModelFractionBits fraction bits; of a loss of the margin the sign counts
/// \param table    of the loss kTable
/// \param outside  counts margins outside [-R, R]
inline int32_t LossDerivative(ValueFormat format, uint32_t loss, uint32_t range_log2, int64_t dot,
                              int32_t label, const int32_t table[(1 << kDerivativeTableLog2) + 1],
                              uint32_t &saturations, uint32_t &outside) {
  if (loss == kLeastSquares) {
    const int value_shift = ValueFractionBits(format);
    const int64_t exact = dot - static_cast<int64_t>(label) * (1 << value_shift);
    return Saturate(RoundShift(exact, value_shift), saturations);
  }
  const int64_t one = static_cast<int64_t>(1) << kModelFractionBits;
  const int32_t margin = Margin(format, dot, label, saturations);
  int32_t size;
  if (loss == kHinge) {
    size = margin < one ? static_cast<int32_t>(one) : 0;
  } else if (loss == kSquaredHinge) {
    size = margin < one ? Saturate(one - margin, saturations) : 0;
  } else {
    size = TableDerivative(margin, range_log2, table, outside);
  }
  return label < 0 ? size : -size;
}

/// A polynomial of independent margins while their planes arrive: sum_k p_k T_k, where T_0 = 1,
/// T_1 = t_1 and T_k = 2 t_k T_{k-1} - T_{k-2}. Every t is new to what it multiplies, so the mean
/// of T_k is the Chebyshev polynomial of the mean.
struct Polynomial {
  int32_t latest;    // T_k
  int32_t previous;  // T_{k-1}
  int32_t sum;
};

/// The polynomial with its next factor, t = margin / R.
/// \param term          from 1 to the degree
/// \param coefficients  of the Chebyshev polynomials, kDerivativeFractionBits fraction bits
inline Polynomial NextTerm(Polynomial before, uint32_t term, int32_t margin, uint32_t range_log2,
                           const int32_t coefficients[kMaxDegree + 1], uint32_t &saturations,
                           uint32_t &outside) {
  const int64_t range = static_cast<int64_t>(1) << (kModelFractionBits + range_log2);
  if (margin < -range || margin > range) ++outside;
  // twice the margin first, so that the shift is never 0
  // no larger than the margin, so that 32 by 32 bits are multiplied
  const int64_t t = static_cast<int32_t>(
      RoundShift(static_cast<int64_t>(margin) * 2, static_cast<int>(range_log2) + 1));
  Polynomial after;
  // a shift by one bit less doubles
  const int64_t doubled = term == 1 ? 0 : RoundShift(before.latest * t, kModelFractionBits - 1);
  after.latest =
      term == 1 ? static_cast<int32_t>(t) : Saturate(doubled - before.previous, saturations);
  after.previous = term == 1 ? 1 << kModelFractionBits : before.latest;
  const int64_t sum = term == 1 ? coefficients[0] : before.sum;
  const int64_t added = static_cast<int64_t>(coefficients[term]) * after.latest;
  after.sum = Saturate(sum + RoundShift(added, kDerivativeFractionBits), saturations);
  return after;
}

/// Coefficient of one sample from its loss's derivative: derivative * weight * step / batch.
/// \param weight  kWeightFractionBits fraction bits
/// \param step    step / batch, kStepFractionBits fraction bits
inline int32_t Coefficient(int32_t derivative, int32_t weight, uint32_t step,
                           uint32_t &saturations) {
  const int64_t exact = static_cast<int64_t>(derivative) * weight;
  const int64_t weighted = Saturate(RoundShift(exact, kWeightFractionBits), saturations);
  const int shift = kModelFractionBits + kStepFractionBits - kCoefficientFractionBits;
  return Saturate(RoundShift(weighted * static_cast<int64_t>(step), shift), saturations);
}

/// The two coefficients of one sample, one for each of its dot products. Where only one dot product
/// exists or counts, both hold its coefficient.
struct Coefficients {
  int32_t first;   // from Q1
  int32_t second;  // from Q2
};

/// What a run's samples have in common.
struct LossRegisters {
  uint32_t sampling;
  uint32_t loss;
  uint32_t range_log2;
  uint32_t step;           // step / batch of samples with labels >= 0
  uint32_t step_negative;  // of the others
};

/// Coefficients of one sample from its dot products, for every loss but the polynomial.
/// \param table_first, table_second  the same table: hardware reads two places of each at once
inline Coefficients SampleCoefficients(ValueFormat format, const LossRegisters &r,
                                       int64_t dot_first, int64_t dot_second, int32_t label,
                                       int32_t weight, const int32_t *table_first,
                                       const int32_t *table_second, uint32_t &saturations,
                                       uint32_t &outside) {
  const uint32_t step = label < 0 ? r.step_negative : r.step;
  Coefficients c = {0, 0};
  if (r.sampling == kSingle || r.sampling == kDoubleSymmetric) {
    const int32_t derivative = LossDerivative(format, r.loss, r.range_log2, dot_first, label,
                                              table_first, saturations, outside);
    c.first = Coefficient(derivative, weight, step, saturations);
  }
  if (r.sampling == kDoublePlain || r.sampling == kDoubleSymmetric) {
    const int32_t derivative = LossDerivative(format, r.loss, r.range_log2, dot_second, label,
                                              table_second, saturations, outside);
    c.second = Coefficient(derivative, weight, step, saturations);
  }
  if (r.sampling == kSingle) c.second = c.first;
  if (r.sampling == kDoublePlain) c.first = c.second;
  return c;
}

/// Coefficients of one sample from its polynomial.
inline Coefficients PolynomialCoefficients(const LossRegisters &r, const Polynomial &polynomial,
                                           int32_t label, int32_t weight, uint32_t &saturations) {
  const uint32_t step = label < 0 ? r.step_negative : r.step;
  const int32_t derivative = label < 0 ? polynomial.sum : -polynomial.sum;
  const int32_t c = Coefficient(derivative, weight, step, saturations);
  return {c, c};
}

/// |value| of a model entry, which is symmetric.
inline uint32_t Magnitude(int32_t value) {
  return static_cast<uint32_t>(value < 0 ? -static_cast<int64_t>(value) : value);
}

/// Whether quantization may have moved a sample's margin to the other side of the hinge: a sample
/// of a value is less than an interval of the grid away from it, so a dot product is off by less
/// than that times the model's l1 norm.
/// \param norm  sum of the magnitudes of the model's entries
inline bool InDoubt(ValueFormat format, uint32_t bits, uint32_t sampling, int64_t dot_first,
                    int64_t dot_second, int32_t label, uint64_t norm) {
  const int64_t one = static_cast<int64_t>(1) << kModelFractionBits;
  // twice the norm first: the interval is 2^(2 - bits)
  const int64_t bound = static_cast<int64_t>(norm * 2 >> (bits - 1)) + 1;
  bool doubt = false;
  for (int i = 0; i < 2; ++i) {
    const bool counts = i == 0 ? sampling != kDoublePlain : sampling != kSingle;
    const int64_t z = RoundShift(i == 0 ? dot_first : dot_second, ValueFractionBits(format));
    const int64_t gap = one - (label < 0 ? -z : z);
    if (counts && gap <= bound && gap >= -bound) doubt = true;
  }
  return doubt;
}

/// What one set bit of a base plane adds to twice the gradient (a clear bit subtracts it), before
/// the plane's weight. Symmetric: Q1 c2 + Q2 c1. Otherwise: 2 Q c, Q the one sample that counts.
inline int64_t BaseCoefficient(Coefficients c) { return static_cast<int64_t>(c.first) + c.second; }

/// The same of a dither plane: it counts for its own sample alone. Where samples are whole values,
/// they count like their dithers.
/// \param dither, dithers  which of how many
inline int64_t DitherCoefficient(uint32_t sampling, uint32_t dither, uint32_t dithers,
                                 Coefficients c) {
  if (sampling == kDoubleSymmetric) return dither == 0 ? c.second : c.first;
  const uint32_t outer = sampling == kIndependent ? dithers - 1 : 0;
  return dither == outer ? BaseCoefficient(c) : 0;
}

/// Log2 of a feature's step over the run's, from its word in memory; the host checks it before.
inline uint32_t FeatureShiftOf(int32_t word) {
  const uint32_t shift = static_cast<uint32_t>(word) & 15;
  return shift > kMaxFeatureShift ? kMaxFeatureShift : shift;
}

/// What a sum of GradientFractionBits changes a model entry by: 2^feature_shift times as much,
/// rounded to its unit, half up. Twice that is cut to an integer, and half of that is rounded up;
/// where the unit is no larger than the sum's, nothing is lost. Sums are below 2^48, 2^55 with
/// tables of levels, or 2^56 with wide planes, decay and correction included, so a lane shifts 51
/// bits, right alone, and no result reaches 2^50.
inline int64_t RoundChange(ValueFormat format, int64_t sum, uint32_t feature_shift) {
  const int up = kMaxFeatureShift + 1 - (GradientFractionBits(format) - kModelFractionBits);
  const int64_t largest_step = up > 0 ? ShiftLeft(sum, up) : sum >> -up;
  return ((largest_step >> (kMaxFeatureShift - feature_shift)) + 1) >> 1;
}

/// A correction with as many fraction bits as a sum over one batch has.
inline int64_t CorrectionTerm(ValueFormat format, int32_t correction) {
  return ShiftLeft(correction, GradientFractionBits(format) - kCorrectionFractionBits);
}

/// New model entry: x - 2^feature_shift * (gradient + correction + decay * x), rounded once,
/// saturated.
/// \param format         what values are
/// \param gradient       GradientFractionBits fraction bits, step and batch included
/// \param decay          step * l2, kDecayFractionBits fraction bits; the lowest kDecayBits bits
///                       count, which the host guarantees to be all: a lane multiplies 32 by 24
/// \param correction     kCorrectionFractionBits fraction bits, step included
/// \param feature_shift  0 to kMaxFeatureShift
inline int32_t UpdateEntry(ValueFormat format, int32_t x, int64_t gradient, uint32_t decay,
                           int32_t correction, uint32_t feature_shift, uint32_t &saturations) {
  const int decay_shift = kModelFractionBits + kDecayFractionBits - GradientFractionBits(format);
  const int64_t factor = decay & ((1u << kDecayBits) - 1);
  const int64_t shrink = RoundShift(static_cast<int64_t>(x) * factor, decay_shift);
  const int64_t sum = gradient + shrink + CorrectionTerm(format, correction);
  return Saturate(x - RoundChange(format, sum, feature_shift), saturations);
}

/// The proximal step of the l1 norm: an entry nearer to 0 by 2^feature_shift thresholds, or 0.
/// \param threshold      step * l1, kModelFractionBits fraction bits; the lowest kThresholdBits
///                       bits count, which the host guarantees to be all
/// \param feature_shift  0 to kMaxFeatureShift
inline int32_t Shrink(int32_t x, uint32_t threshold, uint32_t feature_shift) {
  const int64_t by = static_cast<int64_t>(threshold & ((1u << kThresholdBits) - 1))
                     << feature_shift;
  const int64_t size = static_cast<int64_t>(Magnitude(x)) - by;
  if (size <= 0) return 0;
  return static_cast<int32_t>(x < 0 ? -size : size);
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
