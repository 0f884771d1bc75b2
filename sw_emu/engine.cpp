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
#include "run_checks.hpp"
#include "scalar_stage.hpp"
#include "shared_samples.hpp"
#include "values.hpp"

namespace zipml {
namespace {

/// What a thread counted. What all threads see alike counts for the first one.
struct Counts {
  uint32_t saturations = 0, outside = 0, clipped = 0, refetched = 0;
};

/// Whether entries shrink in any epoch.
bool Decays(const ZipmlArguments &a) {
  for (uint32_t epoch = 0; epoch < a.epochs; ++epoch) {
    if (a.schedule[static_cast<size_t>(epoch) * kScheduleColumns + kDecay] != 0) return true;
  }
  return false;
}

/// Trains one thread's share of the features. For each tile of samples the threads add up their dot
/// products; everything else of a step is about single features, or so little that each thread does
/// it for itself. With a delay, a thread loads the next tile before it takes the sums of this one:
/// they have come by then. Where rows are short, each thread has all features of some of a batch's
/// samples instead; gradients are added up, and all threads make the same update.
template <class TValues>
class Trainer {
 public:
  Trainer(uint32_t word_bits, const ZipmlArguments &a, const Shape &s, Share share,
          Exchange<int64_t> &exchange, GradientExchange &gradients, const Stop &stop)
      : a_(a),
        s_(s),
        share_(share),
        exchange_(exchange),
        gradients_(gradients),
        stop_(stop),
        values_(word_bits, a, s, share),
        scalars_(word_bits, a, s),
        model_(values_.size()),
        seen_(a.model_bits != 0 || (a.flags & kFlagFrozen) != 0 ? values_.size() : 0),
        ordered_(s.format == kRefetch ? a.features : 0),
        has_steps_(VectorsBehind(a, s) != 0 || (TValues::IsShort(0) && Decays(a))),
        frozen_((a.flags & kFlagFrozen) != 0),
        steps_(has_steps_ ? values_.size() : 0),
        dots_(share.slots(),
              std::vector<int64_t>(static_cast<size_t>(DotsOf(s)) * values_.tile())) {
    for (uint32_t j = share.features() / kGroup * kGroup; j < share.features(); ++j) {
      rest_.push_back(values_.PositionOf(j));
    }
    for (int bit = 0; bit < kDrawFeaturesLog2; ++bit) {
      places_[bit] = static_cast<uint32_t>(__builtin_ctz(values_.PositionOf(1u << bit)));
    }
    for (uint32_t i = 0; i <= a.delay; ++i) ring_.emplace_back(values_.size(), a.batch);
  }

  /// Dot products of a sample, at most.
  static uint32_t DotsOf(const Shape &s) { return std::max(2u, s.dithers); }

