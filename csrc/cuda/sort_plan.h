// The launches of a stable sort, as a pure function of how many there are and of the largest key: the sparse pairs by
// (class, position), or the rows of a large batch by (basket, row). Least significant digit first; every pass is
// stable, so what is written in some order keeps it within a key.
//
// In one pass, in this order:   count_digits   grid plan.blocks
//                               scan_digits    grid plan.digits
//                               scatter_digits grid plan.blocks
// and of pairs once, after the last: gather_pairs grid plan.gather_blocks
#pragma once

#include "sort_params.h"

namespace bbs::cuda {

struct SortPlan {
  int32_t passes;
  int32_t digit_bits;
  int32_t digits;
  int32_t blocks;
  int32_t gather_blocks;
  int64_t keys[2], indices[2], counts, totals;  // bytes from the start of the sort's workspace
  int64_t workspace;                            // bytes
};

// `pairs` below 2^31, `classes` below 2^31: keys 0 ... classes - 1, and any that have all bits set.
inline SortPlan plan_sort(int64_t pairs, int64_t classes) {
  SortPlan plan{};
  int32_t bits = 1;
  while (classes >> bits) ++bits;  // one key more than classes: the empty slot's
  plan.passes = (bits + kMaxDigitBits - 1) / kMaxDigitBits;
  plan.digit_bits = (bits + plan.passes - 1) / plan.passes;
  plan.digits = 1 << plan.digit_bits;
  plan.blocks = static_cast<int32_t>((pairs + kSortTile - 1) / kSortTile);
  plan.gather_blocks = static_cast<int32_t>((pairs + kSortThreads - 1) / kSortThreads);
  const auto take = [&](int64_t values) {
    const int64_t at = plan.workspace;
    plan.workspace += (values * 4 + 255) / 256 * 256;
    return at;
  };
  for (int side = 0; side < 2; ++side) {
    plan.keys[side] = take(pairs);
    plan.indices[side] = take(pairs);
  }
  plan.counts = take(int64_t{plan.digits} * plan.blocks);
  plan.totals = take(plan.digits);
  return plan;
}

// Pass 0 reads the labels of `pairs`, or `keys` where there are none.
inline SortPass sort_pass(const SortPlan& plan, int32_t pass, const SparsePair* pairs, const int32_t* keys,
                          int64_t count, void* workspace) {
  const auto at = [&](int64_t bytes) { return reinterpret_cast<int32_t*>(static_cast<char*>(workspace) + bytes); };
  const int32_t out = pass % 2, in = 1 - out;
  SortPass s{};
  s.pairs = pass == 0 ? pairs : nullptr;
  s.keys = pass == 0 ? keys : at(plan.keys[in]);
  s.indices = pass == 0 ? nullptr : at(plan.indices[in]);
  s.keys_out = at(plan.keys[out]);
  s.indices_out = at(plan.indices[out]);
  s.counts = at(plan.counts);
  s.totals = at(plan.totals);
  s.count = static_cast<int32_t>(count);
  s.blocks = plan.blocks;
  s.shift = pass * plan.digit_bits;
  s.digit_bits = plan.digit_bits;
  return s;
}

inline GatherPairs gather_after(const SortPlan& plan, const BackwardRows& rows, void* workspace) {
  const char* base = static_cast<const char*>(workspace);
  const int32_t* indices = reinterpret_cast<const int32_t*>(base + plan.indices[(plan.passes - 1) % 2]);
  return {rows.pairs, indices, rows.sorted, static_cast<int32_t>(rows.pair_count)};
}

}  // namespace bbs::cuda
