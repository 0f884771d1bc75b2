// What the schedule says that a run takes, in cycles; docs/schedule.md has the sums. The clock
// beside the trainer (stages/count_cycles.hpp) says what it took.
#pragma once

#include "geometry.hpp"
#include "zipml/random.hpp"

namespace zipml {

/// Cycles in which the next block's words, or its labels beside them, are taken in, one a cycle.
inline uint32_t TakeCycles(const Registers &r, const Geometry &g) {
  const uint32_t words = g.block_words;
  const uint32_t labels = LabelWords(r);
  return words > labels ? words : labels;
}

/// Cycles that reading one block takes: its words, or its labels beside them.
inline uint32_t ReadCycles(const Registers &r, const Geometry &g) {
  const uint32_t words = g.block_words + (g.bursts == 2 ? 2 * kMemoryLatency : kMemoryLatency);
  const uint32_t labels = LabelWords(r) + kMemoryLatency;
  return words > labels ? words : labels;
}

/// Cycles in which a block trains.
struct TrainCycles {
  uint32_t passes;  // of the training loop, each of which may take a word of the next block
  uint32_t others;
};

/// Cycles from one block to the next: training, or reading where it takes longer.
inline uint32_t BlockCycles(const Registers &r, const Geometry &g, const TrainCycles &train) {
  const uint32_t read = ReadCycles(r, g);
  const uint32_t take = TakeCycles(r, g);
  const uint32_t longest = (train.passes > take ? train.passes : take) + train.others;
  return longest > read ? longest : read;
}

/// Cycles of one sample's refetch: its words, and the latencies before and behind them.
template <class Format>
uint32_t RefetchCycles(const Geometry &g) {
  return g.full_words + kMemoryLatency + kDistances.residual;
}

/// Cycles of LoadModel and SeeModel.
inline uint32_t StartCycles(uint32_t entries) {
  const uint32_t groups = (entries + kDrawFeatures - 1) >> kDrawFeaturesLog2;
  return entries + kMemoryLatency + groups * (kDrawFeatures + kDrawLatency);
}

/// Cycles of a run beside its blocks: the model's way in and out, and what else is loaded before or
/// stored behind them.
template <class Format>
uint64_t CyclesBesideBlocks(const Registers &r, const Geometry &g) {
  #pragma HLS INLINE
  const uint32_t held = HeldBatches(r, g);
  const uint32_t derivatives = DerivativeCount(r);
  uint64_t cycles = StartCycles(g.entries) + g.entries + kMemoryLatency;
  if (HasFeatureSteps(r)) cycles += g.entries + kMemoryLatency;
  if (HasCorrection<Format>(r)) cycles += g.entries + kMemoryLatency;
  if (r.pending != 0) cycles += 2 * PendingSamples(r, r.pending) + kMemoryLatency;
  if (held != 0) cycles += 2 * PendingSamples(r, held) + kMemoryLatency;
  if (derivatives != 0) cycles += derivatives + kMemoryLatency;
  if (Format::kTableLog2 != 0) cycles += LevelsInMemory(r) + kMemoryLatency;
  return cycles;
}

}  // namespace zipml
