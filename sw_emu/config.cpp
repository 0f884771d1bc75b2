#include "zipml/config.hpp"
#include "zipml/distances.hpp"
#include "zipml/random.hpp"

extern "C" {
#include "config.h"
}

namespace {

/// The version of the registers, and what stands for what in them.
void AddCodes(ZipmlConfig &c) {
  using namespace zipml;
  c.interface_version = kInterfaceVersion;
  c.status_ok = kStatusOk;
  c.status_samples = kStatusSamples;
  c.status_features = kStatusFeatures;
  c.status_bits = kStatusBits;
  c.status_sampling = kStatusSampling;
  c.status_batch = kStatusBatch;
  c.status_epochs = kStatusEpochs;
  c.status_delay = kStatusDelay;
  c.status_block = kStatusBlock;
  c.status_ring = kStatusRing;
  c.status_partial = kStatusPartial;
  c.status_levels = kStatusLevels;
  c.status_loss = kStatusLoss;
  c.status_quantize = kStatusQuantize;
  c.status_order = kStatusOrder;
  c.sampling_single = kSingle;
  c.sampling_plain = kDoublePlain;
  c.sampling_symmetric = kDoubleSymmetric;
  c.sampling_independent = kIndependent;
  c.loss_least_squares = kLeastSquares;
  c.loss_hinge = kHinge;
  c.loss_squared_hinge = kSquaredHinge;
  c.loss_table = kTable;
  c.loss_polynomial = kPolynomial;
  c.flag_hold = kFlagHold;
  c.flag_weights = kFlagWeights;
  c.flag_feature_steps = kFlagFeatureSteps;
  c.flag_correction = kFlagCorrection;
  c.flag_frozen = kFlagFrozen;
  c.format_bit_planes = kBitPlanes;
  c.format_float32 = kFloat32;
  c.format_levels = kLevels;
  c.format_refetch = kRefetch;
  c.format_wide = kWide;
}

}  // namespace

extern "C" {
ZipmlConfig zipml_config(void) {
  using namespace zipml;
  ZipmlConfig c;
  c.max_bits = kMaxBits;
  c.wide_max_bits = kWideMaxBits;
  c.grid_bits = kGridBits;
  c.model_fraction_bits = kModelFractionBits;
  c.step_fraction_bits = kStepFractionBits;
  c.coefficient_fraction_bits = kCoefficientFractionBits;
  c.decay_fraction_bits = kDecayFractionBits;
  c.decay_bits = kDecayBits;
  c.threshold_bits = kThresholdBits;
  c.level_fraction_bits = kLevelFractionBits;
  c.float_fraction_bits = kFloatFractionBits;
  c.max_chunks = 1 << MaxChunksLog2(kBitPlanes);
  c.max_batch = kMaxBatch;
  c.block_words = 1 << BlockWordsLog2(kBitPlanes);
  c.block_samples = kBlockSamples;
  c.ring_words = 1 << RingWordsLog2(kBitPlanes);
  c.float_max_chunks = 1 << MaxChunksLog2(kFloat32);
  c.float_block_words = 1 << BlockWordsLog2(kFloat32);
  c.float_ring_words = 1 << RingWordsLog2(kFloat32);
  c.level_max_chunks = 1 << MaxChunksLog2(kLevels);
  c.level_block_words = 1 << BlockWordsLog2(kLevels);
  c.level_ring_words = 1 << RingWordsLog2(kLevels);
  c.level_parts = kLevelParts;
  c.level_table = 1 << kLevelTableLog2;
  c.close_turns = 1 << CloseTurnsLog2(kBitPlanes);
  c.float_close_turns = 1 << CloseTurnsLog2(kFloat32);
  c.max_delay = kMaxDelay;
  c.max_epochs = kMaxEpochs;
  c.weight_fraction_bits = kWeightFractionBits;
  c.derivative_fraction_bits = kDerivativeFractionBits;
  c.derivative_table = 1 << kDerivativeTableLog2;
  c.max_range_log2 = kMaxRangeLog2;
  c.max_degree = kMaxDegree;
  c.max_dithers = kMaxDithers;
  c.max_feature_shift = kMaxFeatureShift;
  c.correction_fraction_bits = kCorrectionFractionBits;
  c.polynomial_distance = kPolynomialDistance;
  c.min_quantized_bits = kMinQuantizedBits;
  c.max_quantized_bits = kMaxQuantizedBits;
  c.max_features = 1 << kMaxFeaturesLog2;
  c.max_samples = kMaxSamples;
  c.memory_latency = kMemoryLatency;
  c.draw_features = kDrawFeatures;
  c.draw_latency = kDrawLatency;
  AddCodes(c);
  return c;
}

ZipmlDistances zipml_distances(uint32_t word_bits, uint32_t clock_mhz) {
  const uint32_t clock = clock_mhz == 0 ? zipml::BoardClock(word_bits) : clock_mhz;
  const zipml::Distances d = zipml::DistancesOf(word_bits, clock);
  return {d.residual, d.update, d.pipeline};
}

uint64_t zipml_capability(uint32_t word_bits_log2, uint32_t format) {
  return zipml::Capability(word_bits_log2, static_cast<zipml::ValueFormat>(format));
}
}
