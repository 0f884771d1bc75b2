// Text to numbers, correctly rounded, in one pass and without memory of its own: a data set of text
// is read at some hundred megabytes a second instead of the ten or thirty of an interpreter.
#include <locale.h>
#include <stdlib.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__APPLE__)
#include <xlocale.h>
#endif

extern "C" {
#include "text.h"
}

namespace {

/// Digits that always fit 64 bits.
constexpr int kMaxDigits = 19;
/// What float64 holds exactly: integers up to 2^53, powers of ten up to 10^22.
constexpr uint64_t kExactInteger = uint64_t{1} << 53;
constexpr int kExactPower = 22;
constexpr double kPowers[kExactPower + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                             1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                             1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }
inline bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }

/// Characters of a number that is left to the C library; what is longer is none.
constexpr int kMaxNumber = 2048;

/// The C library's number at the beginning of a text, in the C locale.
double NumberInC(const char *text, char **stop) {
#if defined(_WIN32)
  static const _locale_t kC = _create_locale(LC_ALL, "C");
  return _strtod_l(text, stop, kC);
#else
  static const locale_t kC = newlocale(LC_ALL_MASK, "C", nullptr);
  return strtod_l(text, stop, kC);
#endif
}

/// The whole of [begin, end) as a number, by the C library.
bool SlowNumber(const char *begin, const char *end, double *number) {
  const int64_t size = end - begin;
  if (size == 0 || size >= kMaxNumber) return false;
  char token[kMaxNumber];
  for (int64_t i = 0; i < size; ++i) {
    const char c = token[i] = begin[i];
    if (!IsDigit(c) && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E') return false;
  }
  token[size] = '\0';
  char *stop = nullptr;
  *number = NumberInC(token, &stop);
  return stop == token + size && std::isfinite(*number);
}

/// How a missing number is written: what pandas takes for one, and the question mark of UCI's
/// files.
bool IsMissing(const char *begin, const char *end) {
  static const char *const kMissing[] = {"",     "?",       "NA",       "NaN",    "nan",
                                         "N/A",  "n/a",     "NULL",     "null",   "None",
                                         "<NA>", "#N/A",    "#N/A N/A", "-NaN",   "-nan",
                                         "#NA",  "1.#QNAN", "-1.#QNAN", "1.#IND", "-1.#IND"};
  const size_t size = static_cast<size_t>(end - begin);
  for (const char *text : kMissing) {
    if (std::strlen(text) == size && std::memcmp(text, begin, size) == 0) return true;
  }
  return false;
}

/// The whole of [begin, end) as a finite number. Where integer and power of ten are exact, one
/// operation rounds correctly (Clinger, PLDI 1990); all else is left to the C library.
bool Number(const char *begin, const char *end, double *number) {
  const char *c = begin;
  const bool negative = c < end && *c == '-';
  if (c < end && (*c == '-' || *c == '+')) ++c;
  uint64_t integer = 0;
  int digits = 0, power = 0;
  const char *first = c;
  for (; c < end && IsDigit(*c); ++c, ++digits) integer = 10 * integer + uint64_t(*c - '0');
  int64_t count = c - first;
  if (c < end && *c == '.') {
    const char *point = ++c;
    for (; c < end && IsDigit(*c); ++c, ++digits) integer = 10 * integer + uint64_t(*c - '0');
    power = -static_cast<int>(c - point);
    count += c - point;
  }
  if (count == 0 || count > kMaxDigits) return SlowNumber(begin, end, number);
  if (c < end && (*c == 'e' || *c == 'E')) {
    ++c;
    const bool below = c < end && *c == '-';
    if (c < end && (*c == '-' || *c == '+')) ++c;
    int exponent = 0;
    const char *start = c;
    for (; c < end && IsDigit(*c) && c - start < 4; ++c) exponent = 10 * exponent + (*c - '0');
    if (c == start) return false;
    power += below ? -exponent : exponent;
  }
  if (c != end || integer > kExactInteger || power > kExactPower || power < -kExactPower) {
    return SlowNumber(begin, end, number);
  }
  double value = static_cast<double>(integer);
  value = power < 0 ? value / kPowers[-power] : value * kPowers[power];
  *number = negative ? -value : value;
  return true;
}

/// A number, or NaN for a missing one where `allowed`; ZIPML_TEXT_OK or what is wrong.
inline int32_t NumberOrMissing(const char *begin, const char *end, bool allowed, double *number) {
  if (Number(begin, end, number)) return ZIPML_TEXT_OK;
  if (!IsMissing(begin, end)) return ZIPML_TEXT_NUMBER;
  *number = std::numeric_limits<double>::quiet_NaN();
  return allowed ? ZIPML_TEXT_OK : ZIPML_TEXT_MISSING;
}

/// Where a line ends: at a line break or at the end of the text.
inline const char *LineEnd(const char *c, const char *end) {
  while (c < end && *c != '\n') ++c;
  return c;
}

/// Walks over a text line by line and tells where what is wrong lies.
class Lines {
 public:
  Lines(const char *text, int64_t size, ZipmlText *result)
      : text_(text), end_(text + size), result_(result) {
    *result = ZipmlText{};
    result->last_column = -1;
  }
  bool Fail(int32_t status, const char *begin, const char *end, int64_t column = -1) {
    result_->status = status;
    result_->column = column;
    result_->begin = begin - text_;
    result_->end = end - text_;
    return false;
  }
  /// Calls row(begin, end) for every line until one is false.
  template <typename TRow>
  void Walk(TRow row) {
    for (const char *c = text_; c < end_; ++result_->lines) {
      const char *stop = LineEnd(c, end_);
      if (!row(c, stop)) return;
      c = stop + 1;
    }
  }

 private:
  const char *text_, *end_;
  ZipmlText *result_;
};

}  // namespace

