// Where the training pipeline stands between two blocks.
#pragma once

#include "registers.hpp"
#include "zipml/arithmetic.hpp"

namespace zipml {

/// Where training stands, and what it has counted.
struct Position {
  uint32_t block;  // the block that trains
  uint32_t half;   // of the block buffers, where it lies
  uint32_t step;   // columns of the schedule for the epoch
  uint32_t step_negative;
  uint32_t decay;
  uint32_t gradient_shift;
  uint32_t threshold;
  uint32_t slot;         // slots since the start of the epoch
  uint32_t dotted;       // batches of this block that are dotted
  uint32_t dot_ring;     // place in the ring of the batch that is dotted next
  uint32_t update_ring;  // place in the ring of the batch that is updated next
  uint32_t previous;     // version of the model before the latest slot
  uint32_t current;      // latest version of the model
  uint32_t dot_version;  // version that the latest slot's dot products read
  uint32_t update;       // number of the next update
  uint32_t saturations;
  uint32_t outside;
  uint32_t clipped;
  uint32_t refetched;
};

/// Before the first block of a run.
/// \param clipped  entries that were clamped already
inline Position StartPosition(const Registers &r, uint32_t clipped) {
  #pragma HLS INLINE
  const Position position = {r.first_block,  0, 0, 0,       0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                             r.first_update, 0, 0, clipped, 0};
  return position;
}

/// Takes an epoch's row of the schedule. Its slots begin anew, and so does the ring.
inline void BeginEpoch(const uint32_t *schedule, uint32_t epoch, Position &position) {
  #pragma HLS INLINE
  const uint32_t row = epoch * kScheduleColumns;
  position.step = schedule[row + kStep];
  position.step_negative = schedule[row + kStepNegative];
  position.decay = schedule[row + kDecay];
  position.gradient_shift = schedule[row + kGradientShift];
  position.threshold = schedule[row + kThreshold];
  position.slot = 0;
  position.dot_ring = 0;
  position.update_ring = 0;
  position.previous = position.current;
}

/// What the samples of the epoch have in common.
inline LossRegisters LossRegistersAt(const Registers &r, const Position &position) {
  #pragma HLS INLINE
  const LossRegisters losses = {r.sampling, r.loss, r.range_log2, position.step,
                                position.step_negative};
  return losses;
}

}  // namespace zipml
