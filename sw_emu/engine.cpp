// The engine: the accelerator's arithmetic and schedule for the host. It gives the kernel's bits,
// but it is code of its own: planes are decoded to small integer codes, and sums run in loops that
// compilers vectorize. Every sum is an exact integer, so their order does not matter.
#include <algorithm>
#include <cstring>
#include <vector>

#include "zipml/arithmetic.hpp"
#include "zipml/config.hpp"
#include "zipml/schedule.hpp"

extern "C" {
#include "engine.h"
}
#include "clones.h"

namespace zipml {
namespace {

// ---- What a run is about ---------------------------------------------------------------------

/// Sizes that follow from the registers and the build.
struct Shape {
  ValueFormat format;
  uint32_t lanes;          // values in a word
  uint32_t chunks;         // words in a sample's row of one plane
  uint32_t planes;         // streamed planes
  uint32_t passes;         // of the kernel over its cells: what it trains on in a cycle each
  uint32_t cells;          // in a sample's row
  uint32_t levels;         // of one table
  uint32_t batches_block;  // batches in a block
  uint32_t batches;        // batches in the buffer
  uint32_t blocks;
};

Status Validate(uint32_t word_bits, const ZipmlArguments &a, Shape &s) {
  const bool floats = s.format == kFloat32;
  s.lanes = floats ? word_bits / 32 : word_bits;
  if (a.samples == 0 || a.samples > kMaxSamples) return kStatusSamples;
  if (a.features == 0 || a.features > s.lanes << MaxChunksLog2(s.format)) return kStatusFeatures;
  s.chunks = (a.features + s.lanes - 1) / s.lanes;
  if (floats ? a.bits != 32 : a.bits < 1 || a.bits > kMaxBits) return kStatusBits;
  if (a.sampling > (floats ? kSingle : kDoubleSymmetric)) return kStatusSampling;
  s.planes = floats ? 1 : BasePlanes(a.bits) + DitherPlanes(a.sampling);
  s.passes = s.format == kLevels ? 1 : s.planes;
  const uint32_t cell = s.format == kLevels ? s.lanes / kLevelParts : s.lanes;
  s.cells = (a.features + cell - 1) / cell;
  if (a.batch == 0 || a.batch > kMaxBatch) return kStatusBatch;
  if (a.epochs == 0 || a.epochs > kMaxEpochs) return kStatusEpochs;
  if (a.delay > kMaxDelay) return kStatusDelay;
  if (s.format == kLevels) {
    s.levels = (1u << (a.bits - 1)) + 1;
    if (a.level_tables != 1 &&
        (a.level_tables != a.features || s.cells * s.levels > 1u << kLevelTableLog2)) {
      return kStatusLevels;
    }
  }
  if (a.block_samples == 0 || a.block_samples > kBlockSamples || a.block_samples % a.batch != 0 ||
      s.passes * a.block_samples * s.chunks > 1u << BlockWordsLog2(s.format)) {
    return kStatusBlock;
  }
  if (OverlapOf(a.delay).ring_batches * s.passes * a.batch * s.cells >
      1u << RingWordsLog2(s.format)) {
    return kStatusRing;
  }
  s.batches_block = a.block_samples / a.batch;
  s.batches = a.samples / a.batch + (a.samples % a.batch != 0);
  s.blocks = a.samples / a.block_samples + (a.samples % a.block_samples != 0);
  const bool partial = (a.flags & kFlagHold) != 0 || a.pending != 0 || a.skip != 0;
  if ((a.flags & ~static_cast<uint32_t>(kFlagHold)) != 0 || (partial && a.epochs != 1) ||
      a.pending > a.delay || a.skip >= s.batches_block) {
    return kStatusPartial;
  }
  if ((a.skip != 0 || a.pending != 0) &&
      static_cast<uint64_t>(a.skip + a.pending) * a.batch >= a.samples) {
    return kStatusPartial;
  }
  return kStatusOk;
}

/// Batches whose update a run with `hold` leaves to the next call.
uint32_t HeldBatches(const ZipmlArguments &a, const Shape &s) {
  return std::min(a.delay, s.batches - a.skip);
}

/// Cycles of the schedule (docs/schedule.md).
uint64_t ModelledCycles(const ZipmlArguments &a, const Shape &s) {
  const bool floats = s.format == kFloat32;
  const Overlap overlap = OverlapOf(a.delay);
  const uint64_t slot = SlotCycles(s.passes, a.batch, s.cells, overlap);
  const bool hold = (a.flags & kFlagHold) != 0;
  const uint64_t block_words = static_cast<uint64_t>(s.planes) * a.block_samples * s.chunks;
  const uint32_t base_words = floats ? 0 : BasePlanes(a.bits) * a.block_samples * s.chunks;
  const bool one_burst = floats || a.bits == 1 || a.dither_offset == base_words;
  const uint64_t read = block_words + (one_burst ? 1 : 2) * kMemoryLatency;
  const uint64_t entries = static_cast<uint64_t>(s.chunks) * s.lanes;

  // a block trains while the next one is read, across the end of an epoch too
  uint64_t epoch = 0;
  uint64_t train = 0;
  for (uint32_t i = 0; i < s.blocks; ++i) {
    const uint32_t first = i * s.batches_block + (i == 0 ? a.skip : 0);
    const uint64_t last = std::min((i + 1ull) * s.batches_block, s.batches + 0ull);
    const bool closes = i + 1 == s.blocks;
    const bool drains = closes && a.delay > 0 && !hold;
    const uint64_t slots = overlap.slots_per_batch * (last - first) + (drains ? overlap.lag : 0);
    train = slots * slot + kPipelineDepth;
    if (closes && !hold) train += entries + kMemoryLatency;  // history row
    epoch += std::max(train, read);
  }
  // nothing hides the first read, and nothing is read behind the last block
  uint64_t run = read + a.epochs * epoch - std::max(train, read) + train;
  run += 2 * (entries + kMemoryLatency);
  if (a.pending != 0) run += 2ull * a.pending * a.batch + kMemoryLatency;
  if (s.format == kLevels) run += a.level_tables * s.levels + kMemoryLatency;
  const uint32_t held = hold ? HeldBatches(a, s) : 0;
  if (held != 0) run += 2ull * held * a.batch + kMemoryLatency;
  return run;
}

// ---- Loops over values -----------------------------------------------------------------------

/// Values that a loop handles together: the lanes of one uint64 of a plane.
constexpr uint32_t kGroup = 64;

/// Four uint64 as a vector of the compiler's, not aligned.
typedef uint64_t Four __attribute__((vector_size(32), aligned(8), may_alias));

/// The bits of a word of one plane, spread over 64 codes: `low` the first 32, `high` the others.
struct Spread {
  Four low, high;
  explicit Spread(uint64_t word) {
    const Four all = {word, word, word, word};
    const Four first = {0, 1, 2, 3}, last = {4, 5, 6, 7};
    const uint64_t lowest = 0x0101010101010101u;
    low = (all >> first) & lowest;
    high = (all >> last) & lowest;
  }
};

/// Decodes one sample's row: first = base + first dither, second = base + second dither; `second`
/// and its plane may be null. A code is a byte, eight to a uint64. Shifting a plane's word right by
/// k leaves the bits k, k + 8, .. k + 56 in the lowest bit of each byte, so inside a group of 64
/// features the engine keeps them transposed: feature 8 m + k at position 8 k + m.
ZIPML_CLONES void DecodeRow(const uint64_t *base, size_t plane, uint32_t base_planes,
                            const uint64_t *first_dither, const uint64_t *second_dither,
                            uint32_t groups, uint64_t *first, uint64_t *second) {
  Four *one = reinterpret_cast<Four *>(first);
  Four *two = reinterpret_cast<Four *>(second);
  for (uint32_t i = 0; i < groups; ++i) {
    Four low = {0}, high = {0};
    for (uint32_t p = 0; p < base_planes; ++p) {
      const Spread bits(base[p * plane + i]);
      low += low + bits.low;
      high += high + bits.high;
    }
    const Spread dither(first_dither[i]);
    one[2 * i] = low + dither.low;
    one[2 * i + 1] = high + dither.high;
    if (two != nullptr) {
      const Spread other(second_dither[i]);
      two[2 * i] = low + other.low;
      two[2 * i + 1] = high + other.high;
    }
  }
}

uint32_t Position(uint32_t feature) {
  return (feature & ~63u) | (feature & 7) << 3 | (feature >> 3 & 7);
}

/// A model entry as three digits, so that a product with a code fits 16 x 16 -> 32 bits:
/// x = low + 2^11 middle + 2^22 high.
constexpr int kDigitBits = 11;

struct Digits {
  std::vector<int16_t> low, middle, high;
  explicit Digits(uint32_t size) : low(size), middle(size), high(size) {}
};

ZIPML_CLONES void SplitModel(const int32_t *model, uint32_t size, int16_t *low, int16_t *middle,
                             int16_t *high) {
  const int32_t mask = (1 << kDigitBits) - 1;
  for (uint32_t j = 0; j < size; ++j) {
    low[j] = static_cast<int16_t>(model[j] & mask);
    middle[j] = static_cast<int16_t>(model[j] >> kDigitBits & mask);
    high[j] = static_cast<int16_t>(model[j] >> (2 * kDigitBits));
  }
}

/// sum codes * x. A product is below 2^7 * 2^11, so 2^12 of them fit 32 bits.
ZIPML_CLONES int64_t DotCodes(const uint8_t *codes, const int16_t *low, const int16_t *middle,
                              const int16_t *high, uint32_t size) {
  const uint32_t kTile = 1u << 12;
  int64_t sum = 0;
  for (uint32_t start = 0; start < size; start += kTile) {
    const uint32_t stop = std::min(size, start + kTile);
    int32_t a = 0, b = 0, c = 0;
    for (uint32_t j = start; j < stop; ++j) {
      a += static_cast<int32_t>(codes[j]) * low[j];
      b += static_cast<int32_t>(codes[j]) * middle[j];
      c += static_cast<int32_t>(codes[j]) * high[j];
    }
    sum += a + static_cast<int64_t>(b) * (1 << kDigitBits) +
           static_cast<int64_t>(c) * (1 << 2 * kDigitBits);
  }
  return sum;
}

/// Rows that AccumulateCodes takes at once. A coefficient is split into halves, so a product is at
/// most 2^7 * 2^15 and 2^8 of them fit 32 bits.
constexpr uint32_t kRowsExact = 256;

/// gradient[j] += sum over rows of rows[row][j] * coefficients[row].
ZIPML_CLONES void AccumulateCodes(const uint8_t *const *rows, const int32_t *coefficients,
                                  uint32_t count, uint32_t size, int64_t *gradient) {
  const uint32_t kTile = 512;
  int32_t sum_low[kTile], sum_high[kTile];
  for (uint32_t start = 0; start < size; start += kTile) {
    const uint32_t width = std::min(kTile, size - start);
    std::fill(sum_low, sum_low + width, 0);
    std::fill(sum_high, sum_high + width, 0);
    for (uint32_t s = 0; s < count; s += 4) {
      // four rows at once; past the last one, rows that count zero times
      const uint8_t *row[4];
      int32_t low[4], high[4];
      for (uint32_t i = 0; i < 4; ++i) {
        const bool inside = s + i < count;
        const int32_t c = inside ? coefficients[s + i] : 0;
        row[i] = rows[inside ? s + i : s] + start;
        low[i] = static_cast<int16_t>(c);
        high[i] = static_cast<int32_t>((static_cast<int64_t>(c) - low[i]) >> 16);
      }
      for (uint32_t k = 0; k < width; ++k) {
        const int32_t q0 = row[0][k], q1 = row[1][k], q2 = row[2][k], q3 = row[3][k];
        sum_low[k] += q0 * low[0] + q1 * low[1] + q2 * low[2] + q3 * low[3];
        sum_high[k] += q0 * high[0] + q1 * high[1] + q2 * high[2] + q3 * high[3];
      }
    }
    for (uint32_t k = 0; k < width; ++k) {
      gradient[start + k] += sum_low[k] + static_cast<int64_t>(sum_high[k]) * (1 << 16);
    }
  }
}

/// Applies a gradient to the first `size` entries; returns how many saturated.
ZIPML_CLONES uint32_t UpdateModel(ValueFormat format, const int64_t *gradient, uint32_t decay,
                                  uint32_t size, int32_t *model) {
  uint32_t saturations = 0;
  for (uint32_t j = 0; j < size; ++j) {
    model[j] = UpdateEntry(format, model[j], gradient[j], decay, saturations);
  }
  return saturations;
}

/// Fixed point from the bits of float32 values.
ZIPML_CLONES void ConvertFloats(const uint64_t *words, uint32_t size, int32_t *values) {
  for (uint32_t j = 0; j < size; ++j) {
    values[j] = FixedFromFloatBits(static_cast<uint32_t>(words[j / 2] >> (j % 2 * 32)));
  }
}

ZIPML_CLONES int64_t DotFloats(const int32_t *values, const int32_t *model, uint32_t size) {
  int64_t sum = 0;
  for (uint32_t j = 0; j < size; ++j) {
    sum += RoundShift(static_cast<int64_t>(values[j]) * model[j], kFloatProductShift);
  }
  return sum;
}

ZIPML_CLONES void AccumulateFloats(const int32_t *values, int64_t coefficient, uint32_t size,
                                   int64_t *gradient) {
  for (uint32_t j = 0; j < size; ++j) {
    gradient[j] += RoundShift(values[j] * coefficient, kFloatProductShift);
  }
}

/// Levels of codes: entry j of the table that begins at tables[j].
inline void LookUp(const uint8_t *codes, const int16_t *levels, const uint32_t *tables,
                   uint32_t size, int16_t *values) {
  for (uint32_t j = 0; j < size; ++j) values[j] = levels[tables[j] + codes[j]];
}

ZIPML_CLONES int64_t DotLevels(const int16_t *values, const int32_t *model, uint32_t size) {
  int64_t sum = 0;
  for (uint32_t j = 0; j < size; ++j) sum += static_cast<int64_t>(values[j]) * model[j];
  return sum;
}

ZIPML_CLONES void AccumulateLevels(const int16_t *values, int64_t coefficient, uint32_t size,
                                   int64_t *gradient) {
  for (uint32_t j = 0; j < size; ++j) gradient[j] += values[j] * coefficient;
}

// ---- Values of one format --------------------------------------------------------------------

/// Samples and coefficients of a batch between its dot products and its update.
template <class TValues>
struct Batch {
  uint32_t count;  // real samples
  typename TValues::Rows rows;
  std::vector<Coefficients> coefficients;
  Batch(const TValues &values, uint32_t batch)
      : count(0), rows(values, batch), coefficients(batch) {}
};

/// Format "bitplanes".
class PlaneValues {
 public:
  /// Codes Q1 and, with double sampling, Q2 of every sample of a batch.
  struct Rows {
    std::vector<uint64_t> first, second;
    Rows(const PlaneValues &values, uint32_t batch)
        : first(static_cast<size_t>(batch) * values.groups_ * 8),
          second(values.double_ ? first.size() : 0) {}
  };

