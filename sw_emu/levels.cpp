// Variance-optimal levels. The objective, the algorithms and their proofs: docs/levels.md.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <numeric>
#include <vector>

#include "clones.h"
#include "levels_greedy.hpp"
#include "levels_problem.hpp"

extern "C" {
#include "levels.h"
}

namespace {

/// Rows that are minimized side by side at the leaves of the search.
constexpr int kLeafRows = 16;
/// Columns at which a leaf is worth it.
constexpr int64_t kLeafColumns = 96;
/// Columns a minimum is taken of before its place is looked for.
constexpr int64_t kScan = 128;
constexpr int kScanLanes = 16;
/// Proven relative distance from the optimum at which the search ends.
constexpr double kGap = 1e-12;
/// A multiplier that exceeds the cost by more drowns the cost in its rounding.
constexpr double kMultiplierLimit = 1e3;
constexpr int kMaxSteps = 400;
/// Steps in which the number of links found tells the next multiplier.
constexpr int kGuesses = 4;
/// Values are scaled to about this power of two: sums of 2^32 squares stay far below overflow, and
/// products of small differences as far above underflow as can be.
constexpr int kRangeExponent = 400;
/// The multiplier is first looked for with so many candidates, and so many for each level.
constexpr int64_t kCoarse = 4096;
constexpr int64_t kCoarsePerLevel = 64;
/// Intervals that merging leaves for each one that the exact search behind it may keep.
constexpr int64_t kMergedPerLink = 4;

/// Index of the first smallest base[i] + x * slope[i] + e * offset[i].
ZIPML_BODY int64_t CheapestBody(const double *base, const double *slope, const double *offset,
                                int64_t count, double x, double e) {
  double smallest = std::numeric_limits<double>::infinity();
  int64_t place = 0, i = 0;
  for (; i + kScan <= count; i += kScan) {
    double lanes[kScanLanes];
    for (double &lane : lanes) lane = std::numeric_limits<double>::infinity();
    for (int64_t c = i; c < i + kScan; c += kScanLanes) {
      for (int t = 0; t < kScanLanes; ++t) {
        const double cost = base[c + t] + x * slope[c + t] + e * offset[c + t];
        lanes[t] = cost < lanes[t] ? cost : lanes[t];
      }
    }
    for (int half = kScanLanes / 2; half > 0; half /= 2) {
      for (int t = 0; t < half; ++t) {
        lanes[t] = lanes[t + half] < lanes[t] ? lanes[t + half] : lanes[t];
      }
    }
    if (lanes[0] < smallest) {
      smallest = lanes[0];
      place = i;
    }
  }
  int64_t found = -1;
  for (; i < count; ++i) {
    const double cost = base[i] + x * slope[i] + e * offset[i];
    if (cost < smallest) {
      smallest = cost;
      found = i;
    }
  }
  if (found >= 0) return found;
  for (found = place; found < place + kScan - 1; ++found) {
    if (base[found] + x * slope[found] + e * offset[found] <= smallest) break;
  }
  return found;
}
ZIPML_CLONES(Cheapest)

/// The same for kLeafRows pairs (x, e) at once, with the minima themselves.
ZIPML_BODY void CheapestOfRowsBody(const double *base, const double *slope, const double *offset,
                                   int64_t first, int64_t last, const double *x, const double *e,
                                   double *smallest, int64_t *place) {
  double least[kLeafRows];
  int64_t where[kLeafRows];
  for (int t = 0; t < kLeafRows; ++t) {
    least[t] = std::numeric_limits<double>::infinity();
    where[t] = first;
  }
  for (int64_t c = first; c <= last; ++c) {
    for (int t = 0; t < kLeafRows; ++t) {
      const double cost = base[c] + x[t] * slope[c] + e[t] * offset[c];
      const bool less = cost < least[t];
      least[t] = less ? cost : least[t];
      where[t] = less ? c : where[t];
    }
  }
  std::copy(least, least + kLeafRows, smallest);
  std::copy(where, where + kLeafRows, place);
}
ZIPML_CLONES(CheapestOfRows)

/// Paths of least cost + multiplier * links.
template <bool kPoints>
class Relaxed {
 public:
  explicit Relaxed(const Problem &problem)
      : problem_(problem), value_(problem.x.size()), from_(problem.x.size()) {}

