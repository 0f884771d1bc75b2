// The stages of the accelerator. Each is a function of its own that a test bench can call alone,
// and the whole is a plain sequential program: without its pragmas it computes the same model.
//
//   ReadWords, ReadLabels   one block from memory to on-chip buffers, in bursts
//   TrainSlots              dot products of one batch beside the update of an earlier one
//   Refetch                 samples whose hinge is in doubt, read again at full precision
//   TrainAndRecord          the slots of a block, an epoch's step before, its history row behind
//   LoadModel, SeeModel, LoadLevels   before the first block
//   Run                     loads, lets blocks of all epochs stream through, stores it
//
// TrainSlots is one loop at II = 1. Its feedback paths (coefficient, model) are long; the slot is
// lengthened by bubbles until every value is ready before it is used (zipml/schedule.hpp), and the
// DEPENDENCE pragmas promise those distances to the compiler, which reports an II above 1 where
// they are not enough. The bench watches that they are kept (hls/tb/watched.hpp). In a pass, the
// dot side reads the model before a turn writes it: the tool keeps that order where it cannot tell
// entries apart, and the other way round it would lengthen the feedback. docs/schedule.md has the
// arithmetic.
#pragma once

#include "formats.hpp"
#include "zipml/random.hpp"
#include "zipml/schedule.hpp"

/// Whether the device has UltraRAM, for the deep memories; overlay/<board>/board.mk says so.
#ifndef ZIPML_ULTRA_RAM
#define ZIPML_ULTRA_RAM 0
#endif

// In the bench a type of its own stands for the entries whose distances TrainSlots promises, and
// ends a run that reads one too soon.
#ifdef ZIPML_WATCH
#include "watched.hpp"
#else
namespace zipml {
template <class T, int kDistance>
using Watched = T;
inline void BeginPass() {}
inline void EndPasses() {}
}  // namespace zipml
#endif

namespace zipml {

constexpr int kModelVersions = 3;
constexpr int kCoefficientEntries = (kMaxDelay + 1) * kMaxBatch;

// The DEPENDENCE pragmas below take literals only.
static_assert(kResidualLatency == 32, "distance= of coefficient_* and ring in TrainSlots");
static_assert(kPolynomialDistance == 16, "distance= of product and sum in TrainSlots");
static_assert(kUpdateLatency == 8, "distance= of model and master in TrainSlots");

using ModelEntry = Watched<int32_t, kUpdateLatency>;
using CoefficientEntry = Watched<int32_t, kResidualLatency>;
using PolynomialEntry = Watched<int32_t, kPolynomialDistance>;
template <class Format>
using RingEntry = Watched<typename Format::cell_t, kResidualLatency>;
/// A batch of one sample may add to the same dot product in every pass: forwarded past the memory.
constexpr int kDotDistance = 2;
template <class Format>
using DotEntry = Watched<typename Format::dot_t, kDotDistance>;

/// The registers of one run, as the kernel receives them.
struct Registers {
  uint32_t samples;
  uint32_t features;
  uint32_t batch;
  uint32_t block_samples;
  uint32_t block_stride;
  uint32_t dither_offset;
  uint32_t bits;
  uint32_t sampling;
  uint32_t epochs;
  uint32_t delay;
  uint32_t skip;
  uint32_t pending;
  uint32_t flags;
  uint32_t loss;
  uint32_t degree;
  uint32_t range_log2;
  uint32_t model_bits;
  uint32_t model_shift;
  uint32_t gradient_bits;
  uint32_t seed;
  uint32_t first_update;
  uint32_t first_block;
  uint32_t block_step;
  uint32_t level_tables;
};

/// Entries of the table of a loss's derivative.
constexpr int kDerivativeEntries = (1 << kDerivativeTableLog2) + 1;

/// What follows from the registers once they are valid.
struct Geometry {
  uint32_t chunks;  // words of one row of one plane
  uint32_t cells;   // of one row: what is trained on in a cycle each
  uint32_t base_planes;
  uint32_t dithers;
  uint32_t planes;   // streamed: base and dithers
  uint32_t passes;   // over the cells of a batch: one for each plane, or one for all of them
  uint32_t batches;  // of the data set, the last one ragged
  uint32_t blocks;
  uint32_t block_batches;  // batches of one full block
  uint32_t plane_words;    // of one plane of one block
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

/// Where the training pipeline stands from one block to the next. Kept as an array, for it lives in
/// a dataflow region in which only TrainAndRecord may touch it.
enum Position {
  kBlock,       // the block that trains next
  kBlockCount,  // blocks of its epoch that are done
  kEpoch,       // its epoch
  kStepNow,     // columns of the schedule for that epoch
  kStepNegativeNow,
  kDecayNow,
  kGradientShiftNow,
  kSlot,        // slots since the start of the epoch
  kDotted,      // batches of this block that are dotted
  kDotRing,     // place in the ring of the batch that is dotted next
  kUpdateRing,  // place in the ring of the batch that is updated next
  kPrevious,    // version of the model before the latest slot
  kCurrent,     // latest version of the model
  kDotVersion,  // version that the latest slot's dot products read
  kUpdate,      // number of the next update
  kSaturations,
  kOutside,
  kClipped,
  kRefetched,
  kPositions
};

enum Counter { kWordsStreamed, kCycles, kCounters };

/// Rows of the arrays that hold a model: one a cell.
template <class Format>
constexpr int CellsLog2() {
  return MaxChunksLog2(Format::kFormat) + Format::kPartsLog2;
}

/// Turns in which a cell gets its new model entries, and the lanes of each.
template <class Format>
constexpr uint32_t Turns() {
  return 1u << CloseTurnsLog2(Format::kFormat);
}

template <class Format>
constexpr int TurnLanes() {
  return Format::kLanes >> CloseTurnsLog2(Format::kFormat);
}

/// Rows of the update side's copy of the model: one a turn of each cell.
template <class Format>
constexpr int MasterLog2() {
  return CellsLog2<Format>() + CloseTurnsLog2(Format::kFormat);
}

template <class Format>
uint32_t CellsOf(uint32_t features) {
  return (features + Format::kLanes - 1) / Format::kLanes;
}

/// Levels of one table.
inline uint32_t LevelCount(uint32_t bits) { return (1u << (bits - 1)) + 1; }

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
  if (floats ? r.bits != 32 : (r.bits == 0 || r.bits > kMaxBits)) return kStatusBits;
  if (r.sampling > (floats ? kSingle : kIndependent)) return kStatusSampling;
  if (r.batch == 0 || r.batch > kMaxBatch) return kStatusBatch;
  if (r.epochs == 0 || r.epochs > kMaxEpochs) return kStatusEpochs;
  if (r.delay > kMaxDelay) return kStatusDelay;

