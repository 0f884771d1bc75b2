// The update side of training: the words of an earlier batch out of the ring, cell by cell, in a
// cell sample by sample, in a sample plane by plane. For one cell the sum over samples and planes
// stays in registers; then its model entries change once, in turns (turns.hpp).
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"
#include "../narrow.hpp"
#include "../spread.hpp"
#include "slot.hpp"
#include "turns.hpp"

namespace zipml {

/// Where the update side stands.
template <class Format>
struct UpdateSide {
  ring_place_t ring;                 // place of the batch in the ring
  ring_address_t<Format> ring_cell;  // its first cell there
  plane_count_t pass;                // over the cells of the batch
  bool sample_ends;                  // that is the last one
  sample_count_t sample;
  bool cell_ends;  // the batch's last one
  cell_count_t<Format> cell;
  uint32_t table;  // first level of the cell's tables
  turn_t pause;    // cycles that the cell still waits for the turns of the one before it
  ring_address_t<Format> row_address;  // in the ring, of the cell in the sample's first plane
  ring_address_t<Format> address;      // and in the plane that comes
};

/// Takes up the batch that is next in the ring.
template <class Format>
void BeginUpdate(UpdateSide<Format> &update) {
  #pragma HLS INLINE
  update.cell = 0;
  update.table = 0;
  update.pause = 0;
  update.row_address = update.ring_cell;
  update.address = update.row_address;
}

template <class Format>
UpdateSide<Format> UpdateSideAt(const Registers &r, const Geometry &g, const Position &position) {
  #pragma HLS INLINE
  UpdateSide<Format> update;
  update.ring = position.update_ring;
  update.ring_cell =
      Product<kDelayBits, RingWordsLog2(Format::kFormat) + 1>(position.update_ring, g.slot_cells);
  update.pass = 0;
  update.sample_ends = g.passes == 1;
  update.sample = 0;
  update.cell_ends = r.batch == 1;
  BeginUpdate(update);
  return update;
}

/// What a set bit, or a level, of a word adds to the gradient: of either sample of its values.
struct Factors {
  int64_t first;
  int64_t second;
};

template <class Format>
Factors FactorsOf(const Registers &r, const Geometry &g, const UpdateSide<Format> &update,
                  const Coefficients &c) {
  #pragma HLS INLINE
  Factors factors = {0, 0};
  if (Format::kPairs) {
    factors.first = DitherCoefficient(r.sampling, 0, g.dithers, c);
    factors.second = DitherCoefficient(r.sampling, 1, g.dithers, c);
  } else {
    const Plane plane = PlaneOf<Format>(r, g, update.pass.to_uint());
    const int64_t factor =
        plane.base ? BaseCoefficient(c) : DitherCoefficient(r.sampling, plane.dither, g.dithers, c);
    factors.first = ShiftLeft(factor, plane.weight);
  }
  return factors;
}

/// Goes to the same cell of the next plane, sample, and then to the next cell.
template <class Format>
void NextUpdateWord(const Registers &r, const Geometry &g, UpdateSide<Format> &update) {
  #pragma HLS INLINE
  if (update.sample_ends) {
    update.pass = 0;
    if (update.cell_ends) {
      update.sample = 0;
      ++update.cell;
      update.table += g.level_stride;
      update.row_address += 1 - (g.batch_cells - g.cells);
    } else {
      ++update.sample;
      update.row_address += g.cells;
    }
    update.cell_ends = update.sample == r.batch - 1;
    update.address = update.row_address;
  } else {
    ++update.pass;
    update.address += g.batch_cells;
  }
  update.sample_ends = update.pass == g.passes - 1;
}

/// What all lanes take of a word of the update.
template <class Format>
struct LaneStep {
  typename Format::cell_t cell;
  ap_int<Format::kFactorBits> first;   // factor of the first samples of its values
  ap_int<Format::kFactorBits> second;  // and of the second ones
  table_t<Format> table;
  bool works;
  bool opens;   // the first word of its cell
  bool closes;  // the last one
};

/// What comes with every copy of it: each lane has bits of the word for itself.
template <class Format>
struct LaneCopy {
  ap_int<Format::kFactorBits> first;
  ap_int<Format::kFactorBits> second;
  table_t<Format> table;
  bool works;
  bool opens;
  bool closes;
};

/// One word of the update: what the lanes take of it. A cell waits for the turns of the one before
/// it, and hands its sums to its own when they are complete.
template <class Format>
LaneStep<Format> UpdateStep(const Registers &r, const Geometry &g, const Pass &pass,
                            const Slot &slot,
                            const RingEntry<Format> ring[1 << RingWordsLog2(Format::kFormat)],
                            const CoefficientEntry coefficient_first[kCoefficientEntries],
                            const CoefficientEntry coefficient_second[kCoefficientEntries],
                            UpdateSide<Format> &update, Turn<Format> &turn) {
  #pragma HLS INLINE
  LaneStep<Format> step = {0, 0, 0, 0, false, false, false};
  if (!pass.updates || update.cell == g.cells) return step;
  if (update.pause != 0) {
    update.pause -= 1;
    return step;
  }
  const uint32_t place = CoefficientPlace(r, update.ring.to_uint(), update.sample.to_uint());
  const Coefficients c = {coefficient_first[place], coefficient_second[place]};
  const Factors factors = FactorsOf<Format>(r, g, update, c);
  step.cell = ring[update.address.to_uint()];
  step.first = factors.first;
  step.second = factors.second;
  step.table = update.table;
  step.works = true;
  step.opens = update.sample == 0 && update.pass == 0;
  step.closes = update.sample_ends && update.cell_ends;
  if (step.closes) {
    turn.next = 0;
    turn.cell = update.cell;
    turn.version = WriteVersion(slot);
    turn.update = slot.update;
    update.pause = g.pause;
  }
  NextUpdateWord(r, g, update);
  return step;
}

/// Adds a word's terms to the sums of its cell; complete ones move to where the turns take them.
template <class Format>
void UpdateLanes(const LaneStep<Format> &step, const Geometry &g,
                 const int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
                 typename Format::gradient_t gradient[Format::kLanes],
                 typename Format::gradient_t closing[Format::kLanes]) {
  #pragma HLS INLINE
  typedef typename Format::gradient_t gradient_t;
  const LaneCopy<Format> common = {step.first, step.second, step.table,
                                   step.works, step.opens,  step.closes};
  LaneCopy<Format> copies[Copies<Format>()];
  #pragma HLS ARRAY_PARTITION variable = copies type = complete dim = 1
  Spread<Format>(common, copies);
UPDATE_COPIES:
  for (int i = 0; i < Copies<Format>(); ++i) {
    #pragma HLS UNROLL
    const int64_t first = copies[i].first.to_int64(), second = copies[i].second.to_int64();
    if (copies[i].works) {
    UPDATE_LANES:
      for (int k = 0; k < CopyLanes<Format>(); ++k) {
        #pragma HLS UNROLL
        const int lane = i * CopyLanes<Format>() + k;
        const Terms terms = Format::TermsOf(step.cell, lane, g.decoding, update_levels[lane],
                                            copies[i].table.to_uint(), first, second);
        const int64_t term = Format::kPairs ? terms.first + terms.second : terms.first;
        gradient[lane] = copies[i].opens ? gradient_t(term) : gradient_t(gradient[lane] + term);
        if (copies[i].closes) closing[lane] = gradient[lane];
      }
    }
  }
}

}  // namespace zipml
