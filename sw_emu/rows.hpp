// Loops over rows of bytes: all that the engine's integer formats spend time on. A row holds one
// unsigned code for each feature of a sample, 64 to a group as the planes have them. Plain C++ that
// compilers vectorize; rows_avx512.hpp has the same loops on byte dot products.
//
// Every sum is an exact integer, so whichever loops run, they give the same bits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "clones.h"

namespace zipml {

/// Values that a loop handles together: the lanes of one uint64 of a plane.
constexpr uint32_t kGroup = 64;

/// Rows that one call of RowLoops::gradient takes at most.
constexpr uint32_t kMaxRows = 256;

/// An array that begins at a cache line, all zeros.
template <class T>
class Aligned {
 public:
  explicit Aligned(size_t size) : bytes_(new uint8_t[size * sizeof(T) + 63]()) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(bytes_.get());
    data_ = reinterpret_cast<T *>(bytes_.get() + (64 - address % 64) % 64);
  }
  T *data() const { return data_; }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  T *data_;
};

/// Planes of some samples, that decode to rows of codes.
struct PlaneRows {
  const uint64_t *base;  // the most significant plane
  size_t plane;          // uint64 from one base plane to the next
  uint32_t base_planes;
  const uint64_t *first_dither;
  const uint64_t *second_dither;  // may be null
  size_t row;                     // uint64 from one sample to the next
  uint32_t words;                 // of a sample, one group of codes each
  uint32_t samples;
  uint32_t size;  // codes of a row

  /// The rows of base planes, the most significant one first, then of the dithers.
  const uint64_t *PlaneOf(uint32_t number) const {
    if (number < base_planes) return base + number * plane;
    return number == base_planes ? first_dither : second_dither;
  }
};

/// Planes and samples that one call of loops on planes takes at most.
constexpr uint32_t kMaxPlanes = 9, kMaxPlaneSamples = 64;

/// How a sum of four numbers is cut into digits of so many bits.
struct Cut {
  int digits, bits;
};

/// For sums of 0 to `width`. Two digits of 7 bits add up in a byte, or four of 6, which is faster.
inline Cut CutFor(int64_t width) {
  for (const Cut cut : {Cut{2, 6}, Cut{3, 6}, Cut{3, 7}, Cut{4, 6}, Cut{4, 7}}) {
    if (width >> cut.digits * cut.bits == 0) return cut;
  }
  return {5, 7};
}

/// An integer is a sum of digits -128 .. 127 times powers of 256. Adding 128 to each digit leaves
/// bytes 0 .. 255, the bytes of x + 0x80808080; 2^31 - 1 needs a fifth digit.
constexpr uint32_t kBalance = 0x80808080u;
constexpr int kMaxDigits = 5;
/// What four digits hold at most.
constexpr int32_t kLargestFour = 0x7f7f7f7f;

/// Digits that hold every integer between -below and above.
inline int DigitsFor(int32_t smallest, int32_t largest) {
  // the largest that k digits hold is 127 * (1 + 256 + ..), the smallest -128 * the same
  int64_t ones = 1;
  int digits = 1;
  while (largest > 127 * ones || smallest < -128 * ones) {
    ones = 256 * ones + 1;
    ++digits;
  }
  return digits;
}

/// Coefficients by fours, as they are multiplied: digit d of four of them in word d of four.
/// \tparam kTranspose  makes the words of so many fours of coefficients
template <void (*kTranspose)(const int32_t *coefficients, uint32_t fours, uint32_t *words)>
struct FourDigits {
  alignas(16) uint32_t words[kMaxRows];
  uint32_t carries[kMaxRows / 4];  // the fifth digits
  int count;                       // digits that count

  FourDigits(const int32_t *coefficients, uint32_t rows) {
    alignas(16) int32_t all[kMaxRows];
    const uint32_t fours = (rows + 3) / 4;
    std::fill(std::copy(coefficients, coefficients + rows, all), all + 4 * fours, 0);
    int32_t smallest = 0, largest = 0;
    for (uint32_t r = 0; r < rows; ++r) {
      smallest = std::min(smallest, all[r]);
      largest = std::max(largest, all[r]);
    }
    count = DigitsFor(smallest, largest);
    kTranspose(all, fours, words);
    for (uint32_t q = 0; q < fours && count == kMaxDigits; ++q) {
      carries[q] = 0;
      for (uint32_t i = 0; i < 4; ++i) {
        carries[q] |= static_cast<uint32_t>(all[4 * q + i] > kLargestFour) << 8 * i;
      }
    }
  }

