// Test bench of the top functions, for g++ here and for the vendor's csim and cosim.
//
// A sweep of shapes is trained on random planes by the top function and by a reference written from
// the formulas of docs/arithmetic.md; the model, its history and every counter must agree. Every
// buffer lies between guard words, so that a read or write beyond it shows (reads through the
// sanitizers). Invalid registers must end the run without touching memory: the pointers are null
// then.
//
// -DZIPML_WORD_BITS=64|128|512 chooses the build, -DZIPML_BENCH_FLOAT the 32-bit baseline,
// -DZIPML_BENCH_LEVELS the kernel that decodes by tables of levels, -DZIPML_BENCH_REFETCH the one that
// reads samples in doubt again,
// -DZIPML_BENCH_ENGINE the engine behind the same interface (no stages to call), and
// -DZIPML_BENCH_QUICK the short sweep that RTL co-simulation can afford: it copies whole ports of
// the depth that the interface pragmas name, so buffers are as large then and pointers never null.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "../src/stages.hpp"
#include "../src/word_bits.hpp"
#include "zipml/random.hpp"

#if defined(ZIPML_BENCH_FLOAT)
typedef zipml::FloatFormat<ZIPML_WORD_BITS> format_t;
#elif defined(ZIPML_BENCH_LEVELS)
typedef zipml::LevelFormat<ZIPML_WORD_BITS> format_t;
#elif defined(ZIPML_BENCH_REFETCH)
typedef zipml::BitPlaneFormat<ZIPML_WORD_BITS, true> format_t;
#else
typedef zipml::BitPlaneFormat<ZIPML_WORD_BITS> format_t;
#endif

#include "tops.hpp"

namespace {

const bool kFloat = format_t::kFormat == zipml::kFloat32;
const bool kLevels = format_t::kFormat == zipml::kLevels;
const char *const kTopName = kFloat ? "zipml_sgd_f32" : kLevels ? "zipml_sgd_levels" : "zipml_sgd";
const uint32_t kLanes = format_t::kWordLanes;
// fraction bits, as docs/arithmetic.md has them
const int kValueBits = kLevels ? 14 : 7;
const int kGradientBits = 28 + kValueBits + 1;
const int kGuard = 64;
// depth= of the interface pragmas
const size_t kDepthPlanes = 4096;
const size_t kDepthLabels = 1024;
const size_t kDepthModel = 2048;
const size_t kDepthHistory = 4096;
const size_t kDepthSchedule = 64;
const size_t kDepthLevels = 16384;
#ifdef ZIPML_BENCH_QUICK
const bool kWholePorts = true;
#else
const bool kWholePorts = false;
#endif

int failures = 0;

#define EXPECT(condition, ...)  \
  do {                          \
    if (!(condition)) {         \
      ++failures;               \
      std::printf("FAIL: ");    \
      std::printf(__VA_ARGS__); \
      std::printf("\n");        \
    }                           \
  } while (0)

/// A buffer between two runs of guard words.
template <typename T>
class Guarded {
 public:
  Guarded(size_t size, size_t depth)
      : size_(kWholePorts ? std::max(size, depth) : size), data_(size_ + 2 * kGuard, Pattern()) {}
  T *get() { return data_.data() + kGuard; }
  T &operator[](size_t i) { return data_[kGuard + i]; }
  size_t size() const { return size_; }
  bool intact() const {
    for (int i = 0; i < kGuard; ++i) {
      if (!(data_[i] == Pattern()) || !(data_[kGuard + size_ + i] == Pattern())) return false;
    }
    return true;
  }

 private:
  static T Pattern() { return T(0x5aa5c33c); }
  size_t size_;
  std::vector<T> data_;
};

struct Case {
  uint32_t samples, features, batch, block_batches, bits, sampling, epochs, delay;
  uint32_t extra_planes;  // stored between base and dithers, so that a block takes two bursts
  double step, l2;
  uint32_t label_range;  // labels lie within +-label_range / 2^24
  bool own_tables;       // a table of levels for each feature instead of one for all
};

struct Outcome {
  uint32_t status, version, saturations;
  uint64_t capability, words, cycles;
};

int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return a % b != 0 && (a < 0) ? q - 1 : q;
}

