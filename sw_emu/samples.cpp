// Samples on their own: normalized as packing normalizes them, or taken out of packed blocks.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

extern "C" {
#include "samples.h"
}
#include "clones.h"
#include "ordered_rows.hpp"

namespace {

template <typename TValue>
ZIPML_BODY void NormalizeRow(const TValue *x, const double *mid, const double *divisor,
                             uint32_t columns, float *values) {
  for (uint32_t j = 0; j < columns; ++j) {
    const float v = static_cast<float>((static_cast<double>(x[j]) - mid[j]) / divisor[j]);
    values[j] = v == v ? v : 0.0f;
  }
}

template <typename TValue>
void NormalizeAll(const ZipmlSamples &s, const int64_t *order, const double *mid,
                  const double *divisor, uint32_t features, float *values) {
  const zipml::OrderedRows<TValue> rows = {static_cast<const TValue *>(s.x), s.row_stride, order};
  for (uint64_t i = 0; i < s.rows; ++i) {
    float *row = values + i * features;
    if (i + 1 < s.rows) rows.Fetch(i + 1, s.columns);
    ZIPML_BEST(NormalizeRow<TValue>)(rows.At(i), mid, divisor, s.columns, row);
    std::fill(row + s.columns, row + features, 1.0f);
  }
}

}  // namespace

extern "C" void zipml_normalize(const ZipmlSamples *samples, const int64_t *order,
                                const double *mid, const double *divisor, uint32_t features,
                                float *values) {
  const auto all = samples->x_bytes == 4 ? NormalizeAll<float> : NormalizeAll<double>;
  all(*samples, order, mid, divisor, features, values);
}

namespace {

/// Words that are copied at once, and samples that are fetched ahead.
constexpr uint32_t kCopied = 8;
constexpr uint64_t kAhead = 8;

/// A row of a plane: calls of memcpy would take longer than what they do.
inline void CopyRow(const uint64_t *source, uint32_t words, uint64_t *target) {
  constexpr size_t kBytes = kCopied * sizeof(uint64_t);
  if (words < kCopied) {
    std::copy_n(source, words, target);
    return;
  }
  for (uint32_t i = 0; i + kCopied <= words; i += kCopied) {
    std::memcpy(target + i, source + i, kBytes);
  }
  // the last ones, some of which may be there
  std::memcpy(target + words - kCopied, source + words - kCopied, kBytes);
}

}  // namespace

extern "C" void zipml_take(const uint64_t *blocks, uint32_t planes, uint32_t block_samples,
                           uint32_t row_words, const int64_t *index, uint64_t count,
                           uint64_t *taken) {
  const uint64_t plane_words = uint64_t{block_samples} * row_words;
  const uint64_t block_words = planes * plane_words;
  const auto row = [=](uint64_t i) {
    return i / block_samples * block_words + i % block_samples * row_words;
  };
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t *next =
        blocks + row(static_cast<uint64_t>(index[std::min(i + kAhead, count - 1)]));
    const uint64_t *source = blocks + row(static_cast<uint64_t>(index[i]));
    uint64_t *target = taken + row(i);
    for (uint32_t plane = 0; plane < planes; ++plane) {
      for (uint32_t word = 0; word < row_words; word += kCopied) {
        __builtin_prefetch(next + plane * plane_words + word);
      }
      CopyRow(source + plane * plane_words, row_words, target + plane * plane_words);
    }
  }
  const uint64_t rest = count % block_samples;
  if (rest == 0) return;
  uint64_t *last = taken + count / block_samples * block_words;
  for (uint32_t plane = 0; plane < planes; ++plane) {
    std::fill(last + plane * plane_words + rest * row_words, last + (plane + 1) * plane_words,
              uint64_t{0});
  }
}
