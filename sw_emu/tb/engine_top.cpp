// The engine under the name of a top function, so that hls/tb/zipml_sgd_tb.cpp tests it too: same
// cases, same guard words, and every sanitizer on, for no vendor header is in the engine.
#include <ap_int.h>

#include "../../hls/src/build.hpp"
#include "zipml/config.hpp"
#include "zipml/tops.hpp"

extern "C" {
#include "../engine.h"
}

typedef ap_uint<ZIPML_WORD_BITS> word_t;

ZIPML_DECLARE_TOPS(word_t, )

namespace {

void Run(zipml::ValueFormat format, ZIPML_PORTS(word_t), const int32_t *levels, const word_t *full,
         ZIPML_SCALARS, uint32_t level_tables, ZIPML_OUTPUTS) {
  ZipmlArguments a = {};
  a.planes = reinterpret_cast<const uint64_t *>(planes);
  a.labels = labels;
  a.model = model;
  a.history = history;
  a.schedule = schedule;
  a.derivative = derivative;
  a.levels = levels;
  a.full = reinterpret_cast<const uint64_t *>(full);
  a.samples = samples;
  a.features = features;
  a.batch = batch;
  a.block_samples = block_samples;
  a.block_stride = block_stride;
  a.dither_offset = dither_offset;
  a.bits = bits;
  a.sampling = sampling;
  a.epochs = epochs;
  a.delay = delay;
  a.skip = skip;
  a.pending = pending;
  a.flags = flags;
  a.loss = loss;
  a.degree = degree;
  a.range_log2 = range_log2;
  a.model_bits = model_bits;
  a.model_shift = model_shift;
  a.gradient_bits = gradient_bits;
  a.seed = seed;
  a.first_update = first_update;
  a.first_block = first_block;
  a.block_step = block_step;
  a.level_tables = level_tables;
  ZipmlResults r;
  zipml_engine_run(ZIPML_WORD_BITS, format, &a, &r, 2, nullptr);
  *status = r.status;
  *version = r.version;
  *capability = r.capability;
  *words = r.words;
  *modelled_cycles = r.modelled_cycles;
  *measured_cycles = r.measured_cycles;
  *waited_cycles = r.waited_cycles;
  *counted = r.counted;
  *saturations = r.saturations;
  *outside = r.outside;
  *clipped = r.clipped;
  *refetched = r.refetched;
}

}  // namespace

extern "C" void zipml_sgd(ZIPML_PORTS(word_t), ZIPML_SCALARS, ZIPML_OUTPUTS) {
  Run(zipml::kBitPlanes, ZIPML_PASS_PORTS, nullptr, nullptr, ZIPML_PASS_SCALARS, 0,
      ZIPML_PASS_OUTPUTS);
}

extern "C" void zipml_sgd_f32(ZIPML_PORTS(word_t), ZIPML_SCALARS, ZIPML_OUTPUTS) {
  Run(zipml::kFloat32, ZIPML_PASS_PORTS, nullptr, nullptr, ZIPML_PASS_SCALARS, 0,
      ZIPML_PASS_OUTPUTS);
}

extern "C" void zipml_sgd_levels(ZIPML_PORTS(word_t), const int32_t *levels, ZIPML_SCALARS,
                                 uint32_t level_tables, ZIPML_OUTPUTS) {
  Run(zipml::kLevels, ZIPML_PASS_PORTS, levels, nullptr, ZIPML_PASS_SCALARS, level_tables,
      ZIPML_PASS_OUTPUTS);
}

extern "C" void zipml_sgd_refetch(ZIPML_PORTS(word_t), const word_t *full, ZIPML_SCALARS,
                                  ZIPML_OUTPUTS) {
  Run(zipml::kRefetch, ZIPML_PASS_PORTS, nullptr, full, ZIPML_PASS_SCALARS, 0, ZIPML_PASS_OUTPUTS);
}

extern "C" void zipml_sgd_wide(ZIPML_PORTS(word_t), ZIPML_SCALARS, ZIPML_OUTPUTS) {
  Run(zipml::kWide, ZIPML_PASS_PORTS, nullptr, nullptr, ZIPML_PASS_SCALARS, 0, ZIPML_PASS_OUTPUTS);
}
