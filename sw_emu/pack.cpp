// Packing for the host. The grid, the randomness and the layout: docs/data.md. NumPy states the
// same formulas a second time in zipml_pynq/data/grid.py and draws.py, and a test holds the two
// against each other.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "clones.h"
#include "ordered_rows.hpp"
#include "philox.hpp"
#include "zipml/arithmetic.hpp"
#include "zipml/config.hpp"

extern "C" {
#include "pack.h"
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed words are little-endian");

namespace {

/// Lanes that are packed at a time: the bits of one uint64 of a word.
constexpr uint32_t kGroup = 2 * kPairs;
/// A call gives two dithers; the next two of a precision have a counter so much further.
constexpr uint32_t kPairStride = 256;
/// A value's position is 0 at -1 and 2^31 at +1.
constexpr int kPositionBits = 31;
constexpr uint32_t kPositionCentre = 1u << (kPositionBits - 1);
/// Bits of the finest base, a byte behind the first ones; these are the base at fewer bits.
constexpr int kFinestBits = zipml::kWideMaxBits - 1;
static_assert(kFinestBits == zipml::kGridBits + 8, "a base is two bytes");
constexpr uint32_t kTopBase = (1u << kFinestBits) - 1;
/// A level counts from -1 in units of 2^kLevelShift positions.
constexpr int kLevelShift = kPositionBits - 1 - zipml::kLevelFractionBits;
constexpr uint32_t kMaxLevels = (1u << (zipml::kMaxBits - 1)) + 1;
constexpr int32_t kLevelOne = 1 << zipml::kLevelFractionBits;

/// float32 of (x - mid) / divisor computed in double, clipped to [-1, 1]. Not a number is what a
/// constant column makes of a difference that overflows: 0, like all of that column.
template <typename TValue>
ZIPML_INLINE float Normalize(TValue x, double mid, double divisor) {
  const float v = static_cast<float>((static_cast<double>(x) - mid) / divisor);
  const float number = v == v ? v : 0.0f;
  const float high = number > 1.0f ? 1.0f : number;
  return high < -1.0f ? -1.0f : high;
}

/// rint((v + 1) * 2^30). Adding 2^52 rounds to an integer, half to even; a signed conversion, which
/// every vector unit has, then needs the range to be centred.
ZIPML_INLINE uint32_t Position(float v) {
  const double two52 = 4503599627370496.0;
  const double rounded = (static_cast<double>(v) + 1.0) * kPositionCentre + two52;
  const double centred = rounded - (two52 + kPositionCentre);
  return static_cast<uint32_t>(static_cast<int32_t>(centred)) + kPositionCentre;
}

ZIPML_INLINE uint32_t BaseOf(uint32_t position) {
  const uint32_t base = position >> (kPositionBits - kFinestBits);
  return base < kTopBase ? base : kTopBase;
}

/// Distance to the grid level below, in units of 2^-(32 - bits) of the grid's interval.
ZIPML_INLINE uint32_t FractionOf(uint32_t position, uint32_t bits) {
  return position - (BaseOf(position) >> (zipml::kWideMaxBits - bits) << (32 - bits));
}

/// Position of a level.
ZIPML_INLINE uint32_t PositionOf(int16_t level) {
  return static_cast<uint32_t>(level + kLevelOne) << kLevelShift;
}

/// Where 64 values lie between the levels of their tables: base, distance to the level below, and
/// the interval's width in units of a level.
/// \param levels  of the first lane; `stride` from one level to the next
ZIPML_INLINE void Locate(const uint32_t *position, const int16_t *levels, uint32_t stride,
                         uint32_t bits, uint8_t *base, uint32_t *fraction, uint32_t *width) {
  const uint32_t top = 1u << (bits - 1);
  uint32_t clipped[kGroup];
  // a level's position is a multiple of 2^kLevelShift, so the bits below that do not tell which
  // levels lie below a value: 16-bit lanes, twice as many at a time
  int16_t place[kGroup], count[kGroup], low[kGroup], high[kGroup];
  for (uint32_t j = 0; j < kGroup; ++j) {
    low[j] = levels[j];
    high[j] = levels[top * stride + j];
    count[j] = 0;
  }
  for (uint32_t j = 0; j < kGroup; ++j) {
    const uint32_t least = PositionOf(low[j]), most = PositionOf(high[j]);
    const uint32_t raised = position[j] > least ? position[j] : least;
    clipped[j] = raised < most ? raised : most;
  }
  for (uint32_t j = 0; j < kGroup; ++j) {
    place[j] = static_cast<int16_t>(static_cast<int32_t>(clipped[j] >> kLevelShift) - kLevelOne);
  }
  for (uint32_t i = 1; i < top; ++i) {
    const int16_t *level = levels + i * stride;
    for (uint32_t j = 0; j < kGroup; ++j) {
      // read before anything is chosen: clang would make branches around what is not needed
      const int16_t here = level[j], from = low[j], to = high[j];
      const bool below = here <= place[j];
      const int16_t nearer = here < to ? here : to;
      count[j] = static_cast<int16_t>(count[j] + below);
      low[j] = below ? here : from;
      high[j] = below ? to : nearer;
    }
  }
  for (uint32_t j = 0; j < kGroup; ++j) base[j] = static_cast<uint8_t>(count[j]);
  for (uint32_t j = 0; j < kGroup; ++j) fraction[j] = clipped[j] - PositionOf(low[j]);
  for (uint32_t j = 0; j < kGroup; ++j) width[j] = static_cast<uint32_t>(high[j] - low[j]);
}

/// Bit `shift` of each of 64 bytes, lane j in bit j: three shifts move eight bits together.
ZIPML_INLINE uint64_t Gather(const void *bytes, int shift) {
  uint64_t eight[kGroup / 8], word;
  uint8_t gathered[kGroup / 8];
  std::memcpy(eight, bytes, sizeof eight);
  for (uint32_t g = 0; g < kGroup / 8; ++g) {
    uint64_t ones = (eight[g] >> shift) & 0x0101010101010101u;
    ones |= ones >> 7;
    ones |= ones >> 14;
    ones |= ones >> 28;
    gathered[g] = static_cast<uint8_t>(ones);
  }
  std::memcpy(&word, gathered, sizeof word);
  return word;
}

/// A data set's packing with everything that its blocks share worked out.
struct Packer {
  const ZipmlPacking &packing;
  uint32_t max_bits;
  uint32_t row_words;    // uint64 of one sample's row of one plane
  uint64_t plane_words;  // uint64 of one plane of a block
  uint64_t block_words;  // uint64 of all planes of a block
  // Whole groups of columns are packed a sample at a time. Of the rest, the intercept included,
  // 2^rest_log2 lanes a sample share a group, so here the columns are repeated for each sample; the
  // intercept and padding are columns of range [-1, 1].
  uint32_t whole_lanes;
  uint32_t rest_log2;
  double rest_mid[kGroup], rest_divisor[kGroup];
  int16_t rest_levels[kMaxLevels * kGroup];

  explicit Packer(const ZipmlPacking &p) : packing(p), max_bits(0) {
    uint32_t planes = 0;
    for (uint32_t bits = 1; bits <= zipml::kWideMaxBits; ++bits) {
      if (p.precisions >> bits & 1) {
        max_bits = bits;
        planes += p.dither_planes;
      }
    }
    planes = p.format == zipml::kFloat32 ? 1 : planes + zipml::BasePlanes(max_bits);
    const uint32_t lane_bits = p.format == zipml::kFloat32 ? 32 : 1;
    const uint32_t lanes = p.word_bits / lane_bits;
    row_words = (p.features + lanes - 1) / lanes * (p.word_bits / 64);
    plane_words = static_cast<uint64_t>(p.block_samples) * row_words;
    block_words = planes * plane_words;
    whole_lanes = p.columns / kGroup * kGroup;
    rest_log2 = 3;
    while (whole_lanes + (1u << rest_log2) < p.features) ++rest_log2;
    for (uint32_t j = 0; j < kGroup; ++j) {
      const uint32_t lane = whole_lanes + (j & ((1u << rest_log2) - 1));
      rest_mid[j] = lane < p.columns ? p.mid[lane] : 0.0;
      rest_divisor[j] = lane < p.columns ? p.divisor[lane] : 1.0;
    }
    if (p.format != zipml::kLevels) return;
    for (uint32_t i = 0; i <= 1u << (max_bits - 1); ++i) {
      for (uint32_t j = 0; j < kGroup; ++j) {
        const uint32_t lane = whole_lanes + (j & ((1u << rest_log2) - 1));
        // padding, -1, is its own lowest level and below all others: no bit is set
        const int32_t padding = i == 0 ? -kLevelOne : kLevelOne;
        rest_levels[i * kGroup + j] =
            static_cast<int16_t>(lane < p.features ? p.levels[i * p.features + lane] : padding);
      }
    }
  }
};

/// What is the same for every value of a lane.
struct Lanes {
  const double *mid;
  const double *divisor;
  const int16_t *levels;  // `level_stride` from one level to the next; only of kLevels
  uint32_t level_stride;
};

/// Dithers of one precision, one a byte: 1 where a random number below the interval's width is
/// below the fraction. `scale(random, lane)` brings a random number into the interval of a lane.
template <typename TScale>
ZIPML_INLINE void Draw(const uint32_t (&random)[4][kPairs], const uint32_t *fraction, TScale scale,
                       uint16_t *first, uint16_t *second) {
  for (uint32_t k = 0; k < kPairs; ++k) {
    const uint32_t even = fraction[2 * k], odd = fraction[2 * k + 1];
    // neither side exceeds 2^31, so the sign of their difference tells which is less
    first[k] = static_cast<uint16_t>((scale(random[0][k], 2 * k) - even) >> 31 |
                                     (scale(random[2][k], 2 * k + 1) - odd) >> 31 << 8);
    second[k] = static_cast<uint16_t>((scale(random[1][k], 2 * k) - even) >> 31 |
                                      (scale(random[3][k], 2 * k + 1) - odd) >> 31 << 8);
  }
}

/// Random numbers of the uniform grid: all intervals are 2^(32 - bits) wide.
struct UniformScale {
  uint32_t bits;
  ZIPML_INLINE uint32_t operator()(uint32_t random, uint32_t) const { return random >> bits; }
};

/// Random numbers of tables of levels: floor(random * width * 2^kLevelShift / 2^32).
struct LevelScale {
  const uint32_t *width;
  ZIPML_INLINE uint32_t operator()(uint32_t random, uint32_t lane) const {
    return static_cast<uint32_t>(static_cast<uint64_t>(random) * width[lane] >> (32 - kLevelShift));
  }
};

/// Packs the 64 values of a group.
/// \param x    -1, which sets no bit, where a lane is padding
/// \param out  uint64 of the group's first sample in the first plane
template <typename TValue>
ZIPML_INLINE void PackGroup(const Packer &packer, const TValue *x, const Lanes &lanes,
                            const Place &place, uint64_t *out) {
  const ZipmlPacking &p = packer.packing;
  const bool uniform = p.format != zipml::kLevels;
  const uint32_t row_words = packer.row_words;
  const uint64_t plane_words = packer.plane_words;
  const auto store = [&](uint64_t word) {
    for (uint32_t s = 0; s < place.samples; ++s) {
      const uint32_t left = kGroup - (1u << place.lanes_log2);
      out[s * row_words] = word << left >> left;
      word = word >> (kGroup - 1 - left) >> 1;
    }
    out += plane_words;
  };
  // one short loop for each step: GCC vectorizes each of them, and not their fusion
  float value[kGroup];
  uint32_t position[kGroup], fraction[kGroup], width[kGroup];
  uint8_t base[kGroup], finer[kGroup];  // the bits of a uniform base behind its first ones
  for (uint32_t j = 0; j < kGroup; ++j) value[j] = Normalize(x[j], lanes.mid[j], lanes.divisor[j]);
  for (uint32_t j = 0; j < kGroup; ++j) position[j] = Position(value[j]);
  if (uniform) {
    for (uint32_t j = 0; j < kGroup; ++j) base[j] = static_cast<uint8_t>(BaseOf(position[j]) >> 8);
    for (uint32_t j = 0; j < kGroup; ++j) finer[j] = static_cast<uint8_t>(BaseOf(position[j]));
  } else {
    Locate(position, lanes.levels, lanes.level_stride, packer.max_bits, base, fraction, width);
  }
  const int least = uniform ? zipml::kGridBits : static_cast<int>(packer.max_bits) - 1;
  const int planes = static_cast<int>(zipml::BasePlanes(packer.max_bits));
  for (int bit = least - 1; bit >= least - planes; --bit)
    store(bit >= 0 ? Gather(base, bit) : Gather(finer, bit + 8));
  for (uint32_t bits = packer.max_bits; bits >= 1; --bits) {
    if (!(p.precisions >> bits & 1)) continue;
    if (uniform) {
      for (uint32_t j = 0; j < kGroup; ++j) fraction[j] = FractionOf(position[j], bits);
    }
    uint16_t first[kPairs], second[kPairs];  // two lanes each, one a byte
    if (p.nearest) {
      uint8_t *dither = reinterpret_cast<uint8_t *>(first);
      for (uint32_t j = 0; j < kGroup; ++j) {
        const uint32_t whole = uniform ? 1u << (32 - bits) : width[j] << kLevelShift;
        dither[j] = fraction[j] >= whole - fraction[j];
      }
      store(Gather(first, 0));
      continue;
    }
    for (uint32_t dither = 0; dither < p.dither_planes; dither += 2) {
      uint32_t random[4][kPairs];
      Philox(place, p.draw, bits + dither / 2 * kPairStride, p.seed, random);
      if (uniform) {
        Draw(random, fraction, UniformScale{bits}, first, second);
      } else {
        Draw(random, fraction, LevelScale{width}, first, second);
      }
      store(Gather(first, 0));
      if (dither + 1 < p.dither_planes) store(Gather(second, 0));
    }
  }
}

/// Packs `samples` samples: whole groups of columns straight from their rows, the rest from a copy.
/// \param out  their first uint64 of the first plane
template <typename TValue>
ZIPML_INLINE void PackSamples(const Packer &packer, const zipml::OrderedRows<TValue> &rows,
                              uint32_t sample, uint32_t samples, uint64_t *out) {
  const ZipmlPacking &p = packer.packing;
  for (uint32_t s = 0; s < samples; ++s) {
    const TValue *row = rows.At(s);
    if (s + 1 < samples) rows.Fetch(s + 1, p.columns);
    for (uint32_t lane = 0; lane < packer.whole_lanes; lane += kGroup) {
      const Place place = {sample + s, lane, 6, 1};
      const int16_t *levels = p.format == zipml::kLevels ? p.levels + lane : nullptr;
      const Lanes lanes = {p.mid + lane, p.divisor + lane, levels, p.features};
      PackGroup(packer, row + lane, lanes, place, out + s * packer.row_words + lane / kGroup);
    }
  }
  if (packer.whole_lanes == p.features) return;
  const uint32_t rest = p.columns - packer.whole_lanes;
  const uint32_t step = kGroup >> packer.rest_log2;
  const Lanes lanes = {packer.rest_mid, packer.rest_divisor, packer.rest_levels, kGroup};
  for (uint32_t s = 0; s < samples; s += step) {
    TValue values[kGroup];
    for (TValue &value : values) value = -1;
    const uint32_t count = samples - s < step ? samples - s : step;
    for (uint32_t i = 0; i < count; ++i) {
      TValue *row = values + (i << packer.rest_log2);
      const TValue *from = rows.At(s + i) + packer.whole_lanes;
      for (uint32_t j = 0; j < rest; ++j) row[j] = from[j];
      if (p.features > p.columns) row[rest] = 1;
    }
    const Place place = {sample + s, packer.whole_lanes, packer.rest_log2, count};
    PackGroup(packer, values, lanes, place,
              out + s * packer.row_words + packer.whole_lanes / kGroup);
  }
}

/// Writes one sample's normalized values as float32.
template <typename TValue>
ZIPML_INLINE void WriteSample(const Packer &packer, const TValue *row, uint64_t *out) {
  const ZipmlPacking &p = packer.packing;
  float *values = reinterpret_cast<float *>(out);
  for (uint32_t j = 0; j < p.columns; ++j) {
    values[j] = Normalize(row[j], p.mid[j], p.divisor[j]);
  }
  if (p.features > p.columns) values[p.columns] = 1.0f;
}

template <typename TValue>
ZIPML_INLINE void PackBlocks(const Packer &packer, const TValue *x, uint32_t first_block,
                             uint32_t last_block, uint64_t *planes) {
  const ZipmlPacking &p = packer.packing;
  zipml::OrderedRows<TValue> rows = {x, p.row_stride, p.order};
  // words that hold no feature, and samples past the last one, keep these zeros
  std::memset(planes, 0, (last_block - first_block) * packer.block_words * sizeof *planes);
  for (uint32_t block = first_block; block < last_block; ++block) {
    const uint32_t sample = block * p.block_samples;
    const uint32_t left = p.samples - sample;
    const uint32_t samples = left < p.block_samples ? left : p.block_samples;
    if (p.format == zipml::kFloat32) {
      for (uint32_t s = 0; s < samples; ++s) {
        WriteSample(packer, rows.At(s), planes + s * packer.row_words);
      }
    } else {
      PackSamples(packer, rows, sample, samples, planes);
    }
    rows = rows.From(samples);
    planes += packer.block_words;
  }
}

/// Codes of up to 64 lanes: the base planes' bits as a number, plus the dither.
ZIPML_BODY void UnpackGroupBody(const uint64_t *base, uint64_t plane_words, uint32_t base_planes,
                                uint64_t dither, uint32_t lanes, uint16_t *codes) {
  uint64_t code[kGroup] = {};
  for (uint32_t plane = 0; plane < base_planes; ++plane) {
    const uint64_t word = base[plane * plane_words];
    for (uint32_t j = 0; j < kGroup; ++j) code[j] = code[j] << 1 | (word >> j & 1);
  }
  for (uint32_t j = 0; j < kGroup; ++j) code[j] += dither >> j & 1;
  for (uint32_t j = 0; j < lanes; ++j) codes[j] = static_cast<uint16_t>(code[j]);
}
ZIPML_CLONES(UnpackGroup)

/// Rows that are worked on as one, so that narrow rows fill vectors too: a multiple of 8 of them,
/// where rows follow each other without a gap.
uint32_t FoldedRows(const ZipmlSamples &samples) {
  const uint32_t columns = samples.columns;
  const bool gapless = samples.row_stride == static_cast<int64_t>(columns);
  return gapless && columns < 256 ? (63 / columns + 1) * 8 : 1;
}

/// Widens the ranges of `width` values by four rows, or as many times by one (`next` is 0). True
/// if one of them is not a number, which comparisons pass over.
template <typename TValue>
ZIPML_INLINE bool Widen(const TValue *row, int64_t next, uint32_t width, TValue *__restrict low,
                        TValue *__restrict high) {
  const TValue *row1 = row + next, *row2 = row1 + next, *row3 = row2 + next;
  uint32_t unordered = 0;
  for (uint32_t j = 0; j < width; ++j) {
    const TValue a = row[j], b = row1[j], c = row2[j], d = row3[j];
    // a pair is unordered if either of the two is not a number
    unordered |= static_cast<uint32_t>(__builtin_isunordered(a, b)) |
                 static_cast<uint32_t>(__builtin_isunordered(c, d));
    const TValue low01 = a < b ? a : b, low23 = c < d ? c : d;
    const TValue high01 = a > b ? a : b, high23 = c > d ? c : d;
    const TValue least = low01 < low23 ? low01 : low23;
    const TValue most = high01 > high23 ? high01 : high23;
    low[j] = least < low[j] ? least : low[j];
    high[j] = most > high[j] ? most : high[j];
  }
  return unordered != 0;
}

template <typename TValue>
ZIPML_INLINE bool ColumnRange(const ZipmlSamples &samples, double *low, double *high) {
  const TValue *row = static_cast<const TValue *>(samples.x);
  const uint32_t columns = samples.columns;
  const uint32_t folded = FoldedRows(samples);
  const uint32_t width = folded * columns;
  const int64_t next = folded * samples.row_stride;
  const TValue infinity = std::numeric_limits<TValue>::infinity();
  std::vector<TValue> lows(width, infinity), highs(width, -infinity);
  bool unordered = false;
  uint64_t left = samples.rows;
  for (; left >= 4 * folded; left -= 4 * folded, row += 4 * next) {
    unordered |= Widen(row, next, width, lows.data(), highs.data());
  }
  for (; left > 0; --left, row += samples.row_stride) {
    unordered |= Widen(row, 0, columns, lows.data(), highs.data());
  }
  for (uint32_t j = 0; j < columns; ++j) {
    low[j] = lows[j];
    high[j] = highs[j];
  }
  for (uint32_t j = columns; j < width; ++j) {
    const uint32_t column = j % columns;
    if (lows[j] < low[column]) low[column] = lows[j];
    if (highs[j] > high[column]) high[column] = highs[j];
  }
  return unordered;
}

template <typename TValue>
ZIPML_INLINE uint64_t CountOutside(const ZipmlSamples &samples, const double *mid,
                                   const double *half) {
  const TValue *row = static_cast<const TValue *>(samples.x);
  const uint32_t columns = samples.columns;
  const uint32_t folded = FoldedRows(samples);
  std::vector<double> mids, halves;
  for (uint32_t i = 0; i < folded; ++i) {
    mids.insert(mids.end(), mid, mid + columns);
    halves.insert(halves.end(), half, half + columns);
  }
  uint64_t count = 0;
  for (uint64_t left = samples.rows; left > 0;) {
    const uint32_t rows = left >= folded ? folded : 1;
    uint32_t outside = 0;
    for (uint32_t j = 0; j < rows * columns; ++j) {
      outside += __builtin_fabs(static_cast<double>(row[j]) - mids[j]) > halves[j];
    }
    count += outside;
    row += rows * samples.row_stride;
    left -= rows;
  }
  return count;
}

/// Adds rint(x * scale) and what it leaves, in units of 2^-30, up as integers, whatever the order.
template <typename TValue>
ZIPML_INLINE void ColumnSums(const ZipmlSamples &samples, const double *scale, int64_t *whole,
                             int64_t *rest) {
  // sums of so many integers below 2^30 are exact in double
  constexpr uint64_t kExactRows = 1u << 22;
  constexpr double kRint = 6755399441055744.0;  // 1.5 * 2^52: what is added loses its fraction
  constexpr double kPart = 1 << 30;
  const TValue *row = static_cast<const TValue *>(samples.x);
  const uint32_t columns = samples.columns;
  const uint32_t folded = FoldedRows(samples);
  std::vector<double> scales, wholes(folded * columns), rests(folded * columns);
  for (uint32_t i = 0; i < folded; ++i) scales.insert(scales.end(), scale, scale + columns);
  std::fill(whole, whole + columns, 0);
  std::fill(rest, rest + columns, 0);
  for (uint64_t left = samples.rows; left > 0;) {
    std::fill(wholes.begin(), wholes.end(), 0.0);
    std::fill(rests.begin(), rests.end(), 0.0);
    for (uint64_t block = left < kExactRows ? left : kExactRows; block > 0;) {
      const uint32_t rows = block >= folded ? folded : 1;
      for (uint32_t j = 0; j < rows * columns; ++j) {
        const double v = static_cast<double>(row[j]) * scales[j];
        const double h = (v + kRint) - kRint;
        wholes[j] += h;
        rests[j] += ((v - h) * kPart + kRint) - kRint;
      }
      row += rows * samples.row_stride;
      block -= rows;
      left -= rows;
    }
    for (uint32_t j = 0; j < folded * columns; ++j) {
      whole[j % columns] += static_cast<int64_t>(wholes[j]);
      rest[j % columns] += static_cast<int64_t>(rests[j]);
    }
  }
}

ZIPML_BODY void ColumnSumsAnyBody(const ZipmlSamples &samples, const double *scale, int64_t *whole,
                                  int64_t *rest) {
  if (samples.x_bytes == sizeof(float)) {
    ColumnSums<float>(samples, scale, whole, rest);
  } else {
    ColumnSums<double>(samples, scale, whole, rest);
  }
}
ZIPML_CLONES(ColumnSumsAny)

ZIPML_BODY uint32_t ColumnRangeAnyBody(const ZipmlSamples &samples, double *low, double *high) {
  return samples.x_bytes == sizeof(float) ? ColumnRange<float>(samples, low, high)
                                          : ColumnRange<double>(samples, low, high);
}
ZIPML_CLONES(ColumnRangeAny)

ZIPML_BODY uint64_t CountOutsideAnyBody(const ZipmlSamples &samples, const double *mid,
                                        const double *half) {
  return samples.x_bytes == sizeof(float) ? CountOutside<float>(samples, mid, half)
                                          : CountOutside<double>(samples, mid, half);
}
ZIPML_CLONES(CountOutsideAny)

}  // namespace

// What these allocate is small, but no exception may leave C.
uint32_t zipml_column_range(const ZipmlSamples *samples, double *low, double *high) {
  try {
    return ColumnRangeAny(*samples, low, high);
  } catch (const std::bad_alloc &) {
    return ZIPML_NO_MEMORY;
  }
}

int32_t zipml_column_sums(const ZipmlSamples *samples, const double *scale, int64_t *whole,
                          int64_t *rest) {
  try {
    ColumnSumsAny(*samples, scale, whole, rest);
    return 0;
  } catch (const std::bad_alloc &) {
    return ZIPML_NO_MEMORY;
  }
}

int64_t zipml_count_outside(const ZipmlSamples *samples, const double *mid, const double *half) {
  try {
    return static_cast<int64_t>(CountOutsideAny(*samples, mid, half));
  } catch (const std::bad_alloc &) {
    return -1;
  }
}

void zipml_pack(const ZipmlPacking *packing, const void *x, uint32_t first_block,
                uint32_t last_block, uint64_t *planes) {
  const Packer packer(*packing);
  if (packing->x_bytes == sizeof(float)) {
    ZIPML_BEST(PackBlocks<float>)(packer, static_cast<const float *>(x), first_block, last_block,
                                  planes);
  } else {
    ZIPML_BEST(PackBlocks<double>)(packer, static_cast<const double *>(x), first_block, last_block,
                                   planes);
  }
}

void zipml_unpack(const uint64_t *planes, uint32_t word_bits, uint32_t features,
                  uint32_t block_samples, uint32_t block_stride, uint32_t dither_offset,
                  uint32_t bits, uint32_t rows, uint16_t *codes) {
  const uint32_t word = word_bits / 64;
  const uint32_t row_words = (features + word_bits - 1) / word_bits * word;
  const uint64_t plane_words = static_cast<uint64_t>(block_samples) * row_words;
  for (uint32_t row = 0; row < rows; ++row) {
    const uint64_t *block =
        planes + row / block_samples * static_cast<uint64_t>(block_stride) * word;
    const uint64_t *base = block + row % block_samples * row_words;
    const uint64_t *dither = base + static_cast<uint64_t>(dither_offset) * word;
    for (uint32_t lane = 0; lane < features; lane += kGroup) {
      const uint32_t lanes = features - lane < kGroup ? features - lane : kGroup;
      UnpackGroup(base++, plane_words, zipml::BasePlanes(bits), *dither++, lanes, codes);
      codes += lanes;
    }
  }
}
