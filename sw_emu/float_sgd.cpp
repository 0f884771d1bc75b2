// Full-precision baseline, as fast as this project can make it: memory is read once, for a batch's
// rows stay in the second cache from dot products to update; threads share the features.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <thread>
#include <vector>

extern "C" {
#include "engine.h"
#include "float_sgd.h"
}
#include "clones.h"
#include "exchange.hpp"

namespace {

#define ZIPML_INLINE __attribute__((always_inline)) inline

/// 16 lanes of a sum, as one vector of the compiler's or two, not aligned. (GCC keeps vectors that
/// are wider than the machine's in memory.)
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Sixteen __attribute__((vector_size(64), aligned(4), may_alias));
constexpr uint32_t kLanes = 16;

struct OneVector {
  Sixteen v;
  ZIPML_INLINE void AddProduct(const float *a, const float *x) {
    v += *reinterpret_cast<const Sixteen *>(a) * *reinterpret_cast<const Sixteen *>(x);
  }
  ZIPML_INLINE void Add(const OneVector &other) { v += other.v; }
  ZIPML_INLINE float Lane(uint32_t l) const { return v[l]; }
};

struct TwoVectors {
  Eight low, high;
  ZIPML_INLINE void AddProduct(const float *a, const float *x) {
    low += *reinterpret_cast<const Eight *>(a) * *reinterpret_cast<const Eight *>(x);
    high += *reinterpret_cast<const Eight *>(a + 8) * *reinterpret_cast<const Eight *>(x + 8);
  }
  ZIPML_INLINE void Add(const TwoVectors &other) {
    low += other.low;
    high += other.high;
  }
  ZIPML_INLINE float Lane(uint32_t l) const { return l < 8 ? low[l] : high[l - 8]; }
};

/// A row at a time: one stream of memory is what hardware fetches ahead best. Sums run in lanes, so
/// that they are vectorized without -ffast-math and round the same on every machine.
template <class TLanes>
ZIPML_INLINE float Dot(const float *a, const float *x, uint32_t features) {
  TLanes s0 = {}, s1 = {}, s2 = {}, s3 = {};  // independent, so that additions overlap
  uint32_t j = 0;
  for (; j + 4 * kLanes <= features; j += 4 * kLanes) {
    s0.AddProduct(a + j, x + j);
    s1.AddProduct(a + j + kLanes, x + j + kLanes);
    s2.AddProduct(a + j + 2 * kLanes, x + j + 2 * kLanes);
    s3.AddProduct(a + j + 3 * kLanes, x + j + 3 * kLanes);
  }
  for (; j + kLanes <= features; j += kLanes) s0.AddProduct(a + j, x + j);
  s0.Add(s1);
  s2.Add(s3);
  s0.Add(s2);
  float total = 0;
  for (; j < features; ++j) total += a[j] * x[j];
  for (uint32_t l = 0; l < kLanes; ++l) total += s0.Lane(l);
  return total;
}

/// x <- x - decay x - sum over rows of coefficients[row] * values[row], what is subtracted times
/// factors if there are any.
ZIPML_INLINE void Update(const float *values, size_t stride, const float *coefficients,
                         uint32_t rows, uint32_t features, float decay, const float *factors,
                         float *model) {
  const uint32_t tile = 256;  // of the model, that stays in the first cache
  for (uint32_t start = 0; start < features; start += tile) {
    const uint32_t size = std::min(tile, features - start);
    float *x = model + start;
    float sum[tile] = {0};
    uint32_t i = 0;
    for (; i + 4 <= rows; i += 4) {
      const float *a0 = values + i * stride + start;
      const float *a1 = a0 + stride, *a2 = a1 + stride, *a3 = a2 + stride;
      const float c0 = coefficients[i], c1 = coefficients[i + 1], c2 = coefficients[i + 2],
                  c3 = coefficients[i + 3];
      for (uint32_t j = 0; j < size; ++j) {
        sum[j] += (c0 * a0[j] + c1 * a1[j]) + (c2 * a2[j] + c3 * a3[j]);
      }
    }
    for (; i < rows; ++i) {
      const float *a = values + i * stride + start;
      for (uint32_t j = 0; j < size; ++j) sum[j] += coefficients[i] * a[j];
    }
    if (factors != nullptr) {
      const float *f = factors + start;
      for (uint32_t j = 0; j < size; ++j) x[j] -= f[j] * (sum[j] + decay * x[j]);
    } else {
      for (uint32_t j = 0; j < size; ++j) x[j] -= sum[j] + decay * x[j];
    }
  }
}

/// The two loops for an instruction set.
struct FloatLoops {
  float (*dot)(const float *, const float *, uint32_t);
  void (*update)(const float *, size_t, const float *, uint32_t, uint32_t, float, const float *,
                 float *);
};

#define ZIPML_FLOAT_LOOPS(NAME, LANES, ATTRIBUTE)                                                  \
  ATTRIBUTE float Dot##NAME(const float *a, const float *x, uint32_t features) {                   \
    return Dot<LANES>(a, x, features);                                                             \
  }                                                                                                \
  ATTRIBUTE void Update##NAME(const float *values, size_t stride, const float *coefficients,       \
                              uint32_t rows, uint32_t features, float decay, const float *factors, \
                              float *model) {                                                      \
    Update(values, stride, coefficients, rows, features, decay, factors, model);                   \
  }                                                                                                \
  constexpr FloatLoops k##NAME = {Dot##NAME, Update##NAME};

