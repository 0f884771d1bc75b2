// Rows of bytes with digits of bytes, for codes of bit-planes: they are at most 2^7, so VPMADDUBSW
// adds up two products of one with a signed digit exactly in 16 bits, and of smaller codes more.
//
// Part of rows_avx2.hpp, inside its namespace. Hence no include and no guard here.

namespace bytes {

/// Products of codes up to 2^base_planes that add up in 16 bits, in pairs.
ZIPML_INLINE uint32_t Exact(uint32_t base_planes) { return 128u >> base_planes; }

/// Eight entries as four times four digits in each lane.
ZIPML_INLINE __m256i EightDigits(const int32_t *model, __m128i shift) {
  const __m256i transpose = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m256i balance = _mm256_set1_epi32(static_cast<int>(kBalance));
  const __m256i x =
      _mm256_sra_epi32(_mm256_load_si256(reinterpret_cast<const __m256i *>(model)), shift);
  return _mm256_shuffle_epi8(_mm256_xor_si256(_mm256_add_epi32(x, balance), balance), transpose);
}

/// Stores a digit of 32 entries, of which a lane has every other four.
ZIPML_INLINE void StoreDigit(__m256i digits, int8_t *to) {
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_store_si256(reinterpret_cast<__m256i *>(to), _mm256_permutevar8x32_epi32(digits, order));
}

/// Zeros that all entries end with take no digits. Digits are all first ones, then all second ones.
inline void Split(const int32_t *model, uint32_t size, DigitModel &out) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i any = zero, smallest = zero, largest = zero, sum = zero;
  for (uint32_t j = 0; j < size; j += 8) {
    const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i *>(model + j));
    any = _mm256_or_si256(any, x);
    smallest = _mm256_min_epi32(smallest, x);
    largest = _mm256_max_epi32(largest, x);
    sum = _mm256_add_epi64(sum, _mm256_cvtepi32_epi64(_mm256_castsi256_si128(x)));
    sum = _mm256_add_epi64(sum, _mm256_cvtepi32_epi64(_mm256_extracti128_si256(x, 1)));
  }
  int32_t lanes[3][8];
  int64_t sums[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(lanes[0]), any);
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(lanes[1]), smallest);
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(lanes[2]), largest);
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(sums), sum);
  int32_t bits = 0;
  for (int i = 0; i < 8; ++i) bits |= lanes[0][i];
  out.sum = sums[0] + sums[1] + sums[2] + sums[3];
  out.shift = bits == 0 ? 0 : __builtin_ctz(static_cast<unsigned>(bits));
  out.count = DigitsFor(*std::min_element(lanes[1], lanes[1] + 8) >> out.shift,
                        *std::max_element(lanes[2], lanes[2] + 8) >> out.shift);
  const __m128i shift = _mm_cvtsi32_si128(out.shift);
  int8_t *digits = reinterpret_cast<int8_t *>(out.digits.data());
  for (uint32_t j = 0; j < size; j += 32, digits += 32) {
    const __m256i a = EightDigits(model + j, shift), b = EightDigits(model + j + 8, shift);
    const __m256i c = EightDigits(model + j + 16, shift), d = EightDigits(model + j + 24, shift);
    const __m256i low_ab = _mm256_unpacklo_epi32(a, b), low_cd = _mm256_unpacklo_epi32(c, d);
    StoreDigit(_mm256_unpacklo_epi64(low_ab, low_cd), digits);
    StoreDigit(_mm256_unpackhi_epi64(low_ab, low_cd), digits + size);
    if (out.count <= 2) continue;
    const __m256i high_ab = _mm256_unpackhi_epi32(a, b), high_cd = _mm256_unpackhi_epi32(c, d);
    StoreDigit(_mm256_unpacklo_epi64(high_ab, high_cd), digits + 2 * size);
    StoreDigit(_mm256_unpackhi_epi64(high_ab, high_cd), digits + 3 * size);
    if (out.count <= 4) continue;
    for (uint32_t i = 0; i < 32; ++i) {
      digits[4 * size + i] = model[j + i] >> out.shift > kLargestFour;
    }
  }
}

