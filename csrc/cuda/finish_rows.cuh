// The last step of dx, a block per sorted position: the dense partials in order, the sparse part, the projection off
// x-hat, 1 / norm, and the only rounding to the type of x (none on a shard). Every row is written, exact zeros where
// none is owed.
#pragma once

#include "lane_row.cuh"
#include "row_gradient.cuh"

namespace bbs::cuda {

template <class Op>
__device__ __forceinline__ void store_gradient(const FinishRows& f, int64_t at, float v) {
  if (Op::kBytes == 4 || f.dx_floats)
    static_cast<float*>(f.dx)[at] = v;
  else if constexpr (Op::kBytes == 2)
    static_cast<uint16_t*>(f.dx)[at] = static_cast<uint16_t>(Op::pack(v, 0.0f));
}

template <class Op>
BBS_KERNEL void finish_rows(const BackwardRowParams& p) {
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
  const float upstream = __fmul_rn(p.rows.grad_lse[i], q.scale) / Op::kOne, inverse = p.row.inverse_norm[i];
  float dot = 0.0f;
  for (int split = 0; split < f.splits; ++split) dot += f.dot_partials[int64_t{split} * q.rows + position];
  const float along = __fmaf_rn(upstream, dot, p.rows.sparse_dot[position]);
  const float* partials = f.dx_partials + int64_t{position} * p.rows.padded_dim;
  const int64_t split_stride = int64_t{q.rows} * p.rows.padded_dim;
  for (int d = threadIdx.x; d < q.dim; d += kFinishThreads) {
    float dense = 0.0f;
    for (int split = 0; split < f.splits; ++split) dense += partials[split * split_stride + d];
    const float v = __fmaf_rn(upstream, dense, p.rows.sparse_dx[int64_t{position} * q.dim + d]);
    const float x_hat = operand_at<Op, Op::kBytes>(q.x, x_row + d) * inverse;
    // The sum makes +0 of -0: a row whose norm counts as zero gets exact zeros.
    store_gradient<Op>(f, out + d, __fadd_rn(inverse * __fmaf_rn(-along, x_hat, v), 0.0f));
  }
}

}  // namespace bbs::cuda
