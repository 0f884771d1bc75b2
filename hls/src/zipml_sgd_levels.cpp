// Top function: a linear model from bit-planes whose codes are decoded by tables of levels.
#include "build.hpp"
#include "interfaces.hpp"
#include "top.hpp"
#include "zipml/tops.hpp"

typedef zipml::LevelFormat<ZIPML_WORD_BITS> level_format_t;

/// Trains a linear model; the registers are described in docs/registers.md.
extern "C" void zipml_sgd_levels(ZIPML_PORTS(level_format_t::word_t), const int32_t *levels,
                                 ZIPML_SCALARS, uint32_t level_tables, ZIPML_OUTPUTS) {
  // clang-format off: one pragma a line
  ZIPML_INTERFACES
  ZIPML_VECTOR_PORT(levels, 262144)
  ZIPML_REGISTER(level_tables)
  // clang-format on
  const zipml::Registers registers = {ZIPML_PASS_SCALARS, level_tables};
  zipml::Answer<level_format_t>(ZIPML_PASS_PORTS, levels, zipml::NoPort(), registers,
                                ZIPML_PASS_OUTPUTS);
}
