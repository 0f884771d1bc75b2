// The stages of the accelerator. Each is a function of its own that a test bench can call alone,
// and the whole is a plain sequential program: without its pragmas it computes the same model.
//
//   ReadWords, ReadLabels   one block from memory to on-chip buffers, in bursts
//   TrainBlock              dot products of one batch beside the update of an earlier one
//   TrainAndRecord          TrainBlock, with an epoch's step before and its history row behind it
//   LoadModel, LoadLevels   from memory, before the first block
//   Run                     loads, lets blocks of all epochs stream through, stores it
//
// TrainBlock is one loop at II = 1. Its feedback paths (coefficient, model) are long; the slot is
// lengthened by bubbles until every value is ready before it is used (zipml/schedule.hpp), and the
// DEPENDENCE pragmas promise those distances to the compiler, which reports an II above 1 where the
// promise is not enough, and never a wrong result. docs/schedule.md has the arithmetic.
#pragma once

#include "formats.hpp"
#include "zipml/schedule.hpp"

namespace zipml {

constexpr int kModelVersions = 3;
constexpr int kCoefficientEntries = (kMaxDelay + 1) * kMaxBatch;

// The DEPENDENCE pragmas below take literals only.
static_assert(kResidualLatency == 32, "distance= of coefficient_* and ring in TrainBlock");
static_assert(kUpdateLatency == 8, "distance= of model and master in TrainBlock");

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
  uint32_t level_tables;
};

/// What follows from the registers once they are valid.
struct Geometry {
  uint32_t chunks;  // words of one row of one plane
  uint32_t cells;   // of one row: what is trained on in a cycle each
  uint32_t base_planes;
  uint32_t planes;   // streamed: base and dithers
  uint32_t passes;   // over the cells of a batch: one for each plane, or one for all of them
  uint32_t batches;  // of the data set, the last one ragged
  uint32_t blocks;
  uint32_t block_batches;  // batches of one full block
  uint32_t plane_words;    // of one plane of one block
  uint32_t batch_cells;    // of one pass
  uint32_t slot_cells;     // of all passes
  uint32_t slot_cycles;    // slot_cells and the bubbles
  uint32_t bursts;         // of one block
  uint32_t level_stride;   // levels from one cell's tables to the next one's; 0: they share one
  Overlap overlap;
  Decoding decoding;
};

/// Where the training pipeline stands from one block to the next. Kept as an array, for it lives in
/// a dataflow region in which only TrainAndRecord may touch it.
enum Position {
  kBlock,       // the block that trains next
  kEpoch,       // its epoch
  kStepNow,     // step / batch of that epoch
  kDecayNow,    // decay of that epoch
  kSlot,        // slots since the start of the epoch
  kDotRing,     // place in the ring of the batch that is dotted next
  kUpdateRing,  // place in the ring of the batch that is updated next
  kPrevious,    // version of the model before the latest slot
  kCurrent,     // latest version of the model
  kNextSample,  // index of the first sample of the batch that is dotted next
  kSaturations,
  kPositions
};

enum Counter { kWordsStreamed, kCycles, kCounters };

/// Columns of the schedule buffer, a row an epoch.
enum ScheduleColumn { kStep, kDecay, kScheduleColumns };

/// Rows of the arrays that hold a model: one a cell.
template <class Format>
constexpr int CellsLog2() {
  return MaxChunksLog2(Format::kFormat) + Format::kPartsLog2;
}

template <class Format>
uint32_t CellsOf(uint32_t features) {
  return (features + Format::kLanes - 1) / Format::kLanes;
}

/// Levels of one table.
inline uint32_t LevelCount(uint32_t bits) { return (1u << (bits - 1)) + 1; }

