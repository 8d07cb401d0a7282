// Checks of the numbers of a call, shared by the op bodies and by the launch plans that other launchers ask for. Each
// message names the argument, what was expected and what came. Host only.
#pragma once

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

#include "combined_margin.h"
#include "rule.h"

namespace bbs {

template <class... Parts>
void check(bool ok, const Parts&... parts) {
  if (ok) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

// `begin` points at offsets' K + 1 values.
inline void check_offsets(const int64_t* begin, int64_t baskets, int64_t classes) {
  check(begin[0] == 0 && begin[baskets] == classes, "offsets: expected to run from 0 to the number of classes, ",
        classes, ", got ", begin[0], " to ", begin[baskets]);
  for (int64_t b = 0; b < baskets; ++b)
    check(begin[b] <= begin[b + 1], "offsets: expected ascending values, got offsets[", b, "] = ", begin[b],
          " above offsets[", b + 1, "] = ", begin[b + 1]);
}

inline RuleParams check_rule(int64_t rule, int64_t k, int64_t skip, int64_t guard_kind, double guard_value,
                             const int64_t* offsets, int64_t baskets) {
  check(rule >= 0 && rule <= 3, "rule: expected 0 (all), 1 (own), 2 (below) or 3 (topk), got ", rule);
  check(guard_kind >= 0 && guard_kind <= 3, "guard_kind: expected 0 to 3, got ", guard_kind);
  RuleParams params;
  params.rule = static_cast<Rule>(rule);
  params.guard = static_cast<GuardKind>(guard_kind);
  params.guard_value = guard_value;
  check(params.rule != Rule::below || params.guard != GuardKind::none,
        "guard_kind: expected 1, 2 or 3 with rule 2 (below), got 0");
  if (params.rule != Rule::topk) {
    check(k == 0 && skip == 0, "k, skip: expected 0 with rules other than 3 (topk), got k = ", k, ", skip = ", skip,
          " with rule ", rule);
    return params;
  }
  check(k >= 0 && skip >= 0 && k <= kMaxListed && skip <= kMaxListed - k,
        "k, skip: expected values from 0 with k + skip <= ", kMaxListed, ", got k = ", k, ", skip = ", skip);
  int64_t mined = 0;
  for (int64_t b = 0; b < baskets; ++b) mined += std::min(k, offsets[b + 1] - offsets[b]);
  check(mined <= kMaxMinedPerRow, "k: expected up to ", kMaxMinedPerRow, " listed classes a row, got ", mined,
        " by k = ", k, " over ", baskets, " baskets: use a smaller k");
  params.k = k;
  params.skip = k > 0 ? skip : 0;
  return params;
}

inline void check_scale(double scale) {
  // Beyond, one ulp of an fp32 logit nears what exp can take, and gradients became NaN.
  check(scale > 0 && scale <= 1e6, "scale: expected a number above 0, up to 1e+06, got ", scale);
}

// `centres`: rows of w. Returns the number of classes.
inline int64_t check_subcenters(int64_t subcenters, int64_t centres) {
  check(subcenters >= 1 && subcenters <= kMaxSubcenters, "subcenters: expected 1 to ", kMaxSubcenters, ", got ",
        subcenters);
  check(centres % subcenters == 0, "w: expected a multiple of subcenters = ", subcenters, " as rows, got ", centres);
  return centres / subcenters;
}

inline void check_workspace(int64_t bytes) {
  check(bytes >= 0, "workspace_bytes: expected a value from 0, got ", bytes);
}

inline CombinedMargin<double> check_margin(double m1, double m2, double m3, int64_t boundary, int64_t target_grad) {
  constexpr double kPi = 3.14159265358979323846;
  check(std::isfinite(m1) && m1 > 0, "m1: expected a finite number above 0, got ", m1);
  check(m2 >= 0 && m2 < kPi, "m2: expected radians in [0, pi), got ", m2);
  check(std::isfinite(m3), "m3: expected a finite number, got ", m3);
  check(boundary >= 0 && boundary <= 2, "boundary: expected 0 (hard), 1 (easy) or 2 (none), got ", boundary);
  check(target_grad == 0 || target_grad == 1, "target_grad: expected 0 (exact) or 1 (straight_through), got ",
        target_grad);
  return combined_margin(m1, m2, m3, static_cast<Boundary>(boundary), static_cast<TargetGrad>(target_grad));
}

}  // namespace bbs
