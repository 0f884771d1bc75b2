// Rows of raw samples, one behind the other or in an order of their own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zipml {

template <typename TValue>
struct OrderedRows {
  const TValue *x;
  int64_t stride;        // values from one row to the next
  const int64_t *order;  // numbers of rows from x on, or null

  const TValue *At(uint64_t i) const {
    return x + (order == nullptr ? static_cast<int64_t>(i) : order[i]) * stride;
  }
  /// Those from number `first` on.
  OrderedRows From(uint64_t first) const {
    if (order == nullptr) return {At(first), stride, nullptr};
    return {x, stride, order + first};
  }
  /// Fetches a row that no hardware can know of.
  void Fetch(uint64_t i, uint32_t columns) const {
    if (order == nullptr) return;
    const TValue *row = At(i);
    for (uint32_t j = 0; j < columns; j += 64 / sizeof(TValue)) __builtin_prefetch(row + j);
  }
};

}  // namespace zipml