  const uint32_t chunks = (r.features + lanes - 1) / lanes;
  const uint32_t cells = CellsOf<Format>(r.features);
  if (Format::kTableLog2 != 0) {
    if (r.level_tables != 1 && r.level_tables != r.features) return kStatusLevels;
    if (r.level_tables != 1 && cells * LevelCount(r.bits) > (1u << Format::kTableLog2))
      return kStatusLevels;
  }
  const bool polynomial = r.loss == kPolynomial;
  if (r.loss > kPolynomial || polynomial != (r.sampling == kIndependent)) return kStatusLoss;
  if (r.range_log2 > kMaxRangeLog2) return kStatusLoss;
  if (polynomial && (!Format::kPlaneByPlane || r.degree == 0 || r.degree > kMaxDegree))
    return kStatusLoss;
  if (polynomial && r.batch * chunks < kPolynomialDistance) return kStatusLoss;
  if (Format::kRefetches && r.loss != kHinge) return kStatusLoss;
  if (!QuantizedBitsValid(r.model_bits) || !QuantizedBitsValid(r.gradient_bits))
    return kStatusQuantize;
  const uint32_t dithers = DitherPlanes(r.sampling, r.degree);
  const uint32_t passes = Format::kPlaneByPlane ? BasePlanes(r.bits) + dithers : 1;
  if (r.block_samples == 0 || r.block_samples > kBlockSamples) return kStatusBlock;
  if (r.block_samples % r.batch != 0) return kStatusBlock;
  // at most 2^12 * 2^11 * 2^4: no overflow
  if (passes * r.block_samples * chunks > (1u << BlockWordsLog2(Format::kFormat)))
    return kStatusBlock;
  const Overlap overlap = OverlapOf(r.delay);
  if (overlap.ring_batches * passes * r.batch * cells > (1u << RingWordsLog2(Format::kFormat))) {
    return kStatusRing;
  }

