// Rows of bytes with digits of bytes, for codes of bit-planes (avx2_codes.hpp). They are at most
// 2^7, so VPMADDUBSW adds up two products of one with a signed digit exactly in 16 bits, and of
// smaller codes more.
//
// Part of rows_avx2.hpp, inside its namespace. Hence no include and no guard here.

namespace bytes {

// ---- Digits of the model ---------------------------------------------------------------------

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

/// The entries whose digits fill a vector: eight from `first` on, and every `step` eight more, of a
/// sample. Those of two samples are twice the same 16, of four four times the same eight.
struct Places {
  uint32_t first, step, samples;
};

/// As avx2_codes.hpp multiplies with them: those of each word of a vector, three digits of it one
/// behind the other, and the others behind all of them.
class PartOrder {
 public:
  explicit PartOrder(uint32_t size) : parts_(size / kGroup) {
    for (const Part &part : parts_) vectors_ += part.vectors();
  }
  uint32_t vectors() const { return vectors_; }
  Places At(uint32_t vector) const {
    const Part *part = parts_.begin();
    for (; vector >= part->vectors(); ++part) vector -= part->vectors();
    const uint32_t word = part->word + vector / kVectors * kWords;
    return {word * kGroup + 8 * (vector % kVectors), kGroup, part->samples};
  }
  size_t To(uint32_t vector, uint32_t digit) const {
    return kDigitBytes * (digit / 3 * vectors_ + vector) + 32 * (digit % 3);
  }

 private:
  const Parts parts_;
  uint32_t vectors_ = 0;
};

/// Zeros that all entries end with take no digits.
/// \tparam TOrder  which entries' digits are side by side, and where
template <class TOrder>
void SplitBy(const int32_t *model, uint32_t size, DigitModel &out) {
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
  const TOrder order(size);
  const uint32_t vectors = order.vectors();
  for (uint32_t v = 0; v < vectors; ++v) {
    const Places places = order.At(v);
    const int32_t *from = model + places.first;
    const uint32_t step = places.step;
    const __m256i a = EightDigits(from, shift);
    const __m256i b = places.samples < 4 ? EightDigits(from + step, shift) : a;
    const __m256i c = places.samples < 2 ? EightDigits(from + 2 * step, shift) : a;
    const __m256i d = places.samples < 2 ? EightDigits(from + 3 * step, shift) : b;
    const __m256i low_ab = _mm256_unpacklo_epi32(a, b), low_cd = _mm256_unpacklo_epi32(c, d);
    StoreDigit(_mm256_unpacklo_epi64(low_ab, low_cd), digits + order.To(v, 0));
    StoreDigit(_mm256_unpackhi_epi64(low_ab, low_cd), digits + order.To(v, 1));
    if (out.count <= 2) continue;
    const __m256i high_ab = _mm256_unpackhi_epi32(a, b), high_cd = _mm256_unpackhi_epi32(c, d);
    StoreDigit(_mm256_unpacklo_epi64(high_ab, high_cd), digits + order.To(v, 2));
    if (out.count <= 3) continue;
    StoreDigit(_mm256_unpackhi_epi64(high_ab, high_cd), digits + order.To(v, 3));
    if (out.count <= 4) continue;
    int8_t *carries = digits + order.To(v, 4);
    for (uint32_t i = 0; i < 32; ++i) {
      const uint32_t place = i / 8 % (4 / places.samples);
      carries[i] = from[place * step + i % 8] >> out.shift > kLargestFour;
    }
  }
}

inline void Split(const int32_t *model, uint32_t size, DigitModel &out) {
  SplitBy<PartOrder>(model, size, out);
}

// ---- Loads -----------------------------------------------------------------------------------

inline void Decode(const PlaneRows &planes, uint8_t *first, uint8_t *second) {
  DecodeAll(planes, first, second, 1, {0, nullptr, 0}, nullptr);
}

/// Digits by threes, of which the first turn decodes what the others decode once more: seldom.
inline void DotAll(const PlaneRows &planes, uint8_t *one, uint8_t *two, uint32_t in_pair,
                   const DigitModel &model, int64_t *sums) {
  const PartOrder order(planes.size);
  const int8_t *digits = reinterpret_cast<const int8_t *>(model.digits.data());
  std::fill(sums, sums + (planes.second_dither != nullptr ? 2 : 1) * planes.samples, 0);
  for (int d = 0; d < model.count; d += 3) {
    const NowDigits now = {std::min(model.count - d, 3),
                           digits + order.To(0, static_cast<uint32_t>(d)), 8 * d};
    DecodeAll(planes, one, two, in_pair, now, sums);
  }
}

inline void DecodeDots(const PlaneRows &planes, uint8_t *first, uint8_t *second,
                       const DigitModel &model, int64_t *sums) {
  DotAll(planes, first, second, 1, model, sums);
}

/// The vectors of codes of both samples of values side by side.
inline void LoadPairs(const PlaneRows &planes, uint8_t *pairs, const DigitModel &model,
                      int64_t *sums) {
  DotAll(planes, pairs, pairs + 32, 2, model, sums);
}

// ---- Gradient --------------------------------------------------------------------------------
// Two vectors of codes are multiplied at a time, x and y: of the two samples of values, or of two
// steps. Their bytes are brought side by side, so that VPMADDUBSW adds up the two products of a
// feature with two coefficients' digits of a byte, in 16 bits, or VPMADDWD with digits of 16 bits,
// in 32.

/// What two digits of 16 bits hold at most.
constexpr int32_t kLargestTwoWide = 0x7fff7fff;

/// Coefficients of vectors' samples, x's in the lower half of 32 bits and y's in the upper one:
/// digits of 16 bits, or twice of 8.
struct PairDigits {
  alignas(32) uint32_t words[kMaxDigits][kMaxRows / 2];
  int count;

