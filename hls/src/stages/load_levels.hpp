// Before the first block: tables of levels.
#pragma once

#include "../geometry.hpp"
#include "../memories.hpp"

namespace zipml {

/// Formats without tables load none.
template <class Format, class... Arguments>
void LoadLevels(NoPort, const Arguments &...) {}

/// Copies tables of levels from memory, feature after feature, to the lanes that decode with them;
/// a single table goes to all lanes.
template <class Format>
void LoadLevels(const int32_t *memory, const Registers &r,
                int16_t dot_levels[Format::kLanes][1 << Format::kTableLog2],
                int16_t update_levels[Format::kLanes][1 << Format::kTableLog2]) {
  #pragma HLS INLINE off
  const uint32_t tables = r.level_tables, count = LevelCount(r.bits);
  const uint32_t levels = LevelsInMemory(r);
  uint32_t level = 0, lane = 0, table = 0;
  Spend(levels + kMemoryLatency);
LOAD_LEVELS:
  for (uint32_t i = 0; i < levels; ++i) {
    #pragma HLS PIPELINE II = 1
    #pragma HLS LOOP_TRIPCOUNT min = 2 max = 262144
    const int16_t value = static_cast<int16_t>(memory[i]);
  LEVEL_LANES:
    for (int k = 0; k < Format::kLanes; ++k) {
      #pragma HLS UNROLL
      if (tables == 1 || static_cast<uint32_t>(k) == lane) {
        dot_levels[k][table + level] = value;
        update_levels[k][table + level] = value;
      }
    }
    if (++level == count) {
      level = 0;
      if (++lane == Format::kLanes) {
        lane = 0;
        table += count;
      }
    }
  }
}

}  // namespace zipml
