// Double sampling straight from the planes, by tables of the sums of subsets. Four bits of a plane
// pick one of 16 sums of four numbers: of four entries of the model for dot products, where the
// bits are one sample's, and of four coefficients for gradients, where they are one feature's. A
// sum is cut into digits, and a shuffle looks up one digit of 16 sums or more at once. No code of
// a value is ever made.
//
// Included once for each instruction set, inside its namespace, in which `Vector` is defined: see
// rows_avx2.hpp. Hence no include and no guard here.

// ---- Tables ----------------------------------------------------------------------------------

#ifdef ZIPML_SUBSETS_BY_COMPILER
typedef int32_t Sixteen __attribute__((vector_size(64)));
typedef uint8_t SixteenBytes __attribute__((vector_size(16), may_alias));

/// The tables of the numbers x[0], x[step], .. x[3 step]: 16 bytes for each digit. `lowest`, the
/// smallest of the sums, is subtracted from all of them.
template <int kDigits, int kBits>
inline void SumSubsets(const int32_t *x, size_t step, int32_t lowest, uint8_t *tables) {
  const Sixteen bit0 = {0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1};
  const Sixteen bit1 = {0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1};
  const Sixteen bit2 = {0, 0, 0, 0, -1, -1, -1, -1, 0, 0, 0, 0, -1, -1, -1, -1};
  const Sixteen bit3 = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};
  const Sixteen sums =
      (bit0 & x[0]) + (bit1 & x[step]) + (bit2 & x[2 * step]) + (bit3 & x[3 * step]) - lowest;
#pragma GCC unroll 4
  for (int d = 0; d < kDigits; ++d) {
    const Sixteen digit = sums >> (kBits * d) & ((1 << kBits) - 1);
    *reinterpret_cast<SixteenBytes *>(tables + 16 * d) =
        __builtin_convertvector(digit, SixteenBytes);
  }
}
#endif

/// The same for sums that leave 32 bits.
inline void SumSubsetsWide(const int64_t x[4], int64_t lowest, uint8_t *tables) {
  for (uint32_t subset = 0; subset < 16; ++subset) {
    int64_t sum = -lowest;
    for (uint32_t i = 0; i < 4; ++i) sum += subset >> i & 1 ? x[i] : 0;
    for (int d = 0; d < 5; ++d) tables[16 * d + subset] = static_cast<uint8_t>(sum >> 7 * d & 127);
  }
}

/// The model's tables: of the features 4 n to 4 n + 3 as number n, whose entries lie 8 apart.
template <int kDigits, int kBits>
void SplitBy(const int32_t *entries, uint32_t size, const int32_t *lowest, uint8_t *tables) {
  for (uint32_t j = 0; j < size; j += kGroup) {
    for (uint32_t n = 0; n < kGroup / 4; ++n, tables += 16 * kDigits) {
      SumSubsets<kDigits, kBits>(entries + j + 32 * (n & 1) + (n >> 1), 8, *lowest++, tables);
    }
  }
}

inline void SplitWide(const int32_t *entries, uint32_t size, uint8_t *tables) {
  for (uint32_t j = 0; j < size; j += kGroup) {
    for (uint32_t n = 0; n < kGroup / 4; ++n, tables += 16 * 5) {
      int64_t x[4], lowest = 0;
      for (uint32_t i = 0; i < 4; ++i) {
        x[i] = entries[j + 32 * (n & 1) + 8 * i + (n >> 1)];
        lowest += std::min<int64_t>(x[i], 0);
      }
      SumSubsetsWide(x, lowest, tables);
    }
  }
}

/// Calls loop<digits, bits> for a cut.
#define ZIPML_BY_CUT(CUT, LOOP, ...)       \
  switch ((CUT).digits * 8 + (CUT).bits) { \
    case 2 * 8 + 6:                        \
      LOOP<2, 6>(__VA_ARGS__);             \
      break;                               \
    case 3 * 8 + 6:                        \
      LOOP<3, 6>(__VA_ARGS__);             \
      break;                               \
    case 3 * 8 + 7:                        \
      LOOP<3, 7>(__VA_ARGS__);             \
      break;                               \
    case 4 * 8 + 6:                        \
      LOOP<4, 6>(__VA_ARGS__);             \
      break;                               \
    default:                               \
      LOOP<4, 7>(__VA_ARGS__);             \
  }
