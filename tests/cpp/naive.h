// The definition of the loss's core, written as plainly as it can be, in double: what the C++ tests compare with.
// Rules `all`, `own`, `below`, `topk`; guards none and absolute; no aliases (the Python tests have them).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace naive {

struct Setup {
  int64_t rows, depth;
  std::vector<int64_t> offsets;
  std::vector<int64_t> labels;
  std::vector<double> x, w;
  double scale;
  int rule;  // 0 all, 1 own, 2 below, 3 topk
  int64_t k = 0, skip = 0;
  double guard = std::numeric_limits<double>::infinity();
  int64_t subcenters = 1;  // adjacent rows of w that are a class

  int64_t classes() const { return offsets.back(); }
  int64_t baskets() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t basket(int64_t cls) const {
    return std::upper_bound(offsets.begin(), offsets.end(), cls) - offsets.begin() - 1;
  }
};

struct Result {
  std::vector<double> lse, cos_target, dx, dw;
};

inline std::vector<double> unit_rows(const std::vector<double>& m, int64_t depth) {
  std::vector<double> unit(m);
  for (size_t r = 0; r * depth < m.size(); ++r) {
    double n2 = 0;
    for (int64_t d = 0; d < depth; ++d) n2 += m[r * depth + d] * m[r * depth + d];
    const double inverse = n2 < 1e-24 ? 0.0 : 1.0 / std::sqrt(n2);
    for (int64_t d = 0; d < depth; ++d) unit[r * depth + d] *= inverse;
  }
  return unit;
}

// d/dm of sum(g * unit(m)) for one row.
inline void through_norm(const double* m, const double* unit, const double* g, int64_t depth, double* out) {
  double n2 = 0, along = 0;
  for (int64_t d = 0; d < depth; ++d) {
    n2 += m[d] * m[d];
    along += g[d] * unit[d];
  }
  const double inverse = n2 < 1e-24 ? 0.0 : 1.0 / std::sqrt(n2);
  for (int64_t d = 0; d < depth; ++d) out[d] = inverse * (g[d] - along * unit[d]);
}

// Upstream gradients of lse and cos_target are 1 and -0.5 for every row.
inline Result run(const Setup& s) {
  const int64_t classes = s.classes();
  const std::vector<double> xu = unit_rows(s.x, s.depth), wu = unit_rows(s.w, s.depth);
  Result result;
  std::vector<double> gx(s.x.size(), 0.0), gw(s.w.size(), 0.0);
  for (int64_t i = 0; i < s.rows; ++i) {
    if (s.labels[i] < 0) {
      result.lse.push_back(-std::numeric_limits<double>::infinity());
      result.cos_target.push_back(0.0);
      continue;
    }
    std::vector<double> cos(classes, -2.0);
    std::vector<int64_t> nearest(classes);
    for (int64_t n = 0; n < classes * s.subcenters; ++n) {
      double c = 0;
      for (int64_t d = 0; d < s.depth; ++d) c += xu[i * s.depth + d] * wu[n * s.depth + d];
      const int64_t j = n / s.subcenters;
      if (c > cos[j]) cos[j] = c, nearest[j] = n;
    }
    std::vector<int64_t> negatives;
    for (int64_t b = 0; b < s.baskets(); ++b) {
      std::vector<int64_t> candidates;
      for (int64_t j = s.offsets[b]; j < s.offsets[b + 1]; ++j) {
        if (b == s.basket(s.labels[i])) {
          if (j != s.labels[i]) negatives.push_back(j);
        } else if (s.rule == 0 || (s.rule == 2 && cos[j] <= s.guard)) {
          negatives.push_back(j);
        } else if (s.rule == 3 && cos[j] <= s.guard) {
          candidates.push_back(j);
        }
      }
      std::stable_sort(candidates.begin(), candidates.end(), [&](int64_t a, int64_t b2) { return cos[a] > cos[b2]; });
      for (int64_t n = s.skip; n < std::min<int64_t>(s.skip + s.k, candidates.size()); ++n)
        negatives.push_back(candidates[n]);
    }
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j : negatives) top = std::max(top, cos[j]);
    for (int64_t j : negatives) sum += std::exp(s.scale * (cos[j] - top));
    const double lse = negatives.empty() ? top : s.scale * top + std::log(sum);
    result.lse.push_back(lse);
    result.cos_target.push_back(cos[s.labels[i]]);
    const auto add = [&](int64_t j, double g) {
      for (int64_t d = 0; d < s.depth; ++d) {
        gx[i * s.depth + d] += g * wu[nearest[j] * s.depth + d];
        gw[nearest[j] * s.depth + d] += g * xu[i * s.depth + d];
      }
    };
    for (int64_t j : negatives) add(j, s.scale * std::exp(s.scale * cos[j] - lse));
    add(s.labels[i], -0.5);
  }
  result.dx.resize(gx.size());
  result.dw.resize(gw.size());
  for (int64_t i = 0; i < s.rows; ++i)
    through_norm(&s.x[i * s.depth], &xu[i * s.depth], &gx[i * s.depth], s.depth, &result.dx[i * s.depth]);
  for (int64_t j = 0; j < classes * s.subcenters; ++j)
    through_norm(&s.w[j * s.depth], &wu[j * s.depth], &gw[j * s.depth], s.depth, &result.dw[j * s.depth]);
  return result;
}

}  // namespace naive
