// What all lanes take at once, on its way to them: copies in registers, each for a few lanes, so
// that no wire has hundreds of ends. Where there are many copies they are made in two steps.
#pragma once

#include "formats.hpp"

namespace zipml {

/// Lanes that take one copy.
constexpr int kLanesOfCopy = 16;
template <class Format>
constexpr int Copies() {
  return Format::kLanes <= kLanesOfCopy ? 1 : Format::kLanes / kLanesOfCopy;
}
template <class Format>
constexpr int CopyLanes() {
  return Format::kLanes / Copies<Format>();
}
/// Copies that the others are made of.
template <class Format>
constexpr int MiddleCopies() {
  return Copies<Format>() > 8 ? 4 : 1;
}

/// What it is given, a cycle later, out of a register of its own for each number: implementation
/// has to be told to keep registers that hold the same (overlay/common).
template <class T>
T Registered(T value, int number) {
  #pragma HLS INLINE off
  #pragma HLS FUNCTION_INSTANTIATE variable = number
  #pragma HLS PIPELINE II = 1
  #pragma HLS LATENCY min = 1 max = 1
  (void)number;
  return value;
}

/// Copies of a value for all lanes; lane i takes number i / CopyLanes.
template <class Format, class T>
void Spread(const T &value, T copies[Copies<Format>()]) {
  #pragma HLS INLINE
  constexpr int kCopies = Copies<Format>(), kMiddle = MiddleCopies<Format>();
  T middle[kMiddle];
  #pragma HLS ARRAY_PARTITION variable = middle type = complete dim = 1
MIDDLE_COPIES:
  for (int i = 0; i < kMiddle; ++i) {
    #pragma HLS UNROLL
    middle[i] = kMiddle == 1 ? value : Registered(value, i);
  }
LANE_COPIES:
  for (int i = 0; i < kCopies; ++i) {
    #pragma HLS UNROLL
    copies[i] = kCopies == 1 ? value : Registered(middle[i * kMiddle / kCopies], i);
  }
}

}  // namespace zipml
