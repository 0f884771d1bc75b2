/* The logistic loss of several classes together over samples: plain C declarations, parsed by
   cffi. */
#ifndef ZIPML_SOFTMAX_H
#define ZIPML_SOFTMAX_H
#include <stdint.h>

/* Samples with the numbers of their classes, their weights, margins of every class, and of up to
   ZIPML_MOST_CHANGES ways along which these may go. All are classes x samples, the classes `stride`
   numbers apart. Everything below is for `count` samples from `first` on, has the same bits on
   every machine, and returns 0, or 2 where memory ran out. */
typedef struct {
  uint32_t classes;
  uint32_t ways;
  uint64_t stride;
  const int64_t *numbers;
  const double *weights;
  double *margins;
  float *const *along; /* one a way */
} ZipmlSoftmax;

/* Sums over samples after steps along the ways: of weight times loss, of its derivatives by the
   steps and of the second ones, ways x ways. */
int32_t zipml_softmax_sums(const ZipmlSoftmax *softmax, uint64_t first, uint64_t count,
                           const double *steps, double *sums);

/* Derivatives of weight times loss by the margins, and the second ones of each class alone. */
int32_t zipml_softmax_slopes(const ZipmlSoftmax *softmax, uint64_t first, uint64_t count,
                             float *slopes, float *curvatures);

/* Goes there: margins become those after the steps, and the last way what they have moved by. */
void zipml_softmax_move(const ZipmlSoftmax *softmax, uint64_t first, uint64_t count,
                        const double *steps);

#endif
