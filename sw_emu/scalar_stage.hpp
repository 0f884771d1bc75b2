// What happens to a batch between its dot products and its update, and to the model behind it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "clones.h"
#include "values.hpp"
#include "zipml/arithmetic.hpp"
#include "zipml/config.hpp"
#include "zipml/random.hpp"

extern "C" {
#include "abi.h"
}

namespace zipml {
namespace {

// Two stages of a step as loops without branches, for compilers to vectorize. They are
// SampleCoefficients, without weights, and UpdateEntry for many; tests hold them against the
// kernel.

/// Saturate, with a counter as wide as the values.
inline int64_t Clamp(int64_t value, int64_t &saturations) {
  const int64_t limit = 0x7fffffff;
  const int64_t clamped = std::min(std::max(value, -limit), limit);
  saturations += value != clamped;
  return clamped;
}

/// What a stage counted: values that saturated, and margins outside of a table.
struct StageCounts {
  uint32_t saturations, outside;
};

/// Derivatives of a tabulated loss in place of margins.
ZIPML_BODY void LookUpDerivatives(uint32_t range_log2, const int32_t *table, uint32_t count,
                                  int32_t *values, int64_t &outside) {
  const int shift = kModelFractionBits + static_cast<int>(range_log2) + 1 - kDerivativeTableLog2;
  const int64_t range = int64_t{1} << (kModelFractionBits + range_log2);
  const int64_t last = (1 << kDerivativeTableLog2) - 1;
  for (uint32_t s = 0; s < count; ++s) {
    const int64_t margin = values[s], inside = std::min(std::max(margin, -range), range);
    outside += margin != inside;
    const int64_t index = std::min((inside + range) >> shift, last);
    const int64_t fraction = inside + range - (index << shift);
    const int64_t left = table[index], right = table[index + 1];
    values[s] = static_cast<int32_t>(left + RoundShift((right - left) * fraction, shift));
  }
}

/// The scalar stage without weights, of every loss but the polynomial: coefficients of samples from
/// one of their dot products each. One thing after the other for all samples, for GCC vectorizes
/// that, and not all of it in one loop.
ZIPML_BODY StageCounts ScalarStageBody(ValueFormat format, const LossRegisters &r,
                                       const int64_t *dots, const int32_t *labels,
                                       const int32_t *table, uint32_t count,
                                       int32_t *coefficients) {
  const int value_shift = ValueFractionBits(format);
  const int64_t step = r.step, step_negative = r.step_negative;
  const int32_t one = 1 << kModelFractionBits;
  const bool least_squares = r.loss == kLeastSquares;
  int64_t saturations = 0, outside = 0;
  for (uint32_t s = 0; s < count; ++s) {
    const int64_t target = least_squares ? static_cast<int64_t>(labels[s]) * (1 << value_shift) : 0;
    const int64_t z = Clamp(RoundShift(dots[s] - target, value_shift), saturations);
    // a residual, or a margin
    coefficients[s] = static_cast<int32_t>(labels[s] < 0 && !least_squares ? -z : z);
  }
  if (r.loss == kHinge) {
    for (uint32_t s = 0; s < count; ++s) coefficients[s] = coefficients[s] < one ? one : 0;
  } else if (r.loss == kSquaredHinge) {
    for (uint32_t s = 0; s < count; ++s) {
      const int64_t below = int64_t{one} - std::min(coefficients[s], one);
      coefficients[s] = static_cast<int32_t>(Clamp(below, saturations));
    }
  } else if (!least_squares) {
    LookUpDerivatives(r.range_log2, table, count, coefficients, outside);
  }
  const int shift = kModelFractionBits + kStepFractionBits - kCoefficientFractionBits;
  for (uint32_t s = 0; s < count; ++s) {
    const bool turns = labels[s] >= 0 && !least_squares;
    const int64_t derivative = turns ? -int64_t{coefficients[s]} : int64_t{coefficients[s]};
    const int64_t product = derivative * (labels[s] < 0 ? step_negative : step);
    coefficients[s] = static_cast<int32_t>(Clamp(RoundShift(product, shift), saturations));
  }
  return {static_cast<uint32_t>(saturations), static_cast<uint32_t>(outside)};
}
ZIPML_CLONES(ScalarStage)

/// The same for one loss, in one loop, where nothing saturates; false, and no coefficients that
/// count, where something would.
template <uint32_t kLoss>
ZIPML_BODY bool QuickStageBody(int value_shift, int64_t step, int64_t step_negative,
                               const int64_t *dots, const int32_t *labels, uint32_t count,
                               int32_t *coefficients) {
  const int64_t limit = 0x7fffffff, one = 1 << kModelFractionBits;
  const int shift = kModelFractionBits + kStepFractionBits - kCoefficientFractionBits;
  int64_t room = 0;  // negative once something left 32 bits
  for (uint32_t s = 0; s < count; ++s) {
    const int64_t label = labels[s];
    const int64_t target = kLoss == kLeastSquares ? label * (int64_t{1} << value_shift) : 0;
    const int64_t z = RoundShift(dots[s] - target, value_shift);
    room |= (limit - z) | (limit + z);
    int64_t derivative = z;
    if (kLoss != kLeastSquares) {
      const int64_t margin = label < 0 ? -z : z;
      const int64_t below =
          kLoss == kHinge ? (margin < one ? one : 0) : one - std::min(margin, one);
      room |= limit - below;
      derivative = label < 0 ? below : -below;
    }
    const int64_t factor = label < 0 ? step_negative : step;
    // modulo 2^64 where z left 32 bits
    const uint64_t product = static_cast<uint64_t>(derivative) * static_cast<uint64_t>(factor);
    const int64_t c = static_cast<int64_t>(product + (uint64_t{1} << (shift - 1))) >> shift;
    room |= (limit - c) | (limit + c);
    coefficients[s] = static_cast<int32_t>(c);
  }
  return room >= 0;
}

/// Applies the gradient sums * 2^scale - offset to the first `size` entries; returns how many
/// saturated. Without decay a multiplication is left out; without shifts all round alike.
/// \param shifts, corrections  of these entries' features, both or none
template <bool kDecays, bool kEach>
ZIPML_BODY uint32_t UpdateLoop(ValueFormat format, const int64_t *sums, int scale, int64_t offset,
                               uint32_t decay, const int32_t *shifts, const int32_t *corrections,
                               uint32_t size, int32_t *model) {
  const int decay_shift = kModelFractionBits + kDecayFractionBits - GradientFractionBits(format);
  const int shift = GradientFractionBits(format) - kModelFractionBits;
  int64_t saturations = 0;
  for (uint32_t j = 0; j < size; ++j) {
    int64_t gradient = ShiftLeft(sums[j], scale) - offset;
    if (kDecays) gradient += RoundShift(static_cast<int64_t>(model[j]) * decay, decay_shift);
    if (kEach) gradient += CorrectionTerm(format, corrections[j]);
    const int64_t change = kEach ? RoundChange(format, gradient, static_cast<uint32_t>(shifts[j]))
                                 : RoundShift(gradient, shift);
    model[j] = static_cast<int32_t>(Clamp(model[j] - change, saturations));
  }
  return static_cast<uint32_t>(saturations);
}

/// \param shifts, corrections  null: none
ZIPML_BODY uint32_t UpdateModelBody(ValueFormat format, const int64_t *sums, int scale,
                                    int64_t offset, uint32_t decay, const int32_t *shifts,
                                    const int32_t *corrections, uint32_t size, int32_t *model) {
  // called by name, for what is called by pointer is not inlined
#define ZIPML_UPDATE(DECAYS, SHIFTS) \
  UpdateLoop<DECAYS, SHIFTS>(format, sums, scale, offset, decay, shifts, corrections, size, model)
  if (shifts != nullptr) {
    return decay == 0 ? ZIPML_UPDATE(false, true) : ZIPML_UPDATE(true, true);
  }
  return decay == 0 ? ZIPML_UPDATE(false, false) : ZIPML_UPDATE(true, false);
#undef ZIPML_UPDATE
}
ZIPML_CLONES(UpdateModel)

/// The proximal step of the l1 norm for `size` entries.
/// \param shifts  null: none
ZIPML_BODY void ShrinkModelBody(uint32_t threshold, const int32_t *shifts, uint32_t size,
                                int32_t *model) {
  for (uint32_t j = 0; j < size; ++j) {
    model[j] =
        Shrink(model[j], threshold, shifts == nullptr ? 0 : static_cast<uint32_t>(shifts[j]));
  }
}
ZIPML_CLONES(ShrinkModel)

/// As many groups as are drawn for at once, a vector of the compiler's.
typedef uint32_t Groups __attribute__((vector_size(64)));
constexpr uint32_t kGroupsDrawn = sizeof(Groups) / sizeof(uint32_t);

/// The same with signs, for entries of the model.
typedef int32_t Entries __attribute__((vector_size(64)));

/// A model quantized: what it adds up to, in its unit, and how many entries were clipped.
struct Quantized {
  int64_t sum;
  uint32_t clipped;
};

inline void StoreLevels(const Entries &levels, int shift, uint32_t count, int32_t *to) {
  const Entries entries = levels << shift;
  std::memcpy(to, &entries, count * sizeof(int32_t));
}
inline void StoreLevels(const Entries &levels, int, uint32_t count, int8_t *to) {
  typedef int8_t Bytes __attribute__((vector_size(kGroupsDrawn)));
  const Bytes bytes = __builtin_convertvector(levels, Bytes);
  std::memcpy(to, &bytes, count);
}

/// Rounds entries to multiples of 2^shift.
struct LevelRounding {
  int shift;
  int32_t top;  // the largest multiple
  Entries sums = {0}, clipped = {0};