  const uint32_t blocks = (r.samples - 1) / r.block_samples + 1;
  if (r.first_block >= blocks || r.block_step == 0 || r.block_step > blocks) return kStatusOrder;
  const bool hold = (r.flags & kFlagHold) != 0;
  if ((r.flags & ~static_cast<uint32_t>(kFlagHold | kFlagWeights)) != 0) return kStatusPartial;
  if (hold || r.skip != 0 || r.pending != 0) {
    if (r.epochs != 1 || r.pending > r.delay) return kStatusPartial;
    // blocks in their order; and a quantized model is handed on as it is only where it is the
    // latest
    if (r.first_block != 0 || r.block_step != 1) return kStatusPartial;
    if (r.model_bits != 0 && r.delay > 1) return kStatusPartial;
    if (r.skip >= r.block_samples / r.batch) return kStatusPartial;
    if ((r.skip + r.pending) != 0 && (r.skip + r.pending) * r.batch >= r.samples)
      return kStatusPartial;
  }
  return kStatusOk;
}

template <class Format>
Geometry GeometryOf(const Registers &r) {
  #pragma HLS INLINE off
  Geometry g;
  g.chunks = (r.features + Format::kWordLanes - 1) / Format::kWordLanes;
  g.cells = CellsOf<Format>(r.features);
  g.base_planes = Format::kFormat == kFloat32 ? 0 : BasePlanes(r.bits);
  g.dithers = DitherPlanes(r.sampling, r.degree);
  g.planes = g.base_planes + g.dithers;
  g.passes = Format::kPlaneByPlane ? g.planes : 1;
  g.batches = (r.samples - 1) / r.batch + 1;
  g.blocks = (r.samples - 1) / r.block_samples + 1;
  g.block_batches = r.block_samples / r.batch;
  g.plane_words = r.block_samples * g.chunks;
  g.batch_cells = r.batch * g.cells;
  g.slot_cells = g.passes * g.batch_cells;
  g.overlap = OverlapOf(r.delay);
  g.slot_cycles = SlotCycles(g.passes, r.batch, g.cells, Turns<Format>(), g.overlap);
  g.pause = CellCycles(g.passes, r.batch, Turns<Format>()) - g.passes * r.batch;
  g.bursts = g.base_planes == 0 || r.dither_offset == g.base_planes * g.plane_words ? 1 : 2;
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

/// Where a buffer of planes side by side keeps a streamed plane.
inline uint32_t BufferPlane(const Geometry &g, uint32_t plane) {
  return plane < g.base_planes ? g.base_planes - 1 - plane : kMaxBits - 1 + plane - g.base_planes;
}

/// Streams the chosen planes of the next block; after the last block the first one follows, for the
/// next epoch. `next` holds the number of that block: each stage of the dataflow region counts for
/// itself. Where the buffer keeps planes side by side, base planes lie by their weight and dithers
/// behind the widest base.
template <class Format>
void ReadWords(
    const typename Format::word_t *planes, Registers r, Geometry g, uint32_t next[1],
    typename Format::word_t words[Format::kBufferPlanes][1 << BlockWordsLog2(Format::kFormat)]) {
  #pragma HLS INLINE off
  constexpr bool kSideBySide = Format::kBufferPlanes != 1;
  const uint32_t block = next[0];
  next[0] = NextBlock(r, g, block);
  const uint64_t address = static_cast<uint64_t>(block) * r.block_stride;
  const uint32_t all = g.planes * g.plane_words;
  // the base planes are the first ones; the dithers of the precision follow at once or further on
  const uint32_t prefix = g.base_planes * g.plane_words;
  const uint32_t first = g.bursts == 2 ? prefix : all;
  const uint64_t first_address = g.base_planes == 0 ? address + r.dither_offset : address;
  const uint64_t second_address = address + r.dither_offset;
  uint32_t plane = 0, place = 0;
READ_FIRST:
  for (uint32_t i = 0; i < first; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 8192
    words[kSideBySide ? BufferPlane(g, plane) : 0][place] = planes[first_address + i];
    if (++place == g.plane_words && kSideBySide) {
      place = 0;
      ++plane;
    }
  }
  const uint32_t second = all - first;
READ_SECOND:
  for (uint32_t i = 0; i < second; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 8192
    words[kSideBySide ? BufferPlane(g, plane) : 0][place] = planes[second_address + i];
    if (++place == g.plane_words && kSideBySide) {
      place = 0;
      ++plane;
    }
  }
}

/// Words of one sample in the labels' memory.
inline uint32_t LabelColumns(const Registers &r) { return (r.flags & kFlagWeights) != 0 ? 2 : 1; }

/// Labels of the next block, and the weights of its samples: 1 where they have none.
inline void ReadLabels(const int32_t *labels, Registers r, Geometry g, uint32_t next[1],
                       int32_t block_labels[kBlockSamples], int32_t block_weights[kBlockSamples]) {
  #pragma HLS INLINE off
  const uint32_t block = next[0];
  next[0] = NextBlock(r, g, block);
  const uint32_t columns = LabelColumns(r);
  const uint64_t address = static_cast<uint64_t>(block) * r.block_samples * columns;
  const int32_t one = 1 << kWeightFractionBits;
READ_LABELS:
  for (uint32_t i = 0; i < r.block_samples * columns; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 8 max = 8192
    const int32_t value = labels[address + i];
    const uint32_t sample = columns == 2 ? i >> 1 : i;
    if (columns == 1 || (i & 1) == 0) {
      block_labels[sample] = value;
      if (columns == 1) block_weights[sample] = one;
    } else {
      block_weights[sample] = value;
    }
  }
}

/// Batches of one block that this run trains on.
inline uint32_t BlockBatches(const Registers &r, const Geometry &g, uint32_t block) {
  const uint32_t end = block + 1 == g.blocks ? g.batches : (block + 1) * g.block_batches;
  const uint32_t begin = block == 0 ? r.skip : block * g.block_batches;
  return end - begin;
}

/// Slots that a block takes: those of its batches and, with the epoch's last block, those that
/// drain the pipeline.
inline uint32_t BlockSlots(const Registers &r, const Geometry &g, uint32_t block, bool closes) {
  const uint32_t slots = BlockBatches(r, g, block) * g.overlap.slots_per_batch;
  const bool drains = closes && r.delay != 0 && (r.flags & kFlagHold) == 0;
  return drains ? slots + g.overlap.lag : slots;
}

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

/// First row of a block that this run trains on.
inline uint32_t FirstRow(const Registers &r, uint32_t block) {
  return block == 0 ? r.skip * r.batch : 0;
}

/// Trains through some slots of one block. Slot k runs the dot products of batch k, cell after cell
/// as they lie in `words`, and the update of batch k - lag out of the ring, a cell of the model
/// after the other: for one cell the sum over samples and planes stays in registers. Then its model
/// entries change once, a few lanes a cycle, while the next cell's sums begin.
/// \param slots  of this block; `position` says where they begin
template <class Format>
void TrainSlots(const typename Format::word_t words[Format::kBufferPlanes]
                                                   [1 << BlockWordsLog2(Format::kFormat)],
                const int32_t block_labels[kBlockSamples],
                const int32_t block_weights[kBlockSamples], const Registers &r, const Geometry &g,
                uint32_t slots,
                ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
                ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
                RingEntry<Format> ring[1 << RingWordsLog2(Format::kFormat)],
                CoefficientEntry coefficient_first[kCoefficientEntries],
                CoefficientEntry coefficient_second[kCoefficientEntries],
                const int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
                const int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
                const int32_t derivative_first[kDerivativeEntries],
                const int32_t derivative_second[kDerivativeEntries],
                const int32_t powers[kMaxDegree + 1], uint64_t norms[kModelVersions],
                bool in_doubt[kMaxBatch], uint32_t position[kPositions]) {
  #pragma HLS INLINE off
  typedef typename Format::cell_t cell_t;
  typedef typename Format::dot_t dot_t;
  typedef typename Format::gradient_t gradient_t;
  constexpr int kLanes = Format::kLanes;
  constexpr int kVersionShift = CellsLog2<Format>();
  constexpr uint32_t kParts = 1u << Format::kPartsLog2;
  constexpr bool kPlaneByPlane = Format::kPlaneByPlane;
  constexpr uint32_t kTurns = Turns<Format>();
  constexpr int kTurnLanes = TurnLanes<Format>();
  static_assert(kTurnLanes <= static_cast<int>(kDrawFeatures), "lanes of a turn share a draw");

  DotEntry<Format> dot_base[kMaxBatch];
  DotEntry<Format> dot_first[kMaxBatch];
  PolynomialEntry product[kMaxBatch];
  PolynomialEntry sum[kMaxBatch];
  gradient_t gradient[kLanes];
  #pragma HLS ARRAY_PARTITION variable = gradient type = complete dim = 1
  gradient_t closing[kLanes];
  #pragma HLS ARRAY_PARTITION variable = closing type = complete dim = 1

  const bool overlapped = g.overlap.slots_per_batch == 1;
  const uint32_t cycles = slots * g.slot_cycles;
  const uint32_t block = position[kBlock];
  const uint32_t decay = position[kDecayNow];
  const uint32_t gradient_shift = position[kGradientShiftNow];
  const LossRegisters losses = {r.sampling, r.loss, r.range_log2, position[kStepNow],
                                position[kStepNegativeNow]};

  // where the pipeline stands
  uint32_t slot = position[kSlot];
  uint32_t dot_ring = position[kDotRing];
  uint32_t update_ring = position[kUpdateRing];
  uint32_t previous = position[kPrevious];
  uint32_t current = position[kCurrent];
  uint32_t update = position[kUpdate];
  uint32_t saturations = position[kSaturations];
  uint32_t outside = position[kOutside];
  uint32_t clipped = position[kClipped];

  // batches of this block that are still to be dotted; the slots behind them drain
  uint32_t left = BlockBatches(r, g, block) - position[kDotted];
  // where the slot stands: its cycle, the cell that is dotted, the cell that is updated with
  uint32_t t = 0;
  uint32_t first_row = FirstRow(r, block) + position[kDotted] * r.batch;
  const uint32_t block_sample = block * r.block_samples;
  uint32_t dot_pass = 0, dot_sample = 0, dot_cell = 0, dot_part = 0, dot_table = 0;
  uint32_t dot_address = first_row * g.chunks;
  uint32_t dot_ring_address = dot_ring * g.slot_cells;
  uint32_t update_pass = 0, update_sample = 0, update_cell = 0, update_table = 0, pause = 0;
  uint32_t update_row_address = update_ring * g.slot_cells;
  uint32_t update_address = update_row_address;
  dot_t row_first = 0, row_second = 0;
  dot_t last_base = 0, last_first = 0;
  uint32_t dot_version = 0;
  // the cell whose sums are complete, and the turn that is next
  uint32_t turn = kTurns, closing_cell = 0, closing_version = 0, closing_update = 0;
  uint64_t norm = 0;

TRAIN:
  for (uint32_t i = 0; i < cycles + kTurns; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 8192
    // clang-format off: one pragma a line
    #pragma HLS DEPENDENCE variable=model type=inter direction=RAW distance=8 dependent=true
    #pragma HLS DEPENDENCE variable=master type=inter direction=RAW distance=8 dependent=true
    #pragma HLS DEPENDENCE variable=ring type=inter direction=RAW distance=32 dependent=true
    #pragma HLS DEPENDENCE variable=coefficient_first type=inter direction=RAW distance=32 dependent=true
    #pragma HLS DEPENDENCE variable=coefficient_second type=inter direction=RAW distance=32 dependent=true
    #pragma HLS DEPENDENCE variable=ring type=intra dependent=false
    #pragma HLS DEPENDENCE variable=coefficient_first type=intra dependent=false
    #pragma HLS DEPENDENCE variable=coefficient_second type=intra dependent=false
    #pragma HLS DEPENDENCE variable=dot_base type=inter direction=RAW distance=2 dependent=true
    #pragma HLS DEPENDENCE variable=dot_first type=inter direction=RAW distance=2 dependent=true
    #pragma HLS DEPENDENCE variable=product type=inter direction=RAW distance=16 dependent=true
    #pragma HLS DEPENDENCE variable=sum type=inter direction=RAW distance=16 dependent=true
    // clang-format on
    BeginPass();
    // behind the last slot come the turns of its last cell
    const bool slots_run = i < cycles;
    const bool dots = overlapped ? left != 0 : (slot & 1) == 0;
    const bool updates = overlapped ? slot >= g.overlap.lag : (slot & 1) == 1;
    const uint32_t next_version = kModelVersions - previous - current;
    // previous == current while no update has run; any third version will do then
    const uint32_t write_version = previous == current ? (current == 0 ? 1 : 0) : next_version;
    if (slots_run) dot_version = g.overlap.versions == 2 ? previous : current;

    if (slots_run && t < g.slot_cells && dots) {
      const cell_t cell = Format::Fetch(words, dot_address, dot_part);
      ring[dot_ring_address] = cell;

      const uint32_t entry = (dot_version << kVersionShift) + dot_cell;
      int64_t sum_first = 0, sum_second = 0;
    DOT_LANES:
      for (int lane = 0; lane < kLanes; ++lane) {
        #pragma HLS UNROLL
        const Terms terms = Format::TermsOf(cell, lane, g.decoding, dot_levels[lane], dot_table,
                                            model[entry][lane], model[entry][lane]);
        sum_first += terms.first;
        if (Format::kPairs) sum_second += terms.second;
      }
      row_first = dot_cell == 0 ? dot_t(sum_first) : dot_t(row_first + sum_first);
      if (Format::kPairs) {
        row_second = dot_cell == 0 ? dot_t(sum_second) : dot_t(row_second + sum_second);
      }

      if (dot_cell == g.cells - 1) {
        // base planes add up, then each dither plane completes the dot product of its own sample
        const bool base = kPlaneByPlane && dot_pass < g.base_planes;
        const uint32_t dither = kPlaneByPlane ? dot_pass - g.base_planes : 0;
        const int weight = !kPlaneByPlane ? 0 : base ? BaseWeight(dot_pass) : DitherWeight(r.bits);
        const dot_t weighted = ShiftLeft(row_first.to_int64(), weight);
        const bool forward = r.batch == 1;
        const dot_t old_base = forward ? last_base : dot_base[dot_sample];
        const dot_t zero = 0;
        const bool alone = dot_pass == 0 || (kPlaneByPlane && g.base_planes == 0);
        const dot_t dot = (alone ? zero : old_base) + weighted;
        if (base) {
          dot_base[dot_sample] = dot;
          last_base = dot;
        }
        const dot_t old_first = forward ? last_first : dot_first[dot_sample];
        const dot_t first = dither == 0 ? dot : old_first;
        const dot_t second = Format::kPairs ? row_second : dot;
        if (!base && dither == 0) {
          dot_first[dot_sample] = dot;
          last_first = dot;
        }

        // batches before the first one of this run keep the coefficients that came with them
        const bool carried = slot < r.pending;
        const uint32_t row = first_row + dot_sample;
        const bool real = block_sample + row < r.samples;
        const int32_t label = block_labels[row];
        const bool last = dot_pass == g.passes - 1;
        const bool polynomial = kPlaneByPlane && r.loss == kPolynomial;
        const Polynomial before = {product[dot_sample], sum[dot_sample]};
        if (polynomial && !base && !last && real && !carried) {
          const int32_t margin = Margin(Format::kFormat, dot.to_int64(), label, saturations);
          const Polynomial after =
              NextTerm(before, dither + 1, margin, r.range_log2, powers, saturations, outside);
          product[dot_sample] = after.product;
          sum[dot_sample] = after.sum;
        }
        if (last && !carried) {
          const int32_t weight_of_sample = block_weights[row];
          Coefficients c = {0, 0};
          bool doubt = false;
          if (Format::kRefetches && real) {
            doubt = InDoubt(Format::kFormat, r.bits, r.sampling, first.to_int64(),
                            second.to_int64(), label, norms[dot_version]);
          }
          if (polynomial && real) {
            c = PolynomialCoefficients(losses, before, label, weight_of_sample, saturations);
          } else if (real && !doubt) {
            c = SampleCoefficients(Format::kFormat, losses, first.to_int64(), second.to_int64(),
                                   label, weight_of_sample, derivative_first, derivative_second,
                                   saturations, outside);
          }
          const uint32_t place = dot_ring * r.batch + dot_sample;
          coefficient_first[place] = c.first;
          coefficient_second[place] = c.second;
          if (Format::kRefetches) in_doubt[dot_sample] = doubt;
        }
      }

      ++dot_ring_address;
      const bool row_ends = ++dot_cell == g.cells;
      if (++dot_part == kParts || row_ends) {
        dot_part = 0;
        ++dot_address;
      }
      dot_table += g.level_stride;
      if (row_ends) {
        dot_cell = 0;
        dot_table = 0;
        if (++dot_sample == r.batch) {
          dot_sample = 0;
          ++dot_pass;
          dot_address += g.plane_words - r.batch * g.chunks;
        }
      }
    }

    if (turn != kTurns) {
      const uint32_t entry = (closing_version << kVersionShift) + closing_cell;
      const uint32_t row = closing_cell * kTurns + turn;
      const uint32_t feature = row * kTurnLanes;
      const Draws draws = DrawsOf(r.seed, closing_update, feature >> kDrawFeaturesLog2);
      const Rounding<uint64_t> to_gradient =
          GradientRounding(draws, gradient_shift, r.gradient_bits);
      const Rounding<uint32_t> to_model = ModelRounding(draws, r.model_shift, r.model_bits);
      const uint32_t first_lane = feature & (kDrawFeatures - 1);
      const uint64_t gradient_number = NumberOf(to_gradient, to_gradient.words[0], first_lane);
      const uint32_t model_number = NumberOf(to_model, to_model.words[0], first_lane);
      uint32_t clamped = 0, cut = 0;
      uint64_t sizes = 0;
    TURN_LANES:
      for (int k = 0; k < kTurnLanes; ++k) {
        #pragma HLS UNROLL
        int32_t new_master = 0, new_model = 0;
        // padding lanes stay zero, whatever bits their planes hold
        if (feature + k < r.features) {
          const int64_t rounded = Rounded(to_gradient, closing[turn * kTurnLanes + k].to_int64(),
                                          NumberOf(to_gradient, gradient_number, k), cut);
          new_master = UpdateEntry(Format::kFormat, master[row][k], rounded, decay, clamped);
          new_model = static_cast<int32_t>(
              Rounded(to_model, new_master, NumberOf(to_model, model_number, k), cut));
        }
        master[row][k] = new_master;
      TURN_ENTRIES:
        for (uint32_t other = 0; other < kTurns; ++other) {
          #pragma HLS UNROLL
          if (turn == other) model[entry][other * kTurnLanes + k] = new_model;
        }
        if (Format::kRefetches) sizes += Magnitude(new_model);
      }
      saturations += clamped;
      clipped += cut;
      norm = row == 0 ? sizes : norm + sizes;
      ++turn;
      if (Format::kRefetches && turn == kTurns && closing_cell == g.cells - 1)
        norms[closing_version] = norm;
    }

    const bool works = slots_run && updates && update_cell != g.cells;
    if (works && pause != 0) {
      --pause;
    } else if (works) {
      const cell_t cell = ring[update_address];
      const uint32_t place = update_ring * r.batch + update_sample;
      const Coefficients c = {coefficient_first[place], coefficient_second[place]};
      int64_t factor_first, factor_second;
      if (Format::kPairs) {
        factor_first = DitherCoefficient(r.sampling, 0, g.dithers, c);
        factor_second = DitherCoefficient(r.sampling, 1, g.dithers, c);
      } else {
        const bool base = update_pass < g.base_planes;
        const int64_t factor =
            base ? BaseCoefficient(c)
                 : DitherCoefficient(r.sampling, update_pass - g.base_planes, g.dithers, c);
        const int weight = !kPlaneByPlane ? 0
                           : base         ? BaseWeight(update_pass)
                                          : DitherWeight(r.bits);
        factor_first = ShiftLeft(factor, weight);
        factor_second = 0;
      }
      const bool opens = update_sample == 0 && update_pass == 0;
      const bool closes = update_sample == r.batch - 1 && update_pass == g.passes - 1;
    UPDATE_LANES:
      for (int lane = 0; lane < kLanes; ++lane) {
        #pragma HLS UNROLL
        const Terms terms = Format::TermsOf(cell, lane, g.decoding, update_levels[lane],
                                            update_table, factor_first, factor_second);
        const int64_t term = Format::kPairs ? terms.first + terms.second : terms.first;
        gradient[lane] = opens ? gradient_t(term) : gradient_t(gradient[lane] + term);
        if (closes) closing[lane] = gradient[lane];
      }
      if (closes) {
        turn = 0;
        closing_cell = update_cell;
        closing_version = write_version;
        closing_update = update;
        pause = g.pause;
      }

      if (++update_pass == g.passes) {
        update_pass = 0;
        if (++update_sample == r.batch) {
          update_sample = 0;
          ++update_cell;
          update_table += g.level_stride;
          update_row_address += 1 - (g.batch_cells - g.cells);
        } else {
          update_row_address += g.cells;
        }
        update_address = update_row_address;
      } else {
        update_address += g.batch_cells;
      }
    }

    if (slots_run && ++t == g.slot_cycles) {
      t = 0;
      ++slot;
      previous = current;
      if (updates) {
        current = write_version;
        ++update;
        update_ring = update_ring + 1 == g.overlap.ring_batches ? 0 : update_ring + 1;
      }
      if (dots) {
        --left;
        first_row += r.batch;
        dot_ring = dot_ring + 1 == g.overlap.ring_batches ? 0 : dot_ring + 1;
      }
      dot_pass = 0;
      dot_address = first_row * g.chunks;
      dot_ring_address = dot_ring * g.slot_cells;
      update_cell = 0;
      update_table = 0;
      pause = 0;
      update_row_address = update_ring * g.slot_cells;
      update_address = update_row_address;
    }
  }

  EndPasses();

  position[kSlot] = slot;
  position[kDotted] = BlockBatches(r, g, block) - left;
  position[kDotRing] = dot_ring;
  position[kUpdateRing] = update_ring;
  position[kPrevious] = previous;
  position[kCurrent] = current;
  position[kDotVersion] = dot_version;
  position[kUpdate] = update;
  position[kSaturations] = saturations;
  position[kOutside] = outside;
  position[kClipped] = clipped;
}

/// Reads the samples of a batch that are in doubt again, as float32, and puts their exact
/// coefficients in place. Called between two slots, for it takes as long as there are such samples.
/// \param first_row  of the batch in its block
/// \param ring_place of the batch
template <class Format>
void Refetch(const typename Format::word_t *full, const int32_t block_labels[kBlockSamples],
             const int32_t block_weights[kBlockSamples], const Registers &r, const Geometry &g,
             uint32_t first_row, uint32_t ring_place,
             const ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
             CoefficientEntry coefficient_first[kCoefficientEntries],
             CoefficientEntry coefficient_second[kCoefficientEntries],
             const int32_t derivative_first[kDerivativeEntries],
             const int32_t derivative_second[kDerivativeEntries], const bool in_doubt[kMaxBatch],
             uint32_t position[kPositions]) {
  #pragma HLS INLINE off
  constexpr uint32_t kFullLanes = Format::kFullLanes;
  constexpr uint32_t kFullParts = Format::kLanes / Format::kFullLanes;
  const uint32_t block_sample = position[kBlock] * r.block_samples;
  const uint32_t entry = position[kDotVersion] << CellsLog2<Format>();
  const LossRegisters losses = {r.sampling, r.loss, r.range_log2, position[kStepNow],
                                position[kStepNegativeNow]};
  uint32_t saturations = position[kSaturations];
  uint32_t outside = position[kOutside];
  uint32_t refetched = position[kRefetched];
REFETCH:
  for (uint32_t s = 0; s < r.batch; ++s) {
    #pragma HLS LOOP_TRIPCOUNT min = 1 max = 256
    const uint32_t row = first_row + s;
    if (block_sample + row >= r.samples || !in_doubt[s]) continue;
    const uint64_t address = static_cast<uint64_t>(block_sample + row) * g.full_words;
    uint32_t cell = 0, part = 0;
    typename Format::dot_t dot = 0;
  REFETCH_WORDS:
    for (uint32_t i = 0; i < g.full_words; ++i) {
      #pragma HLS PIPELINE II = 1
      #pragma HLS LOOP_TRIPCOUNT min = 1 max = 2048
      const typename Format::word_t word = full[address + i];
      int64_t words_sum = 0;
    REFETCH_LANES:
      for (uint32_t lane = 0; lane < kFullLanes; ++lane) {
        #pragma HLS UNROLL
        const uint32_t bits =
            static_cast<uint32_t>(word.range(32 * lane + 31, 32 * lane).to_uint());
        const int64_t value = FixedFromFloatBits(bits);
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
        Format::kFormat, losses, dot.to_int64(), dot.to_int64(), block_labels[row],
        block_weights[row], derivative_first, derivative_second, saturations, outside);
    coefficient_first[ring_place * r.batch + s] = c.first;
    coefficient_second[ring_place * r.batch + s] = c.second;
    ++refetched;
  }
  position[kSaturations] = saturations;
  position[kOutside] = outside;
  position[kRefetched] = refetched;
}

/// Copies the model from memory, entry by entry, into the update side's copy.
template <class Format>
void LoadModel(const int32_t *memory, uint32_t entries,
               ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()]) {
  #pragma HLS INLINE off
  uint32_t row = 0, lane = 0;
LOAD_MODEL:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    master[row][lane] = memory[i];
    if (++lane == TurnLanes<Format>()) {
      lane = 0;
      ++row;
    }
  }
}

/// Makes version 0, what the first dot products see, from the update side's copy: quantized, if the
/// model is to be. The random numbers are those of the update before the first one, so that a run
/// that is cut between two updates goes on with the model that it would have had. Once a run, so
/// the generator takes a round at a time: nothing here unrolls it.
template <class Format>
void SeeModel(const ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
              uint32_t entries, const Registers &r,
              ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
              uint64_t norms[kModelVersions], uint32_t &clipped) {
  #pragma HLS INLINE off
  uint32_t cell = 0, lane = 0, row = 0, turn_lane = 0;
  uint64_t norm = 0;
SEE_GROUPS:
  for (uint32_t group = 0; group << kDrawFeaturesLog2 < entries; ++group) {
    #pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
    const Draws draws = DrawsOf(r.seed, r.first_update - 1, group);
    const Rounding<uint32_t> rounding = ModelRounding(draws, r.model_shift, r.model_bits);
  SEE_ENTRIES:
    for (uint32_t i = 0; i < kDrawFeatures; ++i) {
      #pragma HLS PIPELINE II = 1
      #pragma HLS LOOP_TRIPCOUNT min = 64 max = 64
      // rows of few lanes may end inside a group
      if ((group << kDrawFeaturesLog2) + i < entries) {
        const uint32_t number = NumberOf(rounding, rounding.words[0], i);
        const int32_t seen =
            static_cast<int32_t>(Rounded(rounding, master[row][turn_lane], number, clipped));
        model[cell][lane] = seen;
        norm += Magnitude(seen);
        if (++lane == Format::kLanes) {
          lane = 0;
          ++cell;
        }
        if (++turn_lane == TurnLanes<Format>()) {
          turn_lane = 0;
          ++row;
        }
      }
    }
  }
  norms[0] = norm;
}

/// Cycles of LoadModel and SeeModel.
inline uint32_t StartCycles(uint32_t entries) {
  const uint32_t groups = (entries + kDrawFeatures - 1) >> kDrawFeaturesLog2;
  return entries + kMemoryLatency + groups * (kDrawFeatures + kDrawLatency);
}

/// Copies the table of a loss's derivative, or the coefficients of its polynomial.
inline void LoadDerivative(const int32_t *memory, uint32_t count,
                           int32_t derivative_first[kDerivativeEntries],
                           int32_t derivative_second[kDerivativeEntries],
                           int32_t powers[kMaxDegree + 1]) {
  #pragma HLS INLINE off
LOAD_DERIVATIVE:
  for (uint32_t i = 0; i < count; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 1025
    const int32_t entry = memory[i];
    derivative_first[i] = entry;
    derivative_second[i] = entry;
    if (i <= kMaxDegree) powers[i] = entry;
  }
}

/// Numbers that a loss reads from memory.
inline uint32_t DerivativeCount(const Registers &r) {
  return r.loss == kTable ? kDerivativeEntries : r.loss == kPolynomial ? r.degree + 1 : 0;
}

/// Copies the update side's model to memory, and zeros behind its last feature.
template <class Format>
void StoreModel(const ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
                uint32_t features, uint32_t entries, int32_t *memory, uint64_t offset) {
  #pragma HLS INLINE off
  uint32_t row = 0, lane = 0;
STORE_MODEL:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    memory[offset + i] = i < features ? master[row][lane] : 0;
    if (++lane == TurnLanes<Format>()) {
      lane = 0;
      ++row;
    }
  }
}

