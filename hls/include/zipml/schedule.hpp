// The schedule of the training pipeline in plain integers; docs/schedule.md derives it. The kernel
// runs by it and counts by it; zipml_pynq/training/schedule.py states the same arithmetic a second
// time, and a test holds the two against each other.
#pragma once

#include <cstdint>

#include "zipml/config.hpp"
#include "zipml/distances.hpp"

namespace zipml {

/// How a delay (in batches) is spread over the pipeline. Slot k runs the dot products of batch k
/// and the update of batch k - lag; a dot product reads the model as it was `versions` slots ago.
/// delay = lag + versions - 1. Without delay a batch takes two slots, one for each phase.
struct Overlap {
  uint32_t lag;
  uint32_t versions;
  uint32_t slots_per_batch;
  uint32_t ring_batches;  // batches of words kept on chip
};

inline Overlap OverlapOf(uint32_t delay) {
  Overlap o;
  o.versions = delay >= 2 ? 2 : 1;
  o.lag = delay == 0 ? 1 : delay - o.versions + 1;
  o.slots_per_batch = delay == 0 ? 2 : 1;
  o.ring_batches = delay == 0 ? 1 : o.lag + 1;
  return o;
}

inline int32_t Max(int32_t a, int32_t b) { return a > b ? a : b; }

inline int32_t CeilDivide(int32_t a, int32_t b) { return (a + b - 1) / b; }

/// Cycles in which a cell is updated: its words, and no less than the turns of the one before it.
inline uint32_t CellCycles(uint32_t planes, uint32_t batch, uint32_t turns) {
  return planes * batch > turns ? planes * batch : turns;
}

/// Cycles of one slot: its words, and the bubbles that keep every result ready before its use.
/// \param turns  in which a cell gets its new model entries
inline uint32_t SlotCycles(uint32_t planes, uint32_t batch, uint32_t chunks, uint32_t turns,
                           const Overlap &overlap, const Distances &distances) {
  const int32_t p = static_cast<int32_t>(planes);
  const int32_t b = static_cast<int32_t>(batch);
  const int32_t c = static_cast<int32_t>(chunks);
  const int32_t words = p * b * c;
  const int32_t cell = static_cast<int32_t>(CellCycles(planes, batch, turns));
  const int32_t lag = static_cast<int32_t>(overlap.lag);
  const int32_t versions = static_cast<int32_t>(overlap.versions);
  // the first sample's coefficient, then the last one's, before the update reads it
  const int32_t first = words - b * c + c - 1 + distances.residual;
  const int32_t last = words - 1 + distances.residual - (b - 1) * p;
  // the last chunk's new entries before the dot product reads them, and before the next update
  const int32_t model = (c - 1) * cell + p * b + static_cast<int32_t>(turns) + distances.update - c;
  int32_t cycles = Max(c * cell, distances.update);
  cycles = Max(cycles, CeilDivide(Max(first, last), lag));
  cycles = Max(cycles, CeilDivide(model, versions));
  return static_cast<uint32_t>(cycles);
}

}  // namespace zipml
