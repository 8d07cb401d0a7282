#include "exclusions.h"

#include <algorithm>

namespace bbs::cpu {

template <class T>
Exclusions::Exclusions(const Problem& problem, const Rows<T>& rows) : aliases_(problem.aliases) {
  targets_.reserve(rows.count);
  for (int64_t r = 0; r < rows.count; ++r) targets_.emplace_back(rows.label[r], r);
  std::sort(targets_.begin(), targets_.end());
  if (!aliases_) return;
  alias_.resize(rows.count);
  for (int64_t r = 0; r < rows.count; ++r) {
    alias_[r] = problem.alias_of(rows.source[r]);
    if (alias_[r] >= 0) identities_[alias_[r]].rows.push_back(r);
  }
  if (identities_.empty()) return;
  for (int64_t b = 0; b < problem.baskets; ++b)
    for (int64_t c = problem.offsets[b]; c < problem.offsets[b + 1]; ++c) {
      const auto found = aliases_[c] >= 0 ? identities_.find(aliases_[c]) : identities_.end();
      if (found == identities_.end()) continue;
      auto& counts = found->second.counts;
      if (counts.empty() || counts.back().first != b) counts.emplace_back(b, 0);
      ++counts.back().second;
    }
}

void Exclusions::collect(int64_t first, int64_t last, std::vector<Exclusion>& out) const {
  out.clear();
  if (!identities_.empty())
    for (int64_t c = first; c < last; ++c) {
      const auto found = aliases_[c] >= 0 ? identities_.find(aliases_[c]) : identities_.end();
      if (found == identities_.end()) continue;
      for (const int64_t row : found->second.rows) out.push_back({c, row, false});
    }
  auto target = std::lower_bound(targets_.begin(), targets_.end(), std::make_pair(first, int64_t{0}));
  for (; target != targets_.end() && target->first < last; ++target)
    out.push_back({target->first, target->second, true});
}

int64_t Exclusions::skip(int64_t row, int64_t basket, int64_t skip) const {
  if (skip == 0 || alias_.empty() || alias_[row] < 0) return skip;
  const auto& counts = identities_.at(alias_[row]).counts;
  const auto at = std::lower_bound(counts.begin(), counts.end(), std::make_pair(basket, int64_t{0}));
  return at != counts.end() && at->first == basket ? std::max<int64_t>(0, skip - at->second) : skip;
}

template Exclusions::Exclusions(const Problem&, const Rows<float>&);
template Exclusions::Exclusions(const Problem&, const Rows<double>&);

}  // namespace bbs::cpu
