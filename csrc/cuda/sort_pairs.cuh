// Stable radix sort of the sparse pairs by class: dw adds up each class's rows in the order of their positions, the
// same in every run. Counters are integers, so the order in which atomics land does not matter. See sort_plan.h.
#pragma once

#include "block_scan.cuh"
#include "sort_params.h"

namespace bbs::cuda {

constexpr int kSortWarps = kSortThreads / 32;
constexpr int kWarpItems = kSortTile / kSortWarps;

// kNoPair has every bit set: it comes last whatever bits are looked at. The two codes of NoBasket are the last two.
__device__ __forceinline__ int32_t sort_key(const SortPass& s, int64_t i) {
  return s.pairs ? s.pairs[i].label : s.keys[i];
}

__device__ __forceinline__ int digit_of(const SortPass& s, int32_t key) {
  return key >> s.shift & ((1 << s.digit_bits) - 1);
}

// Where item n of this thread lies: a warp owns consecutive pairs, its lanes neighbours.
__device__ __forceinline__ int64_t sort_item(int n) {
  return int64_t{blockIdx.x} * kSortTile + threadIdx.x / 32 * kWarpItems + n * 32 + threadIdx.x % 32;
}

BBS_KERNEL void count_digits(const SortPass& s) {
  __shared__ int32_t count[kMaxDigits];
  const int digits = 1 << s.digit_bits;
  if (threadIdx.x < digits) count[threadIdx.x] = 0;
  __syncthreads();
#pragma unroll
  for (int n = 0; n < kSortItems; ++n) {
    const int64_t i = sort_item(n);
    if (i < s.count) atomicAdd(&count[digit_of(s, sort_key(s, i))], 1);
  }
  __syncthreads();
  if (threadIdx.x < digits) s.counts[int64_t{threadIdx.x} * s.blocks + blockIdx.x] = count[threadIdx.x];
}

// A block per digit: how many pairs of the digit lie in earlier blocks, and in all.
BBS_KERNEL void scan_digits(const SortPass& s) {
  __shared__ int32_t warp_sums[2][kSortWarps];
  int32_t* counts = s.counts + int64_t{blockIdx.x} * s.blocks;
  int32_t carry = 0;
  for (int first = 0, side = 0; first < s.blocks; first += kSortThreads, side ^= 1) {
    const int i = first + threadIdx.x;
    const ScanSums sums = block_scan<kSortThreads>(i < s.blocks ? counts[i] : 0, warp_sums[side]);
    if (i < s.blocks) counts[i] = carry + sums.before;
    carry += sums.total;
  }
  if (threadIdx.x == 0) s.totals[blockIdx.x] = carry;
}

// Lanes of the warp that hold the same digit, of those that hold one. Ballots: a match instruction takes as long as
// there are different values.
__device__ __forceinline__ uint32_t lanes_like_me(int digit, bool real, int digit_bits) {
  uint32_t lanes = __ballot_sync(0xffffffffu, real);
  for (int b = 0; b < digit_bits; ++b) {
    const bool one = digit >> b & 1;
    const uint32_t ones = __ballot_sync(0xffffffffu, one);
    lanes &= one ? ones : ~ones;
  }
  return lanes;
}

BBS_KERNEL void scatter_digits(const SortPass& s) {
  __shared__ int32_t start[kSortWarps][kMaxDigits];  // first the number of pairs, then where they go
  __shared__ int32_t warp_sums[kSortWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, digits = 1 << s.digit_bits;
  for (int i = threadIdx.x; i < kSortWarps * kMaxDigits; i += kSortThreads) start[i / kMaxDigits][i % kMaxDigits] = 0;
  __syncthreads();

  int32_t keys[kSortItems], ranks[kSortItems];
#pragma unroll
  for (int n = 0; n < kSortItems; ++n) {
    const int64_t i = sort_item(n);
    const bool real = i < s.count;
    keys[n] = real ? sort_key(s, i) : 0;
    const int digit = digit_of(s, keys[n]);
    const uint32_t lanes = lanes_like_me(digit, real, s.digit_bits);
    const int before = __popc(lanes & ((1u << lane) - 1));
    ranks[n] = start[warp][digit] + before;
    __syncwarp();
    if (real && before == 0) start[warp][digit] += __popc(lanes);
    if (n + 1 < kSortItems) __syncwarp();
  }

  const int d = threadIdx.x;
  // Its barrier also ends the counting, for the warp as well.
  int32_t next = block_scan<kSortThreads>(d < digits ? s.totals[d] : 0, warp_sums).before;
  if (d < digits) {
    next += s.counts[int64_t{d} * s.blocks + blockIdx.x];
#pragma unroll
    for (int w = 0; w < kSortWarps; ++w) {
      const int32_t here = start[w][d];
      start[w][d] = next;
      next += here;
    }
  }
  __syncthreads();

#pragma unroll
  for (int n = 0; n < kSortItems; ++n) {
    const int64_t i = sort_item(n);
    if (i >= s.count) continue;
    const int32_t to = start[warp][digit_of(s, keys[n])] + ranks[n];
    s.keys_out[to] = keys[n];
    s.indices_out[to] = s.indices ? s.indices[i] : static_cast<int32_t>(i);
  }
}

BBS_KERNEL void gather_pairs(const GatherPairs& g) {
  const int64_t i = int64_t{blockIdx.x} * kSortThreads + threadIdx.x;
  if (i < g.count) g.sorted[i] = g.pairs[g.indices[i]];
}

}  // namespace bbs::cuda
