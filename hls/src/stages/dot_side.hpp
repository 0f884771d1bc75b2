// The dot side of training: word after word of a batch as they lie in the block buffer, plane by
// plane, in a plane sample by sample, in a sample cell by cell. The last plane's row of a sample
// completes its dot products, and with them its coefficients.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"
#include "../narrow.hpp"
#include "../spread.hpp"
#include "slot.hpp"

namespace zipml {

/// Where the dot side stands.
template <class Format>
struct DotSide {
  typedef typename Format::dot_t dot_t;
  uint32_t half;                     // of the block buffers
  ring_place_t ring;                 // place of the batch in the ring
  ring_address_t<Format> ring_cell;  // its first cell there
  uint32_t first_row;                // of the batch in its block
  address_t<Format> first_address;   // its first word in the block buffer
  plane_count_t pass;                // over the cells of the batch
  sample_count_t sample;
  bool pass_ends;  // that is its last one
  cell_count_t<Format> cell;
  bool row_ends;
  ap_uint<Format::kPartsLog2 + 1> part;  // of a word
  uint32_t table;                        // first level of the cell's tables
  address_t<Format> address;             // in the block buffer
  ring_address_t<Format> ring_address;
  version_t version;  // of the model
  dot_t row_first;    // sums of the row so far, of either sample
  dot_t row_second;
  // dot products of the latest rows, the last one first: so many samples are back too soon for a
  // memory
  dot_t recent_base[kForwardedRows];
  dot_t recent_first[kForwardedRows];
};

/// Takes up the batch of `first_row`, or the one behind it. Nothing is multiplied here, where the
/// next pass goes on with the address.
template <class Format>
void BeginDots(DotSide<Format> &dot) {
  #pragma HLS INLINE
  dot.pass = 0;
  dot.address = dot.first_address;
  dot.ring_address = dot.ring_cell;
}

template <class Format>
DotSide<Format> DotSideAt(const Registers &r, const Geometry &g, const Position &position) {
  #pragma HLS INLINE
  DotSide<Format> dot;
  dot.half = position.half;
  dot.ring = position.dot_ring;
  dot.ring_cell =
      Product<kDelayBits, RingWordsLog2(Format::kFormat) + 1>(position.dot_ring, g.slot_cells);
  dot.first_row =
      FirstRow(r, position.block) + Product<kBlockSampleBits, kBatchBits>(position.dotted, r.batch);
  dot.first_address = (dot.half << BlockWordsLog2(Format::kFormat)) +
                      Product<kBlockSampleBits, ChunkBits<Format>()>(dot.first_row, g.chunks);
  dot.sample = 0;
  dot.pass_ends = r.batch == 1;
  dot.cell = 0;
  dot.row_ends = g.cells == 1;
  dot.part = 0;
  dot.table = 0;
  dot.version = 0;
  dot.row_first = 0;
  dot.row_second = 0;
RECENT_ROWS:
  for (int i = 0; i < kForwardedRows; ++i) {
    #pragma HLS UNROLL
    dot.recent_base[i] = 0;
    dot.recent_first[i] = 0;
  }
  BeginDots(dot);
  return dot;
}

/// What comes with every copy of a cell: each lane has bits of the word for itself.
template <class Format>
struct DotCopy {
  entry_t<Format> entry;  // of the model
  table_t<Format> table;
};

/// Adds a cell's products to the sums of its row.
template <class Format>
void DotCell(const typename Format::cell_t &cell, const Geometry &g,
             const ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
             const int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
             DotSide<Format> &dot) {
  #pragma HLS INLINE
  typedef typename Format::dot_t dot_t;
  // a term each of all lanes
  constexpr int kSumBits = Format::kTermBits + BitsOf(Format::kLanes - 1);
  const uint32_t row = (dot.version.to_uint() << CellsLog2<Format>()) + dot.cell.to_uint();
  const DotCopy<Format> common = {row, dot.table};
  DotCopy<Format> copies[Copies<Format>()];
  #pragma HLS ARRAY_PARTITION variable = copies type = complete dim = 1
  Spread<Format>(common, copies);
  int64_t sum_first = 0, sum_second = 0;
DOT_LANES:
  for (int lane = 0; lane < Format::kLanes; ++lane) {
    #pragma HLS UNROLL
    const DotCopy<Format> &at = copies[lane / CopyLanes<Format>()];
    const int32_t entry = model[at.entry.to_uint()][lane];
    const Terms terms =
        Format::TermsOf(cell, lane, g.decoding, dot_levels[lane], at.table.to_uint(), entry, entry);
    sum_first += Signed<Format::kTermBits>(terms.first);
    if (Format::kPairs) sum_second += Signed<Format::kTermBits>(terms.second);
  }
  sum_first = Signed<kSumBits>(sum_first);
  sum_second = Signed<kSumBits>(sum_second);
  dot.row_first = dot.cell == 0 ? dot_t(sum_first) : dot_t(dot.row_first + sum_first);
  if (Format::kPairs) {
    dot.row_second = dot.cell == 0 ? dot_t(sum_second) : dot_t(dot.row_second + sum_second);
  }
}

/// Dot products of a sample, with the planes that have arrived.
template <class Format>
struct DotProducts {
  typename Format::dot_t latest;  // with this plane's row
  typename Format::dot_t first;   // of its first sample
  typename Format::dot_t second;
};

/// Adds a complete row to its sample's dot products: base planes add up, then each dither plane
/// completes the dot product of its own sample. A sample is back after as many rows as its batch
/// has; the latest rows' sums go past the memories, which have ZIPML_DOT_DISTANCE passes to load,
/// add and store.
template <class Format>
DotProducts<Format> CompleteRow(const Registers &r, const Geometry &g, const Plane &plane,
                                DotEntry<Format> dot_base[kMaxBatch],
                                DotEntry<Format> dot_first[kMaxBatch], DotSide<Format> &dot) {
  #pragma HLS INLINE
  typedef typename Format::dot_t dot_t;
  const uint32_t sample = dot.sample.to_uint();
  const bool forward = r.batch <= kForwardedRows;
  const bool alone = dot.pass == 0 || (Format::kPlaneByPlane && g.base_planes == 0);
  const dot_t weighted = ShiftLeft(dot.row_first.to_int64(), plane.weight);
  const dot_t old_base = forward ? dot.recent_base[r.batch - 1] : dot_t(dot_base[sample]);
  const dot_t old_first = forward ? dot.recent_first[r.batch - 1] : dot_t(dot_first[sample]);
  const dot_t zero = 0;
  DotProducts<Format> dots;
  dots.latest = (alone ? zero : old_base) + weighted;
  dots.first = plane.dither == 0 ? dots.latest : old_first;
  dots.second = Format::kPairs ? dot.row_second : dots.latest;
  if (plane.base) {
    dot_base[sample] = dots.latest;
  } else if (plane.dither == 0) {
    dot_first[sample] = dots.latest;
  }
FORWARD:
  for (int i = kForwardedRows - 1; i > 0; --i) {
    #pragma HLS UNROLL
    dot.recent_base[i] = dot.recent_base[i - 1];
    dot.recent_first[i] = dot.recent_first[i - 1];
  }
  dot.recent_base[0] = plane.base ? dots.latest : old_base;
  dot.recent_first[0] = dots.first;
  return dots;
}

/// Turns a sample's dot products into its coefficients, with the last plane; a polynomial takes a
/// term with every dither before. Batches before the first one of this run keep the coefficients
/// that came with them.
template <class Format>
void CompleteDot(const Registers &r, const Geometry &g, const LossRegisters &losses,
                 const Slot &slot, const DotSide<Format> &dot, const Plane &plane,
                 const DotProducts<Format> &dots, uint32_t block_sample,
                 const LabelEntry block_labels[kBufferSamples],
                 const LabelEntry block_weights[kBufferSamples],
                 const int32_t derivative_first[kDerivativeEntries],
                 const int32_t derivative_second[kDerivativeEntries],
                 const int32_t terms[kMaxDegree + 1], uint64_t norm,
                 PolynomialEntry polynomials[kMaxBatch],
                 CoefficientEntry coefficient_first[kCoefficientEntries],
                 CoefficientEntry coefficient_second[kCoefficientEntries], bool in_doubt[kMaxBatch],
                 Counts &counts) {
  #pragma HLS INLINE
  const bool carried = slot.number < r.pending;
  const bool last = dot.pass == g.passes - 1;
  const bool polynomial = Format::kPlaneByPlane && r.loss == kPolynomial;
  const uint32_t sample = dot.sample.to_uint();
  const uint32_t row = dot.first_row + sample;
  const bool real = block_sample + row < r.samples;
  const uint32_t row_place = (dot.half << kBlockSamplesLog2) + row;
  const int32_t label = block_labels[row_place];
  const Polynomial before = polynomials[sample];
  if (polynomial && !plane.base && !last && real && !carried) {
    const int32_t margin =
        Margin(Format::kFormat, dots.latest.to_int64(), label, counts.saturations);
    polynomials[sample] = NextTerm(before, plane.dither + 1, margin, r.range_log2, terms,
                                   counts.saturations, counts.outside);
  }
  if (last && !carried) {
    const int32_t weight = block_weights[row_place];
    Coefficients c = {0, 0};
    bool doubt = false;
    if (Format::kRefetches && real) {
      doubt = InDoubt(Format::kFormat, r.bits, r.sampling, dots.first.to_int64(),
                      dots.second.to_int64(), label, norm);
    }
    if (polynomial && real) {
      c = PolynomialCoefficients(losses, before, label, weight, counts.saturations);
    } else if (real && !doubt) {
      c = SampleCoefficients(Format::kFormat, losses, dots.first.to_int64(), dots.second.to_int64(),
                             label, weight, derivative_first, derivative_second, counts.saturations,
                             counts.outside);
    }
    const uint32_t place = CoefficientPlace(r, dot.ring.to_uint(), sample);
    coefficient_first[place] = c.first;
    coefficient_second[place] = c.second;
    if (Format::kRefetches) in_doubt[sample] = doubt;
  }
}

/// Goes to the next cell as they lie in the block buffer.
template <class Format>
void NextDotCell(const Registers &r, const Geometry &g, DotSide<Format> &dot) {
  #pragma HLS INLINE
  constexpr uint32_t kParts = 1u << Format::kPartsLog2;
  ++dot.ring_address;
  if (++dot.part == kParts || dot.row_ends) {
    dot.part = 0;
    ++dot.address;
  }
  dot.table += g.level_stride;
  if (dot.row_ends) {
    dot.cell = 0;
    dot.table = 0;
    if (dot.pass_ends) {
      dot.sample = 0;
      ++dot.pass;
      dot.address += g.plane_words - g.batch_words;
    } else {
      ++dot.sample;
    }
    dot.pass_ends = dot.sample == r.batch - 1;
  } else {
    ++dot.cell;
  }
  dot.row_ends = dot.cell == g.cells - 1;
}

/// One word of the dot side: copies it to the ring, adds its products, and completes what it ends.
template <class Format>
void DotStep(const WordEntry<Format> words[Format::kBufferPlanes][BufferWords<Format>()],
             const LabelEntry block_labels[kBufferSamples],
             const LabelEntry block_weights[kBufferSamples], const Registers &r, const Geometry &g,
             const LossRegisters &losses, const Slot &slot, uint32_t block_sample,
             const ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
             const int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
             const int32_t derivative_first[kDerivativeEntries],
             const int32_t derivative_second[kDerivativeEntries],
             const int32_t terms[kMaxDegree + 1], uint64_t norm,
             RingEntry<Format> ring[1 << RingWordsLog2(Format::kFormat)],
             CoefficientEntry coefficient_first[kCoefficientEntries],
             CoefficientEntry coefficient_second[kCoefficientEntries],
             DotEntry<Format> dot_base[kMaxBatch], DotEntry<Format> dot_first[kMaxBatch],
             PolynomialEntry polynomials[kMaxBatch], bool in_doubt[kMaxBatch], DotSide<Format> &dot,
             Counts &counts) {
  #pragma HLS INLINE
  const typename Format::cell_t cell =
      Format::Fetch(words, dot.address.to_uint(), dot.part.to_uint());
  ring[dot.ring_address.to_uint()] = cell;
  DotCell<Format>(cell, g, model, dot_levels, dot);
  if (dot.row_ends) {
    const Plane plane = PlaneOf<Format>(r, g, dot.pass.to_uint());
    const DotProducts<Format> dots = CompleteRow<Format>(r, g, plane, dot_base, dot_first, dot);
    CompleteDot<Format>(r, g, losses, slot, dot, plane, dots, block_sample, block_labels,
                        block_weights, derivative_first, derivative_second, terms, norm,
                        polynomials, coefficient_first, coefficient_second, in_doubt, counts);
  }
  NextDotCell(r, g, dot);
}

}  // namespace zipml
