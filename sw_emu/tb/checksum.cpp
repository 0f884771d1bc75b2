// Packs and trains a set of cases and prints a hash for each, so that two machines can be compared:
// `make test-cross` does so for this one, AArch64 and 32-bit Arm. No vendor header is needed, only
// what is built on a board as well.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "zipml/config.hpp"

extern "C" {
#include "../cholesky.h"
#include "../engine.h"
#include "../margins.h"
#include "../pack.h"
#include "../products.h"
#include "../samples.h"
#include "../softmax.h"
}

namespace {

/// xorshift64*: the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint32_t Bits() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>(state_ * 0x2545F4914F6CDD1Du >> 32);
  }
  /// In [-1, 1), with 24 bits: exact in float and in double.
  double Value() { return std::ldexp(static_cast<double>(Bits() >> 8), -23) - 1; }

 private:
  uint64_t state_;
};

/// FNV-1a over the bytes of integers, the lowest first, whatever the machine's order is.
class Hash {
 public:
  template <typename T>
  void Add(const std::vector<T> &values) {
    for (const T value : values) Add(static_cast<uint64_t>(value), sizeof(T));
  }
  void Add(const std::vector<double> &numbers) {
    for (const double number : numbers) {
      uint64_t bits;
      std::memcpy(&bits, &number, sizeof bits);
      Add(bits, 8);
    }
  }
  void Add(uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) {
      state_ = (state_ ^ (value >> (8 * i) & 0xFF)) * 0x100000001B3u;
    }
  }
  uint64_t Value() const { return state_; }

 private:
  uint64_t state_ = 0xCBF29CE484222325u;
};

struct Case {
  zipml::ValueFormat format;
  uint32_t word_bits;
  uint32_t bits;
  uint32_t sampling;  // as in the register; nearest is single sampling of other values
  bool nearest;
  uint32_t x_bytes;
  uint32_t delay;
  uint32_t turn;  // whose losses and quantization it is
};

