#include "exclusions.h"

#include <algorithm>
#include <unordered_map>

namespace bbs::cpu {

std::pair<const Exclusion*, const Exclusion*> Exclusions::between(int64_t first, int64_t last) const {
  const auto less = [](const Exclusion& e, int64_t cls) { return e.cls < cls; };
  const Exclusion* begin = by_class.data();
  const Exclusion* end = begin + by_class.size();
  const Exclusion* low = std::lower_bound(begin, end, first, less);
  return {low, std::lower_bound(low, end, last, less)};
}

int64_t Exclusions::skip(int64_t row, int64_t basket, int64_t skip) const {
  if (!mates.empty())
    for (const auto& [b, number] : mates[row])
      if (b == basket) return std::max<int64_t>(0, skip - number);
  return skip;
}

template <class T>
Exclusions find_exclusions(const Problem& problem, const Rows<T>& rows) {
  Exclusions found;
  for (int64_t r = 0; r < rows.count; ++r) found.by_class.push_back({rows.label[r], r, true});
  if (problem.aliases) {
    found.mates.resize(rows.count);
    std::unordered_map<int64_t, std::vector<int64_t>> members;  // alias of a row of this batch -> its classes
    for (int64_t r = 0; r < rows.count; ++r)
      if (problem.aliases[rows.label[r]] >= 0) members[problem.aliases[rows.label[r]]];
    if (!members.empty())
      for (int64_t c = 0; c < problem.w.rows; ++c)
        if (problem.aliases[c] >= 0)
          if (auto at = members.find(problem.aliases[c]); at != members.end()) at->second.push_back(c);
    for (int64_t r = 0; r < rows.count; ++r) {
      const int64_t alias = problem.aliases[rows.label[r]];
      if (alias < 0) continue;
      for (const int64_t c : members[alias]) {
        if (c == rows.label[r]) continue;
        found.by_class.push_back({c, r, false});
        const int64_t b = basket_of(problem.offsets, problem.baskets, c);
        if (b == rows.basket[r]) continue;
        auto& list = found.mates[r];  // classes ascend, so equal baskets stand together
        if (list.empty() || list.back().first != b) list.emplace_back(b, 0);
        ++list.back().second;
      }
    }
  }
  std::sort(found.by_class.begin(), found.by_class.end(),
            [](const Exclusion& a, const Exclusion& b) { return a.cls != b.cls ? a.cls < b.cls : a.row < b.row; });
  return found;
}

template Exclusions find_exclusions(const Problem&, const Rows<float>&);
template Exclusions find_exclusions(const Problem&, const Rows<double>&);

}  // namespace bbs::cpu