  /// \param size  of x and y, which have room up to the next eight
  /// \param wide  whether digits have 16 bits
  PairDigits(const int32_t *x, const int32_t *y, uint32_t size, bool wide) {
    __m256i smallest = _mm256_setzero_si256(), largest = smallest;
    for (uint32_t p = 0; p < size; p += 8) {
      const __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i *>(x + p));
      const __m256i b = _mm256_load_si256(reinterpret_cast<const __m256i *>(y + p));
      smallest = _mm256_min_epi32(smallest, _mm256_min_epi32(a, b));
      largest = _mm256_max_epi32(largest, _mm256_max_epi32(a, b));
    }
    alignas(32) int32_t lanes[2][8];
    _mm256_store_si256(reinterpret_cast<__m256i *>(lanes[0]), smallest);
    _mm256_store_si256(reinterpret_cast<__m256i *>(lanes[1]), largest);
    const int32_t least = *std::min_element(lanes[0], lanes[0] + 8);
    const int32_t most = *std::max_element(lanes[1], lanes[1] + 8);
    if (wide) {
      count = most > kLargestTwoWide ? 3 : least < -0x8000 || most > 0x7fff ? 2 : 1;
    } else {
      count = DigitsFor(least, most);
    }
    for (uint32_t p = 0; p < size; p += 8) {
      const __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i *>(x + p));
      const __m256i b = _mm256_load_si256(reinterpret_cast<const __m256i *>(y + p));
      wide ? StoreWide(a, b, p) : StoreBytes(a, b, p);
    }
  }

 private:
  ZIPML_INLINE void Store(int digit, uint32_t p, __m256i x) {
    _mm256_store_si256(reinterpret_cast<__m256i *>(words[digit] + p), x);
  }
  /// A last digit is 1 where the others are too few for the number.
  static ZIPML_INLINE __m256i Carries(__m256i a, __m256i b, int32_t limit) {
    const __m256i most = _mm256_set1_epi32(limit);
    const __m256i x = _mm256_srli_epi32(_mm256_cmpgt_epi32(a, most), 31);
    const __m256i y = _mm256_srli_epi32(_mm256_cmpgt_epi32(b, most), 31);
    return _mm256_or_si256(x, _mm256_slli_epi32(y, 16));
  }
  /// Digits of a byte, and of the largest numbers a last one that is 1.
  ZIPML_INLINE void StoreBytes(__m256i a, __m256i b, uint32_t p) {
    const __m256i balance = _mm256_set1_epi32(static_cast<int>(kBalance));
    const __m256i x = _mm256_xor_si256(_mm256_add_epi32(a, balance), balance);
    const __m256i y = _mm256_xor_si256(_mm256_add_epi32(b, balance), balance);
    // in 16 bits of each pair, digits 0 and 1 of x, then of y; and digits 2 and 3
    const __m256i low = _mm256_blend_epi16(x, _mm256_slli_epi32(y, 16), 0xaa);
    const __m256i high = _mm256_blend_epi16(_mm256_srli_epi32(x, 16), y, 0xaa);
    Store(0, p, _mm256_shuffle_epi8(low, Twice(0)));
    Store(1, p, _mm256_shuffle_epi8(low, Twice(1)));
    Store(2, p, _mm256_shuffle_epi8(high, Twice(0)));
    Store(3, p, _mm256_shuffle_epi8(high, Twice(1)));
    if (count < kMaxDigits) return;
    Store(4, p, _mm256_shuffle_epi8(Carries(a, b, kLargestFour), Twice(0)));
  }
  /// Bytes `at` and `at` + 2 of each four, twice.
  static ZIPML_INLINE __m256i Twice(int at) {
    const __m256i first = _mm256_setr_epi8(0, 2, 0, 2, 4, 6, 4, 6, 8, 10, 8, 10, 12, 14, 12, 14, 0,
                                           2, 0, 2, 4, 6, 4, 6, 8, 10, 8, 10, 12, 14, 12, 14);
    return _mm256_add_epi8(first, _mm256_set1_epi8(static_cast<char>(at)));
  }
  /// Digits of 16 bits, and of the largest numbers a third one that is 1.
  ZIPML_INLINE void StoreWide(__m256i a, __m256i b, uint32_t p) {
    const __m256i balance = _mm256_set1_epi32(0x8000);
    const __m256i x = _mm256_xor_si256(_mm256_add_epi32(a, balance), balance);
    const __m256i y = _mm256_xor_si256(_mm256_add_epi32(b, balance), balance);
    Store(0, p, _mm256_blend_epi16(x, _mm256_slli_epi32(y, 16), 0xaa));
    Store(1, p, _mm256_blend_epi16(_mm256_srli_epi32(x, 16), y, 0xaa));
    if (count == 3) Store(2, p, Carries(a, b, kLargestTwoWide));
  }
};

