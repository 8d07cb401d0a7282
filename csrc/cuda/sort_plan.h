// The launches that sort the sparse pairs by (class, position), as a pure function of their number and of C.
// Least significant digit first; every pass is stable, so pairs written in the order of positions keep it in a class.
//
// In one pass, in this order:   count_digits   grid plan.blocks
//                               scan_digits    grid plan.digits
//                               scatter_digits grid plan.blocks
// and once, after the last:     gather_pairs   grid plan.gather_blocks
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

// `pairs` below 2^31, `classes` below 2^31.
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

inline SortPass sort_pass(const SortPlan& plan, int32_t pass, const BackwardRows& rows, void* workspace) {
  const auto at = [&](int64_t bytes) { return reinterpret_cast<int32_t*>(static_cast<char*>(workspace) + bytes); };
  const int32_t out = pass % 2, in = 1 - out;
  SortPass s{};
  s.pairs = pass == 0 ? rows.pairs : nullptr;
  s.keys = at(plan.keys[in]);
  s.indices = at(plan.indices[in]);
  s.keys_out = at(plan.keys[out]);
  s.indices_out = at(plan.indices[out]);
  s.counts = at(plan.counts);
  s.totals = at(plan.totals);
  s.count = static_cast<int32_t>(rows.pair_count);
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
