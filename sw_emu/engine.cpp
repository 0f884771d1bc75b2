// The engine: the accelerator's arithmetic and schedule for the host. It gives the kernel's bits,
// but it is code of its own: planes are decoded to small integer codes, and sums run in loops that
// compilers vectorize. Every sum is an exact integer, so their order does not matter.
#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "zipml/arithmetic.hpp"
#include "zipml/config.hpp"
#include "zipml/random.hpp"
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

/// The `loss` register and its kin, for valid bits and batch.
Status ValidateLoss(const ZipmlArguments &a, const Shape &s) {
  const bool planes = s.format == kBitPlanes || s.format == kRefetch;
  const bool polynomial = a.loss == kPolynomial;
  if (a.loss > kPolynomial || polynomial != (a.sampling == kIndependent) ||
      a.range_log2 > kMaxRangeLog2 || (s.format == kRefetch && a.loss != kHinge)) {
    return kStatusLoss;
  }
  if (polynomial && (!planes || a.degree < 1 || a.degree > kMaxDegree ||
                     a.batch * s.chunks < kPolynomialDistance)) {
    return kStatusLoss;
  }
  for (const uint32_t bits : {a.model_bits, a.gradient_bits}) {
    if (bits != 0 && (bits < kMinQuantizedBits || bits > kMaxQuantizedBits)) {
      return kStatusQuantize;
    }
  }
  return kStatusOk;
}

/// Which blocks a run takes and where it begins and ends.
Status ValidateRange(const ZipmlArguments &a, const Shape &s) {
  const uint32_t flags = kFlagHold | kFlagWeights;
  if (a.first_block >= s.blocks || a.block_step < 1 || a.block_step > s.blocks) {
    return kStatusOrder;
  }
  if ((a.flags & ~flags) != 0) return kStatusPartial;
  const bool partial = (a.flags & kFlagHold) != 0 || a.pending != 0 || a.skip != 0;
  if (!partial) return kStatusOk;
  if (a.epochs != 1 || a.pending > a.delay || a.skip >= s.batches_block || a.first_block != 0 ||
      a.block_step != 1 || (a.model_bits != 0 && a.delay > 1)) {
    return kStatusPartial;
  }
  if ((a.skip != 0 || a.pending != 0) &&
      static_cast<uint64_t>(a.skip + a.pending) * a.batch >= a.samples) {
    return kStatusPartial;
  }
  return kStatusOk;
}

Status Validate(uint32_t word_bits, const ZipmlArguments &a, Shape &s) {
  const bool floats = s.format == kFloat32;
  s.lanes = floats ? word_bits / 32 : word_bits;
  if (a.samples == 0 || a.samples > kMaxSamples) return kStatusSamples;
  if (a.features == 0 || a.features > s.lanes << MaxChunksLog2(s.format)) return kStatusFeatures;
  s.chunks = (a.features + s.lanes - 1) / s.lanes;
  if (floats ? a.bits != 32 : a.bits < 1 || a.bits > kMaxBits) return kStatusBits;
  if (a.sampling > (floats ? kSingle : kIndependent)) return kStatusSampling;
  if (a.batch == 0 || a.batch > kMaxBatch) return kStatusBatch;
  if (a.epochs == 0 || a.epochs > kMaxEpochs) return kStatusEpochs;
  if (a.delay > kMaxDelay) return kStatusDelay;
  const uint32_t cell = s.format == kLevels ? s.lanes / kLevelParts : s.lanes;
  s.cells = (a.features + cell - 1) / cell;
  if (s.format == kLevels) {
    s.levels = (1u << (a.bits - 1)) + 1;
    if (a.level_tables != 1 &&
        (a.level_tables != a.features || s.cells * s.levels > 1u << kLevelTableLog2)) {
      return kStatusLevels;
    }
  }
  const Status loss = ValidateLoss(a, s);
  if (loss != kStatusOk) return loss;
  s.dithers = floats ? 1 : DitherPlanes(a.sampling, a.degree);
  s.planes = floats ? 1 : BasePlanes(a.bits) + s.dithers;
  s.passes = s.format == kLevels ? 1 : s.planes;
  s.full_words = s.format == kRefetch ? (a.features + word_bits / 32 - 1) / (word_bits / 32) : 0;
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
  return ValidateRange(a, s);
}

