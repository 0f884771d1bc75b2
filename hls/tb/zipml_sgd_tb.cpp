// Test bench of both top functions, for g++ here and for the vendor's csim and cosim.
//
// A sweep of shapes is trained on random planes by the top function and by a reference written from
// the formulas of docs/arithmetic.md; the model, its history and every counter must agree. Every
// buffer lies between guard words, so that a read or write beyond it shows (reads through the
// sanitizers). Invalid registers must end the run without touching memory: the pointers are null
// then.
//
// -DZIPML_WORD_BITS=64|128|512 chooses the build, -DZIPML_BENCH_FLOAT the 32-bit baseline and
// -DZIPML_BENCH_QUICK the short sweep that RTL co-simulation can afford.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "../src/formats.hpp"
#include "../src/word_bits.hpp"
#include "zipml/schedule.hpp"

#ifdef ZIPML_BENCH_FLOAT
#define ZIPML_TOP zipml_sgd_f32
typedef zipml::FloatFormat<ZIPML_WORD_BITS> format_t;
#else
#define ZIPML_TOP zipml_sgd
typedef zipml::BitPlaneFormat<ZIPML_WORD_BITS> format_t;
#endif

extern "C" void ZIPML_TOP(const format_t::word_t *planes, const int32_t *labels, int32_t *model,
                          int32_t *history, const uint32_t *schedule, uint32_t samples,
                          uint32_t features, uint32_t batch, uint32_t block_samples,
                          uint32_t block_stride, uint32_t dither_offset, uint32_t bits,
                          uint32_t sampling, uint32_t epochs, uint32_t delay, uint32_t skip,
                          uint32_t pending, uint32_t flags, uint32_t *status, uint32_t *version,
                          uint64_t *capability, uint64_t *words, uint64_t *cycles,
                          uint32_t *saturations);

namespace {

const bool kFloat = format_t::kFormat == zipml::kFloat32;
const uint32_t kLanes = format_t::kLanes;
const int kGuard = 64;

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
  explicit Guarded(size_t size) : size_(size), data_(size + 2 * kGuard, Pattern()) {}
  T *get() { return data_.data() + kGuard; }
  T &operator[](size_t i) { return data_[kGuard + i]; }
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
    const int64_t residual = Clamp(Round(dot - label * static_cast<int64_t>(128), 7), saturations);
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
      const int64_t shrink = Round(model[j] * decay, 16);
      model[j] = Clamp(model[j] - Round(g[j] + shrink, 12), saturations);
    }
  }

  const Case c_;
  const std::vector<int64_t> &first_, &second_;
  const std::vector<int32_t> &labels_;
};

float FloatValue(std::mt19937 &random) {
  return static_cast<float>(static_cast<int32_t>(random())) / 2147483648.0f;
}

