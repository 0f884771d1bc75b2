/* The engine: the kernel's arithmetic built for the host. */
#ifndef ZIPML_ENGINE_H
#define ZIPML_ENGINE_H
#include "abi.h"

/* Runs the accelerator with words of `word_bits` bits on values of `format` (ValueFormat). */
void zipml_engine_run(uint32_t word_bits, uint32_t format, const ZipmlArguments *arguments,
                      ZipmlResults *results);

#endif