int64_t Round(int64_t a, int shift) {
  const int64_t unit = static_cast<int64_t>(1) << shift;
  return FloorDivide(a + unit / 2, unit);
}

int64_t Clamp(int64_t a, uint32_t &count) {
  const int64_t limit = 2147483647;
  if (a > limit || a < -limit) ++count;
  return a > limit ? limit : a < -limit ? -limit : a;
}

/// The formulas, one sample and one feature at a time.
class Reference {
 public:
  Reference(const Case &c, const std::vector<int64_t> &first, const std::vector<int64_t> &second,
            const std::vector<int32_t> &labels)
      : saturations(0),
        model(c.features, 0),
        c_(c),
        first_(first),
        second_(second),
        labels_(labels) {}

  void Epoch(uint32_t step, uint32_t decay) {
    std::deque<std::vector<int64_t> > waiting;
    const uint32_t batches = (c_.samples + c_.batch - 1) / c_.batch;
    for (uint32_t k = 0; k < batches; ++k) {
      waiting.push_back(Gradient(k, step));
      if (waiting.size() > c_.delay) {
        Update(waiting.front(), decay);
        waiting.pop_front();
      }
    }
    for (; !waiting.empty(); waiting.pop_front()) Update(waiting.front(), decay);
  }

  uint32_t saturations;
  std::vector<int64_t> model;

 private:
  int64_t Dot(const std::vector<int64_t> &q, uint32_t s) const {
    int64_t sum = 0;
    for (uint32_t j = 0; j < c_.features; ++j) {
      const int64_t product = q[s * c_.features + j] * model[j];
      sum += kFloat ? Round(product, 16) : product;
    }
    return sum;
  }

  int64_t Coefficient(int64_t dot, int32_t label, uint32_t step) {
    const int64_t one = static_cast<int64_t>(1) << kValueBits;
    const int64_t residual = Clamp(Round(dot - label * one, kValueBits), saturations);
    return Clamp(Round(residual * step, 26), saturations);
  }

  std::vector<int64_t> Gradient(uint32_t batch, uint32_t step) {
    std::vector<int64_t> g(c_.features, 0);
    for (uint32_t s = batch * c_.batch; s < (batch + 1) * c_.batch && s < c_.samples; ++s) {
      int64_t c1, c2;
      if (c_.sampling == zipml::kDoubleSymmetric) {
        c1 = Coefficient(Dot(first_, s), labels_[s], step);
        c2 = Coefficient(Dot(second_, s), labels_[s], step);
      } else {
        const std::vector<int64_t> &q = c_.sampling == zipml::kSingle ? first_ : second_;
        c1 = c2 = Coefficient(Dot(q, s), labels_[s], step);
      }
      for (uint32_t j = 0; j < c_.features; ++j) {
        const int64_t q1 = first_[s * c_.features + j];
        const int64_t q2 = second_[s * c_.features + j];
        if (kFloat) {
          g[j] += Round(q1 * 2 * c1, 16);
        } else if (c_.sampling == zipml::kDoubleSymmetric) {
          g[j] += q1 * c2 + q2 * c1;
        } else {
          g[j] += 2 * q1 * c1;
        }
      }
    }
    return g;
  }

  void Update(const std::vector<int64_t> &g, uint32_t decay) {
    for (uint32_t j = 0; j < c_.features; ++j) {
      const int64_t shrink = Round(model[j] * decay, 24 + 28 - kGradientBits);
      model[j] = Clamp(model[j] - Round(g[j] + shrink, kGradientBits - 24), saturations);
    }
  }

