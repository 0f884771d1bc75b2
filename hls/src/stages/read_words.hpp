// From memory: the words of a block.
#pragma once

#include "../geometry.hpp"

namespace zipml {

/// Where a buffer of planes side by side keeps a streamed plane.
inline uint32_t BufferPlane(const Geometry &g, uint32_t plane) {
  return plane < g.base_planes ? g.base_planes - 1 - plane : kMaxBits - 1 + plane - g.base_planes;
}

/// Streams the chosen planes of the next block; after the last block the first one follows, for the
/// next epoch. `next` holds the number of that block: each stage of the dataflow region counts for
/// itself. Where the buffer keeps planes side by side, base planes lie by their weight and dithers
/// behind the widest base.
template <class Format>
void ReadWords(
    const typename Format::word_t *planes, Registers r, Geometry g, uint32_t next[1],
    typename Format::word_t words[Format::kBufferPlanes][1 << BlockWordsLog2(Format::kFormat)]) {
  #pragma HLS INLINE off
  constexpr bool kSideBySide = Format::kBufferPlanes != 1;
  const uint32_t block = next[0];
  next[0] = NextBlock(r, g, block);
  const uint64_t address = static_cast<uint64_t>(block) * r.block_stride;
  const uint32_t all = g.planes * g.plane_words;
  // the base planes are the first ones; the dithers of the precision follow at once or further on
  const uint32_t prefix = g.base_planes * g.plane_words;
  const uint32_t first = g.bursts == 2 ? prefix : all;
  const uint64_t first_address = g.base_planes == 0 ? address + r.dither_offset : address;
  const uint64_t second_address = address + r.dither_offset;
  uint32_t plane = 0, place = 0;
READ_FIRST:
  for (uint32_t i = 0; i < first; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 8192
    words[kSideBySide ? BufferPlane(g, plane) : 0][place] = planes[first_address + i];
    if (++place == g.plane_words && kSideBySide) {
      place = 0;
      ++plane;
    }
  }
  const uint32_t second = all - first;
READ_SECOND:
  for (uint32_t i = 0; i < second; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 8192
    words[kSideBySide ? BufferPlane(g, plane) : 0][place] = planes[second_address + i];
    if (++place == g.plane_words && kSideBySide) {
      place = 0;
      ++plane;
    }
  }
}

}  // namespace zipml
