// Samples whose hinge is in doubt, read again at full precision.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"
#include "../position.hpp"
#include "slot.hpp"

namespace zipml {

/// Formats without such samples read none again.
template <class Format, class... Arguments>
void Refetch(NoPort, const Arguments &...) {}

/// Reads the samples of a batch that are in doubt again, as float32, and puts their exact
/// coefficients in place. Called between two slots, for it takes as long as there are such samples.
/// \param first_row  of the batch in its block
/// \param ring_place of the batch
template <class Format>
void Refetch(const typename Format::word_t *full, const LabelEntry block_labels[kBufferSamples],
             const LabelEntry block_weights[kBufferSamples], const Registers &r, const Geometry &g,
             uint32_t first_row, uint32_t ring_place,
             const ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
             CoefficientEntry coefficient_first[kCoefficientEntries],
             CoefficientEntry coefficient_second[kCoefficientEntries],
             const int32_t derivative_first[kDerivativeEntries],
             const int32_t derivative_second[kDerivativeEntries], const bool in_doubt[kMaxBatch],
             Position &position) {
  #pragma HLS INLINE off
  constexpr uint32_t kFullLanes = Format::kFullLanes;
  constexpr uint32_t kFullParts = Format::kLanes / Format::kFullLanes;
  const uint32_t block_sample = position.block * Unsigned<kBlockSampleBits>(r.block_samples);
  const uint32_t entry = position.dot_version << CellsLog2<Format>();
  const LossRegisters losses = LossRegistersAt(r, position);
  uint32_t saturations = position.saturations;
  uint32_t outside = position.outside;
  uint32_t refetched = position.refetched;
REFETCH:
  for (uint32_t s = 0; s < r.batch; ++s) {
    #pragma HLS LOOP_TRIPCOUNT min = 1 max = 256
    const uint32_t row = first_row + s;
    if (block_sample + row >= r.samples || !in_doubt[s]) continue;
    const uint64_t address = static_cast<uint64_t>(block_sample + row) *
                             Unsigned<MaxChunksLog2(kFloat32) + 1>(g.full_words);
    const uint32_t place = (position.half << kBlockSamplesLog2) + row;
    uint32_t cell = 0, part = 0;
    typename Format::dot_t dot = 0;
    Spend(kMemoryLatency + kDistances.residual);
  REFETCH_WORDS:
    for (uint32_t i = 0; i < g.full_words; ++i) {
      #pragma HLS PIPELINE II = 1
      #pragma HLS LOOP_TRIPCOUNT min = 1 max = 2048
      Spend(1);
      const typename Format::word_t word = full[address + i];
      int64_t words_sum = 0;  // kTermBits of the float format each
    REFETCH_LANES:
      for (uint32_t lane = 0; lane < kFullLanes; ++lane) {
        #pragma HLS UNROLL
        const uint32_t bits =
            static_cast<uint32_t>(word.range(32 * lane + 31, 32 * lane).to_uint());
        const int64_t value = Signed<kFloatFractionBits + 2>(FixedFromFloatBits(bits));
        const int64_t weight = model[entry + cell][part * kFullLanes + lane];
        words_sum += RoundShift(value * weight, kFloatProductShift);
      }
      dot = dot + words_sum;
      if (++part == kFullParts) {
        part = 0;
        ++cell;
      }
    }
    const Coefficients c = SampleCoefficients(
        Format::kFormat, losses, dot.to_int64(), dot.to_int64(), block_labels[place],
        block_weights[place], derivative_first, derivative_second, saturations, outside);
    coefficient_first[CoefficientPlace(r, ring_place, s)] = c.first;
    coefficient_second[CoefficientPlace(r, ring_place, s)] = c.second;
    ++refetched;
  }
  position.saturations = saturations;
  position.outside = outside;
  position.refetched = refetched;
}

}  // namespace zipml
