// What the planes port carries: the one difference between the kernels. A format says what a word
// is, what part of it (a cell) is trained on in one cycle, and what a value times a factor is.
#pragma once

#include <ap_int.h>

#include "narrow.hpp"
#include "zipml/arithmetic.hpp"

namespace zipml {

/// In the place of a memory port that a format does not have.
struct NoPort {};

/// Products of one lane: with the first and with the second sample of its value.
struct Terms {
  int64_t first;
  int64_t second;
};

/// How codes are read in one run.
struct Decoding {
  uint32_t base_mask;  // the bits of a base
  bool single;         // one dither is streamed: both samples are the first one
};

/// The type of a port of words, where a format has it.
template <class Word, bool kHas>
struct PortOf {
  typedef NoPort type;
};
template <class Word>
struct PortOf<Word, true> {
  typedef const Word *type;
};

/// One bit of kLanes values. Set: +factor, clear: -factor. No multiplier.
/// \tparam kWidth  bits of the planes port
/// \tparam kOf     kBitPlanes; kWide, whose sums are as many bits wider as its values are finer; or
///                 kRefetch, which reads samples whose hinge is in doubt again at full precision
template <int kWidth, ValueFormat kOf = kBitPlanes>
struct BitPlaneFormat {
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 512, "word widths of the boards");
  using word_t = ap_uint<kWidth>;
  using cell_t = word_t;
  using levels_port_t = NoPort;
  using full_port_t = typename PortOf<word_t, kOf == kRefetch>::type;
  using dot_t = ap_int<48 + ValueFractionBits(kOf)>;       // 2^7 * 2^31 * 2^15, or 2^15 * ..
  using gradient_t = ap_int<41 + ValueFractionBits(kOf)>;  // 2^8 * 2^39, or 2^8 * 2^47
  static constexpr int kTermBits = 33;
  static constexpr int kFactorBits = 34 + ValueFractionBits(kOf);  // 2^7 * 2^33, or 2^15 * ..
  static constexpr ValueFormat kFormat = kOf;
  static constexpr bool kPlaneByPlane = true;
  static constexpr bool kRefetches = kOf == kRefetch;
  static constexpr int kWordLanes = kWidth;
  static constexpr int kFullLanes = kWidth / 32;
  static constexpr int kLanes = kWidth;
  static constexpr int kPartsLog2 = 0;
  static constexpr bool kPairs = false;
  static constexpr int kBufferPlanes = 1;
  static constexpr int kTableLog2 = 0;

  template <class Entry>
  static cell_t Fetch(const Entry words[kBufferPlanes][2 << BlockWordsLog2(kFormat)],
                      uint32_t address, uint32_t) {
    #pragma HLS INLINE
    return words[0][address];
  }

  static Terms TermsOf(const cell_t &cell, int lane, const Decoding &,
                       const int16_t[1 << kTableLog2], uint32_t, int64_t factor, int64_t) {
    #pragma HLS INLINE
    const int64_t term = cell[lane] ? factor : -factor;
    return {term, term};
  }
};

/// kLanes float32 values in [-1, 1], turned into fixed point on arrival, so that sums are exact and
/// need no floating-point accumulator. One multiplier a lane and phase.
/// \tparam kWidth  bits of the planes port
template <int kWidth>
struct FloatFormat {
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 512, "word widths of the boards");
  using word_t = ap_uint<kWidth>;
  using cell_t = word_t;
  using levels_port_t = NoPort;
  using full_port_t = NoPort;
  using dot_t = ap_int<55>;
  using gradient_t = ap_int<48>;
  static constexpr int kTermBits = 41;  // 2^24 * 2^32 / 2^16
  static constexpr int kFactorBits = 34;
  static constexpr ValueFormat kFormat = kFloat32;
  static constexpr bool kPlaneByPlane = false;
  static constexpr bool kRefetches = false;
  static constexpr int kWordLanes = kWidth / 32;
  static constexpr int kFullLanes = kWidth / 32;
  static constexpr int kLanes = kWordLanes;
  static constexpr int kPartsLog2 = 0;
  static constexpr bool kPairs = false;
  static constexpr int kBufferPlanes = 1;
  static constexpr int kTableLog2 = 0;

  template <class Entry>
  static cell_t Fetch(const Entry words[kBufferPlanes][2 << BlockWordsLog2(kFormat)],
                      uint32_t address, uint32_t) {
    #pragma HLS INLINE
    return words[0][address];
  }

  static Terms TermsOf(const cell_t &cell, int lane, const Decoding &,
                       const int16_t[1 << kTableLog2], uint32_t, int64_t factor, int64_t) {
    #pragma HLS INLINE
    const uint32_t bits = static_cast<uint32_t>(cell.range(32 * lane + 31, 32 * lane).to_uint());
    const int64_t value = Signed<kFloatFractionBits + 2>(FixedFromFloatBits(bits));
    const int64_t term = RoundShift(value * Signed<kFactorBits>(factor), kFloatProductShift);
    return {term, term};
  }
};

