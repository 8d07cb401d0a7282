// After the sweep, one block per row: the splits' (max, sum) pairs in split order, the segments' lists of each basket
// into one, skip and k applied, the mined cosines added to the sum, and the logarithm.
#pragma once

#include "sweep_state.cuh"
#include "warp_keys.cuh"

namespace bbs::cuda {

constexpr int kMergeThreads = 128;
constexpr int kMergeWarps = kMergeThreads / 32;

__device__ inline void fill_mined(const ForwardParams& p, int64_t row) {
  const int64_t slots = static_cast<int64_t>(p.baskets) * p.k;
  for (int64_t n = threadIdx.x; n < slots; n += kMergeThreads) {
    p.mined_idx[row * slots + n] = -1;
    p.mined_cos[row * slots + n] = 0.0f;
  }
}

// The best k + skip keys of a basket, sorted, and how much of `skip` the row's known identities leave.
__device__ inline int best_keys(uint64_t (&key)[8], const ForwardParams& p, int64_t position, int basket) {
  int mates = 0;
  const int begin = p.basket_begin[basket], end = p.basket_begin[basket + 1];
  for (int n = begin; n < end; ++n) {
    const Segment& segment = p.segments[n];
    uint64_t more[4];
    load_keys(more, p.lists + position * p.list_length + segment.slot, segment.capacity);
    if (n == begin) {
#pragma unroll
      for (int j = 0; j < 4; ++j) key[j] = more[j];
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) key[j + 4] = more[j];
      sort_keys(key);
    }
    if (p.mates != nullptr) mates += p.mates[position * p.segment_count + n];
  }
  return max(0, p.skip - mates);
}

// Writes the mined classes of one basket by one warp and adds their cosines to the lanes' pairs.
__device__ inline void write_basket(LsePair& pair, const ForwardParams& p, int64_t position, int64_t row, int basket,
                                    float scale_log2) {
  uint64_t key[8] = {};
  const int skip = best_keys(key, p, position, basket);
  const int64_t to = (row * p.baskets + basket) * p.k;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int n = j * 32 + static_cast<int>(threadIdx.x) % 32 - skip;
    if (n < 0 || n >= p.k) continue;
    const bool there = key[j] != kNoKey;
    p.mined_idx[to + n] = there ? key_class(key[j]) : -1;
    p.mined_cos[to + n] = there ? key_cos(key[j]) : 0.0f;
    if (there) pair = merge(pair, {key_cos(key[j]), 1.0f}, scale_log2);
  }
  // With skip reduced the list may end before k slots do: 128 keys are looked at, k + skip <= 128.
}

// Eight blocks to a multiprocessor hide its memory latency; without the hint ptxas spills on sm_90.
__global__ void __launch_bounds__(kMergeThreads, 8) merge_kernel(const __grid_constant__ ForwardParams p) {
  __shared__ LsePair shared[kMergeWarps];
  const float nan = __int_as_float(0x7fffffff);
  const float scale_log2 = p.scale * 1.44269504088896341f;
  const int64_t position = blockIdx.x;
  const int64_t row = p.order[position];
  const int basket = p.row_basket[row];
  if (basket >= p.baskets) {  // ignored, or a label out of range
    fill_mined(p, row);
    if (threadIdx.x == 0) p.lse[row] = basket == p.baskets ? -INFINITY : nan;
    return;
  }
  bool broken = false;
  LsePair total = empty_pair();
  for (int s = 0; s < p.splits; ++s) {
    const LsePair pair = reinterpret_cast<const LsePair*>(p.pairs)[static_cast<int64_t>(s) * p.rows + position];
    broken = broken || pair.max != pair.max;
    total = merge(total, pair, scale_log2);
  }
  const float cos_target = p.cos_target[row];
  broken = broken || cos_target != cos_target;
  if (p.guard_kind == static_cast<int32_t>(GuardKind::rows)) broken = broken || p.guard_rows[row] != p.guard_rows[row];
  if (p.guard_kind == static_cast<int32_t>(GuardKind::absolute)) broken = broken || p.guard_value != p.guard_value;
  if (broken) {
    fill_mined(p, row);
    if (threadIdx.x == 0) p.lse[row] = nan;
    return;
  }
  if (mines(p)) {
    LsePair pair = empty_pair();
    for (int b = threadIdx.x / 32; b < p.baskets; b += kMergeWarps) {
      if (b != basket && p.basket_begin[b] < p.basket_begin[b + 1]) {
        write_basket(pair, p, position, row, b, scale_log2);
        continue;
      }
      for (int n = threadIdx.x % 32; n < p.k; n += 32) {
        p.mined_idx[(row * p.baskets + b) * p.k + n] = -1;
        p.mined_cos[(row * p.baskets + b) * p.k + n] = 0.0f;
      }
    }
#pragma unroll
    for (int step = 1; step < 32; step *= 2)
      pair = merge(pair, {__shfl_xor_sync(kFullWarp, pair.max, step), __shfl_xor_sync(kFullWarp, pair.sum, step)},
                   scale_log2);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = pair;
    __syncthreads();
    for (int w = 0; w < kMergeWarps; ++w) total = merge(total, shared[w], scale_log2);
  }
  if (threadIdx.x != 0) return;
  p.lse[row] = total.sum > 0.0f
                   ? static_cast<float>(static_cast<double>(p.scale) * total.max + static_cast<double>(logf(total.sum)))
                   : -INFINITY;
}

}  // namespace bbs::cuda
