// Runs the HLS top functions: each word width is a build of the same source under a name of its own
// (kernel_64.cpp and its like), and this file picks one.
#include <ap_int.h>

#include "zipml/config.hpp"
#include "zipml/tops.hpp"

extern "C" {
#include "kernel.h"
}

ZIPML_DECLARE_TOPS(ap_uint<64>, _64)
ZIPML_DECLARE_TOPS(ap_uint<128>, _128)
ZIPML_DECLARE_TOPS(ap_uint<512>, _512)

namespace {

template <class Word>
using top_t = void (*)(ZIPML_PORTS(Word), ZIPML_SCALARS, ZIPML_OUTPUTS);
template <class Word>
using level_top_t = void (*)(ZIPML_PORTS(Word), const int32_t *levels, ZIPML_SCALARS,
                             uint32_t level_tables, ZIPML_OUTPUTS);
template <class Word>
using refetch_top_t = void (*)(ZIPML_PORTS(Word), const Word *full, ZIPML_SCALARS, ZIPML_OUTPUTS);

/// The top functions of one word width.
template <class Word>
struct Tops {
  top_t<Word> planes;
  top_t<Word> floats;
  level_top_t<Word> levels;
  refetch_top_t<Word> refetch;
  top_t<Word> wide;
};

#define ZIPML_ARGUMENTS_PORTS \
  reinterpret_cast<const Word *>(a.planes), a.labels, a.model, a.history, a.schedule, a.derivative
#define ZIPML_ARGUMENTS_SCALARS                                                                  \
  a.samples, a.features, a.batch, a.block_samples, a.block_stride, a.dither_offset, a.bits,      \
      a.sampling, a.epochs, a.delay, a.skip, a.pending, a.flags, a.loss, a.degree, a.range_log2, \
      a.model_bits, a.model_shift, a.gradient_bits, a.seed, a.first_update, a.first_block,       \
      a.block_step
#define ZIPML_RESULTS                                                                     \
  &r.status, &r.version, &r.capability, &r.words, &r.modelled_cycles, &r.measured_cycles, \
      &r.waited_cycles, &r.counted, &r.saturations, &r.outside, &r.clipped, &r.refetched

template <class Word>
void Call(const Tops<Word> &tops, uint32_t format, const ZipmlArguments &a, ZipmlResults &r) {
  // the vendor's simulation type stores a word as the little-endian uint64 words that memory holds
  static_assert(sizeof(Word) == Word::width / 8, "a word in simulation is a word in memory");
  if (format == zipml::kLevels) {
    tops.levels(ZIPML_ARGUMENTS_PORTS, a.levels, ZIPML_ARGUMENTS_SCALARS, a.level_tables,
                ZIPML_RESULTS);
  } else if (format == zipml::kRefetch) {
    tops.refetch(ZIPML_ARGUMENTS_PORTS, reinterpret_cast<const Word *>(a.full),
                 ZIPML_ARGUMENTS_SCALARS, ZIPML_RESULTS);
  } else {
    const top_t<Word> top = format == zipml::kFloat32 ? tops.floats
                            : format == zipml::kWide  ? tops.wide
                                                      : tops.planes;
    top(ZIPML_ARGUMENTS_PORTS, ZIPML_ARGUMENTS_SCALARS, ZIPML_RESULTS);
  }
}

}  // namespace

extern "C" void zipml_kernel_run(uint32_t word_bits, uint32_t format,
                                 const ZipmlArguments *arguments, ZipmlResults *results) {
  *results = ZipmlResults();
  if (word_bits == 64) {
    Call<ap_uint<64> >({zipml_sgd_64, zipml_sgd_f32_64, zipml_sgd_levels_64, zipml_sgd_refetch_64,
                        zipml_sgd_wide_64},
                       format, *arguments, *results);
  } else if (word_bits == 128) {
    Call<ap_uint<128> >({zipml_sgd_128, zipml_sgd_f32_128, zipml_sgd_levels_128,
                         zipml_sgd_refetch_128, zipml_sgd_wide_128},
                        format, *arguments, *results);
  } else if (word_bits == 512) {
    Call<ap_uint<512> >({zipml_sgd_512, zipml_sgd_f32_512, zipml_sgd_levels_512,
                         zipml_sgd_refetch_512, zipml_sgd_wide_512},
                        format, *arguments, *results);
  }
}
