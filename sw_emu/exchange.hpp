// The threads of a run, and where they meet: each hands in its part of some sums and gets the
// whole.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

namespace zipml {

/// How a run ended.
enum RunStatus : int32_t { kRunDone = 0, kRunStopped = 1, kRunNoMemory = 2, kRunNoThreads = 3 };

constexpr uint32_t kMaxThreads = 64;
/// Values of a batch that are worth a thread of their own (docs/speed.md).
constexpr uint64_t kValuesForThread = 16384;

/// Whether a run is to end early: its caller asks for it, by a number that becomes other than 0, or
/// one of its threads has failed. Threads look between batches and while they wait for each other.
class Stop {
 public:
  explicit Stop(const uint32_t *asked) : asked_(asked) {}
  bool Wanted() const {
    return status_.load(std::memory_order_relaxed) != kRunDone ||
           (asked_ != nullptr && __atomic_load_n(asked_, __ATOMIC_RELAXED) != 0);
  }
  void Fail(RunStatus status) { status_.store(status); }
  /// How the run ended, once its threads have.
  RunStatus Status() const {
    const RunStatus status = status_.load();
    return status == kRunDone && Wanted() ? kRunStopped : status;
  }

 private:
  const uint32_t *const asked_;
  std::atomic<RunStatus> status_{kRunDone};
};

/// Calls run(0) .. run(count - 1), each in a thread of its own, the first in the caller's. No
/// exception leaves it: what fails is told by `stop`.
template <class TRun>
void RunThreads(uint32_t count, Stop &stop, const TRun &run) {
  const auto guarded = [&](uint32_t t) {
    try {
      run(t);
    } catch (const std::exception &) {  // of memory, or of a length beyond it
      stop.Fail(kRunNoMemory);
    }
  };
  std::vector<std::thread> others;
  try {
    others.reserve(count);
    for (uint32_t t = 1; t < count; ++t) others.emplace_back(guarded, t);
  } catch (const std::system_error &) {
    stop.Fail(kRunNoThreads);
  } catch (const std::exception &) {
    stop.Fail(kRunNoMemory);
  }
  if (!stop.Wanted()) guarded(0);
  for (std::thread &other : others) other.join();
}

/// Where threads tell each other how far they are. A batch is microseconds, so they wait for each
/// other without sleeping, but give way when others need the core.
class Meeting {
 protected:
  Meeting(uint32_t threads, const Stop &stop) : threads_(threads), stop_(stop) {}

  /// What thread number `thread` did before is seen by those that wait for so many turns of it.
  void Tell(uint32_t thread, uint32_t turns) {
    turns_[thread].count.store(turns, std::memory_order_release);
  }
  /// Returns when a thread has told of so many turns; false if the run is to stop before.
  bool WaitFor(uint32_t thread, uint32_t turns) const {
    const std::atomic<uint32_t> &count = turns_[thread].count;
    for (uint32_t spins = 1;
         static_cast<int32_t>(count.load(std::memory_order_acquire) - turns) < 0; ++spins) {
#if defined(__x86_64__) && defined(__GNUC__)
      _mm_pause();
#endif
      if (spins % 1024 != 0) continue;
      if (stop_.Wanted()) return false;
      std::this_thread::yield();
    }
    return true;
  }

  const uint32_t threads_;

 private:
  /// Written by one thread alone: a counter that all add to would travel twice.
  struct alignas(64) Turns {
    std::atomic<uint32_t> count{0};
  };
  const Stop &stop_;
  Turns turns_[kMaxThreads];
};

/// Sums over threads. Each hands its parts in and takes the whole some time later, so that nobody
/// has to wait for what travels between cores.
template <class T>
class Exchange : private Meeting {
 public:
  Exchange(uint32_t threads, uint32_t length, const Stop &stop)
      : Meeting(threads, stop), parts_(kSets * threads) {
    // no two threads write to one cache line
    for (std::vector<T> &part : parts_) part.resize(threads > 1 ? length + 64 / sizeof(T) : 0);
  }

  /// Hands in a thread's parts of sums number `turn`, from 0 on. It has taken all but the last two
  /// that it handed in.
  void HandIn(uint32_t thread, uint32_t turn, const T *sums, uint32_t count) {
    if (threads_ == 1) return;
    std::copy(sums, sums + count, parts_[turn % kSets * threads_ + thread].begin());
    Tell(thread, turn + 1);
  }

  /// Replaces `sums` by those over all threads of what each handed in as number `turn`. In a run
  /// that is to stop they are left as they are.
  void Take(uint32_t turn, T *sums, uint32_t count) const {
    if (threads_ == 1) return;
    const std::vector<T> *parts = &parts_[turn % kSets * threads_];
    for (uint32_t t = 0; t < threads_; ++t) {
      if (!WaitFor(t, turn + 1)) return;
    }
    // in one order for all, so that rounded sums are the same in all
    std::fill(sums, sums + count, T(0));
    for (uint32_t t = 0; t < threads_; ++t) {
      for (uint32_t i = 0; i < count; ++i) sums[i] += parts[t][i];
    }
  }

 private:
  /// Sets of parts. Who hands in turn t has taken turn t - 2, for which all have handed that in and
  /// taken turn t - 4: nobody still reads that set.
  static constexpr uint32_t kSets = 4;
  std::vector<std::vector<T>> parts_;
};

}  // namespace zipml