/// The same of a version that the dot side reads.
template <class Format>
void StoreVersion(const ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
                  uint32_t version, uint32_t features, uint32_t entries, int32_t *memory) {
  #pragma HLS INLINE off
  uint32_t cell = version << CellsLog2<Format>(), lane = 0;
STORE_VERSION:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    memory[i] = i < features ? model[cell][lane] : 0;
    if (++lane == Format::kLanes) {
      lane = 0;
      ++cell;
    }
  }
}

/// Copies tables of levels from memory, feature after feature, to the lanes that decode with them;
/// a single table goes to all lanes.
template <class Format>
void LoadLevels(const int32_t *memory, uint32_t tables, uint32_t count,
                int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
                int16_t update_levels[Format::kLanes][1 << Format::kTableLog2]) {
  #pragma HLS INLINE off
  uint32_t level = 0, lane = 0, table = 0;
LOAD_LEVELS:
  for (uint32_t i = 0; i < tables * count; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 2 max = 262144
    const int16_t value = static_cast<int16_t>(memory[i]);
  LEVEL_LANES:
    for (int k = 0; k < Format::kLanes; ++k) {
      #pragma HLS UNROLL
      if (tables == 1 || static_cast<uint32_t>(k) == lane) {
        dot_levels[k][table + level] = value;
        update_levels[k][table + level] = value;
      }
    }
    if (++level == count) {
      level = 0;
      if (++lane == Format::kLanes) {
        lane = 0;
        table += count;
      }
    }
  }
}

