// Cholesky's factor, several rows at a time: what goes into them is read once for all.
#include <algorithm>
#include <cmath>
#include <cstdint>

extern "C" {
#include "cholesky.h"
}
#include "clones.h"

namespace {

/// Rows that are finished at a time.
constexpr uint64_t kTogether = 8;

/// row[j] -= factor * above[j], from j on.
ZIPML_BODY void Subtract(double *row, const double *above, double factor, uint64_t j,
                         uint64_t size) {
  for (; j < size; ++j) row[j] -= factor * above[j];
}

ZIPML_BODY bool FactorBody(double *matrix, uint64_t size) {
  for (uint64_t begin = 0; begin < size; begin += kTogether) {
    const uint64_t end = std::min(size, begin + kTogether);
    for (uint64_t k = 0; k < begin; ++k) {
      const double *above = matrix + k * size;
      for (uint64_t i = begin; i < end; ++i) {
        Subtract(matrix + i * size, above, above[i], i, size);
      }
    }
    for (uint64_t i = begin; i < end; ++i) {
      double *row = matrix + i * size;
      for (uint64_t k = begin; k < i; ++k) {
        const double *above = matrix + k * size;
        Subtract(row, above, above[i], i, size);
      }
      if (!(row[i] > 0)) return false;
      const double root = std::sqrt(row[i]);
      for (uint64_t j = i; j < size; ++j) row[j] /= root;
    }
  }
  return true;
}
ZIPML_CLONES(Factor)

ZIPML_BODY void SolveBody(const double *factor, uint64_t size, double *b) {
  for (uint64_t k = 0; k < size; ++k) {
    const double *row = factor + k * size;
    b[k] /= row[k];
    Subtract(b, row, b[k], k + 1, size);
  }
  for (uint64_t k = size; k-- > 0;) {
    const double *row = factor + k * size;
    double left = b[k];
    for (uint64_t j = k + 1; j < size; ++j) left -= row[j] * b[j];
    b[k] = left / row[k];
  }
}
ZIPML_CLONES(Solve)

}  // namespace

extern "C" int32_t zipml_cholesky_factor(double *matrix, uint64_t size) {
  return Factor(matrix, size) ? 0 : 1;
}

extern "C" void zipml_cholesky_solve(const double *factor, uint64_t size, double *b) {
  Solve(factor, size, b);
}