  Path Shortest(double multiplier) {
    const int64_t last = problem_.Gaps();
    value_[0] = 0;
    from_[0] = 0;
    for (int64_t s = 0; s < last;) s += Block(s, multiplier);
    Path path;
    for (int64_t i = last; i != 0; i = from_[i]) path.at.push_back(i);
    path.at.push_back(0);
    std::reverse(path.at.begin(), path.at.end());
    path.cost = Cost(path);
    return path;
  }

  double Cost(const Path &path) const {
    const double *x = problem_.x.data();
    double total = 0;
    for (int64_t link = 0; link < path.Links(); ++link) {
      const int64_t s = path.at[link], end = path.at[link + 1];
      double first = 0, inner = 0;
      for (int64_t i = s; i < end; ++i) {
        const Gap gap = GapAt<kPoints>(problem_, i);
        const double width = x[i] - x[s];
        inner += (x[i + 1] - x[i]) * first + (gap.inner + width * gap.right);
        first += gap.left + width * gap.weight;
      }
      total += inner;
    }
    return total;
  }

 private:
  /// The values of candidates s + 1... as far as only candidates up to s can precede them.
  /// Returns how many these are.
  int64_t Block(int64_t s, double multiplier) {
    const double *x = problem_.x.data();
    const int64_t last = problem_.Gaps();
    first_ = from_[s];  // predecessors do not decrease
    const int64_t columns = s - first_ + 1;
    Reserve(columns, columns_);
    {
      // cost(i, j) = cost(i, s) + cost(s, j) + (x_j - x_s) left_i + (x_s - x_i) right_j
      double *base = columns_[0].data(), *slope = columns_[1].data(), *offset = columns_[2].data();
      double weight = 0, left = 0, right = 0, inner = 0;
      base[columns - 1] = value_[s];
      slope[columns - 1] = 0;
      offset[columns - 1] = 0;
      for (int64_t i = s - 1; i >= first_; --i) {
        const Gap gap = GapAt<kPoints>(problem_, i);
        const double width = x[i + 1] - x[i], rest = x[s] - x[i + 1];
        inner += width * right + (gap.inner + rest * gap.left);
        left += width * weight + gap.left;
        right += gap.right + rest * gap.weight;
        weight += gap.weight;
        base[i - first_] = value_[i] + inner;
        slope[i - first_] = left;
        offset[i - first_] = x[s] - x[i];
      }
    }
    const double *base = columns_[0].data(), *slope = columns_[1].data(),
                 *offset = columns_[2].data();
    double weight = 0, first = 0, right = 0, inner = 0;
    int64_t rows = 0, witness = 0, doubled = 0;
    for (int64_t j = s; j < last; ++j) {
      const Gap gap = GapAt<kPoints>(problem_, j);
      const double width = x[j + 1] - x[j], before = x[j] - x[s];
      inner += width * first + (gap.inner + before * gap.right);
      first += gap.left + before * gap.weight;
      right += width * weight + gap.right;
      weight += gap.weight;
      const double far = x[j + 1] - x[s];
      // A predecessor after s costs at least value[s]. Where one up to s costs no more, later ones
      // need not be looked at; nor need they for any candidate before this one.
      const auto within = [&] {
        return base[witness] + far * slope[witness] + right * offset[witness] + inner <= value_[s];
      };
      if (rows > 0 && !within()) {
        if (rows < doubled) break;
        witness = Cheapest(base, slope, offset, columns, far, right);
        if (!within()) break;
        doubled = rows + rows / 4;
      }
      if (rows % kRowsGrowth == 0) Reserve(rows + kRowsGrowth, rows_);
      rows_[0][rows] = inner;
      rows_[1][rows] = far;
      rows_[2][rows] = right;
      ++rows;
    }
    start_ = s + 1;
    multiplier_ = multiplier;
    Rows(0, rows, 0, columns - 1);
    return rows;
  }

  static void Reserve(int64_t size, std::vector<double> (&arrays)[3]) {
    const size_t wanted = static_cast<size_t>(size);
    for (auto &array : arrays) {
      if (array.size() < wanted) array.resize(wanted + wanted / 2);
    }
  }

  void Set(int64_t row, double smallest, int64_t column) {
    value_[start_ + row] = smallest + rows_[0][row] + multiplier_;
    from_[start_ + row] = static_cast<uint32_t>(first_ + column);
  }