  const Case c_;
  const std::vector<int64_t> &first_, &second_;
  const std::vector<int32_t> &labels_;
};

float FloatValue(std::mt19937 &random) {
  return static_cast<float>(static_cast<int32_t>(random())) / 2147483648.0f;
}

/// The buffers of one case, and what its planes stand for.
struct Data {
  Data(const Case &c, uint32_t chunks, uint32_t stored, uint32_t pending_entries)
      : block_samples(c.batch * c.block_batches),
        blocks((c.samples + block_samples - 1) / block_samples),
        plane_words(block_samples * chunks),
        block_stride(stored * plane_words),
        entries(chunks * kLanes),
        planes(static_cast<size_t>(blocks) * block_stride, kDepthPlanes),
        labels(static_cast<size_t>(blocks) * block_samples, kDepthLabels),
        model(entries + pending_entries, kDepthModel),
        history(static_cast<size_t>(c.epochs) * entries, kDepthHistory),
        schedule(2 * c.epochs, kDepthSchedule),
        tables(!kLevels       ? 0
               : c.own_tables ? c.features
                              : 1),
        level_count(kLevels ? (1u << (c.bits - 1)) + 1 : 0),
        levels(static_cast<size_t>(tables) * level_count, kDepthLevels),
        first(static_cast<size_t>(c.samples) * c.features, 0),
        second(first),
        truth(c.samples) {}

  bool intact() const {
    return planes.intact() && labels.intact() && model.intact() && history.intact() &&
           schedule.intact() && levels.intact();
  }

  uint64_t levels_used() const { return static_cast<uint64_t>(tables) * level_count; }

  uint32_t block_samples, blocks, plane_words, block_stride, entries;
  Guarded<format_t::word_t> planes;
  Guarded<int32_t> labels, model, history;
  Guarded<uint32_t> schedule;
  uint32_t tables, level_count;
  Guarded<int32_t> levels;
  std::vector<int64_t> first, second;  // Q1 and Q2, samples x features
  std::vector<int32_t> truth;          // labels of real samples
};

uint32_t Chunks(const Case &c) { return (c.features + kLanes - 1) / kLanes; }
uint32_t Base(const Case &c) { return kFloat ? 0 : c.bits - 1; }
uint32_t Dithers(const Case &c) { return c.sampling == zipml::kSingle ? 1 : 2; }
uint32_t Stored(const Case &c) { return Base(c) + c.extra_planes + Dithers(c); }