/// Coefficients of batches that an earlier run has dotted but not updated, oldest first.
inline void LoadPending(const int32_t *memory, uint64_t offset, uint32_t count,
                        CoefficientEntry coefficient_first[kCoefficientEntries],
                        CoefficientEntry coefficient_second[kCoefficientEntries]) {
  #pragma HLS INLINE off
LOAD_PENDING:
  for (uint32_t i = 0; i < 2 * count; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 4096
    const int32_t value = memory[offset + i];
    if ((i & 1) == 0) {
      coefficient_first[i >> 1] = value;
    } else {
      coefficient_second[i >> 1] = value;
    }
  }
}

/// Writes the coefficients of `pending` batches; the oldest of them is at place `first` of a ring
/// of `ring_batches`.
inline void StorePending(const CoefficientEntry coefficient_first[kCoefficientEntries],
                         const CoefficientEntry coefficient_second[kCoefficientEntries],
                         uint32_t first, uint32_t ring_batches, uint32_t batch, uint32_t pending,
                         int32_t *memory, uint64_t offset) {
  #pragma HLS INLINE off
  uint32_t place = first * batch;
STORE_PENDING:
  for (uint32_t i = 0; i < 2 * pending * batch; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 4096
    memory[offset + i] = (i & 1) == 0 ? coefficient_first[place] : coefficient_second[place];
    if ((i & 1) == 1) {
      place = place + 1 == ring_batches * batch ? 0 : place + 1;
    }
  }
}

