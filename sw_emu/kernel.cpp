// Runs the HLS top functions: each word width is a build of the same source under a name of its own
// (kernel_64.cpp and its like), and this file picks one.
#include <ap_int.h>

#include "zipml/config.hpp"

extern "C" {
#include "kernel.h"
}

#define ZIPML_PORTS(WIDTH)                                                               \
  const ap_uint<WIDTH> *planes, const int32_t *labels, int32_t *model, int32_t *history, \
      const uint32_t *schedule
#define ZIPML_SCALARS                                                                  \
  uint32_t samples, uint32_t features, uint32_t batch, uint32_t block_samples,         \
      uint32_t block_stride, uint32_t dither_offset, uint32_t bits, uint32_t sampling, \
      uint32_t epochs, uint32_t delay, uint32_t skip, uint32_t pending, uint32_t flags
#define ZIPML_OUTPUTS                                                                           \
  uint32_t *status, uint32_t *version, uint64_t *capability, uint64_t *words, uint64_t *cycles, \
      uint32_t *saturations

#define ZIPML_TOPS(WIDTH)                                                                 \
  void zipml_sgd_##WIDTH(ZIPML_PORTS(WIDTH), ZIPML_SCALARS, ZIPML_OUTPUTS);               \
  void zipml_sgd_f32_##WIDTH(ZIPML_PORTS(WIDTH), ZIPML_SCALARS, ZIPML_OUTPUTS);           \
  void zipml_sgd_levels_##WIDTH(ZIPML_PORTS(WIDTH), const int32_t *levels, ZIPML_SCALARS, \
                                uint32_t level_tables, ZIPML_OUTPUTS);

extern "C" {
ZIPML_TOPS(64)
ZIPML_TOPS(128)
ZIPML_TOPS(512)
}

namespace {

template <int kWidth>
using top_t = void (*)(ZIPML_PORTS(kWidth), ZIPML_SCALARS, ZIPML_OUTPUTS);
template <int kWidth>
using level_top_t = void (*)(ZIPML_PORTS(kWidth), const int32_t *levels, ZIPML_SCALARS,
                             uint32_t level_tables, ZIPML_OUTPUTS);

/// The top functions of one word width.
template <int kWidth>
struct Tops {
  top_t<kWidth> planes;
  top_t<kWidth> floats;
  level_top_t<kWidth> levels;
};

template <int kWidth>
void Call(const Tops<kWidth> &tops, uint32_t format, const ZipmlArguments &a, ZipmlResults *r) {
  // the vendor's simulation type stores a word as the little-endian uint64 words that memory holds
  static_assert(sizeof(ap_uint<kWidth>) == kWidth / 8, "a word in simulation is a word in memory");
  const ap_uint<kWidth> *planes = reinterpret_cast<const ap_uint<kWidth> *>(a.planes);
  if (format == zipml::kLevels) {
    tops.levels(planes, a.labels, a.model, a.history, a.schedule, a.levels, a.samples, a.features,
                a.batch, a.block_samples, a.block_stride, a.dither_offset, a.bits, a.sampling,
                a.epochs, a.delay, a.skip, a.pending, a.flags, a.level_tables, &r->status,
                &r->version, &r->capability, &r->words, &r->cycles, &r->saturations);
    return;
  }
  const top_t<kWidth> top = format == zipml::kFloat32 ? tops.floats : tops.planes;
  top(planes, a.labels, a.model, a.history, a.schedule, a.samples, a.features, a.batch,
      a.block_samples, a.block_stride, a.dither_offset, a.bits, a.sampling, a.epochs, a.delay,
      a.skip, a.pending, a.flags, &r->status, &r->version, &r->capability, &r->words, &r->cycles,
      &r->saturations);
}

}  // namespace

extern "C" void zipml_kernel_run(uint32_t word_bits, uint32_t format,
                                 const ZipmlArguments *arguments, ZipmlResults *results) {
  *results = ZipmlResults();
  if (word_bits == 64) {
    Call<64>({zipml_sgd_64, zipml_sgd_f32_64, zipml_sgd_levels_64}, format, *arguments, results);
  } else if (word_bits == 128) {
    Call<128>({zipml_sgd_128, zipml_sgd_f32_128, zipml_sgd_levels_128}, format, *arguments,
              results);
  } else if (word_bits == 512) {
    Call<512>({zipml_sgd_512, zipml_sgd_f32_512, zipml_sgd_levels_512}, format, *arguments,
              results);
  }
}