/// The digits as they are multiplied, as UNPCKL and UNPCKH leave codes: of a pair of samples
/// throughout a vector, of two pairs in a half each, or of four pairs of samples, 0 and 2 in one
/// vector and 1 and 3 in another one.
template <int kDigits, int kSamples>
struct DigitVectors {
  static constexpr uint32_t kOf = kSamples == 4 ? 2 : 1;  // of a digit
  __m256i vectors[kMaxRows / 2 * kDigits];

  DigitVectors(const PairDigits &digits, uint32_t pairs) {
    for (int d = 0; d < kDigits; ++d) {
      const uint32_t *from = digits.words[d];
      __m256i *to = vectors + d * static_cast<int>(kOf);
      for (uint32_t i = 0; i < pairs; ++i, to += kDigits * static_cast<int>(kOf)) {
        if (kSamples == 1) to[0] = _mm256_set1_epi32(static_cast<int>(from[i]));
        if (kSamples == 2) {
          const __m256i two = _mm256_castsi128_si256(
              _mm_loadl_epi64(reinterpret_cast<const __m128i *>(from + 2 * i)));
          to[0] = _mm256_permutevar8x32_epi32(two, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
        }
        if (kSamples < 4) continue;
        const __m256i four =
            _mm256_castsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i *>(from + 4 * i)));
        to[0] = _mm256_permutevar8x32_epi32(four, _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2));
        to[1] = _mm256_permutevar8x32_epi32(four, _mm256_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3));
      }
    }
  }
};