  /// Digit `d` of the coefficients of rows 4 q to 4 q + 3, one that counts.
  uint32_t Four(uint32_t q, int d) const {
    return d < 4 ? words[4 * q + static_cast<uint32_t>(d)] : carries[q];
  }
};

/// Entries that loops have digits of beside those of a row: AVX2 those of some words more than
/// once.
constexpr uint32_t kDigitRoom = 5 * kGroup;

/// A model as the loops multiply with it: integer digits, and the sum of the entries. Or tables of
/// the sums of subsets of every four features' entries, for loops on planes.
struct DigitModel {
  DigitModel(size_t size, bool tables)
      : digits(tables ? 0 : (size + kDigitRoom) * 6),
        subsets(tables ? size / 4 * 16 * 5 : 0),
        entries(tables ? size : 0),
        lowest(tables ? size / 4 : 0),
        has_tables(tables) {}
  Aligned<uint8_t> digits;
  Aligned<uint8_t> subsets;
  Aligned<int32_t> entries;  // of the model, that tables are made of
  Aligned<int32_t> lowest;   // sum of each table, which it has as 0
  const bool has_tables;
  Cut cut = {2, 6};  // of what tables have
  int64_t lowest_sum = 0;
  int count = 0;
  int shift = 0;  // entries are digits * 2^shift: dot products have to be multiplied
  int64_t sum = 0;
};

/// Digits of bytes that lie as positions do.
inline void LeaveDigits(uint8_t *, uint32_t) {}

/// What features have of their own, by their positions: the shift of the step, and what is added to
/// the gradient before it; in 32 bits, how far a gradient goes to the right, what comes to it
/// before, half of the unit that is left included, and how far it goes to the left instead. Zeros
/// where a share has none.
struct FeatureSteps {
  explicit FeatureSteps(size_t size)
      : shifts(size), corrections(size), rights(size), fixed(size), halves(size), lefts(size) {}
  /// \param term  the correction, in the gradient's unit
  void Set(uint32_t at, uint32_t shift, int32_t correction, int64_t term, int distance) {
    shifts.data()[at] = static_cast<int32_t>(shift);
    corrections.data()[at] = correction;
    largest_term = std::max(largest_term, term < 0 ? -term : term);
    rights.data()[at] = std::max(distance, 0);
    const int64_t half = distance > 0 ? 1 << (distance - 1) : 0;
    fixed.data()[at] = static_cast<int32_t>(static_cast<uint64_t>(term + half));
    halves.data()[at] = fixed.data()[at];
    lefts.data()[at] = std::max(-distance, 0);
    left = std::max(left, -distance);
  }
  /// `fixed` is what of `halves` stays from update to update: without what a decay adds.
  Aligned<int32_t> shifts, corrections, rights, fixed, halves, lefts;
  int left = 0;              // the farthest
  int64_t largest_term = 0;  // magnitude of a correction
  bool decays = false;       // `halves` are more than `fixed`
};

/// What a decay adds to each gradient: x * decay, rounded, in the gradient's unit. Of what is
/// shifted, the lower 32 bits are right for both signs.
ZIPML_BODY void AddDecaysBody(const int32_t *model, int32_t decay, int shift, const int32_t *fixed,
                              uint32_t size, int32_t *halves) {
  const uint64_t half = uint64_t{1} << (shift - 1);
  for (uint32_t j = 0; j < size; ++j) {
    const int64_t product = static_cast<int64_t>(model[j]) * decay;
    const uint64_t shrink = (static_cast<uint64_t>(product) + half) >> shift;
    halves[j] =
        static_cast<int32_t>(static_cast<uint32_t>(fixed[j]) + static_cast<uint32_t>(shrink));
  }
}
ZIPML_CLONES(AddDecays)

/// Of the largest entry, which is symmetric.
ZIPML_BODY uint32_t LargestMagnitudeBody(const int32_t *model, uint32_t size) {
  int32_t smallest = 0, largest = 0;
  for (uint32_t j = 0; j < size; ++j) {
    smallest = std::min(smallest, model[j]);
    largest = std::max(largest, model[j]);
  }
  return std::max(static_cast<uint32_t>(largest), 0u - static_cast<uint32_t>(smallest));
}
ZIPML_CLONES(LargestMagnitude)

