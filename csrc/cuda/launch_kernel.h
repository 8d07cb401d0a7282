// One launch. A kernel that wants more shared memory than it gets unasked says so first.
#pragma once

#include <cuda_runtime_api.h>

#include "backward_call.h"

namespace bbs::cuda {

template <class Params>
cudaError_t launch(void (*kernel)(Params), dim3 grid, int threads, int shared_bytes, const Params& params,
                   cudaStream_t stream) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
  if (shared_bytes > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, threads, shared_bytes, stream>>>(params);
  return cudaGetLastError();
}

template <class Params>
cudaError_t launch(void (*kernel)(Params), const BackwardLaunch& one, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(one.grid[0]), static_cast<unsigned>(one.grid[1]),
                  static_cast<unsigned>(one.grid[2]));
  return launch(kernel, grid, one.block, one.shared, std::get<Params>(one.params), stream);
}

}  // namespace bbs::cuda
