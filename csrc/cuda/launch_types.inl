// Which kernel a plan asks for. Not built: a resident x with element-wise loads (plan_forward never asks for it).
#pragma once

#include "cos_lse_sweep.cuh"
#include "launch_kernel.h"
#include "launch_types.h"
#include "prepare_rows.cuh"

namespace bbs::cuda {

template <class Types>
auto choose_sweep(const ForwardShape& s, const ForwardPlan& plan) {
  static_assert(WLoader<Types, true>::kStep == w_pass_rows(Types::Op::kBytes, Types::kStored, Types::kTransposed),
                "check_call.h bounds the strides of w by it");
  if (s.subcenters > 1)
    return s.vectors ? &cos_lse_sweep<SubcenterTypes<Types, true>> : &cos_lse_sweep<SubcenterTypes<Types, false>>;
  return plan.resident ? &cos_lse_sweep<SweepTypes<Types, true, true>>
         : s.vectors   ? &cos_lse_sweep<SweepTypes<Types, false, true>>
                       : &cos_lse_sweep<SweepTypes<Types, false, false>>;
}

template <class Op, int stored>
cudaError_t LaunchTypes<Op, stored>::prepare(const ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan,
                                             cudaStream_t stream) {
  const auto kernel =
      s.w_transposed ? &prepare_rows<TileTypes<Op, stored, true>> : &prepare_rows<TileTypes<Op, stored, false>>;
  return launch(kernel, dim3(plan.prepare_blocks), kPrepareThreads, 0, p, stream);
}

template <class Op, int stored>
cudaError_t LaunchTypes<Op, stored>::sweep(const ForwardParams& p, const ForwardShape& s, const ForwardPlan& plan,
                                           cudaStream_t stream) {
  const auto kernel = s.w_transposed ? choose_sweep<TileTypes<Op, stored, true>>(s, plan)
                                     : choose_sweep<TileTypes<Op, stored, false>>(s, plan);
  return launch(kernel, dim3(plan.row_blocks, plan.splits), plan.threads, plan.shared_bytes, p, stream);
}

}  // namespace bbs::cuda
