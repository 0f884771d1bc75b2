// Every number that the kernel, the engine and the Python side must agree on, each written once.
// Plain integers only: this header compiles without any vendor header, on any machine.
#pragma once

#include <cstdint>

namespace zipml {

// ---- Number formats (docs/arithmetic.md) ------------------------------------------------------

/// Largest number of bits of one stochastic sample of a value, and with the format kWide.
constexpr int kMaxBits = 8;
constexpr int kWideMaxBits = 16;
/// A value is an integer times 2^-kGridBits at every precision: sum_p u_p 2^(kGridBits-1-p) over
/// the base planes p, plus u_d 2^(kMaxBits-bits) for the dither, with u = +1 for a set bit, -1 for
/// a clear one. The offset of the level grid cancels in this form, so no constant has to be added.
/// With the format kWide, kWideMaxBits takes the place of kMaxBits.
constexpr int kGridBits = kMaxBits - 1;
/// Fraction bits of a model entry and of a label (signed, 32 bits wide).
constexpr int kModelFractionBits = 24;
/// Fraction bits of the step of one sample, step / batch (unsigned, 32 bits wide).
constexpr int kStepFractionBits = 30;
/// Fraction bits of a sample's coefficient, residual * step / batch (signed, 32 bits wide).
constexpr int kCoefficientFractionBits = 28;
/// Fraction bits and width of the decay, step * l2 (unsigned): narrow, so that a lane needs two
/// DSPs.
constexpr int kDecayFractionBits = 28;
constexpr int kDecayBits = 24;
/// Width of what an update takes from the size of every entry, step * l1, in an entry's unit.
constexpr int kThresholdBits = 24;
/// Fraction bits of a correction, what every update adds to a feature's gradient, step included
/// (signed, 32 bits wide, so below 1/2).
constexpr int kCorrectionFractionBits = 32;
/// Fraction bits of a level in a table of levels (signed, 16 bits wide, so -1 and 1 fit).
constexpr int kLevelFractionBits = 14;
/// Fraction bits of a sample's weight (unsigned, 31 bits wide).
constexpr int kWeightFractionBits = 16;
/// Fraction bits of a loss's derivative, in a table or as the coefficients of a polynomial.
constexpr int kDerivativeFractionBits = 24;
/// Fraction bits of a float32 sample after conversion to fixed point in the float32 kernel.
constexpr int kFloatFractionBits = 23;

/// Format of a value in memory, in the capability register.
enum ValueFormat : uint32_t {
  kBitPlanes = 1,  // bit-planes of the uniform grid
  kFloat32 = 2,
  kLevels = 3,   // bit-planes of codes, decoded by tables of levels
  kRefetch = 4,  // bit-planes of the uniform grid, and the same samples as float32 behind them
  kWide = 5,     // bit-planes of the uniform grid, to kWideMaxBits bits
};

/// Most bits of one sample of a value.
constexpr int MaxBits(ValueFormat format) { return format == kWide ? kWideMaxBits : kMaxBits; }

/// Fraction bits of a value as the accelerator computes with it. (A float32 value has more; its
/// products are cut to as many.)
constexpr int ValueFractionBits(ValueFormat format) {
  return format == kLevels ? kLevelFractionBits : MaxBits(format) - 1;
}
/// Whether a kernel has a memory for corrections. Values at full precision need none, and their
/// kernel has no block RAM left on the smallest board.
constexpr bool Corrects(ValueFormat format) { return format != kFloat32; }
/// A sum over one batch has the coefficient's fraction bits, the value's, and one more because
/// coefficients are doubled (the symmetric estimator halves).
constexpr int GradientFractionBits(ValueFormat format) {
  return kCoefficientFractionBits + ValueFractionBits(format) + 1;
}

// ---- Limits of every build ----------------------------------------------------------------------

/// Chunks (words) of one sample's row of one plane: features <= chunks * lanes. A word of float32
/// values has 32 times fewer lanes, so that all formats reach the same number of features.
constexpr int MaxChunksLog2(ValueFormat format) { return format == kFloat32 ? 11 : 6; }
/// Words of one block that are streamed at the chosen precision; with tables of levels, words of
/// each plane.
constexpr int BlockWordsLog2(ValueFormat format) {
  return format == kFloat32 ? 14 : format == kLevels ? 10 : 13;
}
/// Words kept on chip between the dot products of a batch and its update; with tables of levels,
/// parts of words (kLevelParts), all planes of a part together.
constexpr int RingWordsLog2(ValueFormat format) {
  return format == kFloat32 ? 14 : format == kLevels ? 12 : 13;
}
/// With tables of levels a word is trained on in so many parts, one a cycle: its lanes share
/// multipliers and tables. Reading takes at least as long from 3 bits double sampled on.
constexpr int kLevelPartsLog2 = 2;
constexpr int kLevelParts = 1 << kLevelPartsLog2;
/// Levels that one lane's table memory holds, one table behind the other.
constexpr int kLevelTableLog2 = 11;
constexpr int kMaxBatchLog2 = 8;
constexpr int kMaxBatch = 1 << kMaxBatchLog2;
constexpr int kBlockSamplesLog2 = 12;
constexpr int kBlockSamples = 1 << kBlockSamplesLog2;
/// Largest delay in batches. (kMaxDelay + 1) * kMaxBatch coefficients are kept on chip.
constexpr int kMaxDelay = 7;
constexpr int kMaxEpochs = 1 << 16;
/// Intervals of a table of a derivative; entries are one more, and are interpolated linearly.
constexpr int kDerivativeTableLog2 = 10;
/// Largest log2 of the range R: a derivative is tabulated, or approximated, on [-R, R].
constexpr int kMaxRangeLog2 = 6;
/// Dither planes that a block may stream: one for each independent sample of a value.
constexpr int kMaxDithers = 16;
/// Largest degree of a polynomial; each factor needs a sample of its own, the gradient one more.
constexpr int kMaxDegree = kMaxDithers - 1;
/// Largest log2 of a feature's step over the run's, where features have steps of their own.
constexpr int kMaxFeatureShift = 13;
/// Least rows of words between two terms of one sample's polynomial: batch * chunks.
#define ZIPML_POLYNOMIAL_DISTANCE 16
constexpr int kPolynomialDistance = ZIPML_POLYNOMIAL_DISTANCE;
/// Fewest and most bits of a quantized model or gradient.
constexpr int kMinQuantizedBits = 2;
constexpr int kMaxQuantizedBits = 16;
/// Leaves room to count a ragged batch beyond the last sample in 32 bits.
constexpr uint32_t kMaxSamples = 1u << 31;
/// Sums are proven not to overflow up to this number of features (docs/arithmetic.md).
constexpr int kMaxFeaturesLog2 = 15;

// ---- Schedule (docs/schedule.md): pipeline distances, in cycles ---------------------------------
// Those that pragmas repeat are macros: not every tool takes a constant's name in a pragma. Those
// of the feedback paths are in distances.hpp.

/// Turns, of a cycle each, in which a cell gets its new model entries once its sums are complete:
/// one lane in so many has the circuit for it. A cell's update takes at least as long. Words of
/// float32 values have few lanes.
constexpr int CloseTurnsLog2(ValueFormat format) { return format == kFloat32 ? 0 : 3; }
/// From a burst's request to its first word.
#define ZIPML_MEMORY_LATENCY 64
constexpr int kMemoryLatency = ZIPML_MEMORY_LATENCY;
/// Of a draw that nothing overlaps, a round at a time.
constexpr int kDrawLatency = 64;

// ---- Registers
// ---------------------------------------------------------------------------------------

/// Read back in the `version` register: 'Z' 'M', then the version of the register interface.
constexpr uint32_t kInterfaceVersion = 0x5A4D0005u;

/// The `status` register. 0 is what a dead bus reads, so it is no status.
enum Status : uint32_t {
  kStatusOk = 1,
  kStatusSamples = 2,    // none, or more than kMaxSamples
  kStatusFeatures = 3,   // none, or more than the build's limit
  kStatusBits = 4,       // outside 1..MaxBits (bit planes) or not 32 (float32 kernel)
  kStatusSampling = 5,   // not a Sampling, or double sampling on the float32 kernel
  kStatusBatch = 6,      // 0 or over kMaxBatch
  kStatusEpochs = 7,     // 0 or over kMaxEpochs
  kStatusDelay = 8,      // over kMaxDelay
  kStatusBlock = 9,      // block no multiple of the batch, over kBlockSamples or over kBlockWords
  kStatusRing = 10,      // the batches in flight exceed kRingWords
  kStatusPartial = 11,   // hold, pending or skip that do not fit together
  kStatusLevels = 12,    // not one table or one a feature, or tables over kLevelTableLog2
  kStatusLoss = 13,      // unknown, or with a sampling, format or batch that does not go with it
  kStatusQuantize = 14,  // bits of model or gradient outside their range
  kStatusOrder = 15,     // an order of blocks that does not begin or step inside the data set
};

/// The `sampling` register.
enum Sampling : uint32_t {
  kSingle = 0,           // base + one dither: Q1 r(Q1); also deterministic (nearest) rounding
  kDoublePlain = 1,      // Q1 r(Q2)
  kDoubleSymmetric = 2,  // (Q1 r(Q2) + Q2 r(Q1)) / 2
  kIndependent = 3,      // degree + 1 dithers: Q_{d+1} P(Q_1, .., Q_d), for kPolynomial
};

/// The `loss` register: whose derivative a sample's coefficient is. All but the first are losses of
/// the margin m = y z, y the label's sign.
enum Loss : uint32_t {
  kLeastSquares = 0,  // z - y
  kHinge = 1,         // -y where m < 1
  kSquaredHinge = 2,  // -y max(0, 1 - m)
  kTable = 3,         // -y t(m), t a table on [-R, R]: logistic and others
  kPolynomial = 4,    // -y P(m), unbiased through independent samples
};

/// The `flags` register.
enum Flags : uint32_t {
  kFlagHold = 1,          // leave the last batches pending and write them behind the model instead
  kFlagWeights = 2,       // a label is followed by its sample's weight
  kFlagFeatureSteps = 4,  // behind the model: log2 of each feature's step over the run's
  kFlagCorrection = 8,    // behind these: what every update adds to each feature's gradient
  kFlagFrozen = 16,       // dot products read the start model throughout; updates add up
};

/// Columns of the schedule buffer, a row an epoch.
enum ScheduleColumn {
  kStep,          // step / batch of samples with labels >= 0
  kStepNegative,  // of the others: class costs are in the steps
  kDecay,
  kGradientShift,  // log2 of the unit of a quantized gradient, in 2^-GradientFractionBits
  kThreshold,      // step * l1
  kScheduleColumns
};

/// The `capability` register of a build with words of 2^word_bits_log2 bits; one byte a field.
constexpr uint64_t Capability(uint32_t word_bits_log2, ValueFormat format) {
  return static_cast<uint64_t>(word_bits_log2) | static_cast<uint64_t>(MaxChunksLog2(format)) << 8 |
         static_cast<uint64_t>(kMaxBatchLog2) << 16 |
         static_cast<uint64_t>(BlockWordsLog2(format)) << 24 |
         static_cast<uint64_t>(RingWordsLog2(format)) << 32 |
         static_cast<uint64_t>(kBlockSamplesLog2) << 40 | static_cast<uint64_t>(kMaxDelay) << 48 |
         static_cast<uint64_t>(format) << 56;
}

}  // namespace zipml
