// Codes of bit-planes for AVX2, and their dot products. A vector is four words of a plane: of one
// sample, or, of the words that are left, two of each of two samples and one of each of four. What
// a vector has is a step. Bits of planes are merged where they are, by masks and shifts: to fields
// of two bits, of those to nibbles, of those to bytes. So nothing is permuted, and codes come out
// as the portable loops have them: bit k of all bytes is code vector k of eight.
//
// Part of rows_avx2.hpp, inside its namespace. Hence no include and no guard here.

namespace bytes {

/// Words that a vector has, and vectors of codes that come of one vector of each plane: a block.
constexpr uint32_t kWords = 4, kVectors = 8;

/// Bytes from a vector's digits to the next vector's: three digits are multiplied at a time.
constexpr size_t kDigitBytes = 3 * 32;

ZIPML_INLINE __m256i LoadVector(const void *from) {
  return _mm256_loadu_si256(static_cast<const __m256i *>(from));
}

/// Two words, and two that are `half` words behind the first one.
ZIPML_INLINE __m256i LoadHalves(const uint64_t *from, size_t half) {
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from + half));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/// Bits of a mask, kRight places to the right, or to the left where that is less than 0.
template <int kRight>
ZIPML_INLINE __m256i Field(__m256i x, int mask) {
  const __m256i moved = kRight < 0 ? _mm256_slli_epi16(x, kRight < 0 ? -kRight : 0)
                                   : _mm256_srli_epi16(x, kRight < 0 ? 0 : kRight);
  return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(mask)));
}

/// Fields of two bits: of bits 0, 2, 4, 6 of each byte of two planes, and of the others.
struct TwoBits {
  __m256i even, odd;
  ZIPML_INLINE TwoBits(__m256i high, __m256i low)
      : even(_mm256_or_si256(Field<-1>(high, 0xaa), Field<0>(low, 0x55))),
        odd(_mm256_or_si256(Field<0>(high, 0xaa), Field<1>(low, 0x55))) {}
};

/// Nibbles of up to four planes: bits k and k + 4 of each byte in vector k. (Members and not an
/// array: GCC keeps arrays of vectors in memory.)
struct Nibbles {
  __m256i k0, k1, k2, k3;
  template <int k>
  ZIPML_INLINE __m256i At() const {
    return k == 0 ? k0 : k == 1 ? k1 : k == 2 ? k2 : k3;
  }
};

/// \param from  the most significant plane
template <int kPlanes>
ZIPML_INLINE Nibbles MergePlanes(const uint64_t *from, size_t plane, size_t half) {
  const __m256i zero = _mm256_setzero_si256();
  if (kPlanes == 0) return {zero, zero, zero, zero};
  const __m256i last = LoadHalves(from + (kPlanes - 1) * plane, half);
  if (kPlanes == 1) {
    return {Field<0>(last, 0x11), Field<1>(last, 0x11), Field<2>(last, 0x11), Field<3>(last, 0x11)};
  }
  const TwoBits low(LoadHalves(from + (kPlanes - 2) * plane, half), last);
  Nibbles n = {Field<0>(low.even, 0x33), Field<0>(low.odd, 0x33), Field<2>(low.even, 0x33),
               Field<2>(low.odd, 0x33)};
  if (kPlanes == 2) return n;
  const __m256i top = LoadHalves(from, half);
  if (kPlanes == 3) {
    n.k0 = _mm256_or_si256(n.k0, Field<-2>(top, 0x44));
    n.k1 = _mm256_or_si256(n.k1, Field<-1>(top, 0x44));
    n.k2 = _mm256_or_si256(n.k2, Field<0>(top, 0x44));
    n.k3 = _mm256_or_si256(n.k3, Field<1>(top, 0x44));
    return n;
  }
  const TwoBits high(top, LoadHalves(from + plane, half));
  n.k0 = _mm256_or_si256(n.k0, Field<-2>(high.even, 0xcc));
  n.k1 = _mm256_or_si256(n.k1, Field<-2>(high.odd, 0xcc));
  n.k2 = _mm256_or_si256(n.k2, Field<0>(high.even, 0xcc));
  n.k3 = _mm256_or_si256(n.k3, Field<0>(high.odd, 0xcc));
  return n;
}

/// Code vectors k and k + 4 of a block.
struct CodePair {
  __m256i low, high;
};

