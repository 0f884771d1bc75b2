// Levels by merging of neighbours: ZipML's ADAPTIVEQUANT (docs/levels.md, "Greedy").
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "levels_problem.hpp"

namespace {

/// Intervals that merging leaves: their ends among the candidates, and what lies in them.
struct Merged {
  Path path;
  std::vector<Gap> gaps;
};

/// Greedy merging (docs/levels.md): ends at `links` intervals.
inline Merged Merge(const Problem &problem, int64_t links) {
  const size_t wanted = static_cast<size_t>(links);
  Merged merged;
  std::vector<Gap> &gaps = merged.gaps;
  Path &path = merged.path;
  gaps.reserve(problem.x.size());
  for (int64_t i = 0; i < problem.Gaps(); ++i) gaps.push_back(GapAt<true>(problem, i));
  path.at.resize(problem.x.size());
  std::iota(path.at.begin(), path.at.end(), int64_t{0});
  const size_t kept = (wanted - 1) / 2;
  std::vector<Gap> pairs;
  std::vector<double> costs;
  pairs.reserve(gaps.size() / 2);
  costs.reserve(gaps.size() / 2);
  while (gaps.size() > wanted) {
    const size_t count = gaps.size() / 2;
    pairs.clear();
    costs.clear();
    for (size_t p = 0; p < count; ++p) {
      const double low = problem.x[path.at[2 * p]], middle = problem.x[path.at[2 * p + 1]],
                   high = problem.x[path.at[2 * p + 2]];
      pairs.push_back(Join(gaps[2 * p], gaps[2 * p + 1], middle - low, high - middle));
      costs.push_back(pairs.back().inner);
    }
    const size_t merges = std::min(count - kept, gaps.size() - wanted);
    const auto limit = costs.begin() + static_cast<int64_t>(merges) - 1;
    std::nth_element(costs.begin(), limit, costs.end());
    const double threshold = *limit;
    size_t ties = merges;
    for (const Gap &pair : pairs) ties -= pair.inner < threshold;
    size_t out = 0;
    for (size_t p = 0; p < count; ++p) {
      bool merge = pairs[p].inner < threshold;
      if (pairs[p].inner == threshold && ties > 0) {
        merge = true;
        --ties;
      }
      // writes never overtake reads: at most two gaps come from two
      const Gap lower = gaps[2 * p], upper = gaps[2 * p + 1];
      const int64_t low = path.at[2 * p], middle = path.at[2 * p + 1];
      path.at[out] = low;
      gaps[out++] = merge ? pairs[p] : lower;
      if (!merge) {
        path.at[out] = middle;
        gaps[out++] = upper;
      }
    }
    if (gaps.size() % 2 != 0) {
      path.at[out] = path.at[2 * count];
      gaps[out++] = gaps.back();
    }
    path.at[out] = problem.Gaps();
    path.at.resize(out + 1);
    gaps.resize(out);
  }
  return merged;
}

}  // namespace