  PlaneValues(uint32_t word_bits, const ZipmlArguments &a, const Shape &s)
      : a_(a),
        row_(static_cast<size_t>(s.chunks) * (word_bits / 64)),
        block_(static_cast<size_t>(a.block_stride) * (word_bits / 64)),
        dither_(static_cast<size_t>(a.dither_offset) * (word_bits / 64)),
        groups_((a.features + kGroup - 1) / kGroup),
        double_(a.sampling != kSingle),
        digits_(size()) {}

  uint32_t size() const { return groups_ * kGroup; }
  static uint32_t PositionOf(uint32_t feature) { return Position(feature); }

  void Load(uint32_t block, uint32_t sample, uint32_t count, Rows &rows) const {
    const size_t plane = row_ * a_.block_samples;
    for (uint32_t s = 0; s < count; ++s) {
      const uint64_t *base = a_.planes + block * block_ + (sample + s) * row_;
      const size_t codes = static_cast<size_t>(s) * groups_ * 8;
      DecodeRow(base, plane, BasePlanes(a_.bits), base + dither_,
                double_ ? base + dither_ + plane : nullptr, groups_, &rows.first[codes],
                double_ ? &rows.second[codes] : nullptr);
    }
  }

  void SetModel(const int32_t *model) {
    SplitModel(model, size(), digits_.low.data(), digits_.middle.data(), digits_.high.data());
    sum_ = 0;
    for (uint32_t j = 0; j < size(); ++j) sum_ += model[j];
  }

