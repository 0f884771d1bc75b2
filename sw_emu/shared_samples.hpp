// Threads that share a batch's samples: when they do, and what they hand to each other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "clones.h"
#include "exchange.hpp"
#include "scalar_stage.hpp"
#include "zipml/config.hpp"

namespace zipml {
namespace {

/// Features whose gradients are handed from thread to thread at most.
constexpr uint32_t kMostTravelling = 4 * kGroup;

/// Whether threads share a batch's samples and not the features: rows of a few groups are too short
/// to be cut, and their gradients short enough to travel. A run that is held tells its
/// coefficients, of which no thread would have all.
inline bool SharesSamples(const ZipmlArguments &a) {
  return a.features <= kMostTravelling && (a.flags & kFlagHold) == 0 && a.pending == 0;
}

template <class TPart, class TSum>
ZIPML_BODY void AddPartBody(const TPart *part, uint32_t size, TSum *sums) {
  for (uint32_t j = 0; j < size; ++j) sums[j] += part[j];
}

/// One thread's part of a batch's gradient.
struct GradientPart {
  explicit GradientPart(size_t size) : short_sums(size), sums(size) {}

  void Set(const int32_t *from, uint32_t size) {
    is_short = true;
    std::copy(from, from + size, short_sums.data());
  }
  void Set(const int64_t *from, uint32_t size) {
    is_short = false;
    std::copy(from, from + size, sums.data());
  }
  void AddTo(uint32_t size, int32_t *to) const {
    ZIPML_BEST(AddPartBody<int32_t, int32_t>)(short_sums.data(), size, to);
  }
  void AddTo(uint32_t size, int64_t *to) const {
    if (is_short) {
      ZIPML_BEST(AddPartBody<int32_t, int64_t>)(short_sums.data(), size, to);
    } else {
      ZIPML_BEST(AddPartBody<int64_t, int64_t>)(sums.data(), size, to);
    }
  }

  CoefficientSums of = {0, 0};
  bool is_short = false;  // where the sums are
  Aligned<int32_t> short_sums;
  Aligned<int64_t> sums;
  uint8_t apart[64];  // no two threads write to one cache line
};

/// Parts of gradients, from all threads to all. Each hands one in and gathers the others' some time
/// later, after as many batches as updates are late.
class GradientExchange : private Meeting {
 public:
  GradientExchange(uint32_t threads, uint32_t delay, uint32_t size, const Stop &stop)
      : Meeting(threads, stop), sets_(2 * delay + 2) {
    // who hands in turn t has gathered turn t - delay - 1, for which all have handed that in and
    // gathered turn t - 2 delay - 2: nobody still reads that set
    for (uint32_t i = 0; threads > 1 && i < sets_ * threads; ++i) parts_.emplace_back(size);
  }

  /// A thread's part of batch number `turn`, from 0 on: it is put there before it is handed in.
  GradientPart &PartOf(uint32_t thread, uint32_t turn) {
    return parts_[turn % sets_ * threads_ + thread];
  }
  void HandIn(uint32_t thread, uint32_t turn) { Tell(thread, turn + 1); }

  /// Waits until all have handed in a turn; false in a run that is to stop.
  bool Await(uint32_t turn) const {
    for (uint32_t t = 0; t < threads_; ++t) {
      if (!WaitFor(t, turn + 1)) return false;
    }
    return true;
  }

 private:
  const uint32_t sets_;
  std::vector<GradientPart> parts_;
};

}  // namespace
}  // namespace zipml
