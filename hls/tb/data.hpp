// Random buffers of a case, and what they stand for.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "bench.hpp"
#include "reference.hpp"

namespace {

float FloatValue(std::mt19937 &random) {
  return static_cast<float>(static_cast<int32_t>(random())) / 2147483648.0f;
}

/// The buffers of one case, and what they stand for.
struct Data {
  Data(const Case &c, uint32_t pending_entries)
      : block_samples(c.batch * c.block_batches),
        blocks(Blocks(c)),
        plane_words(block_samples * Chunks(c)),
        block_stride(Stored(c) * plane_words),
        entries(Chunks(c) * kLanes),
        full_words(kRefetches ? (c.features + format_t::kFullLanes - 1) / format_t::kFullLanes : 0),
        tables(!kLevels       ? 0
               : c.own_tables ? c.features
                              : 1),
        level_count(kLevels ? (1u << (c.bits - 1)) + 1 : 0),
        derivatives(c.loss == zipml::kTable        ? 1025
                    : c.loss == zipml::kPolynomial ? c.degree + 1
                                                   : 0),
        planes(static_cast<size_t>(blocks) * block_stride, kDepthPlanes),
        full(static_cast<size_t>(blocks) * block_samples * full_words, kDepthFull),
        labels(static_cast<size_t>(blocks) * block_samples * (c.weights ? 2 : 1), kDepthLabels),
        model(entries * (1 + VectorsBehind(c)) + pending_entries, kDepthModel),
        history(static_cast<size_t>(c.epochs) * entries, kDepthHistory),
        derivative(derivatives, kDepthDerivative),
        levels(static_cast<size_t>(tables) * level_count, kDepthLevels),
        schedule(zipml::kScheduleColumns * c.epochs, kDepthSchedule) {}

  bool intact() const {
    return planes.intact() && full.intact() && labels.intact() && model.intact() &&
           history.intact() && derivative.intact() && levels.intact() && schedule.intact();
  }