/// Sums over rows, in integers that hold them.
template <class TSum>
struct GradientLoops {
  /// gradient[j] += sum over rows of code times coefficient. What rows up to the next multiple of
  /// four hold is read, and counts zero times.
  void (*rows)(const uint8_t *rows, uint32_t base_planes, uint32_t count, uint32_t size,
               const int32_t *coefficients, TSum *gradient);
  /// gradient[j] += sum over samples of first code times `two`, second code times `one`. What pairs
  /// up to the next multiple of four samples hold is read, and counts zero times.
  void (*pairs)(const uint8_t *pairs, uint32_t base_planes, uint32_t samples, uint32_t size,
                const int32_t *one, const int32_t *two, TSum *gradient);
};

/// Double sampling, symmetric, straight from the planes: nothing is kept of a tile, and a model is
/// split into tables.
struct PlaneLoops {
  /// Whether they are faster than loops on rows.
  bool (*pay)(uint32_t base_planes, uint32_t features, uint32_t batch);
  /// As load_pairs of RowLoops, and the gradients as its pairs.
  void (*dots)(const PlaneRows &planes, const DigitModel &model, int64_t *sums);
  void (*gradient)(const PlaneRows &planes, const int32_t *one, const int32_t *two,
                   int64_t *gradient);
  void (*short_gradient)(const PlaneRows &planes, const int32_t *one, const int32_t *two,
                         int32_t *gradient);
};

/// Loops on levels: each level plus one is a low and a high byte, in rows apart.
struct LevelLoops {
  /// The bytes of the levels of all first samples, then of all second ones, from planes.
  /// \param tables  for each level a row of low bytes, then a row of high ones
  void (*pick)(const PlaneRows &planes, const uint8_t *tables, uint8_t *low, uint8_t *high);
  /// As those of RowLoops, a high byte 256 times.
  void (*dots)(const uint8_t *low, const uint8_t *high, uint32_t count, uint32_t size,
               const DigitModel &model, int64_t *sums);
  void (*gradient)(const uint8_t *low, const uint8_t *high, uint32_t count, uint32_t size,
                   const int32_t *coefficients, int64_t *gradient);
};

/// One implementation of the loops. Rows are `size` bytes long, a multiple of `unit`.
struct RowLoops {
  const char *name;
  uint32_t unit;
  /// Where model and gradient keep a feature.
  uint32_t (*position)(uint32_t feature);
  /// Where rows of codes have it.
  uint32_t (*code_position)(uint32_t feature);
  /// first = base + first dither, second = base + second dither, row by row.
  void (*decode)(const PlaneRows &planes, uint8_t *first, uint8_t *second);
  /// The same, and the dot products of the rows: of all first ones, then of all second ones.
  void (*decode_dots)(const PlaneRows &planes, uint8_t *first, uint8_t *second,
                      const DigitModel &model, int64_t *sums);
  /// Takes a model over.
  void (*split)(const int32_t *model, uint32_t size, DigitModel &digits);
  /// model -= (sums * 2^scale - offset) >> shift for the first `features` features; takes the model
  /// over where `digits` are not null. Nothing on the way is to leave 32 bits, nor the sum of every
  /// 16th entry. Returns the largest magnitude of an entry.
  uint32_t (*step)(const int32_t *sums, int scale, int32_t offset, int shift, uint32_t features,
                   uint32_t size, int32_t *model, DigitModel *digits);
  /// model -= round((sums * 2^scale - offset) * 2^left / 2^right), each feature with its own;
  /// saturates, and counts that. No gradient, with its half or shifted to the left, is to leave 32
  /// bits, nor to be -2^31. Else as `step`.
  uint32_t (*step_each)(const int32_t *sums, int scale, int32_t offset, const FeatureSteps &steps,
                        uint32_t features, uint32_t size, int32_t *model, DigitModel *digits,
                        uint32_t &saturations);
  /// sums[r] = sum over a row of code times entry.
  void (*dots)(const uint8_t *rows, uint32_t count, uint32_t size, const DigitModel &model,
               int64_t *sums);
  /// Double sampling, symmetric: both samples of every value, in whatever form the loops keep
  /// them. Bytes that a sample takes.
  uint32_t (*pair_bytes)(uint32_t base_planes, uint32_t size);
  /// decode_dots of pairs.
  void (*load_pairs)(const PlaneRows &planes, uint8_t *pairs, const DigitModel &model,
                     int64_t *sums);
  GradientLoops<int64_t> gradient;
  /// Where sums are known to fit.
  GradientLoops<int32_t> short_gradient;
  const PlaneLoops *on_planes;  // or null
  const LevelLoops *on_levels;  // or null: those of rows, and codes in the order of portable ones
  /// Loops for bit-planes alone, whose codes are at most 2^base_planes, or null where these are as
  /// fast for them; or null. Where there are always some, what only planes need is null here.
  const RowLoops *(*for_planes)(uint32_t base_planes, uint32_t features);
  /// One digit for each entry, that lie as positions do, are brought where `dots` want them; null
  /// where it takes others than bytes.
  void (*order_digits)(uint8_t *digits, uint32_t size) = nullptr;
};