  /// Minima of rows [begin, end), known to lie in columns low..high: places do not decrease.
  void Rows(int64_t begin, int64_t end, int64_t low, int64_t high) {
    const double *base = columns_[0].data(), *slope = columns_[1].data(),
                 *offset = columns_[2].data();
    while (begin < end) {
      if (end - begin <= kLeafRows && high - low <= kLeafColumns) {
        double x[kLeafRows] = {}, e[kLeafRows] = {}, smallest[kLeafRows];
        int64_t place[kLeafRows];
        for (int64_t row = begin; row < end; ++row) {
          x[row - begin] = rows_[1][row];
          e[row - begin] = rows_[2][row];
        }
        CheapestOfRows(base, slope, offset, low, high, x, e, smallest, place);
        for (int64_t row = begin; row < end; ++row) {
          Set(row, smallest[row - begin], place[row - begin]);
        }
        return;
      }
      const int64_t row = begin + (end - begin) / 2;
      const double x = rows_[1][row], e = rows_[2][row];
      const int64_t place =
          low + Cheapest(base + low, slope + low, offset + low, high - low + 1, x, e);
      Set(row, base[place] + x * slope[place] + e * offset[place], place);
      Rows(begin, row, low, place);
      begin = row + 1;
      low = place;
    }
  }

  static constexpr int64_t kRowsGrowth = 1024;
  const Problem &problem_;
  std::vector<double> value_;
  std::vector<uint32_t> from_;
  std::vector<double> columns_[3], rows_[3];
  int64_t first_ = 0, start_ = 0;
  double multiplier_ = 0;
};

template <bool kPoints>
constexpr int64_t Relaxed<kPoints>::kRowsGrowth;

/// A path of `links` links out of one of fewer and one of more, both of least cost + multiplier *
/// links for a common multiplier: then it is of least cost.
Path Splice(const Path &few, const Path &many, int64_t links) {
  const int64_t shift = links - few.Links();
  Path path;
  for (int64_t i = 0; i < few.Links(); ++i) {
    // this link of few holds a link of many
    if (few.at[i] <= many.at[i + shift] && many.at[i + shift + 1] <= few.at[i + 1]) {
      path.at.assign(many.at.begin(), many.at.begin() + i + shift + 1);
      path.at.insert(path.at.end(), few.at.begin() + i + 1, few.at.end());
      break;
    }
  }
  return path;
}

struct Solution {
  Path path;
  double multiplier;
};

/// The path of `links` links and least cost, 1 <= links <= gaps.
/// \param multiplier  where the search for the multiplier starts
/// \param centre      give back the middle of the multipliers for this number of links
template <bool kPoints>
Solution Search(const Problem &problem, int64_t links, double multiplier, bool centre) {
  Relaxed<kPoints> relaxed(problem);
  Path few, many, best;
  few.at = {0, problem.Gaps()};
  few.cost = relaxed.Cost(few);
  if (links == 1) return {few, 0};
  const auto all = [&] {
    Path path;
    path.at.resize(problem.x.size());
    std::iota(path.at.begin(), path.at.end(), int64_t{0});
    path.cost = relaxed.Cost(path);
    return path;
  };
  if (links == problem.Gaps()) return {all(), 0};
  // few and many are of least cost + multiplier * links for these multipliers
  double few_multiplier = std::numeric_limits<double>::infinity(), many_multiplier = 0;
  if (multiplier <= 0) {
    const double count = static_cast<double>(links);
    multiplier = 2 * few.cost / (count * count * count);  // what uniform values have
  }
  bool on_chord = false;
  for (int step = 0; step < kMaxSteps; ++step) {
    Path path = relaxed.Shortest(multiplier);
    const int64_t excess = path.Links() - links;
    if (excess == 0) {
      best = std::move(path);
      if (multiplier <= kMultiplierLimit * best.cost || best.cost == 0) break;
      multiplier = best.cost;
      on_chord = false;
      continue;
    }
    if (many.at.empty()) many = all();  // here, for most searches end before they need it
    const double ratio = static_cast<double>(links + excess) / static_cast<double>(links);
    // Both few and many cost this much. If nothing costs less, they are what Splice() asks for.
    const double chord = few.cost + multiplier * static_cast<double>(few.Links());
    const double lower = path.cost + multiplier * static_cast<double>(excess);
    bool proven = on_chord &&
                  path.cost + multiplier * static_cast<double>(path.Links()) >= chord * (1 - kGap);
    if (excess < 0) {
      few_multiplier = std::min(few_multiplier, multiplier);
      if (path.Links() > few.Links() || path.cost < few.cost) few = std::move(path);
    } else {
      many_multiplier = std::max(many_multiplier, multiplier);
      if (path.Links() < many.Links() || path.cost < many.cost) many = std::move(path);
    }
    Path spliced = Splice(few, many, links);
    spliced.cost = relaxed.Cost(spliced);
    if (best.at.empty() || spliced.cost < best.cost) best = std::move(spliced);
    proven = proven || best.cost - lower <= kGap * best.cost;
    if (best.cost == 0 || (proven && multiplier <= kMultiplierLimit * best.cost)) break;
    const bool bracketed = many_multiplier > 0 && !std::isinf(few_multiplier);
    on_chord = false;
    if (!bracketed && step < kGuesses) {
      multiplier *= ratio * ratio * ratio;  // costs of smooth data fall like links^-2
    } else if (bracketed && step % 3 == 2) {
      multiplier = std::sqrt(few_multiplier) * std::sqrt(many_multiplier);
    } else {
      on_chord = true;
      multiplier = (few.cost - many.cost) / static_cast<double>(many.Links() - few.Links());
    }
  }
  if (centre && best.Links() == links) {
    double low = multiplier, high = multiplier;
    for (int step = 0; step < 4; ++step) {
      const double up = std::isinf(few_multiplier) ? 2 * high : (high + few_multiplier) / 2;
      const double down = (low + many_multiplier) / 2;
      (relaxed.Shortest(up).Links() >= links ? high : few_multiplier) = up;
      (relaxed.Shortest(down).Links() <= links ? low : many_multiplier) = down;
    }
    multiplier = (low + high) / 2;
  }
  return {std::move(best), multiplier};
}

template <bool kPoints>
Path Solve(const Problem &problem, int64_t links) {
  double multiplier = 0;
  const int64_t size = std::max(kCoarse, kCoarsePerLevel * links);
  const int64_t group = problem.Gaps() / size;
  if (group >= 4 && links > 1) {
    // every group-th candidate, costs unchanged
    Problem coarse;
    for (int64_t i = 0; i < problem.Gaps(); i += group) {
      const int64_t end = std::min(i + group, problem.Gaps());
      Gap gap = GapAt<kPoints>(problem, i);
      for (int64_t j = i + 1; j < end; ++j) {
        gap = Join(gap, GapAt<kPoints>(problem, j), problem.x[j] - problem.x[i],
                   problem.x[j + 1] - problem.x[j]);
      }
      coarse.x.push_back(problem.x[i]);
      coarse.gaps.push_back(gap);
    }
    coarse.x.push_back(problem.x.back());
    multiplier = Search<false>(coarse, links, 0, true).multiplier;
  }
  return Search<kPoints>(problem, links, multiplier, false).path;
}

/// The power of two that brings `size` to [0.5, 1) times 2^target, as two factors: one alone may be
/// out of range.
struct Scale {
  double first, second;

