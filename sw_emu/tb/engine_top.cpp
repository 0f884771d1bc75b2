// The engine under the name of a top function, so that hls/tb/zipml_sgd_tb.cpp tests it too: same
// cases, same guard words, and every sanitizer on, for no vendor header is in the engine.
#include <ap_int.h>

#include "../../hls/src/word_bits.hpp"
#include "zipml/config.hpp"

extern "C" {
#include "../engine.h"
}

#define ZIPML_PORTS                                                                                \
  const ap_uint<ZIPML_WORD_BITS> *planes, const int32_t *labels, int32_t *model, int32_t *history, \
      const uint32_t *schedule
#define ZIPML_SCALARS                                                                  \
  uint32_t samples, uint32_t features, uint32_t batch, uint32_t block_samples,         \
      uint32_t block_stride, uint32_t dither_offset, uint32_t bits, uint32_t sampling, \
      uint32_t epochs, uint32_t delay, uint32_t skip, uint32_t pending, uint32_t flags
#define ZIPML_OUTPUTS                                                                           \
  uint32_t *status, uint32_t *version, uint64_t *capability, uint64_t *words, uint64_t *cycles, \
      uint32_t *saturations

namespace {

void Run(zipml::ValueFormat format, ZIPML_PORTS, const int32_t *levels, ZIPML_SCALARS,
         uint32_t level_tables, ZIPML_OUTPUTS) {
  const ZipmlArguments arguments = {reinterpret_cast<const uint64_t *>(planes),
                                    labels,
                                    model,
                                    history,
                                    schedule,
                                    levels,
                                    samples,
                                    features,
                                    batch,
                                    block_samples,
                                    block_stride,
                                    dither_offset,
                                    bits,
                                    sampling,
                                    epochs,
                                    delay,
                                    skip,
                                    pending,
                                    flags,
                                    level_tables};
  ZipmlResults results;
  zipml_engine_run(ZIPML_WORD_BITS, format, &arguments, &results);
  *status = results.status;
  *version = results.version;
  *capability = results.capability;
  *words = results.words;
  *cycles = results.cycles;
  *saturations = results.saturations;
}

}  // namespace

extern "C" void zipml_sgd(ZIPML_PORTS, ZIPML_SCALARS, ZIPML_OUTPUTS) {
  Run(zipml::kBitPlanes, planes, labels, model, history, schedule, nullptr, samples, features,
      batch, block_samples, block_stride, dither_offset, bits, sampling, epochs, delay, skip,
      pending, flags, 0, status, version, capability, words, cycles, saturations);
}

extern "C" void zipml_sgd_f32(ZIPML_PORTS, ZIPML_SCALARS, ZIPML_OUTPUTS) {
  Run(zipml::kFloat32, planes, labels, model, history, schedule, nullptr, samples, features, batch,
      block_samples, block_stride, dither_offset, bits, sampling, epochs, delay, skip, pending,
      flags, 0, status, version, capability, words, cycles, saturations);
}

extern "C" void zipml_sgd_levels(ZIPML_PORTS, const int32_t *levels, ZIPML_SCALARS,
                                 uint32_t level_tables, ZIPML_OUTPUTS) {
  Run(zipml::kLevels, planes, labels, model, history, schedule, levels, samples, features, batch,
      block_samples, block_stride, dither_offset, bits, sampling, epochs, delay, skip, pending,
      flags, level_tables, status, version, capability, words, cycles, saturations);
}
