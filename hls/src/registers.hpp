// The registers of a run, in and out, and the check that is made before memory is touched.
#pragma once

#include "formats.hpp"
#include "narrow.hpp"
#include "zipml/schedule.hpp"
#include "zipml/tops.hpp"

namespace zipml {

/// The registers of one run, as the kernel receives them, in the order of ZIPML_SCALARS.
struct Registers {
#define ZIPML_FIELD(name) uint32_t name;
  ZIPML_EACH_SCALAR(ZIPML_FIELD, ZIPML_FIELD)
#undef ZIPML_FIELD
  uint32_t level_tables;
};

/// What a run reports beside its model.
struct Outputs {
  uint64_t words;
  uint64_t modelled_cycles;
  uint64_t measured_cycles;
  uint64_t waited_cycles;
  uint32_t saturations;
  uint32_t outside;
  uint32_t clipped;
  uint32_t refetched;
};

inline bool QuantizedBitsValid(uint32_t bits) {
  return bits == 0 || (bits >= kMinQuantizedBits && bits <= kMaxQuantizedBits);
}

template <class Format>
uint32_t CheckRegisters(const Registers &r) {
  #pragma HLS INLINE off
  const uint32_t lanes = Format::kWordLanes;
  const bool floats = Format::kFormat == kFloat32;
  if (r.samples == 0 || r.samples > kMaxSamples) return kStatusSamples;
  if (r.features == 0 || r.features > (lanes << MaxChunksLog2(Format::kFormat)))
    return kStatusFeatures;
  if (floats ? r.bits != 32 : (r.bits == 0 || r.bits > MaxBits(Format::kFormat)))
    return kStatusBits;
  if (r.sampling > (floats ? kSingle : kIndependent)) return kStatusSampling;
  if (r.batch == 0 || r.batch > kMaxBatch) return kStatusBatch;
  if (r.epochs == 0 || r.epochs > kMaxEpochs) return kStatusEpochs;
  if (r.delay > kMaxDelay) return kStatusDelay;

  const uint32_t chunks = (r.features + lanes - 1) / lanes;
  const uint32_t cells = CellsOf<Format>(r.features);
  if (Format::kTableLog2 != 0) {
    if (r.level_tables != 1 && r.level_tables != r.features) return kStatusLevels;
    if (r.level_tables != 1 && Product<CellBits<Format>(), kMaxBits + 1>(
                                   cells, LevelCount(r.bits)) > (1u << Format::kTableLog2))
      return kStatusLevels;
  }
  const bool polynomial = r.loss == kPolynomial;
  if (r.loss > kPolynomial || polynomial != (r.sampling == kIndependent)) return kStatusLoss;
  if (r.range_log2 > kMaxRangeLog2) return kStatusLoss;
  if (polynomial && (!Format::kPlaneByPlane || r.degree == 0 || r.degree > kMaxDegree))
    return kStatusLoss;
  if (polynomial && Product<kBatchBits, ChunkBits<Format>()>(r.batch, chunks) < kPolynomialDistance)
    return kStatusLoss;
  if (Format::kRefetches && r.loss != kHinge) return kStatusLoss;
  if (!QuantizedBitsValid(r.model_bits) || !QuantizedBitsValid(r.gradient_bits))
    return kStatusQuantize;
  const uint32_t dithers = DitherPlanes(r.sampling, r.degree);
  const uint32_t passes = Format::kPlaneByPlane ? BasePlanes(r.bits) + dithers : 1;
  if (r.block_samples == 0 || r.block_samples > kBlockSamples) return kStatusBlock;
  const uint32_t samples = Unsigned<kBlockSampleBits>(r.block_samples);
  const uint32_t batch = Unsigned<kBatchBits>(r.batch);
  if (samples % batch != 0) return kStatusBlock;
  const uint32_t rows = Product<kPlaneBits, kBlockSampleBits>(passes, samples);
  if (Product<kPlaneBits + kBlockSampleBits, ChunkBits<Format>()>(rows, chunks) >
      (1u << BlockWordsLog2(Format::kFormat)))
    return kStatusBlock;
  const Overlap overlap = OverlapOf(r.delay);
  const uint32_t ring_passes = Product<kDelayBits, kPlaneBits>(overlap.ring_batches, passes);
  const uint32_t batch_cells = Product<kBatchBits, CellBits<Format>()>(batch, cells);
  if (static_cast<uint64_t>(ring_passes) * batch_cells > (1u << RingWordsLog2(Format::kFormat))) {
    return kStatusRing;
  }

  const uint32_t blocks = (r.samples - 1) / r.block_samples + 1;
  if (r.first_block >= blocks || r.block_step == 0 || r.block_step > blocks) return kStatusOrder;
  const bool hold = (r.flags & kFlagHold) != 0;
  const uint32_t flags =
      kFlagHold | kFlagWeights | kFlagFeatureSteps | kFlagCorrection | kFlagFrozen;
  if ((r.flags & ~flags) != 0) return kStatusPartial;
  if (!Corrects(Format::kFormat) && (r.flags & kFlagCorrection) != 0) return kStatusPartial;
  if (hold || r.skip != 0 || r.pending != 0) {
    // a frozen model is not what a run hands on
    if ((r.flags & kFlagFrozen) != 0) return kStatusPartial;
    if (r.epochs != 1 || r.pending > r.delay) return kStatusPartial;
    // blocks in their order; and a quantized model is handed on as it is only where it is the
    // latest
    if (r.first_block != 0 || r.block_step != 1) return kStatusPartial;
    if (r.model_bits != 0 && r.delay > 1) return kStatusPartial;
    if (r.skip >= r.block_samples / r.batch) return kStatusPartial;
    const uint32_t begun = r.skip + r.pending;
    if (begun != 0 && Product<kBlockSampleBits, kBatchBits>(begun, batch) >= r.samples)
      return kStatusPartial;
  }
  return kStatusOk;
}

}  // namespace zipml
