// The stages of the accelerator. Each is a function of its own that a test bench can call alone,
// and the whole is a plain sequential program: without its pragmas it computes the same model.
//
//   ReadWords, ReadLabels   one block from memory to on-chip buffers, in bursts
//   TrainBlock              dot products of one batch beside the update of an earlier one
//   TrainAndRecord          TrainBlock, with an epoch's step before and its history row behind it
//   Run                     loads the model, lets blocks of all epochs stream through, stores it
//
// TrainBlock is one loop at II = 1. Its feedback paths (coefficient, model) are long; the slot is
// lengthened by bubbles until every value is ready before it is used (zipml/schedule.hpp), and the
// DEPENDENCE pragmas promise those distances to the compiler, which reports an II above 1 where the
// promise is not enough, and never a wrong result. docs/schedule.md has the arithmetic.
#pragma once

#include "formats.hpp"
#include "zipml/schedule.hpp"

namespace zipml {

// Widths of the sums (docs/arithmetic.md): 2^7 * 2^31 * 2^15 and 2^8 * 2^39.
typedef ap_int<55> dot_t;
typedef ap_int<48> gradient_t;

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
};

/// What follows from the registers once they are valid.
struct Geometry {
  uint32_t chunks;  // words of one row of one plane
  uint32_t base_planes;
  uint32_t planes;   // streamed: base and dithers
  uint32_t batches;  // of the data set, the last one ragged
  uint32_t blocks;
  uint32_t block_batches;  // batches of one full block
  uint32_t batch_words;    // of one plane of one batch
  uint32_t plane_words;    // of one plane of one block
  uint32_t slot_words;     // streamed words of one batch
  uint32_t slot_cycles;    // slot_words and the bubbles
  uint32_t bursts;         // of one block
  Overlap overlap;
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

template <class Format>
uint32_t CheckRegisters(const Registers &r) {
  #pragma HLS INLINE off
  const uint32_t lanes = Format::kLanes;
  const bool planes_format = Format::kFormat == kBitPlanes;
  if (r.samples == 0 || r.samples > kMaxSamples) return kStatusSamples;
  if (r.features == 0 || r.features > (lanes << MaxChunksLog2(Format::kFormat)))
    return kStatusFeatures;
  if (planes_format ? (r.bits == 0 || r.bits > kMaxBits) : r.bits != 32) return kStatusBits;
  if (r.sampling > (planes_format ? kDoubleSymmetric : kSingle)) return kStatusSampling;
  if (r.batch == 0 || r.batch > kMaxBatch) return kStatusBatch;
  if (r.epochs == 0 || r.epochs > kMaxEpochs) return kStatusEpochs;
  if (r.delay > kMaxDelay) return kStatusDelay;

  const uint32_t chunks = (r.features + lanes - 1) / lanes;
  const uint32_t planes = planes_format ? BasePlanes(r.bits) + DitherPlanes(r.sampling) : 1;
  if (r.block_samples == 0 || r.block_samples > kBlockSamples) return kStatusBlock;
  if (r.block_samples % r.batch != 0) return kStatusBlock;
  // at most 2^12 * 2^11 * 2^4: no overflow
  if (planes * r.block_samples * chunks > (1u << BlockWordsLog2(Format::kFormat)))
    return kStatusBlock;
  const Overlap overlap = OverlapOf(r.delay);
  if (overlap.ring_batches * planes * r.batch * chunks > (1u << RingWordsLog2(Format::kFormat))) {
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
  const bool planes_format = Format::kFormat == kBitPlanes;
  Geometry g;
  g.chunks = (r.features + Format::kLanes - 1) / Format::kLanes;
  g.base_planes = planes_format ? BasePlanes(r.bits) : 0;
  g.planes = g.base_planes + DitherPlanes(r.sampling);
  g.batches = (r.samples - 1) / r.batch + 1;
  g.blocks = (r.samples - 1) / r.block_samples + 1;
  g.block_batches = r.block_samples / r.batch;
  g.batch_words = r.batch * g.chunks;
  g.plane_words = r.block_samples * g.chunks;
  g.slot_words = g.planes * g.batch_words;
  g.overlap = OverlapOf(r.delay);
  g.slot_cycles = SlotCycles(g.planes, r.batch, g.chunks, g.overlap);
  g.bursts = g.base_planes == 0 || r.dither_offset == g.base_planes * g.plane_words ? 1 : 2;
  return g;
}

/// The block after this one; the first follows the last.
inline uint32_t NextBlock(const Geometry &g, uint32_t block) {
  return block + 1 == g.blocks ? 0 : block + 1;
}

/// Streams the chosen planes of the next block; after the last block the first one follows, for the
/// next epoch. `next` holds the number of that block: each stage of the dataflow region counts for
/// itself.
template <class Format>
void ReadWords(const typename Format::word_t *planes, Registers r, Geometry g, uint32_t next[1],
               typename Format::word_t words[1 << BlockWordsLog2(Format::kFormat)]) {
  #pragma HLS INLINE off
  const uint32_t block = next[0];
  next[0] = NextBlock(g, block);
  const uint64_t address = static_cast<uint64_t>(block) * r.block_stride;
  const uint32_t all = g.planes * g.plane_words;
  // the base planes are the first ones; the dithers of the precision follow at once or further on
  const uint32_t prefix = g.base_planes * g.plane_words;
  const uint32_t first = g.bursts == 2 ? prefix : all;
  const uint64_t first_address = g.base_planes == 0 ? address + r.dither_offset : address;
  const uint64_t second_address = address + r.dither_offset;
READ_FIRST:
  for (uint32_t i = 0; i < first; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 8192
    words[i] = planes[first_address + i];
  }
  const uint32_t second = all - first;
READ_SECOND:
  for (uint32_t i = 0; i < second; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 8192
    words[first + i] = planes[second_address + i];
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

/// Trains on one block. Slot k runs the dot products of batch k, word after word as they lie in
/// `words`, and the update of batch k - lag out of the ring, chunk after chunk: for one chunk the
/// sum over samples and planes stays in registers, then the model entries of that chunk change
/// once.
template <class Format>
void TrainBlock(const typename Format::word_t words[1 << BlockWordsLog2(Format::kFormat)],
                const int32_t block_labels[kBlockSamples], const Registers &r, const Geometry &g,
                uint32_t block, uint32_t step, uint32_t decay,
                int32_t model[kModelVersions << MaxChunksLog2(Format::kFormat)][Format::kLanes],
                int32_t master[1 << MaxChunksLog2(Format::kFormat)][Format::kLanes],
                typename Format::word_t ring[1 << RingWordsLog2(Format::kFormat)],
                int32_t coefficient_first[kCoefficientEntries],
                int32_t coefficient_second[kCoefficientEntries], uint32_t position[kPositions]) {
  #pragma HLS INLINE off
  typedef typename Format::word_t word_t;
  constexpr int kLanes = Format::kLanes;
  constexpr int kVersionShift = MaxChunksLog2(Format::kFormat);
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
  // where the slot stands: its cycle, the word that is dotted, the word that is updated with
  uint32_t t = 0;
  uint32_t first_row = block == 0 ? r.skip * r.batch : 0;
  uint32_t dot_plane = 0, dot_sample = 0, dot_chunk = 0;
  uint32_t dot_address = first_row * g.chunks;
  uint32_t dot_ring_address = dot_ring * g.slot_words;
  uint32_t update_plane = 0, update_sample = 0, update_chunk = 0;
  uint32_t update_row_address = update_ring * g.slot_words;
  uint32_t update_address = update_row_address;
  dot_t row = 0;
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
    const bool busy = t < g.slot_words;
    const bool dots = overlapped ? left != 0 : (slot & 1) == 0;
    const bool updates = overlapped ? slot >= g.overlap.lag : (slot & 1) == 1;
    const uint32_t next_version = kModelVersions - previous - current;
    // previous == current while no update has run; any third version will do then
    const uint32_t write_version = previous == current ? (current == 0 ? 1 : 0) : next_version;

    if (busy && dots) {
      const word_t word = words[dot_address];
      ring[dot_ring_address] = word;

      const uint32_t version = g.overlap.versions == 2 ? previous : current;
      const uint32_t entry = (version << kVersionShift) + dot_chunk;
      int64_t sum = 0;
    DOT_LANES:
      for (int lane = 0; lane < kLanes; ++lane) {
        #pragma HLS UNROLL
        sum += Format::Term(word, lane, model[entry][lane]);
      }
      row = dot_chunk == 0 ? dot_t(sum) : dot_t(row + sum);

      if (dot_chunk == g.chunks - 1) {
        const bool base = dot_plane < g.base_planes;
        const int weight = !kWeighted ? 0 : base ? BaseWeight(dot_plane) : DitherWeight(r.bits);
        const dot_t weighted = ShiftLeft(row.to_int64(), weight);
        // a batch of one sample may add to the same entry in every cycle: forwarded past the memory
        const bool forward = r.batch == 1;
        const dot_t old_first = forward ? last_first : dot_first[dot_sample];
        const dot_t old_second = forward ? last_second : dot_second[dot_sample];
        const bool adds_first = base || dot_plane == g.base_planes;
        const bool adds_second = base || dot_plane == g.base_planes + 1;
        const dot_t zero = 0;
        const dot_t first = (dot_plane == 0 ? zero : old_first) + (adds_first ? weighted : zero);
        const dot_t second = (dot_plane == 0 ? zero : old_second) + (adds_second ? weighted : zero);
        dot_first[dot_sample] = first;
        dot_second[dot_sample] = second;
        last_first = first;
        last_second = second;

        // batches before the first one of this run keep the coefficients that came with them
        const bool carried = slot < r.pending;
        if (dot_plane == g.planes - 1 && !carried) {
          Coefficients c = {0, 0};
          if (next_sample + dot_sample < r.samples) {
            const int32_t label = block_labels[first_row + dot_sample];
            c = SampleCoefficients(r.sampling, first.to_int64(), second.to_int64(), label, step,
                                   saturations);
          }
          const uint32_t place = dot_ring * r.batch + dot_sample;
          coefficient_first[place] = c.first;
          coefficient_second[place] = c.second;
        }
      }

      ++dot_address;
      ++dot_ring_address;
      if (++dot_chunk == g.chunks) {
        dot_chunk = 0;
        if (++dot_sample == r.batch) {
          dot_sample = 0;
          ++dot_plane;
          dot_address += g.plane_words - g.batch_words;
        }
      }
    }

    if (busy && updates) {
      const word_t word = ring[update_address];
      const uint32_t place = update_ring * r.batch + update_sample;
      const Coefficients c = {coefficient_first[place], coefficient_second[place]};
      int64_t factor;
      if (update_plane < g.base_planes) {
        factor = ShiftLeft(BaseCoefficient(c), BaseWeight(update_plane));
      } else {
        const int64_t dither = update_plane == g.base_planes
                                   ? FirstDitherCoefficient(r.sampling, c)
                                   : SecondDitherCoefficient(r.sampling, c);
        factor = kWeighted ? ShiftLeft(dither, DitherWeight(r.bits)) : dither;
      }
      const bool opens = update_sample == 0 && update_plane == 0;
      const bool closes = update_sample == r.batch - 1 && update_plane == g.planes - 1;
      const uint32_t new_entry = (write_version << kVersionShift) + update_chunk;
      uint32_t clamped = 0;
    UPDATE_LANES:
      for (int lane = 0; lane < kLanes; ++lane) {
        #pragma HLS UNROLL
        const int64_t term = Format::Term(word, lane, factor);
        gradient[lane] = opens ? gradient_t(term) : gradient_t(gradient[lane] + term);
        if (closes) {
          // padding lanes stay zero, whatever bits their planes hold
          const bool real = update_chunk * kLanes + lane < r.features;
          uint32_t lane_clamped = 0;
          const int32_t entry = real ? UpdateEntry(master[update_chunk][lane],
                                                   gradient[lane].to_int64(), decay, lane_clamped)
                                     : 0;
          master[update_chunk][lane] = entry;
          model[new_entry][lane] = entry;
          clamped += lane_clamped;
        }
      }
      saturations += clamped;

      if (++update_plane == g.planes) {
        update_plane = 0;
        if (++update_sample == r.batch) {
          update_sample = 0;
          ++update_chunk;
          update_row_address += 1 - (g.batch_words - g.chunks);
        } else {
          update_row_address += g.chunks;
        }
        update_address = update_row_address;
      } else {
        update_address += g.batch_words;
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
      dot_plane = 0;
      dot_address = first_row * g.chunks;
      dot_ring_address = dot_ring * g.slot_words;
      update_chunk = 0;
      update_row_address = update_ring * g.slot_words;
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
void LoadModel(const int32_t *memory, uint32_t chunks,
               int32_t model[kModelVersions << MaxChunksLog2(Format::kFormat)][Format::kLanes],
               int32_t master[1 << MaxChunksLog2(Format::kFormat)][Format::kLanes]) {
  #pragma HLS INLINE off
  const uint32_t entries = chunks * Format::kLanes;
  uint32_t chunk = 0, lane = 0;
LOAD_MODEL:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    const int32_t entry = memory[i];
    model[chunk][lane] = entry;
    master[chunk][lane] = entry;
    if (++lane == Format::kLanes) {
      lane = 0;
      ++chunk;
    }
  }
}

/// Copies one version of the model to memory.
template <class Format>
void StoreModel(
    const int32_t model[kModelVersions << MaxChunksLog2(Format::kFormat)][Format::kLanes],
    uint32_t version, uint32_t chunks, int32_t *memory, uint64_t offset) {
  #pragma HLS INLINE off
  const uint32_t entries = chunks * Format::kLanes;
  uint32_t entry = version << MaxChunksLog2(Format::kFormat), lane = 0;
STORE_MODEL:
  for (uint32_t i = 0; i < entries; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 32768
    memory[offset + i] = model[entry][lane];
    if (++lane == Format::kLanes) {
      lane = 0;
      ++entry;
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
void TrainAndRecord(const typename Format::word_t words[1 << BlockWordsLog2(Format::kFormat)],
                    const int32_t block_labels[kBlockSamples], const uint32_t *schedule,
                    int32_t *history, Registers r, Geometry g,
                    int32_t model[kModelVersions << MaxChunksLog2(Format::kFormat)][Format::kLanes],
                    int32_t master[1 << MaxChunksLog2(Format::kFormat)][Format::kLanes],
                    typename Format::word_t ring[1 << RingWordsLog2(Format::kFormat)],
                    int32_t coefficient_first[kCoefficientEntries],
                    int32_t coefficient_second[kCoefficientEntries], uint32_t position[kPositions],
                    uint64_t counters[kCounters]) {
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
                     model, master, ring, coefficient_first, coefficient_second, position);
  uint32_t cycles = BlockSlots(r, g, block) * g.slot_cycles + kPipelineDepth;
  if (closes && (r.flags & kFlagHold) == 0) {
    const uint32_t entries = g.chunks * Format::kLanes;
    StoreModel<Format>(model, position[kCurrent], g.chunks, history,
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
               int32_t model[kModelVersions << MaxChunksLog2(Format::kFormat)][Format::kLanes],
               int32_t master[1 << MaxChunksLog2(Format::kFormat)][Format::kLanes],
               typename Format::word_t ring[1 << RingWordsLog2(Format::kFormat)],
               int32_t coefficient_first[kCoefficientEntries],
               int32_t coefficient_second[kCoefficientEntries], uint32_t position[kPositions],
               uint64_t counters[kCounters]) {
  #pragma HLS INLINE off
BLOCKS:
  for (uint64_t round = 0; round < rounds; ++round) {
    #pragma HLS DATAFLOW
    #pragma HLS LOOP_TRIPCOUNT min = 1 max = 65536
    typename Format::word_t words[1 << BlockWordsLog2(Format::kFormat)];
    int32_t block_labels[kBlockSamples];
    ReadWords<Format>(planes, r, g, next_words, words);
    ReadLabels(labels, r, g, next_labels, block_labels);
    TrainAndRecord<Format>(words, block_labels, schedule, history, r, g, model, master, ring,
                           coefficient_first, coefficient_second, position, counters);
  }
}

/// The whole accelerator.
template <class Format>
uint32_t Run(const typename Format::word_t *planes, const int32_t *labels, int32_t *model_memory,
             int32_t *history, const uint32_t *schedule, const Registers &r, uint64_t &words,
             uint64_t &cycles, uint32_t &saturations) {
  #pragma HLS INLINE
  words = 0;
  cycles = 0;
  saturations = 0;
  const uint32_t status = CheckRegisters<Format>(r);
  if (status != kStatusOk) return status;

  // One entry a lane. Dot products read one of three versions while the next one is written; the
  // update side has the latest in a copy of its own, so that no memory needs more than two ports.
  int32_t model[kModelVersions << MaxChunksLog2(Format::kFormat)][Format::kLanes];
  #pragma HLS ARRAY_PARTITION variable = model type = complete dim = 2
  #pragma HLS BIND_STORAGE variable = model type = ram_s2p impl = bram
  int32_t master[1 << MaxChunksLog2(Format::kFormat)][Format::kLanes];
  #pragma HLS ARRAY_PARTITION variable = master type = complete dim = 2
  #pragma HLS BIND_STORAGE variable = master type = ram_s2p
  typename Format::word_t ring[1 << RingWordsLog2(Format::kFormat)];
  #pragma HLS BIND_STORAGE variable = ring type = ram_s2p impl = bram
  int32_t coefficient_first[kCoefficientEntries];
  #pragma HLS BIND_STORAGE variable = coefficient_first type = ram_s2p
  int32_t coefficient_second[kCoefficientEntries];
  #pragma HLS BIND_STORAGE variable = coefficient_second type = ram_s2p
  uint32_t position[kPositions];
  uint64_t counters[kCounters];

  const Geometry g = GeometryOf<Format>(r);
  const uint32_t entries = g.chunks * Format::kLanes;
  LoadModel<Format>(model_memory, g.chunks, model, master);
  if (r.pending != 0) {
    LoadPending(model_memory, entries, r.pending * r.batch, coefficient_first, coefficient_second);
  }
  counters[kWordsStreamed] = 0;
  counters[kCycles] = 2 * (entries + kMemoryLatency) + ReadCycles(g);
  if (r.pending != 0) counters[kCycles] += 2 * r.pending * r.batch + kMemoryLatency;
  position[kBlock] = 0;
  position[kEpoch] = 0;
  position[kCurrent] = 0;
  position[kSaturations] = 0;

  uint32_t next_words[1] = {0};
  uint32_t next_labels[1] = {0};
  const uint64_t rounds = static_cast<uint64_t>(r.epochs) * g.blocks;
  RunBlocks<Format>(planes, labels, schedule, history, r, g, rounds, next_words, next_labels, model,
                    master, ring, coefficient_first, coefficient_second, position, counters);

  // with updates held back, the model that the next dot product would read
  const bool hold = (r.flags & kFlagHold) != 0;
  const uint32_t version =
      hold && g.overlap.versions == 2 ? position[kPrevious] : position[kCurrent];
  StoreModel<Format>(model, version, g.chunks, model_memory, 0);
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