  /// Of at most 16 entries; in 32 bits, where Rounded has 64.
  /// \tparam kFits  no entry is beyond the largest multiple, so nothing is clipped or overflows
  template <bool kFits, class TLevel>
  ZIPML_BODY void Round(const Groups &numbers, uint32_t count, const int32_t *entries,
                        TLevel *rounded) {
    Entries x = {0}, random;
    std::memcpy(&x, entries, count * sizeof(int32_t));
    std::memcpy(&random, &numbers, sizeof(random));
    Entries level;
    if (kFits) {
      level = (x + random) >> shift;
    } else {
      const int32_t below = (1 << shift) - 1;
      level = (x >> shift) + (((x & below) + random) >> shift);
      const Entries before = level, most = (x ^ x) + top;
      level = level < most ? level : most;
      level = level > -most ? level : -most;
      clipped = level != before ? clipped + 1 : clipped;
    }
    sums += level;
    StoreLevels(level, shift, count, rounded);
  }
};

/// Q_m of a share of the model that begins with feature group `group`.
/// \param places  of every bit of a feature's lane: which bit of a position it is
/// \tparam TLevel  of what it is rounded to: entries in 32 bits, or bytes, in multiples of the unit
template <bool kFits, class TLevel>
ZIPML_BODY Quantized QuantizeBody(const ZipmlArguments &a, uint32_t update, uint32_t group,
                                  const uint32_t places[kDrawFeaturesLog2], uint32_t size,
                                  const int32_t *entries, TLevel *rounded) {
  constexpr uint32_t kLanes = kGroupsDrawn;
  const int shift = static_cast<int>(ModelShift(a.model_shift, a.model_bits));
  LevelRounding rounding = {shift, (1 << (a.model_bits - 1)) - 1};
  const Groups lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  Groups bits[4];  // ones where a lane's number has the bit
  for (uint32_t i = 0; i < 4; ++i) bits[i] = 0u - (lanes >> i & 1);
  for (uint32_t j = 0; j < size; group += kLanes) {
    const WordsOf<Groups> drawn = DrawWords(a.seed, update, lanes + group);
    // what each bit of a position adds to a number, by exclusive or, and what all begin with
    Groups words[kDrawFeaturesLog2], slope = drawn.word[0];
    for (int bit = 0; bit < kDrawFeaturesLog2; ++bit) {
      words[places[bit]] = (slope >> 1) >> (31 - shift);
      slope = TimesX(slope);
    }
    const Groups offset = (drawn.word[1] >> 1) >> (31 - shift);
    for (uint32_t i = 0; i < kLanes && j < size; ++i, j += kDrawFeatures) {
      Groups first = (lanes ^ lanes) + offset[i];
      for (int bit = 0; bit < 4; ++bit) first ^= bits[bit] & words[bit][i];
      const Groups second = first ^ words[4][i];
      const Groups numbers[] = {first, second, first ^ words[5][i], second ^ words[5][i]};
      if (j + kDrawFeatures <= size) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < kDrawFeatures; v += kLanes) {
          rounding.Round<kFits>(numbers[v / kLanes], kLanes, entries + j + v, rounded + j + v);
        }
      } else {
        for (uint32_t v = 0; j + v < size; v += kLanes) {
          rounding.Round<kFits>(numbers[v / kLanes], std::min(kLanes, size - j - v),
                                entries + j + v, rounded + j + v);
        }
      }
    }
  }
  Quantized all = {0, 0};
  for (uint32_t i = 0; i < kLanes; ++i) {
    all.sum += rounding.sums[i];
    all.clipped += static_cast<uint32_t>(rounding.clipped[i]);
  }
  return all;
}