/// The base planes of a block, as far as both samples of a value share them.
template <int kBasePlanes>
struct BaseCodes {
  static constexpr int kLow = kBasePlanes < 4 ? kBasePlanes : 4, kHigh = kBasePlanes - kLow;
  Nibbles low, high;
  ZIPML_INLINE BaseCodes(const uint64_t *base, size_t plane, size_t half)
      : low(MergePlanes<kLow>(base + kHigh * plane, plane, half)),
        high(MergePlanes<kHigh>(base, plane, half)) {}

  /// Without a dither: bytes, or nibbles where a code with its dither is one.
  template <int k>
  ZIPML_INLINE CodePair Shared() const {
    const __m256i n = low.At<k>();
    if (kBasePlanes < 4) return {n, n};
    CodePair codes = {Field<0>(n, 0x0f), Field<4>(n, 0x0f)};
    if (kHigh > 0) {
      codes.low = _mm256_or_si256(codes.low, Field<-4>(high.At<k>(), 0xf0));
      codes.high = _mm256_or_si256(codes.high, Field<0>(high.At<k>(), 0xf0));
    }
    return codes;
  }
  template <int k>
  static ZIPML_INLINE CodePair WithDither(const CodePair &shared, __m256i dither) {
    if (kBasePlanes == 0) return {Field<k>(dither, 1), Field<k + 4>(dither, 1)};
    if (kBasePlanes < 4) {
      const __m256i nibbles = _mm256_add_epi8(shared.low, Field<k>(dither, 0x11));
      return {Field<0>(nibbles, 0x0f), Field<4>(nibbles, 0x0f)};
    }
    return {_mm256_add_epi8(shared.low, Field<k>(dither, 1)),
            _mm256_add_epi8(shared.high, Field<k + 4>(dither, 1))};
  }
};

// ---- Dot products ----------------------------------------------------------------------------

/// Vectors of codes up to 2^base_planes whose products, in pairs, add up in 16 bits: those are at
/// most 2^7, and VPMADDUBSW's sums of two are exact.
constexpr uint32_t Exact(uint32_t base_planes) { return 128u >> base_planes; }

/// A digit's sums of both samples of values, or of the only one: 16 or 8 lanes.
struct SumPair {
  __m256i one, two;
  ZIPML_INLINE void Clear() { one = two = _mm256_setzero_si256(); }
  /// (The assembly keeps GCC from doing all products of a block first, and the sums in memory.)
  template <bool kDouble>
  ZIPML_INLINE void AddProducts(__m256i a, __m256i b, const int8_t *digits) {
    const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i *>(digits));
    one = _mm256_add_epi16(one, _mm256_maddubs_epi16(a, x));
    __asm__("" : "+x"(one));
    if (!kDouble) return;
    two = _mm256_add_epi16(two, _mm256_maddubs_epi16(b, x));
    __asm__("" : "+x"(two));
  }
};

/// 16 bits to 32.
ZIPML_INLINE __m256i Widened(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }

/// The sums of a step in 32 bits, by digits: of the first samples of values, and of the second
/// ones.
struct StepSums {
  __m256i one[3], two[3];
};

template <bool kDouble, int kDigits>
struct DigitSums {
  SumPair d0, d1, d2;
  ZIPML_INLINE void Clear() {
    d0.Clear();
    d1.Clear();
    d2.Clear();
  }
  ZIPML_INLINE void AddCodes(__m256i a, __m256i b, const int8_t *digits) {
    if (kDigits > 0) d0.AddProducts<kDouble>(a, b, digits);
    if (kDigits > 1) d1.AddProducts<kDouble>(a, b, digits + 32);
    if (kDigits > 2) d2.AddProducts<kDouble>(a, b, digits + 64);
  }
  /// Adds sums of 16 bits to these of 32.
  ZIPML_INLINE void Widen(const DigitSums &sums) {
    WidenPair(sums.d0, d0);
    if (kDigits > 1) WidenPair(sums.d1, d1);
    if (kDigits > 2) WidenPair(sums.d2, d2);
  }
  /// To a step's, or adds them to it: sums of 16 bits, or of 32.
  template <bool kShort>
  ZIPML_INLINE void Store(bool add, StepSums &step) const {
    StoreDigit<kShort>(d0.one, add, step.one[0]);
    StoreDigit<kShort>(d1.one, add, step.one[1]);
    StoreDigit<kShort>(d2.one, add, step.one[2]);
    if (!kDouble) return;
    StoreDigit<kShort>(d0.two, add, step.two[0]);
    StoreDigit<kShort>(d1.two, add, step.two[1]);
    StoreDigit<kShort>(d2.two, add, step.two[2]);
  }