/// Where loops take a model of bytes from, in the order of positions; null if they want entries.
inline int8_t *LevelsOf(const RowLoops &loops, const DigitModel &model) {
  const bool takes = loops.order_digits != nullptr && !model.has_tables;
  return takes ? reinterpret_cast<int8_t *>(model.digits.data()) : nullptr;
}

/// Has loops take what was put there, times 2^shift. It adds up to `sum`.
inline void TakeLevels(const RowLoops &loops, uint32_t size, int64_t sum, int shift,
                       DigitModel &model) {
  loops.order_digits(model.digits.data(), size);
  model.count = 1;
  model.shift = shift;
  model.sum = sum * (int64_t{1} << shift);
}

namespace portable {

/// Four uint64 as a vector of the compiler's, not aligned.
typedef uint64_t Four __attribute__((vector_size(32), aligned(8), may_alias));

/// The bits of a word of one plane, spread over 64 codes: `low` the first 32, `high` the others.
struct Spread {
  Four low, high;
  explicit Spread(uint64_t word) {
    const Four all = {word, word, word, word};
    const Four first = {0, 1, 2, 3}, last = {4, 5, 6, 7};
    const uint64_t lowest = 0x0101010101010101u;
    low = (all >> first) & lowest;
    high = (all >> last) & lowest;
  }
};

/// Shifting a plane's word right by k leaves the bits k, k + 8, .. k + 56 in the lowest bit of each
/// byte, so inside a group codes are transposed: feature 8 m + k at position 8 k + m.
static uint32_t Position(uint32_t feature) {
  return (feature & ~63u) | (feature & 7) << 3 | (feature >> 3 & 7);
}

ZIPML_BODY void DecodeBody(const PlaneRows &planes, uint8_t *first, uint8_t *second) {
  Four *one = reinterpret_cast<Four *>(first);
  Four *two = reinterpret_cast<Four *>(second);
  for (uint32_t s = 0; s < planes.samples; ++s) {
    for (size_t i = s * planes.row; i < s * planes.row + planes.words; ++i) {
      Four low = {0}, high = {0};
      for (uint32_t p = 0; p < planes.base_planes; ++p) {
        const Spread bits(planes.base[p * planes.plane + i]);
        low += low + bits.low;
        high += high + bits.high;
      }
      const Spread dither(planes.first_dither[i]);
      *one++ = low + dither.low;
      *one++ = high + dither.high;
      if (planes.second_dither != nullptr) {
        const Spread other(planes.second_dither[i]);
        *two++ = low + other.low;
        *two++ = high + other.high;
      }
    }
  }
}
ZIPML_CLONES(Decode)

/// A model entry is three digits, so that a product with a code fits 16 x 16 -> 32 bits:
/// x = low + 2^11 middle + 2^22 high.
constexpr int kDigitBits = 11;

ZIPML_BODY void SplitBody(const int32_t *model, uint32_t size, DigitModel &digits) {
  int16_t *low = reinterpret_cast<int16_t *>(digits.digits.data());
  int16_t *middle = low + size, *high = middle + size;
  const int32_t mask = (1 << kDigitBits) - 1;
  int64_t sum = 0;
  for (uint32_t j = 0; j < size; ++j) {
    low[j] = static_cast<int16_t>(model[j] & mask);
    middle[j] = static_cast<int16_t>(model[j] >> kDigitBits & mask);
    high[j] = static_cast<int16_t>(model[j] >> (2 * kDigitBits));
    sum += model[j];
  }
  digits.sum = sum;
}
ZIPML_CLONES(Split)

ZIPML_BODY void SubtractBody(const int32_t *sums, int scale, int32_t offset, int shift,
                             uint32_t count, int32_t *model) {
  for (uint32_t j = 0; j < count; ++j) {
    const uint32_t sum = static_cast<uint32_t>(sums[j]) << scale;
    model[j] -= static_cast<int32_t>(sum - static_cast<uint32_t>(offset)) >> shift;
  }
}
ZIPML_CLONES(Subtract)

/// Positions behind the last feature stay 0.
static void ClearRest(uint32_t features, uint32_t size, int32_t *model) {
  for (uint32_t j = features; j < size; ++j) model[Position(j)] = 0;
}

/// What takes a model over: `split` of RowLoops.
typedef void split_t(const int32_t *, uint32_t, DigitModel &);

template <split_t *kSplit>
uint32_t Step(const int32_t *sums, int scale, int32_t offset, int shift, uint32_t features,
              uint32_t size, int32_t *model, DigitModel *digits) {
  Subtract(sums, scale, offset, shift, size, model);
  ClearRest(features, size, model);
  if (digits != nullptr) kSplit(model, size, *digits);
  return LargestMagnitude(model, size);
}

/// A difference that leaves 32 bits, or is -2^31, saturates on the side that the entry was on: the
/// magnitude of what it loses is below 2^31.
template <bool kLeft>
__attribute__((always_inline)) inline uint32_t SubtractEachBy(const int32_t *sums, int scale,
                                                              int32_t offset,
                                                              const FeatureSteps &steps,
                                                              uint32_t count, int32_t *model) {
  const int32_t *rights = steps.rights.data(), *halves = steps.halves.data();
  const int32_t *lefts = steps.lefts.data();
  const int32_t limit = 0x7fffffff;
  int32_t saturations = 0;
  for (uint32_t j = 0; j < count; ++j) {
    const uint32_t sum = static_cast<uint32_t>(sums[j]) << scale;
    const uint32_t raised = sum - static_cast<uint32_t>(offset) + static_cast<uint32_t>(halves[j]);
    const int32_t right = static_cast<int32_t>(raised) >> rights[j];
    const uint32_t change = static_cast<uint32_t>(right) << (kLeft ? lefts[j] : 0);
    const int32_t before = model[j];
    const int32_t after = static_cast<int32_t>(static_cast<uint32_t>(before) - change);
    const int32_t crossed = ((before ^ static_cast<int32_t>(change)) & (before ^ after)) >> 31;
    const int32_t end = before >> 31 ^ limit;
    const int32_t inside = std::max((crossed & end) | (~crossed & after), -limit);
    saturations += inside != after;
    model[j] = inside;
  }
  return static_cast<uint32_t>(saturations);
}

ZIPML_BODY uint32_t SubtractEachBody(const int32_t *sums, int scale, int32_t offset,
                                     const FeatureSteps &steps, uint32_t count, int32_t *model) {
  return steps.left == 0 ? SubtractEachBy<false>(sums, scale, offset, steps, count, model)
                         : SubtractEachBy<true>(sums, scale, offset, steps, count, model);
}
ZIPML_CLONES(SubtractEach)

template <split_t *kSplit>
uint32_t StepEach(const int32_t *sums, int scale, int32_t offset, const FeatureSteps &steps,
                  uint32_t features, uint32_t size, int32_t *model, DigitModel *digits,
                  uint32_t &saturations) {
  // what is behind the last feature cannot saturate: it is 0 minus a gradient that fits
  saturations += SubtractEach(sums, scale, offset, steps, size, model);
  ClearRest(features, size, model);
  if (digits != nullptr) kSplit(model, size, *digits);
  return LargestMagnitude(model, size);
}

/// A product is below 2^8 * 2^11, so 2^11 of them fit 32 bits.
ZIPML_BODY void DotsBody(const uint8_t *rows, uint32_t count, uint32_t size,
                         const DigitModel &model, int64_t *sums) {
  const int16_t *low = reinterpret_cast<const int16_t *>(model.digits.data());
  const int16_t *middle = low + size, *high = middle + size;
  const uint32_t kTile = 1u << 11;
  for (uint32_t r = 0; r < count; ++r) {
    const uint8_t *codes = rows + static_cast<size_t>(r) * size;
    int64_t sum = 0;
    for (uint32_t start = 0; start < size; start += kTile) {
      const uint32_t stop = std::min(size, start + kTile);
      int32_t a = 0, b = 0, c = 0;
      for (uint32_t j = start; j < stop; ++j) {
        a += static_cast<int32_t>(codes[j]) * low[j];
        b += static_cast<int32_t>(codes[j]) * middle[j];
        c += static_cast<int32_t>(codes[j]) * high[j];
      }
      sum += a + static_cast<int64_t>(b) * (1 << kDigitBits) +
             static_cast<int64_t>(c) * (1 << 2 * kDigitBits);
    }
    sums[r] = sum;
  }
}
ZIPML_CLONES(Dots)

static void DecodeDots(const PlaneRows &planes, uint8_t *first, uint8_t *second,
                       const DigitModel &model, int64_t *sums) {
  Decode(planes, first, second);
  Dots(first, planes.samples, planes.words * kGroup, model, sums);
  if (planes.second_dither == nullptr) return;
  Dots(second, planes.samples, planes.words * kGroup, model, sums + planes.samples);
}

/// A coefficient is two halves, so a product is at most 2^8 * 2^15, and 2^7 of them fit 32 bits.
template <class TSum>
__attribute__((always_inline)) inline void AddGradient(const uint8_t *rows, uint32_t count,
                                                       uint32_t size, const int32_t *coefficients,
                                                       TSum *gradient) {
  const uint32_t kTile = 512, kRowsExact = 128;
  int32_t sum_low[kTile], sum_high[kTile];
  for (uint32_t begin = 0; begin < count; begin += kRowsExact) {
    const uint32_t end = std::min(count, begin + kRowsExact);
    for (uint32_t start = 0; start < size; start += kTile) {
      const uint32_t width = std::min(kTile, size - start);
      std::fill(sum_low, sum_low + width, 0);
      std::fill(sum_high, sum_high + width, 0);
      for (uint32_t r = begin; r < end; r += 4) {
        const uint8_t *row0 = rows + static_cast<size_t>(r) * size + start;
        const uint8_t *row1 = row0 + size, *row2 = row1 + size, *row3 = row2 + size;
        int32_t low[4], high[4];
        for (uint32_t i = 0; i < 4; ++i) {
          const int32_t c = r + i < end ? coefficients[r + i] : 0;
          low[i] = static_cast<int16_t>(c);
          high[i] = static_cast<int32_t>((static_cast<int64_t>(c) - low[i]) >> 16);
        }
        for (uint32_t k = 0; k < width; ++k) {
          const int32_t q0 = row0[k], q1 = row1[k], q2 = row2[k], q3 = row3[k];
          sum_low[k] += q0 * low[0] + q1 * low[1] + q2 * low[2] + q3 * low[3];
          sum_high[k] += q0 * high[0] + q1 * high[1] + q2 * high[2] + q3 * high[3];
        }
      }
      for (uint32_t k = 0; k < width; ++k) {
        gradient[start + k] += static_cast<TSum>(sum_low[k] + sum_high[k] * int64_t{1 << 16});
      }
    }
  }
}

template <class TSum>
void Gradient(const uint8_t *rows, uint32_t, uint32_t count, uint32_t size,
              const int32_t *coefficients, TSum *gradient) {
  ZIPML_BEST(AddGradient<TSum>)(rows, count, size, coefficients, gradient);
}

static uint32_t PairBytes(uint32_t, uint32_t size) { return 2 * size; }

static void LoadPairs(const PlaneRows &planes, uint8_t *pairs, const DigitModel &model,
                      int64_t *sums) {
  const size_t bytes = static_cast<size_t>(planes.samples) * planes.words * kGroup;
  DecodeDots(planes, pairs, pairs + bytes, model, sums);
}

/// Gradients of `rows`, of GradientLoops.
template <class TSum>
using gradient_t = void(const uint8_t *, uint32_t, uint32_t, uint32_t, const int32_t *, TSum *);

/// Pairs that are all first rows, then all second ones.
template <class TSum, gradient_t<TSum> *kGradient = Gradient<TSum>>
void PairGradient(const uint8_t *pairs, uint32_t base_planes, uint32_t samples, uint32_t size,
                  const int32_t *one, const int32_t *two, TSum *gradient) {
  int32_t both[kMaxRows];
  std::copy(two, two + samples, both);
  std::copy(one, one + samples, both + samples);
  kGradient(pairs, base_planes, 2 * samples, size, both, gradient);
}

static const RowLoops kLoops = {"portable",
                                kGroup,
                                Position,
                                Position,
                                Decode,
                                DecodeDots,
                                Split,
                                Step<ZIPML_BEST(SplitBody)>,
                                StepEach<ZIPML_BEST(SplitBody)>,
                                Dots,
                                PairBytes,
                                LoadPairs,
                                {Gradient, PairGradient<int64_t>},
                                {Gradient, PairGradient<int32_t>},
                                nullptr,
                                nullptr,
                                nullptr};

}  // namespace portable
}  // namespace zipml
