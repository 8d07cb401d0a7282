// Keys (csrc/common/topk_key.h) spread over a warp, kPer to a lane: key i is key[i / 32] of lane i % 32.
#pragma once

#include "../common/topk_key.h"

namespace bbs::cuda {

constexpr uint32_t kFullWarp = 0xffffffffu;

template <int kPer>
__device__ inline void load_keys(uint64_t (&key)[kPer], const uint64_t* from, int count) {
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    const int i = j * 32 + static_cast<int>(threadIdx.x) % 32;
    key[j] = i < count ? from[i] : kNoKey;
  }
}

template <int kPer>
__device__ inline void store_keys(const uint64_t (&key)[kPer], uint64_t* to, int count) {
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    const int i = j * 32 + static_cast<int>(threadIdx.x) % 32;
    if (i < count) to[i] = key[j];
  }
}

// Bitonic, largest first.
template <int kPer>
__device__ inline void sort_keys(uint64_t (&key)[kPer]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int size = 2; size <= 32 * kPer; size *= 2) {
#pragma unroll
    for (int stride = size / 2; stride > 0; stride /= 2) {
#pragma unroll
      for (int j = 0; j < kPer; ++j) {
        const bool falling = ((j * 32 + lane) & size) == 0;
        if (stride < 32) {
          const uint64_t other = __shfl_xor_sync(kFullWarp, key[j], stride);
          const bool first = (lane & stride) == 0;
          if ((other > key[j]) == (first == falling)) key[j] = other;
        } else if ((j & (stride / 32)) == 0) {
          const int partner = j + stride / 32;
          const uint64_t a = key[j], b = key[partner];
          if ((b > a) == falling) {
            key[j] = b;
            key[partner] = a;
          }
        }
      }
    }
  }
}

// A key T with exactly `keep` of the keys at or above it: found from the top bit down, and mostly done long before the
// last. Needs more than `keep` keys, all distinct.
template <int kPer>
__device__ inline uint64_t select_keys(const uint64_t (&key)[kPer], int keep) {
  uint64_t found = 0;
  for (int bit = 63; bit >= 0; --bit) {
    const uint64_t tried = found | uint64_t{1} << bit;
    int above = 0;
#pragma unroll
    for (int j = 0; j < kPer; ++j) above += key[j] >= tried;
    above = __reduce_add_sync(kFullWarp, above);
    if (above >= keep) found = tried;
    if (above == keep) break;
  }
  return found;
}

// Moves the keys at or above `least` to to[0 ..), in no particular order.
template <int kPer>
__device__ inline void store_selected(const uint64_t (&key)[kPer], uint64_t least, uint64_t* to) {
  const uint32_t before = (1u << (threadIdx.x % 32)) - 1;
  int base = 0;
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    const bool chosen = key[j] >= least;
    const uint32_t votes = __ballot_sync(kFullWarp, chosen);
    if (chosen) to[base + __popc(votes & before)] = key[j];
    base += __popc(votes);
  }
}

}  // namespace bbs::cuda
