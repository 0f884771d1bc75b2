// hls::stream for a simulation of dataflow as it is in hardware: processes run side by side, each
// in a thread of its own, and a channel holds no more than its depth. A region in which every
// process waits is a deadlock, and a channel that is not empty at the end has left-over data: both
// end the program.
//
// Time. Each process has a clock, which it advances itself (hls/tb/watched.hpp; without that, all
// stand still). What is written carries the time of its writing, and the place that it takes the
// time when it was freed, so clocks of processes that wait for one another meet as in hardware, and
// the result does not depend on how threads are scheduled.
//
// Stands for the vendor's header of this name, in this project's simulations alone.
#ifndef ZIPML_SIMULATION_HLS_STREAM_H
#define ZIPML_SIMULATION_HLS_STREAM_H

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hls {
namespace simulation {

/// The clock of the process that calls.
inline uint64_t &Now() {
  static thread_local uint64_t now = 0;
  return now;
}

[[noreturn]] inline void Fail(const std::string &what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

/// The processes of one dataflow region, and who waits.
class Region {
 public:
  /// Runs a process. The region is over when all have ended.
  template <class TProcess>
  void Start(TProcess process) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ++running_;
    }
    threads_.emplace_back([this, process] {
      Now() = 0;
      process();
      Ended();
    });
  }

  void Join() {
    Ended();
    for (std::thread &thread : threads_) thread.join();
    for (const std::function<std::string()> &check : checks_) {
      const std::string left = check();
      if (!left.empty()) Fail("left over in a channel: " + left);
    }
  }

  void AtEnd(std::function<std::string()> check) { checks_.push_back(std::move(check)); }

  std::mutex &mutex() { return mutex_; }

  /// Waits, the lock held, until `ready`, for whoever touches a channel and notifies `changed`.
  void Wait(std::unique_lock<std::mutex> &lock, std::condition_variable &changed,
            const std::string &what, const std::function<bool()> &ready) {
    waiting_.push_back({&changed, &what, &ready});
    Judge();
    changed.wait(lock, ready);
    waiting_.erase(std::find_if(waiting_.begin(), waiting_.end(),
                                [&](const Waiting &one) { return one.ready == &ready; }));
  }

 private:
  void Ended() {
    std::lock_guard<std::mutex> lock(mutex_);
    --running_;
    Judge();
  }

  struct Waiting {
    std::condition_variable *changed;
    const std::string *what;
    const std::function<bool()> *ready;
  };

  /// Ends the program where all processes wait and none may go on.
  void Judge() {
    if (waiting_.empty() || waiting_.size() < running_) return;
    std::string names;
    for (const Waiting &one : waiting_) {
      if ((*one.ready)()) {
        one.changed->notify_all();
        return;
      }
      names += names.empty() ? *one.what : ", " + *one.what;
    }
    Fail("deadlock: " + names);
  }

  std::mutex mutex_;
  std::vector<std::thread> threads_;
  std::vector<Waiting> waiting_;
  std::vector<std::function<std::string()>> checks_;
  size_t running_ = 1;  // the caller too, while it starts the others
};

}  // namespace simulation

/// A channel. Made without a region it has one user, and no bound.
template <class T>
class stream {
 public:
  stream() : region_(nullptr), depth_(SIZE_MAX) {}
  stream(simulation::Region &region, const char *name, size_t depth)
      : region_(&region), name_(name), depth_(depth) {
    region.AtEnd([this] {
      return values_.empty() ? std::string()
                             : std::to_string(values_.size()) + " values of " + name_;
    });
  }
  stream(const stream &) = delete;
  stream &operator=(const stream &) = delete;

  void write(const T &value) {
    std::unique_lock<std::mutex> lock = Lock();
    Wait(lock, "write to a full ", [this] { return values_.size() < depth_; });
    uint64_t &now = simulation::Now();
    if (!freed_.empty() && written_ >= depth_) {
      now = std::max(now, freed_.front());
      freed_.pop_front();
    }
    ++written_;
    values_.push_back({value, now});
    if (waits_ != 0) changed_.notify_all();
  }

  T read() {
    std::unique_lock<std::mutex> lock = Lock();
    Wait(lock, "read from an empty ", [this] { return !values_.empty(); });
    uint64_t &now = simulation::Now();
    now = std::max(now, values_.front().written);
    const T value = values_.front().value;
    values_.pop_front();
    if (region_ != nullptr) freed_.push_back(now);
    // who writes is woken for many values at once, or by Judge
    if (waits_ != 0 && values_.size() <= depth_ / 2) changed_.notify_all();
    return value;
  }

  /// Whether nothing is there at this process's time. What comes next is waited for, to know when
  /// it was written; so who asks must be going to read it.
  bool empty() {
    std::unique_lock<std::mutex> lock = Lock();
    if (region_ == nullptr) return values_.empty();
    Wait(lock, "look into an empty ", [this] { return !values_.empty(); });
    return values_.front().written > simulation::Now();
  }

 private:
  struct Timed {
    T value;
    uint64_t written;
  };

  std::unique_lock<std::mutex> Lock() {
    return region_ == nullptr ? std::unique_lock<std::mutex>()
                              : std::unique_lock<std::mutex>(region_->mutex());
  }

  template <class TReady>
  void Wait(std::unique_lock<std::mutex> &lock, const char *what, const TReady &ready) {
    if (ready()) return;
    if (region_ == nullptr) simulation::Fail(what + std::string("channel without a region"));
    ++waits_;
    region_->Wait(lock, changed_, what + name_, ready);
    --waits_;
  }

  simulation::Region *region_;
  std::string name_;
  size_t depth_;
  std::deque<Timed> values_;
  std::deque<uint64_t> freed_;  // when places became free again, oldest first
  uint64_t written_ = 0;
  std::condition_variable changed_;
  int waits_ = 0;  // users that wait
};

}  // namespace hls

// What hls/src/processes.hpp leaves to a header that has threads.
#define ZIPML_REGION hls::simulation::Region zipml_region;
#define ZIPML_CHANNEL(Value, channel, entries) \
  hls::stream<Value> channel(zipml_region, #channel, entries)
#define ZIPML_PROCESS(...) zipml_region.Start([&] { __VA_ARGS__; })
#define ZIPML_REGION_END zipml_region.Join();

#endif