/// The same for loops that take sums that leave 32 bits too.
#define ZIPML_BY_ANY_CUT(CUT, LOOP, ...) \
  if ((CUT).digits == 5) {               \
    LOOP<5, 7>(__VA_ARGS__);             \
  } else {                               \
    ZIPML_BY_CUT(CUT, LOOP, __VA_ARGS__) \
  }

/// The lowest sums of the model's tables, and the width of the widest; for entries whose sums of
/// four fit 32 bits.
inline uint32_t FindLowest(const int32_t *entries, uint32_t size, int32_t *lowest) {
  int32_t width = 0;
  for (uint32_t j = 0; j < size; j += kGroup / 2) {
    int32_t low[8];
    const int32_t *x = entries + j;
    for (uint32_t b = 0; b < 8; ++b) {
      const int32_t x0 = x[b], x1 = x[8 + b], x2 = x[16 + b], x3 = x[24 + b];
      low[b] = std::min(x0, 0) + std::min(x1, 0) + std::min(x2, 0) + std::min(x3, 0);
      width = std::max(width, x0 + x1 + x2 + x3 - 2 * low[b]);
    }
    int32_t *to = lowest + j / kGroup * (kGroup / 4) + j / (kGroup / 2) % 2;
    for (uint32_t b = 0; b < 8; ++b) to[2 * b] = low[b];
  }
  return static_cast<uint32_t>(width);
}

/// Zeros that all entries end with take no digits.
inline void Split(const int32_t *model, uint32_t size, DigitModel &out) {
  if (!out.has_tables) return portable::Split(model, size, out);
  int32_t any = 0, smallest = 0, largest = 0;
  int64_t sum = 0, lowest = 0;
  for (uint32_t j = 0; j < size; ++j) {
    any |= model[j];
    smallest = std::min(smallest, model[j]);
    largest = std::max(largest, model[j]);
    sum += model[j];
    lowest += std::min(model[j], 0);
  }
  out.sum = sum;
  out.shift = any == 0 ? 0 : __builtin_ctz(static_cast<unsigned>(any));
  out.lowest_sum = lowest >> out.shift;
  int32_t *entries = out.entries.data();
  for (uint32_t j = 0; j < size; ++j) entries[j] = model[j] >> out.shift;
  const int32_t limit = 1 << 26;
  const bool narrow = smallest >> out.shift > -limit && largest >> out.shift < limit;
  out.cut = CutFor(narrow ? FindLowest(entries, size, out.lowest.data()) : int64_t{1} << 34);
  uint8_t *tables = out.subsets.data();
  if (out.cut.digits == 5) {
    SplitWide(entries, size, tables);
  } else {
    ZIPML_BY_CUT(out.cut, SplitBy, entries, size, out.lowest.data(), tables)
  }
}

// ---- Lookups ---------------------------------------------------------------------------------

/// Sums of bytes in 16 bits: `all` of bytes in pairs, modulo 2^16, and `odd` of every second byte.
/// (Members and not arrays, for GCC keeps arrays of vectors in memory.)
struct ByteSum {
  Vector all, odd;
  ZIPML_INLINE void Clear() { all = odd = Vector::Zero(); }
  ZIPML_INLINE void Double() {
    all = Add16(all, all);
    odd = Add16(odd, odd);
  }
  ZIPML_INLINE void AddBytes(Vector bytes) {
    all = Add16(all, bytes);
    odd = Add16(odd, OddBytes(bytes));
  }
  /// Sums of even bytes.
  ZIPML_INLINE Vector Even() const { return Subtract16(all, ShiftLeft16<8>(odd)); }
};

/// Something for each digit. kDigits may be less than five.
#define ZIPML_EACH_DIGIT(DO) \
  DO(0)                      \
  DO(1)                      \
  if (kDigits > 2) DO(2)     \
  if (kDigits > 3) DO(3)     \
  if (kDigits > 4) DO(4)

