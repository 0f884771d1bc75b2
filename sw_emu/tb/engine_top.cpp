// The engine under the name of a top function, so that hls/tb/zipml_sgd_tb.cpp tests it too: same
// cases, same guard words, and every sanitizer on, for no vendor header is in the engine.
#include <ap_int.h>

#include "../../hls/src/word_bits.hpp"
#include "zipml/config.hpp"

extern "C" {
#include "../engine.h"
}

#ifdef ZIPML_BENCH_FLOAT
#define ZIPML_TOP zipml_sgd_f32
#define ZIPML_FORMAT zipml::kFloat32
#else
#define ZIPML_TOP zipml_sgd
#define ZIPML_FORMAT zipml::kBitPlanes
#endif

extern "C" void ZIPML_TOP(const ap_uint<ZIPML_WORD_BITS> *planes, const int32_t *labels,
                          int32_t *model, int32_t *history, const uint32_t *schedule,
                          uint32_t samples, uint32_t features, uint32_t batch,
                          uint32_t block_samples, uint32_t block_stride, uint32_t dither_offset,
                          uint32_t bits, uint32_t sampling, uint32_t epochs, uint32_t delay,
                          uint32_t skip, uint32_t pending, uint32_t flags, uint32_t *status,
                          uint32_t *version, uint64_t *capability, uint64_t *words,
                          uint64_t *cycles, uint32_t *saturations) {
  const ZipmlArguments arguments = {reinterpret_cast<const uint64_t *>(planes),
                                    labels,
                                    model,
                                    history,
                                    schedule,
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
                                    flags};
  ZipmlResults results;
  zipml_engine_run(ZIPML_WORD_BITS, ZIPML_FORMAT, &arguments, &results);
  *status = results.status;
  *version = results.version;
  *capability = results.capability;
  *words = results.words;
  *cycles = results.cycles;
  *saturations = results.saturations;
}
