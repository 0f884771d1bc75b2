/* The engine: the kernel's arithmetic built for the host. */
#ifndef ZIPML_ENGINE_H
#define ZIPML_ENGINE_H
#include "abi.h"

/* Runs the accelerator with words of `word_bits` bits on values of `format` (ValueFormat), on so
   many threads, or on as many as pay if `threads` is 0. Results do not depend on their number.
   Returns 0. Or the run ended early, and its model is what it was: 1, the number at `stop`, which
   may be null, became other than 0; 2, memory ran out; 3, there were no threads to be had. */
int32_t zipml_engine_run(uint32_t word_bits, uint32_t format, const ZipmlArguments *arguments,
                         ZipmlResults *results, uint32_t threads, const uint32_t *stop);

/* The same for `count` runs, one after the other; those behind one that is refused or ended early
   are not started, and their results stay as they were. */
int32_t zipml_engine_run_all(uint32_t word_bits, uint32_t format, const ZipmlArguments *arguments,
                             ZipmlResults *results, uint32_t count, uint32_t threads,
                             const uint32_t *stop);

/* Which loops a run takes on this machine: "avx512", "avxvnni", "avx512bw", "avx2", "neondot",
 * "neon" or "portable". */
const char *zipml_engine_loops(void);

#endif
