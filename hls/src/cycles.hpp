// Cycles that the schedule gives to what is not a slot; docs/schedule.md has the sums.
#pragma once

#include "geometry.hpp"
#include "zipml/random.hpp"

namespace zipml {

/// Cycles that reading one block takes: its words, or its labels beside them.
inline uint32_t ReadCycles(const Registers &r, const Geometry &g) {
  const uint32_t words = g.planes * g.plane_words + g.bursts * kMemoryLatency;
  const uint32_t labels = LabelColumns(r) * r.block_samples + kMemoryLatency;
  return words > labels ? words : labels;
}

/// Cycles of one sample's refetch: its words, and the latencies before and behind them.
inline uint32_t RefetchCycles(const Geometry &g) {
  return g.full_words + kMemoryLatency + kResidualLatency;
}

/// Cycles of LoadModel and SeeModel.
inline uint32_t StartCycles(uint32_t entries) {
  const uint32_t groups = (entries + kDrawFeatures - 1) >> kDrawFeaturesLog2;
  return entries + kMemoryLatency + groups * (kDrawFeatures + kDrawLatency);
}

/// Cycles of a run beside its blocks: the first one's read, which nothing hides, the model's way in
/// and out, and what else is loaded before or stored behind them.
template <class Format>
uint64_t CyclesBesideBlocks(const Registers &r, const Geometry &g) {
  #pragma HLS INLINE
  const uint32_t held = HeldBatches(r, g);
  const uint32_t derivatives = DerivativeCount(r);
  uint64_t cycles = StartCycles(g.entries) + ReadCycles(r, g) + g.entries + kMemoryLatency;
  if (HasFeatureSteps(r)) cycles += g.entries + kMemoryLatency;
  if (r.pending != 0) cycles += 2 * r.pending * r.batch + kMemoryLatency;
  if (held != 0) cycles += 2 * held * r.batch + kMemoryLatency;
  if (derivatives != 0) cycles += derivatives + kMemoryLatency;
  if (Format::kTableLog2 != 0) cycles += r.level_tables * LevelCount(r.bits) + kMemoryLatency;
  return cycles;
}

}  // namespace zipml
