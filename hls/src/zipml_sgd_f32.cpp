// Top function: the same at 32 bits a value, the baseline.
#include "build.hpp"
#include "interfaces.hpp"
#include "top.hpp"
#include "zipml/tops.hpp"

typedef zipml::FloatFormat<ZIPML_WORD_BITS> float_format_t;

/// Trains a linear model; the registers are described in docs/registers.md.
extern "C" void zipml_sgd_f32(ZIPML_PORTS(float_format_t::word_t), ZIPML_SCALARS, ZIPML_OUTPUTS) {
  // clang-format off: one pragma a line
  ZIPML_INTERFACES
  // clang-format on
  const zipml::Registers registers = {ZIPML_PASS_SCALARS, 0};
  zipml::Answer<float_format_t>(ZIPML_PASS_PORTS, zipml::NoPort(), zipml::NoPort(), registers,
                                ZIPML_PASS_OUTPUTS);
}
