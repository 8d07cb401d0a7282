// One launch. A kernel that wants more shared memory than it gets unasked says so first, once per device.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

#include "backward_call.h"

namespace bbs::cuda {

// Lets `kernel` be launched with `bytes` of dynamic shared memory on the current device. The driver is asked only for
// more than it has granted before: a step launches thousands of kernels, and a look-up here costs less. Thread-safe.
inline cudaError_t allow_shared(const void* kernel, int bytes) {
  static std::mutex mutex;
  static auto* const granted = new std::map<std::pair<const void*, int>, int>;
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  const std::lock_guard<std::mutex> lock(mutex);
  int& most = (*granted)[{kernel, device}];
  if (bytes <= most) return cudaSuccess;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error == cudaSuccess) most = bytes;
  return error;
}

template <class Params>
cudaError_t launch(void (*kernel)(Params), dim3 grid, int threads, int shared_bytes, const Params& params,
                   cudaStream_t stream) {
  constexpr int kUnasked = 48 * 1024;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
  if (shared_bytes > kUnasked) {
    const cudaError_t error = allow_shared(reinterpret_cast<const void*>(kernel), shared_bytes);
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
