// Where training stands in its slots, and what one pass of the loop does. docs/schedule.md.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"
#include "../narrow.hpp"
#include "../position.hpp"

namespace zipml {

// What one pass of the loop hands to the next is due in a cycle, so counters are no wider than they
// have to be, each wide enough for its own end, and one that ends another says so a pass ahead, in
// a flag: a chain of sums and comparisons through a cell, a sample and a plane would not be ready.
typedef ap_uint<BitsOf(kModelVersions - 1)> version_t;
typedef ap_uint<kPlaneBits> plane_count_t;
typedef ap_uint<kBatchBits> sample_count_t;
typedef ap_uint<kDelayBits> ring_place_t;
typedef ap_uint<kSlotBits> slot_cycle_t;
template <class Format>
using cell_count_t = ap_uint<CellBits<Format>()>;
/// A word of the block buffers, and a cell of the ring; behind the last one they begin anew.
template <class Format>
using address_t = ap_uint<BlockWordsLog2(Format::kFormat) + 2>;
template <class Format>
using ring_address_t = ap_uint<RingWordsLog2(Format::kFormat) + 1>;
/// A row of the versions of the model.
template <class Format>
using entry_t = ap_uint<BitsOf(kModelVersions - 1) + CellsLog2<Format>()>;
/// First level of a cell's tables.
template <class Format>
using table_t = ap_uint<Format::kTableLog2 + 1>;
/// Turns, and cycles that are waited for them.
typedef ap_uint<kTurnBits> turn_t;

/// Where a batch's coefficients are.
inline uint32_t CoefficientPlace(const Registers &r, uint32_t ring_place, uint32_t sample) {
  #pragma HLS INLINE
  return PendingSamples(r, ring_place) + sample;
}

/// A slot runs the dot products of one batch and the update of an earlier one.
struct Slot {
  uint32_t number;     // since the start of the epoch
  slot_cycle_t cycle;  // of the slot
  bool ends;           // that is its last one
  uint32_t left;       // batches of this block that are still to be dotted; behind them slots drain
  version_t previous;  // of the model, before the latest slot
  version_t current;   // the latest one
  uint32_t update;     // number of the next update
};

inline Slot SlotAt(const Registers &r, const Geometry &g, const Position &position) {
  #pragma HLS INLINE
  Slot slot;
  slot.number = position.slot;
  slot.cycle = 0;
  slot.ends = false;  // no slot has a single cycle
  slot.left = BlockBatches(r, g, position.block) - position.dotted;
  slot.previous = position.previous;
  slot.current = position.current;
  slot.update = position.update;
  return slot;
}

/// What one pass of the loop does beside a turn.
struct Pass {
  bool runs;     // a cycle of a slot; behind the last slot come the turns of its last cell
  bool dots;     // the slot has a batch to be dotted
  bool updates;  // and one to be updated with
};

inline Pass PassOf(const Geometry &g, const Slot &slot, bool runs) {
  #pragma HLS INLINE
  // without delay a batch takes two slots, one for each side
  const bool overlapped = g.overlap.slots_per_batch == 1;
  const bool odd = (slot.number & 1) == 1;
  Pass pass;
  pass.runs = runs;
  pass.dots = runs && (overlapped ? slot.left != 0 : !odd);
  pass.updates = runs && (overlapped ? slot.number >= g.overlap.lag : odd);
  return pass;
}

/// Version of the model that a slot's dot products read.
inline version_t ReadVersion(const Geometry &g, const Slot &slot) {
  #pragma HLS INLINE
  return g.overlap.versions == 2 ? slot.previous : slot.current;
}

/// Version of the model that a slot's update writes: neither of the two that are in use. They are
/// the same while no update has run; any other will do then.
inline version_t WriteVersion(const Slot &slot) {
  #pragma HLS INLINE
  const uint32_t previous = slot.previous.to_uint(), current = slot.current.to_uint();
  if (previous == current) return current == 0 ? 1 : 0;
  return kModelVersions - previous - current;
}

/// What training counts of its samples and entries.
struct Counts {
  uint32_t saturations;
  uint32_t outside;
  uint32_t clipped;
};

/// Adds what a pass has counted: once a pass, for a sum that a pass hands to the next is due in a
/// cycle, and a chain of additions would not be.
inline void AddCounts(const Counts &pass, Counts &counts) {
  #pragma HLS INLINE
  counts.saturations += pass.saturations;
  counts.outside += pass.outside;
  counts.clipped += pass.clipped;
}

inline Counts CountsAt(const Position &position) {
  #pragma HLS INLINE
  const Counts counts = {position.saturations, position.outside, position.clipped};
  return counts;
}

/// What a pass of the planes is of a batch, on either side.
struct Plane {
  bool base;        // a base plane; else a dither, or whole values
  uint32_t dither;  // which one
  int weight;       // power of two by which it counts
};

template <class Format>
Plane PlaneOf(const Registers &r, const Geometry &g, uint32_t pass) {
  #pragma HLS INLINE
  Plane plane = {false, 0, 0};
  if (Format::kPlaneByPlane) {
    plane.base = pass < g.base_planes;
    plane.dither = pass - g.base_planes;
    plane.weight =
        plane.base ? BaseWeight(Format::kFormat, pass) : DitherWeight(Format::kFormat, r.bits);
  }
  return plane;
}

}  // namespace zipml