/// The slots of a block within its epoch: takes the epoch's row of the schedule before its first
/// block, and writes the history row behind its last one. Counts what the schedule says that the
/// block takes, while the next one is read.
template <class Format>
void TrainAndRecord(const typename Format::word_t words[Format::kBufferPlanes]
                                                       [1 << BlockWordsLog2(Format::kFormat)],
                    const int32_t block_labels[kBlockSamples],
                    const int32_t block_weights[kBlockSamples], const uint32_t *schedule,
                    int32_t *history, const typename Format::word_t *full, Registers r, Geometry g,
                    ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
                    ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
                    RingEntry<Format> ring[1 << RingWordsLog2(Format::kFormat)],
                    CoefficientEntry coefficient_first[kCoefficientEntries],
                    CoefficientEntry coefficient_second[kCoefficientEntries],
                    const int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
                    const int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
                    const int32_t derivative_first[kDerivativeEntries],
                    const int32_t derivative_second[kDerivativeEntries],
                    const int32_t powers[kMaxDegree + 1], uint64_t norms[kModelVersions],
                    uint32_t position[kPositions], uint64_t counters[kCounters]) {
  #pragma HLS INLINE off
  const uint32_t block = position[kBlock];
  const uint32_t epoch = position[kEpoch];
  const bool closes = position[kBlockCount] + 1 == g.blocks;
  if (position[kBlockCount] == 0) {
    const uint32_t row = epoch * kScheduleColumns;
    position[kStepNow] = schedule[row + kStep];
    position[kStepNegativeNow] = schedule[row + kStepNegative];
    position[kDecayNow] = schedule[row + kDecay];
    position[kGradientShiftNow] = schedule[row + kGradientShift];
    position[kSlot] = 0;
    position[kDotRing] = 0;
    position[kUpdateRing] = 0;
    position[kPrevious] = position[kCurrent];
  }
  position[kDotted] = 0;
  bool in_doubt[kMaxBatch];
  const uint32_t slots = BlockSlots(r, g, block, closes);
  constexpr uint32_t kFill = kPipelineDepth + Turns<Format>();
  uint32_t cycles = slots * g.slot_cycles + kFill;
  if (!Format::kRefetches) {
    TrainSlots<Format>(words, block_labels, block_weights, r, g, slots, model, master, ring,
                       coefficient_first, coefficient_second, dot_levels, update_levels,
                       derivative_first, derivative_second, powers, norms, in_doubt, position);
  } else {
  SLOTS:
    for (uint32_t i = 0; i < slots; ++i) {
      #pragma HLS LOOP_TRIPCOUNT min = 1 max = 4096
      const uint32_t slot = position[kSlot];
      const uint32_t dotted = position[kDotted];
      const uint32_t ring_place = position[kDotRing];
      TrainSlots<Format>(words, block_labels, block_weights, r, g, 1, model, master, ring,
                         coefficient_first, coefficient_second, dot_levels, update_levels,
                         derivative_first, derivative_second, powers, norms, in_doubt, position);
      // a slot of its own is a pipeline's fill and drain of its own
      if (i != 0) cycles += kFill;
      if (position[kDotted] != dotted && slot >= r.pending) {
        const uint32_t before = position[kRefetched];
        Refetch<Format>(full, block_labels, block_weights, r, g,
                        FirstRow(r, block) + dotted * r.batch, ring_place, model, coefficient_first,
                        coefficient_second, derivative_first, derivative_second, in_doubt,
                        position);
        cycles += (position[kRefetched] - before) * RefetchCycles(g);
      }
    }
  }
  if (closes && (r.flags & kFlagHold) == 0) {
    const uint32_t entries = g.chunks * Format::kWordLanes;
    StoreModel<Format>(master, r.features, entries, history,
                       static_cast<uint64_t>(epoch) * entries);
    cycles += entries + kMemoryLatency;
  }
  const bool last = closes && epoch + 1 == r.epochs;
  const uint32_t read = last ? 0 : ReadCycles(r, g);
  counters[kCycles] += cycles > read ? cycles : read;
  counters[kWordsStreamed] += g.planes * g.plane_words;
  position[kBlock] = NextBlock(r, g, block);
  position[kBlockCount] = closes ? 0 : position[kBlockCount] + 1;
  position[kEpoch] = closes ? epoch + 1 : epoch;
}

