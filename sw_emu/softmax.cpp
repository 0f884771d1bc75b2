// The logistic loss of several classes together. What a block of samples needs stays in the second
// cache, margins of all classes, so that memory is read once. Bits do not depend on the machine,
// see lanes.hpp.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

extern "C" {
#include "margins.h"
#include "softmax.h"
}
#include "clones.h"
#include "lanes.hpp"

namespace {

using namespace zipml;

constexpr uint32_t kMost = ZIPML_MOST_CHANGES;
/// Classes that are worked on together: sums over classes are read and written once for them.
constexpr uint32_t kTogether = 4;

/// What a block's losses are made of, beside its margins.
struct Block {
  double largest[kBlock];  // margin of all classes
  double own[kBlock];      // margin of the sample's class
  double total[kBlock];    // of the exponentials of margins less the largest
};

/// A row of some class, of samples from `at` on.
template <typename T>
ZIPML_INLINE T *Row(const ZipmlSoftmax &of, T *rows, uint32_t k, uint64_t at) {
  return rows + k * of.stride + at;
}

/// Brings a row of the block after next into the second cache: the next one's would come too late.
template <typename T>
ZIPML_INLINE void Fetch(const ZipmlSoftmax &of, const T *rows, uint32_t k, uint64_t at) {
  const T *next = Row(of, rows, k, at + 2 * kBlock);
  constexpr uint64_t kLine = 64 / sizeof(T);
#pragma GCC unroll 8
  for (uint64_t i = 0; i < kBlock; i += kLine) __builtin_prefetch(next + i, 0, 2);
}

/// Margins of a class after steps along the ways.
ZIPML_INLINE void Move(const ZipmlSoftmax &of, const double *steps, uint32_t k, uint64_t at,
                       uint64_t n, double *__restrict moved) {
  const double *__restrict margins = Row(of, of.margins, k, at);
  for (uint64_t i = 0; i < n; ++i) moved[i] = margins[i];
  for (uint32_t w = 0; w < of.ways; ++w) {
    const float *__restrict along = Row(of, of.along[w], k, at);
    const double step = steps[w];
    for (uint64_t i = 0; i < n; ++i) moved[i] += step * static_cast<double>(along[i]);
  }
}

/// Margins of a block after the steps, and what is taken of them first.
ZIPML_INLINE void Begin(const ZipmlSoftmax &of, const double *steps, uint64_t at, uint64_t n,
                        double *margins, Block *block) {
  std::fill_n(block->largest, n, -std::numeric_limits<double>::infinity());
  for (uint32_t k = 0; k < of.classes; ++k) {
    double *__restrict own = margins + k * kBlock;
    Move(of, steps, k, at, n, own);
    double *__restrict largest = block->largest;
    for (uint64_t i = 0; i < n; ++i) largest[i] = own[i] > largest[i] ? own[i] : largest[i];
  }
  const int64_t *numbers = of.numbers + at;
  for (uint64_t i = 0; i < n; ++i) block->own[i] = margins[numbers[i] * int64_t{kBlock} + i];
  std::fill_n(block->total, n, 0.0);
}

/// Margins of a class become exponentials, which the totals take in.
ZIPML_INLINE void Exponentials(uint64_t n, double *__restrict margins, Block *block) {
  const double *__restrict largest = block->largest;
  double *__restrict total = block->total;
  for (uint64_t i = 0; i < n; ++i) {
    margins[i] = Exponential(margins[i] - largest[i]);
    total[i] += margins[i];
  }
}

/// Lanes of all sums over samples.
struct Sums {
  Lanes value, slopes[kMost], moment[kMost][kMost];  // up to the diagonal
};

/// Sums over classes of a block, each with a lane a sample: of exponentials times ways, and times
/// two of them.
struct Classes {
  double means[kMost][kBlock];
  double moments[kMost][kMost][kBlock];
};

/// Adds those of up to kTogether classes, from `k` on.
ZIPML_INLINE void AddClasses(const ZipmlSoftmax &of, uint32_t k, uint64_t at, uint64_t n,
                             double *margins, Block *block, Classes *sums) {
  double along[kMost][kTogether][kBlock], bent[kTogether][kBlock];
  const uint32_t together = std::min(kTogether, of.classes - k);
  for (uint32_t t = 0; t < together; ++t) {
    Exponentials(n, margins + (k + t) * kBlock, block);
    Fetch(of, of.margins, k + t, at);
    for (uint32_t w = 0; w < of.ways; ++w) {
      const float *__restrict from = Row(of, of.along[w], k + t, at);
      double *__restrict own = along[w][t];
      for (uint64_t i = 0; i < n; ++i) own[i] = from[i];
      Fetch(of, of.along[w], k + t, at);
    }
  }
  for (uint32_t t = together; t < kTogether; ++t) {
    std::fill_n(margins + (k + t) * kBlock, n, 0.0);
    for (uint32_t w = 0; w < of.ways; ++w) std::fill_n(along[w][t], n, 0.0);
  }
  for (uint32_t w = 0; w < of.ways; ++w) {
    for (uint32_t t = 0; t < kTogether; ++t) {
      const double *__restrict shares = margins + (k + t) * kBlock;
      const double *__restrict own = along[w][t];
      double *__restrict to = bent[t];
      for (uint64_t i = 0; i < n; ++i) to[i] = shares[i] * own[i];
    }
    double *__restrict means = sums->means[w];
    for (uint64_t i = 0; i < n; ++i) {
      means[i] += (bent[0][i] + bent[1][i]) + (bent[2][i] + bent[3][i]);
    }
    for (uint32_t v = 0; v <= w; ++v) {
      const double (*__restrict a)[kBlock] = along[v];
      double *__restrict moments = sums->moments[w][v];
      for (uint64_t i = 0; i < n; ++i) {
        moments[i] += (bent[0][i] * a[0][i] + bent[1][i] * a[1][i]) +
                      (bent[2][i] * a[2][i] + bent[3][i] * a[3][i]);
      }
    }
  }
}

/// Adds those of a block of samples.
ZIPML_INLINE void AddBlock(const ZipmlSoftmax &of, const double *steps, uint64_t at, uint64_t n,
                           double *margins, Sums *sums) {
  Block block;
  Classes classes;
  Begin(of, steps, at, n, margins, &block);
  for (uint32_t w = 0; w < of.ways; ++w) {
    std::fill_n(classes.means[w], n, 0.0);
    for (uint32_t v = 0; v <= w; ++v) std::fill_n(classes.moments[w][v], n, 0.0);
  }
  for (uint32_t k = 0; k < of.classes; k += kTogether) {
    AddClasses(of, k, at, n, margins, &block, &classes);
  }
  const double *__restrict weights = of.weights + at;
  const int64_t *numbers = of.numbers + at;
  for (uint64_t i = 0; i < n; ++i) {
    sums->value.lanes[i] +=
        weights[i] * (Logarithm(block.total[i]) - (block.own[i] - block.largest[i]));
  }
  for (uint32_t w = 0; w < of.ways; ++w) {
    double *__restrict means = classes.means[w], *__restrict slopes = sums->slopes[w].lanes;
    for (uint64_t i = 0; i < n; ++i) means[i] /= block.total[i];
    for (uint64_t i = 0; i < n; ++i) {
      slopes[i] += weights[i] * (means[i] - of.along[w][numbers[i] * of.stride + at + i]);
    }
    for (uint32_t v = 0; v <= w; ++v) {
      const double *__restrict own = classes.moments[w][v], *__restrict other = classes.means[v];
      double *__restrict moment = sums->moment[w][v].lanes;
      for (uint64_t i = 0; i < n; ++i) {
        moment[i] += weights[i] * (own[i] / block.total[i] - means[i] * other[i]);
      }
    }
  }
}

ZIPML_BODY void AddAllBody(const ZipmlSoftmax &of, uint64_t first, uint64_t count,
                           const double *steps, double *margins, Sums *sums) {
  const uint64_t end = first + count, rest = count % kBlock;
  uint64_t at = first;
  for (; at + kBlock <= end; at += kBlock) AddBlock(of, steps, at, kBlock, margins, sums);
  if (rest > 0) AddBlock(of, steps, at, rest, margins, sums);
}
ZIPML_CLONES(AddAll)

/// Writes derivatives of a block.
ZIPML_INLINE void Derive(const ZipmlSoftmax &of, uint64_t at, uint64_t n, double *margins,
                         float *all_slopes, float *all_curvatures) {
  Block block;
  double shares[kBlock];
  Begin(of, nullptr, at, n, margins, &block);
  for (uint32_t k = 0; k < of.classes; ++k) {
    Exponentials(n, margins + k * kBlock, &block);
    Fetch(of, of.margins, k, at);
  }
  const double *__restrict weights = of.weights + at;
  for (uint64_t i = 0; i < n; ++i) shares[i] = 1.0 / block.total[i];
  for (uint32_t k = 0; k < of.classes; ++k) {
    const double *__restrict own = margins + k * kBlock;
    float *__restrict slopes = Row(of, all_slopes, k, at);
    float *__restrict curvatures = Row(of, all_curvatures, k, at);
    for (uint64_t i = 0; i < n; ++i) {
      const double p = own[i] * shares[i], weighted = weights[i] * p;
      slopes[i] = static_cast<float>(weighted);
      curvatures[i] = static_cast<float>(weighted * (1.0 - p));
    }
  }
  for (uint64_t i = 0; i < n; ++i) {
    const uint32_t k = static_cast<uint32_t>(of.numbers[at + i]);
    const double p = margins[k * kBlock + i] * shares[i];
    *Row(of, all_slopes, k, at + i) = static_cast<float>(weights[i] * (p - 1.0));
  }
}

ZIPML_BODY void DeriveAllBody(const ZipmlSoftmax &of, uint64_t first, uint64_t count,
                              double *margins, float *slopes, float *curvatures) {
  const uint64_t end = first + count, rest = count % kBlock;
  uint64_t at = first;
  for (; at + kBlock <= end; at += kBlock) Derive(of, at, kBlock, margins, slopes, curvatures);
  if (rest > 0) Derive(of, at, rest, margins, slopes, curvatures);
}
ZIPML_CLONES(DeriveAll)

ZIPML_BODY void MoveAllBody(const ZipmlSoftmax &of, uint64_t first, uint64_t count,
                            const double *steps) {
  double moved[kBlock];
  for (uint32_t k = 0; k < of.classes; ++k) {
    for (uint64_t at = first; at < first + count; at += kBlock) {
      const uint64_t n = std::min(kBlock, first + count - at);
      Move(of, steps, k, at, n, moved);
      double *__restrict margins = Row(of, of.margins, k, at);
      float *__restrict last = Row(of, of.along[of.ways - 1], k, at);
      for (uint64_t i = 0; i < n; ++i) {
        last[i] = static_cast<float>(moved[i] - margins[i]);
        margins[i] = moved[i];
      }
    }
  }
}
ZIPML_CLONES(MoveAll)

/// Room for the margins of a block, of classes up to a whole number of those that go together.
uint64_t Room(const ZipmlSoftmax &of) {
  return uint64_t{of.classes + kTogether - 1} / kTogether * kTogether * kBlock;
}

}  // namespace