 private:
  static ZIPML_INLINE void WidenPair(const SumPair &from, SumPair &to) {
    to.one = _mm256_add_epi32(to.one, Widened(from.one));
    if (kDouble) to.two = _mm256_add_epi32(to.two, Widened(from.two));
  }
  template <bool kShort>
  static ZIPML_INLINE void StoreDigit(__m256i sums, bool add, __m256i &to) {
    const __m256i wide = kShort ? Widened(sums) : sums;
    to = add ? _mm256_add_epi32(to, wide) : wide;
  }
};

/// Decodes vectors k and k + 4 of a block, stores them and multiplies them with the model's digits.
/// \param all  takes sums whose products have to leave 16 bits within a block
template <int kBasePlanes, bool kDouble, int kDigits, int k>
ZIPML_INLINE void DecodePair(const BaseCodes<kBasePlanes> &base, __m256i first, __m256i second,
                             uint8_t *one, uint8_t *two, size_t vector, const int8_t *digits,
                             DigitSums<kDouble, kDigits> &sums, DigitSums<kDouble, kDigits> &all) {
  typedef BaseCodes<kBasePlanes> base_t;
  const CodePair shared = base.template Shared<k>();
  const CodePair a = base_t::template WithDither<k>(shared, first);
  const CodePair b = kDouble ? base_t::template WithDither<k>(shared, second) : a;
  _mm256_store_si256(reinterpret_cast<__m256i *>(one + k * vector), a.low);
  _mm256_store_si256(reinterpret_cast<__m256i *>(one + (k + 4) * vector), a.high);
  if (kDouble) {
    _mm256_store_si256(reinterpret_cast<__m256i *>(two + k * vector), b.low);
    _mm256_store_si256(reinterpret_cast<__m256i *>(two + (k + 4) * vector), b.high);
  }
  constexpr uint32_t kExact = Exact(kBasePlanes);
  sums.AddCodes(a.low, b.low, digits + kDigitBytes * k);
  if (kExact == 1) {
    all.Widen(sums);
    sums.Clear();
  }
  sums.AddCodes(a.high, b.high, digits + kDigitBytes * (k + 4));
  if (kExact < kVectors && 2 * (k + 1) % kExact == 0) {
    all.Widen(sums);
    sums.Clear();
  }
}

/// Steps whose sums are kept at a time.
constexpr uint32_t kSteps = 16;

