/* Products of rows in floating point with several vectors: plain C declarations, parsed by cffi. */
#ifndef ZIPML_PRODUCTS_H
#define ZIPML_PRODUCTS_H
#include <stdint.h>

/* `values` is row-major, rows x features, `vectors` are count x features and `factors` count x
   rows. A vector has the same numbers alone and among others, on every machine: sums run in an
   order of their own. */

/* products[k * stride + i] = row i times vector k, summed up in float32. */
void zipml_row_products(const float *values, uint64_t rows, uint64_t features, const float *vectors,
                        uint64_t count, float *products, uint64_t stride);

/* sums[k * features + j] += the sum over rows of factors[k * stride + i] times value j of row i, in
   float32 over 64 rows at a time. Returns 0, or 2 where memory ran out. */
int32_t zipml_row_sums(const float *values, uint64_t rows, uint64_t features, const float *factors,
                       uint64_t stride, uint64_t count, double *sums);

#endif
