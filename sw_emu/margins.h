/* Losses of the margin over samples, and where they are least along some changes: plain C
   declarations, parsed by cffi. */
#ifndef ZIPML_MARGINS_H
#define ZIPML_MARGINS_H
#include <stdint.h>

/* Losses, and the most changes of a search. */
enum { ZIPML_SQUARED_HINGE, ZIPML_LOGISTIC };
enum { ZIPML_MOST_CHANGES = 8 };

/* Samples with their weights, margins of a model and of `changes` changes, which lie `stride`
   numbers apart. Everything below has the same bits on every machine. */
typedef struct {
  uint32_t loss;
  uint32_t changes;
  uint64_t samples;
  const double *weights;
  const double *margins;
  const double *along;
  uint64_t stride;
} ZipmlMargins;

/* What is added to the mean loss: a polynomial of second degree of how much of each change there
   is. And when the search ends, see zipml_pynq/training/refinement.py. */
typedef struct {
  double value;
  const double *slopes; /* one a change */
  const double *moment; /* changes x changes */
  uint32_t iterations;
  double enough;
  double shortest;
  double noise;
} ZipmlSearch;

/* way = -(moment^+) slope of n changes, with eigenvalues below a share of the largest taken as 0;
   returns the gain that is to be expected of it. */
double zipml_newton_step(uint32_t n, const double *moment, const double *slope, double noise,
                         double *way);

/* The sum of weight times loss; writes, where these are not null, weight times minus the derivative
   and times the second derivative of each sample. */
double zipml_margin_losses(const ZipmlMargins *margins, double *sizes, double *curvatures);

/* How much of each change has the least objective together, by Newton's method; writes the margins
   there, too, and returns the sum of weight times loss there. */
double zipml_margin_search(const ZipmlMargins *margins, const ZipmlSearch *search, double *steps,
                           double *moved);

/* The largest of `values`, none of them negative, that together with all that are smaller comes to
   no less than a share of their sum by as few as possible; 0 where all are 0. */
double zipml_flat_below(const double *values, uint64_t count, double share);
double zipml_flat_below_single(const float *values, uint64_t count, double share);

#endif