/// Random planes, padding lanes and padded samples included, for neither may count; random labels,
/// start model and schedule.
void Fill(const Case &c, Data &d) {
  std::mt19937 random(c.samples * 31 + c.features * 7 + c.bits);
  const uint32_t chunks = Chunks(c), base = Base(c);
  for (uint32_t block = 0; block < d.blocks; ++block) {
    for (uint32_t plane = 0; plane < Stored(c); ++plane) {
      for (uint32_t s = 0; s < d.block_samples; ++s) {
        const uint32_t sample = block * d.block_samples + s;
        for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
          format_t::word_t word = 0;
          for (uint32_t lane = 0; lane < kLanes; ++lane) {
            const uint32_t feature = chunk * kLanes + lane;
            const bool real = sample < c.samples && feature < c.features;
            const size_t i = static_cast<size_t>(sample) * c.features + feature;
            if (kFloat) {
              const float value = FloatValue(random);
              uint32_t bits;
              std::memcpy(&bits, &value, 4);
              word.range(32 * lane + 31, 32 * lane) = bits;
              if (real) d.first[i] = std::lround(static_cast<double>(value) * 8388608.0);
            } else {
              const bool bit = (random() >> 7 & 1) != 0;
              word[lane] = bit;
              // the uniform grid's own value, or the code that a table decodes
              const int64_t sign = bit ? 1 : kLevels ? 0 : -1;
              const int dither_unit = kLevels ? 1 : 1 << (8 - c.bits);
              if (!real) continue;
              if (plane < base) {
                const int base_unit = 1 << (kLevels ? base - 1 - plane : 6 - plane);
                d.first[i] += sign * base_unit;
                d.second[i] += sign * base_unit;
              } else if (plane == base + c.extra_planes) {
                d.first[i] += sign * dither_unit;
              } else if (plane == base + c.extra_planes + 1) {
                d.second[i] += sign * dither_unit;
              }
            }
          }
          d.planes[static_cast<size_t>(block) * d.block_stride + plane * d.plane_words +
                   s * chunks + chunk] = word;
        }
        if (plane == 0) {
          const int64_t range = c.label_range;
          const int32_t label = static_cast<int32_t>(random() % (2 * range + 1) - range);
          d.labels[sample] = label;
          if (sample < c.samples) d.truth[sample] = label;
        }
      }
    }
  }
  for (size_t i = 0; i < d.levels.size() && kLevels; ++i) {
    d.levels[i] = static_cast<int32_t>(random() % 32769) - 16384;
  }
  for (size_t i = 0; i < d.first.size() && kLevels; ++i) {
    const size_t table = d.tables == 1 ? 0 : i % c.features * d.level_count;
    d.first[i] = d.levels[table + d.first[i]];
    d.second[i] = d.levels[table + d.second[i]];
  }
  for (uint32_t i = 0; i < d.entries; ++i) {
    d.model[i] = i < c.features ? static_cast<int32_t>(random() % 16777216u) - 8388608 : 0;
  }
  for (uint32_t epoch = 0; epoch < c.epochs; ++epoch) {
    const double step = c.step / (1 + epoch);
    d.schedule[2 * epoch] = static_cast<uint32_t>(step / c.batch * 1073741824.0);
    d.schedule[2 * epoch + 1] = static_cast<uint32_t>(step * c.l2 * 268435456.0);
  }
}

/// The top function that this bench is built for.
void Top(ZIPML_PORTS, const int32_t *levels, ZIPML_SCALARS, uint32_t level_tables, Outcome &o) {
#if defined(ZIPML_BENCH_LEVELS)
  zipml_sgd_levels(planes, labels, model, history, schedule, levels, samples, features, batch,
                   block_samples, block_stride, dither_offset, bits, sampling, epochs, delay, skip,
                   pending, flags, level_tables, &o.status, &o.version, &o.capability, &o.words,
                   &o.cycles, &o.saturations);
#else
  static_cast<void>(levels);
  static_cast<void>(level_tables);
#if defined(ZIPML_BENCH_FLOAT)
  zipml_sgd_f32
#else
  zipml_sgd
#endif
      (planes, labels, model, history, schedule, samples, features, batch, block_samples,
       block_stride, dither_offset, bits, sampling, epochs, delay, skip, pending, flags, &o.status,
       &o.version, &o.capability, &o.words, &o.cycles, &o.saturations);
#endif
}

/// One start on blocks `block` and up, `samples` samples in them.
Outcome Start(const Case &c, Data &d, uint32_t block, uint32_t samples, uint32_t epochs,
              uint32_t skip, uint32_t pending, uint32_t flags) {
  Outcome o;
  Top(d.planes.get() + static_cast<size_t>(block) * d.block_stride,
      d.labels.get() + static_cast<size_t>(block) * d.block_samples, d.model.get(), d.history.get(),
      d.schedule.get(), d.levels.get(), samples, c.features, c.batch, d.block_samples,
      d.block_stride, (Base(c) + c.extra_planes) * d.plane_words, c.bits, c.sampling, epochs,
      c.delay, skip, pending, flags, d.tables, o);
  return o;
}

