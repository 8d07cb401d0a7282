// Top-k by a total order: larger cosine first, then smaller class index. Because the order is total, the k best of a
// set do not depend on how the set was split or in which order it was seen; no thread count can change them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <mutex>
#include <vector>

#include "rows.h"

namespace bbs::cpu {

template <class T>
struct Candidate {
  T cos;
  int32_t centre;  // the nearest of its class
};

template <class T>
inline bool better(const Candidate<T>& a, const Candidate<T>& b) {
  return a.cos != b.cos ? a.cos > b.cos : a.centre < b.centre;
}

// Keeps the `keep` best of list[0..n) in front, in no order; returns how many are left.
template <class T>
inline int64_t keep_best(Candidate<T>* list, int64_t n, int64_t keep) {
  if (n <= keep) return n;
  std::nth_element(list, list + keep, list + n, better<T>);
  return keep;
}

// The lists of every (row, foreign basket): the min(k + skip, size) best so far. 8 bytes an entry in fp32.
template <class T>
class MinedLists {
 public:
  MinedLists(const Problem& problem, int64_t rows) : begin_(problem.baskets + 1, 0), baskets_(problem.baskets) {
    const int64_t wanted = problem.rule.k + problem.rule.skip;
    for (int64_t b = 0; b < baskets_; ++b)
      begin_[b + 1] = begin_[b] + std::min(wanted, problem.offsets[b + 1] - problem.offsets[b]);
    entries_.resize(rows * begin_[baskets_]);
    size_.assign(rows * baskets_, 0);
  }

  // Takes in list[0..n); may reorder it. Callers on different threads are kept apart per basket.
  void merge(int64_t basket, int64_t row, Candidate<T>* list, int64_t n) {
    const int64_t capacity = begin_[basket + 1] - begin_[basket];
    n = keep_best(list, n, capacity);
    Candidate<T>* held = at(row, basket);
    int32_t& size = size_[row * baskets_ + basket];
    if (size + n <= capacity) {
      std::copy(list, list + n, held + size);
      size += static_cast<int32_t>(n);
      return;
    }
    Candidate<T> all[2 * kMaxListed];
    std::copy(held, held + size, all);
    std::copy(list, list + n, all + size);
    size = static_cast<int32_t>(keep_best(all, size + n, capacity));
    std::copy(all, all + size, held);
  }

  std::mutex& lock(int64_t basket) { return locks_[basket % kLocks]; }
  Candidate<T>* at(int64_t row, int64_t basket) { return entries_.data() + row * begin_[baskets_] + begin_[basket]; }
  int64_t size(int64_t row, int64_t basket) const { return size_[row * baskets_ + basket]; }

 private:
  static constexpr int64_t kLocks = 64;
  std::vector<int64_t> begin_;  // start of a basket's entries within a row's
  int64_t baskets_;
  std::vector<Candidate<T>> entries_;
  std::vector<int32_t> size_;
  std::mutex locks_[kLocks];
};

// One worker's queues for the basket that it is sweeping. A row's threshold rises as its queue fills up, so that soon
// one vector compare rejects a whole tile row.
template <class T>
class Queues {
 public:
  Queues(const Problem& problem, const Rows<T>& rows)
      : rows_(rows),
        wanted_(problem.rule.k + problem.rule.skip),
        capacity_(2 * wanted_),
        entries_(rows.count * capacity_),
        size_(rows.count, 0),
        threshold_(rows.panels * kLanes, kNever) {}

  void enter(int64_t basket, MinedLists<T>& lists) {
    if (basket == basket_) return;
    flush(lists);
    basket_ = basket;
    for (int64_t r = 0; r < rows_.count; ++r) threshold_[r] = rows_.basket[r] == basket ? kNever : -kNever;
  }

  const T* threshold(int64_t row) const { return threshold_.data() + row; }

  void offer(int64_t row, T cos, int64_t centre) {
    if (!(cos >= threshold_[row]) || cos == -kNever) return;  // -inf marks an excluded pair
    Candidate<T>* list = entries_.data() + row * capacity_;
    list[size_[row]++] = {cos, static_cast<int32_t>(centre)};
    if (size_[row] < capacity_) return;
    size_[row] = static_cast<int32_t>(keep_best(list, capacity_, wanted_));
    threshold_[row] = std::max_element(list, list + wanted_, better<T>)->cos;  // the worst that was kept
  }

  void flush(MinedLists<T>& lists) {
    if (basket_ < 0) return;
    std::lock_guard<std::mutex> guard(lists.lock(basket_));
    for (int64_t r = 0; r < rows_.count; ++r) {
      if (size_[r] == 0) continue;
      lists.merge(basket_, r, entries_.data() + r * capacity_, size_[r]);
      size_[r] = 0;
    }
  }

 private:
  static constexpr T kNever = std::numeric_limits<T>::infinity();
  const Rows<T>& rows_;
  int64_t wanted_;
  int64_t capacity_;
  int64_t basket_ = -1;
  std::vector<Candidate<T>> entries_;
  std::vector<int32_t> size_;
  std::vector<T> threshold_;
};

}  // namespace bbs::cpu