template <int kDigits>
struct ByteSums {
  ByteSum d0, d1, d2, d3, d4;
  ZIPML_INLINE void Clear() {
#define ZIPML_CLEAR(D) d##D.Clear();
    ZIPML_EACH_DIGIT(ZIPML_CLEAR)
#undef ZIPML_CLEAR
  }
  ZIPML_INLINE void Double() {
#define ZIPML_DOUBLE(D) d##D.Double();
    ZIPML_EACH_DIGIT(ZIPML_DOUBLE)
#undef ZIPML_DOUBLE
  }
};

/// Digit `d` of what tables hold at `at`.
ZIPML_INLINE Vector LookUpDigit(const uint8_t *tables, int d, Vector at) {
  return LookUp(Vector::Broadcast(tables + 16 * d), at);
}

// ---- Dot products ----------------------------------------------------------------------------

/// 16 rows of one plane.
struct PlaneUnit {
  const uint8_t *rows;
  uint32_t last;  // row that there is
};

/// Bytes 0 to 15 of every row, to byte r of vector p.
ZIPML_INLINE void TransposeBytes(Vector a[16]) {
  Vector b[16];
#pragma GCC unroll 2
  for (int twice = 0; twice < 2; ++twice) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      b[2 * i] = UnpackLow8(a[i], a[i + 8]);
      b[2 * i + 1] = UnpackHigh8(a[i], a[i + 8]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      a[2 * i] = UnpackLow8(b[i], b[i + 8]);
      a[2 * i + 1] = UnpackHigh8(b[i], b[i + 8]);
    }
  }
}

/// Looks up `positions` bytes of the rows in the tables of two nibbles each.
template <int kDigits, int kBits>
ZIPML_INLINE void LookUpRows(const Vector *columns, uint32_t positions, const uint8_t *tables,
                             const uint8_t *const *soon, size_t ahead, ByteSums<kDigits> &sums) {
  const Vector mask = Vector::Fill(15);
  constexpr uint32_t kStep = kBits == 6 ? 2 : 1, kTable = 16 * kDigits;
#pragma GCC unroll 2
  for (uint32_t p = 0; p < positions; p += kStep, tables += kStep * 2 * kTable) {
    if (Vector::kLanes >= 4 || p % 2 == 0) __builtin_prefetch(soon[p * Vector::kLanes / 4] + ahead);
    const Vector low = And(columns[p], mask);
    const Vector high = And(ShiftRight16<4>(columns[p]), mask);
    if (kStep == 1) {
#define ZIPML_ADD_TWO(D) \
  sums.d##D.AddBytes(Add8(LookUpDigit(tables, D, low), LookUpDigit(tables + kTable, D, high)));
      ZIPML_EACH_DIGIT(ZIPML_ADD_TWO)
#undef ZIPML_ADD_TWO
    } else {
      const Vector next_low = And(columns[p + 1], mask);
      const Vector next_high = And(ShiftRight16<4>(columns[p + 1]), mask);
#define ZIPML_ADD_FOUR(D)                                                            \
  sums.d##D.AddBytes(                                                                \
      Add8(Add8(LookUpDigit(tables, D, low), LookUpDigit(tables + kTable, D, high)), \
           Add8(LookUpDigit(tables + 2 * kTable, D, next_low),                       \
                LookUpDigit(tables + 3 * kTable, D, next_high))));
      ZIPML_EACH_DIGIT(ZIPML_ADD_FOUR)
#undef ZIPML_ADD_FOUR
    }
  }
}

/// Sums of 16 rows in each lane: of eight even ones, and of eight odd ones.
struct RowSums {
  int64_t even[8 * Vector::kLanes], odd[8 * Vector::kLanes];
  __attribute__((noinline)) void AddDigit(const ByteSum &sum, int bits) {
    alignas(64) uint16_t words[2][8 * Vector::kLanes];
    sum.Even().Store(words[0]);
    sum.odd.Store(words[1]);
    for (uint32_t i = 0; i < 8 * Vector::kLanes; ++i) {
      even[i] += static_cast<int64_t>(words[0][i]) << bits;
      odd[i] += static_cast<int64_t>(words[1][i]) << bits;
    }
  }
};