extern "C" void zipml_parse_libsvm(const char *text, int64_t size, int64_t first_index,
                                   int64_t last_index, int32_t missing, double *labels,
                                   int64_t *row_ends, int32_t *columns, double *values,
                                   ZipmlText *result) {
  Lines lines(text, size, result);
  lines.Walk([&](const char *c, const char *stop) {
    bool labelled = false;
    int64_t previous = first_index - 1;
    while (true) {
      while (c < stop && IsBlank(*c)) ++c;
      if (c == stop || *c == '#') break;
      const char *begin = c, *colon = nullptr;
      for (; c < stop && !IsBlank(*c) && *c != '#'; ++c) {
        if (*c == ':' && colon == nullptr) colon = c;
      }
      if (!labelled) {
        const int32_t status = NumberOrMissing(begin, c, (missing & ZIPML_TEXT_MISSING_LABELS) != 0,
                                               &labels[result->rows]);
        if (status != ZIPML_TEXT_OK) return lines.Fail(status, begin, c);
        labelled = true;
        continue;
      }
      if (colon == nullptr || colon == begin) return lines.Fail(ZIPML_TEXT_ENTRY, begin, c);
      if (colon - begin == 3 && begin[0] == 'q' && begin[1] == 'i' && begin[2] == 'd') continue;
      int64_t index = 0;
      for (const char *d = begin; d < colon; ++d) {
        if (!IsDigit(*d)) return lines.Fail(ZIPML_TEXT_ENTRY, begin, c);
        index = 10 * index + (*d - '0');
        if (index > last_index) return lines.Fail(ZIPML_TEXT_INDEX, begin, c);
      }
      if (index < first_index) return lines.Fail(ZIPML_TEXT_INDEX, begin, c);
      if (index <= previous) return lines.Fail(ZIPML_TEXT_ORDER, begin, c);
      const int32_t status = NumberOrMissing(
          colon + 1, c, (missing & ZIPML_TEXT_MISSING_VALUES) != 0, &values[result->entries]);
      if (status == ZIPML_TEXT_NUMBER) return lines.Fail(status, colon + 1, c);
      if (status != ZIPML_TEXT_OK) return lines.Fail(status, begin, c);
      const int32_t column = static_cast<int32_t>(index - first_index);
      columns[result->entries++] = column;
      if (column > result->last_column) result->last_column = column;
      previous = index;
    }
    if (labelled) row_ends[result->rows++] = result->entries;
    return true;
  });
}

extern "C" void zipml_parse_table(const char *text, int64_t size, char delimiter, int64_t columns,
                                  const int32_t *places, int64_t width, int64_t label,
                                  int32_t missing, double *values, int64_t *names,
                                  ZipmlText *result) {
  Lines lines(text, size, result);
  const bool white = delimiter == ' ';
  lines.Walk([&](const char *c, const char *stop) {
    const char *line = c;
    while (c < stop && IsBlank(*c) && (white || *c != delimiter)) ++c;
    if (c == stop) return true;
    double *row = values + result->rows * width;
    int64_t count = 0;
    c = white ? c : line;
    while (true) {
      const char *begin = c;
      while (begin < stop && *begin != delimiter && IsBlank(*begin)) ++begin;
      const char *end = begin;
      if (begin < stop && *begin == '"') {
        for (end = ++begin; end < stop; ++end) {
          if (*end != '"') continue;
          if (end + 1 == stop || end[1] != '"') break;
          ++end;  // a quote that is doubled is one of the text
        }
        if (end == stop) return lines.Fail(ZIPML_TEXT_QUOTE, begin - 1, stop, count);
        c = end + 1;
        while (c < stop && *c != delimiter && IsBlank(*c)) ++c;
        const bool apart = !white || c == stop || *c == delimiter || IsBlank(c[-1]);
        if (!apart || (!white && c < stop && *c != delimiter)) {
          return lines.Fail(ZIPML_TEXT_QUOTE, begin - 1, c, count);
        }
      } else {
        for (c = begin; c < stop && *c != delimiter && !(white && IsBlank(*c));) ++c;
        end = c;
      }
      while (begin < end && IsBlank(*begin)) ++begin;
      while (end > begin && IsBlank(end[-1])) --end;
      if (count == columns) return lines.Fail(ZIPML_TEXT_COLUMNS, line, stop);
      const int32_t place = places[count];
      if (place >= 0) {
        const int32_t bit = place == label ? ZIPML_TEXT_MISSING_LABELS : ZIPML_TEXT_MISSING_VALUES;
        const int32_t status = NumberOrMissing(begin, end, (missing & bit) != 0, &row[place]);
        if (status != ZIPML_TEXT_OK) return lines.Fail(status, begin, end, count);
      } else if (place == ZIPML_TEXT_NAMES) {
        names[2 * result->rows] = begin - text;
        names[2 * result->rows + 1] = end - text;
      }
      ++count;
      if (white) {
        while (c < stop && IsBlank(*c)) ++c;
        if (c == stop) break;
      } else {
        if (c == stop) break;
        ++c;
      }
    }
    if (count != columns) return lines.Fail(ZIPML_TEXT_COLUMNS, line, stop);
    ++result->rows;
    return true;
  });
}
