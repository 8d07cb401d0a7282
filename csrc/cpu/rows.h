// The batch as the kernels see it: ignored rows dropped, the rest in basket order, normalised, packed in panels of 16.
// Basket order makes almost every panel homogeneous, so that a tile of classes is either own or foreign to all of it.
#pragma once

#include <vector>

#include "aligned.h"
#include "micro/kernels.h"
#include "types.h"

namespace bbs::cpu {

// 1 / norm; 0 below 1e-12 (cosine and gradient are then exactly 0); NaN when the squared norm is not finite.
template <class T>
T inverse_norm(T sum_of_squares);

// The basket that owns class `label`: the last one that begins at or before it (empty baskets own nothing).
int64_t basket_of(const int64_t* offsets, int64_t baskets, int64_t label);

template <class T>
struct Rows {
  int64_t count = 0;            // rows that take part
  int64_t panels = 0;           // ceil(count / 16)
  std::vector<int64_t> source;  // [count] index in the batch
  std::vector<int64_t> label;   // [count]; negative: the target is not in w
  std::vector<int64_t> basket;  // [count], ascending
  std::vector<int64_t> begin;   // [K + 1]: rows of basket b are begin[b] .. begin[b+1]-1
  Aligned<T> inv_norm;          // [panels * 16]
  Aligned<T> panel;             // [panels][D][16] normalised, 0 in unused lanes

  const T* panel_at(int64_t p, int64_t depth) const { return panel.get() + p * depth * kLanes; }
};

template <class T>
Rows<T> pack_rows(const Problem& problem, const Parallel& parallel);

}  // namespace bbs::cpu