ZIPML_INLINE void AddShifted(__m256i x, int shift, int32_t *to) {
  __m256i *out = reinterpret_cast<__m256i *>(to);
  _mm256_store_si256(out, _mm256_add_epi32(_mm256_load_si256(out), _mm256_slli_epi32(x, shift)));
}
ZIPML_INLINE void AddShifted(__m256i x, int shift, int64_t *to) {
  __m256i *out = reinterpret_cast<__m256i *>(to);
  const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(x));
  const __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(x, 1));
  _mm256_store_si256(out, _mm256_add_epi64(_mm256_load_si256(out), _mm256_slli_epi64(low, shift)));
  _mm256_store_si256(out + 1,
                     _mm256_add_epi64(_mm256_load_si256(out + 1), _mm256_slli_epi64(high, shift)));
}

/// Adds eight sums, digit by digit, each less than 2^22: to 32 bits modulo 2^32, to which a fifth
/// digit adds nothing.
template <int kDigits, class TSum>
ZIPML_INLINE void AddDigits(__m256i x0, __m256i x1, __m256i x2, __m256i x3, __m256i x4, TSum *to) {
  const __m256i low = kDigits > 1 ? _mm256_add_epi32(x0, _mm256_slli_epi32(x1, 8)) : x0;
  const __m256i high = kDigits > 3 ? _mm256_add_epi32(x2, _mm256_slli_epi32(x3, 8)) : x2;
  AddShifted(low, 0, to);
  if (kDigits > 2) AddShifted(high, 16, to);
  if (kDigits > 4 && sizeof(TSum) > 4) AddShifted(x4, 32, to);
}

/// A digit's sums in 16 bits of what UNPCKL and UNPCKH bring side by side: in halves two words of a
/// sample each, two samples of a word each, or four samples in one vector.
template <int kSamples>
struct ByteSums {
  __m256i low, high;
  ZIPML_INLINE void Clear() { low = high = _mm256_setzero_si256(); }
  ZIPML_INLINE void Add(__m256i l, __m256i h, const __m256i *digits) {
    low = _mm256_add_epi16(low, _mm256_maddubs_epi16(l, digits[0]));
    if (kSamples == 4) {
      low = _mm256_add_epi16(low, _mm256_maddubs_epi16(h, digits[1]));
    } else {
      high = _mm256_add_epi16(high, _mm256_maddubs_epi16(h, digits[0]));
    }
  }
  /// Of word `w`.
  template <int w>
  ZIPML_INLINE __m256i Eight() const {
    const __m256i from = w % 2 == 0 ? low : high;
    const __m256i first = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(from));
    const __m256i last = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(from, 1));
    return kSamples > 1 ? _mm256_add_epi32(first, last) : w < 2 ? first : last;
  }
};

template <int kDigits, int kSamples>
struct ByteGradient {
  ByteSums<kSamples> d0, d1, d2, d3, d4;
  ZIPML_INLINE void Clear() {
    d0.Clear();
    d1.Clear();
    d2.Clear();
    d3.Clear();
    d4.Clear();
  }
  ZIPML_INLINE void AddCodes(__m256i x, __m256i y, const __m256i *digits) {
    constexpr int kOf = kSamples == 4 ? 2 : 1;
    const __m256i low = _mm256_unpacklo_epi8(x, y), high = _mm256_unpackhi_epi8(x, y);
    d0.Add(low, high, digits);
    if (kDigits > 1) d1.Add(low, high, digits + kOf);
    if (kDigits > 2) d2.Add(low, high, digits + 2 * kOf);
    if (kDigits > 3) d3.Add(low, high, digits + 3 * kOf);
    if (kDigits > 4) d4.Add(low, high, digits + 4 * kOf);
  }
  template <int w, class TSum>
  ZIPML_INLINE void AddWord(TSum *to) const {
    AddDigits<kDigits>(d0.template Eight<w>(), d1.template Eight<w>(), d2.template Eight<w>(),
                       d3.template Eight<w>(), d4.template Eight<w>(), to);
  }
};