uint32_t CeilDivide(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

/// Sizes of a case's data.
struct Sizes {
  explicit Sizes(const Case &c)
      : is_float(c.format == zipml::kFloat32),
        lanes(is_float ? c.word_bits / 32 : c.word_bits),
        columns(3 * lanes / 2 + 5),
        features(columns + 1),
        chunks(CeilDivide(features, lanes)),
        blocks(CeilDivide(samples, block_samples)),
        dithers(c.sampling == 0 ? 1 : 2),
        stride((is_float ? 1 : c.bits - 1 + dithers) * block_samples * chunks) {}

  static constexpr uint32_t batch = 4, block_samples = 12, samples = 43, epochs = 2;
  bool is_float;
  uint32_t lanes, columns, features, chunks, blocks, dithers, stride;
};

constexpr uint32_t Sizes::batch, Sizes::block_samples, Sizes::samples, Sizes::epochs;

/// Tables of levels, level after level for packing and feature after feature for training; none
/// where the format has none.
struct Tables {
  Tables(const Case &c, const Sizes &sizes, Random &random) {
    if (c.format != zipml::kLevels) return;
    const uint32_t count = (1u << (c.bits - 1)) + 1;
    levels.resize(count * sizes.features);
    tables.resize(count * sizes.features);
    const int32_t one = 1 << zipml::kLevelFractionBits;
    for (uint32_t j = 0; j < sizes.features; ++j) {
      for (uint32_t i = 0; i < count; ++i) {
        // rises from -1 to 1, by steps that differ
        const int32_t jitter = i == 0 || i == count - 1 ? 0 : random.Bits() % (one / count + 1);
        const int32_t level = static_cast<int32_t>(2 * one * i / (count - 1)) - one + jitter;
        levels[i * sizes.features + j] = static_cast<int16_t>(level);
        tables[j * count + i] = level;
      }
    }
  }

  std::vector<int16_t> levels;
  std::vector<int32_t> tables;
};

/// What training reads of a case.
struct Data {
  std::vector<uint64_t> words;
  std::vector<int32_t> tables, labels, derivative;
};

int32_t Fixed(Random &random, int fraction_bits) {
  return static_cast<int32_t>(std::ldexp(random.Value(), fraction_bits));
}

/// Draws a case's samples and packs them.
Data Pack(const Case &c, const Sizes &sizes, uint64_t seed, Random &random) {
  std::vector<double> mid(sizes.columns), divisor(sizes.columns);
  for (uint32_t j = 0; j < sizes.columns; ++j) {
    mid[j] = random.Value();
    divisor[j] = j % 7 == 0 ? INFINITY : 1.25 + random.Value();
  }
  std::vector<double> doubles(sizes.samples * sizes.columns);
  std::vector<float> floats(doubles.size());
  for (size_t i = 0; i < doubles.size(); ++i) {
    floats[i] = static_cast<float>(doubles[i] = random.Value());
  }
  const Tables tables(c, sizes, random);

  ZipmlPacking packing = {};
  packing.mid = mid.data();
  packing.divisor = divisor.data();
  packing.row_stride = sizes.columns;
  packing.seed = seed;
  packing.draw = 3;
  packing.x_bytes = c.x_bytes;
  packing.columns = sizes.columns;
  packing.features = sizes.features;
  packing.samples = sizes.samples;
  packing.block_samples = sizes.block_samples;
  packing.word_bits = c.word_bits;
  packing.format = c.format;
  packing.precisions = sizes.is_float ? 0 : 1u << c.bits;
  packing.dither_planes = sizes.dithers;
  packing.nearest = c.nearest;
  packing.levels = tables.levels.data();
  const void *x = c.x_bytes == 4 ? static_cast<const void *>(floats.data()) : doubles.data();
  Data data;
  data.words.resize(sizes.blocks * sizes.stride * (c.word_bits / 64));
  zipml_pack(&packing, x, 0, sizes.blocks, data.words.data());

  data.tables = tables.tables;
  data.labels.resize(sizes.blocks * sizes.block_samples);
  for (uint32_t i = 0; i < sizes.samples; ++i) {
    data.labels[i] = Fixed(random, zipml::kModelFractionBits);
  }
  // any table will do; losses and quantization of model and gradient take turns
  data.derivative.resize((1 << zipml::kDerivativeTableLog2) + 1);
  for (int32_t &entry : data.derivative) entry = Fixed(random, zipml::kDerivativeFractionBits);
  return data;
}

/// Trains in two epochs, or with `hold` in one that leaves its last batches pending; false if the
/// engine refused it.
bool Train(const Case &c, const Sizes &sizes, const Data &data, bool hold, Random &random,
           Hash *hash) {
  const uint32_t entries = sizes.chunks * sizes.lanes;
  const std::vector<uint32_t> schedule = {1u << 23, 3u << 21, 1u << 12, 24, 0,
                                          1u << 22, 1u << 21, 0,        23, 1u << 9};
  const bool own_steps = c.turn % 7 < 4;
  const bool corrected = c.turn % 5 < 2 && zipml::Corrects(c.format);
  const uint32_t shifts = own_steps ? entries : 0;
  const uint32_t corrections = corrected ? entries : 0;
  std::vector<int32_t> model(entries + shifts + corrections + 2 * c.delay * sizes.batch);
  std::vector<int32_t> history(sizes.epochs * entries);
  for (uint32_t j = 0; j < shifts; ++j) model[entries + j] = j % (zipml::kMaxFeatureShift + 1);
  for (uint32_t j = 0; j < sizes.features; ++j) model[j] = Fixed(random, zipml::kModelFractionBits);
  for (uint32_t j = 0; j < corrections; ++j) {
    model[entries + shifts + j] = Fixed(random, zipml::kModelFractionBits);
  }
  ZipmlArguments arguments = {};
  arguments.planes = data.words.data();
  arguments.labels = data.labels.data();
  arguments.model = model.data();
  arguments.history = history.data();
  arguments.schedule = schedule.data();
  arguments.levels = data.tables.data();
  arguments.samples = sizes.samples;
  arguments.features = sizes.features;
  arguments.batch = sizes.batch;
  arguments.block_samples = sizes.block_samples;
  arguments.block_stride = sizes.stride;
  arguments.dither_offset = sizes.is_float ? 0 : (c.bits - 1) * sizes.block_samples * sizes.chunks;
  arguments.bits = c.bits;
  arguments.sampling = c.sampling;
  arguments.epochs = hold ? 1 : sizes.epochs;
  arguments.delay = c.delay;
  arguments.flags = (hold              ? +zipml::kFlagHold
                     : c.turn % 6 == 5 ? +zipml::kFlagFrozen
                                       : 0u) |
                    (own_steps ? zipml::kFlagFeatureSteps : 0u) |
                    (corrected ? zipml::kFlagCorrection : 0u);
  arguments.level_tables = c.format == zipml::kLevels ? sizes.features : 0;
  arguments.loss = c.turn % 4;
  arguments.range_log2 = c.turn % 3;
  arguments.derivative = data.derivative.data();
  arguments.model_bits = c.turn % 2 == 1 && !(hold && c.delay > 1) ? 8 : 0;
  arguments.model_shift = 18;
  arguments.gradient_bits = c.turn % 3 == 1 ? 8 : 0;
  arguments.seed = 7;
  arguments.block_step = 1;
  ZipmlResults results = {};
  zipml_engine_run(c.word_bits, c.format, &arguments, &results, 1 + c.turn % 3, nullptr);
  if (results.status != 1) {
    std::fprintf(stderr, "status %u\n", static_cast<unsigned>(results.status));
    return false;
  }
  hash->Add(model);
  hash->Add(history);
  hash->Add(results.words, 8);
  hash->Add(results.modelled_cycles, 8);
  hash->Add(results.saturations, 4);
  hash->Add(results.outside, 4);
  hash->Add(results.clipped, 4);
  return true;
}

/// Packs `c` and trains on it both ways; false if the engine refused it.
bool Run(const Case &c, uint64_t seed, Hash *hash) {
  Random random(seed);
  const Sizes sizes(c);
  const Data data = Pack(c, sizes, seed, random);
  hash->Add(data.words);
  return Train(c, sizes, data, false, random, hash) && Train(c, sizes, data, true, random, hash);
}

/// Products of rows with vectors, and sums of rows, of ragged sizes; false if memory ran out.
bool Multiply(uint64_t rows, uint64_t features, uint64_t count, Hash *hash) {
  Random random(rows * features * count);
  std::vector<float> values(rows * features), vectors(count * features);
  for (float &value : values) value = static_cast<float>(random.Value());
  for (float &value : vectors) value = static_cast<float>(random.Value());
  std::vector<float> products(count * rows);
  std::vector<double> sums(count * features);
  zipml_row_products(values.data(), rows, features, vectors.data(), count, products.data(), rows);
  const bool done =
      zipml_row_sums(values.data(), rows, features, products.data(), rows, count, sums.data()) == 0;
  hash->Add(std::vector<double>(products.begin(), products.end()));
  hash->Add(sums);
  return done;
}

/// Samples of odd sizes normalized, and some of blocks taken, the last block of either not full.
void Take(uint32_t columns, uint64_t count, Hash *hash) {
  const uint32_t planes = 3, block_samples = 4, row_words = columns / 2, samples = 10;
  Random random(columns * count);
  std::vector<double> x(samples * columns), mid(columns), half(columns);
  for (double &value : x) value = random.Value();
  for (double &value : mid) value = random.Value();
  for (double &value : half) value = 2 + random.Value();
  const ZipmlSamples rows = {x.data(), columns, samples, columns, 8};
  std::vector<float> values(samples * (columns + 1));
  zipml_normalize(&rows, nullptr, mid.data(), half.data(), columns + 1, values.data());
  hash->Add(std::vector<double>(values.begin(), values.end()));
  const uint64_t block = planes * block_samples * row_words;
  std::vector<uint64_t> blocks(3 * block), taken((count + 3) / 4 * block);
  for (uint64_t &word : blocks) word = random.Bits();
  std::vector<int64_t> index(count);
  for (int64_t &number : index) number = random.Bits() % samples;
  zipml_take(blocks.data(), planes, block_samples, row_words, index.data(), count, taken.data());
  hash->Add(taken);
}

/// Losses of ragged numbers of samples, and the least of them along some changes.
void Search(uint32_t loss, uint64_t samples, uint32_t changes, Hash *hash) {
  Random random(samples * changes + loss);
  std::vector<double> weights(samples), margins(samples), along(changes * samples);
  for (double &weight : weights) weight = 1 + random.Value();
  for (double &margin : margins) margin = 8 * random.Value();
  for (double &margin : along) margin = random.Value();
  std::vector<double> slopes(changes, 0.0), moment(changes * changes, 0.0);
  for (uint32_t k = 0; k < changes; ++k) moment[k * changes + k] = 0.01;
  const ZipmlMargins of = {loss,           changes,      samples, weights.data(),
                           margins.data(), along.data(), samples};
  const ZipmlSearch search = {0, slopes.data(), moment.data(), 20, 1e-3, 1e-3, 1e-10};
  std::vector<double> steps(changes), moved(samples), sizes(samples), curvatures(samples);
  hash->Add({zipml_margin_search(&of, &search, steps.data(), moved.data())});
  hash->Add(steps);
  hash->Add(moved);
  const double sum = zipml_margin_losses(&of, sizes.data(), curvatures.data());
  hash->Add(sizes);
  hash->Add(curvatures);
  const std::vector<float> single(curvatures.begin(), curvatures.end());
  hash->Add({sum, zipml_flat_below(curvatures.data(), samples, 0.05),
             zipml_flat_below_single(single.data(), samples, 0.05)});
}

/// The loss of several classes of ragged numbers of samples, its derivatives, and a step along some
/// ways; false if memory ran out.
bool Together(uint32_t classes, uint64_t samples, uint32_t ways, Hash *hash) {
  Random random(classes * samples + ways);
  const uint64_t size = classes * samples;
  std::vector<int64_t> numbers(samples);
  std::vector<double> weights(samples), margins(size), steps(ways);
  std::vector<std::vector<float>> along(ways, std::vector<float>(size));
  std::vector<float *> rows;
  for (int64_t &number : numbers) number = random.Bits() % classes;
  for (double &weight : weights) weight = 1 + random.Value();
  for (double &margin : margins) margin = 8 * random.Value();
  for (double &step : steps) step = random.Value();
  for (std::vector<float> &own : along) {
    for (float &margin : own) margin = static_cast<float>(random.Value());
    rows.push_back(own.data());
  }
  const ZipmlSoftmax of = {classes,        ways,           samples,    numbers.data(),
                           weights.data(), margins.data(), rows.data()};
  std::vector<double> sums(1 + ways + ways * ways), way(ways);
  std::vector<float> slopes(size), curvatures(size);
  bool done = zipml_softmax_sums(&of, 0, samples, steps.data(), sums.data()) == 0;
  zipml_newton_step(ways, sums.data() + 1 + ways, sums.data() + 1, 1e-10, way.data());
  zipml_softmax_move(&of, 0, samples, steps.data());
  done = done && zipml_softmax_slopes(&of, 0, samples, slopes.data(), curvatures.data()) == 0;
  for (const std::vector<double> *found : {&sums, &way, &margins}) hash->Add(*found);
  for (const std::vector<float> *found : {&slopes, &curvatures, &along.back()}) {
    hash->Add(std::vector<double>(found->begin(), found->end()));
  }
  return done;
}

/// A factor and what it solves, of a matrix that its diagonal outweighs; false if it is refused.
bool Solve(uint64_t size, Hash *hash) {
  Random random(size);
  std::vector<double> matrix(size * size), b(size);
  for (double &value : matrix) value = random.Value();
  for (double &value : b) value = random.Value();
  for (uint64_t i = 0; i < size; ++i) matrix[i * size + i] = static_cast<double>(size);
  const bool done = zipml_cholesky_factor(matrix.data(), size) == 0;
  zipml_cholesky_solve(matrix.data(), size, b.data());
  for (const std::vector<double> *numbers : {&matrix, &b}) {
    for (const double number : *numbers) {
      uint64_t bits;
      std::memcpy(&bits, &number, sizeof bits);
      hash->Add(bits, 8);
    }
  }
  return done;
}

}  // namespace