/// \param largest  magnitude of an entry
template <class TLevel>
Quantized Quantize(const ZipmlArguments &a, uint32_t update, uint32_t group,
                   const uint32_t places[kDrawFeaturesLog2], uint32_t size, const int32_t *entries,
                   uint32_t largest, TLevel *rounded) {
  const uint32_t top = ((1u << (a.model_bits - 1)) - 1) << ModelShift(a.model_shift, a.model_bits);
  const auto quantize = largest <= top ? ZIPML_BEST(QuantizeBody<true, TLevel>)
                                       : ZIPML_BEST(QuantizeBody<false, TLevel>);
  return quantize(a, update, group, places, size, entries, rounded);
}

/// Sums over coefficients: of those of base planes, and of all magnitudes.
struct CoefficientSums {
  int64_t total, magnitude;
};

ZIPML_BODY CoefficientSums SumCoefficientsBody(const int32_t *one, const int32_t *two,
                                               uint32_t count) {
  int64_t total = 0, magnitude = 0;
  for (uint32_t s = 0; s < count; ++s) {
    const int64_t a = one[s], b = two[s];
    total += a + b;
    magnitude += std::abs(a) + std::abs(b);
  }
  return {total, magnitude};
}
ZIPML_CLONES(SumCoefficients)

/// What happens to a batch between its dot products and its update.
class Scalars {
 public:
  Scalars(uint32_t word_bits, const ZipmlArguments &a, const Shape &s)
      : a_(a),
        s_(s),
        full_row_(static_cast<size_t>(s.full_words) * (word_bits / 64)),
        quick_(a.loss == kLeastSquares   ? ZIPML_BEST(QuickStageBody<kLeastSquares>)
               : a.loss == kHinge        ? ZIPML_BEST(QuickStageBody<kHinge>)
               : a.loss == kSquaredHinge ? ZIPML_BEST(QuickStageBody<kSquaredHinge>)
                                         : nullptr) {}