extern "C" int32_t zipml_softmax_sums(const ZipmlSoftmax *softmax, uint64_t first, uint64_t count,
                                      const double *steps, double *sums) {
  try {
    std::vector<double> margins(Room(*softmax));
    Sums lanes;
    AddAll(*softmax, first, count, steps, margins.data(), &lanes);
    const uint32_t ways = softmax->ways;
    sums[0] = lanes.value.Total();
    for (uint32_t w = 0; w < ways; ++w) {
      sums[1 + w] = lanes.slopes[w].Total();
      double *moment = sums + 1 + ways;
      for (uint32_t v = 0; v <= w; ++v) {
        moment[w * ways + v] = moment[v * ways + w] = lanes.moment[w][v].Total();
      }
    }
  } catch (const std::bad_alloc &) {
    return 2;
  }
  return 0;
}

extern "C" int32_t zipml_softmax_slopes(const ZipmlSoftmax *softmax, uint64_t first, uint64_t count,
                                        float *slopes, float *curvatures) {
  try {
    std::vector<double> margins(Room(*softmax));
    // those where they are, whatever the ways
    ZipmlSoftmax here = *softmax;
    here.ways = 0;
    DeriveAll(here, first, count, margins.data(), slopes, curvatures);
  } catch (const std::bad_alloc &) {
    return 2;
  }
  return 0;
}

extern "C" void zipml_softmax_move(const ZipmlSoftmax *softmax, uint64_t first, uint64_t count,
                                   const double *steps) {
  MoveAll(*softmax, first, count, steps);
}
