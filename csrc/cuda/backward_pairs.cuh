// Before the dense backward, a block per sorted position: the row's x-hat and factors, its pairs (target, then mined
// classes in order), and their part of dx: sum of dL/dc_ij * w-hat_j. A warp takes every fourth pair, reads its centre
// once, and keeps the sum in registers; the warps' sums are added in their order, so that the bits are always the same.
#pragma once

#include "lane_row.cuh"
#include "row_gradient.cuh"

namespace bbs::cuda {

constexpr int kPairsWarps = kPairsThreads / 32;

struct PairRow {
  int i;           // row, or -1 in the padding
  bool active;     // takes part
  float upstream;  // grad_lse * scale
  float lse;
  float x_inverse;
};

__device__ __forceinline__ PairRow pair_row(const BackwardRowParams& p, int position) {
  if (position >= p.problem.rows) return {-1, false, 0.0f, 0.0f, 0.0f};
  const int i = p.row.order[position];
  if (p.row.basket[i] >= NoBasket::ignored) return {i, false, 0.0f, 0.0f, 0.0f};
  return {i, true, __fmul_rn(p.rows.grad_lse[i], p.problem.scale), p.rows.lse[i], p.row.inverse_norm[i]};
}

// exp(scale * c - lse) is at most 1: a mined class was in the sum.
__device__ __forceinline__ SparsePair sparse_pair(const BackwardRowParams& p, const PairRow& row, int position,
                                                  int slot, int slots) {
  SparsePair pair = {kNoPair, position, 0.0f, 0.0f, 0.0f};
  if (!row.active || slot >= slots) return pair;
  if (slot == 0) {
    if (p.problem.labels[row.i] < 0) return pair;  // on another shard
    pair.label = p.row.target ? p.row.target[row.i] : static_cast<int32_t>(p.problem.labels[row.i]);
    pair.cos = p.row.cos_target[row.i];
    // x-hat of a NaN row is 0: its NaN must come with the coefficient.
    pair.coefficient = row.x_inverse == row.x_inverse ? p.rows.grad_cos_t[row.i] : row.x_inverse;
    return pair;
  }
  const int64_t at = int64_t{row.i} * (slots - 1) + slot - 1;
  const int64_t label = p.rows.mined_idx[at];
  if (label < 0) return pair;
  pair.label = static_cast<int32_t>(label);
  pair.cos = p.rows.mined_cos[at];
  pair.coefficient = row.upstream * expf(__fmaf_rn(p.problem.scale, pair.cos, -row.lse));
  return pair;
}

template <class Op>
__device__ __forceinline__ void write_x_hat(const BackwardRowParams& p, const PairRow& row, int position) {
  const Problem& q = p.problem;
  const bool any = row.active && row.x_inverse == row.x_inverse;
  const int64_t x_row = row.i * q.x_stride, out_row = int64_t{position} * p.rows.padded_dim;
  for (int d = threadIdx.x * 2; d < p.rows.padded_dim; d += kPairsThreads * 2) {
    float low = 0.0f, high = 0.0f;
    if (any && d < q.dim) low = operand_at<Op, Op::kBytes>(q.x, x_row + d) * row.x_inverse;
    if (any && d + 1 < q.dim) high = operand_at<Op, Op::kBytes>(q.x, x_row + d + 1) * row.x_inverse;
    if constexpr (Op::kBytes == 2)
      static_cast<uint32_t*>(p.rows.x_hat)[(out_row + d) / 2] = Op::pack(low, high);
    else
      static_cast<float2*>(p.rows.x_hat)[(out_row + d) / 2] =
          make_float2(round_operand<Op>(low), round_operand<Op>(high));
  }
}

__device__ __forceinline__ void write_factors(const BackwardRowParams& p, const PairRow& row, int position) {
  const float infinity = __int_as_float(0x7f800000), nan = __int_as_float(0x7fc00000);
  const float dense = row.active ? dense_gradient(p, row.i) : 0.0f, largest = p.rows.grad_scale[0];
  const bool none = !row.active || row.lse == -infinity;
  p.rows.dense_lse[position] = none ? infinity : is_finite(dense) ? row.lse : nan;
  p.rows.row_factor[position] = largest > 0.0f && is_finite(dense) ? dense / largest : 0.0f;
}

// The sum over the warps, in order, of what each lane holds of the run from `first`, to memory.
template <class Row, int values>
__device__ __forceinline__ void merge_runs(float (&sums)[kPairsWarps][Row::kSpan], const float (&mine)[values],
                                           const Row& lanes, float* out, int first, int dim) {
  const int warp = threadIdx.x / 32;
  if (first > 0) __syncthreads();  // the sums of the run before are still being read
#pragma unroll
  for (int v = 0; v < values; ++v) sums[warp][lanes.column(v)] = mine[v];
  __syncthreads();
  for (int d = threadIdx.x; d < Row::kSpan && first + d < dim; d += kPairsThreads) {
    float sum = sums[0][d];
#pragma unroll
    for (int w = 1; w < kPairsWarps; ++w) sum += sums[w][d];
    out[first + d] = sum;
  }
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}

template <class Types, int values>
BBS_KERNEL void backward_pairs(const BackwardRowParams& p) {
  using Row = LaneRow<Types, values>;
  constexpr bool kOneRun = values == kFewValues;                     // see lane_values()
  constexpr int kTogether = kOneRun && !Types::kTransposed ? 2 : 1;  // centres in flight, as registers allow
  __shared__ float sums[kPairsWarps][Row::kSpan];
  __shared__ float dots[kPairsWarps];
  const Problem& q = p.problem;
  const int position = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const PairRow row = pair_row(p, position);
  write_x_hat<typename Types::Op>(p, row, position);
  if (threadIdx.x == 0) write_factors(p, row, position);
  if (row.i < 0) return;

  const int slots = 1 + (mines_lists(q.rule, q.k) ? q.baskets * q.k : 0);
  SparsePair* pairs = p.rows.pairs + int64_t{position} * slots;
  const Row lanes(q, lane);
  float dot = 0.0f;
  for (int first = 0; first == 0 || (!kOneRun && first < q.dim); first += Row::kSpan) {
    float dx[values];
#pragma unroll
    for (int v = 0; v < values; ++v) dx[v] = 0.0f;
    for (int base = 0; base < slots; base += kPairsThreads) {
      const int slot = base + lane * kPairsWarps + warp;
      SparsePair mine = sparse_pair(p, row, position, slot, slots);
      if (!kOneRun && first > 0 && slot < slots) mine.class_inverse = pairs[slot].class_inverse;
      if (first == 0) dot = __fmaf_rn(mine.coefficient, mine.cos, dot);
      const uint32_t real = __ballot_sync(0xffffffffu, mine.label != kNoPair);
#pragma unroll 1
      for (int n = 0; n < 32; n += kTogether) {
        if (!(real >> n & ((1u << kTogether) - 1))) continue;
        float w[kTogether][values], inverse[kTogether];
#pragma unroll
        for (int t = 0; t < kTogether; ++t) {
          const int label = __shfl_sync(0xffffffffu, mine.label, n + t);
          lanes.load(w[t], q, label == kNoPair ? 0 : label, first);
        }
#pragma unroll
        for (int t = 0; t < kTogether; ++t) {
          if (!kOneRun && first > 0) {
            inverse[t] = __shfl_sync(0xffffffffu, mine.class_inverse, n + t);
            continue;
          }
          float squares = 0.0f;
#pragma unroll
          for (int v = 0; v < values; ++v) squares = __fmaf_rn(w[t][v], w[t][v], squares);
          const int label = __shfl_sync(0xffffffffu, mine.label, n + t);
          for (int d = Row::kSpan + lane; !kOneRun && d < q.dim; d += 32) {
            const int64_t at = centre_offset<Types>(q, label == kNoPair ? 0 : label, d);
            const float v = operand_at<typename Types::Op, Types::kStored>(q.w, at);
            squares = __fmaf_rn(v, v, squares);
          }
          inverse[t] = inverse_norm(warp_sum(squares));
          if (lane == n + t && label != kNoPair) mine.class_inverse = inverse[t];
        }
#pragma unroll
        for (int t = 0; t < kTogether; ++t) {
          const bool any = real >> (n + t) & 1;
          const float factor = __shfl_sync(0xffffffffu, mine.coefficient, n + t) * inverse[t];
#pragma unroll
          for (int v = 0; v < values; ++v) dx[v] = any ? __fmaf_rn(factor, w[t][v], dx[v]) : dx[v];
        }
      }
      if (first == 0 && slot < slots) pairs[slot] = mine;
    }
    if (!p.rows.need_dx) return;  // the first run has found the norms
    merge_runs<Row>(sums, dx, lanes, p.rows.sparse_dx + int64_t{position} * q.dim, first, q.dim);
  }
  dot = warp_sum(dot);
  if (lane == 0) dots[warp] = dot;
  __syncthreads();
  if (threadIdx.x == 0) p.rows.sparse_dot[position] = ((dots[0] + dots[1]) + dots[2]) + dots[3];
}

}  // namespace bbs::cuda
