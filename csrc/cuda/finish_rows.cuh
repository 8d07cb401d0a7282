// The last step of dx, a block per sorted position: the dense partials in order, the sparse part, the projection off
// x-hat, 1 / norm, and the only rounding to the type of x (none on a shard). Every row is written, exact zeros where none is owed.
#pragma once

#include "lane_row.cuh"
#include "row_gradient.cuh"

namespace bbs::cuda {

// sum over parts of dot_partials, the same in every thread: fixed shares, then a fixed order.
__device__ __forceinline__ float dense_dot(const FinishRows& f, int position, float (&shares)[kFinishThreads]) {
  float sum = 0.0f;
  for (int part = threadIdx.x; part < f.dot_parts; part += kFinishThreads)
    sum += f.dot_partials[part * f.dot_part_stride + position];
  shares[threadIdx.x] = sum;
  __syncthreads();
#pragma unroll
  for (int d = kFinishThreads / 2; d > 0; d /= 2) {
    if (threadIdx.x < d) shares[threadIdx.x] += shares[threadIdx.x + d];
    __syncthreads();
  }
  return shares[0];
}

template <class Op>
__device__ __forceinline__ void store_gradient(const FinishRows& f, int64_t at, float v) {
  if (Op::kBytes == 4 || f.dx_floats)
    static_cast<float*>(f.dx)[at] = v;
  else if constexpr (Op::kBytes == 2)
    static_cast<uint16_t*>(f.dx)[at] = static_cast<uint16_t>(Op::pack(v, 0.0f));
}

template <class Op>
__global__ void __launch_bounds__(kFinishThreads) finish_rows(const __grid_constant__ BackwardRowParams p) {
  __shared__ float shares[kFinishThreads];
  const Problem& q = p.problem;
  const FinishRows& f = p.finish;
  const int position = blockIdx.x, i = p.row.order[position], basket = p.row.basket[i];
  const bool active = basket < NoBasket::ignored;
  const float lse = active ? p.rows.lse[i] : 0.0f;
  const int64_t out = i * f.dx_stride, x_row = i * q.x_stride;
  if (!active || lse != lse) {
    const float all = basket == NoBasket::ignored ? 0.0f : __int_as_float(0x7fc00000);
    for (int d = threadIdx.x; d < q.dim; d += kFinishThreads) store_gradient<Op>(f, out + d, all);
    return;
  }
  const float upstream = __fmul_rn(p.rows.grad_lse[i], q.scale), inverse = p.row.inverse_norm[i];
  const float along = __fmaf_rn(upstream, dense_dot(f, position, shares), p.rows.sparse_dot[position]);
  for (int d = threadIdx.x; d < q.dim; d += kFinishThreads) {
    const int64_t at = int64_t{position} * q.dim + d;
    float dense = 0.0f;
    for (int split = 0; split < f.dx_splits; ++split) dense += f.dx_partials[split * f.dx_split_stride + at];
    const float v = __fmaf_rn(upstream, dense, p.rows.sparse_dx[at]);
    const float x_hat = operand_at<Op, Op::kBytes>(q.x, x_row + d) * inverse;
    // The sum makes +0 of -0: a row whose norm counts as zero gets exact zeros.
    store_gradient<Op>(f, out + d, __fadd_rn(inverse * __fmaf_rn(-along, x_hat, v), 0.0f));
  }
}

}  // namespace bbs::cuda
