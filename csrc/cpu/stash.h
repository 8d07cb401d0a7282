// Cosines kept from forward to backward, as many as a byte budget allows, so that a small problem needs no recompute.
// Baskets are stashed in order, each up to the class at which the budget ends; what is not stashed is recomputed. The
// stashed values are the sweep's own, so results are bit-equal for every budget.
#pragma once

#include <algorithm>
#include <vector>

#include "rows.h"
#include "types.h"

namespace bbs::cpu {

// The panels whose rows have `basket`'s classes in their dense sum.
struct PanelRange {
  int64_t first = 0;
  int64_t last = 0;
};

template <class T>
PanelRange dense_panels(const Problem& problem, const Rows<T>& rows, int64_t basket) {
  if (problem.rule.dense_in_other_baskets()) return {0, rows.panels};
  const int64_t begin = rows.begin[basket];
  const int64_t end = rows.begin[basket + 1];
  if (begin == end) return {};
  return {begin / kLanes, (end + kLanes - 1) / kLanes};
}

template <class T>
class Stash {
 public:
  Stash(const Problem& problem, const Rows<T>& rows, T* values, int64_t capacity)
      : values_(values), capacity_(capacity), lanes_(kLanes * problem.subcenters) {
    if (capacity == 0) return;
    baskets_.resize(problem.baskets);
    for (int64_t b = 0; b < problem.baskets; ++b) {
      Basket& basket = baskets_[b];
      basket.panels = dense_panels(problem, rows, b);
      basket.first_class = problem.offsets[b];
      basket.end_class = basket.first_class;
      basket.begin = used_;
      const int64_t per_class = (basket.panels.last - basket.panels.first) * lanes_;
      if (per_class == 0) continue;
      basket.end_class += std::min(problem.offsets[b + 1] - basket.first_class, (capacity - used_) / per_class);
      used_ += (basket.end_class - basket.first_class) * per_class;
    }
  }

  // Are all classes [.., last) of the basket stashed, for every dense panel?
  bool holds(int64_t basket, int64_t last) const { return !baskets_.empty() && last <= baskets_[basket].end_class; }

  // cos[centre][lane] of panel p for classes [first, last), as far as they are stashed.
  void keep(int64_t basket, int64_t p, int64_t first, int64_t last, const T* cos) const {
    if (baskets_.empty()) return;
    const Basket& b = baskets_[basket];
    if (p < b.panels.first || p >= b.panels.last) return;
    const int64_t end = std::min(last, b.end_class);
    if (first < end) std::copy_n(cos, (end - first) * lanes_, at(b, p, first));
  }

  // Zeroes what no basket uses: an output of an op has the same bits in every run.
  void clear_rest() const { std::fill(values_ + used_, values_ + capacity_, T(0)); }

  // cos[centre][lane] of panel p from class `first` on, where it lies.
  const T* recall(int64_t basket, int64_t p, int64_t first) const { return at(baskets_[basket], p, first); }

 private:
  struct Basket {
    PanelRange panels;
    int64_t first_class, end_class;  // stashed classes
    int64_t begin;                   // of its values
  };

  T* at(const Basket& b, int64_t p, int64_t c) const {
    const int64_t classes = b.end_class - b.first_class;
    return values_ + b.begin + ((p - b.panels.first) * classes + c - b.first_class) * lanes_;
  }

  T* values_;
  int64_t capacity_;
  int64_t lanes_;  // values of a class and a panel
  int64_t used_ = 0;
  std::vector<Basket> baskets_;
};

}  // namespace bbs::cpu
