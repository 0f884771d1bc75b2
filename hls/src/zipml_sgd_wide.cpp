// Top function: a linear model from bit-planes, 1 to 16 bits a value.
#include "build.hpp"
#include "interfaces.hpp"
#include "top.hpp"
#include "zipml/tops.hpp"

typedef zipml::BitPlaneFormat<ZIPML_WORD_BITS, zipml::kWide> wide_format_t;

/// Trains a linear model; the registers are described in docs/registers.md.
extern "C" void zipml_sgd_wide(ZIPML_PORTS(wide_format_t::word_t), ZIPML_SCALARS, ZIPML_OUTPUTS) {
  // clang-format off: one pragma a line
  ZIPML_INTERFACES
  // clang-format on
  const zipml::Registers registers = {ZIPML_PASS_SCALARS, 0};
  zipml::Answer<wide_format_t>(ZIPML_PASS_PORTS, zipml::NoPort(), zipml::NoPort(), registers,
                               ZIPML_PASS_OUTPUTS);
}
