/* The full-precision baseline: mini-batch SGD for least squares in float32. */
#ifndef ZIPML_FLOAT_SGD_H
#define ZIPML_FLOAT_SGD_H
#include <stdint.h>

/* For each epoch e and its batches k in order:
     x <- x - factors * (steps[e] / batch * sum_i (a_i x - y_i) a_i + decays[e] x),
   where the dot products of batch k see the updates of batches <= k - 1 - delay. Like the
   accelerator it divides a ragged last batch by `batch` too, and applies every update before an
   epoch ends.

   values   row-major, samples x features
   labels   samples
   model    features; read as the start, overwritten by the result
   history  epochs x features, the model after each epoch; may be NULL
   steps    one per epoch, not divided by the batch
   decays   one per epoch, step * l2
   factors  features, of the step and the decay; may be NULL: 1
   threads  each has a share of the features; sums round in an order that depends on it

   Returns 0, or -1 if samples, features, batch, epochs or threads is 0 (nothing is touched then).
   Or the run ended early, and the model is of no use: 1, the number at `stop`, which may be null,
   became other than 0; 2, memory ran out; 3, there were no threads to be had. */
int32_t zipml_float_sgd(const float *values, const float *labels, float *model, float *history,
                        uint32_t samples, uint32_t features, uint32_t batch, uint32_t epochs,
                        uint32_t delay, const float *steps, const float *decays,
                        const float *factors, uint32_t threads, const uint32_t *stop);

/* The sum of `count` words: what memory can deliver to one thread, for benchmarks. */
uint64_t zipml_read_words(const uint64_t *words, uint64_t count);

#endif