  Scale(double size, int target) {
    int exponent = 0;
    std::frexp(size, &exponent);
    const int change = target - exponent;
    first = std::ldexp(1.0, change / 2);
    second = std::ldexp(1.0, change - change / 2);
  }
  double operator()(double value) const { return value * first * second; }
};

/// Different values with positive weight and both ends, scaled to known exponents.
/// \param origin  index of each candidate in values
Problem Points(const double *values, const double *weights, int64_t n,
               std::vector<int64_t> &origin) {
  const Scale scale(values[n - 1] / 2 - values[0] / 2, kRangeExponent);
  double largest = 1;
  if (weights != nullptr) largest = *std::max_element(weights, weights + n);
  const Scale weight_scale(largest, 0);
  Problem problem;
  problem.x.reserve(static_cast<size_t>(n));
  problem.weight.reserve(static_cast<size_t>(n));
  origin.reserve(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const double weight = weight_scale(weights != nullptr ? weights[i] : 1.0);
    if (!origin.empty() && values[origin.back()] == values[i]) {
      problem.weight.back() += weight;
      continue;
    }
    if (origin.size() > 1 && problem.weight.back() == 0) {
      problem.x.pop_back();
      problem.weight.pop_back();
      origin.pop_back();
    }
    problem.x.push_back(scale(values[i]));
    problem.weight.push_back(weight);
    origin.push_back(i);
  }
  return problem;
}

Path Greedy(const Problem &problem, int64_t links) { return Merge(problem, links).path; }

/// The best of the levels that merging to kMergedPerLink times as many intervals leaves.
Path GreedyThenExact(const Problem &problem, int64_t links) {
  if (problem.Gaps() <= kMergedPerLink * links) return Solve<true>(problem, links);
  const Merged merged = Merge(problem, kMergedPerLink * links);
  Problem left;
  left.gaps = merged.gaps;
  for (int64_t at : merged.path.at) left.x.push_back(problem.x[static_cast<size_t>(at)]);
  Path path = Solve<false>(left, links);
  for (int64_t &at : path.at) at = merged.path.at[static_cast<size_t>(at)];
  return path;
}

template <typename TSolver>
int32_t Levels(const double *values, const double *weights, int64_t n, int64_t k, double *levels,
               TSolver solver) {
  try {
    std::vector<int64_t> origin;
    const Problem problem = Points(values, weights, n, origin);
    std::fill(levels, levels + k, values[n - 1]);
    if (problem.Gaps() <= k - 1) {
      for (size_t i = 0; i < origin.size(); ++i) levels[i] = values[origin[i]];
      return 0;
    }
    const Path path = solver(problem, k - 1);
    for (int64_t i = 0; i < k; ++i) levels[i] = values[origin[static_cast<size_t>(path.at[i])]];
    return 0;
  } catch (const std::bad_alloc &) {
    return ZIPML_LEVELS_NO_MEMORY;
  }
}

template <typename TValue>
int64_t AddToHistogram(const TValue *values, const double *weights, int64_t n, double low,
                       double high, int64_t bins, double *sums) {
  const double scale = static_cast<double>(bins) / (high - low);
  const int64_t top = bins - 1;
  for (int64_t i = 0; i < n; ++i) {
    const double value = static_cast<double>(values[i]);
    if (!(value >= low && value <= high)) return i;
    const double position = (value - low) * scale;
    const int32_t whole = static_cast<int32_t>(position);
    const int32_t bin = whole < top ? whole : static_cast<int32_t>(top);
    const double offset = std::min(position - bin, 1.0);
    const double weight = weights != nullptr ? weights[i] : 1.0;
    double *sum = sums + 4 * static_cast<int64_t>(bin);
    sum[0] += weight;
    sum[1] += weight * offset;
    sum[2] += weight * (offset * (1.0 - offset));
  }
  return n;
}

}  // namespace

