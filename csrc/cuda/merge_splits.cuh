// After the sweep, a block per sorted position: merges the splits' pairs and, per basket, their lists, in order; drops
// `skip`, keeps `k`, adds the kept to the log-sum-exp. Writes every output of the row, -1 and 0 where there is nothing.
// merge_margin.cuh makes a loss of the row in the same launch.
#pragma once

#include "../common/rule.h"
#include "params.h"
#include "sweep_epilogue.cuh"

namespace bbs::cuda {

constexpr int kMergeWarps = kMergeThreads / 32;
// Blocks per multiprocessor that are enough: left to itself the compiler aims at more on sm_120, and spills for it.
constexpr int kMergeBlocks = 4;

// The pair of the lanes of a warp, by a fixed tree; lane 0 has it.
__device__ __forceinline__ LsePair merge_warp(LsePair pair, float scale_log2e) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const LsePair other = {__shfl_down_sync(kAllLanes, pair.max, d), __shfl_down_sync(kAllLanes, pair.sum, d)};
    pair = merge(pair, other, scale_log2e, PlainExp2());
  }
  return pair;
}

// The pair of a row over the splits, in every lane: lane l takes the splits l, l + 32, ... in order, then the tree. No
// load waits for another, and the last bit depends on the number of splits, not on timing.
__device__ __forceinline__ LsePair merge_pairs(const Sweep& w, int rows, int position, float scale_log2e, int lane) {
  constexpr int kLoads = 8;  // in flight: enough for 256 splits
  const int64_t step = int64_t{32} * rows;
  const float2* from = reinterpret_cast<const float2*>(w.pairs) + static_cast<int64_t>(lane) * rows + position;
  LsePair pair = {-__int_as_float(0x7f800000), 0.0f};
#pragma unroll 1
  for (int left = w.splits - lane; left + lane > 0; left -= 32 * kLoads) {
    float2 loaded[kLoads];
#pragma unroll
    for (int n = 0; n < kLoads; ++n, from += step) loaded[n] = n * 32 < left ? *from : make_float2(0.0f, 0.0f);
#pragma unroll
    for (int n = 0; n < kLoads; ++n) pair = merge(pair, {loaded[n].x, loaded[n].y}, scale_log2e, PlainExp2());
  }
  pair = merge_warp(pair, scale_log2e);
  return {__shfl_sync(kAllLanes, pair.max, 0), __shfl_sync(kAllLanes, pair.sum, 0)};
}

// `finish(row, lse, cos_t)` is called once, by one thread, when the row is known.
template <class Finish>
__device__ __forceinline__ void merge_row(const ForwardParams& p, Finish finish) {
  __shared__ LsePair mined[kMergeWarps];
  const Problem& q = p.problem;
  const Sweep& w = p.sweep;
  const int position = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float scale_log2e = q.scale * kLog2E, infinity = __int_as_float(0x7f800000);
  const int i = p.row.order[position], own = p.row.basket[i];
  const bool active = own < NoBasket::ignored;
  const float c_t = p.row.cos_target[i], guard = p.row.guard[i];
  const int k = mines_lists(q.rule, q.k) ? q.k : 0;

  LsePair total = merge_pairs(w, q.rows, position, scale_log2e, lane);  // does not wait for the basket
  if (!active) total = {-infinity, 0.0f};
  const bool nan = active ? total.sum != total.sum || c_t != c_t || guard != guard : own == NoBasket::bad_label;

  const int share = (w.tiles + w.splits - 1) / w.splits;
  LsePair kept = {-infinity, 0.0f};
  for (int b = warp; k > 0 && b < q.baskets; b += kMergeWarps) {
    const int64_t out = (static_cast<int64_t>(i) * q.baskets + b) * k;
    const int begin = w.tile_begin[b], end = w.tile_begin[b + 1];
    const bool mines = active && !nan && b != own && begin < end;
    TopkKey best[kKeys] = {kNoKey, kNoKey, kNoKey, kNoKey};
    int skip = q.skip;
    if (mines) {
      const int last = (end - 1) / share;
      int64_t at = (static_cast<int64_t>(begin / share) + b) * q.rows + position;
      TopkKey next[kKeys];  // the list of the split to come is loaded while another is merged
      load_keys(next, w.lists + at * w.list_length, w.list_length, lane);
      for (int split = begin / share; split <= last; ++split, at += q.rows) {
        TopkKey other[kKeys];
#pragma unroll
        for (int n = 0; n < kKeys; ++n) other[n] = next[n];
        if (w.mates) skip -= w.mates[at];
        if (split < last) load_keys(next, w.lists + (at + q.rows) * w.list_length, w.list_length, lane);
        merge_best(best, other, lane);
      }
    }
    skip = skip < 0 ? 0 : skip;
#pragma unroll
    for (int n = 0; n < kKeys; ++n) {
      const int at = n * 32 + lane - skip;
      const TopkKey key = best[n];
      if (at < 0 || at >= k) continue;
      const float cos = __uint_as_float(key_cos_bits(key));
      p.out.mined_idx[out + at] = key == kNoKey ? -1 : key_class(key);
      p.out.mined_cos[out + at] = key == kNoKey ? 0.0f : cos;
      if (key != kNoKey && q.mined_in_lse) kept = merge(kept, {cos, 1.0f}, scale_log2e, PlainExp2());
    }
  }
  kept = merge_warp(kept, scale_log2e);
  if (lane == 0) mined[warp] = kept;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int n = 0; n < kMergeWarps; ++n) total = merge(total, mined[n], scale_log2e, PlainExp2());
  const float lse = nan                ? __int_as_float(0x7fc00000)
                    : total.sum > 0.0f ? __fmaf_rn(q.scale, total.max, logf(total.sum))
                                       : -infinity;
  p.out.lse[i] = lse;
  p.out.cos_target[i] = c_t;
  finish(i, lse, c_t);
}

BBS_KERNEL void merge_splits(const ForwardParams& p) {
  merge_row(p, [](int, float, float) {});
}

}  // namespace bbs::cuda
