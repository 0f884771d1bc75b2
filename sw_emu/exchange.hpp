// The threads of a run, and where they meet: each hands in its part of some sums and gets the
// whole.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

namespace zipml {

constexpr uint32_t kMaxThreads = 64;
/// Values of a batch that are worth a thread of their own (docs/speed.md).
constexpr uint64_t kValuesForThread = 16384;

/// Calls run(0) .. run(count - 1), each in a thread of its own, the first in the caller's.
template <class TRun>
void RunThreads(uint32_t count, const TRun &run) {
  std::vector<std::thread> others;
  for (uint32_t t = 1; t < count; ++t) others.emplace_back(run, t);
  run(0);
  for (std::thread &other : others) other.join();
}

/// Sums over threads. A batch is microseconds, so threads wait for each other without sleeping, but
/// give way when others need the core.
template <class T>
class Exchange {
 public:
  Exchange(uint32_t threads, uint32_t length) : threads_(threads), parts_(2 * threads) {
    // no two threads write to one cache line
    for (std::vector<T> &part : parts_) part.resize(threads > 1 ? length + 64 / sizeof(T) : 0);
    for (uint32_t t = 0; t < kMaxThreads; ++t) turns_[t].count = 0;
  }

  /// Replaces `sums` by its sum over all threads.
  void Sum(uint32_t thread, T *sums, uint32_t count) {
    if (threads_ == 1) return;
    // two sets of parts: a thread can be one call ahead of another, not two
    const uint32_t turn = turns_[thread].count++;
    std::vector<T> *parts = &parts_[turn % 2 * threads_];
    std::copy(sums, sums + count, parts[thread].begin());
    Meet(turn);
    // in one order for all, so that rounded sums are the same in all
    std::fill(sums, sums + count, T(0));
    for (uint32_t t = 0; t < threads_; ++t) {
      for (uint32_t i = 0; i < count; ++i) sums[i] += parts[t][i];
    }
  }

 private:
  /// Returns when all threads have come for the `turn`-th time.
  void Meet(uint32_t turn) {
    const uint32_t all = (turn + 1) * threads_;  // wraps around like the counter
    arrived_.fetch_add(1, std::memory_order_acq_rel);
    for (uint32_t spins = 1;
         static_cast<int32_t>(arrived_.load(std::memory_order_acquire) - all) < 0; ++spins) {
#if defined(__x86_64__) && defined(__GNUC__)
      _mm_pause();
#endif
      if (spins % 1024 == 0) std::this_thread::yield();
    }
  }

  struct alignas(64) Turns {
    uint32_t count;
  };
  const uint32_t threads_;
  std::vector<std::vector<T>> parts_;
  Turns turns_[kMaxThreads];
  alignas(64) std::atomic<uint32_t> arrived_{0};
};

}  // namespace zipml
