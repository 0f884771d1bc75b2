// What the bench is built for, its cases, and buffers that show what is touched beside them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <type_traits>
#include <vector>

#include "../src/build.hpp"
#include "../src/formats.hpp"

#if defined(ZIPML_BENCH_FLOAT)
typedef zipml::FloatFormat<ZIPML_WORD_BITS> format_t;
#elif defined(ZIPML_BENCH_LEVELS)
typedef zipml::LevelFormat<ZIPML_WORD_BITS> format_t;
#elif defined(ZIPML_BENCH_REFETCH)
typedef zipml::BitPlaneFormat<ZIPML_WORD_BITS, zipml::kRefetch> format_t;
#elif defined(ZIPML_BENCH_WIDE)
typedef zipml::BitPlaneFormat<ZIPML_WORD_BITS, zipml::kWide> format_t;
#else
typedef zipml::BitPlaneFormat<ZIPML_WORD_BITS> format_t;
#endif

namespace {

const bool kFloat = format_t::kFormat == zipml::kFloat32;
const bool kLevels = format_t::kFormat == zipml::kLevels;
const bool kRefetches = format_t::kRefetches;
const bool kWide = format_t::kFormat == zipml::kWide;
const char *const kTopName = kFloat       ? "zipml_sgd_f32"
                             : kLevels    ? "zipml_sgd_levels"
                             : kRefetches ? "zipml_sgd_refetch"
                             : kWide      ? "zipml_sgd_wide"
                                          : "zipml_sgd";
const uint32_t kLanes = format_t::kWordLanes;
// fewest bits of a value here, the most, and fraction bits, as docs/arithmetic.md has them
const uint32_t kFewestBits = kFloat ? 32 : kWide ? 9 : 1;
const uint32_t kMostBits = kFloat ? 32 : kWide ? 16 : 8;
// in the sweep; the wide kernel's other precisions are for the Python sweep
const uint32_t kNextBits = kWide ? 7 : 1;
const int kValueBits = kLevels ? 14 : kWide ? 15 : 7;
const int kGradientBits = 28 + kValueBits + 1;
const int kGuard = 64;
// of all random numbers on chip
const uint32_t kSeed = 20260102;
// depth= of the interface pragmas
const size_t kDepthPlanes = 4096;
const size_t kDepthLabels = 2048;
const size_t kDepthModel = 4096;
const size_t kDepthHistory = 4096;
const size_t kDepthSchedule = 128;
const size_t kDepthDerivative = 1025;
const size_t kDepthFull = 4096;
const size_t kDepthLevels = 262144;
#ifdef ZIPML_BENCH_QUICK
const bool kWholePorts = true;
#else
const bool kWholePorts = false;
#endif

int failures = 0;

#define EXPECT(condition, ...)  \
  do {                          \
    if (!(condition)) {         \
      ++failures;               \
      std::printf("FAIL: ");    \
      std::printf(__VA_ARGS__); \
      std::printf("\n");        \
    }                           \
  } while (0)

/// What co-simulation makes of a port: as many entries as the interface says, copied there and, of
/// what the kernel may write, back. In the short sweep the kernel runs on such copies, so each
/// buffer has to have as many from every pointer on, and no run may need more.
template <typename T>
class Port {
 public:
  Port(T *memory, size_t depth) : memory_(memory) {
    if (kWholePorts) copy_.assign(memory, memory + depth);
  }
  ~Port() {
    if (kWholePorts) Back(memory_);
  }
  T *get() { return kWholePorts ? copy_.data() : memory_; }

 private:
  void Back(const void *) {}
  template <typename U>
  typename std::enable_if<!std::is_const<U>::value>::type Back(U *memory) {
    std::copy(copy_.begin(), copy_.end(), memory);
  }
  T *memory_;
  std::vector<typename std::remove_const<T>::type> copy_;
};

/// A buffer between two runs of guard words.
template <typename T>
class Guarded {
 public:
  Guarded(size_t size, size_t depth)
      : size_(kWholePorts ? size + depth : size), data_(size_ + 2 * kGuard, Pattern()) {}
  T *get() { return data_.data() + kGuard; }
  T &operator[](size_t i) { return data_[kGuard + i]; }
  size_t size() const { return size_; }
  bool intact() const {
    for (int i = 0; i < kGuard; ++i) {
      if (!(data_[i] == Pattern()) || !(data_[kGuard + size_ + i] == Pattern())) return false;
    }
    return true;
  }

 private:
  static T Pattern() { return T(0x5aa5c33c); }
  size_t size_;
  std::vector<T> data_;
};

struct Case {
  uint32_t samples, features, batch, block_batches, bits, sampling, epochs, delay;
  uint32_t extra_planes;  // stored between base and dithers, so that a block takes two bursts
  double step, l2, l1;
  uint32_t label_range;  // labels lie within +-label_range / 2^24
  bool own_tables;       // a table of levels for each feature instead of one for all
  bool own_steps;        // a step for each feature
  bool corrected;        // corrections of the gradient
  bool frozen;           // dot products read the start model
  uint32_t loss, degree, range_log2;
  bool weights;
  uint32_t model_bits, model_shift, gradient_bits, gradient_shift;
  uint32_t first_block, block_step;
};

struct Outcome {
  uint32_t status, version, saturations, outside, clipped, refetched;
  uint64_t capability, words, modelled_cycles, measured_cycles, waited_cycles;
  uint32_t counted;
};

uint32_t Chunks(const Case &c) { return (c.features + kLanes - 1) / kLanes; }
uint32_t Base(const Case &c) { return kFloat ? 0 : c.bits - 1; }
uint32_t Dithers(const Case &c) {
  return c.sampling == zipml::kIndependent ? c.degree + 1 : c.sampling == zipml::kSingle ? 1 : 2;
}
uint32_t Stored(const Case &c) { return Base(c) + c.extra_planes + Dithers(c); }
uint32_t Batches(const Case &c) { return (c.samples + c.batch - 1) / c.batch; }
/// Vectors of as many entries as the model's that lie behind it.
uint32_t VectorsBehind(const Case &c) { return (c.own_steps ? 1 : 0) + (c.corrected ? 1 : 0); }
uint32_t Blocks(const Case &c) { return (Batches(c) + c.block_batches - 1) / c.block_batches; }

}  // namespace