/// Blocks of all epochs in one row, so that a block is read while the one before it trains, across
/// the end of an epoch too. Each stage counts for itself and alone touches what it writes.
template <class Format>
void RunBlocks(const typename Format::word_t *planes, const int32_t *labels,
               const uint32_t *schedule, int32_t *history, const typename Format::word_t *full,
               Registers r, Geometry g, uint64_t rounds, uint32_t next_words[1],
               uint32_t next_labels[1],
               ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
               ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
               RingEntry<Format> ring[1 << RingWordsLog2(Format::kFormat)],
               CoefficientEntry coefficient_first[kCoefficientEntries],
               CoefficientEntry coefficient_second[kCoefficientEntries],
               const int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
               const int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
               const int32_t derivative_first[kDerivativeEntries],
               const int32_t derivative_second[kDerivativeEntries],
               const int32_t powers[kMaxDegree + 1], uint64_t norms[kModelVersions],
               uint32_t position[kPositions], uint64_t counters[kCounters]) {
  #pragma HLS INLINE off
BLOCKS:
  for (uint64_t round = 0; round < rounds; ++round) {
    #pragma HLS DATAFLOW
    #pragma HLS LOOP_TRIPCOUNT min = 1 max = 65536
    typename Format::word_t words[Format::kBufferPlanes][1 << BlockWordsLog2(Format::kFormat)];
    #pragma HLS ARRAY_PARTITION variable = words type = complete dim = 1
    int32_t block_labels[kBlockSamples];
    int32_t block_weights[kBlockSamples];
#if ZIPML_ULTRA_RAM
    #pragma HLS BIND_STORAGE variable = words type = ram_s2p impl = uram
    #pragma HLS BIND_STORAGE variable = block_labels type = ram_s2p impl = uram
    #pragma HLS BIND_STORAGE variable = block_weights type = ram_s2p impl = uram
#endif
    ReadWords<Format>(planes, r, g, next_words, words);
    ReadLabels(labels, r, g, next_labels, block_labels, block_weights);
    TrainAndRecord<Format>(words, block_labels, block_weights, schedule, history, full, r, g, model,
                           master, ring, coefficient_first, coefficient_second, dot_levels,
                           update_levels, derivative_first, derivative_second, powers, norms,
                           position, counters);
  }
}

