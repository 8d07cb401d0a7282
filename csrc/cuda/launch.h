// Launches on a stream. The caller has planned, allocated and packed (forward_call.h, backward_call.h). Asynchronous;
// each returns the first launch error.
#pragma once

#include <cuda_runtime_api.h>

#include "backward_call.h"
#include "margin_params.h"

namespace bbs::cuda {

// Row preparation, sweep and merge.
cudaError_t launch_forward(const ForwardParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                           cudaStream_t stream);

// The same with the merge that makes losses.
cudaError_t launch_margin(const MarginParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                          cudaStream_t stream);

// Only the target cosines: params.row.cos_target gets them, 0 at ignored rows.
cudaError_t launch_target_cosines(const ForwardParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                                  cudaStream_t stream);

// What backward_launches lists.
cudaError_t launch_backward(const std::vector<BackwardLaunch>& launches, const ForwardShape& shape,
                            cudaStream_t stream);

const char* launch_error_text(cudaError_t error);

}  // namespace bbs::cuda