  /// The dot products that the sampling needs, of sample `s`, with the model set last.
  void Dots(const Rows &rows, uint32_t s, int64_t &first, int64_t &second) const {
    first = a_.sampling == kDoublePlain ? 0 : Dot(rows.first, s);
    second = double_ ? Dot(rows.second, s) : 0;
  }

  /// The gradient of a batch; 0 for the positions behind the last feature.
  void Gradient(const Batch<PlaneValues> &batch, std::vector<int64_t> &gradient) const {
    // symmetric: Q1 c2 + Q2 c1; else Q1 c, counted twice
    const bool symmetric = a_.sampling == kDoubleSymmetric;
    std::vector<const uint8_t *> rows;
    std::vector<int32_t> coefficients;
    int64_t total = 0;
    for (uint32_t s = 0; s < batch.count; ++s) {
      const Coefficients &c = batch.coefficients[s];
      rows.push_back(Row(batch.rows.first, s));
      coefficients.push_back(c.second);
      if (symmetric) {
        rows.push_back(Row(batch.rows.second, s));
        coefficients.push_back(c.first);
      }
      total += BaseCoefficient(c);
    }
    std::fill(gradient.begin(), gradient.end(), 0);
    for (uint32_t s = 0; s < rows.size(); s += kRowsExact) {
      const uint32_t count = std::min(kRowsExact, static_cast<uint32_t>(rows.size()) - s);
      AccumulateCodes(&rows[s], &coefficients[s], count, size(), gradient.data());
    }
    // value * 2^7 = 2^(9 - b) Q - 2^7
    const int64_t scale = static_cast<int64_t>(symmetric ? 2 : 4) << DitherWeight(a_.bits);
    const int64_t offset = total * (1 << kGridBits);
    for (int64_t &g : gradient) g = g * scale - offset;
    for (uint32_t j = a_.features; j < size(); ++j) gradient[Position(j)] = 0;
  }