/// Sums of the entries, less the lowest, where a row has ones.
template <int kDigits, int kBits>
void SumRows(const PlaneUnit *units, size_t stride, uint32_t words, size_t ahead,
             const uint8_t *tables, RowSums &sums) {
  constexpr uint32_t kLanes = Vector::kLanes;
  const uint8_t *rows[16 * kLanes];  // row by row
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const uint8_t *row = units[lane].rows;
    for (uint32_t r = 0; r < 16; ++r, row += r <= units[lane].last ? stride : 0) {
      rows[r * kLanes + lane] = row;
    }
  }
  const uint32_t bytes = 8 * words;
  const uint32_t kSegment = 256;  // bytes of a row whose sums fit 16 bits
  for (uint32_t begin = 0; begin < bytes; begin += kSegment) {
    const uint32_t end = std::min(bytes, begin + kSegment);
    ByteSums<kDigits> all;
    all.Clear();
    for (uint32_t c = begin; c < end; c += 16) {
      // a quarter of the rows' next cache lines, one after the other: more at once would wait.
      // Where rows are short, there is no other quarter
      const uint8_t *const *soon = rows + c / 16 % 4 * (4 * kLanes);
      const size_t there = c / 64 * 64 + ahead;
      if (bytes < 64 && c == 0) {
        for (uint32_t i = 0; i < 16 * kLanes; ++i) __builtin_prefetch(rows[i] + there);
      }
      Vector columns[16];
      const uint32_t positions = std::min(16u, end - c);
      if (positions == 16) {
#pragma GCC unroll 16
        for (uint32_t r = 0; r < 16; ++r) columns[r] = Vector::LoadLanes(rows + r * kLanes, c);
      } else {
#pragma GCC unroll 16
        for (uint32_t r = 0; r < 16; ++r) columns[r] = Vector::LoadHalfLanes(rows + r * kLanes, c);
      }
      TransposeBytes(columns);
      LookUpRows<kDigits, kBits>(columns, positions, tables + c * (2 * 16 * kDigits), soon, there,
                                 all);
    }
#define ZIPML_ADD_ROWS(D) sums.AddDigit(all.d##D, D *kBits);
    ZIPML_EACH_DIGIT(ZIPML_ADD_ROWS)
#undef ZIPML_ADD_ROWS
  }
}

/// Of every plane, 16 samples after the other: eight even ones, then eight odd ones.
template <int kDigits, int kBits>
void SumPlanes(const PlaneRows &planes, const uint8_t *tables, int64_t (*sums)[kMaxPlaneSamples]) {
  constexpr uint32_t kLanes = Vector::kLanes;
  const uint32_t groups = (planes.samples + 15) / 16, count = (planes.base_planes + 2) * groups;
  const size_t stride = planes.row * 8;
  const size_t ahead = planes.samples * stride;  // to the samples that are next
  for (uint32_t i = 0; i < count; i += kLanes) {
    PlaneUnit units[kLanes];
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      // behind the last one, the last one again
      const uint32_t unit = std::min(i + lane, count - 1), s = unit % groups * 16;
      const uint64_t *rows = planes.PlaneOf(unit / groups) + s * planes.row;
      units[lane] = {reinterpret_cast<const uint8_t *>(rows),
                     std::min(15u, planes.samples - 1 - s)};
    }
    RowSums found = {};
    SumRows<kDigits, kBits>(units, stride, planes.words, ahead, tables, found);
    for (uint32_t lane = 0; lane < kLanes && i + lane < count; ++lane) {
      int64_t *to = sums[(i + lane) / groups] + (i + lane) % groups * 16;
      std::copy(found.even + 8 * lane, found.even + 8 * lane + 8, to);
      std::copy(found.odd + 8 * lane, found.odd + 8 * lane + 8, to + 8);
    }
  }
}

