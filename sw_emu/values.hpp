// The formats of values, each with the same three steps: SetModel, Load a tile of samples and take
// their dot products with it, AddGradient with their coefficients. Tiles are kept in slots.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "clones.h"
#include "level_rows.hpp"
#include "rows.hpp"
#include "rows_avx2.hpp"
#include "rows_avx512.hpp"
#include "rows_avx512bw.hpp"
#include "rows_avxvnni.hpp"
#include "rows_neon.hpp"
#include "rows_neondot.hpp"
#include "zipml/arithmetic.hpp"
#include "zipml/config.hpp"

extern "C" {
#include "abi.h"
}

namespace zipml {
namespace {

/// Sizes that follow from the registers and the build.
struct Shape {
  ValueFormat format;
  uint32_t lanes;          // values in a word
  uint32_t chunks;         // words in a sample's row of one plane
  uint32_t dithers;        // streamed of one value
  uint32_t planes;         // streamed planes
  uint32_t passes;         // of the kernel over its cells: what it trains on in a cycle each
  uint32_t cells;          // in a sample's row
  uint32_t levels;         // of one table
  uint32_t full_words;     // of one sample at full precision
  uint32_t batches_block;  // batches in a block
  uint32_t batches;        // batches in the buffer
  uint32_t blocks;
};

/// The features of one thread, whole groups but for the end.
struct Share {
  uint32_t index;        // of the thread
  uint32_t first, last;  // features
  uint32_t threads;
  uint32_t widest;  // features of the largest share, whole groups: all threads have the same tiles
  bool ahead;       // loads a tile before it has the coefficients of the one before
  uint32_t part, parts;  // of every batch's samples
  uint32_t features() const { return last - first; }
  /// Tiles that are kept at a time.
  uint32_t slots() const { return ahead ? 2 : 1; }
};

/// The best loops for this machine, or those that the environment variable ZIPML_LOOPS names, for
/// tests and comparisons, where it can run them.
inline const RowLoops &Loops() {
  struct Choice {
    const RowLoops *loops;
    bool runs;
  };
  const Choice choices[] = {
#ifdef ZIPML_HAS_AVX512
      {&avx512::kLoops, avx512::Runs()},
#endif
#ifdef ZIPML_HAS_AVXVNNI
      {&avxvnni::kLoops, avxvnni::Runs()},
      {&avxvnni::kEvexLoops, avxvnni::RunsEvex()},
#endif
#ifdef ZIPML_HAS_AVX512BW
      {&avx512bw::kLoops, avx512bw::Runs()},
#endif
#ifdef ZIPML_HAS_AVX2
      {&avx2::kLoops, avx2::Runs()},
#endif
#ifdef ZIPML_HAS_NEONDOT
      {&neondot::kLoops, neondot::Runs()},
#endif
#ifdef ZIPML_HAS_NEON
      {&neon::kLoops, true},
#endif
      {&portable::kLoops, true},
  };
  const char *wanted = std::getenv("ZIPML_LOOPS");
  const RowLoops *best = nullptr;
  for (const Choice &choice : choices) {
    if (!choice.runs) continue;
    if (wanted != nullptr && std::strcmp(wanted, choice.loops->name) == 0) return *choice.loops;
    if (best == nullptr) best = choice.loops;
  }
  return *best;
}

/// Bytes of rows that tiles have: what stays in a core's first cache between dot products and
/// gradient, or in its second one where threads wait for each other after every tile.
constexpr uint32_t kTileBytes = 32 << 10;
constexpr uint32_t kSharedTileBytes = 256 << 10;

/// Samples of a tile, whose rows are `bytes` long together.
inline uint32_t TileSamples(size_t bytes, uint32_t rows, const Share &share, uint32_t batch) {
  const bool waits = share.threads > 1 && !share.ahead;
  const uint32_t room =
      static_cast<uint32_t>((waits ? kSharedTileBytes : kTileBytes) / (share.slots() * bytes));
  const uint32_t most = std::min(kMaxRows / rows, batch);
  const uint32_t tile = std::max(std::min(room, most), std::min(most, 8u));
  const uint32_t tiles = (batch + tile - 1) / tile;
  // loops take four rows at a time
  return std::min(((batch + tiles - 1) / tiles + 3) & ~3u, most);
}

/// Rows of codes from bit-planes, for one tile of samples: all of one independent sample of a value
/// (Q1), then all of another one (Q2), where there are two.
class CodeRows {
 public:
  CodeRows(uint32_t word_bits, const ZipmlArguments &a, const Shape &s, const Share &share,
           const RowLoops &loops)
      : a_(a),
        loops_(loops),
        row_(static_cast<size_t>(s.chunks) * (word_bits / 64)),
        block_(static_cast<size_t>(a.block_stride) * (word_bits / 64)),
        dither_(static_cast<size_t>(a.dither_offset) * (word_bits / 64)),
        first_group_(share.first / kGroup),
        groups_((share.features() + kGroup - 1) / kGroup),
        size_((share.features() + loops.unit - 1) / loops.unit * loops.unit),
        double_(a.sampling != kSingle) {}

