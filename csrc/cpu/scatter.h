// The mined pairs of a batch as one list sorted by (centre, row): each centre finds its rows, in a fixed order, so that
// the sparse part of both gradients is added up the same way in every run.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "rows.h"
#include "types.h"

namespace bbs::cpu {

template <class T>
struct MinedPair {
  int32_t centre;
  int32_t row;  // position in Rows
  T cos;
};

template <class T>
std::vector<MinedPair<T>> sorted_pairs(const Problem& problem, const Rows<T>& rows, const BackwardIn<T>& in) {
  std::vector<MinedPair<T>> pairs;
  const int64_t slots = problem.rule.mines() ? problem.baskets * problem.rule.k : 0;
  for (int64_t r = 0; r < rows.count; ++r)
    for (int64_t n = rows.source[r] * slots; n < (rows.source[r] + 1) * slots; ++n)
      if (in.mined_idx[n] >= 0)
        pairs.push_back({static_cast<int32_t>(in.mined_idx[n]), static_cast<int32_t>(r), in.mined_cos[n]});
  std::sort(pairs.begin(), pairs.end(), [](const MinedPair<T>& a, const MinedPair<T>& b) {
    return a.centre != b.centre ? a.centre < b.centre : a.row < b.row;
  });
  return pairs;
}

// The stretch of `pairs` for centres [first, last).
template <class T>
std::pair<const MinedPair<T>*, const MinedPair<T>*> pairs_between(const std::vector<MinedPair<T>>& pairs, int64_t first,
                                                                  int64_t last) {
  const auto less = [](const MinedPair<T>& p, int64_t centre) { return p.centre < centre; };
  const MinedPair<T>* begin = pairs.data();
  const MinedPair<T>* end = begin + pairs.size();
  const MinedPair<T>* low = std::lower_bound(begin, end, first, less);
  return {low, std::lower_bound(low, end, last, less)};
}

}  // namespace bbs::cpu
