// Launches the forward kernels on a stream. The caller has planned, allocated and packed (plan.h, params.h).
#pragma once

#include <cuda_runtime_api.h>

#include "plan.h"

namespace bbs::cuda {

// Row preparation, sweep and merge. Asynchronous; returns the first launch error.
cudaError_t launch_forward(const ForwardParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                           cudaStream_t stream);

// Only the target cosines: params.row.cos_target gets them, 0 at ignored rows.
cudaError_t launch_target_cosines(const ForwardParams& params, const ForwardShape& shape, const ForwardPlan& plan,
                                  cudaStream_t stream);

const char* launch_error_text(cudaError_t error);

}  // namespace bbs::cuda
