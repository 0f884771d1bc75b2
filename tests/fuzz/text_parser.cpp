// The compiled text parsers under sanitizers: libFuzzer's entry, guided by coverage, or a program
// that replays files (ZIPML_REPLAY). The first byte of an input says which parser, the second how;
// the rest is the text. All memory is exactly as large as text.h asks, so that a byte more is told.
#include <locale.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

extern "C" {
#include "text.h"
}

namespace {

void Require(bool holds, const char *what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

/// Memory of its own for each array, of exactly `size` entries, none of them set.
template <typename T>
std::unique_ptr<T[]> Room(size_t size) {
  return std::unique_ptr<T[]>(new T[size]);
}

void CheckResult(const ZipmlText &result, int64_t size) {
  Require(result.rows <= result.lines + 1, "more rows than lines");
  if (result.status == ZIPML_TEXT_OK) return;
  Require(result.begin >= 0 && result.begin <= result.end && result.end <= size, "what is wrong");
}

void Libsvm(uint8_t how, const char *text, size_t size) {
  const size_t lines = 1 + std::count(text, text + size, '\n');
  const size_t entries = std::count(text, text + size, ':');
  const int64_t first = how & 1, last = (how & 2) ? 7 : 2147483645;
  auto labels = Room<double>(lines), values = Room<double>(entries);
  auto ends = Room<int64_t>(lines);
  auto columns = Room<int32_t>(entries);
  ZipmlText result;
  zipml_parse_libsvm(text, size, first, last, (how >> 2) & 3, labels.get(), ends.get(),
                     columns.get(), values.get(), &result);
  CheckResult(result, size);
  for (int64_t row = 0, entry = 0; row < result.rows; ++row) {
    Require(ends[row] >= entry, "ends of rows ascend");
    for (int32_t previous = -1; entry < ends[row]; previous = columns[entry++]) {
      Require(columns[entry] > previous && columns[entry] <= last - first, "columns ascend");
      Require(std::isfinite(values[entry]) || (how & 4), "no value is missing unasked");
    }
    Require(std::isfinite(labels[row]) || (how & 8), "no label is missing unasked");
  }
}

void Table(uint8_t how, const char *text, size_t size) {
  static const char kDelimiters[] = {',', ';', '\t', ' '};
  const int64_t columns = 1 + (how & 3);
  const bool names = (how & 64) != 0;
  const size_t lines = 1 + std::count(text, text + size, '\n');
  std::vector<int32_t> places(columns);
  for (int64_t i = 0; i < columns; ++i) places[i] = static_cast<int32_t>(i);
  int64_t width = columns;
  if (names) places[columns - 1] = ZIPML_TEXT_NAMES, --width;
  if (how & 128) places[0] = ZIPML_TEXT_LEFT_OUT;
  auto values = Room<double>(lines * width);
  auto texts = Room<int64_t>(names ? 2 * lines : 0);
  ZipmlText result;
  zipml_parse_table(text, size, kDelimiters[(how >> 2) & 3], columns, places.data(), width,
                    names ? -1 : columns - 1, (how >> 4) & 3, values.get(), texts.get(), &result);
  CheckResult(result, size);
  for (int64_t row = 0; row < result.rows; ++row) {
    for (int64_t i = 0; i < width; ++i) {
      if (places[i] < 0) continue;
      Require(std::isfinite(values[row * width + i]) || (how & 48), "nothing is missing unasked");
    }
    if (!names || places[columns - 1] != ZIPML_TEXT_NAMES) continue;
    const int64_t begin = texts[2 * row], end = texts[2 * row + 1];
    Require(begin >= 0 && begin <= end && end <= static_cast<int64_t>(size), "a name's place");
  }
}

/// One number a line: exactly those that strtod takes whole are read, and to its bits.
void Numbers(const char *text, size_t size) {
  static const locale_t kC = newlocale(LC_ALL_MASK, "C", nullptr);
  static const char kBlank[] = " \t\r\v\f";
  const std::string all(text, size);
  for (size_t at = 0; at <= size;) {
    const size_t stop = std::min(all.find('\n', at), size);
    std::string field = all.substr(at, stop - at);
    at = stop + 1;
    if (field.find_first_of("\"|") != std::string::npos) continue;
    const size_t begin = std::min(field.find_first_not_of(kBlank), field.size());
    field = field.substr(begin, field.find_last_not_of(kBlank) + 1 - begin);
    if (field.empty()) continue;
    const int32_t place = 0;
    double value = 0;
    ZipmlText result;
    auto exact = Room<char>(field.size());
    std::memcpy(exact.get(), field.data(), field.size());
    zipml_parse_table(exact.get(), field.size(), '|', 1, &place, 1, -1, 0, &value, nullptr,
                      &result);
    char *end = nullptr;
    const double expected = strtod_l(field.c_str(), &end, kC);
    const bool number = field.find_first_not_of("0123456789+-.eE") == std::string::npos &&
                        end == field.c_str() + field.size() && std::isfinite(expected) &&
                        field.size() < 2048;
    Require((result.status == ZIPML_TEXT_OK) == number, field.c_str());
    Require(!number || std::memcmp(&value, &expected, sizeof value) == 0, field.c_str());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2) return 0;
  auto text = Room<char>(size - 2);
  if (size > 2) std::memcpy(text.get(), data + 2, size - 2);
  switch (data[0] % 3) {
    case 0:
      Table(data[1], text.get(), size - 2);
      break;
    case 1:
      Libsvm(data[1], text.get(), size - 2);
      break;
    default:
      Numbers(text.get(), size - 2);
  }
  return 0;
}

#ifdef ZIPML_REPLAY
int main(int count, char **paths) {
  for (int i = 1; i < count; ++i) {
    std::ifstream file(paths[i], std::ios::binary);
    const std::vector<char> data((std::istreambuf_iterator<char>(file)), {});
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(data.data()), data.size());
  }
  std::printf("%d\n", count - 1);
  return 0;
}
#endif
