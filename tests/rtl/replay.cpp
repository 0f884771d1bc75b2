// One recorded run (record.hpp, by record.py) through a kernel: ends with 0 where model, history
// and every counter are the recorded ones. On RTL the kernel is called by Bambu's test bench.
#include <ap_int.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "record.hpp"
#include "zipml/tops.hpp"
#ifdef ZIPML_ON_RTL
#include <mdpi/mdpi_user.h>
#endif

typedef ap_uint<ZIPML_WORD_BITS> word_t;
ZIPML_DECLARE_TOPS(word_t, )

#if defined(ZIPML_BENCH_LEVELS)
#define TOP zipml_sgd_levels
#define MORE_PORTS levels,
#define MORE_SCALARS in_level_tables,
#elif defined(ZIPML_BENCH_REFETCH)
#define TOP zipml_sgd_refetch
#define MORE_PORTS full,
#elif defined(ZIPML_BENCH_FLOAT)
#define TOP zipml_sgd_f32
#elif defined(ZIPML_BENCH_WIDE)
#define TOP zipml_sgd_wide
#else
#define TOP zipml_sgd
#endif
#ifndef MORE_PORTS
#define MORE_PORTS
#endif
#ifndef MORE_SCALARS
#define MORE_SCALARS
#endif

namespace {

const size_t kParts = ZIPML_WORD_BITS / 64;

// memories, as they were before the run
#define MEMORY(type, name) type name[sizeof before_##name / sizeof(type)];
MEMORY(word_t, planes)
MEMORY(int32_t, labels)
MEMORY(int32_t, model)
MEMORY(int32_t, history)
MEMORY(uint32_t, schedule)
MEMORY(int32_t, derivative)
#if defined(ZIPML_BENCH_LEVELS)
MEMORY(int32_t, levels)
#elif defined(ZIPML_BENCH_REFETCH)
MEMORY(word_t, full)
#endif

void Fill(word_t *words, const uint64_t *parts, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    ap_uint<ZIPML_WORD_BITS + 64> word = 0;
    for (size_t k = kParts; k-- > 0;) word = word << 64 | parts[i * kParts + k];
    words[i] = word;
  }
}

bool Differs(const char *name, const int32_t *found, const uint32_t *wanted, size_t count) {
  size_t wrong = 0;
  for (size_t i = 0; i < count; ++i) wrong += static_cast<uint32_t>(found[i]) != wanted[i];
  if (wrong != 0) std::printf("%s: %zu of %zu differ\n", name, wrong, count);
  return wrong != 0;
}

bool Differs(const char *name, uint64_t found, uint64_t wanted) {
  if (found == wanted) return false;
  std::printf("%s: %llu, not %llu\n", name, static_cast<unsigned long long>(found),
              static_cast<unsigned long long>(wanted));
  return true;
}

#define OUTPUT(type, name) type name;
struct Outputs {
  ZIPML_EACH_OUTPUT(OUTPUT, OUTPUT)
} out;

}  // namespace

int main() {
  Fill(planes, before_planes, sizeof before_planes / 8 / kParts);
#if defined(ZIPML_BENCH_REFETCH)
  Fill(full, before_full, sizeof before_full / 8 / kParts);
#elif defined(ZIPML_BENCH_LEVELS)
  std::memcpy(levels, before_levels, sizeof levels);
#endif
  std::memcpy(labels, before_labels, sizeof labels);
  std::memcpy(model, before_model, sizeof model);
  std::memcpy(history, before_history, sizeof history);
  std::memcpy(schedule, before_schedule, sizeof schedule);
  std::memcpy(derivative, before_derivative, sizeof derivative);
#ifdef ZIPML_ON_RTL
  // what each pointer leads to, by its place among the arguments
  int place = 0;
#define ALLOCATE(memory) m_param_alloc(place++, sizeof(memory));
  ALLOCATE(planes)
  ALLOCATE(labels)
  ALLOCATE(model)
  ALLOCATE(history)
  ALLOCATE(schedule)
  ALLOCATE(derivative)
#if defined(ZIPML_BENCH_LEVELS)
  ALLOCATE(levels)
#elif defined(ZIPML_BENCH_REFETCH)
  ALLOCATE(full)
#endif
#define SKIP(name) ++place;
  ZIPML_EACH_SCALAR(SKIP, SKIP)
#if defined(ZIPML_BENCH_LEVELS)
  ++place;
#endif
#define ALLOCATE_OUTPUT(type, name) ALLOCATE(out.name)
  ZIPML_EACH_OUTPUT(ALLOCATE_OUTPUT, ALLOCATE_OUTPUT)
#endif
#define FIRST_IN(name) in_##name
#define NEXT_IN(name) , in_##name
#define FIRST_OUT(type, name) &out.name
#define NEXT_OUT(type, name) , &out.name
  TOP(ZIPML_PASS_PORTS, MORE_PORTS ZIPML_EACH_SCALAR(FIRST_IN, NEXT_IN),
      MORE_SCALARS ZIPML_EACH_OUTPUT(FIRST_OUT, NEXT_OUT));

  bool bad = Differs("model", model, after_model, sizeof after_model / 4);
  bad |= Differs("history", history, after_history, sizeof after_history / 4);
#define COMPARE(type, name) \
  if (!IsOfAClock(#name)) bad |= Differs(#name, out.name, out_##name);
  // a clock counts what this schedule takes, which is Bambu's
  const bool clocked = out.counted != 0;
  const auto IsOfAClock = [clocked](const char *name) {
    return clocked &&
           (std::strstr(name, "ed_cycles") == name + std::strlen(name) - 9 ||
            std::strcmp(name, "counted") == 0) &&
           std::strcmp(name, "modelled_cycles") != 0;
  };
  ZIPML_EACH_OUTPUT(COMPARE, COMPARE)
  std::printf(bad ? "RECORDED RUN DIFFERS\n" : "RECORDED RUN EQUAL\n");
  return bad ? 1 : 0;
}
