// What a run is about, by its registers: whether they are valid, the sizes that follow, its cycles.
#pragma once

#include <cstdint>
#include <vector>

#include "values.hpp"
#include "zipml/arithmetic.hpp"
#include "zipml/config.hpp"
#include "zipml/schedule.hpp"

extern "C" {
#include "abi.h"
}

namespace zipml {
namespace {

/// The `loss` register and its kin, for valid bits and batch.
Status ValidateLoss(const ZipmlArguments &a, const Shape &s) {
  const bool planes = s.format != kFloat32 && s.format != kLevels;
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
  const uint32_t flags =
      kFlagHold | kFlagWeights | kFlagFeatureSteps | kFlagCorrection | kFlagFrozen;
  if (a.first_block >= s.blocks || a.block_step < 1 || a.block_step > s.blocks) {
    return kStatusOrder;
  }
  if ((a.flags & ~flags) != 0) return kStatusPartial;
  if (!Corrects(s.format) && (a.flags & kFlagCorrection) != 0) return kStatusPartial;
  const bool partial = (a.flags & kFlagHold) != 0 || a.pending != 0 || a.skip != 0;
  if (!partial) return kStatusOk;
  if ((a.flags & kFlagFrozen) != 0) return kStatusPartial;
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
  if (floats ? a.bits != 32 : a.bits < 1 || a.bits > static_cast<uint32_t>(MaxBits(s.format)))
    return kStatusBits;
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

/// Entries of the model in memory, those of padding included.
uint32_t EntriesOf(const Shape &s) { return s.chunks * s.lanes; }

/// Shifts of the features in the model's memory, behind its entries; null where there are none.
const int32_t *ShiftsOf(const ZipmlArguments &a, const Shape &s) {
  return (a.flags & kFlagFeatureSteps) != 0 ? a.model + EntriesOf(s) : nullptr;
}

/// Corrections of the gradient in the model's memory, behind these; null where there are none.
const int32_t *CorrectionsOf(const ZipmlArguments &a, const Shape &s) {
  if ((a.flags & kFlagCorrection) == 0) return nullptr;
  return a.model + (ShiftsOf(a, s) == nullptr ? 1 : 2) * static_cast<size_t>(EntriesOf(s));
}

/// Vectors of as many entries as the model's that lie behind it.
uint32_t VectorsBehind(const ZipmlArguments &a, const Shape &s) {
  return (ShiftsOf(a, s) != nullptr ? 1 : 0) + (CorrectionsOf(a, s) != nullptr ? 1 : 0);
}

/// Pending coefficients in the model's memory.
int32_t *PendingOf(const ZipmlArguments &a, const Shape &s) {
  return a.model + (1 + VectorsBehind(a, s)) * static_cast<size_t>(EntriesOf(s));
}

/// Cycles of the schedule (docs/schedule.md), for want of a clock the measured ones too.
/// \param refetched  samples read again, block after block of every epoch
void ModelCycles(uint32_t word_bits, const ZipmlArguments &a, const Shape &s,
                 const std::vector<uint32_t> &refetched, ZipmlResults &results) {
  const bool floats = s.format == kFloat32;
  const Overlap overlap = OverlapOf(a.delay);
  const uint32_t turns = 1u << CloseTurnsLog2(s.format);
  const Distances distances = BoardDistances(word_bits);
  const uint64_t slot = SlotCycles(s.passes, a.batch, s.cells, turns, overlap, distances);
  const bool hold = (a.flags & kFlagHold) != 0;
  const uint64_t block_words = static_cast<uint64_t>(s.planes) * a.block_samples * s.chunks;
  const uint32_t base_words = floats ? 0 : BasePlanes(a.bits) * a.block_samples * s.chunks;
  const bool one_burst = floats || a.bits == 1 || a.dither_offset == base_words;
  const uint64_t label_words =
      (a.flags & kFlagWeights) != 0 ? 2 * a.block_samples : a.block_samples;
  const uint64_t read =
      std::max(block_words + (one_burst ? 1 : 2) * kMemoryLatency, label_words + kMemoryLatency);
  const uint64_t take = std::max(block_words, label_words);
  const uint64_t entries = EntriesOf(s);

  // nothing hides the first block's way in, and nothing comes in behind the last one
  const uint64_t groups = (entries + kDrawFeatures - 1) / kDrawFeatures;
  uint64_t waits = take;
  uint64_t run = take + 2 * (entries + kMemoryLatency) + groups * (kDrawFeatures + kDrawLatency);
  for (size_t i = 0; i < refetched.size(); ++i) {
    const uint32_t count = static_cast<uint32_t>(i % s.blocks);
    const uint32_t block = BlockAt(a, s, count);
    const uint32_t first = block * s.batches_block + (block == 0 ? a.skip : 0);
    const uint64_t last = std::min((block + 1ull) * s.batches_block, s.batches + 0ull);
    const bool closes = count + 1 == s.blocks;
    const bool drains = closes && a.delay > 0 && !hold;
    const uint64_t slots = overlap.slots_per_batch * (last - first) + (drains ? overlap.lag : 0);
    const uint64_t loops = s.format == kRefetch ? slots : 1;
    const uint64_t passes = slots * slot + loops * turns;
    uint64_t others = loops * distances.pipeline;
    others +=
        static_cast<uint64_t>(refetched[i]) * (s.full_words + kMemoryLatency + distances.residual);
    if (closes && !hold) others += entries + kMemoryLatency;  // history row
    // a block trains while the next one comes in, across the end of an epoch too
    const bool last_one = i + 1 == refetched.size();
    const uint64_t next = last_one ? 0 : std::max(read, std::max(passes, take) + others);
    waits += std::max(next, passes + others) - (passes + others);
    run += std::max(next, passes + others);
  }
  run += VectorsBehind(a, s) * (entries + kMemoryLatency);
  if (a.pending != 0) run += 2ull * a.pending * a.batch + kMemoryLatency;
  if (s.format == kLevels) run += a.level_tables * s.levels + kMemoryLatency;
  if (a.loss == kTable) run += (1u << kDerivativeTableLog2) + 1 + kMemoryLatency;
  if (a.loss == kPolynomial) run += a.degree + 1 + kMemoryLatency;
  const uint32_t held = hold ? HeldBatches(a, s) : 0;
  if (held != 0) run += 2ull * held * a.batch + kMemoryLatency;
  results.modelled_cycles = results.measured_cycles = run;
  results.waited_cycles = waits;
}

}  // namespace
}  // namespace zipml