int32_t zipml_levels_exact(const double *values, const double *weights, int64_t n, int64_t k,
                           double *levels) {
  return Levels(values, weights, n, k, levels, Solve<true>);
}

int32_t zipml_levels_greedy(const double *values, const double *weights, int64_t n, int64_t k,
                            double *levels) {
  return Levels(values, weights, n, k, levels, Greedy);
}

int32_t zipml_levels_greedy_exact(const double *values, const double *weights, int64_t n, int64_t k,
                                  double *levels) {
  return Levels(values, weights, n, k, levels, GreedyThenExact);
}

int64_t zipml_histogram_add(const void *values, uint32_t x_bytes, const double *weights, int64_t n,
                            double low, double high, int64_t bins, double *sums) {
  if (x_bytes == sizeof(float)) {
    return AddToHistogram(static_cast<const float *>(values), weights, n, low, high, bins, sums);
  }
  return AddToHistogram(static_cast<const double *>(values), weights, n, low, high, bins, sums);
}

int32_t zipml_histogram_levels(const double *sums, int64_t bins, int64_t k, int64_t *edges) {
  try {
    Problem problem;
    std::vector<int64_t> origin;
    for (int64_t bin = 0; bin < bins; ++bin) {
      const double *sum = sums + 4 * bin;
      problem.x.push_back(static_cast<double>(bin));
      problem.gaps.push_back({sum[0], sum[1], std::max(sum[0] - sum[1], 0.0), sum[2]});
    }
    problem.x.push_back(static_cast<double>(bins));
    std::fill(edges, edges + k, bins);
    const Path path = Solve<false>(problem, std::min(k - 1, bins));
    std::copy(path.at.begin(), path.at.end(), edges);
    return 0;
  } catch (const std::bad_alloc &) {
    return ZIPML_LEVELS_NO_MEMORY;
  }
}
