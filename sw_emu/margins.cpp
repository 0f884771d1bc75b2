// Losses of the margin, their derivatives, and the search for the least of them along some changes.
// Bits do not depend on the machine, see lanes.hpp.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

extern "C" {
#include "margins.h"
}
#include "clones.h"
#include "lanes.hpp"

namespace {

using namespace zipml;

constexpr uint32_t kMost = ZIPML_MOST_CHANGES;
/// Steps of Jacobi's method, each once through the matrix: more than any of this size takes.
constexpr int kSweeps = 30;

/// Loss, minus its derivative, and its second derivative at a margin.
struct SquaredHinge {
  static ZIPML_INLINE void At(double m, double *loss, double *size, double *curvature) {
    const double below = 1.0 - m;
    *size = below > 0.0 ? below : 0.0;
    *loss = *size * *size * 0.5;
    *curvature = m < 1.0 ? 1.0 : 0.0;
  }
};

struct Logistic {
  static ZIPML_INLINE void At(double m, double *loss, double *size, double *curvature) {
    const double e = Exponential(m < 0.0 ? m : -m);
    const double share = 1.0 / (1.0 + e);
    *loss = LogarithmOfOneAnd(e) + (m < 0.0 ? -m : 0.0);
    *size = m < 0.0 ? share : e * share;
    *curvature = e * share * share;
  }
};

/// Those of some samples, times their weights.
template <class TLoss>
ZIPML_INLINE void Derive(uint64_t n, const double *__restrict margins,
                         const double *__restrict weights, double *__restrict losses,
                         double *__restrict sizes, double *__restrict curvatures) {
  for (uint64_t i = 0; i < n; ++i) {
    double loss, size, curvature;
    TLoss::At(margins[i], &loss, &size, &curvature);
    losses[i] = weights[i] * loss;
    sizes[i] = weights[i] * size;
    curvatures[i] = weights[i] * curvature;
  }
}

template <class TLoss>
ZIPML_BODY double LossesBody(const ZipmlMargins &of, double *sizes, double *curvatures) {
  Lanes value;
  double losses[kBlock], own_sizes[kBlock], own_curvatures[kBlock];
  for (uint64_t begin = 0; begin < of.samples; begin += kBlock) {
    const uint64_t n = std::min(kBlock, of.samples - begin);
    Derive<TLoss>(n, of.margins + begin, of.weights + begin, losses,
                  sizes == nullptr ? own_sizes : sizes + begin,
                  curvatures == nullptr ? own_curvatures : curvatures + begin);
    Add(n, losses, value.lanes);
  }
  return value.Total();
}

/// Sums over all samples at some steps along the changes.
struct Sums {
  double value;
  double slopes[kMost];
  double moment[kMost][kMost];  // up to the diagonal
};

struct LanesOfAll {
  Lanes value, slopes[kMost], moment[kMost][kMost];
};

/// Margins of a block at some steps along the changes.
ZIPML_INLINE void Move(const ZipmlMargins &of, const double *steps, uint64_t begin, uint64_t n,
                       double *__restrict margins) {
  std::copy_n(of.margins + begin, n, margins);
  for (uint32_t k = 0; k < of.changes; ++k) {
    const double *__restrict own = of.along + k * of.stride + begin;
    for (uint64_t i = 0; i < n; ++i) margins[i] += steps[k] * own[i];
  }
}

ZIPML_BODY void MoveAllBody(const ZipmlMargins &of, const double *steps, double *margins) {
  for (uint64_t begin = 0; begin < of.samples; begin += kBlock) {
    Move(of, steps, begin, std::min(kBlock, of.samples - begin), margins + begin);
  }
}
ZIPML_CLONES(MoveAll)

/// Adds those of a block.
template <class TLoss>
ZIPML_INLINE void AddBlock(const ZipmlMargins &of, const double *steps, uint64_t begin, uint64_t n,
                           LanesOfAll *sums) {
  double margins[kBlock], losses[kBlock], sizes[kBlock], curvatures[kBlock], bent[kBlock];
  const double *along = of.along + begin;
  Move(of, steps, begin, n, margins);
  Derive<TLoss>(n, margins, of.weights + begin, losses, sizes, curvatures);
  Add(n, losses, sums->value.lanes);
  for (uint32_t k = 0; k < of.changes; ++k) {
    const double *__restrict own = along + k * of.stride;
    AddProducts(n, sizes, own, sums->slopes[k].lanes);
    for (uint64_t i = 0; i < n; ++i) bent[i] = curvatures[i] * own[i];
    for (uint32_t j = 0; j <= k; ++j) {
      AddProducts(n, bent, along + j * of.stride, sums->moment[k][j].lanes);
    }
  }
}

template <class TLoss>
ZIPML_BODY void SumsBody(const ZipmlMargins &of, const double *steps, Sums *sums) {
  LanesOfAll lanes;
  uint64_t begin = 0;
  for (; begin + kBlock <= of.samples; begin += kBlock) {
    AddBlock<TLoss>(of, steps, begin, kBlock, &lanes);
  }
  if (begin < of.samples) AddBlock<TLoss>(of, steps, begin, of.samples - begin, &lanes);
  sums->value = lanes.value.Total();
  for (uint32_t k = 0; k < of.changes; ++k) {
    sums->slopes[k] = lanes.slopes[k].Total();
    for (uint32_t j = 0; j <= k; ++j) sums->moment[k][j] = lanes.moment[k][j].Total();
  }
}

void SumsAt(const ZipmlMargins &of, const double *steps, Sums *sums) {
  if (of.loss == ZIPML_LOGISTIC) {
    ZIPML_BEST(SumsBody<Logistic>)(of, steps, sums);
  } else {
    ZIPML_BEST(SumsBody<SquaredHinge>)(of, steps, sums);
  }
}

/// Eigenvalues of a symmetric matrix, which is turned to be diagonal, and its eigenvectors, columns
/// of `turned`, by Jacobi's method.
void Eigen(uint32_t n, double (*a)[kMost], double (*turned)[kMost]) {
  for (uint32_t i = 0; i < n; ++i) {
    for (uint32_t j = 0; j < n; ++j) turned[i][j] = i == j;
  }
  bool changes = true;
  for (int sweep = 0; changes && sweep < kSweeps; ++sweep) {
    changes = false;
    for (uint32_t p = 0; p + 1 < n; ++p) {
      for (uint32_t q = p + 1; q < n; ++q) {
        // what the diagonal does not feel is 0
        const double size = std::fabs(a[p][p]) + std::fabs(a[q][q]);
        if (!(size + std::fabs(a[p][q]) > size)) continue;
        changes = true;
        const double ratio = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const double root = std::sqrt(1 + ratio * ratio);
        const double t = (ratio < 0 ? -1.0 : 1.0) / (std::fabs(ratio) + root);
        const double c = 1 / std::sqrt(1 + t * t), s = t * c;
        for (uint32_t i = 0; i < n; ++i) {
          const double x = a[i][p], y = a[i][q];
          a[i][p] = c * x - s * y;
          a[i][q] = s * x + c * y;
        }
        for (uint32_t i = 0; i < n; ++i) {
          const double x = a[p][i], y = a[q][i];
          a[p][i] = c * x - s * y;
          a[q][i] = s * x + c * y;
        }
        for (uint32_t i = 0; i < n; ++i) {
          const double x = turned[i][p], y = turned[i][q];
          turned[i][p] = c * x - s * y;
          turned[i][q] = s * x + c * y;
        }
      }
    }
  }
}

}  // namespace