/// Cycles of a whole run: docs/schedule.md.
uint64_t ExpectedCycles(const Case &c, const Data &d) {
  const zipml::Overlap o = zipml::OverlapOf(c.delay);
  const uint64_t planes = Base(c) + Dithers(c);
  const uint32_t passes = kLevels ? 1 : static_cast<uint32_t>(planes);
  const uint32_t cell = kLevels ? kLanes / 4 : kLanes;
  const uint64_t slot = zipml::SlotCycles(passes, c.batch, (c.features + cell - 1) / cell, o);
  const bool two_bursts = c.extra_planes != 0 && Base(c) != 0;
  const uint64_t read = planes * d.plane_words + (two_bursts ? 128 : 64);
  const uint64_t batches = (c.samples + c.batch - 1) / c.batch;
  uint64_t epoch = 0, train = 0;
  for (uint64_t block = 0; block < d.blocks; ++block) {
    const uint64_t own = std::min<uint64_t>(c.block_batches, batches - block * c.block_batches);
    train = own * o.slots_per_batch * slot + 48;
    if (block + 1 == d.blocks) train += (c.delay == 0 ? 0 : o.lag * slot) + d.entries + 64;
    epoch += std::max(train, read);
  }
  const uint64_t tables = kLevels ? d.levels_used() + 64 : 0;
  return read + c.epochs * epoch - std::max(train, read) + train + 2 * (d.entries + 64) + tables;
}

const char *Name(const Case &c) {
  static char name[160];
  std::snprintf(name, sizeof name, "samples %u features %u batch %u bits %u sampling %u delay %u",
                c.samples, c.features, c.batch, c.bits, c.sampling, c.delay);
  return name;
}

/// A run in one piece against the formulas.
void RunCase(const Case &c) {
  Data d(c, Chunks(c), Stored(c), 0);
  Fill(c, d);
  Reference reference(c, d.first, d.second, d.truth);
  for (uint32_t i = 0; i < c.features; ++i) reference.model[i] = d.model[i];
  const Outcome o = Start(c, d, 0, c.samples, c.epochs, 0, 0, 0);
  const char *name = Name(c);
  EXPECT(o.status == zipml::kStatusOk, "%s: status %u", name, o.status);
  EXPECT(o.version == zipml::kInterfaceVersion, "%s: version %x", name, o.version);
  EXPECT(d.intact(), "%s: guard words", name);
  for (uint32_t epoch = 0; epoch < c.epochs; ++epoch) {
    reference.Epoch(d.schedule[2 * epoch], d.schedule[2 * epoch + 1]);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < d.entries; ++i) {
      const int64_t expected = i < c.features ? reference.model[i] : 0;
      wrong += d.history[static_cast<size_t>(epoch) * d.entries + i] != expected;
    }
    EXPECT(wrong == 0, "%s: epoch %u: %u entries of the history differ", name, epoch, wrong);
  }
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < c.features; ++i) wrong += d.model[i] != reference.model[i];
  EXPECT(wrong == 0, "%s: %u entries of the model differ", name, wrong);
  EXPECT(o.saturations == reference.saturations, "%s: %u saturations, expected %u", name,
         o.saturations, reference.saturations);
  const uint64_t planes = Base(c) + Dithers(c);
  EXPECT(o.words == static_cast<uint64_t>(c.epochs) * d.blocks * planes * d.plane_words,
         "%s: words %llu", name, static_cast<unsigned long long>(o.words));
  EXPECT(o.cycles == ExpectedCycles(c, d), "%s: cycles %llu, expected %llu", name,
         static_cast<unsigned long long>(o.cycles),
         static_cast<unsigned long long>(ExpectedCycles(c, d)));
}

