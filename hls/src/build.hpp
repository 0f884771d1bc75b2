// What a build is told: the width of a word, -DZIPML_WORD_BITS=64 (Zynq-7000), 128 (Zynq
// UltraScale+) or 512 (Alveo), and the clock, -DZIPML_CLOCK_MHZ, by default that of the boards with
// this word. The distances of the feedback paths follow (zipml/distances.hpp).
#pragma once

#include "zipml/distances.hpp"

#ifndef ZIPML_WORD_BITS
#define ZIPML_WORD_BITS 64
#endif

#define ZIPML_WORD_BITS_LOG2 (ZIPML_WORD_BITS == 64 ? 6 : ZIPML_WORD_BITS == 128 ? 7 : 9)

#ifndef ZIPML_CLOCK_MHZ
#define ZIPML_CLOCK_MHZ ZIPML_BOARD_CLOCK_MHZ(ZIPML_WORD_BITS)
#endif

#if !ZIPML_SHORT_LOOP(ZIPML_WORD_BITS, ZIPML_CLOCK_MHZ)
#define ZIPML_RESIDUAL_LATENCY ZIPML_LONG_RESIDUAL_LATENCY
#else
#define ZIPML_RESIDUAL_LATENCY ZIPML_SHORT_RESIDUAL_LATENCY
#endif

namespace zipml {

/// Of this build. Functions that are no templates of a format do not use it: a program may have
/// builds of several words in it.
constexpr Distances kDistances = DistancesOf(ZIPML_WORD_BITS, ZIPML_CLOCK_MHZ);

}  // namespace zipml
