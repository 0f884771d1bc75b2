// The whole accelerator on one page: the memories on chip, what is loaded before the first block,
// the dataflow region, what is stored behind the last one. Each call is a stage in a file of its
// own, which a test bench can call alone, and the whole is a plain sequential program: without its
// pragmas it computes the same model.
#pragma once

#include "cycles.hpp"
#include "formats.hpp"
#include "geometry.hpp"
#include "memories.hpp"
#include "position.hpp"
#include "registers.hpp"
#include "stages/load_derivative.hpp"
#include "stages/load_levels.hpp"
#include "stages/load_model.hpp"
#include "stages/load_pending.hpp"
#include "stages/load_shifts.hpp"
#include "stages/read_labels.hpp"
#include "stages/read_words.hpp"
#include "stages/see_model.hpp"
#include "stages/store_model.hpp"
#include "stages/store_pending.hpp"
#include "stages/train_and_record.hpp"
#include "word_bits.hpp"
#include "zipml/tops.hpp"

/// Whether the device has UltraRAM, for the deep memories; overlay/<board>/board.mk says so.
#ifndef ZIPML_ULTRA_RAM
#define ZIPML_ULTRA_RAM 0
#endif

namespace zipml {

/// Before the first block.
template <class Format>
void LoadRun(const int32_t *model_memory, const int32_t *derivative, const int32_t *levels,
             const Registers &r, const Geometry &g,
             ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
             ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
             CoefficientEntry coefficient_first[kCoefficientEntries],
             CoefficientEntry coefficient_second[kCoefficientEntries],
             ShiftEntry<Format> shifts[1 << MasterLog2<Format>()],
             int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
             int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
             int32_t derivative_first[kDerivativeEntries],
             int32_t derivative_second[kDerivativeEntries], int32_t powers[kMaxDegree + 1],
             uint64_t norms[kModelVersions], uint32_t position[kPositions]) {
  #pragma HLS INLINE
  const uint32_t derivatives = DerivativeCount(r);
  uint32_t clipped = 0;
  LoadModel<Format>(model_memory, g.entries, master);
  SeeModel<Format>(master, g.entries, r, model, norms, clipped);
  if (HasFeatureSteps(r)) LoadShifts<Format>(model_memory, g.entries, g.entries, shifts);
  if (r.pending != 0) {
    LoadPending(model_memory, PendingPlace(r, g), r.pending * r.batch, coefficient_first,
                coefficient_second);
  }
  if (derivatives != 0) {
    LoadDerivative(derivative, derivatives, derivative_first, derivative_second, powers);
  }
  if (Format::kTableLog2 != 0) {
    LoadLevels<Format>(levels, r.level_tables, LevelCount(r.bits), dot_levels, update_levels);
  }
  // a later run's start model was counted when it was made
  StartPosition(r, r.first_update != 0 ? 0 : clipped, position);
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
               const ShiftEntry<Format> shifts[1 << MasterLog2<Format>()],
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
                           master, ring, coefficient_first, coefficient_second, shifts, dot_levels,
                           update_levels, derivative_first, derivative_second, powers, norms,
                           position, counters);
  }
}

/// Behind the last block.
template <class Format>
void StoreRun(const Registers &r, const Geometry &g,
              const ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
              const ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
              const CoefficientEntry coefficient_first[kCoefficientEntries],
              const CoefficientEntry coefficient_second[kCoefficientEntries],
              const uint32_t position[kPositions], int32_t *model_memory) {
  #pragma HLS INLINE
  // with updates held back, the model that the next dot product would read
  if ((r.flags & kFlagHold) != 0 && g.overlap.versions == 2) {
    StoreVersion<Format>(model, position[kPrevious], r.features, g.entries, model_memory);
  } else {
    StoreModel<Format>(master, r.features, g.entries, model_memory, 0);
  }
  const uint32_t held = HeldBatches(r, g);
  if (held != 0) {
    StorePending(coefficient_first, coefficient_second,
                 RingPlaceBefore(g, position[kDotRing], held), g.overlap.ring_batches, r.batch,
                 held, model_memory, PendingPlace(r, g));
  }
}

/// A run, from its registers to its outputs. Returns the status.
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
  // left as it is, and not read, where features have no steps of their own
  ShiftEntry<Format> shifts[1 << MasterLog2<Format>()];
  #pragma HLS BIND_STORAGE variable = shifts type = ram_s2p impl = bram
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
  LoadRun<Format>(model_memory, derivative, levels, r, g, model, master, coefficient_first,
                  coefficient_second, shifts, dot_levels, update_levels, derivative_first,
                  derivative_second, powers, norms, position);
  counters[kWordsStreamed] = 0;
  counters[kCycles] = CyclesBesideBlocks<Format>(r, g);
  uint32_t next_words[1] = {r.first_block};
  uint32_t next_labels[1] = {r.first_block};
  const uint64_t rounds = static_cast<uint64_t>(r.epochs) * g.blocks;
  RunBlocks<Format>(planes, labels, schedule, history, full, r, g, rounds, next_words, next_labels,
                    model, master, ring, coefficient_first, coefficient_second, shifts, dot_levels,
                    update_levels, derivative_first, derivative_second, powers, norms, position,
                    counters);

  StoreRun<Format>(r, g, model, master, coefficient_first, coefficient_second, position,
                   model_memory);
  out = {counters[kWordsStreamed], counters[kCycles],  position[kSaturations],
         position[kOutside],       position[kClipped], position[kRefetched]};
  return kStatusOk;
}

/// What the top functions have in common: registers in, a run, registers out.
template <class Format>
void Answer(ZIPML_PORTS(typename Format::word_t), const int32_t *levels,
            const typename Format::word_t *full, const Registers &r, ZIPML_OUTPUTS) {
  #pragma HLS INLINE
  Outputs out;
  *status = Run<Format>(planes, labels, model, history, schedule, derivative, levels, full, r, out);
  *version = kInterfaceVersion;
  *capability = Capability(ZIPML_WORD_BITS_LOG2, Format::kFormat);
  *words = out.words;
  *cycles = out.cycles;
  *saturations = out.saturations;
  *outside = out.outside;
  *clipped = out.clipped;
  *refetched = out.refetched;
}

}  // namespace zipml