  uint32_t size() const { return size_; }
  /// Independent samples of a value that are decoded at once.
  uint32_t samplings() const { return double_ ? 2 : 1; }
  const RowLoops &loops() const { return loops_; }

  /// Planes of `count` samples of a block from `sample` on, with dither number `dither`, and the
  /// next one if `two`.
  PlaneRows Rows(uint32_t block, uint32_t sample, uint32_t count, uint32_t dither, bool two) const {
    const size_t plane = row_ * a_.block_samples;
    const uint64_t *base = a_.planes + block * block_ + sample * row_ + first_group_;
    return {base,
            plane,
            BasePlanes(a_.bits),
            base + dither_ + dither * plane,
            two ? base + dither_ + (dither + 1) * plane : nullptr,
            row_,
            groups_,
            count,
            size_};
  }

 private:
  const ZipmlArguments &a_;
  const RowLoops &loops_;
  const size_t row_, block_, dither_;  // in uint64
  const uint32_t first_group_, groups_, size_;
  const bool double_;
};

/// dots = dots * 2^shift - offset.
ZIPML_BODY void ScaleDotsBody(uint32_t count, int shift, int64_t offset, int64_t *dots) {
  for (uint32_t r = 0; r < count; ++r) dots[r] = ShiftLeft(dots[r], shift) - offset;
}
ZIPML_CLONES(ScaleDots)

/// A format whose gradient is always summed up in 64 bits.
class WideSums {
 public:
  static bool IsShort(int64_t) { return false; }
  void AddGradient(uint32_t, const int32_t *, const int32_t *, uint32_t, int32_t *) {}
  bool Step(const int32_t *, int64_t, int64_t, bool, int32_t *, uint32_t &) { return false; }
  bool StepEach(const int32_t *, int64_t, int64_t, uint32_t, bool, FeatureSteps &, int32_t *,
                uint32_t &, uint32_t &) {
    return false;
  }
};

/// Formats "bitplanes" and "refetch".
class PlaneValues {
 public:
  PlaneValues(uint32_t word_bits, const ZipmlArguments &a, const Shape &s, const Share &share)
      : a_(a),
        codes_(word_bits, a, s, share, LoopsFor(a, share)),
        features_(share.features()),
        pairs_(a.sampling == kDoubleSymmetric),
        on_planes_(PlaneLoopsFor(a, share)),
        tile_(on_planes_ != nullptr
                  ? std::min(a.batch, kMaxPlaneSamples)
                  : TileSamples(BytesOf(share.widest), codes_.samplings(), share, a.batch)),
        loaded_(share.slots()),
        digits_(size(), on_planes_ != nullptr) {
    const size_t bytes =
        on_planes_ != nullptr ? 0 : static_cast<size_t>(tile_ + kMoreSamples) * BytesOf(size());
    for (uint32_t i = 0; i < share.slots(); ++i) rows_.emplace_back(bytes);
  }