/// A run of one epoch cut into segments of one new block each, with pending updates handed over,
/// against the run in one piece.
void RunSegments(const Case &c) {
  Data whole(c, Chunks(c), Stored(c), 0);
  Fill(c, whole);
  Start(c, whole, 0, c.samples, 1, 0, 0, 0);
  Data d(c, Chunks(c), Stored(c), 2 * c.delay * c.batch);
  Fill(c, d);
  const char *name = Name(c);
  uint32_t pending = 0;
  for (uint32_t done = 0; done < d.blocks; ++done) {
    // the first batch whose update is still to come, and the block that holds it
    const uint32_t oldest = done * c.block_batches - pending;
    const uint32_t block = oldest / c.block_batches;
    const uint32_t skip = oldest % c.block_batches;
    const bool hold = done + 1 < d.blocks;
    const uint32_t begin = block * d.block_samples;
    const uint32_t samples = std::min(c.samples, (done + 1) * d.block_samples) - begin;
    const Outcome o = Start(c, d, block, samples, 1, skip, pending, hold ? +zipml::kFlagHold : 0u);
    EXPECT(o.status == zipml::kStatusOk, "%s: segment %u: status %u", name, done, o.status);
    pending = std::min(c.delay, (done + 1) * c.block_batches - oldest);
  }
  EXPECT(d.intact(), "%s: guard words of segments", name);
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < d.entries; ++i) {
    wrong += d.model[i] != whole.model[i] || d.history[i] != whole.history[i];
  }
  EXPECT(wrong == 0, "%s: %u entries differ between segments and one piece", name, wrong);
}

#ifndef ZIPML_BENCH_ENGINE
/// The reading stages alone: the streamed planes of every block, the first again after the last.
void RunStages(const Case &c) {
  Data d(c, Chunks(c), Stored(c), 0);
  Fill(c, d);
  const zipml::Registers r = {c.samples,
                              c.features,
                              c.batch,
                              d.block_samples,
                              d.block_stride,
                              (Base(c) + c.extra_planes) * d.plane_words,
                              c.bits,
                              c.sampling,
                              1,
                              c.delay,
                              0,
                              0,
                              0,
                              d.tables};
  const zipml::Geometry g = zipml::GeometryOf<format_t>(r);
  const size_t depth = 1 << zipml::BlockWordsLog2(format_t::kFormat);
  std::vector<format_t::word_t> words(format_t::kBufferPlanes * depth);
  typedef format_t::word_t plane_t[1 << zipml::BlockWordsLog2(format_t::kFormat)];
  std::vector<int32_t> block_labels(zipml::kBlockSamples);
  uint32_t next_words[1] = {0}, next_labels[1] = {0};
  uint32_t wrong = 0;
  for (uint32_t round = 0; round < d.blocks + 1; ++round) {
    const uint32_t block = round % d.blocks;
    zipml::ReadWords<format_t>(d.planes.get(), r, g, next_words,
                               reinterpret_cast<plane_t *>(words.data()));
    zipml::ReadLabels(d.labels.get(), r, g, next_labels, block_labels.data());
    for (uint32_t i = 0; i < g.planes * d.plane_words; ++i) {
      const bool dither = i >= Base(c) * d.plane_words;
      const uint32_t stored = i + (dither ? c.extra_planes * d.plane_words : 0);
      // side by side: base planes by their weight, dithers behind the widest base
      const uint32_t plane = i / d.plane_words;
      const uint32_t side = plane < Base(c) ? Base(c) - 1 - plane : 7 + plane - Base(c);
      const size_t place = kLevels ? side * depth + i % d.plane_words : i;
      wrong += words[place] != d.planes[static_cast<size_t>(block) * d.block_stride + stored];
    }
    for (uint32_t i = 0; i < d.block_samples; ++i) {
      wrong += block_labels[i] != d.labels[block * d.block_samples + i];
    }
  }
  EXPECT(wrong == 0, "%s: %u words or labels differ after reading", Name(c), wrong);
}
#endif

