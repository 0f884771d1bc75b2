// The trainer, the one process that has state: the memories on chip, what is loaded before the
// first block, the blocks of all epochs, what is stored behind the last one.
#pragma once

#include "../cycles.hpp"
#include "../formats.hpp"
#include "../geometry.hpp"
#include "../memories.hpp"
#include "../position.hpp"
#include "../processes.hpp"
#include "../registers.hpp"
#include "count_cycles.hpp"
#include "fill_block.hpp"
#include "load_derivative.hpp"
#include "load_levels.hpp"
#include "load_model.hpp"
#include "load_pending.hpp"
#include "load_shifts.hpp"
#include "see_model.hpp"
#include "store_model.hpp"
#include "store_pending.hpp"
#include "train_block.hpp"

namespace zipml {

/// Before the first block. Returns where training begins.
template <class Format>
Position LoadRun(const int32_t *model_memory, const int32_t *derivative,
                 typename Format::levels_port_t levels, const Registers &r, const Geometry &g,
                 ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
                 ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
                 CoefficientEntry coefficient_first[kCoefficientEntries],
                 CoefficientEntry coefficient_second[kCoefficientEntries],
                 ShiftEntry<Format> shifts[1 << MasterLog2<Format>()],
                 ModelEntry corrections[1 << MasterLog2<Format>()][TurnLanes<Format>()],
                 int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
                 int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
                 int32_t derivative_first[kDerivativeEntries],
                 int32_t derivative_second[kDerivativeEntries], int32_t terms[kMaxDegree + 1],
                 uint64_t norms[kModelVersions]) {
  #pragma HLS INLINE
  const uint32_t derivatives = DerivativeCount(r);
  uint32_t clipped = 0;
  LoadEntries<Format>(model_memory, 0, g.entries, master);
  SeeModel<Format>(master, g.entries, r, model, norms, clipped);
  if (HasFeatureSteps(r)) LoadShifts<Format>(model_memory, g.entries, g.entries, shifts);
  if (HasCorrection<Format>(r)) {
    LoadEntries<Format>(model_memory, CorrectionPlace(r, g), g.entries, corrections);
  }
  if (r.pending != 0) {
    LoadPending(model_memory, PendingPlace<Format>(r, g), PendingSamples(r, r.pending),
                coefficient_first, coefficient_second);
  }
  if (derivatives != 0) {
    LoadDerivative(derivative, derivatives, derivative_first, derivative_second, terms);
  }
  if (Format::kTableLog2 != 0) {
    LoadLevels<Format>(levels, r, dot_levels, update_levels);
  }
  // a later run's start model was counted when it was made
  return StartPosition(r, r.first_update != 0 ? 0 : clipped);
}

/// The blocks of all epochs. While one trains, the next one comes in; what then is left of it is
/// waited for. Counts words, cycles and waits, as the schedule has them beside a clock's.
template <class Format>
void TrainBlocks(hls::stream<typename Format::word_t> &words_in, hls::stream<int32_t> &labels_in,
                 WordEntry<Format> words[Format::kBufferPlanes][BufferWords<Format>()],
                 LabelEntry block_labels[kBufferSamples], LabelEntry block_weights[kBufferSamples],
                 const uint32_t *schedule, int32_t *history, typename Format::full_port_t full,
                 const Registers &r, const Geometry &g,
                 ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
                 ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
                 RingEntry<Format> ring[1 << RingWordsLog2(Format::kFormat)],
                 CoefficientEntry coefficient_first[kCoefficientEntries],
                 CoefficientEntry coefficient_second[kCoefficientEntries],
                 const ShiftEntry<Format> shifts[1 << MasterLog2<Format>()],
                 const ModelEntry corrections[1 << MasterLog2<Format>()][TurnLanes<Format>()],
                 const int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
                 const int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
                 const int32_t derivative_first[kDerivativeEntries],
                 const int32_t derivative_second[kDerivativeEntries],
                 const int32_t terms[kMaxDegree + 1], uint64_t norms[kModelVersions],
                 Position &position, Outputs &out) {
  #pragma HLS INLINE
  FillSide fill = FillSideOf(r, g, 0, true);
  uint64_t waited =
      AwaitBlock<Format>(r, g, words_in, labels_in, words, block_labels, block_weights, fill);
  uint64_t words_streamed = 0;
  uint64_t modelled = CyclesBesideBlocks<Format>(r, g) + TakeCycles(r, g);
  uint64_t modelled_waits = TakeCycles(r, g);
EPOCHS:
  for (uint32_t epoch = 0; epoch < r.epochs; ++epoch) {
    #pragma HLS LOOP_TRIPCOUNT min = 1 max = 65536
    BeginEpoch(schedule, epoch, position);
  BLOCKS:
    for (uint32_t count = 0; count < g.blocks; ++count) {
      #pragma HLS LOOP_TRIPCOUNT min = 1 max = 65536
      const bool closes = count + 1 == g.blocks;
      const bool last = closes && epoch + 1 == r.epochs;
      position.dotted = 0;
      position.half = fill.half;
      fill = FillSideOf(r, g, 1 - fill.half, !last);
      const uint32_t slots = BlockSlots(r, g, position.block, closes);
      TrainCycles cycles = TrainBlock<Format>(
          words_in, labels_in, words, block_labels, block_weights, full, r, g, slots, model, master,
          ring, coefficient_first, coefficient_second, shifts, corrections, dot_levels,
          update_levels, derivative_first, derivative_second, terms, norms, fill, position);
      if (closes && (r.flags & kFlagHold) == 0) {
        StoreModel<Format>(master, r.features, g.entries, history,
                           static_cast<uint64_t>(epoch) * Unsigned<kFeatureBits>(g.entries));
        cycles.others += g.entries + kMemoryLatency;
      }
      waited +=
          AwaitBlock<Format>(r, g, words_in, labels_in, words, block_labels, block_weights, fill);
      const uint32_t train = cycles.passes + cycles.others;
      const uint32_t block = last ? train : BlockCycles(r, g, cycles);
      modelled += block;
      modelled_waits += block - train;
      words_streamed += g.block_words;
      position.block = NextBlock(r, g, position.block);
    }
  }
  out.words = words_streamed;
  out.modelled_cycles = modelled;
  out.waited_cycles = kHasClock ? waited : modelled_waits;
}

/// Behind the last block.
template <class Format>
void StoreRun(const Registers &r, const Geometry &g,
              const ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
              const ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
              const CoefficientEntry coefficient_first[kCoefficientEntries],
              const CoefficientEntry coefficient_second[kCoefficientEntries],
              const Position &position, int32_t *model_memory) {
  #pragma HLS INLINE
  // with updates held back, the model that the next dot product would read
  if ((r.flags & kFlagHold) != 0 && g.overlap.versions == 2) {
    StoreVersion<Format>(model, position.previous, r.features, g.entries, model_memory);
  } else {
    StoreModel<Format>(master, r.features, g.entries, model_memory, 0);
  }
  const uint32_t held = HeldBatches(r, g);
  if (held != 0) {
    StorePending(coefficient_first, coefficient_second, RingPlaceBefore(g, position.dot_ring, held),
                 g.overlap.ring_batches, r, held, model_memory, PendingPlace<Format>(r, g));
  }
}

/// Process: a run, from the first entry of the model to the last one.
/// \param words_in, labels_in  of all blocks, in their order
/// \param marks                its first and its last cycle
template <class Format>
void TrainRun(hls::stream<typename Format::word_t> &words_in, hls::stream<int32_t> &labels_in,
              hls::stream<bool> &marks, int32_t *model_memory, int32_t *history,
              const uint32_t *schedule, const int32_t *derivative,
              typename Format::levels_port_t levels, typename Format::full_port_t full, Registers r,
              Geometry g, Outputs &out) {
  #pragma HLS INLINE off
  MarkCycle(marks, false);
  // One entry a lane. Dot products read one of three versions while the next one is written; the
  // update side has the latest in a copy of its own, so that no memory needs more than two ports.
  ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes];
  #pragma HLS ARRAY_PARTITION variable = model type = complete dim = 2
  #pragma HLS BIND_STORAGE variable = model type = ram_s2p impl = bram
  ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()];
  #pragma HLS ARRAY_PARTITION variable = master type = complete dim = 2
  #pragma HLS BIND_STORAGE variable = master type = ram_s2p
  // the block that trains, and the one that comes in
  WordEntry<Format> words[Format::kBufferPlanes][BufferWords<Format>()];
  #pragma HLS ARRAY_PARTITION variable = words type = complete dim = 1
  LabelEntry block_labels[kBufferSamples];
  LabelEntry block_weights[kBufferSamples];
  RingEntry<Format> ring[1 << RingWordsLog2(Format::kFormat)];
  // clang-format off: one pragma a line
  ZIPML_DEEP_MEMORY(words)
  ZIPML_DEEP_MEMORY(block_labels)
  ZIPML_DEEP_MEMORY(block_weights)
  ZIPML_DEEP_MEMORY(ring)
  // clang-format on
  CoefficientEntry coefficient_first[kCoefficientEntries];
  #pragma HLS BIND_STORAGE variable = coefficient_first type = ram_s2p
  CoefficientEntry coefficient_second[kCoefficientEntries];
  #pragma HLS BIND_STORAGE variable = coefficient_second type = ram_s2p
  // left as it is, and not read, where features have no steps of their own
  ShiftEntry<Format> shifts[1 << MasterLog2<Format>()];
  #pragma HLS BIND_STORAGE variable = shifts type = ram_s2p impl = bram
  // the same, where updates add no corrections
  ModelEntry corrections[1 << MasterLog2<Format>()][TurnLanes<Format>()];
  #pragma HLS ARRAY_PARTITION variable = corrections type = complete dim = 2
  #pragma HLS BIND_STORAGE variable = corrections type = ram_s2p
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
  int32_t terms[kMaxDegree + 1];
  #pragma HLS ARRAY_PARTITION variable = terms type = complete dim = 1
  uint64_t norms[kModelVersions];
  #pragma HLS ARRAY_PARTITION variable = norms type = complete dim = 1

  Position position =
      LoadRun<Format>(model_memory, derivative, levels, r, g, model, master, coefficient_first,
                      coefficient_second, shifts, corrections, dot_levels, update_levels,
                      derivative_first, derivative_second, terms, norms);
  TrainBlocks<Format>(words_in, labels_in, words, block_labels, block_weights, schedule, history,
                      full, r, g, model, master, ring, coefficient_first, coefficient_second,
                      shifts, corrections, dot_levels, update_levels, derivative_first,
                      derivative_second, terms, norms, position, out);
  StoreRun<Format>(r, g, model, master, coefficient_first, coefficient_second, position,
                   model_memory);
  MarkCycle(marks, true);
  out.saturations = position.saturations;
  out.outside = position.outside;
  out.clipped = position.clipped;
  out.refetched = position.refetched;
}

}  // namespace zipml