/// What a run reports beside its model.
struct Outputs {
  uint64_t words;
  uint64_t cycles;
  uint32_t saturations;
  uint32_t outside;
  uint32_t clipped;
  uint32_t refetched;
};

/// The whole accelerator.
/// \param derivative  table or coefficients of the loss; not read by the others
/// \param levels      tables of levels, as many as the registers say; not read by other formats
/// \param full        float32 samples, blocks and rows as in `planes`; read by refetching formats
template <class Format>
uint32_t Run(const typename Format::word_t *planes, const int32_t *labels, int32_t *model_memory,
             int32_t *history, const uint32_t *schedule, const int32_t *derivative,
             const int32_t *levels, const typename Format::word_t *full, const Registers &r,
             Outputs &out) {
  #pragma HLS INLINE off
  out = {0, 0, 0, 0, 0, 0};
  const uint32_t status = CheckRegisters<Format>(r);
  if (status != kStatusOk) return status;

  // One entry a lane. Dot products read one of three versions while the next one is written; the
  // update side has the latest in a copy of its own, so that no memory needs more than two ports.
  ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes];
  #pragma HLS ARRAY_PARTITION variable = model type = complete dim = 2
  #pragma HLS BIND_STORAGE variable = model type = ram_s2p impl = bram
  ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()];
  #pragma HLS ARRAY_PARTITION variable = master type = complete dim = 2
  #pragma HLS BIND_STORAGE variable = master type = ram_s2p
  RingEntry<Format> ring[1 << RingWordsLog2(Format::kFormat)];
#if ZIPML_ULTRA_RAM
  #pragma HLS BIND_STORAGE variable = ring type = ram_s2p impl = uram
#else
  #pragma HLS BIND_STORAGE variable = ring type = ram_s2p impl = bram
#endif
  CoefficientEntry coefficient_first[kCoefficientEntries];
  #pragma HLS BIND_STORAGE variable = coefficient_first type = ram_s2p
  CoefficientEntry coefficient_second[kCoefficientEntries];
  #pragma HLS BIND_STORAGE variable = coefficient_second type = ram_s2p
  // a lane looks up two samples a cycle on either side, which is what a memory's two ports give
  int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2];
  #pragma HLS ARRAY_PARTITION variable = dot_levels type = complete dim = 1
  #pragma HLS BIND_STORAGE variable = dot_levels type = ram_t2p impl = bram
  int16_t update_levels[Format::kLanes][1 << Format::kTableLog2];
  #pragma HLS ARRAY_PARTITION variable = update_levels type = complete dim = 1
  #pragma HLS BIND_STORAGE variable = update_levels type = ram_t2p impl = bram
  // two neighbours are read to interpolate between, for each of a sample's dot products
  int32_t derivative_first[kDerivativeEntries];
  #pragma HLS BIND_STORAGE variable = derivative_first type = ram_t2p impl = bram
  int32_t derivative_second[kDerivativeEntries];
  #pragma HLS BIND_STORAGE variable = derivative_second type = ram_t2p impl = bram
  // a polynomial reads its first coefficient and one more at once
  int32_t powers[kMaxDegree + 1];
  #pragma HLS ARRAY_PARTITION variable = powers type = complete dim = 1
  uint64_t norms[kModelVersions];
  uint32_t position[kPositions];
  uint64_t counters[kCounters];

  const Geometry g = GeometryOf<Format>(r);
  const uint32_t entries = g.chunks * Format::kWordLanes;
  uint32_t clipped = 0;
  LoadModel<Format>(model_memory, entries, master);
  SeeModel<Format>(master, entries, r, model, norms, clipped);
  // a later run's start model was counted when it was made
  if (r.first_update != 0) clipped = 0;
  if (r.pending != 0) {
    LoadPending(model_memory, entries, r.pending * r.batch, coefficient_first, coefficient_second);
  }
  counters[kWordsStreamed] = 0;
  counters[kCycles] = StartCycles(entries) + ReadCycles(r, g) + entries + kMemoryLatency;
  if (r.pending != 0) counters[kCycles] += 2 * r.pending * r.batch + kMemoryLatency;
  const uint32_t derivatives = DerivativeCount(r);
  if (derivatives != 0) {
    LoadDerivative(derivative, derivatives, derivative_first, derivative_second, powers);
    counters[kCycles] += derivatives + kMemoryLatency;
  }
  if (Format::kTableLog2 != 0) {
    LoadLevels<Format>(levels, r.level_tables, LevelCount(r.bits), dot_levels, update_levels);
    counters[kCycles] += r.level_tables * LevelCount(r.bits) + kMemoryLatency;
  }
  position[kBlock] = r.first_block;
  position[kBlockCount] = 0;
  position[kEpoch] = 0;
  position[kCurrent] = 0;
  position[kUpdate] = r.first_update;
  position[kSaturations] = 0;
  position[kOutside] = 0;
  position[kClipped] = clipped;
  position[kRefetched] = 0;

  uint32_t next_words[1] = {r.first_block};
  uint32_t next_labels[1] = {r.first_block};
  const uint64_t rounds = static_cast<uint64_t>(r.epochs) * g.blocks;
  RunBlocks<Format>(planes, labels, schedule, history, full, r, g, rounds, next_words, next_labels,
                    model, master, ring, coefficient_first, coefficient_second, dot_levels,
                    update_levels, derivative_first, derivative_second, powers, norms, position,
                    counters);

  // with updates held back, the model that the next dot product would read
  const bool hold = (r.flags & kFlagHold) != 0;
  if (hold && g.overlap.versions == 2) {
    StoreVersion<Format>(model, position[kPrevious], r.features, entries, model_memory);
  } else {
    StoreModel<Format>(master, r.features, entries, model_memory, 0);
  }
  if (hold) {
    const uint32_t dotted = g.batches - r.skip;
    const uint32_t pending = r.delay < dotted ? r.delay : dotted;
    if (pending != 0) {
      const uint32_t behind = position[kDotRing];
      const uint32_t first =
          behind >= pending ? behind - pending : behind + g.overlap.ring_batches - pending;
      StorePending(coefficient_first, coefficient_second, first, g.overlap.ring_batches, r.batch,
                   pending, model_memory, entries);
      counters[kCycles] += 2 * pending * r.batch + kMemoryLatency;
    }
  }
  out = {counters[kWordsStreamed], counters[kCycles],  position[kSaturations],
         position[kOutside],       position[kClipped], position[kRefetched]};
  return kStatusOk;
}

}  // namespace zipml
