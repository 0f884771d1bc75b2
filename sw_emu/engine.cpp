// The engine: the accelerator's arithmetic and schedule for the host. It gives the kernel's bits,
// but it is code of its own: planes are decoded to rows of bytes (values.hpp), and sums run in the
// loops of rows.hpp. Every sum is an exact integer, so neither its order nor how it is split over
// threads matters. How it is made fast: docs/speed.md.
// random.hpp on vectors that are wider than the machine's: passed within this file alone. GCC 12
// takes elements of such vectors for undefined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <thread>
#include <vector>

#include "zipml/arithmetic.hpp"
#include "zipml/config.hpp"
#include "zipml/random.hpp"
#include "zipml/schedule.hpp"

extern "C" {
#include "engine.h"
}
#include "clones.h"
#include "exchange.hpp"
#include "values.hpp"

namespace zipml {
namespace {

// ---- What a run is about ---------------------------------------------------------------------

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
  const uint32_t turns = 1u << CloseTurnsLog2(s.format);
  const uint64_t slot = SlotCycles(s.passes, a.batch, s.cells, turns, overlap);
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
  const uint64_t groups = (entries + kDrawFeatures - 1) / kDrawFeatures;
  uint64_t run = read + 2 * (entries + kMemoryLatency) + groups * (kDrawFeatures + kDrawLatency);
  for (size_t i = 0; i < refetched.size(); ++i) {
    const uint32_t count = static_cast<uint32_t>(i % s.blocks);
    const uint32_t block = BlockAt(a, s, count);
    const uint32_t first = block * s.batches_block + (block == 0 ? a.skip : 0);
    const uint64_t last = std::min((block + 1ull) * s.batches_block, s.batches + 0ull);
    const bool closes = count + 1 == s.blocks;
    const bool drains = closes && a.delay > 0 && !hold;
    const uint64_t slots = overlap.slots_per_batch * (last - first) + (drains ? overlap.lag : 0);
    uint64_t train = slots * slot + (s.format == kRefetch ? slots : 1) * (kPipelineDepth + turns);
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

// ---- Training --------------------------------------------------------------------------------

// Two stages of a step as loops without branches, for compilers to vectorize. They are
// SampleCoefficients, of least squares, and UpdateEntry for many; tests hold them against the
// kernel.

/// Saturate, with a counter as wide as the values.
inline int64_t Clamp(int64_t value, int64_t &saturations) {
  const int64_t limit = 0x7fffffff;
  const int64_t clamped = std::min(std::max(value, -limit), limit);
  saturations += value != clamped;
  return clamped;
}

/// The scalar stage of least squares without weights: coefficients of samples from one of their dot
/// products each.
ZIPML_CLONES uint32_t ScalarStage(ValueFormat format, const int64_t *dots, const int32_t *labels,
                                  uint32_t step, uint32_t step_negative, uint32_t count,
                                  int32_t *coefficients) {
  const int value_shift = ValueFractionBits(format);
  const int shift = kModelFractionBits + kStepFractionBits - kCoefficientFractionBits;
  int64_t saturations = 0;
  for (uint32_t s = 0; s < count; ++s) {
    const int64_t exact = dots[s] - static_cast<int64_t>(labels[s]) * (1 << value_shift);
    const int64_t residual = Clamp(RoundShift(exact, value_shift), saturations);
    const int64_t product = residual * static_cast<int64_t>(labels[s] < 0 ? step_negative : step);
    coefficients[s] = static_cast<int32_t>(Clamp(RoundShift(product, shift), saturations));
  }
  return static_cast<uint32_t>(saturations);
}

/// Applies the gradient sums * 2^scale - offset to the first `size` entries; returns how many
/// saturated. Without decay, a multiplication is left out.
template <bool kDecays>
inline uint32_t UpdateLoop(ValueFormat format, const int64_t *sums, int scale, int64_t offset,
                           uint32_t decay, uint32_t size, int32_t *model) {
  const int decay_shift = kModelFractionBits + kDecayFractionBits - GradientFractionBits(format);
  const int shift = GradientFractionBits(format) - kModelFractionBits;
  int64_t saturations = 0;
  for (uint32_t j = 0; j < size; ++j) {
    int64_t gradient = ShiftLeft(sums[j], scale) - offset;
    if (kDecays) gradient += RoundShift(static_cast<int64_t>(model[j]) * decay, decay_shift);
    model[j] = static_cast<int32_t>(Clamp(model[j] - RoundShift(gradient, shift), saturations));
  }
  return static_cast<uint32_t>(saturations);
}

ZIPML_CLONES uint32_t UpdateModel(ValueFormat format, const int64_t *sums, int scale,
                                  int64_t offset, uint32_t decay, uint32_t size, int32_t *model) {
  return decay == 0 ? UpdateLoop<false>(format, sums, scale, offset, 0, size, model)
                    : UpdateLoop<true>(format, sums, scale, offset, decay, size, model);
}

/// As many groups as are drawn for at once, a vector of the compiler's.
typedef uint32_t Groups __attribute__((vector_size(64)));
constexpr uint32_t kGroupsDrawn = sizeof(Groups) / sizeof(uint32_t);

/// Entries of one group, rounded; in 32 bits, where Rounded has 64. Returns how many were clipped.
inline uint32_t RoundGroup(const Rounding<uint32_t> &r, uint32_t shift,
                           const uint32_t places[kDrawFeaturesLog2], uint32_t size,
                           const int32_t *entries, int32_t *rounded) {
  // what each bit of the position adds, by exclusive or
  uint32_t words[kDrawFeatures];
  for (int bit = 0; bit < kDrawFeaturesLog2; ++bit) words[places[bit]] = r.words[bit + 1];
  const Groups lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  Groups first = (lanes ^ lanes) + r.words[0];
  for (uint32_t half = 1; half < 16; half *= 2) {
    first ^= (0u - (lanes & half) / half) & words[half];
  }
  const Groups second = first ^ words[16];
  const Groups four[] = {first, second, first ^ words[32], second ^ words[32]};
  uint32_t numbers[kDrawFeatures];
  std::memcpy(numbers, four, sizeof(numbers));
  const int32_t top = static_cast<int32_t>(r.top >> shift);
  uint32_t clipped = 0;
  for (uint32_t k = 0; k < size; ++k) {
    const uint32_t up = (static_cast<uint32_t>(entries[k]) & r.below) + numbers[k];
    const int32_t level = (entries[k] >> shift) + static_cast<int32_t>(up >> shift);
    const int32_t inside = std::min(std::max(level, -top), top);
    clipped += level != inside;
    rounded[k] = static_cast<int32_t>(static_cast<uint32_t>(inside) << shift);
  }
  return clipped;
}

/// Q_m of a share of the model that begins with feature group `group`.
/// \param places  of every bit of a feature's lane: where the feature with that bit alone is
__attribute__((flatten)) ZIPML_CLONES uint32_t
QuantizeModel(const ZipmlArguments &a, uint32_t update, uint32_t group,
              const uint32_t places[kDrawFeaturesLog2], uint32_t size, const int32_t *entries,
              int32_t *rounded) {
  const uint32_t shift = ModelShift(a.model_shift, a.model_bits);
  uint32_t clipped = 0;
  for (uint32_t j = 0; j < size; group += kGroupsDrawn) {
    Groups groups = {0};
    for (uint32_t i = 0; i < kGroupsDrawn; ++i) groups[i] = group + i;
    const WordsOf<Groups> words = DrawWords(a.seed, update, groups);
    for (uint32_t i = 0; i < kGroupsDrawn && j < size; ++i, j += kDrawFeatures) {
      const Draw draw = {words.word[0][i], words.word[1][i]};
      clipped += RoundGroup(RoundingOf<uint32_t>(draw, shift, a.model_bits), shift, places,
                            std::min(kDrawFeatures, size - j), entries + j, rounded + j);
    }
  }
  return clipped;
}

/// Sums over coefficients: of those of base planes, and of all magnitudes.
struct CoefficientSums {
  int64_t total, magnitude;
};

ZIPML_CLONES CoefficientSums SumCoefficients(const int32_t *one, const int32_t *two,
                                             uint32_t count) {
  int64_t total = 0, magnitude = 0;
  for (uint32_t s = 0; s < count; ++s) {
    const int64_t a = one[s], b = two[s];
    total += a + b;
    magnitude += std::abs(a) + std::abs(b);
  }
  return {total, magnitude};
}

/// What happens to a batch between its dot products and its update.
class Scalars {
 public:
  Scalars(uint32_t word_bits, const ZipmlArguments &a, const Shape &s)
      : a_(a), s_(s), full_row_(static_cast<size_t>(s.full_words) * (word_bits / 64)) {}

  /// \param row  of the schedule
  void SetEpoch(const uint32_t *row) {
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

/// What a thread counted. What all threads see alike counts for the first one.
struct Counts {
  uint32_t saturations = 0, outside = 0, clipped = 0, refetched = 0;
};

/// Trains one thread's share of the features. For each tile of samples the threads add up their dot
/// products; everything else of a step is about single features, or so little that each thread does
/// it for itself. With a delay, a thread loads the next tile before it takes the sums of this one:
/// they have come by then.
template <class TValues>
class Trainer {
 public:
  Trainer(uint32_t word_bits, const ZipmlArguments &a, const Shape &s, Share share,
          Exchange<int64_t> &exchange)
      : a_(a),
        s_(s),
        share_(share),
        exchange_(exchange),
        values_(word_bits, a, s, share),
        scalars_(word_bits, a, s),
        model_(values_.size()),
        seen_(a.model_bits != 0 ? values_.size() : 0),
        ordered_(s.format == kRefetch ? a.features : 0),
        dots_(share.slots(),
              std::vector<int64_t>(static_cast<size_t>(DotsOf(s)) * values_.tile())) {
    for (uint32_t i = 0; i <= a.delay; ++i) ring_.emplace_back(values_.size(), a.batch);
  }

  /// Dot products of a sample, at most.
  static uint32_t DotsOf(const Shape &s) { return std::max(2u, s.dithers); }

  /// \param refetched  gets the samples that were read again, block after block of every epoch
  Counts Run(std::vector<uint32_t> &refetched) {
    const uint32_t entries = s_.chunks * s_.lanes;
    int32_t *held = a_.model + entries;
    for (uint32_t j = 0; j < share_.features(); ++j) {
      model_.data()[values_.PositionOf(j)] = a_.model[share_.first + j];
    }
    largest_ = LargestMagnitude(model_.data(), values_.size());
    update_ = a_.first_update;
    See(update_ - 1);
    if (update_ != 0) clipped_ = 0;  // a later run's start model was counted when it was made
    for (uint32_t epoch = 0; epoch < a_.epochs; ++epoch) {
      row_ = a_.schedule + static_cast<size_t>(epoch) * kScheduleColumns;
      scalars_.SetEpoch(row_);
      dotted_ = updated_ = 0;
      for (uint32_t i = 0; i < s_.blocks; ++i) {
        const uint32_t before = scalars_.refetched;
        const uint32_t block = BlockAt(a_, s_, i);
        const uint32_t first = block * s_.batches_block + (block == 0 ? a_.skip : 0);
        const uint32_t last = std::min(s_.batches, (block + 1) * s_.batches_block);
        for (uint32_t k = first; k < last; ++k) {
          TrainBatch(k, dotted_ < a_.pending ? held + 2 * dotted_ * a_.batch : nullptr);
          ++dotted_;
          // what the next batch is to see: all updates but the last `delay`
          if (dotted_ - updated_ > a_.delay) Update();
        }
        refetched.push_back(scalars_.refetched - before);
      }
      Finish();
      if ((a_.flags & kFlagHold) == 0) {
        while (updated_ < dotted_) Update();
        Store(a_.history + static_cast<size_t>(epoch) * entries);
      }
    }
    if ((a_.flags & kFlagHold) != 0 && share_.first == 0) Hold(held);
    Store(a_.model);
    Counts counts;
    counts.saturations = saturations_;
    counts.clipped = clipped_;
    if (share_.first == 0) {
      counts.saturations += scalars_.saturations;
      counts.outside = scalars_.outside;
      counts.refetched = scalars_.refetched;
    }
    return counts;
  }

 private:
  /// What is kept of a batch until its update: the sums of its gradient, for coefficients do not
  /// depend on later batches. They are in 32 bits as long as they fit.
  struct Batch {
    uint32_t count = 0;  // real samples
    CoefficientSums of = {0, 0};
    std::vector<int32_t> first, second;  // coefficients
    bool is_short = false;               // where the sums are
    Aligned<int32_t> short_sums;
    Aligned<int64_t> sums;
    const uint32_t positions;
    Batch(uint32_t size, uint32_t batch)
        : first(batch), second(batch), short_sums(size), sums(size), positions(size) {}

    void Clear(bool start_short) {
      of = {0, 0};
      is_short = start_short;
      if (is_short) {
        std::fill(short_sums.data(), short_sums.data() + positions, 0);
      } else {
        std::fill(sums.data(), sums.data() + positions, 0);
      }
    }
    void Widen() {
      if (!is_short) return;
      std::copy(short_sums.data(), short_sums.data() + positions, sums.data());
      is_short = false;
    }
  };

  /// A batch by its number in the epoch.
  Batch &BatchOf(uint32_t number) { return ring_[number % ring_.size()]; }

  /// A tile whose coefficients and gradient are still to come.
  struct Tile {
    Batch *batch;  // null if there is no tile
    uint32_t slot, turn;
    size_t sample;  // its first one
    uint32_t offset, count;
    const int32_t *pending;  // coefficients that are known already, in pairs, or null
  };

  /// Coefficients and gradient of batch `k`, tile after tile, while a tile's rows are in the cache.
  /// With a share that is ahead, those of the last tile are left for later.
  void TrainBatch(uint32_t k, const int32_t *pending) {
    Batch &batch = BatchOf(dotted_);
    batch.count = std::min(a_.batch, a_.samples - k * a_.batch);
    batch.Clear(TValues::IsShort(0));
    const uint32_t block = k / s_.batches_block;
    const uint32_t first = k % s_.batches_block * a_.batch;
    for (uint32_t i = 0; i < batch.count; i += values_.tile()) {
      const uint32_t count = std::min(values_.tile(), batch.count - i);
      const uint32_t slot = ++tiles_ % share_.slots();
      values_.Load(slot, block, first + i, count, dots_[slot].data());
      const Tile tile = {&batch,
                         slot,
                         turn_,
                         static_cast<size_t>(k) * a_.batch + i,
                         i,
                         count,
                         pending == nullptr ? nullptr : pending + 2 * i};
      if (pending == nullptr) {
        exchange_.HandIn(share_.index, turn_++, dots_[slot].data(), DotsOf(s_) * count);
      }
      if (share_.ahead) Finish();
      waiting_ = tile;
      if (!share_.ahead) Finish();
    }
  }

  /// Coefficients and gradient of the tile that waits for them, if one does.
  void Finish() {
    if (waiting_.batch == nullptr) return;
    const Tile tile = waiting_;
    waiting_.batch = nullptr;
    Batch &batch = *tile.batch;
    int32_t *one = &batch.first[tile.offset], *two = &batch.second[tile.offset];
    if (tile.pending != nullptr) {
      for (uint32_t s = 0; s < tile.count; ++s) {
        one[s] = tile.pending[2 * s];
        two[s] = tile.pending[2 * s + 1];
      }
    } else {
      int64_t *dots = dots_[tile.slot].data();
      exchange_.Take(tile.turn, dots, DotsOf(s_) * tile.count);
      SetCoefficients(tile.sample, tile.count, dots, one, two);
    }
    const CoefficientSums sums = SumCoefficients(one, two, tile.count);
    batch.of.total += sums.total;
    batch.of.magnitude += sums.magnitude;
    if (batch.is_short && TValues::IsShort(batch.of.magnitude)) {
      values_.AddGradient(tile.slot, one, two, tile.count, batch.short_sums.data());
    } else {
      batch.Widen();
      values_.AddGradient(tile.slot, one, two, tile.count, batch.sums.data());
    }
  }

  /// A tile's coefficients from its dot products; `sample` is its first one.
  void SetCoefficients(size_t sample, uint32_t count, const int64_t *dots, int32_t *one,
                       int32_t *two) {
    if (a_.loss == kLeastSquares && (a_.flags & kFlagWeights) == 0) {
      const int32_t *labels = a_.labels + sample;
      if (a_.sampling == kDoubleSymmetric) {
        scalars_.saturations +=
            ScalarStage(s_.format, dots, labels, row_[kStep], row_[kStepNegative], count, one);
        scalars_.saturations += ScalarStage(s_.format, dots + count, labels, row_[kStep],
                                            row_[kStepNegative], count, two);
      } else {
        scalars_.saturations += ScalarStage(s_.format, a_.sampling == kSingle ? dots : dots + count,
                                            labels, row_[kStep], row_[kStepNegative], count, one);
        std::copy(one, one + count, two);
      }
      return;
    }
    for (uint32_t s = 0; s < count; ++s) {
      const Coefficients c = scalars_.Of(
          sample + s, [&](uint32_t which) { return dots[static_cast<size_t>(which) * count + s]; });
      one[s] = c.first;
      two[s] = c.second;
    }
  }

  /// Rounds the share's features, group after group with a rounding of its own: `round` gets the
  /// rounding, a feature's position and its number.
  template <class TRounding, class TRound>
  void RoundEach(uint32_t update, TRounding rounding_of, TRound round) const {
    for (uint32_t j = 0; j < share_.features(); j += kDrawFeatures) {
      const auto rounding =
          rounding_of(DrawsOf(a_.seed, update, (share_.first + j) >> kDrawFeaturesLog2));
      const uint32_t lanes = std::min(kDrawFeatures, share_.features() - j);
      for (uint32_t lane = 0; lane < lanes; ++lane) {
        round(rounding, values_.PositionOf(j + lane), NumberOf(rounding, rounding.words[0], lane));
      }
    }
  }

  /// Hands the model to the dot products, quantized if it is to be.
  void See(uint32_t update) {
    const int32_t *seen = model_.data();
    if (a_.model_bits != 0) {
      uint32_t places[kDrawFeaturesLog2];  // which bit of a position is which bit of a feature
      for (int bit = 0; bit < kDrawFeaturesLog2; ++bit) places[bit] = values_.PositionOf(1u << bit);
      clipped_ += QuantizeModel(a_, update, share_.first >> kDrawFeaturesLog2, places,
                                values_.size(), model_.data(), seen_.data());
      seen = seen_.data();
    }
    values_.SetModel(seen);
    if (ordered_.empty()) return;
    for (uint32_t j = 0; j < a_.features; ++j) ordered_[j] = seen[values_.PositionOf(j)];
    scalars_.SetModel(ordered_);
  }

  void Update() {
    Batch &batch = BatchOf(updated_++);
    const uint32_t decay = row_[kDecay] & ((1u << kDecayBits) - 1);
    const bool exact = a_.model_bits == 0 && ordered_.empty();
    if (batch.is_short && a_.gradient_bits == 0 && decay == 0 &&
        values_.Step(batch.short_sums.data(), batch.of.total, batch.of.magnitude, exact,
                     model_.data(), largest_)) {
      if (!exact) See(update_);
      ++update_;
      return;
    }
    batch.Widen();
    int scale = values_.scale();
    int64_t offset = values_.OffsetOf(batch.of.total);
    if (a_.gradient_bits != 0) {
      RoundEach(
          update_,
          [&](const Draws &draws) {
            return GradientRounding(draws, row_[kGradientShift], a_.gradient_bits);
          },
          [&](const Rounding<uint64_t> &r, uint32_t at, uint64_t number) {
            int64_t &sum = batch.sums.data()[at];
            sum = Rounded(r, ShiftLeft(sum, scale) - offset, number, clipped_);
          });
      scale = 0;
      offset = 0;
    }
    // positions behind the last feature, all in the last group, are to stay 0
    const uint32_t whole = share_.features() / kGroup * kGroup;
    saturations_ +=
        UpdateModel(s_.format, batch.sums.data(), scale, offset, decay, whole, model_.data());
    for (uint32_t j = whole; j < share_.features(); ++j) {
      const uint32_t at = values_.PositionOf(j);
      saturations_ += UpdateModel(s_.format, batch.sums.data() + at, scale, offset, decay, 1,
                                  model_.data() + at);
    }
    largest_ = LargestMagnitude(model_.data(), values_.size());
    See(update_);
    ++update_;
  }

  void Store(int32_t *row) const {
    for (uint32_t j = 0; j < share_.features(); ++j) {
      row[share_.first + j] = model_.data()[values_.PositionOf(j)];
    }
    if (share_.last == a_.features) {
      std::fill(row + a_.features, row + static_cast<size_t>(s_.chunks) * s_.lanes, 0);
    }
  }

  /// Coefficients of the batches whose update the next call is to make.
  void Hold(int32_t *held) {
    for (uint32_t k = updated_; k < dotted_; ++k) {
      const Batch &batch = BatchOf(k);
      int32_t *pairs = held + 2 * static_cast<size_t>(k - updated_) * a_.batch;
      std::fill(pairs, pairs + 2 * a_.batch, 0);
      for (uint32_t i = 0; i < batch.count; ++i) {
        pairs[2 * i] = batch.first[i];
        pairs[2 * i + 1] = batch.second[i];
      }
    }
  }

  const ZipmlArguments &a_;
  const Shape &s_;
  const Share share_;
  Exchange<int64_t> &exchange_;
  TValues values_;
  Scalars scalars_;
  const uint32_t *row_ = nullptr;  // of the schedule
  Aligned<int32_t> model_;         // in the order of the values' positions
  Aligned<int32_t> seen_;          // the same as dot products see it, if quantized
  std::vector<int32_t> ordered_;   // what they see, in the order of the features
  std::vector<Batch> ring_;
  std::vector<std::vector<int64_t>> dots_;  // of each slot: all Q1, then all Q2, and so on
  Tile waiting_ = {};
  uint32_t tiles_ = 0, turn_ = 0;      // loaded, and handed in
  uint32_t dotted_ = 0, updated_ = 0;  // batches of this epoch
  uint32_t update_ = 0;                // number of the next update since training began
  uint32_t largest_ = 0;               // magnitude of the model's entries
  uint32_t saturations_ = 0, clipped_ = 0;
};

/// Threads for a run: as many as asked for, but each with a group of features.
uint32_t ThreadsFor(uint32_t wanted, const ZipmlArguments &a) {
  const uint32_t groups = (a.features + kGroup - 1) / kGroup;
  if (wanted == 0) {
    // a thread more pays where its share of a batch takes much longer than meeting the others
    const uint64_t values = static_cast<uint64_t>(a.batch) * a.features;
    const uint64_t worth = std::max<uint64_t>(1, values / kValuesForThread);
    wanted = static_cast<uint32_t>(
        std::min<uint64_t>(std::max(1u, std::thread::hardware_concurrency()), worth));
  }
  return std::min(std::min(wanted, groups), kMaxThreads);
}

template <class TValues>
void Train(uint32_t word_bits, const ZipmlArguments &a, const Shape &s, uint32_t threads,
           ZipmlResults &results) {
  const uint32_t groups = (a.features + kGroup - 1) / kGroup;
  Exchange<int64_t> exchange(threads, Trainer<TValues>::DotsOf(s) * a.batch);
  std::vector<Counts> counts(threads);
  std::vector<std::vector<uint32_t>> refetched(threads);
  RunThreads(threads, [&](uint32_t t) {
    const uint32_t last = std::min(a.features, groups * (t + 1) / threads * kGroup);
    const Share share = {t,
                         groups * t / threads * kGroup,
                         last,
                         threads,
                         (groups + threads - 1) / threads * kGroup,
                         threads > 1 && a.delay > 0};
    counts[t] = Trainer<TValues>(word_bits, a, s, share, exchange).Run(refetched[t]);
  });
  for (const Counts &count : counts) {
    results.saturations += count.saturations;
    results.outside += count.outside;
    results.clipped += count.clipped;
    results.refetched += count.refetched;
  }
  results.cycles = ModelledCycles(a, s, refetched[0]);
}

}  // namespace
}  // namespace zipml

extern "C" const char *zipml_engine_loops() { return zipml::Loops().name; }

extern "C" void zipml_engine_run(uint32_t word_bits, uint32_t format,
                                 const ZipmlArguments *arguments, ZipmlResults *results,
                                 uint32_t threads) {
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
  // an exact dot product is one thread's, which has the whole model
  const uint32_t count = shape.format == kRefetch ? 1 : ThreadsFor(threads, a);
  if (shape.format == kFloat32) {
    Train<FloatValues>(word_bits, a, shape, count, *results);
  } else if (shape.format == kLevels) {
    Train<LevelValues>(word_bits, a, shape, count, *results);
  } else {
    Train<PlaneValues>(word_bits, a, shape, count, *results);
  }
}