/// Steps one behind the other, in one loop, so that nothing is set up for each.
/// \param half  words from a vector's first half to the other one
/// \param ahead  words from a row to what is decoded next
/// \param one, two  codes of the two samples of values
/// \param vector  bytes from a vector of a step's to the next one
/// \param next_step  and to the next step's
template <int kBasePlanes, bool kDouble, int kDigits>
void DecodeSteps(const PlaneRows &planes, size_t half, size_t ahead, uint8_t *one, uint8_t *two,
                 size_t vector, size_t next_step, const int8_t *digits, StepSums *step_sums) {
  constexpr bool kShort = Exact(kBasePlanes) >= kVectors;
  // blocks whose sums stay in 16 bits
  constexpr uint32_t kRun = kShort ? Exact(kBasePlanes) / kVectors : 1;
  const size_t plane = planes.plane, gap = planes.row - planes.words;
  const uint32_t blocks = planes.words / kWords, steps = planes.samples;
  const uint64_t *base = planes.base, *first = planes.first_dither;
  const uint64_t *second = kDouble ? planes.second_dither : first;
  const size_t back = blocks * kVectors * vector - next_step;
  const int8_t *x = digits;
  DigitSums<kDouble, kDigits> sums, all;
  sums.Clear();
  all.Clear();
  uint32_t b = 0;  // of a step's blocks
  const StepSums *const end = step_sums + steps;
  while (step_sums != end) {
#pragma GCC unroll 7
    for (int p = 0; p < kBasePlanes; ++p) __builtin_prefetch(base + p * plane + ahead);
    __builtin_prefetch(first + ahead);
    if (kDouble) __builtin_prefetch(second + ahead);
    const BaseCodes<kBasePlanes> codes(base, plane, half);
    const __m256i u = LoadHalves(first, half), v = LoadHalves(second, half);
#define ZIPML_DECODE_PAIR(K) \
  DecodePair<kBasePlanes, kDouble, kDigits, K>(codes, u, v, one, two, vector, x, sums, all)
    ZIPML_DECODE_PAIR(0);
    ZIPML_DECODE_PAIR(1);
    ZIPML_DECODE_PAIR(2);
    ZIPML_DECODE_PAIR(3);
#undef ZIPML_DECODE_PAIR
    base += kWords;
    first += kWords;
    second += kWords;
    one += kVectors * vector;
    two += kVectors * vector;
    x += kVectors * kDigitBytes;
    ++b;
    if (kShort && kDigits > 0 && (b % kRun == 0 || b == blocks)) {
      if (b <= kRun) {
        sums.template Store<true>(false, *step_sums);
      } else {
        sums.template Store<true>(true, *step_sums);
      }
      sums.Clear();
    }
    if (b < blocks) continue;
    if (!kShort && kDigits > 0) {
      all.template Store<false>(false, *step_sums);
      all.Clear();
    }
    base += gap;
    first += gap;
    second += gap;
    one -= back;
    two -= back;
    x = digits;
    b = 0;
    ++step_sums;
  }
}

/// Decodes, with as many digits of a model as there are loops for.
inline void DecodeBy(int count, const PlaneRows &planes, size_t half, size_t ahead, uint8_t *one,
                     uint8_t *two, size_t vector, size_t next_step, const int8_t *digits,
                     StepSums *sums) {
  typedef void (*loop_t)(const PlaneRows &, size_t, size_t, uint8_t *, uint8_t *, size_t, size_t,
                         const int8_t *, StepSums *);
#define ZIPML_BY_BASE(DOUBLE, DIGITS)                                                              \
  {DecodeSteps<0, DOUBLE, DIGITS>, DecodeSteps<1, DOUBLE, DIGITS>, DecodeSteps<2, DOUBLE, DIGITS>, \
   DecodeSteps<3, DOUBLE, DIGITS>, DecodeSteps<4, DOUBLE, DIGITS>, DecodeSteps<5, DOUBLE, DIGITS>, \
   DecodeSteps<6, DOUBLE, DIGITS>, DecodeSteps<7, DOUBLE, DIGITS>}
#define ZIPML_BY_DIGITS(DIGITS)                               \
  {                                                           \
    ZIPML_BY_BASE(false, DIGITS), ZIPML_BY_BASE(true, DIGITS) \
  }
  static const loop_t kLoops[4][2][8] = {ZIPML_BY_DIGITS(0), ZIPML_BY_DIGITS(1), ZIPML_BY_DIGITS(2),
                                         ZIPML_BY_DIGITS(3)};
#undef ZIPML_BY_DIGITS
#undef ZIPML_BY_BASE
  kLoops[count][planes.second_dither != nullptr][planes.base_planes](
      planes, half, ahead, one, two, vector, next_step, digits, sums);
}

ZIPML_INLINE __m256i Wide(__m128i x) { return _mm256_cvtepi32_epi64(x); }

ZIPML_INLINE __m256i SumDigits(__m256i d0, __m256i d1, __m256i d2) {
  return _mm256_add_epi64(_mm256_add_epi64(d0, _mm256_slli_epi64(d1, 8)),
                          _mm256_slli_epi64(d2, 16));
}

/// What the lanes of a sample add up to, of four samples: as many steps as have these, digits of
/// each. A digit of 2^15 codes of 2^7 is at most 2^29.
ZIPML_INLINE __m256i TotalsOfOnes(const __m256i *a, const __m256i *b, const __m256i *c,
                                  const __m256i *d) {
  __m256i digits[3];
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    const __m256i halves =
        _mm256_hadd_epi32(_mm256_hadd_epi32(a[i], b[i]), _mm256_hadd_epi32(c[i], d[i]));
    digits[i] =
        Wide(_mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
  }
  return SumDigits(digits[0], digits[1], digits[2]);
}