ZIPML_FLOAT_LOOPS(Plain, TwoVectors, )

#if defined(__x86_64__) && defined(__GNUC__) && !defined(ZIPML_NO_CLONES)
ZIPML_FLOAT_LOOPS(Avx2, TwoVectors, __attribute__((target("avx2"))))
ZIPML_FLOAT_LOOPS(Avx512, OneVector, __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw"))))

/// The best ones for this machine, but no wider than the engine's where it is asked for its own of
/// AVX2: the two are compared.
FloatLoops LoopsOfEngine() {
  const char *loops = zipml_engine_loops();
  const bool narrow = std::strcmp(loops, "avx2") == 0 || std::strcmp(loops, "avxvnni") == 0;
  if (!narrow && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return kAvx512;
  }
  return __builtin_cpu_supports("avx2") ? kAvx2 : kPlain;
}
#else
FloatLoops LoopsOfEngine() { return kPlain; }
#endif

/// What every thread is told.
struct Run {
  FloatLoops loops;
  const float *values, *labels;
  float *model, *history;
  uint32_t samples, features, batch, epochs, delay;
  const float *steps, *decays, *factors;
};

/// Trains features `first` to `last`.
void Train(const Run &run, uint32_t thread, uint32_t first, uint32_t last,
           zipml::Exchange<float> &exchange, const zipml::Stop &stop) {
  const uint32_t features = last - first, batch = run.batch;
  const size_t stride = run.features;
  const uint32_t batches = run.samples / batch + (run.samples % batch != 0);
  const float *values = run.values + first;
  float *model = run.model + first;
  const float *factors = run.factors == nullptr ? nullptr : run.factors + first;
  // coefficients of the batches whose update is still to come
  std::vector<float> ring((run.delay + static_cast<size_t>(1)) * batch);
  const auto coefficients_of = [&](uint32_t k) {
    return &ring[k % (run.delay + 1) * static_cast<size_t>(batch)];
  };
  const auto rows_of = [&](uint32_t k) {
    const size_t begin = std::min<size_t>(run.samples, static_cast<size_t>(k) * batch);
    return static_cast<uint32_t>(std::min<size_t>(batch, run.samples - begin));
  };
  uint32_t turn = 0;
  for (uint32_t epoch = 0; epoch < run.epochs; ++epoch) {
    const float scale = run.steps[epoch] / static_cast<float>(batch);
    uint32_t updated = 0;
    const auto update = [&] {
      const uint32_t k = updated++;
      run.loops.update(values + static_cast<size_t>(k) * batch * stride, stride, coefficients_of(k),
                       rows_of(k), features, run.decays[epoch], factors, model);
    };
    for (uint32_t k = 0; k < batches; ++k) {
      if (stop.Wanted()) return;
      const size_t begin = static_cast<size_t>(k) * batch;
      const uint32_t rows = rows_of(k);
      float *coefficients = coefficients_of(k);
      for (uint32_t i = 0; i < rows; ++i) {
        coefficients[i] = run.loops.dot(values + (begin + i) * stride, model, features);
      }
      exchange.HandIn(thread, turn, coefficients, rows);
      exchange.Take(turn++, coefficients, rows);
      for (uint32_t i = 0; i < rows; ++i) {
        coefficients[i] = scale * (coefficients[i] - run.labels[begin + i]);
      }
      if (k - updated >= run.delay) update();
    }
    while (updated < batches) update();
    if (run.history != nullptr) {
      std::copy(model, model + features,
                run.history + static_cast<size_t>(epoch) * run.features + first);
    }
  }
}

ZIPML_BODY uint64_t ReadWordsBody(const uint64_t *words, uint64_t count) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < count; ++i) sum += words[i];
  return sum;
}
ZIPML_CLONES(ReadWords)

}  // namespace

extern "C" uint64_t zipml_read_words(const uint64_t *words, uint64_t count) {
  return ReadWords(words, count);
}

extern "C" int32_t zipml_float_sgd(const float *values, const float *labels, float *model,
                                   float *history, uint32_t samples, uint32_t features,
                                   uint32_t batch, uint32_t epochs, uint32_t delay,
                                   const float *steps, const float *decays, const float *factors,
                                   uint32_t threads, const uint32_t *asked) {
  if (samples == 0 || features == 0 || batch == 0 || epochs == 0 || threads == 0) return -1;
  const Run run = {LoopsOfEngine(), values, labels, model, history, samples, features,
                   batch,           epochs, delay,  steps, decays,  factors};
  const uint32_t groups = (features + 63) / 64;
  const uint32_t count = std::min(std::min(threads, groups), zipml::kMaxThreads);
  zipml::Stop stop(asked);
  try {
    zipml::Exchange<float> exchange(count, batch, stop);
    zipml::RunThreads(count, stop, [&](uint32_t t) {
      Train(run, t, groups * t / count * 64, std::min(features, groups * (t + 1) / count * 64),
            exchange, stop);
    });
  } catch (const std::exception &) {
    stop.Fail(zipml::kRunNoMemory);
  }
  return stop.Status();
}
