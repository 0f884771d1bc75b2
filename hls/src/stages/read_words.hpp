// From memory: the words of all blocks, in the order in which they are trained on.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"
#include "../processes.hpp"

namespace zipml {

/// Streams the chosen planes of a block: in one burst, or in two where planes of other precisions
/// lie between base and dithers.
template <class Format>
void ReadBlock(const typename Format::word_t *planes, const Registers &r, const Geometry &g,
               uint32_t block, hls::stream<typename Format::word_t> &words) {
  #pragma HLS INLINE
  const uint64_t address = static_cast<uint64_t>(block) * r.block_stride;
  const uint32_t all = g.block_words;
  // the base planes are the first ones; the dithers of the precision follow at once or further on
  const uint32_t first = g.bursts == 2 ? g.base_words : all;
  const uint64_t first_address = g.base_planes == 0 ? address + r.dither_offset : address;
  const uint64_t second_address = address + r.dither_offset;
  Spend(g.bursts == 2 ? 2 * kMemoryLatency : kMemoryLatency);
READ_FIRST:
  for (uint32_t i = 0; i < first; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 64 max = 8192
    Spend(1);
    words.write(planes[first_address + i]);
  }
  const uint32_t second = all - first;
READ_SECOND:
  for (uint32_t i = 0; i < second; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 8192
    Spend(1);
    words.write(planes[second_address + i]);
  }
}

/// Process: the words of every block of every epoch.
template <class Format>
void ReadWords(const typename Format::word_t *planes, Registers r, Geometry g,
               hls::stream<typename Format::word_t> &words) {
  #pragma HLS INLINE off
READ_WORDS_EPOCHS:
  for (uint32_t epoch = 0; epoch < r.epochs; ++epoch) {
    #pragma HLS LOOP_TRIPCOUNT min = 1 max = 65536
    uint32_t block = r.first_block;
  READ_WORDS_BLOCKS:
    for (uint32_t i = 0; i < g.blocks; ++i) {
      #pragma HLS LOOP_TRIPCOUNT min = 1 max = 65536
      ReadBlock<Format>(planes, r, g, block, words);
      block = NextBlock(r, g, block);
    }
  }
}

}  // namespace zipml