/// A register outside its range must be answered by its code, with no memory behind the pointers.
void RunInvalid(const char *name, uint32_t expected, uint32_t samples, uint32_t features,
                uint32_t batch, uint32_t block_samples, uint32_t bits, uint32_t sampling,
                uint32_t epochs, uint32_t delay, uint32_t skip, uint32_t pending, uint32_t flags,
                uint32_t level_tables = 1) {
  std::vector<format_t::word_t> planes(kWholePorts ? kDepthPlanes : 0);
  std::vector<int32_t> labels(kWholePorts ? kDepthLabels : 0);
  std::vector<int32_t> model(kWholePorts ? kDepthModel : 0, 7);
  std::vector<int32_t> history(kWholePorts ? kDepthHistory : 0, 7);
  std::vector<uint32_t> schedule(kWholePorts ? kDepthSchedule : 0);
  std::vector<int32_t> levels(kWholePorts ? kDepthLevels : 0);
  Outcome o;
  Top(planes.data(), labels.data(), model.data(), history.data(), schedule.data(), levels.data(),
      samples, features, batch, block_samples, 0, 0, bits, sampling, epochs, delay, skip, pending,
      flags, level_tables, o);
  EXPECT(std::count(model.begin(), model.end(), 7) == static_cast<int>(model.size()) &&
             std::count(history.begin(), history.end(), 7) == static_cast<int>(history.size()),
         "%s: memory was written", name);
  EXPECT(o.status == expected, "%s: status %u, expected %u", name, o.status, expected);
  EXPECT(o.version == zipml::kInterfaceVersion, "%s: version", name);
  EXPECT(o.capability == zipml::Capability(ZIPML_WORD_BITS_LOG2, format_t::kFormat),
         "%s: capability", name);
  EXPECT(o.words == 0 && o.cycles == 0 && o.saturations == 0, "%s: counters", name);
}

void RunAllInvalid() {
  using namespace zipml;
  const uint32_t b = kFloat ? 32 : 4;
  const uint32_t limit = kLanes << MaxChunksLog2(format_t::kFormat);
  RunInvalid("all zero", kStatusSamples, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  RunInvalid("no samples", kStatusSamples, 0, 8, 4, 8, b, 0, 1, 1, 0, 0, 0);
  RunInvalid("too many samples", kStatusSamples, kMaxSamples + 1, 8, 4, 8, b, 0, 1, 1, 0, 0, 0);
  RunInvalid("no features", kStatusFeatures, 8, 0, 4, 8, b, 0, 1, 1, 0, 0, 0);
  RunInvalid("too many features", kStatusFeatures, 8, limit + 1, 4, 8, b, 0, 1, 1, 0, 0, 0);
  RunInvalid("features wrap", kStatusFeatures, 8, 0xffffffffu, 4, 8, b, 0, 1, 1, 0, 0, 0);
  RunInvalid("bits 0", kStatusBits, 8, 8, 4, 8, 0, 0, 1, 1, 0, 0, 0);
  RunInvalid("bits 9", kStatusBits, 8, 8, 4, 8, 9, 0, 1, 1, 0, 0, 0);
  RunInvalid("sampling", kStatusSampling, 8, 8, 4, 8, b, 3, 1, 1, 0, 0, 0);
  RunInvalid("batch 0", kStatusBatch, 8, 8, 0, 8, b, 0, 1, 1, 0, 0, 0);
  RunInvalid("batch limit", kStatusBatch, 8, 8, kMaxBatch + 1, 8, b, 0, 1, 1, 0, 0, 0);
  RunInvalid("epochs 0", kStatusEpochs, 8, 8, 4, 8, b, 0, 0, 1, 0, 0, 0);
  RunInvalid("epochs limit", kStatusEpochs, 8, 8, 4, 8, b, 0, kMaxEpochs + 1, 1, 0, 0, 0);
  RunInvalid("delay", kStatusDelay, 8, 8, 4, 8, b, 0, 1, kMaxDelay + 1, 0, 0, 0);
  RunInvalid("block 0", kStatusBlock, 8, 8, 4, 0, b, 0, 1, 1, 0, 0, 0);
  RunInvalid("block no multiple", kStatusBlock, 8, 8, 4, 6, b, 0, 1, 1, 0, 0, 0);
  RunInvalid("block samples", kStatusBlock, 8, 8, 4, kBlockSamples + 4, b, 0, 1, 1, 0, 0, 0);
  RunInvalid("block words", kStatusBlock, 8, limit, 4, kBlockSamples, b, 0, 1, 1, 0, 0, 0);
  const uint32_t planes = kFloat || kLevels ? 1 : 4;
  const uint32_t room = 1u << BlockWordsLog2(format_t::kFormat);
  const uint32_t samples = room / planes / (limit / kLanes);
  if (samples > 0) {
    RunInvalid("ring", kStatusRing, samples, limit, samples, samples, b, 0, 1, kMaxDelay, 0, 0, 0);
  }
  if (kLevels) {
    RunInvalid("tables", kStatusLevels, 8, 8, 4, 8, b, 0, 1, 1, 0, 0, 0, 2);
    RunInvalid("tables too large", kStatusLevels, 8, limit, 4, 4, 8, 0, 1, 1, 0, 0, 0, limit);
  }
  RunInvalid("unknown flag", kStatusPartial, 8, 8, 4, 8, b, 0, 1, 1, 0, 0, 2);
  RunInvalid("hold over epochs", kStatusPartial, 8, 8, 4, 8, b, 0, 2, 1, 0, 0, kFlagHold);
  RunInvalid("pending over delay", kStatusPartial, 80, 8, 4, 8, b, 0, 1, 1, 0, 2, 0);
  RunInvalid("skip over block", kStatusPartial, 80, 8, 4, 8, b, 0, 1, 1, 2, 0, 0);
  RunInvalid("nothing left", kStatusPartial, 8, 8, 4, 8, b, 0, 1, 1, 1, 1, 0);
}

}  // namespace

