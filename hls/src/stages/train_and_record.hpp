// A block: its slots, an epoch's row of the schedule before them and its history row behind.
#pragma once

#include "../cycles.hpp"
#include "../geometry.hpp"
#include "../memories.hpp"
#include "../position.hpp"
#include "refetch.hpp"
#include "store_model.hpp"
#include "train_slots.hpp"

namespace zipml {

/// Takes an epoch's row of the schedule. Its slots begin anew, and so does the ring.
inline void BeginEpoch(const uint32_t *schedule, uint32_t position[kPositions]) {
  #pragma HLS INLINE
  const uint32_t row = position[kEpoch] * kScheduleColumns;
  position[kStepNow] = schedule[row + kStep];
  position[kStepNegativeNow] = schedule[row + kStepNegative];
  position[kDecayNow] = schedule[row + kDecay];
  position[kGradientShiftNow] = schedule[row + kGradientShift];
  position[kSlot] = 0;
  position[kDotRing] = 0;
  position[kUpdateRing] = 0;
  position[kPrevious] = position[kCurrent];
}

/// Goes to the next block, of the next epoch behind the last one.
inline void NextPosition(const Registers &r, const Geometry &g, bool closes,
                         uint32_t position[kPositions]) {
  #pragma HLS INLINE
  position[kBlock] = NextBlock(r, g, position[kBlock]);
  position[kBlockCount] = closes ? 0 : position[kBlockCount] + 1;
  if (closes) ++position[kEpoch];
}

/// The slots of a block, in one go; where samples may be read again, each for itself and these
/// behind it. Returns their cycles.
template <class Format>
uint32_t TrainBlock(const typename Format::word_t words[Format::kBufferPlanes]
                                                       [1 << BlockWordsLog2(Format::kFormat)],
                    const int32_t block_labels[kBlockSamples],
                    const int32_t block_weights[kBlockSamples], const typename Format::word_t *full,
                    const Registers &r, const Geometry &g, uint32_t slots,
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
                    uint32_t position[kPositions]) {
  #pragma HLS INLINE
  bool in_doubt[kMaxBatch];
  constexpr uint32_t kFill = kPipelineDepth + Turns<Format>();
  uint32_t cycles = slots * g.slot_cycles + kFill;
  if (!Format::kRefetches) {
    TrainSlots<Format>(words, block_labels, block_weights, r, g, slots, model, master, ring,
                       coefficient_first, coefficient_second, shifts, dot_levels, update_levels,
                       derivative_first, derivative_second, powers, norms, in_doubt, position);
  } else {
    const uint32_t first_row = FirstRow(r, position[kBlock]);
  SLOTS:
    for (uint32_t i = 0; i < slots; ++i) {
      #pragma HLS LOOP_TRIPCOUNT min = 1 max = 4096
      const uint32_t slot = position[kSlot];
      const uint32_t dotted = position[kDotted];
      const uint32_t ring_place = position[kDotRing];
      TrainSlots<Format>(words, block_labels, block_weights, r, g, 1, model, master, ring,
                         coefficient_first, coefficient_second, shifts, dot_levels, update_levels,
                         derivative_first, derivative_second, powers, norms, in_doubt, position);
      // a slot of its own is a pipeline's fill and drain of its own
      if (i != 0) cycles += kFill;
      if (position[kDotted] != dotted && slot >= r.pending) {
        const uint32_t before = position[kRefetched];
        Refetch<Format>(full, block_labels, block_weights, r, g, first_row + dotted * r.batch,
                        ring_place, model, coefficient_first, coefficient_second, derivative_first,
                        derivative_second, in_doubt, position);
        cycles += (position[kRefetched] - before) * RefetchCycles(g);
      }
    }
  }
  return cycles;
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
                    const ShiftEntry<Format> shifts[1 << MasterLog2<Format>()],
                    const int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
                    const int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
                    const int32_t derivative_first[kDerivativeEntries],
                    const int32_t derivative_second[kDerivativeEntries],
                    const int32_t powers[kMaxDegree + 1], uint64_t norms[kModelVersions],
                    uint32_t position[kPositions], uint64_t counters[kCounters]) {
  #pragma HLS INLINE off
  const bool closes = position[kBlockCount] + 1 == g.blocks;
  const bool last = closes && position[kEpoch] + 1 == r.epochs;
  if (position[kBlockCount] == 0) BeginEpoch(schedule, position);
  position[kDotted] = 0;
  const uint32_t slots = BlockSlots(r, g, position[kBlock], closes);
  uint32_t cycles =
      TrainBlock<Format>(words, block_labels, block_weights, full, r, g, slots, model, master, ring,
                         coefficient_first, coefficient_second, shifts, dot_levels, update_levels,
                         derivative_first, derivative_second, powers, norms, position);
  if (closes && (r.flags & kFlagHold) == 0) {
    StoreModel<Format>(master, r.features, g.entries, history,
                       static_cast<uint64_t>(position[kEpoch]) * g.entries);
    cycles += g.entries + kMemoryLatency;
  }
  const uint32_t read = last ? 0 : ReadCycles(r, g);
  counters[kCycles] += cycles > read ? cycles : read;
  counters[kWordsStreamed] += g.planes * g.plane_words;
  NextPosition(r, g, closes, position);
}

}  // namespace zipml
