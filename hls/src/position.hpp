// Where the training pipeline stands between two calls.
#pragma once

#include "registers.hpp"
#include "zipml/arithmetic.hpp"

namespace zipml {

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

/// Before the first block of a run.
/// \param clipped  entries that were clamped already
inline void StartPosition(const Registers &r, uint32_t clipped, uint32_t position[kPositions]) {
  #pragma HLS INLINE
  position[kBlock] = r.first_block;
  position[kBlockCount] = 0;
  position[kEpoch] = 0;
  position[kCurrent] = 0;
  position[kUpdate] = r.first_update;
  position[kSaturations] = 0;
  position[kOutside] = 0;
  position[kClipped] = clipped;
  position[kRefetched] = 0;
}

/// What the samples of the epoch have in common.
inline LossRegisters LossRegistersAt(const Registers &r, const uint32_t position[kPositions]) {
  #pragma HLS INLINE
  const LossRegisters losses = {r.sampling, r.loss, r.range_log2, position[kStepNow],
                                position[kStepNegativeNow]};
  return losses;
}

}  // namespace zipml