extern "C" double zipml_newton_step(uint32_t n, const double *moment, const double *slope,
                                    double noise, double *way) {
  double a[kMost][kMost], turned[kMost][kMost];
  for (uint32_t k = 0; k < n; ++k) std::copy_n(moment + k * n, n, a[k]);
  Eigen(n, a, turned);
  double largest = 0;
  for (uint32_t k = 0; k < n; ++k) largest = std::max(largest, std::fabs(a[k][k]));
  std::fill_n(way, n, 0.0);
  for (uint32_t k = 0; k < n; ++k) {
    if (!(std::fabs(a[k][k]) > noise * largest)) continue;
    double along = 0;
    for (uint32_t i = 0; i < n; ++i) along += turned[i][k] * slope[i];
    for (uint32_t i = 0; i < n; ++i) way[i] -= along / a[k][k] * turned[i][k];
  }
  double gain = 0;
  for (uint32_t k = 0; k < n; ++k) gain -= slope[k] * way[k] / 2;
  return gain;
}

namespace {

/// The objective along the changes: the mean loss and what is added to it.
class Objective {
 public:
  Objective(const ZipmlMargins &of, const ZipmlSearch &search) : of_(of), search_(search) {}

  /// Goes there; returns the objective.
  double GoTo(const double *steps) {
    SumsAt(of_, steps, &sums_);
    double value = sums_.value / Samples() + search_.value;
    for (uint32_t k = 0; k < of_.changes; ++k) {
      slope_[k] = search_.slopes[k];
      for (uint32_t j = 0; j < of_.changes; ++j) slope_[k] += Added(k, j) * steps[j];
      value += (search_.slopes[k] + slope_[k]) / 2 * steps[k];
      slope_[k] -= sums_.slopes[k] / Samples();
    }
    return value;
  }

  /// The sum of weight times loss there.
  double Losses() const { return sums_.value; }

  /// Newton's step from there; returns the gain that is to be expected of it.
  double Step(double *way) const {
    double moment[kMost * kMost];
    for (uint32_t k = 0; k < of_.changes; ++k) {
      for (uint32_t j = 0; j <= k; ++j) {
        moment[k * of_.changes + j] = moment[j * of_.changes + k] =
            sums_.moment[k][j] / Samples() + Added(k, j);
      }
    }
    return zipml_newton_step(of_.changes, moment, slope_, search_.noise, way);
  }