 private:
  const uint8_t *Row(const std::vector<uint64_t> &codes, uint32_t s) const {
    return reinterpret_cast<const uint8_t *>(&codes[static_cast<size_t>(s) * groups_ * 8]);
  }

  int64_t Dot(const std::vector<uint64_t> &codes, uint32_t s) const {
    const int64_t sum = DotCodes(Row(codes, s), digits_.low.data(), digits_.middle.data(),
                                 digits_.high.data(), size());
    return sum * (1 << (DitherWeight(a_.bits) + 1)) - sum_ * (1 << kGridBits);
  }

  const ZipmlArguments &a_;
  size_t row_, block_, dither_;  // in uint64
  uint32_t groups_;
  bool double_;
  Digits digits_;
  int64_t sum_ = 0;
};

/// Format "levels".
class LevelValues {
 public:
  /// Values of Q1 and, with double sampling, of Q2 of every sample of a batch.
  struct Rows {
    std::vector<int16_t> first, second;
    Rows(const LevelValues &values, uint32_t batch)
        : first(static_cast<size_t>(batch) * values.size()),
          second(values.double_ ? first.size() : 0) {}
  };

  LevelValues(uint32_t word_bits, const ZipmlArguments &a, const Shape &s)
      : a_(a),
        row_(static_cast<size_t>(s.chunks) * (word_bits / 64)),
        block_(static_cast<size_t>(a.block_stride) * (word_bits / 64)),
        dither_(static_cast<size_t>(a.dither_offset) * (word_bits / 64)),
        groups_((a.features + kGroup - 1) / kGroup),
        double_(a.sampling != kSingle),
        levels_(static_cast<size_t>(a.level_tables) * s.levels),
        tables_(size()),
        first_codes_(groups_ * 8),
        second_codes_(groups_ * 8) {
    for (size_t i = 0; i < levels_.size(); ++i) levels_[i] = static_cast<int16_t>(a.levels[i]);
    for (uint32_t j = 0; j < size(); ++j) {
      // behind the last feature any table will do: those entries of the model are 0
      tables_[Position(j)] = a.level_tables == 1 || j >= a.features ? 0 : j * s.levels;
    }
  }