/// The block that an epoch takes `count` blocks after its first one.
uint32_t BlockAt(const ZipmlArguments &a, const Shape &s, uint32_t count) {
  return static_cast<uint32_t>((a.first_block + static_cast<uint64_t>(count) * a.block_step) %
                               s.blocks);
}

/// Batches whose update a run with `hold` leaves to the next call.
uint32_t HeldBatches(const ZipmlArguments &a, const Shape &s) {
  return std::min(a.delay, s.batches - a.skip);
}

/// Cycles of the schedule (docs/schedule.md).
/// \param refetched  samples read again, block after block of every epoch
uint64_t ModelledCycles(const ZipmlArguments &a, const Shape &s,
                        const std::vector<uint32_t> &refetched) {
  const bool floats = s.format == kFloat32;
  const Overlap overlap = OverlapOf(a.delay);
  const uint64_t slot = SlotCycles(s.passes, a.batch, s.cells, overlap);
  const bool hold = (a.flags & kFlagHold) != 0;
  const uint64_t block_words = static_cast<uint64_t>(s.planes) * a.block_samples * s.chunks;
  const uint32_t base_words = floats ? 0 : BasePlanes(a.bits) * a.block_samples * s.chunks;
  const bool one_burst = floats || a.bits == 1 || a.dither_offset == base_words;
  const uint64_t label_words =
      (a.flags & kFlagWeights) != 0 ? 2 * a.block_samples : a.block_samples;
  const uint64_t read =
      std::max(block_words + (one_burst ? 1 : 2) * kMemoryLatency, label_words + kMemoryLatency);
  const uint64_t entries = static_cast<uint64_t>(s.chunks) * s.lanes;

  // nothing hides the first read, and nothing is read behind the last block
  uint64_t run = read + 2 * (entries + kMemoryLatency);
  for (size_t i = 0; i < refetched.size(); ++i) {
    const uint32_t count = static_cast<uint32_t>(i % s.blocks);
    const uint32_t block = BlockAt(a, s, count);
    const uint32_t first = block * s.batches_block + (block == 0 ? a.skip : 0);
    const uint64_t last = std::min((block + 1ull) * s.batches_block, s.batches + 0ull);
    const bool closes = count + 1 == s.blocks;
    const bool drains = closes && a.delay > 0 && !hold;
    const uint64_t slots = overlap.slots_per_batch * (last - first) + (drains ? overlap.lag : 0);
    uint64_t train = slots * slot + (s.format == kRefetch ? slots : 1) * kPipelineDepth;
    train +=
        static_cast<uint64_t>(refetched[i]) * (s.full_words + kMemoryLatency + kResidualLatency);
    if (closes && !hold) train += entries + kMemoryLatency;  // history row
    // a block trains while the next one is read, across the end of an epoch too
    run += i + 1 == refetched.size() ? train : std::max(train, read);
  }
  if (a.pending != 0) run += 2ull * a.pending * a.batch + kMemoryLatency;
  if (s.format == kLevels) run += a.level_tables * s.levels + kMemoryLatency;
  if (a.loss == kTable) run += (1u << kDerivativeTableLog2) + 1 + kMemoryLatency;
  if (a.loss == kPolynomial) run += a.degree + 1 + kMemoryLatency;
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

/// Formats "bitplanes" and "refetch".
class PlaneValues {
 public:
  /// Codes of each independent sample of every sample of a batch.
  struct Rows {
    std::vector<uint64_t> codes[kMaxDithers];
    Rows(const PlaneValues &values, uint32_t batch) {
      for (uint32_t k = 0; k < values.dithers_; ++k) {
        codes[k].resize(static_cast<size_t>(batch) * values.groups_ * 8);
      }
    }
  };

  PlaneValues(uint32_t word_bits, const ZipmlArguments &a, const Shape &s)
      : a_(a),
        row_(static_cast<size_t>(s.chunks) * (word_bits / 64)),
        block_(static_cast<size_t>(a.block_stride) * (word_bits / 64)),
        dither_(static_cast<size_t>(a.dither_offset) * (word_bits / 64)),
        groups_((a.features + kGroup - 1) / kGroup),
        dithers_(s.dithers),
        digits_(size()) {}

  uint32_t size() const { return groups_ * kGroup; }
  static uint32_t PositionOf(uint32_t feature) { return Position(feature); }

  void Load(uint32_t block, uint32_t sample, uint32_t count, Rows &rows) const {
    const size_t plane = row_ * a_.block_samples;
    for (uint32_t s = 0; s < count; ++s) {
      const uint64_t *base = a_.planes + block * block_ + (sample + s) * row_;
      const size_t codes = static_cast<size_t>(s) * groups_ * 8;
      for (uint32_t k = 0; k < dithers_; k += 2) {
        const bool two = k + 1 < dithers_;
        const uint64_t *dither = base + dither_ + k * plane;
        DecodeRow(base, plane, BasePlanes(a_.bits), dither, two ? dither + plane : nullptr, groups_,
                  &rows.codes[k][codes], two ? &rows.codes[k + 1][codes] : nullptr);
      }
    }
  }

  void SetModel(const int32_t *model) {
    SplitModel(model, size(), digits_.low.data(), digits_.middle.data(), digits_.high.data());
    sum_ = 0;
    for (uint32_t j = 0; j < size(); ++j) sum_ += model[j];
  }

  /// Dot product of independent sample `which` of sample `s` with the model set last.
  int64_t Dot(const Rows &rows, uint32_t s, uint32_t which) const {
    const int64_t sum = DotCodes(Row(rows.codes[which], s), digits_.low.data(),
                                 digits_.middle.data(), digits_.high.data(), size());
    return sum * (1 << (DitherWeight(a_.bits) + 1)) - sum_ * (1 << kGridBits);
  }

  /// The gradient of a batch; 0 for the positions behind the last feature.
  void Gradient(const Batch<PlaneValues> &batch, std::vector<int64_t> &gradient) const {
    // symmetric: Q1 c2 + Q2 c1; else the one sample that counts, twice
    const bool symmetric = a_.sampling == kDoubleSymmetric;
    const uint32_t outer = a_.sampling == kIndependent ? dithers_ - 1 : 0;
    std::vector<const uint8_t *> rows;
    std::vector<int32_t> coefficients;
    int64_t total = 0;
    for (uint32_t s = 0; s < batch.count; ++s) {
      const Coefficients &c = batch.coefficients[s];
      rows.push_back(Row(batch.rows.codes[outer], s));
      coefficients.push_back(c.second);
      if (symmetric) {
        rows.push_back(Row(batch.rows.codes[1], s));
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

  const ZipmlArguments &a_;
  size_t row_, block_, dither_;  // in uint64
  uint32_t groups_;
  uint32_t dithers_;
  Digits digits_;
  int64_t sum_ = 0;
};

/// Format "levels".
class LevelValues {
 public:
  /// Values of Q1 and, with double sampling, of Q2 of every sample of a batch.
  struct Rows {
    std::vector<int16_t> values[2];
    Rows(const LevelValues &of, uint32_t batch) {
      for (uint32_t k = 0; k < of.dithers_; ++k) {
        values[k].resize(static_cast<size_t>(batch) * of.size());
      }
    }
  };

  LevelValues(uint32_t word_bits, const ZipmlArguments &a, const Shape &s)
      : a_(a),
        row_(static_cast<size_t>(s.chunks) * (word_bits / 64)),
        block_(static_cast<size_t>(a.block_stride) * (word_bits / 64)),
        dither_(static_cast<size_t>(a.dither_offset) * (word_bits / 64)),
        groups_((a.features + kGroup - 1) / kGroup),
        dithers_(s.dithers),
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
      const bool two = dithers_ == 2;
      DecodeRow(base, plane, BasePlanes(a_.bits), base + dither_,
                two ? base + dither_ + plane : nullptr, groups_, first_codes_.data(),
                two ? second_codes_.data() : nullptr);
      const size_t row = static_cast<size_t>(s) * size();
      LookUp(reinterpret_cast<const uint8_t *>(first_codes_.data()), levels_.data(), tables_.data(),
             size(), &rows.values[0][row]);
      if (two) {
        LookUp(reinterpret_cast<const uint8_t *>(second_codes_.data()), levels_.data(),
               tables_.data(), size(), &rows.values[1][row]);
      }
    }
  }

  void SetModel(const int32_t *model) { model_ = model; }

  int64_t Dot(const Rows &rows, uint32_t s, uint32_t which) const {
    return DotLevels(&rows.values[which][static_cast<size_t>(s) * size()], model_, size());
  }

  void Gradient(const Batch<LevelValues> &batch, std::vector<int64_t> &gradient) const {
    std::fill(gradient.begin(), gradient.end(), 0);
    for (uint32_t s = 0; s < batch.count; ++s) {
      for (uint32_t k = 0; k < dithers_; ++k) {
        const int64_t c = DitherCoefficient(a_.sampling, k, dithers_, batch.coefficients[s]);
        if (c == 0) continue;
        AccumulateLevels(&batch.rows.values[k][static_cast<size_t>(s) * size()], c, size(),
                         gradient.data());
      }
    }
    for (uint32_t j = a_.features; j < size(); ++j) gradient[Position(j)] = 0;
  }

 private:
  const ZipmlArguments &a_;
  size_t row_, block_, dither_;  // in uint64
  uint32_t groups_;
  uint32_t dithers_;
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

  int64_t Dot(const Rows &rows, uint32_t s, uint32_t) const {
    return DotFloats(&rows.values[static_cast<size_t>(s) * size()], model_, size());
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

/// What happens to a batch between its dot products and its update.
class Scalars {
 public:
  Scalars(uint32_t word_bits, const ZipmlArguments &a, const Shape &s)
      : a_(a), s_(s), full_row_(static_cast<size_t>(s.full_words) * (word_bits / 64)) {}

  void SetEpoch(uint32_t epoch) {
    const uint32_t *row = a_.schedule + static_cast<size_t>(epoch) * kScheduleColumns;
    losses_ = {a_.sampling, a_.loss, a_.range_log2, row[kStep], row[kStepNegative]};
  }

  /// The model that dot products see, in the order of the features.
  void SetModel(const std::vector<int32_t> &model) {
    if (s_.format != kRefetch) return;
    model_ = model.data();
    norm_ = 0;
    for (uint32_t j = 0; j < a_.features; ++j) norm_ += Magnitude(model[j]);
  }

  /// \param dot  of an independent sample by its number
  template <class TDot>
  Coefficients Of(size_t sample, const TDot &dot) {
    const bool weighted = (a_.flags & kFlagWeights) != 0;
    const int32_t label = a_.labels[weighted ? 2 * sample : sample];
    const int32_t weight = weighted ? a_.labels[2 * sample + 1] : 1 << kWeightFractionBits;
    if (a_.loss == kPolynomial) {
      Polynomial polynomial = {0, 0};
      for (uint32_t term = 1; term <= a_.degree; ++term) {
        const int32_t margin = Margin(s_.format, dot(term - 1), label, saturations);
        polynomial =
            NextTerm(polynomial, term, margin, a_.range_log2, a_.derivative, saturations, outside);
      }
      return PolynomialCoefficients(losses_, polynomial, label, weight, saturations);
    }
    int64_t first = a_.sampling == kDoublePlain ? 0 : dot(0);
    int64_t second = a_.sampling == kSingle ? 0 : dot(1);
    if (s_.format == kRefetch &&
        InDoubt(s_.format, a_.bits, a_.sampling, first, second, label, norm_)) {
      first = second = FullDot(sample);
      ++refetched;
    }
    return SampleCoefficients(s_.format, losses_, first, second, label, weight, a_.derivative,
                              a_.derivative, saturations, outside);
  }

  uint32_t saturations = 0, outside = 0, refetched = 0;

 private:
  int64_t FullDot(size_t sample) {
    row_.resize(a_.features);
    ConvertFloats(a_.full + sample * full_row_, a_.features, row_.data());
    return DotFloats(row_.data(), model_, a_.features);
  }

  const ZipmlArguments &a_;
  const Shape &s_;
  size_t full_row_;  // in uint64
  LossRegisters losses_ = {};
  const int32_t *model_ = nullptr;
  uint64_t norm_ = 0;
  std::vector<int32_t> row_;
};

template <class TValues>
class Trainer {
 public:
  Trainer(uint32_t word_bits, const ZipmlArguments &a, const Shape &s)
      : a_(a),
        s_(s),
        values_(word_bits, a, s),
        scalars_(word_bits, a, s),
        model_(values_.size()),
        seen_(values_.size()),
        ordered_(s.format == kRefetch ? a.features : 0),
        gradient_(values_.size()),
        ring_(a.delay + 1, Batch<TValues>(values_, a.batch)) {}

  void Run(ZipmlResults &results) {
    const uint32_t entries = s_.chunks * s_.lanes;
    int32_t *held = a_.model + entries;
    for (uint32_t j = 0; j < a_.features; ++j) model_[TValues::PositionOf(j)] = a_.model[j];
    update_ = a_.first_update;
    See(update_ - 1);
    if (update_ != 0) clipped_ = 0;  // a later run's start model was counted when it was made
    std::vector<uint32_t> refetched;
    for (uint32_t epoch = 0; epoch < a_.epochs; ++epoch) {
      scalars_.SetEpoch(epoch);
      dotted_ = updated_ = 0;
      for (uint32_t i = 0; i < s_.blocks; ++i) {
        const uint32_t before = scalars_.refetched;
        const uint32_t block = BlockAt(a_, s_, i);
        const uint32_t first = block * s_.batches_block + (block == 0 ? a_.skip : 0);
        const uint32_t last = std::min(s_.batches, (block + 1) * s_.batches_block);
        for (uint32_t k = first; k < last; ++k) {
          Batch<TValues> &batch = Load(k);
          if (dotted_ < a_.pending) {
            const int32_t *pairs = held + 2 * dotted_ * a_.batch;
            for (uint32_t j = 0; j < batch.count; ++j) {
              batch.coefficients[j] = {pairs[2 * j], pairs[2 * j + 1]};
            }
          } else {
            for (uint32_t j = 0; j < batch.count; ++j) {
              batch.coefficients[j] =
                  scalars_.Of(static_cast<size_t>(k) * a_.batch + j,
                              [&](uint32_t which) { return values_.Dot(batch.rows, j, which); });
            }
          }
          ++dotted_;
          // what the next batch is to see: all updates but the last `delay`
          if (dotted_ - updated_ > a_.delay) Update(epoch);
        }
        refetched.push_back(scalars_.refetched - before);
      }
      if ((a_.flags & kFlagHold) == 0) {
        while (updated_ < dotted_) Update(epoch);
        Store(a_.history + static_cast<size_t>(epoch) * entries);
      }
    }
    if ((a_.flags & kFlagHold) != 0) {
      for (uint32_t k = updated_; k < dotted_; ++k) {
        const Batch<TValues> &batch = ring_[k % ring_.size()];
        int32_t *pairs = held + 2 * static_cast<size_t>(k - updated_) * a_.batch;
        std::fill(pairs, pairs + 2 * a_.batch, 0);
        for (uint32_t i = 0; i < batch.count; ++i) {
          pairs[2 * i] = batch.coefficients[i].first;
          pairs[2 * i + 1] = batch.coefficients[i].second;
        }
      }
    }
    Store(a_.model);
    results.saturations = saturations_ + scalars_.saturations;
    results.outside = scalars_.outside;
    results.clipped = clipped_;
    results.refetched = scalars_.refetched;
    results.cycles = ModelledCycles(a_, s_, refetched);
  }

 private:
  Batch<TValues> &Load(uint32_t k) {
    Batch<TValues> &batch = ring_[dotted_ % ring_.size()];
    batch.count = std::min(a_.batch, a_.samples - k * a_.batch);
    values_.Load(k / s_.batches_block, k % s_.batches_block * a_.batch, batch.count, batch.rows);
    return batch;
  }

  /// Random numbers of all features for one update.
  const std::vector<uint32_t> &Randoms(uint32_t update, uint32_t stream) {
    randoms_.resize(a_.features);
    Draw draw = {0, 0};
    for (uint32_t j = 0; j < a_.features; ++j) {
      const uint32_t lane = j % kDrawFeatures;
      if (lane == 0) draw = DrawOf(a_.seed, update, j / kDrawFeatures, stream);
      randoms_[j] = LaneRandom(draw, lane);
    }
    return randoms_;
  }

  /// Hands the model to the dot products, quantized if it is to be.
  void See(uint32_t update) {
    const std::vector<int32_t> *seen = &model_;
    if (a_.model_bits != 0) {
      const std::vector<uint32_t> &random = Randoms(update, kModelStream);
      for (uint32_t j = 0; j < a_.features; ++j) {
        const uint32_t place = TValues::PositionOf(j);
        seen_[place] =
            QuantizedEntry(model_[place], a_.model_shift, a_.model_bits, random[j], clipped_);
      }
      seen = &seen_;
    }
    values_.SetModel(seen->data());
    if (ordered_.empty()) return;
    for (uint32_t j = 0; j < a_.features; ++j) ordered_[j] = (*seen)[TValues::PositionOf(j)];
    scalars_.SetModel(ordered_);
  }

  void Update(uint32_t epoch) {
    const uint32_t *row = a_.schedule + static_cast<size_t>(epoch) * kScheduleColumns;
    values_.Gradient(ring_[updated_ % ring_.size()], gradient_);
    if (a_.gradient_bits != 0) {
      const std::vector<uint32_t> &random = Randoms(update_, kGradientStream);
      for (uint32_t j = 0; j < a_.features; ++j) {
        int64_t &g = gradient_[TValues::PositionOf(j)];
        g = QuantizedGradient(g, row[kGradientShift], a_.gradient_bits, random[j], clipped_);
      }
    }
    saturations_ +=
        UpdateModel(s_.format, gradient_.data(), row[kDecay], values_.size(), model_.data());
    See(update_);
    ++update_;
    ++updated_;
  }

  void Store(int32_t *row) const {
    for (uint32_t j = 0; j < a_.features; ++j) row[j] = model_[TValues::PositionOf(j)];
    std::fill(row + a_.features, row + static_cast<size_t>(s_.chunks) * s_.lanes, 0);
  }

  const ZipmlArguments &a_;
  const Shape &s_;
  TValues values_;
  Scalars scalars_;
  std::vector<int32_t> model_;    // in the order of the values' positions
  std::vector<int32_t> seen_;     // the same as dot products see it, if quantized
  std::vector<int32_t> ordered_;  // what they see, in the order of the features
  std::vector<int64_t> gradient_;
  std::vector<Batch<TValues>> ring_;
  std::vector<uint32_t> randoms_;
  uint32_t dotted_ = 0, updated_ = 0;  // batches of this epoch
  uint32_t update_ = 0;                // number of the next update since training began
  uint32_t saturations_ = 0, clipped_ = 0;
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
  if (shape.format == kFloat32) {
    Trainer<FloatValues>(word_bits, a, shape).Run(*results);
  } else if (shape.format == kLevels) {
    Trainer<LevelValues>(word_bits, a, shape).Run(*results);
  } else {
    Trainer<PlaneValues>(word_bits, a, shape).Run(*results);
  }
}
