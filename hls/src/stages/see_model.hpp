// Before the first block: what the first dot products see of the model.
#pragma once

#include "../memories.hpp"
#include "../registers.hpp"
#include "zipml/random.hpp"

namespace zipml {

/// Makes version 0, what the first dot products see, from the update side's copy: quantized, if the
/// model is to be. The random numbers are those of the update before the first one, so that a run
/// that is cut between two updates goes on with the model that it would have had. Once a run, so
/// the generator takes a round at a time: nothing here unrolls it.
template <class Format>
void SeeModel(const ModelEntry master[1 << MasterLog2<Format>()][TurnLanes<Format>()],
              uint32_t entries, const Registers &r,
              ModelEntry model[kModelVersions << CellsLog2<Format>()][Format::kLanes],
              uint64_t norms[kModelVersions], uint32_t &clipped) {
  #pragma HLS INLINE off
  uint32_t cell = 0, lane = 0, row = 0, turn_lane = 0;
  uint64_t norm = 0;
SEE_GROUPS:
  for (uint32_t group = 0; group << kDrawFeaturesLog2 < entries; ++group) {
    #pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
    Spend(kDrawLatency + kDrawFeatures);
    const Draws draws = DrawsOf(r.seed, r.first_update - 1, group);
    const Rounding<uint32_t> rounding = ModelRounding(draws, r.model_shift, r.model_bits);
  SEE_ENTRIES:
    for (uint32_t i = 0; i < kDrawFeatures; ++i) {
      #pragma HLS PIPELINE II = 1
      #pragma HLS LOOP_TRIPCOUNT min = 64 max = 64
      // rows of few lanes may end inside a group
      if ((group << kDrawFeaturesLog2) + i < entries) {
        const uint32_t number = NumberOf(rounding, rounding.words[0], i);
        const int32_t seen =
            static_cast<int32_t>(Rounded(rounding, master[row][turn_lane], number, clipped));
        model[cell][lane] = seen;
        norm += Magnitude(seen);
        if (++lane == Format::kLanes) {
          lane = 0;
          ++cell;
        }
        if (++turn_lane == TurnLanes<Format>()) {
          turn_lane = 0;
          ++row;
        }
      }
    }
  }
  norms[0] = norm;
}

}  // namespace zipml