ZIPML_INLINE __m256i Products(__m256i codes, const int8_t *digits) {
  return _mm256_maddubs_epi16(codes, _mm256_load_si256(reinterpret_cast<const __m256i *>(digits)));
}

/// Sums of two rows with up to three digits: in 16 bits, and what of them is in 32. (Members, for
/// GCC keeps arrays of vectors in memory.)
template <int kDigits>
struct RowSums {
  __m256i a0, a1, a2, b0, b1, b2;
  static ZIPML_INLINE RowSums Zero() {
    const __m256i zero = _mm256_setzero_si256();
    return {zero, zero, zero, zero, zero, zero};
  }
  ZIPML_INLINE void AddCodes(__m256i a, __m256i b, const int8_t *digits, uint32_t size) {
    a0 = _mm256_add_epi16(a0, Products(a, digits));
    b0 = _mm256_add_epi16(b0, Products(b, digits));
    if (kDigits > 1) {
      a1 = _mm256_add_epi16(a1, Products(a, digits + size));
      b1 = _mm256_add_epi16(b1, Products(b, digits + size));
    }
    if (kDigits > 2) {
      a2 = _mm256_add_epi16(a2, Products(a, digits + 2 * size));
      b2 = _mm256_add_epi16(b2, Products(b, digits + 2 * size));
    }
  }
  ZIPML_INLINE void AddPairs(const RowSums &short_sums) {
    const __m256i ones = _mm256_set1_epi16(1);
    a0 = _mm256_add_epi32(a0, _mm256_madd_epi16(short_sums.a0, ones));
    b0 = _mm256_add_epi32(b0, _mm256_madd_epi16(short_sums.b0, ones));
    if (kDigits > 1) {
      a1 = _mm256_add_epi32(a1, _mm256_madd_epi16(short_sums.a1, ones));
      b1 = _mm256_add_epi32(b1, _mm256_madd_epi16(short_sums.b1, ones));
    }
    if (kDigits > 2) {
      a2 = _mm256_add_epi32(a2, _mm256_madd_epi16(short_sums.a2, ones));
      b2 = _mm256_add_epi32(b2, _mm256_madd_epi16(short_sums.b2, ones));
    }
  }
  /// What the lanes of both rows add up to. A digit of 2^15 codes of 2^7 is at most 2^29.
  /// \param narrow  codes add up to at most 2^15, so that two digits fit 32 bits
  ZIPML_INLINE void Totals(bool narrow, int64_t *a, int64_t *b) const {
    alignas(16) int32_t lanes[8];
    const __m256i high = _mm256_hadd_epi32(a2, b2);
    if (narrow) {
      const __m256i low = _mm256_hadd_epi32(_mm256_add_epi32(a0, _mm256_slli_epi32(a1, 8)),
                                            _mm256_add_epi32(b0, _mm256_slli_epi32(b1, 8)));
      StoreHalves(_mm256_hadd_epi32(low, high), lanes);
      *a = lanes[0] + lanes[2] * int64_t{1 << 16};
      *b = lanes[1] + lanes[3] * int64_t{1 << 16};
    } else {
      StoreHalves(_mm256_hadd_epi32(_mm256_hadd_epi32(a0, b0), _mm256_hadd_epi32(a1, b1)), lanes);
      StoreHalves(_mm256_hadd_epi32(high, high), lanes + 4);
      *a = lanes[0] + lanes[2] * int64_t{1 << 8} + lanes[4] * int64_t{1 << 16};
      *b = lanes[1] + lanes[3] * int64_t{1 << 8} + lanes[5] * int64_t{1 << 16};
    }
  }
  static ZIPML_INLINE void StoreHalves(__m256i x, int32_t *lanes) {
    _mm_store_si128(reinterpret_cast<__m128i *>(lanes),
                    _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
  }
};

/// Dot products with up to three digits of a model of rows, two at a time, the second of which are
/// `second` bytes behind the first.
/// \param step  bytes from the first row to the next one
/// \param shift  of the digits, which are added to sums that are there if it is not 0
template <int kDigits>
void DotRows(const uint8_t *rows, size_t second, size_t step, uint32_t count, uint32_t size,
             uint32_t base_planes, const int8_t *digits, int shift, int64_t *a, int64_t *b,
             uint32_t next) {
  typedef RowSums<kDigits> sums_t;
  const uint32_t exact = 32 * Exact(base_planes);
  const bool narrow = size << base_planes <= 1u << 15;
  for (uint32_t r = 0; r < count; ++r, rows += step, a += next, b += next) {
    sums_t all = sums_t::Zero();
    for (uint32_t j = 0; j < size;) {
      const uint32_t stop = std::min(size, j + exact);
      sums_t sums = sums_t::Zero();
      for (; j < stop; j += 32) {
        sums.AddCodes(_mm256_load_si256(reinterpret_cast<const __m256i *>(rows + j)),
                      _mm256_load_si256(reinterpret_cast<const __m256i *>(rows + second + j)),
                      digits + j, size);
      }
      all.AddPairs(sums);
    }
    int64_t one, two;
    all.Totals(narrow, &one, &two);
    *a = shift == 0 ? one : *a + one * (int64_t{1} << shift);
    *b = shift == 0 ? two : *b + two * (int64_t{1} << shift);
  }
}

inline void Decode(const PlaneRows &planes, uint8_t *first, uint8_t *second) {
  portable::DecodeBody(planes, first, second);
}

/// Two rows at a time: the two of a sample, or two samples' where there is one.
inline void DecodeDots(const PlaneRows &planes, uint8_t *first, uint8_t *second,
                       const DigitModel &model, int64_t *sums) {
  Decode(planes, first, second);
  typedef void (*loop_t)(const uint8_t *, size_t, size_t, uint32_t, uint32_t, uint32_t,
                         const int8_t *, int, int64_t *, int64_t *, uint32_t);
  static const loop_t kDots[] = {DotRows<1>, DotRows<2>, DotRows<3>};
  const size_t size = planes.size;
  const uint32_t samples = planes.samples;
  for (int d = 0; d < model.count; d += 3) {
    const loop_t dot = kDots[std::min(model.count - d, 3) - 1];
    const int8_t *digits = reinterpret_cast<const int8_t *>(model.digits.data()) + d * size;
    if (planes.second_dither != nullptr) {
      dot(first, static_cast<size_t>(second - first), size, samples, planes.size,
          planes.base_planes, digits, 8 * d, sums, sums + samples, 1);
      continue;
    }
    dot(first, size, 2 * size, samples / 2, planes.size, planes.base_planes, digits, 8 * d, sums,
        sums + 1, 2);
    if (samples % 2 == 0) continue;
    int64_t *last = sums + samples - 1, same = *last;
    dot(first + (samples - 1) * size, 0, 0, 1, planes.size, planes.base_planes, digits, 8 * d, last,
        &same, 1);
  }
}

inline void LoadPairs(const PlaneRows &planes, uint8_t *pairs, const DigitModel &model,
                      int64_t *sums) {
  DecodeDots(planes, pairs, pairs + static_cast<size_t>(planes.samples) * planes.size, model, sums);
}

/// Digits of the coefficients of pairs of rows, as VPMADDUBSW multiplies with them.
struct PairDigits {
  uint32_t words[kMaxDigits][kMaxRows];
  int count;

