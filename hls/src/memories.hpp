// What the memories on chip hold. TrainRun declares them (stages/train_run.hpp), for they live as
// long as a run.
#pragma once

#include <ap_int.h>

#include "build.hpp"
#include "formats.hpp"
#include "pragmas.hpp"
#include "watch.hpp"
#include "zipml/arithmetic.hpp"
#include "zipml/config.hpp"

/// Whether the device has UltraRAM, for the deep memories; overlay/<board>/board.mk says so.
#ifndef ZIPML_ULTRA_RAM
#define ZIPML_ULTRA_RAM 0
#endif
#if ZIPML_ULTRA_RAM
#define ZIPML_DEEP_RAM uram
#else
#define ZIPML_DEEP_RAM bram
#endif
// clang-format off: one continued line
#define ZIPML_DEEP_MEMORY(memory) \
  ZIPML_PRAGMA(BIND_STORAGE variable=memory type=ram_s2p impl=ZIPML_DEEP_RAM)
// clang-format on

// Passes from one row of a sample to its next one; batches of fewer samples are forwarded past the
// memory.
#define ZIPML_DOT_DISTANCE 4

namespace zipml {

constexpr int kForwardedRows = ZIPML_DOT_DISTANCE - 1;
constexpr int kModelVersions = 3;
constexpr int kCoefficientEntries = (kMaxDelay + 1) * kMaxBatch;
/// Of a memory whose entries a loop either reads or writes.
constexpr int kNotShared = 1 << 20;
/// Two halves: one is trained on while the other one is filled.
constexpr int kBufferSamples = 2 * kBlockSamples;
template <class Format>
constexpr int BufferWords() {
  return 2 << BlockWordsLog2(Format::kFormat);
}

using LabelEntry = Watched<int32_t, kNotShared>;
template <class Format>
using WordEntry = Watched<typename Format::word_t, kNotShared>;
using ModelEntry = Watched<int32_t, ZIPML_UPDATE_LATENCY>;
using CoefficientEntry = Watched<int32_t, ZIPML_RESIDUAL_LATENCY>;
using PolynomialEntry = Watched<Polynomial, ZIPML_POLYNOMIAL_DISTANCE>;
/// Shifts of the features of one turn, side by side: one narrow memory for all its lanes.
constexpr int kShiftBits = 4;
template <class Format>
using ShiftEntry = ap_uint<kShiftBits * TurnLanes<Format>()>;
template <class Format>
using RingEntry = Watched<typename Format::cell_t, ZIPML_RESIDUAL_LATENCY>;
template <class Format>
using DotEntry = Watched<typename Format::dot_t, ZIPML_DOT_DISTANCE>;

}  // namespace zipml