/// Codes that a table of levels decodes, all planes of kLanes values at once: a word is trained on
/// in kLevelParts parts, so that a lane's table and its multipliers serve as many values. A cell
/// has one row of lanes for each bit of a code: the base's bits by their weight, then the dithers.
/// \tparam kWidth  bits of the planes port
template <int kWidth>
struct LevelFormat {
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 512, "word widths of the boards");
  static constexpr ValueFormat kFormat = kLevels;
  static constexpr bool kPlaneByPlane = false;
  static constexpr bool kRefetches = false;
  static constexpr int kWordLanes = kWidth;
  static constexpr int kFullLanes = kWidth / 32;
  static constexpr int kPartsLog2 = kLevelPartsLog2;
  static constexpr int kLanes = kWidth >> kPartsLog2;
  static constexpr bool kPairs = true;
  static constexpr int kBufferPlanes = kMaxBits + 1;
  static constexpr int kTableLog2 = kLevelTableLog2;
  using word_t = ap_uint<kWidth>;
  using cell_t = ap_uint<kBufferPlanes * kLanes>;
  using levels_port_t = const int32_t *;
  using full_port_t = NoPort;
  using dot_t = ap_int<62>;             // 2^14 * 2^31 * 2^15
  using gradient_t = ap_int<56>;        // 2^8 * 2^46
  static constexpr int kTermBits = 48;  // 2^15 * 2^32
  static constexpr int kFactorBits = 34;

  template <class Entry>
  static cell_t Fetch(const Entry words[kBufferPlanes][2 << BlockWordsLog2(kFormat)],
                      uint32_t address, uint32_t part) {
    #pragma HLS INLINE
    cell_t cell = 0;
  FETCH_PLANES:
    for (int plane = 0; plane < kBufferPlanes; ++plane) {
      #pragma HLS UNROLL
      const word_t word = words[plane][address];
      const ap_uint<kLanes> bits = word >> (part * kLanes);
      cell |= cell_t(bits) << (plane * kLanes);
    }
    return cell;
  }

  static Terms TermsOf(const cell_t &cell, int lane, const Decoding &decoding,
                       const int16_t levels[1 << kTableLog2], uint32_t table, int64_t factor_first,
                       int64_t factor_second) {
    #pragma HLS INLINE
    uint32_t base = 0;
  DECODE_BITS:
    for (int bit = 0; bit < kMaxBits - 1; ++bit) {
      #pragma HLS UNROLL
      base |= static_cast<uint32_t>(cell[bit * kLanes + lane]) << bit;
    }
    base &= decoding.base_mask;  // a lower precision leaves higher bits as they were
    const int second_dither = decoding.single ? kMaxBits - 1 : kMaxBits;
    const uint32_t first = base + (cell[(kMaxBits - 1) * kLanes + lane] ? 1 : 0);
    const uint32_t second = base + (cell[second_dither * kLanes + lane] ? 1 : 0);
    return {levels[table + first] * Signed<kFactorBits>(factor_first),
            levels[table + second] * Signed<kFactorBits>(factor_second)};
  }
};

// ---- Sizes that follow from a format ------------------------------------------------------------

/// Rows of the arrays that hold a model: one a cell.
template <class Format>
constexpr int CellsLog2() {
  return MaxChunksLog2(Format::kFormat) + Format::kPartsLog2;
}

/// Bits of the chunks, and of the cells, of a row.
template <class Format>
constexpr int ChunkBits() {
  return MaxChunksLog2(Format::kFormat) + 1;
}
template <class Format>
constexpr int CellBits() {
  return CellsLog2<Format>() + 1;
}

/// Turns in which a cell gets its new model entries, and the lanes of each.
template <class Format>
constexpr uint32_t Turns() {
  return 1u << CloseTurnsLog2(Format::kFormat);
}

template <class Format>
constexpr int TurnLanes() {
  return Format::kLanes >> CloseTurnsLog2(Format::kFormat);
}

/// Rows of the update side's copy of the model: one a turn of each cell.
template <class Format>
constexpr int MasterLog2() {
  return CellsLog2<Format>() + CloseTurnsLog2(Format::kFormat);
}

template <class Format>
uint32_t CellsOf(uint32_t features) {
  return (features + Format::kLanes - 1) / Format::kLanes;
}

/// Levels of one table.
inline uint32_t LevelCount(uint32_t bits) { return (1u << (bits - 1)) + 1; }

}  // namespace zipml