  uint32_t size() const { return codes_.size(); }
  uint32_t PositionOf(uint32_t feature) const { return codes_.loops().position(feature); }
  /// Samples that Load takes at most.
  uint32_t tile() const { return tile_; }
  /// A gradient is sums * 2^scale() - OffsetOf(total): value * 2^7 = 2^(9 - b) Q - 2^7, and
  /// without the symmetric estimator each Q c counts twice.
  int scale() const {
    return DitherWeight(kBitPlanes, a_.bits) + (a_.sampling == kDoubleSymmetric ? 1 : 2);
  }
  int64_t OffsetOf(int64_t total) const { return total * (1 << kGridBits); }

  void SetModel(const int32_t *model) { codes_.loops().split(model, size(), digits_); }
  int8_t *Levels() { return LevelsOf(codes_.loops(), digits_); }
  void SetLevels(int64_t sum, int shift) {
    TakeLevels(codes_.loops(), size(), sum, shift, digits_);
  }

  /// Whether a gradient, rounded, fits 32 bits, and so do its sums: what they are in between is
  /// right modulo 2^32.
  /// \param magnitude  of all coefficients together: times 1, what a gradient is at most
  static bool IsShort(int64_t magnitude) {
    const int64_t rounding = int64_t{1} << (kStepShift - 1);
    return magnitude <= (0x7fffffff - rounding) >> ValueFractionBits(kBitPlanes);
  }

  /// Subtracts a gradient whose sums are short, if the new model can be summed up in 16 parts of 32
  /// bits, and sets it if `set`.
  /// \param largest  magnitude of an entry, before and after
  bool Step(const int32_t *sums, int64_t total, int64_t magnitude, bool set, int32_t *model,
            uint32_t &largest) {
    const int64_t step = magnitude << ValueFractionBits(kBitPlanes) >> kStepShift;
    if ((largest + step + 2) * (size() / 16) > 0x7fffffff) return false;
    const uint32_t offset = static_cast<uint32_t>(OffsetOf(total)) - (1u << (kStepShift - 1));
    largest = codes_.loops().step(sums, scale(), static_cast<int32_t>(offset), kStepShift,
                                  features_, size(), model, set ? &digits_ : nullptr);
    return true;
  }

  /// The same with a decay, and steps and corrections of the features, if no change leaves 32 bits;
  /// what a feature's gradient is shifted to the right does not. Saturates, and counts that.
  bool StepEach(const int32_t *sums, int64_t total, int64_t magnitude, uint32_t decay, bool set,
                FeatureSteps &steps, int32_t *model, uint32_t &largest, uint32_t &saturations) {
    constexpr int kDecayShift =
        kModelFractionBits + kDecayFractionBits - GradientFractionBits(kBitPlanes);
    static_assert(kDecayShift > 0 && kDecayShift <= 32 && kDecayBits < 32, "see AddDecays");
    const int64_t shrink = (static_cast<int64_t>(largest) * decay >> kDecayShift) + 1;
    const int64_t gradient =
        (magnitude << ValueFractionBits(kBitPlanes)) + steps.largest_term + shrink;
    if (gradient + (int64_t{1} << (kStepShift - 1)) > 0x7fffffff >> steps.left) return false;
    if (decay != 0 || steps.decays) {
      steps.decays = decay != 0;
      AddDecays(model, static_cast<int32_t>(decay), kDecayShift, steps.fixed.data(), size(),
                steps.halves.data());
    }
    const uint32_t offset = static_cast<uint32_t>(OffsetOf(total));
    largest =
        codes_.loops().step_each(sums, scale(), static_cast<int32_t>(offset), steps, features_,
                                 size(), model, set ? &digits_ : nullptr, saturations);
    return true;
  }

