// Rows times vectors, for true gradients of several models in one pass: some rows stay in the cache
// while one group of vectors after the other is multiplied with them.
#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

extern "C" {
#include "products.h"
}
#include "clones.h"

namespace {

#define ZIPML_INLINE __attribute__((always_inline)) inline

/// Rows that stay in the second cache, vectors that share a load of them, rows that share a load of
/// a vector.
constexpr uint64_t kRows = 64, kVectors = 4, kTogether = 2;
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

/// Products of kR rows with kV vectors.
template <class TLanes, uint64_t kR, uint64_t kV>
ZIPML_INLINE void SomeProducts(const float *values, uint64_t features, const float *vectors,
                               double *products, uint64_t stride) {
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

template <class TLanes>
ZIPML_INLINE void Products(const float *values, uint64_t rows, uint64_t features,
                           const float *vectors, uint64_t count, double *products,
                           uint64_t stride) {
  for (uint64_t begin = 0; begin < rows; begin += kRows) {
    const uint64_t end = std::min(rows, begin + kRows);
    uint64_t k = 0;
    for (; k + kVectors <= count; k += kVectors) {
      uint64_t i = begin;
      for (; i + kTogether <= end; i += kTogether) {
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

using ProductsLoop = void (*)(const float *, uint64_t, uint64_t, const float *, uint64_t, double *,
                              uint64_t);
#define ZIPML_PRODUCTS(NAME, LANES, ATTRIBUTE)                                          \
  ATTRIBUTE void Products##NAME(const float *values, uint64_t rows, uint64_t features,  \
                                const float *vectors, uint64_t count, double *products, \
                                uint64_t stride) {                                      \
    Products<LANES>(values, rows, features, vectors, count, products, stride);          \
  }

ZIPML_PRODUCTS(Plain, TwoVectors, )
#if defined(__x86_64__) && defined(__GNUC__) && !defined(ZIPML_NO_CLONES)
ZIPML_PRODUCTS(Avx2, OneVector, __attribute__((target("avx2"))))
ProductsLoop BestProducts() {
  return __builtin_cpu_supports("avx2") ? ProductsAvx2 : ProductsPlain;
}
#else
ProductsLoop BestProducts() { return ProductsPlain; }
#endif

/// sums[j] += factors[0] * row 0 + .. of some rows, four at a time.
ZIPML_BODY void AddRowsBody(const float *values, uint64_t rows, uint64_t features,
                            const float *factors, float *sums) {
  uint64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    const float *a0 = values + i * features, *a1 = a0 + features, *a2 = a1 + features,
                *a3 = a2 + features;
    const float c0 = factors[i], c1 = factors[i + 1], c2 = factors[i + 2], c3 = factors[i + 3];
    for (uint64_t j = 0; j < features; ++j) {
      sums[j] += (c0 * a0[j] + c1 * a1[j]) + (c2 * a2[j] + c3 * a3[j]);
    }
  }
  for (; i < rows; ++i) {
    const float *a = values + i * features;
    for (uint64_t j = 0; j < features; ++j) sums[j] += factors[i] * a[j];
  }
}
ZIPML_CLONES(AddRows)

}  // namespace

extern "C" void zipml_row_products(const float *values, uint64_t rows, uint64_t features,
                                   const float *vectors, uint64_t count, double *products,
                                   uint64_t stride) {
  BestProducts()(values, rows, features, vectors, count, products, stride);
}

extern "C" int32_t zipml_row_sums(const float *values, uint64_t rows, uint64_t features,
                                  const double *factors, uint64_t stride, uint64_t count,
                                  double *sums) {
  try {
    std::vector<float> some(features);
    float own[kRows];
    for (uint64_t begin = 0; begin < rows; begin += kRows) {
      const uint64_t size = std::min(rows - begin, kRows);
      for (uint64_t k = 0; k < count; ++k) {
        std::copy_n(factors + k * stride + begin, size, own);
        std::fill(some.begin(), some.end(), 0.0f);
        AddRows(values + begin * features, size, features, own, some.data());
        for (uint64_t j = 0; j < features; ++j) sums[k * features + j] += some[j];
      }
    }
  } catch (const std::bad_alloc &) {
    return 2;
  }
  return 0;
}