template <class Format>
uint32_t CheckRegisters(const Registers &r) {
  #pragma HLS INLINE off
  const uint32_t lanes = Format::kWordLanes;
  const bool floats = Format::kFormat == kFloat32;
  if (r.samples == 0 || r.samples > kMaxSamples) return kStatusSamples;
  if (r.features == 0 || r.features > (lanes << MaxChunksLog2(Format::kFormat)))
    return kStatusFeatures;
  if (floats ? r.bits != 32 : (r.bits == 0 || r.bits > kMaxBits)) return kStatusBits;
  if (r.sampling > (floats ? kSingle : kDoubleSymmetric)) return kStatusSampling;
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
  const bool plane_by_plane = Format::kFormat == kBitPlanes;
  const uint32_t passes = plane_by_plane ? BasePlanes(r.bits) + DitherPlanes(r.sampling) : 1;
  if (r.block_samples == 0 || r.block_samples > kBlockSamples) return kStatusBlock;
  if (r.block_samples % r.batch != 0) return kStatusBlock;
  // at most 2^12 * 2^11 * 2^4: no overflow
  if (passes * r.block_samples * chunks > (1u << BlockWordsLog2(Format::kFormat)))
    return kStatusBlock;
  const Overlap overlap = OverlapOf(r.delay);
  if (overlap.ring_batches * passes * r.batch * cells > (1u << RingWordsLog2(Format::kFormat))) {
    return kStatusRing;
  }

  if ((r.flags & ~static_cast<uint32_t>(kFlagHold)) != 0) return kStatusPartial;
  if (r.flags != 0 || r.skip != 0 || r.pending != 0) {
    if (r.epochs != 1 || r.pending > r.delay) return kStatusPartial;
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
  g.planes = g.base_planes + DitherPlanes(r.sampling);
  g.passes = Format::kFormat == kBitPlanes ? g.planes : 1;
  g.batches = (r.samples - 1) / r.batch + 1;
  g.blocks = (r.samples - 1) / r.block_samples + 1;
  g.block_batches = r.block_samples / r.batch;
  g.plane_words = r.block_samples * g.chunks;
  g.batch_cells = r.batch * g.cells;
  g.slot_cells = g.passes * g.batch_cells;
  g.overlap = OverlapOf(r.delay);
  g.slot_cycles = SlotCycles(g.passes, r.batch, g.cells, g.overlap);
  g.bursts = g.base_planes == 0 || r.dither_offset == g.base_planes * g.plane_words ? 1 : 2;
  g.level_stride = Format::kTableLog2 != 0 && r.level_tables != 1 ? LevelCount(r.bits) : 0;
  g.decoding.base_mask = (1u << g.base_planes) - 1;
  g.decoding.single = r.sampling == kSingle;
  return g;
}

/// The block after this one; the first follows the last.
inline uint32_t NextBlock(const Geometry &g, uint32_t block) {
  return block + 1 == g.blocks ? 0 : block + 1;
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
  next[0] = NextBlock(g, block);
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

inline void ReadLabels(const int32_t *labels, Registers r, Geometry g, uint32_t next[1],
                       int32_t block_labels[kBlockSamples]) {
  #pragma HLS INLINE off
  const uint32_t block = next[0];
  next[0] = NextBlock(g, block);
  const uint64_t address = static_cast<uint64_t>(block) * r.block_samples;
READ_LABELS:
  for (uint32_t i = 0; i < r.block_samples; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 8 max = 4096
    block_labels[i] = labels[address + i];
  }
}

/// Batches of one block that this run trains on.
inline uint32_t BlockBatches(const Registers &r, const Geometry &g, uint32_t block) {
  const uint32_t end = block + 1 == g.blocks ? g.batches : (block + 1) * g.block_batches;
  const uint32_t begin = block == 0 ? r.skip : block * g.block_batches;
  return end - begin;
}

/// Slots that a block takes: those of its batches and, with the last block, those that drain the
/// pipeline.
inline uint32_t BlockSlots(const Registers &r, const Geometry &g, uint32_t block) {
  const uint32_t slots = BlockBatches(r, g, block) * g.overlap.slots_per_batch;
  const bool drains = block + 1 == g.blocks && r.delay != 0 && (r.flags & kFlagHold) == 0;
  return drains ? slots + g.overlap.lag : slots;
}

/// Cycles that reading one block takes.
inline uint32_t ReadCycles(const Geometry &g) {
  return g.planes * g.plane_words + g.bursts * kMemoryLatency;
}

/// Trains on one block. Slot k runs the dot products of batch k, cell after cell as they lie in
/// `words`, and the update of batch k - lag out of the ring, a cell of the model after the other:
/// for one cell the sum over samples and planes stays in registers, then its model entries change
/// once.
template <class Format>
void TrainBlock(const typename Format::word_t words[Format::kBufferPlanes]
                                                   [1 << BlockWordsLog2(Format::kFormat)],
                const int32_t block_labels[kBlockSamples], const Registers &r, const Geometry &g,
                uint32_t block, uint32_t step, uint32_t decay,
                int32_t model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
                int32_t master[1 << CellsLog2<Format>()][Format::kLanes],
                typename Format::cell_t ring[1 << RingWordsLog2(Format::kFormat)],
                int32_t coefficient_first[kCoefficientEntries],
                int32_t coefficient_second[kCoefficientEntries],
                const int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
                const int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
                uint32_t position[kPositions]) {
  #pragma HLS INLINE off
  typedef typename Format::cell_t cell_t;
  typedef typename Format::dot_t dot_t;
  typedef typename Format::gradient_t gradient_t;
  constexpr int kLanes = Format::kLanes;
  constexpr int kVersionShift = CellsLog2<Format>();
  constexpr uint32_t kParts = 1u << Format::kPartsLog2;
  constexpr bool kWeighted = Format::kFormat == kBitPlanes;

  dot_t dot_first[kMaxBatch];
  dot_t dot_second[kMaxBatch];
  gradient_t gradient[kLanes];
  #pragma HLS ARRAY_PARTITION variable = gradient type = complete dim = 1

  const bool overlapped = g.overlap.slots_per_batch == 1;
  const uint32_t cycles = BlockSlots(r, g, block) * g.slot_cycles;

  // where the pipeline stands
  uint32_t slot = position[kSlot];
  uint32_t dot_ring = position[kDotRing];
  uint32_t update_ring = position[kUpdateRing];
  uint32_t previous = position[kPrevious];
  uint32_t current = position[kCurrent];
  uint32_t next_sample = position[kNextSample];
  uint32_t saturations = position[kSaturations];

  // batches of this block that are still to be dotted; the slots behind them drain
  uint32_t left = BlockBatches(r, g, block);
  // where the slot stands: its cycle, the cell that is dotted, the cell that is updated with
  uint32_t t = 0;
  uint32_t first_row = block == 0 ? r.skip * r.batch : 0;
  uint32_t dot_pass = 0, dot_sample = 0, dot_cell = 0, dot_part = 0, dot_table = 0;
  uint32_t dot_address = first_row * g.chunks;
  uint32_t dot_ring_address = dot_ring * g.slot_cells;
  uint32_t update_pass = 0, update_sample = 0, update_cell = 0, update_table = 0;
  uint32_t update_row_address = update_ring * g.slot_cells;
  uint32_t update_address = update_row_address;
  dot_t row_first = 0, row_second = 0;
  dot_t last_first = 0, last_second = 0;

TRAIN:
  for (uint32_t i = 0; i < cycles; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 8192
    // clang-format off: one pragma a line
    #pragma HLS DEPENDENCE variable=model type=inter direction=RAW distance=8 dependent=true
    #pragma HLS DEPENDENCE variable=master type=inter direction=RAW distance=8 dependent=true
    #pragma HLS DEPENDENCE variable=ring type=inter direction=RAW distance=32 dependent=true
    #pragma HLS DEPENDENCE variable=coefficient_first type=inter direction=RAW distance=32 dependent=true
    #pragma HLS DEPENDENCE variable=coefficient_second type=inter direction=RAW distance=32 dependent=true
    #pragma HLS DEPENDENCE variable=dot_first type=inter direction=RAW distance=2 dependent=true
    #pragma HLS DEPENDENCE variable=dot_second type=inter direction=RAW distance=2 dependent=true
    // clang-format on
    const bool busy = t < g.slot_cells;
    const bool dots = overlapped ? left != 0 : (slot & 1) == 0;
    const bool updates = overlapped ? slot >= g.overlap.lag : (slot & 1) == 1;
    const uint32_t next_version = kModelVersions - previous - current;
    // previous == current while no update has run; any third version will do then
    const uint32_t write_version = previous == current ? (current == 0 ? 1 : 0) : next_version;

    if (busy && dots) {
      const cell_t cell = Format::Fetch(words, dot_address, dot_part);
      ring[dot_ring_address] = cell;

      const uint32_t version = g.overlap.versions == 2 ? previous : current;
      const uint32_t entry = (version << kVersionShift) + dot_cell;
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
        // a plane counts by its weight and for the sample that it belongs to, base planes for both
        const bool both = Format::kPairs || dot_pass < g.base_planes;
        const int weight = !kWeighted                 ? 0
                           : dot_pass < g.base_planes ? BaseWeight(dot_pass)
                                                      : DitherWeight(r.bits);
        const dot_t weighted_first = ShiftLeft(row_first.to_int64(), weight);
        const dot_t weighted_second = Format::kPairs ? row_second : weighted_first;
        // a batch of one sample may add to the same entry in every cycle: forwarded past the memory
        const bool forward = r.batch == 1;
        const dot_t old_first = forward ? last_first : dot_first[dot_sample];
        const dot_t old_second = forward ? last_second : dot_second[dot_sample];
        const bool adds_first = both || dot_pass == g.base_planes;
        const bool adds_second = both || dot_pass == g.base_planes + 1;
        const dot_t zero = 0;
        const dot_t first =
            (dot_pass == 0 ? zero : old_first) + (adds_first ? weighted_first : zero);
        const dot_t second =
            (dot_pass == 0 ? zero : old_second) + (adds_second ? weighted_second : zero);
        dot_first[dot_sample] = first;
        dot_second[dot_sample] = second;
        last_first = first;
        last_second = second;

        // batches before the first one of this run keep the coefficients that came with them
        const bool carried = slot < r.pending;
        if (dot_pass == g.passes - 1 && !carried) {
          Coefficients c = {0, 0};
          if (next_sample + dot_sample < r.samples) {
            const int32_t label = block_labels[first_row + dot_sample];
            c = SampleCoefficients(Format::kFormat, r.sampling, first.to_int64(), second.to_int64(),
                                   label, step, saturations);
          }
          const uint32_t place = dot_ring * r.batch + dot_sample;
          coefficient_first[place] = c.first;
          coefficient_second[place] = c.second;
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

    if (busy && updates) {
      const cell_t cell = ring[update_address];
      const uint32_t place = update_ring * r.batch + update_sample;
      const Coefficients c = {coefficient_first[place], coefficient_second[place]};
      const int64_t dither_first = FirstDitherCoefficient(r.sampling, c);
      const int64_t dither_second = SecondDitherCoefficient(r.sampling, c);
      int64_t factor_first, factor_second;
      if (Format::kPairs) {
        factor_first = dither_first;
        factor_second = dither_second;
      } else {
        const bool base = update_pass < g.base_planes;
        const int64_t factor = base                           ? BaseCoefficient(c)
                               : update_pass == g.base_planes ? dither_first
                                                              : dither_second;
        const int weight = !kWeighted ? 0 : base ? BaseWeight(update_pass) : DitherWeight(r.bits);
        factor_first = ShiftLeft(factor, weight);
        factor_second = 0;
      }
      const bool opens = update_sample == 0 && update_pass == 0;
      const bool closes = update_sample == r.batch - 1 && update_pass == g.passes - 1;
      const uint32_t new_entry = (write_version << kVersionShift) + update_cell;
      uint32_t clamped = 0;
    UPDATE_LANES:
      for (int lane = 0; lane < kLanes; ++lane) {
        #pragma HLS UNROLL
        const Terms terms = Format::TermsOf(cell, lane, g.decoding, update_levels[lane],
                                            update_table, factor_first, factor_second);
        const int64_t term = Format::kPairs ? terms.first + terms.second : terms.first;
        gradient[lane] = opens ? gradient_t(term) : gradient_t(gradient[lane] + term);
        if (closes) {
          // padding lanes stay zero, whatever bits their planes hold
          const bool real = update_cell * kLanes + lane < r.features;
          uint32_t lane_clamped = 0;
          const int32_t entry = real ? UpdateEntry(Format::kFormat, master[update_cell][lane],
                                                   gradient[lane].to_int64(), decay, lane_clamped)
                                     : 0;
          master[update_cell][lane] = entry;
          model[new_entry][lane] = entry;
          clamped += lane_clamped;
        }
      }
      saturations += clamped;

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

    if (++t == g.slot_cycles) {
      t = 0;
      ++slot;
      previous = current;
      if (updates) {
        current = write_version;
        update_ring = update_ring + 1 == g.overlap.ring_batches ? 0 : update_ring + 1;
      }
      if (dots) {
        --left;
        next_sample += r.batch;
        first_row += r.batch;
        dot_ring = dot_ring + 1 == g.overlap.ring_batches ? 0 : dot_ring + 1;
      }
      dot_pass = 0;
      dot_address = first_row * g.chunks;
      dot_ring_address = dot_ring * g.slot_cells;
      update_cell = 0;
      update_table = 0;
      update_row_address = update_ring * g.slot_cells;
      update_address = update_row_address;
    }
  }

  position[kSlot] = slot;
  position[kDotRing] = dot_ring;
  position[kUpdateRing] = update_ring;
  position[kPrevious] = previous;
  position[kCurrent] = current;
  position[kNextSample] = next_sample;
  position[kSaturations] = saturations;
}

/// Copies the model from memory into version 0 and the update side's copy, entry by entry.
template <class Format>
void LoadModel(const int32_t *memory, uint32_t entries,
               int32_t model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
               int32_t master[1 << CellsLog2<Format>()][Format::kLanes]) {
  #pragma HLS INLINE off
  uint32_t cell = 0, lane = 0;
LOAD_MODEL:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    const int32_t entry = memory[i];
    model[cell][lane] = entry;
    master[cell][lane] = entry;
    if (++lane == Format::kLanes) {
      lane = 0;
      ++cell;
    }
  }
}

/// Copies one version of the model to memory, and zeros behind its last feature.
template <class Format>
void StoreModel(const int32_t model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
                uint32_t version, uint32_t features, uint32_t entries, int32_t *memory,
                uint64_t offset) {
  #pragma HLS INLINE off
  uint32_t cell = version << CellsLog2<Format>(), lane = 0;
STORE_MODEL:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    memory[offset + i] = i < features ? model[cell][lane] : 0;
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
                        int32_t coefficient_first[kCoefficientEntries],
                        int32_t coefficient_second[kCoefficientEntries]) {
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
inline void StorePending(const int32_t coefficient_first[kCoefficientEntries],
                         const int32_t coefficient_second[kCoefficientEntries], uint32_t first,
                         uint32_t ring_batches, uint32_t batch, uint32_t pending, int32_t *memory,
                         uint64_t offset) {
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

/// TrainBlock within its epoch: takes the epoch's step before its first block, and writes the
/// history row behind its last one. Counts what the schedule says that the block takes, while the
/// next one is read.
template <class Format>
void TrainAndRecord(const typename Format::word_t words[Format::kBufferPlanes]
                                                       [1 << BlockWordsLog2(Format::kFormat)],
                    const int32_t block_labels[kBlockSamples], const uint32_t *schedule,
                    int32_t *history, Registers r, Geometry g,
                    int32_t model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
                    int32_t master[1 << CellsLog2<Format>()][Format::kLanes],
                    typename Format::cell_t ring[1 << RingWordsLog2(Format::kFormat)],
                    int32_t coefficient_first[kCoefficientEntries],
                    int32_t coefficient_second[kCoefficientEntries],
                    const int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
                    const int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
                    uint32_t position[kPositions], uint64_t counters[kCounters]) {
  #pragma HLS INLINE off
  const uint32_t block = position[kBlock];
  const uint32_t epoch = position[kEpoch];
  const bool closes = block + 1 == g.blocks;
  if (block == 0) {
    position[kStepNow] = schedule[epoch * kScheduleColumns + kStep];
    position[kDecayNow] = schedule[epoch * kScheduleColumns + kDecay];
    position[kSlot] = 0;
    position[kDotRing] = 0;
    position[kUpdateRing] = 0;
    position[kPrevious] = position[kCurrent];
    position[kNextSample] = r.skip * r.batch;
  }
  TrainBlock<Format>(words, block_labels, r, g, block, position[kStepNow], position[kDecayNow],
                     model, master, ring, coefficient_first, coefficient_second, dot_levels,
                     update_levels, position);
  uint32_t cycles = BlockSlots(r, g, block) * g.slot_cycles + kPipelineDepth;
  if (closes && (r.flags & kFlagHold) == 0) {
    const uint32_t entries = g.chunks * Format::kWordLanes;
    StoreModel<Format>(model, position[kCurrent], r.features, entries, history,
                       static_cast<uint64_t>(epoch) * entries);
    cycles += entries + kMemoryLatency;
  }
  const bool last = closes && epoch + 1 == r.epochs;
  const uint32_t read = last ? 0 : ReadCycles(g);
  counters[kCycles] += cycles > read ? cycles : read;
  counters[kWordsStreamed] += g.planes * g.plane_words;
  position[kBlock] = NextBlock(g, block);
  position[kEpoch] = closes ? epoch + 1 : epoch;
}

/// Blocks of all epochs in one row, so that a block is read while the one before it trains, across
/// the end of an epoch too. Each stage counts for itself and alone touches what it writes.
template <class Format>
void RunBlocks(const typename Format::word_t *planes, const int32_t *labels,
               const uint32_t *schedule, int32_t *history, Registers r, Geometry g, uint64_t rounds,
               uint32_t next_words[1], uint32_t next_labels[1],
               int32_t model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
               int32_t master[1 << CellsLog2<Format>()][Format::kLanes],
               typename Format::cell_t ring[1 << RingWordsLog2(Format::kFormat)],
               int32_t coefficient_first[kCoefficientEntries],
               int32_t coefficient_second[kCoefficientEntries],
               const int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
               const int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
               uint32_t position[kPositions], uint64_t counters[kCounters]) {
  #pragma HLS INLINE off
BLOCKS:
  for (uint64_t round = 0; round < rounds; ++round) {
    #pragma HLS DATAFLOW
    #pragma HLS LOOP_TRIPCOUNT min = 1 max = 65536
    typename Format::word_t words[Format::kBufferPlanes][1 << BlockWordsLog2(Format::kFormat)];
    #pragma HLS ARRAY_PARTITION variable = words type = complete dim = 1
    int32_t block_labels[kBlockSamples];
    ReadWords<Format>(planes, r, g, next_words, words);
    ReadLabels(labels, r, g, next_labels, block_labels);
    TrainAndRecord<Format>(words, block_labels, schedule, history, r, g, model, master, ring,
                           coefficient_first, coefficient_second, dot_levels, update_levels,
                           position, counters);
  }
}

/// The whole accelerator.
/// \param levels  tables of levels, as many as the registers say; not read by other formats
template <class Format>
uint32_t Run(const typename Format::word_t *planes, const int32_t *labels, int32_t *model_memory,
             int32_t *history, const uint32_t *schedule, const int32_t *levels, const Registers &r,
             uint64_t &words, uint64_t &cycles, uint32_t &saturations) {
  #pragma HLS INLINE
  words = 0;
  cycles = 0;
  saturations = 0;
  const uint32_t status = CheckRegisters<Format>(r);
  if (status != kStatusOk) return status;

  // One entry a lane. Dot products read one of three versions while the next one is written; the
  // update side has the latest in a copy of its own, so that no memory needs more than two ports.
  int32_t model[kModelVersions << CellsLog2<Format>()][Format::kLanes];
  #pragma HLS ARRAY_PARTITION variable = model type = complete dim = 2
  #pragma HLS BIND_STORAGE variable = model type = ram_s2p impl = bram
  int32_t master[1 << CellsLog2<Format>()][Format::kLanes];
  #pragma HLS ARRAY_PARTITION variable = master type = complete dim = 2
  #pragma HLS BIND_STORAGE variable = master type = ram_s2p
  typename Format::cell_t ring[1 << RingWordsLog2(Format::kFormat)];
  #pragma HLS BIND_STORAGE variable = ring type = ram_s2p impl = bram
  int32_t coefficient_first[kCoefficientEntries];
  #pragma HLS BIND_STORAGE variable = coefficient_first type = ram_s2p
  int32_t coefficient_second[kCoefficientEntries];
  #pragma HLS BIND_STORAGE variable = coefficient_second type = ram_s2p
  // a lane looks up two samples a cycle on either side, which is what a memory's two ports give
  int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2];
  #pragma HLS ARRAY_PARTITION variable = dot_levels type = complete dim = 1
  #pragma HLS BIND_STORAGE variable = dot_levels type = ram_t2p impl = bram
  int16_t update_levels[Format::kLanes][1 << Format::kTableLog2];
  #pragma HLS ARRAY_PARTITION variable = update_levels type = complete dim = 1
  #pragma HLS BIND_STORAGE variable = update_levels type = ram_t2p impl = bram
  uint32_t position[kPositions];
  uint64_t counters[kCounters];

  const Geometry g = GeometryOf<Format>(r);
  const uint32_t entries = g.chunks * Format::kWordLanes;
  LoadModel<Format>(model_memory, entries, model, master);
  if (r.pending != 0) {
    LoadPending(model_memory, entries, r.pending * r.batch, coefficient_first, coefficient_second);
  }
  counters[kWordsStreamed] = 0;
  counters[kCycles] = 2 * (entries + kMemoryLatency) + ReadCycles(g);
  if (r.pending != 0) counters[kCycles] += 2 * r.pending * r.batch + kMemoryLatency;
  if (Format::kTableLog2 != 0) {
    LoadLevels<Format>(levels, r.level_tables, LevelCount(r.bits), dot_levels, update_levels);
    counters[kCycles] += r.level_tables * LevelCount(r.bits) + kMemoryLatency;
  }
  position[kBlock] = 0;
  position[kEpoch] = 0;
  position[kCurrent] = 0;
  position[kSaturations] = 0;

  uint32_t next_words[1] = {0};
  uint32_t next_labels[1] = {0};
  const uint64_t rounds = static_cast<uint64_t>(r.epochs) * g.blocks;
  RunBlocks<Format>(planes, labels, schedule, history, r, g, rounds, next_words, next_labels, model,
                    master, ring, coefficient_first, coefficient_second, dot_levels, update_levels,
                    position, counters);

  // with updates held back, the model that the next dot product would read
  const bool hold = (r.flags & kFlagHold) != 0;
  const uint32_t version =
      hold && g.overlap.versions == 2 ? position[kPrevious] : position[kCurrent];
  StoreModel<Format>(model, version, r.features, entries, model_memory, 0);
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
  words = counters[kWordsStreamed];
  cycles = counters[kCycles];
  saturations = position[kSaturations];
  return kStatusOk;
}

}  // namespace zipml