  /// Loads a tile and takes its dot products with the model set last: of all first samples, then of
  /// all second ones, and so on. The rows that stay are those that the gradient needs.
  void Load(uint32_t slot, uint32_t block, uint32_t sample, uint32_t count, int64_t *dots) {
    uint8_t *rows = rows_[slot].data();
    uint8_t *second = rows + static_cast<size_t>((count + 3) & ~3u) * size();
    const uint32_t factors = a_.sampling == kIndependent ? a_.degree : codes_.samplings();
    if (on_planes_ != nullptr) {
      loaded_[slot] = codes_.Rows(block, sample, count, 0, true);
      on_planes_->dots(loaded_[slot], digits_, dots);
    } else if (pairs_) {
      codes_.loops().load_pairs(codes_.Rows(block, sample, count, 0, true), rows, digits_, dots);
    }
    for (uint32_t k = 0; k < factors && !pairs_; k += 2) {
      const bool two = k + 1 < factors;
      codes_.loops().decode_dots(codes_.Rows(block, sample, count, k, two), rows, second, digits_,
                                 dots + k * count);
    }
    ScaleDots(factors * count, DitherWeight(kBitPlanes, a_.bits) + 1 + digits_.shift,
              digits_.sum * (1 << kGridBits), dots);
    if (a_.sampling != kIndependent) return;
    codes_.loops().decode(codes_.Rows(block, sample, count, a_.degree, false), rows, second);
  }

  /// Symmetric: Q1 c2 + Q2 c1; else Q c, of the one sample that counts.
  void AddGradient(uint32_t slot, const int32_t *one, const int32_t *two, uint32_t count,
                   int64_t *sums) {
    if (on_planes_ != nullptr) return on_planes_->gradient(loaded_[slot], one, two, sums);
    AddGradient(codes_.loops().gradient, rows_[slot].data(), one, two, count, sums);
  }
  void AddGradient(uint32_t slot, const int32_t *one, const int32_t *two, uint32_t count,
                   int32_t *sums) {
    if (on_planes_ != nullptr) return on_planes_->short_gradient(loaded_[slot], one, two, sums);
    AddGradient(codes_.loops().short_gradient, rows_[slot].data(), one, two, count, sums);
  }

 private:
  static constexpr uint32_t kMoreSamples = 7;  // rows have room for: to the next four, and four
  /// From a gradient to the model.
  static constexpr int kStepShift = GradientFractionBits(kBitPlanes) - kModelFractionBits;

  /// Loops for codes of bit-planes alone, where there are some that are faster.
  static const RowLoops &LoopsFor(const ZipmlArguments &a, const Share &share) {
    const RowLoops &loops = Loops();
    if (loops.for_planes == nullptr || PlaneLoopsFor(a, share) != nullptr) return loops;
    const RowLoops *others = loops.for_planes(BasePlanes(a.bits), share.widest);
    return others != nullptr ? *others : loops;
  }

  static const PlaneLoops *PlaneLoopsFor(const ZipmlArguments &a, const Share &share) {
    const PlaneLoops *loops = Loops().on_planes;
    const bool pay = a.sampling == kDoubleSymmetric && loops != nullptr &&
                     loops->pay(BasePlanes(a.bits), share.widest, a.batch);
    return pay ? loops : nullptr;
  }

  /// What a sample's codes of so many features take.
  uint32_t BytesOf(uint32_t size) const {
    return pairs_ ? codes_.loops().pair_bytes(BasePlanes(a_.bits), size)
                  : codes_.samplings() * size;
  }

  template <class TSum>
  void AddGradient(const GradientLoops<TSum> &loops, const uint8_t *rows, const int32_t *one,
                   const int32_t *two, uint32_t count, TSum *sums) {
    if (pairs_) {
      loops.pairs(rows, BasePlanes(a_.bits), count, size(), one, two, sums);
    } else {
      loops.rows(rows, BasePlanes(a_.bits), count, size(), two, sums);
    }
  }

