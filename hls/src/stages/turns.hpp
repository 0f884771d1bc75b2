// The turns of a cell: when its sums are complete its model entries change, a few lanes a cycle,
// while the next cell's sums begin. So one lane in so many has the circuit for it.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"
#include "../narrow.hpp"
#include "../registers.hpp"
#include "../spread.hpp"
#include "slot.hpp"
#include "zipml/random.hpp"

namespace zipml {

/// The cell whose sums are complete.
template <class Format>
struct Turn {
  turn_t next;  // of its turns; as many as there are: none is left
  cell_count_t<Format> cell;
  version_t version;  // of the model, which its entries go to
  uint32_t update;    // number of the update, for its random numbers
  uint64_t norm;      // magnitudes of the version's entries so far
};

template <class Format>
Turn<Format> NoTurn() {
  #pragma HLS INLINE
  const Turn<Format> turn = {Turns<Format>(), 0, 0, 0, 0};
  return turn;
}

/// Where a turn's entries go.
template <class Format>
struct TurnPlace {
  entry_t<Format> entry;
  turn_t next;
};

/// One turn: new entries of a few lanes, in the update side's copy of the model, and, quantized if
/// the model is to be, in the version that dot products see.
/// \param closing      the cell's sums
/// \param shifts       log2 of the features' steps over the run's, if they have their own
/// \param corrections  what every update adds to the gradient, if it does
template <class Format>
void CloseTurn(const Registers &r, const Geometry &g, uint32_t decay, uint32_t gradient_shift,
               uint32_t threshold, const typename Format::gradient_t closing[Format::kLanes],
               const ShiftEntry<Format> shifts[1 << MasterLog2<Format>()],
               const ModelEntry corrections[1 << MasterLog2<Format>()][TurnLanes<Format>()],
               ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
               ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
               uint64_t norms[kModelVersions], Turn<Format> &turn, Counts &counts) {
  #pragma HLS INLINE
  constexpr uint32_t kTurns = Turns<Format>();
  constexpr int kTurnLanes = TurnLanes<Format>();
  static_assert(kTurnLanes <= static_cast<int>(kDrawFeatures), "lanes of a turn share a draw");
  const uint32_t next = turn.next.to_uint();
  const uint32_t entry = (turn.version.to_uint() << CellsLog2<Format>()) + turn.cell.to_uint();
  const uint32_t row = turn.cell.to_uint() * kTurns + next;
  const uint32_t feature = row * kTurnLanes;
  const Draws draws = DrawsOf(r.seed, turn.update, feature >> kDrawFeaturesLog2);
  const Rounding<uint64_t> to_gradient = GradientRounding(draws, gradient_shift, r.gradient_bits);
  const Rounding<uint32_t> to_model = ModelRounding(draws, r.model_shift, r.model_bits);
  const uint32_t first_lane = feature & (kDrawFeatures - 1);
  const uint64_t gradient_number = NumberOf(to_gradient, to_gradient.words[0], first_lane);
  const uint32_t model_number = NumberOf(to_model, to_model.words[0], first_lane);
  ShiftEntry<Format> row_shifts = 0;
  if (HasFeatureSteps(r)) row_shifts = shifts[row];
  uint32_t clamped = 0, cut = 0, cut_model = 0;
  uint64_t sizes = 0;
  // where each lane's memory takes its entry, known long before the entry is
  TurnPlace<Format> places[Copies<Format>()];
  #pragma HLS ARRAY_PARTITION variable = places type = complete dim = 1
  const TurnPlace<Format> place = {entry, next};
  Spread<Format>(place, places);
TURN_LANES:
  for (int k = 0; k < kTurnLanes; ++k) {
    #pragma HLS UNROLL
    int32_t new_master = 0, new_model = 0;
    // padding lanes stay zero, whatever bits their planes hold
    if (feature + k < r.features) {
      const int64_t rounded = Rounded(to_gradient, closing[next * kTurnLanes + k].to_int64(),
                                      NumberOf(to_gradient, gradient_number, k), cut);
      const uint32_t shift = static_cast<uint32_t>(
          row_shifts.range(kShiftBits * k + kShiftBits - 1, kShiftBits * k).to_uint());
      const int32_t correction = HasCorrection<Format>(r) ? int32_t(corrections[row][k]) : 0;
      new_master =
          UpdateEntry(Format::kFormat, master[row][k], rounded, decay, correction, shift, clamped);
      new_master = Shrink(new_master, threshold, shift);
      new_model = static_cast<int32_t>(
          Rounded(to_model, new_master, NumberOf(to_model, model_number, k), cut_model));
    }
    master[row][k] = new_master;
  TURN_ENTRIES:
    for (uint32_t other = 0; other < kTurns; ++other) {
      #pragma HLS UNROLL
      const int lane = other * kTurnLanes + k;
      const TurnPlace<Format> &at = places[lane / CopyLanes<Format>()];
      if (at.next == other) model[at.entry.to_uint()][lane] = new_model;
    }
    if (Format::kRefetches) sizes += Magnitude(new_model);
  }
  counts.saturations += clamped;
  // nothing reads the versions of a frozen model
  counts.clipped += cut + (IsFrozen(r) ? 0 : cut_model);
  turn.norm = row == 0 ? sizes : turn.norm + sizes;
  ++turn.next;
  if (Format::kRefetches && turn.next == kTurns && turn.cell == g.cells - 1) {
    norms[turn.version.to_uint()] = turn.norm;
  }
}

}  // namespace zipml
