// The interfaces of the top functions: for the kernels, and for whoever calls them from outside of
// HLS. Words are a macro parameter, since each width is a build of its own. What a top function has
// beside these ports and registers stands in its own file and below.
#pragma once

#include <cstdint>

// clang-format off: one continued line each
// Registers in, each uint32_t, and registers out: FIRST and NEXT are macros of what becomes of one.
#define ZIPML_EACH_SCALAR(FIRST, NEXT) \
  FIRST(samples) NEXT(features) NEXT(batch) NEXT(block_samples) NEXT(block_stride) \
  NEXT(dither_offset) NEXT(bits) NEXT(sampling) NEXT(epochs) NEXT(delay) NEXT(skip) \
  NEXT(pending) NEXT(flags) NEXT(loss) NEXT(degree) NEXT(range_log2) NEXT(model_bits) \
  NEXT(model_shift) NEXT(gradient_bits) NEXT(seed) NEXT(first_update) NEXT(first_block) \
  NEXT(block_step)
#define ZIPML_EACH_OUTPUT(FIRST, NEXT) \
  FIRST(uint32_t, status) NEXT(uint32_t, version) NEXT(uint64_t, capability) \
  NEXT(uint64_t, words) NEXT(uint64_t, modelled_cycles) NEXT(uint64_t, measured_cycles) \
  NEXT(uint64_t, waited_cycles) NEXT(uint32_t, counted) NEXT(uint32_t, saturations) \
  NEXT(uint32_t, outside) NEXT(uint32_t, clipped) NEXT(uint32_t, refetched)

// Parameters of a function, and the arguments for them.
#define ZIPML_PORTS(WORD) \
  const WORD *planes, const int32_t *labels, int32_t *model, int32_t *history, \
      const uint32_t *schedule, const int32_t *derivative
#define ZIPML_PASS_PORTS planes, labels, model, history, schedule, derivative
#define ZIPML_FIRST_SCALAR(name) uint32_t name
#define ZIPML_NEXT_SCALAR(name) , uint32_t name
#define ZIPML_SCALARS ZIPML_EACH_SCALAR(ZIPML_FIRST_SCALAR, ZIPML_NEXT_SCALAR)
#define ZIPML_PASS_FIRST_SCALAR(name) name
#define ZIPML_PASS_NEXT_SCALAR(name) , name
#define ZIPML_PASS_SCALARS ZIPML_EACH_SCALAR(ZIPML_PASS_FIRST_SCALAR, ZIPML_PASS_NEXT_SCALAR)
#define ZIPML_FIRST_OUTPUT(type, name) type *name
#define ZIPML_NEXT_OUTPUT(type, name) , type *name
#define ZIPML_OUTPUTS ZIPML_EACH_OUTPUT(ZIPML_FIRST_OUTPUT, ZIPML_NEXT_OUTPUT)
#define ZIPML_PASS_FIRST_OUTPUT(type, name) name
#define ZIPML_PASS_NEXT_OUTPUT(type, name) , name
#define ZIPML_PASS_OUTPUTS ZIPML_EACH_OUTPUT(ZIPML_PASS_FIRST_OUTPUT, ZIPML_PASS_NEXT_OUTPUT)

#define ZIPML_DECLARE_TOPS(WORD, SUFFIX) \
  extern "C" void zipml_sgd##SUFFIX(ZIPML_PORTS(WORD), ZIPML_SCALARS, ZIPML_OUTPUTS); \
  extern "C" void zipml_sgd_f32##SUFFIX(ZIPML_PORTS(WORD), ZIPML_SCALARS, ZIPML_OUTPUTS); \
  extern "C" void zipml_sgd_levels##SUFFIX(ZIPML_PORTS(WORD), const int32_t *levels, ZIPML_SCALARS, \
                                           uint32_t level_tables, ZIPML_OUTPUTS); \
  extern "C" void zipml_sgd_refetch##SUFFIX(ZIPML_PORTS(WORD), const WORD *full, ZIPML_SCALARS, \
                                            ZIPML_OUTPUTS); \
  extern "C" void zipml_sgd_wide##SUFFIX(ZIPML_PORTS(WORD), ZIPML_SCALARS, ZIPML_OUTPUTS);
// clang-format on
