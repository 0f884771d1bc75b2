/* The HLS top functions, compiled with the vendor's C-simulation headers. */
#ifndef ZIPML_KERNEL_H
#define ZIPML_KERNEL_H
#include "abi.h"

/* Same contract as zipml_engine_run; word_bits is 64, 128 or 512. */
void zipml_kernel_run(uint32_t word_bits, uint32_t format, const ZipmlArguments *arguments,
                      ZipmlResults *results);

#endif
