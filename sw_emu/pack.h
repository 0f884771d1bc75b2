/* Ranges of columns, and packing of samples into blocks of bit-planes and back: docs/data.md. */
#ifndef ZIPML_PACK_H
#define ZIPML_PACK_H
#include <stdint.h>

/* Samples as they come: rows of `columns` values, `row_stride` values apart. */
typedef struct {
  const void *x;
  int64_t row_stride;
  uint64_t rows;
  uint32_t columns;
  uint32_t x_bytes; /* of one value: 4 (float) or 8 (double) */
} ZipmlSamples;

/* What these return where memory ran out. */
enum { ZIPML_NO_MEMORY = 2 };

/* Smallest and largest value of each column; infinite where a value is, and 1 is returned if a
   value is not a number. */
uint32_t zipml_column_range(const ZipmlSamples *samples, double *low, double *high);

/* Sums of each column in integers, so that neither order nor cuts matter: of v = x * scale[column],
   which must stay below 2^29 in size, rounded, and of 2^30 times what that leaves, rounded. */
int32_t zipml_column_sums(const ZipmlSamples *samples, const double *scale, int64_t *whole,
                          int64_t *rest);

/* How many values are further than half[column] from mid[column]; -1 where memory ran out. */
int64_t zipml_count_outside(const ZipmlSamples *samples, const double *mid, const double *half);

/* What is the same for every block of a data set. Sizes are not checked here: the caller did. */
typedef struct {
  const double *mid;     /* one a column */
  const double *divisor; /* one a column: half its range, infinity where the column is constant */
  int64_t row_stride;    /* values from one row of x to the next */
  uint64_t seed;
  uint32_t draw;
  uint32_t x_bytes; /* of one value of x: 4 (float) or 8 (double) */
  uint32_t columns;
  uint32_t features; /* columns, or one more: the intercept, which is 1 in every sample */
  uint32_t samples;
  uint32_t block_samples;
  uint32_t word_bits;     /* a multiple of 64 */
  uint32_t format;        /* ValueFormat; nothing below counts for kFloat32 */
  uint32_t precisions;    /* bit b is set: dither planes of b bits are stored */
  uint32_t dither_planes; /* of one precision: 1 to 8 */
  uint32_t nearest;       /* not 0: round to nearest instead of drawing */
  const int16_t *levels;  /* only of kLevels, of its one precision: level i of feature j is
                             levels[i * features + j], kLevelFractionBits fraction bits */
  const int64_t *order;   /* null, or the number of each sample's row of x, the first ones those of
                             first_block */
} ZipmlPacking;

/* Packs the blocks first_block .. last_block - 1. Without an order `x` is the row of the first
   sample of first_block; `planes` the first word of first_block; every word of these blocks is
   written. The result does not depend on how a data set is cut into calls. */
void zipml_pack(const ZipmlPacking *packing, const void *x, uint32_t first_block,
                uint32_t last_block, uint64_t *planes);

/* Writes base + dither of the first `rows` samples to `codes` (rows x features). `planes` is the
   first word of a block, `block_stride` the words from one block to the next, `dither_offset` the
   words from the start of a block to the one dither plane that is added. */
void zipml_unpack(const uint64_t *planes, uint32_t word_bits, uint32_t features,
                  uint32_t block_samples, uint32_t block_stride, uint32_t dither_offset,
                  uint32_t bits, uint32_t rows, uint16_t *codes);

#endif