/// A sample is half a vector.
ZIPML_INLINE __m256i TotalsOfTwos(const __m256i *a, const __m256i *b) {
  // in each half digits 0 of a and b, then digits 1; and digits 2
  const __m256i low =
      _mm256_hadd_epi32(_mm256_hadd_epi32(a[0], b[0]), _mm256_hadd_epi32(a[1], b[1]));
  const __m256i last = _mm256_hadd_epi32(a[2], b[2]);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i x = _mm256_permutevar8x32_epi32(low, order);
  const __m256i y = _mm256_permutevar8x32_epi32(_mm256_hadd_epi32(last, last), order);
  return SumDigits(Wide(_mm256_castsi256_si128(x)), Wide(_mm256_extracti128_si256(x, 1)),
                   Wide(_mm256_castsi256_si128(y)));
}

/// A sample is 64 bits.
ZIPML_INLINE __m256i TotalsOfFours(const __m256i *a) {
  __m256i digits[3];
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    const __m256i both = _mm256_add_epi32(a[i], _mm256_srli_epi64(a[i], 32));
    digits[i] = _mm256_mul_epi32(both, _mm256_set1_epi64x(1));
  }
  return SumDigits(digits[0], digits[1], digits[2]);
}

/// Adds totals of the first `count` samples of steps, times 2^shift, to their sums.
/// \param samples  in a step
/// \param kOf  which samples of values
template <__m256i (StepSums::*kOf)[3]>
inline void AddTotals(const StepSums *steps, uint32_t samples, uint32_t count, int shift,
                      int64_t *sums) {
  const uint32_t last = (count - 1) / samples;
  for (uint32_t i = 0; i < count; i += 4) {
    const uint32_t s = i / samples;
    const __m256i *a = steps[s].*kOf, *b = steps[std::min(s + 1, last)].*kOf;
    const __m256i *c = steps[std::min(s + 2, last)].*kOf, *d = steps[std::min(s + 3, last)].*kOf;
    const __m256i sum = samples == 1   ? TotalsOfOnes(a, b, c, d)
                        : samples == 2 ? TotalsOfTwos(a, b)
                                       : TotalsOfFours(a);
    const __m256i total = _mm256_sll_epi64(sum, _mm_cvtsi32_si128(shift));
    if (i + 4 <= count) {
      __m256i *to = reinterpret_cast<__m256i *>(sums + i);
      _mm256_storeu_si256(to, _mm256_add_epi64(_mm256_loadu_si256(to), total));
      continue;
    }
    alignas(32) int64_t lanes[4];
    _mm256_store_si256(reinterpret_cast<__m256i *>(lanes), total);
    for (uint32_t j = i; j < count; ++j) sums[j] += lanes[j - i];
  }
}

/// Words of rows, four of them or what is left, of as many samples as a vector then has room for.
struct Part {
  uint32_t word, words, samples;
  /// Vectors of codes in a step.
  uint32_t vectors() const { return 2 * words * samples; }
  uint32_t steps(uint32_t count) const { return (count + samples - 1) / samples; }
};

/// The parts of a row.
struct Parts {
  Part parts[3];
  uint32_t count = 0;
  explicit Parts(uint32_t words) {
    const uint32_t whole = words / kWords * kWords, two = words & 2;
    if (whole > 0) parts[count++] = {0, whole, 1};
    if (two > 0) parts[count++] = {whole, two, 2};
    if (words & 1) parts[count++] = {whole + two, 1, 4};
  }
  const Part *begin() const { return parts; }
  const Part *end() const { return parts + count; }
};

/// A word of rows of steps of four samples from `step` on, side by side. Behind the last sample
/// comes its word once more.
struct Together {
  alignas(32) uint64_t words[kMaxPlanes][kSteps][kWords];
  PlaneRows rows;

