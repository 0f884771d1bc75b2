// What a search of levels starts from and ends in (docs/levels.md).
#pragma once

#include <cstdint>
#include <vector>

namespace {

/// Moments of the data between two candidates: all sums of terms that are not negative, and so are
/// the sums that combine them. That keeps costs accurate to rounding wherever the data lie.
struct Gap {
  double weight;  // sum of w
  double left;    // sum of w (v - left end)
  double right;   // sum of w (right end - v)
  double inner;   // sum of w (right end - v)(v - left end): the cost of one interval
};

/// The gap from x[a] to x[c] out of the two that meet at x[b].
inline Gap Join(const Gap &lower, const Gap &upper, double lower_width, double upper_width) {
  return {lower.weight + upper.weight, lower.left + (upper.left + lower_width * upper.weight),
          upper.right + (lower.right + upper_width * lower.weight),
          lower.inner + upper.inner + (upper_width * lower.left + lower_width * upper.right)};
}

/// Candidates for levels, ascending, and what lies between them. A value on a candidate belongs to
/// the gap above it.
struct Problem {
  std::vector<double> x;
  std::vector<double> weight;  // of each candidate's own value, where the gaps are empty otherwise
  std::vector<Gap> gaps;       // else: x.size() - 1

  int64_t Gaps() const { return static_cast<int64_t>(x.size()) - 1; }
};

template <bool kPoints>
inline Gap GapAt(const Problem &problem, int64_t i) {
  if (!kPoints) return problem.gaps[i];
  const double weight = problem.weight[i];
  return {weight, 0.0, weight * (problem.x[i + 1] - problem.x[i]), 0.0};
}

/// A choice of levels: indices of candidates, both ends included.
struct Path {
  std::vector<int64_t> at;
  double cost = 0;

  int64_t Links() const { return static_cast<int64_t>(at.size()) - 1; }
};

}  // namespace