  /// \param step  from one pair to the next
  PairDigits(const int32_t *x, const int32_t *y, uint32_t step, uint32_t pairs) {
    int32_t smallest = 0, largest = 0;
    for (uint32_t p = 0; p < pairs; ++p) {
      const int32_t a = x[step * p], b = y[step * p];
      smallest = std::min(smallest, std::min(a, b));
      largest = std::max(largest, std::max(a, b));
      const uint32_t u = (static_cast<uint32_t>(a) + kBalance) ^ kBalance;
      const uint32_t v = (static_cast<uint32_t>(b) + kBalance) ^ kBalance;
      words[0][p] = ((u & 0xff) | (v & 0xff) << 8) * 0x10001;
      words[1][p] = ((u >> 8 & 0xff) | (v & 0xff00)) * 0x10001;
      words[2][p] = ((u >> 16 & 0xff) | (v >> 8 & 0xff00)) * 0x10001;
      words[3][p] = ((u >> 24) | (v >> 16 & 0xff00)) * 0x10001;
      words[4][p] = ((a > kLargestFour) | (b > kLargestFour) << 8) * 0x10001;
    }
    count = DigitsFor(smallest, largest);
  }
};

/// Sums over pairs of rows of 32 features, two times 16, in 16 bits.
template <int kDigits>
struct PairSums {
  __m256i l0, l1, l2, l3, l4, h0, h1, h2, h3, h4;
  static ZIPML_INLINE PairSums Zero() {
    const __m256i zero = _mm256_setzero_si256();
    return {zero, zero, zero, zero, zero, zero, zero, zero, zero, zero};
  }
  ZIPML_INLINE void AddCodes(__m256i x, __m256i y, const PairDigits &c, uint32_t pair) {
    const __m256i low = _mm256_unpacklo_epi8(x, y), high = _mm256_unpackhi_epi8(x, y);
    AddDigit<0>(low, high, c, pair, l0, h0);
    AddDigit<1>(low, high, c, pair, l1, h1);
    AddDigit<2>(low, high, c, pair, l2, h2);
    AddDigit<3>(low, high, c, pair, l3, h3);
    AddDigit<4>(low, high, c, pair, l4, h4);
  }
  template <int kDigit>
  static ZIPML_INLINE void AddDigit(__m256i low, __m256i high, const PairDigits &c, uint32_t pair,
                                    __m256i &l, __m256i &h) {
    if (kDigit >= kDigits) return;
    const __m256i digits = _mm256_set1_epi32(static_cast<int>(c.words[kDigit][pair]));
    l = _mm256_add_epi16(l, _mm256_maddubs_epi16(low, digits));
    h = _mm256_add_epi16(h, _mm256_maddubs_epi16(high, digits));
  }
  template <class TSum>
  ZIPML_INLINE void AddTo(TSum *gradient) const {
    AddEight(_mm256_castsi256_si128(l0), _mm256_castsi256_si128(l1), _mm256_castsi256_si128(l2),
             _mm256_castsi256_si128(l3), _mm256_castsi256_si128(l4), gradient);
    AddEight(_mm256_castsi256_si128(h0), _mm256_castsi256_si128(h1), _mm256_castsi256_si128(h2),
             _mm256_castsi256_si128(h3), _mm256_castsi256_si128(h4), gradient + 8);
    AddEight(_mm256_extracti128_si256(l0, 1), _mm256_extracti128_si256(l1, 1),
             _mm256_extracti128_si256(l2, 1), _mm256_extracti128_si256(l3, 1),
             _mm256_extracti128_si256(l4, 1), gradient + 16);
    AddEight(_mm256_extracti128_si256(h0, 1), _mm256_extracti128_si256(h1, 1),
             _mm256_extracti128_si256(h2, 1), _mm256_extracti128_si256(h3, 1),
             _mm256_extracti128_si256(h4, 1), gradient + 24);
  }
  /// Modulo 2^32, to which the fifth digit adds nothing.
  static ZIPML_INLINE void AddEight(__m128i x0, __m128i x1, __m128i x2, __m128i x3, __m128i,
                                    int32_t *to) {
    __m256i *out = reinterpret_cast<__m256i *>(to);
    __m256i sum = _mm256_add_epi32(_mm256_load_si256(out), _mm256_cvtepi16_epi32(x0));
    if (kDigits > 1) sum = AddShifted(sum, x1, 8);
    if (kDigits > 2) sum = AddShifted(sum, x2, 16);
    if (kDigits > 3) sum = AddShifted(sum, x3, 24);
    _mm256_store_si256(out, sum);
  }
  static ZIPML_INLINE __m256i AddShifted(__m256i sum, __m128i x, int shift) {
    return _mm256_add_epi32(sum, _mm256_slli_epi32(_mm256_cvtepi16_epi32(x), shift));
  }
  static ZIPML_INLINE void AddEight(__m128i x0, __m128i x1, __m128i x2, __m128i x3, __m128i x4,
                                    int64_t *to) {
    alignas(16) int16_t digits[5][8];
    _mm_store_si128(reinterpret_cast<__m128i *>(digits[0]), x0);
    _mm_store_si128(reinterpret_cast<__m128i *>(digits[1]), x1);
    _mm_store_si128(reinterpret_cast<__m128i *>(digits[2]), x2);
    _mm_store_si128(reinterpret_cast<__m128i *>(digits[3]), x3);
    _mm_store_si128(reinterpret_cast<__m128i *>(digits[4]), x4);
    for (int j = 0; j < 8; ++j) {
      int64_t sum = digits[0][j];
      for (int d = 1; d < kDigits; ++d) sum += digits[d][j] * (int64_t{1} << 8 * d);
      to[j] += sum;
    }
  }
};

/// \param next  bytes from one pair of rows to the next
template <int kDigits, class TSum>
void GradientDigits(const uint8_t *x, const uint8_t *y, size_t next, uint32_t pairs, uint32_t size,
                    uint32_t exact, const PairDigits &c, TSum *gradient) {
  for (uint32_t j = 0; j < size; j += 32) {
    const uint8_t *a = x + j, *b = y + j;
    for (uint32_t p = 0; p < pairs;) {
      const uint32_t stop = std::min(pairs, p + exact);
      PairSums<kDigits> sums = PairSums<kDigits>::Zero();
      for (; p < stop; ++p, a += next, b += next) {
        sums.AddCodes(_mm256_load_si256(reinterpret_cast<const __m256i *>(a)),
                      _mm256_load_si256(reinterpret_cast<const __m256i *>(b)), c, p);
      }
      sums.AddTo(gradient + j);
    }
  }
}

template <class TSum>
void GradientBy(const uint8_t *x, const uint8_t *y, size_t next, uint32_t pairs, uint32_t size,
                uint32_t exact, const PairDigits &c, TSum *gradient) {
  typedef void (*loop_t)(const uint8_t *, const uint8_t *, size_t, uint32_t, uint32_t, uint32_t,
                         const PairDigits &, TSum *);
  static const loop_t kLoops[] = {GradientDigits<1, TSum>, GradientDigits<2, TSum>,
                                  GradientDigits<3, TSum>, GradientDigits<4, TSum>,
                                  GradientDigits<5, TSum>};
  kLoops[c.count - 1](x, y, next, pairs, size, exact, c, gradient);
}

template <class TSum>
void Gradient(const uint8_t *rows, uint32_t base_planes, uint32_t count, uint32_t size,
              const int32_t *coefficients, TSum *gradient) {
  int32_t even[kMaxRows + 1];
  std::copy(coefficients, coefficients + count, even);
  even[count] = 0;
  const uint32_t pairs = (count + 1) / 2;
  GradientBy(rows, rows + size, 2 * static_cast<size_t>(size), pairs, size, Exact(base_planes),
             PairDigits(even, even + 1, 2, pairs), gradient);
}

template <class TSum>
void PairGradient(const uint8_t *pairs, uint32_t base_planes, uint32_t samples, uint32_t size,
                  const int32_t *one, const int32_t *two, TSum *gradient) {
  GradientBy(pairs, pairs + static_cast<size_t>(samples) * size, size, samples, size,
             Exact(base_planes), PairDigits(two, one, 1, samples), gradient);
}

static const RowLoops kLoops = {"avx2",
                                kGroup,
                                portable::Position,
                                nullptr,
                                Decode,
                                DecodeDots,
                                Split,
                                portable::Step<Split>,
                                portable::StepEach<Split>,
                                nullptr,
                                portable::PairBytes,
                                LoadPairs,
                                {Gradient<int64_t>, PairGradient<int64_t>},
                                {Gradient<int32_t>, PairGradient<int32_t>},
                                nullptr,
                                nullptr,
                                nullptr};

/// Of larger codes too few products add up in 16 bits.
inline const RowLoops *For(uint32_t base_planes, uint32_t) {
  return base_planes <= 5 ? &kLoops : nullptr;
}

}  // namespace bytes
