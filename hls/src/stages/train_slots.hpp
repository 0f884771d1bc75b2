// The training loop, at II = 1: a pass a cycle. Slot k runs the dot products of batch k
// (dot_side.hpp) beside the update of batch k - lag (update_side.hpp), whose cells close in turns
// (turns.hpp), while the next block comes in (fill_block.hpp); all state is in the local structs of
// TrainSlots.
//
// Its feedback paths (coefficient, model) are long; the slot is lengthened by bubbles until every
// value is ready before it is used (zipml/schedule.hpp), and the DEPENDENCE pragmas promise those
// distances to the compiler, which reports an II above 1 where they are not enough. The bench
// watches that they are kept (hls/tb/watched.hpp). In a pass, the dot side reads the model before a
// turn writes it: the tool keeps that order where it cannot tell entries apart, and the other way
// round it would lengthen the feedback. docs/schedule.md has the arithmetic.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"
#include "../position.hpp"
#include "../pragmas.hpp"
#include "dot_side.hpp"
#include "fill_block.hpp"
#include "slot.hpp"
#include "turns.hpp"
#include "update_side.hpp"

namespace zipml {

/// Ends a slot: the next one begins on both sides.
/// \param pass  the slot's last one
template <class Format>
void EndSlot(const Registers &r, const Geometry &g, const Pass &pass, Slot &slot,
             DotSide<Format> &dot, UpdateSide<Format> &update) {
  #pragma HLS INLINE
  const version_t written = WriteVersion(slot);
  slot.cycle = 0;
  slot.ends = false;  // no slot has a single cycle
  ++slot.number;
  slot.previous = slot.current;
  if (pass.updates) {
    if (!IsFrozen(r)) slot.current = written;
    ++slot.update;
    update.ring = NextInRing(g, update.ring.to_uint());
    update.ring_cell = NextRingCell(g, update.ring.to_uint(), update.ring_cell.to_uint());
  }
  if (pass.dots) {
    --slot.left;
    dot.first_row += r.batch;
    dot.first_address += g.batch_words;
    dot.ring = NextInRing(g, dot.ring.to_uint());
    dot.ring_cell = NextRingCell(g, dot.ring.to_uint(), dot.ring_cell.to_uint());
  }
  BeginDots(dot);
  BeginUpdate(update);
}

/// Goes to the next cycle of a slot, or to the next slot.
template <class Format>
void NextCycle(const Registers &r, const Geometry &g, const Pass &pass, Slot &slot,
               DotSide<Format> &dot, UpdateSide<Format> &update) {
  #pragma HLS INLINE
  if (slot.ends) {
    EndSlot(r, g, pass, slot, dot, update);
  } else {
    ++slot.cycle;
    slot.ends = slot.cycle == g.slot_cycles - 1;
  }
}

/// Writes down where training stands, for the next slots.
template <class Format>
void LeavePosition(const Registers &r, const Geometry &g, const Slot &slot,
                   const DotSide<Format> &dot, const UpdateSide<Format> &update,
                   const Counts &counts, Position &position) {
  #pragma HLS INLINE
  position.slot = slot.number;
  position.dotted = BlockBatches(r, g, position.block) - slot.left;
  position.dot_ring = dot.ring.to_uint();
  position.update_ring = update.ring.to_uint();
  position.previous = slot.previous.to_uint();
  position.current = slot.current.to_uint();
  position.dot_version = dot.version.to_uint();
  position.update = slot.update;
  position.saturations = counts.saturations;
  position.outside = counts.outside;
  position.clipped = counts.clipped;
}

/// Trains through some slots of one block.
/// \param slots  of this block; `position` says where they begin
template <class Format>
void TrainSlots(hls::stream<typename Format::word_t> &words_in, hls::stream<int32_t> &labels_in,
                WordEntry<Format> words[Format::kBufferPlanes][BufferWords<Format>()],
                LabelEntry block_labels[kBufferSamples], LabelEntry block_weights[kBufferSamples],
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
                bool in_doubt[kMaxBatch], FillSide &filling, Position &position) {
  #pragma HLS INLINE off
  FillSide fill = filling;
  DotEntry<Format> dot_base[kMaxBatch], dot_first[kMaxBatch];
  PolynomialEntry polynomials[kMaxBatch];
  typename Format::gradient_t gradient[Format::kLanes];
  #pragma HLS ARRAY_PARTITION variable = gradient type = complete dim = 1
  typename Format::gradient_t closing[Format::kLanes];
  #pragma HLS ARRAY_PARTITION variable = closing type = complete dim = 1
  const uint32_t cycles = Product<kBlockSampleBits + 1, kSlotBits>(slots, g.slot_cycles);
  const uint32_t block_sample = position.block * Unsigned<kBlockSampleBits>(r.block_samples);
  const LossRegisters losses = LossRegistersAt(r, position);
  Slot slot = SlotAt(r, g, position);
  const uint64_t norm = norms[ReadVersion(g, slot).to_uint()];  // of use in single slots alone
  DotSide<Format> dot = DotSideAt<Format>(r, g, position);
  UpdateSide<Format> update = UpdateSideAt<Format>(r, g, position);
  Turn<Format> turn = NoTurn<Format>();
  Counts counts = CountsAt(position);

TRAIN:
  for (uint32_t i = 0; i < cycles + Turns<Format>(); ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 8192
    // clang-format off: one pragma a line
    ZIPML_NOT_SHARED(words)
    ZIPML_NOT_SHARED(block_labels)
    ZIPML_NOT_SHARED(block_weights)
    ZIPML_READ_BEHIND_WRITE(model, ZIPML_UPDATE_LATENCY)
    ZIPML_READ_BEHIND_WRITE(master, ZIPML_UPDATE_LATENCY)
    ZIPML_READ_BEHIND_WRITE(ring, ZIPML_RESIDUAL_LATENCY) ZIPML_NO_READ_OF_OWN_WRITE(ring)
    ZIPML_READ_BEHIND_WRITE(coefficient_first, ZIPML_RESIDUAL_LATENCY)
    ZIPML_READ_BEHIND_WRITE(coefficient_second, ZIPML_RESIDUAL_LATENCY)
    ZIPML_NO_READ_OF_OWN_WRITE(coefficient_first) ZIPML_NO_READ_OF_OWN_WRITE(coefficient_second)
    ZIPML_READ_BEHIND_WRITE(dot_base, ZIPML_DOT_DISTANCE)
    ZIPML_READ_BEHIND_WRITE(dot_first, ZIPML_DOT_DISTANCE)
    ZIPML_READ_BEHIND_WRITE(polynomials, ZIPML_POLYNOMIAL_DISTANCE)
        // clang-format on
        BeginPass();
    FillStep<Format>(r, g, words_in, labels_in, words, block_labels, block_weights, fill);
    Counts counted = {0, 0, 0};
    const Pass pass = PassOf(g, slot, i < cycles);
    if (pass.runs) dot.version = ReadVersion(g, slot);
    if (pass.dots && dot.pass != g.passes) {
      DotStep<Format>(words, block_labels, block_weights, r, g, losses, slot, block_sample, model,
                      dot_levels, derivative_first, derivative_second, terms, norm, ring,
                      coefficient_first, coefficient_second, dot_base, dot_first, polynomials,
                      in_doubt, dot, counted);
    }
    if (turn.next != Turns<Format>()) {
      CloseTurn<Format>(r, g, position.decay, position.gradient_shift, position.threshold, closing,
                        shifts, corrections, model, master, norms, turn, counted);
    }
    const LaneStep<Format> step = UpdateStep<Format>(r, g, pass, slot, ring, coefficient_first,
                                                     coefficient_second, update, turn);
    UpdateLanes<Format>(step, g, update_levels, gradient, closing);
    AddCounts(counted, counts);
    if (pass.runs) NextCycle<Format>(r, g, pass, slot, dot, update);
  }

  EndPasses();
  filling = fill;
  LeavePosition(r, g, slot, dot, update, counts, position);
}

}  // namespace zipml