int main() {
  RunAllInvalid();
  int cases = 0;
#ifdef ZIPML_BENCH_QUICK
  const uint32_t features[] = {kLanes + 1};
  const uint32_t batches[] = {4};
  const uint32_t delays[] = {0, 2};
#else
  const uint32_t features[] = {1, kLanes - 1, kLanes, kLanes + 1, 90};
  const uint32_t batches[] = {1, 3, 16};
  const uint32_t delays[] = {0, 1, 2, 3, 5};
#endif
  for (uint32_t bits = kFloat ? 32 : 1; bits <= (kFloat ? 32u : 8u); ++bits) {
    for (uint32_t sampling = 0; sampling <= (kFloat ? 0u : 2u); ++sampling) {
      for (uint32_t n : features) {
        for (uint32_t batch : batches) {
          // the full product is for the Python sweep; here every pair of neighbours meets
          const uint32_t delay = delays[cases % (sizeof delays / sizeof delays[0])];
          if (n == 0) continue;
          const Case c = {batch * 7 + batch / 2,
                          n,
                          batch,
                          2,
                          bits,
                          sampling,
                          2,
                          delay,
                          static_cast<uint32_t>(kFloat ? 0 : cases % 3),
                          0.05,
                          0.01,
                          16777216,
                          kLevels && cases % 2 == 0};
          RunCase(c);
          if (cases % 3 == 0) RunSegments(c);
#ifndef ZIPML_BENCH_ENGINE
          if (cases % 3 == 1) RunStages(c);
#endif
          ++cases;
        }
      }
    }
  }
  // large labels and steps: the model must saturate, be counted, and agree all the same
  const Case saturating = {
      48,  kLanes + 1, 8,           3,    kFloat ? 32u : 3u, kFloat ? 0u : 2u, 4, 1, 0,
      8.0, 0.0,        2147483000u, false};
  RunCase(saturating);
  std::printf("%s, %d-bit words: %d cases, %d failures\n", kTopName, ZIPML_WORD_BITS, cases + 1,
              failures);
  return failures == 0 ? 0 : 1;
}
