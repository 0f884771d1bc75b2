/* Systems of equations of a positive definite matrix: plain C declarations, parsed by cffi. */
#ifndef ZIPML_CHOLESKY_H
#define ZIPML_CHOLESKY_H
#include <stdint.h>

/* Sums run in an order of their own, the same on every machine and any number of threads. Matrices
   are row-major, size x size, of which what lies below the diagonal is not read. */

/* Replaces a symmetric matrix by the upper triangle U of U^T U. Returns 0, or 1 where it is not
   positive definite, whose entries are lost then. */
int32_t zipml_cholesky_factor(double *matrix, uint64_t size);

/* Replaces b by the x of U^T U x = b. */
void zipml_cholesky_solve(const double *factor, uint64_t size, double *b);

#endif
