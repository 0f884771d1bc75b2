// Entries of the memories on TrainSlots's feedback paths, watched by the bench: C runs one pass
// after the other and cannot see that a pipeline would read too soon, so each entry keeps the pass
// that wrote it. What the DEPENDENCE pragmas promise is checked in every pass of every case.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace zipml {

/// Passes of training loops so far, and whether one runs.
struct Passes {
  uint64_t count;
  bool running;
};

inline Passes &Now() {
  static Passes passes = {0, false};
  return passes;
}

inline void BeginPass() { Now() = {Now().count + 1, true}; }

/// A pipeline drains: what it wrote may be read.
inline void EndPasses() { Now() = {Now().count + 1000, false}; }

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
