// The reference: the formulas of docs/arithmetic.md and docs/losses.md, one sample and one feature
// at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <vector>

#include "bench.hpp"
#include "zipml/random.hpp"

namespace {

int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return a % b != 0 && (a < 0) ? q - 1 : q;
}

int64_t Round(int64_t a, int shift) {
  const int64_t unit = static_cast<int64_t>(1) << shift;
  return FloorDivide(a + unit / 2, unit);
}

int64_t Clamp(int64_t a, uint32_t &count) {
  const int64_t limit = 2147483647;
  if (a > limit || a < -limit) ++count;
  return a > limit ? limit : a < -limit ? -limit : a;
}

/// What planes and memory stand for.
struct Truth {
  std::vector<std::vector<int64_t> > values;  // of each independent sample: samples x features
  std::vector<int64_t> full;                  // float32 samples, 23 fraction bits
  std::vector<int32_t> labels, weights, derivative;
  std::vector<int> shifts;           // log2 of the features' steps over the run's; empty: all 0
  std::vector<int64_t> corrections;  // of the gradient, 32 fraction bits; empty: all 0
};

/// A run by the formulas.
class Reference {
 public:
  Reference(const Case &c, const Truth &truth)
      : saturations(0),
        outside(0),
        clipped(0),
        refetched(0),
        model(c.features, 0),
        c_(c),
        truth_(truth),
        seen_(c.features, 0),
        update_(0) {}

  void Start(const std::vector<int64_t> &model_values) {
    model = model_values;
    See(0xffffffffu);
  }

  void Epoch(const uint32_t *schedule) {
    std::deque<std::vector<int64_t> > waiting;
    uint32_t block = c_.first_block;
    for (uint32_t i = 0; i < Blocks(c_); ++i) {
      const uint32_t first = block * c_.block_batches;
      for (uint32_t k = first; k < std::min(first + c_.block_batches, Batches(c_)); ++k) {
        waiting.push_back(Gradient(k, schedule));
        if (waiting.size() > c_.delay) {
          Update(waiting.front(), schedule);
          waiting.pop_front();
        }
      }
      refetched_of_block.push_back(refetched);
      block = (block + c_.block_step) % Blocks(c_);
    }
    for (; !waiting.empty(); waiting.pop_front()) Update(waiting.front(), schedule);
  }

  uint32_t saturations, outside, clipped, refetched;
  std::vector<int64_t> model;
  std::vector<uint32_t> refetched_of_block;  // in all, after each block of each epoch

 private:
  /// The model as dot products see it.
  void See(uint32_t update) {
    for (uint32_t j = 0; j < c_.features; ++j) {
      seen_[j] = StochasticRound(model[j], std::min(c_.model_shift, 32 - c_.model_bits),
                                 c_.model_bits, Number(DrawsOf(update, j).model, j % 64));
    }
  }

  static zipml::Draws DrawsOf(uint32_t update, uint32_t feature) {
    return zipml::DrawsOf(kSeed, update, feature / 64);
  }

  /// A lane's 32 random bits: slope * lane + offset over GF(2^32).
  static uint32_t Number(const zipml::Draw &draw, uint32_t lane) {
    uint64_t product = 0;
    for (int bit = 0; bit < 6; ++bit) {
      if ((lane >> bit & 1) != 0) product ^= static_cast<uint64_t>(draw.slope) << bit;
    }
    for (int bit = 37; bit >= 32; --bit) {
      if ((product >> bit & 1) != 0) product ^= 0x10000008Dull << (bit - 32);
    }
    return static_cast<uint32_t>(product) ^ draw.offset;
  }

  /// The value over the unit plus a number in [0, 1), cut and clamped.
  int64_t StochasticRound(int64_t value, uint32_t shift, uint32_t bits, uint32_t random) {
    if (bits == 0) return value;
    const int64_t unit = static_cast<int64_t>(1) << shift;
    const uint64_t wide = static_cast<uint64_t>(random) << 32;
    const int64_t raised = value + (shift == 0 ? 0 : static_cast<int64_t>(wide >> (64 - shift)));
    const int64_t level = raised >= 0 ? raised / unit : -((-raised + unit - 1) / unit);
    const int64_t top = (static_cast<int64_t>(1) << (bits - 1)) - 1;
    if (level > top || level < -top) ++clipped;
    return std::min(std::max(level, -top), top) * unit;
  }

  int64_t Dot(const std::vector<int64_t> &q, uint32_t s, bool cut) const {
    int64_t sum = 0;
    for (uint32_t j = 0; j < c_.features; ++j) {
      const int64_t product = q[s * c_.features + j] * seen_[j];
      sum += cut ? Round(product, 16) : product;
    }
    return sum;
  }

  int64_t MarginOf(int64_t dot, uint32_t s) {
    const int64_t z = Clamp(Round(dot, kValueBits), saturations);
    return truth_.labels[s] < 0 ? -z : z;
  }