  /// \param row  of the schedule
  void SetEpoch(const uint32_t *row) {
    losses_ = {a_.sampling, a_.loss, a_.range_log2, row[kStep], row[kStepNegative]};
  }

  /// The model that dot products see, in the order of the features.
  void SetModel(const std::vector<int32_t> &model) {
    if (s_.format != kRefetch) return;
    model_ = model.data();
    norm_ = 0;
    for (uint32_t j = 0; j < a_.features; ++j) norm_ += Magnitude(model[j]);
  }

  /// Whether the samples' coefficients come from one dot product each, by `Each`.
  bool Separate() const {
    return a_.loss != kPolynomial && s_.format != kRefetch && (a_.flags & kFlagWeights) == 0;
  }

  /// Coefficients of so many samples from `sample` on.
  void Each(size_t sample, uint32_t count, const int64_t *dots, int32_t *coefficients) {
    if (quick_ != nullptr &&
        quick_(ValueFractionBits(s_.format), losses_.step, losses_.step_negative, dots,
               a_.labels + sample, count, coefficients)) {
      return;
    }
    const StageCounts counts = ScalarStage(s_.format, losses_, dots, a_.labels + sample,
                                           a_.derivative, count, coefficients);
    saturations += counts.saturations;
    outside += counts.outside;
  }

  /// \param dot  of an independent sample by its number
  template <class TDot>
  Coefficients Of(size_t sample, const TDot &dot) {
    const bool weighted = (a_.flags & kFlagWeights) != 0;
    const int32_t label = a_.labels[weighted ? 2 * sample : sample];
    const int32_t weight = weighted ? a_.labels[2 * sample + 1] : 1 << kWeightFractionBits;
    if (a_.loss == kPolynomial) {
      Polynomial polynomial = {0, 0, 0};
      for (uint32_t term = 1; term <= a_.degree; ++term) {
        const int32_t margin = Margin(s_.format, dot(term - 1), label, saturations);
        polynomial =
            NextTerm(polynomial, term, margin, a_.range_log2, a_.derivative, saturations, outside);
      }
      return PolynomialCoefficients(losses_, polynomial, label, weight, saturations);
    }
    int64_t first = a_.sampling == kDoublePlain ? 0 : dot(0);
    int64_t second = a_.sampling == kSingle ? 0 : dot(1);
    if (s_.format == kRefetch &&
        InDoubt(s_.format, a_.bits, a_.sampling, first, second, label, norm_)) {
      first = second = FullDot(sample);
      ++refetched;
    }
    return SampleCoefficients(s_.format, losses_, first, second, label, weight, a_.derivative,
                              a_.derivative, saturations, outside);
  }

  uint32_t saturations = 0, outside = 0, refetched = 0;

 private:
  int64_t FullDot(size_t sample) {
    row_.resize(a_.features);
    ConvertFloats(a_.full + sample * full_row_, a_.features, row_.data());
    return DotFloats(row_.data(), model_, a_.features);
  }

  const ZipmlArguments &a_;
  const Shape &s_;
  size_t full_row_;                                       // in uint64
  decltype(&QuickStageBody<kLeastSquares>) const quick_;  // of this loss, or null
  LossRegisters losses_ = {};
  const int32_t *model_ = nullptr;
  uint64_t norm_ = 0;
  std::vector<int32_t> row_;
};

}  // namespace
}  // namespace zipml