  /// \param refetched  gets the samples that were read again, block after block of every epoch
  Counts Run(std::vector<uint32_t> &refetched) {
    const uint32_t entries = EntriesOf(s_);
    int32_t *held = PendingOf(a_, s_);
    const int32_t *shifts = ShiftsOf(a_, s_);
    const int32_t *corrections = CorrectionsOf(a_, s_);
    const int distance = GradientFractionBits(s_.format) - kModelFractionBits;
    for (uint32_t j = 0; j < share_.features(); ++j) {
      model_.data()[values_.PositionOf(j)] = a_.model[share_.first + j];
      if (!has_steps_) continue;
      const uint32_t shift = shifts == nullptr ? 0 : FeatureShiftOf(shifts[share_.first + j]);
      const int32_t correction = corrections == nullptr ? 0 : corrections[share_.first + j];
      steps_.Set(values_.PositionOf(j), shift, correction, CorrectionTerm(s_.format, correction),
                 distance - static_cast<int>(shift));
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
          if (stop_.Wanted()) return Counts();
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
    if (stop_.Wanted()) return Counts();
    if ((a_.flags & kFlagHold) != 0 && share_.first == 0) Hold(held);
    Store(a_.model);
    Counts counts;
    if (share_.part == 0) {
      counts.saturations = saturations_;
      counts.clipped = clipped_;
    }
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

  /// The first sample of a part of a batch: loops take four samples at a time.
  uint32_t PartOf(uint32_t part) const {
    return part == share_.parts ? a_.batch : a_.batch * part / share_.parts & ~3u;
  }

  /// Coefficients and gradient of batch `k`, tile after tile, while a tile's rows are in the cache.
  /// With a share that is ahead, those of the last tile are left for later.
  void TrainBatch(uint32_t k, const int32_t *pending) {
    Batch &batch = BatchOf(dotted_);
    batch.count = std::min(a_.batch, a_.samples - k * a_.batch);
    batch.Clear(TValues::IsShort(0));
    const uint32_t block = k / s_.batches_block;
    const uint32_t first = k % s_.batches_block * a_.batch;
    const uint32_t end = PartOf(share_.part + 1);
    for (uint32_t i = PartOf(share_.part); i < std::min(end, batch.count); i += values_.tile()) {
      const uint32_t count = std::min(values_.tile(), std::min(end, batch.count) - i);
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
    if (share_.parts > 1) HandIn(batch);
  }

  /// Hands this thread's part of a batch's gradient to the others.
  void HandIn(const Batch &batch) {
    GradientPart &part = gradients_.PartOf(share_.part, handed_in_);
    part.of = batch.of;
    if (batch.is_short) {
      part.Set(batch.short_sums.data(), batch.positions);
    } else {
      part.Set(batch.sums.data(), batch.positions);
    }
    gradients_.HandIn(share_.part, handed_in_++);
  }

  /// Adds the others' parts of a batch's gradient; nothing in a run that is to stop.
  void Gather(Batch &batch) {
    const uint32_t turn = gathered_++;
    if (!gradients_.Await(turn)) return;
    bool is_short = batch.is_short;
    for (uint32_t p = 0; p < share_.parts; ++p) {
      if (p == share_.part) continue;
      const GradientPart &part = gradients_.PartOf(p, turn);
      batch.of.total += part.of.total;
      batch.of.magnitude += part.of.magnitude;
      is_short = is_short && part.is_short;
    }
    is_short = is_short && TValues::IsShort(batch.of.magnitude);
    if (!is_short) batch.Widen();
    for (uint32_t p = 0; p < share_.parts; ++p) {
      if (p == share_.part) continue;
      const GradientPart &part = gradients_.PartOf(p, turn);
      if (is_short) {
        part.AddTo(batch.positions, batch.short_sums.data());
      } else {
        part.AddTo(batch.positions, batch.sums.data());
      }
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
    if (scalars_.Separate()) {
      const bool symmetric = a_.sampling == kDoubleSymmetric;
      scalars_.Each(sample, count, a_.sampling == kDoublePlain ? dots + count : dots, one);
      if (symmetric) {
        scalars_.Each(sample, count, dots + count, two);
      } else {
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

  /// Q_m of the model: what it adds up to, in its unit.
  /// \tparam TLevel  entries, or bytes in multiples of the unit
  template <class TLevel>
  int64_t Round(uint32_t update, TLevel *rounded) {
    const Quantized q = Quantize(a_, update, share_.first >> kDrawFeaturesLog2, places_,
                                 values_.size(), model_.data(), largest_, rounded);
    clipped_ += q.clipped;
    return q.sum;
  }

  /// Hands the model to the dot products, quantized if it is to be.
  void See(uint32_t update) {
    const bool bytes = a_.model_bits != 0 && a_.model_bits <= 8 && ordered_.empty();
    if (bytes && values_.Levels() != nullptr) {
      const int64_t sum = Round(update, values_.Levels());
      values_.SetLevels(sum, static_cast<int>(ModelShift(a_.model_shift, a_.model_bits)));
      return;
    }
    const int32_t *seen = model_.data();
    if (a_.model_bits != 0) {
      Round(update, seen_.data());
      seen = seen_.data();
    } else if (frozen_) {
      std::copy(model_.data(), model_.data() + values_.size(), seen_.data());
      seen = seen_.data();
    }
    values_.SetModel(seen);
    if (ordered_.empty()) return;
    for (uint32_t j = 0; j < a_.features; ++j) ordered_[j] = seen[values_.PositionOf(j)];
    scalars_.SetModel(ordered_);
  }

  /// The update in 32 bits, if it can be made there.
  bool ShortStep(const Batch &batch, uint32_t decay, bool exact) {
    if (has_steps_) {
      return values_.StepEach(batch.short_sums.data(), batch.of.total, batch.of.magnitude, decay,
                              exact, steps_, model_.data(), largest_, saturations_);
    }
    return values_.Step(batch.short_sums.data(), batch.of.total, batch.of.magnitude, exact,
                        model_.data(), largest_);
  }

  void Update() {
    Batch &batch = BatchOf(updated_++);
    if (share_.parts > 1) Gather(batch);
    const uint32_t decay = row_[kDecay] & ((1u << kDecayBits) - 1);
    const uint32_t threshold = row_[kThreshold];
    const bool exact = a_.model_bits == 0 && ordered_.empty() && !frozen_;
    const bool plain = a_.gradient_bits == 0 && threshold == 0;
    if (batch.is_short && plain && ShortStep(batch, decay, exact)) {
      if (!exact && !frozen_) See(update_);
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
    const int32_t *shifts = has_steps_ ? steps_.shifts.data() : nullptr;
    const int32_t *corrections = has_steps_ ? steps_.corrections.data() : nullptr;
    saturations_ += UpdateModel(s_.format, batch.sums.data(), scale, offset, decay, shifts,
                                corrections, whole, model_.data());
    UpdateRest(batch.sums.data(), scale, offset, decay);
    if (threshold != 0) {
      ShrinkModel(threshold, shifts, static_cast<uint32_t>(values_.size()), model_.data());
    }
    largest_ = LargestMagnitude(model_.data(), values_.size());
    if (!frozen_) See(update_);
    ++update_;
  }

  /// Updates the features of a last group that is not whole: brought together, for one call.
  void UpdateRest(const int64_t *sums, int scale, int64_t offset, uint32_t decay) {
    const uint32_t size = static_cast<uint32_t>(rest_.size());
    if (size == 0) return;
    int64_t of[kGroup];
    int32_t entries[kGroup], shifts[kGroup], corrections[kGroup];
    for (uint32_t i = 0; i < size; ++i) {
      of[i] = sums[rest_[i]];
      entries[i] = model_.data()[rest_[i]];
      if (!has_steps_) continue;
      shifts[i] = steps_.shifts.data()[rest_[i]];
      corrections[i] = steps_.corrections.data()[rest_[i]];
    }
    saturations_ += UpdateModel(s_.format, of, scale, offset, decay, has_steps_ ? shifts : nullptr,
                                has_steps_ ? corrections : nullptr, size, entries);
    for (uint32_t i = 0; i < size; ++i) model_.data()[rest_[i]] = entries[i];
  }

  void Store(int32_t *row) const {
    if (share_.part != 0) return;
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
  GradientExchange &gradients_;
  const Stop &stop_;
  TValues values_;
  Scalars scalars_;
  const uint32_t *row_ = nullptr;       // of the schedule
  Aligned<int32_t> model_;              // in the order of the values' positions
  Aligned<int32_t> seen_;               // the same as dot products see it, if quantized or frozen
  std::vector<int32_t> ordered_;        // what they see, in the order of the features
  uint32_t places_[kDrawFeaturesLog2];  // which bit of a position is which bit of a feature
  const bool has_steps_;                // or corrections of the features, or a decay in 32 bits
  const bool frozen_;                   // dot products read the start model throughout
  FeatureSteps steps_;
  std::vector<uint32_t> rest_;  // positions of a last group that is not whole
  std::vector<Batch> ring_;
  std::vector<std::vector<int64_t>> dots_;  // of each slot: all Q1, then all Q2, and so on
  Tile waiting_ = {};
  uint32_t tiles_ = 0, turn_ = 0;          // loaded, and handed in
  uint32_t handed_in_ = 0, gathered_ = 0;  // batches, where threads share their samples
  uint32_t dotted_ = 0, updated_ = 0;      // batches of this epoch
  uint32_t update_ = 0;                    // number of the next update since training began
  uint32_t largest_ = 0;                   // magnitude of the model's entries
  uint32_t saturations_ = 0, clipped_ = 0;
};

/// Threads for a run: as many as asked for, but each with a group of features, or four samples.
uint32_t ThreadsFor(uint32_t wanted, const ZipmlArguments &a) {
  const uint32_t units =
      SharesSamples(a) ? std::max(1u, a.batch / 4) : (a.features + kGroup - 1) / kGroup;
  if (wanted == 0) {
    // a thread more pays where its share of a batch takes much longer than meeting the others
    const uint64_t values = static_cast<uint64_t>(a.batch) * a.features;
    const uint64_t worth = std::max<uint64_t>(1, values / kValuesForThread);
    wanted = static_cast<uint32_t>(
        std::min<uint64_t>(std::max(1u, std::thread::hardware_concurrency()), worth));
  }
  return std::min(std::min(wanted, units), kMaxThreads);
}

/// What a thread of so many has to do.
Share ShareOf(uint32_t t, uint32_t threads, const ZipmlArguments &a) {
  const uint32_t groups = (a.features + kGroup - 1) / kGroup;
  if (SharesSamples(a)) return {0, 0, a.features, 1, groups * kGroup, false, t, threads};
  return {t,
          groups * t / threads * kGroup,
          std::min(a.features, groups * (t + 1) / threads * kGroup),
          threads,
          (groups + threads - 1) / threads * kGroup,
          threads > 1 && a.delay > 0,
          0,
          1};
}

template <class TValues>
void Train(uint32_t word_bits, const ZipmlArguments &a, const Shape &s, uint32_t threads,
           Stop &stop, ZipmlResults &results) {
  const bool samples = SharesSamples(a);
  Exchange<int64_t> exchange(samples ? 1 : threads, Trainer<TValues>::DotsOf(s) * a.batch, stop);
  GradientExchange gradients(samples ? threads : 1, a.delay,
                             (a.features + kGroup - 1) / kGroup * kGroup, stop);
  std::vector<Counts> counts(threads);
  std::vector<std::vector<uint32_t>> refetched(threads);
  RunThreads(threads, stop, [&](uint32_t t) {
    const Share share = ShareOf(t, threads, a);
    counts[t] =
        Trainer<TValues>(word_bits, a, s, share, exchange, gradients, stop).Run(refetched[t]);
  });
  if (stop.Status() != kRunDone) return;
  for (const Counts &count : counts) {
    results.saturations += count.saturations;
    results.outside += count.outside;
    results.clipped += count.clipped;
    results.refetched += count.refetched;
  }
  ModelCycles(word_bits, a, s, refetched[0], results);
}

}  // namespace
}  // namespace zipml

extern "C" const char *zipml_engine_loops() { return zipml::Loops().name; }

extern "C" int32_t zipml_engine_run(uint32_t word_bits, uint32_t format,
                                    const ZipmlArguments *arguments, ZipmlResults *results,
                                    uint32_t threads, const uint32_t *asked) {
  using namespace zipml;
  const ZipmlArguments &a = *arguments;
  Shape shape = {};
  shape.format = static_cast<ValueFormat>(format);
  const uint32_t word_bits_log2 = word_bits == 64 ? 6 : word_bits == 128 ? 7 : 9;
  *results = ZipmlResults{};
  results->version = kInterfaceVersion;
  results->capability = Capability(word_bits_log2, shape.format);
  results->status = Validate(word_bits, a, shape);
  if (results->status != kStatusOk) return kRunDone;
  results->words = static_cast<uint64_t>(a.epochs) * shape.blocks * shape.planes * a.block_samples *
                   shape.chunks;
  // an exact dot product is one thread's, which has the whole model
  const uint32_t count = shape.format == kRefetch ? 1 : ThreadsFor(threads, a);
  Stop stop(asked);
  try {
    if (shape.format == kFloat32) {
      Train<FloatValues>(word_bits, a, shape, count, stop, *results);
    } else if (shape.format == kLevels) {
      Train<LevelValues>(word_bits, a, shape, count, stop, *results);
    } else if (shape.format == kWide) {
      Train<WideValues>(word_bits, a, shape, count, stop, *results);
    } else {
      Train<PlaneValues>(word_bits, a, shape, count, stop, *results);
    }
  } catch (const std::exception &) {
    stop.Fail(kRunNoMemory);
  }
  return stop.Status();
}

extern "C" int32_t zipml_engine_run_all(uint32_t word_bits, uint32_t format,
                                        const ZipmlArguments *arguments, ZipmlResults *results,
                                        uint32_t count, uint32_t threads, const uint32_t *asked) {
  for (uint32_t i = 0; i < count; ++i) {
    const int32_t ended =
        zipml_engine_run(word_bits, format, arguments + i, results + i, threads, asked);
    if (ended != zipml::kRunDone || results[i].status != zipml::kStatusOk) return ended;
  }
  return zipml::kRunDone;
}
