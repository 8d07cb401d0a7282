// merge_splits, and in the same launch the row's loss under the combined margin family with both derivatives. A kernel
// of its own: the registers and the stack of the angle's functions are no cost of the plain merge.
#pragma once

#include "margin_params.h"
#include "merge_splits.cuh"

namespace bbs::cuda {

BBS_KERNEL void merge_margin(const MarginParams& p) {
  merge_row(p.forward, [&](int row, float lse, float cos_t) {
    const RowLoss<float> one = row_loss(p.margin, p.forward.problem.scale, lse, cos_t);
    p.out.loss[row] = one.loss;
    p.out.grad_lse[row] = one.grad_lse;
    p.out.grad_cos_t[row] = one.grad_cos_t;
  });
}

}  // namespace bbs::cuda
