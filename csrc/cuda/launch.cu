// The order of the forward's launches; kernels of one type combination are compiled in forward_*.cu.
#include "launch.h"

#include "launch_kernel.h"
#include "launch_types.h"
#include "merge_margin.cuh"
#include "merge_splits.cuh"
#include "order_rows.cuh"

namespace bbs::cuda {
namespace {

cudaError_t launch_sweep(const ForwardParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                         cudaStream_t stream) {
  cudaError_t error = launch_target_cosines(params, shape, plan, stream);
  if (error == cudaSuccess) error = launch(order_rows, dim3(plan.order_blocks), kPrepareThreads, 0, params, stream);
  if (error == cudaSuccess)
    error = with_types<LaunchTypes>(shape, [&](auto types) { return types.sweep(params, shape, plan, stream); });
  return error;
}

}  // namespace

cudaError_t launch_target_cosines(const ForwardParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                                  cudaStream_t stream) {
  return with_types<LaunchTypes>(shape, [&](auto types) { return types.prepare(params, shape, plan, stream); });
}

cudaError_t launch_forward(const ForwardParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                           cudaStream_t stream) {
  const cudaError_t error = launch_sweep(params, shape, plan, stream);
  if (error != cudaSuccess) return error;
  return launch(merge_splits, dim3(plan.merge_blocks), kMergeThreads, 0, params, stream);
}

cudaError_t launch_margin(const MarginParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                          cudaStream_t stream) {
  const cudaError_t error = launch_sweep(params.forward, shape, plan, stream);
  if (error != cudaSuccess) return error;
  return launch(merge_margin, dim3(plan.merge_blocks), kMergeThreads, 0, params, stream);
}

const char* launch_error_text(cudaError_t error) { return cudaGetErrorString(error); }

}  // namespace bbs::cuda
