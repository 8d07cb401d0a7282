// The order of the forward's launches; kernels of one type combination are compiled in forward_*.cu.
#include "launch.h"

#include "launch_types.h"
#include "merge_splits.cuh"
#include "order_rows.cuh"

namespace bbs::cuda {
namespace {

// Calls body(LaunchTypes<...>) for the types of the shape.
template <class Body>
cudaError_t with_types(const ForwardShape& s, Body body) {
  switch (s.operand) {
    case Operand::bf16: return s.w_bytes == 2 ? body(LaunchTypes<Bf16, 2>()) : body(LaunchTypes<Bf16, 4>());
    case Operand::fp16: return s.w_bytes == 2 ? body(LaunchTypes<Fp16, 2>()) : body(LaunchTypes<Fp16, 4>());
    case Operand::tf32: return body(LaunchTypes<Tf32, 4>());
    default: return body(LaunchTypes<Fp32, 4>());
  }
}

}  // namespace

cudaError_t launch_target_cosines(const ForwardParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                                  cudaStream_t stream) {
  return with_types(shape, [&](auto types) { return types.prepare(params, shape, plan, stream); });
}

cudaError_t launch_forward(const ForwardParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                           cudaStream_t stream) {
  cudaError_t error = launch_target_cosines(params, shape, plan, stream);
  if (error == cudaSuccess) error = launch(order_rows, dim3(plan.order_blocks), kPrepareThreads, 0, params, stream);
  if (error == cudaSuccess)
    error = with_types(shape, [&](auto types) { return types.sweep(params, shape, plan, stream); });
  if (error == cudaSuccess) error = launch(merge_splits, dim3(plan.merge_blocks), kMergeThreads, 0, params, stream);
  return error;
}

const char* launch_error_text(cudaError_t error) { return cudaGetErrorString(error); }

}  // namespace bbs::cuda
