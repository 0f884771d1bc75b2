// Rows times vectors, for true gradients of several models in one pass: some rows stay in the cache
// while one group of vectors after the other is multiplied with them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

extern "C" {
#include "products.h"
}
#include "clones.h"

namespace {

#define ZIPML_INLINE __attribute__((always_inline)) inline
/// Says that a loop writes nothing that it reads in another round.
#if defined(__clang__)
#define ZIPML_APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define ZIPML_APART _Pragma("GCC ivdep")
#endif

/// Rows that stay in the second cache, vectors whose products share a load of them, and vectors
/// whose sums do: many where there are as many and registers for them, else some.
constexpr uint64_t kRows = 64, kVectors = 4, kManySummed = 4, kSummed = 2;
/// Lanes of a dot product: as many on every machine, so that it rounds alike.
constexpr uint64_t kLanes = 8;

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));

/// (GCC keeps vectors that are wider than the machine's in memory.)
struct OneVector {
  Eight v;
  ZIPML_INLINE void Load(const float *a) { v = *reinterpret_cast<const Eight *>(a); }
  ZIPML_INLINE void AddProduct(const OneVector &a, const OneVector &b) { v += a.v * b.v; }
  ZIPML_INLINE float Lane(uint64_t l) const { return v[l]; }
};

struct TwoVectors {
  Four low, high;
  ZIPML_INLINE void Load(const float *a) {
    low = *reinterpret_cast<const Four *>(a);
    high = *reinterpret_cast<const Four *>(a + 4);
  }
  ZIPML_INLINE void AddProduct(const TwoVectors &a, const TwoVectors &b) {
    low += a.low * b.low;
    high += a.high * b.high;
  }
  ZIPML_INLINE float Lane(uint64_t l) const { return l < 4 ? low[l] : high[l - 4]; }
};

/// Rows to come, brought into the second cache a few lines at a time while others are worked on:
/// they lie one behind the other, but the machine's own prefetching ends at every page.
class Ahead {
 public:
  /// The block of rows behind the one that begins at `begin`, in so many steps.
  Ahead(const float *values, uint64_t rows, uint64_t features, uint64_t begin, uint64_t steps)
      : at_(Line(values + std::min(rows, begin + kRows) * features)),
        end_(Line(values + std::min(rows, begin + 2 * kRows) * features)),
        step_(((end_ - at_) / kLine / std::max(steps, uint64_t{1}) + 1) * kLine) {}
  ZIPML_INLINE void Step() {
    const uintptr_t stop = std::min(end_, at_ + step_);
    for (; at_ < stop; at_ += kLine) __builtin_prefetch(reinterpret_cast<const void *>(at_), 0, 2);
  }

 private:
  static constexpr uintptr_t kLine = 64;
  static uintptr_t Line(const float *value) { return reinterpret_cast<uintptr_t>(value); }
  uintptr_t at_, end_, step_;
};

/// Products of kR rows with kV vectors.
template <class TLanes, uint64_t kR, uint64_t kV>
ZIPML_INLINE void SomeProducts(const float *values, uint64_t features, const float *vectors,
                               float *products, uint64_t stride) {
  TLanes sums[kR][kV] = {};
  uint64_t j = 0;
  for (; j + kLanes <= features; j += kLanes) {
    TLanes x[kV];
#pragma GCC unroll 8
    for (uint64_t k = 0; k < kV; ++k) x[k].Load(vectors + k * features + j);
#pragma GCC unroll 8
    for (uint64_t i = 0; i < kR; ++i) {
      TLanes a;
      a.Load(values + i * features + j);
#pragma GCC unroll 8
      for (uint64_t k = 0; k < kV; ++k) sums[i][k].AddProduct(a, x[k]);
    }
  }
  for (uint64_t i = 0; i < kR; ++i) {
    for (uint64_t k = 0; k < kV; ++k) {
      float total = 0;
      for (uint64_t l = 0; l < kLanes; ++l) total += sums[i][k].Lane(l);
      for (uint64_t t = j; t < features; ++t) {
        total += values[i * features + t] * vectors[k * features + t];
      }
      products[k * stride + i] = total;
    }
  }
}

/// \tparam kTogether  rows that share a load of a vector, as many as registers allow
template <class TLanes, uint64_t kTogether>
ZIPML_INLINE void Products(const float *values, uint64_t rows, uint64_t features,
                           const float *vectors, uint64_t count, float *products, uint64_t stride) {
  for (uint64_t begin = 0; begin < rows; begin += kRows) {
    const uint64_t end = std::min(rows, begin + kRows);
    Ahead ahead(values, rows, features, begin,
                kRows / kTogether * (count / kVectors) + kRows / kVectors * (count % kVectors));
    uint64_t k = 0;
    for (; k + kVectors <= count; k += kVectors) {
      uint64_t i = begin;
      for (; i + kTogether <= end; i += kTogether) {
        ahead.Step();
        SomeProducts<TLanes, kTogether, kVectors>(values + i * features, features,
                                                  vectors + k * features, products + k * stride + i,
                                                  stride);
      }
      for (; i < end; ++i) {
        SomeProducts<TLanes, 1, kVectors>(values + i * features, features, vectors + k * features,
                                          products + k * stride + i, stride);
      }
    }
    for (; k < count; ++k) {
      uint64_t i = begin;
      for (; i + kVectors <= end; i += kVectors) {
        ahead.Step();
        SomeProducts<TLanes, kVectors, 1>(values + i * features, features, vectors + k * features,
                                          products + k * stride + i, stride);
      }
      for (; i < end; ++i) {
        SomeProducts<TLanes, 1, 1>(values + i * features, features, vectors + k * features,
                                   products + k * stride + i, stride);
      }
    }
  }
}

