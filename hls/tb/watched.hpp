// What the bench adds to the kernel, to see what C does not: entries of the memories on
// TrainSlots's feedback paths that keep the pass that wrote them, and clocks.
//
// C runs one pass after the other and cannot see that a pipeline would read too soon. What the
// DEPENDENCE pragmas promise is checked in every pass of every case. Each process spends a cycle a
// pass and the latencies of the schedule; where processes meet in time is the business of their
// channels (sw_emu/simulation/hls_stream.h).
#pragma once

#include <hls_stream.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "../src/build.hpp"

namespace zipml {

/// Passes of training loops so far, and whether one runs.
struct Passes {
  uint64_t count;
  bool running;
};

inline Passes &Now() {
  static thread_local Passes passes = {0, false};
  return passes;
}

constexpr bool kHasClock = true;
inline uint64_t CycleNow() { return hls::simulation::Now(); }
inline void Spend(uint32_t cycles) { hls::simulation::Now() += cycles; }

inline void BeginPass() {
  Now() = {Now().count + 1, true};
  Spend(1);
}

/// A pipeline drains: what it wrote may be read.
inline void EndPasses() {
  Now() = {Now().count + (1 << 21), false};
  Spend(kDistances.pipeline);
}

/// Of a number that is taken to fit so many bits.
inline void Expect(bool fits, int bits) {
  if (fits) return;
  std::fprintf(stderr, "a number does not fit its %d bits\n", bits);
  std::abort();
}

template <class T, int kDistance>
class Watched {
 public:
  Watched &operator=(const T &value) {
    value_ = value;
    written_ = Now().running ? Now().count : 0;
    return *this;
  }
  operator T() const {
    const uint64_t passed = Now().count - written_;
    if (Now().running && written_ != 0 && passed < kDistance) {
      std::fprintf(stderr, "read %d passes after it was written; promised are %d\n",
                   static_cast<int>(passed), kDistance);
      std::abort();
    }
    return value_;
  }

 private:
  T value_;
  uint64_t written_ = 0;
};

}  // namespace zipml
