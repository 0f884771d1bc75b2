// What the memories on chip hold. Run declares them (top.hpp), for they live as long as a run.
#pragma once

#include <ap_int.h>

#include "formats.hpp"
#include "zipml/config.hpp"

// In the bench a type of its own stands for the entries whose distances TrainSlots promises, and
// ends a run that reads one too soon.
#ifdef ZIPML_WATCH
#include "watched.hpp"
#else
namespace zipml {
template <class T, int kDistance>
using Watched = T;
inline void BeginPass() {}
inline void EndPasses() {}
}  // namespace zipml
#endif

// A batch of one sample may add to the same dot product in every pass: forwarded past the memory.
#define ZIPML_DOT_DISTANCE 2

namespace zipml {

constexpr int kModelVersions = 3;
constexpr int kCoefficientEntries = (kMaxDelay + 1) * kMaxBatch;

using ModelEntry = Watched<int32_t, ZIPML_UPDATE_LATENCY>;
using CoefficientEntry = Watched<int32_t, ZIPML_RESIDUAL_LATENCY>;
using PolynomialEntry = Watched<int32_t, ZIPML_POLYNOMIAL_DISTANCE>;
/// Shifts of the features of one turn, side by side: one narrow memory for all its lanes.
constexpr int kShiftBits = 4;
template <class Format>
using ShiftEntry = ap_uint<kShiftBits * TurnLanes<Format>()>;
template <class Format>
using RingEntry = Watched<typename Format::cell_t, ZIPML_RESIDUAL_LATENCY>;
template <class Format>
using DotEntry = Watched<typename Format::dot_t, ZIPML_DOT_DISTANCE>;

}  // namespace zipml