  const ZipmlArguments &a_;
  const CodeRows codes_;
  const uint32_t features_;
  const bool pairs_;
  const PlaneLoops *const on_planes_;  // if they do it
  const uint32_t tile_;
  std::vector<PlaneRows> loaded_;       // of each slot, for loops on planes
  std::vector<Aligned<uint8_t>> rows_;  // of each slot
  DigitModel digits_;
};

ZIPML_BODY void AddShiftedBody(const int64_t *high, uint32_t size, int64_t *sums) {
  for (uint32_t j = 0; j < size; ++j) sums[j] += high[j] * 256;
}
ZIPML_CLONES(AddShifted)

/// Levels by tables, as the two bytes of a level plus one.
class TablePick {
 public:
  TablePick(const ZipmlArguments &a, const Shape &s, const Share &share, const CodeRows &codes)
      : loops_(codes.loops().on_levels), tables_(2 * static_cast<size_t>(s.levels) * codes.size()) {
    const uint32_t size = codes.size();
    // behind the last feature any table will do: those entries of the model are 0
    for (uint32_t j = 0; j < size; ++j) {
      const uint32_t feature = std::min(share.first + j, a.features - 1);
      const int32_t *table =
          a.levels + (a.level_tables == 1 ? 0 : static_cast<size_t>(feature) * s.levels);
      for (uint32_t l = 0; l < s.levels; ++l) {
        uint8_t *row = tables_.data() + 2 * static_cast<size_t>(l) * size;
        const int32_t value = table[l] + (1 << kLevelFractionBits);
        const uint32_t at = codes.loops().code_position(j);
        row[at] = static_cast<uint8_t>(value);
        row[size + at] = static_cast<uint8_t>(value >> 8);
      }
    }
  }

  void operator()(const PlaneRows &planes, uint8_t *low, uint8_t *high) const {
    const auto pick = loops_ != nullptr ? loops_->pick : portable::PickLevels;
    pick(planes, tables_.data(), low, high);
  }

 private:
  const LevelLoops *const loops_;  // or null
  Aligned<uint8_t> tables_;
};

/// Base and dither of a group of values, times 2^shift, as two bytes.
/// \param lanes  of the values, in the order of rows of codes
ZIPML_BODY void PickWideBody(const PlaneRows &planes, size_t at, const uint64_t *dither, int shift,
                             const uint64_t *lanes, uint8_t *low, uint8_t *high) {
  uint64_t code[kGroup] = {};
  for (uint32_t plane = 0; plane < planes.base_planes; ++plane) {
    const uint64_t word = planes.base[plane * planes.plane + at];
    for (uint32_t j = 0; j < kGroup; ++j) code[j] = code[j] << 1 | (word >> lanes[j] & 1);
  }
  const uint64_t word = dither[at];
  for (uint32_t j = 0; j < kGroup; ++j) code[j] = (code[j] + (word >> lanes[j] & 1)) << shift;
  for (uint32_t j = 0; j < kGroup; ++j) low[j] = static_cast<uint8_t>(code[j]);
  for (uint32_t j = 0; j < kGroup; ++j) high[j] = static_cast<uint8_t>(code[j] >> 8);
}
ZIPML_CLONES(PickWide)

/// Levels of a uniform grid of up to 16 bits, as the two bytes of a level plus one.
class GridPick {
 public:
  GridPick(const ZipmlArguments &a, const Shape &, const Share &, const CodeRows &codes)
      : shift_(DitherWeight(kWide, a.bits)) {
    for (uint32_t j = 0; j < kGroup; ++j) lanes_[codes.loops().code_position(j)] = j;
  }

  void operator()(const PlaneRows &planes, uint8_t *low, uint8_t *high) const {
    for (const uint64_t *dither : {planes.first_dither, planes.second_dither}) {
      for (uint32_t s = 0; s < planes.samples && dither != nullptr; ++s) {
        for (uint32_t w = 0; w < planes.words; ++w, low += kGroup, high += kGroup) {
          PickWide(planes, s * planes.row + w, dither, shift_, lanes_, low, high);
        }
      }
    }
  }

 private:
  const int shift_;  // brings the largest code to 2^15
  uint64_t lanes_[kGroup];
};

/// Formats "levels" and "wide". A level plus one, in units of 2^-14, is two bytes: a row becomes
/// one of low bytes and one of high bytes, and both go through the loops of the uniform grid, or
/// through loops of their own.
/// \tparam TPick  makes these rows from planes
template <class TPick>
class TwoByteValues : public WideSums {
 public:
  TwoByteValues(uint32_t word_bits, const ZipmlArguments &a, const Shape &s, const Share &share)
      : a_(a),
        codes_(word_bits, a, s, share, Loops()),
        fraction_bits_(ValueFractionBits(s.format)),
        tile_(TileSamples(2 * codes_.samplings() * share.widest, 2 * codes_.samplings(), share,
                          a.batch)),
        loops_(codes_.loops().on_levels),
        digits_(size(), false),
        sums_(2 * tile_),
        coefficients_(2 * tile_),
        high_sums_(size()),
        pick_(a, s, share, codes_) {
    for (uint32_t i = 0; i < share.slots(); ++i) {
      rows_.emplace_back(static_cast<size_t>(2 * codes_.samplings() * tile_ + 3) * size());
    }
  }