void RunCase(const Case &c) {
  std::mt19937 random(c.samples * 31 + c.features * 7 + c.bits);
  const uint32_t chunks = (c.features + kLanes - 1) / kLanes;
  const uint32_t block_samples = c.batch * c.block_batches;
  const uint32_t blocks = (c.samples + block_samples - 1) / block_samples;
  const uint32_t base = kFloat ? 0 : c.bits - 1;
  const uint32_t dithers = c.sampling == zipml::kSingle ? 1 : 2;
  const uint32_t plane_words = block_samples * chunks;
  const uint32_t stored = base + c.extra_planes + dithers;
  const uint32_t block_stride = stored * plane_words;
  const uint32_t dither_offset = (base + c.extra_planes) * plane_words;
  const uint32_t entries = chunks * kLanes;

  Guarded<format_t::word_t> planes(static_cast<size_t>(blocks) * block_stride);
  Guarded<int32_t> labels(static_cast<size_t>(blocks) * block_samples);
  Guarded<int32_t> model(entries);
  Guarded<int32_t> history(static_cast<size_t>(c.epochs) * entries);
  Guarded<uint32_t> schedule(2 * c.epochs);

  // random planes, padding lanes and padded samples included: neither may count
  const size_t values = static_cast<size_t>(c.samples) * c.features;
  std::vector<int64_t> first(values, 0), second(values, 0);
  std::vector<int32_t> truth(c.samples);
  for (uint32_t block = 0; block < blocks; ++block) {
    for (uint32_t plane = 0; plane < stored; ++plane) {
      for (uint32_t s = 0; s < block_samples; ++s) {
        const uint32_t sample = block * block_samples + s;
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
              if (real) first[i] = std::lround(static_cast<double>(value) * 8388608.0);
            } else {
              const bool bit = (random() >> 7 & 1) != 0;
              word[lane] = bit;
              const int64_t sign = bit ? 1 : -1;
              if (!real) continue;
              if (plane < base) {
                first[i] += sign * (1 << (6 - plane));
                second[i] += sign * (1 << (6 - plane));
              } else if (plane == base + c.extra_planes) {
                first[i] += sign * (1 << (8 - c.bits));
              } else if (plane == base + c.extra_planes + 1) {
                second[i] += sign * (1 << (8 - c.bits));
              }
            }
          }
          planes[static_cast<size_t>(block) * block_stride + plane * plane_words + s * chunks +
                 chunk] = word;
        }
        if (plane == 0) {
          const int64_t range = c.label_range;
          const int32_t label = static_cast<int32_t>(random() % (2 * range + 1) - range);
          labels[sample] = label;
          if (sample < c.samples) truth[sample] = label;
        }
      }
    }
  }
  Reference reference(c, first, second, truth);
  for (uint32_t i = 0; i < entries; ++i) {
    model[i] = i < c.features ? static_cast<int32_t>(random() % 16777216u) - 8388608 : 0;
    if (i < c.features) reference.model[i] = model[i];
  }
  for (uint32_t epoch = 0; epoch < c.epochs; ++epoch) {
    const double step = c.step / (1 + epoch);
    schedule[2 * epoch] = static_cast<uint32_t>(step / c.batch * 1073741824.0);
    schedule[2 * epoch + 1] = static_cast<uint32_t>(step * c.l2 * 268435456.0);
  }

  Outcome o;
  ZIPML_TOP(planes.get(), labels.get(), model.get(), history.get(), schedule.get(), c.samples,
            c.features, c.batch, block_samples, block_stride, dither_offset, c.bits, c.sampling,
            c.epochs, c.delay, 0, 0, 0, &o.status, &o.version, &o.capability, &o.words, &o.cycles,
            &o.saturations);

  char name[160];
  std::snprintf(name, sizeof name, "samples %u features %u batch %u bits %u sampling %u delay %u",
                c.samples, c.features, c.batch, c.bits, c.sampling, c.delay);
  EXPECT(o.status == zipml::kStatusOk, "%s: status %u", name, o.status);
  EXPECT(o.version == zipml::kInterfaceVersion, "%s: version %x", name, o.version);
  EXPECT(
      planes.intact() && labels.intact() && model.intact() && history.intact() && schedule.intact(),
      "%s: guard words", name);
  for (uint32_t epoch = 0; epoch < c.epochs; ++epoch) {
    reference.Epoch(schedule[2 * epoch], schedule[2 * epoch + 1]);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < entries; ++i) {
      const int64_t expected = i < c.features ? reference.model[i] : 0;
      wrong += history[static_cast<size_t>(epoch) * entries + i] != expected;
    }
    EXPECT(wrong == 0, "%s: epoch %u: %u entries of the history differ", name, epoch, wrong);
  }
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < c.features; ++i) wrong += model[i] != reference.model[i];
  EXPECT(wrong == 0, "%s: %u entries of the model differ", name, wrong);
  EXPECT(o.saturations == reference.saturations, "%s: %u saturations, expected %u", name,
         o.saturations, reference.saturations);

  // the schedule: docs/schedule.md
  const uint32_t streamed = base + dithers;
  EXPECT(o.words == static_cast<uint64_t>(c.epochs) * blocks * streamed * plane_words,
         "%s: words %llu", name, static_cast<unsigned long long>(o.words));
  EXPECT(o.cycles > o.words, "%s: cycles %llu", name, static_cast<unsigned long long>(o.cycles));
}

/// A register outside its range must be answered by its code, with no memory behind the pointers.
void RunInvalid(const char *name, uint32_t expected, uint32_t samples, uint32_t features,
                uint32_t batch, uint32_t block_samples, uint32_t bits, uint32_t sampling,
                uint32_t epochs, uint32_t delay, uint32_t skip, uint32_t pending, uint32_t flags) {
  Outcome o;
  ZIPML_TOP(nullptr, nullptr, nullptr, nullptr, nullptr, samples, features, batch, block_samples, 0,
            0, bits, sampling, epochs, delay, skip, pending, flags, &o.status, &o.version,
            &o.capability, &o.words, &o.cycles, &o.saturations);
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
  const uint32_t planes = kFloat ? 1 : 4;
  const uint32_t room = 1u << BlockWordsLog2(format_t::kFormat);
  const uint32_t samples = room / planes / (limit / kLanes);
  if (samples > 0) {
    RunInvalid("ring", kStatusRing, samples, limit, samples, samples, b, 0, 1, 1, 0, 0, 0);
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
                          16777216};
          RunCase(c);
          ++cases;
        }
      }
    }
  }
  // large labels and steps: the model must saturate, be counted, and agree all the same
  const Case saturating = {48, kLanes + 1, 8,   3,   kFloat ? 32u : 3u, kFloat ? 0u : 2u, 4,
                           1,  0,          8.0, 0.0, 2147483000u};
  RunCase(saturating);
  std::printf("%s, %d-bit words: %d cases, %d failures\n", kFloat ? "zipml_sgd_f32" : "zipml_sgd",
              ZIPML_WORD_BITS, cases + 1, failures);
  return failures == 0 ? 0 : 1;
}
