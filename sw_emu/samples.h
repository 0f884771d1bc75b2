/* Samples on their own: normalized, or taken out of blocks. Plain C declarations, parsed by cffi.
 */
#ifndef ZIPML_SAMPLES_H
#define ZIPML_SAMPLES_H
#include <stdint.h>

#include "pack.h"

/* values[i * features + j] = float32 of (x - mid[j]) / divisor[j] computed in double, 0 where that
   is not a number; behind the columns, if `features` is one more, a 1. With an order, row i is
   row order[i] of the samples. */
void zipml_normalize(const ZipmlSamples *samples, const int64_t *order, const double *mid,
                     const double *divisor, uint32_t features, float *values);

/* Blocks of the samples `index[0]` .. `index[count - 1]` of other blocks, with zeros behind them up
   to the end of the last one. A block is `planes` planes of `block_samples` rows of `row_words`. */
void zipml_take(const uint64_t *blocks, uint32_t planes, uint32_t block_samples, uint32_t row_words,
                const int64_t *index, uint64_t count, uint64_t *taken);

#endif
