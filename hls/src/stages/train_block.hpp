// A block: its slots, and what the schedule says that they take.
#pragma once

#include "../cycles.hpp"
#include "../geometry.hpp"
#include "../memories.hpp"
#include "../position.hpp"
#include "refetch.hpp"
#include "train_slots.hpp"

namespace zipml {

/// The slots of a block, in one go; where samples may be read again, each for itself and these
/// behind it. The next block comes in beside them. Returns their cycles.
template <class Format>
TrainCycles TrainBlock(hls::stream<typename Format::word_t> &words_in,
                       hls::stream<int32_t> &labels_in,
                       WordEntry<Format> words[Format::kBufferPlanes][BufferWords<Format>()],
                       LabelEntry block_labels[kBufferSamples],
                       LabelEntry block_weights[kBufferSamples], typename Format::full_port_t full,
                       const Registers &r, const Geometry &g, uint32_t slots,
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
                       FillSide &fill, Position &position) {
  #pragma HLS INLINE
  bool in_doubt[kMaxBatch];
  TrainCycles cycles = {
      Product<kBlockSampleBits + 1, kSlotBits>(slots, g.slot_cycles) + Turns<Format>(),
      kDistances.pipeline};
  if (!Format::kRefetches) {
    TrainSlots<Format>(words_in, labels_in, words, block_labels, block_weights, r, g, slots, model,
                       master, ring, coefficient_first, coefficient_second, shifts, corrections,
                       dot_levels, update_levels, derivative_first, derivative_second, terms, norms,
                       in_doubt, fill, position);
  } else {
    const uint32_t first_row = FirstRow(r, position.block);
  SLOTS:
    for (uint32_t i = 0; i < slots; ++i) {
      #pragma HLS LOOP_TRIPCOUNT min = 1 max = 4096
      const uint32_t slot = position.slot;
      const uint32_t dotted = position.dotted;
      const uint32_t ring_place = position.dot_ring;
      TrainSlots<Format>(words_in, labels_in, words, block_labels, block_weights, r, g, 1, model,
                         master, ring, coefficient_first, coefficient_second, shifts, corrections,
                         dot_levels, update_levels, derivative_first, derivative_second, terms,
                         norms, in_doubt, fill, position);
      // a slot of its own is a pipeline's fill and drain of its own
      if (i != 0) cycles.passes += Turns<Format>();
      if (i != 0) cycles.others += kDistances.pipeline;
      if (position.dotted != dotted && slot >= r.pending) {
        const uint32_t before = position.refetched;
        Refetch<Format>(full, block_labels, block_weights, r, g,
                        first_row + Product<kBlockSampleBits, kBatchBits>(dotted, r.batch),
                        ring_place, model, coefficient_first, coefficient_second, derivative_first,
                        derivative_second, in_doubt, position);
        cycles.others +=
            Product<kBatchBits, kSlotBits>(position.refetched - before, RefetchCycles<Format>(g));
      }
    }
  }
  return cycles;
}

}  // namespace zipml
