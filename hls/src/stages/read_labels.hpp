// From memory: labels and weights of all blocks, in the order in which they are trained on.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"
#include "../processes.hpp"

namespace zipml {

/// Process: the labels of every block of every epoch, each with its sample's weight behind it where
/// samples have weights.
inline void ReadLabels(const int32_t *labels, Registers r, Geometry g,
                       hls::stream<int32_t> &block_labels) {
  #pragma HLS INLINE off
  const uint32_t words = LabelWords(r);
READ_LABELS_EPOCHS:
  for (uint32_t epoch = 0; epoch < r.epochs; ++epoch) {
    #pragma HLS LOOP_TRIPCOUNT min = 1 max = 65536
    uint32_t block = r.first_block;
  READ_LABELS_BLOCKS:
    for (uint32_t count = 0; count < g.blocks; ++count) {
      #pragma HLS LOOP_TRIPCOUNT min = 1 max = 65536
      const uint64_t address = static_cast<uint64_t>(block) * words;
      Spend(kMemoryLatency);
    READ_LABELS:
      for (uint32_t i = 0; i < words; ++i) {
        #pragma HLS PIPELINE II = 1
        #pragma HLS LOOP_TRIPCOUNT min = 8 max = 8192
        Spend(1);
        block_labels.write(labels[address + i]);
      }
      block = NextBlock(r, g, block);
    }
  }
}

}  // namespace zipml