 private:
  double Samples() const { return static_cast<double>(of_.samples); }
  double Added(uint32_t k, uint32_t j) const { return search_.moment[k * of_.changes + j]; }

  const ZipmlMargins &of_;
  const ZipmlSearch &search_;
  Sums sums_;
  double slope_[kMost];
};

}  // namespace

extern "C" double zipml_margin_losses(const ZipmlMargins *margins, double *sizes,
                                      double *curvatures) {
  if (margins->loss == ZIPML_LOGISTIC) {
    return ZIPML_BEST(LossesBody<Logistic>)(*margins, sizes, curvatures);
  }
  return ZIPML_BEST(LossesBody<SquaredHinge>)(*margins, sizes, curvatures);
}

extern "C" double zipml_margin_search(const ZipmlMargins *margins, const ZipmlSearch *search,
                                      double *steps, double *moved) {
  const uint32_t changes = margins->changes;
  std::fill_n(steps, changes, 0.0);
  Objective objective(*margins, *search);
  const double first = objective.GoTo(steps);
  double value = first, losses = objective.Losses();
  for (uint32_t i = 0; i < search->iterations; ++i) {
    double way[kMost], there[kMost];
    const double expected = objective.Step(way);
    const double least = std::max(search->enough * (first - value), search->noise * value);
    if (!(expected > least)) break;
    double share = 1, lower;
    do {
      for (uint32_t k = 0; k < changes; ++k) there[k] = steps[k] + share * way[k];
      lower = objective.GoTo(there);
      share /= 2;
    } while (!(lower < value) && share >= search->shortest);
    if (!(lower < value)) break;
    std::copy_n(there, changes, steps);
    value = lower;
    losses = objective.Losses();
  }
  MoveAll(*margins, steps, moved);
  return losses;
}

namespace {

/// The sum of numbers, and the largest of them.
template <typename T>
ZIPML_BODY double SumBody(const T *__restrict values, uint64_t count, T *largest) {
  Lanes sum;
  T most[kBlock] = {};
  uint64_t begin = 0;
  const auto add = [&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      const T value = values[begin + i];
      sum.lanes[i] += static_cast<double>(value);
      most[i] = value > most[i] ? value : most[i];
    }
  };
  for (; begin + kBlock <= count; begin += kBlock) add(kBlock);
  add(count - begin);
  *largest = *std::max_element(most, most + kBlock);
  return sum.Total();
}

/// See zipml_flat_below. \tparam TBits  an integer of the same size
template <typename T, typename TBits>
double FlatBelow(const T *values, uint64_t count, double share) {
  // Bits of numbers that are not negative ascend as these do. So the numbers are counted into
  // buckets of their bits, then those of the bucket in question into finer ones.
  constexpr uint32_t kBuckets = 1024;
  constexpr int kFiner = 10, kFirst = sizeof(T) == 8 ? 48 : 20;
  const auto bits_of = [](T value) {
    TBits bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
  };
  T largest;
  const double wanted = share * ZIPML_BEST(SumBody<T>)(values, count, &largest);
  TBits high = bits_of(largest) + 1;
  // what is at least 2^64 times smaller counts for nothing, and lies below the first bucket
  TBits low = high - std::min(high, TBits{kBuckets} << kFirst);
  double below = 0;
  // of the bucket; without memory all are gone through again
  std::unique_ptr<T[]> rest;
  for (int shift = kFirst; low + 1 < high; shift = std::max(0, shift - kFiner)) {
    double sums[kBuckets] = {};
    uint64_t numbers[kBuckets] = {};
    for (uint64_t i = 0; i < count; ++i) {
      const TBits bits = bits_of(values[i]);
      if (bits < low || bits >= high) continue;
      sums[(bits - low) >> shift] += static_cast<double>(values[i]);
      ++numbers[(bits - low) >> shift];
    }
    uint32_t bucket = 0, last = 0;
    for (uint32_t b = 0; b < kBuckets; ++b) {
      if (numbers[b] != 0) last = b;
    }
    while (bucket < last && !(below + sums[bucket] >= wanted)) below += sums[bucket++];
    low += TBits{bucket} << shift;
    high = std::min(high, static_cast<TBits>(low + (TBits{1} << shift)));
    if (shift == 0) break;
    if (rest == nullptr && (rest = std::unique_ptr<T[]>(new (std::nothrow) T[numbers[bucket]]))) {
      T *end = std::copy_if(values, values + count, rest.get(), [=](T value) {
        return bits_of(value) >= low && bits_of(value) < high;
      });
      values = rest.get();
      count = static_cast<uint64_t>(end - rest.get());
    }
  }
  T found;
  std::memcpy(&found, &low, sizeof found);
  return static_cast<double>(found);
}

}  // namespace

extern "C" double zipml_flat_below(const double *values, uint64_t count, double share) {
  return FlatBelow<double, uint64_t>(values, count, share);
}

extern "C" double zipml_flat_below_single(const float *values, uint64_t count, double share) {
  return FlatBelow<float, uint32_t>(values, count, share);
}
