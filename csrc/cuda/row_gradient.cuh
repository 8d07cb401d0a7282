// What a row's upstream gradient means for the dense part, and the largest of them: a NaN or an infinite one is kept
// out of the maximum, or it would reach every row; it enters p of its own row instead (dense_lse).
#pragma once

#include "backward_params.h"
#include "backward_rows_plan.h"

namespace bbs::cuda {

__device__ __forceinline__ bool is_finite(float v) { return fabsf(v) <= 3.402823466e38f; }

// grad_lse * scale of a row, 0 where it gives no dense gradient: without negatives (lse = -inf) none is owed.
__device__ __forceinline__ float dense_gradient(const BackwardRowParams& p, int i) {
  const bool any = p.row.basket[i] < NoBasket::ignored && p.rows.lse[i] != -__int_as_float(0x7f800000);
  return any ? __fmul_rn(p.rows.grad_lse[i], p.problem.scale) : 0.0f;
}

// rows.grad_scale, by one block.
BBS_KERNEL void row_scale(const BackwardRowParams& p) {
  __shared__ float largest[kRowScaleThreads / 32];
  float mine = 0.0f;
  for (int i = threadIdx.x; i < p.problem.rows; i += kRowScaleThreads) {
    const float g = fabsf(dense_gradient(p, i));
    if (is_finite(g)) mine = fmaxf(mine, g);
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) mine = fmaxf(mine, __shfl_xor_sync(0xffffffffu, mine, d));
  if (threadIdx.x % 32 == 0) largest[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kRowScaleThreads / 32; ++w) mine = fmaxf(mine, largest[w]);
  p.rows.grad_scale[0] = mine;
}

}  // namespace bbs::cuda