  uint32_t size() const { return codes_.size(); }
  uint32_t PositionOf(uint32_t feature) const { return codes_.loops().position(feature); }
  uint32_t tile() const { return tile_; }
  int scale() const { return UnitShift() + (a_.sampling == kDoubleSymmetric ? 0 : 1); }
  int64_t OffsetOf(int64_t total) const { return total * (1 << fraction_bits_); }

  void SetModel(const int32_t *model) { codes_.loops().split(model, size(), digits_); }
  int8_t *Levels() { return LevelsOf(codes_.loops(), digits_); }
  void SetLevels(int64_t sum, int shift) {
    TakeLevels(codes_.loops(), size(), sum, shift, digits_);
  }

  /// The rows that stay are those that the gradient needs, as with planes.
  void Load(uint32_t slot, uint32_t block, uint32_t sample, uint32_t count, int64_t *dots) {
    uint8_t *low = rows_[slot].data(), *high = HighOf(low, count);
    const uint32_t factors = a_.sampling == kIndependent ? a_.degree : codes_.samplings();
    for (uint32_t k = 0; k < factors; k += 2) {
      const bool two = k + 1 < factors;
      pick_(codes_.Rows(block, sample, count, k, two), low, high);
      Dots(low, high, two ? 2 * count : count, dots + k * count);
    }
    ScaleDots(factors * count, UnitShift() + digits_.shift, digits_.sum * (1 << fraction_bits_),
              dots);
    if (a_.sampling != kIndependent) return;
    pick_(codes_.Rows(block, sample, count, a_.degree, false), low, high);
  }

  /// Rows of high bytes count 256 times; a call has its own sums for them.
  using WideSums::AddGradient;
  void AddGradient(uint32_t slot, const int32_t *one, const int32_t *two, uint32_t count,
                   int64_t *sums) {
    std::copy(two, two + count, coefficients_.begin());
    std::copy(one, one + count, coefficients_.begin() + count);
    const uint32_t rows = a_.sampling == kDoubleSymmetric ? 2 * count : count;
    const uint8_t *low = rows_[slot].data();
    const uint8_t *high = HighOf(low, count);
    if (loops_ != nullptr) {
      return loops_->gradient(low, high, rows, size(), coefficients_.data(), sums);
    }
    const RowLoops &loops = codes_.loops();
    std::fill(high_sums_.data(), high_sums_.data() + size(), 0);
    loops.gradient.rows(low, kPlanesOfBytes, rows, size(), coefficients_.data(), sums);
    loops.gradient.rows(high, kPlanesOfBytes, rows, size(), coefficients_.data(),
                        high_sums_.data());
    AddShifted(high_sums_.data(), size(), sums);
  }

 private:
  /// A byte of a level is any: less than 2^8.
  static constexpr uint32_t kPlanesOfBytes = 8;

  /// From the unit of rows to a value's.
  int UnitShift() const { return fraction_bits_ - kLevelFractionBits; }

  /// Rows of high bytes, behind those of low ones.
  template <class TByte>
  TByte *HighOf(TByte *low, uint32_t count) const {
    return low + static_cast<size_t>(codes_.samplings() * count) * size();
  }

  void Dots(const uint8_t *low, const uint8_t *high, uint32_t rows, int64_t *dots) {
    if (loops_ != nullptr) return loops_->dots(low, high, rows, size(), digits_, dots);
    codes_.loops().dots(low, rows, size(), digits_, dots);
    codes_.loops().dots(high, rows, size(), digits_, sums_.data());
    AddShifted(sums_.data(), rows, dots);
  }

