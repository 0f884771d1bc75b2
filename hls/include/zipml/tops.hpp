// The interfaces of the top functions: for whoever calls them from outside of HLS. Words are a
// macro parameter, since each width is a build of its own.
#pragma once

#include <cstdint>

// clang-format off: one continued line each
#define ZIPML_PORTS(WORD) \
  const WORD *planes, const int32_t *labels, int32_t *model, int32_t *history, \
      const uint32_t *schedule, const int32_t *derivative
#define ZIPML_SCALARS \
  uint32_t samples, uint32_t features, uint32_t batch, uint32_t block_samples, \
      uint32_t block_stride, uint32_t dither_offset, uint32_t bits, uint32_t sampling, \
      uint32_t epochs, uint32_t delay, uint32_t skip, uint32_t pending, uint32_t flags, \
      uint32_t loss, uint32_t degree, uint32_t range_log2, uint32_t model_bits, \
      uint32_t model_shift, uint32_t gradient_bits, uint32_t seed, uint32_t first_update, \
      uint32_t first_block, uint32_t block_step
#define ZIPML_OUTPUTS \
  uint32_t *status, uint32_t *version, uint64_t *capability, uint64_t *words, \
      uint64_t *cycles, uint32_t *saturations, uint32_t *outside, uint32_t *clipped, \
      uint32_t *refetched
#define ZIPML_PASS_PORTS planes, labels, model, history, schedule, derivative
#define ZIPML_PASS_SCALARS \
  samples, features, batch, block_samples, block_stride, dither_offset, bits, \
      sampling, epochs, delay, skip, pending, flags, loss, degree, range_log2, \
      model_bits, model_shift, gradient_bits, seed, first_update, first_block, \
      block_step
#define ZIPML_PASS_OUTPUTS \
  status, version, capability, words, cycles, saturations, outside, clipped, \
      refetched

#define ZIPML_DECLARE_TOPS(WORD, SUFFIX) \
  extern "C" void zipml_sgd##SUFFIX(ZIPML_PORTS(WORD), ZIPML_SCALARS, ZIPML_OUTPUTS); \
  extern "C" void zipml_sgd_f32##SUFFIX(ZIPML_PORTS(WORD), ZIPML_SCALARS, ZIPML_OUTPUTS); \
  extern "C" void zipml_sgd_levels##SUFFIX(ZIPML_PORTS(WORD), const int32_t *levels, ZIPML_SCALARS, \
                                           uint32_t level_tables, ZIPML_OUTPUTS); \
  extern "C" void zipml_sgd_refetch##SUFFIX(ZIPML_PORTS(WORD), const WORD *full, ZIPML_SCALARS, \
                                            ZIPML_OUTPUTS);
// clang-format on