  uint32_t block_samples, blocks, plane_words, block_stride, entries, full_words;
  uint32_t tables, level_count, derivatives;
  Guarded<format_t::word_t> planes, full;
  Guarded<int32_t> labels, model, history, derivative, levels;
  Guarded<uint32_t> schedule;
  Truth truth;
};

/// Random planes, padding lanes and padded samples included, for neither may count.
void FillPlanes(const Case &c, std::mt19937 &random, Data &d) {
  const uint32_t base = Base(c), chunks = Chunks(c);
  const size_t size = static_cast<size_t>(c.samples) * c.features;
  d.truth.values.assign(Dithers(c), std::vector<int64_t>(size, 0));
  for (uint32_t block = 0; block < d.blocks; ++block) {
    for (uint32_t plane = 0; plane < Stored(c); ++plane) {
      for (uint32_t place = 0; place < d.plane_words; ++place) {
        const uint32_t sample = block * d.block_samples + place / chunks;
        format_t::word_t word = 0;
        for (uint32_t lane = 0; lane < kLanes; ++lane) {
          const uint32_t feature = place % chunks * kLanes + lane;
          const bool real = sample < c.samples && feature < c.features;
          const size_t i = static_cast<size_t>(sample) * c.features + feature;
          if (kFloat) {
            const float value = FloatValue(random);
            uint32_t bits;
            std::memcpy(&bits, &value, 4);
            word.range(32 * lane + 31, 32 * lane) = bits;
            if (real) d.truth.values[0][i] = std::lround(static_cast<double>(value) * 8388608.0);
            continue;
          }
          const bool bit = (random() >> 7 & 1) != 0;
          word[lane] = bit;
          if (!real) continue;
          // the uniform grid's own value, or the code that a table decodes
          const int64_t sign = bit ? 1 : kLevels ? 0 : -1;
          if (plane < base) {
            const int64_t unit = 1 << (kLevels ? base - 1 - plane : kMostBits - 2 - plane);
            for (std::vector<int64_t> &values : d.truth.values) values[i] += sign * unit;
          } else if (plane >= base + c.extra_planes) {
            const int64_t unit = kLevels ? 1 : 1 << (kMostBits - c.bits);
            d.truth.values[plane - base - c.extra_planes][i] += sign * unit;
          }
        }
        d.planes[static_cast<size_t>(block) * d.block_stride + plane * d.plane_words + place] =
            word;
      }
    }
  }
}

/// Random float32 rows, not those of the planes, so that it shows which of the two were read.
void FillFull(const Case &c, std::mt19937 &random, Data &d) {
  d.truth.full.assign(static_cast<size_t>(c.samples) * c.features, 0);
  for (size_t i = 0; i < static_cast<size_t>(d.blocks) * d.block_samples * d.full_words; ++i) {
    format_t::word_t word = 0;
    for (uint32_t lane = 0; lane < format_t::kFullLanes; ++lane) {
      const float value = FloatValue(random);
      uint32_t bits;
      std::memcpy(&bits, &value, 4);
      word.range(32 * lane + 31, 32 * lane) = bits;
      const size_t sample = i / d.full_words;
      const size_t feature = i % d.full_words * format_t::kFullLanes + lane;
      if (sample < c.samples && feature < c.features) {
        d.truth.full[sample * c.features + feature] =
            std::lround(static_cast<double>(value) * 8388608.0);
      }
    }
    d.full[i] = word;
  }
}

/// Everything random: labels, weights, tables, start model, and a schedule.
void Fill(const Case &c, Data &d) {
  std::mt19937 random(c.samples * 31 + c.features * 7 + c.bits);
  FillPlanes(c, random, d);
  if (kRefetches) FillFull(c, random, d);
  for (uint32_t s = 0; s < d.blocks * d.block_samples; ++s) {
    const int64_t range = c.label_range;
    const int32_t label = static_cast<int32_t>(random() % (2 * range + 1) - range);
    const int32_t weight = c.weights ? static_cast<int32_t>(random() % 200000u) : 65536;
    d.labels[c.weights ? 2 * s : s] = label;
    if (c.weights) d.labels[2 * s + 1] = weight;
    if (s >= c.samples) continue;
    d.truth.labels.push_back(label);
    d.truth.weights.push_back(weight);
  }
  for (uint32_t i = 0; i < d.derivatives; ++i) {
    d.derivative[i] = static_cast<int32_t>(random() % 33554433u) - 16777216;
    d.truth.derivative.push_back(d.derivative[i]);
  }
  for (size_t i = 0; i < static_cast<size_t>(d.tables) * d.level_count; ++i) {
    d.levels[i] = static_cast<int32_t>(random() % 32769) - 16384;
  }
  for (size_t i = 0; i < static_cast<size_t>(c.samples) * c.features && kLevels; ++i) {
    const size_t table = d.tables == 1 ? 0 : i % c.features * d.level_count;
    for (std::vector<int64_t> &values : d.truth.values) values[i] = d.levels[table + values[i]];
  }
  for (uint32_t i = 0; i < d.entries; ++i) {
    d.model[i] = i < c.features ? static_cast<int32_t>(random() % 16777216u) - 8388608 : 0;
  }
  // small ones, largest ones, and words of which the lowest four bits count
  for (uint32_t i = 0; i < c.features && c.own_steps; ++i) {
    const uint32_t word = random() % 4 == 0 ? static_cast<uint32_t>(random()) : random() % 4;
    d.model[d.entries + i] = static_cast<int32_t>(word);
    d.truth.shifts.push_back(std::min(static_cast<int>(word % 16), 13));
  }
  for (uint32_t i = c.features; i < d.entries && c.own_steps; ++i) d.model[d.entries + i] = 0;
  // small ones, and ones of any size
  const uint32_t place = d.entries * (c.own_steps ? 2 : 1);
  for (uint32_t i = 0; i < d.entries && c.corrected; ++i) {
    const int32_t small = static_cast<int32_t>(random() % 65536u) - 32768;
    const bool real = i < c.features;
    d.model[place + i] = !real ? 0 : random() % 4 == 0 ? static_cast<int32_t>(random()) : small;
    if (real) d.truth.corrections.push_back(d.model[place + i]);
  }
  for (uint32_t epoch = 0; epoch < c.epochs; ++epoch) {
    const double step = c.step / (1 + epoch);
    uint32_t *row = &d.schedule[zipml::kScheduleColumns * epoch];
    row[0] = static_cast<uint32_t>(step / c.batch * 1073741824.0);
    row[1] = static_cast<uint32_t>(0.6 * step / c.batch * 1073741824.0);
    row[2] = static_cast<uint32_t>(step * c.l2 * 268435456.0);
    row[3] = c.gradient_shift;
    row[4] = static_cast<uint32_t>(step * c.l1 * 16777216.0);
  }
}

}  // namespace