  uint32_t size() const { return groups_ * kGroup; }
  static uint32_t PositionOf(uint32_t feature) { return Position(feature); }

  void Load(uint32_t block, uint32_t sample, uint32_t count, Rows &rows) {
    const size_t plane = row_ * a_.block_samples;
    for (uint32_t s = 0; s < count; ++s) {
      const uint64_t *base = a_.planes + block * block_ + (sample + s) * row_;
      DecodeRow(base, plane, BasePlanes(a_.bits), base + dither_,
                double_ ? base + dither_ + plane : nullptr, groups_, first_codes_.data(),
                double_ ? second_codes_.data() : nullptr);
      const size_t row = static_cast<size_t>(s) * size();
      LookUp(reinterpret_cast<const uint8_t *>(first_codes_.data()), levels_.data(), tables_.data(),
             size(), &rows.first[row]);
      if (double_) {
        LookUp(reinterpret_cast<const uint8_t *>(second_codes_.data()), levels_.data(),
               tables_.data(), size(), &rows.second[row]);
      }
    }
  }

  void SetModel(const int32_t *model) { model_ = model; }

  void Dots(const Rows &rows, uint32_t s, int64_t &first, int64_t &second) const {
    const size_t row = static_cast<size_t>(s) * size();
    first = a_.sampling == kDoublePlain ? 0 : DotLevels(&rows.first[row], model_, size());
    second = double_ ? DotLevels(&rows.second[row], model_, size()) : 0;
  }

