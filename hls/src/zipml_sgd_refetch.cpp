// Top function: the hinge from bit-planes; samples in doubt are read again at full precision.
#include "build.hpp"
#include "interfaces.hpp"
#include "top.hpp"
#include "zipml/tops.hpp"

typedef zipml::BitPlaneFormat<ZIPML_WORD_BITS, zipml::kRefetch> refetch_format_t;

/// Trains a linear model; the registers are described in docs/registers.md.
extern "C" void zipml_sgd_refetch(ZIPML_PORTS(refetch_format_t::word_t),
                                  const refetch_format_t::word_t *full, ZIPML_SCALARS,
                                  ZIPML_OUTPUTS) {
  // clang-format off: one pragma a line
  ZIPML_INTERFACES
  ZIPML_READ_PORT(full, gmem_full, 4096, 4)
  // clang-format on
  const zipml::Registers registers = {ZIPML_PASS_SCALARS, 0};
  zipml::Answer<refetch_format_t>(ZIPML_PASS_PORTS, zipml::NoPort(), full, registers,
                                  ZIPML_PASS_OUTPUTS);
}
