// Distances round the feedback paths of training, by word and clock: the one place that says so.
// The kernel takes them from its build, engine and Python by the word. docs/schedule.md.
#pragma once

#include <cstdint>

namespace zipml {

// From an entry of the model to a dot product, a coefficient, and the new entry is one loop, whose
// two distances are one budget: a tool may use of one what the other does not need. By count it
// takes 37 cycles at 100 MHz, and up to 46 at a clock that leaves time for one adder or two; words
// of more lanes add levels of the adder trees and of what hands a factor to all lanes. Pragmas
// repeat the numbers, and not every tool takes a constant's name there: so they are macros.

/// Whether a build has the short loop: few lanes, and a clock that an XC7Z020 can have.
#define ZIPML_SHORT_LOOP(word_bits, clock_mhz) ((word_bits) <= 64 && (clock_mhz) <= 150)
/// From the last word of a sample's last row to the first use of its coefficient.
#define ZIPML_SHORT_RESIDUAL_LATENCY 32
#define ZIPML_LONG_RESIDUAL_LATENCY 64
/// From a cell's last turn to the first use of its new model entries.
#define ZIPML_UPDATE_LATENCY 24

/// Clock in MHz of the boards that have this word; builds for other clocks say so
/// (-DZIPML_CLOCK_MHZ).
#define ZIPML_BOARD_CLOCK_MHZ(word_bits) ((word_bits) <= 64 ? 142 : (word_bits) <= 128 ? 250 : 300)

/// In cycles.
struct Distances {
  int32_t residual;
  int32_t update;
  int32_t pipeline;  // fill and drain of the training loop, beside the turns of the last cell
};

constexpr int32_t ResidualLatency(uint32_t word_bits, uint32_t clock_mhz) {
  return ZIPML_SHORT_LOOP(word_bits, clock_mhz) ? ZIPML_SHORT_RESIDUAL_LATENCY
                                                : ZIPML_LONG_RESIDUAL_LATENCY;
}

/// A pass takes no more cycles than once round the loop, and what comes before its first read.
constexpr Distances DistancesOf(uint32_t word_bits, uint32_t clock_mhz) {
  return {ResidualLatency(word_bits, clock_mhz), ZIPML_UPDATE_LATENCY,
          ResidualLatency(word_bits, clock_mhz) + ZIPML_UPDATE_LATENCY + 8};
}

constexpr uint32_t BoardClock(uint32_t word_bits) { return ZIPML_BOARD_CLOCK_MHZ(word_bits); }

/// Those of a build for the boards that have this word.
constexpr Distances BoardDistances(uint32_t word_bits) {
  return DistancesOf(word_bits, BoardClock(word_bits));
}

}  // namespace zipml