  void Gradient(const Batch<LevelValues> &batch, std::vector<int64_t> &gradient) const {
    std::fill(gradient.begin(), gradient.end(), 0);
    for (uint32_t s = 0; s < batch.count; ++s) {
      const size_t row = static_cast<size_t>(s) * size();
      const Coefficients &c = batch.coefficients[s];
      AccumulateLevels(&batch.rows.first[row], FirstDitherCoefficient(a_.sampling, c), size(),
                       gradient.data());
      if (a_.sampling == kDoubleSymmetric) {
        AccumulateLevels(&batch.rows.second[row], SecondDitherCoefficient(a_.sampling, c), size(),
                         gradient.data());
      }
    }
    for (uint32_t j = a_.features; j < size(); ++j) gradient[Position(j)] = 0;
  }

 private:
  const ZipmlArguments &a_;
  size_t row_, block_, dither_;  // in uint64
  uint32_t groups_;
  bool double_;
  std::vector<int16_t> levels_;                       // all tables
  std::vector<uint32_t> tables_;                      // where the table of each position begins
  std::vector<uint64_t> first_codes_, second_codes_;  // of one row
  const int32_t *model_ = nullptr;
};

/// Format "float32".
class FloatValues {
 public:
  struct Rows {
    std::vector<int32_t> values;
    Rows(const FloatValues &values_of, uint32_t batch)
        : values(static_cast<size_t>(batch) * values_of.size()) {}
  };

  FloatValues(uint32_t word_bits, const ZipmlArguments &a, const Shape &s)
      : a_(a),
        row_(static_cast<size_t>(s.chunks) * (word_bits / 64)),
        block_(static_cast<size_t>(a.block_stride) * (word_bits / 64)) {}

  uint32_t size() const { return a_.features; }
  static uint32_t PositionOf(uint32_t feature) { return feature; }

  void Load(uint32_t block, uint32_t sample, uint32_t count, Rows &rows) const {
    for (uint32_t s = 0; s < count; ++s) {
      ConvertFloats(a_.planes + block * block_ + (sample + s) * row_, size(),
                    &rows.values[static_cast<size_t>(s) * size()]);
    }
  }

  void SetModel(const int32_t *model) { model_ = model; }

  void Dots(const Rows &rows, uint32_t s, int64_t &first, int64_t &second) const {
    first = DotFloats(&rows.values[static_cast<size_t>(s) * size()], model_, size());
    second = 0;
  }

  void Gradient(const Batch<FloatValues> &batch, std::vector<int64_t> &gradient) const {
    std::fill(gradient.begin(), gradient.end(), 0);
    for (uint32_t s = 0; s < batch.count; ++s) {
      AccumulateFloats(&batch.rows.values[static_cast<size_t>(s) * size()],
                       BaseCoefficient(batch.coefficients[s]), size(), gradient.data());
    }
  }

 private:
  const ZipmlArguments &a_;
  size_t row_, block_;  // in uint64
  const int32_t *model_ = nullptr;
};

// ---- Training --------------------------------------------------------------------------------

template <class TValues>
class Trainer {
 public:
  Trainer(uint32_t word_bits, const ZipmlArguments &a, const Shape &s)
      : a_(a),
        s_(s),
        values_(word_bits, a, s),
        model_(values_.size()),
        gradient_(values_.size()),
        ring_(a.delay + 1, Batch<TValues>(values_, a.batch)) {}