int main() {
  unsigned number = 0;
  for (const zipml::ValueFormat format :
       {zipml::kBitPlanes, zipml::kFloat32, zipml::kLevels, zipml::kWide}) {
    // of the wide format, what lies above the others
    const uint32_t fewest = format == zipml::kWide ? 10 : 1;
    const uint32_t most = static_cast<uint32_t>(zipml::MaxBits(format));
    for (const uint32_t word_bits : {64u, 128u, 512u}) {
      for (uint32_t bits = fewest; bits <= most; bits += fewest == 1 ? 1 : 3) {
        // rounded to nearest, drawn once, and twice with either estimator
        for (uint32_t kind = 0; kind < 4; ++kind) {
          const bool is_float = format == zipml::kFloat32;
          if (is_float && (kind != 1 || bits > 2)) continue;
          const Case c = {
              format,    word_bits,          is_float ? 32 : bits, kind < 2 ? 0 : kind - 1,
              kind == 0, bits % 2 ? 8u : 4u, (bits + kind) % 4,    bits + kind};
          Hash hash;
          if (!Run(c, ++number, &hash)) return 1;
          std::printf("format %u, %u-bit words, %u bits, sampling %u%s, delay %u: %016llx\n",
                      static_cast<unsigned>(format), static_cast<unsigned>(word_bits),
                      static_cast<unsigned>(c.bits), static_cast<unsigned>(c.sampling),
                      c.nearest ? " (nearest)" : "", static_cast<unsigned>(c.delay),
                      static_cast<unsigned long long>(hash.Value()));
        }
      }
    }
  }
  for (const uint64_t count : {1u, 3u, 4u, 6u}) {
    Hash hash;
    if (!Multiply(131, 77, count, &hash)) return 1;
    ++number;
    std::printf("rows times %u vectors: %016llx\n", static_cast<unsigned>(count),
                static_cast<unsigned long long>(hash.Value()));
  }
  for (const uint32_t loss : {uint32_t{ZIPML_SQUARED_HINGE}, uint32_t{ZIPML_LOGISTIC}}) {
    for (const uint32_t changes : {1u, 2u, 5u, 8u}) {
      Hash hash;
      Search(loss, 300 + changes, changes, &hash);
      ++number;
      std::printf("loss %u along %u changes: %016llx\n", static_cast<unsigned>(loss),
                  static_cast<unsigned>(changes), static_cast<unsigned long long>(hash.Value()));
    }
  }
  for (const uint32_t classes : {2u, 7u, 12u}) {
    for (const uint32_t ways : {1u, 2u, 3u}) {
      Hash hash;
      if (!Together(classes, 150 + classes, ways, &hash)) return 1;
      ++number;
      std::printf("%u classes along %u ways: %016llx\n", static_cast<unsigned>(classes),
                  static_cast<unsigned>(ways), static_cast<unsigned long long>(hash.Value()));
    }
  }
  for (const uint64_t count : {1u, 4u, 7u}) {
    Hash hash;
    Take(static_cast<uint32_t>(5 * count), count, &hash);
    ++number;
    std::printf("%u samples taken: %016llx\n", static_cast<unsigned>(count),
                static_cast<unsigned long long>(hash.Value()));
  }
  for (const uint64_t size : {5u, 37u}) {
    Hash hash;
    if (!Solve(size, &hash)) return 1;
    ++number;
    std::printf("%u equations: %016llx\n", static_cast<unsigned>(size),
                static_cast<unsigned long long>(hash.Value()));
  }
  std::printf("%u cases\n", number);
  return 0;
}
