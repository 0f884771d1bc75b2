// Full-precision baseline. A dot product runs in independent lanes, so that it is vectorized
// without -ffast-math and rounds the same on every machine.
#include <algorithm>
#include <cstddef>
#include <vector>

extern "C" {
#include "float_sgd.h"
}
#include "clones.h"

namespace {

/// Lanes of a sum as a vector of the compiler's, not aligned.
typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));
constexpr uint32_t kLanes = sizeof(Lanes) / sizeof(float);

inline void AddProduct(const float *a, const float *x, Lanes &sum) {
  sum += *reinterpret_cast<const Lanes *>(a) * *reinterpret_cast<const Lanes *>(x);
}

ZIPML_CLONES float Dot(const float *a, const float *x, uint32_t features) {
  Lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};  // independent, so that additions overlap
  uint32_t j = 0;
  for (; j + 4 * kLanes <= features; j += 4 * kLanes) {
    AddProduct(a + j, x + j, s0);
    AddProduct(a + j + kLanes, x + j + kLanes, s1);
    AddProduct(a + j + 2 * kLanes, x + j + 2 * kLanes, s2);
    AddProduct(a + j + 3 * kLanes, x + j + 3 * kLanes, s3);
  }
  const Lanes sum = (s0 + s1) + (s2 + s3);
  float total = 0;
  for (; j < features; ++j) total += a[j] * x[j];
  for (uint32_t l = 0; l < kLanes; ++l) total += sum[l];
  return total;
}

/// x <- x - decay x - sum over rows of coefficients[row] * values[row].
ZIPML_CLONES void Update(const float *values, const float *coefficients, uint32_t rows,
                         uint32_t features, float decay, float *model) {
  const uint32_t tile = 256;  // of the model, that stays in registers or the first cache
  for (uint32_t start = 0; start < features; start += tile) {
    const uint32_t size = std::min(tile, features - start);
    float *x = model + start;
    float sum[tile] = {0};
    uint32_t i = 0;
    for (; i + 4 <= rows; i += 4) {
      const float *a0 = values + static_cast<size_t>(i) * features + start;
      const float *a1 = a0 + features, *a2 = a1 + features, *a3 = a2 + features;
      const float c0 = coefficients[i], c1 = coefficients[i + 1], c2 = coefficients[i + 2],
                  c3 = coefficients[i + 3];
      for (uint32_t j = 0; j < size; ++j) {
        sum[j] += (c0 * a0[j] + c1 * a1[j]) + (c2 * a2[j] + c3 * a3[j]);
      }
    }
    for (; i < rows; ++i) {
      const float *a = values + static_cast<size_t>(i) * features + start;
      for (uint32_t j = 0; j < size; ++j) sum[j] += coefficients[i] * a[j];
    }
    for (uint32_t j = 0; j < size; ++j) x[j] -= sum[j] + decay * x[j];
  }
}

}  // namespace

extern "C" int32_t zipml_float_sgd(const float *values, const float *labels, float *model,
                                   float *history, uint32_t samples, uint32_t features,
                                   uint32_t batch, uint32_t epochs, uint32_t delay,
                                   const float *steps, const float *decays) {
  if (samples == 0 || features == 0 || batch == 0 || epochs == 0) return -1;
  const uint32_t batches = samples / batch + (samples % batch != 0);
  // coefficients of the batches whose update is still to come
  std::vector<float> ring((delay + static_cast<size_t>(1)) * batch);
  for (uint32_t epoch = 0; epoch < epochs; ++epoch) {
    const float scale = steps[epoch] / static_cast<float>(batch);
    uint32_t updated = 0;
    const auto update = [&](uint32_t k) {
      const size_t first = static_cast<size_t>(k) * batch;
      const uint32_t rows = static_cast<uint32_t>(std::min<size_t>(batch, samples - first));
      Update(values + first * features, &ring[k % (delay + 1) * static_cast<size_t>(batch)], rows,
             features, decays[epoch], model);
    };
    for (uint32_t k = 0; k < batches; ++k) {
      const size_t first = static_cast<size_t>(k) * batch;
      const size_t last = std::min<size_t>(samples, first + batch);
      float *coefficients = &ring[k % (delay + 1) * static_cast<size_t>(batch)];
      for (size_t i = first; i < last; ++i) {
        coefficients[i - first] = scale * (Dot(values + i * features, model, features) - labels[i]);
      }
      if (k - updated >= delay) update(updated++);
    }
    while (updated < batches) update(updated++);
    if (history != nullptr) {
      std::copy(model, model + features, history + static_cast<size_t>(epoch) * features);
    }
  }
  return 0;
}