  uint32_t Run() {
    const uint32_t entries = s_.chunks * s_.lanes;
    int32_t *held = a_.model + entries;
    for (uint32_t j = 0; j < a_.features; ++j) model_[TValues::PositionOf(j)] = a_.model[j];
    for (uint32_t epoch = 0; epoch < a_.epochs; ++epoch) {
      const uint32_t step = a_.schedule[2 * epoch];
      const uint32_t decay = a_.schedule[2 * epoch + 1];
      oldest_ = a_.skip;
      values_.SetModel(model_.data());
      for (uint32_t k = a_.skip; k < s_.batches; ++k) {
        Batch<TValues> &batch = Load(k);
        if (k - a_.skip < a_.pending) {
          const int32_t *pairs = held + 2 * (k - a_.skip) * a_.batch;
          for (uint32_t i = 0; i < batch.count; ++i) {
            batch.coefficients[i] = {pairs[2 * i], pairs[2 * i + 1]};
          }
        } else {
          for (uint32_t i = 0; i < batch.count; ++i) {
            int64_t first, second;
            values_.Dots(batch.rows, i, first, second);
            batch.coefficients[i] = SampleCoefficients(
                s_.format, a_.sampling, first, second,
                a_.labels[static_cast<size_t>(k) * a_.batch + i], step, saturations_);
          }
        }
        // what the next batch is to see: all updates but the last `delay`
        if (k + 1 - oldest_ > a_.delay) Update(decay);
      }
      if ((a_.flags & kFlagHold) == 0) {
        while (oldest_ < s_.batches) Update(decay);
        Store(a_.history + static_cast<size_t>(epoch) * entries);
      }
    }
    if ((a_.flags & kFlagHold) != 0) {
      for (uint32_t k = oldest_; k < s_.batches; ++k) {
        const Batch<TValues> &batch = ring_[k % ring_.size()];
        int32_t *pairs = held + 2 * static_cast<size_t>(k - oldest_) * a_.batch;
        std::fill(pairs, pairs + 2 * a_.batch, 0);
        for (uint32_t i = 0; i < batch.count; ++i) {
          pairs[2 * i] = batch.coefficients[i].first;
          pairs[2 * i + 1] = batch.coefficients[i].second;
        }
      }
    }
    Store(a_.model);
    return saturations_;
  }

 private:
  Batch<TValues> &Load(uint32_t k) {
    Batch<TValues> &batch = ring_[k % ring_.size()];
    batch.count = std::min(a_.batch, a_.samples - k * a_.batch);
    values_.Load(k / s_.batches_block, k % s_.batches_block * a_.batch, batch.count, batch.rows);
    return batch;
  }

  void Update(uint32_t decay) {
    values_.Gradient(ring_[oldest_ % ring_.size()], gradient_);
    saturations_ += UpdateModel(s_.format, gradient_.data(), decay, values_.size(), model_.data());
    values_.SetModel(model_.data());
    ++oldest_;
  }

  void Store(int32_t *row) const {
    for (uint32_t j = 0; j < a_.features; ++j) row[j] = model_[TValues::PositionOf(j)];
    std::fill(row + a_.features, row + static_cast<size_t>(s_.chunks) * s_.lanes, 0);
  }

  const ZipmlArguments &a_;
  const Shape &s_;
  TValues values_;
  std::vector<int32_t> model_;  // in the order of the values' positions
  std::vector<int64_t> gradient_;
  std::vector<Batch<TValues>> ring_;
  uint32_t oldest_ = 0;  // first batch whose update is still to come
  uint32_t saturations_ = 0;
};

}  // namespace
}  // namespace zipml

extern "C" void zipml_engine_run(uint32_t word_bits, uint32_t format,
                                 const ZipmlArguments *arguments, ZipmlResults *results) {
  using namespace zipml;
  const ZipmlArguments &a = *arguments;
  Shape shape = {};
  shape.format = static_cast<ValueFormat>(format);
  const uint32_t word_bits_log2 = word_bits == 64 ? 6 : word_bits == 128 ? 7 : 9;
  *results = ZipmlResults{};
  results->version = kInterfaceVersion;
  results->capability = Capability(word_bits_log2, shape.format);
  results->status = Validate(word_bits, a, shape);
  if (results->status != kStatusOk) return;
  results->words = static_cast<uint64_t>(a.epochs) * shape.blocks * shape.planes * a.block_samples *
                   shape.chunks;
  results->cycles = ModelledCycles(a, shape);
  results->saturations = shape.format == kFloat32 ? Trainer<FloatValues>(word_bits, a, shape).Run()
                         : shape.format == kLevels
                             ? Trainer<LevelValues>(word_bits, a, shape).Run()
                             : Trainer<PlaneValues>(word_bits, a, shape).Run();
}