/// The same in 32 bits. A lane of 2^7 pairs, codes of 2^7 and digits of 2^15 has at most 2^30, and
/// of a quarter as many fours of them half of it.
template <int kSamples>
struct WideSums {
  __m256i a, b, c, d;
  ZIPML_INLINE void Clear() { a = b = c = d = _mm256_setzero_si256(); }
  ZIPML_INLINE void Add(__m256i l, __m256i h, const __m256i *digits) {
    AddHalf(l, digits[0], a, b);
    if (kSamples == 4) {
      AddHalf(h, digits[1], a, b);
    } else {
      AddHalf(h, digits[0], c, d);
    }
  }
  template <int w>
  ZIPML_INLINE __m256i Eight() const {
    const __m256i x = w % 2 == 0 ? a : c, y = w % 2 == 0 ? b : d;
    const __m256i first = _mm256_permute2x128_si256(x, y, 0x20);
    const __m256i last = _mm256_permute2x128_si256(x, y, 0x31);
    return kSamples > 1 ? _mm256_add_epi32(first, last) : w < 2 ? first : last;
  }

 private:
  static ZIPML_INLINE void AddHalf(__m256i codes, __m256i digits, __m256i &low, __m256i &high) {
    const __m256i zero = _mm256_setzero_si256();
    low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi8(codes, zero), digits));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi8(codes, zero), digits));
  }
};

template <int kDigits, int kSamples>
struct WideGradient {
  WideSums<kSamples> d0, d1, d2;
  ZIPML_INLINE void Clear() {
    d0.Clear();
    d1.Clear();
    d2.Clear();
  }
  ZIPML_INLINE void AddCodes(__m256i x, __m256i y, const __m256i *digits) {
    constexpr int kOf = kSamples == 4 ? 2 : 1;
    const __m256i low = _mm256_unpacklo_epi8(x, y), high = _mm256_unpackhi_epi8(x, y);
    d0.Add(low, high, digits);
    if (kDigits > 1) d1.Add(low, high, digits + kOf);
    if (kDigits > 2) d2.Add(low, high, digits + 2 * kOf);
  }
  template <int w, class TSum>
  ZIPML_INLINE void AddWord(TSum *to) const {
    AddShifted(d0.template Eight<w>(), 0, to);
    if (kDigits > 1) AddShifted(d1.template Eight<w>(), 16, to);
    if (kDigits > 2 && sizeof(TSum) > 4) AddShifted(d2.template Eight<w>(), 32, to);
  }
};

/// Vectors of codes, of each those of all pairs one behind the other.
struct CodePairs {
  const uint8_t *codes;
  size_t vector;   // bytes from one vector to the next one
  uint32_t count;  // vectors
  uint32_t pairs;  // of each
  uint32_t exact;  // pairs whose sums stay in theirs
};

/// \tparam TGradient  sums of a vector
/// \param gradient  of the first word
template <template <int, int> class TGradient, int kDigits, int kSamples, class TSum>
void GradientDigits(const CodePairs &all, const PairDigits &digits, TSum *gradient) {
  typedef DigitVectors<kDigits, kSamples> table_t;
  const table_t table(digits, all.pairs);
  constexpr int kNext = kDigits * static_cast<int>(table_t::kOf);
  // of four samples two are added up in a lane
  const uint32_t pairs = all.pairs, exact = kSamples == 4 ? all.exact / 2 : all.exact;
  for (uint32_t v = 0; v < all.count; ++v) {
    const uint8_t *codes = all.codes + v * all.vector;
    const __m256i *x = table.vectors;
    TSum *to = gradient + v / kVectors * kWords * kGroup + 8 * (v % kVectors);
    for (uint32_t i = 0; i < pairs;) {
      TGradient<kDigits, kSamples> sums;
      sums.Clear();
      for (const uint32_t stop = std::min(pairs, i + exact); i < stop; ++i) {
        sums.AddCodes(LoadVector(codes), LoadVector(codes + 32), x);
        codes += 64;
        x += kNext;
      }
      sums.template AddWord<0>(to);
      if (kSamples == 4) continue;
      sums.template AddWord<1>(to + kGroup);
      if (kSamples == 2) continue;
      sums.template AddWord<2>(to + 2 * kGroup);
      sums.template AddWord<3>(to + 3 * kGroup);
    }
  }
}

