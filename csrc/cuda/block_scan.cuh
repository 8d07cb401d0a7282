// Exclusive sum over the threads of a block.
#pragma once

#include "../common/host_device.h"

namespace bbs::cuda {

struct ScanSums {
  int32_t before;  // of the threads before this one
  int32_t total;   // of all
};

// `warp_sums` is shared memory that no thread may still use from an earlier call; every thread calls.
template <int threads>
__device__ __forceinline__ ScanSums block_scan(int32_t value, int32_t (&warp_sums)[threads / 32]) {
  static_assert(threads % 32 == 0, "whole warps");
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int32_t sum = value;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const int32_t other = __shfl_up_sync(0xffffffffu, sum, d);
    if (lane >= d) sum += other;
  }
  if (lane == 31) warp_sums[warp] = sum;
  __syncthreads();
  ScanSums result = {sum - value, 0};
#pragma unroll
  for (int w = 0; w < threads / 32; ++w) {
    if (w < warp) result.before += warp_sums[w];
    result.total += warp_sums[w];
  }
  return result;
}

}  // namespace bbs::cuda