  Together(const PlaneRows &planes, uint32_t word, uint32_t step, uint32_t steps) {
    const uint32_t last = planes.samples - 1;
    const uint32_t count = planes.base_planes + (planes.second_dither != nullptr ? 2 : 1);
    for (uint32_t p = 0; p < count; ++p) {
      const uint64_t *from = planes.PlaneOf(p) + word;
      for (uint32_t i = 0; i < steps; ++i) {
        const uint32_t s = kWords * (step + i);
        // stored as a vector, for the loads that follow soon
        const __m256i four = s + 3 <= last ? At(from, s, s + 1, s + 2, s + 3, planes.row)
                                           : At(from, s, std::min(s + 1, last),
                                                std::min(s + 2, last), last, planes.row);
        _mm256_store_si256(reinterpret_cast<__m256i *>(words[p][i]), four);
      }
    }
    rows = planes;
    rows.base = words[0][0];
    rows.plane = sizeof words[0] / sizeof words[0][0][0];
    rows.first_dither = words[planes.base_planes][0];
    if (planes.second_dither != nullptr) rows.second_dither = rows.first_dither + rows.plane;
    rows.row = rows.words = kWords;
    rows.samples = steps;
  }

 private:
  static ZIPML_INLINE __m256i At(const uint64_t *from, size_t a, size_t b, size_t c, size_t d,
                                 size_t row) {
    return _mm256_setr_epi64x(
        static_cast<long long>(from[a * row]), static_cast<long long>(from[b * row]),
        static_cast<long long>(from[c * row]), static_cast<long long>(from[d * row]));
  }
};

/// Some steps' rows, from a sample and a word on.
inline PlaneRows RowsAt(const PlaneRows &planes, size_t sample, const Part &part, uint32_t steps) {
  PlaneRows rows = planes;
  const size_t at = sample * planes.row + part.word;
  rows.base += at;
  rows.first_dither += at;
  if (planes.second_dither != nullptr) rows.second_dither += at;
  rows.row = part.samples * planes.row;
  rows.words = part.samples * part.words;
  rows.samples = steps;
  return rows;
}

/// The digits of a model that are multiplied now, up to three of them.
struct NowDigits {
  int count;
  const int8_t *digits;
  int shift;
};

/// Bytes from a vector of codes of a part's steps to the next vector of them. Pairs have room for a
/// step more: an odd number spreads the vectors of a step over the sets of a cache.
/// \param in_pair  samples of a value that are kept
inline size_t VectorStride(uint32_t steps, uint32_t in_pair) {
  return 32 * static_cast<size_t>(in_pair == 2 ? 2 * (steps | 1) : steps);
}

/// Decodes all, and takes dot products if there are digits. Of a part, vectors of all steps lie one
/// behind the other, as gradients read them.
/// \param in_pair  2 if those of the two samples of values lie side by side
inline void DecodeAll(const PlaneRows &planes, uint8_t *one, uint8_t *two, uint32_t in_pair,
                      const NowDigits &now, int64_t *sums) {
  const bool has_two = planes.second_dither != nullptr;
  const size_t step = 32 * in_pair;
  const int8_t *digits = now.digits;
  StepSums step_sums[kSteps];
  for (const Part &part : Parts(planes.words)) {
    const uint32_t steps = part.steps(planes.samples);
    const uint32_t whole = planes.samples / part.samples;  // steps with all their samples
    const size_t vector = VectorStride(steps, in_pair);
    for (uint32_t s = 0, count; s < steps; s += count) {
      const uint32_t sample = s * part.samples;
      count = std::min(kSteps, s < whole ? whole - s : 1);
      const auto decode = [&](const PlaneRows &rows, size_t half, size_t ahead) {
        DecodeBy(now.count, rows, half, ahead, one + s * step, two + s * step, vector, step, digits,
                 step_sums);
      };
      if (part.samples == 4 && (planes.row > 1 || s == whole)) {
        decode(Together(planes, part.word, s, count).rows, 2, 0);
      } else {
        // a sample that is missing is the other one once more
        const size_t half = part.samples != 2 ? 2 : s < whole ? planes.row : 0;
        decode(RowsAt(planes, sample, part, count), half, planes.samples * planes.row);
      }
      if (now.count == 0) continue;
      const uint32_t samples = std::min(count * part.samples, planes.samples - sample);
      AddTotals<&StepSums::one>(step_sums, part.samples, samples, now.shift, sums + sample);
      if (!has_two) continue;
      AddTotals<&StepSums::two>(step_sums, part.samples, samples, now.shift,
                                sums + planes.samples + sample);
    }
    one += part.vectors() * vector;
    two += part.vectors() * vector;
    if (now.count > 0) digits += kDigitBytes * part.vectors();
  }
}

}  // namespace bytes