using ProductsLoop = void (*)(const float *, uint64_t, uint64_t, const float *, uint64_t, float *,
                              uint64_t);
#define ZIPML_PRODUCTS(NAME, LANES, TOGETHER, ATTRIBUTE)                                 \
  ATTRIBUTE void Products##NAME(const float *values, uint64_t rows, uint64_t features,   \
                                const float *vectors, uint64_t count, float *products,   \
                                uint64_t stride) {                                       \
    Products<LANES, TOGETHER>(values, rows, features, vectors, count, products, stride); \
  }

ZIPML_PRODUCTS(Plain, TwoVectors, 2, )
#if defined(__x86_64__) && defined(__GNUC__) && !defined(ZIPML_NO_CLONES)
ZIPML_PRODUCTS(Avx512, OneVector, 4, __attribute__((target("avx512f,avx512vl"))))
ZIPML_PRODUCTS(Avx2, OneVector, 2, __attribute__((target("avx2"))))
ProductsLoop BestProducts() {
  if (zipml::kInstructionSet == zipml::kAvx512) return ProductsAvx512;
  return zipml::kInstructionSet == zipml::kAvx2 ? ProductsAvx2 : ProductsPlain;
}
#else
ProductsLoop BestProducts() { return ProductsPlain; }
#endif

/// sums[k][j] += factors[k][0] * value j of row 0 + .. of four rows, for kV vectors, whose sums are
/// `stride` apart.
template <uint64_t kV>
ZIPML_BODY void AddFourBody(const float *values, uint64_t features, const float *factors,
                            float *sums, uint64_t stride) {
  const float *a0 = values, *a1 = a0 + features, *a2 = a1 + features, *a3 = a2 + features;
  float c[kV][4];
  for (uint64_t k = 0; k < kV; ++k) std::copy_n(factors + k * kRows, 4, c[k]);
  ZIPML_APART
  for (uint64_t j = 0; j < features; ++j) {
    const float b0 = a0[j], b1 = a1[j], b2 = a2[j], b3 = a3[j];
#pragma GCC unroll 8
    for (uint64_t k = 0; k < kV; ++k) {
      sums[k * stride + j] += (c[k][0] * b0 + c[k][1] * b1) + (c[k][2] * b2 + c[k][3] * b3);
    }
  }
}

ZIPML_BODY void AddOneBody(const float *values, uint64_t features, float factor, float *sums) {
  for (uint64_t j = 0; j < features; ++j) sums[j] += factor * values[j];
}
ZIPML_CLONES(AddOne)

/// The same of up to kRows rows, whose factors are kRows apart.
template <uint64_t kV>
void AddRows(const float *values, uint64_t rows, uint64_t features, const float *factors,
             float *sums, uint64_t stride, Ahead *ahead) {
  uint64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    ahead->Step();
    ZIPML_BEST(AddFourBody<kV>)(values + i * features, features, factors + i, sums, stride);
  }
  for (; i < rows; ++i) {
    for (uint64_t k = 0; k < kV; ++k) {
      AddOne(values + i * features, features, factors[k * kRows + i], sums + k * stride);
    }
  }
}

/// Vectors of `left` ones whose sums share a load of a row.
uint64_t SummedTogether(uint64_t left) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(ZIPML_NO_CLONES)
  if (left >= kManySummed && zipml::kInstructionSet == zipml::kAvx512) return kManySummed;
#endif
  return std::min(left, kSummed);
}

}  // namespace

extern "C" void zipml_row_products(const float *values, uint64_t rows, uint64_t features,
                                   const float *vectors, uint64_t count, float *products,
                                   uint64_t stride) {
  BestProducts()(values, rows, features, vectors, count, products, stride);
}

extern "C" int32_t zipml_row_sums(const float *values, uint64_t rows, uint64_t features,
                                  const float *factors, uint64_t stride, uint64_t count,
                                  double *sums) {
  try {
    // sums of vectors begin at cache lines
    constexpr uint64_t kLine = 64;
    const uint64_t apart = (features * sizeof(float) + kLine - 1) / kLine * (kLine / sizeof(float));
    std::vector<float> room(kManySummed * apart + kLine / sizeof(float));
    const uint64_t past = reinterpret_cast<uintptr_t>(room.data()) % kLine;
    float *some = room.data() + (kLine - past) % kLine / sizeof(float);
    float own[kManySummed * kRows];
    uint64_t groups = 0;
    for (uint64_t k = 0; k < count; k += SummedTogether(count - k)) ++groups;
    for (uint64_t begin = 0; begin < rows; begin += kRows) {
      const uint64_t size = std::min(rows - begin, kRows);
      const float *block = values + begin * features;
      Ahead ahead(values, rows, features, begin, groups * (kRows / 4));
      for (uint64_t k = 0, together; k < count; k += together) {
        together = SummedTogether(count - k);
        for (uint64_t v = 0; v < together; ++v) {
          std::copy_n(factors + (k + v) * stride + begin, size, own + v * kRows);
        }
        std::fill_n(some, together * apart, 0.0f);
        const auto add = together == kManySummed ? AddRows<kManySummed>
                         : together == kSummed   ? AddRows<kSummed>
                                                 : AddRows<1>;
        add(block, size, features, own, some, apart, &ahead);
        for (uint64_t v = 0; v < together; ++v) {
          double *to = sums + (k + v) * features;
          for (uint64_t j = 0; j < features; ++j) to[j] += some[v * apart + j];
        }
      }
    }
  } catch (const std::bad_alloc &) {
    return 2;
  }
  return 0;
}
