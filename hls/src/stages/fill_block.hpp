// The fill side of training: the next block's words and labels, as they come, go to the half of the
// block buffers that the dot side does not read.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"
#include "../processes.hpp"

namespace zipml {

/// Where the block that comes next goes, and how much of it is still to come.
struct FillSide {
  uint32_t half;    // of the block buffers
  uint32_t words;   // to come
  uint32_t plane;   // of the next word, where planes lie side by side
  uint32_t place;   // of the next word in its plane, or in the block
  uint32_t labels;  // labels and weights to come
  uint32_t sample;  // of the next of these
  bool weight;      // it is a weight
};

/// Takes up the next block.
/// \param comes  there is one
inline FillSide FillSideOf(const Registers &r, const Geometry &g, uint32_t half, bool comes) {
  #pragma HLS INLINE
  const FillSide fill = {half, comes ? g.block_words : 0, 0, 0, comes ? LabelWords(r) : 0, 0,
                         false};
  return fill;
}

inline bool Fills(const FillSide &fill) {
  #pragma HLS INLINE
  return fill.words != 0 || fill.labels != 0;
}

/// Where a buffer of planes side by side keeps a streamed plane: base planes by their weight, and
/// dithers behind the widest base.
inline uint32_t BufferPlane(const Geometry &g, uint32_t plane) {
  return plane < g.base_planes ? g.base_planes - 1 - plane : kMaxBits - 1 + plane - g.base_planes;
}

/// One word and one label, if they are there. Training does not wait for them.
template <class Format>
void FillStep(const Registers &r, const Geometry &g, hls::stream<typename Format::word_t> &words_in,
              hls::stream<int32_t> &labels_in,
              WordEntry<Format> words[Format::kBufferPlanes][BufferWords<Format>()],
              LabelEntry block_labels[kBufferSamples], LabelEntry block_weights[kBufferSamples],
              FillSide &fill) {
  #pragma HLS INLINE
  constexpr bool kSideBySide = Format::kBufferPlanes != 1;
  if (fill.words != 0 && !words_in.empty()) {
    const uint32_t address = (fill.half << BlockWordsLog2(Format::kFormat)) + fill.place;
    words[kSideBySide ? BufferPlane(g, fill.plane) : 0][address] = words_in.read();
    --fill.words;
    if (++fill.place == g.plane_words && kSideBySide) {
      fill.place = 0;
      ++fill.plane;
    }
  }
  if (fill.labels != 0 && !labels_in.empty()) {
    const int32_t one = 1 << kWeightFractionBits;
    const bool pairs = LabelColumns(r) == 2;
    const uint32_t address = (fill.half << kBlockSamplesLog2) + fill.sample;
    const int32_t value = labels_in.read();
    if (!fill.weight) block_labels[address] = value;
    if (!pairs || fill.weight) {
      block_weights[address] = pairs ? value : one;
      ++fill.sample;
    }
    fill.weight = pairs && !fill.weight;
    --fill.labels;
  }
}

/// What training has left of the next block: here it waits. Returns the cycles.
template <class Format>
uint32_t AwaitBlock(const Registers &r, const Geometry &g,
                    hls::stream<typename Format::word_t> &words_in, hls::stream<int32_t> &labels_in,
                    WordEntry<Format> words[Format::kBufferPlanes][BufferWords<Format>()],
                    LabelEntry block_labels[kBufferSamples],
                    LabelEntry block_weights[kBufferSamples], FillSide &fill) {
  #pragma HLS INLINE off
  uint32_t waited = 0;
AWAIT:
  for (; Fills(fill); ++waited) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 0 max = 8192
    // clang-format off: one pragma a line
    ZIPML_NOT_SHARED(words)
    ZIPML_NOT_SHARED(block_labels)
    ZIPML_NOT_SHARED(block_weights)
    // clang-format on
    Spend(1);
    FillStep<Format>(r, g, words_in, labels_in, words, block_labels, block_weights, fill);
  }
  return waited;
}

}  // namespace zipml