/// From four base planes on too few products add up in 16 bits.
inline bool TakesWide(uint32_t base_planes) { return base_planes > 3; }

template <int kSamples, class TSum>
void GradientBy(const CodePairs &all, const PairDigits &digits, bool wide, TSum *gradient) {
  typedef void (*loop_t)(const CodePairs &, const PairDigits &, TSum *);
  static const loop_t kBytes[] = {GradientDigits<ByteGradient, 1, kSamples, TSum>,
                                  GradientDigits<ByteGradient, 2, kSamples, TSum>,
                                  GradientDigits<ByteGradient, 3, kSamples, TSum>,
                                  GradientDigits<ByteGradient, 4, kSamples, TSum>,
                                  GradientDigits<ByteGradient, 5, kSamples, TSum>};
  static const loop_t kWide[] = {GradientDigits<WideGradient, 1, kSamples, TSum>,
                                 GradientDigits<WideGradient, 2, kSamples, TSum>,
                                 GradientDigits<WideGradient, 3, kSamples, TSum>};
  (wide ? kWide : kBytes)[digits.count - 1](all, digits, gradient);
}

/// \param in_pair  samples of a value that are kept: a pair's, or that of a step of two in a pair
/// \param digits_of  of the pairs of a part
template <class TSum, class TDigitsOf>
void AddGradient(const uint8_t *codes, uint32_t in_pair, uint32_t base_planes, uint32_t samples,
                 uint32_t size, TDigitsOf digits_of, TSum *gradient) {
  const bool wide = TakesWide(base_planes);
  for (const Part &part : Parts(size / kGroup)) {
    const uint32_t steps = part.steps(samples), pairs = (in_pair * steps + 1) / 2;
    const size_t vector = VectorStride(steps, in_pair);
    const CodePairs all = {codes, vector, part.vectors(), pairs,
                           wide ? 2 * kMaxRows : Exact(base_planes)};
    const PairDigits digits = digits_of(part.samples, part.samples * pairs, wide);
    TSum *to = gradient + part.word * kGroup;
    if (part.samples == 1) GradientBy<1>(all, digits, wide, to);
    if (part.samples == 2) GradientBy<2>(all, digits, wide, to);
    if (part.samples == 4) GradientBy<4>(all, digits, wide, to);
    codes += part.vectors() * vector;
  }
}

/// Coefficients of pairs, with zeros up to the next eight and more.
struct Coefficients {
  alignas(32) int32_t x[kMaxRows / 2 + 16], y[kMaxRows / 2 + 16];
};

/// Where the last step has no other one in its pair, what is behind it is read, a vector at most,
/// and counts zero times.
template <class TSum>
void Gradient(const uint8_t *rows, uint32_t base_planes, uint32_t count, uint32_t size,
              const int32_t *coefficients, TSum *gradient) {
  const auto digits_of = [&](uint32_t samples, uint32_t pairs, bool wide) {
    Coefficients of = {};
    for (uint32_t r = 0; r < count; ++r) {
      int32_t *to = r / samples % 2 == 0 ? of.x : of.y;
      to[r / (2 * samples) * samples + r % samples] = coefficients[r];
    }
    return PairDigits(of.x, of.y, pairs, wide);
  };
  AddGradient(rows, 1, base_planes, count, size, digits_of, gradient);
}

template <class TSum>
void PairGradient(const uint8_t *pairs, uint32_t base_planes, uint32_t samples, uint32_t size,
                  const int32_t *one, const int32_t *two, TSum *gradient) {
  Coefficients of;
  const uint32_t end = (samples + 7) / 8 * 8;
  std::fill(std::copy(two, two + samples, of.x), of.x + end, 0);
  std::fill(std::copy(one, one + samples, of.y), of.y + end, 0);
  const auto digits_of = [&](uint32_t, uint32_t count, bool wide) {
    return PairDigits(of.x, of.y, count, wide);
  };
  AddGradient(pairs, 2, base_planes, samples, size, digits_of, gradient);
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

inline const RowLoops *For(uint32_t, uint32_t) { return &kLoops; }

}  // namespace bytes
