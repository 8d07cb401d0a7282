// What crosses from the host into the backward kernels. Rows are addressed by sorted position, see params.h.
//
// Data flow, all on one stream and without the host:
//   prepare_rows, order_rows           as in the forward
//   row_scale                          the largest upstream gradient
//   backward_pairs                     per row: x-hat, factors, and the sparse part (target and mined classes)
//   sort_pairs                         those pairs by (class, position)
//   find_baskets                       the rows of each basket
//   for each run of class tiles that fits the workspace:
//     coefficients                     p_ij again, by the main loop, in both orders
//     normalize_classes                w-hat of the run, in the operand type
//     gradient_rows                    dx partials += p . w-hat
//     gradient_classes                 dw = p^T . x-hat, + the sparse pairs, Jacobian, one downcast
//   finish_rows                        dx = partials in order, + the sparse part, Jacobian, one downcast
#pragma once

#include "params.h"

namespace bbs::cuda {

// One (row, class) whose coefficient is not part of the dense sweep.
struct SparsePair {
  int32_t label;      // centre; kNoPair where the slot is empty, which sorts last
  int32_t position;   // sorted position of the row
  float coefficient;  // dL/dc_ij: grad_cos_t of the target, or grad_lse * scale * p of a mined class
  float cos;
  float class_inverse;  // 1 / norm of the centre, as inverse_norm() gives it
};
constexpr int32_t kNoPair = 0x7fffffff;

struct BackwardRows {
  const float* grad_lse;     // [B] by row
  const float* grad_cos_t;   // [B] by row
  const float* lse;          // [B] by row
  const int64_t* mined_idx;  // [B, K, k] by row, centres
  const float* mined_cos;    // [B, K, k]
  void* x_hat;         // [padded rows, padded dim] operand type (tf32: rounded), x / norm by position; zeros beyond
                       // B and D, in rows that take no part and in NaN rows
  float* dense_lse;    // [padded rows] lse by position; +inf where the row gives no dense gradient; NaN where it gives
                       // NaN: p is then NaN at the classes it touches and, chosen by a mask, 0 at others
  float* row_factor;   // [padded rows] grad_lse * scale / max over rows of its absolute value, in [-1, 1]; never NaN
  float* grad_scale;   // [1] that maximum over the finite ones, 0 where all are 0
  float* sparse_dx;    // [B, D] by position: sum over the row's pairs of dL/dc_ij * w-hat_j
  float* sparse_dot;   // [B] by position: sum over the pairs of dL/dc_ij * c_ij
  SparsePair* pairs;   // [B, 1 + K k]
  SparsePair* sorted;  // the same by (class, position)
  int64_t pair_count;  // B (1 + K k)
  int32_t padded_rows;
  int32_t padded_dim;  // whole k-tiles, 16 or 32
  int32_t need_dx;     // 0: sparse_dx and sparse_dot are not written
};

// The last step of dx. The dense partials are sums over classes of p_ij w-hat_j and of p_ij c_ij, p in units of kOne.
struct FinishRows {
  const float* dx_partials;   // [splits, B, padded dim] by position
  const float* dot_partials;  // [splits, B] by position
  void* dx;                   // [B, D] in the type of x, or fp32, by row
  int64_t dx_stride;          // elements between rows
  int32_t splits;
  int32_t dx_floats;  // fp32: one of several partial sums, which are rounded when they are added up
};

// What row_scale, backward_pairs and finish_rows are launched with.
struct BackwardRowParams {
  Problem problem;
  RowArrays row;
  BackwardRows rows;
  FinishRows finish;
};

}  // namespace bbs::cuda