  const ZipmlArguments &a_;
  const CodeRows codes_;
  const int fraction_bits_;
  const uint32_t tile_;
  const LevelLoops *const loops_;       // or null
  std::vector<Aligned<uint8_t>> rows_;  // of each slot: low bytes of their levels, then high bytes
  DigitModel digits_;
  std::vector<int64_t> sums_;
  std::vector<int32_t> coefficients_;
  Aligned<int64_t> high_sums_;  // over high bytes
  const TPick pick_;
};

using LevelValues = TwoByteValues<TablePick>;
using WideValues = TwoByteValues<GridPick>;

/// Fixed point from the bits of float32 values.
ZIPML_BODY void ConvertFloatsBody(const uint64_t *words, uint32_t size, int32_t *values) {
  for (uint32_t j = 0; j < size; ++j) {
    values[j] = FixedFromFloatBits(static_cast<uint32_t>(words[j / 2] >> (j % 2 * 32)));
  }
}
ZIPML_CLONES(ConvertFloats)

ZIPML_BODY int64_t DotFloatsBody(const int32_t *values, const int32_t *model, uint32_t size) {
  int64_t sum = 0;
  for (uint32_t j = 0; j < size; ++j) {
    sum += RoundShift(static_cast<int64_t>(values[j]) * model[j], kFloatProductShift);
  }
  return sum;
}
ZIPML_CLONES(DotFloats)

ZIPML_BODY void AccumulateFloatsBody(const int32_t *values, int64_t coefficient, uint32_t size,
                                     int64_t *sums) {
  for (uint32_t j = 0; j < size; ++j) {
    sums[j] += RoundShift(values[j] * coefficient, kFloatProductShift);
  }
}
ZIPML_CLONES(AccumulateFloats)

/// Format "float32".
class FloatValues : public WideSums {
 public:
  FloatValues(uint32_t word_bits, const ZipmlArguments &a, const Shape &s, const Share &share)
      : a_(a),
        share_(share),
        row_(static_cast<size_t>(s.chunks) * (word_bits / 64)),
        block_(static_cast<size_t>(a.block_stride) * (word_bits / 64)),
        // the one plane is where a kernel without base planes reads
        first_(static_cast<size_t>(a.dither_offset) * (word_bits / 64)),
        tile_(TileSamples(share.widest * sizeof(int32_t), 1, share, a.batch)),
        values_(static_cast<size_t>(share.slots() * tile_) * size()) {}

  uint32_t size() const { return share_.features(); }
  uint32_t PositionOf(uint32_t feature) const { return feature; }
  uint32_t tile() const { return tile_; }
  int scale() const { return 0; }
  int64_t OffsetOf(int64_t) const { return 0; }

  void SetModel(const int32_t *model) { model_ = model; }
  int8_t *Levels() { return nullptr; }
  void SetLevels(int64_t, int) {}
  void Load(uint32_t slot, uint32_t block, uint32_t sample, uint32_t count, int64_t *dots) {
    for (uint32_t s = 0; s < count; ++s) {
      const uint64_t *row =
          a_.planes + first_ + block * block_ + (sample + s) * row_ + share_.first / 2;
      ConvertFloats(row, size(), Row(slot, s));
      dots[s] = DotFloats(Row(slot, s), model_, size());
    }
  }

  using WideSums::AddGradient;
  void AddGradient(uint32_t slot, const int32_t *one, const int32_t *two, uint32_t count,
                   int64_t *sums) {
    for (uint32_t s = 0; s < count; ++s) {
      AccumulateFloats(Row(slot, s), BaseCoefficient({one[s], two[s]}), size(), sums);
    }
  }

 private:
  int32_t *Row(uint32_t slot, uint32_t s) {
    return &values_[static_cast<size_t>(slot * tile_ + s) * size()];
  }

  const ZipmlArguments &a_;
  const Share share_;
  const size_t row_, block_, first_;  // in uint64
  const uint32_t tile_;
  std::vector<int32_t> values_;
  const int32_t *model_ = nullptr;
};

}  // namespace
}  // namespace zipml