  int64_t Derivative(int64_t dot, uint32_t s) {
    const int64_t label = truth_.labels[s], one = 1 << 24;
    if (c_.loss == zipml::kLeastSquares) {
      return Clamp(Round(dot - label * (static_cast<int64_t>(1) << kValueBits), kValueBits),
                   saturations);
    }
    const int64_t margin = MarginOf(dot, s);
    int64_t size = 0;
    if (c_.loss == zipml::kHinge) {
      size = margin < one ? one : 0;
    } else if (c_.loss == zipml::kSquaredHinge) {
      size = margin < one ? Clamp(one - margin, saturations) : 0;
    } else {
      const int64_t range = one << c_.range_log2;
      if (std::abs(margin) > range) ++outside;
      const int64_t place = std::min(std::max(margin, -range), range) + range;
      const int64_t unit = 2 * range / 1024;
      const int64_t index = std::min<int64_t>(place / unit, 1023);
      const int64_t left = truth_.derivative[index], right = truth_.derivative[index + 1];
      const int64_t product = (right - left) * (place - index * unit);
      size = left + FloorDivide(product + unit / 2, unit);
    }
    return label < 0 ? size : -size;
  }

  int64_t PolynomialDerivative(uint32_t s) {
    int64_t product = 0, sum = truth_.derivative[0];
    for (uint32_t k = 1; k <= c_.degree; ++k) {
      const int64_t margin = MarginOf(Dot(truth_.values[k - 1], s, false), s);
      if (std::abs(margin) > static_cast<int64_t>(1) << (24 + c_.range_log2)) ++outside;
      const int64_t t = c_.range_log2 == 0 ? margin : Round(margin, c_.range_log2);
      product = k == 1 ? t : Clamp(Round(product * t, 24), saturations);
      sum = Clamp(sum + Round(truth_.derivative[k] * product, 24), saturations);
    }
    return truth_.labels[s] < 0 ? sum : -sum;
  }

  int64_t Coefficient(int64_t derivative, uint32_t s, const uint32_t *schedule) {
    const int64_t weighted = Clamp(Round(derivative * truth_.weights[s], 16), saturations);
    return Clamp(Round(weighted * schedule[truth_.labels[s] < 0 ? 1 : 0], 26), saturations);
  }

  bool InDoubt(uint32_t s) const {
    int64_t norm = 0;
    for (int64_t entry : seen_) norm += std::abs(entry);
    const int64_t bound = 2 * norm / (1 << (c_.bits - 1)) + 1;
    for (uint32_t k = 0; k < 2; ++k) {
      if (k == 0 ? c_.sampling == zipml::kDoublePlain : c_.sampling == zipml::kSingle) continue;
      const int64_t z = Round(Dot(truth_.values[k], s, false), kValueBits);
      if (std::abs((1 << 24) - (truth_.labels[s] < 0 ? -z : z)) <= bound) return true;
    }
    return false;
  }

  std::vector<int64_t> Gradient(uint32_t batch, const uint32_t *schedule) {
    std::vector<int64_t> g(c_.features, 0);
    for (uint32_t s = batch * c_.batch; s < (batch + 1) * c_.batch && s < c_.samples; ++s) {
      const std::vector<int64_t> &first = truth_.values.front();
      const std::vector<int64_t> &second = truth_.values.back();
      const bool single = c_.sampling == zipml::kSingle;
      const bool symmetric = c_.sampling == zipml::kDoubleSymmetric;
      int64_t c1, c2;
      if (c_.sampling == zipml::kIndependent) {
        c1 = c2 = Coefficient(PolynomialDerivative(s), s, schedule);
      } else if (kRefetches && InDoubt(s)) {
        ++refetched;
        const int64_t dot = Dot(truth_.full, s, true);
        c1 = c2 = Coefficient(Derivative(dot, s), s, schedule);
        if (symmetric) c2 = Coefficient(Derivative(dot, s), s, schedule);
      } else if (symmetric) {
        c1 = Coefficient(Derivative(Dot(first, s, kFloat), s), s, schedule);
        c2 = Coefficient(Derivative(Dot(second, s, kFloat), s), s, schedule);
      } else {
        c1 = c2 = Coefficient(Derivative(Dot(single ? first : second, s, kFloat), s), s, schedule);
      }
      for (uint32_t j = 0; j < c_.features; ++j) {
        const int64_t q1 = first[s * c_.features + j];
        const int64_t q2 = second[s * c_.features + j];
        if (kFloat) {
          g[j] += Round(q1 * 2 * c1, 16);
        } else if (symmetric) {
          g[j] += q1 * c2 + q2 * c1;
        } else {
          g[j] += 2 * (c_.sampling == zipml::kIndependent ? q2 : q1) * c1;
        }
      }
    }
    return g;
  }

  /// What a gradient with its decay and correction changes the model by.
  int64_t Change(int64_t sum, uint32_t feature) const {
    const int shift = truth_.shifts.empty() ? 0 : truth_.shifts[feature];
    const int distance = kGradientBits - 24 - shift;
    return distance < 0 ? sum * (1 << -distance) : Round(sum, distance);
  }

  void Update(const std::vector<int64_t> &g, const uint32_t *schedule) {
    for (uint32_t j = 0; j < c_.features; ++j) {
      const int64_t gradient =
          StochasticRound(g[j], std::min(schedule[3], 56 - c_.gradient_bits), c_.gradient_bits,
                          Number(DrawsOf(update_, j).gradient, j % 64));
      const int64_t shrink = Round(model[j] * schedule[2], 24 + 28 - kGradientBits);
      const int64_t correction =
          truth_.corrections.empty() ? 0 : truth_.corrections[j] * (1 << (kGradientBits - 32));
      const int64_t sum = gradient + shrink + correction;
      model[j] = Clamp(model[j] - Change(sum, j), saturations);
    }
    if (!c_.frozen) See(update_);
    ++update_;
  }

  const Case c_;
  const Truth &truth_;
  std::vector<int64_t> seen_;
  uint32_t update_;
};

}  // namespace
