/* The C interface of kernel and engine: the registers of `zipml_sgd` by name, pointers resolved.
   cffi parses it as it stands (preprocessor lines are dropped): plain C declarations only. */
#ifndef ZIPML_ABI_H
#define ZIPML_ABI_H
#include <stdint.h>

typedef struct {
  const uint64_t *planes;    /* words, each word_bits / 64 little-endian uint64 */
  const int32_t *labels;     /* blocks * block_samples, or pairs with weights behind the labels */
  int32_t *model;            /* chunks * lanes entries, shifts of as many features with the flag,
                                as many corrections with theirs, then the pending coefficients */
  int32_t *history;          /* epochs rows of chunks * lanes entries */
  const uint32_t *schedule;  /* epochs rows: steps / batch, decay, gradient's shift */
  const int32_t *derivative; /* table or coefficients of the loss, null for other losses */
  const int32_t *levels;     /* level_tables tables of 2^(bits-1) + 1, null for other formats */
  const uint64_t *full;      /* float32 samples to fetch again, null for other formats */
  uint32_t samples;
  uint32_t features;
  uint32_t batch;
  uint32_t block_samples;
  uint32_t block_stride;  /* words from one block to the next */
  uint32_t dither_offset; /* words from the start of a block to its dither planes */
  uint32_t bits;
  uint32_t sampling;
  uint32_t epochs;
  uint32_t delay;
  uint32_t skip;    /* batches of the first block that are done already */
  uint32_t pending; /* batches after them whose update is still to come */
  uint32_t flags;
  uint32_t loss;
  uint32_t degree;
  uint32_t range_log2;
  uint32_t model_bits;
  uint32_t model_shift;
  uint32_t gradient_bits;
  uint32_t seed;
  uint32_t first_update; /* number of the first update since the run began */
  uint32_t first_block;
  uint32_t block_step;
  uint32_t level_tables; /* 1 or features, 0 for other formats */
} ZipmlArguments;

typedef struct {
  uint32_t status;
  uint32_t version;
  uint64_t capability;
  uint64_t words;
  uint64_t modelled_cycles; /* by the schedule */
  uint64_t measured_cycles; /* by a clock, or by the schedule without one */
  uint64_t waited_cycles;   /* of them those in which training waited for words */
  uint32_t counted;         /* 1: there is a clock */
  uint32_t saturations;
  uint32_t outside;
  uint32_t clipped;
  uint32_t refetched;
} ZipmlResults;

#endif
