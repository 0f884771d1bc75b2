// The whole accelerator on one page: four processes, and the channels between them. Each is a stage
// in a file of its own, which a test bench can call alone, and the whole is a plain sequential
// program: without its pragmas it computes the same model.
#pragma once

#include "build.hpp"
#include "geometry.hpp"
#include "memories.hpp"
#include "processes.hpp"
#include "registers.hpp"
#include "stages/count_cycles.hpp"
#include "stages/read_labels.hpp"
#include "stages/read_words.hpp"
#include "stages/train_run.hpp"
#include "zipml/tops.hpp"

namespace zipml {

/// The dataflow region, which is entered once a run: the loops over epochs and blocks are in the
/// processes. No process touches a memory of another one or of the caller, and no memory port is
/// shared, so nothing but the channels makes one wait for another. The numbers that all of them
/// read are written before the region begins and not before it is over: they are stable.
template <class Format>
void RunProcesses(const typename Format::word_t *planes, const int32_t *labels,
                  int32_t *model_memory, int32_t *history, const uint32_t *schedule,
                  const int32_t *derivative, typename Format::levels_port_t levels,
                  typename Format::full_port_t full, Registers r, Geometry g, Outputs &out,
                  uint64_t &measured_cycles) {
  #pragma HLS DATAFLOW
  #pragma HLS INLINE off
  #pragma HLS STABLE variable = r
  #pragma HLS STABLE variable = g
  ZIPML_REGION
  // clang-format off: one a line
  ZIPML_CHANNEL(typename Format::word_t, words, ZIPML_WORDS_AHEAD);
  ZIPML_CHANNEL(int32_t, block_labels, ZIPML_LABELS_AHEAD);
  ZIPML_CHANNEL(bool, marks, 2);
  // clang-format on
  ZIPML_PROCESS(ReadWords<Format>(planes, r, g, words));
  ZIPML_PROCESS(ReadLabels(labels, r, g, block_labels));
  ZIPML_PROCESS(TrainRun<Format>(words, block_labels, marks, model_memory, history, schedule,
                                 derivative, levels, full, r, g, out));
  ZIPML_PROCESS(CountCycles(marks, measured_cycles));
  ZIPML_REGION_END
}

/// A run, from its registers to its outputs. Returns the status.
/// \param derivative  table or coefficients of the loss; not read by the others
/// \param levels      tables of levels, as many as the registers say; other formats have no such
/// port
/// \param full        float32 samples, blocks and rows as in `planes`, of refetching formats
template <class Format>
uint32_t Run(const typename Format::word_t *planes, const int32_t *labels, int32_t *model_memory,
             int32_t *history, const uint32_t *schedule, const int32_t *derivative,
             typename Format::levels_port_t levels, typename Format::full_port_t full,
             const Registers &r, Outputs &out) {
  #pragma HLS INLINE off
  out = {0, 0, 0, 0, 0, 0, 0, 0};
  const uint32_t status = CheckRegisters<Format>(r);
  if (status != kStatusOk) return status;
  const Geometry g = GeometryOf<Format>(r);
  uint64_t measured = 0;
  RunProcesses<Format>(planes, labels, model_memory, history, schedule, derivative, levels, full, r,
                       g, out, measured);
  out.measured_cycles = kHasClock ? measured : out.modelled_cycles;
  return kStatusOk;
}

/// What the top functions have in common: registers in, a run, registers out.
template <class Format>
void Answer(ZIPML_PORTS(typename Format::word_t), typename Format::levels_port_t levels,
            typename Format::full_port_t full, const Registers &r, ZIPML_OUTPUTS) {
  #pragma HLS INLINE
  Outputs out;
  *status = Run<Format>(planes, labels, model, history, schedule, derivative, levels, full, r, out);
  *version = kInterfaceVersion;
  *capability = Capability(ZIPML_WORD_BITS_LOG2, Format::kFormat);
  *words = out.words;
  *modelled_cycles = out.modelled_cycles;
  *measured_cycles = out.measured_cycles;
  *waited_cycles = out.waited_cycles;
  *counted = kHasClock ? 1 : 0;
  *saturations = out.saturations;
  *outside = out.outside;
  *clipped = out.clipped;
  *refetched = out.refetched;
}

}  // namespace zipml
