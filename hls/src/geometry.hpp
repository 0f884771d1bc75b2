// What follows from the registers: sizes, counts and the order of blocks.
#pragma once

#include "build.hpp"
#include "formats.hpp"
#include "narrow.hpp"
#include "registers.hpp"
#include "zipml/schedule.hpp"

namespace zipml {

/// Entries of the table of a loss's derivative.
constexpr int kDerivativeEntries = (1 << kDerivativeTableLog2) + 1;

/// What follows from the registers once they are valid.
struct Geometry {
  uint32_t chunks;   // words of one row of one plane
  uint32_t cells;    // of one row: what is trained on in a cycle each
  uint32_t entries;  // of the model in memory, those of padding included
  uint32_t base_planes;
  uint32_t dithers;
  uint32_t planes;   // streamed: base and dithers
  uint32_t passes;   // over the cells of a batch: one for each plane, or one for all of them
  uint32_t batches;  // of the data set, the last one ragged
  uint32_t blocks;
  uint32_t block_batches;  // batches of one full block
  uint32_t plane_words;    // of one plane of one block
  uint32_t block_words;    // of all of its streamed planes
  uint32_t base_words;     // and of the base planes alone
  uint32_t batch_words;    // of one plane of one batch
  uint32_t batch_cells;    // of one pass
  uint32_t slot_cells;     // of all passes
  uint32_t slot_cycles;    // slot_cells and the bubbles
  uint32_t pause;          // cycles that a cell's update waits for the turns of the one before it
  uint32_t bursts;         // of one block
  uint32_t full_words;     // of one sample at full precision
  uint32_t level_stride;   // levels from one cell's tables to the next one's; 0: they share one
  Overlap overlap;
  Decoding decoding;
};

template <class Format>
Geometry GeometryOf(const Registers &r) {
  #pragma HLS INLINE off
  Geometry g;
  g.chunks = (r.features + Format::kWordLanes - 1) / Format::kWordLanes;
  g.cells = CellsOf<Format>(r.features);
  g.entries = g.chunks * Format::kWordLanes;
  g.base_planes = Format::kFormat == kFloat32 ? 0 : BasePlanes(r.bits);
  g.dithers = DitherPlanes(r.sampling, r.degree);
  g.planes = g.base_planes + g.dithers;
  g.passes = Format::kPlaneByPlane ? g.planes : 1;
  g.batches = (r.samples - 1) / r.batch + 1;
  g.blocks = (r.samples - 1) / r.block_samples + 1;
  g.block_batches = Unsigned<kBlockSampleBits>(r.block_samples) / Unsigned<kBatchBits>(r.batch);
  g.plane_words = Product<kBlockSampleBits, ChunkBits<Format>()>(r.block_samples, g.chunks);
  g.block_words = Product<kPlaneBits, BlockWordsLog2(Format::kFormat) + 1>(g.planes, g.plane_words);
  g.batch_words = Product<kBatchBits, ChunkBits<Format>()>(r.batch, g.chunks);
  g.batch_cells = Product<kBatchBits, CellBits<Format>()>(r.batch, g.cells);
  g.slot_cells = Product<kPlaneBits, RingWordsLog2(Format::kFormat) + 1>(g.passes, g.batch_cells);
  g.overlap = OverlapOf(r.delay);
  const uint32_t passes = Unsigned<kPlaneBits>(g.passes), batch = Unsigned<kBatchBits>(r.batch);
  const uint32_t cells = Unsigned<CellBits<Format>()>(g.cells);
  g.slot_cycles = SlotCycles(passes, batch, cells, Turns<Format>(), g.overlap, kDistances);
  g.pause = CellCycles(passes, batch, Turns<Format>()) - passes * batch;
  // the base planes are the first ones of a block
  g.base_words =
      Product<kPlaneBits, BlockWordsLog2(Format::kFormat) + 1>(g.base_planes, g.plane_words);
  g.bursts = g.base_planes == 0 || r.dither_offset == g.base_words ? 1 : 2;
  g.full_words = (r.features + Format::kFullLanes - 1) / Format::kFullLanes;
  g.level_stride = Format::kTableLog2 != 0 && r.level_tables != 1 ? LevelCount(r.bits) : 0;
  g.decoding.base_mask = (1u << g.base_planes) - 1;
  g.decoding.single = r.sampling == kSingle;
  return g;
}

/// The block after this one, in the order of the registers. (Where step and number of blocks have
/// no common factor, which the host sees to, every block comes once before the first comes again.)
inline uint32_t NextBlock(const Registers &r, const Geometry &g, uint32_t block) {
  const uint32_t left = g.blocks - r.block_step;
  return block >= left ? block - left : block + r.block_step;
}

/// Batches of one block that this run trains on.
inline uint32_t BlockBatches(const Registers &r, const Geometry &g, uint32_t block) {
  const uint32_t batches = Unsigned<kBlockSampleBits>(g.block_batches);
  const uint32_t end = block + 1 == g.blocks ? g.batches : (block + 1) * batches;
  const uint32_t begin = block == 0 ? r.skip : block * batches;
  return end - begin;
}

/// Slots that a block takes: those of its batches and, with the epoch's last block, those that
/// drain the pipeline.
inline uint32_t BlockSlots(const Registers &r, const Geometry &g, uint32_t block, bool closes) {
  const uint32_t batches = BlockBatches(r, g, block);
  const uint32_t slots = g.overlap.slots_per_batch == 2 ? 2 * batches : batches;
  const bool drains = closes && r.delay != 0 && (r.flags & kFlagHold) == 0;
  return drains ? slots + g.overlap.lag : slots;
}

/// First row of a block that this run trains on.
inline uint32_t FirstRow(const Registers &r, uint32_t block) {
  return block == 0 ? Product<kBlockSampleBits, kBatchBits>(r.skip, r.batch) : 0;
}

/// Words of one sample in the labels' memory.
inline uint32_t LabelColumns(const Registers &r) { return (r.flags & kFlagWeights) != 0 ? 2 : 1; }

/// Of a block.
inline uint32_t LabelWords(const Registers &r) {
  return LabelColumns(r) == 2 ? 2 * r.block_samples : r.block_samples;
}

/// Whether features have steps of their own.
inline bool HasFeatureSteps(const Registers &r) { return (r.flags & kFlagFeatureSteps) != 0; }

/// Whether updates add corrections to the gradient.
template <class Format>
bool HasCorrection(const Registers &r) {
  return Corrects(Format::kFormat) && (r.flags & kFlagCorrection) != 0;
}

/// Whether dot products read the start model throughout.
inline bool IsFrozen(const Registers &r) { return (r.flags & kFlagFrozen) != 0; }

/// Where corrections are in the model's memory: behind its entries and their shifts.
inline uint32_t CorrectionPlace(const Registers &r, const Geometry &g) {
  return HasFeatureSteps(r) ? 2 * g.entries : g.entries;
}

/// And pending coefficients: behind these.
template <class Format>
uint32_t PendingPlace(const Registers &r, const Geometry &g) {
  return CorrectionPlace(r, g) + (HasCorrection<Format>(r) ? g.entries : 0);
}

/// Samples of batches that are dotted and not updated.
inline uint32_t PendingSamples(const Registers &r, uint32_t batches) {
  return Product<kDelayBits, kBatchBits>(batches, r.batch);
}

/// Of all tables.
inline uint32_t LevelsInMemory(const Registers &r) {
  return Product<kFeatureBits, kMaxBits + 1>(r.level_tables, LevelCount(r.bits));
}

/// Numbers that a loss reads from memory.
inline uint32_t DerivativeCount(const Registers &r) {
  return r.loss == kTable ? kDerivativeEntries : r.loss == kPolynomial ? r.degree + 1 : 0;
}

/// Batches that a run leaves dotted and not updated.
inline uint32_t HeldBatches(const Registers &r, const Geometry &g) {
  if ((r.flags & kFlagHold) == 0) return 0;
  const uint32_t dotted = g.batches - r.skip;
  return r.delay < dotted ? r.delay : dotted;
}

/// The next place in the ring.
inline uint32_t NextInRing(const Geometry &g, uint32_t place) {
  #pragma HLS INLINE
  return place + 1 == g.overlap.ring_batches ? 0 : place + 1;
}

/// And the first cell there: no product, for it is due in a cycle.
/// \param place  the next one
inline uint32_t NextRingCell(const Geometry &g, uint32_t place, uint32_t cell) {
  #pragma HLS INLINE
  return place == 0 ? 0 : cell + g.slot_cells;
}

/// Place in the ring of the batch that came `batches` before the one at `place`.
inline uint32_t RingPlaceBefore(const Geometry &g, uint32_t place, uint32_t batches) {
  return place >= batches ? place - batches : place + g.overlap.ring_batches - batches;
}

}  // namespace zipml