inline void PairDots(const PlaneRows &planes, const DigitModel &model, int64_t *dots) {
  alignas(64) int64_t sums[kMaxPlanes][kMaxPlaneSamples];
  ZIPML_BY_ANY_CUT(model.cut, SumPlanes, planes, model.subsets.data(), sums)
  const uint32_t base = planes.base_planes, samples = planes.samples;
  const uint32_t count = (samples + 15) / 16 * 16;
  int64_t total[kMaxPlaneSamples];
  std::fill(total, total + count, 0);
  for (uint32_t p = 0; p < base; ++p) {
    for (uint32_t i = 0; i < count; ++i) total[i] = 2 * total[i] + sums[p][i];
  }
  const int64_t lowest = model.lowest_sum * (int64_t{1} << base);
  for (uint32_t s = 0; s < samples; ++s) {
    const uint32_t at = (s & ~15u) | (s & 1) << 3 | (s >> 1 & 7);
    dots[s] = total[at] + sums[base][at] + lowest;
    dots[samples + s] = total[at] + sums[base + 1][at] + lowest;
  }
}

// ---- Gradient --------------------------------------------------------------------------------

/// What a tile's coefficients are to its planes: tables of fours, for base planes, first dithers
/// and second ones.
struct CoefficientTables {
  alignas(64) uint8_t tables[3][kMaxPlaneSamples / 4 * 16 * 5];
  Cut cut;
  int64_t lowest[3];  // sums over all fours

  CoefficientTables(const int32_t *one, const int32_t *two, uint32_t samples) {
    alignas(64) int64_t of[3][kMaxPlaneSamples] = {};
    for (uint32_t s = 0; s < samples; ++s) {
      of[0][s] = static_cast<int64_t>(one[s]) + two[s];
      of[1][s] = two[s];
      of[2][s] = one[s];
    }
    const uint32_t fours = (samples + 15) / 16 * 4;
    int64_t low[3][kMaxPlaneSamples / 4], widest = 0;
    for (uint32_t k = 0; k < 3; ++k) {
      lowest[k] = 0;
      for (uint32_t q = 0; q < fours; ++q) {
        int64_t below = 0, sum = 0;
        for (uint32_t i = 0; i < 4; ++i) {
          below += std::min<int64_t>(of[k][4 * q + i], 0);
          sum += of[k][4 * q + i];
        }
        low[k][q] = below;
        lowest[k] += below;
        widest = std::max(widest, sum - 2 * below);
      }
    }
    cut = CutFor(widest);
    for (uint32_t k = 0; k < 3; ++k) {
      if (cut.digits == 5) {
        for (uint32_t q = 0; q < fours; ++q) {
          SumSubsetsWide(of[k] + 4 * q, low[k][q], tables[k] + q * 16 * 5);
        }
      } else {
        ZIPML_BY_CUT(cut, Fill, of[k], low[k], fours, tables[k])
      }
    }
  }

 private:
  template <int kDigits, int kBits>
  static void Fill(const int64_t *of, const int64_t *low, uint32_t fours, uint8_t *to) {
    alignas(64) int32_t numbers[kMaxPlaneSamples];
    for (uint32_t s = 0; s < 4 * fours; ++s) numbers[s] = static_cast<int32_t>(of[s]);
    for (uint32_t q = 0; q < fours; ++q) {
      SumSubsets<kDigits, kBits>(numbers + 4 * q, 1, static_cast<int32_t>(low[q]),
                                 to + q * 16 * kDigits);
    }
  }
};

/// Swaps bits of a with those of b that are kShift lower.
template <int kShift>
ZIPML_INLINE void SwapBits(Vector &a, Vector &b, Vector mask) {
  const Vector swapped = And(Xor(ShiftRight16<kShift>(a), b), mask);
  b = Xor(b, swapped);
  a = Xor(a, ShiftLeft16<kShift>(swapped));
}

/// Four rows, so that nibble m of vector k has their bits of feature 4 m + k.
ZIPML_INLINE void TransposeFour(Vector *four) {
  Vector a = four[0], b = four[1], c = four[2], d = four[3];
  const Vector ones = Vector::Fill(0x55), twos = Vector::Fill(0x33);
  SwapBits<1>(a, b, ones);
  SwapBits<1>(c, d, ones);
  SwapBits<2>(a, c, twos);
  SwapBits<2>(b, d, twos);
  four[0] = a;
  four[1] = b;
  four[2] = c;
  four[3] = d;
}

