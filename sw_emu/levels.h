/* Variance-optimal levels (docs/levels.md): plain C declarations, parsed by cffi. */
#ifndef ZIPML_LEVELS_H
#define ZIPML_LEVELS_H
#include <stdint.h>

/* What zipml_levels_* return: 0, or this where memory ran out. */
enum { ZIPML_LEVELS_NO_MEMORY = 1 };

/* Levels (k of them, ascending) for ascending finite `values` (n). `weights` (n, not negative) may
   be null: 1 each. The smallest objective there is (exact), within 2 of the smallest with fewer
   levels (greedy), or the smallest among the levels that merging leaves (greedy_exact). Sizes are
   not checked here: n >= 1, n < 2^32, k >= 2. */
int32_t zipml_levels_exact(const double *values, const double *weights, int64_t n, int64_t k,
                           double *levels);
int32_t zipml_levels_greedy(const double *values, const double *weights, int64_t n, int64_t k,
                            double *levels);
int32_t zipml_levels_greedy_exact(const double *values, const double *weights, int64_t n, int64_t k,
                                  double *levels);

/* Adds n values to a histogram of `bins` equal bins of [low, high], low < high. `sums` (bins x 4)
   holds weight, offset, offset * (1 - offset) and nothing, offsets being counted in bins from the
   bin's lower edge. `x_bytes` is 4 (float) or 8 (double). Returns the index of the first value
   outside [low, high], which ends the work, or n. */
int64_t zipml_histogram_add(const void *values, uint32_t x_bytes, const double *weights, int64_t n,
                            double low, double high, int64_t bins, double *sums);

/* Edges (k of them, ascending, as numbers 0..bins) that make the best levels among the edges. */
int32_t zipml_histogram_levels(const double *sums, int64_t bins, int64_t k, int64_t *edges);

#endif
