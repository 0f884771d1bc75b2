// The update side of training: the words of an earlier batch out of the ring, cell by cell, in a
// cell sample by sample, in a sample plane by plane. For one cell the sum over samples and planes
// stays in registers; then its model entries change once, in turns (turns.hpp).
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"
#include "slot.hpp"
#include "turns.hpp"

namespace zipml {

/// Where the update side stands.
struct UpdateSide {
  uint32_t ring;       // place of the batch in the ring
  uint32_t ring_cell;  // its first cell there
  uint32_t pass;       // over the cells of the batch
  uint32_t sample;
  uint32_t cell;
  uint32_t table;        // first level of the cell's tables
  uint32_t pause;        // cycles that the cell still waits for the turns of the one before it
  uint32_t row_address;  // in the ring, of the cell in the sample's first plane
  uint32_t address;      // and in the plane that comes
};

/// Takes up the batch that is next in the ring.
inline void BeginUpdate(UpdateSide &update) {
  #pragma HLS INLINE
  update.cell = 0;
  update.table = 0;
  update.pause = 0;
  update.row_address = update.ring_cell;
  update.address = update.row_address;
}

inline UpdateSide UpdateSideAt(const Geometry &g, const Position &position) {
  #pragma HLS INLINE
  UpdateSide update;
  update.ring = position.update_ring;
  update.ring_cell = update.ring * g.slot_cells;
  update.pass = 0;
  update.sample = 0;
  BeginUpdate(update);
  return update;
}

/// What a set bit, or a level, of a word adds to the gradient: of either sample of its values.
struct Factors {
  int64_t first;
  int64_t second;
};

template <class Format>
Factors FactorsOf(const Registers &r, const Geometry &g, const UpdateSide &update,
                  const Coefficients &c) {
  #pragma HLS INLINE
  Factors factors = {0, 0};
  if (Format::kPairs) {
    factors.first = DitherCoefficient(r.sampling, 0, g.dithers, c);
    factors.second = DitherCoefficient(r.sampling, 1, g.dithers, c);
  } else {
    const Plane plane = PlaneOf<Format>(r, g, update.pass);
    const int64_t factor =
        plane.base ? BaseCoefficient(c) : DitherCoefficient(r.sampling, plane.dither, g.dithers, c);
    factors.first = ShiftLeft(factor, plane.weight);
  }
  return factors;
}

/// Goes to the same cell of the next plane, sample, and then to the next cell.
inline void NextUpdateWord(const Registers &r, const Geometry &g, UpdateSide &update) {
  #pragma HLS INLINE
  if (++update.pass == g.passes) {
    update.pass = 0;
    if (++update.sample == r.batch) {
      update.sample = 0;
      ++update.cell;
      update.table += g.level_stride;
      update.row_address += 1 - (g.batch_cells - g.cells);
    } else {
      update.row_address += g.cells;
    }
    update.address = update.row_address;
  } else {
    update.address += g.batch_cells;
  }
}

/// One word of the update: adds its terms to the sums of its cell, and hands them to the turns when
/// they are complete. A cell waits for those of the one before it.
template <class Format>
void UpdateStep(const Registers &r, const Geometry &g, const Slot &slot,
                const RingEntry<Format> ring[1 << RingWordsLog2(Format::kFormat)],
                const CoefficientEntry coefficient_first[kCoefficientEntries],
                const CoefficientEntry coefficient_second[kCoefficientEntries],
                const int16_t update_levels[Format::kLanes][1 << Format::kTableLog2],
                typename Format::gradient_t gradient[Format::kLanes],
                typename Format::gradient_t closing[Format::kLanes], UpdateSide &update,
                Turn &turn) {
  #pragma HLS INLINE
  typedef typename Format::gradient_t gradient_t;
  if (update.pause != 0) {
    --update.pause;
    return;
  }
  const typename Format::cell_t cell = ring[update.address];
  const uint32_t place = update.ring * r.batch + update.sample;
  const Coefficients c = {coefficient_first[place], coefficient_second[place]};
  const Factors factors = FactorsOf<Format>(r, g, update, c);
  const bool opens = update.sample == 0 && update.pass == 0;
  const bool closes = update.sample == r.batch - 1 && update.pass == g.passes - 1;
UPDATE_LANES:
  for (int lane = 0; lane < Format::kLanes; ++lane) {
    #pragma HLS UNROLL
    const Terms terms = Format::TermsOf(cell, lane, g.decoding, update_levels[lane], update.table,
                                        factors.first, factors.second);
    const int64_t term = Format::kPairs ? terms.first + terms.second : terms.first;
    gradient[lane] = opens ? gradient_t(term) : gradient_t(gradient[lane] + term);
    if (closes) closing[lane] = gradient[lane];
  }
  if (closes) {
    turn.next = 0;
    turn.cell = update.cell;
    turn.version = WriteVersion(slot);
    turn.update = slot.update;
    update.pause = g.pause;
  }
  NextUpdateWord(r, g, update);
}

}  // namespace zipml