/// Adds sums of kLanes * 16 bytes of nibbles to the gradient: of feature 8 b + `place` of byte b.
/// (A call, for it would be compiled in many places.)
template <int kDigits, int kBits, class TSum>
__attribute__((noinline)) void AddSums(const ByteSums<kDigits> &sums, int shift, int64_t offset,
                                       uint32_t place, uint32_t groups, TSum *gradient) {
  alignas(64) uint16_t values[2][kDigits][8 * Vector::kLanes];
#define ZIPML_STORE(D)                                     \
  {                                                        \
    const Vector even = sums.d##D.Even();                  \
    UnpackLow16(even, sums.d##D.odd).Store(values[0][D]);  \
    UnpackHigh16(even, sums.d##D.odd).Store(values[1][D]); \
  }
  ZIPML_EACH_DIGIT(ZIPML_STORE)
#undef ZIPML_STORE
  const TSum less = static_cast<TSum>(offset);
  for (uint32_t g = 0; g < groups; ++g) {
    TSum *to = gradient + g * kGroup + 8 * place;
    typedef typename std::make_unsigned<TSum>::type unsigned_t;
#pragma GCC unroll 8
    for (uint32_t b = 0; b < 8; ++b) {
      unsigned_t sum = 0;
#pragma GCC unroll 5
      for (int d = 0; d < kDigits; ++d) {
        sum += static_cast<unsigned_t>(values[g & 1][d][8 * (g >> 1) + b]) << (kBits * d);
      }
      to[b] = static_cast<TSum>(static_cast<unsigned_t>(to[b]) + (sum << shift) +
                                static_cast<unsigned_t>(less));
    }
  }
}

template <int kHalf>
ZIPML_INLINE Vector Nibbles(Vector four) {
  return And(kHalf == 0 ? four : ShiftRight16<4>(four), Vector::Fill(15));
}

/// Looks up one plane's fours.
template <int kDigits, int kBits, int kHalf>
ZIPML_INLINE void LookUpFours(const Vector *fours, uint32_t count, const uint8_t *tables,
                              ByteSums<kDigits> &sums) {
  constexpr uint32_t kStep = kBits == 6 ? 4 : 2, kTable = 16 * kDigits;
#pragma GCC unroll 2
  for (uint32_t q = 0; q < count; q += kStep, fours += 4 * kStep, tables += kStep * kTable) {
    const Vector a = Nibbles<kHalf>(fours[0]), b = Nibbles<kHalf>(fours[4]);
    if (kStep == 2) {
#define ZIPML_ADD_TWO(D) \
  sums.d##D.AddBytes(Add8(LookUpDigit(tables, D, a), LookUpDigit(tables + kTable, D, b)));
      ZIPML_EACH_DIGIT(ZIPML_ADD_TWO)
#undef ZIPML_ADD_TWO
    } else {
      const Vector c = Nibbles<kHalf>(fours[8]), d = Nibbles<kHalf>(fours[12]);
#define ZIPML_ADD_FOUR(D)                                                       \
  sums.d##D.AddBytes(                                                           \
      Add8(Add8(LookUpDigit(tables, D, a), LookUpDigit(tables + kTable, D, b)), \
           Add8(LookUpDigit(tables + 2 * kTable, D, c), LookUpDigit(tables + 3 * kTable, D, d))));
      ZIPML_EACH_DIGIT(ZIPML_ADD_FOUR)
#undef ZIPML_ADD_FOUR
    }
  }
}

/// One nibble of the vectors k: the most significant plane first, each with twice the weight of the
/// next one.
template <int kDigits, int kBits, int kHalf, class TSum>
inline void SumFours(const Vector *indices, uint32_t base_planes, uint32_t fours,
                     const CoefficientTables &c, uint32_t place, uint32_t groups, TSum *gradient) {
  ByteSums<kDigits> sums;
  sums.Clear();
  const uint32_t plane = 4 * fours;
  // what a plane adds to a sum at most, of 16 bits
  const uint32_t most = fours / (kBits == 6 ? 4 : 2) * (kBits == 6 ? 252 : 254);
  uint32_t bound = 0;
  int64_t weight = 0;  // of base planes in the sums
  for (uint32_t p = 0; p < base_planes; ++p) {
    if (2 * bound + most > 0xffff) {
      const int shift = static_cast<int>(base_planes - p);
      AddSums<kDigits, kBits>(sums, shift, (weight * c.lowest[0]) * (int64_t{1} << shift), place,
                              groups, gradient);
      sums.Clear();
      bound = 0;
      weight = 0;
    }
    sums.Double();
    bound = 2 * bound + most;
    weight = 2 * weight + 1;
    LookUpFours<kDigits, kBits, kHalf>(indices + p * plane, fours, c.tables[0], sums);
  }
  if (bound + 2 * most > 0xffff) {
    AddSums<kDigits, kBits>(sums, 0, weight * c.lowest[0], place, groups, gradient);
    sums.Clear();
    weight = 0;
  }
  LookUpFours<kDigits, kBits, kHalf>(indices + base_planes * plane, fours, c.tables[1], sums);
  LookUpFours<kDigits, kBits, kHalf>(indices + (base_planes + 1) * plane, fours, c.tables[2], sums);
  AddSums<kDigits, kBits>(sums, 0, weight * c.lowest[0] + c.lowest[1] + c.lowest[2], place, groups,
                          gradient);
}

template <class TSum>
struct PairGradientBy {
  template <int kDigits, int kBits>
  static void Run(const PlaneRows &planes, const CoefficientTables &c, TSum *gradient) {
    constexpr uint32_t kLanes = Vector::kLanes;
    const uint32_t count = planes.base_planes + 2, fours = (planes.samples + 15) / 16 * 4;
    Vector indices[kMaxPlanes * kMaxPlaneSamples];
    for (uint32_t w = 0; w < planes.words; w += 2 * kLanes) {
      const uint32_t groups = std::min(2 * kLanes, planes.words - w);
      Vector *to = indices;
      for (uint32_t p = 0; p < count; ++p) {
        const uint64_t *row = planes.PlaneOf(p) + w;
        for (uint32_t q = 0; q < fours; ++q, to += 4, row += 4 * planes.row) {
          if (4 * q + 4 <= planes.samples && groups == 2 * kLanes) {
            to[0] = Vector::Load(row);
            to[1] = Vector::Load(row + planes.row);
            to[2] = Vector::Load(row + 2 * planes.row);
            to[3] = Vector::Load(row + 3 * planes.row);
          } else {
            // behind the last sample anything will do
            for (uint32_t i = 0; i < 4; ++i) {
              to[i] = 4 * q + i < planes.samples ? Vector::LoadPart(row + i * planes.row, groups)
                                                 : Vector::Zero();
            }
          }
          TransposeFour(to);
        }
      }
      TSum *sums = gradient + w * kGroup;
      for (uint32_t k = 0; k < 4; ++k) {
        SumFours<kDigits, kBits, 0>(indices + k, planes.base_planes, fours, c, k, groups, sums);
        SumFours<kDigits, kBits, 1>(indices + k, planes.base_planes, fours, c, 4 + k, groups, sums);
      }
    }
  }
};

template <class TSum>
void PairGradient(const PlaneRows &planes, const int32_t *one, const int32_t *two, TSum *gradient) {
  const CoefficientTables tables(one, two, planes.samples);
  ZIPML_BY_ANY_CUT(tables.cut, PairGradientBy<TSum>::template Run, planes, tables, gradient)
}

#undef ZIPML_BY_CUT
#undef ZIPML_BY_ANY_CUT
#undef ZIPML_EACH_DIGIT

/// What does not depend on the planes has to be shared by many values, so that rows and batches
/// must not be short; beside codes that are put together in plain C++, at one or two bits they may.
inline bool Pay(uint32_t base_planes, uint32_t features, uint32_t batch) {
#ifdef ZIPML_ON_PLANES  // of tests, whose cases are small: they and codes take turns
  return (base_planes + features / kGroup) % 2 == 0;
#endif
  if (features >= 512 && batch >= 32) return base_planes <= kMostBasePlanes;
  return !kHasBytes && base_planes <= 1;
}

static const PlaneLoops kPlaneLoops = {Pay, PairDots, PairGradient<int64_t>, PairGradient<int32_t>};
