// What the bench watches, and nothing elsewhere: distances of memories, widths of numbers, clocks.
#pragma once

#include <cstdint>

// In the bench a type of its own stands for the entries whose distances TrainSlots promises, and
// ends a run that reads one too soon; and processes spend cycles.
#ifdef ZIPML_WATCH
#include "watched.hpp"
#else
namespace zipml {
template <class T, int kDistance>
using Watched = T;
inline void BeginPass() {}
inline void EndPasses() {}
inline void Spend(uint32_t) {}
inline uint64_t CycleNow() { return 0; }
inline void Expect(bool, int) {}
#ifdef __SYNTHESIS__
constexpr bool kHasClock = true;
#else
constexpr bool kHasClock = false;
#endif
}  // namespace zipml
#endif
