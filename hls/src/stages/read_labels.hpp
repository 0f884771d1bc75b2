// From memory: the labels of a block and the weights of its samples.
#pragma once

#include "../geometry.hpp"

namespace zipml {

/// Labels of the next block, and the weights of its samples: 1 where they have none.
inline void ReadLabels(const int32_t *labels, Registers r, Geometry g, uint32_t next[1],
                       int32_t block_labels[kBlockSamples], int32_t block_weights[kBlockSamples]) {
  #pragma HLS INLINE off
  const uint32_t block = next[0];
  next[0] = NextBlock(r, g, block);
  const uint32_t columns = LabelColumns(r);
  const uint64_t address = static_cast<uint64_t>(block) * r.block_samples * columns;
  const int32_t one = 1 << kWeightFractionBits;
READ_LABELS:
  for (uint32_t i = 0; i < r.block_samples * columns; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 8 max = 8192
    const int32_t value = labels[address + i];
    const uint32_t sample = columns == 2 ? i >> 1 : i;
    if (columns == 1 || (i & 1) == 0) {
      block_labels[sample] = value;
      if (columns == 1) block_weights[sample] = one;
    } else {
      block_weights[sample] = value;
    }
  }
}

}  // namespace zipml
